//! Descriptions in DLPack's form, which may say anything, checked before they are used.

use super::managed::PADDED;
use crate::ffi::{DLDataType, DLTensor};
use crate::layout::measure;
use crate::{DType, Descriptor, Device, Error, Layout, Result};

impl Descriptor {
    /// Reads a description in DLPack's form. Shape and strides are copied; of `flags`, only
    /// `IS_SUBBYTE_TYPE_PADDED` means something here.
    ///
    /// Strides may be NULL (row-major) and `byte_offset` is honoured.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for a description that cannot be right.
    ///
    /// # Safety
    /// * `shape` and `strides` point to `ndim` numbers each, unless they are NULL or misaligned or
    ///   `ndim` is negative.
    pub unsafe fn from_dl_tensor(tensor: &DLTensor, flags: u64) -> Result<Self> {
        // SAFETY: the caller guarantees `ndim` numbers behind both addresses.
        let layout = unsafe { Layout::from_dl_tensor(tensor) }?;
        let DLDataType { code, bits, lanes } = tensor.dtype;
        let dtype = DType { code, bits, lanes };
        if dtype.has_wrong_width() {
            return Err(invalid(
                "dtype.bits",
                bits.to_string(),
                "this type code has another width",
            ));
        }
        let mut data = tensor.data;
        if !data.is_null() {
            let offset = usize::try_from(tensor.byte_offset).ok();
            if offset.and_then(|offset| data.addr().checked_add(offset)).is_none() {
                let reason = "the address exceeds the address space";
                return Err(invalid("byte_offset", tensor.byte_offset.to_string(), reason));
            }
            data = data.wrapping_byte_add(offset.unwrap_or(0));
        }
        let device = Device {
            device_type: tensor.device.device_type.cast_signed(),
            index: tensor.device.device_id,
        };
        let descriptor = Self::new(data, layout, dtype, device)?;
        if flags & PADDED != 0 { descriptor.padded() } else { Ok(descriptor) }
    }
}

impl Layout {
    /// Reads shape and strides of a description in DLPack's form. NULL strides mean row-major.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for what cannot be right.
    ///
    /// # Safety
    /// * As for [`Descriptor::from_dl_tensor`].
    pub unsafe fn from_dl_tensor(tensor: &DLTensor) -> Result<Self> {
        let Ok(ndim) = usize::try_from(tensor.ndim) else {
            let reason = "the number of dimensions cannot be negative";
            return Err(invalid("ndim", tensor.ndim.to_string(), reason));
        };
        // SAFETY: the caller guarantees a shape of `ndim` numbers.
        let Some(shape) = (unsafe { numbers(tensor.shape, ndim) }) else {
            let reason = "a tensor of some rank needs a shape";
            return Err(invalid("shape", address(tensor.shape), reason));
        };
        if tensor.strides.is_null() {
            // Not allowed since DLPack 1.2, yet NumPy and PyTorch take it for row-major in all
            // versions.
            return Self::contiguous(shape);
        }
        // SAFETY: the caller guarantees strides of `ndim` numbers.
        match unsafe { numbers(tensor.strides, ndim) } {
            Some(strides) => Self::new(shape, strides),
            None => Err(invalid("strides", address(tensor.strides), "the address is misaligned")),
        }
    }
}

fn address(numbers: *const i64) -> String {
    if numbers.is_null() { "NULL".into() } else { format!("{numbers:?}") }
}

#[cold]
pub(super) fn invalid(field: &str, value: String, reason: &'static str) -> Error {
    Error::InvalidDescriptor { field: field.into(), value, reason }
}

/// # Safety
/// * Unless it is NULL or misaligned, `start` points to `count` numbers that stay as they are for
///   `'a`.
#[inline]
unsafe fn numbers<'a>(start: *const i64, count: usize) -> Option<&'a [i64]> {
    if count == 0 {
        return Some(&[]);
    }
    if start.is_null() || !start.is_aligned() {
        return None;
    }
    // SAFETY: not NULL and aligned; the caller guarantees `count` numbers that do not change.
    Some(unsafe { std::slice::from_raw_parts(start, count) })
}

/// Whether a description says everything as it should be said and is right: strides, no offset, at
/// least one element, nothing near the end of the address space. `false` says nothing.
///
/// # Safety
/// * As for [`Descriptor::from_dl_tensor`].
#[inline]
pub(super) unsafe fn is_ordinary(tensor: &DLTensor, flags: u64) -> bool {
    let Ok(ndim) = usize::try_from(tensor.ndim) else { return false };
    // SAFETY: the caller guarantees a shape of `ndim` numbers.
    let shape = unsafe { numbers(tensor.shape, ndim) };
    // SAFETY: the caller guarantees strides of `ndim` numbers.
    let strides = unsafe { numbers(tensor.strides, ndim) };
    let (Some(shape), Some(strides)) = (shape, strides) else { return false };
    let DLDataType { code, bits, lanes } = tensor.dtype;
    let dtype = DType { code, bits, lanes };
    match measure(shape, strides) {
        Some(measured)
            if tensor.byte_offset == 0 && flags & PADDED == 0 && !dtype.has_wrong_width() =>
        {
            Descriptor::is_ordinary(tensor.data, measured.extent, dtype.itemsize())
        }
        _ => false,
    }
}
