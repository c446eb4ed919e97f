// dlbridge for C++17 and newer: the functions of dlbridge.h as classes that own their handle, throw
// exceptions and accept containers. Header-only; link the C library.
//
// Functions whose names begin with from_ and into_ consume an argument that is passed with
// std::move(), and copy no data; only into_device() copies, if the memory is on another device.
// Functions whose names begin with share_, and views (permute(), slice(), reshape() and others),
// return one more owner of the same memory, and copy no data. clone(), copy_into(), at() and
// functions whose names begin with to_ copy data.
//
// A call that fails throws dlbridge::Error. An argument is consumed only if the call succeeds:
// after an exception the caller still owns it, unchanged. Several owners may write the same memory:
// the caller makes sure that no thread writes memory while another thread reads or writes it.
//
// Compile a plugin with -fvisibility=hidden. If it is linked with the static library, link it with
// -Wl,--exclude-libs,libdlbridge.a too (CMake's target dlbridge::static does that). Otherwise the
// plugin exports the functions of this header or of its library, and the dynamic linker may bind
// them to those of another copy of the library, whose handles may be different.
//
// Each class and each group of functions has an example, which the tests run. The examples are
// statements of a function of a program that includes dlbridge.hpp, <cassert> and <iostream>.
#ifndef DLBRIDGE_HPP_
#define DLBRIDGE_HPP_

#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
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

/// The exception of a call that failed: a status, and a message. The message is a fact and, if
/// there is a remedy, "; " and the remedy in C++'s words.
///
/// ```cpp
/// dlbridge::Tensor tensor = dlbridge::Tensor::empty<float>({2, 3});
/// try {
///   tensor.data<double>();
/// } catch (const dlbridge::Error &error) {
///   assert(error.status() == DLB_ERROR_DTYPE);
///   std::cerr << dlb_status_name(error.status()) << ": " << error.what() << '\n';
/// }
/// ```
class Error : public std::runtime_error {
public:
  Error(dlb_status status, const std::string &fact, dlb_remedy remedy = DLB_REMEDY_NONE)
      : std::runtime_error(message(fact, remedy)), status_(status), remedy_(remedy) {}

  /// One of DLB_ERROR_*.
  dlb_status status() const noexcept { return status_; }

  /// What the caller can do: one of DLB_REMEDY_*.
  dlb_remedy remedy() const noexcept { return remedy_; }

  /// C++'s words for one of DLB_REMEDY_*; "" for DLB_REMEDY_NONE and unknown numbers.
  static const char *remedy_text(dlb_remedy remedy) noexcept {
    switch (remedy) {
    case DLB_REMEDY_COPY_TO_CPU: return "copy it to the host with to_device(dlbridge::cpu)";
    case DLB_REMEDY_COPY_TO_DEVICE: return "make it on the host, and copy it with to_device()";
    case DLB_REMEDY_CLONE: return "copy it with clone()";
    case DLB_REMEDY_CLONE_CONTIGUOUS: return "copy it with clone(MemoryFormat::contiguous)";
    case DLB_REMEDY_CLONE_SOURCE: return "copy from a clone() of the source";
    case DLB_REMEDY_WRITE_TO_CLONE: return "write to a clone() instead";
    case DLB_REMEDY_DROP_OTHER_HANDLES: return "destroy it first, or copy with clone()";
    case DLB_REMEDY_CLONE_OR_ASSUME: return "copy it with clone()";
    case DLB_REMEDY_COPY_TO_VEC: return "copy it with to_vector()";
    case DLB_REMEDY_COPY_TO_NDARRAY: return "copy it with to_vector()";
    case DLB_REMEDY_EXPORT_VERSIONED: return "export it with share_dlpack(), or export a clone()";
    case DLB_REMEDY_EXPORT_VERSION_1: return "have the producer export DLPack 1.x";
    case DLB_REMEDY_ENABLE_CUDA: return "use a library that was built with CUDA";
    case DLB_REMEDY_COPY_TO_TORCH: return "pass a clone() to into_torch()";
    case DLB_REMEDY_COPY_FROM_TORCH: return "pass a clone() to from_torch()";
    case DLB_REMEDY_DROP_TORCH_OWNERS:
      return "release the other owner first, or pass a clone() to from_torch()";
    case DLB_REMEDY_MOVE_TORCH_TO_CPU: return "use cpu() first";
    case DLB_REMEDY_TO_DENSE: return "use to_dense() first";
    case DLB_REMEDY_DEQUANTIZE: return "use dequantize() first";
    case DLB_REMEDY_RESOLVE_NEG: return "use resolve_neg() first";
    case DLB_REMEDY_RESOLVE_CONJ: return "use resolve_conj() first";
    case DLB_REMEDY_DETACH: return "use detach() first";
    case DLB_REMEDY_TO_PADDED_TENSOR: return "use to_padded_tensor() first, or convert its parts";
    case DLB_REMEDY_CLONE_TORCH: return "use clone() first";
    case DLB_REMEDY_CAST_TORCH: return "use to() first";
    case DLB_REMEDY_MAKE_ORDINARY: return "copy its elements into an ordinary tensor first";
    default: return "";
    }
  }

private:
  static std::string message(const std::string &fact, dlb_remedy remedy) {
    const std::string text = remedy_text(remedy);
    return text.empty() ? fact : fact + "; " + text;
  }

  dlb_status status_;
  dlb_remedy remedy_;
};

/// The name of an element type, as NumPy and PyTorch spell it: "float32", with lanes "float32x4".
///
/// ```cpp
/// assert(dlbridge::dtype_name(dlbridge::dtype_of<double>()) == "float64");
/// assert(dlbridge::dtype_name({kDLBfloat, 16, 1}) == "bfloat16");
/// ```
inline std::string dtype_name(DLDataType dtype) {
  char name[48];
  return std::string(name, dlb_dtype_name(dtype, name, sizeof name));
}

namespace detail {

/// Returns true if the library has the ABI of this header, and throws Error otherwise.
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

/// Returns the fact of an error without `prefix`: the name of an argument of the C function, which
/// the C++ function does not have.
inline std::string fact_without(const std::string &prefix, const dlb_error *error) {
  const std::string fact = dlb_error_fact(error);
  return fact.compare(0, prefix.size(), prefix) == 0 ? fact.substr(prefix.size()) : fact;
}

/// Calls `function(&error)`, which calls a function of the library, and throws the library's error
/// as Error, without `prefix` in its message. The first call checks the ABI.
template <class Function> void call(Function &&function, const char *prefix = "tensor: ") {
  static const bool abi_checked = check_abi();
  (void)abi_checked;
  dlb_error *error = nullptr;
  const dlb_status status = function(&error);
  if (status == DLB_OK) return;
  const std::unique_ptr<dlb_error, void (*)(dlb_error *)> owner(error, dlb_error_free);
  throw Error(status, fact_without(prefix, error), dlb_error_remedy(error));
}

/// Calls `function(&out, &error)`, which calls a function of the library. Returns `out`, or throws
/// the library's error as Error, without `prefix` in its message.
template <class Output, class Function>
Output output_of(Function &&function, const char *prefix = "tensor: ") {
  Output out = nullptr;
  call([&](dlb_error **error) { return function(&out, error); }, prefix);
  return out;
}

template <class T> constexpr bool is_shared_ptr = false;
template <class T> constexpr bool is_shared_ptr<std::shared_ptr<T>> = true;

} // namespace detail

/// Calls the deleter of a DLPack struct. Exported and ExportedLegacy use it.
struct Release {
  void operator()(DLManagedTensorVersioned *managed) const noexcept {
    if (managed->deleter != nullptr) managed->deleter(managed);
  }
  void operator()(DLManagedTensor *managed) const noexcept {
    if (managed->deleter != nullptr) managed->deleter(managed);
  }
};

/// Owns a DLPack struct, and calls its deleter. `Exported(pointer)` takes over a struct that the
/// caller owns. To pass the struct to a consumer that calls the deleter, use release().
///
/// ```cpp
/// dlbridge::Tensor tensor = dlbridge::Tensor::from_vector(std::vector<float>{1, 2, 3}, {3});
/// dlbridge::Exported exported = tensor.share_dlpack();
/// DLManagedTensorVersioned *consumed = exported.release(); // now the consumer owns the struct
/// dlbridge::Exported taken(consumed);                      // a consumer in C++
/// assert(taken->dl_tensor.data == tensor.view().data);
/// ```
using Exported = std::unique_ptr<DLManagedTensorVersioned, Release>;
/// Owns a DLPack struct of the older type, and calls its deleter.
using ExportedLegacy = std::unique_ptr<DLManagedTensor, Release>;

/// The layout of a deep copy. The names are PyTorch's.
///
/// ```cpp
/// dlbridge::Tensor images = dlbridge::Tensor::empty<float>({1, 3, 4, 5}); // N, C, H, W
/// dlbridge::Tensor copy = images.clone(dlbridge::MemoryFormat::channels_last);
/// assert(copy.strides()[1] == 1 && copy.shape()[1] == 3);
/// ```
///
/// `preserve` keeps the order of the source's strides, without gaps. Its strides are positive, also
/// where those of the source are negative.
enum class MemoryFormat : std::int32_t {
  preserve = DLB_MEMORY_FORMAT_PRESERVE,
  contiguous = DLB_MEMORY_FORMAT_CONTIGUOUS,
  channels_last = DLB_MEMORY_FORMAT_CHANNELS_LAST,
  channels_last_3d = DLB_MEMORY_FORMAT_CHANNELS_LAST_3D,
};

/// The host.
inline constexpr DLDevice cpu{kDLCPU, 0};

/// Returns the DLPack element type of a C++ type: bool, integers, IEEE floating point,
/// std::bfloat16_t, std::complex<float> and std::complex<double>.
///
/// ```cpp
/// constexpr DLDataType type = dlbridge::dtype_of<float>();
/// static_assert(type.code == kDLFloat && type.bits == 32 && type.lanes == 1);
/// ```
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

/// A view of the sizes or strides of a tensor, in elements. Valid as long as the handle that it
/// came from, unless that handle is moved from. Convert it to a std::vector to keep the numbers.
///
/// ```cpp
/// dlbridge::Tensor tensor = dlbridge::Tensor::empty<float>({2, 3});
/// dlbridge::Dims shape = tensor.shape();
/// assert(shape.size() == 2 && shape[1] == 3);
/// std::vector<std::int64_t> kept = shape;
/// ```
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
/// empty: it can be assigned to and destroyed; share() returns another empty handle, the `noexcept`
/// functions return 0 or false, and the other functions throw Error with DLB_ERROR_NULL_POINTER.
/// Several threads may call const functions of the same handle at once.
///
/// ```cpp
/// std::vector<float> values{1, 2, 3, 4};
/// dlbridge::Tensor tensor = dlbridge::Tensor::from_vector(std::move(values), {2, 2}); // no copy
/// dlbridge::Tensor copy = tensor.clone();                             // a copy of the data
/// dlbridge::Exported exported = std::move(tensor).into_dlpack();      // no copy
/// dlbridge::Tensor back = dlbridge::Tensor::from_dlpack(std::move(exported)); // no copy
/// assert(back.to_vector<float>() == copy.to_vector<float>());         // two copies
/// ```
class Tensor {
  using Sizes = std::vector<std::int64_t>;

public:
  /// @name Handles
  ///
  /// ```cpp
  /// dlbridge::Tensor tensor = dlbridge::Tensor::empty<float>({2, 3});
  /// assert(dlb_tensor_nbytes(tensor.get()) == 24); // a function of the C library
  /// dlb_tensor *handle = tensor.release();         // for C code, which must free the handle
  /// assert(!tensor);
  /// tensor = dlbridge::Tensor(handle);             // or an object owns the handle again
  /// ```
  /// @{

  /// Makes an empty handle.
  Tensor() noexcept = default;

  /// Takes over a handle of the C library, which the caller owns.
  explicit Tensor(dlb_tensor *handle) noexcept : handle_(handle) {}

  /// Returns whether the handle is not empty.
  explicit operator bool() const noexcept { return handle_ != nullptr; }
  /// Returns the handle of the C library, which this object still owns.
  dlb_tensor *get() noexcept { return handle_.get(); }
  const dlb_tensor *get() const noexcept { return handle_.get(); }
  /// Returns the handle, which the caller owns then and frees with dlb_tensor_free(). This object
  /// is empty after the call.
  dlb_tensor *release() noexcept { return handle_.release(); }

  /// @}
  /// @name New tensors
  ///
  /// ```cpp
  /// // A frame with padded rows stays where it is; the object that owns it moves into the tensor.
  /// std::vector<std::uint8_t> frame(2 * 16);
  /// dlbridge::Tensor wrapped = dlbridge::Tensor::from_memory<std::uint8_t>(
  ///     frame.data(), {2, 3, 3}, {16, 3, 1}, std::move(frame)); // rows of 9 bytes, 16 apart
  /// assert(wrapped.nbytes() == 18 && !wrapped.is_read_only());
  ///
  /// // Memory that several owners share, and that the tensor only reads.
  /// auto samples = std::make_shared<const std::vector<float>>(std::vector<float>{1, 2, 3});
  /// dlbridge::Tensor read =
  ///     dlbridge::Tensor::from_memory<const float>(samples->data(), {3}, samples);
  /// assert(read.is_read_only() && samples.use_count() == 2);
  ///
  /// dlbridge::Tensor moved = dlbridge::Tensor::from_vector(std::vector<int>{1, 2, 3, 4}, {2, 2});
  /// dlbridge::Tensor fresh = dlbridge::Tensor::empty<double>({2, 2}); // contents not specified
  /// dlbridge::Tensor imported = dlbridge::Tensor::from_dlpack(fresh.share_dlpack());
  /// ```
  /// @{

  // Functions that consume an argument or the tensor are deleted for objects without std::move().
  // The comment beside the deleted function, which compilers print, says what to write.
  /// Consumes a DLPack struct. No data is copied. The library calls the struct's deleter once, when
  /// the last handle is destroyed. Throws Error for a struct that is not valid or not supported.
  static Tensor from_dlpack(Exported &&source) {
    Tensor tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_from_dlpack(source.get(), out, error);
    }));
    (void)source.release();
    return tensor;
  }
  static void from_dlpack(Exported &) = delete; // write from_dlpack(std::move(source))

  /// Consumes a DLPack struct of the older type. No data is copied. The older struct cannot say
  /// whether its memory may be written, so the memory is read-only unless dlbridge made the struct.
  static Tensor from_dlpack(ExportedLegacy &&source) {
    Tensor tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_from_dlpack_legacy(source.get(), out, error);
    }));
    (void)source.release();
    return tensor;
  }
  static void from_dlpack(ExportedLegacy &) = delete; // write from_dlpack(std::move(source))

  /// Wraps memory that `desc` describes. No data is copied; shape and strides are. `owner` is any
  /// object that keeps the memory valid. It is moved into the tensor, and destroyed once, on the
  /// thread that destroys the last handle. (A std::shared_ptr may be copied into the tensor. Pass
  /// nullptr for memory that outlives every handle.) `flags` are DLPack's:
  /// DLPACK_FLAG_BITMASK_READ_ONLY makes the tensor read-only.
  ///
  /// Strides count elements, not bytes. Every byte from the lowest to the highest element must be
  /// valid and initialised, the bytes between the elements included: the library cannot check that.
  /// Throws Error for a description that is not valid. Throws std::bad_alloc too.
  ///
  /// The memory must stay at its address when `owner` is moved. The elements of a std::vector and
  /// the object of a std::unique_ptr stay; the elements of a std::array and the characters of a
  /// short std::string do not. dlb_tensor_from_memory() has the other rules for the memory.
  template <class Owner>
  static Tensor from_memory(const DLTensor &desc, Owner &&owner, std::uint64_t flags = 0) {
    require_owner<Owner>();
    return wrap(desc, movable(std::forward<Owner>(owner)), flags, "");
  }

  /// Wraps memory of the host with elements of the C++ type `T`, the first of them at `data`. The
  /// tensor is read-only if `T` is const. Without strides the tensor is row-major. The rules for
  /// the memory and for `owner` are those of the function above: strides count elements, and may be
  /// negative. Throws Error, and leaves `owner` unchanged, for a shape and strides that are not
  /// valid. Throws std::bad_alloc too.
  template <class T, class Owner>
  static Tensor from_memory(T *data, const std::vector<std::int64_t> &shape,
                            const std::vector<std::int64_t> &strides, Owner &&owner) {
    require_owner<Owner>();
    require_rank(shape, strides, true);
    using Element = std::remove_const_t<T>;
    std::vector<std::int64_t> sizes(shape), steps(strides);
    DLTensor desc = describe(const_cast<Element *>(data), dtype_of<Element>(), sizes);
    desc.strides = steps.empty() ? nullptr : steps.data();
    const std::uint64_t flags = std::is_const_v<T> ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
    return wrap(desc, movable(std::forward<Owner>(owner)), flags, "desc: ");
  }

  /// Wraps row-major memory of the host, as the function above does.
  template <class T, class Owner>
  static Tensor from_memory(T *data, const std::vector<std::int64_t> &shape, Owner &&owner) {
    return from_memory<T>(data, shape, {}, std::forward<Owner>(owner));
  }

  /// Makes a row-major tensor of a vector, which is moved into it. No data is copied. Throws Error
  /// unless the shape has as many elements as the vector. Throws std::bad_alloc too.
  template <class T>
  static Tensor from_vector(std::vector<T> &&values, const std::vector<std::int64_t> &shape) {
    static_assert(!std::is_same_v<T, bool>,
                  "a std::vector<bool> has no array of bools: use std::uint8_t");
    require_size(shape, values.size());
    std::vector<std::int64_t> sizes(shape);
    return wrap(describe(values.data(), dtype_of<T>(), sizes), std::move(values), 0, "desc: ");
  }
  template <class V>
  static void from_vector(V &, const Sizes &) = delete; // write from_vector(std::move(v), shape)

  /// Makes a tensor in new memory of the host with unspecified contents. `device` must be the CPU.
  /// Without strides the tensor is row-major. Throws Error, with DLB_ERROR_OUT_OF_MEMORY if there
  /// is not enough memory for the elements. Throws std::bad_alloc too.
  static Tensor empty(DLDataType dtype, const std::vector<std::int64_t> &shape,
                      const std::vector<std::int64_t> &strides = {}, DLDevice device = cpu) {
    require_rank(shape, strides, true);
    std::vector<std::int64_t> sizes(shape), steps(strides);
    DLTensor desc = describe(nullptr, dtype, sizes);
    desc.device = device;
    desc.strides = steps.empty() ? nullptr : steps.data();
    return Tensor(detail::output_of<dlb_tensor *>(
        [&](dlb_tensor **out, dlb_error **error) { return dlb_tensor_empty(&desc, out, error); },
        "desc: "));
  }

  /// Makes a tensor in new memory of the host, with elements of the C++ type `T`.
  template <class T>
  static Tensor empty(const std::vector<std::int64_t> &shape,
                      const std::vector<std::int64_t> &strides = {}, DLDevice device = cpu) {
    return empty(dtype_of<T>(), shape, strides, device);
  }

  /// @}
  /// @name Description
  ///
  /// ```cpp
  /// dlbridge::Tensor tensor = dlbridge::Tensor::empty<float>({2, 3}, {4, 1}); // padded rows
  /// assert(tensor.shape()[0] == 2 && tensor.strides()[0] == 4);
  /// assert(tensor.is<float>() && tensor.size() == 6 && tensor.nbytes() == 24);
  /// assert(!tensor.is_contiguous() && !tensor.is_read_only() && tensor.flags() == 0);
  /// assert(tensor.device().device_type == kDLCPU && tensor.view().ndim == 2);
  /// ```
  /// @{

  // Functions that return a reference into the handle, or an address in its memory, are deleted for
  // temporary tensors, which are destroyed at the end of the statement.
  /// Returns the description of the tensor, valid until this handle is moved from or destroyed.
  const DLTensor &view() const & { return *dlb_tensor_view(handle()); }
  const DLTensor &view() const && = delete; // give the temporary tensor a name
  /// Returns the sizes, in elements.
  Dims shape() const & { return {view().shape, static_cast<std::size_t>(view().ndim)}; }
  Dims shape() const && = delete; // give the temporary tensor a name
  /// Returns the strides, in elements. They may be negative or zero.
  Dims strides() const & { return {view().strides, static_cast<std::size_t>(view().ndim)}; }
  Dims strides() const && = delete; // give the temporary tensor a name
  /// Returns the element type.
  DLDataType dtype() const { return view().dtype; }
  /// Returns whether the elements have the C++ type `T`.
  template <class T> bool is() const {
    constexpr DLDataType type = dtype_of<T>();
    const DLDataType found = dtype();
    return found.code == type.code && found.bits == type.bits && found.lanes == type.lanes;
  }
  /// Returns the device.
  DLDevice device() const { return view().device; }
  /// Returns the number of elements.
  std::size_t size() const {
    std::size_t count = 1;
    for (const std::int64_t size : shape()) count *= static_cast<std::size_t>(size);
    return count;
  }
  /// Returns the number of bytes of all elements, without the gaps between them.
  std::uint64_t nbytes() const noexcept { return dlb_tensor_nbytes(get()); }
  /// Returns DLPack's flags.
  std::uint64_t flags() const noexcept { return dlb_tensor_flags(get()); }
  /// Returns whether the memory may not be written.
  bool is_read_only() const noexcept { return (flags() & DLPACK_FLAG_BITMASK_READ_ONLY) != 0; }
  /// Returns whether the elements lie one after the other in row-major order.
  bool is_contiguous() const noexcept { return dlb_tensor_is_contiguous(get()); }

  /// @}
  /// @name Elements on the host
  ///
  /// ```cpp
  /// dlbridge::Tensor tensor = dlbridge::Tensor::from_vector(std::vector<float>{1, 2, 3}, {3});
  /// tensor.data_mut<float>()[0] = 10;
  /// assert(tensor.data<float>()[0] == 10);
  /// tensor.at_mut<float>(2) = 30;
  /// assert(tensor.at<float>(2) == 30);
  /// std::vector<float> copied = tensor.to_vector<float>();
  /// assert(copied.size() == 3);
  /// std::cout << tensor << '\n';
  /// ```
  /// @{

  /// Returns the address of the first element, for reading. Valid until the last handle to the
  /// memory is destroyed. Throws Error if the elements do not have the type `T`, if the host cannot
  /// reach the memory, or if the memory is misaligned.
  template <class T> const T *data() const & {
    require_type<T>();
    return aligned<const T>(address());
  }
  template <class T> const T *data() const && = delete; // give the temporary tensor a name

  /// Returns the address of the first element, for writing. Throws Error in the cases of data(),
  /// and for read-only memory.
  template <class T> T *data_mut() & {
    require_type<T>();
    return aligned<T>(detail::output_of<void *>(
        [&](void **out, dlb_error **error) { return dlb_tensor_data_mut(get(), out, error); }));
  }

  /// Returns a copy of one element, with one index for each dimension. The memory may be
  /// misaligned. Throws Error if the elements do not have the type `T`, if the host cannot reach
  /// the memory, for another number of indices than dimensions, and for an index that is negative
  /// or not below the size of its dimension. A loop over many elements is faster with data() and
  /// strides().
  template <class T, class... Index> T at(Index... indices) const {
    require_type<T>();
    const auto *data = static_cast<const unsigned char *>(address());
    data += offset_of(indices...) * static_cast<std::int64_t>(sizeof(T));
    if constexpr (std::is_same_v<T, bool>) {
      return *data != 0; // other bytes than 0 and 1 are no value of a bool
    } else {
      T value;
      std::memcpy(&value, data, sizeof value);
      return value;
    }
  }

  /// Returns one element, for reading and writing: a reference that is valid until the last handle
  /// to the memory is destroyed. Throws Error in the cases of at(), for read-only memory, and if
  /// the memory is misaligned.
  template <class T, class... Index> T &at_mut(Index... indices) & {
    T *data = data_mut<T>();
    return data[offset_of(indices...)];
  }
  template <class T, class... Index>
  void at_mut(Index...) const && = delete; // give the temporary tensor a name

  /// Returns the values for people to read, as operator<< prints them. The values are copied, on
  /// the host.
  std::string to_string() const {
    std::string text;
    for (std::size_t length = 200; length > text.size();) {
      text.resize(length); // one byte more is for the NUL
      detail::call([&](dlb_error **error) {
        return dlb_tensor_to_string(handle(), &text[0], text.size() + 1, &length, error);
      });
      if (length <= text.size()) {
        text.resize(length);
        return text;
      }
    }
    return text;
  }

  /// Copies the elements into a new vector, in row-major order. The memory may be on any device.
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
  /// Returns a view of the elements as std::mdspan, valid until the last handle to the memory is
  /// destroyed. Throws Error in the cases of data(), if the tensor does not have `Rank` dimensions,
  /// and for strides that std::layout_stride does not support: zero and negative strides, and
  /// strides that make elements overlap. dlbridge/mdspan.hpp has an example.
  template <class T, std::size_t Rank>
  std::mdspan<const T, std::dextents<std::int64_t, Rank>, std::layout_stride> as_mdspan() const & {
    return {data<T>(), detail::mapping<Rank>(shape(), strides(), size() == 0)};
  }
  template <class T, std::size_t Rank>
  void as_mdspan() const && = delete; // give the temporary tensor a name

  /// Returns a std::mdspan through which the elements may be written. Throws Error in the cases of
  /// as_mdspan(), and for read-only memory.
  template <class T, std::size_t Rank>
  std::mdspan<T, std::dextents<std::int64_t, Rank>, std::layout_stride> as_mdspan_mut() & {
    return {data_mut<T>(), detail::mapping<Rank>(shape(), strides(), size() == 0)};
  }
#endif

  /// @}
  /// @name Handles to the same memory
  ///
  /// ```cpp
  /// dlbridge::Tensor tensor =
  ///     dlbridge::Tensor::from_vector(std::vector<float>{0, 1, 2, 3, 4, 5}, {2, 3});
  /// dlbridge::Tensor second = tensor.share();
  ///
  /// std::int64_t shape[] = {3, 2}, strides[] = {1, 3};
  /// DLTensor desc = tensor.view();
  /// desc.shape = shape;
  /// desc.strides = strides;
  /// dlbridge::Tensor transpose = tensor.share_as(desc);
  /// assert(transpose.data<float>() == second.data<float>());
  /// ```
  /// @{

  /// Returns another handle to the same memory, described by `desc`: a part of it, a transpose,
  /// another element type. No data is copied. Throws Error unless the elements of `desc` lie within
  /// the bytes from the lowest to the highest element of this tensor.
  Tensor share_as(const DLTensor &desc) const {
    return Tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_share_as(handle(), &desc, out, error);
    }));
  }

  /// Returns another handle to the same memory; an empty handle if this one is empty. No data is
  /// copied.
  Tensor share() const { return Tensor(dlb_tensor_share(get())); }

  /// @}
  /// @name Views
  ///
  /// Each function returns another handle to the same memory, and copies no data. This handle stays
  /// as it is; the memory lives as long as one of its handles, and may be written through each of
  /// them unless it is read-only. Names, arguments and results are PyTorch's; differences are
  /// noted. Negative dimensions count from the end. All functions throw Error for arguments that do
  /// not fit the shape.
  ///
  /// ```cpp
  /// // 2 rows of 3 pixels: blue, green, red. The rows begin 16 bytes apart.
  /// std::vector<std::uint8_t> frame(2 * 16);
  /// frame[16 + 3 + 2] = 200; // red, in row 1 and column 1
  /// dlbridge::Tensor image = dlbridge::Tensor::from_memory<std::uint8_t>(
  ///     frame.data(), {2, 3, 3}, {16, 3, 1}, std::move(frame));
  /// dlbridge::Tensor planes = image.flip({2}).permute({2, 0, 1}); // red, green, blue
  /// assert(planes.strides()[0] == -1 && planes.at<std::uint8_t>(0, 1, 1) == 200);
  ///
  /// dlbridge::Tensor right = image.slice(1, 1);                    // columns 1 and 2
  /// dlbridge::Tensor every_second = image.slice(1, std::nullopt, std::nullopt, 2); // 0 and 2
  /// assert(right.at<std::uint8_t>(1, 0, 2) == 200 && every_second.shape()[1] == 2);
  ///
  /// dlbridge::Tensor red = planes.select(0, 0).unsqueeze(0).expand({4, -1, -1});
  /// assert(red.shape()[0] == 4 && red.strides()[0] == 0);
  /// dlbridge::Tensor rows = planes.clone(dlbridge::MemoryFormat::contiguous).reshape({6, -1});
  /// assert(rows.shape()[1] == 3);
  /// ```
  /// @{

  /// Reorders the dimensions: dimension `i` of the result is dimension `dims[i]` of this tensor.
  Tensor permute(const std::vector<std::int64_t> &dims) const {
    return view_of(dlb_tensor_permute, dims.data(), rank(dims));
  }
  /// Swaps two dimensions.
  Tensor transpose(std::int64_t dim0, std::int64_t dim1) const {
    return view_of(dlb_tensor_transpose, dim0, dim1);
  }
  /// Takes the indices from `start` up to `end` (exclusive), `step` apart, in one dimension, as
  /// NumPy's array[start:end:step] does: negative bounds count from the end, bounds that are out of
  /// range are clamped, and std::nullopt is the bound that Python leaves out. PyTorch does not have
  /// negative steps.
  Tensor slice(std::int64_t dim, std::optional<std::int64_t> start = std::nullopt,
               std::optional<std::int64_t> end = std::nullopt, std::int64_t step = 1) const {
    return view_of(dlb_tensor_slice, dim, bound(start), bound(end), step);
  }
  /// Takes one index of a dimension, which the result does not have. A negative index counts from
  /// the end.
  Tensor select(std::int64_t dim, std::int64_t index) const {
    return view_of(dlb_tensor_select, dim, index);
  }
  /// Reverses the order of the indices in these dimensions. The strides become negative, which
  /// libtorch does not have.
  Tensor flip(const std::vector<std::int64_t> &dims) const {
    return view_of(dlb_tensor_flip, dims.data(), rank(dims));
  }
  /// Repeats the elements of dimensions of size 1, and adds dimensions before the first. A size of
  /// -1 keeps the size. The strides of these dimensions become 0: several indices reach the same
  /// element.
  Tensor expand(const std::vector<std::int64_t> &shape) const {
    return view_of(dlb_tensor_expand, shape.data(), rank(shape));
  }
  /// Removes all dimensions of size 1.
  Tensor squeeze() const { return view_of(dlb_tensor_squeeze); }
  /// Removes one dimension if its size is 1. Otherwise the result has the shape of this tensor.
  Tensor squeeze(std::int64_t dim) const { return view_of(dlb_tensor_squeeze_dim, dim); }
  /// Adds a dimension of size 1 before dimension `dim`; -1 adds the last dimension.
  Tensor unsqueeze(std::int64_t dim) const { return view_of(dlb_tensor_unsqueeze, dim); }
  /// Gives the elements another shape, in the same row-major order. One size may be -1: it follows
  /// from the others. This is PyTorch's view(): throws Error where the elements would have to be
  /// copied.
  Tensor reshape(const std::vector<std::int64_t> &shape) const {
    return view_of(dlb_tensor_reshape, shape.data(), rank(shape));
  }
  /// Gives the tensor this shape and these strides. `offset` is the distance, in elements, from the
  /// first element of this tensor to the first element of the result; PyTorch counts from the
  /// beginning of the storage instead. Strides and `offset` may be negative. Throws Error if the
  /// result reaches beyond the lowest or the highest element of this tensor, or if the memory is
  /// not on the host and the tensor has gaps between its elements.
  Tensor as_strided(const std::vector<std::int64_t> &shape,
                    const std::vector<std::int64_t> &strides, std::int64_t offset = 0) const {
    require_rank(shape, strides, false);
    return view_of(dlb_tensor_as_strided, shape.data(), strides.data(), rank(shape), offset);
  }

  /// @}
  /// @name Copies and devices
  ///
  /// ```cpp
  /// std::vector<float> values{1, 2, 3, 4};
  /// dlbridge::Tensor tensor = dlbridge::Tensor::from_vector(std::move(values), {2, 2});
  /// dlbridge::Tensor copy = tensor.clone();
  ///
  /// dlbridge::Tensor columns = dlbridge::Tensor::empty<float>({2, 2}, {1, 2});
  /// tensor.copy_into(columns); // the same elements, in the other order in memory
  /// assert(columns.data<float>()[1] == 3);
  ///
  /// dlbridge::Tensor on_host = std::move(copy).into_device(dlbridge::cpu); // is there already
  /// dlbridge::Tensor second = on_host.to_device(dlbridge::cpu);            // always a copy
  /// assert(second.data<float>() != on_host.data<float>());
  /// ```
  /// @{

  /// Copies the data into new memory on the same device, as PyTorch's clone() does. `stream` has
  /// the meaning that it has for dlb_tensor_to_device().
  Tensor clone(MemoryFormat format = MemoryFormat::preserve,
               std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    return Tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_clone(handle(), static_cast<std::int32_t>(format), stream, out, error);
    }));
  }

  /// Copies the elements to those of `target`. Strides may differ. Throws Error if shapes or
  /// element types differ, and for a target that is read-only, whose elements overlap or
  /// interleave, or that shares memory with this tensor. The caller makes sure that no other code
  /// reads or writes the memory of `target` during the copy.
  void copy_into(Tensor &target, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    detail::call([&](dlb_error **error) {
      return dlb_tensor_copy_into(handle(), target.handle("target"), stream, error);
    });
  }

  /// Copies the data to a device, even if it is on that device already. {kDLCUDAHost, 0} is
  /// page-locked memory of the host. Throws Error if CUDA or the device is not available.
  Tensor to_device(DLDevice device, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) const {
    return Tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_to_device(handle(), device, stream, out, error);
    }));
  }

  /// Moves the tensor to a device. Returns the handle unchanged if the memory is on that device
  /// already, and otherwise makes one copy. Throws Error if CUDA or the device is not available.
  Tensor into_device(DLDevice device, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) && {
    Tensor tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return dlb_tensor_into_device(handle(), device, stream, out, error);
    }));
    (void)release();
    return tensor;
  }
  void into_device(...) const & = delete; // write std::move(tensor).into_device(device)

  /// @}
  /// @name Streams
  ///
  /// On the host these functions do nothing, so the same code serves for tensors of every device.
  ///
  /// ```cpp
  /// const std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT; // or the number of a CUstream
  /// dlbridge::Tensor tensor = dlbridge::Tensor::empty<float>({2, 3});
  /// tensor.wait_stream(stream);   // another library fills the memory on `stream`
  /// tensor.record_stream(stream); // another library will read the memory on `stream`
  /// dlbridge::synchronize(tensor.device(), stream); // the host waits for the work on `stream`
  /// ```
  /// @{

  /// Makes the contents ready for use on a stream: work that is put on `stream` after this call
  /// waits for the contents. When the memory is released, it is not reused before the work that is
  /// on `stream` at that time is done. Does nothing for host memory.
  void record_stream(std::int64_t stream) const {
    detail::call(
        [&](dlb_error **error) { return dlb_tensor_record_stream(handle(), stream, error); });
  }

  /// Makes dlbridge wait for a stream: all its work on the memory after this call comes after the
  /// work that is on `stream` at the time of the call. Does nothing for host memory.
  void wait_stream(std::int64_t stream) const {
    detail::call(
        [&](dlb_error **error) { return dlb_tensor_wait_stream(handle(), stream, error); });
  }

  /// @}
  /// @name DLPack structs
  ///
  /// ```cpp
  /// dlbridge::Tensor tensor = dlbridge::Tensor::empty<float>({2, 3});
  /// dlbridge::Exported shared = tensor.share_dlpack();            // `tensor` keeps the memory too
  /// dlbridge::ExportedLegacy older = tensor.share_dlpack_legacy();
  /// dlbridge::Exported moved = std::move(tensor).into_dlpack();   // `tensor` is empty now
  /// assert(!tensor && moved->dl_tensor.data == shared->dl_tensor.data);
  /// assert(older->dl_tensor.ndim == 2);
  /// ```
  /// @{

  /// Makes a DLPack struct that is another owner of the same memory. No data is copied. For device
  /// memory, call record_stream() with the consumer's stream before the consumer uses the memory.
  Exported share_dlpack() const {
    return Exported(detail::output_of<DLManagedTensorVersioned *>(
        [&](DLManagedTensorVersioned **out, dlb_error **error) {
          return dlb_tensor_share_dlpack(handle(), out, error);
        }));
  }

  /// Moves the handle into a DLPack struct. No data is copied.
  Exported into_dlpack() && {
    Exported exported(detail::output_of<DLManagedTensorVersioned *>(
        [&](DLManagedTensorVersioned **out, dlb_error **error) {
          return dlb_tensor_into_dlpack(handle(), out, error);
        }));
    (void)release();
    return exported;
  }
  void into_dlpack() const & = delete; // write std::move(tensor).into_dlpack()

  /// Makes a DLPack struct of the older type that is another owner of the same memory. No data is
  /// copied. Throws Error for read-only memory.
  ExportedLegacy share_dlpack_legacy() const {
    return ExportedLegacy(
        detail::output_of<DLManagedTensor *>([&](DLManagedTensor **out, dlb_error **error) {
          return dlb_tensor_share_dlpack_legacy(handle(), out, error);
        }));
  }

  /// Moves the handle into a DLPack struct of the older type. No data is copied. Throws Error for
  /// read-only memory.
  ExportedLegacy into_dlpack_legacy() && {
    ExportedLegacy exported(
        detail::output_of<DLManagedTensor *>([&](DLManagedTensor **out, dlb_error **error) {
          return dlb_tensor_into_dlpack_legacy(handle(), out, error);
        }));
    (void)release();
    return exported;
  }
  void into_dlpack_legacy() const & = delete; // write std::move(tensor).into_dlpack_legacy()

  /// @}

private:
  struct Free {
    void operator()(dlb_tensor *handle) const noexcept { dlb_tensor_free(handle); }
  };
  std::unique_ptr<dlb_tensor, Free> handle_;

  /// Returns the handle. Throws Error, which calls the tensor `name`, if it was moved from.
  dlb_tensor *handle(const char *name = "tensor") const {
    if (handle_ != nullptr) return handle_.get();
    throw Error(DLB_ERROR_NULL_POINTER, std::string("the ") + name + " was moved from");
  }

  /// Wraps memory, as from_memory() does. Messages of errors do not begin with `prefix`.
  template <class Owner>
  static Tensor wrap(const DLTensor &desc, Owner &&owner, std::uint64_t flags, const char *prefix) {
    using Object = std::decay_t<Owner>;
    // The owner is moved into this allocation after everything that can fail has succeeded.
    auto storage = std::make_unique<std::optional<Object>>();
    const auto release = [](void *owner) { delete static_cast<std::optional<Object> *>(owner); };
    Tensor tensor(detail::output_of<dlb_tensor *>(
        [&](dlb_tensor **out, dlb_error **error) {
          return dlb_tensor_from_memory(&desc, flags, storage.get(), release, out, error);
        },
        prefix));
    storage.release()->emplace(std::move(owner));
    return tensor;
  }

  /// Returns the new handle that a function of the library makes, or throws its error.
  template <class Function> static dlb_tensor *create(Function &&function) {
    return detail::output_of<dlb_tensor *>(function);
  }

  /// Returns the description of a row-major tensor on the host. It points to `shape`.
  static DLTensor describe(void *data, DLDataType dtype,
                           std::vector<std::int64_t> &shape) noexcept {
    return {data, cpu, static_cast<std::int32_t>(shape.size()), dtype, shape.data(), nullptr, 0};
  }

  /// Checks the type of an owner, which is passed as `Owner &&`.
  template <class Owner> static constexpr void require_owner() noexcept {
    using Object = std::decay_t<Owner>;
    static_assert(std::is_rvalue_reference_v<Owner &&> || detail::is_shared_ptr<Object>,
                  "move the owner in: std::move(owner)");
    static_assert(!std::is_const_v<std::remove_reference_t<Owner>> || detail::is_shared_ptr<Object>,
                  "a const owner would be copied, not moved");
    static_assert(!std::is_pointer_v<Object>, "a bare pointer or array owns nothing");
    static_assert(std::is_nothrow_destructible_v<Object>, "an owner's destructor does not throw");
    static_assert(std::is_nothrow_move_constructible_v<Object>,
                  "an owner whose move may throw: put it into a std::unique_ptr");
  }

  /// Returns the object to move into a tensor: the owner itself, or a copy of a std::shared_ptr.
  template <class Owner> static Owner &&movable(Owner &&owner) noexcept { return std::move(owner); }
  template <class T> static std::shared_ptr<T> movable(const std::shared_ptr<T> &owner) noexcept {
    return owner;
  }
  template <class T> static std::shared_ptr<T> movable(std::shared_ptr<T> &owner) noexcept {
    return owner;
  }

  /// Calls a function of the library that makes a view of this tensor.
  template <class Function, class... Arguments>
  Tensor view_of(Function *function, Arguments... arguments) const {
    return Tensor(create([&](dlb_tensor **out, dlb_error **error) {
      return function(handle(), arguments..., out, error);
    }));
  }

  /// Returns the number of dimensions that `sizes` describes, as the C library counts them.
  static std::int32_t rank(const std::vector<std::int64_t> &sizes) noexcept {
    return static_cast<std::int32_t>(sizes.size());
  }

  /// Returns a bound of a slice as the C library takes it.
  static std::int64_t bound(std::optional<std::int64_t> bound) noexcept {
    // DLB_SLICE_NONE would mean no bound. Its neighbour is clamped to the same index.
    constexpr std::int64_t lowest = DLB_SLICE_NONE + 1;
    return !bound ? DLB_SLICE_NONE : *bound < lowest ? lowest : *bound;
  }

  /// Throws Error unless there are as many strides as sizes, or no strides and `none` is true.
  static void require_rank(const std::vector<std::int64_t> &shape,
                           const std::vector<std::int64_t> &strides, bool none) {
    if ((none && strides.empty()) || strides.size() == shape.size()) return;
    throw Error(DLB_ERROR_INVALID_ARGUMENT,
                "there must be as many strides as dimensions: expected " +
                    std::to_string(shape.size()) + ", found " + std::to_string(strides.size()));
  }

  /// Throws Error unless `shape` has `count` elements. (The library refuses negative sizes.)
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
    if (shape.size() == 1) text += ",";
    throw Error(DLB_ERROR_LAYOUT,
                "shape (" + text + ") has another number of elements than the vector, which has " +
                    std::to_string(count));
  }

  /// Returns the address of the first element. Throws Error if the host cannot reach the memory.
  const void *address() const {
    return detail::output_of<const void *>(
        [&](const void **out, dlb_error **error) { return dlb_tensor_data(get(), out, error); });
  }

  /// Returns the offset of an element from the first one, in elements. Throws Error unless there is
  /// one index for each dimension, and each is within its dimension.
  template <class... Index> std::int64_t offset_of(Index... indices) const {
    static_assert((std::is_integral_v<Index> && ...), "an index is an integer");
    const DLTensor &desc = view();
    if (desc.ndim != static_cast<std::int32_t>(sizeof...(Index))) {
      throw Error(DLB_ERROR_LAYOUT, "expected " + std::to_string(desc.ndim) + " indices, found " +
                                        std::to_string(sizeof...(Index)));
    }
    std::int64_t offset = 0;
    std::int32_t dim = 0;
    const auto step = [&](std::int64_t index) {
      if (index < 0 || index >= desc.shape[dim]) {
        const std::int64_t last = desc.shape[dim] - 1;
        throw Error(DLB_ERROR_INVALID_ARGUMENT,
                    "index " + std::to_string(index) + " of dimension " + std::to_string(dim) +
                        " is out of range: " +
                        (last < 0 ? "there is none" : "expected 0 to " + std::to_string(last)));
      }
      offset += index * desc.strides[dim++];
    };
    (step(static_cast<std::int64_t>(indices)), ...);
    (void)step;
    return offset;
  }

  template <class T> void require_type() const {
    if (is<T>()) return;
    throw Error(DLB_ERROR_DTYPE,
                "expected " + dtype_name(dtype_of<T>()) + ", found " + dtype_name(dtype()));
  }

  /// Returns `data` as the address of a `T`. Throws Error unless it is aligned for one.
  template <class T, class Void> static T *aligned(Void *data) {
    if (reinterpret_cast<std::uintptr_t>(data) % alignof(T) == 0) return static_cast<T *>(data);
    throw Error(DLB_ERROR_LAYOUT,
                "the address is not a multiple of " + std::to_string(alignof(T)) +
                    ", the alignment of " + dtype_name(dtype_of<std::remove_const_t<T>>()),
                DLB_REMEDY_CLONE);
  }
};

static_assert(sizeof(Tensor) == sizeof(void *), "a handle is a pointer");

/// Prints the values of a tensor for people to read, as to_string() returns them.
///
/// ```cpp
/// std::cout << dlbridge::Tensor::from_vector(std::vector<float>{1, 2, 3, 4}, {2, 2}) << '\n';
/// ```
inline std::ostream &operator<<(std::ostream &stream, const Tensor &tensor) {
  return stream << tensor.to_string();
}

/// Blocks until all work that was put on a stream of a device is done. Does nothing for the host,
/// and with DLB_STREAM_NO_SYNC. Throws Error if CUDA or the device is not available.
///
/// ```cpp
/// dlbridge::synchronize(dlbridge::cpu); // the host has no streams: returns at once
/// if ((dlb_capabilities() & DLB_CAP_CUDA) != 0) {
///   try {
///     dlbridge::synchronize({kDLCUDA, 0});
///   } catch (const dlbridge::Error &error) {
///     assert(error.status() == DLB_ERROR_CUDA); // no CUDA on this machine
///   }
/// }
/// ```
inline void synchronize(DLDevice device, std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT) {
  detail::call([&](dlb_error **error) { return dlb_synchronize(device, stream, error); });
}

/// Gives all memory that is cached for later copies back to the system's allocator. Returns its
/// size in bytes.
///
/// ```cpp
/// const std::size_t before = dlbridge::set_cache_limit(64 << 20); // bytes; 0: no cache
/// const auto tensor = dlbridge::Tensor::from_vector(std::vector<float>(1 << 20), {1 << 20});
/// { const dlbridge::Tensor copy = tensor.clone(); } // the next clone takes the 4 MiB of this one
/// assert(dlbridge::cached_bytes() >= 4 << 20);
/// dlbridge::trim();
/// assert(dlbridge::cached_bytes() == 0);
/// dlbridge::set_cache_limit(before);
/// ```
inline std::size_t trim() noexcept { return dlb_trim(); }

/// Returns the size in bytes of the memory that is cached for later copies. The system may already
/// have taken some of its pages.
inline std::size_t cached_bytes() noexcept { return dlb_cached_bytes(); }

/// Sets the maximum size in bytes of the memory that is cached, and returns the maximum from
/// before. With `bytes` = 0 the cache is off. dlb_set_cache_limit() says what is kept, and how
/// long.
inline std::size_t set_cache_limit(std::size_t bytes) noexcept {
  return dlb_set_cache_limit(bytes);
}

} // namespace dlbridge

#endif // DLBRIDGE_HPP_
