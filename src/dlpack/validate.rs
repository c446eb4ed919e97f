//! Checks of descriptions of other libraries, before they are used.

use super::managed::PADDED;
use crate::ffi::{DLDataType, DLTensor};
use crate::{DType, Descriptor, Device, Error, Layout, Result};

impl Descriptor {
    /// Reads and checks a `DLTensor`.
    ///
    /// Every size and every stride is read once, and the copies are checked. Strides may be NULL,
    /// which means row-major. `byte_offset` is added to `data` if `data` is an address. If `data`
    /// is the handle of a buffer, the descriptor keeps the offset: see
    /// [`byte_offset`](Self::byte_offset). Of `flags`, only `IS_SUBBYTE_TYPE_PADDED` is used.
    ///
    /// ```
    /// use dlbridge::{Descriptor, Error, Tensor};
    ///
    /// let tensor = Tensor::zeros::<f32>([2, 3])?;
    /// let mut described = tensor.as_dl_tensor();
    /// // SAFETY: shape and strides point into `tensor`, which lives.
    /// let descriptor = unsafe { Descriptor::from_dl_tensor(&described, 0) }?;
    /// assert_eq!(descriptor.layout(), tensor.layout());
    ///
    /// described.dtype.bits = 0;
    /// // SAFETY: shape and strides point into `tensor`, which lives.
    /// let error = unsafe { Descriptor::from_dl_tensor(&described, 0) }.unwrap_err();
    /// assert!(matches!(error, Error::InvalidDescriptor { field, .. } if field == "dtype.bits"));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for a description with values that
    /// cannot be right.
    ///
    /// # Safety
    /// * `shape` and `strides` each point to `ndim` numbers that are valid for reads during the
    ///   call, unless they are NULL or misaligned or `ndim` is negative.
    #[inline]
    pub unsafe fn from_dl_tensor(tensor: &DLTensor, flags: u64) -> Result<Self> {
        let DLTensor { data, byte_offset, .. } = *tensor;
        let DLDataType { code, bits, lanes } = tensor.dtype;
        let dtype = DType { code, bits, lanes };
        // SAFETY: the caller guarantees that `shape` and `strides` point to `ndim` numbers.
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
        let padded = flags & PADDED != 0;
        Self::with_byte_offset((data, byte_offset), layout, dtype, device, padded)
    }
}

impl Layout {
    /// Reads and checks the shape and the strides of a `DLTensor`.
    ///
    /// Every size and every stride is read once, and the copies are checked. NULL strides mean
    /// row-major.
    ///
    /// ```
    /// use dlbridge::{Layout, Tensor};
    ///
    /// let tensor = Tensor::zeros::<f32>([2, 3])?;
    /// let mut described = tensor.as_dl_tensor();
    /// described.strides = std::ptr::null_mut();
    /// // SAFETY: the shape points into `tensor`, which lives, and `strides` is NULL.
    /// assert_eq!(unsafe { Layout::from_dl_tensor(&described) }?.strides(), [3, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for a shape or strides with values that
    /// cannot be right.
    ///
    /// # Safety
    /// * As for [`Descriptor::from_dl_tensor`].
    #[inline]
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
        // SAFETY: checked just above: `shape` is not NULL and is aligned, unless the rank is 0. The
        // caller guarantees that it points to `ndim` numbers.
        let sizes = unsafe { numbers(shape, rank) };
        if strides.is_null() {
            // DLPack does not allow NULL since version 1.2, but NumPy and PyTorch read it as
            // row-major in all versions.
            return Self::copied_contiguous(rank, sizes);
        }
        // SAFETY: checked just above: `strides` is aligned and not NULL, unless the rank is 0. The
        // caller guarantees that it points to `ndim` numbers.
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

/// Reads `count` numbers from `start` on, each of them once. The reads are volatile, so that the
/// compiler does not read a number twice: another thread may write it meanwhile.
///
/// # Safety
/// * `start` is aligned, and points to `count` numbers that are valid for reads until the iterator
///   is dropped.
#[inline]
unsafe fn numbers(start: *const i64, count: usize) -> impl Iterator<Item = i64> {
    // SAFETY: `index` is below `count`, and the caller guarantees `count` aligned, readable
    // numbers.
    (0..count).map(move |index| unsafe { start.wrapping_add(index).read_volatile() })
}
