//! Descriptions in DLPack's form, which may say anything, checked before they are used.

use super::managed::PADDED;
use crate::ffi::{DLDataType, DLTensor};
use crate::{DType, Descriptor, Device, Error, Layout, Result};

impl Descriptor {
    /// Reads a description in DLPack's form. Shape and strides are copied, each number is read
    /// once, and the copy is what is checked; of `flags`, only `IS_SUBBYTE_TYPE_PADDED` means
    /// something here.
    ///
    /// Strides may be NULL (row-major), and `byte_offset` is honoured: it is added to the address,
    /// or kept where `data` is the handle of a buffer ([`byte_offset`](Self::byte_offset)).
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for a description that cannot be right.
    ///
    /// # Safety
    /// * `shape` and `strides` each point to `ndim` numbers that are valid for reads during the
    ///   call, unless they are NULL or misaligned or `ndim` is negative.
    pub unsafe fn from_dl_tensor(tensor: &DLTensor, flags: u64) -> Result<Self> {
        let DLTensor { data, byte_offset, .. } = *tensor;
        let DLDataType { code, bits, lanes } = tensor.dtype;
        let dtype = DType { code, bits, lanes };
        // SAFETY: the caller guarantees `ndim` numbers behind both addresses.
        let layout = unsafe { Layout::from_dl_tensor(tensor) }.map_err(|error| {
            error.with_element_bits(Self::bits_in_memory(dtype, flags & PADDED != 0))
        })?;
        if dtype.has_wrong_width() {
            return Err(invalid(
                "dtype.bits",
                bits.to_string(),
                "this type code has another width",
            ));
        }
        let device = Device {
            device_type: tensor.device.device_type.cast_signed(),
            index: tensor.device.device_id,
        };
        let descriptor = Self::with_byte_offset(data, byte_offset, layout, dtype, device)?;
        if flags & PADDED != 0 { descriptor.padded() } else { Ok(descriptor) }
    }
}

impl Layout {
    /// Reads shape and strides of a description in DLPack's form. They are copied, each number is
    /// read once, and the copy is what is checked. NULL strides mean row-major.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for what cannot be right.
    ///
    /// # Safety
    /// * As for [`Descriptor::from_dl_tensor`].
    pub unsafe fn from_dl_tensor(tensor: &DLTensor) -> Result<Self> {
        let DLTensor { ndim, shape, strides, .. } = *tensor;
        let Ok(rank) = usize::try_from(ndim) else {
            let reason = "the number of dimensions cannot be negative";
            return Err(invalid("ndim", ndim.to_string(), reason));
        };
        if rank > 0 && (shape.is_null() || !shape.is_aligned()) {
            let reason = "a tensor of some rank needs a shape";
            return Err(invalid("shape", address(shape), reason));
        }
        if rank > 0 && !strides.is_aligned() {
            return Err(invalid("strides", address(strides), "the address is misaligned"));
        }
        // SAFETY: not NULL and aligned, or of rank 0; the caller guarantees `ndim` numbers.
        let sizes = unsafe { numbers(shape, rank) };
        if strides.is_null() {
            // Not allowed since DLPack 1.2, yet NumPy and PyTorch take it for row-major in all
            // versions.
            return Self::copied_contiguous(rank, sizes);
        }
        // SAFETY: as above.
        let steps = unsafe { numbers(strides, rank) };
        Self::copied(rank, sizes, steps)
    }
}

fn address(numbers: *const i64) -> String {
    if numbers.is_null() { "NULL".into() } else { format!("{numbers:?}") }
}

#[cold]
pub(super) fn invalid(field: &str, value: String, reason: &'static str) -> Error {
    Error::InvalidDescriptor { field: field.into(), value, reason }
}

/// The numbers from `start` on, each read once: the compiler may not read a volatile number again,
/// should another thread write it meanwhile.
///
/// # Safety
/// * `start` is aligned, and points to `count` numbers that are valid for reads until the iterator
///   is dropped.
#[inline]
unsafe fn numbers(start: *const i64, count: usize) -> impl Iterator<Item = i64> {
    // SAFETY: within the `count` numbers that the caller guarantees.
    (0..count).map(move |index| unsafe { start.wrapping_add(index).read_volatile() })
}
