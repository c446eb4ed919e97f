// The Tensor class: owners, exceptions, containers.
#include "check.hpp"

#include <numeric>
#include <sstream>
#include <type_traits>

using dlbridge::Error;
using dlbridge::Exported;
using dlbridge::ExportedLegacy;
using dlbridge::MemoryFormat;
using dlbridge::Tensor;

static_assert(!std::is_copy_constructible_v<Tensor> && !std::is_copy_assignable_v<Tensor>);
static_assert(std::is_nothrow_move_constructible_v<Tensor> &&
              std::is_nothrow_move_assignable_v<Tensor>);
// References into a handle are not available from a temporary handle.
template <class T> auto has_view(int) -> decltype(std::declval<T>().view(), std::true_type());
template <class> std::false_type has_view(long);
static_assert(decltype(has_view<const Tensor &>(0))::value &&
              !decltype(has_view<Tensor>(0))::value);
// A handle that is not moved from cannot be consumed.
template <class T> auto exports(int) -> decltype(std::declval<T>().into_dlpack(), std::true_type());
template <class> std::false_type exports(long);
static_assert(decltype(exports<Tensor>(0))::value && !decltype(exports<Tensor &>(0))::value &&
              !decltype(exports<const Tensor>(0))::value);
// A class of a user that has a tensor as a member compiles without warnings.
struct Batch {
  Tensor data;
};
static_assert(std::is_nothrow_move_constructible_v<Batch>);
static_assert(sizeof(Tensor) == sizeof(void *) && std::is_standard_layout_v<Tensor>);
static_assert(dlbridge::dtype_of<std::int8_t>().code == kDLInt &&
              dlbridge::dtype_of<bool>().code == kDLBool);
static_assert(dlbridge::dtype_of<std::complex<double>>().bits == 128);

namespace {

std::vector<float> counting(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

// An owner that counts how often it is destroyed; a moved-from owner does not count.
class Counted {
public:
  explicit Counted(int &count) : count_(&count) {}
  Counted(Counted &&other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
  Counted &operator=(Counted &&) = delete;
  ~Counted() {
    if (count_ != nullptr) ++*count_;
  }

private:
  int *count_;
};

void vectors_are_moved_in() {
  std::vector<float> values = counting(6);
  const float *address = values.data();
  Tensor tensor = Tensor::from_vector(std::move(values), {2, 3});
  CHECK(tensor.data<float>() == address && tensor.size() == 6 && tensor.nbytes() == 24);
  CHECK(tensor.shape().size() == 2 && tensor.shape()[1] == 3 && tensor.strides()[0] == 3);
  CHECK(tensor.is<float>() && !tensor.is<int>() && tensor.is_contiguous() &&
        !tensor.is_read_only() && tensor.flags() == 0);
  tensor.data_mut<float>()[5] = 9;
  CHECK(tensor.to_vector<float>() == (std::vector<float>{0, 1, 2, 3, 4, 9}));
  const std::vector<std::int64_t> shape = tensor.shape();
  CHECK(shape == (std::vector<std::int64_t>{2, 3}));
  const Tensor none = Tensor::from_vector(std::vector<double>{}, {0, 4});
  CHECK(none.size() == 0 && none.to_vector<double>().empty());
  const Tensor scalar = Tensor::from_vector(std::vector<std::int64_t>{7}, {});
  CHECK(scalar.to_vector<std::int64_t>() == std::vector<std::int64_t>{7});
}

void a_refused_vector_is_unchanged() {
  for (const std::vector<std::int64_t> &shape :
       {std::vector<std::int64_t>{2, 2}, {7}, {0}, {}, {6, 2}}) {
    std::vector<float> values = counting(6);
    THROWS(DLB_ERROR_LAYOUT, "has another number of elements than the vector, which has 6",
           Tensor::from_vector(std::move(values), shape));
    CHECK(values == counting(6));
  }
  std::vector<float> values = counting(6);
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "shape[0] = -6", Tensor::from_vector(std::move(values), {-6}));
  CHECK(values == counting(6));
}

void owners_are_destroyed_once() {
  int destroyed = 0;
  float data[4] = {};
  std::int64_t shape[] = {4};
  DLTensor desc{data, dlbridge::cpu, 1, dlbridge::dtype_of<float>(), shape, nullptr, 0};
  {
    Counted owner(destroyed);
    desc.ndim = -1;
    THROWS(DLB_ERROR_INVALID_ARGUMENT, "desc: ndim = -1",
           Tensor::from_memory(desc, std::move(owner)));
    desc.ndim = 1;
    const Tensor tensor = Tensor::from_memory(desc, std::move(owner));
    const Tensor shared = tensor.share();
    CHECK(shared.data<float>() == data && destroyed == 0);
  }
  CHECK(destroyed == 1);
  auto pointer = std::make_unique<int>(1);
  Tensor read_only = Tensor::from_memory(desc, std::move(pointer), DLPACK_FLAG_BITMASK_READ_ONLY);
  CHECK(read_only.is_read_only() && pointer == nullptr);
  THROWS(DLB_ERROR_READ_ONLY, "read-only", read_only.data_mut<float>());
  THROWS(DLB_ERROR_READ_ONLY, "the memory is read-only", read_only.share_dlpack_legacy());
  THROWS(DLB_ERROR_READ_ONLY, "read-only", std::move(read_only).into_dlpack_legacy());
  CHECK(read_only.is_read_only()); // not consumed
}

void dlpack_round_trip() {
  Tensor tensor = Tensor::from_vector(counting(4), {4});
  const float *address = tensor.data<float>();
  Exported shared = tensor.share_dlpack();
  Exported moved = std::move(tensor).into_dlpack();
  CHECK(!tensor && moved->dl_tensor.data == address);
  Tensor back = Tensor::from_dlpack(std::move(moved));
  CHECK(moved == nullptr && back.data<float>() == address);
  shared->version.major = 2;
  THROWS(DLB_ERROR_VERSION, "source: DLPack version 2.3", Tensor::from_dlpack(std::move(shared)));
  CHECK(shared != nullptr); // not consumed
  shared->version.major = 1;
  ExportedLegacy legacy = std::move(back).into_dlpack_legacy();
  back = Tensor::from_dlpack(std::move(legacy));
  CHECK(back.data<float>() == address && legacy == nullptr);
}

void clones_and_copies() {
  const Tensor tensor = Tensor::from_vector(counting(24), {2, 3, 2, 2});
  const Tensor clone = tensor.clone(MemoryFormat::channels_last);
  CHECK(clone.strides()[1] == 1 && clone.to_vector<float>() == counting(24));
  THROWS(DLB_ERROR_LAYOUT, "expected 5 dimensions", tensor.clone(MemoryFormat::channels_last_3d));
  Tensor target = Tensor::empty(dlbridge::dtype_of<float>(), {2, 3, 2, 2}, {1, 2, 6, 12});
  tensor.copy_into(target);
  CHECK(target.to_vector<float>() == counting(24) && !target.is_contiguous());
  THROWS(DLB_ERROR_LAYOUT, "share memory; copy from a clone()", target.copy_into(target));
  Tensor other = Tensor::empty<double>({2, 3, 2, 2});
  THROWS(DLB_ERROR_DTYPE, "expected float64, found float32", tensor.copy_into(other));
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "as many strides",
         Tensor::empty(dlbridge::dtype_of<float>(), {2}, {1, 1}));
}

void moves_between_devices() {
  Tensor tensor = Tensor::from_vector(counting(4), {4});
  const float *address = tensor.data<float>();
  const Tensor copy = tensor.to_device(dlbridge::cpu);
  CHECK(copy.data<float>() != address);
  THROWS(dlb_capabilities() & DLB_CAP_CUDA ? DLB_ERROR_CUDA : DLB_ERROR_UNSUPPORTED, "cuda:1 ",
         std::move(tensor).into_device({kDLCUDA, 1}));
  tensor = std::move(tensor).into_device(dlbridge::cpu);
  CHECK(tensor.data<float>() == address);
  Exported exported = std::move(tensor).into_dlpack();
  DLManagedTensorVersioned theirs = *exported;
  theirs.deleter = nullptr;
  theirs.dl_tensor.device = {kDLCUDA, 0};
  tensor = Tensor::from_dlpack(Exported(&theirs));
  THROWS(DLB_ERROR_NOT_ON_CPU,
         "cuda:0 device type tensor to host pointer; copy it to the host with "
         "to_device(dlbridge::cpu)",
         tensor.data<float>());
  THROWS(DLB_ERROR_NOT_ON_CPU, "cuda:0", tensor.data_mut<float>());
  tensor = Tensor();
}

void memory_of_copies_is_used_again() {
  const std::size_t before = dlbridge::set_cache_limit(std::size_t{64} << 20);
  dlbridge::trim();
  const Tensor tensor = Tensor::from_vector(std::vector<float>(1 << 20, 3.0F), {1 << 20});
  const std::size_t bytes = std::size_t{4} << 20;
  const void *data = nullptr;
  {
    const Tensor copy = tensor.clone();
    data = copy.data<float>();
  }
  CHECK(dlbridge::cached_bytes() == bytes);
  {
    const Tensor copy = tensor.clone();
    CHECK(copy.data<float>() == data && copy.at<float>((1 << 20) - 1) == 3.0F);
  }
  CHECK(dlbridge::trim() == bytes && dlbridge::cached_bytes() == 0);
  CHECK(dlbridge::set_cache_limit(before) == std::size_t{64} << 20);
}

void synchronize_waits_for_a_stream() {
  dlbridge::synchronize(dlbridge::cpu);
  dlbridge::synchronize(dlbridge::cpu, DLB_STREAM_NO_SYNC);
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "stream = 3", dlbridge::synchronize(dlbridge::cpu, 3));
  THROWS(dlb_capabilities() & DLB_CAP_CUDA ? DLB_ERROR_CUDA : DLB_ERROR_UNSUPPORTED, "cuda:0 ",
         dlbridge::synchronize({kDLCUDA, 0}));
}

void share_as_describes_the_memory_in_another_way() {
  Tensor tensor = Tensor::from_vector(counting(6), {2, 3});
  DLTensor desc = tensor.view();
  std::int64_t shape[] = {3, 2}, strides[] = {1, 3};
  desc.shape = shape;
  desc.strides = strides;
  const Tensor transposed = tensor.share_as(desc);
  CHECK(transposed.to_vector<float>() == (std::vector<float>{0, 3, 1, 4, 2, 5}));
  strides[0] = 2;
  THROWS(DLB_ERROR_LAYOUT, "not all among the tensor's 24 bytes", tensor.share_as(desc));
  tensor = Tensor();
  CHECK(transposed.data<float>()[5] == 5);
}

void data_checks_type_and_alignment() {
  Tensor tensor = Tensor::from_vector(counting(4), {4});
  THROWS(DLB_ERROR_DTYPE, "expected int32, found float32", tensor.data<std::int32_t>());
  THROWS(DLB_ERROR_DTYPE, "expected float64, found float32", tensor.to_vector<double>());
  std::vector<char> bytes(9);
  std::int64_t shape[] = {2};
  const DLTensor desc{bytes.data(), dlbridge::cpu, 1, dlbridge::dtype_of<float>(),
                      shape,        nullptr,       1};
  tensor = Tensor::from_memory(desc, std::move(bytes));
  THROWS(DLB_ERROR_LAYOUT, "not a multiple of 4", tensor.data<float>());
  CHECK(tensor.to_vector<float>() == (std::vector<float>{0, 0})); // copies need no alignment
}

void elements_are_reached_by_their_indices() {
  Tensor tensor = Tensor::from_vector(counting(24), {2, 3, 4});
  CHECK(tensor.at<float>(0, 0, 0) == 0 && tensor.at<float>(1, 2, 3) == 23);
  CHECK(tensor.at<float>(std::size_t{1}, std::int8_t{0}, 2u) == 14);
  tensor.at_mut<float>(1, 0, 2) = -1;
  const Tensor &read = tensor;
  CHECK(read.at<float>(1, 0, 2) == -1 && tensor.share().at<float>(1, 0, 2) == -1);
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "index 3 of dimension 1 is out of range: expected 0 to 2",
         tensor.at<float>(1, 3, 0));
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "index -1 of dimension 2 is out of range: expected 0 to 3",
         tensor.at_mut<float>(1, 2, -1));
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "of dimension 0 is out of range",
         tensor.at<float>(std::numeric_limits<std::uint64_t>::max(), 0, 0));
  THROWS(DLB_ERROR_LAYOUT, "expected 3 indices, found 2", tensor.at<float>(1, 2));
  THROWS(DLB_ERROR_LAYOUT, "expected 3 indices, found 4", tensor.at_mut<float>(1, 2, 0, 0));
  THROWS(DLB_ERROR_LAYOUT, "expected 3 indices, found 0", tensor.at<float>());
  THROWS(DLB_ERROR_DTYPE, "expected float64, found float32", tensor.at<double>(0, 0, 0));
  THROWS(DLB_ERROR_DTYPE, "expected int32, found float32", tensor.at_mut<int>(0, 0, 0));
  const Tensor scalar = Tensor::from_vector(std::vector<int>{7}, {});
  CHECK(scalar.at<int>() == 7);
  const Tensor none = Tensor::empty<float>({2, 0});
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "index 0 of dimension 1 is out of range: there is none",
         none.at<float>(1, 0));
  // The memory is not aligned, or may not be written, or a byte is no bool.
  std::vector<unsigned char> bytes(9);
  bytes[1] = 2;
  void *const odd = bytes.data() + 1;
  std::int64_t shape[] = {2};
  const DLTensor desc{odd, dlbridge::cpu, 1, dlbridge::dtype_of<float>(), shape, nullptr, 0};
  Tensor misaligned = Tensor::from_memory(desc, nullptr);
  CHECK(misaligned.at<float>(1) == 0);
  THROWS(DLB_ERROR_LAYOUT, "not a multiple of 4", misaligned.at_mut<float>(1));
  Tensor read_only = Tensor::from_memory<const unsigned char>(bytes.data(), {9}, nullptr);
  CHECK(read_only.at<std::uint8_t>(1) == 2);
  THROWS(DLB_ERROR_READ_ONLY, "read-only", read_only.at_mut<std::uint8_t>(1));
  const Tensor bools = Tensor::from_memory(static_cast<bool *>(odd), {1}, nullptr);
  CHECK(bools.at<bool>(0));
  Exported exported = tensor.share_dlpack();
  DLManagedTensorVersioned far = *exported;
  far.deleter = nullptr;
  far.dl_tensor.device = {kDLCUDA, 0};
  Tensor cuda = Tensor::from_dlpack(Exported(&far));
  THROWS(DLB_ERROR_NOT_ON_CPU, "cuda:0", cuda.at<float>(0, 0, 0));
  THROWS(DLB_ERROR_NOT_ON_CPU, "cuda:0", cuda.at_mut<float>(0, 0, 0));
}

void typed_memory_has_an_owner() {
  int destroyed = 0;
  float data[] = {0, 1, 2, 3, 4, 5};
  {
    Counted owner(destroyed);
    THROWS(DLB_ERROR_INVALID_ARGUMENT, "as many strides as dimensions: expected 2, found 1",
           Tensor::from_memory<float>(data, {2, 3}, {3}, std::move(owner)));
    THROWS(DLB_ERROR_INVALID_ARGUMENT, "shape[0] = -1",
           Tensor::from_memory<float>(data, {-1}, std::move(owner)));
    THROWS(DLB_ERROR_LAYOUT, "exceed",
           Tensor::from_memory(data, {2}, {std::numeric_limits<std::int64_t>::max()},
                               std::move(owner)));
    THROWS(DLB_ERROR_INVALID_ARGUMENT, "",
           Tensor::from_memory<float>(nullptr, {2}, std::move(owner)));
    CHECK(destroyed == 0);
    // The first element is the one at `data`; strides lead to lower addresses.
    const Tensor reversed = Tensor::from_memory(data + 5, {2, 3}, {-3, -1}, std::move(owner));
    CHECK(reversed.at<float>(0, 0) == 5 && reversed.at<float>(1, 2) == 0);
    CHECK(!reversed.is_read_only() && destroyed == 0);
  }
  CHECK(destroyed == 1);
  // A shared owner is moved or copied, const or not.
  auto shared = std::make_shared<const std::vector<float>>(counting(4));
  const auto constant = shared;
  const Tensor copied = Tensor::from_memory<const float>(shared->data(), {4}, shared);
  const Tensor second = Tensor::from_memory<const float>(shared->data(), {4}, constant);
  CHECK(shared.use_count() == 4 && copied.is_read_only());
  const Tensor moved = Tensor::from_memory(shared->data(), {4}, std::move(shared));
  CHECK(shared == nullptr && constant.use_count() == 4 && moved.is_read_only());
  CHECK(moved.at<float>(3) == 3);
}

void tensors_are_printed() {
  const Tensor tensor = Tensor::from_vector(std::vector<int>{1, 2, 3, 44}, {2, 2});
  std::ostringstream stream;
  stream << tensor << ';';
  CHECK(stream.str() == tensor.to_string() + ";");
  // The values are printed, also those of a copy and of new memory.
  for (const std::string &text : {tensor.to_string(), tensor.clone().to_string()}) {
    CHECK(text.substr(0, 2) == "[[" && text.substr(text.size() - 4) == "44]]");
  }
  // Longer than the first buffer, and of every length around its size.
  for (int count = 1; count < 300; ++count) {
    const std::string text = Tensor::from_vector(std::vector<int>(count, 1), {count}).to_string();
    CHECK(text.front() == '[' && text.back() == ']' && text.find('\0') == std::string::npos);
  }
}

void empty_handles_throw() {
  Tensor tensor;
  CHECK(!tensor && tensor.get() == nullptr && tensor.nbytes() == 0 && !tensor.share());
  THROWS(DLB_ERROR_NULL_POINTER, "moved from", tensor.shape());
  Tensor other = Tensor::empty<float>({2});
  const char *const moved = "the tensor was moved from";
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.clone());
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.share_as(other.view()));
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.copy_into(other));
  THROWS(DLB_ERROR_NULL_POINTER, "the target was moved from", other.copy_into(tensor));
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.to_device(dlbridge::cpu));
  THROWS(DLB_ERROR_NULL_POINTER, moved, std::move(tensor).into_device(dlbridge::cpu));
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.record_stream(DLB_STREAM_NO_SYNC));
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.wait_stream(DLB_STREAM_NO_SYNC));
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.share_dlpack());
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.to_string());
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.at<float>(0));
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.at_mut<float>(0));
  THROWS(DLB_ERROR_NULL_POINTER, moved, tensor.share_dlpack_legacy());
  THROWS(DLB_ERROR_NULL_POINTER, moved, std::move(tensor).into_dlpack());
  THROWS(DLB_ERROR_NULL_POINTER, moved, std::move(tensor).into_dlpack_legacy());
  THROWS(DLB_ERROR_NULL_POINTER, "source is NULL", Tensor::from_dlpack(Exported()));
  tensor = Tensor::from_vector(counting(2), {2});
  Tensor raw(tensor.release());
  CHECK(!tensor && raw.size() == 2);
}

} // namespace

int main() {
  vectors_are_moved_in();
  a_refused_vector_is_unchanged();
  owners_are_destroyed_once();
  dlpack_round_trip();
  clones_and_copies();
  moves_between_devices();
  memory_of_copies_is_used_again();
  synchronize_waits_for_a_stream();
  share_as_describes_the_memory_in_another_way();
  data_checks_type_and_alignment();
  elements_are_reached_by_their_indices();
  typed_memory_has_an_owner();
  tensors_are_printed();
  empty_handles_throw();
  return 0;
}
