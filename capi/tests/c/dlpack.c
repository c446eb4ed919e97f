/* DLPack structs in and out. */
#include "check.h"

static void own_structs_are_unwrapped(void) {
  producer made;
  dlb_tensor *tensor, *back;
  DLManagedTensorVersioned *shared, *moved;
  produce(&made);
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_share_dlpack(tensor, &shared, &error));
  CHECK(shared->version.major == 1 && shared->version.minor == 3 && shared->flags == 0);
  CHECK(shared->dl_tensor.data == made.data && shared->dl_tensor.strides[0] == 12);
  SUCCEEDS(dlb_tensor_into_dlpack(tensor, &moved, &error));
  shared->deleter(shared);
  CHECK(made.deleted == 0);
  SUCCEEDS(dlb_tensor_from_dlpack(moved, &back, &error));
  /* Importing a struct of this library gives the handle that the struct was made from. */
  CHECK(back == tensor);
  dlb_tensor_free(back);
  CHECK(made.deleted == 1);
}

/* A struct that goes out and comes back 100,000 times is not wrapped each time. */
static void round_trips_do_not_nest(void) {
  producer made;
  dlb_tensor *tensor, *clone;
  DLManagedTensorVersioned *out;
  const void *data;
  int i;
  produce(&made);
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_PRESERVE, 0, &clone, &error));
  data = dlb_tensor_view(clone)->data;
  for (i = 0; i < 100000; ++i) {
    SUCCEEDS(dlb_tensor_into_dlpack(tensor, &out, &error));
    SUCCEEDS(dlb_tensor_from_dlpack(out, &tensor, &error));
    SUCCEEDS(dlb_tensor_into_dlpack(clone, &out, &error));
    SUCCEEDS(dlb_tensor_from_dlpack(out, &clone, &error));
  }
  CHECK(dlb_tensor_view(clone)->data == data && dlb_tensor_flags(clone) == 0);
  dlb_tensor_free(clone);
  dlb_tensor_free(tensor); /* overflows the stack if round trips nest */
  CHECK(made.deleted == 1);
}

static void flags_are_preserved(void) {
  static const uint64_t given[] = {0, 1, 2, 3, (uint64_t)1 << 40}, expected[] = {0, 1, 0, 1, 0};
  size_t i;
  for (i = 0; i < 5; ++i) {
    producer made;
    dlb_tensor *tensor;
    DLManagedTensorVersioned *out;
    produce(&made);
    made.managed.flags = given[i];
    tensor = take(&made);
    CHECK(dlb_tensor_flags(tensor) == expected[i]);
    SUCCEEDS(dlb_tensor_share_dlpack(tensor, &out, &error));
    CHECK(out->flags == expected[i]);
    out->deleter(out);
    SUCCEEDS(dlb_tensor_into_dlpack(tensor, &out, &error));
    CHECK(out->flags == expected[i]);
    out->deleter(out);
    CHECK(made.deleted == 1);
  }
}

static void padding_is_preserved(void) {
  producer made;
  dlb_tensor *tensor, *same;
  DLManagedTensorVersioned *out;
  DLManagedTensor *legacy;
  produce(&made);
  made.managed.dl_tensor.dtype.code = kDLFloat4_e2m1fn;
  made.managed.dl_tensor.dtype.bits = 4;
  made.managed.flags = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;
  tensor = take(&made);
  CHECK(dlb_tensor_nbytes(tensor) == 24);
  CHECK(dlb_tensor_flags(tensor) == DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED);
  SUCCEEDS(dlb_tensor_share_dlpack(tensor, &out, &error));
  CHECK(out->flags == DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED);
  out->deleter(out);
  SUCCEEDS(dlb_tensor_share_as(tensor, dlb_tensor_view(tensor), &same, &error));
  CHECK(dlb_tensor_nbytes(same) == 24 && dlb_tensor_flags(same) == dlb_tensor_flags(tensor));
  dlb_tensor_free(same);
  FAILS(DLB_ERROR_DTYPE, "tensor: elements of type float4",
        dlb_tensor_share_dlpack_legacy(tensor, &legacy, &error));
  dlb_tensor_free(tensor);
}

static void legacy_structs(void) {
  producer made;
  dlb_tensor *tensor, *clone, *back;
  DLManagedTensor *shared, *moved = UNTOUCHED(DLManagedTensor);
  produce(&made);
  SUCCEEDS(dlb_tensor_from_dlpack_legacy(&made.legacy, &tensor, &error));
  CHECK(dlb_tensor_flags(tensor) == DLPACK_FLAG_BITMASK_READ_ONLY); /* as for NumPy */
  CHECK(dlb_tensor_view(tensor)->data == made.data);
  FAILS(DLB_ERROR_READ_ONLY,
        "tensor: the memory is read-only, which DLPack's older struct cannot say",
        dlb_tensor_share_dlpack_legacy(tensor, &shared, &error));
  FAILS(DLB_ERROR_READ_ONLY, "; export it with dlb_tensor_share_dlpack()",
        dlb_tensor_into_dlpack_legacy(tensor, &moved, &error));
  CHECK(moved == UNTOUCHED(DLManagedTensor) && made.deleted == 0); /* the handle was not consumed */
  SUCCEEDS(dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_PRESERVE, 0, &clone, &error));
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
  SUCCEEDS(dlb_tensor_share_dlpack_legacy(clone, &shared, &error));
  SUCCEEDS(dlb_tensor_into_dlpack_legacy(clone, &moved, &error));
  CHECK(shared->dl_tensor.data == moved->dl_tensor.data);
  shared->deleter(shared);
  SUCCEEDS(dlb_tensor_from_dlpack_legacy(moved, &back, &error));
  CHECK(dlb_tensor_flags(back) ==
        0); /* made by this library, which knows that the memory may be written */
  dlb_tensor_free(back);
}

/* A caller that knows that the memory of a legacy struct may be written uses
 * dlb_tensor_from_memory(). */
static void release_legacy(void *owner) {
  DLManagedTensor *legacy = (DLManagedTensor *)owner;
  legacy->deleter(legacy);
}

static void legacy_structs_become_writable_through_from_memory(void) {
  producer made;
  dlb_tensor *tensor;
  void *data;
  produce(&made);
  SUCCEEDS(dlb_tensor_from_memory(&made.legacy.dl_tensor, 0, &made.legacy, release_legacy, &tensor,
                                  &error));
  SUCCEEDS(dlb_tensor_data_mut(tensor, &data, &error));
  CHECK(data == made.data);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

/* A refused struct was not released and has its own deleter, and `out` was not written. */
#define REFUSED(made, status, text)                                                                \
  do {                                                                                             \
    dlb_tensor *out = UNTOUCHED(dlb_tensor);                                                       \
    FAILS(status, text, dlb_tensor_from_dlpack(&(made).managed, &out, &error));                    \
    CHECK(out == UNTOUCHED(dlb_tensor) && (made).deleted == 0);                                    \
    CHECK((made).managed.deleter == delete_versioned);                                             \
    (made).legacy.dl_tensor = (made).managed.dl_tensor;                                            \
    if ((status) != DLB_ERROR_VERSION) {                                                           \
      FAILS(status, text, dlb_tensor_from_dlpack_legacy(&(made).legacy, &out, &error));            \
      CHECK(out == UNTOUCHED(dlb_tensor) && (made).deleted == 0);                                  \
      CHECK((made).legacy.deleter == delete_legacy);                                               \
    }                                                                                              \
  } while (0)

static void invalid_structs_are_refused(void) {
  const int64_t big = (int64_t)1 << 62;
  producer made;
  uint32_t major;
  for (major = 0; major < 4; ++major) {
    if (major == 1) continue;
    produce(&made);
    made.managed.version.major = major;
    made.managed.dl_tensor.ndim = -1;
    made.managed.dl_tensor.shape = NULL;
    REFUSED(made, DLB_ERROR_VERSION, "source: DLPack version");
  }
  produce(&made), made.managed.dl_tensor.ndim = -1;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: ndim = -1");
  produce(&made), made.shape[1] = -3;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: shape[1] = -3");
  produce(&made), made.managed.dl_tensor.shape = NULL;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: shape = NULL");
  produce(&made), made.managed.dl_tensor.shape = (int64_t *)(void *)((char *)made.shape + 1);
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: shape");
  produce(&made), made.managed.dl_tensor.data = NULL;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: data = NULL");
  produce(&made), made.managed.dl_tensor.dtype.bits = 0;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: dtype.bits = 0");
  produce(&made), made.managed.dl_tensor.dtype.lanes = 0;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: dtype.lanes = 0");
  produce(&made), made.managed.dl_tensor.dtype.code = kDLFloat8_e5m2;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: dtype.bits = 32");
  produce(&made), made.managed.dl_tensor.byte_offset = UINT64_MAX;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: byte_offset = 18446744073709551615");
  produce(&made), made.managed.dl_tensor.byte_offset = (uint64_t)1 << 63;
  REFUSED(made, DLB_ERROR_INVALID_ARGUMENT, "source: byte_offset = 9223372036854775808");
  produce(&made), made.shape[0] = big, made.shape[1] = big;
  REFUSED(made, DLB_ERROR_LAYOUT, "and 4-byte elements exceed the address space");
  produce(&made), made.shape[0] = big, made.managed.dl_tensor.strides = NULL;
  REFUSED(made, DLB_ERROR_LAYOUT, "and 4-byte elements exceed the address space");
  produce(&made), made.strides[0] = big, made.shape[0] = 3;
  REFUSED(made, DLB_ERROR_LAYOUT, "and 4-byte elements exceed the address space");
  produce(&made), made.strides[0] = INT64_MIN;
  REFUSED(made, DLB_ERROR_LAYOUT, "and 4-byte elements exceed the address space");
}

/* A producer that writes its numbers after it gave the struct away changes no tensor. */
static void later_changes_change_nothing(void) {
  producer made;
  dlb_tensor *tensor, *legacy, *clone;
  const DLTensor *view;
  int round;
  for (round = 0; round < 2; ++round) {
    produce(&made);
    made.managed.deleter = NULL; /* so that both structs may be imported */
    tensor = take(&made);
    SUCCEEDS(dlb_tensor_from_dlpack_legacy(&made.legacy, &legacy, &error));
    view = dlb_tensor_view(round == 0 ? tensor : legacy);
    made.shape[0] = (int64_t)1 << 40, made.strides[1] = -5;
    made.managed.dl_tensor.ndim = made.legacy.dl_tensor.ndim = 1000;
    made.managed.dl_tensor.data = made.legacy.dl_tensor.data = NULL;
    made.managed.flags = UINT64_MAX;
    CHECK(view->ndim == 3 && view->shape[0] == 2 && view->strides[1] == 4);
    CHECK(view->data == made.data && dlb_tensor_flags(tensor) == 0);
    CHECK(dlb_tensor_nbytes(tensor) == 96 && dlb_tensor_is_contiguous(legacy));
    SUCCEEDS(dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_PRESERVE, 0, &clone, &error));
    CHECK(memcmp(dlb_tensor_view(clone)->data, made.data, sizeof made.data) == 0);
    dlb_tensor_free(clone);
    dlb_tensor_free(tensor);
    dlb_tensor_free(legacy);
    CHECK(made.deleted == 1 && made.legacy.deleter == delete_legacy);
  }
}

/* Strides that reach no element are harmless numbers; those that do are as they came. */
static void strides_of_size_one_and_empty_dimensions(void) {
  static const struct {
    int64_t shape[3], strides[3], expected[3];
  } cases[] = {
      {{1, 3, 4}, {-12, 4, 1}, {12, 4, 1}},
      {{2, 1, 4}, {4, INT64_MAX, 1}, {4, 4, 1}},
      {{2, 0, 4}, {-1, -1, 0}, {4, 4, 1}},
      {{2, 3, 4}, {1, 2, 6}, {1, 2, 6}},
  };
  size_t i;
  for (i = 0; i < sizeof cases / sizeof *cases; ++i) {
    producer made;
    dlb_tensor *tensor;
    produce(&made);
    memcpy(made.shape, cases[i].shape, sizeof cases[i].shape);
    memcpy(made.strides, cases[i].strides, sizeof cases[i].strides);
    tensor = take(&made);
    CHECK(memcmp(dlb_tensor_view(tensor)->strides, cases[i].expected, sizeof cases[i].expected) ==
          0);
    CHECK(memcmp(made.strides, cases[i].strides, sizeof cases[i].strides) == 0); /* not written */
    dlb_tensor_free(tensor);
    CHECK(made.deleted == 1);
  }
}

/* Where `data` is the handle of a buffer, `byte_offset` is not added to it. */
static void handles_of_buffers_are_not_addresses(void) {
  static const int devices[] = {kDLOpenCL, kDLVulkan, kDLMetal, kDLWebGPU};
  size_t i;
  for (i = 0; i < 4; ++i) {
    producer made;
    dlb_tensor *tensor, *part = UNTOUCHED(dlb_tensor);
    DLManagedTensorVersioned *out;
    DLTensor desc;
    produce(&made);
    made.managed.dl_tensor.device.device_type = (DLDeviceType)devices[i];
    made.managed.dl_tensor.byte_offset = 8;
    tensor = take(&made);
    CHECK(dlb_tensor_view(tensor)->data == made.data);
    CHECK(dlb_tensor_view(tensor)->byte_offset == 8);
    desc = *dlb_tensor_view(tensor);
    desc.ndim = 1, desc.byte_offset = 8 + 92;
    desc.shape = made.shape, made.shape[0] = 1;
    SUCCEEDS(dlb_tensor_share_as(tensor, &desc, &part, &error));
    CHECK(dlb_tensor_view(part)->data == made.data && dlb_tensor_view(part)->byte_offset == 100);
    dlb_tensor_free(part);
    desc.byte_offset += 4;
    FAILS(DLB_ERROR_LAYOUT, "are not all among", dlb_tensor_share_as(tensor, &desc, &part, &error));
    desc.byte_offset = 8, desc.data = made.data + 1; /* another buffer */
    FAILS(DLB_ERROR_LAYOUT, "are not all among", dlb_tensor_share_as(tensor, &desc, &part, &error));
    SUCCEEDS(dlb_tensor_into_dlpack(tensor, &out, &error));
    CHECK(out->dl_tensor.data == made.data && out->dl_tensor.byte_offset == 8);
    out->deleter(out);
    CHECK(made.deleted == 1);
  }
}

/* Devices and element types that this library does not know are exported as they were imported. */
static void unknown_devices_and_types_are_preserved(void) {
  static const struct {
    int device, id, code, bits, lanes;
  } unknown[] = {{kDLCUDA, 1, kDLFloat, 32, 1}, {99, 7, kDLFloat, 32, 1}, {kDLCPU, 5, 99, 8, 3}};
  size_t i;
  for (i = 0; i < 3; ++i) {
    producer made;
    dlb_tensor *tensor;
    DLManagedTensorVersioned *out;
    produce(&made);
    made.managed.dl_tensor.device.device_type = (DLDeviceType)unknown[i].device;
    made.managed.dl_tensor.device.device_id = unknown[i].id;
    made.managed.dl_tensor.dtype.code = (uint8_t)unknown[i].code;
    made.managed.dl_tensor.dtype.bits = (uint8_t)unknown[i].bits;
    made.managed.dl_tensor.dtype.lanes = (uint16_t)unknown[i].lanes;
    tensor = take(&made);
    SUCCEEDS(dlb_tensor_into_dlpack(tensor, &out, &error));
    CHECK(memcmp(&out->dl_tensor.device, &made.managed.dl_tensor.device, sizeof(DLDevice)) == 0);
    CHECK(memcmp(&out->dl_tensor.dtype, &made.managed.dl_tensor.dtype, sizeof(DLDataType)) == 0);
    out->deleter(out);
    CHECK(made.deleted == 1);
  }
}

/* While a handle to its memory exists, a consumed struct is neither consumed nor released again. */
static void consumed_structs_are_not_consumed_again(void) {
  producer made;
  dlb_tensor *tensor, *again = UNTOUCHED(dlb_tensor);
  produce(&made);
  tensor = take(&made);
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "source: deleter = consumed",
        dlb_tensor_from_dlpack(&made.managed, &again, &error));
  made.managed.deleter(&made.managed);
  CHECK(made.deleted == 0 && again == UNTOUCHED(dlb_tensor));
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1 && made.managed.deleter == delete_versioned);
  SUCCEEDS(dlb_tensor_from_dlpack_legacy(&made.legacy, &tensor, &error));
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "source: deleter = consumed",
        dlb_tensor_from_dlpack_legacy(&made.legacy, &again, &error));
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 2);
}

/* A consumer may change a struct before it passes it on: an import reads the changed struct. */
static void changes_to_exported_structs_count(void) {
  producer made;
  dlb_tensor *tensor, *back, *clone;
  DLManagedTensorVersioned *out;
  produce(&made);
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_into_dlpack(tensor, &out, &error));
  out->flags |= DLPACK_FLAG_BITMASK_READ_ONLY;
  out->dl_tensor.byte_offset = 4;
  SUCCEEDS(dlb_tensor_from_dlpack(out, &back, &error));
  CHECK(dlb_tensor_flags(back) == DLPACK_FLAG_BITMASK_READ_ONLY);
  CHECK(dlb_tensor_view(back)->data == made.data + 1);
  dlb_tensor_free(back);
  CHECK(made.deleted == 1);
  /* A broadcast, written over the numbers that the struct came with. */
  produce(&made);
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_share_dlpack(tensor, &out, &error));
  CHECK(out->dl_tensor.shape != dlb_tensor_view(tensor)->shape);
  out->dl_tensor.shape[0] = 1000, out->dl_tensor.strides[0] = 0;
  SUCCEEDS(dlb_tensor_from_dlpack(out, &back, &error));
  CHECK(dlb_tensor_view(back)->shape[0] == 1000 && dlb_tensor_view(tensor)->shape[0] == 2);
  SUCCEEDS(dlb_tensor_clone(back, DLB_MEMORY_FORMAT_CONTIGUOUS, 0, &clone, &error));
  CHECK(dlb_tensor_nbytes(clone) == 48000);
  dlb_tensor_free(clone);
  dlb_tensor_free(back);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void structs_without_a_deleter(void) {
  producer made;
  dlb_tensor *tensor;
  produce(&made);
  made.managed.deleter = NULL;
  tensor = take(&made);
  dlb_tensor_free(take(&made)); /* may be a constant, so it may be consumed again */
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 0);
}

int main(void) {
  own_structs_are_unwrapped();
  round_trips_do_not_nest();
  flags_are_preserved();
  padding_is_preserved();
  legacy_structs();
  legacy_structs_become_writable_through_from_memory();
  invalid_structs_are_refused();
  unknown_devices_and_types_are_preserved();
  consumed_structs_are_not_consumed_again();
  changes_to_exported_structs_count();
  structs_without_a_deleter();
  later_changes_change_nothing();
  strides_of_size_one_and_empty_dimensions();
  handles_of_buffers_are_not_addresses();
  return 0;
}
