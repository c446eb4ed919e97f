//! Libtorch tensors over buffers of this crate, and copies in memory that libtorch allocates.

use std::ffi::c_void;

use super::bindings::{dlb_torch_empty, dlb_torch_from_blob};
use super::dtype::is_supported;
use super::shim::make;
use super::tensor_info::EMPTY_ADDRESS;
use crate::buffer::advise_huge_pages;
use crate::copy::Memory;
use crate::ffi::{DLDataType, DLDevice};
use crate::layout::TORCH_RANK;
use crate::shared_buffer::SharedBuffer;
use crate::storage::Storage;
use crate::{DType, Descriptor, Device, Error, MemoryFormat, Result, cuda, host_copy};

/// The largest index of a device in libtorch, which stores it in 8 bits.
const MAX_INDEX: i32 = 127;

/// Refuses a description that libtorch cannot represent. For some of them libtorch would abort.
#[inline]
pub(super) fn require_representable(descriptor: &Descriptor) -> Result<()> {
    let (dtype, device, layout) = (descriptor.dtype(), descriptor.device(), descriptor.layout());
    if !(device.is_host() || device == Device::cuda(device.index.clamp(0, MAX_INDEX))) {
        return Err(Error::UnsupportedDevice { device, target: "libtorch" });
    }
    if !is_supported(dtype) || descriptor.is_padded() {
        return Err(Error::UnsupportedDType { dtype, target: "libtorch" });
    }
    // Some functions of libtorch keep one bit for each dimension in a mask of 64 bits.
    if layout.ndim() > TORCH_RANK {
        return Err(Error::TooManyDimensions {
            found: layout.ndim(),
            limit: TORCH_RANK,
            target: "libtorch",
        });
    }
    let dims = layout.shape().iter().zip(layout.strides()).enumerate();
    for (dimension, (&size, &stride)) in dims {
        if size > 1 && stride < 0 && !layout.is_empty() {
            return Err(Error::NegativeStride { dimension, stride, target: "libtorch" });
        }
    }
    Ok(())
}

fn dl(dtype: DType) -> DLDataType {
    DLDataType { code: dtype.code, bits: dtype.bits, lanes: dtype.lanes }
}

/// Makes a libtorch tensor over the memory of a buffer. On success libtorch holds the buffer's
/// reference to the storage; on failure the buffer comes back.
///
/// # Safety
/// * [`require_representable`] passed for the buffer's descriptor.
/// * libtorch may read and write the elements as long as it holds the reference.
#[inline]
pub(super) unsafe fn from_buffer(
    buffer: SharedBuffer,
) -> Result<tch::Tensor, (SharedBuffer, Error)> {
    if !buffer.descriptor().device().is_host()
        && let Err(error) = cuda::record_default_stream(&buffer)
    {
        return Err((buffer, error));
    }
    let (storage, descriptor) = buffer.into_parts();
    let context = storage.into_raw();
    // SAFETY: the caller guarantees a representable descriptor; the context is a new reference.
    unsafe { from_context(context, &descriptor) }.map_err(|error| {
        // SAFETY: on failure libtorch did not take the reference.
        let storage = unsafe { Storage::from_raw(context) };
        // SAFETY: `into_parts` took the two from one buffer above.
        (unsafe { SharedBuffer::new(storage, descriptor) }, error)
    })
}

/// # Safety
/// * [`require_representable`] passed for `descriptor`, whose elements the storage of `context`
///   keeps.
/// * `context` came from [`Storage::into_raw`]; libtorch takes its reference over on success.
#[inline]
unsafe fn from_context(context: *mut c_void, descriptor: &Descriptor) -> Result<tch::Tensor> {
    let (layout, device) = (descriptor.layout(), descriptor.device());
    let (strides, dtype) = (layout.strides(), dl(descriptor.dtype()));
    let data = if layout.is_empty() { EMPTY_ADDRESS } else { descriptor.data_ptr() };
    let device =
        DLDevice { device_type: device.device_type.cast_unsigned(), device_id: device.index };
    let (shape, rank) = (layout.shape().as_ptr(), layout.ndim());
    // SAFETY: `require_representable` and the invariants of a descriptor: sizes, and strides that
    // mean something, are not negative and stay within the address space. The context begins with a
    // `dlb_torch_context` (asserted in `storage`).
    make(|out| unsafe {
        dlb_torch_from_blob(data, shape, strides.as_ptr(), rank, dtype, device, context, out)
    })
}

/// Copies the elements of `source` into a new libtorch tensor, whose memory libtorch allocates.
///
/// # Safety
/// * The elements of `source` are readable, as far as they are on the host.
pub(super) unsafe fn copy_of(source: &Descriptor) -> Result<tch::Tensor> {
    source.require_host("libtorch CPU tensor")?;
    let layout = source.layout().cloned(MemoryFormat::Preserve)?;
    require_representable(&source.relocated(source.data_ptr().cast(), layout.clone()))?;
    host_copy::require_copyable(source)?;
    let (strides, dtype) = (layout.strides(), dl(source.dtype()));
    let (shape, rank) = (layout.shape().as_ptr(), layout.ndim());
    // SAFETY: `require_representable` passed: sizes, and strides that mean something, are not
    // negative.
    let tensor = make(|out| unsafe { dlb_torch_empty(shape, strides.as_ptr(), rank, dtype, out) })?;
    let target = tensor.data_ptr().cast::<u8>();
    advise_huge_pages(target, source.nbytes());
    // SAFETY: libtorch allocated the memory just above, with room for the elements in this layout.
    unsafe { host_copy::copy_elements(source, target, &layout, Memory::Fresh) };
    Ok(tensor)
}
