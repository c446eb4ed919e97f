// dlbridge for C++17 and newer: the functions of dlbridge.h as classes that own, throw exceptions
// and work with containers. Header-only; link the C library.
//
//     dlbridge::Tensor tensor = dlbridge::Tensor::from_vector(std::vector<float>{1, 2, 3, 4}, {2,
//     2}); dlbridge::Tensor copy = tensor.clone();                          // a deep copy
//     dlbridge::Exported exported = std::move(tensor).into_dlpack();   // moved, no data is copied
//     dlbridge::Tensor back = dlbridge::Tensor::from_dlpack(std::move(exported));
//     std::vector<float> values = back.to_vector<float>();             // "to_" copies
//
// Failures throw dlbridge::Error. A function takes its argument on success only: after an exception
// the argument is unchanged. No class prevents two owners from writing the same memory at once: the
// caller makes sure that writes do not race.
//
// Compile a plugin that is linked with the static library with -fvisibility=hidden. Otherwise it
// may share inline functions of this header with another plugin, and pass its handles to the wrong
// library.
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

/// Throws unless the library has the ABI of this header. Returns true.
inline bool check_abi() {
  const std::uint32_t major = dlb_abi_version() >> 16, minor = dlb_abi_version() & 0xffff;
  // While the major version is 0, minor versions are incompatible too.
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

/// Calls `function(&error)`, which calls a function of the library. Throws its error. The first
/// call checks the ABI.
template <class Function> void call(Function &&function) {
  static const bool abi_checked = check_abi();
  (void)abi_checked;
  dlb_error *error = nullptr;
  const dlb_status status = function(&error);
  if (status == DLB_OK) return;
  const std::unique_ptr<dlb_error, void (*)(dlb_error *)> owner(error, dlb_error_free);
  throw Error(status, dlb_error_message(error));
}

/// Calls `function(&out, &error)`, which calls a function of the library. Returns its output, or
/// throws its error.
template <class Output, class Function> Output output_of(Function &&function) {
  Output out = nullptr;
  call([&](dlb_error **error) { return function(&out, error); });
  return out;
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

/// Owns a DLPack struct, and calls its deleter. For a struct that you own: `Exported(pointer)`.
using Exported = std::unique_ptr<DLManagedTensorVersioned, Release>;
/// Owns a DLPack struct of the older type.
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

/// The DLPack element type of a C++ type.
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

/// A view of the sizes or strides of a tensor.
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

} // namespace dlbridge

#if defined(__cpp_lib_mdspan)
#include "dlbridge/mdspan.hpp"
#endif

namespace dlbridge {

/// A handle to one strided buffer on one device. It can be moved, but not copied: share() returns
/// another handle to the same memory, clone() copies the data. A handle that was moved from is
/// empty: it can be assigned to and destroyed; other functions throw or return an empty result.
class Tensor {
public:
  /// An empty handle.
  Tensor() noexcept = default;

  /// Takes a handle of the C library.
  explicit Tensor(dlb_tensor *handle) noexcept : handle_(handle) {}

  /// Consumes a DLPack struct. No data is copied; the struct's deleter runs once, when the last
  /// handle is destroyed.
  static Tensor from_dlpack(Exported &&source) {
    Tensor tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_from_dlpack(source.get(), out, error);
    }));
    (void)source.release();
    return tensor;
  }

  /// Consumes a DLPack struct of the older type, whose memory counts as read-only.
  static Tensor from_dlpack(ExportedLegacy &&source) {
    Tensor tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_from_dlpack_legacy(source.get(), out, error);
    }));
    (void)source.release();
    return tensor;
  }

  /// Wraps memory that `desc` describes. `owner` is any object that keeps the memory: it is moved
  /// in, and destroyed once, by the thread that destroys the last handle. No data is copied; shape
  /// and strides are. `flags` are DLPack's.
  ///
  /// The memory must not move when its owner is moved. The elements of a std::vector, and what a
  /// pointer points to, do not; those of a std::array or a short std::string do.
  template <class Owner>
  static Tensor from_memory(const DLTensor &desc, Owner &&owner, std::uint64_t flags = 0) {
    using Object = std::decay_t<Owner>;
    static_assert(std::is_rvalue_reference_v<Owner &&>, "move the owner in: std::move(owner)");
    static_assert(!std::is_const_v<std::remove_reference_t<Owner>>,
                  "a const owner would be copied, not moved");
    static_assert(!std::is_pointer_v<Object>, "a bare pointer or array owns nothing");
    static_assert(std::is_nothrow_destructible_v<Object>, "an owner's destructor does not throw");
    static_assert(std::is_nothrow_move_constructible_v<Object>,
                  "an owner whose move may throw: put it into a std::unique_ptr");
    // The owner is moved into this allocation after everything that can fail has succeeded.
    auto storage = std::make_unique<std::optional<Object>>();
    const auto release = [](void *owner) { delete static_cast<std::optional<Object> *>(owner); };
    Tensor tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_from_memory(&desc, flags, storage.get(), release, out, error);
    }));
    storage.release()->emplace(std::move(owner));
    return tensor;
  }

  /// Moves a vector in, as a row-major tensor of the given shape. No data is copied.
  template <class T>
  static Tensor from_vector(std::vector<T> &&values, const std::vector<std::int64_t> &shape) {
    static_assert(!std::is_same_v<T, bool>,
                  "a std::vector<bool> has no array of bools: use std::uint8_t");
    require_size(shape, values.size());
    std::vector<std::int64_t> sizes(shape);
    return from_memory(describe(values.data(), dtype_of<T>(), sizes), std::move(values));
  }

  /// Makes a tensor in new memory of the host (`device` must be the CPU) with unspecified contents.
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
    return Tensor(create(
        [&](dlb_tensor **out, dlb_error **error) { return dlb_tensor_empty(&desc, out, error); }));
  }

  /// Makes a tensor in new memory whose elements are of a C++ type.
  template <class T>
  static Tensor empty(const std::vector<std::int64_t> &shape,
                      const std::vector<std::int64_t> &strides = {}, DLDevice device = cpu) {
    return empty(dtype_of<T>(), shape, strides, device);
  }

  /// Whether the handle is not empty.
  explicit operator bool() const noexcept { return handle_ != nullptr; }
  /// The handle of the C library, which this object still owns.
  dlb_tensor *get() noexcept { return handle_.get(); }
  const dlb_tensor *get() const noexcept { return handle_.get(); }
  /// Gives the handle to the caller: free it with dlb_tensor_free().
  dlb_tensor *release() noexcept { return handle_.release(); }

  // Functions that return a reference into the handle are deleted for temporary tensors.
  /// The description of the tensor, valid as long as this handle is not moved from.
  const DLTensor &view() const & {
    const DLTensor *view = dlb_tensor_view(get());
    if (view == nullptr) throw Error(DLB_ERROR_NULL_POINTER, "the tensor was moved from");
    return *view;
  }
  const DLTensor &view() const && = delete;
  Dims shape() const & { return {view().shape, static_cast<std::size_t>(view().ndim)}; }
  Dims shape() const && = delete;
  /// Strides in elements; they may be negative or zero.
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
  /// The number of elements.
  std::size_t size() const {
    std::size_t count = 1;
    for (const std::int64_t size : shape()) count *= static_cast<std::size_t>(size);
    return count;
  }
  /// The number of bytes of all elements, without the gaps between them.
  std::uint64_t nbytes() const noexcept { return dlb_tensor_nbytes(get()); }
  /// DLPack's flags.
  std::uint64_t flags() const noexcept { return dlb_tensor_flags(get()); }
  bool is_read_only() const noexcept { return (flags() & DLPACK_FLAG_BITMASK_READ_ONLY) != 0; }
  bool is_contiguous() const noexcept { return dlb_tensor_is_contiguous(get()); }

  /// The address of the first element on the host, for reading. Throws for another element type,
  /// for memory that the host cannot reach, and for misaligned memory.
  template <class T> const T *data() const & {
    require_type<T>();
    return aligned<const T>(detail::output_of<const void *>(
        [&](const void **out, dlb_error **error) { return dlb_tensor_data(get(), out, error); }));
  }
  template <class T> const T *data() const && = delete;

  /// The address of the first element on the host, for writing. Throws as data() does, and for
  /// read-only memory.
  template <class T> T *data_mut() & {
    require_type<T>();
    return aligned<T>(detail::output_of<void *>(
        [&](void **out, dlb_error **error) { return dlb_tensor_data_mut(get(), out, error); }));
  }

  /// Copies the elements into a new vector, in row-major order.
  template <class T> std::vector<T> to_vector() const {
    static_assert(!std::is_same_v<T, bool>,
                  "a std::vector<bool> has no array of bools: use std::uint8_t");
    require_type<T>();
    std::vector<T> values(size());
    std::vector<std::int64_t> sizes = shape();
    const DLTensor desc = describe(values.data(), dtype_of<T>(), sizes);
    Tensor target(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_from_memory(&desc, 0, nullptr, nullptr, out, error);
    }));
    copy_into(target);
    return values;
  }

#if defined(__cpp_lib_mdspan)
  /// The elements as a multidimensional view, valid as long as a handle to the memory exists.
  /// Throws as data() does, for another rank, and for zero and negative strides, which
  /// std::layout_stride does not have.
  template <class T, std::size_t Rank>
  std::mdspan<const T, std::dextents<std::int64_t, Rank>, std::layout_stride> as_mdspan() const & {
    return {data<T>(), detail::mapping<Rank>(shape(), strides(), size() == 0)};
  }
  template <class T, std::size_t Rank> void as_mdspan() const && = delete;

  /// The elements as a multidimensional view, for writing.
  template <class T, std::size_t Rank>
  std::mdspan<T, std::dextents<std::int64_t, Rank>, std::layout_stride> as_mdspan_mut() & {
    return {data_mut<T>(), detail::mapping<Rank>(shape(), strides(), size() == 0)};
  }
#endif

  /// Returns another handle to the same memory, described by `desc`: a part of it, a transpose,
  /// another element type. The elements of `desc` are among this tensor's bytes. No data is copied.
  Tensor share_as(const DLTensor &desc) const {
    return Tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_share_as(get(), &desc, out, error);
    }));
  }

  /// Returns another handle to the same memory. No data is copied.
  Tensor share() const { return Tensor(dlb_tensor_share(get())); }

  /// Copies the data into new memory on the same device, as torch's clone() does.
  Tensor clone(MemoryFormat format = MemoryFormat::preserve,
               std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    return Tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_clone(get(), static_cast<std::int32_t>(format), stream, out, error);
    }));
  }

  /// Copies the elements to those of `target`, which may have other strides.
  void copy_into(Tensor &target, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    detail::call([&](dlb_error **error) {
      return dlb_tensor_copy_into(get(), target.get(), stream, error);
    });
  }

  /// Copies the data to a device, even if it is there already. {kDLCUDAHost, 0} is page-locked
  /// memory of the host.
  Tensor to_device(DLDevice device, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    return Tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_to_device(get(), device, stream, out, error);
    }));
  }

  /// Moves the tensor to a device: returns it unchanged if it is there already, else makes one
  /// copy.
  Tensor into_device(DLDevice device, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) && {
    Tensor tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_into_device(get(), device, stream, out, error);
    }));
    (void)release();
    return tensor;
  }

  /// Makes the contents ready for use on a stream: work that is put on `stream` from now on waits
  /// for the contents, and the memory is not reused before the work that is on `stream` when the
  /// memory is released is done. Does nothing for host memory.
  void record_stream(std::int64_t stream) const {
    detail::call([&](dlb_error **error) { return dlb_tensor_record_stream(get(), stream, error); });
  }

  /// Makes dlbridge wait for a stream: everything that it does with the memory from now on comes
  /// after the work that is on `stream` by now. Does nothing for host memory.
  void wait_stream(std::int64_t stream) const {
    detail::call([&](dlb_error **error) { return dlb_tensor_wait_stream(get(), stream, error); });
  }

  /// Makes a DLPack struct that is another owner of the same memory. No data is copied.
  Exported share_dlpack() const {
    return Exported(detail::output_of<DLManagedTensorVersioned *>(
        [&](DLManagedTensorVersioned **out, dlb_error **error) {
          return dlb_tensor_share_dlpack(get(), out, error);
        }));
  }

  /// Moves the handle into a DLPack struct. No data is copied.
  Exported into_dlpack() && {
    Exported exported(detail::output_of<DLManagedTensorVersioned *>(
        [&](DLManagedTensorVersioned **out, dlb_error **error) {
          return dlb_tensor_into_dlpack(get(), out, error);
        }));
    (void)release();
    return exported;
  }

  /// Makes a DLPack struct of the older type that is another owner of the same memory. Throws for
  /// read-only memory.
  ExportedLegacy share_dlpack_legacy() const {
    return ExportedLegacy(
        detail::output_of<DLManagedTensor *>([&](DLManagedTensor **out, dlb_error **error) {
          return dlb_tensor_share_dlpack_legacy(get(), out, error);
        }));
  }

  /// Moves the handle into a DLPack struct of the older type. Throws for read-only memory.
  ExportedLegacy into_dlpack_legacy() && {
    ExportedLegacy exported(
        detail::output_of<DLManagedTensor *>([&](DLManagedTensor **out, dlb_error **error) {
          return dlb_tensor_into_dlpack_legacy(get(), out, error);
        }));
    (void)release();
    return exported;
  }

private:
  struct Free {
    void operator()(dlb_tensor *handle) const noexcept { dlb_tensor_free(handle); }
  };
  std::unique_ptr<dlb_tensor, Free> handle_;

  /// The new handle of a function of the library.
  template <class Function> static dlb_tensor *create(Function &&function) {
    return detail::output_of<dlb_tensor *>(function);
  }

  /// Describes a row-major tensor on the host. The result points to `shape`.
  static DLTensor describe(void *data, DLDataType dtype,
                           std::vector<std::int64_t> &shape) noexcept {
    return {data, cpu, static_cast<std::int32_t>(shape.size()), dtype, shape.data(), nullptr, 0};
  }

  /// Throws unless `shape` has `count` elements. (The library refuses negative sizes.)
  static void require_size(const std::vector<std::int64_t> &shape, std::size_t count) {
    // Dividing `count` by each size does not overflow, as multiplying the sizes could.
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
    if (empty ? count == 0 : fits && left == 1) return;
    std::string text;
    for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    throw Error(DLB_ERROR_LAYOUT,
                "shape [" + text + "] has another number of elements than the vector, which has " +
                    std::to_string(count));
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

  /// `data` as the address of a `T`. Throws unless it is aligned for one.
  template <class T, class Void> static T *aligned(Void *data) {
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(T) == 0) return static_cast<T *>(data);
    throw Error(DLB_ERROR_LAYOUT, "the address is not a multiple of " + std::to_string(alignof(T)) +
                                      ", the alignment of its elements: clone() the tensor");
  }
};

static_assert(sizeof(Tensor) == sizeof(void *), "a handle is a pointer");

} // namespace dlbridge

#endif // DLBRIDGE_HPP_
