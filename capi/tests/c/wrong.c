/* Fails, to show that failures are seen. */
#include "check.h"

int main(void) {
  dlb_tensor *out = UNTOUCHED(dlb_tensor);
  SUCCEEDS(dlb_tensor_from_dlpack(NULL, &out, &error));
  return 0;
}
