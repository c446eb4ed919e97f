/*
 * Copies elements between two layouts on one device. Compiled to strided_copy.ptx by
 * `cargo xtask bindings`; the fake CUDA driver of the tests compiles it for the host.
 */

#define DLBRIDGE_RANK 64

/* Dimensions, the outermost first. Strides are in units. */
struct KernelDims {
  unsigned long long total; /* product of all counts */
  unsigned rank;
  unsigned pad;
  unsigned long long count[DLBRIDGE_RANK];
  long long from[DLBRIDGE_RANK];
  long long to[DLBRIDGE_RANK];
};

struct alignas(16) Unit16 {
  unsigned long long low, high;
};

/* Neighbouring threads write neighbouring units, if the target is contiguous. */
#define DLBRIDGE_STRIDED_COPY(name, Unit)                                                          \
  extern "C" __global__ void name(const Unit *from, Unit *to, const KernelDims dims) {             \
    const unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;                    \
    unsigned long long index = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;          \
    for (; index < dims.total; index += step) {                                                    \
      unsigned long long rest = index;                                                             \
      long long source = 0, target = 0;                                                            \
      _Pragma("unroll 1") for (unsigned dim = dims.rank; dim-- > 0;) {                             \
        const unsigned long long outer = rest / dims.count[dim];                                   \
        const long long coordinate = (long long)(rest - outer * dims.count[dim]);                  \
        source += coordinate * dims.from[dim];                                                     \
        target += coordinate * dims.to[dim];                                                       \
        rest = outer;                                                                              \
      }                                                                                            \
      to[target] = from[source];                                                                   \
    }                                                                                              \
  }

DLBRIDGE_STRIDED_COPY(dlbridge_strided_copy_1, unsigned char)
DLBRIDGE_STRIDED_COPY(dlbridge_strided_copy_2, unsigned short)
DLBRIDGE_STRIDED_COPY(dlbridge_strided_copy_4, unsigned int)
DLBRIDGE_STRIDED_COPY(dlbridge_strided_copy_8, unsigned long long)
DLBRIDGE_STRIDED_COPY(dlbridge_strided_copy_16, Unit16)
