/* Copies to, from and between CUDA devices, on the fake CUDA driver (tests/support/fake-cuda): it
 * runs work as late, and frees memory as early, as CUDA's rules let it, and records what breaks
 * them. */
#include <dlfcn.h>
#include <stdint.h>

#include "check.h"

static void *driver;

/* A function of the driver, or of the fake driver's own. */
#define CALL(name, ...) ((int (*)())dlsym(driver, #name))(__VA_ARGS__)

static const DLDevice OTHER = {kDLCUDA, 1}, PINNED = {kDLCUDAHost, 0};

static void synchronize_devices(void) {
  static void *contexts[2];
  void *popped;
  int i;
  for (i = 0; i < 2; ++i) {
    if (contexts[i] == NULL) CHECK(CALL(cuDevicePrimaryCtxRetain, &contexts[i], i) == 0);
    CHECK(CALL(cuCtxPushCurrent_v2, contexts[i]) == 0);
    CHECK(CALL(cuCtxSynchronize, ) == 0);
    CHECK(CALL(cuCtxPopCurrent_v2, &popped) == 0);
  }
}

static void check_no_faults(void) {
  char faults[4096] = "";
  synchronize_devices();
  CALL(fake_cuda_faults, faults, sizeof faults);
  if (faults[0] != '\0') fprintf(stderr, "%s", faults);
  CHECK(faults[0] == '\0');
  CHECK(CALL(fake_cuda_current_depth, ) == 0);
  CHECK(((int64_t (*)(int))dlsym(driver, "fake_cuda_live"))(0) == 0); /* device memory */
}

/* A new stream of a device. */
static int64_t new_stream(int device) {
  void *context, *stream, *popped;
  CHECK(CALL(cuDevicePrimaryCtxRetain, &context, device) == 0);
  CHECK(CALL(cuCtxPushCurrent_v2, context) == 0);
  CHECK(CALL(cuStreamCreate, &stream, 1) == 0);
  CHECK(CALL(cuCtxPopCurrent_v2, &popped) == 0);
  return (int64_t)(intptr_t)stream;
}

static void check_same_elements(dlb_tensor *tensor, const producer *made) {
  const int64_t *strides = dlb_tensor_view(tensor)->strides;
  const void *address;
  const float *data;
  int64_t i, j, k;
  SUCCEEDS(dlb_tensor_data(tensor, &address, &error));
  data = (const float *)address;
  for (i = 0; i < 2; ++i) {
    for (j = 0; j < 3; ++j) {
      for (k = 0; k < 4; ++k) {
        const float expected =
            made->data[i * made->strides[0] + j * made->strides[1] + k * made->strides[2]];
        CHECK(data[i * strides[0] + j * strides[1] + k * strides[2]] == expected);
      }
    }
  }
}

static void round_trips(int64_t stream) {
  producer made;
  dlb_tensor *tensor, *device_tensor, *copy, *back;
  produce(&made);
  made.strides[0] = 1, made.strides[1] = 2, made.strides[2] = 6;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_to_device(tensor, CUDA, stream, &device_tensor, &error));
  CHECK(dlb_tensor_view(device_tensor)->device.device_type == kDLCUDA &&
        dlb_tensor_view(device_tensor)->strides[2] == 6);
  CHECK((dlb_tensor_flags(device_tensor) & DLPACK_FLAG_BITMASK_READ_ONLY) == 0);
  SUCCEEDS(dlb_tensor_clone(device_tensor, DLB_MEMORY_FORMAT_CONTIGUOUS, stream, &copy, &error));
  CHECK(dlb_tensor_view(copy)->strides[2] == 1);
  dlb_tensor_free(device_tensor);
  SUCCEEDS(dlb_tensor_to_device(copy, CPU, stream, &back, &error));
  check_same_elements(back, &made);
  SUCCEEDS(dlb_tensor_copy_into(tensor, copy, stream, &error));
  dlb_tensor_free(back);
  SUCCEEDS(dlb_tensor_into_device(copy, OTHER, stream, &copy, &error));
  CHECK(dlb_tensor_view(copy)->device.device_id == 1);
  SUCCEEDS(dlb_tensor_into_device(copy, PINNED, DLB_STREAM_LEGACY_DEFAULT, &copy, &error));
  check_same_elements(copy, &made);
  SUCCEEDS(dlb_tensor_to_device(copy, CUDA, stream, &device_tensor, &error));
  SUCCEEDS(dlb_synchronize(CUDA, stream, &error));
  dlb_tensor_free(copy);
  dlb_tensor_free(device_tensor);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
  check_no_faults();
}

/* A consumer reads on a stream of its own, and releases its struct before the work is done. */
static void exports_follow_the_consumer_stream(void) {
  static const int64_t shape[] = {12}, strides[] = {2};
  producer made;
  dlb_tensor *tensor, *device_tensor, *part;
  DLManagedTensorVersioned *exported;
  DLTensor odd;
  void *context, *popped;
  float *read;
  const int64_t own_stream = new_stream(0), consumer_stream = new_stream(0);
  produce(&made);
  tensor = take(&made);
  CHECK(CALL(cuDevicePrimaryCtxRetain, &context, 0) == 0);
  SUCCEEDS(dlb_tensor_to_device(tensor, CUDA, own_stream, &device_tensor, &error));
  odd = *dlb_tensor_view(device_tensor); /* every other number */
  odd.ndim = 1, odd.shape = (int64_t *)shape, odd.strides = (int64_t *)strides;
  SUCCEEDS(dlb_tensor_share_as(device_tensor, &odd, &part, &error));
  dlb_tensor_free(device_tensor);
  SUCCEEDS(dlb_tensor_record_stream(part, consumer_stream, &error));
  SUCCEEDS(dlb_tensor_into_dlpack(part, &exported, &error));
  CHECK(CALL(cuCtxPushCurrent_v2, context) == 0);
  CHECK(CALL(cuMemHostAlloc, &read, (size_t)96, 1) == 0);
  CHECK(CALL(cuMemcpyDtoHAsync_v2, read, (uint64_t)(uintptr_t)exported->dl_tensor.data, (size_t)92,
             (void *)(intptr_t)consumer_stream) == 0);
  exported->deleter(exported);
  CHECK(CALL(cuStreamSynchronize, (void *)(intptr_t)consumer_stream) == 0);
  CHECK(read[22] == 22);
  CHECK(CALL(cuMemFreeHost, read) == 0);
  CHECK(CALL(cuCtxPopCurrent_v2, &popped) == 0);
  dlb_tensor_free(tensor);
  check_no_faults();
}

/* A producer fills memory on a stream of its own; a copy of the imported memory waits for it. */
static void imports_wait_for_the_producer_stream(void) {
  producer made;
  dlb_tensor *tensor, *copy;
  void *context, *popped;
  uint64_t address;
  float *pinned;
  const int64_t producer_stream = new_stream(0);
  produce(&made);
  CHECK(CALL(cuDevicePrimaryCtxRetain, &context, 0) == 0);
  CHECK(CALL(cuCtxPushCurrent_v2, context) == 0);
  CHECK(CALL(cuMemAlloc_v2, &address, sizeof made.data) == 0);
  CHECK(CALL(cuMemHostAlloc, &pinned, sizeof made.data, 1) == 0);
  memcpy(pinned, made.data, sizeof made.data);
  CHECK(CALL(cuMemcpyHtoDAsync_v2, address, pinned, sizeof made.data,
             (void *)(intptr_t)producer_stream) == 0);
  made.managed.dl_tensor.data = (void *)(uintptr_t)address;
  made.managed.dl_tensor.device = CUDA;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_wait_stream(tensor, producer_stream, &error));
  SUCCEEDS(dlb_tensor_to_device(tensor, CPU, DLB_STREAM_NO_SYNC, &copy, &error));
  check_same_elements(copy, &made);
  dlb_tensor_free(copy);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
  synchronize_devices();
  CHECK(CALL(cuMemFree_v2, address) == 0);
  CHECK(CALL(cuMemFreeHost, pinned) == 0);
  CHECK(CALL(cuCtxPopCurrent_v2, &popped) == 0);
  check_no_faults();
}

static void driver_errors_are_reported(void) {
  producer made;
  dlb_tensor *tensor, *device_tensor, *out = UNTOUCHED(dlb_tensor);
  produce(&made);
  tensor = take(&made);
  CALL(fake_cuda_fail, "cuMemAllocAsync", 1, 2);
  FAILS(DLB_ERROR_OUT_OF_MEMORY, "tensor: out of memory: 96 bytes",
        dlb_tensor_to_device(tensor, CUDA, 1, &out, &error));
  CALL(fake_cuda_fail, "cuMemcpyHtoDAsync", 1, 700);
  FAILS(DLB_ERROR_CUDA, "tensor: CUDA: cuMemcpyHtoDAsync_v2 gave",
        dlb_tensor_into_device(tensor, CUDA, 1, &out, &error));
  CHECK(out == UNTOUCHED(dlb_tensor) && made.deleted == 0);
  SUCCEEDS(dlb_tensor_to_device(tensor, CUDA, 1, &device_tensor, &error));
  FAILS(DLB_ERROR_NOT_ON_CPU, "host pointer; copy it to the host with dlb_tensor_to_device",
        dlb_tensor_data_mut(device_tensor, (void **)&out, &error));
  FAILS(DLB_ERROR_CUDA,
        "device: cuda:7 is not available on this machine: the driver has cuda:0 to cuda:1",
        dlb_tensor_to_device(device_tensor, (DLDevice){kDLCUDA, 7}, 1, &out, &error));
  dlb_tensor_free(device_tensor);
  dlb_tensor_free(tensor);
  check_no_faults();
}

int main(void) {
  driver = dlopen("libcuda.so.1", RTLD_NOW);
  CHECK(driver != NULL && dlsym(driver, "fake_cuda_faults") != NULL);
  CHECK((dlb_capabilities() & DLB_CAP_CUDA) != 0);
  CHECK(CALL(cuInit, 0) == 0);
  CALL(fake_cuda_reset, 2);
  round_trips(DLB_STREAM_NO_SYNC);
  round_trips(DLB_STREAM_LEGACY_DEFAULT);
  round_trips(DLB_STREAM_PER_THREAD_DEFAULT);
  round_trips(new_stream(0));
  exports_follow_the_consumer_stream();
  imports_wait_for_the_producer_stream();
  driver_errors_are_reported();
  return 0;
}
