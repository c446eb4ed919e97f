//! Copies and checks of described elements on the host.
//!
//! The copy engine in `copy` works on pointers, layouts and item sizes only. This module checks
//! which elements the engine can copy.

use crate::buffer::{Buffer, advise_huge_pages, trim};
use crate::copy::{self, Memory, Strided};
use crate::shared_buffer::SharedBuffer;
use crate::{DType, Descriptor, Element, Error, Layout, MemoryFormat, Result};

/// Refuses elements that cannot be copied: those whose type DLPack does not define, and packed ones
/// that are not contiguous.
pub(crate) fn require_copyable(source: &Descriptor) -> Result<()> {
    let dtype = source.dtype();
    let whole = source.itemsize().is_some() || source.layout().is_contiguous();
    if dtype.is_known() && whole { Ok(()) } else { Err(unsupported(dtype)) }
}

/// Returns the layout of a deep copy of these elements.
///
/// # Errors
/// Those of [`require_copyable`] and [`Layout::cloned`]; [`Error::UnsupportedDType`] for packed
/// elements whose copy would not be contiguous.
pub(crate) fn layout_of_copy(source: &Descriptor, format: MemoryFormat) -> Result<Layout> {
    let layout = source.layout().cloned(format)?;
    require_copyable(source)?;
    if source.itemsize().is_none() && !layout.is_contiguous() {
        return Err(unsupported(source.dtype()));
    }
    Ok(layout)
}

pub(crate) fn unsupported(dtype: DType) -> Error {
    Error::UnsupportedDType { dtype, target: "strided copies" }
}

/// Copies every element to its position in another layout of the same shape.
///
/// # Safety
/// * `source` describes host memory, whose elements are readable during the call;
///   [`require_copyable`] passed.
/// * If there are elements, the first one of `layout` is at `target`, and all are writable;
///   `layout` is contiguous if elements are packed; no byte of an element belongs to the source.
pub(crate) unsafe fn copy_elements(
    source: &Descriptor,
    target: *mut u8,
    layout: &Layout,
    memory: Memory,
) {
    if layout.is_empty() {
        return;
    }
    let data = source.data_ptr().cast::<u8>().cast_const();
    let from = Strided { data, layout: source.layout() };
    let to = Strided { data: target, layout };
    match source.itemsize() {
        // SAFETY: the caller guarantees readable source elements, writable target elements, and
        // that the two share no byte.
        Some(itemsize) => unsafe { copy::strided(from, to, itemsize, memory) },
        // SAFETY: packed elements are contiguous on both sides: `require_copyable` checked the
        // source, and the caller guarantees it of `layout`. So `nbytes` is the size of both. The
        // caller guarantees that the source is readable, that the target is writable, and that they
        // are disjoint.
        None => unsafe { data.copy_to_nonoverlapping(target, source.nbytes()) },
    }
}

/// Copies packed elements that end within a byte, of which they have `end_bits` bits. The other
/// bits of that byte stay: they may be of an element of another tensor of the same memory.
///
/// # Safety
/// * As for [`copy_elements`], for a contiguous `layout`. The last byte of the target is
///   initialised.
pub(crate) unsafe fn copy_packed(source: &Descriptor, target: *mut u8, end_bits: u32) {
    let data = source.data_ptr().cast::<u8>();
    let last = source.nbytes().saturating_sub(1);
    // SAFETY: the elements are contiguous on both sides, and these are whole bytes of them. The
    // caller guarantees that the source is readable, the target writable, and that both are
    // disjoint.
    unsafe { data.copy_to_nonoverlapping(target, last) };
    // The elements of a byte begin at its low bits.
    let elements = (1_u8 << end_bits) - 1;
    let target = target.wrapping_add(last);
    // SAFETY: a byte with elements of the source, which the caller guarantees to be readable.
    let new = unsafe { data.wrapping_add(last).read() };
    // SAFETY: a byte with elements of the target, which the caller guarantees to be initialised.
    let old = unsafe { target.read() };
    // SAFETY: a byte with elements of the target, which the caller guarantees to be writable.
    unsafe { target.write((new & elements) | (old & !elements)) };
}

/// Copies the elements into new memory, in the order that `format` names.
///
/// # Errors
/// [`Error::UnsupportedDevice`] for memory that is not on the host, those of [`layout_of_copy`],
/// and [`Error::OutOfMemory`].
///
/// # Safety
/// * If `source` describes host memory, its elements are readable.
pub(crate) unsafe fn deep_copy(source: &Descriptor, format: MemoryFormat) -> Result<SharedBuffer> {
    let layout = layout_of_copy(source, format)?;
    if !source.device().is_host() {
        return Err(Error::UnsupportedDevice { device: source.device(), target: "host copies" });
    }
    let buffer = Buffer::uninit(source.nbytes())?;
    let memory = if buffer.is_warm() { Memory::Used } else { Memory::Fresh };
    // SAFETY: `layout_of_copy` called `require_copyable`, and the caller guarantees that the
    // elements are readable. The new buffer has room for all elements of `layout`, which is dense.
    unsafe { copy_elements(source, buffer.as_ptr(), &layout, memory) };
    let descriptor = source.relocated(buffer.as_ptr(), layout);
    // SAFETY: only `buffer` reaches its memory, and all elements were written just above.
    Ok(unsafe { SharedBuffer::copied(buffer, descriptor) })
}

/// Copies the elements into a new `Vec`, in row-major order.
///
/// # Errors
/// [`Error::NotOnCpu`], [`Error::DTypeMismatch`], [`Error::OutOfMemory`], [`Error::InvalidBool`].
///
/// # Safety
/// * If `source` describes host memory, its elements are readable.
pub(crate) unsafe fn to_vec<T: Element>(source: &Descriptor) -> Result<Vec<T>> {
    source.require_host("Vec")?;
    source.require_dtype::<T>()?;
    let layout = source.layout().cloned(MemoryFormat::Contiguous)?;
    let mut vec = Vec::<T>::new();
    let bytes = layout.len().saturating_mul(size_of::<T>());
    let reserved = vec.try_reserve_exact(layout.len());
    // If there is no memory, the cache gives back its own first.
    let retry = |error| if trim() == 0 { Err(error) } else { vec.try_reserve_exact(layout.len()) };
    reserved.or_else(retry).map_err(|_| Error::OutOfMemory { bytes })?;
    let target = vec.as_mut_ptr().cast::<u8>();
    advise_huge_pages(target, bytes);
    // SAFETY: the caller guarantees that the elements are readable. The type of `T` can be copied,
    // and the `Vec` has room for all elements of `layout`, which is contiguous.
    unsafe { copy_elements(source, target, &layout, Memory::Fresh) };
    if T::DTYPE == DType::BOOL {
        // SAFETY: these bytes were written just above, and only `vec` reaches them.
        if let Some(value) = unsafe { copy::find_invalid_bool(target, &layout) } {
            return Err(Error::InvalidBool { value });
        }
    }
    // SAFETY: `copy_elements` wrote all elements. Every bit pattern is a valid `T`, except for
    // `bool`, whose bytes were checked just above.
    unsafe { vec.set_len(layout.len()) };
    Ok(vec)
}

/// Checks that every byte is 0 or 1, if `T` is `bool`. The result of a check is not kept, because
/// the bytes may change later.
///
/// # Errors
/// [`Error::InvalidBool`].
///
/// # Safety
/// * The elements of `source` are readable host memory, and of type `T`.
pub(crate) unsafe fn check_bools<T: Element>(source: &Descriptor) -> Result<()> {
    if T::DTYPE != DType::BOOL {
        return Ok(());
    }
    // SAFETY: the caller guarantees readable elements of type `bool`, which take a byte each.
    match unsafe { copy::find_invalid_bool(source.data_ptr().cast(), source.layout()) } {
        None => Ok(()),
        Some(value) => Err(Error::InvalidBool { value }),
    }
}
