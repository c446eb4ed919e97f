// The GPU's kernels, compiled for the host: one thread does the work of all, one after another.

namespace {

struct Dim {
  unsigned x;
};

thread_local Dim gridDim, blockDim, blockIdx, threadIdx;

} // namespace

#define __global__
#include KERNELS // build.rs says which file: the GPU's kernels

// The kernels' names, which kernel.rs has too.
#define KERNEL(unit) dlbridge_gather_##unit

static_assert(sizeof(Loops) == 1552, "kernel.rs has the same struct");

namespace {

// From the last thread to the first: a GPU promises no order.
template <class Unit>
void run(void (*kernel)(const Unit *, Unit *, Loops), const void *from, void *to, const Loops &loops, unsigned grid,
         unsigned block) {
  gridDim.x = grid;
  blockDim.x = block;
  for (blockIdx.x = grid; blockIdx.x-- > 0;)
    for (threadIdx.x = block; threadIdx.x-- > 0;)
      kernel(static_cast<const Unit *>(from), static_cast<Unit *>(to), loops);
}

} // namespace

extern "C" void fake_cuda_launch(unsigned unit, const void *from, void *to, const Loops *loops, unsigned grid,
                               unsigned block) {
  switch (unit) {
  case 1: return run(KERNEL(1), from, to, *loops, grid, block);
  case 2: return run(KERNEL(2), from, to, *loops, grid, block);
  case 4: return run(KERNEL(4), from, to, *loops, grid, block);
  case 8: return run(KERNEL(8), from, to, *loops, grid, block);
  case 16: return run(KERNEL(16), from, to, *loops, grid, block);
  }
}
