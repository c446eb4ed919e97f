//! Handles, structs and copies on many threads at once. ThreadSanitizer runs these tests too. It
//! sees only what is compiled with it, so the threads meet in locks and are joined one by one
//! (CONTRIBUTING.md says which parts of std it can follow).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use dlbridge::{DType, Descriptor, Device, Exported, Layout, MemoryFormat, Tensor};

const THREADS: usize = 6;
const ROUNDS: usize = 100;

/// Memory of 64 numbers, and how often it was freed.
struct Owner {
    numbers: Vec<i64>,
    drops: Arc<AtomicUsize>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A read that is not ordered before this write is a race.
        self.numbers.fill(-1);
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

/// A tensor over memory that an owner outside the crate keeps.
fn owned() -> (Tensor, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let mut owner = Owner { numbers: (0..64).collect(), drops: Arc::clone(&drops) };
    let data = owner.numbers.as_mut_ptr().cast();
    let layout = Layout::contiguous([8, 8]).expect("64 elements");
    let descriptor = Descriptor::new(data, layout, DType::I64, Device::CPU).expect("valid");
    // SAFETY: the owner keeps the numbers, which no other code reaches.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, owner) };
    // SAFETY: this handle is the only one, and nothing else reaches the memory.
    (unsafe { tensor.assume_exclusive() }.expect("one handle"), drops)
}

fn sum(tensor: &Tensor) -> i64 {
    tensor.as_slice::<i64>().expect("exclusive memory").iter().sum()
}

fn spawn_each<T: Send + 'static>(
    values: impl IntoIterator<Item = T>,
    run: fn(T),
) -> Vec<JoinHandle<()>> {
    values.into_iter().map(|value| thread::spawn(move || run(value))).collect()
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// Imports a struct again, as code on another thread does that received it from a producer.
fn imported(exported: Exported) -> Tensor {
    // SAFETY: the struct is ours, and no other code consumed it.
    unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("valid")
}

#[test]
fn the_owner_is_dropped_once_after_every_read() {
    for _ in 0..ROUNDS {
        let (tensor, drops) = owned();
        let handles: Vec<Tensor> = (0..THREADS).map(|_| tensor.share()).collect();
        let threads = spawn_each(handles, |handle| {
            for _ in 0..4 {
                let further = handle.share();
                assert_eq!(sum(&further), 2016);
            }
            let exported = handle.share_dlpack();
            drop(handle);
            assert_eq!(sum(&imported(exported)), 2016);
        });
        drop(tensor);
        join(threads);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn structs_are_released_and_taken_in_on_other_threads() {
    for _ in 0..ROUNDS {
        let (tensor, drops) = owned();
        let structs = (0..2 * THREADS).map(|_| tensor.share_dlpack()).collect();
        let bag: Arc<Mutex<Vec<Exported>>> = Arc::new(Mutex::new(structs));
        let threads = spawn_each((0..THREADS).map(|_| Arc::clone(&bag)), |bag| {
            let take = || bag.lock().expect("no panic").pop();
            // The first struct is released by its deleter, the second becomes a tensor, which is
            // exported again for another thread.
            drop(take());
            if let Some(exported) = take() {
                let tensor = imported(exported);
                assert_eq!(sum(&tensor), 2016);
                bag.lock().expect("no panic").push(tensor.share_dlpack());
            }
        });
        drop(tensor);
        join(threads);
        assert_eq!(drops.load(Ordering::Relaxed), 0, "exports are left");
        drop(bag);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn the_only_handle_writes_what_the_others_have_read() {
    for _ in 0..ROUNDS {
        let (mut tensor, drops) = owned();
        let handles = [tensor.share(), tensor.share()];
        let threads = spawn_each(handles, |handle| assert_eq!(sum(&handle), 2016));
        // Refused as long as a reader has its handle.
        let numbers = loop {
            if let Ok(numbers) = tensor.as_slice_mut::<i64>() {
                break numbers;
            }
            thread::yield_now();
        };
        numbers.fill(1);
        assert_eq!(sum(&tensor), 64);
        join(threads);
        drop(tensor);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn no_more_than_one_thread_takes_the_vec() {
    for _ in 0..ROUNDS {
        let tensor = Tensor::from_vec((0..64_i64).collect(), [64]).expect("64 elements");
        let taken = Arc::new(AtomicUsize::new(0));
        let handles = (0..THREADS).map(|_| (tensor.share(), Arc::clone(&taken)));
        let threads = spawn_each(handles.collect::<Vec<_>>(), |(handle, taken)| {
            assert_eq!(sum(&handle), 2016);
            if let Ok(mut numbers) = handle.into_vec::<i64>() {
                numbers.fill(1);
                taken.fetch_add(1, Ordering::Relaxed);
            }
        });
        let here = usize::from(tensor.into_vec::<i64>().is_ok());
        join(threads);
        assert!(taken.load(Ordering::Relaxed) + here <= 1);
    }
}

/// Exclusive memory passes from thread to thread in structs, and each thread writes it.
#[test]
fn exclusive_memory_is_written_by_one_thread_after_another() {
    let tensor = Tensor::from_vec(vec![0_i64; 64], [64]).expect("64 elements");
    let slot = Arc::new(Mutex::new(Some(tensor.into_dlpack())));
    let threads = spawn_each((0..THREADS).map(|_| Arc::clone(&slot)), |slot| {
        let mut turns = 0;
        while turns < ROUNDS {
            let Some(exported) = slot.lock().expect("no panic").take() else {
                thread::yield_now();
                continue;
            };
            let mut tensor = imported(exported);
            let numbers = tensor.as_slice_mut::<i64>().expect("the only handle");
            numbers.iter_mut().for_each(|number| *number += 1);
            *slot.lock().expect("no panic") = Some(tensor.into_dlpack());
            turns += 1;
        }
    });
    join(threads);
    let exported = slot.lock().expect("no panic").take().expect("the last thread put it there");
    let numbers = imported(exported).into_vec::<i64>().expect("the only handle");
    assert_eq!(numbers, [(THREADS * ROUNDS) as i64; 64]);
}

/// Copies that are large enough for several threads, while other handles come and go.
#[test]
fn large_copies_run_while_other_handles_are_dropped() {
    const SIDE: usize = 600;
    for _ in 0..4 {
        let numbers: Vec<i32> = (0..(SIDE * SIDE) as i32).collect();
        let mut numbers = numbers.into_boxed_slice();
        let data = numbers.as_mut_ptr().cast();
        let layout = Layout::new(&[SIDE as i64; 2], &[1, SIDE as i64]).expect("a transpose");
        let descriptor = Descriptor::new(data, layout, DType::I32, Device::CPU).expect("valid");
        // SAFETY: the owner keeps the numbers, which no other code reaches.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, numbers) };
        // One thread starts the pool: ThreadSanitizer does not see that others wait for that.
        drop(tensor.deep_clone_with(MemoryFormat::Contiguous).expect("memory"));
        let handles = [tensor.share(), tensor.share(), tensor.share()];
        let threads =
            spawn_each(handles, |handle| {
                let copy = handle.deep_clone_with(MemoryFormat::Contiguous).expect("memory");
                drop(handle);
                let mut copy = copy.into_dlpack();
                for _ in 0..3 {
                    copy = imported(copy).into_dlpack();
                }
                let copy = imported(copy);
                let copy = copy.as_slice::<i32>().expect("exclusive memory");
                assert!(copy.iter().enumerate().all(|(index, &number)| {
                    number as usize == index % SIDE * SIDE + index / SIDE
                }));
            });
        drop(tensor);
        join(threads);
    }
}
