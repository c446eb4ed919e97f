/* The deleter of a struct still runs after dlclose() of the library that made the struct. */
#define _POSIX_C_SOURCE 200809L

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "dlbridge.h"

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
      return 1;                                                                                    \
    }                                                                                              \
  } while (0)

typedef dlb_status (*empty_function)(const DLTensor *, dlb_tensor **, dlb_error **);
typedef dlb_status (*into_function)(dlb_tensor *, DLManagedTensorVersioned **, dlb_error **);

int main(int count, char **arguments) {
  int64_t shape[] = {4};
  DLTensor desc;
  dlb_tensor *tensor;
  DLManagedTensorVersioned *managed;
  empty_function empty;
  into_function into;
  void *library, *symbol;
  CHECK(count == 2);
  library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  CHECK(library != NULL);
  symbol = dlsym(library, "dlb_tensor_empty");
  memcpy(&empty, &symbol, sizeof symbol);
  symbol = dlsym(library, "dlb_tensor_into_dlpack");
  memcpy(&into, &symbol, sizeof symbol);
  memset(&desc, 0, sizeof desc);
  desc.device.device_type = kDLCPU;
  desc.dtype.code = kDLInt;
  desc.dtype.bits = 64;
  desc.dtype.lanes = 1;
  desc.ndim = 1;
  desc.shape = shape;
  CHECK(empty(&desc, &tensor, NULL) == DLB_OK);
  CHECK(into(tensor, &managed, NULL) == DLB_OK);
  CHECK(dlclose(library) == 0);
  managed->deleter(managed);
  return 0;
}
