/* A program that included an older dlpack.h of upstream's first: DLPACK_HEADER names it. */
#include DLPACK_HEADER

#include "dlbridge.h"

static int deleted;

static void delete_struct(struct DLManagedTensorVersioned *self) {
  (void)self;
  ++deleted;
}

int main(void) {
  static float data[] = {1, 2};
  int64_t shape[] = {2}, strides[] = {1};
  struct DLManagedTensorVersioned made = {{1, 0}, NULL, delete_struct, 0, {0}}, *out;
  dlb_tensor *tensor;
  made.dl_tensor.data = data;
  made.dl_tensor.device.device_type = kDLCPU;
  made.dl_tensor.ndim = 1;
  made.dl_tensor.dtype.code = kDLFloat;
  made.dl_tensor.dtype.bits = 32;
  made.dl_tensor.dtype.lanes = 1;
  made.dl_tensor.shape = shape;
  made.dl_tensor.strides = strides;
  if (DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED != 4) return 1;
  if (dlb_tensor_from_dlpack(&made, &tensor, NULL) != DLB_OK) return 2;
  if (dlb_tensor_view(tensor)->data != data) return 3;
  if (dlb_tensor_into_dlpack(tensor, &out, NULL) != DLB_OK) return 4;
  if (out->dl_tensor.data != data || out->flags != 0 || deleted != 0) return 5;
  out->deleter(out);
  return deleted == 1 ? 0 : 6;
}
