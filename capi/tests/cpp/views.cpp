// Views of the Tensor class: methods, handles to one memory, and their arguments.
#include "check.hpp"

#include <initializer_list>
#include <numeric>
#include <thread>

using dlbridge::MemoryFormat;
using dlbridge::Tensor;

namespace {

using Numbers = std::vector<std::int64_t>;

Tensor counting(const Numbers &shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  std::vector<int> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return Tensor::from_vector(std::move(values), shape);
}

void check(const Tensor &tensor, const Numbers &shape, const Numbers &strides, int first) {
  CHECK(static_cast<Numbers>(tensor.shape()) == shape);
  CHECK(static_cast<Numbers>(tensor.strides()) == strides);
  CHECK(*tensor.data<int>() == first);
}

void methods_describe_the_memory_anew() {
  const Tensor tensor = counting({2, 3, 4});
  check(tensor.permute({2, 0, 1}), {4, 2, 3}, {1, 12, 4}, 0);
  check(tensor.transpose(0, -1), {4, 3, 2}, {1, 4, 12}, 0);
  check(tensor.slice(1, 1), {2, 2, 4}, {12, 4, 1}, 4);
  check(tensor.slice(1, std::nullopt, 1), {2, 1, 4}, {12, 4, 1}, 0);
  check(tensor.slice(2, std::nullopt, std::nullopt, -2), {2, 3, 2}, {12, 4, -2}, 3);
  check(tensor.slice(2, -3, -1), {2, 3, 2}, {12, 4, 1}, 1);
  check(tensor.select(0, -1), {3, 4}, {4, 1}, 12);
  check(tensor.flip({0, 2}), {2, 3, 4}, {-12, 4, -1}, 15);
  check(tensor.flip({}), {2, 3, 4}, {12, 4, 1}, 0);
  check(tensor.unsqueeze(-1).expand({5, -1, -1, -1, 2}), {5, 2, 3, 4, 2}, {0, 12, 4, 1, 0}, 0);
  check(tensor.slice(0, 0, 1).squeeze(), {3, 4}, {4, 1}, 0);
  check(tensor.slice(0, 0, 1).squeeze(0), {3, 4}, {4, 1}, 0);
  check(tensor.squeeze(0), {2, 3, 4}, {12, 4, 1}, 0);
  check(tensor.reshape({6, -1}), {6, 4}, {4, 1}, 0);
  check(tensor.as_strided({2, 2}, {1, -4}, 22), {2, 2}, {1, -4}, 22);
  check(tensor.as_strided({}, {}), {}, {}, 0);
  // From a vector, from another tensor's shape, from a temporary tensor.
  const Numbers order{1, 0, 2};
  check(tensor.permute(order), {3, 2, 4}, {4, 12, 1}, 0);
  check(counting({24}).reshape(tensor.shape()), {2, 3, 4}, {12, 4, 1}, 0);
  CHECK(counting({3}).flip({0}).at<int>(0) == 2);
  check(tensor, {2, 3, 4}, {12, 4, 1}, 0); // none of them has changed the tensor
}

// A std::optional that holds the number which stands for no bound in C.
void the_lowest_bound_is_a_bound() {
  constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
  const Tensor tensor = counting({4});
  CHECK(tensor.slice(0, 0, lowest).size() == 0);
  CHECK(tensor.slice(0, lowest).size() == 4);
  CHECK(tensor.slice(0, lowest, std::nullopt, -1).size() == 0);
  CHECK(tensor.slice(0, std::nullopt, std::nullopt, -1).at<int>(0) == 3);
}

void views_and_tensor_share_the_memory() {
  Tensor tensor = counting({2, 3});
  Tensor view = tensor.transpose(0, 1);
  view.at_mut<int>(2, 1) = -5;
  CHECK(tensor.at<int>(1, 2) == -5);
  tensor.at_mut<int>(0, 0) = 7;
  CHECK(view.at<int>(0, 0) == 7);
  tensor = Tensor(); // the view keeps the memory
  CHECK(view.to_vector<int>() == (std::vector<int>{7, 3, 1, 4, 2, -5}));
  const int values[] = {1, 2, 3};
  Tensor read_only = Tensor::from_memory(values, {3}, nullptr).flip({0});
  CHECK(read_only.is_read_only());
  THROWS(DLB_ERROR_READ_ONLY, "read-only", read_only.at_mut<int>(0));
}

void arguments_that_do_not_fit_throw() {
  const Tensor tensor = counting({2, 3});
  THROWS(DLB_ERROR_LAYOUT, "expected 2 dimensions, found 1", tensor.permute({0}));
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "dimension 2 is out of range: expected -2 to 1",
         tensor.transpose(0, 2));
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "index 3 is out of range: expected -3 to 2",
         tensor.select(1, 3));
  THROWS(DLB_ERROR_LAYOUT, "copy it with clone(MemoryFormat::contiguous)",
         tensor.transpose(0, 1).reshape({6}));
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "as many strides as dimensions: expected 2, found 1",
         tensor.as_strided({1, 1}, {1}));
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "as many strides as dimensions: expected 0, found 1",
         tensor.as_strided({}, {1}));
  THROWS(DLB_ERROR_INVALID_ARGUMENT, "as many strides as dimensions: expected 1, found 0",
         tensor.as_strided({1}, {}));
  THROWS(DLB_ERROR_LAYOUT, "", tensor.as_strided({2}, {6}));
  Tensor moved = counting({2, 3});
  const Tensor other = std::move(moved);
  const char *const text = "the tensor was moved from";
  THROWS(DLB_ERROR_NULL_POINTER, text, moved.permute({0, 1}));
  THROWS(DLB_ERROR_NULL_POINTER, text, moved.slice(0));
  THROWS(DLB_ERROR_NULL_POINTER, text, moved.squeeze());
  THROWS(DLB_ERROR_NULL_POINTER, text, moved.as_strided({1}, {1}));
}

void threads_make_views_of_one_tensor() {
  const Tensor tensor = counting({4, 1000});
  std::vector<std::thread> threads;
  std::int64_t sums[4] = {};
  for (int row = 0; row < 4; ++row) {
    threads.emplace_back([&, row] {
      for (int i = 0; i < 1000; ++i) {
        const Tensor mine = tensor.select(0, row).flip({0});
        sums[row] += mine.at<int>(i);
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  for (std::int64_t row = 0; row < 4; ++row) CHECK(sums[row] == row * 1000000 + 499500);
}

void a_view_goes_through_dlpack_and_comes_back() {
  Tensor tensor = counting({2, 3});
  Tensor back = Tensor::from_dlpack(tensor.flip({1}).into_dlpack());
  check(back, {2, 3}, {3, -1}, 2);
  back = Tensor::from_dlpack(std::move(back).into_dlpack());
  check(back.flip({1}), {2, 3}, {3, 1}, 0);
}

// What a camera's program does: see docs/cpp.md.
void padded_bgr_rows_become_rgb_planes() {
  constexpr std::int64_t height = 3, width = 5, pitch = 32;
  std::vector<std::uint8_t> frame(height * pitch, 255); // also in the padding
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (std::int64_t c = 0; c < 3; ++c) {
        frame[static_cast<std::size_t>(y * pitch + 3 * x + c)] =
            static_cast<std::uint8_t>(100 * c + 10 * y + x);
      }
    }
  }
  const std::uint8_t *address = frame.data();
  const Tensor bytes =
      Tensor::from_memory<std::uint8_t>(frame.data(), {height, pitch}, std::move(frame));
  const Tensor bgr = bytes.slice(1, 0, 3 * width).reshape({height, width, 3});
  const Tensor planes = bgr.flip({-1}).permute({2, 0, 1});
  CHECK(planes.data<std::uint8_t>() == address + 2 && bytes.is_contiguous());
  const Tensor packed = planes.clone(MemoryFormat::contiguous);
  for (std::int64_t c = 0; c < 3; ++c) {
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const auto value = 100 * (2 - c) + 10 * y + x;
        CHECK(planes.at<std::uint8_t>(c, y, x) == value);
        CHECK(packed.data<std::uint8_t>()[(c * height + y) * width + x] == value);
      }
    }
  }
}

} // namespace

int main() {
  methods_describe_the_memory_anew();
  the_lowest_bound_is_a_bound();
  views_and_tensor_share_the_memory();
  arguments_that_do_not_fit_throw();
  threads_make_views_of_one_tensor();
  a_view_goes_through_dlpack_and_comes_back();
  padded_bgr_rows_become_rgb_planes();
  return 0;
}
