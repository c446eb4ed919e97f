//! The cache of large blocks: what it takes from the global allocator, keeps and gives back. In a
//! file of its own, because it needs a global allocator, and because the cache is that of the
//! process. One test at a time uses it.
#![cfg(target_os = "linux")]

#[path = "support/child.rs"]
mod child;

use std::alloc::{GlobalAlloc, Layout as Allocation, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use child::in_child;
use dlbridge::{DType, Error, Layout, Tensor, cached_bytes, set_cache_limit, trim};

const MIB: usize = 1 << 20;

/// The default limit of the cache.
const DEFAULT_LIMIT: usize = 512 * MIB;

/// Counts large allocations, asks for the size of the cache in each, and fails on request.
struct Watched;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);
static FAILS_ONCE: AtomicBool = AtomicBool::new(false);

// SAFETY: passes everything on to the system's allocator, or returns no memory.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Allocation) -> *mut u8 {
        if layout.size() >= MIB {
            let _ = cached_bytes();
            if FAILS_ONCE.swap(false, Ordering::Relaxed) {
                return std::ptr::null_mut();
            }
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        }
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Allocation) {
        if layout.size() >= MIB {
            let _ = cached_bytes();
            LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        }
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.dealloc(data, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Lets one test at a time run, with an empty cache.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    trim();
    one
}

fn allocations<R>(run: impl FnOnce() -> R) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(run());
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// A tensor of `mib` MiB of `value`.
fn tensor(mib: usize, value: u8) -> Tensor {
    Tensor::from_vec(vec![value; mib * MIB], [mib, MIB]).expect("as many elements")
}

fn copy(tensor: &Tensor) -> Tensor {
    tensor.deep_clone().expect("a little memory")
}

#[test]
fn a_loop_of_copies_allocates_once() {
    let _one = alone();
    let source = tensor(5, 3);
    assert_eq!(allocations(|| copy(&source)), 1);
    assert_eq!(cached_bytes(), 5 * MIB);
    for _ in 0..10 {
        assert_eq!(allocations(|| copy(&source)), 0);
    }
    let (first, second) = (copy(&source), copy(&source));
    assert_eq!(cached_bytes(), 0);
    drop((first, second));
    assert_eq!(cached_bytes(), 10 * MIB);
    assert_eq!(trim(), 10 * MIB);
    assert_eq!(cached_bytes(), 0);
}

#[test]
fn all_memory_is_given_back_as_it_came() {
    let _one = alone();
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for mib in [2, 3, 5, 7, 31] {
        let source = tensor(mib, 1);
        drop((copy(&source), copy(&source)));
        drop(Tensor::zeros::<u8>([mib, MIB]).expect("a little memory"));
    }
    assert!(cached_bytes() > 0);
    trim();
    assert_eq!(LIVE_BYTES.load(Ordering::Relaxed), before);
}

#[test]
fn small_copies_stay_with_the_allocator() {
    let _one = alone();
    let source = Tensor::from_vec(vec![1_u8; MIB], [MIB]).expect("as many elements");
    assert_eq!(allocations(|| copy(&source)), 1);
    assert_eq!(cached_bytes(), 0);
}

#[test]
fn no_byte_of_another_tensor_is_readable() {
    let _one = alone();
    drop(copy(&tensor(6, 0xaa)));
    // New zeros, with gaps that are part of the memory, too.
    let gaps = Layout::new(&[6, 1 << 19], &[1 << 20, 2]).expect("every second byte");
    let zeros = Tensor::zeros_with(gaps, DType::U8).expect("a little memory");
    let bytes = zeros.to_vec::<u8>().expect("u8");
    assert!(bytes.iter().all(|&byte| byte == 0));
    // A smaller copy in a larger block.
    drop(copy(&tensor(6, 0xaa)));
    let source =
        Tensor::from_vec(vec![1_u8; 5 * MIB + 1], [5 * MIB + 1]).expect("as many elements");
    let copy = copy(&source);
    assert_eq!(cached_bytes(), 0, "the block of 6 MiB");
    assert_eq!(copy.as_slice::<u8>().expect("exclusive"), source.as_slice::<u8>().expect("same"));
}

#[test]
fn without_memory_the_cache_is_given_back_first() {
    let _one = alone();
    let (small, large) = (tensor(2, 1), tensor(3, 1));
    drop(copy(&small));
    FAILS_ONCE.store(true, Ordering::Relaxed);
    let copied = copy(&large);
    assert!(!FAILS_ONCE.load(Ordering::Relaxed), "the first attempt failed");
    assert_eq!(cached_bytes(), 0);
    FAILS_ONCE.store(true, Ordering::Relaxed);
    let error = large.deep_clone().expect_err("the cache is empty");
    assert_eq!(error, Error::OutOfMemory { bytes: 3 * MIB });
    drop(copied);
    FAILS_ONCE.store(true, Ordering::Relaxed);
    assert_eq!(large.to_vec::<u8>().expect("the cache had 3 MiB").len(), 3 * MIB);
    assert_eq!(cached_bytes(), 0);
}

#[test]
fn the_limit_is_that_of_the_process() {
    let _one = alone();
    let source = tensor(4, 1);
    assert_eq!(set_cache_limit(6 * MIB), DEFAULT_LIMIT);
    drop((copy(&source), copy(&source)));
    assert_eq!(cached_bytes(), 4 * MIB);
    assert_eq!(set_cache_limit(usize::MAX), 6 * MIB);
    assert_eq!(set_cache_limit(0), usize::MAX - 1);
    assert_eq!(cached_bytes(), 0);
    assert_eq!(allocations(|| (copy(&source), copy(&source))), 2);
    assert_eq!(cached_bytes(), 0, "the cache is off");
    set_cache_limit(DEFAULT_LIMIT);
}

#[test]
fn the_environment_turns_the_cache_off() {
    const VARIABLE: &str = "DLBRIDGE_TEST_LIMIT";
    if std::env::var_os(VARIABLE).is_some() {
        drop(copy(&tensor(2, 1)));
        assert_eq!(cached_bytes(), 0);
        assert_eq!(set_cache_limit(7), 0);
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().expect("a test"))
        .args(["--exact", "the_environment_turns_the_cache_off"])
        .envs([(VARIABLE, "1"), ("DLBRIDGE_CACHE_LIMIT", "0")])
        .output()
        .expect("the same program");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn children_copy_while_threads_of_the_parent_use_the_cache() {
    let _one = alone();
    let source = tensor(2, 5);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (source, ends) = (source.share(), &ends);
            scope.spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    drop(copy(&source));
                    trim();
                }
            });
        }
        let copies_well = || {
            let copies = [copy(&source), copy(&source)];
            let [first, second] = copies.each_ref().map(|copy| copy.as_slice::<u8>());
            let is_right = first == source.as_slice::<u8>() && first == second;
            drop(copies);
            trim();
            is_right && cached_bytes() == 0
        };
        // SAFETY: the child calls no code that waits for another thread, apart from the allocator,
        // whose locks glibc keeps usable.
        let works = (0..50).all(|_| unsafe { in_child(copies_well) } == 0);
        ends.store(true, Ordering::Relaxed);
        assert!(works);
    });
}
