/*
 * dlbridge: take, keep, share, copy and hand on strided buffers, through DLPack.
 *
 *  1. Every function that can fail returns a dlb_status and takes, last, a dlb_error **error,
 *     which may be NULL.
 *  2. Out-parameters come just before it. They are written only on success, *error only on failure.
 *  3. Any pointer may be NULL: a required one gives DLB_ERROR_NULL_POINTER, and _free ignores it.
 *  4. const dlb_tensor * is for any number of threads at once, dlb_tensor * for one that uses this
 *     reference for nothing else meanwhile.
 *  5. The words of ownership: a function "borrows" for the call, "takes" on success only (on failure
 *     the caller still owns it, and nothing was released), "returns new" what the caller frees with
 *     the function named, "returns a view" that is valid until the object named is freed, and
 *     "returns a static view" that is valid for ever.
 *  6. Handles are counted references, not addresses: several may be the same pointer, and each is
 *     freed once. They may be used and freed on any thread. Memory may be written through each of
 *     them unless it is read-only: who writes when is the caller's affair.
 *  7. Release callbacks and DLPack deleters run on any thread, once. They do not throw, unwind, or use
 *     the handle that they are called for; they may call the library, and free other handles.
 *  8. Strings are UTF-8 and end with NUL.
 *  9. A bug inside the library gives DLB_ERROR_PANIC (NULL, 0 or false where no status is returned);
 *     free the handles that took part. Where the few bytes of a handle cannot be had, the process ends.
 * 10. Every build has the same functions. What is not compiled in returns DLB_ERROR_UNSUPPORTED.
 * 11. Within one SONAME functions and codes are only added. (Before 1.0 each 0.minor has its own.)
 * 12. Only DLPack's structs are public. Sizes and strides count elements; nbytes counts bytes.
 *
 * `stream` has the numbers of the array API's __dlpack__(stream=...): -1 for none, 1 and 2 for CUDA's legacy
 * and per-thread default streams, greater ones are handles; 0 is refused on CUDA, where it could mean
 * either. On the host, which has no streams, it is -1, 0 or 1, and a copy is done when its function returns.
 */

#ifndef DLBRIDGE_H_
#define DLBRIDGE_H_

/* Generated from capi/src by `cargo xtask bindings`; do not edit. */

#include <stdbool.h>
#include <stdint.h>
#include "dlpack/dlpack.h"

/* Another project's dlpack.h may have come first: the include guard is upstream's. */
#if !defined(DLPACK_MAJOR_VERSION) || DLPACK_MAJOR_VERSION != 1
#error "dlbridge.h needs DLPack 1.x, but another dlpack/dlpack.h was included before"
#endif
#ifndef DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED /* not in 1.0 */
#define DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED (1UL << 2UL)
#endif

/* Where the functions are. Define DLB_STATIC to link the static library on Windows. */
#if defined(_WIN32) && defined(DLB_STATIC)
#define DLB_API
#elif defined(_WIN32)
#define DLB_API __declspec(dllimport)
#elif defined(__GNUC__)
#define DLB_API __attribute__((visibility("default")))
#else
#define DLB_API
#endif

/* Version of the library. */
#define DLB_VERSION "0.1.0"

/**
 * Major version of this ABI. Another one means another SONAME; while it is 0, so does another minor.
 */
#define DLB_ABI_MAJOR 0

/**
 * Minor version of this ABI: grows with every function or code that is added.
 */
#define DLB_ABI_MINOR 2

/**
 * The library can copy to, from and between CUDA devices, where the machine has them.
 */
#define DLB_CAP_CUDA 1

/**
 * Large copies use several threads.
 */
#define DLB_CAP_PARALLEL 2

/**
 * Keeps the order of the strides and closes gaps, as `torch.clone` does.
 */
#define DLB_MEMORY_FORMAT_PRESERVE 0

/**
 * Row-major.
 */
#define DLB_MEMORY_FORMAT_CONTIGUOUS 1

/**
 * Of N, C, H, W: C varies fastest.
 */
#define DLB_MEMORY_FORMAT_CHANNELS_LAST 2

/**
 * Of N, C, D, H, W: C varies fastest.
 */
#define DLB_MEMORY_FORMAT_CHANNELS_LAST_3D 3

/**
 * No stream. For the host, which has none. A copy to or from a CUDA device is done when its function returns;
 * dlb_tensor_record_stream(), dlb_tensor_wait_stream() and dlb_synchronize() do nothing.
 */
#define DLB_STREAM_NO_SYNC -1

/**
 * CUDA's legacy default stream. For the host as good as none.
 */
#define DLB_STREAM_LEGACY_DEFAULT 1

/**
 * CUDA's per-thread default stream.
 */
#define DLB_STREAM_PER_THREAD_DEFAULT 2

/**
 * Why a call failed. Belongs to the caller.
 */
typedef struct dlb_error dlb_error;

/**
 * A handle to one strided buffer on one device. Several handles may share a buffer, which is released
 * with the last of them.
 */
typedef struct dlb_tensor dlb_tensor;

/**
 * The result of a call: DLB_OK or one of DLB_ERROR_*. Values are never reused; 9 and 12 are reserved.
 */
typedef int32_t dlb_status;

/**
 * The call succeeded.
 */
#define DLB_OK 0

/**
 * A required pointer is NULL.
 */
#define DLB_ERROR_NULL_POINTER 1

/**
 * A value that cannot be right: a negative size, unknown flags, an unknown memory format.
 */
#define DLB_ERROR_INVALID_ARGUMENT 2

/**
 * The struct is of a DLPack major version that is not understood. It is untouched: call its deleter.
 */
#define DLB_ERROR_VERSION 3

/**
 * The element type is another one than needed, or one that the target side does not have.
 */
#define DLB_ERROR_DTYPE 4

/**
 * The device is unknown, or not one that this call can work on.
 */
#define DLB_ERROR_DEVICE 5

/**
 * Shape and strides do not fit: another shape or rank than needed, overflow, overlap, gaps.
 */
#define DLB_ERROR_LAYOUT 6

/**
 * The memory may not be written.
 */
#define DLB_ERROR_READ_ONLY 7

/**
 * The host cannot read the memory. The message names the device and the remedy.
 */
#define DLB_ERROR_NOT_ON_CPU 8

/**
 * There is not enough memory for the elements, on the host or on the device.
 */
#define DLB_ERROR_OUT_OF_MEMORY 10

/**
 * CUDA, or the device, is missing on this machine, or CUDA failed: then the message has the driver's words.
 */
#define DLB_ERROR_CUDA 11

/**
 * This build of the library cannot do it; see dlb_capabilities().
 */
#define DLB_ERROR_UNSUPPORTED 13

/**
 * A bug in the library. Free the handles that took part.
 */
#define DLB_ERROR_PANIC 255

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the version of the ABI that the library has: DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR of its
 * header. A program fits a library of the same major version and the same or a greater minor one; while
 * the major version is 0, of just its own version.
 *
 * Ownership: nothing changes hands.
 */
DLB_API
uint32_t dlb_abi_version(void);

/**
 * Returns the version of the library, such as "0.1.0".
 *
 * Ownership: returns a static view.
 */
DLB_API const char *dlb_version(void);

/**
 * Returns what this build of the library can do: bits of DLB_CAP_*. Functions are the same in every
 * build; one that this build has no code for returns DLB_ERROR_UNSUPPORTED.
 *
 * Ownership: nothing changes hands.
 */
DLB_API uint64_t dlb_capabilities(void);

/**
 * Returns the status that the failed call returned; DLB_OK for NULL.
 *
 * Ownership: borrows `error`.
 */
DLB_API dlb_status dlb_error_status(const dlb_error *error);

/**
 * Returns what went wrong, in one sentence of UTF-8 that names the argument and the value; "" for
 * NULL.
 *
 * Ownership: borrows `error`; returns a view that is valid until dlb_error_free().
 */
DLB_API const char *dlb_error_message(const dlb_error *error);

/**
 * Frees an error; does nothing for NULL.
 *
 * Ownership: takes `error`.
 */
DLB_API void dlb_error_free(dlb_error *error);

/**
 * Returns the name of a status, such as "DLB_ERROR_LAYOUT"; "DLB_ERROR_UNKNOWN" for other numbers.
 *
 * Ownership: returns a static view.
 */
DLB_API const char *dlb_status_name(dlb_status status);

/**
 * Returns another handle to the same memory; NULL for NULL. No data is copied. Handles are counted
 * references: the new one may be the same pointer, and each is freed once.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
 */
DLB_API dlb_tensor *dlb_tensor_share(const dlb_tensor *tensor);

/**
 * Returns another handle to the same memory, seen as `desc` says: a part of it, a transpose, another element
 * type. No data is copied; shape and strides of `desc` are. It stays within the bytes from the lowest element of
 * `tensor` to the highest, on the same device; the first element is at its `data + byte_offset`, and NULL
 * `strides` mean row-major. The memory is as writable as before, and elements below a byte as padded.
 *
 * Ownership: borrows both; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_share_as(const dlb_tensor *tensor,
                               const DLTensor *desc,
                               dlb_tensor **out,
                               dlb_error **error);

/**
 * Frees a handle; does nothing for NULL. With the last one the memory is released: this thread runs
 * the deleter, or the callback.
 *
 * Ownership: takes `tensor`.
 */
DLB_API void dlb_tensor_free(dlb_tensor *tensor);

/**
 * Returns what the tensor looks like: address, shape, strides (never NULL unless ndim is 0), element
 * type and device in one call; NULL for NULL. `byte_offset` is 0, and `data` is NULL when there are no
 * elements; it is an address of the tensor's device, and may be written unless the flags say READ_ONLY.
 * Shape and strides are not to be written.
 *
 * Ownership: borrows `tensor`; returns a view that is valid until that handle is taken or freed.
 */
DLB_API
const DLTensor *dlb_tensor_view(const dlb_tensor *tensor);

/**
 * Returns the DLPack flags of the tensor: DLPACK_FLAG_BITMASK_READ_ONLY exactly when the memory may
 * not be written, and DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED; 0 for NULL.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API uint64_t dlb_tensor_flags(const dlb_tensor *tensor);

/**
 * Returns the bytes of all elements, gaps between them left out; 0 for NULL.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API uint64_t dlb_tensor_nbytes(const dlb_tensor *tensor);

/**
 * Returns whether the elements lie one after the other in row-major order; false for NULL. Strides of
 * dimensions of size 1 do not matter, nor do any strides when there are no elements.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API
bool dlb_tensor_is_contiguous(const dlb_tensor *tensor);

/**
 * Takes over a DLPack struct. No data is copied; the struct's deleter is called once, by the thread
 * that frees the last handle. The memory may be written unless the flags say READ_ONLY. Strides may be
 * NULL (row-major) and `byte_offset` is honoured.
 *
 * A struct that this library made is unwrapped and freed at once, unless it was changed. Any other stays as
 * it is, but for its deleter: until the struct is released another one stands there, which does nothing, so
 * that taking or releasing it a second time by mistake is noticed as long as it is held. (A struct without a
 * deleter may be a constant, and is not touched.)
 *
 * Ownership: takes `source`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_from_dlpack(DLManagedTensorVersioned *source,
                                  dlb_tensor **out,
                                  dlb_error **error);

/**
 * Takes over a DLPack struct of the older kind, as dlb_tensor_from_dlpack(). It has no flags, so its
 * memory is taken for read-only, as NumPy does, unless this library made the struct and nobody changed
 * it. (If you know better, give its `dl_tensor`, and the struct as owner, to dlb_tensor_from_memory().)
 *
 * Ownership: takes `source`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_from_dlpack_legacy(DLManagedTensor *source,
                                         dlb_tensor **out,
                                         dlb_error **error);

/**
 * Makes a DLPack struct that is one more owner of the memory. No data is copied. The struct says
 * READ_ONLY exactly when the memory is read-only; otherwise the memory may be written, by its other
 * holders too.
 *
 * Ownership: borrows `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_share_dlpack(const dlb_tensor *tensor,
                                   DLManagedTensorVersioned **out,
                                   dlb_error **error);

/**
 * Moves a handle into a DLPack struct, as dlb_tensor_share_dlpack() and dlb_tensor_free() in one.
 *
 * Ownership: takes `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_into_dlpack(dlb_tensor *tensor,
                                  DLManagedTensorVersioned **out,
                                  dlb_error **error);

/**
 * Makes a DLPack struct of the older kind that is one more owner of the memory. No data is copied.
 * Refuses read-only memory, for which that struct has no flag.
 *
 * Ownership: borrows `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_share_dlpack_legacy(const dlb_tensor *tensor,
                                          DLManagedTensor **out,
                                          dlb_error **error);

/**
 * Moves a handle into a DLPack struct of the older kind, as dlb_tensor_share_dlpack_legacy() and
 * dlb_tensor_free() in one.
 *
 * Ownership: takes `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_into_dlpack_legacy(dlb_tensor *tensor,
                                         DLManagedTensor **out,
                                         dlb_error **error);

/**
 * Wraps memory that you describe. No data is copied; shape and strides are. The first element is at
 * `data + byte_offset`; NULL `strides` mean row-major. The memory stays valid until
 * `release(owner)` is called: once, by the thread that frees the last handle. A NULL `release` is for
 * memory that outlives every handle.
 *
 * Of `flags`, DLPACK_FLAG_BITMASK_READ_ONLY keeps everybody from writing, and
 * DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED says that elements below a byte take a byte each (of others
 * it says nothing). DLPACK_FLAG_BITMASK_IS_COPIED is allowed and changes nothing; other bits are refused.
 *
 * Ownership: borrows `desc`; takes `owner`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_from_memory(const DLTensor *desc,
                                  uint64_t flags,
                                  void *owner,
                                  void (*release)(void *owner),
                                  dlb_tensor **out,
                                  dlb_error **error);

/**
 * Makes a tensor in new memory of the host, of the shape, strides and element type of `desc`, whose `data` and
 * `byte_offset` are ignored, and whose `device` is the CPU: dlb_tensor_to_device() copies to others. NULL `strides` mean row-major; others may leave gaps and be negative,
 * but neither overlap nor interleave. What the memory holds is unspecified; it is aligned to 256 bytes.
 *
 * Ownership: borrows `desc`; returns new, free with dlb_tensor_free(); nobody else holds the memory.
 */
DLB_API
dlb_status dlb_tensor_empty(const DLTensor *desc,
                            dlb_tensor **out,
                            dlb_error **error);

/**
 * Gives the address of the first element, to read; NULL when there are no elements. Refuses memory that
 * the host cannot reach. (dlb_tensor_view() has every device's address.)
 *
 * Ownership: borrows `tensor`; returns a view that is valid as long as the memory: until its last handle is
 * freed.
 */
DLB_API
dlb_status dlb_tensor_data(const dlb_tensor *tensor,
                           const void **out,
                           dlb_error **error);

/**
 * Gives the address of the first element, to write to; NULL when there are no elements. Who else reads
 * or writes the memory meanwhile is the caller's affair. Refuses read-only memory, and memory that
 * the host cannot reach.
 *
 * Ownership: borrows `tensor`; returns a view that is valid as long as the memory: until its last handle is
 * freed.
 */
DLB_API
dlb_status dlb_tensor_data_mut(dlb_tensor *tensor,
                               void **out,
                               dlb_error **error);

/**
 * Copies the data into new memory on the same device, laid out as `memory_format`
 * (DLB_MEMORY_FORMAT_*) says. The new memory may be written, whatever the source's. `stream` is as for
 * dlb_tensor_to_device().
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); nobody else holds the memory.
 */
DLB_API
dlb_status dlb_tensor_clone(const dlb_tensor *tensor,
                            int32_t memory_format,
                            int64_t stream,
                            dlb_tensor **out,
                            dlb_error **error);

/**
 * Copies the elements of `source` to those of `target`, whatever the two layouts. Shapes and element
 * types are equal. Bytes between the elements of `target` are not touched. Packed elements below a byte
 * are copied only between contiguous tensors, the last byte whole. Refuses a target that is read-only,
 * overlaps itself (or interleaves, so that it might), or shares memory with `source`. `stream` is as for
 * dlb_tensor_to_device(): host memory is not in use any more when the function returns, and a target on a device
 * is complete in the order of the stream.
 *
 * Ownership: borrows both. Nobody else reads or writes the memory of `target` meanwhile.
 */
DLB_API
dlb_status dlb_tensor_copy_into(const dlb_tensor *source,
                                dlb_tensor *target,
                                int64_t stream,
                                dlb_error **error);

/**
 * Copies the data to a device, in the order of the source's strides: always into new memory, also when
 * it is there already. {kDLCUDAHost, 0} is page-locked memory of the host.
 *
 * `stream` is one of the CUDA device that takes part (the source's, if there are two). Host memory on either side is
 * not in use any more when the function returns; a copy on a device is complete in the order of the stream, which
 * lives until the copy is freed, and all that was made of it.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); nobody else holds the memory.
 */
DLB_API
dlb_status dlb_tensor_to_device(const dlb_tensor *tensor,
                                DLDevice device,
                                int64_t stream,
                                dlb_tensor **out,
                                dlb_error **error);

/**
 * Moves a tensor to a device: through unchanged when its memory is there already (for the host, pinned
 * memory counts too), otherwise by one copy, as dlb_tensor_to_device() makes it. `*out` may be the variable that
 * holds `tensor`.
 *
 * Ownership: takes `tensor`; returns that handle or a new one, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_into_device(dlb_tensor *tensor,
                                  DLDevice device,
                                  int64_t stream,
                                  dlb_tensor **out,
                                  dlb_error **error);

/**
 * Makes the contents ready for work on a stream: what is put on it from now on waits for them, and when the
 * memory is released it is not used for something else before what is on the stream by then is done. Whoever
 * hands device memory on, as a DLPack struct for one, calls this with its consumer's stream; without it the
 * memory is ready on the legacy default stream. The stream lives until the tensor, and all that was made of
 * it, is released. Does nothing for host memory, and with DLB_STREAM_NO_SYNC.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API
dlb_status dlb_tensor_record_stream(const dlb_tensor *tensor,
                                    int64_t stream,
                                    dlb_error **error);

/**
 * Says that what is on a stream by now writes the tensor's memory: what the library does with it from now on
 * comes after. For device memory that is taken over while it is being filled; without it the memory counts
 * as filled in the order of the legacy default stream. Does nothing for host memory, and with
 * DLB_STREAM_NO_SYNC.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API
dlb_status dlb_tensor_wait_stream(const dlb_tensor *tensor,
                                  int64_t stream,
                                  dlb_error **error);

/**
 * Waits until everything that was put on a stream of a device is done. On the host there is nothing to
 * wait for.
 *
 * Ownership: nothing changes hands.
 */
DLB_API
dlb_status dlb_synchronize(DLDevice device,
                           int64_t stream,
                           dlb_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DLBRIDGE_H_ */
