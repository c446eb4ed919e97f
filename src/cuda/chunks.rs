//! What crosses between host and device, cut into chunks that fit a buffer of the buffers memory.

use smallvec::SmallVec;

use crate::Layout;

/// A part of the elements: a range of one dimension, and all of the dimensions inside it.
pub(super) struct Chunk {
    /// How far its first element is from the first of all, on the host.
    pub(super) on_host: i64,
    /// How many elements cross before it.
    pub(super) crossed: usize,
    pub(super) len: usize,
    pub(super) host: Layout,
    /// The same elements as they cross: one after the other.
    pub(super) crossing: Layout,
}

/// One dimension on both sides. Steps are in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dim {
    count: i64,
    host: i64,
    crossing: i64,
}

/// Cuts a layout into chunks of at most so many elements (but of at least one), in the order of `crossing`, which
/// is dense and of the same shape. What `each` refuses ends it.
pub(super) fn for_each_chunk<E>(
    host: &Layout,
    crossing: &Layout,
    most: usize,
    mut each: impl FnMut(Chunk) -> Result<(), E>,
) -> Result<(), E> {
    if crossing.is_empty() {
        return Ok(());
    }
    let dims = dims(host, crossing);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    // The first dimension of which at least one step fits is cut.
    let cut = dims.iter().position(|dim| dim.crossing <= most).unwrap_or(dims.len());
    let (outer, inner) = dims.split_at(cut);
    let Some((&cut, whole)) = inner.split_first() else {
        unreachable!("the last dimension of a dense layout steps by one element");
    };
    let steps = (most / cut.crossing).clamp(1, cut.count);
    let mut place: SmallVec<[i64; 6]> = SmallVec::from_elem(0, outer.len());
    loop {
        let at = |step: fn(&Dim) -> i64| {
            outer.iter().zip(&place).map(|(dim, at)| at * step(dim)).sum::<i64>()
        };
        let (on_host, crossed) = (at(|dim| dim.host), at(|dim| dim.crossing));
        let mut first = 0;
        while first < cut.count {
            let count = steps.min(cut.count - first);
            let shape = || std::iter::once(count).chain(whole.iter().map(|dim| dim.count));
            let len = (count * cut.crossing) as usize;
            let layout = |step: fn(&Dim) -> i64| {
                Layout::from_checked(shape(), inner.iter().map(step), inner.len(), len)
            };
            each(Chunk {
                on_host: on_host + first * cut.host,
                crossed: (crossed + first * cut.crossing) as usize,
                len,
                host: layout(|dim| dim.host),
                crossing: layout(|dim| dim.crossing),
            })?;
            first += count;
        }
        // The next place of the dimensions outside.
        let Some(next) = place.iter().zip(outer).rposition(|(&at, dim)| at + 1 < dim.count) else {
            return Ok(());
        };
        place[next] += 1;
        place[next + 1..].fill(0);
    }
}

/// The dimensions in the order of `crossing`, the outermost first; those that step as one on both sides are one.
fn dims(host: &Layout, crossing: &Layout) -> SmallVec<[Dim; 6]> {
    let steps = host.strides().iter().zip(crossing.strides());
    let mut dims: SmallVec<[Dim; 6]> = (crossing.shape().iter().zip(steps))
        .filter(|&(&count, _)| count > 1)
        .map(|(&count, (&host, &crossing))| Dim { count, host, crossing })
        .collect();
    dims.sort_by_key(|dim| std::cmp::Reverse(dim.crossing));
    dims.dedup_by(|inner, outer| {
        let one = inner.host.checked_mul(inner.count) == Some(outer.host);
        if one {
            *outer = Dim { count: outer.count * inner.count, ..*inner };
        }
        one
    });
    if dims.is_empty() {
        dims.push(Dim { count: 1, host: 1, crossing: 1 });
    }
    dims
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the chunks, and puts every element where it belongs.
    fn walked(host: &Layout, crossing: &Layout, most: usize) -> (Vec<i64>, Vec<usize>) {
        let mut order = vec![i64::MIN; crossing.len()];
        let mut lens = Vec::new();
        for_each_chunk(host, crossing, most, |chunk| {
            lens.push(chunk.len);
            let shape = chunk.host.shape();
            for index in 0..chunk.len as i64 {
                let (mut rest, mut on_host, mut crossed) =
                    (index, chunk.on_host, chunk.crossed as i64);
                for dim in (0..shape.len()).rev() {
                    let at = rest % shape[dim];
                    rest /= shape[dim];
                    on_host += at * chunk.host.strides()[dim];
                    crossed += at * chunk.crossing.strides()[dim];
                }
                order[crossed as usize] = on_host;
            }
            Ok::<(), ()>(())
        })
        .expect("nothing is refused");
        (order, lens)
    }

    #[test]
    fn every_element_crosses_once_in_its_place() {
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
                let crossing = host.cloned(format).expect("any rank");
                for most in [1, 2, 5, 7, 24, 1000] {
                    let (order, lens) = walked(&host, &crossing, most);
                    let mut expected = vec![0; host.len()];
                    for index in 0..host.len() {
                        let (mut rest, mut from, mut to) = (index as i64, 0, 0);
                        for dim in (0..shape.len()).rev() {
                            let at = rest % shape[dim];
                            rest /= shape[dim];
                            from += at * strides[dim];
                            to += at * crossing.strides()[dim];
                        }
                        expected[to as usize] = from;
                    }
                    assert_eq!(order, expected, "{host:?} {crossing:?} {most}");
                    assert!(lens.iter().all(|&len| len <= most), "{lens:?}");
                    assert_eq!(lens.iter().sum::<usize>(), host.len());
                }
            }
        }
    }

    #[test]
    fn one_run_is_cut_evenly() {
        let run = Layout::contiguous(&[10, 10]).expect("valid");
        assert_eq!(walked(&run, &run, 40).1, [40, 40, 20]);
    }
}
