// libtorch tensors as dlbridge tensors, and back. Header-only: compiles against your own libtorch
// (2.11 to 2.13, C++20) and links it and the C library.
//
//     dlbridge::Tensor tensor = dlbridge::from_torch(torch::rand({2, 3}));   // no data is copied
//     at::Tensor back = dlbridge::into_torch(std::move(tensor));             // nor here
//
// Both refuse what dlbridge's Rust side refuses: what is more than a plain strided buffer on the
// one hand, what libtorch cannot hold, or would abort on, on the other. Unlike there, a tensor's
// memory may be shared: who writes when is the caller's affair in C++.
#ifndef DLBRIDGE_TORCH_HPP_
#define DLBRIDGE_TORCH_HPP_

#include <cstring>

#include "dlbridge.hpp"
#include "dlbridge/torch_plain.h"

namespace dlbridge {

namespace detail {

/// Frees a handle that libtorch held. Its address is how memory of ours is recognised, within one
/// shared object.
inline void free_handle(void *handle) noexcept {
  dlb_tensor_free(static_cast<dlb_tensor *>(handle));
}

/// Why a tensor is no plain strided buffer, and what to do about it.
inline const char *refusal(int32_t plain) noexcept {
  switch (plain) {
  case DLB_TORCH_UNDEFINED: return "is undefined; there is nothing to convert";
  case DLB_TORCH_NESTED: return "is nested; convert its parts, or use to_padded_tensor()";
  case DLB_TORCH_NOT_STRIDED: return "is not strided (sparse or opaque); use to_dense() first";
  case DLB_TORCH_NO_STORAGE: return "has no storage; copy it into an ordinary tensor first";
  case DLB_TORCH_FUNCTIONAL:
    return "stands for a computation; copy it into an ordinary tensor first";
  case DLB_TORCH_REQUIRES_GRAD: return "requires grad; use detach() first";
  case DLB_TORCH_CONJUGATE: return "has its conjugate bit set; use resolve_conj() first";
  case DLB_TORCH_NEGATIVE: return "has its negative bit set; use resolve_neg() first";
  case DLB_TORCH_COPY_ON_WRITE: return "is a lazy clone; use clone() first";
  case DLB_TORCH_DTYPE:
    return "has a type of element that DLPack does not have (quantized or of odd width); use "
           "dequantize() "
           "or to() first";
  case DLB_TORCH_SHORT_STORAGE: return "reaches beyond its storage; use clone() first";
  default:
    return "is on a device that DLPack does not have (meta, for one); move it to the CPU first";
  }
}

/// Whether a handle shows just this.
inline bool shows(const dlb_tensor *handle, const DLTensor &desc) noexcept {
  const DLTensor &view = *dlb_tensor_view(handle);
  const auto same = [&](const std::int64_t *a, const std::int64_t *b) {
    return desc.ndim == 0 ||
           std::memcmp(a, b, static_cast<std::size_t>(desc.ndim) * sizeof *a) == 0;
  };
  const DLDataType a = view.dtype, b = desc.dtype;
  return view.data == desc.data && view.ndim == desc.ndim && a.code == b.code && a.bits == b.bits &&
         a.lanes == b.lanes && same(view.shape, desc.shape) && same(view.strides, desc.strides);
}

} // namespace detail

/// Another owner of a libtorch tensor's memory. No data is copied.
///
/// Memory that came from dlbridge is unwrapped, so that passing back and forth does not pile up.
/// Other memory is kept through the tensor's storage: as long as the result lives, nobody resizes
/// that, nor clones it lazily and then writes it, because libtorch would move it to other memory. A
/// CUDA tensor counts as written on the legacy default stream: of one that is written on another,
/// call wait_stream() of the result.
///
/// Throws Error with DLB_ERROR_UNSUPPORTED when the tensor is more than a plain strided buffer, and
/// with DLB_ERROR_INVALID_ARGUMENT when it has elements but no memory.
inline Tensor from_torch(const at::Tensor &tensor) {
  using namespace torch_plain;
  DLTensor desc{};
  int32_t device_type = 0, device_index = 0, plain = why_not_plain(tensor);
  if (plain == DLB_TORCH_PLAIN && !describe_device(tensor, &device_type, &device_index))
    plain = DLB_TORCH_DEVICE;
  if (plain == DLB_TORCH_PLAIN && !describe_dtype(tensor, &desc.dtype)) plain = DLB_TORCH_DTYPE;
  if (plain == DLB_TORCH_PLAIN && !fits_storage(tensor)) plain = DLB_TORCH_SHORT_STORAGE;
  if (plain != DLB_TORCH_PLAIN) {
    throw Error(DLB_ERROR_UNSUPPORTED,
                std::string("the libtorch tensor ") + detail::refusal(plain));
  }
  desc.data = const_cast<void *>(tensor.const_data_ptr());
  desc.device = {static_cast<DLDeviceType>(device_type), device_index};
  desc.ndim = static_cast<std::int32_t>(tensor.dim());
  // The library copies both.
  desc.shape = const_cast<std::int64_t *>(tensor.sizes().data());
  desc.strides = const_cast<std::int64_t *>(tensor.strides().data());
  const at::DataPtr &memory = tensor.storage().data_ptr();
  if (memory.get_deleter() != detail::free_handle) {
    return Tensor::from_memory(desc, c10::Storage(tensor.storage()));
  }
  const auto *handle = static_cast<const dlb_tensor *>(memory.get_context());
  desc.device = dlb_tensor_view(handle)->device; // libtorch knows pinned memory as the CPU's
  Tensor home(dlb_tensor_share(handle));
  return detail::shows(handle, desc) ? std::move(home) : home.share_as(desc);
}

/// Moves a tensor into libtorch. No data is copied.
///
/// Throws Error, and leaves `tensor` as it is: DLB_ERROR_READ_ONLY, because libtorch writes
/// whatever it has (clone() the tensor); DLB_ERROR_DEVICE for memory that libtorch cannot reach;
/// DLB_ERROR_CUDA where CUDA is missing or fails; DLB_ERROR_DTYPE for element types that libtorch
/// does not have; DLB_ERROR_LAYOUT for negative strides, more than 64 dimensions and sizes that
/// libtorch cannot multiply.
inline at::Tensor into_torch(Tensor &&tensor) {
  const DLTensor &view = tensor.view();
  const bool cuda = view.device.device_type == kDLCUDA;
  const void *host = nullptr;
  dlb_error *error = nullptr;
  if (!cuda && dlb_tensor_data(tensor.get(), &host, &error) != DLB_OK) {
    const std::unique_ptr<dlb_error, void (*)(dlb_error *)> owner(error, dlb_error_free);
    throw Error(DLB_ERROR_DEVICE,
                std::string("libtorch's CPU tensors: ") + dlb_error_message(error));
  }
  // A build of the library without CUDA has made no such memory.
  if (cuda && (dlb_capabilities() & DLB_CAP_CUDA) != 0)
    tensor.record_stream(DLB_STREAM_LEGACY_DEFAULT);
  if (tensor.is_read_only()) {
    throw Error(DLB_ERROR_READ_ONLY,
                "the memory is read-only, which libtorch ignores: clone() the tensor");
  }
  std::optional<at::ScalarType> type;
  if ((tensor.flags() & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) == 0) {
    try {
      type = at::toScalarType(view.dtype);
    } catch (const c10::Error &) {
      // libtorch has no such type.
    }
  }
  if (!type) throw Error(DLB_ERROR_DTYPE, "libtorch has no such element type");
  if (view.ndim > 64) {
    throw Error(DLB_ERROR_LAYOUT, std::to_string(view.ndim) +
                                      " dimensions are more than the 64 that libtorch can hold");
  }
  const Dims shape = tensor.shape(), strides = tensor.strides();
  std::vector<std::int64_t> steps = strides;
  const bool empty = tensor.size() == 0;
  for (std::size_t dimension = 0; dimension < steps.size(); ++dimension) {
    std::int64_t &step = steps[dimension];
    if (step >= 0 && !empty) continue;
    if (!empty && shape[dimension] > 1) {
      throw Error(DLB_ERROR_LAYOUT,
                  "stride " + std::to_string(step) + " of dimension " + std::to_string(dimension) +
                      " is negative, which libtorch does not support: clone() the tensor");
    }
    // A step that is never taken is made harmless.
    step = step > 0 ? 1 : 0;
  }
  const at::Device place =
      cuda ? at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(view.device.device_id))
           : at::Device(at::kCPU);
  try {
    const auto made =
        torch_plain::from_blob(view.data, at::IntArrayRef(shape.data(), shape.size()), steps, *type,
                               place, tensor.get(), detail::free_handle);
    (void)tensor.release();
    return std::move(*made);
  } catch (const c10::Error &error) {
    // No CUDA, or a shape without elements whose sizes libtorch cannot multiply.
    throw Error(cuda ? DLB_ERROR_DEVICE : DLB_ERROR_LAYOUT,
                std::string("libtorch: ") + error.what_without_backtrace());
  }
}

} // namespace dlbridge

#endif // DLBRIDGE_TORCH_HPP_
