// The GPU's kernels, compiled for the host. One host thread runs the GPU's threads one after
// another.

namespace {

// The type of CUDA's built-in variables.
struct Dim {
  unsigned x;
};

thread_local Dim gridDim, blockDim, blockIdx, threadIdx;

} // namespace

#define __global__
#include KERNELS // the file that build.rs names

// The kernels' names; kernel.rs has them too.
#define KERNEL(unit) dlbridge_strided_copy_##unit

static_assert(sizeof(KernelDims) == 1552, "kernel.rs has the same struct");

// kernel.rs has the same struct, as HostLaunch.
struct HostLaunch {
  const void *from;
  void *to;
  const KernelDims *dims;
  unsigned unit, grid, block;
};

namespace {

// From the last thread to the first, because a GPU promises no order.
template <class Unit>
void run(void (*kernel)(const Unit *, Unit *, KernelDims), const HostLaunch &launch) {
  gridDim.x = launch.grid;
  blockDim.x = launch.block;
  for (blockIdx.x = launch.grid; blockIdx.x-- > 0;)
    for (threadIdx.x = launch.block; threadIdx.x-- > 0;)
      kernel(static_cast<const Unit *>(launch.from), static_cast<Unit *>(launch.to), *launch.dims);
}

} // namespace

extern "C" void fake_cuda_launch(const HostLaunch *launch) {
  switch (launch->unit) {
  case 1: return run(KERNEL(1), *launch);
  case 2: return run(KERNEL(2), *launch);
  case 4: return run(KERNEL(4), *launch);
  case 8: return run(KERNEL(8), *launch);
  case 16: return run(KERNEL(16), *launch);
  }
}
