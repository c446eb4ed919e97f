//! Calls of the driver that fail: each is an error, and no memory is lost or freed too early.

use dlbridge::{DType, Device, Error, MemoryFormat, Stream, Tensor};

use crate::fake_cuda::{Session, memory, synchronize_devices};
use crate::tensors::{GPU, elements, numbers, on_host, span};

/// Only the last wait of a call fails.
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
        "no copy is pending"
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

/// Every function that waits fails, so dlbridge cannot know when the device is done.
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

/// Memory for packed elements on the target's device is freed in the order of that device's stream.
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
            // SAFETY: only this test's thread uses the target's memory.
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
    // Memory whose free failed is leaked; no memory is in use.
    drop(near);
    synchronize_devices();
    assert_eq!(session.faults(), "");
}

/// The functions of the driver that fail one after another.
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

const SHAPE: [i64; 2] = [3000, 700];
const STRIDES: [i64; 2] = [1400, 2];
const OUT_OF_MEMORY: i32 = 2;
const UNKNOWN: i32 = 999;

/// The same elements in several kinds of memory.
struct Sources {
    host: Tensor,
    pinned: Tensor,
    /// Strided memory on the first device.
    near: Tensor,
    /// Contiguous memory on the first device.
    dense: Tensor,
    stream: Stream,
    /// The bytes of the elements in row-major order.
    expected: Vec<u8>,
}

impl Sources {
    fn new() -> Self {
        let bytes = numbers(span(&SHAPE, &STRIDES, DType::F32));
        let host = on_host(&SHAPE, &STRIDES, DType::F32, bytes.clone());
        let expected = elements(&host);
        Self {
            pinned: host.to_device(Device::CUDA_HOST).expect("a copy"),
            near: memory(0, &SHAPE, &STRIDES, DType::F32, &bytes),
            dense: memory(0, &SHAPE, &[700, 1], DType::F32, &expected),
            stream: Stream::new(GPU).expect("a stream"),
            host,
            expected,
        }
    }
}

/// The actions that may fail. Each returns the copy that it makes, if it makes one.
type Action = fn(&Sources) -> Result<Option<Tensor>, Error>;

const ACTIONS: [(&str, Action); 10] = [
    ("download of contiguous memory to pinned memory", |sources| {
        sources.dense.to_device_on(Device::CUDA_HOST, &sources.stream).map(Some)
    }),
    ("started download", |sources| {
        sources.dense.start_to_device(Device::CUDA_HOST, &sources.stream)?.wait().map(Some)
    }),
    ("upload", |sources| sources.host.to_device(GPU).map(Some)),
    ("upload from pinned memory on a stream", |sources| {
        sources.pinned.to_device_on(GPU, &sources.stream).map(Some)
    }),
    ("download", |sources| sources.near.to_device(Device::CPU).map(Some)),
    ("download to pinned memory", |sources| {
        sources.near.to_device_on(Device::CUDA_HOST, &sources.stream).map(Some)
    }),
    ("clone", |sources| {
        sources.near.deep_clone_on(MemoryFormat::Contiguous, &sources.stream).map(Some)
    }),
    ("copy to another device", |sources| {
        sources.near.to_device_on(Device::cuda(1), &sources.stream).map(Some)
    }),
    ("started upload", |sources| {
        sources.pinned.start_to_device(GPU, &sources.stream)?.wait().map(Some)
    }),
    ("export", |sources| {
        sources.near.record_stream(&sources.stream)?;
        drop(sources.near.share_dlpack());
        Ok(None)
    }),
];

/// The outcome of an action during which a call of the driver fails.
struct Outcome {
    /// Whether the call was made, and failed.
    injected: bool,
    result: Result<Option<Tensor>, Error>,
}

/// Runs an action, and lets the `nth` call of a function of the driver fail.
fn run_with_failure(
    session: &Session,
    sources: &Sources,
    action: Action,
    call: &str,
    nth: i32,
) -> Outcome {
    synchronize_devices();
    Session::forget();
    session.fail(call, nth, if call.contains("Alloc") { OUT_OF_MEMORY } else { UNKNOWN });
    let result = action(sources);
    let failed = |line: &String| line.ends_with("-> 999") || line.ends_with("-> 2");
    let injected = session.log().iter().any(failed);
    Session::forget();
    Outcome { injected, result }
}

/// Checks that the copy is right, or that the error is the driver's. Returns whether there was an
/// error.
fn check(outcome: &Outcome, expected: &[u8], label: &str) -> bool {
    match &outcome.result {
        Ok(Some(copy)) => {
            let copy = copy.share().cpu().expect("a copy");
            assert_eq!(elements(&copy), expected, "{label}");
        }
        Ok(None) => {}
        Err(error) => {
            let is_the_drivers = matches!(error, Error::Cuda { .. } | Error::OutOfMemory { .. });
            assert!(outcome.injected && is_the_drivers, "{label}: {error}");
        }
    }
    outcome.result.is_err()
}

/// Every call of the driver fails once, in every action.
#[test]
fn every_driver_failure_is_an_error_without_leaks() {
    let session = Session::new();
    let sources = Sources::new();
    let mut errors = 0;
    for ((name, action), call) in ACTIONS.iter().flat_map(|action| CALLS.map(|call| (action, call)))
    {
        for nth in 1.. {
            let label = format!("{name}, {call} {nth}");
            let outcome = run_with_failure(&session, &sources, *action, call, nth);
            errors += usize::from(check(&outcome, &sources.expected, &label));
            let injected = outcome.injected;
            drop(outcome);
            synchronize_devices();
            assert_eq!((session.faults().as_str(), session.depth()), ("", 0), "{label}");
            if !injected {
                break;
            }
        }
    }
    assert!(errors > 100, "{errors}");
}

#[test]
fn driver_errors_name_the_call_and_the_next_call_works() {
    let session = Session::new();
    let host = Sources::new().host;
    session.fail("cuMemAllocAsync", 1, OUT_OF_MEMORY);
    let error = host.to_device(GPU).expect_err("no memory");
    assert_eq!(error, Error::OutOfMemory { bytes: 3000 * 700 * 4 });
    session.fail("cuMemcpyHtoDAsync_v2", 1, 700);
    let error = host.to_device(GPU).expect_err("refused");
    assert!(error.to_string().starts_with("CUDA: cuMemcpyHtoDAsync_v2 gave "), "{error}");
    assert_eq!(host.to_device(GPU).map(|near| near.len()), Ok(3000 * 700), "the next one works");
}
