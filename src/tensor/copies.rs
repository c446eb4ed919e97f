//! Deep copies into new memory, and copies into existing memory.

use super::Tensor;
#[cfg(doc)]
use crate::Access;
use crate::buffer::advise_huge_pages;
use crate::copy::Memory;
use crate::cuda::{self, Stream};
use crate::host_copy::{self, require_copyable, unsupported};
use crate::{Device, Error, MemoryFormat, Remedy, Result};

impl Tensor {
    /// Copies the elements into new memory on the same device, as `torch.clone` does.
    ///
    /// The copy keeps the order of the strides, but has no gaps. Elements that shared an address
    /// (broadcast or overlapping ones) become separate elements. The result is
    /// [`Access::Exclusive`]. A copy on the host is in ordinary memory, aligned to 256 bytes, or to
    /// 2 MiB if it has 4 MiB or more.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1_i32, 2, 3], [3])?;
    /// let mut copy = tensor.deep_clone()?;
    /// copy.as_slice_mut::<i32>()?[0] = 10;
    /// assert_eq!(tensor.to_vec::<i32>()?, [1, 2, 3]); // memory of its own
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] if DLPack does not define the element type, or if packed
    /// elements are not contiguous; [`Error::OutOfMemory`]; for memory that is not on the host, the
    /// errors of [`to_device`](Self::to_device).
    pub fn deep_clone(&self) -> Result<Self> {
        self.deep_clone_with(MemoryFormat::Preserve)
    }

    /// Copies the elements into new memory on the same device, in the order that `format` names.
    ///
    /// ```
    /// use dlbridge::{MemoryFormat, Tensor};
    ///
    /// let nchw = Tensor::zeros::<f32>([1, 3, 4, 4])?;
    /// let nhwc = nchw.deep_clone_with(MemoryFormat::ChannelsLast)?;
    /// assert_eq!(nhwc.strides(), [48, 1, 12, 3]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`deep_clone`](Self::deep_clone), and [`Error::RankMismatch`] unless the rank is 4
    /// for [`MemoryFormat::ChannelsLast`], or 5 for [`MemoryFormat::ChannelsLast3d`].
    pub fn deep_clone_with(&self, format: MemoryFormat) -> Result<Self> {
        self.check_address()?;
        let copied = if self.device().is_host() {
            // SAFETY: the elements of a tensor are readable.
            unsafe { host_copy::deep_copy(self.descriptor(), format) }
        } else {
            let device = self.device().on_cuda().unwrap_or(self.device());
            cuda::copy_to(&self.buffer, device, format, None)
        };
        copied.map(Self::from_buffer)
    }

    /// Copies the elements into the existing memory of `target`; the two layouts may differ.
    ///
    /// The copy does not write the bytes between the elements of `target`. Packed elements that are
    /// narrower than a byte may end within a byte. Then a copy on the host keeps the other bits of
    /// that byte, and a copy from or to a device writes them.
    ///
    /// ```
    /// use dlbridge::{DType, Layout, Tensor};
    ///
    /// let rows = Tensor::from_vec(vec![1_u8, 2, 3, 4, 5, 6], [2, 3])?;
    /// let mut columns = Tensor::zeros_with(Layout::new(&[2, 3], &[1, 2])?, DType::U8)?;
    /// rows.copy_into(&mut columns)?; // the output is allocated once, and used many times
    /// assert_eq!(columns.to_list()?.to_string(), "[[1, 2, 3], [4, 5, 6]]");
    /// assert!(rows.copy_into(&mut Tensor::zeros::<u8>([3, 2])?).is_err()); // another shape
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] and [`Error::DTypeMismatch`]; [`Error::Aliased`],
    /// [`Error::ReadOnly`] or [`Error::NotUnique`] unless `target` is the only handle to
    /// [`Access::Exclusive`] memory; [`Error::SelfOverlap`] if two indices of `target` may reach
    /// the same element; [`Error::UnsupportedDType`] as for [`deep_clone`](Self::deep_clone); for
    /// memory that is not on the host, the errors of [`to_device`](Self::to_device).
    ///
    /// After an [`Error::Cuda`], a device may still be writing `target` in host memory. If this
    /// crate cannot wait for the device either, `target` is then on no device, and every later
    /// access to it is an error.
    pub fn copy_into(&self, target: &mut Self) -> Result<()> {
        self.check_copy(target)?;
        target.require_exclusive()?;
        // SAFETY: `copy_into_unchecked` requires that no other code uses the memory of `target`.
        // `require_exclusive` checked that no other handle and no code outside reaches it, `self`
        // included, and the mutable borrow of `target` excludes views.
        let copied = unsafe { self.copy_into_unchecked(target) };
        copied.inspect_err(|_| target.detach_if_shared())
    }

    /// Copies as [`copy_into`](Self::copy_into) does, but other code may reach the target's memory.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let target = Tensor::from_vec(vec![0_u8; 3], [3])?.into_aliased()?;
    /// let source = Tensor::from_vec(vec![1_u8, 2, 3], [3])?;
    /// // SAFETY: no other code holds the memory of `target` or of `source`, and there is no view.
    /// unsafe { source.copy_into_unchecked(&target) }?;
    /// assert_eq!(target.to_vec::<u8>()?, [1, 2, 3]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] and [`Error::DTypeMismatch`]; [`Error::ReadOnly`] if `target` is
    /// read-only; [`Error::SelfOverlap`] if two indices of `target` may reach the same element;
    /// [`Error::CopyOverlaps`] if the two share memory; [`Error::UnsupportedDType`] as for
    /// [`deep_clone`](Self::deep_clone); for memory that is not on the host, the errors of
    /// [`to_device`](Self::to_device).
    ///
    /// # Safety
    /// * During the call, no other code reads or writes an element of `target` (bytes between its
    ///   elements are not touched), and none writes an element of `self`.
    /// * During the call, no Rust view (an `ArrayView`, a slice, an [`NdArray`](crate::NdArray))
    ///   covers a byte from the lowest to the highest element of `target`, and none is made.
    pub unsafe fn copy_into_unchecked(&self, target: &Self) -> Result<()> {
        // SAFETY: the caller guarantees that no other code uses the target.
        unsafe { self.copy_elements(target, Memory::Used, None) }
    }

    /// Copies as [`copy_into_unchecked`](Self::copy_into_unchecked) does, into new memory.
    ///
    /// If the memory is large and was never accessed, the copy is faster, because this method first
    /// asks the system for huge pages.
    ///
    /// ```
    /// use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
    ///
    /// let mut output = vec![0.0_f32; 1000]; // `vec!` takes zeros from the system
    /// let data = output.as_mut_ptr().cast();
    /// let layout = Layout::contiguous([1000])?;
    /// let described = Descriptor::new(data, layout, DType::F32, Device::CPU)?;
    /// // SAFETY: the `Vec` keeps 1000 initialised numbers at `data`, and moving it does not move
    /// // them.
    /// let target = unsafe { Tensor::from_raw_parts(described, true, output) };
    /// // SAFETY: only `target` reaches the `Vec`, and there is no view of it.
    /// unsafe { Tensor::zeros::<f32>([1000])?.copy_into_new_unchecked(&target) }?;
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`copy_into_unchecked`](Self::copy_into_unchecked).
    ///
    /// # Safety
    /// * As for [`copy_into_unchecked`](Self::copy_into_unchecked).
    pub unsafe fn copy_into_new_unchecked(&self, target: &Self) -> Result<()> {
        if target.device().is_host() {
            let (start, bytes) = target.descriptor().span();
            advise_huge_pages(start, bytes);
        }
        // SAFETY: the caller guarantees that no other code uses the target.
        unsafe { self.copy_elements(target, Memory::Fresh, None) }
    }

    /// # Safety
    /// * As for [`copy_into_unchecked`](Self::copy_into_unchecked).
    pub(super) unsafe fn copy_elements(
        &self,
        target: &Self,
        memory: Memory,
        stream: Option<&Stream>,
    ) -> Result<()> {
        self.check_copy(target)?;
        self.check_target(target)?;
        self.check_address()?;
        target.check_address()?;
        let on_host = self.device().is_host() && target.device().is_host();
        if stream.is_some() || !on_host {
            // SAFETY: `check_copy` checked shape, element type and devices; `check_target` checked
            // that the target is writable and overlaps neither itself nor the source; the caller
            // guarantees that no other code uses it.
            return unsafe { cuda::copy_into(&self.buffer, &target.buffer, stream, memory) };
        }
        let (from, data, layout) = (self.descriptor(), target.data_ptr().cast(), target.layout());
        match from.end_bits() {
            // SAFETY: both are host memory, and `check_copy` checked shape and element type;
            // `check_target` checked that the source can be copied, and that the target is writable
            // and overlaps neither itself nor the source; the caller guarantees that no other code
            // uses it.
            None => unsafe { host_copy::copy_elements(from, data, layout, memory) },
            // SAFETY: as for `copy_elements`, by the same checks. `check_target` refused packed
            // elements that are not contiguous; the bytes of a tensor are initialised, which is the
            // invariant of `SharedBuffer`.
            Some(bits) => unsafe { host_copy::copy_packed(from, data, bits) },
        }
        Ok(())
    }

    /// Checks that shapes and element types are equal, and that both devices can be copied from and
    /// to.
    fn check_copy(&self, target: &Self) -> Result<()> {
        if self.shape() != target.shape() {
            let (expected, found) = (target.shape().into(), self.shape().into());
            return Err(Error::ShapeMismatch { expected, found });
        }
        let padded = [self, target].map(|tensor| tensor.descriptor().is_padded());
        if self.dtype() != target.dtype() {
            return Err(Error::DTypeMismatch { expected: target.dtype(), found: self.dtype() });
        }
        if padded[0] != padded[1] {
            let target = "copies between packed and padded elements";
            return Err(Error::UnsupportedDType { dtype: self.dtype(), target });
        }
        let reachable =
            |device: Device| if device.is_host() { Ok(()) } else { device.check_available() };
        [self.device(), target.device()].into_iter().try_for_each(reachable)
    }

    /// Checks that `target` may be written, and that it overlaps neither itself nor this tensor.
    fn check_target(&self, target: &Self) -> Result<()> {
        if target.is_read_only() {
            return Err(Error::ReadOnly { remedy: Remedy::WriteToClone });
        }
        if target.layout().overlaps() {
            return Err(target.layout().self_overlap());
        }
        require_copyable(self.descriptor())?;
        let (from, from_bytes) = self.descriptor().span();
        let (to, to_bytes) = target.descriptor().span();
        let end = |start: *mut u8, bytes: usize| start.addr().saturating_add(bytes);
        if from.addr() < end(to, to_bytes) && to.addr() < end(from, from_bytes) {
            return Err(Error::CopyOverlaps);
        }
        if self.descriptor().itemsize().is_none() && !target.is_contiguous() {
            return Err(unsupported(self.dtype()));
        }
        Ok(())
    }

    /// Detaches this memory after a copy into it failed, if a device may still be writing it: then
    /// another handle keeps the memory. Host code must not read such memory.
    pub(super) fn detach_if_shared(&mut self) {
        if self.device().is_host() && !self.buffer.storage_mut().is_unique() {
            self.buffer.detach();
        }
    }
}
