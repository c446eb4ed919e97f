/*
 * Checks whether a libtorch tensor is a plain strided buffer. dlbridge's Rust code and
 * dlbridge/torch.hpp both use this file, so that they refuse the same tensors. C code sees only
 * the reasons; C++ code sees the checks too.
 */
#ifndef DLBRIDGE_TORCH_PLAIN_H_
#define DLBRIDGE_TORCH_PLAIN_H_

/* Why a tensor is not a plain strided buffer. */
enum {
  DLB_TORCH_PLAIN = 0,
  DLB_TORCH_UNDEFINED,
  DLB_TORCH_KEY,     /* it has a dispatch key that no ordinary tensor has: the name is given */
  DLB_TORCH_BACKEND, /* it is neither on the CPU nor on a CUDA device: the name is given */
  DLB_TORCH_LAYOUT,  /* it is sparse or opaque: the name of its layout is given */
  DLB_TORCH_NESTED,
  DLB_TORCH_QUANTIZED,
  DLB_TORCH_ZERO, /* a zero tensor, which has no memory */
  DLB_TORCH_NEGATIVE,
  DLB_TORCH_CONJUGATE,
  DLB_TORCH_REQUIRES_GRAD,
  DLB_TORCH_NO_STORAGE,
  DLB_TORCH_COPY_ON_WRITE,
  DLB_TORCH_NO_ACCESS, /* its storage refuses access to its memory */
  DLB_TORCH_NO_MEMORY, /* it has elements, but its storage has no memory */
  DLB_TORCH_SIZES,     /* sizes, strides or offset are negative or too large */
  DLB_TORCH_SHORT_STORAGE,
  DLB_TORCH_DTYPE,
};

#ifdef __cplusplus

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

/* ATen includes its own dlpack.h, which has the same include guard as ours: either may be first. */
#include "dlpack/dlpack.h"

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/COW.h>
#include <c10/util/safe_numerics.h>
#include <torch/version.h>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 11 && TORCH_VERSION_MINOR <= 15,
              "dlbridge supports libtorch 2.11 to 2.15");

namespace dlbridge::torch_plain {

// The result of a check: one of DLB_TORCH_*. With DLB_TORCH_KEY, DLB_TORCH_BACKEND and
// DLB_TORCH_LAYOUT it has a name, which is a static string.
struct Finding {
  int32_t reason = DLB_TORCH_PLAIN;
  const char *name = nullptr;
};

// The memory and the element type of a plain tensor. `data` is the address of the first element, or
// NULL if there are no elements.
struct Plain {
  void *data;
  size_t elements;
  DLDataType dtype;
  DLDevice device;
};

// Returns the dispatch keys of ordinary tensors. libtorch gives every tensor the autograd and
// autocast keys of its backend; inference tensors have the autocast keys only.
inline c10::DispatchKeySet ordinary_keys() {
  using c10::DispatchKey;
  return c10::DispatchKeySet({DispatchKey::CPU, DispatchKey::CUDA, DispatchKey::AutogradCPU,
                              DispatchKey::AutogradCUDA, DispatchKey::ADInplaceOrView,
                              DispatchKey::AutocastCPU, DispatchKey::AutocastCUDA});
}

// Returns PyTorch's name for the layout of a sparse or opaque tensor.
inline const char *layout_name(const at::Tensor &t) {
  try {
    switch (t.layout()) {
    case at::kSparse: return "sparse_coo";
    case at::kSparseCsr: return "sparse_csr";
    case at::kSparseCsc: return "sparse_csc";
    case at::kSparseBsr: return "sparse_bsr";
    case at::kSparseBsc: return "sparse_bsc";
    case at::kMkldnn: return "mkldnn";
    default: break;
    }
  } catch (const c10::Error &) {
    // Some tensors have no layout: libtorch throws.
  }
  return "opaque";
}

// Returns a finding that names a key of `keys` that no ordinary tensor has. Calls no function that
// a tensor subclass can replace, because such a function may be Python code.
inline Finding name_keys(const at::Tensor &t, c10::DispatchKeySet keys) {
  using c10::DispatchKey, c10::DispatchKeySet;
  const DispatchKeySet extra =
      DispatchKeySet::from_raw_repr(keys.raw_repr() & ~ordinary_keys().raw_repr());
  // The key of a backend is named rather than the autograd and autocast keys that come with it.
  const DispatchKeySet left =
      extra - c10::autocast_dispatch_keyset - DispatchKeySet(DispatchKey::AutogradOther);
  // libtorch's clone() resolves these three keys, so other keys are named first.
  const DispatchKeySet lazy(
      {DispatchKey::Conjugate, DispatchKey::Negative, DispatchKey::ZeroTensor});
  const DispatchKey key = (left - lazy).highestFunctionalityKey();
  switch (key) {
  case DispatchKey::Undefined: break;
  case DispatchKey::PythonTLSSnapshot: // comes with the key `Python`, which is named instead
    return {DLB_TORCH_KEY, c10::toString(DispatchKey::Python)};
  case DispatchKey::AutogradNestedTensor:
  case DispatchKey::NestedTensor: return {DLB_TORCH_NESTED};
  case DispatchKey::Quantized: return {DLB_TORCH_QUANTIZED};
  case DispatchKey::Sparse:
  case DispatchKey::SparseCsr:
  case DispatchKey::MkldnnCPU: return {DLB_TORCH_LAYOUT, layout_name(t)};
  default: return {DLB_TORCH_KEY, c10::toString(key)};
  }
  if (left.has(DispatchKey::ZeroTensor)) return {DLB_TORCH_ZERO};
  const c10::BackendComponent backend = keys.highestBackendKey();
  if (backend != c10::BackendComponent::CPUBit && backend != c10::BackendComponent::CUDABit) {
    return {DLB_TORCH_BACKEND,
            c10::toString(c10::toRuntimePerBackendFunctionalityKey(DispatchKey::Dense, backend))};
  }
  if (left.has(DispatchKey::Negative)) return {DLB_TORCH_NEGATIVE};
  if (left.has(DispatchKey::Conjugate)) return {DLB_TORCH_CONJUGATE};
  if (extra.empty()) return {DLB_TORCH_BACKEND, "CPU and CUDA at once"};
  return {DLB_TORCH_KEY, c10::toString(extra.highestFunctionalityKey())};
}

// Returns why a tensor is not an ordinary one, or DLB_TORCH_PLAIN. An ordinary tensor may require
// gradients. Does not check the memory.
inline Finding why_not_ordinary(const at::Tensor &t) {
  if (!t.defined()) return {DLB_TORCH_UNDEFINED};
  const c10::DispatchKeySet keys = t.key_set();
  const bool cpu = keys.has_all(c10::DispatchKeySet(c10::DispatchKey::CPU));
  const bool cuda = keys.has_all(c10::DispatchKeySet(c10::DispatchKey::CUDA));
  // This is an allow-list, so a key that a later libtorch adds is refused.
  if (cpu == cuda || (keys.raw_repr() & ~ordinary_keys().raw_repr()) != 0) {
    return name_keys(t, keys);
  }
  if (!(cpu ? t.is_cpu() : t.is_cuda())) return {DLB_TORCH_BACKEND, "of another device"};
  return {};
}

// Writes the DLPack element type. Returns false if DLPack has no such type, or only one of another
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
    // getDLDataType() gives 8 bits for libtorch's integers of 1 to 7 bits; the conversion back
    // detects them.
    return at::toScalarType(*out) == t.scalar_type();
  } catch (const c10::Error &) {
    return false;
  }
}

// The number of elements, and the number of bytes from the start of the storage to their end.
struct Reach {
  uint64_t elements = 1;
  uint64_t bytes = 0;
};

// Writes the reach of a tensor. Returns false if a size, a stride or the offset is negative, or if
// a product overflows. Does not use libtorch's own counts, whose products wrap around, nor its
// flags.
inline bool measure(const at::Tensor &t, Reach *out) {
  const at::IntArrayRef sizes = t.sizes(), strides = t.strides();
  bool negative = t.storage_offset() < 0, empty = false, overflow = false;
  uint64_t count = 1, last = static_cast<uint64_t>(t.storage_offset());
  for (size_t dimension = 0; dimension < sizes.size(); ++dimension) {
    const int64_t size = sizes[dimension], stride = strides[dimension];
    negative = negative || size < 0 || stride < 0;
    empty = empty || size == 0;
    if (negative || empty || overflow) continue;
    uint64_t step = 0;
    overflow =
        c10::mul_overflows(count, static_cast<uint64_t>(size), &count) ||
        c10::mul_overflows(static_cast<uint64_t>(size) - 1, static_cast<uint64_t>(stride), &step) ||
        c10::add_overflows(last, step, &last);
  }
  if (negative) return false;
  if (empty) {
    *out = {0, 0};
    return true;
  }
  out->elements = count;
  return !overflow && count <= INT64_MAX && !c10::add_overflows(last, uint64_t{1}, &last) &&
         !c10::mul_overflows(last, static_cast<uint64_t>(t.itemsize()), &out->bytes);
}

// Does what `measure` does, and returns false for symbolic sizes, for which libtorch throws.
inline bool is_countable(const at::Tensor &t, Reach *out) {
  try {
    return measure(t, out);
  } catch (const c10::Error &) {
    return false;
  }
}

// Returns whether a storage copies its memory when it is first written.
template <class Storage> bool is_lazy(const Storage &storage) {
  if constexpr (requires { storage.has_materializer(); }) {
    if (storage.has_materializer()) return true;
  }
  return c10::impl::cow::is_cow_data_ptr(storage.data_ptr());
}

// Returns why the elements of an ordinary tensor cannot be reached, or DLB_TORCH_PLAIN. Writes the
// start of the storage to `start`.
inline Finding find_memory(const at::Tensor &t, const Reach &reach, void **start) {
  if (!t.has_storage()) return {DLB_TORCH_NO_STORAGE};
  try {
    c10::StorageImpl &storage = *t.storage().unsafeGetStorageImpl();
    if (is_lazy(storage)) return {DLB_TORCH_COPY_ON_WRITE};
    *start = storage.mutable_data_ptr().get();
    // The check uses the start: with an offset the address would not be NULL.
    if (reach.elements != 0 && *start == nullptr) return {DLB_TORCH_NO_MEMORY};
    if (reach.bytes > storage.nbytes()) return {DLB_TORCH_SHORT_STORAGE};
  } catch (const c10::Error &) {
    return {DLB_TORCH_NO_ACCESS}; // libtorch throws for some wrapper tensors
  }
  return {};
}

// Writes memory and element type of a tensor if it is a plain strided buffer; otherwise returns the
// reason. Does not change the tensor.
inline Finding read_plain(const at::Tensor &t, Plain *out) {
  if (const Finding found = why_not_ordinary(t); found.reason != DLB_TORCH_PLAIN) return found;
  if (t.requires_grad()) return {DLB_TORCH_REQUIRES_GRAD};
  Reach reach;
  if (!is_countable(t, &reach)) return {DLB_TORCH_SIZES};
  void *start = nullptr;
  if (const Finding found = find_memory(t, reach, &start); found.reason != DLB_TORCH_PLAIN) {
    return found;
  }
  if (!describe_dtype(t, &out->dtype)) return {DLB_TORCH_DTYPE};
  out->data = nullptr;
  if (reach.elements != 0) {
    const auto offset = static_cast<size_t>(t.storage_offset()) * t.itemsize(); // in the storage
    out->data = static_cast<char *>(start) + offset;
  }
  out->elements = static_cast<size_t>(reach.elements);
  out->device = {t.is_cpu() ? kDLCPU : kDLCUDA, t.is_cpu() ? 0 : t.device().index()};
  return {};
}

// Returns whether libtorch can copy the elements of a tensor without reading other memory. (clone()
// does not compare the sizes with the storage.)
inline bool is_copyable(const at::Tensor &t) {
  switch (why_not_ordinary(t).reason) {
  case DLB_TORCH_ZERO: return true; // has no memory that is read
  case DLB_TORCH_PLAIN:
  case DLB_TORCH_NEGATIVE:
  case DLB_TORCH_CONJUGATE: break;
  default: return false;
  }
  Reach reach;
  if (!is_countable(t, &reach)) return false;
  void *start = nullptr;
  switch (find_memory(t, reach, &start).reason) {
  case DLB_TORCH_PLAIN: return true;
  case DLB_TORCH_COPY_ON_WRITE: {
    const c10::StorageImpl &storage = *t.storage().unsafeGetStorageImpl();
    return reach.elements == 0 || (storage.data() != nullptr && reach.bytes <= storage.nbytes());
  }
  default: return false;
  }
}

// Returns the number of elements from the first to the last one in memory; 0 if there are none.
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

// Returns `a * b`, or 1 if the product is too large: for strides that reach no element.
inline int64_t stride_product(int64_t a, int64_t b) {
  uint64_t product = 0;
  const bool too_large =
      c10::mul_overflows(static_cast<uint64_t>(a), static_cast<uint64_t>(b), &product) ||
      product > INT64_MAX;
  return too_large ? 1 : static_cast<int64_t>(product);
}

// The maximum number of dimensions in libtorch, which represents sets of dimensions as 64 bits.
constexpr size_t max_dims = 64;

// Strides that libtorch's own tensors could have. A stride in a dimension of size 1, or of a tensor
// without elements, reaches no element, but code that compares strides reads it. A tensor without
// elements gets the strides of a contiguous tensor. A dimension of size 1 keeps a stride from 1 to
// the number of elements that the tensor spans, because only this stride tells whether an image
// with one channel is "channels last". Any other stride becomes the size times the stride of the
// next dimension, which is what contiguous tensors and `unsqueeze` have.
class OrdinaryStrides {
public:
  OrdinaryStrides(at::IntArrayRef shape, at::IntArrayRef given) : count_(shape.size()) {
    TORCH_CHECK(count_ <= max_dims && given.size() == count_, count_, " dimensions are too many");
    const int64_t span = elements_spanned(shape, given);
    int64_t next = 1;
    for (size_t dimension = count_; dimension-- > 0;) {
      const int64_t size = shape[dimension], stride = given[dimension];
      const bool kept = span != 0 && (size > 1 || (stride >= 1 && stride <= span));
      strides_[dimension] = kept ? stride : next;
      // A broadcast dimension has stride 0, and sizes of 0 count as 1.
      next = stride_product(std::max<int64_t>(strides_[dimension], 1), std::max<int64_t>(size, 1));
    }
  }
  operator at::IntArrayRef() const { return {strides_, count_}; }

private:
  int64_t strides_[max_dims];
  size_t count_;
};

// A description of a tensor over memory of the host or of a CUDA device that libtorch can use.
// Strides that reach elements must not be negative, and the extent in bytes must fit an int64_t:
// otherwise libtorch aborts.
struct Blob {
  void *data;
  at::IntArrayRef shape;
  at::IntArrayRef strides;
  at::ScalarType dtype;
  at::Device device;
};

// The deleter of a storage before it owns its context.
inline void release_nothing(void *) noexcept {}

// Makes a tensor that calls release(context) when libtorch releases the memory. Does what
// `at::for_blob().context()` does, without dispatch and tracing. Resizing the tensor moves it to
// memory of libtorch. On failure the caller still owns `context`.
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
  // Resizing a tensor changes its sizes before its storage. If the storage refused to grow, the
  // tensor would reach beyond it. So this storage may grow, into memory of libtorch.
  auto storage = c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), bytes,
      at::DataPtr(blob.data, context, release_nothing, blob.device), allocator,
      /*resizable=*/true);
  c10::StorageImpl *storage_impl = storage.get();
  auto tensor = std::make_unique<at::Tensor>(at::detail::make_tensor<c10::TensorImpl>(
      c10::Storage(std::move(storage)), c10::DispatchKeySet(key), type));
  tensor->unsafeGetTensorImpl()->set_sizes_and_strides(blob.shape,
                                                       OrdinaryStrides(blob.shape, blob.strides));
  // All steps that can fail have succeeded: from here on the storage owns the context.
  const bool exchanged =
      storage_impl->mutable_data_ptr().compare_exchange_deleter(release_nothing, release);
  TORCH_CHECK(exchanged, "the deleter was replaced");
  return tensor;
}

} // namespace dlbridge::torch_plain

#endif /* __cplusplus */
#endif /* DLBRIDGE_TORCH_PLAIN_H_ */
