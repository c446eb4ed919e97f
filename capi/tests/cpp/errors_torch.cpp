// The texts of errors of dlbridge/torch.hpp for docs/errors.md.
#include <ATen/ATen.h>

#include "dlbridge/torch.hpp"

#include "show.hpp"

using dlbridge::from_torch;
using dlbridge::into_torch;
using dlbridge::Tensor;

int main() {
  const at::Tensor plain = at::ones({2, 2});
  const at::Tensor complex = at::ones({2}, at::kComplexFloat);
  SHOW("NegativeStride", into_torch(Tensor::empty(dlbridge::dtype_of<float>(), {2}, {-1})));
  std::int64_t shape[] = {2};
  const DLTensor desc{
      plain.data_ptr(), dlbridge::cpu, 1, dlbridge::dtype_of<float>(), shape, nullptr, 0};
  Tensor read_only =
      Tensor::from_memory(desc, std::unique_ptr<int>(), DLPACK_FLAG_BITMASK_READ_ONLY);
  SHOW("ReadOnly (libtorch)", into_torch(std::move(read_only)));
  SHOW("NotPlainTensor", from_torch(at::Tensor()));
  SHOW("NotPlainTensor", from_torch(plain.to_sparse()));
  SHOW("NotPlainTensor", from_torch(at::quantize_per_tensor(plain, 1.0, 0, at::kQInt8)));
  SHOW("NotPlainTensor", from_torch(at::imag(complex.conj())));
  SHOW("NotPlainTensor", from_torch(complex.conj()));
  SHOW("NotPlainTensor", from_torch(at::ones({2}).requires_grad_()));
  SHOW("NotPlainTensor", from_torch(at::_lazy_clone(plain)));
  SHOW("NotPlainTensor", from_torch(at::empty({2}, at::device(at::kMeta))));
  SHOW("TooManyDimensions", into_torch(Tensor::empty<float>(std::vector<std::int64_t>(65, 1))));
  return 0;
}
