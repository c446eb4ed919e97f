// A shared object that uses the class internally and returns handles of the C library.
#include "dlbridge.hpp"

extern "C" __attribute__((visibility("default"))) dlb_tensor *plugin_make() {
  try {
    return dlbridge::Tensor::from_vector(std::vector<int>{1, 2}, {2}).clone().release();
  } catch (const dlbridge::Error &) {
    return nullptr;
  }
}
