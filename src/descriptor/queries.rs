//! Methods that read a descriptor: address, size and properties of the elements.

#![forbid(unsafe_code)]

use std::ffi::c_void;
use std::ptr::NonNull;

use super::{Descriptor, byte_extent, can_be_padded};
use crate::{DType, Device, Layout, Result};

impl Descriptor {
    /// Returns the address of the first element.
    ///
    /// It has no meaning if there are no elements. On devices whose buffers have handles instead of
    /// addresses (Metal, OpenCL, Vulkan, WebGPU) it is the handle, and the first element is
    /// [`byte_offset`](Self::byte_offset) bytes behind the beginning of the buffer.
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Device, Layout};
    ///
    /// let mut data = [1_u8, 2, 3];
    /// let last = data.as_mut_ptr().wrapping_add(2).cast();
    /// let reversed = Layout::new(&[3], &[-1])?;
    /// let reversed = Descriptor::new(last, reversed, DType::U8, Device::CPU)?;
    /// assert_eq!(reversed.data_ptr(), last); // index 0 is the highest address here
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn data_ptr(&self) -> *mut c_void {
        self.data
    }

    /// Returns the offset (bytes) of the first element in a buffer that has a handle.
    ///
    /// The offset is 0 for memory with addresses.
    ///
    /// ```
    /// use dlbridge::ffi::{DLDataType, DLDevice, DLTensor};
    /// use dlbridge::{Descriptor, Device};
    ///
    /// let mut shape = [3];
    /// let mut tensor = DLTensor {
    ///     data: std::ptr::without_provenance_mut(0x1000),
    ///     device: DLDevice { device_type: 8, device_id: 0 }, // kDLMetal: `data` is a handle
    ///     ndim: 1,
    ///     dtype: DLDataType { code: 2, bits: 32, lanes: 1 },
    ///     shape: shape.as_mut_ptr(),
    ///     strides: std::ptr::null_mut(), // row-major
    ///     byte_offset: 64,
    /// };
    /// // SAFETY: `shape` points to one number, and `strides` is NULL.
    /// let on_metal = unsafe { Descriptor::from_dl_tensor(&tensor, 0) }?;
    /// assert_eq!((on_metal.data_ptr().addr(), on_metal.byte_offset()), (0x1000, 64));
    /// tensor.device.device_type = 1; // kDLCPU: `data` is an address
    /// // SAFETY: `shape` points to one number, and `strides` is NULL.
    /// let on_host = unsafe { Descriptor::from_dl_tensor(&tensor, 0) }?;
    /// assert_eq!((on_host.data_ptr().addr(), on_host.byte_offset()), (0x1040, 0));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn byte_offset(&self) -> usize {
        self.byte_offset
    }

    /// Returns true if all elements of `part` lie within the memory of this description.
    ///
    /// That is the memory from the lowest element to the highest, including gaps. A `part` without
    /// elements only has to be on the same device.
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Layout, Tensor};
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2, 3], [3])?;
    /// let (whole, last) = (tensor.descriptor(), tensor.data_ptr().wrapping_byte_add(2));
    /// let part = Descriptor::new(last, Layout::contiguous([1])?, DType::U8, tensor.device())?;
    /// assert!(whole.contains(&part) && !part.contains(whole));
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

    /// Returns true if the two describe the same elements in the same order: the strides of
    /// dimensions of size 1 are ignored, and the addresses of tensors without elements.
    #[cfg(feature = "torch")]
    pub(crate) fn is_same_elements(&self, other: &Self) -> bool {
        let facts = |one: &Self| (one.dtype, one.device, one.padded);
        let first = |one: &Self| (one.data, one.byte_offset);
        facts(self) == facts(other)
            && self.layout.is_same_order(&other.layout)
            && (self.layout.is_empty() || first(self) == first(other))
    }

    /// Returns the first byte and the end of the elements: as addresses, or as offsets in a buffer
    /// that has a handle. The result is `None` if there are no elements.
    fn byte_range(&self) -> Option<(i128, i128)> {
        let (low, end) = self.byte_extent()?;
        let first = match self.device.has_addresses() {
            true => self.data.addr() as i128,
            false => self.byte_offset as i128,
        };
        Some((first + low, first + end))
    }

    /// Returns the shape and the strides, both in elements.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::zeros::<f32>([2, 3])?;
    /// assert_eq!(tensor.descriptor().layout().strides(), [3, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the element type.
    ///
    /// ```
    /// use dlbridge::{DType, Tensor};
    ///
    /// assert_eq!(Tensor::zeros::<f32>([2, 3])?.descriptor().dtype(), DType::F32);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the device that the memory is on.
    ///
    /// ```
    /// use dlbridge::{Device, Tensor};
    ///
    /// assert_eq!(Tensor::zeros::<f32>([2, 3])?.descriptor().device(), Device::CPU);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns true if elements that are narrower than a byte take a byte each.
    ///
    /// ```
    /// use dlbridge::{DType, Layout, Tensor};
    ///
    /// let packed = Tensor::zeros_with(Layout::contiguous([4])?, DType::scalar(17, 4))?;
    /// assert!(!packed.descriptor().is_padded());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn is_padded(&self) -> bool {
        self.padded
    }

    /// Returns the number of bits that one element takes in memory.
    pub(super) fn stored_bits(&self) -> u32 {
        Self::bits_in_memory(self.dtype, self.padded)
    }

    /// Returns the number of bits that one element takes in memory. `padded` says whether elements
    /// that are narrower than a byte take a byte each.
    pub(crate) fn bits_in_memory(dtype: DType, padded: bool) -> u32 {
        if padded && can_be_padded(dtype) {
            8 * u32::from(dtype.lanes)
        } else {
            dtype.element_bits()
        }
    }

    /// Returns the number of bytes that one element takes in memory, or `None` for packed elements.
    pub(crate) fn itemsize(&self) -> Option<usize> {
        let bits = self.stored_bits();
        bits.is_multiple_of(8).then_some((bits / 8) as usize)
    }

    /// Returns the number of bits in the last byte of contiguous elements, if they end within it.
    pub(crate) fn end_bits(&self) -> Option<u32> {
        let bits = self.layout.len() as u128 * u128::from(self.stored_bits());
        Some((bits % 8) as u32).filter(|&bits| bits > 0)
    }

    /// Returns the number of bytes of all elements, without the gaps between them.
    ///
    /// ```
    /// use dlbridge::{DType, Layout, Tensor};
    ///
    /// let gaps = Tensor::zeros_with(Layout::new(&[2, 3], &[4, 1])?, DType::F32)?;
    /// assert_eq!(gaps.descriptor().nbytes(), 24); // 6 elements of 4 bytes
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn nbytes(&self) -> usize {
        // The product exceeds the address space only if elements overlap.
        let bits = self.layout.len() as u128 * u128::from(self.stored_bits());
        usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
    }

    /// Returns the address of the lowest element, and the number of bytes up to the highest.
    ///
    /// Gaps are included. The address has no meaning on devices whose buffers have handles.
    ///
    /// ```
    /// use dlbridge::{DType, Layout, Tensor};
    ///
    /// let gaps = Tensor::zeros_with(Layout::new(&[2, 3], &[4, 1])?, DType::F32)?;
    /// assert_eq!(gaps.descriptor().span(), (gaps.data_ptr().cast(), 28)); // (4 + 3) * 4 bytes
    /// let reversed = Tensor::zeros_with(Layout::new(&[3], &[-1])?, DType::U8)?;
    /// let lowest = reversed.data_ptr().wrapping_byte_sub(2).cast();
    /// assert_eq!(reversed.descriptor().span(), (lowest, 3));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn span(&self) -> (*mut u8, usize) {
        let start = self.data.cast::<u8>();
        let Some((low, end)) = self.byte_extent() else { return (start, 0) };
        (start.wrapping_offset(low as isize), (end - low) as usize)
    }

    /// Returns the bytes from the lowest element to the highest, which must be host memory. Without
    /// elements, the address dangles and there are no bytes.
    pub(crate) fn host_span(&self, target: &'static str) -> Result<NonNull<[u8]>> {
        self.require_host(target)?;
        let (start, bytes) = self.span();
        // With elements there is an address: the invariant of a descriptor.
        let start = NonNull::new(start).filter(|_| bytes > 0).unwrap_or(NonNull::dangling());
        Ok(NonNull::slice_from_raw_parts(start, bytes))
    }

    /// Returns the distances from the first element to the lowest byte and to the end of the
    /// highest element, or `None` if there are no elements.
    pub(super) fn byte_extent(&self) -> Option<(i128, i128)> {
        byte_extent(&self.layout, self.stored_bits())
    }
}
