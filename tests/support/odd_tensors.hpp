// Tensors over ordinary memory with one dispatch key or backend too many, as a library beside
// libtorch could make them: one for each key that this libtorch has.
#ifndef TESTS_SUPPORT_ODD_TENSORS_HPP_
#define TESTS_SUPPORT_ODD_TENSORS_HPP_

#include <string>

#include <ATen/ATen.h>

namespace odd_tensors {

constexpr int functionalities = c10::num_functionality_keys - 1; // all but `Undefined`
constexpr int keys = functionalities + c10::num_backends;

// A tensor of 3 by 4 numbers, from 0 to 11, that has the key `index` too, or a window of the 2 by 2
// numbers 5, 6, 9 and 10. Writes the name of the key.
inline at::Tensor with_key(int index, bool window, const char **name) {
  const at::Tensor plain = at::arange(12, at::kFloat).reshape({3, 4});
  c10::DispatchKeySet set = plain.key_set();
  if (index < functionalities) {
    const auto key = static_cast<c10::DispatchKey>(index + 1);
    *name = c10::toString(key);
    set = set | c10::DispatchKeySet(key);
  } else {
    const auto backend = static_cast<c10::BackendComponent>(index - functionalities + 1);
    const auto key = c10::toRuntimePerBackendFunctionalityKey(c10::DispatchKey::Dense, backend);
    *name = c10::toString(key);
    set = set | c10::DispatchKeySet(backend);
  }
  at::Tensor made =
      at::detail::make_tensor<c10::TensorImpl>(c10::Storage(plain.storage()), set, plain.dtype());
  c10::TensorImpl *impl = made.unsafeGetTensorImpl();
  // The constructor leaves out the keys of Python classes, which come in a pair.
  if (*name == std::string("Python") || *name == std::string("PythonTLSSnapshot")) {
    *name = "Python";
    impl->set_python_dispatch(true);
  }
  if (window) {
    impl->set_sizes_and_strides(at::IntArrayRef({2, 2}), at::IntArrayRef({4, 1}));
    impl->set_storage_offset(5);
  } else {
    impl->set_sizes_and_strides(at::IntArrayRef({3, 4}), at::IntArrayRef({4, 1}));
  }
  return made;
}

} // namespace odd_tensors

#endif // TESTS_SUPPORT_ODD_TENSORS_HPP_
