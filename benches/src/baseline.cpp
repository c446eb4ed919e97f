// The other side, for tests and benchmarks: what C++ does with libtorch directly, and tensors that
// no plain program makes.

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>
#include <ATen/FunctionalTensorWrapper.h>

#include <cstdint>

namespace {
void keep(void *) {}
} // namespace

extern "C" {

// The floor of a move into libtorch: a tensor over memory that something else owns.
void *baseline_from_blob(void *data, const int64_t *shape, const int64_t *strides, size_t ndim) {
  return new at::Tensor(at::for_blob(data, {shape, ndim})
                            .strides(at::IntArrayRef(strides, ndim))
                            .context(data, keep)
                            .options(at::TensorOptions(at::kFloat).device(at::kCPU))
                            .target_device(at::Device(at::kCPU))
                            .make_tensor());
}

// The same with an owner on the heap, as a program that moves a std::vector in must have.
void *baseline_from_owner(void *data, const int64_t *shape, const int64_t *strides, size_t ndim) {
  struct Owner {
    void *data;
    size_t length;
    size_t capacity;
  };
  return new at::Tensor(at::for_blob(data, {shape, ndim})
                            .strides(at::IntArrayRef(strides, ndim))
                            .context(new Owner{data, 0, 0}, [](void *owner) { delete static_cast<Owner *>(owner); })
                            .options(at::TensorOptions(at::kFloat).device(at::kCPU))
                            .target_device(at::Device(at::kCPU))
                            .make_tensor());
}

void baseline_free(void *tensor) { delete static_cast<at::Tensor *>(tensor); }

// The floor of a move out of libtorch: one owner more, the tensor gone, the owner gone.
const void *baseline_consume(void *tensor) {
  auto *owned = static_cast<at::Tensor *>(tensor);
  DLManagedTensorVersioned *managed = at::toDLPackVersioned(*owned);
  delete owned;
  const void *data = managed->dl_tensor.data;
  managed->deleter(managed);
  return data;
}

// A deep copy, laid out as the tensor or contiguous.
void *baseline_clone(const void *tensor, bool contiguous) {
  const auto format = contiguous ? at::MemoryFormat::Contiguous : at::MemoryFormat::Preserve;
  return new at::Tensor(static_cast<const at::Tensor *>(tensor)->clone(format));
}

// What libtorch's own DLPack converter makes of a struct, which it takes over.
void *baseline_from_dlpack(void *managed) {
  return new at::Tensor(at::fromDLPackVersioned(static_cast<DLManagedTensorVersioned *>(managed)));
}

// A tensor that dlbridge must refuse, by name; NULL for an unknown name.
void *baseline_make(const char *wanted) {
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
  } else if (name == "foreign_blob") {
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
}
