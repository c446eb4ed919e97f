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

static void settle(void) {
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

static void all_is_well(void) {
  char faults[4096] = "";
  settle();
  CALL(fake_cuda_faults, faults, sizeof faults);
  if (faults[0] != '\0') fprintf(stderr, "%s", faults);
  CHECK(faults[0] == '\0');
  CHECK(CALL(fake_cuda_current_depth, ) == 0);
  CHECK(((int64_t (*)(int))dlsym(driver, "fake_cuda_live"))(0) == 0); /* device memory */
}

/* A stream of the caller's. */
static int64_t stream_of(int device) {
  void *context, *stream, *popped;
  CHECK(CALL(cuDevicePrimaryCtxRetain, &context, device) == 0);
  CHECK(CALL(cuCtxPushCurrent_v2, context) == 0);
  CHECK(CALL(cuStreamCreate, &stream, 1) == 0);
  CHECK(CALL(cuCtxPopCurrent_v2, &popped) == 0);
  return (int64_t)(intptr_t)stream;
}

static void same(dlb_tensor *tensor, const producer *made) {
  const DLTensor *view = dlb_tensor_view(tensor);
  const void *data;
  int64_t i, j, k;
  SUCCEEDS(dlb_tensor_data(tensor, &data, &error));
  for (i = 0; i < 2; ++i)
    for (j = 0; j < 3; ++j)
      for (k = 0; k < 4; ++k)
        CHECK(((const float *)
                   data)[i * view->strides[0] + j * view->strides[1] + k * view->strides[2]] ==
              made->data[i * made->strides[0] + j * made->strides[1] + k * made->strides[2]]);
}

static void round_trips(int64_t stream) {
  producer made;
  dlb_tensor *tensor, *near, *copy, *back;
  produce(&made);
  made.strides[0] = 1, made.strides[1] = 2, made.strides[2] = 6;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_to_device(tensor, CUDA, stream, &near, &error));
  CHECK(dlb_tensor_view(near)->device.device_type == kDLCUDA &&
        dlb_tensor_view(near)->strides[2] == 6);
  CHECK((dlb_tensor_flags(near) & DLPACK_FLAG_BITMASK_READ_ONLY) == 0);
  SUCCEEDS(dlb_tensor_clone(near, DLB_MEMORY_FORMAT_CONTIGUOUS, stream, &copy, &error));
  CHECK(dlb_tensor_view(copy)->strides[2] == 1);
  dlb_tensor_free(near);
  SUCCEEDS(dlb_tensor_to_device(copy, CPU, stream, &back, &error));
  same(back, &made);
  SUCCEEDS(dlb_tensor_copy_into(tensor, copy, stream, &error));
  dlb_tensor_free(back);
  SUCCEEDS(dlb_tensor_into_device(copy, OTHER, stream, &copy, &error));
  CHECK(dlb_tensor_view(copy)->device.device_id == 1);
  SUCCEEDS(dlb_tensor_into_device(copy, PINNED, DLB_STREAM_LEGACY_DEFAULT, &copy, &error));
  same(copy, &made);
  SUCCEEDS(dlb_tensor_to_device(copy, CUDA, stream, &near, &error));
  SUCCEEDS(dlb_synchronize(CUDA, stream, &error));
  dlb_tensor_free(copy);
  dlb_tensor_free(near);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
  all_is_well();
}

/* A consumer reads on a stream of its own, and lets go before the work is done. */
static void exports_keep_their_order(void) {
  static const int64_t shape[] = {12}, strides[] = {2};
  producer made;
  dlb_tensor *tensor, *near, *part;
  DLManagedTensorVersioned *exported;
  DLTensor odd;
  void *context, *popped;
  float *read;
  const int64_t ours = stream_of(0), theirs = stream_of(0);
  produce(&made);
  tensor = take(&made);
  CHECK(CALL(cuDevicePrimaryCtxRetain, &context, 0) == 0);
  SUCCEEDS(dlb_tensor_to_device(tensor, CUDA, ours, &near, &error));
  odd = *dlb_tensor_view(near); /* every other number */
  odd.ndim = 1, odd.shape = (int64_t *)shape, odd.strides = (int64_t *)strides;
  SUCCEEDS(dlb_tensor_share_as(near, &odd, &part, &error));
  dlb_tensor_free(near);
  SUCCEEDS(dlb_tensor_record_stream(part, theirs, &error));
  SUCCEEDS(dlb_tensor_into_dlpack(part, &exported, &error));
  CHECK(CALL(cuCtxPushCurrent_v2, context) == 0);
  CHECK(CALL(cuMemHostAlloc, &read, (size_t)96, 1) == 0);
  CHECK(CALL(cuMemcpyDtoHAsync_v2, read, (uint64_t)(uintptr_t)exported->dl_tensor.data, (size_t)92,
             (void *)(intptr_t)theirs) == 0);
  exported->deleter(exported);
  CHECK(CALL(cuStreamSynchronize, (void *)(intptr_t)theirs) == 0);
  CHECK(read[22] == 22);
  CHECK(CALL(cuMemFreeHost, read) == 0);
  CHECK(CALL(cuCtxPopCurrent_v2, &popped) == 0);
  dlb_tensor_free(tensor);
  all_is_well();
}

static void failures(void) {
  producer made;
  dlb_tensor *tensor, *near, *out = UNTOUCHED(dlb_tensor);
  produce(&made);
  tensor = take(&made);
  CALL(fake_cuda_fail, "cuMemAllocAsync", 1, 2);
  FAILS(DLB_ERROR_OUT_OF_MEMORY, "tensor: out of memory: 96 bytes",
        dlb_tensor_to_device(tensor, CUDA, 1, &out, &error));
  CALL(fake_cuda_fail, "cuMemcpyHtoDAsync", 1, 700);
  FAILS(DLB_ERROR_CUDA, "tensor: CUDA: cuMemcpyHtoDAsync_v2 gave",
        dlb_tensor_into_device(tensor, CUDA, 1, &out, &error));
  CHECK(out == UNTOUCHED(dlb_tensor) && made.deleted == 0);
  SUCCEEDS(dlb_tensor_to_device(tensor, CUDA, 1, &near, &error));
  FAILS(DLB_ERROR_NOT_ON_CPU, "cuda:0: copy it to the host with dlb_tensor_to_device",
        dlb_tensor_data_mut(near, (void **)&out, &error));
  FAILS(DLB_ERROR_CUDA,
        "device: cuda:7 is not available on this machine: the driver has cuda:0 to cuda:1",
        dlb_tensor_to_device(near, (DLDevice){kDLCUDA, 7}, 1, &out, &error));
  dlb_tensor_free(near);
  dlb_tensor_free(tensor);
  all_is_well();
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
  round_trips(stream_of(0));
  exports_keep_their_order();
  failures();
  return 0;
}
