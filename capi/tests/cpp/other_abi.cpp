// A library of another ABI than the header's is refused at the first call.
#include "check.hpp"

// Stands in for the library's.
extern "C" std::uint32_t dlb_abi_version(void) { return std::uint32_t{7} << 16 | 3; }

int main() {
  THROWS(DLB_ERROR_UNSUPPORTED, "dlbridge.hpp is of ABI 0.1, the library of ABI 7.3",
         dlbridge::Tensor::empty<float>({2}));
  THROWS(DLB_ERROR_UNSUPPORTED, "the library of ABI 7.3", dlbridge::Tensor().clone());
  return 0;
}
