// The baselines of the benchmarks: what a C++ program does with libtorch directly.

#include <ATen/ATen.h>
#include <ATen/DLConvertor.h>

#include <cstdint>

namespace {
void release_nothing(void *) {}
} // namespace

extern "C" {

// Baseline of a move into libtorch: a tensor over memory that the caller keeps.
void *baseline_from_blob(void *data, const int64_t *shape, const int64_t *strides, size_t ndim) {
  return new at::Tensor(at::for_blob(data, {shape, ndim})
                            .strides(at::IntArrayRef(strides, ndim))
                            .context(data, release_nothing)
                            .options(at::TensorOptions(at::kFloat).device(at::kCPU))
                            .target_device(at::Device(at::kCPU))
                            .make_tensor());
}

// Same as above with an owner on the heap, which a program needs to move a std::vector into
// libtorch.
void *baseline_from_owner(void *data, const int64_t *shape, const int64_t *strides, size_t ndim) {
  struct HeapOwner {
    void *data;
    size_t length;
    size_t capacity;
  };
  return new at::Tensor(at::for_blob(data, {shape, ndim})
                            .strides(at::IntArrayRef(strides, ndim))
                            .context(new HeapOwner{data, 0, 0},
                                     [](void *owner) { delete static_cast<HeapOwner *>(owner); })
                            .options(at::TensorOptions(at::kFloat).device(at::kCPU))
                            .target_device(at::Device(at::kCPU))
                            .make_tensor());
}

void baseline_free(void *tensor) { delete static_cast<at::Tensor *>(tensor); }

// Baseline of a move out of libtorch: export `tensor` through DLPack, delete it, and call the
// deleter of the export.
const void *baseline_consume(void *tensor) {
  auto *owned = static_cast<at::Tensor *>(tensor);
  DLManagedTensorVersioned *managed = at::toDLPackVersioned(*owned);
  delete owned;
  const void *data = managed->dl_tensor.data;
  managed->deleter(managed);
  return data;
}

// A deep copy of `tensor`, with its strides or contiguous.
void *baseline_clone(const void *tensor, bool contiguous) {
  const auto format = contiguous ? at::MemoryFormat::Contiguous : at::MemoryFormat::Preserve;
  return new at::Tensor(static_cast<const at::Tensor *>(tensor)->clone(format));
}

// Converts the DLPack struct `managed`, which libtorch consumes, with libtorch's own converter.
void *baseline_from_dlpack(void *managed) {
  return new at::Tensor(at::fromDLPackVersioned(static_cast<DLManagedTensorVersioned *>(managed)));
}
}
