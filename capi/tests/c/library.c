/* Versions and capabilities. */
#include "check.h"

int main(void) {
  CHECK(dlb_abi_version() == ((uint32_t)DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR));
  CHECK(strcmp(dlb_version(), DLB_VERSION) == 0);
  CHECK((dlb_capabilities() & ~(uint64_t)(DLB_CAP_CUDA | DLB_CAP_PARALLEL)) == 0);
  return 0;
}
