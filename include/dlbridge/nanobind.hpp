// Arguments and results of the type dlbridge::Tensor in extension modules that are made with
// nanobind 2 or newer. Include it in each file that binds a function with such an argument or
// result. docs/extension-modules.md has a complete module.
//
// An argument takes any array with `__dlpack__`, of any library, without copying it. An object that
// is no array lets nanobind try the next overload. An array that cannot be shared raises the
// exception of dlbridge::python::from_object(). A result is an object that every library takes; see
// dlbridge::python::into_object().
#ifndef DLBRIDGE_NANOBIND_HPP_
#define DLBRIDGE_NANOBIND_HPP_

#include <nanobind/nanobind.h>

#include "python.hpp"

#include <exception>

namespace nanobind::detail {

template <> struct type_caster<dlbridge::Tensor> {
  using Value = dlbridge::Tensor;
  static constexpr auto Name = const_name("object");
  template <class T> using Cast = movable_cast_t<T>;
  // Casters of containers ask this before they convert, because they must not throw.
  template <class T> bool can_cast() const noexcept { return !error_; }

  bool from_python(handle source, std::uint32_t, cleanup_list *) noexcept {
    if (!dlbridge::python::is_producer(source.ptr())) return false;
    value_ = dlbridge::python::from_object(source.ptr());
    if (!value_) error_ = std::make_exception_ptr(python_error());
    return true;
  }

  static handle from_cpp(Value &&tensor, rv_policy, cleanup_list *) noexcept {
    return dlbridge::python::into_object(std::move(tensor));
  }
  // A handle that stays with C++ code: the object gets another handle to the same memory.
  static handle from_cpp(const Value &tensor, rv_policy, cleanup_list *) noexcept {
    return dlbridge::python::into_object(Value(dlb_tensor_share(tensor.get())));
  }

  explicit operator Value *() { return &value(); }
  explicit operator Value &() { return value(); }
  explicit operator Value &&() { return std::move(value()); }

private:
  // nanobind reads arguments in a function that must not throw, and calls this one afterwards.
  Value &value() {
    if (error_) std::rethrow_exception(error_);
    return value_;
  }

  Value value_;
  std::exception_ptr error_;
};

} // namespace nanobind::detail

namespace dlbridge::python {

/// Returns the tensor as an array of the library of `original`. Throws nanobind::python_error.
inline nanobind::object like(nanobind::handle original, Tensor &&tensor) {
  PyObject *array = like(original.ptr(), std::move(tensor));
  if (array == nullptr) throw nanobind::python_error();
  return nanobind::steal(array);
}

} // namespace dlbridge::python

#endif // DLBRIDGE_NANOBIND_HPP_
