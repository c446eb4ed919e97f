//! Reads decisions from the bytes of an input.

#![forbid(unsafe_code)]

/// The bytes of an input that are still to be read. After the last one every byte is 0.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    hash: u64,
}

impl<'a> Input<'a> {
    /// Reads from the first byte on.
    pub(crate) fn new(data: &'a [u8]) -> Self {
        // FNV-1a.
        let hash = data.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { rest: data, hash: hash ^ (hash >> 32) }
    }

    /// Whether every byte was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// True for about one input in `n`, whatever its bytes are. For slow steps that the fuzzer must
    /// not learn to prefer.
    pub(crate) fn is_one_in(&self, n: u64) -> bool {
        self.hash.is_multiple_of(n)
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// Whether the next byte is odd.
    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Whether the next byte plus one is a multiple of `n`. False for the byte 0.
    pub(crate) fn seldom(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    /// A number below `n`, which is not 0: one byte.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// One of the values: one byte.
    pub(crate) fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// A number of two bytes.
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number of eight bytes.
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number of eight bytes.
    pub(crate) fn i64(&mut self) -> i64 {
        self.u64().cast_signed()
    }
}
