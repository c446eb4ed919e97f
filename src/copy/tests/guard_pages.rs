//! Copies in memory between inaccessible pages, which end the process if they are accessed.

use super::{memory, processors, shapes};
use crate::Layout;
use crate::copy::copy_plan::CopyPlan;
use crate::copy::endpoints::Endpoints;
use crate::copy::kernels;

/// Pages between two pages that may not be accessed.
struct Guarded {
    start: *mut u8,
    bytes: usize,
}

impl Guarded {
    const PAGE: usize = 4096;

    fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(Self::PAGE);
        let (none, anonymous) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let whole = bytes + 2 * Self::PAGE;
        // SAFETY: a new anonymous mapping, at an address that the system chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, none, anonymous, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let start = start.cast::<u8>().wrapping_add(Self::PAGE);
        // SAFETY: all but the first and the last page of that memory.
        let status =
            unsafe { libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(status, 0);
        Self { start, bytes }
    }

    /// The first `bytes` of the pages, or the last.
    fn slice(&mut self, bytes: usize, last: bool) -> &mut [u8] {
        assert!(bytes <= self.bytes);
        let offset = if last { self.bytes - bytes } else { 0 };
        // SAFETY: within the pages, which are readable, writable and zeroed by the system.
        unsafe { std::slice::from_raw_parts_mut(self.start.wrapping_add(offset), bytes) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let whole = self.start.wrapping_sub(Self::PAGE).cast();
        // SAFETY: mapped by `new`; slices of it borrow `self`, so there are none left.
        unsafe { libc::munmap(whole, self.bytes + 2 * Self::PAGE) };
    }
}

#[test]
fn bytes_outside_the_elements_are_not_accessed() {
    for (source, target) in shapes() {
        for itemsize in [1, 2, 4, 8, 16] {
            check_between_guards(&source, &target, itemsize);
        }
    }
}

/// Every second unit, up to one whose gap is inaccessible, in whole cache lines or with a rest.
#[test]
fn gaps_after_every_second_unit_are_not_accessed() {
    for itemsize in [1, 2, 4, 8, 16] {
        for units in [1024, 1024 + 64 / itemsize as i64, 1025, 2047] {
            let source = Layout::new(&[units], &[2]).expect("small");
            let target = Layout::contiguous([units]).expect("small");
            check_between_guards(&source, &target, itemsize);
        }
    }
}

/// Runs that follow each other in the target, where they share cache lines, but not in the source.
#[test]
fn bytes_around_joined_runs_are_not_accessed() {
    for run in [64, 72, 100, 257, 4500] {
        let shape = [3, 5, run];
        let target = Layout::contiguous(shape).expect("small");
        let gaps = Layout::new(&shape, &[5 * run + 70, run, 1]).expect("small");
        for strides in [[run, 3 * run, 1], [9 * run, run + 5, 1], [run, -4 * run, 1], [0, 0, 1]] {
            let source = Layout::new(&shape, &strides).expect("small");
            check_between_guards(&source, &target, 1);
            check_between_guards(&source, &gaps, 1);
        }
    }
}

/// Copies between memories that begin, and then between memories that end, at inaccessible pages.
fn check_between_guards(source: &Layout, target: &Layout, itemsize: usize) {
    let (pattern, first) = memory(source, itemsize, 0, |byte| (byte % 251) as u8);
    let (blank, to_first) = memory(target, itemsize, 0, |_| 0);
    let (mut from, mut to) = (Guarded::new(pattern.len()), Guarded::new(blank.len()));
    let plan = CopyPlan::new(source.shape(), source.strides(), target.strides(), itemsize);
    for last in [false, true] {
        let (from, to) = (from.slice(pattern.len(), last), to.slice(blank.len(), last));
        from.copy_from_slice(&pattern);
        let ends =
            Endpoints { source: from[first..].as_ptr(), target: to[to_first..].as_mut_ptr() };
        for (_, processor) in processors() {
            for nontemporal in [false, true] {
                // SAFETY: both memories have all elements of their layouts (`memory`), and the
                // machine has the processor's instructions (`processors`). If the copy accesses a
                // byte outside, the process ends.
                unsafe { kernels::run(&plan, ends, processor, nontemporal) };
            }
        }
    }
}
