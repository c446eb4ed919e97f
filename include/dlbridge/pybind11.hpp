// Arguments and results of the type dlbridge::Tensor in extension modules that are made with
// pybind11 2.10 or newer. Include it in each file that binds a function with such an argument or
// result. docs/extension-modules.md has a complete module.
//
// An argument takes any array with `__dlpack__`, of any library, without copying it. An object that
// is no array lets pybind11 try the next overload. An array that cannot be shared raises the
// exception of dlbridge::python::from_object(). A result is an object that every library takes; see
// dlbridge::python::into_object().
#ifndef DLBRIDGE_PYBIND11_HPP_
#define DLBRIDGE_PYBIND11_HPP_

#include <pybind11/pybind11.h>

#include "python.hpp"

namespace pybind11::detail {

template <> struct type_caster<dlbridge::Tensor> {
  PYBIND11_TYPE_CASTER(dlbridge::Tensor, const_name("object"));

  bool load(handle source, bool) {
    if (!dlbridge::python::is_producer(source.ptr())) return false;
    value = dlbridge::python::from_object(source.ptr());
    if (!value) throw error_already_set();
    return true;
  }

  static handle cast(dlbridge::Tensor &&tensor, return_value_policy, handle) {
    return object_of(std::move(tensor));
  }
  // A handle that stays with C++ code: the object gets another handle to the same memory.
  static handle cast(const dlbridge::Tensor &tensor, return_value_policy, handle) {
    return object_of(tensor.share());
  }

private:
  static handle object_of(dlbridge::Tensor &&tensor) {
    PyObject *object = dlbridge::python::into_object(std::move(tensor));
    if (object == nullptr) throw error_already_set();
    return object;
  }
};

} // namespace pybind11::detail

namespace dlbridge::python {

/// Returns the tensor as an array of the library of `original`. Throws pybind11::error_already_set.
inline pybind11::object like(pybind11::handle original, Tensor &&tensor) {
  PyObject *array = like(original.ptr(), std::move(tensor));
  if (array == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(array);
}

} // namespace dlbridge::python

#endif // DLBRIDGE_PYBIND11_HPP_
