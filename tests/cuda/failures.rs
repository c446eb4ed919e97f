//! Calls of the driver that fail: each is an error, and no memory is lost or freed too early.

use dlbridge::{DType, Device, Error, MemoryFormat, Stream, Tensor};

use crate::fake_cuda::{Session, memory, synchronize_devices};
use crate::tensors::{GPU, elements, numbers, on_host, span};

/// The last wait fails, and no other one does.
#[test]
fn failed_waits_are_replaced_by_other_waits() {
    let session = Session::new();
    let stream = Stream::new(GPU).expect("a stream");
    let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
    let mut pinned = Tensor::zeros::<u8>([100]).expect("memory").pin().expect("a copy");
    session.fail("cuEventSynchronize", 1, 999);
    assert!(matches!(near.copy_into(&mut pinned), Err(Error::Cuda { .. })));
    assert_eq!(
        pinned.as_slice::<u8>().expect("still readable"),
        numbers(100),
        "nothing is under way"
    );
    session.fail("cuEventSynchronize", 1, 999);
    assert!(pinned.to_device(GPU).is_err());
    pinned.as_slice_mut::<u8>().expect("the only handle").fill(1);
    let upload = pinned.start_to_device(GPU, &stream).expect("started");
    session.fail("cuEventSynchronize", 1, 999);
    assert!(upload.wait().is_err());
    session.fail("cuEventSynchronize", 1, 999);
    drop(near.start_to_device(Device::CUDA_HOST, &stream).expect("started"));
    drop((near, pinned, stream));
    session.check();
}

/// Nothing that waits works any more, and nobody knows what is under way.
#[test]
fn memory_is_leaked_if_every_wait_fails() {
    let session = Session::new();
    let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
    let mut pinned = Tensor::zeros::<u8>([100]).expect("memory").pin().expect("a copy");
    let broken = || {
        for call in
            ["cuEventRecord", "cuEventSynchronize", "cuStreamSynchronize", "cuCtxSynchronize"]
        {
            session.fail(call, 1, 999);
        }
    };
    broken();
    assert!(near.to_device(Device::CUDA_HOST).is_err());
    Session::forget();
    broken();
    assert!(pinned.to_device(GPU).is_err());
    Session::forget();
    assert_eq!(
        pinned.as_slice_mut::<u8>().err(),
        Some(Error::NotUnique),
        "a device may be reading it"
    );
    let mut target = Tensor::zeros::<u8>([100]).expect("memory").pin().expect("a copy");
    broken();
    assert!(near.copy_into(&mut target).is_err());
    Session::forget();
    assert!(
        matches!(target.as_slice::<u8>(), Err(Error::NotOnCpu { .. })),
        "a device may be writing it"
    );
    drop((near, pinned, target));
    synchronize_devices();
    assert_eq!(session.faults(), "");
}

/// What lands beside its target on another device is freed in that device's order.
#[test]
fn temporaries_on_the_target_device_outlive_its_work() {
    let session = Session::new();
    let near = memory(0, &[3, 4], &[4, 1], DType::U8, &numbers(12));
    for call in ["cuStreamWaitEvent", "cuEventCreate", "cuEventRecord", "cuCtxPushCurrent_v2"] {
        for nth in 1.. {
            let target = memory(1, &[3, 4], &[9, 2], DType::U8, &[0; 25]);
            synchronize_devices();
            Session::forget();
            session.fail(call, nth, 999);
            // SAFETY: nobody else has the memory.
            let failed = unsafe { near.copy_into_unchecked(&target) }.is_err();
            let injected = session.log().iter().any(|line| line.ends_with("-> 999"));
            let faults = session.faults();
            Session::forget();
            drop(target);
            synchronize_devices();
            assert_eq!(faults + &session.faults(), "", "{call} {nth}");
            if !injected {
                assert!(!failed);
                break;
            }
        }
    }
    // What could not even be given back is lost; nothing is in use.
    drop(near);
    synchronize_devices();
    assert_eq!(session.faults(), "");
}

/// Every call of the driver fails once, in every verb.
#[test]
fn every_driver_failure_is_an_error_without_leaks() {
    let session = Session::new();
    const CALLS: [&str; 15] = [
        "cuCtxPushCurrent_v2",
        "cuStreamWaitEvent",
        "cuEventCreate",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuMemAllocAsync",
        "cuMemHostAlloc",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuMemcpyDtoDAsync_v2",
        "cuMemcpyPeerAsync",
        "cuLaunchKernel",
        "cuPointerGetAttribute",
        "cuEventDestroy_v2",
        "cuMemFreeAsync",
    ];
    let (shape, strides) = ([3000_i64, 700], [1400_i64, 2]);
    let bytes = numbers(span(&shape, &strides, DType::F32));
    let host = on_host(&shape, &strides, DType::F32, bytes.clone());
    let pinned = host.to_device(Device::CUDA_HOST).expect("a copy");
    let expected = elements(&host);
    type Verb<'a> = Box<dyn Fn() -> Result<Option<Tensor>, Error> + 'a>;
    let stream = Stream::new(GPU).expect("a stream");
    let near = memory(0, &shape, &strides, DType::F32, &bytes);
    let dense = memory(0, &[3000, 700], &[700, 1], DType::F32, &expected);
    let verbs: [(&str, Verb<'_>); 10] = [
        (
            "down to pinned, dense",
            Box::new(|| dense.to_device_on(Device::CUDA_HOST, &stream).map(Some)),
        ),
        (
            "started down",
            Box::new(|| dense.start_to_device(Device::CUDA_HOST, &stream)?.wait().map(Some)),
        ),
        ("up", Box::new(|| host.to_device(GPU).map(Some))),
        ("up from pinned, on a stream", Box::new(|| pinned.to_device_on(GPU, &stream).map(Some))),
        ("down", Box::new(|| near.to_device(Device::CPU).map(Some))),
        ("down to pinned", Box::new(|| near.to_device_on(Device::CUDA_HOST, &stream).map(Some))),
        ("clone", Box::new(|| near.deep_clone_on(MemoryFormat::Contiguous, &stream).map(Some))),
        ("across", Box::new(|| near.to_device_on(Device::cuda(1), &stream).map(Some))),
        ("started", Box::new(|| pinned.start_to_device(GPU, &stream)?.wait().map(Some))),
        (
            "export",
            Box::new(|| {
                near.record_stream(&stream).map(|()| drop(near.share_dlpack())).map(|()| None)
            }),
        ),
    ];
    let mut failures = 0;
    for (name, verb) in &verbs {
        for call in CALLS {
            for nth in 1.. {
                let label = format!("{name}, {call} {nth}");
                synchronize_devices();
                Session::forget();
                session.fail(call, nth, if call.contains("Alloc") { 2 } else { 999 });
                let outcome = verb();
                let failed = session
                    .log()
                    .iter()
                    .any(|line| line.ends_with("-> 999") || line.ends_with("-> 2"));
                Session::forget();
                match outcome {
                    Ok(Some(copy)) => {
                        assert_eq!(elements(&copy.cpu().expect("a copy")), expected, "{label}")
                    }
                    Ok(None) => {}
                    Err(error) => {
                        let words = matches!(error, Error::Cuda { .. } | Error::OutOfMemory { .. });
                        assert!(failed && words, "{label}: {error}");
                        failures += 1;
                    }
                }
                synchronize_devices();
                assert_eq!((session.faults().as_str(), session.depth()), ("", 0), "{label}");
                if !failed {
                    break;
                }
            }
        }
    }
    assert!(failures > 100, "{failures}");
    let out_of_memory = || {
        session.fail("cuMemAllocAsync", 1, 2);
        host.to_device(GPU).expect_err("no memory")
    };
    assert_eq!(out_of_memory(), Error::OutOfMemory { bytes: 3000 * 700 * 4 });
    session.fail("cuMemcpyHtoDAsync_v2", 1, 700);
    let error = host.to_device(GPU).expect_err("refused");
    assert!(error.to_string().starts_with("CUDA: cuMemcpyHtoDAsync_v2 gave "), "{error}");
    assert_eq!(host.to_device(GPU).map(|near| near.len()), Ok(3000 * 700), "the next one works");
}
