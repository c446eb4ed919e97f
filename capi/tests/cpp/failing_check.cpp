// Checks that fail: the argument names the macro of check.hpp whose check fails.
#include "check.hpp"

using dlbridge::Tensor;

int main(int count, char **arguments) {
  const std::string macro = count == 2 ? arguments[1] : "";
  if (macro == "CHECK") CHECK(count == 0);
  if (macro == "THROWS without an exception") THROWS(DLB_ERROR_LAYOUT, "", Tensor());
  if (macro == "THROWS with another status") {
    THROWS(DLB_ERROR_DTYPE, "moved from", Tensor().clone());
  }
  if (macro == "THROWS with another message") {
    THROWS(DLB_ERROR_NULL_POINTER, "source is NULL", Tensor().clone());
  }
  return 0;
}
