//! Sizes of the machine that several parts of the copy engine are built around.

#![forbid(unsafe_code)]

/// Bytes of a cache line: what caches move at once. Two threads should not write to the same line.
pub(super) const CACHE_LINE_BYTES: usize = 64;

/// Bytes of the smallest vector register, and of a lane of the larger ones.
pub(super) const VECTOR_BYTES: usize = 16;

/// Width (bytes of the target) of a tile of a transpose, if the matrix is wide enough.
pub(super) const TILE_WIDTH_BYTES: usize = 256;

/// How far ahead (bytes) of a copy past the caches its source is prefetched. The processor's own
/// prefetches end at each page of 4 KiB.
pub(super) const PREFETCH_AHEAD_BYTES: usize = 2 << 10;
