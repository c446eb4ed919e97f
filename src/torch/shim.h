/*
 * The functions of libtorch that dlbridge calls, as C functions. No exception leaves them. A
 * function that can fail returns NULL on success, and otherwise a message that the caller frees
 * with `dlb_torch_free_message`. It writes its results only on success.
 */
#ifndef DLBRIDGE_TORCH_SHIM_H_
#define DLBRIDGE_TORCH_SHIM_H_

#include "dlbridge/torch_plain.h" /* DLB_TORCH_PLAIN and the reasons */
#include "dlpack/dlpack.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An `at::Tensor`; a `tch::Tensor` points to one too. */
typedef struct dlb_torch_tensor dlb_torch_tensor;

/* The owner that a tensor's memory had before `dlb_torch_adopt`. */
typedef struct dlb_torch_memory dlb_torch_memory;

/* What besides this tensor can reach its memory; 0 if nothing can. */
enum {
  DLB_TORCH_EXCLUSIVE = 0,
  DLB_TORCH_SHARED_TENSOR,
  DLB_TORCH_SHARED_STORAGE,
  DLB_TORCH_EXTERNAL_MEMORY,
};

/*
 * The beginning of the context of memory that dlbridge owns: a function that releases the context,
 * and an address that only the copy of dlbridge that made the context has.
 */
typedef struct {
  void (*release)(void *context);
  const void *copy;
} dlb_torch_context;

/* The description of a tensor. `shape` and `strides` live as long as the tensor is not changed. */
typedef struct {
  void *data; /* first element; NULL if there are none */
  const int64_t *shape;
  const int64_t *strides;
  size_t ndim;
  size_t len; /* number of elements */
  DLDataType dtype;
  DLDevice device;
  int32_t plain;     /* DLB_TORCH_PLAIN or a reason; with a reason only `name` is set */
  int32_t exclusive; /* DLB_TORCH_EXCLUSIVE or a reason */
  const char *name;  /* with some reasons, the name of what was found: a static string */
  void *context;     /* the argument of `dlb_torch_from_blob`, if it made the tensor, else NULL */
} dlb_torch_view;

/*
 * Makes a tensor over memory of dlbridge on the host or a CUDA device, without copying. Strides
 * that reach an element are not negative, and the extent in bytes fits an int64_t: libtorch would
 * abort otherwise. Strides that reach no element become those that libtorch gives its own tensors.
 *
 * `context` points to a `dlb_torch_context`. Its function is called once, when libtorch releases
 * the memory; resizing the tensor gives it other memory. On failure it was not called.
 */
char *dlb_torch_from_blob(void *data, const int64_t *shape, const int64_t *strides, size_t ndim,
                          DLDataType dtype, DLDevice device, void *context, dlb_torch_tensor **out);

/*
 * Reads a tensor and decides whether it is plain and exclusive. Makes no memory for lazy tensors.
 * `context` is set if the memory's context has the address `copy`.
 */
char *dlb_torch_read(const dlb_torch_tensor *tensor, const void *copy, dlb_torch_view *out);

/* A new dense CPU tensor of unspecified content; strides that reach an element are not negative. */
char *dlb_torch_empty(const int64_t *shape, const int64_t *strides, size_t ndim, DLDataType dtype,
                      dlb_torch_tensor **out);

/*
 * A deep copy without autograd history, with memory for zero tensors, conjugation and negation
 * resolved. Fails for other tensors that are not ordinary, and for those that reach beyond their
 * storage.
 */
char *dlb_torch_clone(const dlb_torch_tensor *tensor, dlb_torch_tensor **out);

/* A deep copy on the CPU, complete when this returns. */
char *dlb_torch_to_cpu(const dlb_torch_tensor *tensor, dlb_torch_tensor **out);

/*
 * A deep copy on the CPU, complete when this returns, of `count` neighbouring elements of the
 * tensor's storage, as a vector. The first of them is `first` elements behind the tensor's first.
 */
char *dlb_torch_span_to_cpu(const dlb_torch_tensor *tensor, int64_t first, int64_t count,
                            dlb_torch_tensor **out);

/* Copies elements, as `target.copy_(source)`, without recording it for autograd. */
char *dlb_torch_copy(const dlb_torch_tensor *source, dlb_torch_tensor *target);

/*
 * Makes `context` (as in `dlb_torch_from_blob`) the owner of the memory of an exclusive tensor, and
 * returns the owner from before. From then on libtorch cannot clone the tensor lazily.
 */
char *dlb_torch_adopt(const dlb_torch_tensor *tensor, void *context, dlb_torch_memory **former);

void dlb_torch_free_memory(dlb_torch_memory *memory);

void dlb_torch_free(dlb_torch_tensor *tensor);

void dlb_torch_free_message(char *message);

#ifdef __cplusplus
}
#endif
#endif /* DLBRIDGE_TORCH_SHIM_H_ */
