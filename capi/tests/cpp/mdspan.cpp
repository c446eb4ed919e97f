// Views as std::mdspan, if the standard library has it.
#include "check.hpp"

#if defined(__cpp_lib_mdspan)

using dlbridge::Tensor;

int main() {
  Tensor tensor = Tensor::from_vector(std::vector<float>{0, 1, 2, 3, 4, 5}, {2, 3});
  const auto matrix = tensor.as_mdspan<float, 2>();
  CHECK(matrix.extent(0) == 2 && matrix.extent(1) == 3 && matrix.stride(0) == 3);
  CHECK((matrix[1, 2]) == 5);
  tensor.as_mdspan_mut<float, 2>()[0, 1] = 9;
  CHECK((matrix[0, 1]) == 9);
  THROWS(DLB_ERROR_LAYOUT, "expected 3 dimensions, found 2", (tensor.as_mdspan<float, 3>()));
  THROWS(DLB_ERROR_DTYPE, "expected float64, found float32", (tensor.as_mdspan<double, 2>()));

  Tensor columns = Tensor::empty(dlbridge::dtype_of<float>(), {2, 3}, {1, 2});
  tensor.copy_into(columns);
  const auto transposed = columns.as_mdspan<float, 2>();
  CHECK((transposed[1, 2]) == 5 && transposed.stride(1) == 2);

  Tensor backwards = Tensor::empty(dlbridge::dtype_of<float>(), {3}, {-1});
  THROWS(DLB_ERROR_LAYOUT, "stride -1 is zero, negative, or makes elements overlap",
         (backwards.as_mdspan<float, 1>()));
  float data[5] = {};
  std::int64_t shape[] = {3, 3}, overlapping[] = {1, 1};
  const DLTensor desc{data, dlbridge::cpu, 2, dlbridge::dtype_of<float>(), shape, overlapping, 0};
  const Tensor windows = Tensor::from_memory(desc, std::make_unique<int>(0));
  THROWS(DLB_ERROR_LAYOUT, "stride 1 is zero, negative, or makes elements overlap",
         (windows.as_mdspan<float, 2>()));
  // Views of tensors.
  const Tensor corner = tensor.transpose(0, 1).slice(0, 1);
  const auto view = corner.as_mdspan<float, 2>();
  CHECK(view.extent(0) == 2 && view.stride(0) == 1 && (view[1, 1]) == 5);
  const Tensor flipped = tensor.flip({0});
  THROWS(DLB_ERROR_LAYOUT, "stride -3 is zero, negative", (flipped.as_mdspan<float, 2>()));
  const Tensor wide = tensor.unsqueeze(0).expand({2, -1, -1});
  THROWS(DLB_ERROR_LAYOUT, "stride 0 is zero, negative", (wide.as_mdspan<float, 3>()));
  // Strides of dimensions of size 1, and of empty tensors, are ignored.
  const Tensor row = Tensor::empty<float>({1, 2}, {-9, 1}),
               none = Tensor::empty<float>({0, 2}, {0, -1});
  CHECK((row.as_mdspan<float, 2>().stride(0)) == 1 && (row.as_mdspan<float, 2>().extent(1)) == 2);
  CHECK((none.as_mdspan<float, 2>().size()) == 0 && (none.as_mdspan<float, 2>().stride(0)) == 2);
  const Tensor uncountable =
      Tensor::empty<float>({0, std::int64_t{1} << 40, std::int64_t{1} << 40});
  THROWS(DLB_ERROR_LAYOUT, "more than std::mdspan can count", (uncountable.as_mdspan<float, 3>()));
  const Tensor scalar = Tensor::from_vector(std::vector<int>{4}, {});
  CHECK((scalar.as_mdspan<int, 0>()[]) == 4);
  return 0;
}

#else

int main() { return 0; }

#endif
