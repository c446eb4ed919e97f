// Python objects as tensors and tensors as Python objects, for extension modules in C++17.
// dlbridge/nanobind.hpp and dlbridge/pybind11.hpp use this file; modules that are written with
// CPython's C interface can use it directly. It needs Python.h of CPython 3.11 or newer, also with
// Py_LIMITED_API. docs/extension-modules.md has complete modules, which the tests build and run.
//
// No function copies elements, but for those exports that say so. The functions follow CPython's
// convention: the calling thread is attached to the interpreter (holds the GIL), and a function
// that fails returns an empty tensor or a null pointer, and sets a Python exception. They throw no
// C++ exception.
//
// Python code may write the memory of an array at any time, and so may other libraries. The module
// makes sure that they do not while it uses the elements.
#ifndef DLBRIDGE_PYTHON_HPP_
#define DLBRIDGE_PYTHON_HPP_

#include <Python.h>

#include "../dlbridge.hpp"

#include <algorithm>
#include <cstdio>
#include <new>

namespace dlbridge::python {

namespace detail {

/// Sets the Python exception of the C++ exception that is being handled: BufferError for an Error,
/// MemoryError if memory cannot be allocated, RuntimeError for others.
inline void set_exception() noexcept {
  try {
    throw;
  } catch (const Error &error) {
    const bool no_memory = error.status() == DLB_ERROR_OUT_OF_MEMORY;
    PyErr_SetString(no_memory ? PyExc_MemoryError : PyExc_BufferError, error.what());
  } catch (const std::bad_alloc &) {
    PyErr_NoMemory();
  } catch (const std::exception &error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "unknown C++ exception");
  }
}

} // namespace detail

/// Calls `function`, and returns what it returns. If it throws, sets a Python exception and returns
/// an empty value: BufferError for an Error, MemoryError if memory cannot be allocated, and
/// RuntimeError for other C++ exceptions. C++ exceptions must not leave a function that Python
/// calls.
template <class Function> auto guarded(Function &&function) noexcept -> decltype(function()) {
  try {
    return function();
  } catch (...) {
    detail::set_exception();
    return {};
  }
}

namespace detail {

/// Puts a pending exception aside while other code runs, and back at the end.
class PendingException {
public:
  PendingException(const PendingException &) = delete;
  PendingException &operator=(const PendingException &) = delete;
#if PY_VERSION_HEX >= 0x030C0000 && (!defined(Py_LIMITED_API) || Py_LIMITED_API >= 0x030C0000)
  PendingException() noexcept : exception_(PyErr_GetRaisedException()) {}
  ~PendingException() { PyErr_SetRaisedException(exception_); }

private:
  PyObject *exception_;
#else
  PendingException() noexcept { PyErr_Fetch(&type_, &value_, &traceback_); }
  ~PendingException() { PyErr_Restore(type_, value_, traceback_); }

private:
  PyObject *type_, *value_, *traceback_;
#endif
};

/// Releases one reference to a Python object. A pending exception stays: the destructor of a
/// capsule calls a deleter, which may run Python code.
struct Decref {
  void operator()(PyObject *object) const noexcept {
    const PendingException pending;
    Py_DECREF(object);
  }
};
/// One reference to a Python object; empty after a call that failed.
using Object = std::unique_ptr<PyObject, Decref>;

/// Reads a pair of numbers from a Python tuple. Returns false, with an exception set, for others.
inline bool read_pair(PyObject *pair, const char *name, long (&numbers)[2]) noexcept {
  if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
    PyErr_Format(PyExc_TypeError, "%s must be a tuple of two numbers", name);
    return false;
  }
  for (Py_ssize_t index = 0; index < 2; ++index) {
    numbers[index] = PyLong_AsLong(PyTuple_GetItem(pair, index));
    if (numbers[index] == -1 && PyErr_Occurred() != nullptr) return false;
  }
  return true;
}

// -- Import

constexpr const char *versioned_name = "dltensor_versioned", *legacy_name = "dltensor";

/// Consumes the struct of a capsule. If it fails, the capsule still owns the struct.
template <class Owner>
Tensor consume_as(PyObject *capsule, const char *name, const char *used) noexcept {
  using Struct = typename Owner::element_type;
  void *address = PyCapsule_GetPointer(capsule, name);
  if (address == nullptr) return {};
  if (reinterpret_cast<std::uintptr_t>(address) % alignof(Struct) != 0) {
    PyErr_SetString(PyExc_BufferError, "the capsule holds a misaligned address");
    return {};
  }
  Owner owner(static_cast<Struct *>(address));
  Tensor tensor = guarded([&] { return Tensor::from_dlpack(std::move(owner)); });
  (void)owner.release(); // consumed, or still the capsule's
  if (!tensor) return {};
  PyCapsule_SetName(capsule, used);
  const int code = tensor.dtype().code;
  if (code <= kDLFloat4_e2m1fn) return tensor;
  tensor = Tensor(); // before the exception: the deleter may run Python code
  PyErr_Format(PyExc_BufferError, "DLPack has no element type %d", code);
  return {};
}

/// Consumes a DLPack capsule.
inline Tensor consume(PyObject *capsule) noexcept {
  if (PyCapsule_IsValid(capsule, versioned_name)) {
    return consume_as<Exported>(capsule, versioned_name, "used_dltensor_versioned");
  }
  if (PyCapsule_IsValid(capsule, legacy_name)) {
    return consume_as<ExportedLegacy>(capsule, legacy_name, "used_dltensor");
  }
  PyErr_SetString(PyExc_ValueError, "the capsule is no DLPack capsule, or was consumed already");
  return {};
}

/// Returns whether PyTorch's negative bit is set, which PyTorch's export does not pass on. Returns
/// -1, with an exception set, if the call fails.
inline int is_negative_view(PyObject *object) noexcept {
  const Object method(PyObject_GetAttrString(object, "is_neg"));
  if (!method) {
    PyErr_Clear(); // no tensor of PyTorch
    return 0;
  }
  const Object answer(PyObject_CallNoArgs(method.get()));
  return answer ? answer.get() == Py_True : -1;
}

/// Returns the arguments of `__dlpack__` for memory of this device: dlbridge uses the legacy
/// default stream.
inline Object export_arguments(long device_type) noexcept {
  Object arguments(
      Py_BuildValue("{s:(ii)}", "max_version", DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION));
  const bool cuda = device_type == kDLCUDA, rocm = device_type == kDLROCM;
  if (!arguments || !(cuda || rocm)) return arguments;
  const Object stream(PyLong_FromLong(cuda ? DLB_STREAM_LEGACY_DEFAULT : 0));
  if (!stream || PyDict_SetItemString(arguments.get(), "stream", stream.get()) != 0) return {};
  return arguments;
}

/// Calls `__dlpack__` of a producer.
inline Object call_dlpack(PyObject *object, PyObject *method) noexcept {
  const Object device(PyObject_CallMethod(object, "__dlpack_device__", nullptr));
  long numbers[2];
  if (!device || !read_pair(device.get(), "__dlpack_device__()", numbers)) return {};
  const Object arguments = export_arguments(numbers[0]), none(PyTuple_New(0));
  if (!arguments || !none) return {};
  Object capsule(PyObject_Call(method, none.get(), arguments.get()));
  if (capsule || !PyErr_ExceptionMatches(PyExc_TypeError)) return capsule;
  // Producers of the first protocol take no version.
  PyErr_Clear();
  if (PyDict_DelItemString(arguments.get(), "max_version") != 0) return {};
  return Object(PyObject_Call(method, none.get(), arguments.get()));
}

} // namespace detail

/// Returns whether `object` has `__dlpack__`, or is a capsule.
inline bool is_producer(PyObject *object) noexcept {
  return PyCapsule_CheckExact(object) || PyObject_HasAttrString(object, "__dlpack__") == 1;
}

/// Shares the memory of a Python array: of any object with `__dlpack__`, or of a DLPack capsule.
/// Sets TypeError for other objects; BufferError for arrays that cannot be shared; and passes on
/// the exception of the producer. The array's memory is released on the thread that destroys the
/// last handle; a producer whose deleter needs the interpreter attaches that thread itself.
inline Tensor from_object(PyObject *object) noexcept {
  if (PyCapsule_CheckExact(object)) return detail::consume(object);
  const detail::Object method(PyObject_GetAttrString(object, "__dlpack__"));
  if (!method || PyType_Check(object)) {
    if (method || PyErr_ExceptionMatches(PyExc_AttributeError)) {
      PyErr_Format(PyExc_TypeError, "expected an array with __dlpack__, got %R", Py_TYPE(object));
    }
    return {};
  }
  if (const int negative = detail::is_negative_view(object)) {
    if (negative == 1) {
      PyErr_SetString(PyExc_BufferError, "the negative bit is set, which DLPack does not have: use "
                                         "tensor.resolve_neg()");
    }
    return {};
  }
  const detail::Object capsule = detail::call_dlpack(object, method.get());
  if (!capsule) return {};
  if (PyCapsule_CheckExact(capsule.get())) return detail::consume(capsule.get());
  PyErr_Format(PyExc_TypeError, "__dlpack__ returned %R, not a capsule", Py_TYPE(capsule.get()));
  return {};
}

namespace detail {

// -- Export

/// An object of the class that exports a tensor.
struct TensorObject {
  PyObject base;
  dlb_tensor *handle;
};

inline void dealloc(PyObject *self) noexcept {
  PyTypeObject *type = Py_TYPE(self);
  {
    const PendingException pending; // the deleter of a producer may run Python code
    dlb_tensor_free(reinterpret_cast<TensorObject *>(self)->handle);
  }
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

/// Another handle to the tensor of an object.
inline Tensor tensor_of(PyObject *self) noexcept {
  return Tensor(dlb_tensor_share(reinterpret_cast<TensorObject *>(self)->handle));
}

/// The destructor of a capsule: releases a struct that was not consumed.
template <class Struct> void release_capsule(PyObject *capsule) noexcept {
  constexpr bool versioned = std::is_same_v<Struct, DLManagedTensorVersioned>;
  const char *name = versioned ? versioned_name : legacy_name;
  if (!PyCapsule_IsValid(capsule, name)) return;
  const PendingException pending;
  Release()(static_cast<Struct *>(PyCapsule_GetPointer(capsule, name)));
}

template <class Owner> PyObject *new_capsule(Owner owner, const char *name) noexcept {
  PyObject *capsule =
      PyCapsule_New(owner.get(), name, release_capsule<typename Owner::element_type>);
  if (capsule != nullptr) (void)owner.release();
  return capsule;
}

/// What a consumer asks of `__dlpack__`.
struct Request {
  bool versioned = false, may_copy = true, must_copy = false, to_host = false;
  std::int64_t stream = DLB_STREAM_LEGACY_DEFAULT;
};

/// Reads the arguments of `__dlpack__`. Returns false, with an exception set, for wrong ones.
inline bool read_request(const Tensor &tensor, PyObject *args, PyObject *keywords,
                         Request &request) noexcept {
  static char names[4][12] = {"stream", "max_version", "dl_device", "copy"};
  static char *list[] = {names[0], names[1], names[2], names[3], nullptr};
  PyObject *stream = Py_None, *version = Py_None, *device = Py_None, *copy = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, keywords, "|$OOOO:__dlpack__", list, &stream, &version,
                                   &device, &copy)) {
    return false;
  }
  long numbers[2];
  if (version != Py_None) {
    if (!read_pair(version, "max_version", numbers)) return false;
    request.versioned = numbers[0] >= 1;
  }
  const DLDevice own = tensor.device();
  if (device != Py_None) {
    if (!read_pair(device, "dl_device", numbers)) return false;
    const bool is_own = numbers[0] == own.device_type && numbers[1] == own.device_id;
    request.to_host = !is_own && numbers[0] == kDLCPU;
    if (!is_own && !request.to_host) {
      PyErr_SetString(PyExc_BufferError, "dl_device: the memory is on another device");
      return false;
    }
  }
  if (copy != Py_None) {
    const int wanted = PyObject_IsTrue(copy);
    if (wanted < 0) return false;
    request.must_copy = wanted == 1, request.may_copy = wanted == 1;
  }
  if (stream == Py_None) return true;
  request.stream = PyLong_AsLongLong(stream);
  if (request.stream == -1 && PyErr_Occurred() != nullptr) return false;
  const bool cuda = own.device_type == kDLCUDA || own.device_type == kDLCUDAManaged;
  const bool is_valid =
      cuda && !request.to_host ? request.stream >= -1 && request.stream != 0 : request.stream == -1;
  if (!is_valid) PyErr_SetString(PyExc_ValueError, "stream: the device has no such stream");
  return is_valid;
}

/// Returns the tensor as a consumer asks for it: itself, or a copy, and then sets `copied`. Memory
/// with negative strides is copied, because PyTorch ends the process if it gets them.
inline Tensor prepared(Tensor tensor, const Request &request, bool &copied) {
  bool negative = false;
  for (const std::int64_t stride : tensor.strides()) negative = negative || stride < 0;
  if ((negative || request.to_host) && !request.may_copy) {
    throw Error(DLB_ERROR_UNSUPPORTED, negative
                                           ? "negative strides cannot be exported without a copy"
                                           : "the memory is on another device, and copy=False");
  }
  copied = negative || request.to_host || request.must_copy;
  if (request.to_host) return tensor.to_device(cpu);
  if (copied) tensor = tensor.clone();
  tensor.record_stream(request.stream);
  return tensor;
}

/// `__dlpack__`.
inline PyObject *dlpack(PyObject *self, PyObject *args, PyObject *keywords) noexcept {
  Tensor tensor = tensor_of(self);
  Request request;
  if (!read_request(tensor, args, keywords, request)) return nullptr;
  return guarded([&]() -> PyObject * {
    bool copied = false;
    Tensor exported = prepared(std::move(tensor), request, copied);
    if (!request.versioned) {
      return new_capsule(std::move(exported).into_dlpack_legacy(), legacy_name);
    }
    Exported owner = std::move(exported).into_dlpack();
    if (copied) owner->flags |= DLPACK_FLAG_BITMASK_IS_COPIED;
    return new_capsule(std::move(owner), versioned_name);
  });
}

/// `__dlpack_device__`.
inline PyObject *dlpack_device(PyObject *self, PyObject *) noexcept {
  return guarded([&] {
    const DLDevice device = tensor_of(self).device();
    return Py_BuildValue("(ii)", static_cast<int>(device.device_type), device.device_id);
  });
}

/// `__array__`: NumPy makes an array of one object of objects that have DLPack's methods only.
inline PyObject *array(PyObject *self, PyObject *args, PyObject *keywords) noexcept {
  static char names[2][8] = {"dtype", "copy"};
  static char *list[] = {names[0], names[1], nullptr};
  PyObject *dtype = Py_None, *copy = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OO:__array__", list, &dtype, &copy)) {
    return nullptr;
  }
  const Object numpy(PyImport_ImportModule("numpy"));
  if (!numpy) return nullptr;
  const Object array(PyObject_CallMethod(numpy.get(), "from_dlpack", "O", self));
  if (!array) return nullptr;
  const Object make(PyObject_GetAttrString(numpy.get(), "array"));
  const Object arguments(Py_BuildValue("(O)", array.get()));
  const Object options(Py_BuildValue("{s:O,s:O}", "dtype", dtype, "copy", copy));
  if (!make || !arguments || !options) return nullptr;
  return PyObject_Call(make.get(), arguments.get(), options.get());
}

template <class Function> PyCFunction as_method(Function *function) noexcept {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

/// Returns the class of exported tensors in this interpreter, which keeps it. Each module has its
/// own class, because modules may contain different versions of the library.
inline PyObject *tensor_class() noexcept {
  static PyMethodDef methods[] = {
      {"__dlpack__", as_method(dlpack), METH_VARARGS | METH_KEYWORDS,
       "Exports the memory as a DLPack capsule."},
      {"__dlpack_device__", dlpack_device, METH_NOARGS, "Type and index of the device."},
      {"__array__", as_method(array), METH_VARARGS | METH_KEYWORDS,
       "A NumPy array that shares the memory."},
      {nullptr, nullptr, 0, nullptr}};
  static PyType_Slot slots[] = {
      {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)}, {Py_tp_methods, methods}, {0, nullptr}};
  static PyType_Spec spec{"dlbridge.cpp.Tensor", static_cast<int>(sizeof(TensorObject)), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  char key[64];
  (void)std::snprintf(key, sizeof key, "dlbridge.cpp.Tensor %p", static_cast<void *>(&spec));
  PyObject *kept = PyInterpreterState_GetDict(PyInterpreterState_Get());
  if (kept == nullptr) {
    PyErr_SetString(PyExc_SystemError, "the interpreter has no dictionary for modules");
    return nullptr;
  }
  if (PyObject *found = PyDict_GetItemString(kept, key)) return found;
  const Object made(PyType_FromSpec(&spec));
  if (!made || PyDict_SetItemString(kept, key, made.get()) != 0) return nullptr;
  return PyDict_GetItemString(kept, key);
}

} // namespace detail

/// Returns a new Python object that exports the tensor: with `__dlpack__`, `__dlpack_device__` and
/// `__array__`, so that `from_dlpack` of every library, `numpy.asarray` and `torch.as_tensor` take
/// it. No data is copied; an export copies if the consumer asks for a copy, and if a stride is
/// negative. Sets ValueError for an empty handle.
inline PyObject *into_object(Tensor &&tensor) noexcept {
  if (!tensor) {
    PyErr_SetString(PyExc_ValueError, "the tensor was moved from");
    return nullptr;
  }
  PyObject *type = detail::tensor_class();
  if (type == nullptr) return nullptr;
  auto *object_type = reinterpret_cast<PyTypeObject *>(type);
  const auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(object_type, Py_tp_alloc));
  PyObject *object = allocate(object_type, 0);
  if (object != nullptr) {
    reinterpret_cast<detail::TensorObject *>(object)->handle = tensor.release();
  }
  return object;
}

/// Returns the tensor as an array of the library of `original`: of NumPy, PyTorch, JAX, or another
/// library with `__array_namespace__`; for other objects, the object of into_object(). The
/// library's `from_dlpack` decides whether data is copied: NumPy and PyTorch share the memory.
/// Read-only memory is copied for PyTorch, which has no read-only tensors.
inline PyObject *like(PyObject *original, Tensor &&tensor) noexcept {
  return guarded([&]() -> PyObject * {
    auto *type = reinterpret_cast<PyObject *>(Py_TYPE(original));
    const detail::Object module(PyObject_GetAttrString(type, "__module__"));
    const detail::Object text(module ? PyUnicode_AsUTF8String(module.get()) : nullptr);
    if (!text) return nullptr;
    std::string name = PyBytes_AsString(text.get());
    name.resize(std::min(name.find('.'), name.size()));
    if (name == "jaxlib" || name == "jax") name = "jax.numpy";
    if (name == "torch" && tensor.is_read_only()) tensor = tensor.clone();
    detail::Object object(into_object(std::move(tensor))), library;
    if (!object) return nullptr;
    if (name == "numpy" || name == "torch" || name == "jax.numpy") {
      library.reset(PyImport_ImportModule(name.c_str()));
    } else if (PyObject_HasAttrString(original, "__array_namespace__") == 1) {
      library.reset(PyObject_CallMethod(original, "__array_namespace__", nullptr));
    } else {
      return object.release();
    }
    return library ? PyObject_CallMethod(library.get(), "from_dlpack", "O", object.get()) : nullptr;
  });
}

} // namespace dlbridge::python

#endif // DLBRIDGE_PYTHON_HPP_
