//! Copies of bytes from one contiguous place to another: the ceiling for every layout.

use std::hint::black_box;

use dlbridge::Tensor;
use dlbridge_benches::{Contender, copy_nontemporal};

/// A way to copy bytes, and a contiguous source of its own.
pub(crate) struct PlainCopy {
    /// Its name as a contender.
    name: &'static str,
    copy: fn(&[u8], &mut [u8]),
    source: Tensor,
}

impl PlainCopy {
    /// glibc's memcpy and the non-temporal copy, for `bytes` bytes.
    pub(crate) fn all(bytes: usize) -> [Self; 2] {
        let memcpy: fn(&[u8], &mut [u8]) = |from, to| to.copy_from_slice(from);
        let copies = [("memcpy", memcpy), ("non-temporal", copy_nontemporal)];
        copies.map(|(name, copy)| Self { name, copy, source: crate::written::<u8>(bytes) })
    }

    /// Copies into memory that was written before.
    pub(crate) fn used(&self, threads: usize) -> Contender<'_> {
        let mut target = crate::written::<u8>(self.source.len());
        Contender::repeated(self.name, move || self.copy_to(&mut target, threads))
    }

    /// Copies into new memory, and releases it.
    pub(crate) fn fresh(&self, threads: usize) -> Contender<'_> {
        Contender::repeated(self.name, move || {
            // The pages of large new memory are zeros, which the system provides when they are
            // first written.
            let mut target = Tensor::zeros::<u8>([self.source.len()]).expect("allocated");
            self.copy_to(&mut target, threads);
            drop(black_box(target));
        })
    }

    /// Copies one part on this thread, and one on each of the other threads of rayon's current
    /// pool.
    ///
    /// A job that ran on the pool only would often copy both parts on one thread: a worker that
    /// another worker wakes starts on the same core, and stays there for longer than a copy takes,
    /// if this thread has not gone to sleep by then.
    fn copy_to(&self, target: &mut Tensor, threads: usize) {
        let source = self.source.as_slice::<u8>().expect("contiguous");
        let target = target.as_slice_mut::<u8>().expect("only this handle");
        let bytes = source.len().div_ceil(threads);
        let mut parts = source.chunks(bytes).zip(target.chunks_mut(bytes));
        let own = parts.next();
        rayon::in_place_scope(|scope| {
            for (from, to) in parts {
                scope.spawn(move |_| (self.copy)(from, to));
            }
            if let Some((from, to)) = own {
                (self.copy)(from, to);
            }
        });
    }
}
