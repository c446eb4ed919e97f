//! Memory of the caller as a tensor, new memory, and the addresses of memory on the host.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::ffi::{
    DLPACK_FLAG_BITMASK_IS_COPIED, DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED,
    DLPACK_FLAG_BITMASK_READ_ONLY, DLTensor, kDLCUDA, kDLCUDAHost, kDLCUDAManaged,
};
use dlbridge::{Descriptor, Device, Error, Layout, Remedy, Tensor};

use crate::device::{from_dlpack, require_available};
use crate::dtype;
use crate::error::{
    DLB_ERROR_DEVICE, DLB_ERROR_INVALID_ARGUMENT, Failure, InArgument, Required, describe,
    dlb_error, dlb_status, guard,
};
use crate::handle::{Handle, dlb_tensor};

const READ_ONLY: u64 = DLPACK_FLAG_BITMASK_READ_ONLY as u64;
const KNOWN_FLAGS: u64 = READ_ONLY
    | DLPACK_FLAG_BITMASK_IS_COPIED as u64
    | DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED as u64;

/// A function of the caller that releases memory.
type ReleaseCallback = unsafe extern "C" fn(owner: *mut c_void);

/// The owner of memory that `dlb_tensor_from_memory` wraps: calls `release(owner)` when it is
/// dropped.
struct PointerOwner {
    owner: *mut c_void,
    release: Option<ReleaseCallback>,
}

// SAFETY: the caller of `dlb_tensor_from_memory` guarantees that `release` may run on any thread.
unsafe impl Send for PointerOwner {}

impl Drop for PointerOwner {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the caller of `dlb_tensor_from_memory` guarantees that `release` may be
            // called once with `owner`, and this owner is dropped once.
            unsafe { release(self.owner) };
        }
    }
}

/// Wraps memory that `desc` describes. No data is copied; `shape` and `strides` are. The first
/// element is at `data + byte_offset`; NULL `strides` mean row-major. Every byte from the lowest to
/// the highest element, the bytes between the elements included, must be initialised and stay valid
/// until the library calls `release(owner)`: once, on the thread that frees the last handle. Pass a
/// NULL `release` for memory that outlives every handle.
///
/// `flags` are DLPack's: DLPACK_FLAG_BITMASK_READ_ONLY makes the tensor read-only, and
/// DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED says that each element of less than a byte occupies a
/// whole byte (it is ignored for other element types). DLPACK_FLAG_BITMASK_IS_COPIED is allowed and
/// ignored; other bits are refused.
///
/// Ownership: borrows `desc`; consumes `owner`; returns new, free with dlb_tensor_free().
///
/// Example of the functions for memory:
///
/// ```c
/// int64_t shape[] = {2, 3}, strides[] = {4, 1}; // 2 rows of 3 numbers, one number of padding each
/// float *buffer = calloc(8, sizeof *buffer);
/// DLTensor desc = {buffer, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, strides, 0};
/// dlb_tensor *wrapped = NULL, *fresh = NULL;
/// const void *data = NULL;
/// void *writable = NULL;
/// dlb_status status = dlb_tensor_from_memory(&desc, 0, buffer, free, &wrapped, NULL);
/// if (status != DLB_OK) free(buffer); // on failure `buffer` still belongs to the caller
/// assert(status == DLB_OK);
/// status = dlb_tensor_data(wrapped, &data, NULL);
/// assert(status == DLB_OK && data == buffer);
///
/// desc.strides = NULL; // row-major, in new memory of the library
/// status = dlb_tensor_empty(&desc, &fresh, NULL);
/// assert(status == DLB_OK);
/// status = dlb_tensor_data_mut(fresh, &writable, NULL);
/// assert(status == DLB_OK);
/// ((float *)writable)[5] = 7; // the last element
/// dlb_tensor_free(fresh);
/// dlb_tensor_free(wrapped); // calls free(buffer)
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_from_memory(
    desc: Option<&DLTensor>,
    flags: u64,
    owner: *mut c_void,
    release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (desc, out) = (desc.required("desc")?, out.required("out")?);
        if flags & !KNOWN_FLAGS != 0 {
            let message = format!("flags = {flags:#x}: these are not flags of DLPack");
            return Err(Failure::new(DLB_ERROR_INVALID_ARGUMENT, message));
        }
        // SAFETY: `shape` and `strides` of `desc` have `ndim` numbers each: the caller of the C
        // function guarantees that.
        let descriptor = unsafe { Descriptor::from_dl_tensor(desc, flags) }.argument("desc")?;
        let owner = PointerOwner { owner, release };
        // SAFETY: the caller of the C function guarantees that the memory is as `desc` says until
        // `release` is called; this package makes no Rust view of it.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, flags & READ_ONLY == 0, owner) };
        out.write(Handle::from_tensor(tensor).into_raw());
        Ok(())
    })
}

/// Makes a tensor in new memory of the host, with the shape, strides and element type of `desc`.
/// `data` and `byte_offset` of `desc` are ignored. `device` must be the CPU: dlb_tensor_to_device()
/// copies to other devices. NULL `strides` mean row-major. Other strides may leave gaps and be
/// negative, but elements must neither overlap nor interleave. The contents are unspecified; the
/// memory is aligned to 256 bytes.
///
/// Ownership: borrows `desc`; returns new, free with dlb_tensor_free(); no other handle has the
/// memory.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_empty(
    desc: Option<&DLTensor>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (desc, out) = (desc.required("desc")?, out.required("out")?);
        require_cpu(from_dlpack(desc.device))?;
        // SAFETY: `shape` and `strides` of `desc` have `ndim` numbers each: the caller of the C
        // function guarantees that.
        let layout = unsafe { Layout::from_dl_tensor(desc) };
        let dtype = dtype::from_dlpack(desc.dtype);
        let sized = |error: Error| error.with_element_bits(dtype.element_bits());
        let layout = layout.map_err(sized).argument("desc")?;
        if layout.overlaps() {
            let (shape, strides) = (layout.shape().into(), layout.strides().into());
            let error = describe("desc", &Error::SelfOverlap { shape, strides });
            return Err(error.with_remedy(None)); // there is no tensor yet
        }
        let tensor = Tensor::zeros_with(layout, dtype).argument("desc")?;
        out.write(Handle::from_tensor(tensor).into_raw());
        Ok(())
    })
}

/// Refuses devices on which `dlb_tensor_empty` makes no memory.
fn require_cpu(device: Device) -> Result<(), Failure> {
    if [kDLCUDA, kDLCUDAHost, kDLCUDAManaged].contains(&device.device_type.cast_unsigned()) {
        let fact = format!("desc: new memory is made on the host, not on {device}");
        let failure = Failure::new(DLB_ERROR_DEVICE, fact);
        return Err(failure.with_remedy(Some(Remedy::CopyToDevice)));
    }
    require_available("desc", device)
}

/// Returns the address of the first element, for reading; NULL when there are no elements. Refuses
/// memory that the host cannot reach. (dlb_tensor_view() has the address on every device.)
///
/// Ownership: borrows `tensor`; returns a view that is valid as long as the memory: until its last
/// handle is freed.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_data(
    tensor: Option<&dlb_tensor>,
    out: Option<&mut MaybeUninit<*const c_void>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        out.write(host_ptr(tensor)?);
        Ok(())
    })
}

/// Returns the address of the first element, for writing; NULL when there are no elements. The
/// caller makes sure that no other code reads or writes the memory at the same time. Refuses
/// read-only memory, and memory that the host cannot reach.
///
/// Ownership: borrows `tensor`; returns a view that is valid as long as the memory: until its last
/// handle is freed.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_data_mut(
    tensor: Option<NonNull<dlb_tensor>>,
    out: Option<&mut MaybeUninit<*mut c_void>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        // SAFETY: the caller of the C function passes a handle that lives during the call. It is
        // not made a `&mut`, because other handles may be the same object.
        let tensor = unsafe { tensor.as_ref() };
        let data = host_ptr(tensor)?;
        if !tensor.is_writable() {
            return Err(Error::ReadOnly { remedy: Remedy::WriteToClone }).argument("tensor");
        }
        out.write(data);
        Ok(())
    })
}

/// The address of the first element, if the memory is on the host.
fn host_ptr(tensor: &dlb_tensor) -> Result<*mut c_void, Failure> {
    let device = from_dlpack(tensor.view().device);
    if device.is_host() {
        return Ok(tensor.view().data);
    }
    Err(Error::NotOnCpu { device, target: "host pointer" }).argument("tensor")
}
