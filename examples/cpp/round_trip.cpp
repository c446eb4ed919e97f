// Shares a libtorch tensor with dlbridge, moves a std::vector into libtorch, and clones a
// transpose. No data is copied except by clone().
//
//     cmake -S . -B build -DCMAKE_PREFIX_PATH=PREFIX -DLIBTORCH=FOLDER && cmake --build build
//     build/round_trip
#include <torch/torch.h>

#include <dlbridge/torch.hpp>

#include <iostream>

int main() {
  const torch::Tensor image = torch::arange(12, torch::kFloat).view({3, 4});

  // From libtorch: the dlbridge tensor is another owner of the same memory.
  dlbridge::Tensor shared = dlbridge::from_torch(image.t());
  std::cout << "shape (" << shared.shape()[0] << ", " << shared.shape()[1] << "), strides ("
            << shared.strides()[0] << ", " << shared.strides()[1] << "), "
            << (shared.data<float>() == image.data_ptr<float>() ? "the same memory" : "a copy")
            << "\n";
  shared.data_mut<float>()[0] = 100;
  std::cout << "libtorch sees the " << image[0][0].item<float>() << "\n";

  // To libtorch: the vector is moved, and destroyed when libtorch releases the memory.
  std::vector<float> values{1, 2, 3, 4};
  const float *address = values.data();
  dlbridge::Tensor ours = dlbridge::Tensor::from_vector(std::move(values), {2, 2});
  const torch::Tensor matrix = dlbridge::into_torch(std::move(ours));
  std::cout << "the vector in libtorch: "
            << (matrix.data_ptr<float>() == address ? "the same memory" : "a copy")
            << ", its square:\n"
            << matrix.matmul(matrix) << "\n";

  // Only clone(), copy_into() and functions whose names begin with to_ copy data.
  const torch::Tensor copy = dlbridge::into_torch(shared.clone(dlbridge::MemoryFormat::contiguous));
  std::cout << "the transpose, copied: contiguous " << copy.is_contiguous() << ", equal "
            << copy.equal(image.t()) << "\n";

  // from_torch() refuses a tensor that it cannot convert; the message has the reason.
  try {
    dlbridge::from_torch(torch::ones({2}, torch::requires_grad()));
  } catch (const dlbridge::Error &error) {
    std::cout << "refused: " << error.what() << "\n";
  }
  return 0;
}
