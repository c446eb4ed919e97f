//! From which size on a copy writes past the caches, and from which size on threads share it.
//!
//! If nothing else is said, numbers were measured on an Intel Xeon (2 MiB of L2 for each core, 480
//! MiB of L3), with source and target used in a loop, on one thread. Non-temporal stores against
//! ordinary ones, as a ratio of rates; "read" is a loop that also reads the target after each copy:
//!
//! ```text
//!                       1 MiB   2 MiB   4 MiB   8 MiB   16 MiB   32 MiB
//!   contiguous           0.67    0.91    0.85    0.82     1.43     1.44
//!   contiguous, read     0.30    0.61    0.67    0.69     1.02     1.10
//!   transposed           1.09    1.28    2.09    1.65     2.36     1.40
//!   transposed, read     0.65    0.73    1.10    1.21     1.63     1.20
//! ```
//!
//! A threshold is where copies win that are read afterwards, because most targets are read soon.

#![forbid(unsafe_code)]

use super::Memory;
use super::caches::Caches;
use super::copy_plan::Kernel;
use crate::layout::paired::PairedDim;

/// Minimum size (bytes) of a target for non-temporal stores of a transpose. Its rows are written
/// piece by piece, far apart, so ordinary stores lose lines before they are full.
const NONTEMPORAL_TRANSPOSE_MIN_BYTES: usize = 4 << 20;

/// Minimum size (bytes) of a target in used memory that is written from its beginning to its end
/// with non-temporal stores. Smaller ones have them where the caches are small: see
/// [`NONTEMPORAL_L3_DIVISOR`].
const NONTEMPORAL_MIN_BYTES: usize = 16 << 20;

/// A target of one third of the L3 cache or more gets non-temporal stores: the source takes as
/// much, and other data the rest.
///
/// Non-temporal stores against ordinary ones on an AMD EPYC (1 MiB of L2, 32 MiB of L3), in a loop
/// of clones:
///
/// ```text
///                           8 MiB   12 MiB
///   contiguous               0.65    0.89
///   (0, 2, 1, 3)             0.73    1.29
///   reversed                 0.76    1.29
///   every second unit        1.15    1.85
/// ```
const NONTEMPORAL_L3_DIVISOR: usize = 3;

/// Minimum size (bytes) of a target in fresh memory for non-temporal stores. The system has just
/// filled such memory with zeros, which are still in the caches, so non-temporal stores only pay
/// for the scattered writes of a tiled transpose: see [`is_scattered`].
const NONTEMPORAL_FRESH_MIN_BYTES: usize = 16 << 20;

/// What makes the writes of a transpose scattered: rows that are longer than this (bytes) or do not
/// follow each other, in a matrix of more than this (bytes).
///
/// Ordinary stores against non-temporal ones on the Xeon, for 32 MiB of fresh memory on one thread,
/// as a ratio of rates for units of 1, 2, 4, 8 and 16 bytes:
///
/// ```text
///   square                               0.83   0.71   0.87   0.63   0.63
///   odd, 4097 rows                       0.75   0.70   0.63   0.73   0.88
///   tall, rows of 64 units               1.35   1.24   1.19   1.34   1.39
///   (0, 2, 1), matrices of 0.5 MiB       1.12   1.19   1.06   1.04   1.18
///   NHWC to NCHW, images of 4 MiB        1.26   1.25   1.26   1.46   1.28
/// ```
const ORDERED_ROW_MAX_BYTES: usize = 1 << 10;
const ORDERED_MATRIX_MAX_BYTES: usize = 4 << 20;

/// Minimum copy size (bytes) for using several threads, if a worker is on standby.
///
/// Two threads against one on the Xeon, in a loop of clones, contiguous and transposed: 1.1 and 1.6
/// at 256 KiB, 1.4 and 1.5 at 512 KiB, 2.6 and 2.3 at 1 MiB, 4.1 and 1.9 at 2 MiB.
#[cfg(feature = "parallel")]
pub(super) const PARALLEL_MIN_BYTES: usize = 256 << 10;

/// The same for callers in a rayon pool, where no thread is on standby. The other threads are often
/// awake there.
#[cfg(feature = "parallel")]
pub(super) const POOL_MIN_BYTES: usize = 1 << 20;

/// Minimum size (bytes) of a copy that wakes a worker for itself.
///
/// Waking a thread costs the caller 15 to 50 microseconds, and the thread begins 25 to 120
/// microseconds after the call. Two threads against one where the thread sleeps before each copy,
/// contiguous and transposed: 0.90 and 0.82 at 1 MiB, 1.03 and 0.95 at 2 MiB, 1.2 and 1.4 at 4 MiB.
#[cfg(feature = "parallel")]
pub(super) const WAKING_MIN_BYTES: usize = 4 << 20;

/// Minimum size (bytes) of the parts of a copy of 1 MiB or more, as far as a plan can be cut in
/// halves. Smaller copies have four parts.
#[cfg(feature = "parallel")]
const PART_MIN_BYTES: usize = 256 << 10;

/// Minimum number of parts for each thread: more than one, so that a thread that begins late or
/// is interrupted leaves parts to the others. Each part of a transpose reads a piece of every row
/// of the source, and many parts are slow for that reason. Transposing 32 MiB on two threads is
/// 1.96 times as fast as on one with 1, 1.93 with 2, 1.75 with 4, and 1.4 with 8.
#[cfg(feature = "parallel")]
const PARTS_PER_THREAD: usize = 2;

/// Size (bytes) of the parts of a copy of `bytes` that `threads` share.
#[cfg(feature = "parallel")]
pub(super) fn part_bytes(bytes: usize, threads: usize) -> usize {
    (bytes / (PARTS_PER_THREAD * threads)).max(PART_MIN_BYTES.min(bytes / 4))
}

/// Whether a transpose writes to many pages in turn, so that the zeros of fresh memory have left
/// the caches when it comes to them. `inner` are the dimensions of its matrix.
pub(super) fn is_scattered(inner: &[PairedDim]) -> bool {
    let &[rows, outer_groups, groups, columns] = inner else { return false };
    let unit = columns.target.unsigned_abs();
    let row_bytes = outer_groups.count * groups.count * columns.count * unit;
    let stride = rows.target.unsigned_abs();
    (row_bytes > ORDERED_ROW_MAX_BYTES || stride != row_bytes)
        && rows.count.saturating_mul(stride) > ORDERED_MATRIX_MAX_BYTES
}

/// Whether a copy of `bytes` uses non-temporal stores. `inner` are the kernel's dimensions.
pub(super) fn is_nontemporal(
    (kernel, inner): (Kernel, &[PairedDim]),
    bytes: usize,
    memory: Memory,
    caches: fn() -> Caches,
) -> bool {
    // Smaller copies need not ask for the caches.
    if bytes < NONTEMPORAL_TRANSPOSE_MIN_BYTES {
        return false;
    }
    match (memory, kernel) {
        (Memory::Used, Kernel::TiledTranspose) => true,
        (Memory::Used, _) => {
            bytes >= NONTEMPORAL_MIN_BYTES.min(caches().l3 / NONTEMPORAL_L3_DIVISOR)
        }
        (Memory::Fresh, Kernel::TiledTranspose) => {
            bytes >= NONTEMPORAL_FRESH_MIN_BYTES
                && (is_scattered(inner) || bytes >= caches().l3 / NONTEMPORAL_L3_DIVISOR)
        }
        (Memory::Fresh, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    /// The smallest power of two of bytes that is written with non-temporal stores.
    fn minimum(kernel: Kernel, memory: Memory, caches: fn() -> Caches) -> Option<usize> {
        let matrix = matrix(1000, 8000, 2000);
        let kernel = (kernel, &matrix[..]);
        (10..40).map(|log| 1 << log).find(|&bytes| is_nontemporal(kernel, bytes, memory, caches))
    }

    /// Rows of `columns` units of 4 bytes, `stride` bytes apart.
    fn matrix(rows: usize, stride: isize, columns: usize) -> [PairedDim; 4] {
        let dim = |count, target| PairedDim { count, source: 4, target };
        [dim(rows, stride), PairedDim::ONE, PairedDim::ONE, dim(columns, 4)]
    }

    #[test]
    fn long_or_distant_rows_are_scattered() {
        assert!(is_scattered(&matrix(64, 1 << 20, 1 << 18)));
        assert!(!is_scattered(&matrix(1 << 16, 1024, 256)), "short rows that follow each other");
        assert!(is_scattered(&matrix(1 << 16, 2048, 256)), "gaps between rows");
        assert!(is_scattered(&matrix(1024, 8192, 2048)));
        assert!(!is_scattered(&matrix(512, 8192, 2048)), "a small matrix");
    }

    #[test]
    fn thresholds_follow_the_caches() {
        // Powers of two: the EPYC's threshold is 10.7 MiB.
        let xeon = || Caches { l1d: 48 * KIB, l2: 2 * MIB, l3: 480 * MIB };
        let epyc = || Caches { l1d: 48 * KIB, l2: MIB, l3: 32 * MIB };
        let laptop = || Caches { l1d: 48 * KIB, l2: 2 * MIB, l3: 12 * MIB };
        for (caches, contiguous) in [(xeon as fn() -> Caches, 16), (epyc, 16), (laptop, 4)] {
            let used = |kernel| minimum(kernel, Memory::Used, caches);
            assert_eq!(used(Kernel::Runs), Some(contiguous * MIB));
            assert_eq!(used(Kernel::StridedLoad), Some(contiguous * MIB));
            assert_eq!(used(Kernel::TiledTranspose), Some(4 * MIB));
            assert_eq!(minimum(Kernel::Runs, Memory::Fresh, caches), None);
            assert_eq!(minimum(Kernel::TiledTranspose, Memory::Fresh, caches), Some(16 * MIB));
        }
    }
}
