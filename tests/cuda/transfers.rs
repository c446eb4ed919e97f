//! Copies that are started, and waited for later.

use dlbridge::{DType, Descriptor, Device, Error, Layout, Stream, Tensor};

use crate::fake_cuda::{Pinned, Session, synchronize_devices};
use crate::tensors::{GPU, elements, numbers};

#[test]
fn source_is_not_writable_during_a_transfer() {
    let session = Session::new();
    let stream = Stream::new(GPU).expect("a stream");
    let mut pinned =
        Tensor::from_vec(numbers(1000), [1000]).expect("as many").pin().expect("a copy");
    let upload = pinned.start_to_device(GPU, &stream).expect("started");
    assert!(!upload.is_done().expect("known"));
    assert_eq!(pinned.as_slice_mut::<u8>().err(), Some(Error::NotUnique));
    let near = upload.wait().expect("done");
    pinned.as_slice_mut::<u8>().expect("the only handle again").fill(0);
    let download = near.start_to_device(Device::CUDA_HOST, &stream).expect("started");
    let back = download.wait().expect("done");
    assert_eq!(back.as_slice::<u8>().expect("here"), numbers(1000));
    drop((pinned, near, back, stream));
    session.check();
}

#[test]
fn is_done_becomes_true_and_drop_waits() {
    let session = Session::new();
    let stream = Stream::new(GPU).expect("a stream");
    let pinned =
        Tensor::from_vec(numbers(1000), [10, 100]).expect("as many").pin().expect("a copy");
    let upload = pinned.start_to_device(GPU, &stream).expect("started");
    while !upload.is_done().expect("known") {}
    drop(upload.wait().expect("done"));
    drop(pinned.start_to_device(GPU, &stream).expect("started"));
    drop(pinned); // a fault if the device were still reading
    let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
    drop(near.start_to_device(Device::CUDA_HOST, &stream).expect("started"));
    drop(near);
    // Neither pageable nor strided memory is in use afterwards.
    let host = Tensor::from_vec(numbers(64), [64]).expect("as many");
    let upload = host.start_to_device(GPU, &stream).expect("started");
    drop(host);
    assert_eq!(elements(&upload.wait().expect("done").cpu().expect("a copy")), numbers(64));
    drop(stream);
    session.check();
}

#[test]
fn forgotten_transfers_keep_their_memory() {
    let session = Session::new();
    let stream = Stream::new(GPU).expect("a stream");
    let pinned = Tensor::from_vec(numbers(100), [100]).expect("as many").pin().expect("a copy");
    std::mem::forget(pinned.start_to_device(GPU, &stream).expect("started"));
    drop(pinned);
    synchronize_devices();
    assert_eq!(session.faults(), "");
}

/// The thread that waits is not the thread of the per-thread default stream.
#[test]
fn per_thread_stream_transfers_can_be_awaited_on_other_threads() {
    let session = Session::new();
    let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
    let stream = Stream::per_thread_default(GPU).expect("a stream");
    let download = near.start_to_device(Device::CUDA_HOST, &stream).expect("started");
    session.fail("cuEventSynchronize", 1, 999);
    std::thread::scope(|scope| {
        scope.spawn(move || drop(download.wait())).join().expect("no panic")
    });
    drop(near);
    session.check();
}

/// Code outside may write aliased memory after the call, so the call reads it before it returns.
#[test]
fn transfers_of_aliased_memory_complete_before_returning() {
    let session = Session::new();
    let (stream, theirs) = (Stream::new(GPU).expect("a stream"), Pinned::new(4));
    let layout = Layout::contiguous([4]).expect("valid");
    let descriptor =
        Descriptor::new(theirs.0.cast(), layout, DType::U8, Device::CPU).expect("valid");
    // SAFETY: `Pinned` allocated 4 bytes, and no copy of them is queued.
    unsafe { theirs.0.write_bytes(1, 4) };
    // SAFETY: `theirs` keeps the memory longer than the tensor lives.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    let upload = tensor.start_to_device(GPU, &stream).expect("started");
    // SAFETY: `Pinned` allocated 4 bytes, and the transfer has read them.
    unsafe { theirs.0.write_bytes(2, 4) };
    assert_eq!(elements(&upload.wait().expect("done").cpu().expect("a copy")), [1; 4]);
    drop((tensor, theirs, stream));
    session.check();
}
