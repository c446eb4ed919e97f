// What dlbridge asks of libtorch; see shim.h for the contracts.

#include "shim.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>

// ATen brings its own dlpack.h; ours came first and has the same include guard.
#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>
#include <ATen/FunctionalTensorWrapper.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/COW.h>
#include <torch/version.h>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 11 && TORCH_VERSION_MINOR <= 13,
              "dlbridge supports libtorch 2.11 to 2.13: point LIBTORCH to one of these");

namespace {

const at::Tensor &as_tensor(const dlb_torch_tensor *tensor) {
  return *reinterpret_cast<const at::Tensor *>(tensor);
}

dlb_torch_tensor *into_handle(at::Tensor tensor) {
  return reinterpret_cast<dlb_torch_tensor *>(new at::Tensor(std::move(tensor)));
}

// A message that needs no memory.
char no_message[] = "out of memory";

char *copy_of(const char *message) noexcept {
  char *copy = strdup(message);
  return copy != nullptr ? copy : no_message;
}

// Runs `body`; an exception becomes its message.
template <class Body> char *guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error &error) {
    // The message without the C++ stack.
    return copy_of(error.what_without_backtrace());
  } catch (const std::exception &error) {
    return copy_of(error.what());
  } catch (...) {
    return copy_of("unknown exception");
  }
}

// The deleter of all memory of ours. Its address is how such memory is recognised.
void release(void *context) noexcept {
  (*static_cast<void (**)(void *)>(context))(context);
}

// Does nothing; holds the context's place until the tensor exists.
void keep(void *) noexcept {}

at::IntArrayRef dims(const int64_t *values, size_t ndim) { return {values, ndim}; }

int32_t why_not_plain(const at::Tensor &t) {
  if (!t.defined()) return DLB_TORCH_UNDEFINED;
  if (t.is_nested()) return DLB_TORCH_NESTED;
  if (t.layout() != at::kStrided) return DLB_TORCH_NOT_STRIDED;
  if (at::functionalization::impl::isFunctionalTensor(t)) return DLB_TORCH_FUNCTIONAL;
  if (!t.has_storage()) return DLB_TORCH_NO_STORAGE;
  if (t.requires_grad()) return DLB_TORCH_REQUIRES_GRAD;
  if (t.is_conj()) return DLB_TORCH_CONJUGATE;
  if (t.is_neg()) return DLB_TORCH_NEGATIVE;
  if (t.is_quantized()) return DLB_TORCH_DTYPE;
  if (c10::impl::cow::is_cow_data_ptr(t.storage().data_ptr())) return DLB_TORCH_COPY_ON_WRITE;
  return DLB_TORCH_PLAIN;
}

// DLPack's name for the element type; false if it has none, or one that means another width.
bool describe_dtype(const at::Tensor &t, DLDataType *out) {
  switch (t.scalar_type()) {
  case at::kByte: *out = {kDLUInt, 8, 1}; return true;
  case at::kChar: *out = {kDLInt, 8, 1}; return true;
  case at::kShort: *out = {kDLInt, 16, 1}; return true;
  case at::kInt: *out = {kDLInt, 32, 1}; return true;
  case at::kLong: *out = {kDLInt, 64, 1}; return true;
  case at::kHalf: *out = {kDLFloat, 16, 1}; return true;
  case at::kFloat: *out = {kDLFloat, 32, 1}; return true;
  case at::kDouble: *out = {kDLFloat, 64, 1}; return true;
  case at::kBool: *out = {kDLBool, 8, 1}; return true;
  case at::kBFloat16: *out = {kDLBfloat, 16, 1}; return true;
  default: break;
  }
  try {
    *out = at::getDLDataType(t);
    // libtorch calls its 1- to 7-bit integers 8-bit ones; the way back tells them apart.
    return at::toScalarType(*out) == t.scalar_type();
  } catch (const c10::Error &) {
    return false;
  }
}

bool describe_device(const at::Tensor &t, dlb_torch_view *out) {
  switch (t.device().type()) {
  case at::kCPU: out->device_type = kDLCPU; break;
  case at::kCUDA: out->device_type = kDLCUDA; break;
  case at::kMPS: out->device_type = kDLMetal; break;
  default: return false;
  }
  out->device_index = t.device().has_index() ? t.device().index() : 0;
  return true;
}

// Whether every element lies within the storage. Sizes and strides are libtorch's own, not negative.
bool fits_storage(const at::Tensor &t) {
  if (t.numel() == 0) return true;
  const size_t whole = t.storage().nbytes();
  if (t.storage_offset() == 0 && t.is_contiguous()) return t.nbytes() <= whole;
  __int128 last = t.storage_offset();
  for (int64_t dimension = 0; dimension < t.dim(); ++dimension) {
    last += static_cast<__int128>(t.size(dimension) - 1) * t.stride(dimension);
  }
  return (last + 1) * static_cast<__int128>(t.itemsize()) <= static_cast<__int128>(whole);
}

// The same tensor, unless reading its elements would leave its storage.
const at::Tensor &checked(const at::Tensor &t) {
  const bool strided = t.defined() && !t.is_nested() && t.layout() == at::kStrided && t.has_storage();
  TORCH_CHECK(!strided || fits_storage(t), "the tensor reaches beyond its storage");
  return t;
}

// A reference that is looked at without being counted.
template <class T> class Borrowed {
public:
  explicit Borrowed(T *target) : pointer_(c10::intrusive_ptr<T>::reclaim(target)) {}
  Borrowed(const Borrowed &) = delete;
  Borrowed &operator=(const Borrowed &) = delete;
  ~Borrowed() { pointer_.release(); }
  // Whether there are just so many references, and no weak ones.
  bool has_holders(uint32_t count) const {
    return pointer_.use_count() == count && pointer_.weak_use_count() == 1;
  }

private:
  c10::intrusive_ptr<T> pointer_;
};

bool is_alone(const at::TensorBase &t) {
  return Borrowed<c10::TensorImpl>(t.unsafeGetTensorImpl()).has_holders(1);
}

int32_t why_not_exclusive(const at::Tensor &t, bool ours) {
  if (!is_alone(t)) return DLB_TORCH_SHARED_TENSOR;
  c10::StorageImpl *storage = t.storage().unsafeGetStorageImpl();
  // A view keeps its base alive, and the base the storage; nobody else reaches a base that only
  // the view holds.
  uint32_t holders = 1;
  if (t.unsafeGetTensorImpl()->autograd_meta() != nullptr && t.is_view()) {
    const at::TensorBase &base = t._base();
    if (!is_alone(base)) return DLB_TORCH_SHARED_TENSOR;
    if (base.has_storage() && base.storage().unsafeGetStorageImpl() == storage) holders = 2;
  }
  if (!Borrowed<c10::StorageImpl>(storage).has_holders(holders)) return DLB_TORCH_SHARED_STORAGE;
  // The counts were read relaxed. What others did before they let go happens before what we do now.
  std::atomic_thread_fence(std::memory_order_acquire);
  // Memory of another device is not seen by Rust; there the counts are all that matters.
  if (ours || !t.is_cpu()) return DLB_TORCH_EXCLUSIVE;
  const at::DataPtr &data = t.storage().data_ptr();
  const bool allocated = data.get_deleter() == c10::GetDefaultCPUAllocator()->raw_deleter() &&
                         data.get_context() == data.get();
  return allocated ? DLB_TORCH_EXCLUSIVE : DLB_TORCH_FOREIGN_MEMORY;
}

} // namespace

char *dlb_torch_from_blob(void *data, const int64_t *shape, const int64_t *strides, size_t ndim,
                          DLDataType dtype, void *context, dlb_torch_tensor **out) {
  // What `at::for_blob().context()` does, without its detours through dispatch and tracing.
  return guarded([&] {
    const caffe2::TypeMeta type = c10::scalarTypeToTypeMeta(at::toScalarType(dtype));
    int64_t elements = 1;
    for (size_t dimension = 0; dimension < ndim; ++dimension) {
      if (shape[dimension] == 0) elements = 0;
      if (elements != 0) elements += (shape[dimension] - 1) * strides[dimension];
    }
    // A storage that refuses to grow would leave a tensor that reaches beyond it: it may grow, into
    // memory of libtorch's own.
    auto storage = c10::make_intrusive<c10::StorageImpl>(
        c10::StorageImpl::use_byte_size_t(), static_cast<int64_t>(elements * type.itemsize()),
        at::DataPtr(data, context, keep, at::Device(at::kCPU)), c10::GetDefaultCPUAllocator(),
        /*resizable=*/true);
    c10::StorageImpl *kept = storage.get();
    auto handle = std::make_unique<at::Tensor>(at::detail::make_tensor<c10::TensorImpl>(
        c10::Storage(std::move(storage)), c10::DispatchKeySet(c10::DispatchKey::CPU), type));
    handle->unsafeGetTensorImpl()->set_sizes_and_strides(dims(shape, ndim), dims(strides, ndim));
    // Only now, when nothing else can fail, does the tensor take over the context.
    const bool exchanged = kept->mutable_data_ptr().compare_exchange_deleter(keep, release);
    TORCH_CHECK(exchanged, "the deleter was replaced");
    *out = reinterpret_cast<dlb_torch_tensor *>(handle.release());
  });
}

char *dlb_torch_read(const dlb_torch_tensor *tensor, dlb_torch_view *out) {
  return guarded([&] {
    const at::Tensor &t = as_tensor(tensor);
    dlb_torch_view view{};
    view.plain = why_not_plain(t);
    if (view.plain == DLB_TORCH_PLAIN && !describe_device(t, &view)) view.plain = DLB_TORCH_DEVICE;
    if (view.plain == DLB_TORCH_PLAIN && !describe_dtype(t, &view.dtype)) view.plain = DLB_TORCH_DTYPE;
    if (view.plain == DLB_TORCH_PLAIN && !fits_storage(t)) view.plain = DLB_TORCH_SHORT_STORAGE;
    if (view.plain == DLB_TORCH_PLAIN) {
      const at::DataPtr &data = t.storage().data_ptr();
      const bool ours = data.get_deleter() == release;
      view.data = const_cast<void *>(t.const_data_ptr());
      view.shape = t.sizes().data();
      view.strides = t.strides().data();
      view.ndim = static_cast<size_t>(t.dim());
      view.len = static_cast<size_t>(t.numel());
      view.context = ours ? data.get_context() : nullptr;
      view.exclusive = why_not_exclusive(t, ours);
    }
    *out = view;
  });
}

char *dlb_torch_empty(const int64_t *shape, const int64_t *strides, size_t ndim, DLDataType dtype,
                      dlb_torch_tensor **out) {
  return guarded([&] {
    const at::ScalarType type = at::toScalarType(dtype);
    *out = into_handle(at::detail::empty_strided_cpu(dims(shape, ndim), dims(strides, ndim), type));
  });
}

char *dlb_torch_clone(const dlb_torch_tensor *tensor, dlb_torch_tensor **out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    *out = into_handle(checked(as_tensor(tensor)).detach().clone().resolve_conj().resolve_neg());
  });
}

char *dlb_torch_to_cpu(const dlb_torch_tensor *tensor, dlb_torch_tensor **out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const at::Tensor &t = checked(as_tensor(tensor));
    *out = into_handle(t.detach().to(at::kCPU, t.scalar_type(), false, true));
  });
}

char *dlb_torch_share(const dlb_torch_tensor *tensor, dlb_torch_tensor **out) {
  return guarded([&] { *out = into_handle(as_tensor(tensor)); });
}

char *dlb_torch_copy(const dlb_torch_tensor *source, dlb_torch_tensor *target) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    reinterpret_cast<at::Tensor *>(target)->copy_(as_tensor(source));
  });
}

char *dlb_torch_adopt(const dlb_torch_tensor *tensor, void *context, dlb_torch_memory **former) {
  return guarded([&] {
    c10::StorageImpl *storage = as_tensor(tensor).storage().unsafeGetStorageImpl();
    auto memory = std::make_unique<at::DataPtr>();
    at::DataPtr &data = storage->mutable_data_ptr();
    at::DataPtr ours(data.get(), context, release, data.device());
    *memory = std::move(data);
    data = std::move(ours);
    *former = reinterpret_cast<dlb_torch_memory *>(memory.release());
  });
}

void dlb_torch_free_memory(dlb_torch_memory *memory) { delete reinterpret_cast<at::DataPtr *>(memory); }

void dlb_torch_free(dlb_torch_tensor *tensor) { delete reinterpret_cast<at::Tensor *>(tensor); }

void dlb_torch_free_message(char *message) {
  if (message != no_message) std::free(message);
}
