// libtorch tensors in and out, and what is refused.
#include "dlbridge/torch.hpp" // first: it brings what it needs

#include <algorithm>

#include <sys/wait.h>
#include <unistd.h>

#include <c10/core/InferenceMode.h>

#include "../../../tests/support/odd_tensors.hpp"
#include "check.hpp"

using dlbridge::from_torch;
using dlbridge::into_torch;
using dlbridge::Tensor;

namespace {

void every_type_and_layout_makes_a_round_trip() {
  for (const at::ScalarType type :
       {at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kFloat, at::kDouble,
        at::kBool, at::kBFloat16, at::kComplexFloat, at::kComplexDouble, at::kUInt16, at::kUInt32,
        at::kUInt64, at::kFloat8_e5m2, at::kFloat8_e4m3fn, at::kFloat8_e8m0fnu}) {
    const at::Tensor whole = at::zeros({2, 3, 4}, at::kByte).to(type);
    for (const at::Tensor &tensor :
         {whole, whole.permute({2, 0, 1}), whole.slice(2, 1, 4, 2), whole.select(0, 1),
          whole.narrow(0, 0, 0), whole.slice(0, 0, 1).expand({5, 3, 4})}) {
      const at::Tensor back = into_torch(from_torch(tensor));
      CHECK(back.scalar_type() == type && back.sizes() == tensor.sizes());
      CHECK(tensor.numel() == 0 || (back.strides() == tensor.strides() &&
                                    back.const_data_ptr() == tensor.const_data_ptr()));
    }
  }
}

void memory_is_shared_and_outlives_its_tensors() {
  at::Tensor tensor = at::arange(6, at::kFloat).view({2, 3});
  Tensor shared = from_torch(tensor);
  tensor.mul_(2);
  CHECK(shared.data<float>()[5] == 10);
  shared.data_mut<float>()[0] = 7;
  CHECK(tensor[0][0].item<float>() == 7);
  const float *address = shared.data<float>();
  tensor = at::Tensor();
  CHECK(shared.data<float>() == address && address[5] == 10);
  at::Tensor out = into_torch(std::move(shared));
  CHECK(!shared && out.sum().item<float>() == 7 + 2 + 4 + 6 + 8 + 10);
  at::Tensor view = out.t();
  out = at::Tensor();
  CHECK(view[2][1].item<float>() == 10); // the view keeps the memory alive
}

struct Counted {
  int *destroyed;
  std::vector<float> values;
  Counted(int *destroyed, std::vector<float> values)
      : destroyed(destroyed), values(std::move(values)) {}
  Counted(Counted &&other) noexcept
      : destroyed(std::exchange(other.destroyed, nullptr)), values(std::move(other.values)) {}
  ~Counted() {
    if (destroyed != nullptr) ++*destroyed;
  }
};

Tensor counted(int &destroyed, std::uint64_t flags = 0) {
  Counted owner(&destroyed, {0, 1, 2, 3, 4, 5});
  std::int64_t shape[] = {2, 3};
  const DLTensor desc{
      owner.values.data(), dlbridge::cpu, 2, dlbridge::dtype_of<float>(), shape, nullptr, 0};
  return Tensor::from_memory(desc, std::move(owner), flags);
}

void owners_are_destroyed_when_libtorch_releases_them() {
  int destroyed = 0;
  {
    const at::Tensor tensor = into_torch(counted(destroyed));
    const at::Tensor column = tensor.select(1, 2);
    CHECK(column.sum().item<float>() == 7 && destroyed == 0);
  }
  CHECK(destroyed == 1);
  {
    // A tensor that is resized beyond the memory moves to memory of libtorch.
    at::Tensor tensor = into_torch(counted(destroyed));
    tensor.resize_({100});
    CHECK(destroyed == 2 && tensor[5].item<float>() == 5);
  }
}

void round_trips_do_not_nest() {
  int destroyed = 0;
  Tensor tensor = counted(destroyed);
  dlb_tensor *handle = tensor.get();
  for (int i = 0; i < 100000; ++i) tensor = from_torch(into_torch(std::move(tensor)));
  CHECK(tensor.get() == handle && destroyed == 0);
  // Another view of the memory becomes a tensor of its own, which keeps the memory alive.
  Tensor transposed = from_torch(into_torch(tensor.share()).t());
  CHECK(transposed.shape()[0] == 3 && transposed.data<float>() == tensor.data<float>());
  tensor = Tensor();
  CHECK(destroyed == 0 && transposed.to_vector<float>() == (std::vector<float>{0, 3, 1, 4, 2, 5}));
  // So does a view of that view, any number of times.
  for (int i = 0; i < 100000; ++i) transposed = from_torch(into_torch(std::move(transposed)).t());
  CHECK(destroyed == 0);
  transposed = Tensor();
  CHECK(destroyed == 1);
}

void pinned_memory_stays_pinned() {
  std::vector<float> values{0, 1, 2, 3, 4, 5};
  std::int64_t shape[] = {2, 3};
  const DLTensor desc{values.data(), {kDLCUDAHost, 0}, 2, dlbridge::dtype_of<float>(),
                      shape,         nullptr,          0};
  const Tensor back =
      from_torch(into_torch(Tensor::from_memory(desc, std::move(values))).narrow(1, 1, 2).t());
  CHECK(back.device().device_type == kDLCUDAHost &&
        back.to_vector<float>() == (std::vector<float>{1, 4, 2, 5}));
}

void set_data_does_not_release_the_memory() {
  at::Tensor tensor = at::arange(4, at::kFloat);
  const Tensor shared = from_torch(tensor);
  tensor.set_data(at::zeros({2}));
  CHECK(shared.data<float>()[3] == 3);
}

void tensors_that_are_not_plain_are_refused() {
  const at::Tensor plain = at::ones({2, 2});
  const at::Tensor complex = at::ones({2}, at::kComplexFloat);
#define REFUSED(text, ...) THROWS(DLB_ERROR_UNSUPPORTED, text, from_torch(__VA_ARGS__))
  REFUSED("is undefined", at::Tensor());
  REFUSED("requires grad", at::ones({2}).requires_grad_());
  REFUSED("conjugate bit", complex.conj());
  REFUSED("negative bit", at::imag(complex.conj()));
  REFUSED("has the layout sparse_coo; use to_dense() first", plain.to_sparse());
  REFUSED("has the layout sparse_csr; use to_dense()", plain.to_sparse_csr());
  REFUSED("lazy clone", at::_lazy_clone(plain));
  REFUSED("is quantized", at::quantize_per_tensor(plain, 1.0, 0, at::kQInt8));
  REFUSED("device meta", at::empty({2}, at::device(at::kMeta)));
  const at::Tensor zeros = at::_efficientzerotensor({std::int64_t{1} << 46}, at::kFloat);
  REFUSED("zero tensor", zeros.narrow(0, std::int64_t{1} << 45, 2));
  CHECK(from_torch(zeros.narrow(0, 1, 2).clone()).to_vector<float>() == (std::vector<float>{0, 0}));
  at::Tensor bare = at::ones({4});
  bare.storage().unsafeGetStorageImpl()->set_data_ptr(at::DataPtr(nullptr, at::kCPU));
  REFUSED("no memory", bare.narrow(0, 1, 2));
  at::Tensor guarded = at::ones({4});
  guarded.storage().unsafeGetStorageImpl()->set_throw_on_mutable_data_ptr();
  REFUSED("refuses access", guarded);
  at::Tensor wrapped = at::ones({4}, at::kDouble); // its size in bytes wraps around to 0
  wrapped.unsafeGetTensorImpl()->set_sizes_contiguous({std::int64_t{1} << 61});
  REFUSED("too large", wrapped);
  at::Tensor negative = at::ones({6});
  negative.unsafeGetTensorImpl()->set_storage_offset(-4);
  REFUSED("negative", negative);
  at::Tensor beyond = at::ones({4});
  beyond.unsafeGetTensorImpl()->set_sizes_contiguous({4000});
  REFUSED("beyond its storage", beyond);
#undef REFUSED
}

// Runs `check` in a child of this process, so that a crash is a result too.
template <class Check> void in_child(const char *what, Check check) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    check();
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  if (status != 0) std::fprintf(stderr, "the key %s: status %d\n", what, status);
  CHECK(status == 0);
}

void dispatch_keys_of_other_tensors_are_refused_by_name() {
  const std::vector<std::string> ordinary = {
      "CPU", "Dense", "ADInplaceOrView", "AutogradFunctionality", "AutocastCPU", "AutocastCUDA"};
  const std::vector<std::pair<std::string, std::string>> named = {
      {"CUDA", "CPU and CUDA at once"},
      {"Quantized", "is quantized"},
      {"Sparse", "has the layout"},
      {"SparseCsr", "has the layout"},
      {"MkldnnCPU", "has the layout"},
      {"NestedTensor", "is nested"},
      {"AutogradNestedTensor", "is nested"},
      {"Conjugate", "its conjugate bit"},
      {"Negative", "its negative bit"},
      {"ZeroTensor", "is a zero tensor"},
      {"Meta", "the device meta"}};
  for (int index = 0; index < odd_tensors::keys; ++index) {
    const char *name = nullptr;
    (void)odd_tensors::with_key(index, false, &name);
    std::string reason = name;
    for (const auto &[key, text] : named) {
      if (key == name) reason = text;
    }
    const bool taken = std::find(ordinary.begin(), ordinary.end(), name) != ordinary.end();
    in_child(name, [&] {
      const at::Tensor whole = odd_tensors::with_key(index, false, &name);
      const at::Tensor window = odd_tensors::with_key(index, true, &name);
      if (taken) {
        CHECK(from_torch(whole).to_vector<float>()[11] == 11);
        CHECK(from_torch(window).to_vector<float>() == (std::vector<float>{5, 6, 9, 10}));
      } else {
        THROWS(DLB_ERROR_UNSUPPORTED, reason, from_torch(whole));
        THROWS(DLB_ERROR_UNSUPPORTED, reason, from_torch(window));
      }
    });
  }
}

void inference_tensors_and_views_are_plain() {
  const c10::InferenceMode guard;
  const at::Tensor tensor = at::arange(4, at::kFloat);
  CHECK(tensor.is_inference());
  CHECK(from_torch(tensor.slice(0, 1)).to_vector<float>() == (std::vector<float>{1, 2, 3}));
}

void strides_that_mean_nothing_are_libtorchs_own() {
  const auto strides = [](std::vector<std::int64_t> shape, std::vector<std::int64_t> given) {
    const at::Tensor made =
        into_torch(Tensor::empty(dlbridge::dtype_of<float>(), std::move(shape), std::move(given)));
    return made.strides().vec();
  };
  using Strides = std::vector<std::int64_t>;
  CHECK(strides({1, 3}, {100, 1}) == (Strides{3, 1}));
  CHECK(strides({3, 1}, {1, -9}) == (Strides{1, 1}));
  CHECK(strides({0, 2}, {-9, -1}) == (Strides{2, 1}));
  CHECK(strides({1}, {0}) == (Strides{1}));
  CHECK(strides({2, 1, 3}, {3, 0, 1}) == (Strides{3, 3, 1}));
  CHECK(strides({1, 2, 3, 4}, {24, 1, 8, 2}) == (Strides{24, 1, 8, 2})); // channels last
  CHECK(strides({2, 1, 3}, {1, 0, 2}) == (Strides{1, 6, 2}));
  CHECK(strides({2, 1, 4, 4}, {16, 1, 4, 1}) == (Strides{16, 1, 4, 1})); // and one channel
}

void tensors_that_libtorch_cannot_represent_are_refused() {
  int destroyed = 0;
  const auto stays = [&](Tensor &tensor, dlb_status status, const char *text) {
    THROWS(status, text, into_torch(std::move(tensor)));
    CHECK(tensor && destroyed == 0);
  };
  Tensor read_only = counted(destroyed, DLPACK_FLAG_BITMASK_READ_ONLY);
  stays(read_only, DLB_ERROR_READ_ONLY, "read-only");
  Tensor backwards = Tensor::empty(dlbridge::dtype_of<float>(), {3}, {-1});
  stays(backwards, DLB_ERROR_LAYOUT,
        "stride -1 of dimension 0 is negative"); // libtorch would abort
  // The remedy: a copy has positive strides.
  CHECK(into_torch(backwards.clone()).stride(0) == 1);
  Tensor vectors = Tensor::empty({kDLFloat, 32, 4}, {3});
  stays(vectors, DLB_ERROR_DTYPE, "elements of type float32x4 are not supported by libtorch");
  Tensor narrow = Tensor::empty({kDLInt, 4, 1}, {4});
  stays(narrow, DLB_ERROR_DTYPE, "elements of type int4");
  Tensor deep = Tensor::empty<float>(std::vector<std::int64_t>(65, 1));
  stays(deep, DLB_ERROR_LAYOUT, "65 dimensions");
  DLManagedTensorVersioned far = *read_only.share_dlpack();
  std::int64_t shape[] = {1};
  far.deleter = nullptr;
  far.flags = 0;
  far.dl_tensor = {&destroyed, {kDLCUDA, 0}, 1, dlbridge::dtype_of<float>(), shape, shape, 0};
  Tensor cuda = Tensor::from_dlpack(dlbridge::Exported(&far));
  stays(cuda, DLB_ERROR_CUDA, "cuda:0 is not available on this machine");
  Tensor empty;
  THROWS(DLB_ERROR_NULL_POINTER, "moved from", into_torch(std::move(empty)));
  Tensor uncountable = Tensor::empty<float>({std::int64_t{1} << 62, std::int64_t{1} << 62, 0});
  stays(uncountable, DLB_ERROR_LAYOUT, "libtorch: ");
  // Strides of dimensions of size 1, and of empty tensors, are ignored.
  CHECK(into_torch(Tensor::empty(dlbridge::dtype_of<float>(), {1, 2}, {-9, 1})).stride(0) == 2);
  CHECK(into_torch(Tensor::empty(dlbridge::dtype_of<float>(), {0, 2}, {-9, -1})).numel() == 0);
}

void views_go_into_libtorch() {
  int destroyed = 0;
  {
    const Tensor tensor = counted(destroyed);
    const float *address = tensor.data<float>();
    at::Tensor columns = into_torch(tensor.transpose(0, 1));
    CHECK(columns.sizes() == at::IntArrayRef({3, 2}) && columns.data_ptr<float>() == address);
    columns[2][1] = 50;
    CHECK(tensor.at<float>(1, 2) == 50);
    const at::Tensor last = into_torch(tensor.select(1, -1));
    CHECK(last.data_ptr<float>() == address + 2 && last.sum().item<float>() == 52);
    const at::Tensor wide = into_torch(tensor.unsqueeze(0).expand({4, -1, -1}));
    CHECK(wide.stride(0) == 0 && wide.data_ptr<float>() == address);
    // libtorch has no negative strides: the tensor stays, and a copy goes in.
    Tensor flipped = tensor.flip({1});
    THROWS(DLB_ERROR_LAYOUT,
           "stride -1 of dimension 1 is negative, which libtorch does not support; "
           "pass a clone() to into_torch()",
           into_torch(std::move(flipped)));
    CHECK(flipped.at<float>(0, 0) == 2);
    CHECK(into_torch(flipped.clone()).equal(columns.t().flip({1})));
    CHECK(into_torch(tensor.slice(0, 0, 1).flip({0})).stride(0) == 3); // one row: no stride matters
    // A view of a libtorch tensor, and back: the view of the same memory.
    const Tensor back = from_torch(columns).transpose(0, 1).slice(1, 1);
    CHECK(back.data<float>() == address + 1 && back.at<float>(1, 1) == 50);
    CHECK(from_torch(into_torch(back.share())).at<float>(1, 1) == 50);
    CHECK(destroyed == 0);
  }
  CHECK(destroyed == 1);
  at::Tensor theirs = at::arange(6, at::kFloat).view({2, 3});
  Tensor view = from_torch(theirs).flip({0, 1});
  theirs = at::Tensor();
  CHECK(view.at<float>(0, 0) == 5 && view.at<float>(1, 2) == 0); // the view keeps the storage
}

} // namespace

int main() {
  every_type_and_layout_makes_a_round_trip();
  memory_is_shared_and_outlives_its_tensors();
  owners_are_destroyed_when_libtorch_releases_them();
  round_trips_do_not_nest();
  pinned_memory_stays_pinned();
  set_data_does_not_release_the_memory();
  tensors_that_are_not_plain_are_refused();
  dispatch_keys_of_other_tensors_are_refused_by_name();
  inference_tensors_and_views_are_plain();
  strides_that_mean_nothing_are_libtorchs_own();
  tensors_that_libtorch_cannot_represent_are_refused();
  views_go_into_libtorch();
  return 0;
}
