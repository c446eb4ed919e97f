//! Memory with exact ends, which AddressSanitizer watches.

use std::alloc::{Layout as Size, alloc, dealloc, handle_alloc_error};
use std::ffi::c_void;

/// What new memory holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fill {
    /// Bytes that repeat only after 251 positions.
    Pattern,
    /// Zeros and ones.
    Bools,
    /// The same byte everywhere.
    Value(u8),
}

const PATTERN: [u8; 251] = {
    let mut pattern = [0; 251];
    let mut position = 0;
    while position < pattern.len() {
        pattern[position] = position as u8;
        position += 1;
    }
    pattern
};

/// An allocation of exactly as many bytes as asked for.
pub(crate) struct Block {
    start: *mut u8,
    size: Size,
}

// SAFETY: a block is an allocation that it alone owns.
unsafe impl Send for Block {}
// SAFETY: a shared reference only gives out the address.
unsafe impl Sync for Block {}

impl Block {
    /// New memory. The address is a multiple of 16.
    pub(crate) fn new(bytes: usize, fill: Fill) -> Self {
        let size = Size::from_size_align(bytes.max(1), 16).expect("small");
        // SAFETY: the size is not 0.
        let start = unsafe { alloc(size) };
        if start.is_null() {
            handle_alloc_error(size);
        }
        // SAFETY: the allocation has as many bytes.
        unsafe { start.write_bytes(0, size.size()) };
        let mut block = Self { start, size };
        match fill {
            Fill::Pattern => {
                let chunks = block.bytes_mut().chunks_mut(PATTERN.len());
                chunks.for_each(|chunk| chunk.copy_from_slice(&PATTERN[..chunk.len()]));
            }
            Fill::Bools => block.bytes_mut().iter_mut().step_by(3).for_each(|byte| *byte = 1),
            Fill::Value(value) => block.bytes_mut().fill(value),
        }
        block
    }

    /// Number of bytes; 1 where none was asked for.
    pub(crate) fn len(&self) -> usize {
        self.size.size()
    }

    /// The address of a byte, or of the end.
    pub(crate) fn at(&self, position: usize) -> *mut c_void {
        assert!(position <= self.len());
        // SAFETY: within the allocation or at its end.
        unsafe { self.start.add(position) }.cast()
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `new` wrote every byte; harnesses write through raw pointers only while they hold
        // no such slice.
        unsafe { std::slice::from_raw_parts(self.start, self.len()) }
    }

    /// All bytes, to write to.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `new` wrote every byte; `self` is mutably borrowed, and harnesses write through
        // raw pointers only while they hold no such slice.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len()) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `new` allocated this with the same size.
        unsafe { dealloc(self.start, self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_they_are_filled_with() {
        let block = Block::new(5, Fill::Pattern);
        assert_eq!(block.bytes(), [0, 1, 2, 3, 4]);
        assert_eq!(Block::new(4, Fill::Bools).bytes(), [1, 0, 0, 1]);
        assert_eq!(block.at(5).addr() - block.at(0).addr(), 5);
    }
}
