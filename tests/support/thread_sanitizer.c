/* Tells ThreadSanitizer of the synchronisation that it cannot see in Rust's standard library.
 *
 * ThreadSanitizer follows the code that is compiled with it. Generic and inline code of std is
 * compiled with the crate that uses it, but the rest of std comes ready-made, and the calls below
 * are in that rest. The linker's option --wrap=NAME leads each call of NAME to __wrap_NAME here.
 * `cargo xtask tsan` finds the mangled names in the toolchain's std, and passes them as macros. */
#include <stdint.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define JOIN(a, b) a##b
#define NAME(prefix, name) JOIN(prefix, name)
#define REAL(name) NAME(__real_, name)
#define WRAP(name) NAME(__wrap_, name)

/* Arc subtracts a reference with Release, and the last one issues an Acquire fence. Of a fence,
 * ThreadSanitizer understands nothing, so the subtraction acquires. That is more than Arc does for
 * references that are not the last; of those, no test here could tell the difference. */
uint64_t REAL(__tsan_atomic64_fetch_sub)(volatile uint64_t *atomic, uint64_t value, int order);
uint64_t WRAP(__tsan_atomic64_fetch_sub)(volatile uint64_t *atomic, uint64_t value, int order) {
  enum { RELEASE = 3, ACQ_REL = 4 };
  return REAL(__tsan_atomic64_fetch_sub)(atomic, value, order == RELEASE ? ACQ_REL : order);
}

/* Mutex::lock takes a free lock inline; a lock that is not free is taken in here. */
void REAL(LOCK_CONTENDED)(uint32_t *mutex);
void WRAP(LOCK_CONTENDED)(uint32_t *mutex) {
  REAL(LOCK_CONTENDED)(mutex);
  __tsan_acquire(mutex);
}

/* Condvar::wait unlocks the mutex and locks it again. */
void REAL(CONDVAR_WAIT)(uint32_t *condvar, uint32_t *mutex);
void WRAP(CONDVAR_WAIT)(uint32_t *condvar, uint32_t *mutex) {
  __tsan_release(mutex);
  REAL(CONDVAR_WAIT)(condvar, mutex);
  __tsan_acquire(mutex);
}

/* OnceLock reads inline whether the value is there; the thread that makes the value says so in
 * here. A thread that reads the value before this call returns is not seen to come after it, so
 * tests make such values (rayon's global pool) on one thread first. The arguments are passed on as
 * they come: a flag, a closure and where the call stands. */
void REAL(ONCE_CALL)(uint32_t *once, uintptr_t flag, void *closure, void *vtable, void *location);
void WRAP(ONCE_CALL)(uint32_t *once, uintptr_t flag, void *closure, void *vtable, void *location) {
  REAL(ONCE_CALL)(once, flag, closure, vtable, location);
  __tsan_release(once);
  __tsan_acquire(once);
}
