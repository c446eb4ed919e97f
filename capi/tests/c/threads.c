/* Handles are shared, read and freed on many threads at once. The release callback runs on one of
 * them, after all others have freed their handles. */
#define _POSIX_C_SOURCE 200809L /* barriers */

#include <pthread.h>

#include "check.h"

enum { THREADS = 8, ROUNDS = 200 };

typedef struct {
  float *data;
  int users; /* threads that no longer use the memory */
  int released;
  pthread_t releaser;
  pthread_mutex_t lock;
} memory;

typedef struct {
  memory *owner;
  dlb_tensor *tensor;
  DLManagedTensorVersioned *managed;
  pthread_barrier_t *start;
} work;

/* What the threads did before they freed their handles is visible here. */
static void release(void *owner) {
  memory *m = (memory *)owner;
  CHECK(pthread_mutex_lock(&m->lock) == 0);
  CHECK(m->users == THREADS);
  CHECK(++m->released == 1);
  m->releaser = pthread_self();
  free(m->data);
  CHECK(pthread_mutex_unlock(&m->lock) == 0);
}

static void *use(void *argument) {
  work *w = (work *)argument;
  const float *data = w->owner->data;
  dlb_tensor *mine, *row, *clone;
  float sum = 0;
  int i;
  pthread_barrier_wait(w->start);
  for (i = 0; i < 64; ++i) {
    mine = dlb_tensor_share(w->tensor);
    SUCCEEDS(dlb_tensor_select(mine, 0, i / 8, &row, &error));
    dlb_tensor_free(mine);
    sum += ((const float *)dlb_tensor_view(row)->data)[i % 8];
    dlb_tensor_free(row);
  }
  CHECK(sum == 2016 && data[1] == 1);
  SUCCEEDS(dlb_tensor_clone(w->tensor, DLB_MEMORY_FORMAT_PRESERVE, 0, &clone, &error));
  CHECK(((const float *)dlb_tensor_view(clone)->data)[63] == 63);
  dlb_tensor_free(clone);
  CHECK(pthread_mutex_lock(&w->owner->lock) == 0);
  ++w->owner->users;
  CHECK(pthread_mutex_unlock(&w->owner->lock) == 0);
  /* Half of the threads have an exported struct too. */
  if (w->managed != NULL) w->managed->deleter(w->managed);
  dlb_tensor_free(w->tensor);
  return NULL;
}

int main(void) {
  int64_t shape[] = {8, 8};
  DLTensor desc;
  int round, i;
  memset(&desc, 0, sizeof desc);
  desc.device = CPU;
  desc.dtype = F32;
  desc.ndim = 2;
  desc.shape = shape;
  for (round = 0; round < ROUNDS; ++round) {
    memory owner;
    work works[THREADS];
    pthread_t threads[THREADS];
    pthread_barrier_t start;
    dlb_tensor *tensor;
    memset(&owner, 0, sizeof owner);
    owner.data = (float *)malloc(64 * sizeof *owner.data);
    CHECK(owner.data != NULL);
    for (i = 0; i < 64; ++i) owner.data[i] = (float)i;
    CHECK(pthread_mutex_init(&owner.lock, NULL) == 0);
    CHECK(pthread_barrier_init(&start, NULL, THREADS) == 0);
    desc.data = owner.data;
    SUCCEEDS(dlb_tensor_from_memory(&desc, 0, &owner, release, &tensor, &error));
    for (i = 0; i < THREADS; ++i) {
      works[i].owner = &owner;
      works[i].start = &start;
      works[i].tensor = dlb_tensor_share(tensor);
      works[i].managed = NULL;
      if (i % 2 != 0) SUCCEEDS(dlb_tensor_share_dlpack(tensor, &works[i].managed, &error));
    }
    dlb_tensor_free(tensor); /* this thread is not the last */
    for (i = 0; i < THREADS; ++i) CHECK(pthread_create(&threads[i], NULL, use, &works[i]) == 0);
    for (i = 0; i < THREADS; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(owner.released == 1 && !pthread_equal(owner.releaser, pthread_self()));
    CHECK(pthread_barrier_destroy(&start) == 0 && pthread_mutex_destroy(&owner.lock) == 0);
  }
  return 0;
}
