// The functions of libtorch that dlbridge calls; shim.h has their contracts.

#include "shim.h"

#include <ATen/core/grad_mode.h>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>

using namespace dlbridge::torch_plain;

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

// The deleter of all memory that dlbridge gives to libtorch.
void release(void *context) noexcept {
  static_cast<dlb_torch_context *>(context)->release(context);
}

// Whether this copy of dlbridge made the memory. The address of the deleter does not suffice: a
// linker may fold functions with the same instructions, also those of two copies of dlbridge.
bool is_ours(const at::DataPtr &data, const void *copy) {
  return data.get_deleter() == release && data.get_context() != nullptr &&
         static_cast<const dlb_torch_context *>(data.get_context())->copy == copy;
}

at::IntArrayRef dims(const int64_t *values, size_t ndim) { return {values, ndim}; }

// The same tensor, unless libtorch would read memory that the tensor does not have.
const at::Tensor &checked(const at::Tensor &t) {
  TORCH_CHECK(is_copyable(t), "the tensor reaches beyond its storage, or is not an ordinary one");
  return t;
}

// A reference whose counts are read without adding one.
template <class T> class Borrowed {
public:
  explicit Borrowed(T *target) : pointer_(c10::intrusive_ptr<T>::reclaim(target)) {}
  Borrowed(const Borrowed &) = delete;
  Borrowed &operator=(const Borrowed &) = delete;
  ~Borrowed() { pointer_.release(); }
  // Whether there are exactly `count` references, and no weak ones.
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
  // A view keeps its base alive, and the base the storage; nothing else reaches a base that only
  // the view holds.
  uint32_t holders = 1;
  if (t.unsafeGetTensorImpl()->autograd_meta() != nullptr && t.is_view()) {
    const at::TensorBase &base = t._base();
    if (!is_alone(base)) return DLB_TORCH_SHARED_TENSOR;
    if (base.has_storage() && base.storage().unsafeGetStorageImpl() == storage) holders = 2;
  }
  if (!Borrowed<c10::StorageImpl>(storage).has_holders(holders)) return DLB_TORCH_SHARED_STORAGE;
  // The counts were read relaxed. With the fence, all that other holders did before they dropped
  // their references happens before what this thread does next.
  std::atomic_thread_fence(std::memory_order_acquire);
  // Rust code does not read memory of other devices; there only the counts matter.
  if (ours || !t.is_cpu()) return DLB_TORCH_EXCLUSIVE;
  const at::DataPtr &data = t.storage().data_ptr();
  const bool allocated = data.get_deleter() == c10::GetDefaultCPUAllocator()->raw_deleter() &&
                         data.get_context() == data.get();
  return allocated ? DLB_TORCH_EXCLUSIVE : DLB_TORCH_EXTERNAL_MEMORY;
}

} // namespace

char *dlb_torch_from_blob(void *data, const int64_t *shape, const int64_t *strides, size_t ndim,
                          DLDataType dtype, DLDevice device, void *context,
                          dlb_torch_tensor **out) {
  return guarded([&] {
    const bool cuda = device.device_type == kDLCUDA;
    const at::Device location =
        cuda ? at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device.device_id))
             : at::Device(at::kCPU);
    auto handle =
        from_blob({data, dims(shape, ndim), dims(strides, ndim), at::toScalarType(dtype), location},
                  context, release);
    *out = reinterpret_cast<dlb_torch_tensor *>(handle.release());
  });
}

char *dlb_torch_read(const dlb_torch_tensor *tensor, const void *copy, dlb_torch_view *out) {
  return guarded([&] {
    const at::Tensor &t = as_tensor(tensor);
    Plain plain{};
    const Finding found = read_plain(t, &plain);
    if (found.reason != DLB_TORCH_PLAIN) {
      *out = {};
      out->plain = found.reason;
      out->name = found.name;
      return;
    }
    const at::DataPtr &data = t.storage().data_ptr();
    const bool ours = is_ours(data, copy);
    const int32_t exclusive = why_not_exclusive(t, ours);
    const at::IntArrayRef sizes = t.sizes();
    out->data = plain.data;
    out->shape = sizes.data();
    out->strides = t.strides().data();
    out->ndim = sizes.size();
    out->len = plain.elements;
    out->dtype = plain.dtype;
    out->device = plain.device;
    out->plain = DLB_TORCH_PLAIN;
    out->exclusive = exclusive;
    out->name = nullptr;
    out->context = ours ? data.get_context() : nullptr;
  });
}

char *dlb_torch_empty(const int64_t *shape, const int64_t *strides, size_t ndim, DLDataType dtype,
                      dlb_torch_tensor **out) {
  return guarded([&] {
    const at::ScalarType type = at::toScalarType(dtype);
    const OrdinaryStrides ordinary(dims(shape, ndim), dims(strides, ndim));
    *out = into_handle(at::detail::empty_strided_cpu(dims(shape, ndim), ordinary, type));
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

char *dlb_torch_span_to_cpu(const dlb_torch_tensor *tensor, int64_t first, int64_t count,
                            dlb_torch_tensor **out) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    const at::Tensor &t = checked(as_tensor(tensor));
    const at::Tensor span = t.detach().as_strided({count}, {1}, t.storage_offset() + first);
    *out = into_handle(span.to(at::kCPU, t.scalar_type(), false, true));
  });
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

void dlb_torch_free_memory(dlb_torch_memory *memory) {
  delete reinterpret_cast<at::DataPtr *>(memory);
}

void dlb_torch_free(dlb_torch_tensor *tensor) { delete reinterpret_cast<at::Tensor *>(tensor); }

void dlb_torch_free_message(char *message) {
  if (message != no_message) std::free(message);
}
