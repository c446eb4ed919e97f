//! Vector instructions of AArch64: NEON, which all of its processors have that run an operating
//! system.
//!
//! Loads of a constant stride need no code here: compilers make NEON instructions of the portable
//! functions. There are no non-temporal stores: AArch64 has `stnp`, but on no such machine was it
//! measured whether it is faster.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "instructions that need the same processor"
)]

use std::arch::aarch64::*;

use super::interface::Processor;
use super::portable::{copy_tile, strided_load};
use super::shuffles::{VectorPair, shuffle};
use super::squares::{Register, transpose};
use crate::copy::shuffle_plan::Input;
use crate::copy::sizes::VECTOR_BYTES;

pub(in crate::copy) static NEON: Processor = Processor {
    strided_load: [
        strided_load::<u8>,
        strided_load::<u16>,
        strided_load::<u32>,
        strided_load::<u64>,
        strided_load::<u128>,
    ],
    copy_tile: [
        transpose::<u8, uint8x16_t, 16>,
        transpose::<u16, uint8x16_t, 8>,
        transpose::<u32, uint8x16_t, 4>,
        transpose::<u64, uint8x16_t, 2>,
        copy_tile::<u128>,
    ],
    shuffle: Some(shuffle::<uint8x16x2_t>),
    shuffle_bytes: VECTOR_BYTES,
    nontemporal: None,
};

/// Defines a function that zips two vectors, with an instruction for each size of unit.
macro_rules! zip {
    ($name:ident, $zip8:ident $zip16:ident $zip32:ident $zip64:ident) => {
        #[inline(always)]
        fn $name(self, other: Self, size: usize) -> Self {
            let (a, b) = (self, other);
            // SAFETY: the processor has NEON.
            unsafe {
                match size {
                    1 => $zip8(a, b),
                    2 => {
                        let (a, b) = (vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b));
                        vreinterpretq_u8_u16($zip16(a, b))
                    }
                    4 => {
                        let (a, b) = (vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
                        vreinterpretq_u8_u32($zip32(a, b))
                    }
                    _ => {
                        let (a, b) = (vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b));
                        vreinterpretq_u8_u64($zip64(a, b))
                    }
                }
            }
        }
    };
}

// SAFETY: the targets that have this type have NEON.
unsafe impl Register for uint8x16_t {
    type Lane = Self;
    const LANES: usize = 1;

    #[inline(always)]
    unsafe fn load(source: *const u8) -> Self {
        // SAFETY: the caller says that 16 bytes are readable; the processor has NEON.
        unsafe { vld1q_u8(source) }
    }

    #[inline(always)]
    unsafe fn store_lane(self, _lane: usize, target: *mut u8) {
        // SAFETY: the caller says that 16 bytes are writable; the processor has NEON.
        unsafe { vst1q_u8(target, self) }
    }

    zip!(zip_low, vzip1q_u8 vzip1q_u16 vzip1q_u32 vzip1q_u64);
    zip!(zip_high, vzip2q_u8 vzip2q_u16 vzip2q_u32 vzip2q_u64);
}

// SAFETY: the targets that have this type have NEON.
unsafe impl VectorPair for uint8x16x2_t {
    type Indices = uint8x16_t;

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: the processor has NEON.
        let zero = unsafe { vdupq_n_u8(0) };
        Self(zero, zero)
    }

    #[inline(always)]
    fn load_indices(input: &Input) -> uint8x16_t {
        // SAFETY: the 16 bytes of an array; the processor has NEON.
        unsafe { vld1q_u8(input.indices.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn pick(self, indices: uint8x16_t, one: *const u8, other: *const u8) -> Self {
        // SAFETY: the caller says that both vectors are readable; the processor has NEON.
        unsafe {
            Self(vorrq_u8(self.0, pick(one, indices)), vorrq_u8(self.1, pick(other, indices)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, one: *mut u8, other: *mut u8) {
        // SAFETY: the caller says that both addresses are writable; the processor has NEON.
        unsafe {
            vst1q_u8(one, self.0);
            vst1q_u8(other, self.1);
        }
    }
}

/// The bytes that `indices` choose from a vector, and 0 where an index is 16 or larger.
///
/// # Safety
/// * 16 bytes are readable at `source`.
#[inline(always)]
unsafe fn pick(source: *const u8, indices: uint8x16_t) -> uint8x16_t {
    // SAFETY: the caller says that the bytes are readable; the processor has NEON.
    unsafe { vqtbl1q_u8(vld1q_u8(source), indices) }
}
