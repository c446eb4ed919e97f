/*
 * Wraps a buffer from malloc as a tensor, clones its transpose, exports the clone as a DLPack
 * struct, and imports the struct again. With an argument, such as -3, shows an error.
 *
 *     cc transpose.c $(pkg-config --cflags --libs dlbridge) -o transpose && ./transpose
 */
#include <dlbridge.h>

#include <stdio.h>
#include <stdlib.h>

/* Ends the program with the library's error message unless a call succeeded. */
static void require(dlb_status status, dlb_error **error) {
  if (status == DLB_OK) return;
  fprintf(stderr, "%s: %s\n", dlb_status_name(status), dlb_error_message(*error));
  dlb_error_free(*error);
  exit(1);
}

static void release(void *buffer) {
  free(buffer);
  puts("the buffer is freed");
}

static void print(const char *name, const dlb_tensor *tensor) {
  const DLTensor *view = dlb_tensor_view(tensor);
  const float *data = (const float *)view->data;
  int64_t i, j;
  printf("%s, strides (%d, %d):\n", name, (int)view->strides[0], (int)view->strides[1]);
  for (i = 0; i < view->shape[0]; ++i) {
    for (j = 0; j < view->shape[1]; ++j)
      printf(" %g", data[i * view->strides[0] + j * view->strides[1]]);
    putchar('\n');
  }
}

int main(int count, char **arguments) {
  /* Two rows of three numbers. */
  int64_t shape[] = {2, 3};
  DLTensor desc = {NULL, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
  float *buffer = (float *)malloc(6 * sizeof *buffer);
  dlb_tensor *rows, *transpose, *clone, *back;
  DLManagedTensorVersioned *managed;
  dlb_error *error = NULL;
  int i;
  if (buffer == NULL) return 1;
  if (count > 1) shape[0] = atoi(arguments[1]); /* -3 is not a valid size */
  for (i = 0; i < 6; ++i) buffer[i] = (float)i;

  /* No data is copied. dlbridge calls release(buffer) once, when the last handle is freed. */
  desc.data = buffer;
  require(dlb_tensor_from_memory(&desc, 0, buffer, release, &rows, &error), &error);

  /* The same memory seen as three rows of two. This handle keeps the memory, too. */
  require(dlb_tensor_transpose(rows, 0, 1, &transpose, &error), &error);
  dlb_tensor_free(rows);
  print("the transpose", transpose);

  /* The clone is a copy in new memory, in row-major order. */
  require(
      dlb_tensor_clone(transpose, DLB_MEMORY_FORMAT_CONTIGUOUS, DLB_STREAM_NO_SYNC, &clone, &error),
      &error);
  dlb_tensor_free(transpose);

  /* The clone moves into a DLPack struct, for any consumer. Here dlbridge itself consumes it. */
  require(dlb_tensor_into_dlpack(clone, &managed, &error), &error);
  require(dlb_tensor_from_dlpack(managed, &back, &error), &error);
  print("the clone, back", back);
  dlb_tensor_free(back);
  return 0;
}
