//! Copies of bytes from one contiguous place to another: the ceiling for every layout.

use std::hint::black_box;
use std::mem::MaybeUninit;

use dlbridge_benches::copy_nontemporal;
use rayon::prelude::*;

type Byte = MaybeUninit<u8>;

/// The names of the contenders that copy bytes.
pub(crate) const MEMCPY: &str = "memcpy";
pub(crate) const NONTEMPORAL: &str = "non-temporal";

/// Two contiguous places, and the number of threads that copy from one to the other.
pub(crate) struct PlainCopies {
    source: Vec<Byte>,
    threads: usize,
}

impl PlainCopies {
    /// A source of `bytes` bytes. Each of them is written here: before its first write, a page of
    /// new memory is the system's one page of zeros, which stays in the caches.
    pub(crate) fn new(bytes: usize, threads: usize) -> Self {
        Self { source: vec![MaybeUninit::new(1); bytes], threads }
    }

    /// A target that was written before.
    pub(crate) fn used_target(&self) -> Vec<Byte> {
        self.source.clone()
    }

    /// Copies with glibc's memcpy.
    pub(crate) fn memcpy(&self, target: &mut [Byte]) {
        self.in_parts(target, |from, to| to.copy_from_slice(from));
    }

    /// Copies with non-temporal stores.
    pub(crate) fn nontemporal(&self, target: &mut [Byte]) {
        self.in_parts(target, copy_nontemporal);
    }

    /// Copies into new memory, and releases it.
    pub(crate) fn fresh(&self, copy: impl Fn(&Self, &mut [Byte])) {
        let mut target = Box::new_uninit_slice(self.source.len());
        copy(self, &mut target);
        // Without this, the compiler may leave out an allocation that the program never reads.
        drop(black_box(target));
    }

    /// Runs `copy` on one part for each thread of rayon's current pool.
    fn in_parts(&self, target: &mut [Byte], copy: impl Fn(&[Byte], &mut [Byte]) + Sync) {
        match self.threads {
            1 => copy(&self.source, target),
            threads => {
                let bytes = self.source.len().div_ceil(threads);
                let parts = self.source.par_chunks(bytes).zip(target.par_chunks_mut(bytes));
                parts.for_each(|(from, to)| copy(from, to));
            }
        }
    }
}
