/* Memory of the caller, new memory, memory to write to. */
#include "check.h"

static void release(void *owner) { ++*(int *)owner; }

static DLTensor describe(void *data, int32_t ndim, int64_t *shape, int64_t *strides) {
  DLTensor desc;
  desc.data = data;
  desc.device = CPU;
  desc.ndim = ndim;
  desc.dtype = F32;
  desc.shape = shape;
  desc.strides = strides;
  desc.byte_offset = 0;
  return desc;
}

static void memory_is_wrapped_and_released_once(void) {
  float data[6] = {0, 1, 2, 3, 4, 5};
  int64_t shape[] = {2, 3}, strides[] = {1, 2};
  DLTensor desc = describe(data, 2, shape, strides);
  int released = 0;
  dlb_tensor *tensor, *shared;
  void *writable;
  const void *readable;
  SUCCEEDS(dlb_tensor_from_memory(&desc, 0, &released, release, &tensor, &error));
  shape[0] = strides[0] = -1; /* both were copied */
  CHECK(dlb_tensor_view(tensor)->shape[0] == 2 && dlb_tensor_view(tensor)->strides[0] == 1);
  CHECK(dlb_tensor_view(tensor)->data == data && !dlb_tensor_is_contiguous(tensor));
  shared = dlb_tensor_share(tensor);
  SUCCEEDS(dlb_tensor_data_mut(shared, &writable, &error));
  SUCCEEDS(dlb_tensor_data(tensor, &readable, &error));
  CHECK(writable == data && readable == data);
  dlb_tensor_free(tensor);
  CHECK(released == 0);
  dlb_tensor_free(shared);
  CHECK(released == 1);
}

static void constants_need_no_release_callback(void) {
  static float data[] = {1, 2};
  int64_t shape[] = {2};
  DLTensor desc = describe(data, 1, shape, NULL);
  dlb_tensor *tensor;
  void *writable = UNTOUCHED(void);
  SUCCEEDS(
      dlb_tensor_from_memory(&desc, DLPACK_FLAG_BITMASK_READ_ONLY, NULL, NULL, &tensor, &error));
  CHECK(dlb_tensor_flags(tensor) == DLPACK_FLAG_BITMASK_READ_ONLY);
  FAILS(DLB_ERROR_READ_ONLY, "tensor: the memory is read-only",
        dlb_tensor_data_mut(tensor, &writable, &error));
  CHECK(writable == UNTOUCHED(void));
  dlb_tensor_free(tensor);
}

static void wrong_descriptions_release_nothing(void) {
  float data[6];
  int64_t shape[] = {2, 3}, strides[] = {3, 1};
  const DLTensor right = describe(data, 2, shape, strides);
  int released = 0;
  DLTensor desc;
  dlb_tensor *out = UNTOUCHED(dlb_tensor);
#define REFUSED(flags, status, text)                                                               \
  FAILS(status, text, dlb_tensor_from_memory(&desc, flags, &released, release, &out, &error))
  desc = right, desc.ndim = -2;
  REFUSED(0, DLB_ERROR_INVALID_ARGUMENT, "desc: ndim = -2");
  desc = right, desc.data = NULL;
  REFUSED(0, DLB_ERROR_INVALID_ARGUMENT, "desc: data = NULL");
  desc = right, shape[1] = -1;
  REFUSED(0, DLB_ERROR_INVALID_ARGUMENT, "desc: shape[1] = -1");
  shape[1] = INT64_MAX;
  REFUSED(0, DLB_ERROR_LAYOUT, "exceed the address space");
  shape[1] = 3;
  REFUSED((uint64_t)1 << 3, DLB_ERROR_INVALID_ARGUMENT, "flags = 0x8");
  REFUSED(UINT64_MAX, DLB_ERROR_INVALID_ARGUMENT, "flags = 0xffffffffffffffff");
#undef REFUSED
  CHECK(released == 0 && out == UNTOUCHED(dlb_tensor));
}

static void new_memory_has_the_described_strides(void) {
  static const struct {
    int64_t shape[2], strides[2], expected[2];
    uint64_t low, bytes;
  } cases[] = {
      {{2, 3}, {3, 1}, {3, 1}, 0, 24},         {{2, 3}, {1, 2}, {1, 2}, 0, 24},
      {{2, 3}, {8, 2}, {8, 2}, 0, 52},         {{2, 3}, {-3, -1}, {-3, -1}, 20, 24},
      {{1, 1}, {9, -9}, {1, 1}, 0, 4}, /* strides that reach nothing */
      {{0, 3}, {-1, INT64_MAX}, {3, 1}, 0, 0},
  };
  size_t i;
  for (i = 0; i < sizeof cases / sizeof *cases; ++i) {
    int64_t shape[2], strides[2];
    DLTensor desc = describe(NULL, 2, shape, strides);
    dlb_tensor *tensor;
    void *data;
    memcpy(shape, cases[i].shape, sizeof shape);
    memcpy(strides, cases[i].strides, sizeof strides);
    desc.byte_offset = UINT64_MAX; /* ignored, and so is data */
    SUCCEEDS(dlb_tensor_empty(&desc, &tensor, &error));
    CHECK(memcmp(dlb_tensor_view(tensor)->strides, cases[i].expected, sizeof strides) == 0);
    CHECK(dlb_tensor_flags(tensor) == 0);
    SUCCEEDS(dlb_tensor_data_mut(tensor, &data, &error));
    CHECK(((uintptr_t)data - cases[i].low) % 256 == 0);
    /* The whole of it may be written. */
    if (cases[i].bytes != 0) memset((char *)data - cases[i].low, 1, cases[i].bytes);
    dlb_tensor_free(tensor);
  }
}

static void impossible_descriptions_are_refused(void) {
  int64_t shape[] = {2, 3}, strides[] = {0, 1};
  DLTensor desc = describe(NULL, 2, shape, strides);
  dlb_tensor *out = UNTOUCHED(dlb_tensor);
#define REFUSED(status, text) FAILS(status, text, dlb_tensor_empty(&desc, &out, &error))
  REFUSED(DLB_ERROR_LAYOUT,
          "desc: shape (2, 3) with strides (0, 1) overlaps itself or interleaves");
  desc.strides = NULL, desc.ndim = -1;
  REFUSED(DLB_ERROR_INVALID_ARGUMENT, "desc: ndim = -1");
  desc.ndim = 2, shape[0] = -5;
  REFUSED(DLB_ERROR_INVALID_ARGUMENT, "desc: shape[0] = -5");
  shape[0] = (int64_t)1 << 61;
  REFUSED(DLB_ERROR_LAYOUT, "and 4-byte elements exceed the address space");
  shape[0] = shape[1] = (int64_t)1 << 32;
  REFUSED(DLB_ERROR_LAYOUT, "shape (4294967296, 4294967296) and 4-byte elements exceed");
  shape[1] = 3;
  shape[0] = (int64_t)1 << 57;
  REFUSED(DLB_ERROR_OUT_OF_MEMORY, "desc: out of memory: 1729382256910270464 bytes");
  shape[0] = 2, desc.dtype.code = 99;
  REFUSED(DLB_ERROR_DTYPE, "desc: elements of type dtype(code 99, 32 bits)");
  desc.dtype.code = kDLFloat, desc.dtype.bits = 0;
  REFUSED(DLB_ERROR_INVALID_ARGUMENT, "desc: dtype.bits = 0");
  desc.dtype.bits = 33;
  REFUSED(DLB_ERROR_DTYPE, "desc: elements of type float33");
  desc.dtype = F32, desc.device = CUDA;
  REFUSED(DLB_ERROR_DEVICE, "desc: new memory is made on the host, not on cuda:0");
  desc.device.device_type = kDLVulkan;
  REFUSED(DLB_ERROR_DEVICE, "desc: dlbridge cannot copy to or from vulkan:0");
  desc.device = CPU, desc.device.device_id = 3;
  REFUSED(DLB_ERROR_DEVICE, "index is 0");
#undef REFUSED
  CHECK(out == UNTOUCHED(dlb_tensor));
}

static void device_memory_has_no_host_address(void) {
  producer made;
  dlb_tensor *tensor;
  void *data = UNTOUCHED(void);
  const void *readable = UNTOUCHED(void);
  produce(&made);
  made.managed.dl_tensor.device = CUDA;
  tensor = take(&made);
  FAILS(DLB_ERROR_NOT_ON_CPU, "tensor: can't convert cuda:0 device type tensor",
        dlb_tensor_data(tensor, &readable, &error));
  CHECK(readable == UNTOUCHED(void));
  FAILS(DLB_ERROR_NOT_ON_CPU, "host pointer; copy it to the host with dlb_tensor_to_device",
        dlb_tensor_data_mut(tensor, &data, &error));
  CHECK(data == UNTOUCHED(void));
  dlb_tensor_free(tensor);
}

/* A callback may call the library, and free other handles. */
typedef struct {
  dlb_tensor *other;
  int cloned;
} callback_state;

static void release_other(void *owner) {
  callback_state *state = (callback_state *)owner;
  dlb_tensor *clone;
  SUCCEEDS(dlb_tensor_clone(state->other, DLB_MEMORY_FORMAT_PRESERVE, 0, &clone, &error));
  dlb_tensor_free(clone);
  dlb_tensor_free(state->other);
  ++state->cloned;
}

static void callbacks_may_use_other_handles(void) {
  float data[2] = {0, 1};
  int64_t shape[] = {2};
  DLTensor desc = describe(data, 1, shape, NULL);
  int released = 0;
  callback_state state = {NULL, 0};
  dlb_tensor *tensor;
  SUCCEEDS(dlb_tensor_from_memory(&desc, 0, &released, release, &state.other, &error));
  SUCCEEDS(dlb_tensor_from_memory(&desc, 0, &state, release_other, &tensor, &error));
  dlb_tensor_free(tensor);
  CHECK(state.cloned == 1 && released == 1);
}

/* Padding is ignored for elements of whole bytes, and IS_COPIED for all. */
static void flags_without_effect(void) {
  float data[2] = {0, 1};
  int64_t shape[] = {2};
  DLTensor desc = describe(data, 1, shape, NULL);
  dlb_tensor *tensor;
  const uint64_t flags = DLPACK_FLAG_BITMASK_IS_COPIED | DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;
  SUCCEEDS(dlb_tensor_from_memory(&desc, flags, NULL, NULL, &tensor, &error));
  CHECK(dlb_tensor_flags(tensor) == 0 && dlb_tensor_nbytes(tensor) == 8);
  dlb_tensor_free(tensor);
}

int main(void) {
  callbacks_may_use_other_handles();
  flags_without_effect();
  memory_is_wrapped_and_released_once();
  constants_need_no_release_callback();
  wrong_descriptions_release_nothing();
  new_memory_has_the_described_strides();
  impossible_descriptions_are_refused();
  device_memory_has_no_host_address();
  return 0;
}
