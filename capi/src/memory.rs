//! Memory of the caller as a tensor, new memory, and memory to write to.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use dlbridge::ffi::{
    DLDataType, DLPACK_FLAG_BITMASK_IS_COPIED, DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED,
    DLPACK_FLAG_BITMASK_READ_ONLY, DLTensor, kDLCUDA, kDLCUDAHost, kDLCUDAManaged,
};
use dlbridge::{DType, Descriptor, Error, Layout, Tensor};

use crate::device;
use crate::error::{
    DLB_ERROR_DEVICE, DLB_ERROR_INVALID_ARGUMENT, Failure, InArgument, Required, dlb_error, dlb_status, guard,
};
use crate::tensor::{Handle, dlb_tensor};

const READ_ONLY: u64 = DLPACK_FLAG_BITMASK_READ_ONLY as u64;
const KNOWN_FLAGS: u64 =
    READ_ONLY | DLPACK_FLAG_BITMASK_IS_COPIED as u64 | DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED as u64;

/// What keeps memory that C code lends us: a callback, and what it is called with.
struct Lent {
    owner: *mut c_void,
    release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
}

// SAFETY: the contract of `dlb_tensor_from_memory`: the callback may run on any thread.
unsafe impl Send for Lent {}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the callback and its argument as the caller of C gave them; called once.
            unsafe { release(self.owner) };
        }
    }
}

/// Wraps memory that you describe. No data is copied; shape and strides are. The first element is at
/// `data + byte_offset`; NULL `strides` mean row-major. The memory stays valid until
/// `release(owner)` is called: once, by the thread that frees the last handle. A NULL `release` is for
/// memory that outlives every handle.
///
/// Of `flags`, DLPACK_FLAG_BITMASK_READ_ONLY keeps everybody from writing, and
/// DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED says that elements below a byte take a byte each (of others
/// it says nothing). DLPACK_FLAG_BITMASK_IS_COPIED is allowed and changes nothing; other bits are refused.
///
/// Ownership: borrows `desc`; takes `owner`; returns new, free with dlb_tensor_free().
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
        // SAFETY: the caller's description: shape and strides have `ndim` numbers each.
        let descriptor = unsafe { Descriptor::from_dl_tensor(desc, flags) }.argument("desc")?;
        let owner = Lent { owner, release };
        // SAFETY: the caller of the C function answers for the memory; no Rust view is ever made here.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, flags & READ_ONLY == 0, owner) };
        out.write(Handle::from(tensor).into_raw());
        Ok(())
    })
}

/// Makes a tensor in new memory of the host, of the shape, strides and element type of `desc`, whose `data` and
/// `byte_offset` are ignored, and whose `device` is the CPU: dlb_tensor_to_device() copies to others. NULL `strides` mean row-major; others may leave gaps and be negative,
/// but neither overlap nor interleave. What the memory holds is unspecified; it is aligned to 256 bytes.
///
/// Ownership: borrows `desc`; returns new, free with dlb_tensor_free(); nobody else holds the memory.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_empty(
    desc: Option<&DLTensor>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (desc, out) = (desc.required("desc")?, out.required("out")?);
        let device = device::of(desc.device);
        let cuda = [kDLCUDA, kDLCUDAHost, kDLCUDAManaged].contains(&device.device_type.cast_unsigned());
        if cuda {
            let message =
                format!("desc: new memory is made on the host, not on {device}: use dlb_tensor_to_device()");
            return Err(Failure::new(DLB_ERROR_DEVICE, message));
        }
        device::require("desc", device)?;
        // SAFETY: the caller's description: shape and strides have `ndim` numbers each.
        let layout = unsafe { Layout::from_dl_tensor(desc) }.argument("desc")?;
        if layout.overlaps() {
            let (shape, strides) = (layout.shape().into(), layout.strides().into());
            return Err(Error::SelfOverlap { shape, strides }).argument("desc");
        }
        let DLDataType { code, bits, lanes } = desc.dtype;
        let tensor = Tensor::zeros_with(layout, DType { code, bits, lanes }).argument("desc")?;
        out.write(Handle::from(tensor).into_raw());
        Ok(())
    })
}

/// Gives the address of the first element, to read; NULL when there are no elements. Refuses memory that
/// the host cannot reach. (dlb_tensor_view() has every device's address.)
///
/// Ownership: borrows `tensor`; returns a view that is valid as long as the memory: until its last handle is
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_data(
    tensor: Option<&dlb_tensor>,
    out: Option<&mut MaybeUninit<*const c_void>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        out.write(on_host(tensor)?);
        Ok(())
    })
}

/// Gives the address of the first element, to write to; NULL when there are no elements. Who else reads
/// or writes the memory meanwhile is the caller's affair. Refuses read-only memory, and memory that
/// the host cannot reach.
///
/// Ownership: borrows `tensor`; returns a view that is valid as long as the memory: until its last handle is
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_data_mut(
    tensor: Option<NonNull<dlb_tensor>>,
    out: Option<&mut MaybeUninit<*mut c_void>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, out) = (tensor.required("tensor")?, out.required("out")?);
        // SAFETY: a handle of the caller's. Not a `&mut`: other handles may be the same object.
        let tensor = unsafe { tensor.as_ref() };
        let data = on_host(tensor)?;
        if !tensor.is_writable() {
            return Err(Error::ReadOnly { remedy: "" }).argument("tensor");
        }
        out.write(data);
        Ok(())
    })
}

/// The address of the first element, on the host.
fn on_host(tensor: &dlb_tensor) -> Result<*mut c_void, Failure> {
    let device = device::of(tensor.view().device);
    if device.is_host() {
        return Ok(tensor.view().data);
    }
    Err(Error::NotOnCpu { device, target: "C" }).argument("tensor")
}
