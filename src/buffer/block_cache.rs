//! A bounded cache of large blocks that were freed.
//!
//! The system fills new pages with zeros, and that takes longer than copying into pages that are
//! there. A program that makes and drops large copies in a loop gets the same block every time.
//!
//! ```text
//!   a buffer is dropped                                          a buffer is allocated
//!        │ put                                                             ▲ take: the smallest
//!        ▼                                                                 │ that is large enough
//!   ┌─ the cache ──────────────────────────────────────────────────────────┴──────────────────┐
//!   │ retained: up to 32 MiB,      ── the oldest ──►  reclaimable: the system may take the    │
//!   │ those that were put in last                     pages of whole huge pages (`MADV_FREE`) │
//!   └──────┬──────────────────────────────────────────────────────────────────────────────────┘
//!          ▼ the allocator: the oldest above the limit, blocks that were idle for 10 s, `trim`
//! ```
//!
//! A write to a page takes it back from the system. `MADV_FREE` costs a call, and interrupts all
//! threads of the process, which is too much for small copies and does not count for large ones.
//!
//! Invariants:
//! * Blocks in the cache have at most `limit` bytes together, except while a call that lowers the
//!   limit is running. At most [`RETAINED_MAX_BYTES`] of them are not reclaimable, except while a
//!   call that puts a block in is running.
//! * While the lock is held, no code runs that allocates, frees, panics or calls the system. So a
//!   thread holds it for less than a microsecond, and a global allocator may use this crate.
//! * A thread that does not get the lock goes on without the cache. So the child of a fork works if
//!   another thread of its parent held the lock, which stays locked in the child.
//! * The cache is a static variable without a destructor. Its blocks stay reachable until the
//!   process ends.

use std::cmp::Reverse;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::block::Block;

/// Maximum number of blocks in the cache.
const MAX_BLOCKS: usize = 64;

/// Blocks that were not used for this time are freed when the cache is used next.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Maximum size (bytes) of the blocks that the system cannot take. It is what glibc's allocator
/// keeps, too: it maps and unmaps memory only from this size on.
const RETAINED_MAX_BYTES: usize = 32 << 20;

/// Attempts to get the lock. Between the first ones a thread spins; then it yields, because the
/// thread that holds the lock may have been interrupted.
const LOCK_SPINS: usize = 100;
const LOCK_YIELDS: usize = 20;

/// The same for callers who ask for memory back: some milliseconds at most, in the child of a fork
/// that another thread of its parent has left the lock to.
const PATIENT_LOCK_YIELDS: usize = 10_000;

/// Large blocks that were freed, for later buffers.
pub(super) struct BlockCache {
    /// Maximum size (bytes) of all blocks together.
    limit: AtomicUsize,
    blocks: Mutex<Blocks>,
}

impl BlockCache {
    pub(super) const fn new(limit: usize) -> Self {
        let blocks = Blocks { slots: [const { None }; MAX_BLOCKS], bytes: 0 };
        Self { limit: AtomicUsize::new(limit), blocks: Mutex::new(blocks) }
    }

    /// Keeps a block for a later buffer, or frees it if it is larger than the limit.
    pub(super) fn put(&self, block: Block) {
        self.put_at(block, Instant::now());
    }

    /// Returns the smallest block whose size is in the range `bytes`, if there is one.
    pub(super) fn take(&self, bytes: RangeInclusive<usize>) -> Option<Block> {
        if self.limit() == 0 {
            // Blocks that `set_limit` could not free.
            self.free_surplus(0, Instant::now(), LOCK_YIELDS);
            return None;
        }
        self.take_at(bytes, Instant::now())
    }

    /// Frees all blocks, and returns their size (bytes).
    pub(super) fn trim(&self) -> usize {
        self.free_surplus(0, Instant::now(), PATIENT_LOCK_YIELDS)
    }

    /// Returns the size (bytes) of all blocks.
    pub(super) fn bytes(&self) -> usize {
        self.lock().map_or(0, |blocks| blocks.bytes)
    }

    #[inline]
    pub(super) fn limit(&self) -> usize {
        // Relaxed: no other memory depends on the limit.
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit, and frees the blocks that exceed it. Returns the limit from before.
    pub(super) fn set_limit(&self, bytes: usize) -> usize {
        let before = self.limit.swap(bytes, Ordering::Relaxed);
        // Threads that get the lock after this one see the new limit.
        self.free_surplus(bytes, Instant::now(), PATIENT_LOCK_YIELDS);
        before
    }

    /// Changes the limit to `new` if it is `current`.
    pub(super) fn replace_limit(&self, current: usize, new: usize) {
        // If another thread has changed the limit, that one stays.
        let _ = self.limit.compare_exchange(current, new, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn put_at(&self, block: Block, now: Instant) {
        let Some(room) = self.limit().checked_sub(block.bytes()) else { return };
        if block.is_from_before_fork() {
            return;
        }
        self.free_surplus(room, now, LOCK_YIELDS);
        self.insert(IdleBlock { block: block.into_warm(), since: now, is_reclaimable: false });
        while let Some(idle) = self.lock().and_then(|mut blocks| blocks.take_retained_surplus()) {
            let Some(block) = idle.block.into_reclaimable() else { continue };
            self.insert(IdleBlock { block, since: idle.since, is_reclaimable: true });
        }
    }

    fn insert(&self, idle: IdleBlock) {
        // Another thread may have filled the cache meanwhile. What does not fit is freed here,
        // after the lock was released.
        let _surplus = self.lock().map(|mut blocks| blocks.insert(idle, self.limit()));
    }

    fn take_at(&self, bytes: RangeInclusive<usize>, now: Instant) -> Option<Block> {
        let block = self.lock().and_then(|mut blocks| blocks.take(bytes));
        self.free_surplus(self.limit(), now, LOCK_YIELDS);
        block
    }

    /// Frees blocks until those that are left have at most `limit` bytes, and none is out of date.
    /// Returns the size (bytes) of those that were freed.
    fn free_surplus(&self, limit: usize, now: Instant, lock_yields: usize) -> usize {
        let mut freed = 0;
        let surplus = || self.lock_within(lock_yields)?.take_surplus(limit, now);
        while let Some(idle) = surplus() {
            freed += idle.block.bytes();
        }
        freed
    }

    fn lock(&self) -> Option<MutexGuard<'_, Blocks>> {
        self.lock_within(LOCK_YIELDS)
    }

    /// Returns `None` if another thread holds the lock all the time, or held it when this process
    /// was forked.
    fn lock_within(&self, yields: usize) -> Option<MutexGuard<'_, Blocks>> {
        for attempt in 0..LOCK_SPINS + yields {
            match self.blocks.try_lock() {
                Ok(blocks) => return Some(blocks),
                // No method of `Blocks` panics between two changes.
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if attempt < LOCK_SPINS => std::hint::spin_loop(),
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
        None
    }
}

/// The blocks of a cache.
struct Blocks {
    slots: [Option<IdleBlock>; MAX_BLOCKS],
    /// The size of all blocks.
    bytes: usize,
}

struct IdleBlock {
    block: Block,
    /// When the block was put in.
    since: Instant,
    is_reclaimable: bool,
}

impl Blocks {
    /// Puts a block in an empty slot, or else in that of the oldest block. Returns the block that
    /// is to be freed: the one that was displaced, or `idle` if it exceeds the limit.
    fn insert(&mut self, idle: IdleBlock, limit: usize) -> Option<IdleBlock> {
        let bytes = idle.block.bytes();
        if self.bytes.saturating_add(bytes) > limit {
            return Some(idle);
        }
        let empty = self.slots.iter().position(Option::is_none);
        let index = empty.or_else(|| self.oldest(|_| true))?;
        let displaced = self.remove(index);
        self.bytes += bytes;
        self.slots[index] = Some(idle);
        displaced
    }

    /// Removes the smallest block whose size is in the range `bytes`. Of several, this is the last
    /// that was put in.
    fn take(&mut self, bytes: RangeInclusive<usize>) -> Option<Block> {
        let fits = |idle: &IdleBlock| {
            bytes.contains(&idle.block.bytes()) && !idle.block.is_from_before_fork()
        };
        let blocks = self.blocks().filter(|(_, idle)| fits(idle));
        let best = blocks.min_by_key(|(_, idle)| (idle.block.bytes(), Reverse(idle.since)));
        let index = best.map(|(index, _)| index)?;
        self.remove(index).map(|idle| idle.block)
    }

    /// Removes the oldest block, if it is out of date or the blocks exceed the limit.
    fn take_surplus(&mut self, limit: usize, now: Instant) -> Option<IdleBlock> {
        let index = self.oldest(|_| true)?;
        let IdleBlock { block, since, .. } = self.slots[index].as_ref()?;
        let is_idle = now.saturating_duration_since(*since) >= IDLE_MAX;
        let is_surplus = is_idle || block.is_from_before_fork() || self.bytes > limit;
        if is_surplus { self.remove(index) } else { None }
    }

    /// Removes the oldest block that is not reclaimable, if there are too many of them.
    fn take_retained_surplus(&mut self) -> Option<IdleBlock> {
        let retained = self.blocks().filter(|(_, idle)| !idle.is_reclaimable);
        let bytes: usize = retained.map(|(_, idle)| idle.block.bytes()).sum();
        if bytes <= RETAINED_MAX_BYTES {
            return None;
        }
        let index = self.oldest(|idle| !idle.is_reclaimable)?;
        self.remove(index)
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, &IdleBlock)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| Some((index, slot.as_ref()?)))
    }

    /// Returns the index of the oldest block for which `is_candidate` is true.
    fn oldest(&self, is_candidate: impl Fn(&IdleBlock) -> bool) -> Option<usize> {
        let candidates = self.blocks().filter(|(_, idle)| is_candidate(idle));
        candidates.min_by_key(|(_, idle)| idle.since).map(|(index, _)| index)
    }

    fn remove(&mut self, index: usize) -> Option<IdleBlock> {
        let idle = self.slots[index].take()?;
        self.bytes -= idle.block.bytes();
        Some(idle)
    }
}

#[cfg(test)]
mod tests;
