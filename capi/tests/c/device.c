/* Devices and streams, on a machine without CUDA. */
#include "check.h"

static void copies_on_the_host(void) {
  producer made;
  dlb_tensor *tensor, *copy;
  produce(&made);
  made.strides[0] = 1, made.strides[1] = 2, made.strides[2] = 6;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_to_device(tensor, CPU, 0, &copy, &error));
  CHECK(dlb_tensor_view(copy)->data != made.data); /* copies even if it is there already */
  CHECK(dlb_tensor_view(copy)->strides[2] == 6);   /* in the order of the source's strides */
  CHECK(((const float *)dlb_tensor_view(copy)->data)[23] == 23);
  dlb_tensor_free(copy);
  SUCCEEDS(dlb_tensor_into_device(tensor, CPU, -1, &copy, &error));
  CHECK(copy == tensor); /* there already */
  SUCCEEDS(dlb_tensor_into_device(copy, CPU, 0, &copy, &error));
  CHECK(copy == tensor && made.deleted == 0);
  SUCCEEDS(dlb_tensor_record_stream(copy, -1, &error)); /* does nothing on the host */
  SUCCEEDS(dlb_tensor_wait_stream(copy, 1, &error));
  FAILS(DLB_ERROR_NULL_POINTER, "tensor", dlb_tensor_record_stream(NULL, 1, &error));
  dlb_tensor_free(copy);
  CHECK(made.deleted == 1);
}

static void pinned_memory_is_on_the_host(void) {
  producer made;
  dlb_tensor *tensor, *moved, *copy;
  produce(&made);
  made.managed.dl_tensor.device.device_type = kDLCUDAHost;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_into_device(tensor, CPU, 0, &moved, &error));
  CHECK(moved == tensor);
  SUCCEEDS(dlb_tensor_to_device(moved, CPU, 0, &copy, &error));
  CHECK(dlb_tensor_view(copy)->device.device_type == kDLCPU);
  dlb_tensor_free(copy);
  dlb_tensor_free(moved);
}

static void unavailable_devices_are_refused(void) {
  static const DLDevice vulkan = {kDLVulkan, 0}, third_cpu = {kDLCPU, 3}, pinned = {kDLCUDAHost, 0};
  producer made;
  dlb_tensor *tensor, *out = UNTOUCHED(dlb_tensor);
  produce(&made);
  tensor = take(&made);
#define REFUSED(device, stream, status, text)                                                      \
  do {                                                                                             \
    FAILS(status, text, dlb_tensor_to_device(tensor, device, stream, &out, &error));               \
    FAILS(status, text, dlb_tensor_into_device(tensor, device, stream, &out, &error));             \
    CHECK(out == UNTOUCHED(dlb_tensor) && made.deleted == 0);                                      \
  } while (0)
  REFUSED(CUDA, 1, NO_CUDA, "device: cuda:0 ");
  REFUSED(pinned, 0, NO_CUDA, "device: cuda");
  REFUSED(vulkan, 0, DLB_ERROR_DEVICE, "device: dlbridge cannot copy to or from vulkan:0");
  REFUSED(CUDA, 0, DLB_ERROR_INVALID_ARGUMENT, "stream = 0: on CUDA");
  REFUSED(CUDA, -2, DLB_ERROR_INVALID_ARGUMENT, "stream = -2");
  REFUSED(CPU, 5, DLB_ERROR_INVALID_ARGUMENT, "stream = 5: the host has no streams");
  FAILS(DLB_ERROR_DEVICE, "the host's index is 0",
        dlb_tensor_to_device(tensor, third_cpu, 0, &out, &error));
#undef REFUSED
  dlb_tensor_free(tensor);
  produce(&made);
  made.managed.dl_tensor.device = CUDA;
  tensor = take(&made);
  FAILS(NO_CUDA, "tensor: cuda:0 ", dlb_tensor_to_device(tensor, CPU, 1, &out, &error));
  FAILS(NO_CUDA, "tensor: cuda:0 ", dlb_tensor_into_device(tensor, CPU, 1, &out, &error));
  FAILS(NO_CUDA, "tensor: cuda:0 ", dlb_tensor_clone(tensor, 0, 2, &out, &error));
  FAILS(NO_CUDA, "tensor: cuda:0 ", dlb_tensor_record_stream(tensor, 1, &error));
  FAILS(NO_CUDA, "tensor: cuda:0 ", dlb_tensor_wait_stream(tensor, 1, &error));
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "stream = 0: on CUDA",
        dlb_tensor_record_stream(tensor, 0, &error));
  CHECK(made.deleted == 0);
  SUCCEEDS(dlb_tensor_into_device(tensor, CUDA, 1, &out, &error));
  CHECK(out == tensor); /* there already */
  dlb_tensor_free(out);
  CHECK(made.deleted == 1);
}

static void synchronizing(void) {
  static const DLDevice vulkan = {kDLVulkan, 0};
  SUCCEEDS(dlb_synchronize(CPU, DLB_STREAM_NO_SYNC, &error));
  SUCCEEDS(dlb_synchronize(CPU, 0, &error));
  SUCCEEDS(dlb_synchronize(CPU, DLB_STREAM_LEGACY_DEFAULT, &error));
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "stream = 3", dlb_synchronize(CPU, 3, &error));
  FAILS(NO_CUDA, "device: cuda:0 ", dlb_synchronize(CUDA, 1, &error));
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "stream = 0", dlb_synchronize(CUDA, 0, &error));
  FAILS(DLB_ERROR_DEVICE, "device: dlbridge cannot", dlb_synchronize(vulkan, 0, &error));
}

int main(void) {
  copies_on_the_host();
  pinned_memory_is_on_the_host();
  unavailable_devices_are_refused();
  synchronizing();
  return 0;
}
