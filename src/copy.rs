//! Deep copies: fresh memory, and strided copies between any two layouts.
//!
//! Works on raw pointers throughout, because the memory may have writers that Rust does not know.
//! Elements are moved as opaque bytes.

use std::alloc::{Layout as Allocation, alloc, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use smallvec::SmallVec;

use crate::{DType, Descriptor, Element, Error, Layout, MemoryFormat, Result};

/// Alignment of memory that this crate allocates: what JAX needs to share it, and DLPack's own
/// wish. In bytes.
pub(crate) const ALIGNMENT: usize = 256;

/// Fresh host memory.
pub(crate) struct Buffer {
    data: NonNull<u8>,
    allocation: Allocation,
}

// SAFETY: a buffer is plain memory that only its owner reaches.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Memory of unspecified content.
    pub(crate) fn uninit(bytes: usize) -> Result<Self> {
        Self::allocate(bytes, alloc)
    }

    /// Memory full of zeros.
    pub(crate) fn zeroed(bytes: usize) -> Result<Self> {
        Self::allocate(bytes, alloc_zeroed)
    }

    fn allocate(bytes: usize, allocate: unsafe fn(Allocation) -> *mut u8) -> Result<Self> {
        let out_of_memory = Error::OutOfMemory { bytes };
        let Ok(allocation) = Allocation::from_size_align(bytes.max(1), ALIGNMENT) else {
            return Err(out_of_memory);
        };
        // SAFETY: the size is at least 1.
        let data = unsafe { allocate(allocation) };
        match NonNull::new(data) {
            Some(data) => Ok(Self { data, allocation }),
            None => Err(out_of_memory),
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.data.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this very layout by `allocate`, and dropped once.
        unsafe { dealloc(self.data.as_ptr(), self.allocation) }
    }
}

/// Nested loops over `N` operands of one shape, outermost first: `(size, strides)`.
struct Nest<const N: usize>(SmallVec<[(i64, [i64; N]); 6]>);

impl<const N: usize> Nest<N> {
    /// Drops dimensions of size 1, orders the others by the stride of the first operand, and fuses
    /// those that all operands step through as if they were one. The shape has elements.
    fn new(shape: &[i64], strides: [&[i64]; N]) -> Self {
        let mut dims: SmallVec<[(i64, [i64; N]); 6]> = shape
            .iter()
            .enumerate()
            .filter(|&(_, &size)| size != 1)
            .map(|(dimension, &size)| (size, strides.map(|strides| strides[dimension])))
            .collect();
        dims.sort_by_key(|&(_, strides)| std::cmp::Reverse(strides[0].unsigned_abs()));
        let mut fused: SmallVec<[(i64, [i64; N]); 6]> = SmallVec::new();
        for (size, strides) in dims {
            match fused.last_mut() {
                Some((outer, steps))
                    if (0..N).all(|operand| Some(steps[operand]) == strides[operand].checked_mul(size)) =>
                {
                    *outer *= size;
                    *steps = strides;
                }
                _ => fused.push((size, strides)),
            }
        }
        Self(fused)
    }

    /// Calls `row` for each innermost run: offsets of its first element, its size, its strides.
    fn for_each_row(&self, mut row: impl FnMut([i64; N], i64, [i64; N])) {
        let Some((&(size, strides), outer)) = self.0.split_last() else {
            return row([0; N], 1, [1; N]);
        };
        let mut index: SmallVec<[i64; 6]> = SmallVec::from_elem(0, outer.len());
        let mut offsets = [0_i64; N];
        loop {
            row(offsets, size, strides);
            let mut dimension = outer.len();
            loop {
                if dimension == 0 {
                    return;
                }
                dimension -= 1;
                let (size, steps) = outer[dimension];
                index[dimension] += 1;
                if index[dimension] < size {
                    offsets.iter_mut().zip(steps).for_each(|(offset, step)| *offset += step);
                    break;
                }
                index[dimension] = 0;
                offsets.iter_mut().zip(steps).for_each(|(offset, step)| *offset -= step * (size - 1));
            }
        }
    }
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
pub(crate) unsafe fn copy(source: &Descriptor, target: *mut u8, layout: &Layout) {
    let data = source.data_ptr().cast::<u8>();
    match source.itemsize() {
        // SAFETY: the caller's promises.
        Some(itemsize) => unsafe { copy_strided(data, source.layout(), target, layout, itemsize) },
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
    unsafe { copy(source, buffer.as_ptr(), &layout) };
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
    // SAFETY: readable elements of an element type of ours; the new memory has room for them all.
    unsafe { copy(source, target, &layout) };
    if T::DTYPE == DType::BOOL {
        // SAFETY: these bytes were just written; looked at where nobody else can change them.
        if let Some(value) = unsafe { find_invalid_bool(target, &layout) } {
            return Err(Error::InvalidBool { value });
        }
    }
    // SAFETY: all elements were written, and bools were looked at.
    unsafe { vec.set_len(layout.len()) };
    Ok(vec)
}

/// # Safety
/// * `source` and `target` point to the first elements; every element of `source_layout` is
///   readable, every element of `target_layout` writable, and no byte belongs to both.
/// * The layouts have the same shape, and `itemsize` is the size of an element of both.
unsafe fn copy_strided(
    source: *const u8,
    source_layout: &Layout,
    target: *mut u8,
    target_layout: &Layout,
    itemsize: usize,
) {
    if target_layout.is_empty() {
        return;
    }
    let nest = Nest::new(target_layout.shape(), [target_layout.strides(), source_layout.strides()]);
    // An extent in bytes fits an isize (checked when the descriptor was made), so these do too.
    let bytes = |elements: i64| elements as isize * itemsize as isize;
    nest.for_each_row(|[to, from], size, [to_step, from_step]| {
        // SAFETY: offsets of elements, which lie within the memory that the caller vouches for.
        let from = unsafe { source.offset(bytes(from)) };
        // SAFETY: likewise.
        let to = unsafe { target.offset(bytes(to)) };
        let count = size as usize;
        if to_step == 1 && from_step == 1 {
            // SAFETY: `count` elements lie one after the other on both sides.
            return unsafe { from.copy_to_nonoverlapping(to, count * itemsize) };
        }
        let steps = (bytes(from_step), bytes(to_step));
        let copy_row = match itemsize {
            1 => copy_row::<1>,
            2 => copy_row::<2>,
            4 => copy_row::<4>,
            8 => copy_row::<8>,
            16 => copy_row::<16>,
            _ => copy_row_of_any,
        };
        // SAFETY: `count` elements lie `steps` bytes apart on either side.
        unsafe { copy_row(from, to, count, steps, itemsize) };
    });
}

/// # Safety
/// * `count` elements of `SIZE` bytes are readable and writable, `steps` bytes apart.
unsafe fn copy_row<const SIZE: usize>(
    from: *const u8,
    to: *mut u8,
    count: usize,
    steps: (isize, isize),
    _itemsize: usize,
) {
    // SAFETY: the caller's promise, with `SIZE` known to the compiler.
    unsafe { copy_row_of_any(from, to, count, steps, SIZE) }
}

/// # Safety
/// * `count` elements of `itemsize` bytes are readable and writable, `steps` bytes apart.
#[inline(always)]
unsafe fn copy_row_of_any(
    from: *const u8,
    to: *mut u8,
    count: usize,
    steps: (isize, isize),
    itemsize: usize,
) {
    for index in 0..count as isize {
        // SAFETY: the caller's promise for element `index`.
        let from = unsafe { from.offset(index * steps.0) };
        // SAFETY: likewise.
        let to = unsafe { to.offset(index * steps.1) };
        // SAFETY: likewise; source and target do not overlap.
        unsafe { from.copy_to_nonoverlapping(to, itemsize) };
    }
}

/// Looks at every element where `T` is `bool`. Nothing remembers an earlier look, because the bytes
/// may have changed since.
///
/// # Safety
/// * The elements of `source` are readable host memory, and of type `T`.
pub(crate) unsafe fn check_bools<T: Element>(source: &Descriptor) -> Result<()> {
    if T::DTYPE != DType::BOOL {
        return Ok(());
    }
    // SAFETY: the caller's promise; bools take a byte each.
    match unsafe { find_invalid_bool(source.data_ptr().cast(), source.layout()) } {
        None => Ok(()),
        Some(value) => Err(Error::InvalidBool { value }),
    }
}

/// The first byte of a boolean buffer that is neither 0 nor 1.
///
/// # Safety
/// * Every element of `layout`, one byte each, is readable from `data` on.
unsafe fn find_invalid_bool(data: *const u8, layout: &Layout) -> Option<u8> {
    if layout.is_empty() {
        return None;
    }
    // Elements that are reached again and again are looked at once.
    let dims = layout.shape().iter().zip(layout.strides());
    let shape: SmallVec<[i64; 6]> = dims.map(|(&size, &stride)| if stride == 0 { 1 } else { size }).collect();
    let mut invalid = None;
    Nest::new(&shape, [layout.strides()]).for_each_row(|[first], size, [step]| {
        for index in 0..size {
            // SAFETY: the offset of an element.
            let byte = unsafe { data.offset((first + index * step) as isize) };
            // SAFETY: an element, which the caller says is readable.
            let byte = unsafe { byte.read() };
            if byte > 1 {
                invalid = Some(byte);
            }
        }
    });
    invalid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fusion_leaves_the_fewest_loops() {
        let loops = |shape: &[i64], a: &[i64], b: &[i64]| Nest::new(shape, [a, b]).0.len();
        assert_eq!(loops(&[2, 3, 4], &[12, 4, 1], &[12, 4, 1]), 1);
        assert_eq!(loops(&[2, 3, 4], &[12, 4, 1], &[1, 2, 6]), 3);
        assert_eq!(loops(&[2, 1, 4], &[4, 99, 1], &[4, -5, 1]), 1);
        assert_eq!(loops(&[2, 3], &[-3, -1], &[-3, -1]), 1, "backwards on both sides");
        assert_eq!(loops(&[], &[], &[]), 0);
    }

    #[test]
    fn buffers_are_aligned_and_refuse_the_impossible() {
        let buffer = Buffer::zeroed(3).expect("3 bytes");
        assert_eq!(buffer.as_ptr().addr() % ALIGNMENT, 0);
        assert_eq!(
            Buffer::uninit(isize::MAX as usize).err(),
            Some(Error::OutOfMemory { bytes: isize::MAX as usize })
        );
        assert_eq!(Buffer::uninit(usize::MAX).err(), Some(Error::OutOfMemory { bytes: usize::MAX }));
    }
}
