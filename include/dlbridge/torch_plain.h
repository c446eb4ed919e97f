/*
 * Checks whether a libtorch tensor is a plain strided buffer. dlbridge's Rust code and
 * dlbridge/torch.hpp both use this file, so that they refuse the same tensors. C code sees the
 * reasons only, C++ code the checks too.
 */
#ifndef DLBRIDGE_TORCH_PLAIN_H_
#define DLBRIDGE_TORCH_PLAIN_H_

/* Why a tensor is not a plain strided buffer. */
enum {
  DLB_TORCH_PLAIN = 0,
  DLB_TORCH_UNDEFINED,
  DLB_TORCH_NESTED,
  DLB_TORCH_NOT_STRIDED,
  DLB_TORCH_NO_STORAGE,
  DLB_TORCH_FUNCTIONAL,
  DLB_TORCH_REQUIRES_GRAD,
  DLB_TORCH_CONJUGATE,
  DLB_TORCH_NEGATIVE,
  DLB_TORCH_COPY_ON_WRITE,
  DLB_TORCH_DTYPE,
  DLB_TORCH_DEVICE,
  DLB_TORCH_SHORT_STORAGE,
};

#ifdef __cplusplus

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

/* ATen includes its own dlpack.h, which has the same include guard as ours: either may be first. */
#include "dlpack/dlpack.h"

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>
#include <ATen/FunctionalTensorWrapper.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/COW.h>
#include <torch/version.h>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 11 && TORCH_VERSION_MINOR <= 13,
              "dlbridge supports libtorch 2.11 to 2.13");

namespace dlbridge::torch_plain {

// Why a tensor is not a plain strided buffer: one of DLB_TORCH_*. Does not check the element type
// (but for quantized ones), the device and the size of the storage.
inline int32_t why_not_plain(const at::Tensor &t) {
  if (!t.defined()) return DLB_TORCH_UNDEFINED;
  if (t.is_nested()) return DLB_TORCH_NESTED;
  if (t.layout() != at::kStrided) return DLB_TORCH_NOT_STRIDED;
  if (at::functionalization::impl::isFunctionalTensor(t)) return DLB_TORCH_FUNCTIONAL;
  if (!t.has_storage()) return DLB_TORCH_NO_STORAGE;
  if (t.requires_grad()) return DLB_TORCH_REQUIRES_GRAD;
  if (t.is_conj()) return DLB_TORCH_CONJUGATE;
  if (t.is_neg()) return DLB_TORCH_NEGATIVE;
  if (t.is_quantized()) return DLB_TORCH_DTYPE;
  if (c10::impl::cow::is_cow_data_ptr(t.storage().data_ptr())) return DLB_TORCH_COPY_ON_WRITE;
  return DLB_TORCH_PLAIN;
}

// Writes DLPack's name for the element type. Returns false if DLPack has none, or one of another
// width.
inline bool describe_dtype(const at::Tensor &t, DLDataType *out) {
  switch (t.scalar_type()) {
  case at::kByte: *out = {kDLUInt, 8, 1}; return true;
  case at::kChar: *out = {kDLInt, 8, 1}; return true;
  case at::kShort: *out = {kDLInt, 16, 1}; return true;
  case at::kInt: *out = {kDLInt, 32, 1}; return true;
  case at::kLong: *out = {kDLInt, 64, 1}; return true;
  case at::kHalf: *out = {kDLFloat, 16, 1}; return true;
  case at::kFloat: *out = {kDLFloat, 32, 1}; return true;
  case at::kDouble: *out = {kDLFloat, 64, 1}; return true;
  case at::kBool: *out = {kDLBool, 8, 1}; return true;
  case at::kBFloat16: *out = {kDLBfloat, 16, 1}; return true;
  default: break;
  }
  try {
    *out = at::getDLDataType(t);
    // libtorch calls its 1- to 7-bit integers 8-bit ones; the way back tells them apart.
    return at::toScalarType(*out) == t.scalar_type();
  } catch (const c10::Error &) {
    return false;
  }
}

// Writes DLPack's name for the device. Returns false if DLPack has none.
inline bool describe_device(const at::Tensor &t, int32_t *device_type, int32_t *device_index) {
  switch (t.device().type()) {
  case at::kCPU: *device_type = kDLCPU; break;
  case at::kCUDA: *device_type = kDLCUDA; break;
  case at::kMPS: *device_type = kDLMetal; break;
  default: return false;
  }
  *device_index = t.device().has_index() ? t.device().index() : 0;
  return true;
}

// Whether every element lies within the storage. Sizes and strides are libtorch's own, not
// negative.
inline bool fits_storage(const at::Tensor &t) {
  if (t.numel() == 0) return true;
  const size_t whole = t.storage().nbytes();
  if (t.storage_offset() == 0 && t.is_contiguous()) return t.nbytes() <= whole;
  // Divides the number of elements that the storage holds, because products of strides may
  // overflow.
  const uint64_t capacity = whole / t.itemsize();
  if (t.storage_offset() < 0 || capacity <= static_cast<uint64_t>(t.storage_offset())) return false;
  uint64_t left = capacity - 1 - static_cast<uint64_t>(t.storage_offset());
  for (int64_t dimension = 0; dimension < t.dim(); ++dimension) {
    const uint64_t steps = static_cast<uint64_t>(t.size(dimension)) - 1;
    const uint64_t stride = static_cast<uint64_t>(t.stride(dimension));
    if (stride != 0 && steps > left / stride) return false;
    left -= steps * stride;
  }
  return true;
}

// A description of a tensor over memory of the host or of a CUDA device that libtorch can use.
// Strides are not negative, and the extent in bytes fits an int64_t: libtorch would abort
// otherwise.
struct Blob {
  void *data;
  at::IntArrayRef shape;
  at::IntArrayRef strides;
  at::ScalarType dtype;
  at::Device device;
};

// The number of elements from the first one to the last one in memory; 0 if there are none.
inline int64_t elements_spanned(at::IntArrayRef shape, at::IntArrayRef strides) {
  for (const int64_t size : shape) {
    if (size == 0) return 0;
  }
  int64_t elements = 1;
  for (size_t dimension = 0; dimension < shape.size(); ++dimension) {
    elements += (shape[dimension] - 1) * strides[dimension];
  }
  return elements;
}

// The deleter of a storage that does not own its context yet.
inline void release_nothing(void *) noexcept {}

// Makes a tensor that calls release(context) when libtorch no longer needs the memory. Does what
// `at::for_blob().context()` does, without its detours through dispatch and tracing. Resizing the
// tensor moves it to memory of libtorch. On failure the caller still owns `context`.
inline std::unique_ptr<at::Tensor> from_blob(const Blob &blob, void *context,
                                             void (*release)(void *)) {
  const bool cpu = blob.device.is_cpu();
  if (!cpu) at::globalContext().lazyInitDevice(blob.device.type());
  at::Allocator *allocator =
      cpu ? c10::GetDefaultCPUAllocator() : c10::GetAllocator(blob.device.type());
  const auto key = cpu ? c10::DispatchKey::CPU : c10::DispatchKey::CUDA;
  const caffe2::TypeMeta type = c10::scalarTypeToTypeMeta(blob.dtype);
  const int64_t bytes =
      elements_spanned(blob.shape, blob.strides) * static_cast<int64_t>(type.itemsize());
  // A storage that refused to grow would leave a tensor that reaches beyond it. This one may grow,
  // into memory of libtorch.
  auto storage = c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), bytes,
      at::DataPtr(blob.data, context, release_nothing, blob.device), allocator,
      /*resizable=*/true);
  c10::StorageImpl *storage_impl = storage.get();
  auto tensor = std::make_unique<at::Tensor>(at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(std::move(storage)), c10::DispatchKeySet(key), type));
  tensor->unsafeGetTensorImpl()->set_sizes_and_strides(blob.shape, blob.strides);
  // Nothing can fail any more: the storage takes the context.
  const bool exchanged =
      storage_impl->mutable_data_ptr().compare_exchange_deleter(release_nothing, release);
  TORCH_CHECK(exchanged, "the deleter was replaced");
  return tensor;
}

} // namespace dlbridge::torch_plain

#endif /* __cplusplus */
#endif /* DLBRIDGE_TORCH_PLAIN_H_ */
