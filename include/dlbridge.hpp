// dlbridge for C++17 and newer: dlbridge.h with owners, exceptions and containers. Header-only;
// link the C library.
//
//     dlbridge::Tensor tensor = dlbridge::Tensor::from_vector(std::vector<float>{1, 2, 3, 4}, {2,
//     2}); dlbridge::Tensor copy = tensor.clone();                          // a deep copy
//     dlbridge::Exported exported = std::move(tensor).into_dlpack();   // moved, no data is copied
//     dlbridge::Tensor back = dlbridge::Tensor::from_dlpack(std::move(exported));
//     std::vector<float> values = back.to_vector<float>();             // "to_" copies
//
// Failures throw dlbridge::Error. What a function takes it takes on success only: after an
// exception the argument is what it was. No C++ object knows who writes the memory when: that is
// the caller's affair.
//
// A plugin that brings a library of its own, linked statically, is compiled with
// -fvisibility=hidden: otherwise functions of this header may be shared with another plugin's, and
// handles get to the wrong library.
#ifndef DLBRIDGE_HPP_
#define DLBRIDGE_HPP_

#include <complex>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_mdspan)
#include <algorithm>
#include <array>
#include <mdspan>
#endif

#include "dlbridge.h"

namespace dlbridge {

/// Why an operation failed.
class Error : public std::runtime_error {
public:
  Error(dlb_status status, const std::string &message)
      : std::runtime_error(message), status_(status) {}

  /// One of DLB_ERROR_*.
  dlb_status status() const noexcept { return status_; }

private:
  dlb_status status_;
};

namespace detail {

/// Throws unless the library has the ABI that this header was written for.
inline bool abi_fits() {
  const std::uint32_t major = dlb_abi_version() >> 16, minor = dlb_abi_version() & 0xffff;
  // While the major version is 0, minor versions break too.
  const bool fits =
      major == DLB_ABI_MAJOR && (major == 0 ? minor == DLB_ABI_MINOR : minor >= DLB_ABI_MINOR);
  if (!fits) {
    throw Error(DLB_ERROR_UNSUPPORTED, "dlbridge.hpp is of ABI " + std::to_string(DLB_ABI_MAJOR) +
                                           "." + std::to_string(DLB_ABI_MINOR) +
                                           ", the library of ABI " + std::to_string(major) + "." +
                                           std::to_string(minor));
  }
  return true;
}

inline void require_abi() {
  static const bool fits = abi_fits();
  (void)fits;
}

/// Calls a function of the library that can fail, and throws what it says.
template <class Call> void call(Call &&function) {
  require_abi();
  dlb_error *error = nullptr;
  const dlb_status status = function(&error);
  if (status == DLB_OK) return;
  const std::unique_ptr<dlb_error, void (*)(dlb_error *)> owner(error, dlb_error_free);
  throw Error(status, dlb_error_message(error));
}

} // namespace detail

/// Releases a DLPack struct.
struct Release {
  void operator()(DLManagedTensorVersioned *managed) const noexcept {
    if (managed->deleter != nullptr) managed->deleter(managed);
  }
  void operator()(DLManagedTensor *managed) const noexcept {
    if (managed->deleter != nullptr) managed->deleter(managed);
  }
};

/// A DLPack struct and the duty to call its deleter. Of a bare struct that you own:
/// `Exported(pointer)`.
using Exported = std::unique_ptr<DLManagedTensorVersioned, Release>;
/// The same for the older struct.
using ExportedLegacy = std::unique_ptr<DLManagedTensor, Release>;

/// How a deep copy is laid out; the names are PyTorch's.
enum class MemoryFormat : std::int32_t {
  preserve = DLB_MEMORY_FORMAT_PRESERVE,
  contiguous = DLB_MEMORY_FORMAT_CONTIGUOUS,
  channels_last = DLB_MEMORY_FORMAT_CHANNELS_LAST,
  channels_last_3d = DLB_MEMORY_FORMAT_CHANNELS_LAST_3D,
};

/// The host.
inline constexpr DLDevice cpu{kDLCPU, 0};

/// The element type of DLPack that a C++ type is.
template <class T> constexpr DLDataType dtype_of() noexcept {
  constexpr std::uint8_t bits = 8 * sizeof(T);
  if constexpr (std::is_same_v<T, bool>) {
    static_assert(sizeof(bool) == 1, "DLPack's bool is a byte");
    return {kDLBool, bits, 1};
  } else if constexpr (std::is_same_v<T, std::complex<float>> ||
                       std::is_same_v<T, std::complex<double>>) {
    return {kDLComplex, bits, 1};
  } else if constexpr (std::is_floating_point_v<T>) {
    // IEEE's half, single and double precision, and std::bfloat16_t.
    constexpr int digits = std::numeric_limits<T>::digits;
    static_assert(digits == 11 || digits == 24 || digits == 53 || digits == 8,
                  "DLPack has no such type");
    return {digits == 8 ? kDLBfloat : kDLFloat, bits, 1};
  } else {
    static_assert(std::is_integral_v<T>, "this type is no element type of DLPack");
    return {static_cast<std::uint8_t>(std::is_signed_v<T> ? kDLInt : kDLUInt), bits, 1};
  }
}

/// Sizes or strides, seen where they are.
class Dims {
public:
  Dims(const std::int64_t *first, std::size_t count) noexcept : first_(first), count_(count) {}
  const std::int64_t *begin() const noexcept { return first_; }
  const std::int64_t *end() const noexcept { return first_ + count_; }
  const std::int64_t *data() const noexcept { return first_; }
  std::size_t size() const noexcept { return count_; }
  std::int64_t operator[](std::size_t dimension) const noexcept { return first_[dimension]; }
  operator std::vector<std::int64_t>() const { return {begin(), end()}; }

private:
  const std::int64_t *first_;
  std::size_t count_;
};

/// A handle to one strided buffer on one device. It can be moved, not copied: share() makes another
/// handle to the same memory, clone() copies the data. A handle that was moved from is empty; it
/// can be assigned to and destroyed, and other functions throw or give nothing.
class Tensor {
public:
  /// An empty handle.
  Tensor() noexcept = default;

  /// Takes a handle of the C library.
  explicit Tensor(dlb_tensor *handle) noexcept : handle_(handle) {}

  /// Takes over a DLPack struct. No data is copied; its deleter runs once, when the last handle
  /// goes.
  static Tensor from_dlpack(Exported &&source) {
    dlb_tensor *out = nullptr;
    detail::call(
        [&](dlb_error **error) { return dlb_tensor_from_dlpack(source.get(), &out, error); });
    (void)source.release();
    return Tensor(out);
  }

  /// The same for the older struct, whose memory is taken for read-only.
  static Tensor from_dlpack(ExportedLegacy &&source) {
    dlb_tensor *out = nullptr;
    detail::call([&](dlb_error **error) {
      return dlb_tensor_from_dlpack_legacy(source.get(), &out, error);
    });
    (void)source.release();
    return Tensor(out);
  }

  /// Wraps memory that `desc` describes and `owner` keeps: any object, moved in, and destroyed
  /// once, on the thread that drops the last handle. No data is copied; shape and strides are.
  /// `flags` are DLPack's.
  ///
  /// The memory stays where it is when its owner is moved: that of a std::vector and of what a
  /// pointer points to does, that of a std::array or a short std::string does not.
  template <class Owner>
  static Tensor from_memory(const DLTensor &desc, Owner &&owner, std::uint64_t flags = 0) {
    using Kept = std::optional<std::decay_t<Owner>>;
    static_assert(std::is_rvalue_reference_v<Owner &&>, "move the owner in: std::move(owner)");
    static_assert(!std::is_const_v<std::remove_reference_t<Owner>>,
                  "a const owner would be copied, not moved");
    static_assert(!std::is_pointer_v<std::decay_t<Owner>>, "a bare pointer or array owns nothing");
    static_assert(std::is_nothrow_destructible_v<std::decay_t<Owner>>,
                  "an owner's destructor does not throw");
    static_assert(std::is_nothrow_move_constructible_v<std::decay_t<Owner>>,
                  "an owner whose move may throw: put it into a std::unique_ptr");
    auto place = std::make_unique<Kept>();
    const auto release = [](void *kept) { delete static_cast<Kept *>(kept); };
    dlb_tensor *out = nullptr;
    detail::call([&](dlb_error **error) {
      return dlb_tensor_from_memory(&desc, flags, place.get(), release, &out, error);
    });
    place.release()->emplace(std::move(owner));
    return Tensor(out);
  }

  /// Moves a vector in and sees it as a row-major tensor of this shape. No data is copied.
  template <class T>
  static Tensor from_vector(std::vector<T> &&values, const std::vector<std::int64_t> &shape) {
    static_assert(!std::is_same_v<T, bool>,
                  "a std::vector<bool> has no array of bools: use std::uint8_t");
    require_size(shape, values.size());
    std::vector<std::int64_t> sizes(shape);
    return from_memory(describe(values.data(), dtype_of<T>(), sizes), std::move(values));
  }

  /// A tensor in new memory of the host (`device` must be the CPU), whose content is unspecified.
  /// Without strides it is row-major.
  static Tensor empty(DLDataType dtype, const std::vector<std::int64_t> &shape,
                      const std::vector<std::int64_t> &strides = {}, DLDevice device = cpu) {
    if (!strides.empty() && strides.size() != shape.size()) {
      throw Error(DLB_ERROR_INVALID_ARGUMENT,
                  "there must be as many strides as dimensions: " + std::to_string(strides.size()) +
                      " and " + std::to_string(shape.size()));
    }
    std::vector<std::int64_t> sizes(shape), steps(strides);
    DLTensor desc = describe(nullptr, dtype, sizes);
    desc.device = device;
    desc.strides = steps.empty() ? nullptr : steps.data();
    dlb_tensor *out = nullptr;
    detail::call([&](dlb_error **error) { return dlb_tensor_empty(&desc, &out, error); });
    return Tensor(out);
  }

  /// The same for a C++ type.
  template <class T>
  static Tensor empty(const std::vector<std::int64_t> &shape,
                      const std::vector<std::int64_t> &strides = {}, DLDevice device = cpu) {
    return empty(dtype_of<T>(), shape, strides, device);
  }

  /// Whether there is a tensor.
  explicit operator bool() const noexcept { return handle_ != nullptr; }
  /// The handle of the C library, which stays here.
  dlb_tensor *get() noexcept { return handle_.get(); }
  const dlb_tensor *get() const noexcept { return handle_.get(); }
  /// Gives the handle away: free it with dlb_tensor_free().
  dlb_tensor *release() noexcept { return handle_.release(); }

  // What leads into a handle is not to be had of a temporary one: these want a Tensor with a name.

  /// What the tensor looks like, as long as this handle has it.
  const DLTensor &view() const & {
    const DLTensor *view = dlb_tensor_view(get());
    if (view == nullptr) throw Error(DLB_ERROR_NULL_POINTER, "the tensor was moved from");
    return *view;
  }
  const DLTensor &view() const && = delete;
  Dims shape() const & { return {view().shape, static_cast<std::size_t>(view().ndim)}; }
  Dims shape() const && = delete;
  /// In elements; possibly negative or zero.
  Dims strides() const & { return {view().strides, static_cast<std::size_t>(view().ndim)}; }
  Dims strides() const && = delete;
  DLDataType dtype() const { return view().dtype; }
  /// Whether the elements are of a C++ type.
  template <class T> bool is() const {
    constexpr DLDataType type = dtype_of<T>();
    const DLDataType found = dtype();
    return found.code == type.code && found.bits == type.bits && found.lanes == type.lanes;
  }
  DLDevice device() const { return view().device; }
  /// Number of elements.
  std::size_t size() const {
    std::size_t count = 1;
    for (const std::int64_t size : shape()) count *= static_cast<std::size_t>(size);
    return count;
  }
  /// Bytes of all elements, gaps left out.
  std::uint64_t nbytes() const noexcept { return dlb_tensor_nbytes(get()); }
  /// DLPack's flags.
  std::uint64_t flags() const noexcept { return dlb_tensor_flags(get()); }
  bool is_read_only() const noexcept { return (flags() & DLPACK_FLAG_BITMASK_READ_ONLY) != 0; }
  bool is_contiguous() const noexcept { return dlb_tensor_is_contiguous(get()); }

  /// Address of the first element on the host. Throws for another element type, for other devices
  /// and for misaligned memory.
  template <class T> const T *data() const & {
    require_type<T>();
    const void *data = nullptr;
    detail::call([&](dlb_error **error) { return dlb_tensor_data(get(), &data, error); });
    return aligned<const T>(data);
  }
  template <class T> const T *data() const && = delete;

  /// The same to write to. Throws for read-only memory too.
  template <class T> T *data_mut() & {
    require_type<T>();
    void *data = nullptr;
    detail::call([&](dlb_error **error) { return dlb_tensor_data_mut(get(), &data, error); });
    return aligned<T>(data);
  }

  /// Copies the elements into a new vector, in row-major order.
  template <class T> std::vector<T> to_vector() const {
    static_assert(!std::is_same_v<T, bool>,
                  "a std::vector<bool> has no array of bools: use std::uint8_t");
    require_type<T>();
    std::vector<T> values(size());
    std::vector<std::int64_t> sizes = shape();
    const DLTensor desc = describe(values.data(), dtype_of<T>(), sizes);
    dlb_tensor *out = nullptr;
    detail::call([&](dlb_error **error) {
      return dlb_tensor_from_memory(&desc, 0, nullptr, nullptr, &out, error);
    });
    Tensor target(out);
    copy_into(target);
    return values;
  }

#if defined(__cpp_lib_mdspan)
  /// The elements as a multidimensional view, as long as some handle to the memory lives. Throws as
  /// data(), and for another rank or for strides that std::layout_stride does not have (zero and
  /// negative ones).
  template <class T, std::size_t Rank>
  std::mdspan<const T, std::dextents<std::int64_t, Rank>, std::layout_stride> as_mdspan() const & {
    return {data<T>(), mapping<Rank>()};
  }
  template <class T, std::size_t Rank> void as_mdspan() const && = delete;

  /// The same to write to.
  template <class T, std::size_t Rank>
  std::mdspan<T, std::dextents<std::int64_t, Rank>, std::layout_stride> as_mdspan_mut() & {
    return {data_mut<T>(), mapping<Rank>()};
  }
#endif

  /// Another handle to the same memory, seen as `desc` says: a part of it, a transpose, another
  /// element type. Its bytes are among this tensor's.
  Tensor share_as(const DLTensor &desc) const {
    dlb_tensor *out = nullptr;
    detail::call([&](dlb_error **error) { return dlb_tensor_share_as(get(), &desc, &out, error); });
    return Tensor(out);
  }

  /// Another handle to the same memory. No data is copied.
  Tensor share() const { return Tensor(dlb_tensor_share(get())); }

  /// Copies the data into new memory on the same device, as torch's clone.
  Tensor clone(MemoryFormat format = MemoryFormat::preserve,
               std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    dlb_tensor *out = nullptr;
    detail::call([&](dlb_error **error) {
      return dlb_tensor_clone(get(), static_cast<std::int32_t>(format), stream, &out, error);
    });
    return Tensor(out);
  }

  /// Copies the elements to those of `target`, whatever the two layouts.
  void copy_into(Tensor &target, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    detail::call([&](dlb_error **error) {
      return dlb_tensor_copy_into(get(), target.get(), stream, error);
    });
  }

  /// Copies the data to a device, always. {kDLCUDAHost, 0} is page-locked memory of the host.
  Tensor to_device(DLDevice device, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    dlb_tensor *out = nullptr;
    detail::call([&](dlb_error **error) {
      return dlb_tensor_to_device(get(), device, stream, &out, error);
    });
    return Tensor(out);
  }

  /// The tensor on a device: through unchanged when it is there already, otherwise by one copy.
  Tensor into_device(DLDevice device, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) && {
    dlb_tensor *out = nullptr;
    detail::call([&](dlb_error **error) {
      return dlb_tensor_into_device(get(), device, stream, &out, error);
    });
    (void)release();
    return Tensor(out);
  }

  /// Makes device memory ready for work on a stream, and keeps it from being used again before that
  /// work is done.
  void record_stream(std::int64_t stream) const {
    detail::call([&](dlb_error **error) { return dlb_tensor_record_stream(get(), stream, error); });
  }

  /// Says that what is on a stream by now writes device memory.
  void wait_stream(std::int64_t stream) const {
    detail::call([&](dlb_error **error) { return dlb_tensor_wait_stream(get(), stream, error); });
  }

  /// Another owner of the same memory, as a DLPack struct. No data is copied.
  Exported share_dlpack() const {
    DLManagedTensorVersioned *out = nullptr;
    detail::call([&](dlb_error **error) { return dlb_tensor_share_dlpack(get(), &out, error); });
    return Exported(out);
  }

  /// Moves the handle into a DLPack struct. No data is copied.
  Exported into_dlpack() && {
    DLManagedTensorVersioned *out = nullptr;
    detail::call([&](dlb_error **error) { return dlb_tensor_into_dlpack(get(), &out, error); });
    (void)release();
    return Exported(out);
  }

  /// The same for the older struct, which read-only memory is refused for.
  ExportedLegacy share_dlpack_legacy() const {
    DLManagedTensor *out = nullptr;
    detail::call(
        [&](dlb_error **error) { return dlb_tensor_share_dlpack_legacy(get(), &out, error); });
    return ExportedLegacy(out);
  }

  ExportedLegacy into_dlpack_legacy() && {
    DLManagedTensor *out = nullptr;
    detail::call(
        [&](dlb_error **error) { return dlb_tensor_into_dlpack_legacy(get(), &out, error); });
    (void)release();
    return ExportedLegacy(out);
  }

private:
  struct Free {
    void operator()(dlb_tensor *handle) const noexcept { dlb_tensor_free(handle); }
  };
  std::unique_ptr<dlb_tensor, Free> handle_;

  /// A row-major tensor on the host; `shape` outlives it.
  static DLTensor describe(void *data, DLDataType dtype,
                           std::vector<std::int64_t> &shape) noexcept {
    return {data, cpu, static_cast<std::int32_t>(shape.size()), dtype, shape.data(), nullptr, 0};
  }

  /// Throws unless a shape has so many elements. (A negative size is left to the library.)
  static void require_size(const std::vector<std::int64_t> &shape, std::size_t count) {
    std::size_t left = count;
    bool fits = true, empty = false;
    for (const std::int64_t size : shape) {
      if (size < 0) return;
      if (size == 0) {
        empty = true;
        continue;
      }
      fits = fits && left % static_cast<std::size_t>(size) == 0;
      left /= static_cast<std::size_t>(size);
    }
    if (empty ? count != 0 : !fits || left != 1) {
      std::string text;
      for (const std::int64_t size : shape)
        text += (text.empty() ? "" : ", ") + std::to_string(size);
      throw Error(DLB_ERROR_LAYOUT,
                  "shape [" + text +
                      "] has another number of elements than the vector, which has " +
                      std::to_string(count));
    }
  }

  template <class T> void require_type() const {
    if (is<T>()) return;
    const auto text = [](DLDataType type) {
      return "(" + std::to_string(type.code) + ", " + std::to_string(type.bits) + ", " +
             std::to_string(type.lanes) + ")";
    };
    throw Error(DLB_ERROR_DTYPE, "expected elements of type (code, bits, lanes) " +
                                     text(dtype_of<T>()) + ", found " + text(dtype()));
  }

  template <class T, class Void> static T *aligned(Void *data) {
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(T) == 0) return static_cast<T *>(data);
    throw Error(DLB_ERROR_LAYOUT, "the address is not a multiple of " + std::to_string(alignof(T)) +
                                      ", the alignment of its elements: clone() the tensor");
  }

#if defined(__cpp_lib_mdspan)
  template <std::size_t Rank> auto mapping() const {
    if (shape().size() != Rank) {
      throw Error(DLB_ERROR_LAYOUT, "expected " + std::to_string(Rank) + " dimensions, found " +
                                        std::to_string(shape().size()));
    }
    std::array<std::int64_t, Rank> sizes{}, steps{};
    std::array<std::pair<std::int64_t, std::int64_t>, Rank>
        order{}; // steps that are taken, and how often
    std::size_t taken = 0;
    for (std::size_t dimension = 0; dimension < Rank; ++dimension) {
      sizes[dimension] = shape()[dimension];
      // Steps that are never taken may be any number here, but not there.
      steps[dimension] = sizes[dimension] > 1 ? strides()[dimension] : 1;
      if (sizes[dimension] > 1) order[taken++] = {steps[dimension], sizes[dimension]};
    }
    if (size() == 0) {
      // No step is ever taken: those of a row-major tensor, as far as they can be counted.
      std::int64_t step = 1;
      for (std::size_t dimension = Rank; dimension-- > 0;) {
        steps[dimension] = step;
        const std::int64_t size = sizes[dimension] > 1 ? sizes[dimension] : 1;
        if (step > std::numeric_limits<std::int64_t>::max() / size) {
          throw Error(DLB_ERROR_LAYOUT,
                      "the sizes of a tensor without elements are more than std::mdspan can count");
        }
        step *= size;
      }
    } else {
      std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(taken));
      for (std::size_t k = 0; k < taken; ++k) {
        const std::int64_t step = order[k].first;
        // Each step passes all that the steps before it reach.
        if (k == 0 ? step <= 0 : step / order[k - 1].second < order[k - 1].first) {
          throw Error(DLB_ERROR_LAYOUT,
                      "stride " + std::to_string(step) +
                          " is zero, negative, or makes elements overlap, which std::layout_stride "
                          "does not have: clone() the tensor");
        }
      }
    }
    return typename std::layout_stride::template mapping<std::dextents<std::int64_t, Rank>>(
        std::dextents<std::int64_t, Rank>(sizes), steps);
  }
#endif
};

static_assert(sizeof(Tensor) == sizeof(void *), "a handle is a pointer");

} // namespace dlbridge

#endif // DLBRIDGE_HPP_
