// A program that included an older dlpack.h of upstream's first: DLPACK_HEADER names it.
#include DLPACK_HEADER

#include <vector>

#include "dlbridge.hpp"

int main() {
  const auto tensor = dlbridge::Tensor::from_vector(std::vector<float>{1, 2}, {2});
  const auto back = dlbridge::Tensor::from_dlpack(tensor.share_dlpack());
  return back.data<float>() == tensor.data<float>() ? 0 : 1;
}
