/*
 * dlbridge: imports, shares, copies and exports strided tensor buffers, through DLPack.
 *
 *  1. Every function that can fail returns a dlb_status. Its last parameter is dlb_error **error,
 *     which may be NULL.
 *  2. An out-parameter comes just before `error`. It is written only on success, *error only on
 *     failure.
 *  3. Every pointer may be NULL. For a required argument NULL gives DLB_ERROR_NULL_POINTER;
 *     functions whose names end in _free do nothing.
 *  4. Several threads may pass the same handle as const dlb_tensor * at once. While one thread
 *     passes a handle as dlb_tensor *, no other thread may use that handle. (It may use another
 *     handle to the same memory, even if both handles are the same pointer: see 6.)
 *  5. The words of ownership: a function "borrows" an argument if it uses the argument during the
 *     call only. It "consumes" an argument if the library owns it after a successful call (after a
 *     failed call the caller still owns the argument, and nothing was released). It "returns new"
 *     if the caller owns the result and must free it with the function that is named. It "returns
 *     a view" if the result is valid until the object that is named is freed. It "returns a static
 *     view" if the result is always valid.
 *  6. Handles are counted references, not addresses: several handles may be the same pointer, and
 *     each handle is freed once. Any thread may use and free a handle. The memory may be written
 *     through each of its handles unless it is read-only. The caller makes sure that no thread
 *     writes memory while another thread reads or writes it.
 *  7. Release callbacks and DLPack deleters run once, on the thread that frees the last handle,
 *     which may be any thread. They must not throw, unwind, or use the handle that is being
 *     released; they may call the library and free other handles.
 *  8. Strings are UTF-8 and end with NUL.
 *  9. A bug inside the library gives DLB_ERROR_PANIC, or NULL, 0 or false where no status is
 *     returned; free the handles that were passed to the call. If a handle cannot be allocated,
 *     the process aborts.
 * 10. Every build has the same functions. A function whose code is not compiled in returns
 *     DLB_ERROR_UNSUPPORTED.
 * 11. Within one SONAME, functions and codes are only added. (Before 1.0, each minor version has a
 *     SONAME of its own.)
 * 12. Only DLPack's structs are public. Sizes and strides count elements; nbytes counts bytes.
 * 13. The comment of the first function of each group has an example, which the tests run:
 *     statements of a function that includes dlbridge.h, <assert.h>, <stdio.h> and <stdlib.h>. An
 *     assert() stands where a program handles the error, as the example of dlb_error_status() does.
 *
 * `stream` takes the numbers of the Python array API's `__dlpack__(stream=...)`: -1 for no stream,
 * 1 and 2 for CUDA's legacy and per-thread default streams; greater numbers are stream handles
 * (CUstream). 0 is refused on CUDA, where it could mean either default stream. The host has no
 * streams: there `stream` is -1, 0 or 1, and a copy is complete when its function returns.
 */

#ifndef DLBRIDGE_H_
#define DLBRIDGE_H_

/* Generated from capi/src by `cargo xtask bindings`; do not edit. */

#include <stdbool.h>
#include <stddef.h>
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
 * Major version of this ABI. Each major version has a SONAME of its own; while it is 0, each minor
 * version has one too.
 */
#define DLB_ABI_MAJOR 0

/**
 * Minor version of this ABI. It grows with every function or code that is added.
 */
#define DLB_ABI_MINOR 4

/**
 * This build can copy to, from and between the CUDA devices of the machine.
 */
#define DLB_CAP_CUDA 1

/**
 * Large copies use several threads.
 */
#define DLB_CAP_PARALLEL 2

/**
 * As `start` or `end` of dlb_tensor_slice(): the bound that Python leaves out.
 */
#define DLB_SLICE_NONE INT64_MIN

/**
 * The copy keeps the order of the source's strides and has no gaps, as after `torch.clone`.
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
 * No stream. A copy to or from a CUDA device is complete when its function returns;
 * dlb_tensor_record_stream(), dlb_tensor_wait_stream() and dlb_synchronize() do nothing.
 */
#define DLB_STREAM_NO_SYNC -1

/**
 * CUDA's legacy default stream. For the host it means the same as DLB_STREAM_NO_SYNC.
 */
#define DLB_STREAM_LEGACY_DEFAULT 1

/**
 * CUDA's per-thread default stream.
 */
#define DLB_STREAM_PER_THREAD_DEFAULT 2

/**
 * The reason why a call failed: a status and a message. The caller owns it.
 */
typedef struct dlb_error dlb_error;

/**
 * A handle to one strided buffer on one device. Several handles may share a buffer, which is
 * released with the last of them.
 */
typedef struct dlb_tensor dlb_tensor;

/**
 * The result of a call: DLB_OK or one of DLB_ERROR_*. A value is never given a second meaning; 9
 * and 12 are reserved.
 */
typedef int32_t dlb_status;

/**
 * What the caller can do about an error: one of DLB_REMEDY_*. Numbers may be added.
 */
typedef int32_t dlb_remedy;

/**
 * No remedy is known.
 */
#define DLB_REMEDY_NONE 0

/**
 * Copy the tensor to the host.
 */
#define DLB_REMEDY_COPY_TO_CPU 1

/**
 * Make the tensor on the host, and copy it to the device.
 */
#define DLB_REMEDY_COPY_TO_DEVICE 2

/**
 * Copy the data into new memory of any layout.
 */
#define DLB_REMEDY_CLONE 3

/**
 * Copy the data into new row-major memory.
 */
#define DLB_REMEDY_CLONE_CONTIGUOUS 4

/**
 * Copy from a deep copy of the source.
 */
#define DLB_REMEDY_CLONE_SOURCE 5

/**
 * Write to a deep copy instead.
 */
#define DLB_REMEDY_WRITE_TO_CLONE 6

/**
 * Free the other handles to the memory, or copy the data.
 */
#define DLB_REMEDY_DROP_OTHER_HANDLES 7

/**
 * Copy the data; in Rust the caller may guarantee instead that no other code writes it.
 */
#define DLB_REMEDY_CLONE_OR_ASSUME 8

/**
 * Copy the elements into a container of the program.
 */
#define DLB_REMEDY_COPY_TO_VEC 9

/**
 * Copy the elements into an array of the program.
 */
#define DLB_REMEDY_COPY_TO_NDARRAY 10

/**
 * Export DLPack's versioned struct instead of the older one, or a deep copy.
 */
#define DLB_REMEDY_EXPORT_VERSIONED 11

/**
 * Have the producer export a struct of DLPack 1.x.
 */
#define DLB_REMEDY_EXPORT_VERSION_1 12

/**
 * Use a build of the library with CUDA.
 */
#define DLB_REMEDY_ENABLE_CUDA 13

/**
 * Copy the elements into a new libtorch tensor.
 */
#define DLB_REMEDY_COPY_TO_TORCH 14

/**
 * Copy the elements of the libtorch tensor.
 */
#define DLB_REMEDY_COPY_FROM_TORCH 15

/**
 * Release what else holds the libtorch tensor's memory, or copy its elements.
 */
#define DLB_REMEDY_DROP_TORCH_OWNERS 16

/**
 * Move the libtorch tensor to the CPU.
 */
#define DLB_REMEDY_MOVE_TORCH_TO_CPU 17

/**
 * Make the sparse libtorch tensor dense.
 */
#define DLB_REMEDY_TO_DENSE 18

/**
 * Dequantize the libtorch tensor.
 */
#define DLB_REMEDY_DEQUANTIZE 19

/**
 * Apply the libtorch tensor's lazy negation.
 */
#define DLB_REMEDY_RESOLVE_NEG 20

/**
 * Apply the libtorch tensor's lazy conjugation.
 */
#define DLB_REMEDY_RESOLVE_CONJ 21

/**
 * Detach the libtorch tensor from autograd.
 */
#define DLB_REMEDY_DETACH 22

/**
 * Pad the nested libtorch tensor.
 */
#define DLB_REMEDY_TO_PADDED_TENSOR 23

/**
 * Copy the lazy libtorch tensor into memory of its own.
 */
#define DLB_REMEDY_CLONE_TORCH 24

/**
 * Cast the libtorch tensor to another element type.
 */
#define DLB_REMEDY_CAST_TORCH 25

/**
 * Copy the libtorch tensor's elements into an ordinary tensor.
 */
#define DLB_REMEDY_MAKE_ORDINARY 26

/**
 * The call succeeded.
 */
#define DLB_OK 0

/**
 * A required pointer is NULL.
 */
#define DLB_ERROR_NULL_POINTER 1

/**
 * A value is invalid: a negative size, unknown flags, an unknown memory format, a number that
 * names no stream.
 */
#define DLB_ERROR_INVALID_ARGUMENT 2

/**
 * The DLPack major version of the struct is not supported. The struct was not changed: call its
 * deleter.
 */
#define DLB_ERROR_VERSION 3

/**
 * The element type is not the expected one, or the target library does not support it.
 */
#define DLB_ERROR_DTYPE 4

/**
 * The device is unknown, or the function does not support it.
 */
#define DLB_ERROR_DEVICE 5

/**
 * Shape and strides are not usable here: a wrong shape or rank, an overflow, an overlap, gaps.
 */
#define DLB_ERROR_LAYOUT 6

/**
 * The memory may not be written.
 */
#define DLB_ERROR_READ_ONLY 7

/**
 * The host cannot read the memory. The message names the device.
 */
#define DLB_ERROR_NOT_ON_CPU 8

/**
 * There is not enough memory for the elements, on the host or on the device.
 */
#define DLB_ERROR_OUT_OF_MEMORY 10

/**
 * CUDA or the device is not available on this machine, or CUDA failed. If CUDA failed, the message
 * contains the driver's error.
 */
#define DLB_ERROR_CUDA 11

/**
 * This build of the library does not have the code for the operation; see dlb_capabilities(). From
 * C++ headers also: the library has another ABI, or a libtorch tensor is not a plain strided
 * buffer.
 */
#define DLB_ERROR_UNSUPPORTED 13

/**
 * The call ran into a bug in the library. Free the handles that were passed to it.
 */
#define DLB_ERROR_PANIC 255

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the version of the library's ABI: DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR of its header. A
 * program can use a library of the same major version and the same or a greater minor version;
 * while the major version is 0, it can use only a library of the same major and minor version.
 *
 * Ownership: none.
 *
 * Example of the functions for versions and capabilities:
 *
 * ```c
 * uint32_t abi = dlb_abi_version();
 * assert(abi == (DLB_ABI_MAJOR << 16 | DLB_ABI_MINOR)); // else the library fits another header
 * printf("dlbridge %s, ABI %u.%u\n", dlb_version(), (unsigned)abi >> 16, (unsigned)abi & 0xffff);
 * printf("copies to and from CUDA: %s\n", dlb_capabilities() & DLB_CAP_CUDA ? "yes" : "no");
 * ```
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
 * Ownership: none.
 */
DLB_API uint64_t dlb_capabilities(void);

/**
 * Returns the status that the failed call returned; DLB_OK for NULL.
 *
 * Ownership: borrows `error`.
 *
 * Example of the functions for errors:
 *
 * ```c
 * int64_t shape[] = {2, -3}; // not a valid shape
 * DLTensor desc = {NULL, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
 * dlb_tensor *tensor = NULL;
 * dlb_error *error = NULL;
 * dlb_status status = dlb_tensor_empty(&desc, &tensor, &error);
 * if (status != DLB_OK) { // `tensor` was not written
 *   printf("%s: %s\n", dlb_status_name(status), dlb_error_message(error));
 *   assert(dlb_error_status(error) == status);
 *   dlb_error_free(error);
 * }
 * assert(status == DLB_ERROR_INVALID_ARGUMENT);
 * ```
 */
DLB_API dlb_status dlb_error_status(const dlb_error *error);

/**
 * Returns what went wrong and what the caller can do, in one sentence of UTF-8 that names the
 * argument and the value; "" for NULL. It is dlb_error_fact() and, after "; ", the remedy in C's
 * words.
 *
 * Ownership: borrows `error`; returns a view that is valid until dlb_error_free().
 */
DLB_API const char *dlb_error_message(const dlb_error *error);

/**
 * Returns what went wrong without a remedy, for programs that print remedies of their own; "" for
 * NULL.
 *
 * Ownership: borrows `error`; returns a view that is valid until dlb_error_free().
 */
DLB_API const char *dlb_error_fact(const dlb_error *error);

/**
 * Returns what the caller can do: one of DLB_REMEDY_*; DLB_REMEDY_NONE if there is no remedy, and
 * for NULL.
 *
 * Ownership: borrows `error`.
 */
DLB_API dlb_remedy dlb_error_remedy(const dlb_error *error);

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
 * Writes the name of an element type, as NumPy and PyTorch spell it: "float32", "bfloat16",
 * "float8_e4m3fn", with lanes "float32x4". Returns the length of the whole name in bytes, without
 * the NUL. Writes at most `size` bytes, the last of them NUL, so a result of `size` or more means
 * that the name was cut off. Writes nothing if `buffer` is NULL or `size` is 0. Every name fits
 * into 48 bytes.
 *
 * Ownership: borrows `buffer`.
 *
 * Example:
 *
 * ```c
 * char name[48];
 * DLDataType dtype = {kDLBfloat, 16, 1};
 * size_t length = dlb_dtype_name(dtype, name, sizeof name);
 * assert(length == 8 && name[0] == 'b'); // "bfloat16"
 * ```
 */
DLB_API size_t dlb_dtype_name(DLDataType dtype, char *buffer, size_t size);

/**
 * Returns another handle to the same memory; NULL for NULL. No data is copied. Handles are counted
 * references: the new one may be the same pointer, and each is freed once.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
 *
 * Example of the functions on handles:
 *
 * ```c
 * static float rows[] = {0, 1, 2, 3, 4, 5}; // 2 rows of 3 numbers, which outlive every handle
 * int64_t shape[] = {2, 3}, transposed_shape[] = {3, 2}, transposed_strides[] = {1, 3};
 * DLTensor desc = {rows, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
 * dlb_tensor *tensor = NULL, *second, *transpose = NULL;
 * dlb_status status = dlb_tensor_from_memory(&desc, 0, NULL, NULL, &tensor, NULL);
 * assert(status == DLB_OK);
 * second = dlb_tensor_share(tensor);
 * dlb_tensor_free(tensor); // `second` keeps the memory
 *
 * desc.shape = transposed_shape;
 * desc.strides = transposed_strides;
 * status = dlb_tensor_share_as(second, &desc, &transpose, NULL);
 * assert(status == DLB_OK);
 * assert(dlb_tensor_view(transpose)->data == rows && dlb_tensor_view(transpose)->shape[0] == 3);
 * assert(dlb_tensor_is_contiguous(second) && !dlb_tensor_is_contiguous(transpose));
 * assert(dlb_tensor_nbytes(transpose) == 24 && dlb_tensor_flags(transpose) == 0);
 *
 * char text[100];
 * size_t length = 0;
 * status = dlb_tensor_to_string(transpose, text, sizeof text, &length, NULL);
 * assert(status == DLB_OK && length < sizeof text); // else the text was cut off
 * puts(text);
 * dlb_tensor_free(transpose);
 * dlb_tensor_free(second);
 * ```
 */
DLB_API dlb_tensor *dlb_tensor_share(const dlb_tensor *tensor);

/**
 * Returns another handle to the same memory, described by `desc`: a part of it, a transpose,
 * another element type. No data is copied; `shape` and `strides` of `desc` are. The first element
 * is at `data + byte_offset` of `desc`, and NULL `strides` mean row-major. The device of `desc`
 * must be that of `tensor`, and its elements must lie within the bytes from the lowest to the
 * highest element of `tensor`. On a device where `data` is a buffer object instead of an address
 * (Metal, OpenCL, Vulkan, WebGPU), `data` must be the buffer object of `tensor`. The new handle is
 * read-only if `tensor` is read-only. Elements of less than a byte are padded if those of `tensor`
 * are padded.
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
 * element type and device; NULL for NULL. `data` is the address of the first element on the
 * tensor's device, or NULL if there are no elements, and `byte_offset` is 0. On a device where
 * `data` is a buffer object instead of an address (Metal, OpenCL, Vulkan, WebGPU), `data` and
 * `byte_offset` have the values that the tensor was made with. Strides that reach no element
 * (those of dimensions of size 1, and all strides of a tensor without elements) are positive. The
 * memory may be written unless dlb_tensor_flags() has DLPACK_FLAG_BITMASK_READ_ONLY. The caller
 * must not write `shape` and `strides`.
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
 * Writes the values of the tensor for people to read. Leaves values out if there are many. Where
 * the host cannot reach the memory, and for element types whose values the library does not know,
 * writes the shape, the element type and the device instead. The text may change from version to
 * version: do not parse it.
 *
 * Writes at most `size` bytes to `buffer`, the last of them NUL, and the length of the whole text
 * in bytes, without the NUL, to `*length`: a length of `size` or more means that the text was cut
 * off, perhaps within a character. Writes nothing to `buffer` if it is NULL or `size` is 0.
 *
 * The function copies the values that it writes. The caller makes sure that no other code writes
 * the memory during the call.
 *
 * Ownership: borrows `tensor` and `buffer`.
 */
DLB_API
dlb_status dlb_tensor_to_string(const dlb_tensor *tensor,
                                char *buffer,
                                size_t size,
                                size_t *length,
                                dlb_error **error);

/**
 * Reorders the dimensions: dimension `i` of the result is dimension `dims[i]` of the tensor.
 * `dims` has `ndim` numbers.
 *
 * This function and the other functions for views return another handle to the same memory, and
 * copy no data. The memory lives as long as one of its handles, and may be written through each of
 * them unless it is read-only. Names, arguments and results are PyTorch's; differences are noted.
 * Negative dimensions count from the end.
 *
 * Ownership: borrows `tensor` and `dims`; returns new, free with dlb_tensor_free().
 *
 * Example of the functions for views:
 *
 * ```c
 * // 2 rows of 3 pixels: blue, green, red. The rows begin 16 bytes apart.
 * static unsigned char frame[2 * 16];
 * int64_t shape[] = {2, 3, 3}, strides[] = {16, 3, 1}, channel = 2, planes_first[] = {2, 0, 1};
 * DLTensor desc = {frame, {kDLCPU, 0}, 3, {kDLUInt, 8, 1}, shape, strides, 0};
 * dlb_tensor *image = NULL, *rgb = NULL, *planes = NULL, *right = NULL;
 * dlb_status status = dlb_tensor_from_memory(&desc, 0, NULL, NULL, &image, NULL);
 * assert(status == DLB_OK);
 * status = dlb_tensor_flip(image, &channel, 1, &rgb, NULL); // red, green, blue
 * assert(status == DLB_OK);
 * status = dlb_tensor_permute(rgb, planes_first, 3, &planes, NULL);
 * assert(status == DLB_OK && dlb_tensor_view(planes)->strides[0] == -1);
 * assert(dlb_tensor_view(planes)->data == frame + 2); // the first red byte
 * status = dlb_tensor_slice(planes, -1, 1, DLB_SLICE_NONE, 1, &right, NULL); // columns 1 and 2
 * assert(status == DLB_OK && dlb_tensor_view(right)->shape[2] == 2);
 * dlb_tensor_free(image); // the views keep the memory
 * dlb_tensor_free(rgb);
 * dlb_tensor_free(planes);
 * dlb_tensor_free(right);
 * ```
 */
DLB_API
dlb_status dlb_tensor_permute(const dlb_tensor *tensor,
                              const int64_t *dims,
                              int32_t ndim,
                              dlb_tensor **out,
                              dlb_error **error);

/**
 * Swaps two dimensions.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_transpose(const dlb_tensor *tensor,
                                int64_t dim0,
                                int64_t dim1,
                                dlb_tensor **out,
                                dlb_error **error);

/**
 * Takes the indices from `start` up to `end` (exclusive), `step` apart, in dimension `dim`, as
 * NumPy's array[start:end:step] does: negative bounds count from the end, and bounds that are out
 * of range are clamped. DLB_SLICE_NONE is the bound that Python leaves out: the first index for
 * `start` and the end for `end`; with a negative step the last index for `start`, and for `end`
 * it means that index 0 is included. PyTorch does not have negative steps.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_slice(const dlb_tensor *tensor,
                            int64_t dim,
                            int64_t start,
                            int64_t end,
                            int64_t step,
                            dlb_tensor **out,
                            dlb_error **error);

/**
 * Takes one index of dimension `dim`, which the result does not have. A negative index counts from
 * the end.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_select(const dlb_tensor *tensor,
                             int64_t dim,
                             int64_t index,
                             dlb_tensor **out,
                             dlb_error **error);

/**
 * Reverses the order of the indices in `ndim` dimensions. Their strides become negative: PyTorch's
 * flip copies instead, and libtorch has no negative strides.
 *
 * Ownership: borrows `tensor` and `dims`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_flip(const dlb_tensor *tensor,
                           const int64_t *dims,
                           int32_t ndim,
                           dlb_tensor **out,
                           dlb_error **error);

/**
 * Repeats the elements of dimensions of size 1, and adds dimensions before the first, so that the
 * result has `ndim` dimensions of these sizes. A size of -1 keeps the size. The strides of these
 * dimensions become 0: several indices reach the same element, and dlb_tensor_copy_into() refuses
 * the result as its target.
 *
 * Ownership: borrows `tensor` and `shape`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_expand(const dlb_tensor *tensor,
                             const int64_t *shape,
                             int32_t ndim,
                             dlb_tensor **out,
                             dlb_error **error);

/**
 * Removes all dimensions of size 1.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_squeeze(const dlb_tensor *tensor,
                              dlb_tensor **out,
                              dlb_error **error);

/**
 * Removes dimension `dim` if its size is 1. Otherwise the result has the shape of the tensor.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_squeeze_dim(const dlb_tensor *tensor,
                                  int64_t dim,
                                  dlb_tensor **out,
                                  dlb_error **error);

/**
 * Adds a dimension of size 1 before dimension `dim`; -1 adds the last dimension.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_unsqueeze(const dlb_tensor *tensor,
                                int64_t dim,
                                dlb_tensor **out,
                                dlb_error **error);

/**
 * Gives the elements another shape of `ndim` sizes, in the same row-major order. One size may be
 * -1: it follows from the others. This is PyTorch's view: where the elements would have to be
 * copied, the function fails with DLB_ERROR_LAYOUT.
 *
 * Ownership: borrows `tensor` and `shape`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_reshape(const dlb_tensor *tensor,
                              const int64_t *shape,
                              int32_t ndim,
                              dlb_tensor **out,
                              dlb_error **error);

/**
 * Gives the tensor `ndim` sizes and strides. `offset` is the distance, in elements, from the first
 * element of the tensor to the first element of the result; PyTorch counts from the beginning of
 * the storage instead. Strides and `offset` may be negative. The result must lie between the
 * lowest and the highest element of the tensor; it may reach the gaps between elements in memory
 * of the host, but not in memory of a device. dlb_tensor_share_as() changes the element type too.
 *
 * Ownership: borrows `tensor`, `shape` and `strides`; returns new, free with dlb_tensor_free().
 */
DLB_API
dlb_status dlb_tensor_as_strided(const dlb_tensor *tensor,
                                 const int64_t *shape,
                                 const int64_t *strides,
                                 int32_t ndim,
                                 int64_t offset,
                                 dlb_tensor **out,
                                 dlb_error **error);

/**
 * Consumes a DLPack struct. No data is copied; the struct's deleter is called once, by the thread
 * that frees the last handle. The memory may be written unless the flags of the struct have
 * DLPACK_FLAG_BITMASK_READ_ONLY. `strides` may be NULL (row-major); the first element is at
 * `data + byte_offset`. Every byte from the lowest to the highest element, the bytes between the
 * elements included, must be initialised, and valid until the deleter is called. All numbers are
 * copied during the call and checked in the copy, so later changes of the struct have no effect.
 *
 * A struct that this library made is unwrapped and freed at once, unless it was changed. In any
 * other struct the library writes only the field `deleter`: until the struct is released, this
 * field holds a function that does nothing. So the library can refuse a second import of the
 * struct, and a second call of the deleter has no effect. (A struct without a deleter may be a
 * constant, and is not written.)
 *
 * Ownership: consumes `source`; returns new, free with dlb_tensor_free().
 *
 * Example of the functions for DLPack structs:
 *
 * ```c
 * int64_t shape[] = {2, 3};
 * DLTensor desc = {NULL, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
 * dlb_tensor *tensor = NULL, *back = NULL;
 * struct DLManagedTensorVersioned *shared = NULL, *moved = NULL;
 * dlb_status status = dlb_tensor_empty(&desc, &tensor, NULL);
 * assert(status == DLB_OK);
 *
 * // One more owner of the memory, for a consumer, which calls the deleter once.
 * status = dlb_tensor_share_dlpack(tensor, &shared, NULL);
 * assert(status == DLB_OK && shared->dl_tensor.data == dlb_tensor_view(tensor)->data);
 * shared->deleter(shared);
 *
 * // The handle moves into a struct, and the struct into a handle. On failure of the import the
 * // struct still belongs to the caller, which must call the deleter.
 * status = dlb_tensor_into_dlpack(tensor, &moved, NULL);
 * assert(status == DLB_OK);
 * status = dlb_tensor_from_dlpack(moved, &back, NULL);
 * if (status != DLB_OK && moved->deleter != NULL) moved->deleter(moved);
 * assert(status == DLB_OK && dlb_tensor_view(back)->shape[1] == 3);
 * dlb_tensor_free(back);
 * ```
 */
DLB_API
dlb_status dlb_tensor_from_dlpack(struct DLManagedTensorVersioned *source,
                                  dlb_tensor **out,
                                  dlb_error **error);

/**
 * Consumes a DLPack struct of the older type, which has neither version nor flags. The memory is
 * read-only, as it is for NumPy, unless this library made the struct and the struct was not
 * changed. (If you know that the memory may be written, call dlb_tensor_from_memory() with the
 * struct's `dl_tensor` as `desc`, the struct as `owner`, and a `release` that calls the struct's
 * deleter.) The other rules are those of dlb_tensor_from_dlpack().
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
 * write the memory, and so may other owners. For device memory, call dlb_tensor_record_stream()
 * with the consumer's stream before the consumer uses the memory.
 *
 * Ownership: borrows `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_share_dlpack(const dlb_tensor *tensor,
                                   struct DLManagedTensorVersioned **out,
                                   dlb_error **error);

/**
 * Moves a handle into a DLPack struct. The effect is that of dlb_tensor_share_dlpack() followed by
 * dlb_tensor_free(). No data is copied.
 *
 * Ownership: consumes `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_into_dlpack(dlb_tensor *tensor,
                                  struct DLManagedTensorVersioned **out,
                                  dlb_error **error);

/**
 * Makes a DLPack struct of the older type that is one more owner of the memory. No data is copied.
 * Refuses read-only memory, because the older struct has no flag for it.
 *
 * Ownership: borrows `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_share_dlpack_legacy(const dlb_tensor *tensor,
                                          DLManagedTensor **out,
                                          dlb_error **error);

/**
 * Moves a handle into a DLPack struct of the older type. The effect is that of
 * dlb_tensor_share_dlpack_legacy() followed by dlb_tensor_free(). No data is copied.
 *
 * Ownership: consumes `tensor`; returns new, call its deleter.
 */
DLB_API
dlb_status dlb_tensor_into_dlpack_legacy(dlb_tensor *tensor,
                                         DLManagedTensor **out,
                                         dlb_error **error);

/**
 * Wraps memory that `desc` describes. No data is copied; `shape` and `strides` are. The first
 * element is at `data + byte_offset`; NULL `strides` mean row-major. Every byte from the lowest to
 * the highest element, the bytes between the elements included, must be initialised and stay valid
 * until the library calls `release(owner)`: once, on the thread that frees the last handle. Pass a
 * NULL `release` for memory that outlives every handle.
 *
 * `flags` are DLPack's: DLPACK_FLAG_BITMASK_READ_ONLY makes the tensor read-only, and
 * DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED says that each element of less than a byte occupies a
 * whole byte (it is ignored for other element types). DLPACK_FLAG_BITMASK_IS_COPIED is allowed and
 * ignored; other bits are refused.
 *
 * Ownership: borrows `desc`; consumes `owner`; returns new, free with dlb_tensor_free().
 *
 * Example of the functions for memory:
 *
 * ```c
 * int64_t shape[] = {2, 3}, strides[] = {4, 1}; // 2 rows of 3 numbers, one number of padding each
 * float *buffer = calloc(8, sizeof *buffer);
 * DLTensor desc = {buffer, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, strides, 0};
 * dlb_tensor *wrapped = NULL, *fresh = NULL;
 * const void *data = NULL;
 * void *writable = NULL;
 * dlb_status status = dlb_tensor_from_memory(&desc, 0, buffer, free, &wrapped, NULL);
 * if (status != DLB_OK) free(buffer); // on failure `buffer` still belongs to the caller
 * assert(status == DLB_OK);
 * status = dlb_tensor_data(wrapped, &data, NULL);
 * assert(status == DLB_OK && data == buffer);
 *
 * desc.strides = NULL; // row-major, in new memory of the library
 * status = dlb_tensor_empty(&desc, &fresh, NULL);
 * assert(status == DLB_OK);
 * status = dlb_tensor_data_mut(fresh, &writable, NULL);
 * assert(status == DLB_OK);
 * ((float *)writable)[5] = 7; // the last element
 * dlb_tensor_free(fresh);
 * dlb_tensor_free(wrapped); // calls free(buffer)
 * ```
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
 * `data` and `byte_offset` of `desc` are ignored. `device` must be the CPU: dlb_tensor_to_device()
 * copies to other devices. NULL `strides` mean row-major. Other strides may leave gaps and be
 * negative, but elements must neither overlap nor interleave. The contents are unspecified; the
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
 * Copies the data into new memory on the same device, in the layout `memory_format` (one of
 * DLB_MEMORY_FORMAT_*). The copy may be written, even if `tensor` is read-only. `stream` has the
 * meaning that it has for dlb_tensor_to_device().
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); no other handle has the
 * memory.
 *
 * Example of the functions that copy:
 *
 * ```c
 * static const float columns[] = {0, 1, 2, 3, 4, 5}; // 3 columns of 2 numbers each
 * int64_t shape[] = {2, 3}, strides[] = {1, 2};
 * DLTensor desc = {(void *)columns, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, strides, 0};
 * dlb_tensor *source = NULL, *clone = NULL, *target = NULL;
 * const float *copied;
 * dlb_status status =
 *     dlb_tensor_from_memory(&desc, DLPACK_FLAG_BITMASK_READ_ONLY, NULL, NULL, &source, NULL);
 * assert(status == DLB_OK);
 * status =
 *     dlb_tensor_clone(source, DLB_MEMORY_FORMAT_CONTIGUOUS, DLB_STREAM_NO_SYNC, &clone, NULL);
 * assert(status == DLB_OK && dlb_tensor_view(clone)->strides[0] == 3); // row-major
 * assert(dlb_tensor_flags(clone) == 0);                                // the clone may be written
 *
 * // A target that is allocated once serves for many copies.
 * desc.strides = NULL;
 * status = dlb_tensor_empty(&desc, &target, NULL);
 * assert(status == DLB_OK);
 * status = dlb_tensor_copy_into(source, target, DLB_STREAM_NO_SYNC, NULL);
 * assert(status == DLB_OK);
 * copied = dlb_tensor_view(target)->data;
 * assert(copied[0] == 0 && copied[1] == 2 && copied[3] == 1);
 * dlb_tensor_free(target);
 * dlb_tensor_free(clone);
 * dlb_tensor_free(source);
 * ```
 */
DLB_API
dlb_status dlb_tensor_clone(const dlb_tensor *tensor,
                            int32_t memory_format,
                            int64_t stream,
                            dlb_tensor **out,
                            dlb_error **error);

/**
 * Copies the elements of `source` to those of `target`. Shapes and element types must be equal;
 * strides may differ. Bytes between the elements of `target` are not written. Packed elements of
 * less than a byte are copied only between contiguous tensors; from or to a device, the last byte
 * is copied whole. Refuses a target that is read-only, whose elements overlap or interleave, or
 * that shares memory with `source`. `stream` has the meaning that it has for
 * dlb_tensor_to_device(): the library does not use host memory after the function has returned,
 * and a target on a device is complete in the order of `stream`.
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
 * Gives all memory that is cached for later copies back to the system's allocator. Returns its
 * size in bytes.
 *
 * Memory of 2 MiB or more that the library allocated for a copy is cached when its last handle is
 * freed, and a later copy of about the same size takes it. dlb_set_cache_limit() says how much is
 * kept, and for how long.
 *
 * Ownership: none.
 *
 * Example of the functions for the cache:
 *
 * ```c
 * static const float numbers[1 << 20];
 * int64_t shape[] = {1 << 20};
 * DLTensor desc = {(void *)numbers, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, NULL, 0};
 * dlb_tensor *tensor = NULL, *copy = NULL;
 * size_t before = dlb_set_cache_limit(64 << 20); // bytes
 * dlb_status status = dlb_tensor_from_memory(&desc, DLPACK_FLAG_BITMASK_READ_ONLY, NULL, NULL,
 *                                            &tensor, NULL);
 * assert(status == DLB_OK);
 * status = dlb_tensor_clone(tensor, DLB_MEMORY_FORMAT_PRESERVE, DLB_STREAM_NO_SYNC, &copy, NULL);
 * assert(status == DLB_OK);
 * dlb_tensor_free(copy); // the next clone takes the 4 MiB of this one
 * assert(dlb_cached_bytes() >= 4 << 20);
 * assert(dlb_trim() >= 4 << 20 && dlb_cached_bytes() == 0);
 * dlb_tensor_free(tensor);
 * dlb_set_cache_limit(before);
 * ```
 */
DLB_API size_t dlb_trim(void);

/**
 * Returns the size in bytes of the memory that is cached for later copies. The system may already
 * have taken some of its pages.
 *
 * Ownership: none.
 */
DLB_API size_t dlb_cached_bytes(void);

/**
 * Sets the maximum size in bytes of the memory that is cached, and returns the maximum from
 * before. With `bytes` = 0 the cache is off. Memory above the new maximum is given back at once.
 *
 * The maximum is one number for the process. It begins with the environment variable
 * DLBRIDGE_CACHE_LIMIT, a number of bytes; without it, the maximum is 512 MiB on Linux and 0 on
 * other systems. On Linux, the system takes cached pages when it runs short of memory, except for
 * the 32 MiB that were freed last and less than 2 MiB of each block; until then, tools count them
 * as resident. Memory that no copy used for 10 seconds is given back the next time that the
 * library allocates or frees 2 MiB or more for a copy, or calls dlb_trim().
 *
 * Ownership: none.
 */
DLB_API size_t dlb_set_cache_limit(size_t bytes);

/**
 * Copies the data to a device, always into new memory, even if `tensor` is on that device already.
 * The copy keeps the order of the source's strides. {kDLCUDAHost, 0} is page-locked memory of the
 * host.
 *
 * `stream` is a stream of the CUDA device that takes part (of the source's device, if both are
 * CUDA devices). The library does not use host memory after the function has returned. A copy on a
 * device is complete in the order of `stream`, which must exist until the copy, and every tensor
 * made from its memory, is freed.
 *
 * Ownership: borrows `tensor`; returns new, free with dlb_tensor_free(); no other handle has the
 * memory.
 *
 * Example of the functions for devices:
 *
 * ```c
 * int64_t shape[] = {2, 3};
 * DLDevice cpu = {kDLCPU, 0}, cuda = {kDLCUDA, 0};
 * DLTensor desc = {NULL, cpu, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
 * dlb_tensor *tensor = NULL, *on_device = NULL;
 * dlb_error *error = NULL;
 * dlb_status status = dlb_tensor_empty(&desc, &tensor, NULL);
 * assert(status == DLB_OK);
 * status = dlb_tensor_to_device(tensor, cuda, DLB_STREAM_LEGACY_DEFAULT, &on_device, &error);
 * if (status != DLB_OK) { // no CUDA in this build or on this machine: stay on the host
 *   puts(dlb_error_message(error));
 *   dlb_error_free(error);
 *   on_device = dlb_tensor_share(tensor);
 * }
 * dlb_tensor_free(tensor);
 * // To the host: one copy from a device, and the same handle if the memory is there already.
 * status = dlb_tensor_into_device(on_device, cpu, DLB_STREAM_LEGACY_DEFAULT, &on_device, NULL);
 * assert(status == DLB_OK && dlb_tensor_view(on_device)->device.device_type == kDLCPU);
 * dlb_tensor_free(on_device);
 * ```
 */
DLB_API
dlb_status dlb_tensor_to_device(const dlb_tensor *tensor,
                                DLDevice device,
                                int64_t stream,
                                dlb_tensor **out,
                                dlb_error **error);

/**
 * Moves a tensor to a device. Returns the handle unchanged if the memory is on the device already
 * (pinned memory counts as memory of the CPU). Otherwise makes one copy, as dlb_tensor_to_device()
 * does, and frees the handle. `out` may point to the variable that holds `tensor`.
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
 * Makes the contents ready for use on a stream: work that is put on `stream` after this call waits
 * for the contents. When the memory is released, it is not reused before the work that is on
 * `stream` at that time is done, as with PyTorch's Tensor.record_stream.
 *
 * Call it with the consumer's stream before you pass device memory to a consumer, for instance as
 * a DLPack struct. Without this call the contents are ready on the legacy default stream only.
 * `stream` must exist until the tensor, and every tensor made from its memory, is freed. Does
 * nothing for host memory, and with DLB_STREAM_NO_SYNC.
 *
 * Ownership: borrows `tensor`.
 *
 * Example of the functions for streams. On the host they do nothing, so the same code serves for
 * tensors of every device:
 *
 * ```c
 * int64_t shape[] = {2, 3};
 * int64_t stream = DLB_STREAM_LEGACY_DEFAULT; // or a CUstream: (int64_t)(intptr_t)handle
 * DLTensor desc = {NULL, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
 * dlb_tensor *tensor = NULL;
 * dlb_status status = dlb_tensor_empty(&desc, &tensor, NULL);
 * assert(status == DLB_OK);
 * // Another library fills the memory on `stream`: what dlbridge does with it comes later.
 * status = dlb_tensor_wait_stream(tensor, stream, NULL);
 * assert(status == DLB_OK);
 * // Another library reads the memory on `stream`: its work waits for that of dlbridge.
 * status = dlb_tensor_record_stream(tensor, stream, NULL);
 * assert(status == DLB_OK);
 * // The host waits for all work on `stream`.
 * status = dlb_synchronize(dlb_tensor_view(tensor)->device, stream, NULL);
 * assert(status == DLB_OK);
 * dlb_tensor_free(tensor);
 * ```
 */
DLB_API
dlb_status dlb_tensor_record_stream(const dlb_tensor *tensor,
                                    int64_t stream,
                                    dlb_error **error);

/**
 * Makes the library wait for a stream: all its work on the tensor's memory after this call comes
 * after the work that is on `stream` at the time of the call, as with PyTorch's
 * Stream.wait_stream.
 *
 * Call it for device memory that was imported while a producer still fills it on `stream`. Without
 * this call the library assumes that the memory is filled in the order of the legacy default
 * stream. Does nothing for host memory, and with DLB_STREAM_NO_SYNC.
 *
 * Ownership: borrows `tensor`.
 */
DLB_API
dlb_status dlb_tensor_wait_stream(const dlb_tensor *tensor,
                                  int64_t stream,
                                  dlb_error **error);

/**
 * Blocks until all work that was put on a stream of a device is done. Does nothing for the host,
 * and with DLB_STREAM_NO_SYNC.
 *
 * Ownership: none.
 */
DLB_API dlb_status dlb_synchronize(DLDevice device, int64_t stream, dlb_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DLBRIDGE_H_ */
