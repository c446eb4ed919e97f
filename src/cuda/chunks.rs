//! Cuts a copy between host and device into chunks that fit into a bounce buffer.
//!
//! On the device the elements are packed: dense, in some order of the dimensions. A chunk is a
//! range of one dimension with all of the dimensions inside it, so that it is contiguous there, and
//! a strided layout of its own on the host. For example, of packed (4, 3, 2) with at most 5
//! elements in a chunk, where no two dimensions coalesce:
//!
//! ```text
//! strides (6, 2, 1): one step of dim 1 (2 elements) fits, so dim 1 is cut into ranges of 2 and 1
//! chunks: (0, 0..2, ..) (0, 2..3, ..) (1, 0..2, ..) (1, 2..3, ..) ... (3, 2..3, ..)
//! ```

#![forbid(unsafe_code)]

use smallvec::SmallVec;

use crate::Layout;
use crate::layout::paired::{PairedDim, PairedDims};

/// A part of the elements.
pub(super) struct Chunk {
    /// Offset (elements) of its first element on the host, from the first of all.
    pub(super) host_offset: isize,
    /// The same in packed memory, where this many elements come before the chunk.
    pub(super) packed_offset: usize,
    /// The number of elements.
    pub(super) len: usize,
    /// Layout of the chunk on the host.
    pub(super) host: Layout,
    /// Layout of the same elements in packed memory, and in a bounce buffer: dense.
    pub(super) packed: Layout,
}

/// Calls `each` with chunks of at most `max_len` elements (but of at least one), in the order of
/// `packed`, which is dense and has the shape of `host`. Ends with the first error of `each`.
pub(super) fn for_each_chunk<E>(
    host: &Layout,
    packed: &Layout,
    max_len: usize,
    mut each: impl FnMut(Chunk) -> Result<(), E>,
) -> Result<(), E> {
    if packed.is_empty() {
        return Ok(());
    }
    let dims = paired_dims(host, packed);
    // The outermost dimension of which at least one step fits is cut.
    let fits = |dim: &PairedDim| dim.target.unsigned_abs() <= max_len;
    let cut = dims.iter().position(fits).unwrap_or(dims.len());
    let (outer, inner) = dims.split_at(cut);
    let Some((&cut, whole)) = inner.split_first() else {
        unreachable!("the last dimension of a dense layout steps by one element");
    };
    let max_count = (max_len / cut.target.unsigned_abs()).clamp(1, cut.count);
    let mut index: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
    loop {
        let (host_offset, packed_offset) = offsets(outer, &index);
        let mut first = 0;
        while first < cut.count {
            let range = PairedDim { count: max_count.min(cut.count - first), ..cut };
            let (host, packed) = layouts(range, whole);
            each(Chunk {
                host_offset: host_offset + first as isize * cut.source,
                packed_offset: (packed_offset + first as isize * cut.target).unsigned_abs(),
                len: packed.len(),
                host,
                packed,
            })?;
            first += range.count;
        }
        if !advance(&mut index, outer) {
            return Ok(());
        }
    }
}

/// The dimensions in the order of `packed`, outermost first and coalesced; the host is the source,
/// packed memory the target. Strides are in elements.
fn paired_dims(host: &Layout, packed: &Layout) -> SmallVec<[PairedDim; 6]> {
    // The strides of a dense layout are positive, so that the start stays 0.
    let mut paired = PairedDims::default();
    paired.insert_strides(packed.shape(), host.strides(), packed.strides(), 1);
    paired.coalesce();
    if paired.dims.is_empty() {
        paired.dims.push(PairedDim { count: 1, source: 1, target: 1 });
    }
    paired.dims
}

/// The offsets of an index on the host and in packed memory.
fn offsets(dims: &[PairedDim], index: &[usize]) -> (isize, isize) {
    dims.iter().zip(index).fold((0, 0), |(host, packed), (dim, &index)| {
        let index = index as isize;
        (host + index * dim.source, packed + index * dim.target)
    })
}

/// The layouts of one chunk on the host and in packed memory.
fn layouts(range: PairedDim, whole: &[PairedDim]) -> (Layout, Layout) {
    let dims = || std::iter::once(&range).chain(whole);
    let rank = 1 + whole.len();
    let len = dims().map(|dim| dim.count).product();
    let layout = |stride: fn(&PairedDim) -> isize| {
        let shape = dims().map(|dim| dim.count as i64);
        Layout::from_checked(shape, dims().map(|dim| stride(dim) as i64), rank, len)
    };
    (layout(|dim| dim.source), layout(|dim| dim.target))
}

/// Steps to the next index in row-major order. Returns false after the last one.
fn advance(index: &mut [usize], dims: &[PairedDim]) -> bool {
    let is_not_last = |(&index, dim): (&usize, &PairedDim)| index + 1 < dim.count;
    let Some(next) = index.iter().zip(dims).rposition(is_not_last) else { return false };
    index[next] += 1;
    index[next + 1..].fill(0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For every element in packed order its offset on the host, and the lengths of the chunks.
    fn walked(host: &Layout, packed: &Layout, max_len: usize) -> (Vec<i64>, Vec<usize>) {
        let mut order = vec![i64::MIN; packed.len()];
        let mut lens = Vec::new();
        for_each_chunk(host, packed, max_len, |chunk| {
            lens.push(chunk.len);
            let shape = chunk.host.shape();
            for index in 0..chunk.len as i64 {
                let (mut rest, mut host_offset, mut packed_offset) =
                    (index, chunk.host_offset as i64, chunk.packed_offset as i64);
                for dim in (0..shape.len()).rev() {
                    let index = rest % shape[dim];
                    rest /= shape[dim];
                    host_offset += index * chunk.host.strides()[dim];
                    packed_offset += index * chunk.packed.strides()[dim];
                }
                order[packed_offset as usize] = host_offset;
            }
            Ok::<(), ()>(())
        })
        .expect("nothing is refused");
        (order, lens)
    }

    #[test]
    fn every_element_is_in_one_chunk_at_its_offset() {
        let cases: [(&[i64], &[i64]); 7] = [
            (&[24], &[1]),
            (&[4, 6], &[6, 1]),
            (&[4, 6], &[1, 4]),
            (&[3, 4, 5], &[100, -10, 2]),
            (&[1, 7, 1], &[9, -1, 9]),
            (&[], &[]),
            (&[2, 3, 4, 5], &[1, 2, 6, 24]),
        ];
        for (shape, strides) in cases {
            let host = Layout::new(shape, strides).expect("valid");
            for format in [crate::MemoryFormat::Preserve, crate::MemoryFormat::Contiguous] {
                let packed = host.cloned(format).expect("any rank");
                for max_len in [1, 2, 5, 7, 24, 1000] {
                    let (order, lens) = walked(&host, &packed, max_len);
                    let mut expected = vec![0; host.len()];
                    for index in 0..host.len() {
                        let (mut rest, mut from, mut to) = (index as i64, 0, 0);
                        for dim in (0..shape.len()).rev() {
                            let index = rest % shape[dim];
                            rest /= shape[dim];
                            from += index * strides[dim];
                            to += index * packed.strides()[dim];
                        }
                        expected[to as usize] = from;
                    }
                    assert_eq!(order, expected, "{host:?} {packed:?} {max_len}");
                    assert!(lens.iter().all(|&len| len <= max_len), "{lens:?}");
                    assert_eq!(lens.iter().sum::<usize>(), host.len());
                }
            }
        }
    }

    #[test]
    fn contiguous_elements_are_cut_into_full_chunks() {
        let dense = Layout::contiguous([10, 10]).expect("valid");
        assert_eq!(walked(&dense, &dense, 40).1, [40, 40, 20]);
    }
}
