// Tensors that dlbridge must refuse or handle with care, made in C++: ordinary Rust code cannot
// make them.

#include <ATen/ATen.h>
#include <ATen/FunctionalTensorWrapper.h>
#include <c10/core/InferenceMode.h>

#include "../../tests/support/odd_tensors.hpp"

// A tensor that dlbridge must refuse, by its name; NULL for an unknown name. The caller owns it.
extern "C" void *hostile_tensor(const char *wanted) {
  const c10::string_view name(wanted);
  const at::Tensor plain = at::arange(6, at::kFloat).reshape({2, 3});
  at::Tensor made;
  if (name == "undefined") {
    made = at::Tensor();
  } else if (name == "nested") {
    made = at::_nested_tensor_from_tensor_list({at::ones({2}), at::ones({3})});
  } else if (name == "sparse") {
    made = plain.to_sparse();
  } else if (name == "mkldnn") {
    made = plain.to_mkldnn();
  } else if (name == "functional") {
    made = at::functionalization::impl::to_functional_tensor(plain.clone());
  } else if (name == "requires_grad") {
    made = plain.clone().set_requires_grad(true);
  } else if (name == "conjugate") {
    made = at::ones({2}, at::kComplexFloat).conj();
  } else if (name == "negative") {
    made = at::_neg_view(plain.clone());
  } else if (name == "quantized") {
    made = at::quantize_per_tensor(plain, 0.1, 0, at::kQInt8);
  } else if (name == "lazy_clone") {
    made = at::_lazy_clone(plain);
  } else if (name == "meta") {
    made = at::empty({2}, at::TensorOptions(at::kFloat).device(at::kMeta));
  } else if (name == "zero") {
    made = at::_efficientzerotensor({2}, at::kFloat);
  } else if (name == "int4") {
    made = at::empty({2}, at::TensorOptions(at::ScalarType::Int4));
  } else if (name == "bits8") {
    made = at::empty({2}, at::TensorOptions(at::ScalarType::Bits8));
  } else if (name == "short_storage") {
    made = at::empty({4}, at::kFloat);
    made.storage().unsafeGetStorageImpl()->set_nbytes(8);
  } else if (name == "negative_offset") {
    made = at::ones({6});
    made.unsafeGetTensorImpl()->set_storage_offset(-4);
  } else if (name == "no_memory") {
    made = at::ones({4});
    made.storage().unsafeGetStorageImpl()->set_data_ptr(at::DataPtr(nullptr, at::kCPU));
  } else if (name == "no_access") {
    made = at::ones({4});
    made.storage().unsafeGetStorageImpl()->release_data_and_set_meta_custom_data_ptr_error_msg_(
        "not to be read");
  } else if (name == "no_writes") {
    made = at::ones({4});
    made.storage().unsafeGetStorageImpl()->set_throw_on_mutable_data_ptr();
  } else if (name == "inference") {
    const c10::InferenceMode guard;
    made = at::arange(6, at::kFloat).reshape({2, 3});
  } else if (name == "external_blob") {
    static float memory[4] = {1, 2, 3, 4};
    made = at::from_blob(memory, {4}, at::TensorOptions(at::kFloat));
  } else if (name == "weak") {
    static c10::weak_intrusive_ptr<c10::StorageImpl> *weak = nullptr;
    made = at::ones({4});
    delete weak;
    weak = new c10::weak_intrusive_ptr<c10::StorageImpl>(made.storage().getWeakStorageImpl());
  } else {
    return nullptr;
  }
  return new at::Tensor(std::move(made));
}

// How many dispatch keys `hostile_key` knows.
extern "C" int hostile_keys() { return odd_tensors::keys; }

// A tensor with one dispatch key too many, whose name is written. The caller owns the tensor.
extern "C" void *hostile_key(int index, bool window, const char **name) {
  return new at::Tensor(odd_tensors::with_key(index, window, name));
}
