/* Checks that fail: the argument names the macro of check.h whose check fails. */
#include "check.h"

int main(int count, char **arguments) {
  dlb_tensor *out = UNTOUCHED(dlb_tensor);
  const char *macro = count == 2 ? arguments[1] : "";
  if (strcmp(macro, "CHECK") == 0) CHECK(out == NULL);
  if (strcmp(macro, "SUCCEEDS") == 0) SUCCEEDS(dlb_tensor_from_dlpack(NULL, &out, &error));
  if (strcmp(macro, "FAILS with another status") == 0) {
    FAILS(DLB_ERROR_DTYPE, "source is NULL", dlb_tensor_from_dlpack(NULL, &out, &error));
  }
  if (strcmp(macro, "FAILS with another message") == 0) {
    FAILS(DLB_ERROR_NULL_POINTER, "out is NULL", dlb_tensor_from_dlpack(NULL, &out, &error));
  }
  return 0;
}
