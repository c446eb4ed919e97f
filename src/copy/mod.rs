//! Deep copies: between any two layouts, and to fresh memory.
//!
//! A copy is planned ([`plan`]: loops are ordered, fused, and one of five kernels chosen), shared out
//! among threads where it is large ([`job`]), and run ([`kernels`]). Everything works on raw pointers,
//! because the memory may have writers that Rust does not know, and moves opaque units of bytes. Only
//! bytes of elements are read or written, never the gaps between them: these may belong to somebody
//! else.

mod bools;
mod buffer;
mod job;
mod kernels;
mod matrices;
mod matrix;
mod plan;
mod processor;
mod shuffle;
mod stage;

use job::Job;
use plan::{Kernel, Plan};

pub(crate) use bools::check_bools;
pub(crate) use buffer::{Buffer, advise_huge_pages};

#[cfg(feature = "cuda")]
use crate::Stream;
use crate::{Access, DType, Descriptor, Device, Element, Error, Layout, MemoryFormat, Result, Tensor};

/// What caches move, in bytes; threads should not write to the same.
const LINE: usize = 64;

/// Targets of so many bytes outgrow the caches that a core does not share with others, and are written
/// past them.
const STREAMED: usize = 4 << 20;

/// In fresh memory the system has just put zeros, which are still in the caches: only scattered writes
/// to a large target pay, and only from this size on.
const STREAMED_FRESH: usize = 16 << 20;

/// Where the memory of a target comes from.
#[derive(Clone, Copy)]
pub(crate) enum Memory {
    /// Just allocated.
    Fresh,
    /// Used before.
    Used,
}

impl Tensor {
    /// Copies the data into new memory on the same device, as `torch.clone` does: the order of the
    /// strides is kept, gaps are closed, broadcast and overlapping elements become elements of
    /// their own. The result is [`Access::Exclusive`]; on the host it is ordinary memory, aligned to 256 bytes, from
    /// 4 MiB on to 2 MiB.
    ///
    /// # Errors
    /// When the memory is neither on the host nor on a device that [`to_device`](Self::to_device) can copy
    /// from, the element type is none that DLPack defines, packed elements below a byte are not contiguous;
    /// [`Error::OutOfMemory`].
    pub fn deep_clone(&self) -> Result<Self> {
        self.deep_clone_with(MemoryFormat::Preserve)
    }

    /// Copies the data into new memory on the same device, laid out as asked.
    ///
    /// # Errors
    /// As for [`deep_clone`](Self::deep_clone), and [`Error::RankMismatch`] when a channels-last
    /// format is asked for a rank that it does not fit.
    pub fn deep_clone_with(&self, format: MemoryFormat) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if !self.device().is_host() {
            let device = self.device().on_cuda().unwrap_or(self.device());
            return crate::cuda::copy_to(self, device, format, None);
        }
        // SAFETY: the elements are readable: the invariant of a tensor.
        unsafe { Self::copy_of(&self.descriptor, format) }
    }

    /// Copies the data to memory that exists already, element by element, whatever the two layouts.
    /// Nothing between the elements of `target` is touched; of packed elements the last byte is copied
    /// whole.
    ///
    /// # Errors
    /// When shapes or element types differ, either memory is on a device that [`to_device`](Self::to_device) cannot
    /// copy from or to, or `target` is not [`Access::Exclusive`], has another handle, or reaches some element
    /// twice. After an [`Error::Cuda`] that could not be waited out either, `target` is on no device any more, because
    /// one may still be writing it.
    pub fn copy_into(&self, target: &mut Self) -> Result<()> {
        self.check_copy(target)?;
        target.require_exclusive()?;
        // SAFETY: nobody but `target` reaches its memory, so it is not `self`'s either.
        let copied = unsafe { self.copy_into_unchecked(target) };
        #[cfg(feature = "cuda")]
        if copied.is_err() {
            target.lose_if_kept();
        }
        copied
    }

    /// As [`copy_into`](Self::copy_into), also into memory that others can reach.
    ///
    /// # Errors
    /// When shapes or element types differ, either memory is on a device that [`to_device`](Self::to_device) cannot
    /// copy from or to, `target` is read-only or reaches some element twice, or the two share memory.
    ///
    /// # Safety
    /// * Nobody else reads or writes the memory of `target` during the call.
    /// * No Rust view of the memory of `target` lives.
    pub unsafe fn copy_into_unchecked(&self, target: &Self) -> Result<()> {
        // SAFETY: the caller's promises.
        unsafe { self.copy_elements(target, Memory::Used, None) }
    }

    /// As [`copy_into_unchecked`](Self::copy_into_unchecked), into memory that was allocated just now and
    /// never touched: where it is large, huge pages are asked for.
    ///
    /// # Errors
    /// As for [`copy_into_unchecked`](Self::copy_into_unchecked).
    ///
    /// # Safety
    /// * As for [`copy_into_unchecked`](Self::copy_into_unchecked).
    pub unsafe fn copy_into_new_unchecked(&self, target: &Self) -> Result<()> {
        if target.device().is_host() {
            let (start, bytes) = target.descriptor.span();
            advise_huge_pages(start, bytes);
        }
        // SAFETY: the caller's promises.
        unsafe { self.copy_elements(target, Memory::Fresh, None) }
    }

    /// # Safety
    /// * As for `copy_into_unchecked`.
    pub(crate) unsafe fn copy_elements(
        &self,
        target: &Self,
        memory: Memory,
        stream: Option<&Stream>,
    ) -> Result<()> {
        self.check_copy(target)?;
        if matches!(target.access(), Access::ReadOnly | Access::Aliased { writable: false }) {
            return Err(Error::ReadOnly { remedy: "copy into a tensor that may be written" });
        }
        if target.layout().overlaps() {
            return Err(target.layout().self_overlap());
        }
        check_elements(&self.descriptor)?;
        let ((from, from_bytes), (to, to_bytes)) = (self.descriptor.span(), target.descriptor.span());
        if from.addr() < to.addr() + to_bytes && to.addr() < from.addr() + from_bytes {
            return Err(Error::CopyOverlaps);
        }
        if self.descriptor.itemsize().is_none() && !target.is_contiguous() {
            return Err(Error::UnsupportedDType { dtype: self.dtype(), target: "a strided copy" });
        }
        #[cfg(feature = "cuda")]
        if stream.is_some() || !(self.device().is_host() && target.device().is_host()) {
            // SAFETY: of one shape and element type; the target is writable, does not overlap itself or the source,
            // and the caller keeps others away from it.
            return unsafe { crate::cuda::copy_into_on(self, target, stream, memory) };
        }
        let _none = stream;
        // SAFETY: both are host memory of one shape and element type; the target is writable, does
        // not overlap itself or the source, and the caller keeps others away from it.
        unsafe { copy(&self.descriptor, target.data_ptr().cast(), target.layout(), memory) };
        Ok(())
    }

    fn check_copy(&self, target: &Self) -> Result<()> {
        if self.shape() != target.shape() {
            return Err(Error::ShapeMismatch { expected: target.shape().into(), found: self.shape().into() });
        }
        if self.dtype() != target.dtype() || self.descriptor.is_padded() != target.descriptor.is_padded() {
            return Err(Error::DTypeMismatch { expected: target.dtype(), found: self.dtype() });
        }
        [self.device(), target.device()].into_iter().try_for_each(check_device)
    }
}

/// Whether the device is one that copies can be made from and to.
fn check_device(device: Device) -> Result<()> {
    if device.is_host() { Ok(()) } else { device.check_available() }
}

/// What orders copies on a device. Without CUDA there is none.
#[cfg(not(feature = "cuda"))]
pub(crate) enum Stream {}

/// Whether the elements of a tensor can be copied on the host: they are there, of a type that DLPack
/// defines, and whole bytes unless they are contiguous.
pub(crate) fn check(source: &Descriptor) -> Result<()> {
    let device = source.device();
    if !device.is_host() {
        check_device(device)?;
        return Err(Error::UnsupportedDevice { device, target: "host copies" });
    }
    check_elements(source)
}

/// Whether the elements of a tensor can be copied, wherever they are.
pub(crate) fn check_elements(source: &Descriptor) -> Result<()> {
    let dtype = source.dtype();
    let whole = source.itemsize().is_some() || source.layout().is_contiguous();
    if dtype.is_known() && whole {
        Ok(())
    } else {
        Err(Error::UnsupportedDType { dtype, target: "a strided copy" })
    }
}

/// Copies every element of a tensor to its place in another layout of the same shape.
///
/// # Safety
/// * [`check`] was passed, and the elements of `source` are readable.
/// * `target` is writable at every element of `layout`, which is contiguous if elements are packed;
///   none of these bytes belongs to the source.
pub(crate) unsafe fn copy(source: &Descriptor, target: *mut u8, layout: &Layout, memory: Memory) {
    let data = source.data_ptr().cast::<u8>();
    match source.itemsize() {
        // SAFETY: the caller's promises.
        Some(itemsize) => unsafe { strided(data, source.layout(), target, layout, itemsize, memory) },
        // SAFETY: packed elements are contiguous (`check`), so these are all their bytes.
        None => unsafe { data.copy_to_nonoverlapping(target, source.nbytes()) },
    }
}

/// Copies the elements of a tensor to new memory, laid out as asked.
///
/// # Safety
/// * The elements of `source` are readable, as far as they are on the host.
pub(crate) unsafe fn clone(source: &Descriptor, format: MemoryFormat) -> Result<(Buffer, Layout)> {
    let layout = source.layout().cloned(format)?;
    check(source)?;
    if source.itemsize().is_none() && !layout.is_contiguous() {
        return Err(Error::UnsupportedDType { dtype: source.dtype(), target: "a strided copy" });
    }
    let buffer = Buffer::uninit(source.nbytes())?;
    // SAFETY: checked and readable; the new buffer is large enough, because the clone of a layout
    // with elements is dense.
    unsafe { copy(source, buffer.as_ptr(), &layout, Memory::Fresh) };
    Ok((buffer, layout))
}

/// Copies the elements of a tensor to a new `Vec`, in row-major order.
///
/// # Safety
/// * The elements of `source` are readable, as far as they are on the host.
pub(crate) unsafe fn to_vec<T: Element>(source: &Descriptor) -> Result<Vec<T>> {
    source.require_host("Vec")?;
    source.require_dtype::<T>()?;
    let layout = source.layout().cloned(MemoryFormat::Contiguous)?;
    let mut vec = Vec::<T>::new();
    let bytes = layout.len().saturating_mul(size_of::<T>());
    vec.try_reserve_exact(layout.len()).map_err(|_| Error::OutOfMemory { bytes })?;
    let target = vec.as_mut_ptr().cast::<u8>();
    advise_huge_pages(target, bytes);
    // SAFETY: readable elements of an element type of ours; the new memory has room for them all.
    unsafe { copy(source, target, &layout, Memory::Fresh) };
    if T::DTYPE == DType::BOOL {
        // SAFETY: these bytes were just written; looked at where nobody else can change them.
        if let Some(value) = unsafe { bools::find_invalid(target, &layout) } {
            return Err(Error::InvalidBool { value });
        }
    }
    // SAFETY: all elements were written, and bools were looked at.
    unsafe { vec.set_len(layout.len()) };
    Ok(vec)
}

/// Copies every element to its place in another layout of the same shape.
///
/// # Safety
/// * `source` and `target` point to the first elements; every element of `source_layout` is
///   readable, every element of `target_layout` writable, and no byte belongs to both, nor to two
///   elements of the target.
/// * The layouts have the same shape, and `itemsize` is the size of an element of both.
#[inline]
pub(crate) unsafe fn strided(
    source: *const u8,
    source_layout: &Layout,
    target: *mut u8,
    target_layout: &Layout,
    itemsize: usize,
    memory: Memory,
) {
    if target_layout.is_empty() {
        return;
    }
    let plan = Plan::new(target_layout.shape(), source_layout.strides(), target_layout.strides(), itemsize);
    let bytes = target_layout.len() * itemsize;
    let streams = match memory {
        Memory::Used => bytes >= STREAMED,
        Memory::Fresh => bytes >= STREAMED_FRESH && plan.kernel == Kernel::Tiles,
    };
    // SAFETY: the caller's promise is the plan's.
    unsafe { Job::new(source, target, streams).run(plan, bytes) }
}

#[cfg(test)]
mod tests;
