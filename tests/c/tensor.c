/* Handles: what they look like, how they share, when the memory goes. */
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

static void what_a_struct_leaves_unsaid_is_said(void) {
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
  CHECK(view->strides != NULL && view->strides[0] == 12 && view->strides[1] == 4 && view->strides[2] == 1);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void no_elements_and_no_dimensions(void) {
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

static void the_memory_goes_with_the_last_handle(void) {
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

int main(void) {
  a_view_shows_the_struct();
  what_a_struct_leaves_unsaid_is_said();
  no_elements_and_no_dimensions();
  contiguity_ignores_strides_that_do_not_matter();
  the_memory_goes_with_the_last_handle();
  return 0;
}
