//! Functions on handles: share, describe, print, free.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::ffi::DLTensor;
use dlbridge::{Descriptor, Device};

use crate::error::{
    DLB_ERROR_DEVICE, DLB_ERROR_LAYOUT, Failure, InArgument, Required, contain, dlb_error,
    dlb_status, guard,
};
use crate::handle::{Handle, dlb_tensor};
use crate::text::TextBuffer;

/// Returns another handle to the same memory; NULL for NULL. No data is copied. Handles are counted
/// references: the new one may be the same pointer, and each is freed once.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
///
/// Example of the functions on handles:
///
/// ```c
/// static float rows[] = {0, 1, 2, 3, 4, 5}; // 2 rows of 3 numbers, which outlive every handle
/// int64_t shape[] = {2, 3}, transposed_shape[] = {3, 2}, transposed_strides[] = {1, 3};
/// DLTensor desc = {rows, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
/// dlb_tensor *tensor = NULL, *second, *transpose = NULL;
/// dlb_status status = dlb_tensor_from_memory(&desc, 0, NULL, NULL, &tensor, NULL);
/// assert(status == DLB_OK);
/// second = dlb_tensor_share(tensor);
/// dlb_tensor_free(tensor); // `second` keeps the memory
///
/// desc.shape = transposed_shape;
/// desc.strides = transposed_strides;
/// status = dlb_tensor_share_as(second, &desc, &transpose, NULL);
/// assert(status == DLB_OK);
/// assert(dlb_tensor_view(transpose)->data == rows && dlb_tensor_view(transpose)->shape[0] == 3);
/// assert(dlb_tensor_is_contiguous(second) && !dlb_tensor_is_contiguous(transpose));
/// assert(dlb_tensor_nbytes(transpose) == 24 && dlb_tensor_flags(transpose) == 0);
///
/// char text[100];
/// size_t length = 0;
/// status = dlb_tensor_to_string(transpose, text, sizeof text, &length, NULL);
/// assert(status == DLB_OK && length < sizeof text); // else the text was cut off
/// puts(text);
/// dlb_tensor_free(transpose);
/// dlb_tensor_free(second);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_share(tensor: Option<&dlb_tensor>) -> Option<NonNull<dlb_tensor>> {
    contain(None, || tensor.map(|tensor| Handle::share(tensor).into_raw()))
}

/// Returns another handle to the same memory, described by `desc`: a part of it, a transpose,
/// another element type. No data is copied; `shape` and `strides` of `desc` are. The first element
/// is at `data + byte_offset` of `desc`, and NULL `strides` mean row-major. The device of `desc`
/// must be that of `tensor`, and its elements must lie within the bytes from the lowest to the
/// highest element of `tensor`. On a device where `data` is a buffer object instead of an address
/// (Metal, OpenCL, Vulkan, WebGPU), `data` must be the buffer object of `tensor`. The new handle is
/// read-only if `tensor` is read-only. Elements of less than a byte are padded if those of `tensor`
/// are padded.
///
/// Ownership: borrows both; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_share_as(
    tensor: Option<&dlb_tensor>,
    desc: Option<&DLTensor>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, desc, out) =
            (tensor.required("tensor")?, desc.required("desc")?, out.required("out")?);
        // SAFETY: `shape` and `strides` of `desc` have `ndim` numbers each: the caller of the C
        // function guarantees that.
        let part = unsafe { Descriptor::from_dl_tensor(desc, tensor.flags()) }.argument("desc")?;
        require_part_of(tensor.descriptor(), &part)?;
        // SAFETY: `require_part_of` checked that the elements of `part` are among the tensor's
        // bytes.
        out.write(unsafe { tensor.share_as(part) }.into_raw());
        Ok(())
    })
}

/// Refuses a description whose elements are not all among the bytes of `whole`, on the same device.
fn require_part_of(whole: &Descriptor, part: &Descriptor) -> Result<(), Failure> {
    if part.device() != whole.device() {
        let name = |device: Device| {
            format!("{device} (type {}, index {})", device.device_type, device.index)
        };
        let message = format!(
            "desc: it is on {}, the tensor on {}",
            name(part.device()),
            name(whole.device())
        );
        return Err(Failure::new(DLB_ERROR_DEVICE, message));
    }
    if whole.contains(part) {
        return Ok(());
    }
    let ((start, bytes), (whole_start, whole_bytes)) = (part.span(), whole.span());
    let message = format!(
        "desc: {bytes} bytes at {start:?} are not all among the tensor's {whole_bytes} bytes at \
         {whole_start:?}"
    );
    Err(Failure::new(DLB_ERROR_LAYOUT, message))
}

/// Frees a handle; does nothing for NULL. Freeing the last handle releases the memory: this thread
/// runs the deleter or the release callback.
///
/// Ownership: consumes `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_free(tensor: Option<NonNull<dlb_tensor>>) {
    // SAFETY: the caller of the C function gives up a handle of the library.
    contain((), || drop(tensor.map(|tensor| unsafe { Handle::from_raw(tensor) })));
}

/// Returns a description of the tensor: address, shape, strides (never NULL unless `ndim` is 0),
/// element type and device; NULL for NULL. `data` is the address of the first element on the
/// tensor's device, or NULL if there are no elements, and `byte_offset` is 0. On a device where
/// `data` is a buffer object instead of an address (Metal, OpenCL, Vulkan, WebGPU), `data` and
/// `byte_offset` have the values that the tensor was made with. Strides that reach no element
/// (those of dimensions of size 1, and all strides of a tensor without elements) are positive. The
/// memory may be written unless dlb_tensor_flags() has DLPACK_FLAG_BITMASK_READ_ONLY. The caller
/// must not write `shape` and `strides`.
///
/// Ownership: borrows `tensor`; returns a view valid until that handle is consumed or freed.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_view(tensor: Option<&dlb_tensor>) -> Option<&DLTensor> {
    tensor.map(dlb_tensor::view)
}

/// Returns the DLPack flags of the tensor: DLPACK_FLAG_BITMASK_READ_ONLY exactly when the memory
/// may not be written, and DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED; 0 for NULL.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_flags(tensor: Option<&dlb_tensor>) -> u64 {
    contain(0, || tensor.map_or(0, dlb_tensor::flags))
}

/// Returns the number of bytes of all elements, without the gaps between them; 0 for NULL.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_nbytes(tensor: Option<&dlb_tensor>) -> u64 {
    contain(0, || tensor.map_or(0, |tensor| tensor.descriptor().nbytes() as u64))
}

/// Returns whether the elements lie one after the other in row-major order; false for NULL. Strides
/// of dimensions of size 1 are ignored, and so are all strides when there are no elements.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_is_contiguous(tensor: Option<&dlb_tensor>) -> bool {
    contain(false, || tensor.is_some_and(|tensor| tensor.descriptor().layout().is_contiguous()))
}

/// Writes the values of the tensor for people to read. Leaves values out if there are many. Where
/// the host cannot reach the memory, and for element types whose values the library does not know,
/// writes the shape, the element type and the device instead. The text may change from version to
/// version: do not parse it.
///
/// Writes at most `size` bytes to `buffer`, the last of them NUL, and the length of the whole text
/// in bytes, without the NUL, to `*length`: a length of `size` or more means that the text was cut
/// off, perhaps within a character. Writes nothing to `buffer` if it is NULL or `size` is 0.
///
/// The function copies the values that it writes. The caller makes sure that no other code writes
/// the memory during the call.
///
/// Ownership: borrows `tensor` and `buffer`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_to_string(
    tensor: Option<&dlb_tensor>,
    buffer: *mut c_char,
    size: usize,
    length: Option<&mut MaybeUninit<usize>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, length) = (tensor.required("tensor")?, length.required("length")?);
        // SAFETY: the caller of the C function guarantees that no other code writes the memory
        // during the call. The tensor is dropped before the call ends.
        let printed = unsafe { tensor.share_readable() }.to_string();
        // SAFETY: the caller of the C function guarantees `size` bytes at `buffer`, or NULL.
        unsafe { TextBuffer { start: buffer, size }.write(printed.as_bytes()) };
        length.write(printed.len());
        Ok(())
    })
}
