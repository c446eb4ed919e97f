//! Views: other shapes, strides and first elements for the same memory.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::Tensor;

use crate::error::{
    DLB_ERROR_INVALID_ARGUMENT, Failure, InArgument, Required, dlb_error, dlb_status, guard,
};
use crate::handle::dlb_tensor;

/// As `start` or `end` of dlb_tensor_slice(): the bound that Python leaves out.
pub const DLB_SLICE_NONE: i64 = i64::MIN;

/// The out-parameter of a function that makes a handle.
type Out<'a> = Option<&'a mut MaybeUninit<NonNull<dlb_tensor>>>;
type ErrorOut<'a> = Option<&'a mut MaybeUninit<*mut dlb_error>>;

/// Reorders the dimensions: dimension `i` of the result is dimension `dims[i]` of the tensor.
/// `dims` has `ndim` numbers.
///
/// This function and the other functions for views return another handle to the same memory, and
/// copy no data. The memory lives as long as one of its handles, and may be written through each of
/// them unless it is read-only. Names, arguments and results are PyTorch's; differences are noted.
/// Negative dimensions count from the end.
///
/// Ownership: borrows `tensor` and `dims`; returns new, free with dlb_tensor_free().
///
/// Example of the functions for views:
///
/// ```c
/// // 2 rows of 3 pixels: blue, green, red. The rows begin 16 bytes apart.
/// static unsigned char frame[2 * 16];
/// int64_t shape[] = {2, 3, 3}, strides[] = {16, 3, 1}, channel = 2, planes_first[] = {2, 0, 1};
/// DLTensor desc = {frame, {kDLCPU, 0}, 3, {kDLUInt, 8, 1}, shape, strides, 0};
/// dlb_tensor *image = NULL, *rgb = NULL, *planes = NULL, *right = NULL;
/// dlb_status status = dlb_tensor_from_memory(&desc, 0, NULL, NULL, &image, NULL);
/// assert(status == DLB_OK);
/// status = dlb_tensor_flip(image, &channel, 1, &rgb, NULL); // red, green, blue
/// assert(status == DLB_OK);
/// status = dlb_tensor_permute(rgb, planes_first, 3, &planes, NULL);
/// assert(status == DLB_OK && dlb_tensor_view(planes)->strides[0] == -1);
/// assert(dlb_tensor_view(planes)->data == frame + 2); // the first red byte
/// status = dlb_tensor_slice(planes, -1, 1, DLB_SLICE_NONE, 1, &right, NULL); // columns 1 and 2
/// assert(status == DLB_OK && dlb_tensor_view(right)->shape[2] == 2);
/// dlb_tensor_free(image); // the views keep the memory
/// dlb_tensor_free(rgb);
/// dlb_tensor_free(planes);
/// dlb_tensor_free(right);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_permute(
    tensor: Option<&dlb_tensor>,
    dims: *const i64,
    ndim: i32,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| {
        // SAFETY: the caller of the C function guarantees `ndim` numbers at `dims`.
        let dims = unsafe { Numbers { name: "dims", first: dims, count: ndim }.into_slice() }?;
        tensor.permute(dims).argument("tensor")
    })
}

/// Swaps two dimensions.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_transpose(
    tensor: Option<&dlb_tensor>,
    dim0: i64,
    dim1: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| tensor.transpose(dim0, dim1).argument("tensor"))
}

/// Takes the indices from `start` up to `end` (exclusive), `step` apart, in dimension `dim`, as
/// NumPy's array[start:end:step] does: negative bounds count from the end, and bounds that are out
/// of range are clamped. DLB_SLICE_NONE is the bound that Python leaves out: the first index for
/// `start` and the end for `end`; with a negative step the last index for `start`, and for `end`
/// it means that index 0 is included. PyTorch does not have negative steps.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_slice(
    tensor: Option<&dlb_tensor>,
    dim: i64,
    start: i64,
    end: i64,
    step: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| {
        let bound = |bound: i64| (bound != DLB_SLICE_NONE).then_some(bound);
        tensor.slice(dim, bound(start), bound(end), step).argument("tensor")
    })
}

/// Takes one index of dimension `dim`, which the result does not have. A negative index counts from
/// the end.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_select(
    tensor: Option<&dlb_tensor>,
    dim: i64,
    index: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| tensor.select(dim, index).argument("tensor"))
}

/// Reverses the order of the indices in `ndim` dimensions. Their strides become negative: PyTorch's
/// flip copies instead, and libtorch has no negative strides.
///
/// Ownership: borrows `tensor` and `dims`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_flip(
    tensor: Option<&dlb_tensor>,
    dims: *const i64,
    ndim: i32,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| {
        // SAFETY: the caller of the C function guarantees `ndim` numbers at `dims`.
        let dims = unsafe { Numbers { name: "dims", first: dims, count: ndim }.into_slice() }?;
        tensor.flip(dims).argument("tensor")
    })
}

/// Repeats the elements of dimensions of size 1, and adds dimensions before the first, so that the
/// result has `ndim` dimensions of these sizes. A size of -1 keeps the size. The strides of these
/// dimensions become 0: several indices reach the same element, and dlb_tensor_copy_into() refuses
/// the result as its target.
///
/// Ownership: borrows `tensor` and `shape`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_expand(
    tensor: Option<&dlb_tensor>,
    shape: *const i64,
    ndim: i32,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| {
        // SAFETY: the caller of the C function guarantees `ndim` numbers at `shape`.
        let shape = unsafe { Numbers { name: "shape", first: shape, count: ndim }.into_slice() }?;
        tensor.expand(shape).argument("tensor")
    })
}

/// Removes all dimensions of size 1.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_squeeze(
    tensor: Option<&dlb_tensor>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| tensor.squeeze().argument("tensor"))
}

/// Removes dimension `dim` if its size is 1. Otherwise the result has the shape of the tensor.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_squeeze_dim(
    tensor: Option<&dlb_tensor>,
    dim: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| tensor.squeeze_dim(dim).argument("tensor"))
}

/// Adds a dimension of size 1 before dimension `dim`; -1 adds the last dimension.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_unsqueeze(
    tensor: Option<&dlb_tensor>,
    dim: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| tensor.unsqueeze(dim).argument("tensor"))
}

/// Gives the elements another shape of `ndim` sizes, in the same row-major order. One size may be
/// -1: it follows from the others. This is PyTorch's view: where the elements would have to be
/// copied, the function fails with DLB_ERROR_LAYOUT.
///
/// Ownership: borrows `tensor` and `shape`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_reshape(
    tensor: Option<&dlb_tensor>,
    shape: *const i64,
    ndim: i32,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| {
        // SAFETY: the caller of the C function guarantees `ndim` numbers at `shape`.
        let shape = unsafe { Numbers { name: "shape", first: shape, count: ndim }.into_slice() }?;
        tensor.reshape(shape).argument("tensor")
    })
}

/// Gives the tensor `ndim` sizes and strides. `offset` is the distance, in elements, from the first
/// element of the tensor to the first element of the result; PyTorch counts from the beginning of
/// the storage instead. Strides and `offset` may be negative. The result must lie between the
/// lowest and the highest element of the tensor; it may reach the gaps between elements in memory
/// of the host, but not in memory of a device. dlb_tensor_share_as() changes the element type too.
///
/// Ownership: borrows `tensor`, `shape` and `strides`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_as_strided(
    tensor: Option<&dlb_tensor>,
    shape: *const i64,
    strides: *const i64,
    ndim: i32,
    offset: i64,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    view(tensor, out, error, |tensor| {
        // SAFETY: the caller of the C function guarantees `ndim` numbers at `shape`.
        let shape = unsafe { Numbers { name: "shape", first: shape, count: ndim }.into_slice() }?;
        // SAFETY: the caller of the C function guarantees `ndim` numbers at `strides`.
        let strides =
            unsafe { Numbers { name: "strides", first: strides, count: ndim }.into_slice() }?;
        tensor.as_strided(shape, strides, offset).argument("tensor")
    })
}

/// Returns a handle to the view that `make` makes of the tensor. It keeps the tensor's memory.
fn view(
    tensor: Option<&dlb_tensor>,
    out: Out<'_>,
    error: ErrorOut<'_>,
    make: impl FnOnce(Tensor) -> Result<Tensor, Failure>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        // Only the description of the view is used: `Handle::from_tensor` would give back the
        // handle that the shared tensor came from.
        let view = make(tensor.share_tensor())?.descriptor().clone();
        // SAFETY: the elements of a view are among the bytes of the tensor that it was made from.
        out.write(unsafe { tensor.share_as(view) }.into_raw());
        Ok(())
    })
}

/// An argument that is an array: sizes, strides or dimensions.
struct Numbers {
    name: &'static str,
    /// NULL is allowed for no numbers.
    first: *const i64,
    count: i32,
}

impl Numbers {
    /// # Safety
    /// * `first` is NULL, or valid for reads of `count` numbers as long as the result is used.
    unsafe fn into_slice<'a>(self) -> Result<&'a [i64], Failure> {
        let Ok(count) = usize::try_from(self.count) else {
            let message =
                format!("ndim = {}: the number of dimensions cannot be negative", self.count);
            return Err(Failure::new(DLB_ERROR_INVALID_ARGUMENT, message));
        };
        if count == 0 {
            return Ok(&[]);
        }
        let first = NonNull::new(self.first.cast_mut()).required(self.name)?;
        // SAFETY: the caller guarantees `count` numbers at `first`, which is not NULL here.
        Ok(unsafe { std::slice::from_raw_parts(first.as_ptr(), count) })
    }
}
