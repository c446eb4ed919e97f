//! Allocation of host memory.
//!
//! A [`Buffer`] is memory for the elements of a tensor. It consists of a [`Block`] of the global
//! allocator. Large blocks go to the [`BlockCache`] of the process when a buffer is dropped, and
//! later buffers take them from there.

mod block;
mod block_cache;
mod forks;
mod pages;
mod process_cache;

use std::mem::ManuallyDrop;

use block::{Block, LARGE_MIN_BYTES};
pub(crate) use pages::advise_huge_pages;
pub use process_cache::{cached_bytes, set_cache_limit, trim};

use crate::{Error, Result};

/// Host memory that this crate allocated.
pub(crate) struct Buffer {
    block: ManuallyDrop<Block>,
}

impl Buffer {
    /// Allocates memory with unspecified content.
    pub(crate) fn uninit(bytes: usize) -> Result<Self> {
        let size = Block::size_for(bytes);
        if size >= LARGE_MIN_BYTES {
            // At most a quarter of the memory that the buffer keeps is more than it needs.
            let sizes = size..=bytes.saturating_add(bytes / 4);
            if let Some(block) = process_cache::cache().take(sizes) {
                return Ok(Self { block: ManuallyDrop::new(block) });
            }
        }
        Self::allocated(bytes, Block::uninit)
    }

    /// Allocates memory full of zeros.
    pub(crate) fn zeroed(bytes: usize) -> Result<Self> {
        Self::allocated(bytes, Block::zeroed)
    }

    /// Allocates a new block. If there is no memory, the cache gives back its own first.
    fn allocated(bytes: usize, allocate: fn(usize) -> Option<Block>) -> Result<Self> {
        let retry = || if trim() == 0 { None } else { allocate(bytes) };
        let block = allocate(bytes).or_else(retry).ok_or(Error::OutOfMemory { bytes })?;
        Ok(Self { block: ManuallyDrop::new(block) })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.block.data().as_ptr()
    }

    /// Whether an earlier buffer used the same memory, so that its pages are likely to be present.
    pub(crate) fn is_warm(&self) -> bool {
        self.block.is_warm()
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this is the only call of `take`, and the block is not used afterwards: a buffer
        // is dropped once.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        if block.bytes() >= LARGE_MIN_BYTES {
            process_cache::cache().put(block);
        }
    }
}

#[cfg(test)]
mod tests;
