//! The order of work on several streams: the fake driver runs nothing before it must.

use std::sync::{Arc, Barrier};

use dlbridge::{DType, Device, Error, MemoryFormat, Stream, Tensor};

use crate::fake_cuda::{
    Current, ExternalStream, Pinned, Session, cuda, memory, peek, read, synchronize,
    synchronize_devices,
};
use crate::tensors::{GPU, elements, numbers};

#[test]
fn copies_wait_for_the_stream_given_to_wait_stream() {
    let session = Session::new();
    let writer = ExternalStream::new(0);
    let old = memory(0, &[4], &[1], DType::U8, &[1, 2, 3, 4]);
    writer.write(&old, &[5, 6, 7, 8]);
    // There was no call of `wait_stream`, so dlbridge reads in the order of the default stream.
    assert_eq!(elements(&old.to_device(Device::CPU).expect("a copy")), [1, 2, 3, 4]);
    writer.synchronize();
    writer.write(&old, &[9, 10, 11, 12]);
    old.wait_stream(&writer.stream()).expect("an order");
    assert_eq!(elements(&old.to_device(Device::CPU).expect("a copy")), [9, 10, 11, 12]);
    drop(old);
    synchronize_devices();
    drop(writer);
    session.check();
}

#[test]
fn record_stream_makes_consumers_wait_for_the_copy() {
    let session = Session::new();
    let (reader, ours, target) =
        (ExternalStream::new(0), Stream::new(GPU).expect("a stream"), Pinned::new(4));
    let host = Tensor::from_vec(vec![1_u8, 2, 3, 4], [4]).expect("four");
    let near = host.to_device_on(GPU, &ours).expect("a copy");
    near.record_stream(&reader.stream()).expect("an order");
    reader.read(&near, &target);
    reader.synchronize();
    assert_eq!(target.bytes(), [1, 2, 3, 4]);
    let log = session.log_of(&["cuEventRecord", "cuStreamWaitEvent"]);
    assert!(log.len() >= 2, "{log:?}");
    drop((near, reader, target, ours));
    session.check();
}

#[test]
fn reading_on_an_unrecorded_stream_is_a_fault() {
    let session = Session::new();
    let (reader, ours, target) =
        (ExternalStream::new(0), Stream::new(GPU).expect("a stream"), Pinned::new(4));
    let near = Tensor::zeros::<u8>([4]).expect("memory").to_device_on(GPU, &ours).expect("a copy");
    reader.read(&near, &target); // neither record_stream nor an export
    drop(near);
    reader.synchronize();
    assert_ne!(session.faults(), "");
    drop((reader, target, ours));
}

/// Copies on many streams, each of memory that the copy before it wrote.
#[test]
fn copies_on_different_streams_are_ordered() {
    let session = Session::new();
    let (one, two) = (Stream::new(GPU).expect("a stream"), Stream::new(GPU).expect("a stream"));
    let per_thread = Stream::per_thread_default(GPU).expect("a stream");
    let streams = [&one, &two, &per_thread, &Stream::legacy_default(GPU).expect("a stream")];
    for first in streams {
        for second in streams {
            let host = Tensor::from_vec((0..60_u8).collect(), [6, 10]).expect("as many");
            let near = host.to_device_on(GPU, first).expect("a copy");
            let clone = near.deep_clone_on(MemoryFormat::Preserve, second).expect("a copy");
            drop(near);
            let mut last = Tensor::zeros::<u8>([6, 10])
                .expect("memory")
                .to_device_on(GPU, second)
                .expect("a copy");
            clone.copy_into_on(&mut last, first).expect("a copy");
            drop(clone);
            let back = last.to_device_on(Device::CPU, second).expect("a copy");
            assert_eq!(elements(&back), elements(&host), "{first:?} {second:?}");
            let other = last.to_device_on(Device::cuda(1), first).expect("a copy");
            drop(last);
            assert_eq!(
                elements(&other.cpu().expect("a copy")),
                elements(&host),
                "{first:?} {second:?}"
            );
        }
    }
    drop((one, two));
    session.check();
}

/// The host waits for the second stream only.
#[test]
fn copies_wait_for_sources_written_on_another_stream() {
    let session = Session::new();
    let (one, two) = (Stream::new(GPU).expect("a stream"), Stream::new(GPU).expect("a stream"));
    let far = Stream::new(Device::cuda(1)).expect("a stream");
    let host = Tensor::from_vec(numbers(60), [60]).expect("as many");
    let near = host.to_device_on(GPU, &one).expect("a copy");
    let clone = near.deep_clone_on(MemoryFormat::Preserve, &two).expect("a copy");
    two.synchronize().expect("done");
    assert_eq!(peek(clone.data_ptr(), 60), numbers(60));
    drop(near);
    let near = host.to_device_on(GPU, &one).expect("a copy");
    assert_eq!(elements(&near.into_device_on(Device::CPU, &two).expect("a copy")), numbers(60));
    let near = host.to_device_on(GPU, &one).expect("a copy");
    let other = near.to_device_on(Device::cuda(1), &far).expect("a copy");
    far.synchronize().expect("done");
    assert_eq!(peek(other.data_ptr(), 60), numbers(60));
    // Into memory that is being filled elsewhere: the later copy wins.
    let mut target = host.to_device_on(GPU, &one).expect("a copy");
    let zeros = Tensor::zeros::<u8>([60]).expect("memory");
    zeros.copy_into_on(&mut target, &two).expect("a copy");
    two.synchronize().expect("done");
    one.synchronize().expect("done");
    assert_eq!(peek(target.data_ptr(), 60), [0; 60]);
    drop((near, clone, other, target, one, two, far));
    session.check();
}

/// A consumer may write the memory that it received.
#[test]
fn copies_wait_for_recorded_consumers() {
    let session = Session::new();
    let writer = ExternalStream::new(0);
    let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
    near.record_stream(&writer.stream()).expect("an order");
    writer.write(&near, &[1, 2, 3, 4]);
    assert_eq!(elements(&near.to_device(Device::CPU).expect("a copy")), [1, 2, 3, 4]);
    drop(near);
    drop(writer);
    session.check();
}

/// A view and the tensor that it views are ordered together.
#[test]
fn views_share_the_stream_tracker() {
    let session = Session::new();
    let (ours, writer) = (Stream::new(GPU).expect("a stream"), ExternalStream::new(0));
    let near = Tensor::zeros::<u8>([4]).expect("memory").to_device_on(GPU, &ours).expect("a copy");
    // SAFETY: the same elements, which `near` keeps.
    let view = unsafe { near.share_as_unchecked(near.descriptor().clone(), false, near.share()) };
    near.record_stream(&writer.stream()).expect("an order");
    writer.write(&near, &[1, 2, 3, 4]);
    assert_eq!(elements(&view.to_device(Device::CPU).expect("a copy")), [1, 2, 3, 4]);
    drop((near, view));
    drop((ours, writer));
    session.check();
}

/// Memory that is used on one thread's own default stream, and released on another thread.
#[test]
fn memory_used_on_a_per_thread_stream_can_be_released_elsewhere() {
    let session = Session::new();
    let ours = Stream::new(GPU).expect("a stream");
    for alloc_stream in [None, Some(&ours)] {
        let (send, receive) = std::sync::mpsc::channel::<Tensor>();
        let (released, wait) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let per_thread = std::ptr::without_provenance_mut(2);
                let (stream, target) =
                    (Stream::per_thread_default(GPU).expect("a stream"), Pinned::new(60));
                let host = Tensor::from_vec(numbers(60), [60]).expect("as many");
                let near = host.to_device_on(GPU, alloc_stream.unwrap_or(&stream)).expect("a copy");
                near.record_stream(&stream).expect("an order");
                read(&near, &target, 0, per_thread);
                send.send(near).expect("the other end");
                wait.recv().expect("the other end");
                synchronize(0, per_thread);
                assert_eq!(target.bytes(), numbers(60));
            });
            drop(receive.recv().expect("a tensor"));
            released.send(()).expect("the other end");
        });
    }
    drop(ours);
    session.check();
}

#[test]
fn exports_are_ready_on_the_default_stream() {
    let session = Session::new();
    let ours = Stream::new(GPU).expect("a stream");
    let host = Tensor::from_vec(vec![1_u8, 2, 3, 4], [4]).expect("four");
    let near = host.to_device_on(GPU, &ours).expect("a copy");
    let exported = near.into_dlpack();
    // SAFETY: the struct lives.
    let tensor = unsafe { exported.as_ptr().as_ref() }.dl_tensor;
    assert_eq!((tensor.device.device_type, tensor.device.device_id), (2, 0));
    // A consumer on the legacy default stream.
    let target = Pinned::new(4);
    let current = Current::of(0);
    cuda!(cuMemcpyDtoHAsync_v2(
        target.0.cast() => *mut std::ffi::c_void,
        tensor.data.expose_provenance() as u64 => u64,
        4 => usize,
        std::ptr::without_provenance_mut(1) => *mut std::ffi::c_void
    ));
    drop(exported);
    cuda!(cuStreamSynchronize(std::ptr::without_provenance_mut(1) => *mut std::ffi::c_void));
    drop(current);
    assert_eq!(target.bytes(), [1, 2, 3, 4]);
    drop((ours, target));
    session.check();
}

/// If the device cannot be made to wait, the host waits before it exports.
#[test]
fn exports_block_the_host_if_the_stream_wait_fails() {
    let session = Session::new();
    let ours = Stream::new(GPU).expect("a stream");
    let host = Tensor::from_vec(numbers(100), [100]).expect("as many");
    let (near, target) = (host.to_device_on(GPU, &ours).expect("a copy"), Pinned::new(100));
    session.fail("cuStreamWaitEvent", 1, 999);
    let exported = near.share_dlpack();
    let legacy = std::ptr::without_provenance_mut(1);
    read(&near, &target, 0, legacy);
    synchronize(0, legacy);
    assert_eq!(target.bytes(), numbers(100));
    drop((near, exported, target, ours));
    session.check();
}

/// If events cannot be recorded, the host waits for all streams.
#[test]
fn exports_wait_for_recorded_writers_if_events_fail() {
    let session = Session::new();
    let (writer, target) = (ExternalStream::new(0), Pinned::new(4));
    let ours = Stream::new(GPU).expect("a stream");
    for nth in 1..5 {
        let zeros = Tensor::zeros::<u8>([4]).expect("memory");
        let near = zeros.to_device_on(GPU, &ours).expect("a copy");
        near.record_stream(&writer.stream()).expect("an order");
        writer.write(&near, &[1, 2, 3, 4]);
        session.fail("cuEventRecord", nth, 999);
        let exported = near.share_dlpack();
        Session::forget();
        let legacy = std::ptr::without_provenance_mut(1);
        read(&near, &target, 0, legacy);
        synchronize(0, legacy);
        assert_eq!(target.bytes(), [1, 2, 3, 4], "{nth}");
        drop((near, exported));
    }
    drop((writer, target, ours));
    session.check();
}

/// If producer and consumer use the default stream, an export calls no function of the driver.
#[test]
fn exports_on_the_default_stream_make_no_driver_calls() {
    let session = Session::new();
    let default = Stream::legacy_default(GPU).expect("a stream");
    let theirs = memory(0, &[4], &[1], DType::U8, &[1, 2, 3, 4]);
    let ours = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
    for tensor in [&theirs, &ours] {
        Session::forget();
        drop(tensor.share_dlpack());
        drop(tensor.share().with_stream(&default).expect("ready").into_dlpack());
        tensor.record_stream(&default).expect("ready");
        assert_eq!(session.log(), Vec::<String>::new());
    }
    drop((theirs, ours));
    session.check();
}

/// dlbridge queues nothing on a capturing stream, and leaks memory that is used on one.
#[test]
fn capturing_streams_are_refused_and_never_waited_for() {
    let session = Session::new();
    let theirs = ExternalStream::new(0);
    let stream = theirs.stream();
    let near = Tensor::from_vec(numbers(4), [4]).expect("four").cuda(0).expect("a copy");
    let exported = near.share().with_stream(&stream).expect("ready").into_dlpack();
    theirs.capture(true);
    let refused = |error: Error| error.to_string().contains("a CUDA graph is being captured on it");
    assert!(near.to_device_on(Device::CPU, &stream).is_err_and(refused));
    assert!(near.deep_clone_on(MemoryFormat::Preserve, &stream).is_err_and(refused));
    assert!(near.record_stream(&stream).is_err_and(refused));
    assert!(
        near.share().with_stream(&stream).is_err_and(|rejected| refused(rejected.into_error()))
    );
    Session::forget();
    drop(exported);
    drop(near); // leaked, because dlbridge cannot know when the consumer is done
    assert_eq!(session.log_of(&["cuMemFreeAsync"]), Vec::<String>::new());
    synchronize_devices();
    assert_eq!(session.faults(), "");
    theirs.capture(false);
    assert_eq!(session.depth(), 0);
}

/// Consumers on several threads read one tensor on streams of their own, and each ends its use
/// while the others come and go. The last one frees the memory; only then are the streams
/// destroyed.
#[test]
fn uses_end_on_many_threads_while_the_tensor_is_dropped() {
    let session = Session::new();
    for _ in 0..20 {
        let near = Tensor::from_vec(vec![1_u8, 2, 3, 4], [4]).expect("four").cuda(0);
        let near = near.expect("a copy");
        let released = Arc::new(Barrier::new(5));
        let threads: Vec<_> = (0..4)
            .map(|_| (near.share(), near.share_dlpack(), Arc::clone(&released)))
            .map(|(handle, exported, released)| {
                std::thread::spawn(move || {
                    let (reader, target) = (ExternalStream::new(0), Pinned::new(4));
                    let handle = handle.with_stream(&reader.stream()).expect("an order");
                    drop(exported);
                    reader.read(&handle, &target);
                    drop(handle);
                    reader.synchronize();
                    released.wait();
                    assert_eq!(target.bytes(), [1, 2, 3, 4]);
                })
            })
            .collect();
        drop(near);
        released.wait();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
    session.check();
}
