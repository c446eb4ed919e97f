/*
 * dlbridge: imports, shares, copies and exports strided tensor buffers, through DLPack.
 *
 *  1. Every function that can fail returns a dlb_status. Its last parameter is dlb_error **error,
 *     which may be NULL.
 *  2. An out-parameter comes just before `error`. It is written only on success, *error only on
 *     failure.
 *  3. Any pointer may be NULL. For a required one that gives DLB_ERROR_NULL_POINTER; functions
 *     whose names end in _free ignore it.
 *  4. Any number of threads may pass the same handle as const dlb_tensor * at once. While one
 *     thread passes a handle as dlb_tensor *, no thread uses that reference for anything else.
 *  5. The words of ownership: a function "borrows" an argument for the call; it "consumes" one on
 *     success only (on failure the caller still owns it, and nothing was released); it "returns
 *     new" what the caller frees with the function named, "returns a view" that is valid until the
 *     object named is freed, and "returns a static view" that is always valid.
 *  6. Handles are counted references, not addresses: several handles may be the same pointer, and
 *     each is freed once. Any thread may use and free them. Memory may be written through each of
 *     its handles unless it is read-only; the caller makes sure that writes do not race.
 *  7. Release callbacks and DLPack deleters run once, on any thread. They must not throw, unwind,
 *     or use the handle that is being released; they may call the library and free other handles.
 *  8. Strings are UTF-8 and end with NUL.
 *  9. A bug inside the library gives DLB_ERROR_PANIC, or NULL, 0 or false where no status is
 *     returned; free the handles that took part. If a handle cannot be allocated, the process
 *     aborts.
 * 10. Every build has the same functions. A function whose code is not compiled in returns
 *     DLB_ERROR_UNSUPPORTED.
 * 11. Within one SONAME, functions and codes are only added. (Before 1.0, each minor version has a
 *     SONAME of its own.)
 * 12. Only DLPack's structs are public. Sizes and strides count elements; nbytes counts bytes.
 *
 * `stream` takes the numbers of the Python array API's __dlpack__(stream=...): -1 for no stream, 1
 * and 2 for CUDA's legacy and per-thread default streams; greater numbers are stream handles
 * (CUstream). 0 is refused on CUDA, where it could mean either default stream. The host has no
 * streams: there `stream` is -1, 0 or 1, and a copy is complete when its function returns.
 */

#ifndef DLBRIDGE_H_
#define DLBRIDGE_H_

/* Generated from capi/src by `cargo xtask bindings`; do not edit. */

#include <stdbool.h>
#include <stdint.h>
#include "dlpack/dlpack.h"

/* Another project's dlpack.h may have been included before: it has the same include guard. */
#if !defined(DLPACK_MAJOR_VERSION) || DLPACK_MAJOR_VERSION != 1
#error "dlbridge.h needs DLPack 1.x, but another dlpack/dlpack.h was included before"
#endif
#ifndef DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED /* not in 1.0 */
#define DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED (1UL << 2UL)
#endif

/* How the functions are linked. Define DLB_STATIC to link the static library on Windows. */
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
 * Major version of this ABI. Each has its own SONAME; while it is 0, so has each minor version.
 */
#define DLB_ABI_MAJOR 0

/**
 * Minor version of this ABI. It grows with every function or code that is added.
 */
#define DLB_ABI_MINOR 2

/**
 * The library can copy to, from and between the CUDA devices of the machine.
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
 * NHWC: for shape (N, C, H, W), channels have stride 1.
 */
#define DLB_MEMORY_FORMAT_CHANNELS_LAST 2

/**
 * NDHWC: for shape (N, C, D, H, W), channels have stride 1.
 */
#define DLB_MEMORY_FORMAT_CHANNELS_LAST_3D 3

/**
 * No stream, as for the host. A copy to or from a CUDA device is complete when its function
 * returns; dlb_tensor_record_stream(), dlb_tensor_wait_stream() and dlb_synchronize() do nothing.
 */
#define DLB_STREAM_NO_SYNC -1

/**
 * CUDA's legacy default stream. For the host the same as DLB_STREAM_NO_SYNC.
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
 * A handle to one strided buffer on one device. Several handles may share a buffer, which is
 * released with the last of them.
 */
typedef struct dlb_tensor dlb_tensor;

/**
 * The result of a call: DLB_OK or one of DLB_ERROR_*. Values are never reused; 9 and 12 are
 * reserved.
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
 * A value is invalid: a negative size, unknown flags, an unknown memory format.
 */
#define DLB_ERROR_INVALID_ARGUMENT 2

/**
 * The DLPack major version of the struct is not supported. The struct was not changed: call its
 * deleter.
 */
#define DLB_ERROR_VERSION 3

/**
 * The element type is not the one needed, or the target does not support it.
 */
#define DLB_ERROR_DTYPE 4

/**
 * The device is unknown, or the function does not support it.
 */
#define DLB_ERROR_DEVICE 5

/**
 * Shape and strides do not fit: the wrong shape or rank, overflow, overlap, gaps.
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
 * CUDA or the device is not available on this machine, or CUDA failed: then the message has the
 * driver's error.
 */
#define DLB_ERROR_CUDA 11

/**
 * This build of the library does not have the code for it; see dlb_capabilities().
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
 * Returns the version of the library's ABI: DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR of its header. A
 * program can use a library of the same major version and the same or a greater minor version;
 * while the major version is 0, only a library of its own version.
 *
 * Ownership: nothing changes hands.
 */
DLB_API uint32_t dlb_abi_version(void);

/**
 * Returns the version of the library, such as "0.1.0".
 *
 * Ownership: returns a static view.
 */
DLB_API const char *dlb_version(void);

/**
 * Returns what this build of the library can do: bits of DLB_CAP_*. Every build has the same
 * functions; a function whose code is not compiled in returns DLB_ERROR_UNSUPPORTED.
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
 * Ownership: consumes `error`.
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
 * Returns another handle to the same memory, described by `desc`: a part of it, a transpose,
 * another element type. No data is copied; shape and strides of `desc` are. The elements that
 * `desc` describes lie among the bytes from the lowest element of `tensor` to the highest, on the
 * same device; the first one is at `data + byte_offset` of `desc` (where `data` is the handle of a
 * buffer, it is the tensor's own), and NULL `strides` mean row-major. The new handle is read-only
 * if `tensor` is, and elements below a byte are padded if those of `tensor` are.
 *
 * Ownership: borrows both; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_share_as(const dlb_tensor *tensor,
                               const DLTensor *desc,
                               dlb_tensor **out,
                               dlb_error **error);

/**
 * Frees a handle; does nothing for NULL. Freeing the last handle releases the memory: this thread
 * runs the deleter or the release callback.
 *
 * Ownership: consumes `tensor`.
 */
DLB_API void dlb_tensor_free(dlb_tensor *tensor);

/**
 * Returns a description of the tensor: address, shape, strides (never NULL unless `ndim` is 0),
 * element type and device; NULL for NULL. `data` is NULL when there are no elements, and else an
 * address of the tensor's device with a `byte_offset` of 0. On a device whose buffers have handles
 * (Metal, OpenCL, Vulkan, WebGPU), `data` and `byte_offset` are as they came. Strides that reach
 * no element (those of dimensions of size 1, and all if there are no elements) are positive. The
 * memory may be written unless dlb_tensor_flags() has DLPACK_FLAG_BITMASK_READ_ONLY. The caller
 * must not write shape and strides.
 *
 * Ownership: borrows `tensor`; returns a view valid until that handle is consumed or freed.
 */
DLB_API const DLTensor *dlb_tensor_view(const dlb_tensor *tensor);

/**
 * Returns the DLPack flags of the tensor: DLPACK_FLAG_BITMASK_READ_ONLY exactly when the memory
 * may not be written, and DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED; 0 for NULL.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API uint64_t dlb_tensor_flags(const dlb_tensor *tensor);

/**
 * Returns the number of bytes of all elements, without the gaps between them; 0 for NULL.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API uint64_t dlb_tensor_nbytes(const dlb_tensor *tensor);

/**
 * Returns whether the elements lie one after the other in row-major order; false for NULL. Strides
 * of dimensions of size 1 are ignored, and so are all strides when there are no elements.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API bool dlb_tensor_is_contiguous(const dlb_tensor *tensor);

/**
 * Consumes a DLPack struct. No data is copied; the struct's deleter is called once, by the thread
 * that frees the last handle. The memory may be written unless the flags of the struct have
 * DLPACK_FLAG_BITMASK_READ_ONLY. Strides may be NULL (row-major), and `byte_offset` is honoured.
 * Every byte from the lowest to the highest element, the bytes between the elements included, is
 * initialised and valid until the deleter is called. All numbers are copied during the call and
 * checked in the copy: what the producer writes into the struct later changes nothing.
 *
 * A struct that this library made is unwrapped and freed at once, unless it was changed. Any other
 * struct is not written, except for its deleter: until the struct is released, a deleter that does
 * nothing replaces it, so that a second import or release by mistake is noticed while a handle to
 * the memory exists. (A struct without a deleter may be a constant, and is not written.)
 *
 * Ownership: consumes `source`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_from_dlpack(struct DLManagedTensorVersioned *source,
                                  dlb_tensor **out,
                                  dlb_error **error);

/**
 * Consumes a DLPack struct of the older type, as dlb_tensor_from_dlpack() does. The older struct
 * has no flags, so its memory counts as read-only, as for NumPy, unless this library made the
 * struct and it was not changed. (If you know that the memory may be written, pass the struct's
 * `dl_tensor`, and the struct as `owner`, to dlb_tensor_from_memory().)
 *
 * Ownership: consumes `source`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_from_dlpack_legacy(DLManagedTensor *source,
                                         dlb_tensor **out,
                                         dlb_error **error);

/**
 * Makes a DLPack struct that is one more owner of the memory. No data is copied. The struct has
 * DLPACK_FLAG_BITMASK_READ_ONLY exactly when the memory is read-only; otherwise its consumer may
 * write the memory, and so may other owners.
 *
 * Ownership: borrows `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_share_dlpack(const dlb_tensor *tensor,
                                   struct DLManagedTensorVersioned **out,
                                   dlb_error **error);

/**
 * Moves a handle into a DLPack struct, as dlb_tensor_share_dlpack() and dlb_tensor_free() in one.
 *
 * Ownership: consumes `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_into_dlpack(dlb_tensor *tensor,
                                  struct DLManagedTensorVersioned **out,
                                  dlb_error **error);

/**
 * Makes a DLPack struct of the older type that is one more owner of the memory. No data is copied.
 * Refuses read-only memory, for which that struct has no flag.
 *
 * Ownership: borrows `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_share_dlpack_legacy(const dlb_tensor *tensor,
                                          DLManagedTensor **out,
                                          dlb_error **error);

/**
 * Moves a handle into a DLPack struct of the older type, as dlb_tensor_share_dlpack_legacy() and
 * dlb_tensor_free() in one.
 *
 * Ownership: consumes `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_into_dlpack_legacy(dlb_tensor *tensor,
                                         DLManagedTensor **out,
                                         dlb_error **error);

/**
 * Wraps memory that `desc` describes. No data is copied; shape and strides are. The first element
 * is at `data + byte_offset`; NULL `strides` mean row-major. Every byte from the lowest to the
 * highest element, the bytes between the elements included, is initialised and stays valid until
 * `release(owner)` is called: once, by the thread that frees the last handle. A NULL `release` is
 * for memory that outlives every handle.
 *
 * `flags` are DLPack's: DLPACK_FLAG_BITMASK_READ_ONLY makes the tensor read-only, and
 * DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED says that each element below a byte takes a whole
 * byte (it is ignored for other element types). DLPACK_FLAG_BITMASK_IS_COPIED is allowed and
 * ignored; other bits are refused.
 *
 * Ownership: borrows `desc`; consumes `owner`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_from_memory(const DLTensor *desc,
                                  uint64_t flags,
                                  void *owner,
                                  void (*release)(void *owner),
                                  dlb_tensor **out,
                                  dlb_error **error);

/**
 * Makes a tensor in new memory of the host, with the shape, strides and element type of `desc`.
 * `data` and `byte_offset` of `desc` are ignored. Its `device` must be the CPU:
 * dlb_tensor_to_device() copies to other devices. NULL `strides` mean row-major; others may leave
 * gaps and be negative, but must neither overlap nor interleave. The contents are unspecified; the
 * memory is aligned to 256 bytes.
 *
 * Ownership: borrows `desc`; returns new, free with dlb_tensor_free(); no other handle has the
 * memory.
 */
DLB_API dlb_status dlb_tensor_empty(const DLTensor *desc, dlb_tensor **out, dlb_error **error);

/**
 * Returns the address of the first element, for reading; NULL when there are no elements. Refuses
 * memory that the host cannot reach. (dlb_tensor_view() has the address on every device.)
 *
 * Ownership: borrows `tensor`; returns a view that is valid as long as the memory: until its last
 * handle is freed.
 */
DLB_API dlb_status dlb_tensor_data(const dlb_tensor *tensor, const void **out, dlb_error **error);

/**
 * Returns the address of the first element, for writing; NULL when there are no elements. The
 * caller makes sure that no other code reads or writes the memory at the same time. Refuses
 * read-only memory, and memory that the host cannot reach.
 *
 * Ownership: borrows `tensor`; returns a view that is valid as long as the memory: until its last
 * handle is freed.
 */
DLB_API dlb_status dlb_tensor_data_mut(dlb_tensor *tensor, void **out, dlb_error **error);

/**
 * Copies the data into new memory on the same device, laid out as `memory_format` (one of
 * DLB_MEMORY_FORMAT_*) says. The new memory may be written, even if that of `tensor` is read-only.
 * `stream` is as for dlb_tensor_to_device().
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); no other handle has the
 * memory.
 */
DLB_API
dlb_status dlb_tensor_clone(const dlb_tensor *tensor,
                            int32_t memory_format,
                            int64_t stream,
                            dlb_tensor **out,
                            dlb_error **error);

/**
 * Copies the elements of `source` to those of `target`. Shapes and element types must be equal;
 * strides may differ. Bytes between the elements of `target` are not written. Packed elements
 * below a byte are copied only between contiguous tensors, and then the last byte is copied whole.
 * Refuses a target that is read-only, overlaps itself or interleaves its elements, or shares
 * memory with `source`. `stream` is as for dlb_tensor_to_device(): host memory is no longer in use
 * when the function returns, and a target on a device is complete in the order of `stream`.
 *
 * Ownership: borrows both. The caller makes sure that no other code reads or writes the memory of
 * `target` during the copy.
 */
DLB_API
dlb_status dlb_tensor_copy_into(const dlb_tensor *source,
                                dlb_tensor *target,
                                int64_t stream,
                                dlb_error **error);

/**
 * Copies the data to a device, always into new memory, even if `tensor` is on that device already.
 * The copy keeps the order of the source's strides. {kDLCUDAHost, 0} is page-locked memory of the
 * host.
 *
 * `stream` is a stream of the CUDA device that takes part (of the source's device, if both are
 * CUDA devices). Host memory on either side is no longer in use when the function returns; a copy
 * on a device is complete in the order of `stream`, which must exist until the copy, and every
 * tensor made from its memory, is freed.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); no other handle has the
 * memory.
 */
DLB_API
dlb_status dlb_tensor_to_device(const dlb_tensor *tensor,
                                DLDevice device,
                                int64_t stream,
                                dlb_tensor **out,
                                dlb_error **error);

/**
 * Moves a tensor to a device: returns it unchanged if its memory is there already (for the CPU,
 * pinned memory counts too), and otherwise makes one copy, as dlb_tensor_to_device() does. `out`
 * may point to the variable that holds `tensor`.
 *
 * Ownership: consumes `tensor`; returns that handle or a new one, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_into_device(dlb_tensor *tensor,
                                  DLDevice device,
                                  int64_t stream,
                                  dlb_tensor **out,
                                  dlb_error **error);

/**
 * Makes the contents ready for use on a stream: work that is put on `stream` from now on waits for
 * the contents. When the memory is released, it is not reused before the work that is on `stream`
 * by then is done, which is what PyTorch's Tensor.record_stream does.
 *
 * Call it with the consumer's stream before you hand device memory to a consumer, for instance as
 * a DLPack struct. Without it the contents are ready on the legacy default stream only. `stream`
 * must exist until the tensor, and every tensor made from its memory, is released. Does nothing
 * for host memory, and with DLB_STREAM_NO_SYNC.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API
dlb_status dlb_tensor_record_stream(const dlb_tensor *tensor,
                                    int64_t stream,
                                    dlb_error **error);

/**
 * Makes the library wait for a stream: everything that it does with the tensor's memory from now
 * on comes after the work that is on `stream` by now, as after Stream.wait_stream of PyTorch.
 *
 * Call it for device memory that was imported while a producer still fills it on `stream`. Without
 * it the memory counts as filled in the order of the legacy default stream. Does nothing for host
 * memory, and with DLB_STREAM_NO_SYNC.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API
dlb_status dlb_tensor_wait_stream(const dlb_tensor *tensor,
                                  int64_t stream,
                                  dlb_error **error);

/**
 * Blocks until all work that was put on a stream of a device is done. Returns at once for the
 * host.
 *
 * Ownership: nothing changes hands.
 */
DLB_API dlb_status dlb_synchronize(DLDevice device, int64_t stream, dlb_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DLBRIDGE_H_ */
