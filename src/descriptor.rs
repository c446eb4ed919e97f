//! What a buffer looks like: where its first element is, its layout, element type and device.

use std::ffi::c_void;
use std::ptr::NonNull;

use crate::{DType, Device, Element, Error, Layout, Result};

/// Where a buffer's first element is, and how to reach the others.
///
/// Describes memory; owns none and promises nothing about it. The promise is made when a descriptor
/// goes into [`Tensor::from_raw_parts`](crate::Tensor::from_raw_parts).
///
/// Invariants: the element type has a size; the bytes from the lowest element to the highest fit an
/// `isize` and, for host memory, the address space; a buffer with elements has an address;
/// `byte_offset` is 0 on devices whose addresses can be computed: the host, CUDA, ROCm and oneAPI.
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
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

impl Descriptor {
    /// Describes memory whose first element (index 0 in every dimension) is at `data`.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] when `data` is NULL although there are elements, or the element
    /// type has no size; [`Error::Overflow`] when the elements do not fit the address space.
    #[inline]
    pub fn new(data: *mut c_void, layout: Layout, dtype: DType, device: Device) -> Result<Self> {
        Self::with_byte_offset(data, 0, layout, dtype, device)
    }

    /// Describes memory whose first element is `byte_offset` bytes behind `data`. On devices whose
    /// memory has addresses the offset is added; elsewhere `data` is a handle, and the offset is
    /// kept beside it.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`Error::InvalidDescriptor`] for an offset that exceeds an
    /// `isize` or the address space.
    #[inline]
    pub(crate) fn with_byte_offset(
        data: *mut c_void,
        byte_offset: u64,
        layout: Layout,
        dtype: DType,
        device: Device,
    ) -> Result<Self> {
        let (data, byte_offset) = match byte_offset {
            0 => (data, 0),
            _ => offset_from(data, byte_offset, device)?,
        };
        Self { data, byte_offset, layout, dtype, device, padded: false }.checked()
    }

    /// Says that elements narrower than a byte take a byte each, instead of being packed; of no
    /// consequence for others.
    ///
    /// # Errors
    /// [`Error::Overflow`] when the elements do not fit the address space that way.
    pub fn padded(self) -> Result<Self> {
        Self { padded: self.dtype.bits < 8, ..self }.checked()
    }

    /// The same elements as elements of another type.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_dtype(self, dtype: DType) -> Result<Self> {
        Self { dtype, padded: self.padded && dtype.bits < 8, ..self }.checked()
    }

    /// For host memory whose owner guarantees the invariants already.
    #[inline]
    pub(crate) fn from_checked<T: Element>(data: *mut T, layout: Layout) -> Self {
        Self::on_host(data.cast(), layout, T::DTYPE)
    }

    fn on_host(data: *mut c_void, layout: Layout, dtype: DType) -> Self {
        Self { data, byte_offset: 0, layout, dtype, device: Device::CPU, padded: false }
    }

    /// For memory whose elements lie within an allocation that exists.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] when `data` is NULL although there are elements.
    #[cfg(feature = "torch")]
    #[inline]
    pub(crate) fn from_allocated(
        data: *mut c_void,
        layout: Layout,
        dtype: DType,
        device: Device,
    ) -> Result<Self> {
        let descriptor = Self { data, byte_offset: 0, layout, dtype, device, padded: false };
        if data.is_null() && !descriptor.layout.is_empty() {
            descriptor.checked()
        } else {
            Ok(descriptor)
        }
    }

    /// The same description with another pointer to the same address.
    #[cfg(feature = "ndarray")]
    #[inline]
    pub(crate) fn with_ptr<T>(self, data: *mut T) -> Self {
        Self { data: data.cast(), ..self }
    }

    /// For new host memory of this layout and element type: how many bytes it needs, and where
    /// among them the first element begins.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] when the element type has no size; [`Error::Overflow`].
    pub(crate) fn allocation_size(layout: &Layout, dtype: DType) -> Result<(usize, usize)> {
        dtype_has_size(dtype)?;
        let bits = dtype.element_bits();
        let (low, end) = byte_extent(layout, bits).unwrap_or((0, 0));
        match (usize::try_from(-low), isize::try_from(end - low)) {
            (Ok(first), Ok(bytes)) => Ok((bytes.unsigned_abs(), first)),
            _ => Err(layout.overflow(Some(bits))),
        }
    }

    /// For host memory that was allocated with [`allocation_size`](Self::allocation_size) for these
    /// elements.
    pub(crate) fn in_new_allocation(data: *mut u8, layout: Layout, dtype: DType) -> Self {
        Self::on_host(data.cast(), layout, dtype)
    }

    /// For new host memory that holds the elements of this descriptor in another layout.
    pub(crate) fn relocated(&self, data: *mut u8, layout: Layout) -> Self {
        Self { data: data.cast(), byte_offset: 0, layout, device: Device::CPU, ..*self }
    }

    /// The same elements, on no device: host code and devices refuse them.
    pub(crate) fn detached(&self) -> Self {
        Self { device: Device { device_type: 0, index: 0 }, ..self.clone() }
    }

    /// Whether the elements are on no device.
    pub(crate) fn is_detached(&self) -> bool {
        self.device.device_type == 0
    }

    /// The same for memory of another device.
    #[cfg(feature = "cuda")]
    pub(crate) fn relocated_to_device(
        &self,
        data: *mut u8,
        layout: Layout,
        device: Device,
    ) -> Self {
        Self { device, ..self.relocated(data, layout) }
    }

    #[inline]
    fn checked(self) -> Result<Self> {
        if self.is_ordinary() { Ok(self) } else { self.checked_exactly() }
    }

    /// Whether the invariants hold as they mostly do: elements of whole bytes, all addresses within
    /// the lower half of the address space. `false` says nothing.
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

    fn checked_exactly(self) -> Result<Self> {
        dtype_has_size(self.dtype)?;
        let Some((low, end)) = self.byte_extent() else { return Ok(self) };
        if self.data.is_null() {
            return Err(Error::InvalidDescriptor {
                field: "data".into(),
                value: "NULL".into(),
                reason: "a tensor with elements needs memory (fake and functional tensors have none)",
            });
        }
        let address = self.data.addr() as i128;
        let in_space =
            !self.device.is_host() || (address + low > 0 && address + end <= usize::MAX as i128);
        let beyond = self.byte_offset as i128 + end > isize::MAX as i128;
        if end - low > isize::MAX as i128 || beyond || !in_space {
            return Err(self.layout.overflow(Some(self.stored_bits())));
        }
        Ok(self)
    }

    /// Address of the first element; of no meaning when there are no elements. On devices whose
    /// buffers have handles instead of addresses (Metal, OpenCL, Vulkan, WebGPU) it is the handle,
    /// and the first element is [`byte_offset`](Self::byte_offset) bytes behind the buffer's
    /// beginning.
    #[inline]
    pub fn data_ptr(&self) -> *mut c_void {
        self.data
    }

    /// Distance in bytes of the first element from the beginning of a buffer that has a handle
    /// instead of an address; 0 for all other memory.
    #[inline]
    pub fn byte_offset(&self) -> usize {
        self.byte_offset
    }

    /// Whether all elements of `part`, if it has any, are among the bytes from the lowest element
    /// of this description to the highest, on the same device.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2, 3], [3])?;
    /// assert!(tensor.descriptor().contains(tensor.descriptor()));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn contains(&self, part: &Self) -> bool {
        if part.layout.is_empty() || part.device != self.device {
            return part.device == self.device;
        }
        let (Some(whole), Some(inner)) = (self.byte_range(), part.byte_range()) else {
            return false;
        };
        (self.device.has_addresses() || self.data == part.data)
            && whole.0 <= inner.0
            && inner.1 <= whole.1
    }

    /// First byte and end of the elements: as addresses, or counted from the beginning of a buffer
    /// that has a handle. `None` when there are no elements.
    fn byte_range(&self) -> Option<(i128, i128)> {
        let (low, end) = self.byte_extent()?;
        let first = match self.device.has_addresses() {
            true => self.data.addr() as i128,
            false => self.byte_offset as i128,
        };
        Some((first + low, first + end))
    }

    /// Shape and strides.
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Element type.
    #[inline]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where the memory is.
    #[inline]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether elements narrower than a byte take a byte each.
    #[inline]
    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// Bits that one element takes in memory.
    fn stored_bits(&self) -> u32 {
        Self::bits_in_memory(self.dtype, self.padded)
    }

    /// Bits that one element takes in memory, where those below a byte are `padded` or packed.
    pub(crate) fn bits_in_memory(dtype: DType, padded: bool) -> u32 {
        if padded && dtype.bits < 8 { 8 * u32::from(dtype.lanes) } else { dtype.element_bits() }
    }

    /// Bytes that one element takes in memory, or `None` for packed elements below a byte.
    pub(crate) fn itemsize(&self) -> Option<usize> {
        let bits = self.stored_bits();
        bits.is_multiple_of(8).then_some((bits / 8) as usize)
    }

    /// Bytes of all elements, gaps between them left out.
    pub fn nbytes(&self) -> usize {
        // The elements lie within the address space, or overlap: then the product may exceed it.
        let bits = self.layout.len() as u128 * u128::from(self.stored_bits());
        usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
    }

    /// Address and number of the bytes from the lowest element to the highest. On devices whose
    /// buffers have handles, the address means nothing.
    pub fn span(&self) -> (*mut u8, usize) {
        let start = self.data.cast::<u8>();
        let Some((low, end)) = self.byte_extent() else { return (start, 0) };
        (start.wrapping_offset(low as isize), (end - low) as usize)
    }

    /// The bytes from the lowest element to the highest, on the host; a dangling address and no
    /// bytes when there are no elements.
    pub(crate) fn host_span(&self, target: &'static str) -> Result<NonNull<[u8]>> {
        self.require_host(target)?;
        let (start, bytes) = self.span();
        // With elements there is an address: the invariant of a descriptor.
        let start = NonNull::new(start).filter(|_| bytes > 0).unwrap_or(NonNull::dangling());
        Ok(NonNull::slice_from_raw_parts(start, bytes))
    }

    /// Distances from the first element to the lowest byte and to the end of the highest, or `None`
    /// when there are no elements.
    fn byte_extent(&self) -> Option<(i128, i128)> {
        byte_extent(&self.layout, self.stored_bits())
    }

    /// The error for host code that asks for elements on another device.
    #[inline]
    pub(crate) fn require_host(&self, target: &'static str) -> Result<()> {
        if self.device.is_host() {
            Ok(())
        } else {
            Err(Error::NotOnCpu { device: self.device, target })
        }
    }

    /// The error for another element type than the one asked for.
    #[inline]
    pub(crate) fn require_dtype<T: Element>(&self) -> Result<()> {
        if self.dtype == T::DTYPE {
            return Ok(());
        }
        Err(Error::DTypeMismatch { expected: T::DTYPE, found: self.dtype })
    }

    /// The address of the first `T`: on the host, of the right type, aligned; dangling when there
    /// are no elements. Bools are not looked at.
    #[inline]
    pub(crate) fn host_ptr<T: Element>(&self, target: &'static str) -> Result<NonNull<T>> {
        self.require_host(target)?;
        self.require_dtype::<T>()?;
        let data = self.data.cast::<T>();
        match NonNull::new(data) {
            Some(data) if !self.layout.is_empty() => {
                if data.is_aligned() {
                    return Ok(data);
                }
                let (address, align) = (data.addr().get(), align_of::<T>());
                Err(Error::Misaligned { address, align, dtype: self.dtype })
            }
            _ => Ok(NonNull::dangling()),
        }
    }
}

/// Distances in bytes from the first element to the lowest byte and to the end of the highest one,
/// for elements of `bits` bits; `None` when there are no elements.
fn byte_extent(layout: &Layout, bits: u32) -> Option<(i128, i128)> {
    let ((low, high), bits) = (layout.extent()?, i128::from(bits));
    Some((
        (i128::from(low) * bits).div_euclid(8),
        ((i128::from(high) + 1) * bits + 7).div_euclid(8),
    ))
}

/// The address that is `byte_offset` bytes behind `data`, and 0; the two as they are where `data`
/// is a handle. Without an address there is nothing to be behind.
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
        assert!(far.to_string().contains("and 8-byte elements exceeds"), "{far}");
        let packed = describe(64, &[1 << 62], &[3], DType::scalar(17, 4));
        assert!(packed.expect_err("too far").to_string().contains("whatever its elements"));
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
            Descriptor::with_byte_offset(data, byte_offset, layout, DType::F32, Device::METAL)
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
    }
}
