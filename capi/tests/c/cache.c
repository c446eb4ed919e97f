/* The cache of memory for copies. */
#include "check.h"

enum { ELEMENTS = 1 << 20 };
static const size_t BYTES = ELEMENTS * sizeof(float);
static float numbers[ELEMENTS];

static dlb_tensor *clone_of(const dlb_tensor *tensor) {
  dlb_tensor *copy = NULL;
  SUCCEEDS(dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_PRESERVE, DLB_STREAM_NO_SYNC, &copy, &error));
  return copy;
}

static const void *data_of(const dlb_tensor *tensor) {
  const void *data = NULL;
  SUCCEEDS(dlb_tensor_data(tensor, &data, &error));
  return data;
}

int main(void) {
  int64_t shape[] = {ELEMENTS};
  DLTensor desc = {numbers, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, NULL, 0};
  dlb_tensor *tensor = NULL;
  SUCCEEDS(dlb_tensor_from_memory(&desc, 0, NULL, NULL, &tensor, &error));

  const size_t before = dlb_set_cache_limit(16 * BYTES);
  CHECK(dlb_set_cache_limit(16 * BYTES) == 16 * BYTES);
  CHECK(dlb_trim() == 0);
  dlb_tensor *copy = clone_of(tensor);
  const void *data = data_of(copy);
  dlb_tensor_free(copy);
  CHECK(dlb_cached_bytes() == BYTES);

  /* The same memory, with the elements of the source. */
  numbers[ELEMENTS - 1] = 7;
  copy = clone_of(tensor);
  CHECK(data_of(copy) == data && dlb_cached_bytes() == 0);
  CHECK(memcmp(data, numbers, BYTES) == 0);
  dlb_tensor_free(copy);
  CHECK(dlb_trim() == BYTES && dlb_cached_bytes() == 0);

  dlb_set_cache_limit(0);
  dlb_tensor_free(clone_of(tensor));
  CHECK(dlb_cached_bytes() == 0);
  CHECK(dlb_set_cache_limit(SIZE_MAX) == 0);
  dlb_tensor_free(clone_of(tensor));
  CHECK(dlb_set_cache_limit(before) >= 16 * BYTES);
  dlb_trim();
  dlb_tensor_free(tensor);
  return 0;
}
