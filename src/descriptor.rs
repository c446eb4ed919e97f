//! The description of a buffer: address of the first element, layout, element type and device.

mod queries;
mod views;

use std::ffi::c_void;
use std::ptr::NonNull;

use crate::{DType, Device, Element, Error, Layout, Result};

/// The description of a buffer: address of the first element, layout, element type and device.
///
/// A descriptor owns no memory, and the memory need not exist. The caller guarantees that it does
/// when a descriptor is passed to [`Tensor::from_raw_parts`](crate::Tensor::from_raw_parts).
///
/// Invariants: The element type has a size. The bytes from the lowest element to the highest fit an
/// `isize` and, for host memory, the address space. A buffer with elements has an address.
/// `byte_offset` is 0 on devices where a pointer is an address: the host, CUDA, ROCm and oneAPI.
///
/// ```
/// use dlbridge::{DType, Descriptor, Device, Layout};
///
/// let mut pixels = [0_u16; 12];
/// let rows = Layout::new(&[3, 2], &[4, 1])?; // three rows of two pixels, four pixels apart
/// let described = Descriptor::new(pixels.as_mut_ptr().cast(), rows, DType::U16, Device::CPU)?;
/// assert_eq!(described.nbytes(), 12); // 6 elements of 2 bytes
/// assert_eq!(described.span().1, 20); // and the gaps between the rows
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Descriptor {
    data: *mut c_void,
    byte_offset: usize,
    layout: Layout,
    dtype: DType,
    device: Device,
    padded: bool,
}

// SAFETY: a descriptor is an address and some numbers; no method reads through the address.
unsafe impl Send for Descriptor {}
// SAFETY: a shared reference only gives out the address and the numbers, and nothing changes them.
unsafe impl Sync for Descriptor {}

impl Descriptor {
    /// Describes memory whose first element (index 0 in every dimension) is at `data`.
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Device, Error, Layout};
    ///
    /// let (nowhere, layout) = (std::ptr::null_mut(), Layout::contiguous([2, 3])?);
    /// let error = Descriptor::new(nowhere, layout, DType::F32, Device::CPU).unwrap_err();
    /// assert!(matches!(error, Error::InvalidDescriptor { field, .. } if field == "data"));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] if `data` is NULL although there are elements, or if the
    /// element type has no size; [`Error::Overflow`] if the elements do not fit the address space.
    #[inline]
    pub fn new(data: *mut c_void, layout: Layout, dtype: DType, device: Device) -> Result<Self> {
        Self::with_byte_offset((data, 0), layout, dtype, device, false)
    }

    /// Describes memory whose first element is `byte_offset` bytes behind `data`. If `data` is an
    /// address, the offset is added to it. If `data` is the handle of a buffer, the descriptor
    /// keeps the offset. `padded` says that elements narrower than a byte take a byte each.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`Error::InvalidDescriptor`] for an offset that exceeds an
    /// `isize` or the address space.
    #[inline(always)]
    pub(crate) fn with_byte_offset(
        (data, byte_offset): (*mut c_void, u64),
        layout: Layout,
        dtype: DType,
        device: Device,
        padded: bool,
    ) -> Result<Self> {
        let (data, byte_offset) = match byte_offset {
            0 => (data, 0),
            _ => offset_from(data, byte_offset, device)?,
        };
        let padded = padded && can_be_padded(dtype);
        Self { data, byte_offset, layout, dtype, device, padded }.checked()
    }

    /// Changes the description to elements that take a byte each instead of being packed.
    ///
    /// The change applies to elements that are narrower than a byte; others stay as they are.
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Device, Layout};
    ///
    /// let mut bytes = [0_u8; 4];
    /// let float4 = DType::scalar(17, 4); // kDLFloat4_e2m1fn
    /// let layout = Layout::contiguous([4])?;
    /// let packed = Descriptor::new(bytes.as_mut_ptr().cast(), layout, float4, Device::CPU)?;
    /// assert_eq!(packed.nbytes(), 2);
    /// assert_eq!(packed.padded()?.nbytes(), 4);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Overflow`] if the padded elements do not fit the address space.
    pub fn padded(self) -> Result<Self> {
        Self { padded: can_be_padded(self.dtype), ..self }.checked()
    }

    /// Changes the element type; address, layout (in elements) and device stay.
    ///
    /// ```
    /// use dlbridge::{DType, Tensor};
    ///
    /// let floats = Tensor::zeros::<f32>([2, 3])?;
    /// let bits = floats.descriptor().clone().with_dtype(DType::U32)?;
    /// assert_eq!((bits.dtype(), bits.data_ptr()), (DType::U32, floats.data_ptr()));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_dtype(self, dtype: DType) -> Result<Self> {
        Self { dtype, padded: self.padded && can_be_padded(dtype), ..self }.checked()
    }

    /// Describes host memory whose owner guarantees the invariants: a `Vec`, a slice, an array.
    #[inline]
    pub(crate) fn from_checked<T: Element>(data: *mut T, layout: Layout) -> Self {
        Self::on_host(data.cast(), layout, T::DTYPE)
    }

    fn on_host(data: *mut c_void, layout: Layout, dtype: DType) -> Self {
        Self { data, byte_offset: 0, layout, dtype, device: Device::CPU, padded: false }
    }

    /// Describes memory whose elements lie within an allocation that exists.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] if `data` is NULL although there are elements.
    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn from_allocated(
        data: *mut c_void,
        layout: Layout,
        dtype: DType,
        device: Device,
    ) -> Result<Self> {
        if data.is_null() && !layout.is_empty() {
            return Err(null_data());
        }
        Ok(Self { data, byte_offset: 0, layout, dtype, device, padded: false })
    }

    /// Replaces the pointer by another pointer to the same address.
    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn with_ptr<T>(self, data: *mut T) -> Self {
        Self { data: data.cast(), ..self }
    }

    /// Returns the number of bytes that new host memory of this layout and element type needs, and
    /// the offset of the first element in it.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] if the element type has no size; [`Error::Overflow`].
    pub(crate) fn allocation_size(layout: &Layout, dtype: DType) -> Result<(usize, usize)> {
        dtype_has_size(dtype)?;
        let bits = dtype.element_bits();
        let (low, end) = byte_extent(layout, bits).unwrap_or((0, 0));
        match (usize::try_from(-low), isize::try_from(end - low)) {
            (Ok(first), Ok(bytes)) => Ok((bytes.unsigned_abs(), first)),
            _ => Err(layout.overflow(Some(bits))),
        }
    }

    /// Describes host memory that was allocated with [`allocation_size`](Self::allocation_size) for
    /// these elements.
    pub(crate) fn in_new_allocation(data: *mut u8, layout: Layout, dtype: DType) -> Self {
        Self::on_host(data.cast(), layout, dtype)
    }

    /// Describes new host memory that holds the elements of this descriptor in another layout.
    pub(crate) fn relocated(&self, data: *mut u8, layout: Layout) -> Self {
        Self { data: data.cast(), byte_offset: 0, layout, device: Device::CPU, ..*self }
    }

    /// Changes the device to device type 0, which no device has: host code and devices refuse it.
    pub(crate) fn detached(&self) -> Self {
        Self { device: Device { device_type: 0, index: 0 }, ..self.clone() }
    }

    /// Returns true for a [`detached`](Self::detached) description.
    pub(crate) fn is_detached(&self) -> bool {
        self.device.device_type == 0
    }

    /// Describes new memory of a device that holds the elements of this descriptor in another
    /// layout.
    #[cfg(feature = "cuda")]
    pub(crate) fn relocated_to_device(
        &self,
        data: *mut u8,
        layout: Layout,
        device: Device,
    ) -> Self {
        Self { device, ..self.relocated(data, layout) }
    }

    /// Returns the description if it has the invariants.
    #[inline(always)]
    fn checked(self) -> Result<Self> {
        if !self.is_ordinary() {
            self.check_exactly()?;
        }
        Ok(self)
    }

    /// Returns true if the invariants hold in the usual case: elements of whole bytes, all
    /// addresses in the lower half of the address space. If the result is false, they may hold
    /// nevertheless.
    #[inline]
    fn is_ordinary(&self) -> bool {
        let inside = || {
            let (low, high) = self.layout.extent()?;
            let itemsize = i64::try_from(self.itemsize()?).ok()?;
            let address = i64::try_from(self.data.addr()).ok()?;
            let first = address.checked_add(low.checked_mul(itemsize)?)?;
            let end = address.checked_add(high.checked_add(1)?.checked_mul(itemsize)?)?;
            Some(itemsize > 0 && address > 0 && first > 0 && isize::try_from(end).is_ok())
        };
        self.byte_offset == 0 && inside().unwrap_or(false)
    }

    #[cold]
    fn check_exactly(&self) -> Result<()> {
        dtype_has_size(self.dtype)?;
        let Some((low, end)) = self.byte_extent() else { return Ok(()) };
        if self.data.is_null() {
            return Err(null_data());
        }
        let address = self.data.addr() as i128;
        let in_space =
            !self.device.is_host() || (address + low > 0 && address + end <= usize::MAX as i128);
        let beyond = self.byte_offset as i128 + end > isize::MAX as i128;
        if end - low > isize::MAX as i128 || beyond || !in_space {
            return Err(self.layout.overflow(Some(self.stored_bits())));
        }
        Ok(())
    }

    /// Fails unless the elements are in host memory. `target` is what they were to become.
    #[inline]
    pub(crate) fn require_host(&self, target: &'static str) -> Result<()> {
        if self.device.is_host() {
            Ok(())
        } else {
            Err(Error::NotOnCpu { device: self.device, target })
        }
    }

    /// Fails unless the elements have the type `T`.
    #[inline]
    pub(crate) fn require_dtype<T: Element>(&self) -> Result<()> {
        if self.dtype == T::DTYPE {
            return Ok(());
        }
        Err(Error::DTypeMismatch { expected: T::DTYPE, found: self.dtype })
    }

    /// Returns the address of the first element after three checks: the memory is on the host, its
    /// element type is that of `T`, and the address is aligned. Without elements, the address
    /// dangles. Bytes of type `bool` are not checked.
    #[inline]
    pub(crate) fn host_ptr<T: Element>(&self, target: &'static str) -> Result<NonNull<T>> {
        self.typed_host_ptr().ok_or_else(|| self.why_not_host_ptr::<T>(target))
    }

    /// As [`host_ptr`](Self::host_ptr), but does not say which check failed.
    #[inline]
    pub(crate) fn typed_host_ptr<T: Element>(&self) -> Option<NonNull<T>> {
        if !self.device.is_host() || self.dtype != T::DTYPE {
            return None;
        }
        match NonNull::new(self.data.cast::<T>()) {
            Some(data) if !self.layout.is_empty() => data.is_aligned().then_some(data),
            _ => Some(NonNull::dangling()),
        }
    }

    #[cold]
    fn why_not_host_ptr<T: Element>(&self, target: &'static str) -> Error {
        let checked = self.require_host(target).and_then(|()| self.require_dtype::<T>());
        let (address, align) = (self.data.addr(), align_of::<T>());
        checked.err().unwrap_or(Error::Misaligned { address, align, dtype: self.dtype })
    }
}

/// Returns the distances (bytes) from the first element to the lowest byte and to the end of the
/// highest element, for elements of `bits` bits; `None` if there are no elements.
fn byte_extent(layout: &Layout, bits: u32) -> Option<(i128, i128)> {
    let ((low, high), bits) = (layout.extent()?, i128::from(bits));
    Some((
        (i128::from(low) * bits).div_euclid(8),
        ((i128::from(high) + 1) * bits + 7).div_euclid(8),
    ))
}

/// Returns the address that is `byte_offset` bytes behind `data`, and 0. If `data` is a handle, the
/// two are returned unchanged. NULL stays NULL, without an offset.
fn offset_from(
    data: *mut c_void,
    byte_offset: u64,
    device: Device,
) -> Result<(*mut c_void, usize)> {
    let invalid = |reason| Error::InvalidDescriptor {
        field: "byte_offset".into(),
        value: byte_offset.to_string(),
        reason,
    };
    let Ok(offset) = isize::try_from(byte_offset) else {
        return Err(invalid("no buffer is as large as that"));
    };
    let offset = offset.unsigned_abs();
    if data.is_null() {
        return Ok((data, 0));
    }
    if !device.has_addresses() {
        return Ok((data, offset));
    }
    match data.addr().checked_add(offset) {
        Some(_) => Ok((data.wrapping_byte_add(offset), 0)),
        None => Err(invalid("the address exceeds the address space")),
    }
}

/// Whether elements of the type can take a byte each instead of being packed.
fn can_be_padded(dtype: DType) -> bool {
    (1..8).contains(&dtype.bits)
}

#[cold]
fn null_data() -> Error {
    Error::InvalidDescriptor {
        field: "data".into(),
        value: "NULL".into(),
        reason: "a tensor with elements needs memory (fake and functional tensors have none)",
    }
}

fn dtype_has_size(dtype: DType) -> Result<()> {
    for (field, value) in [("dtype.bits", dtype.bits.into()), ("dtype.lanes", dtype.lanes)] {
        if value == 0 {
            let reason = "an element must have a size";
            return Err(Error::InvalidDescriptor {
                field: field.into(),
                value: "0".into(),
                reason,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(data: usize, shape: &[i64], strides: &[i64], dtype: DType) -> Result<Descriptor> {
        let data = std::ptr::without_provenance_mut(data);
        Descriptor::new(data, Layout::new(shape, strides)?, dtype, Device::CPU)
    }

    #[test]
    fn hostile_addresses_are_refused() {
        assert!(matches!(describe(0, &[1], &[1], DType::U8), Err(Error::InvalidDescriptor { .. })));
        assert!(describe(0, &[0], &[1], DType::U8).is_ok());
        assert!(matches!(describe(64, &[100], &[-1], DType::U8), Err(Error::Overflow { .. })));
        assert!(matches!(
            describe(usize::MAX - 3, &[2], &[1], DType::F32),
            Err(Error::Overflow { .. })
        ));
        assert!(matches!(describe(64, &[1 << 61], &[1], DType::F64), Err(Error::Overflow { .. })));
        let far = describe(64, &[2], &[1 << 62], DType::F64).expect_err("too far");
        assert!(far.to_string().contains("and 8-byte elements exceed"), "{far}");
        let packed = describe(64, &[1 << 62], &[3], DType::scalar(17, 4));
        assert!(packed.expect_err("too far").to_string().contains("for every element type"));
        let packed = describe(64, &[2], &[i64::MAX / 2], DType::scalar(17, 32));
        assert!(packed.expect_err("too far").to_string().contains("4-byte elements"));
    }

    #[test]
    fn host_addresses_of_nothing_dangle() {
        for address in [0, 1, usize::MAX] {
            let empty = describe(address, &[2, 0], &[-1, 3], DType::F64).expect("valid");
            assert_eq!(empty.host_ptr::<f64>("test"), Ok(NonNull::dangling()));
            assert_eq!(empty.host_span("test").expect("host").len(), 0);
        }
        let three = describe(64, &[3], &[-2], DType::U8).expect("valid");
        let span = three.host_span("test").expect("host");
        assert_eq!((span.addr().get(), span.len()), (60, 5));
    }

    #[test]
    fn elements_without_a_size_are_refused() {
        for dtype in [DType::scalar(2, 0), DType { lanes: 0, ..DType::F32 }] {
            assert!(matches!(
                describe(64, &[1], &[1], dtype),
                Err(Error::InvalidDescriptor { .. })
            ));
        }
    }

    #[test]
    fn handles_of_buffers_are_not_addresses() {
        let metal = |byte_offset, shape: &[i64]| {
            let data = std::ptr::without_provenance_mut(0x1000);
            let layout = Layout::contiguous(shape)?;
            let (dtype, device) = (DType::F32, Device::METAL);
            Descriptor::with_byte_offset((data, byte_offset), layout, dtype, device, false)
        };
        let part = metal(8, &[2]).expect("valid");
        assert_eq!((part.data_ptr().addr(), part.byte_offset()), (0x1000, 8));
        let whole = metal(0, &[4]).expect("valid");
        assert!(whole.contains(&part) && !part.contains(&whole));
        assert!(!whole.contains(&metal(12, &[2]).expect("valid")));
        assert!(whole.contains(&metal(100, &[0]).expect("valid")), "nothing is anywhere");
        let far = isize::MAX as u64;
        assert!(matches!(metal(far - 4, &[2]), Err(Error::Overflow { .. })));
        assert!(matches!(metal(far + 1, &[2]), Err(Error::InvalidDescriptor { .. })));
    }

    #[test]
    fn narrow_elements_are_packed_or_padded() {
        let fp4 = describe(64, &[5], &[1], DType::scalar(17, 4)).expect("valid");
        assert_eq!((fp4.nbytes(), fp4.itemsize()), (3, None));
        let padded = fp4.padded().expect("valid");
        assert_eq!((padded.nbytes(), padded.itemsize()), (5, Some(1)));
        let no_bits = padded.with_dtype(DType::scalar(17, 0));
        assert!(
            matches!(no_bits, Err(Error::InvalidDescriptor { field, .. }) if field == "dtype.bits")
        );
    }
}
