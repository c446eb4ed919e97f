/* Handles: their views, sharing, and when the memory is released. */
#include "check.h"

static void a_view_shows_the_struct(void) {
  producer made;
  const DLTensor *view;
  dlb_tensor *tensor;
  produce(&made);
  tensor = take(&made);
  view = dlb_tensor_view(tensor);
  CHECK(view->data == made.data && view->ndim == 3 && view->byte_offset == 0);
  CHECK(memcmp(view->shape, made.shape, 3 * sizeof *view->shape) == 0);
  CHECK(memcmp(view->strides, made.strides, 3 * sizeof *view->strides) == 0);
  CHECK(view->dtype.code == kDLFloat && view->dtype.bits == 32 && view->dtype.lanes == 1);
  CHECK(view->device.device_type == kDLCPU && view->device.device_id == 0);
  CHECK(dlb_tensor_flags(tensor) == 0 && dlb_tensor_nbytes(tensor) == 96);
  CHECK(dlb_tensor_is_contiguous(tensor));
  CHECK(dlb_tensor_view(tensor) == view);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void views_have_strides_and_no_byte_offset(void) {
  producer made;
  dlb_tensor *tensor;
  const DLTensor *view;
  produce(&made);
  made.managed.dl_tensor.strides = NULL;
  made.managed.dl_tensor.byte_offset = 16;
  made.shape[0] = 1;
  tensor = take(&made);
  view = dlb_tensor_view(tensor);
  CHECK(view->data == made.data + 4 && view->byte_offset == 0);
  CHECK(view->strides != NULL && view->strides[0] == 12 && view->strides[1] == 4 &&
        view->strides[2] == 1);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void empty_tensors_and_scalars(void) {
  producer made;
  dlb_tensor *tensor;
  produce(&made);
  made.shape[1] = 0;
  made.strides[2] = -7;
  tensor = take(&made);
  CHECK(dlb_tensor_view(tensor)->data == NULL && dlb_tensor_view(tensor)->strides != NULL);
  CHECK(dlb_tensor_nbytes(tensor) == 0 && dlb_tensor_is_contiguous(tensor));
  dlb_tensor_free(tensor);
  produce(&made);
  made.managed.dl_tensor.ndim = 0;
  made.managed.dl_tensor.shape = made.managed.dl_tensor.strides = NULL;
  tensor = take(&made);
  CHECK(dlb_tensor_view(tensor)->ndim == 0 && dlb_tensor_view(tensor)->data == made.data);
  CHECK(dlb_tensor_nbytes(tensor) == 4 && dlb_tensor_is_contiguous(tensor));
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void contiguity_ignores_strides_that_do_not_matter(void) {
  static const struct {
    int64_t shape[2], strides[2];
    bool contiguous;
  } cases[] = {
      {{1, 3}, {100, 1}, true}, {{3, 1}, {1, -7}, true},  {{3, 2}, {2, 1}, true},
      {{3, 2}, {1, 3}, false},  {{3, 1}, {-1, 1}, false}, {{2, 2}, {0, 1}, false},
  };
  size_t i;
  for (i = 0; i < sizeof cases / sizeof *cases; ++i) {
    producer made;
    dlb_tensor *tensor;
    produce(&made);
    made.managed.dl_tensor.ndim = 2;
    made.managed.dl_tensor.data = made.data + 8;
    memcpy(made.shape, cases[i].shape, sizeof cases[i].shape);
    memcpy(made.strides, cases[i].strides, sizeof cases[i].strides);
    tensor = take(&made);
    CHECK(dlb_tensor_is_contiguous(tensor) == cases[i].contiguous);
    dlb_tensor_free(tensor);
  }
}

static void the_last_handle_releases_the_memory(void) {
  producer made;
  dlb_tensor *first, *second, *third;
  produce(&made);
  first = take(&made);
  second = dlb_tensor_share(first);
  third = dlb_tensor_share(second);
  CHECK(dlb_tensor_view(third)->data == made.data);
  dlb_tensor_free(first);
  dlb_tensor_free(third);
  CHECK(made.deleted == 0 && dlb_tensor_view(second)->shape[2] == 4);
  dlb_tensor_free(second);
  CHECK(made.deleted == 1);
}

static void share_as_describes_the_memory_in_another_way(void) {
  producer made;
  dlb_tensor *tensor, *part, *out = UNTOUCHED(dlb_tensor);
  int64_t shape[] = {4, 3}, strides[] = {1, 4};
  DLTensor desc;
  int i;
  produce(&made);
  made.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  tensor = take(&made);
  desc = *dlb_tensor_view(tensor);
  desc.ndim = 2;
  desc.shape = shape;
  desc.strides = strides;
  desc.byte_offset = 48; /* the second matrix, transposed */
  SUCCEEDS(dlb_tensor_share_as(tensor, &desc, &part, &error));
  CHECK(dlb_tensor_view(part)->data == made.data + 12 && dlb_tensor_view(part)->strides[1] == 4);
  CHECK(dlb_tensor_flags(part) == DLPACK_FLAG_BITMASK_READ_ONLY); /* as the whole tensor */
  CHECK(((const float *)dlb_tensor_view(part)->data)[11] == 23);
  /* All 96 bytes. */
  desc.dtype.code = kDLUInt, desc.dtype.bits = 8;
  desc.ndim = 1, desc.strides = NULL, desc.byte_offset = 0, shape[0] = 96;
  SUCCEEDS(dlb_tensor_share_as(tensor, &desc, &out, &error));
  CHECK(dlb_tensor_nbytes(out) == 96);
  dlb_tensor_free(out);
  out = UNTOUCHED(dlb_tensor);
#define REFUSED(status, text) FAILS(status, text, dlb_tensor_share_as(tensor, &desc, &out, &error))
  shape[0] = 97;
  REFUSED(DLB_ERROR_LAYOUT, "are not all among the tensor's 96 bytes");
  shape[0] = 96, desc.byte_offset = 1;
  REFUSED(DLB_ERROR_LAYOUT, "desc: 96 bytes at");
  desc.byte_offset = 0, desc.data = made.shape;
  REFUSED(DLB_ERROR_LAYOUT, "desc: 96 bytes at");
  shape[0] = -1;
  REFUSED(DLB_ERROR_INVALID_ARGUMENT, "desc: shape[0] = -1");
  shape[0] = 1, desc.data = made.data, desc.device = CUDA;
  REFUSED(DLB_ERROR_DEVICE,
          "desc: it is on cuda:0 (type 2, index 0), the tensor on cpu (type 1, index 0)");
  FAILS(DLB_ERROR_NULL_POINTER, "tensor is NULL", dlb_tensor_share_as(NULL, &desc, &out, &error));
  FAILS(DLB_ERROR_NULL_POINTER, "desc is NULL", dlb_tensor_share_as(tensor, NULL, &out, &error));
  FAILS(DLB_ERROR_NULL_POINTER, "out is NULL", dlb_tensor_share_as(tensor, &desc, NULL, &error));
#undef REFUSED
  CHECK(out == UNTOUCHED(dlb_tensor));
  /* Views of views do not nest. */
  dlb_tensor_free(tensor);
  for (i = 0; i < 100000; ++i) {
    desc = *dlb_tensor_view(part);
    SUCCEEDS(dlb_tensor_share_as(part, &desc, &out, &error));
    dlb_tensor_free(part);
    part = out;
  }
  CHECK(made.deleted == 0);
  dlb_tensor_free(part); /* overflows the stack if they do */
  CHECK(made.deleted == 1);
}

/* A view that was exported and imported again is still the view. */
static void views_survive_a_round_trip_through_dlpack(void) {
  producer made;
  dlb_tensor *tensor, *part, *back;
  DLManagedTensorVersioned *out;
  int64_t shape[] = {2}, strides[] = {12};
  DLTensor desc;
  produce(&made);
  tensor = take(&made);
  desc = *dlb_tensor_view(tensor);
  desc.ndim = 1, desc.shape = shape, desc.strides = strides;
  SUCCEEDS(dlb_tensor_share_as(tensor, &desc, &part, &error));
  SUCCEEDS(dlb_tensor_into_dlpack(part, &out, &error));
  SUCCEEDS(dlb_tensor_from_dlpack(out, &back, &error));
  CHECK(dlb_tensor_view(back)->ndim == 1 && dlb_tensor_view(back)->strides[0] == 12);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 0 && ((const float *)dlb_tensor_view(back)->data)[12] == 12);
  dlb_tensor_free(back);
  CHECK(made.deleted == 1);
}

static void text_is_cut_off_at_the_size(void) {
  char whole[200] = "", text[200];
  size_t length = 0, size;
  producer made;
  dlb_tensor *tensor;
  produce(&made);
  made.shape[0] = 1;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_to_string(tensor, whole, sizeof whole, &length, &error));
  CHECK(length == strlen(whole) && strstr(whole, "[[[") != NULL && strstr(whole, "11") != NULL);
  for (size = 0; size <= sizeof text; ++size) {
    size_t written = size <= strlen(whole) ? size : strlen(whole) + 1;
    memset(text, '?', sizeof text);
    length = 0;
    SUCCEEDS(dlb_tensor_to_string(tensor, text, size, &length, &error));
    CHECK(length == strlen(whole));
    if (written > 0) CHECK(memcmp(text, whole, written - 1) == 0 && text[written - 1] == '\0');
    CHECK(written == sizeof text || text[written] == '?');
  }
  SUCCEEDS(dlb_tensor_to_string(tensor, NULL, sizeof text, &length, &error));
  CHECK(length == strlen(whole));
  length = 7;
  FAILS(DLB_ERROR_NULL_POINTER, "tensor is NULL",
        dlb_tensor_to_string(NULL, text, sizeof text, &length, &error));
  FAILS(DLB_ERROR_NULL_POINTER, "length is NULL",
        dlb_tensor_to_string(tensor, text, sizeof text, NULL, &error));
  CHECK(length == 7);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

/* The host cannot read the memory, or the values have no text. */
static void text_without_values(void) {
  char text[200];
  size_t length;
  producer made;
  dlb_tensor *tensor;
  produce(&made);
  made.managed.dl_tensor.device = CUDA;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_to_string(tensor, text, sizeof text, &length, &error));
  CHECK(strstr(text, "[2, 3, 4]") != NULL && strstr(text, "float32") != NULL);
  CHECK(strstr(text, "cuda:0") != NULL && length == strlen(text));
  dlb_tensor_free(tensor);
  produce(&made);
  made.managed.dl_tensor.dtype.lanes = 2;
  made.shape[0] = 1, made.shape[1] = 1;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_to_string(tensor, text, sizeof text, &length, &error));
  CHECK(strstr(text, "float32x2") != NULL);
  dlb_tensor_free(tensor);
}

int main(void) {
  text_is_cut_off_at_the_size();
  text_without_values();
  share_as_describes_the_memory_in_another_way();
  views_survive_a_round_trip_through_dlpack();
  a_view_shows_the_struct();
  views_have_strides_and_no_byte_offset();
  empty_tensors_and_scalars();
  contiguity_ignores_strides_that_do_not_matter();
  the_last_handle_releases_the_memory();
  return 0;
}
