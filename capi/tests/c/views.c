/* Views: other shapes, strides and first elements for the same memory. */
#include "check.h"

/* Checks shape, strides and first element of a view of the producer's 2 x 3 x 4 numbers. */
#define DESCRIBED(tensor, first, rank, sizes, steps)                                               \
  do {                                                                                             \
    static const int64_t shape[] = sizes, strides[] = steps;                                       \
    const DLTensor *view = dlb_tensor_view(tensor);                                                \
    CHECK(view->ndim == (rank) && *(const float *)view->data == (first));                          \
    CHECK(memcmp(view->shape, shape, (rank) * sizeof *shape) == 0);                                \
    CHECK(memcmp(view->strides, strides, (rank) * sizeof *strides) == 0);                          \
  } while (0)
#define LIST2(a, b) {a, b}
#define LIST3(a, b, c) {a, b, c}

/* The view that the call makes of `tensor`, which it frees. */
#define REPLACE(tensor, call)                                                                      \
  do {                                                                                             \
    dlb_tensor *whole = (tensor), *out = NULL;                                                     \
    SUCCEEDS(call);                                                                                \
    CHECK(out != NULL);                                                                            \
    dlb_tensor_free(whole);                                                                        \
    (tensor) = out;                                                                                \
  } while (0)

static void each_function_describes_the_memory_anew(void) {
  static const int64_t order[] = {2, 0, -2}, back[] = {1, 2, 0}, dims[] = {0, -1};
  static const int64_t rows[] = {-1, 4}, wide[] = {2, -1, -1}, four[] = {4}, one[] = {1};
  producer made;
  dlb_tensor *tensor;
  produce(&made);
  tensor = take(&made);
  REPLACE(tensor, dlb_tensor_permute(whole, order, 3, &out, &error));
  DESCRIBED(tensor, 0, 3, LIST3(4, 2, 3), LIST3(1, 12, 4));
  REPLACE(tensor, dlb_tensor_permute(whole, back, 3, &out, &error));
  DESCRIBED(tensor, 0, 3, LIST3(2, 3, 4), LIST3(12, 4, 1));
  REPLACE(tensor, dlb_tensor_transpose(whole, 0, -1, &out, &error));
  DESCRIBED(tensor, 0, 3, LIST3(4, 3, 2), LIST3(1, 4, 12));
  REPLACE(tensor, dlb_tensor_transpose(whole, 0, 2, &out, &error));
  REPLACE(tensor, dlb_tensor_flip(whole, dims, 2, &out, &error));
  DESCRIBED(tensor, 15, 3, LIST3(2, 3, 4), LIST3(-12, 4, -1));
  REPLACE(tensor, dlb_tensor_flip(whole, dims, 2, &out, &error));
  DESCRIBED(tensor, 0, 3, LIST3(2, 3, 4), LIST3(12, 4, 1));
  REPLACE(tensor, dlb_tensor_reshape(whole, rows, 2, &out, &error));
  DESCRIBED(tensor, 0, 2, LIST2(6, 4), LIST2(4, 1));
  REPLACE(tensor, dlb_tensor_slice(whole, 0, -1, DLB_SLICE_NONE, -2, &out, &error));
  DESCRIBED(tensor, 20, 2, LIST2(3, 4), LIST2(-8, 1));
  REPLACE(tensor, dlb_tensor_slice(whole, 1, 1, 100, 1, &out, &error));
  DESCRIBED(tensor, 21, 2, LIST2(3, 3), LIST2(-8, 1));
  REPLACE(tensor, dlb_tensor_as_strided(whole, four, one, 1, -8, &out, &error));
  CHECK(*(const float *)dlb_tensor_view(tensor)->data == 13);
  REPLACE(tensor, dlb_tensor_select(whole, 0, -1, &out, &error));
  CHECK(dlb_tensor_view(tensor)->ndim == 0);
  CHECK(*(const float *)dlb_tensor_view(tensor)->data == 16);
  REPLACE(tensor, dlb_tensor_unsqueeze(whole, 0, &out, &error));
  REPLACE(tensor, dlb_tensor_unsqueeze(whole, -1, &out, &error));
  REPLACE(tensor, dlb_tensor_expand(whole, wide, 3, &out, &error));
  CHECK(dlb_tensor_view(tensor)->ndim == 3 && dlb_tensor_view(tensor)->strides[0] == 0);
  REPLACE(tensor, dlb_tensor_squeeze_dim(whole, 1, &out, &error));
  REPLACE(tensor, dlb_tensor_squeeze_dim(whole, 0, &out, &error));
  CHECK(dlb_tensor_view(tensor)->ndim == 2 && dlb_tensor_view(tensor)->shape[0] == 2);
  REPLACE(tensor, dlb_tensor_squeeze(whole, &out, &error));
  CHECK(dlb_tensor_view(tensor)->ndim == 1 && dlb_tensor_nbytes(tensor) == 8);
  CHECK(made.deleted == 0);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void arguments_that_do_not_fit_are_refused(void) {
  static const int64_t big[] = {INT64_MAX, INT64_MAX, INT64_MAX}, low[] = {INT64_MIN, 0, 0};
  static const int64_t twice[] = {0, 0, 1}, seven[] = {7}, flat[] = {24}, three[] = {3, 3, 4};
  static const int64_t unknown[] = {-1, -1}, one[] = {1}, sizes[] = {2, 3, 4};
  producer made;
  dlb_tensor *tensor, *turned, *out = UNTOUCHED(dlb_tensor);
  produce(&made);
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_transpose(tensor, 0, 1, &turned, &error));
#define REFUSED(status, text, call) FAILS(DLB_ERROR_##status, text, call)
  REFUSED(LAYOUT, "expected 3 dimensions", dlb_tensor_permute(tensor, twice, 2, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_permute(tensor, twice, 3, &out, &error));
  REFUSED(INVALID_ARGUMENT, "out of range: expected -3 to 2",
          dlb_tensor_permute(tensor, low, 3, &out, &error));
  REFUSED(INVALID_ARGUMENT, "dimension 3 is out of range",
          dlb_tensor_transpose(tensor, 3, 0, &out, &error));
  REFUSED(INVALID_ARGUMENT, "out of range",
          dlb_tensor_transpose(tensor, 0, INT64_MIN, &out, &error));
  REFUSED(INVALID_ARGUMENT, "out of range",
          dlb_tensor_slice(tensor, INT64_MAX, 0, 1, 1, &out, &error));
  REFUSED(LAYOUT, "the step of a slice cannot be 0",
          dlb_tensor_slice(tensor, 0, 0, 1, 0, &out, &error));
  REFUSED(INVALID_ARGUMENT, "index 3 is out of range",
          dlb_tensor_select(tensor, 1, 3, &out, &error));
  REFUSED(INVALID_ARGUMENT, "out of range", dlb_tensor_select(tensor, 1, -4, &out, &error));
  REFUSED(INVALID_ARGUMENT, "out of range", dlb_tensor_flip(tensor, seven, 1, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_flip(tensor, twice, 2, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_expand(tensor, flat, 1, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_expand(tensor, three, 3, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_expand(tensor, big, 3, &out, &error));
  REFUSED(INVALID_ARGUMENT, "out of range", dlb_tensor_squeeze_dim(tensor, 3, &out, &error));
  REFUSED(INVALID_ARGUMENT, "out of range", dlb_tensor_unsqueeze(tensor, 4, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_reshape(tensor, seven, 1, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_reshape(tensor, unknown, 2, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_reshape(tensor, big, 3, &out, &error));
  REFUSED(INVALID_ARGUMENT, "", dlb_tensor_reshape(tensor, low, 3, &out, &error));
  REFUSED(LAYOUT, "dlb_tensor_clone() and DLB_MEMORY_FORMAT_CONTIGUOUS",
          dlb_tensor_reshape(turned, flat, 1, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_as_strided(tensor, flat, one, 1, 1, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_as_strided(tensor, one, one, 1, -1, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_as_strided(tensor, one, one, 1, INT64_MAX, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_as_strided(tensor, sizes, big, 3, 0, &out, &error));
  REFUSED(LAYOUT, "", dlb_tensor_as_strided(tensor, big, big, 3, 0, &out, &error));
  REFUSED(INVALID_ARGUMENT, "", dlb_tensor_as_strided(tensor, low, one, 1, 0, &out, &error));
#undef REFUSED
  CHECK(out == UNTOUCHED(dlb_tensor) && made.deleted == 0);
  dlb_tensor_free(turned);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void pointers_may_be_null(void) {
  static const int64_t dims[] = {0, 1, 2};
  producer made;
  dlb_tensor *tensor, *out = UNTOUCHED(dlb_tensor);
  produce(&made);
  tensor = take(&made);
  /* Each function with each pointer NULL; the names of the arguments are in the messages. */
#define NULL_IS_REFUSED(name, call) FAILS(DLB_ERROR_NULL_POINTER, name " is NULL", call)
#define TENSOR_AND_OUT(function, ...)                                                              \
  NULL_IS_REFUSED("tensor", function(NULL, __VA_ARGS__, &out, &error));                            \
  NULL_IS_REFUSED("out", function(tensor, __VA_ARGS__, NULL, &error));                             \
  CHECK(function(NULL, __VA_ARGS__, NULL, NULL) == DLB_ERROR_NULL_POINTER)
#define SIZES(function, name)                                                                      \
  TENSOR_AND_OUT(function, dims, 3);                                                               \
  NULL_IS_REFUSED(name, function(tensor, NULL, 3, &out, &error));                                  \
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "ndim = -1", function(tensor, dims, -1, &out, &error));        \
  FAILS(DLB_ERROR_INVALID_ARGUMENT, "ndim = -", function(tensor, NULL, INT32_MIN, &out, &error))
  SIZES(dlb_tensor_permute, "dims");
  SIZES(dlb_tensor_flip, "dims");
  SIZES(dlb_tensor_expand, "shape");
  SIZES(dlb_tensor_reshape, "shape");
  TENSOR_AND_OUT(dlb_tensor_transpose, 0, 1);
  TENSOR_AND_OUT(dlb_tensor_slice, 0, 0, 1, 1);
  TENSOR_AND_OUT(dlb_tensor_select, 0, 0);
  TENSOR_AND_OUT(dlb_tensor_squeeze_dim, 0);
  TENSOR_AND_OUT(dlb_tensor_unsqueeze, 0);
  TENSOR_AND_OUT(dlb_tensor_as_strided, dims, dims, 3, 0);
  NULL_IS_REFUSED("tensor", dlb_tensor_squeeze(NULL, &out, &error));
  NULL_IS_REFUSED("out", dlb_tensor_squeeze(tensor, NULL, &error));
  NULL_IS_REFUSED("shape", dlb_tensor_as_strided(tensor, NULL, dims, 3, 0, &out, &error));
  NULL_IS_REFUSED("strides", dlb_tensor_as_strided(tensor, dims, NULL, 3, 0, &out, &error));
  CHECK(out == UNTOUCHED(dlb_tensor));
  /* No numbers need no pointer. */
  SUCCEEDS(dlb_tensor_flip(tensor, NULL, 0, &out, &error));
  dlb_tensor_free(out);
  SUCCEEDS(dlb_tensor_as_strided(tensor, NULL, NULL, 0, 23, &out, &error));
  CHECK(dlb_tensor_view(out)->ndim == 0 && *(const float *)dlb_tensor_view(out)->data == 23);
  dlb_tensor_free(out);
  dlb_tensor_free(tensor);
}

static void views_keep_the_memory_in_every_order_of_release(void) {
  static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                   {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  int i, k;
  for (i = 0; i < 6; ++i) {
    producer made;
    dlb_tensor *handles[3];
    produce(&made);
    handles[0] = take(&made);
    SUCCEEDS(dlb_tensor_select(handles[0], 0, 1, &handles[1], &error));
    SUCCEEDS(dlb_tensor_slice(handles[1], 1, DLB_SLICE_NONE, 2, 1, &handles[2], &error));
    for (k = 0; k < 3; ++k) {
      CHECK(made.deleted == 0);
      CHECK(*(const float *)dlb_tensor_view(handles[orders[i][2]])->data < 13);
      dlb_tensor_free(handles[orders[i][k]]);
    }
    CHECK(made.deleted == 1);
  }
}

static void views_are_written_as_their_tensor_is(void) {
  int read_only;
  for (read_only = 0; read_only < 2; ++read_only) {
    producer made;
    dlb_tensor *tensor, *view;
    DLManagedTensorVersioned *exported;
    void *data;
    produce(&made);
    made.managed.flags = read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
    tensor = take(&made);
    SUCCEEDS(dlb_tensor_select(tensor, 0, 1, &view, &error));
    CHECK((dlb_tensor_flags(view) & DLPACK_FLAG_BITMASK_READ_ONLY) == made.managed.flags);
    if (read_only) {
      FAILS(DLB_ERROR_READ_ONLY, "read-only", dlb_tensor_data_mut(view, &data, &error));
    } else {
      SUCCEEDS(dlb_tensor_data_mut(view, &data, &error));
      *(float *)data = -1;
      CHECK(made.data[12] == -1);
      SUCCEEDS(dlb_tensor_data_mut(tensor, &data, &error)); /* so may the tensor itself */
    }
    /* The view goes through DLPack as the view that it is, not as the producer's struct. */
    dlb_tensor_free(tensor);
    SUCCEEDS(dlb_tensor_into_dlpack(view, &exported, &error));
    CHECK(exported->dl_tensor.ndim == 2 && made.deleted == 0);
    SUCCEEDS(dlb_tensor_from_dlpack(exported, &view, &error));
    CHECK(dlb_tensor_view(view)->data == made.data + 12 && dlb_tensor_view(view)->ndim == 2);
    dlb_tensor_free(view);
    CHECK(made.deleted == 1);
  }
}

static void views_of_views_do_not_nest(void) {
  producer made;
  dlb_tensor *tensor;
  int i;
  produce(&made);
  tensor = take(&made);
  for (i = 0; i < 100000; ++i) REPLACE(tensor, dlb_tensor_transpose(whole, 0, 1, &out, &error));
  CHECK(made.deleted == 0 && dlb_tensor_is_contiguous(tensor));
  dlb_tensor_free(tensor); /* overflows the stack if they do */
  CHECK(made.deleted == 1);
}

static void copies_of_views(void) {
  static const int64_t dims[] = {0, 1, 2}, shape[] = {2, 2, 3, 4};
  producer made, other;
  dlb_tensor *tensor, *flipped, *wide, *target;
  int i;
  produce(&made), produce(&other);
  tensor = take(&made), target = take(&other);
  SUCCEEDS(dlb_tensor_flip(tensor, dims, 3, &flipped, &error));
  SUCCEEDS(dlb_tensor_copy_into(flipped, target, DLB_STREAM_NO_SYNC, &error));
  for (i = 0; i < 24; ++i) CHECK(other.data[i] == (float)(23 - i));
  FAILS(DLB_ERROR_LAYOUT, "share memory",
        dlb_tensor_copy_into(flipped, tensor, DLB_STREAM_NO_SYNC, &error));
  SUCCEEDS(dlb_tensor_expand(target, shape, 4, &wide, &error));
  CHECK(dlb_tensor_nbytes(wide) == 192);
  FAILS(DLB_ERROR_LAYOUT, "overlap", dlb_tensor_copy_into(wide, wide, DLB_STREAM_NO_SYNC, &error));
  dlb_tensor_free(wide);
  dlb_tensor_free(flipped);
  dlb_tensor_free(target);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1 && other.deleted == 1);
}

/* The memory of a device is described, not read. */
static void views_of_device_memory(void) {
  static const int64_t order[] = {2, 1, 0}, shape[] = {5}, strides[] = {1};
  producer made;
  dlb_tensor *tensor, *view, *out = UNTOUCHED(dlb_tensor);
  produce(&made);
  made.managed.dl_tensor.device.device_type = kDLMetal; /* `data` is a buffer object */
  made.managed.dl_tensor.byte_offset = 8;
  made.strides[0] = 24; /* a gap */
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_permute(tensor, order, 3, &view, &error));
  CHECK(dlb_tensor_view(view)->data == made.data && dlb_tensor_view(view)->byte_offset == 8);
  dlb_tensor_free(view);
  SUCCEEDS(dlb_tensor_select(tensor, 0, 1, &view, &error));
  CHECK(dlb_tensor_view(view)->data == made.data);
  CHECK(dlb_tensor_view(view)->byte_offset == 8 + 24 * sizeof(float));
  FAILS(DLB_ERROR_LAYOUT, "", dlb_tensor_as_strided(tensor, shape, strides, 1, 0, &out, &error));
  CHECK(out == UNTOUCHED(dlb_tensor));
  dlb_tensor_free(view);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

/* A view of packed elements begins at a byte. */
static void views_of_packed_elements(void) {
  producer made;
  dlb_tensor *tensor, *view, *out = UNTOUCHED(dlb_tensor);
  produce(&made);
  made.managed.dl_tensor.dtype.code = kDLInt, made.managed.dl_tensor.dtype.bits = 4;
  tensor = take(&made);
  SUCCEEDS(dlb_tensor_slice(tensor, 2, 2, 4, 1, &view, &error));
  CHECK((const char *)dlb_tensor_view(view)->data == (const char *)made.data + 1);
  FAILS(DLB_ERROR_DTYPE, "int4", dlb_tensor_slice(tensor, 2, 1, 4, 1, &out, &error));
  CHECK(out == UNTOUCHED(dlb_tensor));
  dlb_tensor_free(view);
  dlb_tensor_free(tensor);
}

/* More elements than fit into memory: they are not copied. */
static void huge_views_are_printed(void) {
  static const int64_t shape[] = {(int64_t)1 << 40}, lists[] = {1 << 20, 1 << 20, 0};
  char text[200];
  size_t length;
  producer made;
  dlb_tensor *tensor;
  produce(&made);
  made.managed.dl_tensor.ndim = 0;
  tensor = take(&made);
  REPLACE(tensor, dlb_tensor_expand(whole, shape, 1, &out, &error));
  CHECK(dlb_tensor_nbytes(tensor) == (uint64_t)1 << 42);
  SUCCEEDS(dlb_tensor_to_string(tensor, text, sizeof text, &length, &error));
  CHECK(length == strlen(text) && strstr(text, "...") != NULL);
  REPLACE(tensor, dlb_tensor_slice(whole, 0, 0, 0, 1, &out, &error));
  SUCCEEDS(dlb_tensor_to_string(tensor, text, sizeof text, &length, &error));
  CHECK(length > 0 && length == strlen(text));
  REPLACE(tensor, dlb_tensor_reshape(whole, lists, 3, &out, &error)); /* many empty lists */
  SUCCEEDS(dlb_tensor_to_string(tensor, text, sizeof text, &length, &error));
  CHECK(length > 0 && length == strlen(text));
  dlb_tensor_free(tensor);
}

int main(void) {
  huge_views_are_printed();
  each_function_describes_the_memory_anew();
  arguments_that_do_not_fit_are_refused();
  pointers_may_be_null();
  views_keep_the_memory_in_every_order_of_release();
  views_are_written_as_their_tensor_is();
  views_of_views_do_not_nest();
  copies_of_views();
  views_of_device_memory();
  views_of_packed_elements();
  return 0;
}
