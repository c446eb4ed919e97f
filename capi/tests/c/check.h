/* Checks of the C tests: a program prints nothing and returns 0 when all of them hold. */
#ifndef TESTS_C_CHECK_H_
#define TESTS_C_CHECK_H_

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dlbridge.h"

#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

/* Checks that the call, whose last argument is `&error`, succeeds and writes no error. */
#define SUCCEEDS(call)                                                                             \
  do {                                                                                             \
    dlb_error *error = UNTOUCHED(dlb_error);                                                       \
    dlb_status status = (call);                                                                    \
    if (status != DLB_OK) {                                                                        \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, dlb_error_message(error));     \
      exit(1);                                                                                     \
    }                                                                                              \
    CHECK(error == UNTOUCHED(dlb_error));                                                          \
  } while (0)

/* Checks that the call fails with the status `expected` and a message that contains `text`. */
#define FAILS(expected, text, call)                                                                \
  do {                                                                                             \
    dlb_error *error = NULL;                                                                       \
    dlb_status status = (call);                                                                    \
    if (status != (expected) || error == NULL || dlb_error_status(error) != status ||              \
        strstr(dlb_error_message(error), (text)) == NULL) {                                        \
      fprintf(stderr, "%s:%d: %s: %s, \"%s\"\n", __FILE__, __LINE__, #call,                        \
              dlb_status_name(status), dlb_error_message(error));                                  \
      exit(1);                                                                                     \
    }                                                                                              \
    dlb_error_free(error);                                                                         \
  } while (0)

/* The value of out-parameters before a call: a failed call does not change it. */
#define UNTOUCHED(type) ((type *)(void *)&untouched)
static const char untouched;

static const DLDevice CPU = {kDLCPU, 0};
static const DLDevice CUDA = {kDLCUDA, 0};
/* The status for CUDA devices in this build, on a machine without CUDA. */
#define NO_CUDA (dlb_capabilities() & DLB_CAP_CUDA ? DLB_ERROR_CUDA : DLB_ERROR_UNSUPPORTED)

static const DLDataType F32 = {kDLFloat, 32, 1};

/* A producer whose structs a test may change, and that counts calls of its deleters. */
typedef struct {
  DLManagedTensorVersioned managed;
  DLManagedTensor legacy;
  int64_t shape[4];
  int64_t strides[4];
  float data[24];
  int deleted;
} producer;

static void delete_versioned(DLManagedTensorVersioned *self) {
  ++((producer *)self->manager_ctx)->deleted;
}

static void delete_legacy(DLManagedTensor *self) { ++((producer *)self->manager_ctx)->deleted; }

/* A valid producer: 2 x 3 x 4 numbers that count from 0. */
static inline void produce(producer *made) {
  static const int64_t shape[] = {2, 3, 4}, strides[] = {12, 4, 1};
  int i;
  memset(made, 0, sizeof *made);
  memcpy(made->shape, shape, sizeof shape);
  memcpy(made->strides, strides, sizeof strides);
  for (i = 0; i < 24; ++i) made->data[i] = (float)i;
  made->managed.version.major = DLPACK_MAJOR_VERSION;
  made->managed.version.minor = DLPACK_MINOR_VERSION;
  made->managed.manager_ctx = made;
  made->managed.deleter = delete_versioned;
  made->managed.dl_tensor.data = made->data;
  made->managed.dl_tensor.device = CPU;
  made->managed.dl_tensor.ndim = 3;
  made->managed.dl_tensor.dtype = F32;
  made->managed.dl_tensor.shape = made->shape;
  made->managed.dl_tensor.strides = made->strides;
  made->legacy.dl_tensor = made->managed.dl_tensor;
  made->legacy.manager_ctx = made;
  made->legacy.deleter = delete_legacy;
}

/* Imports the producer's struct. */
static inline dlb_tensor *take(producer *made) {
  dlb_tensor *tensor = NULL;
  SUCCEEDS(dlb_tensor_from_dlpack(&made->managed, &tensor, &error));
  return tensor;
}

#endif /* TESTS_C_CHECK_H_ */
