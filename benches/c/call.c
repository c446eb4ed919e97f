/*
 * Measures calls of the C library: a DLPack struct is imported and released, beside calling its
 * deleter directly, and beside malloc and free. Prints Markdown; `cargo xtask bench` puts it into
 * the machine's page in docs/benchmarks.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dlbridge.h"

enum { ROUNDS = 2001, OPERATIONS = 500, MAX_RANK = 8, CONTENDERS = 6 };

static void require(dlb_status status) {
  if (status == DLB_OK) return;
  fprintf(stderr, "%s\n", dlb_status_name(status));
  exit(1);
}

/* A producer's DLPack struct with its shape and strides, in one allocation. */
typedef struct {
  DLManagedTensorVersioned managed;
  int64_t shape[MAX_RANK], strides[MAX_RANK];
} producer_struct;

static float element[1];

static void delete_struct(DLManagedTensorVersioned *self) { free(self); }

static DLManagedTensorVersioned *produce(int rank) {
  producer_struct *made = (producer_struct *)malloc(sizeof *made);
  int i;
  if (made == NULL) exit(1);
  made->managed.version.major = DLPACK_MAJOR_VERSION;
  made->managed.version.minor = DLPACK_MINOR_VERSION;
  made->managed.manager_ctx = NULL;
  made->managed.deleter = delete_struct;
  made->managed.flags = 0;
  made->managed.dl_tensor.data = element;
  made->managed.dl_tensor.device.device_type = kDLCPU;
  made->managed.dl_tensor.device.device_id = 0;
  made->managed.dl_tensor.ndim = rank;
  made->managed.dl_tensor.dtype.code = kDLFloat;
  made->managed.dl_tensor.dtype.bits = 32;
  made->managed.dl_tensor.dtype.lanes = 1;
  made->managed.dl_tensor.shape = made->shape;
  made->managed.dl_tensor.strides = made->strides;
  made->managed.dl_tensor.byte_offset = 0;
  for (i = rank; i-- > 0;) {
    made->shape[i] = 4;
    made->strides[i] = i + 1 == rank ? 1 : 4 * made->strides[i + 1];
  }
  return &made->managed;
}

/* A volatile write that keeps the compiler from removing the measured work. */
static void *volatile seen;

static void directly(int rank) {
  DLManagedTensorVersioned *managed = produce(rank);
  seen = managed;
  managed->deleter(managed);
}

static void imported(int rank) {
  dlb_tensor *tensor;
  require(dlb_tensor_from_dlpack(produce(rank), &tensor, NULL));
  dlb_tensor_free(tensor);
}

static void allocated(int rank) {
  (void)rank;
  seen = malloc(128);
  free(seen);
}

static dlb_tensor *shared_tensor;

static void shared(int rank) {
  (void)rank;
  dlb_tensor_free(dlb_tensor_share(shared_tensor));
}

static void exported(int rank) {
  DLManagedTensorVersioned *managed;
  (void)rank;
  require(dlb_tensor_share_dlpack(shared_tensor, &managed, NULL));
  managed->deleter(managed);
}

static void returned(int rank) {
  DLManagedTensorVersioned *managed;
  dlb_tensor *back;
  (void)rank;
  require(dlb_tensor_share_dlpack(shared_tensor, &managed, NULL));
  require(dlb_tensor_from_dlpack(managed, &back, NULL));
  dlb_tensor_free(back);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void (*const contenders[CONTENDERS])(int) = {directly, imported, allocated,
                                                    shared,   exported, returned};

/* Measures the contenders in turns; writes the median time of one operation of each, in
 * nanoseconds. */
static void race(int rank, double *medians) {
  static double times[CONTENDERS][ROUNDS];
  int round, i, k;
  for (round = 0; round < ROUNDS; ++round) {
    for (k = 0; k < CONTENDERS; ++k) {
      const double start = now();
      for (i = 0; i < OPERATIONS; ++i) contenders[k](rank);
      times[k][round] = (now() - start) / OPERATIONS;
    }
  }
  for (k = 0; k < CONTENDERS; ++k) {
    qsort(times[k], ROUNDS, sizeof **times, ascending);
    medians[k] = times[k][ROUNDS / 2];
  }
}

int main(void) {
  static const int ranks[] = {1, 2, 4, 8};
  size_t i;
  puts("\n### A DLPack struct imported and released, in C\n");
  puts(
      "| dimensions | deleter directly | `dlb_tensor_from_dlpack` + `dlb_tensor_free` | malloc + "
      "free of 128 bytes "
      "| extra ÷ (malloc + free) | `dlb_tensor_share` + free | `dlb_tensor_share_dlpack` + deleter "
      "| `share_dlpack` + `from_dlpack` + free |");
  puts("|---|---|---|---|---|---|---|---|");
  for (i = 0; i < sizeof ranks / sizeof *ranks; ++i) {
    double t[CONTENDERS];
    require(dlb_tensor_from_dlpack(produce(ranks[i]), &shared_tensor, NULL));
    race(ranks[i], t);
    dlb_tensor_free(shared_tensor);
    printf("| %d | %.1f ns | %.1f ns | %.1f ns | %.2f | %.1f ns | %.1f ns | %.1f ns |\n", ranks[i],
           t[0], t[1], t[2], (t[1] - t[0]) / t[2], t[3], t[4], t[5]);
  }
  return 0;
}
