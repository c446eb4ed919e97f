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

use crate::{DType, Descriptor, Element, Error, Layout, MemoryFormat, Result};

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

/// Whether the elements of a tensor can be copied: they are on the host, of a type that DLPack
/// defines, and whole bytes unless they are contiguous.
pub(crate) fn check(source: &Descriptor) -> Result<()> {
    let (dtype, device) = (source.dtype(), source.device());
    if !device.is_host() {
        return Err(Error::UnsupportedDevice { device, target: "host copies" });
    }
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
        Some(itemsize) => unsafe { copy_strided(data, source.layout(), target, layout, itemsize, memory) },
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

/// # Safety
/// * `source` and `target` point to the first elements; every element of `source_layout` is
///   readable, every element of `target_layout` writable, and no byte belongs to both, nor to two
///   elements of the target.
/// * The layouts have the same shape, and `itemsize` is the size of an element of both.
#[inline]
unsafe fn copy_strided(
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
