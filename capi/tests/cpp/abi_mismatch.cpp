// The first call refuses a library of another ABI than the header's.
#include "check.hpp"

// Replaces the function of the library.
extern "C" std::uint32_t dlb_abi_version(void) { return std::uint32_t{7} << 16 | 3; }

int main() {
  const std::string header = std::to_string(DLB_ABI_MAJOR) + "." + std::to_string(DLB_ABI_MINOR);
  THROWS(DLB_ERROR_UNSUPPORTED, "dlbridge.hpp is of ABI " + header + ", the library of ABI 7.3",
         dlbridge::Tensor::empty<float>({2}));
  THROWS(DLB_ERROR_UNSUPPORTED, "the library of ABI 7.3", dlbridge::Tensor().clone());
  return 0;
}
