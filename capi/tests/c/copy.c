/* Deep copies. */
#include "check.h"

/* The element at an index of a 2 x 3 x 4 tensor of float. */
static float at(const dlb_tensor *tensor, int64_t i, int64_t j, int64_t k) {
  const DLTensor *view = dlb_tensor_view(tensor);
  const float *data = (const float *)view->data;
  return data[i * view->strides[0] + j * view->strides[1] + k * view->strides[2]];
}

static void check_elements(const dlb_tensor *tensor, const dlb_tensor *expected) {
  int64_t i, j, k;
  for (i = 0; i < 2; ++i) {
    for (j = 0; j < 3; ++j) {
      for (k = 0; k < 4; ++k) CHECK(at(tensor, i, j, k) == at(expected, i, j, k));
    }
  }
}

static void clones_are_laid_out_as_torch_does(void) {
  static const struct {
    int64_t strides[3];
    int32_t format;
    int64_t expected[3];
  } cases[] = {
      {{12, 4, 1}, DLB_MEMORY_FORMAT_PRESERVE, {12, 4, 1}},
      {{1, 8, 2}, DLB_MEMORY_FORMAT_PRESERVE, {1, 8, 2}},
      {{1, 8, 2}, DLB_MEMORY_FORMAT_CONTIGUOUS, {12, 4, 1}},
      {{0, 4, 1}, DLB_MEMORY_FORMAT_PRESERVE, {12, 4, 1}},
      {{12, -4, 1}, DLB_MEMORY_FORMAT_PRESERVE, {12, 4, 1}},
      {{0, 0, 0}, DLB_MEMORY_FORMAT_CONTIGUOUS, {12, 4, 1}},
  };
  size_t i;
  for (i = 0; i < sizeof cases / sizeof *cases; ++i) {
    producer made;
    dlb_tensor *tensor, *clone;
    produce(&made);
    memcpy(made.strides, cases[i].strides, sizeof cases[i].strides);
    if (made.strides[1] < 0) made.managed.dl_tensor.data = made.data + 8;
    made.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
    tensor = take(&made);
    SUCCEEDS(dlb_tensor_clone(tensor, cases[i].format, DLB_STREAM_NO_SYNC, &clone, &error));
    CHECK(memcmp(dlb_tensor_view(clone)->strides, cases[i].expected, sizeof cases[i].expected) ==
          0);
    CHECK(dlb_tensor_view(clone)->data != dlb_tensor_view(tensor)->data &&
          dlb_tensor_flags(clone) == 0);
    check_elements(clone, tensor);
    dlb_tensor_free(tensor);
    CHECK(made.deleted == 1); /* the clone does not need it */
    dlb_tensor_free(clone);
  }
}

static void channels_last_strides(void) {
  producer made;
  dlb_tensor *tensor, *clone = UNTOUCHED(dlb_tensor);
  produce(&made);
  made.managed.dl_tensor.ndim = 4;
  made.shape[3] = made.strides[3] = 1;
  tensor = take(&made);
  FAILS(DLB_ERROR_LAYOUT, "tensor: expected 5 dimensions, found 4",
        dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_CHANNELS_LAST_3D, 0, &clone, &error));
  CHECK(clone == UNTOUCHED(dlb_tensor));
  SUCCEEDS(dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_CHANNELS_LAST, 0, &clone, &error));
  CHECK(dlb_tensor_view(clone)->strides[1] == 1 && dlb_tensor_view(clone)->strides[0] == 12);
  dlb_tensor_free(clone);
  dlb_tensor_free(tensor);
}

static void invalid_clones_are_refused(void) {
  producer made;
  dlb_tensor *tensor, *clone = UNTOUCHED(dlb_tensor);
  produce(&made);
  tensor = take(&made);
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "memory_format = 9",
        dlb_tensor_clone(tensor, 9, 0, &clone, &error));
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "memory_format = -1",
        dlb_tensor_clone(tensor, -1, 0, &clone, &error));
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "stream = 7", dlb_tensor_clone(tensor, 0, 7, &clone, &error));
  dlb_tensor_free(tensor);
  produce(&made);
  made.managed.dl_tensor.dtype.code = 99;
  tensor = take(&made);
  FAILS(DLB_ERROR_DTYPE, "tensor: elements of type dtype(code 99",
        dlb_tensor_clone(tensor, 0, 0, &clone, &error));
  dlb_tensor_free(tensor);
  CHECK(clone == UNTOUCHED(dlb_tensor));
}

static void bytes_between_elements_are_not_written(void) {
  producer from, to;
  float around[2 * 3 * 8];
  dlb_tensor *source, *target;
  size_t i;
  produce(&from);
  produce(&to);
  for (i = 0; i < 48; ++i) around[i] = -1;
  to.managed.dl_tensor.data = around;
  to.strides[0] = 24, to.strides[1] = 8, to.strides[2] = 2;
  source = take(&from);
  target = take(&to);
  SUCCEEDS(dlb_tensor_copy_into(source, target, 0, &error));
  check_elements(target, source);
  for (i = 1; i < 48; i += 2) CHECK(around[i] == -1);
  dlb_tensor_free(source);
  dlb_tensor_free(target);
}

/* A refused copy does not write the target. */
static void invalid_copies_are_refused(void) {
  producer from, to;
  dlb_tensor *source, *target, *shared;
  int64_t overlapping[] = {12, 2, 1};
  produce(&from);
  source = take(&from);
#define REFUSED(status, text)                                                                      \
  do {                                                                                             \
    target = take(&to);                                                                            \
    FAILS(status, text, dlb_tensor_copy_into(source, target, -1, &error));                         \
    dlb_tensor_free(target);                                                                       \
    CHECK(to.data[5] == 5 && to.deleted == 1);                                                     \
  } while (0)
  produce(&to), to.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  REFUSED(DLB_ERROR_READ_ONLY, "target: the memory is read-only");
  produce(&to), memcpy(to.strides, overlapping, sizeof overlapping);
  REFUSED(DLB_ERROR_LAYOUT,
          "target: shape (2, 3, 4) with strides (12, 2, 1) overlaps itself or interleaves");
  produce(&to), to.shape[0] = 1;
  REFUSED(DLB_ERROR_LAYOUT, "source has shape (2, 3, 4), target has shape (1, 3, 4)");
  produce(&to), to.managed.dl_tensor.dtype.code = kDLInt;
  REFUSED(DLB_ERROR_DTYPE, "source: expected int32, found float32");
  produce(&to), to.managed.dl_tensor.device = CUDA;
  REFUSED(NO_CUDA, "target: cuda:0 ");
  produce(&to), to.managed.dl_tensor.device.device_type = kDLOpenCL;
  REFUSED(DLB_ERROR_DEVICE, "target: dlbridge cannot copy to or from opencl:0");
  produce(&to), to.managed.dl_tensor.data = from.data, to.strides[2] = 3, to.strides[1] = 1;
  REFUSED(DLB_ERROR_LAYOUT,
          "target: source and target of the copy share memory; copy from a dlb_tensor_clone()");
#undef REFUSED
  produce(&to), to.managed.dl_tensor.device = CUDA;
  target = take(&to); /* the stream is one of the device, which may be source or target */
  FAILS(NO_CUDA, "target: cuda:0 ", dlb_tensor_copy_into(source, target, 1, &error));
  FAILS(NO_CUDA, "source: cuda:0 ", dlb_tensor_copy_into(target, source, 1, &error));
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "stream = 0: on CUDA",
        dlb_tensor_copy_into(source, target, 0, &error));
  dlb_tensor_free(target);
  FAILS(DLB_ERROR_LAYOUT,
        "target: source and target of the copy share memory; copy from a dlb_tensor_clone()",
        dlb_tensor_copy_into(source, source, 0, &error));
  shared = dlb_tensor_share(source);
  FAILS(DLB_ERROR_LAYOUT,
        "target: source and target of the copy share memory; copy from a dlb_tensor_clone()",
        dlb_tensor_copy_into(source, shared, 0, &error));
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "stream = 2", dlb_tensor_copy_into(source, shared, 2, &error));
  dlb_tensor_free(shared);
  dlb_tensor_free(source);
  CHECK(from.deleted == 1);
}

/* Packed elements below a byte are copied between contiguous tensors only. */
static void packed_elements_are_copied_between_contiguous_tensors(void) {
  producer from, to;
  dlb_tensor *source, *target, *clone = UNTOUCHED(dlb_tensor);
  produce(&from), produce(&to);
  from.managed.dl_tensor.dtype.code = to.managed.dl_tensor.dtype.code = kDLFloat4_e2m1fn;
  from.managed.dl_tensor.dtype.bits = to.managed.dl_tensor.dtype.bits = 4;
  to.strides[0] = 24, to.strides[1] = 8, to.strides[2] = 2;
  source = take(&from);
  target = take(&to);
  FAILS(DLB_ERROR_DTYPE, "are not supported by strided copies",
        dlb_tensor_copy_into(source, target, 0, &error));
  FAILS(DLB_ERROR_DTYPE, "are not supported by strided copies",
        dlb_tensor_clone(target, 0, 0, &clone, &error));
  CHECK(clone == UNTOUCHED(dlb_tensor));
  SUCCEEDS(dlb_tensor_clone(source, 0, 0, &clone, &error));
  CHECK(dlb_tensor_nbytes(clone) == 12 && memcmp(dlb_tensor_view(clone)->data, from.data, 12) == 0);
  dlb_tensor_free(clone);
  dlb_tensor_free(source);
  dlb_tensor_free(target);
}

int main(void) {
  packed_elements_are_copied_between_contiguous_tensors();
  clones_are_laid_out_as_torch_does();
  channels_last_strides();
  invalid_clones_are_refused();
  bytes_between_elements_are_not_written();
  invalid_copies_are_refused();
  return 0;
}
