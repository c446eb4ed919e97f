#include "dlpack/dlpack.h"
#include "dlbridge.h"

uint32_t other_abi_version(void);

uint32_t other_abi_version(void) { return dlb_abi_version(); }
