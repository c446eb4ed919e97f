/* Errors: names, messages, and every pointer that may be NULL. */
#include "check.h"

static void statuses_have_names(void) {
  static const struct {
    dlb_status status;
    const char *name;
  } known[] = {
      {DLB_OK, "DLB_OK"},
      {DLB_ERROR_NULL_POINTER, "DLB_ERROR_NULL_POINTER"},
      {DLB_ERROR_INVALID_ARGUMENT, "DLB_ERROR_INVALID_ARGUMENT"},
      {DLB_ERROR_VERSION, "DLB_ERROR_VERSION"},
      {DLB_ERROR_DTYPE, "DLB_ERROR_DTYPE"},
      {DLB_ERROR_DEVICE, "DLB_ERROR_DEVICE"},
      {DLB_ERROR_LAYOUT, "DLB_ERROR_LAYOUT"},
      {DLB_ERROR_READ_ONLY, "DLB_ERROR_READ_ONLY"},
      {DLB_ERROR_NOT_ON_CPU, "DLB_ERROR_NOT_ON_CPU"},
      {DLB_ERROR_OUT_OF_MEMORY, "DLB_ERROR_OUT_OF_MEMORY"},
      {DLB_ERROR_CUDA, "DLB_ERROR_CUDA"},
      {DLB_ERROR_UNSUPPORTED, "DLB_ERROR_UNSUPPORTED"},
      {DLB_ERROR_PANIC, "DLB_ERROR_PANIC"},
  };
  size_t i;
  for (i = 0; i < sizeof known / sizeof *known; ++i) {
    CHECK(strcmp(dlb_status_name(known[i].status), known[i].name) == 0);
  }
  CHECK(strcmp(dlb_status_name(9), "DLB_ERROR_UNKNOWN") == 0);
  CHECK(strcmp(dlb_status_name(-1), "DLB_ERROR_UNKNOWN") == 0);
}

static void a_null_error_is_success(void) {
  CHECK(dlb_error_status(NULL) == DLB_OK);
  CHECK(strcmp(dlb_error_message(NULL), "") == 0);
  CHECK(strcmp(dlb_error_fact(NULL), "") == 0);
  CHECK(dlb_error_remedy(NULL) == DLB_REMEDY_NONE);
  dlb_error_free(NULL);
}

static void facts_and_remedies_are_apart(void) {
  producer made;
  dlb_tensor *tensor;
  void *data;
  dlb_error *error = NULL;
  produce(&made);
  made.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  tensor = take(&made);
  CHECK(dlb_tensor_data_mut(tensor, &data, &error) == DLB_ERROR_READ_ONLY);
  CHECK(dlb_error_remedy(error) == DLB_REMEDY_WRITE_TO_CLONE);
  CHECK(strcmp(dlb_error_fact(error), "tensor: the memory is read-only") == 0);
  CHECK(strcmp(dlb_error_message(error),
               "tensor: the memory is read-only; write to a copy: dlb_tensor_clone()") == 0);
  dlb_error_free(error);
  CHECK(dlb_synchronize(CPU, 3, &error) == DLB_ERROR_INVALID_ARGUMENT);
  CHECK(dlb_error_remedy(error) == DLB_REMEDY_NONE);
  CHECK(strcmp(dlb_error_fact(error), dlb_error_message(error)) == 0);
  dlb_error_free(error);
  dlb_tensor_free(tensor);
}

static void element_types_have_names(void) {
  static const DLDataType vector = {kDLFloat, 32, 4}, narrow = {kDLFloat8_e4m3fn, 8, 1};
  char name[48];
  CHECK(dlb_dtype_name(vector, name, sizeof name) == 9 && strcmp(name, "float32x4") == 0);
  CHECK(dlb_dtype_name(narrow, name, sizeof name) == 13 && strcmp(name, "float8_e4m3fn") == 0);
  CHECK(dlb_dtype_name(F32, name, 6) == 7 && strcmp(name, "float") == 0);
  CHECK(dlb_dtype_name(F32, NULL, 0) == 7);
}

/* Calls a function with the argument `name` NULL, with and without `error`: the message names the
 * argument. */
#define REFUSES_NULL(name, call_with_error, call_without)                                          \
  do {                                                                                             \
    FAILS(DLB_ERROR_NULL_POINTER, name " is NULL", call_with_error);                               \
    CHECK((call_without) == DLB_ERROR_NULL_POINTER);                                               \
  } while (0)

static void imports_refuse_null(void) {
  producer made;
  dlb_tensor *out = UNTOUCHED(dlb_tensor);
  DLTensor desc;
  produce(&made);
  desc = made.managed.dl_tensor;
  REFUSES_NULL("source", dlb_tensor_from_dlpack(NULL, &out, &error),
               dlb_tensor_from_dlpack(NULL, &out, NULL));
  REFUSES_NULL("out", dlb_tensor_from_dlpack(&made.managed, NULL, &error),
               dlb_tensor_from_dlpack(&made.managed, NULL, NULL));
  REFUSES_NULL("source", dlb_tensor_from_dlpack_legacy(NULL, &out, &error),
               dlb_tensor_from_dlpack_legacy(NULL, &out, NULL));
  REFUSES_NULL("out", dlb_tensor_from_dlpack_legacy(&made.legacy, NULL, &error),
               dlb_tensor_from_dlpack_legacy(&made.legacy, NULL, NULL));
  REFUSES_NULL("desc", dlb_tensor_from_memory(NULL, 0, NULL, NULL, &out, &error),
               dlb_tensor_from_memory(NULL, 0, NULL, NULL, &out, NULL));
  REFUSES_NULL("out", dlb_tensor_from_memory(&desc, 0, NULL, NULL, NULL, &error),
               dlb_tensor_from_memory(&desc, 0, NULL, NULL, NULL, NULL));
  REFUSES_NULL("desc", dlb_tensor_empty(NULL, &out, &error), dlb_tensor_empty(NULL, &out, NULL));
  REFUSES_NULL("out", dlb_tensor_empty(&desc, NULL, &error), dlb_tensor_empty(&desc, NULL, NULL));
  CHECK(out == UNTOUCHED(dlb_tensor));
  CHECK(made.deleted == 0 && made.managed.deleter == delete_versioned);
  CHECK(made.legacy.deleter == delete_legacy);
}

static void exports_refuse_null(void) {
  producer made;
  DLManagedTensorVersioned *versioned = UNTOUCHED(DLManagedTensorVersioned);
  DLManagedTensor *legacy = UNTOUCHED(DLManagedTensor);
  dlb_tensor *tensor;
  produce(&made);
  tensor = take(&made);
  REFUSES_NULL("tensor", dlb_tensor_share_dlpack(NULL, &versioned, &error),
               dlb_tensor_share_dlpack(NULL, &versioned, NULL));
  REFUSES_NULL("out", dlb_tensor_share_dlpack(tensor, NULL, &error),
               dlb_tensor_share_dlpack(tensor, NULL, NULL));
  REFUSES_NULL("tensor", dlb_tensor_into_dlpack(NULL, &versioned, &error),
               dlb_tensor_into_dlpack(NULL, &versioned, NULL));
  REFUSES_NULL("out", dlb_tensor_into_dlpack(tensor, NULL, &error),
               dlb_tensor_into_dlpack(tensor, NULL, NULL));
  REFUSES_NULL("tensor", dlb_tensor_share_dlpack_legacy(NULL, &legacy, &error),
               dlb_tensor_share_dlpack_legacy(NULL, &legacy, NULL));
  REFUSES_NULL("out", dlb_tensor_share_dlpack_legacy(tensor, NULL, &error),
               dlb_tensor_share_dlpack_legacy(tensor, NULL, NULL));
  REFUSES_NULL("tensor", dlb_tensor_into_dlpack_legacy(NULL, &legacy, &error),
               dlb_tensor_into_dlpack_legacy(NULL, &legacy, NULL));
  REFUSES_NULL("out", dlb_tensor_into_dlpack_legacy(tensor, NULL, &error),
               dlb_tensor_into_dlpack_legacy(tensor, NULL, NULL));
  CHECK(versioned == UNTOUCHED(DLManagedTensorVersioned) && legacy == UNTOUCHED(DLManagedTensor));
  CHECK(made.deleted == 0);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void copies_refuse_null(void) {
  producer made;
  dlb_tensor *tensor, *out = UNTOUCHED(dlb_tensor);
  produce(&made);
  tensor = take(&made);
  REFUSES_NULL("tensor", dlb_tensor_clone(NULL, 0, 0, &out, &error),
               dlb_tensor_clone(NULL, 0, 0, &out, NULL));
  REFUSES_NULL("out", dlb_tensor_clone(tensor, 0, 0, NULL, &error),
               dlb_tensor_clone(tensor, 0, 0, NULL, NULL));
  REFUSES_NULL("source", dlb_tensor_copy_into(NULL, tensor, 0, &error),
               dlb_tensor_copy_into(NULL, tensor, 0, NULL));
  REFUSES_NULL("target", dlb_tensor_copy_into(tensor, NULL, 0, &error),
               dlb_tensor_copy_into(tensor, NULL, 0, NULL));
  REFUSES_NULL("tensor", dlb_tensor_to_device(NULL, CPU, 0, &out, &error),
               dlb_tensor_to_device(NULL, CPU, 0, &out, NULL));
  REFUSES_NULL("out", dlb_tensor_to_device(tensor, CPU, 0, NULL, &error),
               dlb_tensor_to_device(tensor, CPU, 0, NULL, NULL));
  REFUSES_NULL("tensor", dlb_tensor_into_device(NULL, CPU, 0, &out, &error),
               dlb_tensor_into_device(NULL, CPU, 0, &out, NULL));
  REFUSES_NULL("out", dlb_tensor_into_device(tensor, CPU, 0, NULL, &error),
               dlb_tensor_into_device(tensor, CPU, 0, NULL, NULL));
  REFUSES_NULL("tensor", dlb_tensor_record_stream(NULL, 1, &error),
               dlb_tensor_record_stream(NULL, 1, NULL));
  REFUSES_NULL("tensor", dlb_tensor_wait_stream(NULL, 1, &error),
               dlb_tensor_wait_stream(NULL, 1, NULL));
  CHECK(dlb_synchronize(CUDA, 1, NULL) == NO_CUDA);
  CHECK(out == UNTOUCHED(dlb_tensor) && made.deleted == 0);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

static void views_refuse_null(void) {
  producer made;
  dlb_tensor *tensor, *out = UNTOUCHED(dlb_tensor);
  void *data = UNTOUCHED(void);
  const void *readable = UNTOUCHED(void);
  DLTensor desc;
  produce(&made);
  tensor = take(&made);
  desc = *dlb_tensor_view(tensor);
  REFUSES_NULL("tensor", dlb_tensor_data(NULL, &readable, &error),
               dlb_tensor_data(NULL, &readable, NULL));
  REFUSES_NULL("out", dlb_tensor_data(tensor, NULL, &error), dlb_tensor_data(tensor, NULL, NULL));
  REFUSES_NULL("tensor", dlb_tensor_data_mut(NULL, &data, &error),
               dlb_tensor_data_mut(NULL, &data, NULL));
  REFUSES_NULL("out", dlb_tensor_data_mut(tensor, NULL, &error),
               dlb_tensor_data_mut(tensor, NULL, NULL));
  REFUSES_NULL("tensor", dlb_tensor_share_as(NULL, &desc, &out, &error),
               dlb_tensor_share_as(NULL, &desc, &out, NULL));
  REFUSES_NULL("desc", dlb_tensor_share_as(tensor, NULL, &out, &error),
               dlb_tensor_share_as(tensor, NULL, &out, NULL));
  REFUSES_NULL("out", dlb_tensor_share_as(tensor, &desc, NULL, &error),
               dlb_tensor_share_as(tensor, &desc, NULL, NULL));
  CHECK(dlb_tensor_share(NULL) == NULL && dlb_tensor_view(NULL) == NULL);
  CHECK(dlb_tensor_flags(NULL) == 0 && dlb_tensor_nbytes(NULL) == 0);
  CHECK(!dlb_tensor_is_contiguous(NULL));
  dlb_tensor_free(NULL);
  CHECK(data == UNTOUCHED(void) && readable == UNTOUCHED(void) && out == UNTOUCHED(dlb_tensor));
  CHECK(made.deleted == 0);
  dlb_tensor_free(tensor);
  CHECK(made.deleted == 1);
}

int main(void) {
  statuses_have_names();
  a_null_error_is_success();
  facts_and_remedies_are_apart();
  element_types_have_names();
  imports_refuse_null();
  exports_refuse_null();
  copies_refuse_null();
  views_refuse_null();
  return 0;
}
