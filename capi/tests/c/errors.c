/* Prints the texts of errors for docs/errors.md: the section, a tab, and the message. */
#include "check.h"

#define SHOW(section, call)                                                                        \
  do {                                                                                             \
    dlb_error *error = NULL;                                                                       \
    CHECK((call) != DLB_OK && error != NULL);                                                      \
    printf("%s\t%s\n", section, dlb_error_message(error));                                         \
    dlb_error_free(error);                                                                         \
  } while (0)

static dlb_tensor *out;

static void show_descriptions(void) {
  producer made;
  DLTensor desc;
  produce(&made);
  made.managed.version.major = 2;
  SHOW("UnsupportedVersion", dlb_tensor_from_dlpack(&made.managed, &out, &error));
  produce(&made);
  desc = made.managed.dl_tensor;
  made.shape[1] = -1;
  SHOW("InvalidDescriptor", dlb_tensor_from_memory(&desc, 0, NULL, NULL, &out, &error));
  made.shape[1] = (int64_t)1 << 62;
  SHOW("Overflow", dlb_tensor_from_memory(&desc, 0, NULL, NULL, &out, &error));
  desc.dtype.bits = 0;
  SHOW("Overflow", dlb_tensor_empty(&desc, &out, &error));
  produce(&made);
  desc.dtype.code = 99, desc.dtype.bits = 8;
  SHOW("UnsupportedDType", dlb_tensor_empty(&desc, &out, &error));
  desc.dtype = F32;
  made.strides[0] = 0;
  SHOW("SelfOverlap", dlb_tensor_empty(&desc, &out, &error));
  desc.strides = NULL;
  made.shape[0] = (int64_t)1 << 55;
  SHOW("OutOfMemory", dlb_tensor_empty(&desc, &out, &error));
}

static void show_arguments(void) {
  producer made;
  dlb_tensor *tensor;
  DLTensor desc;
  produce(&made);
  tensor = take(&made);
  desc = made.managed.dl_tensor;
  SHOW("NULL pointer", dlb_tensor_clone(NULL, 0, 1, &out, &error));
  SHOW("Stream", dlb_synchronize(CPU, 3, &error));
  SHOW("Stream", dlb_synchronize(CUDA, 0, &error));
  SHOW("Flags", dlb_tensor_from_memory(&desc, 64, NULL, NULL, &out, &error));
  SHOW("Memory format", dlb_tensor_clone(tensor, 9, 1, &out, &error));
  SHOW("RankMismatch", dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_CHANNELS_LAST, 1, &out, &error));
  desc.device = CUDA;
  SHOW("New memory", dlb_tensor_empty(&desc, &out, &error));
  SHOW("Part of a tensor", dlb_tensor_share_as(tensor, &desc, &out, &error));
  dlb_tensor_free(tensor);
}

static void show_views(void) {
  static const int64_t flat[] = {24}, one[] = {1};
  producer made;
  dlb_tensor *tensor, *transpose;
  produce(&made);
  tensor = take(&made);
  SHOW("OutOfRange", dlb_tensor_transpose(tensor, 0, 3, &out, &error));
  SHOW("OutOfRange", dlb_tensor_select(tensor, 1, 3, &out, &error));
  SUCCEEDS(dlb_tensor_transpose(tensor, 0, 1, &transpose, &error));
  SHOW("InvalidView", dlb_tensor_reshape(transpose, flat, 1, &out, &error));
  SHOW("InvalidView", dlb_tensor_as_strided(tensor, flat, one, 1, 1, &out, &error));
  SHOW("InvalidView", dlb_tensor_slice(tensor, 0, 0, 1, 0, &out, &error));
  SHOW("RankMismatch", dlb_tensor_permute(tensor, one, 1, &out, &error));
  SHOW("InvalidDescriptor", dlb_tensor_flip(tensor, one, -1, &out, &error));
  dlb_tensor_free(transpose);
  dlb_tensor_free(tensor);
}

static void show_devices(void) {
  static const DLDevice mps = {kDLMetal, 0};
  producer made;
  dlb_tensor *tensor;
  const void *data;
  produce(&made);
  tensor = take(&made);
  SHOW("UnsupportedDevice", dlb_tensor_to_device(tensor, mps, 1, &out, &error));
  dlb_tensor_free(tensor);
  produce(&made);
  made.managed.dl_tensor.device = CUDA;
  tensor = take(&made);
  SHOW("NotOnCpu", dlb_tensor_data(tensor, &data, &error));
  dlb_tensor_free(tensor);
}

static void show_copies(void) {
  producer from, to;
  dlb_tensor *source, *target;
  void *data;
  DLManagedTensor *legacy;
  produce(&from), produce(&to);
  source = take(&from);
  to.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  target = take(&to);
  SHOW("ReadOnly", dlb_tensor_data_mut(target, &data, &error));
  SHOW("ReadOnly", dlb_tensor_share_dlpack_legacy(target, &legacy, &error));
  SHOW("CopyOverlaps", dlb_tensor_copy_into(source, source, 1, &error));
  dlb_tensor_free(target);
  produce(&to);
  to.managed.dl_tensor.dtype.bits = 64;
  to.shape[0] = 1;
  target = take(&to);
  SHOW("ShapeMismatch", dlb_tensor_copy_into(source, target, 1, &error));
  dlb_tensor_free(target);
  produce(&to);
  to.managed.dl_tensor.dtype.code = kDLInt;
  target = take(&to);
  SHOW("DTypeMismatch", dlb_tensor_copy_into(source, target, 1, &error));
  dlb_tensor_free(target);
  produce(&to);
  to.strides[0] = 0;
  target = take(&to);
  SHOW("SelfOverlap", dlb_tensor_copy_into(source, target, 1, &error));
  dlb_tensor_free(target);
  dlb_tensor_free(source);
}

int main(void) {
  show_descriptions();
  show_arguments();
  show_views();
  show_devices();
  show_copies();
  return 0;
}
