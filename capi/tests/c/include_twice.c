/* A program that includes each header twice in this file and once in another. */
#include "dlbridge.h"
#include "dlbridge.h"
#include "dlpack/dlpack.h"
#include "dlpack/dlpack.h"

uint32_t other_abi_version(void);

int main(void) { return dlb_abi_version() == other_abi_version() ? 0 : 1; }
