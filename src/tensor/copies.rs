//! Deep copies into new memory, and copies into memory that exists already.

use super::Tensor;
#[cfg(doc)]
use crate::Access;
use crate::buffer::advise_huge_pages;
use crate::copy::Memory;
use crate::cuda::{self, Stream};
use crate::host_copy::{self, require_copyable, unsupported};
use crate::{Device, Error, MemoryFormat, Remedy, Result};

impl Tensor {
    /// Copies the data into new memory on the same device, as `torch.clone` does: the order of the
    /// strides is kept, gaps are closed, broadcast and overlapping elements become elements of
    /// their own. The result is [`Access::Exclusive`]; on the host it is ordinary memory, aligned
    /// to 256 bytes, from 4 MiB on to 2 MiB.
    ///
    /// # Errors
    /// When the memory is neither on the host nor on a device that [`to_device`](Self::to_device)
    /// can copy from, the element type is none that DLPack defines, packed elements below a byte
    /// are not contiguous; [`Error::OutOfMemory`].
    pub fn deep_clone(&self) -> Result<Self> {
        self.deep_clone_with(MemoryFormat::Preserve)
    }

    /// Copies the data into new memory on the same device, laid out as `format` says.
    ///
    /// # Errors
    /// As for [`deep_clone`](Self::deep_clone), and [`Error::RankMismatch`] when a channels-last
    /// format does not fit the rank.
    pub fn deep_clone_with(&self, format: MemoryFormat) -> Result<Self> {
        let copied = if self.device().is_host() {
            // SAFETY: the elements of a tensor are readable.
            unsafe { host_copy::deep_copy(self.descriptor(), format) }
        } else {
            let device = self.device().on_cuda().unwrap_or(self.device());
            cuda::copy_to(&self.buffer, device, format, None)
        };
        copied.map(Self::from_buffer)
    }

    /// Copies the data to memory that exists already, element by element, whatever the two layouts.
    /// Nothing between the elements of `target` is touched; of packed elements the last byte is
    /// copied whole.
    ///
    /// # Errors
    /// When shapes or element types differ, either memory is on a device that
    /// [`to_device`](Self::to_device) cannot copy from or to, or `target` is not
    /// [`Access::Exclusive`], has another handle, or reaches some element twice. After an
    /// [`Error::Cuda`] that could not be waited for either, `target` is on no device any more,
    /// because one may still be writing it.
    pub fn copy_into(&self, target: &mut Self) -> Result<()> {
        self.check_copy(target)?;
        target.require_exclusive()?;
        // SAFETY: only `target` reaches its memory, so that is not the memory of `self` either, and
        // `target` is mutably borrowed.
        let copied = unsafe { self.copy_into_unchecked(target) };
        copied.inspect_err(|_| target.detach_if_shared())
    }

    /// As [`copy_into`](Self::copy_into), also into memory that other code can reach.
    ///
    /// # Errors
    /// When shapes or element types differ, either memory is on a device that
    /// [`to_device`](Self::to_device) cannot copy from or to, `target` is read-only or reaches some
    /// element twice, or the two share memory.
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

    /// As [`copy_into_unchecked`](Self::copy_into_unchecked), into memory that was allocated just
    /// now and never touched: where it is large, huge pages are asked for.
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
        if stream.is_some() || !(self.device().is_host() && target.device().is_host()) {
            // SAFETY: of one shape and element type; the target is writable, overlaps neither
            // itself nor the source, and the caller guarantees that no other code uses it.
            return unsafe { cuda::copy_into(&self.buffer, &target.buffer, stream, memory) };
        }
        let (data, layout) = (target.data_ptr().cast(), target.layout());
        // SAFETY: both are host memory of one shape and element type; the target is writable,
        // overlaps neither itself nor the source, and the caller guarantees that no other code uses
        // it.
        unsafe { host_copy::copy_elements(self.descriptor(), data, layout, memory) };
        Ok(())
    }

    /// Whether shapes, element types and devices are such that elements can be copied to `target`.
    fn check_copy(&self, target: &Self) -> Result<()> {
        if self.shape() != target.shape() {
            let (expected, found) = (target.shape().into(), self.shape().into());
            return Err(Error::ShapeMismatch { expected, found });
        }
        let padded = [self, target].map(|tensor| tensor.descriptor().is_padded());
        if self.dtype() != target.dtype() || padded[0] != padded[1] {
            return Err(Error::DTypeMismatch { expected: target.dtype(), found: self.dtype() });
        }
        let reachable =
            |device: Device| if device.is_host() { Ok(()) } else { device.check_available() };
        [self.device(), target.device()].into_iter().try_for_each(reachable)
    }

    /// Whether `target` can be written, and overlaps neither itself nor this tensor.
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

    /// After a copy into this memory failed: if a device may still be writing the memory, which
    /// another handle then keeps, host code must not read it any more.
    pub(super) fn detach_if_shared(&mut self) {
        if self.device().is_host() && !self.buffer.storage_mut().is_unique() {
            self.buffer.detach();
        }
    }
}
