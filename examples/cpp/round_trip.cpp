// A libtorch tensor goes through dlbridge and back inside a C++ libtorch program: no data is
// copied, and both sides see what the other writes.
#include <torch/torch.h>

#include <dlbridge/torch.hpp>

#include <iostream>

int main() {
  const torch::Tensor image = torch::arange(12, torch::kFloat).view({3, 4});

  // Out of libtorch: the dlbridge tensor is another owner of the same memory.
  dlbridge::Tensor shared = dlbridge::from_torch(image.t());
  std::cout << "shape (" << shared.shape()[0] << ", " << shared.shape()[1] << "), strides ("
            << shared.strides()[0] << ", " << shared.strides()[1] << "), "
            << (shared.data<float>() == image.data_ptr<float>() ? "the same memory" : "a copy")
            << "\n";
  shared.data_mut<float>()[0] = 100;
  std::cout << "libtorch sees the " << image[0][0].item<float>() << "\n";

  // A vector into libtorch: it is moved, and destroyed when libtorch no longer needs it.
  std::vector<float> values{1, 2, 3, 4};
  const float *address = values.data();
  dlbridge::Tensor ours = dlbridge::Tensor::from_vector(std::move(values), {2, 2});
  const torch::Tensor matrix = dlbridge::into_torch(std::move(ours));
  std::cout << "the vector in libtorch: "
            << (matrix.data_ptr<float>() == address ? "the same memory" : "a copy")
            << ", its square:\n"
            << matrix.matmul(matrix) << "\n";

  // Only clone() and functions named to_... copy data.
  const torch::Tensor copy = dlbridge::into_torch(shared.clone(dlbridge::MemoryFormat::contiguous));
  std::cout << "the transpose, copied: contiguous " << copy.is_contiguous() << ", equal "
            << copy.equal(image.t()) << "\n";

  // A tensor that cannot be converted is refused with the reason.
  try {
    dlbridge::from_torch(torch::ones({2}, torch::requires_grad()));
  } catch (const dlbridge::Error &error) {
    std::cout << "refused: " << error.what() << "\n";
  }
  return 0;
}
