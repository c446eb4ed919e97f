//! Which streams are recorded for a storage, and when its memory is freed.

use dlbridge::{DType, Descriptor, Device, Layout, Stream, Tensor};

use crate::fake_cuda::{ExternalStream, Pinned, Session, depth, memory, synchronize_devices};
use crate::tensors::{GPU, elements, numbers};

#[test]
fn memory_is_freed_after_its_consumers_without_host_waits() {
    let session = Session::new();
    let (reader, target) = (ExternalStream::new(0), Pinned::new(4));
    let near = Tensor::from_vec(vec![1_u8, 2, 3, 4], [4]).expect("four").cuda(0).expect("a copy");
    near.record_stream(&reader.stream()).expect("an order");
    let exported = near.share_dlpack();
    drop(near);
    // SAFETY: the struct lives.
    let data = unsafe { exported.as_ptr().as_ref() }.dl_tensor.data;
    assert!(!data.is_null());
    let layout = Layout::contiguous([4]).expect("valid");
    let descriptor = Descriptor::new(data, layout, DType::U8, GPU).expect("valid");
    // SAFETY: only an address for the test; dropped before the struct.
    let seen = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    reader.read(&seen, &target);
    drop(seen);
    Session::forget();
    drop(exported);
    let waits = session.log_of(&["cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize"]);
    assert!(waits.is_empty(), "{waits:?}");
    let log = session.log_of(&["cuEventRecord", "cuStreamWaitEvent", "cuMemFreeAsync"]);
    assert_eq!(log.len(), 3, "{log:?}");
    assert!(log[0].contains("stream=#") && log[1].contains("stream=legacy"), "{log:?}");
    assert!(log[2].starts_with("cuMemFreeAsync") && log[2].contains("stream=legacy"), "{log:?}");
    reader.synchronize();
    assert_eq!(target.bytes(), [1, 2, 3, 4]);
    drop((reader, target));
    session.check();
}

/// The deleter of aliased memory runs after its consumers' work.
#[test]
fn aliased_memory_is_released_after_its_consumers() {
    let session = Session::new();
    let (reader, target) = (ExternalStream::new(0), Pinned::new(4));
    let theirs = memory(0, &[4], &[1], DType::U8, &[1, 2, 3, 4]);
    theirs.record_stream(&reader.stream()).expect("an order");
    reader.read(&theirs, &target);
    drop(theirs);
    reader.synchronize();
    assert_eq!(target.bytes(), [1, 2, 3, 4]);
    drop((reader, target));
    session.check();
}

#[test]
fn destroyed_streams_are_replaced_by_a_context_wait() {
    let session = Session::new();
    let reader = ExternalStream::new(0);
    let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
    near.record_stream(&reader.stream()).expect("an order");
    drop(reader);
    Session::forget();
    drop(near);
    assert_eq!(session.log_of(&["cuCtxSynchronize"]).len(), 1);
    Session::forget(); // the fake driver calls it a fault, as it should
    session.check();
}

/// A use of a stream ends with its handle; the stream may be destroyed afterwards.
#[test]
fn stream_uses_end_when_their_handle_is_dropped() {
    let session = Session::new();
    let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
    let targets: Vec<Pinned> = (0..50).map(|_| Pinned::new(100)).collect();
    for target in &targets {
        let reader = ExternalStream::new(0);
        let used = near.share().with_stream(&reader.stream()).expect("ready");
        let exported = used.into_dlpack();
        reader.read(&near, target);
        drop(exported);
    }
    Session::forget();
    let back = near.to_device(Device::CPU).expect("a copy");
    let waits = session.log_of(&["cuEventRecord", "cuStreamWaitEvent"]);
    assert!(waits.len() < 6, "{waits:?}");
    assert_eq!(elements(&back), numbers(100));
    assert!(targets.iter().all(|target| target.bytes() == numbers(100)));
    drop((near, targets));
    session.check();
}

/// Many uses on one stream need as many waits as one use.
#[test]
fn many_uses_of_one_stream_need_one_wait() {
    let session = Session::new();
    let side = Stream::new(GPU).expect("a stream");
    let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
    let uses: Vec<_> =
        (0..50).map(|_| near.share().with_stream(&side).expect("ready").into_dlpack()).collect();
    Session::forget();
    drop(near.deep_clone().expect("a copy"));
    assert!(session.log().len() < 40, "{:#?}", session.log());
    drop((uses, near, side));
    session.check();
}

/// The end of one use is not the end of another on the same stream.
#[test]
fn ending_one_use_keeps_other_uses_of_the_stream() {
    let session = Session::new();
    let writer = ExternalStream::new(0);
    let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
    let first = near.share().with_stream(&writer.stream()).expect("ready");
    let second = near.share().with_stream(&writer.stream()).expect("ready");
    drop(first);
    writer.write(&second, &[1, 2, 3, 4]);
    assert_eq!(elements(&near.to_device(Device::CPU).expect("a copy")), [1, 2, 3, 4]);
    drop((near, second));
    synchronize_devices();
    drop(writer);
    session.check();
}

/// An owner of a stream that uses the memory when it is dropped.
#[test]
fn stream_owners_may_copy_in_their_drop() {
    struct Curious(Tensor);
    impl Drop for Curious {
        fn drop(&mut self) {
            assert_eq!(depth(), 0, "no device of ours is current");
            assert_eq!(self.0.to_device(Device::CPU).map(|copy| copy.len()), Ok(4));
        }
    }
    // SAFETY: a tensor may be used on any thread; this one is not used through a reference.
    unsafe impl Sync for Curious {}
    let session = Session::new();
    let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
    let theirs = ExternalStream::new(0);
    // SAFETY: it does not live as long as it should, which costs a wait.
    let stream = unsafe { Stream::from_raw(GPU, theirs.as_raw(), Curious(near.share())) };
    near.record_stream(&stream.expect("a stream")).expect("an order");
    drop(theirs);
    assert_eq!(near.deep_clone().map(|copy| copy.len()), Ok(4));
    drop(near);
    synchronize_devices();
    Session::forget(); // the fake driver calls the early end a fault, as it should
    session.check();
}
