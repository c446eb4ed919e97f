use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

const MIB: usize = 1 << 20;
const UNLIMITED: usize = usize::MAX;

fn block(bytes: usize) -> Block {
    let block = Block::uninit(bytes).expect("a little memory");
    assert_eq!(block.bytes(), bytes, "the tests use whole huge pages");
    block
}

#[cfg(target_os = "linux")]
fn fill(block: &Block, value: u8) {
    // SAFETY: only the block reaches these bytes.
    unsafe { block.data().write_bytes(value, block.bytes()) };
}

fn sizes(cache: &BlockCache) -> Vec<usize> {
    let blocks = cache.lock().expect("no other thread");
    let mut sizes: Vec<usize> = blocks.blocks().map(|(_, idle)| idle.block.bytes() / MIB).collect();
    assert_eq!(sizes.iter().sum::<usize>() * MIB, blocks.bytes);
    sizes.sort_unstable();
    sizes
}

fn retained(cache: &BlockCache) -> usize {
    let blocks = cache.lock().expect("no other thread");
    let retained = blocks.blocks().filter(|(_, idle)| !idle.is_reclaimable);
    retained.map(|(_, idle)| idle.block.bytes()).sum()
}

#[test]
fn a_block_comes_back_warm_and_once() {
    let cache = BlockCache::new(UNLIMITED);
    let new = block(4 * MIB);
    assert!(!new.is_warm());
    let address = new.data();
    cache.put(new);
    assert_eq!(cache.bytes(), 4 * MIB);
    let again = cache.take(4 * MIB..=5 * MIB).expect("the block");
    assert!(again.is_warm());
    assert_eq!(again.data(), address);
    assert!(cache.take(0..=usize::MAX).is_none());
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn the_smallest_block_that_is_large_enough_is_taken() {
    let cache = BlockCache::new(UNLIMITED);
    for size in [8, 4, 6, 16] {
        cache.put(block(size * MIB));
    }
    let take = |range: RangeInclusive<usize>| {
        cache.take(range.start() * MIB..=range.end() * MIB).map(|block| block.bytes() / MIB)
    };
    assert_eq!(take(9..=11), None);
    assert_eq!(take(17..=20), None);
    assert_eq!(take(5..=7), Some(6));
    assert_eq!(take(5..=8), Some(8));
    assert_eq!(sizes(&cache), [4, 16]);

    let last = block(4 * MIB);
    let address = last.data();
    cache.put(last);
    let taken = cache.take(4 * MIB..=4 * MIB).expect("two are there");
    assert_eq!(taken.data(), address, "the last one is in the processor's caches");
}

#[test]
fn the_oldest_blocks_make_room_for_new_ones() {
    let cache = BlockCache::new(10 * MIB);
    cache.put(block(4 * MIB));
    cache.put(block(6 * MIB));
    assert_eq!(sizes(&cache), [4, 6]);
    cache.put(block(2 * MIB));
    assert_eq!(sizes(&cache), [2, 6]);
    cache.put(block(12 * MIB));
    assert_eq!(sizes(&cache), [2, 6], "a block above the limit displaces no other");
    cache.put(block(10 * MIB));
    assert_eq!(sizes(&cache), [10]);
}

#[test]
fn no_more_blocks_than_slots_are_kept() {
    let cache = BlockCache::new(UNLIMITED);
    let first = block(4 * MIB);
    cache.put(first);
    for _ in 0..MAX_BLOCKS + 3 {
        cache.put(block(2 * MIB));
    }
    assert_eq!(sizes(&cache), [2; MAX_BLOCKS]);
}

#[test]
fn a_limit_is_kept_and_zero_is_off() {
    let cache = BlockCache::new(0);
    cache.put(block(2 * MIB));
    assert_eq!(cache.bytes(), 0);
    assert_eq!(cache.set_limit(12 * MIB), 0);
    for size in [2, 4, 6] {
        cache.put(block(size * MIB));
    }
    assert_eq!(cache.set_limit(7 * MIB), 12 * MIB);
    assert_eq!(sizes(&cache), [6]);
    assert_eq!(cache.set_limit(0), 7 * MIB);
    assert_eq!(cache.bytes(), 0);
    assert!(cache.take(0..=usize::MAX).is_none());
    cache.replace_limit(5, 9);
    assert_eq!(cache.limit(), 0, "it was not 5");
}

#[test]
fn trim_frees_all_and_says_how_much() {
    let cache = BlockCache::new(UNLIMITED);
    cache.put(block(2 * MIB));
    cache.put(block(64 * MIB));
    assert_eq!(cache.trim(), 66 * MIB);
    assert_eq!(cache.trim(), 0);
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn idle_blocks_are_freed_by_the_next_use() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let cache = BlockCache::new(UNLIMITED);
    cache.put_at(block(2 * MIB), after(0));
    cache.put_at(block(4 * MIB), after(5));
    assert!(cache.take_at(20 * MIB..=20 * MIB, after(9)).is_none());
    assert_eq!(sizes(&cache), [2, 4]);
    assert!(cache.take_at(20 * MIB..=20 * MIB, after(11)).is_none());
    assert_eq!(sizes(&cache), [4]);
    cache.put_at(block(6 * MIB), after(15));
    assert_eq!(sizes(&cache), [6]);
    // A block that fits is used, however long it was idle.
    assert!(cache.take_at(6 * MIB..=6 * MIB, after(100)).is_some());
    // A clock that steps back frees nothing.
    cache.put_at(block(2 * MIB), after(5));
    assert!(cache.take_at(20 * MIB..=20 * MIB, after(0)).is_none());
    assert_eq!(sizes(&cache), [2]);
}

#[test]
fn the_system_may_take_all_but_the_last_32_mib() {
    let cache = BlockCache::new(UNLIMITED);
    for size in [16, 8, 8] {
        cache.put(block(size * MIB));
    }
    assert_eq!(retained(&cache), 32 * MIB);
    cache.put(block(4 * MIB));
    assert_eq!(retained(&cache), 20 * MIB, "the oldest became reclaimable");
    cache.put(block(64 * MIB));
    assert_eq!(retained(&cache), 0, "all others are older");
    assert_eq!(sizes(&cache), [4, 8, 8, 16, 64]);
    let block = cache.take(16 * MIB..=16 * MIB).expect("the first one");
    cache.put(block);
    assert_eq!(retained(&cache), 16 * MIB, "it was written meanwhile");
}

/// The number of bytes of a mapping that `field` of `/proc/self/smaps` counts.
#[cfg(target_os = "linux")]
fn mapped(address: usize, field: &str) -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("Linux has it");
    let contains = |line: &str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let range = range.map(|(first, end)| [first, end].map(|a| usize::from_str_radix(a, 16)));
        matches!(range, Some([Ok(first), Ok(end)]) if (first..end).contains(&address))
    };
    let line = smaps.lines().skip_while(|line| !contains(line));
    let line = line.skip(1).find(|line| line.starts_with(field)).expect("a field of the mapping");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("KiB") << 10
}

#[cfg(target_os = "linux")]
#[test]
fn the_system_takes_reclaimable_pages_and_gives_new_ones() {
    const BYTES: usize = 40 * MIB;
    let cache = BlockCache::new(UNLIMITED);
    let dirty = block(BYTES);
    fill(&dirty, 7);
    let address = dirty.data().addr().get();
    assert!(mapped(address, "Rss:") >= BYTES);
    cache.put(dirty);
    assert!(mapped(address, "LazyFree:") >= BYTES, "the system may take all pages");
    // What the system does when it runs short of memory.
    // SAFETY: changes no content that code relies on.
    unsafe { libc::madvise(address as *mut _, BYTES, libc::MADV_PAGEOUT) };
    assert!(mapped(address, "Rss:") < BYTES / 2, "it took them");
    let block = cache.take(BYTES..=BYTES).expect("still in the cache");
    fill(&block, 9);
    // SAFETY: all bytes were written just above.
    let bytes = unsafe { std::slice::from_raw_parts(block.data().as_ptr(), BYTES) };
    assert!(bytes.iter().all(|&byte| byte == 9));
    assert_eq!(mapped(address, "LazyFree:"), 0, "written pages stay");
}

#[test]
fn a_panic_while_the_lock_is_held_changes_nothing() {
    let cache = BlockCache::new(UNLIMITED);
    cache.put(block(2 * MIB));
    let held = AssertUnwindSafe(|| {
        let _lock = cache.blocks.lock().expect("not poisoned yet");
        panic!("on purpose");
    });
    assert!(catch_unwind(held).is_err());
    cache.put(block(4 * MIB));
    assert_eq!(sizes(&cache), [2, 4]);
    assert_eq!(cache.trim(), 6 * MIB);
}

#[test]
fn no_block_is_given_to_two_threads() {
    const ROUNDS: usize = 400;
    let cache = BlockCache::new(12 * MIB);
    let used = Mutex::new(HashSet::new());
    let run = |id: usize| {
        for round in 0..ROUNDS {
            let size = 2 * MIB * (1 + (round + id) % 2);
            let block = cache.take(size..=size).unwrap_or_else(|| self::block(size));
            assert!(
                used.lock().expect("no panic").insert(block.data().addr()),
                "two threads have it"
            );
            let first = block.data().cast::<usize>();
            // SAFETY: only this thread has the block.
            unsafe { first.write(round) };
            std::thread::yield_now();
            // SAFETY: only this thread has the block.
            assert_eq!(unsafe { first.read() }, round);
            used.lock().expect("no panic").remove(&block.data().addr());
            cache.put(block);
            if round % 50 == id {
                cache.trim();
            }
            assert!(cache.bytes() <= 12 * MIB);
        }
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|id| {
            drop(scope.spawn({
                let run = &run;
                move || run(id)
            }))
        })
    });
}

/// Runs a test of this file in a process of its own: forks count for all caches of a process.
#[cfg(target_os = "linux")]
fn in_own_process(name: &str, test: fn()) {
    const VARIABLE: &str = "DLBRIDGE_TEST_FORKS";
    if std::env::var_os(VARIABLE).is_some() {
        return test();
    }
    let mut command = std::process::Command::new(std::env::current_exe().expect("Linux knows"));
    let path = module_path!().split_once("::").expect("a crate's name").1;
    command.args(["--exact", &format!("{path}::{name}")]).env(VARIABLE, "1");
    let output = command.output().expect("the same program");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Runs `test` in the child of a fork, for half a minute at most; true means that it is right.
#[cfg(target_os = "linux")]
fn in_child(test: impl FnOnce() -> bool) -> bool {
    // SAFETY: the other threads of this process hold no lock but that of a cache.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child, and only the child, if it hangs.
        unsafe { libc::alarm(30) };
        let status = i32::from(!test());
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(status) };
    }
    let mut status = -1;
    // SAFETY: the child from above.
    unsafe { libc::waitpid(child, &mut status, 0) };
    status == 0
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_works_without_the_lock_that_its_parent_held() {
    in_own_process("a_child_works_without_the_lock_that_its_parent_held", || {
        let cache = BlockCache::new(UNLIMITED);
        cache.put(block(2 * MIB));
        let lock = cache.blocks.lock().expect("not poisoned");
        // The child has a copy of the lock, which no thread there releases.
        let is_right = in_child(|| {
            let block = cache.take(2 * MIB..=2 * MIB);
            cache.put(self::block(2 * MIB));
            block.is_none() && cache.trim() == 0 && cache.bytes() == 0 && cache.set_limit(0) > 0
        });
        drop(lock);
        assert!(is_right);
        assert_eq!(cache.trim(), 2 * MIB);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn blocks_from_before_a_fork_are_not_used_again() {
    in_own_process("blocks_from_before_a_fork_are_not_used_again", || {
        let cache = BlockCache::new(UNLIMITED);
        let in_use = block(2 * MIB);
        cache.put(block(4 * MIB));
        assert!(in_child(|| {
            let none = cache.take(4 * MIB..=4 * MIB).is_none() && cache.bytes() == 0;
            cache.put(block(4 * MIB));
            none && cache.take(4 * MIB..=4 * MIB).is_some_and(|block| block.is_warm())
        }));
        assert!(cache.take(4 * MIB..=4 * MIB).is_none());
        assert_eq!(cache.bytes(), 0, "the parent shared its pages with the child");
        cache.put(in_use);
        assert_eq!(cache.bytes(), 0, "these, too");
        cache.put(block(4 * MIB));
        assert!(cache.take(4 * MIB..=4 * MIB).is_some());
    });
}
