/*
 * What dlbridge asks of libtorch, as C. No exception crosses: a function that can fail returns NULL
 * when it succeeded, otherwise a message to free with `dlb_torch_free_message`; it writes its
 * results only on success.
 */
#ifndef DLBRIDGE_TORCH_SHIM_H_
#define DLBRIDGE_TORCH_SHIM_H_

#include "dlbridge/torch_plain.h" /* DLB_TORCH_PLAIN and the reasons */
#include "dlpack/dlpack.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An `at::Tensor`, the same thing that a `tch::Tensor` points to. */
typedef struct dlb_torch_tensor dlb_torch_tensor;

/* What kept a tensor's memory before `dlb_torch_adopt`. */
typedef struct dlb_torch_memory dlb_torch_memory;

/* What besides this tensor can reach its memory; 0 when nothing can. */
enum {
  DLB_TORCH_EXCLUSIVE = 0,
  DLB_TORCH_SHARED_TENSOR,
  DLB_TORCH_SHARED_STORAGE,
  DLB_TORCH_EXTERNAL_MEMORY,
};

/*
 * What the context of memory of ours begins with: a function that releases it, and an address that
 * only the copy of dlbridge that made it has.
 */
typedef struct {
  void (*release)(void *context);
  const void *copy;
} dlb_torch_context;

/* What a tensor looks like. `shape` and `strides` live as long as the tensor is not changed. */
typedef struct {
  void *data; /* first element; NULL when there are none */
  const int64_t *shape;
  const int64_t *strides;
  size_t ndim;
  size_t len; /* elements */
  DLDataType dtype;
  DLDevice device;
  int32_t plain;     /* DLB_TORCH_PLAIN or a reason; only then does the rest mean anything */
  int32_t exclusive; /* DLB_TORCH_EXCLUSIVE or a reason */
  const char *name;  /* with some reasons, the name of what was found: static */
  void *context;     /* what `dlb_torch_from_blob` was given, if the memory is ours, else NULL */
} dlb_torch_view;

/*
 * Makes a tensor over memory of ours on the host or a CUDA device, without copying. Strides that
 * mean something are not negative, and the extent in bytes fits an int64_t: libtorch would abort
 * otherwise. Strides that mean nothing become those that libtorch would give.
 *
 * `context` points to a `dlb_torch_context`, whose function is called once when libtorch is done
 * with the memory; resizing the tensor gives it other memory. On failure it has not been called.
 */
char *dlb_torch_from_blob(void *data, const int64_t *shape, const int64_t *strides, size_t ndim,
                          DLDataType dtype, DLDevice device, void *context, dlb_torch_tensor **out);

/*
 * Reads a tensor and decides whether it is plain and exclusive. Materialises nothing. Memory is
 * ours if its context has the address `copy`.
 */
char *dlb_torch_read(const dlb_torch_tensor *tensor, const void *copy, dlb_torch_view *out);

/* A new dense CPU tensor of unspecified content; strides that mean something are not negative. */
char *dlb_torch_empty(const int64_t *shape, const int64_t *strides, size_t ndim, DLDataType dtype,
                      dlb_torch_tensor **out);

/*
 * A deep copy without autograd history, with memory for zero tensors, conjugation and negation
 * resolved. Fails for other tensors that are not ordinary, and for those that reach beyond their
 * storage.
 */
char *dlb_torch_clone(const dlb_torch_tensor *tensor, dlb_torch_tensor **out);

/* A deep copy on the CPU, on which the copy has arrived. */
char *dlb_torch_to_cpu(const dlb_torch_tensor *tensor, dlb_torch_tensor **out);

/* Copies elements, as `target.copy_(source)`, without recording it for autograd. */
char *dlb_torch_copy(const dlb_torch_tensor *source, dlb_torch_tensor *target);

/*
 * Puts `context` (as in `dlb_torch_from_blob`) in charge of the memory of an exclusive tensor,
 * which from then on cannot be cloned lazily, and gives back what was in charge before.
 */
char *dlb_torch_adopt(const dlb_torch_tensor *tensor, void *context, dlb_torch_memory **former);

void dlb_torch_free_memory(dlb_torch_memory *memory);

void dlb_torch_free(dlb_torch_tensor *tensor);

void dlb_torch_free_message(char *message);

#ifdef __cplusplus
}
#endif
#endif /* DLBRIDGE_TORCH_SHIM_H_ */
