// libtorch tensors as dlbridge tensors, and back. Header-only: compile it against your libtorch
// (2.11 to 2.15, C++20), and link libtorch and the C library.
//
// from_torch() refuses tensors that are not plain strided buffers. into_torch() refuses tensors
// that libtorch cannot represent or would abort on. dlbridge's Rust functions refuse the same
// tensors. Unlike in Rust, the memory of a tensor that is moved into libtorch may have other
// owners: the caller makes sure that no thread writes memory while another thread reads or writes
// it.
#ifndef DLBRIDGE_TORCH_HPP_
#define DLBRIDGE_TORCH_HPP_

#include <cstring>

#include "dlbridge.hpp"
#include "dlbridge/torch_plain.h"

#if defined(__GNUC__)
#define DLBRIDGE_HIDDEN __attribute__((visibility("hidden")))
#else
#define DLBRIDGE_HIDDEN
#endif

namespace dlbridge {

namespace detail {

/// The deleter of tensors that into_torch() made. from_torch() recognises such tensors by the
/// address of this function. The function is hidden, so that every shared object has its own:
/// another shared object may use another version of the C library, whose handles are different.
DLBRIDGE_HIDDEN inline void free_handle(void *handle) noexcept {
  dlb_tensor_free(static_cast<dlb_tensor *>(handle));
}

/// The error for a tensor that is not a plain strided buffer.
inline Error refusal(const torch_plain::Finding &found) {
  const std::string name = found.name == nullptr ? "" : found.name;
  const auto refused = [](const std::string &reason, dlb_remedy remedy) {
    return Error(DLB_ERROR_UNSUPPORTED, "the libtorch tensor " + reason, remedy);
  };
  switch (found.reason) {
  case DLB_TORCH_UNDEFINED: return refused("is undefined", DLB_REMEDY_NONE);
  case DLB_TORCH_KEY:
    return refused("has the dispatch key " + name + ", which no ordinary tensor has",
                   DLB_REMEDY_MAKE_ORDINARY);
  case DLB_TORCH_BACKEND:
    if (name == "Meta")
      return refused("is on the device meta, which has no memory", DLB_REMEDY_NONE);
    return refused("is of the backend " + name + ", and only the CPU and CUDA are supported",
                   DLB_REMEDY_MOVE_TORCH_TO_CPU);
  case DLB_TORCH_LAYOUT: return refused("has the layout " + name, DLB_REMEDY_TO_DENSE);
  case DLB_TORCH_NESTED: return refused("is nested", DLB_REMEDY_TO_PADDED_TENSOR);
  case DLB_TORCH_QUANTIZED: return refused("is quantized", DLB_REMEDY_DEQUANTIZE);
  case DLB_TORCH_ZERO:
    return refused("is a zero tensor, which has no memory", DLB_REMEDY_CLONE_TORCH);
  case DLB_TORCH_NEGATIVE: return refused("has its negative bit set", DLB_REMEDY_RESOLVE_NEG);
  case DLB_TORCH_CONJUGATE: return refused("has its conjugate bit set", DLB_REMEDY_RESOLVE_CONJ);
  case DLB_TORCH_REQUIRES_GRAD: return refused("requires grad", DLB_REMEDY_DETACH);
  case DLB_TORCH_NO_STORAGE: return refused("has no storage", DLB_REMEDY_MAKE_ORDINARY);
  case DLB_TORCH_COPY_ON_WRITE: return refused("is a lazy clone", DLB_REMEDY_CLONE_TORCH);
  case DLB_TORCH_NO_ACCESS:
    return refused("has a storage that refuses access to its memory", DLB_REMEDY_MAKE_ORDINARY);
  case DLB_TORCH_NO_MEMORY:
    return refused("has elements, but its storage has no memory", DLB_REMEDY_NONE);
  case DLB_TORCH_SIZES:
    return refused("has sizes, strides or an offset that are negative or too large",
                   DLB_REMEDY_NONE);
  case DLB_TORCH_SHORT_STORAGE: return refused("reaches beyond its storage", DLB_REMEDY_NONE);
  default: return refused("has an element type that DLPack does not have", DLB_REMEDY_CAST_TORCH);
  }
}

/// Returns whether a handle has the address, element type, shape and strides of `desc`.
inline bool has_view(const dlb_tensor *handle, const DLTensor &desc) noexcept {
  const DLTensor &view = *dlb_tensor_view(handle);
  const auto same = [&](const std::int64_t *a, const std::int64_t *b) {
    return desc.ndim == 0 ||
           std::memcmp(a, b, static_cast<std::size_t>(desc.ndim) * sizeof *a) == 0;
  };
  const DLDataType a = view.dtype, b = desc.dtype;
  return view.data == desc.data && view.ndim == desc.ndim && a.code == b.code && a.bits == b.bits &&
         a.lanes == b.lanes && same(view.shape, desc.shape) && same(view.strides, desc.strides);
}

/// Returns the description of a libtorch tensor. It points to the tensor's shape and strides.
/// Throws Error unless the tensor is a plain strided buffer.
inline DLTensor describe_torch(const at::Tensor &tensor) {
  torch_plain::Plain plain{};
  const torch_plain::Finding found = torch_plain::read_plain(tensor, &plain);
  if (found.reason != DLB_TORCH_PLAIN) throw refusal(found);
  DLTensor desc{};
  desc.data = plain.data;
  desc.device = plain.device;
  desc.dtype = plain.dtype;
  desc.ndim = static_cast<std::int32_t>(tensor.dim());
  desc.shape = const_cast<std::int64_t *>(tensor.sizes().data());
  desc.strides = const_cast<std::int64_t *>(tensor.strides().data());
  return desc;
}

/// Throws Error unless libtorch can reach the memory. Makes CUDA memory ready on the legacy default
/// stream.
inline void require_torch_memory(const Tensor &tensor) {
  if (tensor.device().device_type != kDLCUDA) {
    const void *address = nullptr;
    dlb_error *error = nullptr;
    if (dlb_tensor_data(tensor.get(), &address, &error) == DLB_OK) return;
    const std::unique_ptr<dlb_error, void (*)(dlb_error *)> owner(error, dlb_error_free);
    throw Error(DLB_ERROR_DEVICE, "libtorch's CPU tensors: " + fact_without("tensor: ", error),
                dlb_error_remedy(error));
  }
  // A library without CUDA has put no work on a stream, which libtorch would have to wait for.
  if ((dlb_capabilities() & DLB_CAP_CUDA) != 0) tensor.record_stream(DLB_STREAM_LEGACY_DEFAULT);
}

/// Returns libtorch's element type for a tensor's. Throws Error if libtorch has no such type.
inline at::ScalarType torch_dtype(const Tensor &tensor) {
  if ((tensor.flags() & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) == 0) {
    try {
      return at::toScalarType(tensor.dtype());
    } catch (const c10::Error &) {
      // at::toScalarType() throws for types that libtorch does not have.
    }
  }
  throw Error(DLB_ERROR_DTYPE,
              "elements of type " + dtype_name(tensor.dtype()) + " are not supported by libtorch");
}

/// Throws Error for negative strides, except for those of dimensions of size 1 and of tensors
/// without elements, which reach no element.
inline void require_torch_strides(const Tensor &tensor) {
  if (tensor.size() == 0) return;
  const Dims shape = tensor.shape();
  const std::vector<std::int64_t> strides = tensor.strides();
  for (std::size_t dimension = 0; dimension < strides.size(); ++dimension) {
    if (strides[dimension] >= 0 || shape[dimension] <= 1) continue;
    throw Error(DLB_ERROR_LAYOUT,
                "stride " + std::to_string(strides[dimension]) + " of dimension " +
                    std::to_string(dimension) + " is negative, which libtorch does not support",
                DLB_REMEDY_COPY_TO_TORCH);
  }
}

} // namespace detail

/// Returns a tensor that is another owner of a libtorch tensor's memory. No data is copied.
///
/// ```cpp
/// at::Tensor image = at::arange(6, at::kFloat).reshape({2, 3});
/// dlbridge::Tensor shared = dlbridge::from_torch(image.t());
/// assert(shared.data<float>() == image.data_ptr<float>() && shared.strides()[0] == 1);
/// try {
///   dlbridge::from_torch(image.to_sparse());
/// } catch (const dlbridge::Error &error) {
///   assert(error.status() == DLB_ERROR_UNSUPPORTED); // the message names to_dense()
/// }
/// ```
///
/// If the memory came from into_torch(), the result is a handle to dlbridge's own memory, so that
/// repeated conversions add no owners. Otherwise the result keeps the tensor's storage alive. As
/// long as the result exists, do not resize the storage, and do not write to the storage after a
/// lazy clone of the tensor: libtorch would move the storage to other memory. dlbridge assumes that
/// a CUDA tensor was written on the legacy default stream: if it was written on another stream,
/// call wait_stream() of the result.
///
/// A tensor is a plain strided buffer if libtorch's dispatch keys for it are those of ordinary
/// tensors of the CPU or of CUDA, and no others, its storage has memory, and its elements lie
/// within the storage. For another tensor this function throws Error with DLB_ERROR_UNSUPPORTED,
/// whose message names the dispatch key or the layout.
inline Tensor from_torch(const at::Tensor &tensor) {
  DLTensor desc = detail::describe_torch(tensor);
  const at::DataPtr &memory = tensor.storage().data_ptr();
  if (memory.get_deleter() != detail::free_handle) {
    return Tensor::from_memory(desc, c10::Storage(tensor.storage()));
  }
  const auto *handle = static_cast<const dlb_tensor *>(memory.get_context());
  desc.device = dlb_tensor_view(handle)->device; // for libtorch, pinned memory is on the CPU
  Tensor whole(dlb_tensor_share(handle));
  return detail::has_view(handle, desc) ? std::move(whole) : whole.share_as(desc);
}

/// Moves a tensor into libtorch. No data is copied.
///
/// ```cpp
/// dlbridge::Tensor tensor =
///     dlbridge::Tensor::from_vector(std::vector<float>{1, 2, 3, 4}, {2, 2});
/// const float *address = tensor.data<float>();
/// at::Tensor matrix = dlbridge::into_torch(std::move(tensor));
/// assert(matrix.data_ptr<float>() == address && matrix.size(0) == 2);
/// ```
///
/// Strides that reach no element (of dimensions of size 1, and of tensors without elements) become
/// those that libtorch gives its own tensors.
///
/// resize_() of the result to more elements than the memory has, set_() and set_data() move the
/// result to other memory. Other dlbridge tensors of the same memory (from `tensor.share()` before
/// this call) keep the first memory, and do not see what libtorch writes after the move.
///
/// Throws Error, and leaves `tensor` unchanged: with DLB_ERROR_READ_ONLY for read-only memory,
/// because libtorch may write all its memory (clone() the tensor); with DLB_ERROR_DEVICE for memory
/// that libtorch cannot reach; with DLB_ERROR_CUDA if CUDA is not available or fails; with
/// DLB_ERROR_DTYPE for element types that libtorch does not have; with DLB_ERROR_LAYOUT for
/// negative strides (those of a clone() are positive), more than 64 dimensions and sizes whose
/// product libtorch cannot represent. Throws std::bad_alloc too.
inline at::Tensor into_torch(Tensor &&tensor) {
  const DLTensor &view = tensor.view();
  detail::require_torch_memory(tensor);
  if (tensor.is_read_only()) {
    throw Error(DLB_ERROR_READ_ONLY, "the memory is read-only, and libtorch would write it",
                DLB_REMEDY_COPY_TO_TORCH);
  }
  const at::ScalarType dtype = detail::torch_dtype(tensor);
  if (view.ndim > 64) {
    throw Error(DLB_ERROR_LAYOUT,
                std::to_string(view.ndim) + " dimensions are more than the 64 of libtorch");
  }
  detail::require_torch_strides(tensor);
  const Dims shape = tensor.shape();
  const std::vector<std::int64_t> strides = tensor.strides();
  const bool cuda = view.device.device_type == kDLCUDA;
  const at::Device device =
      cuda ? at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(view.device.device_id))
           : at::Device(at::kCPU);
  try {
    const torch_plain::Blob blob{view.data, at::IntArrayRef(shape.data(), shape.size()), strides,
                                 dtype, device};
    const auto made = torch_plain::from_blob(blob, tensor.get(), detail::free_handle);
    (void)tensor.release();
    return std::move(*made);
  } catch (const c10::Error &error) {
    // CUDA is not available, or libtorch cannot multiply the sizes of a tensor without elements.
    throw Error(cuda ? DLB_ERROR_DEVICE : DLB_ERROR_LAYOUT,
                std::string("libtorch: ") + error.what_without_backtrace());
  }
}
void into_torch(const Tensor &) = delete; // write into_torch(std::move(tensor))

} // namespace dlbridge

#undef DLBRIDGE_HIDDEN

#endif // DLBRIDGE_TORCH_HPP_
