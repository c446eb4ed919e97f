//! Copies to, from and between CUDA devices, on the fake CUDA driver of `tests/support/fake-cuda`, which
//! runs work as late, and frees memory as early, as CUDA's rules let it.

#[path = "support/fake_cuda.rs"]
mod fake_cuda;

use std::process::Command;

use dlbridge::{Access, DType, Descriptor, Device, Error, Layout, MemoryFormat, Stream, Tensor};
use fake_cuda::{Current, Pinned, Session, Theirs, cuda, freed_on, memory, peek, read, settle, synchronize};

const GPU: Device = Device::cuda(0);

fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|place| (place * 7 + place / 251) as u8).collect()
}

/// Bytes of the elements in row-major order.
fn elements(tensor: &Tensor) -> Vec<u8> {
    let row_major = tensor.deep_clone_with(MemoryFormat::Contiguous).expect("on the host");
    assert!(row_major.device().is_host());
    // SAFETY: new memory without gaps.
    unsafe { std::slice::from_raw_parts(row_major.data_ptr().cast::<u8>(), row_major.nbytes()) }.to_vec()
}

/// A tensor on the host of these bytes, from the lowest element to the highest.
fn on_host(shape: &[i64], strides: &[i64], dtype: DType, mut bytes: Vec<u8>) -> Tensor {
    let layout = Layout::new(shape, strides).expect("a layout");
    let lowest = layout.extent().map_or(0, |(low, _)| low) * dtype.itemsize().unwrap_or(0) as i64;
    let first = bytes.as_mut_ptr().wrapping_offset(-lowest as isize);
    let descriptor = Descriptor::new(first.cast(), layout, dtype, Device::CPU).expect("valid");
    // SAFETY: the bytes of the vector.
    unsafe { Tensor::from_raw_parts(descriptor, true, bytes) }
}

/// Bytes from the lowest element to the highest.
fn span(shape: &[i64], strides: &[i64], dtype: DType) -> usize {
    let layout = Layout::new(shape, strides).expect("a layout");
    let size = dtype.itemsize().expect("whole bytes");
    layout.extent().map_or(0, |(low, high)| (high - low + 1) as usize * size)
}

const LAYOUTS: [(&[i64], &[i64]); 16] = [
    (&[2, 3, 4], &[12, 4, 1]),
    (&[2, 3, 4], &[1, 2, 6]), // dense in another order
    (&[3, 4], &[8, 2]),       // every other column
    (&[3, 4], &[9, 1]),       // rows with gaps
    (&[5], &[-1]),
    (&[3, 4], &[-4, -1]),
    (&[3, 4], &[0, 1]), // one row three times
    (&[3, 4], &[1, 0]), // one column four times
    (&[3, 4, 2], &[0, 2, 0]),
    (&[4, 4], &[1, 1]), // windows that overlap
    (&[1, 6, 1], &[100, 1, -7]),
    (&[], &[]),
    (&[0, 3], &[3, 1]),
    (&[2, 2, 2, 2, 2, 2], &[1, 4, 64, 2, 16, 200]),
    (&[70, 33], &[1, 71]),
    (&[2, 3, 5, 7], &[105, 1, 21, 3]), // channels last
];

const TYPES: [DType; 6] = [
    DType::U8,
    DType::F16,
    DType::F32,
    DType::C128,
    DType { lanes: 3, ..DType::F32 },
    DType { lanes: 3, ..DType::U8 },
];

#[test]
fn every_layout_makes_the_round_trip() {
    let session = Session::new();
    for dtype in TYPES {
        for (shape, strides) in LAYOUTS {
            let bytes = numbers(span(shape, strides, dtype));
            let host = on_host(shape, strides, dtype, bytes.clone());
            let (expected, clone) = (elements(&host), host.deep_clone().expect("a clone"));
            let label = format!("{dtype} {shape:?} {strides:?}");

            let up = host.to_device(GPU).expect("a copy");
            assert_eq!((up.device(), up.access()), (GPU, Access::Exclusive), "{label}");
            assert_eq!(up.layout(), clone.layout(), "{label}");
            assert_eq!(elements(&up.to_device(Device::CPU).expect("a copy")), expected, "{label}");

            let theirs = memory(0, shape, strides, dtype, &bytes);
            let down = theirs.to_device(Device::CPU).expect("a copy");
            assert_eq!(down.layout(), clone.layout(), "{label}");
            assert_eq!(elements(&down), expected, "{label}");
            for format in [MemoryFormat::Preserve, MemoryFormat::Contiguous] {
                let copy = theirs.deep_clone_with(format).expect("a copy");
                assert_eq!(copy.layout(), host.deep_clone_with(format).expect("a copy").layout(), "{label}");
                assert_eq!(elements(&copy.cpu().expect("a copy")), expected, "{label}");
            }
            let other = theirs.to_device(Device::cuda(1)).expect("a copy");
            assert_eq!((other.device(), other.layout()), (Device::cuda(1), clone.layout()), "{label}");
            assert_eq!(elements(&other.cpu().expect("a copy")), expected, "{label}");
            let pinned = theirs.to_device(Device::CUDA_HOST).expect("a copy");
            assert!(pinned.is_pinned() && pinned.device().is_host());
            assert_eq!(elements(&pinned), expected, "{label}");
            let up = pinned.share().cuda(1).expect("a copy");
            assert_eq!(elements(&up.cpu().expect("a copy")), expected, "{label}");
        }
    }
    session.check();
}

#[test]
fn copies_go_into_memory_that_exists() {
    let session = Session::new();
    let targets: [(&[i64], &[i64]); 5] = [
        (&[3, 4], &[4, 1]),
        (&[3, 4], &[1, 3]),
        (&[3, 4], &[9, 2]),
        (&[3, 4], &[-4, 1]),
        (&[3, 4], &[1, -3]),
    ];
    for dtype in TYPES {
        for (shape, strides) in LAYOUTS.into_iter().filter(|&(shape, _)| shape == [3, 4]) {
            let bytes = numbers(span(shape, strides, dtype));
            let host = on_host(shape, strides, dtype, bytes.clone());
            let expected = elements(&host);
            let near = memory(0, shape, strides, dtype, &bytes);
            for (shape, strides) in targets {
                let label = format!("{dtype} {:?} {strides:?}", host.layout());
                let room = vec![0xEE; span(shape, strides, dtype)];
                let target = on_host(shape, strides, dtype, room.clone());
                // SAFETY: nobody else has the memory; here and below.
                unsafe { near.copy_into_unchecked(&target) }.expect("a copy");
                assert_eq!(elements(&target), expected, "{label}");
                for (source, index) in [(&host, 0), (&near, 0), (&near, 1)] {
                    let target = memory(index, shape, strides, dtype, &room);
                    // SAFETY: likewise.
                    unsafe { source.copy_into_unchecked(&target) }.expect("a copy");
                    let (start, len) = target.descriptor().span();
                    settle();
                    // Gaps stay as they are.
                    let seen = on_host(shape, strides, dtype, peek(start.cast(), len));
                    assert_eq!(elements(&seen), expected, "{label}");
                    let written = expected.len();
                    let gaps = peek(start.cast(), len).iter().filter(|&&byte| byte == 0xEE).count();
                    assert!(gaps >= len - written, "{label}");
                }
            }
        }
    }
    let (mut target, source) =
        (Tensor::zeros::<f32>([4]).expect("memory").cuda(0).expect("a copy"), [1.0_f32; 4]);
    let source = Tensor::from_slice(&source, [4]).expect("memory");
    source.copy_into(&mut target).expect("the only handle");
    let shared = target.share();
    assert_eq!(source.copy_into(&mut target), Err(Error::NotUnique));
    drop(shared);
    assert_eq!(
        target.cpu().expect("a copy").into_vec::<f32>().err().map(|rejected| rejected.into_error()),
        Some(Error::NotOriginal { target: "Vec", remedy: "to_vec()" })
    );
    session.check();
}

#[test]
fn large_memory_goes_through_two_halves_that_are_used_again() {
    let session = Session::new();
    let len = (13 << 20) + 5;
    let host = Tensor::from_vec(numbers(len), [len as i64]).expect("as many");
    let up = host.to_device(GPU).expect("a copy");
    let chunks: Vec<String> = session.log_of(&["cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2"]);
    assert_eq!(chunks.len(), 4, "{chunks:?}");
    assert!(session.log_of(&["cuMemHostAlloc"]).is_empty(), "made before");
    Session::forget();
    let down = up.cpu().expect("a copy");
    assert_eq!(down.as_slice::<u8>().expect("on the host"), host.as_slice::<u8>().expect("on the host"));
    assert!(session.log_of(&["cuMemHostAlloc"]).is_empty());
    // Strided on both sides, in one pass over the bus.
    let (shape, strides) = ([1500, 1400], [1400 * 3, 3]);
    let bytes = numbers(span(&shape, &strides, DType::F32));
    let near = memory(0, &shape, &strides, DType::F32, &bytes);
    let host = on_host(&shape, &strides, DType::F32, bytes);
    Session::forget();
    let down = near.to_device(Device::CPU).expect("a copy");
    let crossed = |log: Vec<String>| -> usize {
        let bytes =
            |line: &String| line.split("bytes=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        log.iter().map(|line| bytes(line).unwrap_or(0)).sum()
    };
    assert_eq!(crossed(session.log_of(&["cuMemcpyDtoHAsync", "cuMemcpyDtoHAsync_v2"])), 1500 * 1400 * 4);
    assert_eq!(elements(&down), elements(&host));
    Session::forget();
    let up = host.to_device(GPU).expect("a copy");
    assert_eq!(crossed(session.log_of(&["cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2"])), 1500 * 1400 * 4);
    assert!(session.log_of(&["cuLaunchKernel"]).is_empty(), "gathered on the host");
    assert_eq!(elements(&up.cpu().expect("a copy")), elements(&host));
    // A broadcast crosses once.
    let row = on_host(&[1000, 1000], &[0, 1], DType::F32, numbers(4000));
    Session::forget();
    let up = row.to_device(GPU).expect("a copy");
    assert_eq!(crossed(session.log_of(&["cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2"])), 4000);
    assert_eq!(elements(&up.cpu().expect("a copy")), elements(&row));
    drop(near);
    session.check();
}

#[test]
fn packed_elements_cross_as_bytes() {
    let session = Session::new();
    let layout = Layout::contiguous(&[3, 5]).expect("valid");
    let mut bytes = numbers(8);
    let data = bytes.as_mut_ptr().cast();
    let descriptor = Descriptor::new(data, layout, DType::scalar(17, 4), Device::CPU).expect("valid");
    // SAFETY: the bytes of the vector.
    let host = unsafe { Tensor::from_raw_parts(descriptor, true, bytes) };
    let up = host.to_device(GPU).expect("a copy");
    assert_eq!(up.nbytes(), 8);
    let down =
        up.deep_clone().expect("a copy").to_device(Device::cuda(1)).expect("a copy").cpu().expect("a copy");
    // SAFETY: 8 bytes of a new tensor.
    assert_eq!(unsafe { std::slice::from_raw_parts(down.data_ptr().cast::<u8>(), 8) }, numbers(8));
    assert!(matches!(up.deep_clone_with(MemoryFormat::ChannelsLast), Err(Error::RankMismatch { .. })));
    drop(up);
    session.check();
}

#[test]
fn what_is_there_goes_through_and_to_device_copies() {
    let session = Session::new();
    let near = Tensor::from_vec(vec![1.0_f32, 2.0], [2]).expect("two").cuda(0).expect("a copy");
    let address = near.data_ptr();
    Session::forget();
    let near = near.cuda(0).expect("there already");
    assert_eq!(near.data_ptr(), address);
    assert!(session.log().is_empty());
    let copy = near.to_device(GPU).expect("a copy");
    assert_ne!(copy.data_ptr(), address);
    let pinned = copy.to_device(Device::CUDA_HOST).expect("a copy");
    let (address, values) = (pinned.data_ptr(), pinned.to_vec::<f32>().expect("on the host"));
    assert_eq!(values, [1.0, 2.0]);
    let pinned = pinned.pin().expect("pinned already").cpu().expect("on the host already");
    assert_eq!((pinned.data_ptr(), pinned.device()), (address, Device::CUDA_HOST));
    let plain = pinned.to_device(Device::CPU).expect("a copy");
    assert!(!plain.is_pinned());
    // Somebody else's page-locked memory is known by its address.
    let theirs = Pinned::new(64);
    let layout = Layout::contiguous(&[64]).expect("valid");
    let descriptor = Descriptor::new(theirs.0.cast(), layout, DType::U8, Device::CPU).expect("valid");
    // SAFETY: memory of the test's own, which outlives the tensor.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    assert!(tensor.is_pinned());
    drop((tensor.pin().expect("pinned already"), theirs, near, copy, plain, pinned));
    session.check();
}

#[test]
fn host_code_is_refused_with_the_remedy() {
    let session = Session::new();
    let near = Tensor::from_vec(vec![1.0_f32, 2.0], [2]).expect("two").cuda(0).expect("a copy");
    let sentence = |target: &str| {
        format!(
            "can't convert cuda:0 device type tensor to {target}. Use Tensor::cpu() to copy the tensor to host memory first."
        )
    };
    assert_eq!(near.to_list().expect_err("not here").to_string(), sentence("Vec").replace("Vec", "list"));
    assert_eq!(near.to_vec::<f32>().expect_err("not here").to_string(), sentence("Vec"));
    assert_eq!(near.as_slice::<f32>().expect_err("not here").to_string(), sentence("slice"));
    #[cfg(feature = "ndarray")]
    {
        let rejected = near.share().into_ndarray::<f32, ndarray::Ix1>().expect_err("not here");
        assert_eq!(rejected.error().to_string(), sentence("ndarray"));
        let array =
            rejected.into_value().cpu().expect("a copy").into_ndarray::<f32, ndarray::Ix1>().expect("here");
        assert_eq!(array.to_vec(), [1.0, 2.0]);
    }
    let sentence = |device: Device| near.to_device(device).expect_err("there is none").to_string();
    assert_eq!(
        sentence(Device::cuda(2)),
        "cuda:2 is not available on this machine: the driver has cuda:0 to cuda:1"
    );
    assert_eq!(sentence(Device::METAL), "memory on mps:0 is out of reach for dlbridge's copies");
    let rocm = Device { device_type: 10, index: 0 };
    assert!(matches!(near.to_device(rocm), Err(Error::UnsupportedDevice { .. })));
    let rejected = near.share().cuda(-1).expect_err("there is none");
    assert_eq!(rejected.into_value().data_ptr(), near.data_ptr());
    let other = Stream::new(Device::cuda(1)).expect("a stream");
    let error = near.to_device_on(Device::CPU, &other).expect_err("a stream of a third device");
    assert!(error.to_string().contains("does not go to or from its device"), "{error}");
    for number in [0, -1, -7] {
        // SAFETY: refused.
        assert!(matches!(unsafe { Stream::from_raw(GPU, number, ()) }, Err(Error::InvalidDescriptor { .. })));
    }
    assert!(matches!(Stream::new(Device::CPU), Err(Error::UnsupportedDevice { .. })));
    drop((near, other));
    session.check();
}

#[test]
fn the_callers_device_stays_current() {
    let session = Session::new();
    let current = Current::of(1);
    let near = Tensor::zeros::<f32>([1000]).expect("memory").cuda(0).expect("a copy");
    let _ = near.deep_clone().expect("a copy").cpu().expect("a copy");
    drop(near);
    assert_eq!(session.depth(), 1);
    let mut found = std::ptr::null_mut();
    cuda!(cuCtxGetCurrent(&raw mut found => *mut *mut std::ffi::c_void));
    assert_eq!(found, fake_cuda::context(1));
    drop(current);
    session.check();
}

/// The order of streams: the fake driver runs nothing before it must.
mod order {
    use super::*;

    #[test]
    fn copies_wait_for_whoever_writes() {
        let session = Session::new();
        let writer = Theirs::new(0);
        let old = memory(0, &[4], &[1], DType::U8, &[1, 2, 3, 4]);
        writer.write(&old, &[5, 6, 7, 8]);
        // Nobody said so: the contents are those of the default stream's order.
        assert_eq!(elements(&old.to_device(Device::CPU).expect("a copy")), [1, 2, 3, 4]);
        writer.synchronize();
        writer.write(&old, &[9, 10, 11, 12]);
        old.wait_stream(&writer.stream()).expect("an order");
        assert_eq!(elements(&old.to_device(Device::CPU).expect("a copy")), [9, 10, 11, 12]);
        drop(old);
        settle();
        drop(writer);
        session.check();
    }

    #[test]
    fn consumers_wait_for_the_contents() {
        let session = Session::new();
        let (reader, ours, target) = (Theirs::new(0), Stream::new(GPU).expect("a stream"), Pinned::new(4));
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
    fn unordered_streams_read_old_bytes() {
        let session = Session::new();
        let (reader, ours, target) = (Theirs::new(0), Stream::new(GPU).expect("a stream"), Pinned::new(4));
        let near = Tensor::zeros::<u8>([4]).expect("memory").to_device_on(GPU, &ours).expect("a copy");
        reader.read(&near, &target); // neither record_stream nor an export
        drop(near);
        reader.synchronize();
        assert_ne!(session.faults(), "");
        drop((reader, target, ours));
    }

    #[test]
    fn memory_is_freed_after_its_consumers_and_the_host_waits_for_nothing() {
        let session = Session::new();
        let (reader, target) = (Theirs::new(0), Pinned::new(4));
        let near = Tensor::from_vec(vec![1_u8, 2, 3, 4], [4]).expect("four").cuda(0).expect("a copy");
        near.record_stream(&reader.stream()).expect("an order");
        let exported = near.share_dlpack();
        drop(near);
        // SAFETY: the struct lives.
        let data = unsafe { exported.as_ptr().as_ref() }.dl_tensor.data;
        assert!(!data.is_null());
        let layout = Layout::contiguous(&[4]).expect("valid");
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

    /// The same for memory that is somebody else's: its deleter comes after its consumers.
    #[test]
    fn foreign_memory_is_released_after_its_consumers() {
        let session = Session::new();
        let (reader, target) = (Theirs::new(0), Pinned::new(4));
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
    fn a_stream_that_is_gone_too_early_costs_a_wait_and_nothing_else() {
        let session = Session::new();
        let reader = Theirs::new(0);
        let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
        near.record_stream(&reader.stream()).expect("an order");
        drop(reader);
        Session::forget();
        drop(near);
        assert_eq!(session.log_of(&["cuCtxSynchronize"]).len(), 1);
        Session::forget(); // the fake driver calls it a fault, as it should
        session.check();
    }

    /// Copies on many streams, one after the other's memory.
    #[test]
    fn work_on_other_streams_comes_in_order() {
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
                let mut last =
                    Tensor::zeros::<u8>([6, 10]).expect("memory").to_device_on(GPU, second).expect("a copy");
                clone.copy_into_on(&mut last, first).expect("a copy");
                drop(clone);
                let back = last.to_device_on(Device::CPU, second).expect("a copy");
                assert_eq!(elements(&back), elements(&host), "{first:?} {second:?}");
                let other = last.to_device_on(Device::cuda(1), first).expect("a copy");
                drop(last);
                assert_eq!(elements(&other.cpu().expect("a copy")), elements(&host), "{first:?} {second:?}");
            }
        }
        drop((one, two));
        session.check();
    }

    /// The halves that an upload leaves under way are next used by a download on another stream.
    #[test]
    fn halves_are_written_only_when_no_device_reads_them() {
        let session = Session::new();
        let (one, two) = (Stream::new(GPU).expect("a stream"), Stream::new(GPU).expect("a stream"));
        let other = memory(0, &[9 << 20], &[1], DType::U8, &vec![7; 9 << 20]);
        let host = Tensor::from_vec(numbers(9 << 20), [9 << 20]).expect("as many");
        let up = host.to_device_on(GPU, &one).expect("a copy");
        let down = other.to_device_on(Device::CPU, &two).expect("a copy");
        assert!(down.as_slice::<u8>().expect("here").iter().all(|&byte| byte == 7));
        assert_eq!(elements(&up.cpu().expect("a copy")), numbers(9 << 20));
        drop((other, one, two));
        session.check();
    }

    /// Nothing but the second stream is waited for.
    #[test]
    fn a_copy_on_one_stream_waits_for_the_contents_on_another() {
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

    /// A consumer may write what it was given.
    #[test]
    fn copies_wait_for_consumers_too() {
        let session = Session::new();
        let writer = Theirs::new(0);
        let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
        near.record_stream(&writer.stream()).expect("an order");
        writer.write(&near, &[1, 2, 3, 4]);
        assert_eq!(elements(&near.to_device(Device::CPU).expect("a copy")), [1, 2, 3, 4]);
        drop(near);
        drop(writer);
        session.check();
    }

    /// Whoever lent memory may free it on a stream that nobody told us of.
    #[test]
    fn foreign_memory_is_done_with_when_the_call_returns() {
        let session = Session::new();
        let (theirs, ours) = (Theirs::new(0), Stream::new(GPU).expect("a stream"));
        let source = || {
            settle();
            freed_on(theirs.number(), 0, &[4], &[1], DType::U8, &[1, 2, 3, 4])
        };
        let lent = source();
        settle();
        let clone = lent.deep_clone_on(MemoryFormat::Preserve, &ours).expect("a copy");
        drop(lent);
        let lent = source();
        settle();
        let other = lent.to_device_on(Device::cuda(1), &ours).expect("a copy");
        drop(lent);
        let target = source();
        settle();
        // SAFETY: nobody else has the memory.
        unsafe { clone.copy_into_unchecked_on(&target, &ours) }.expect("a copy");
        drop(target);
        assert_eq!(elements(&clone.cpu().expect("a copy")), [1, 2, 3, 4]);
        assert_eq!(elements(&other.cpu().expect("a copy")), [1, 2, 3, 4]);
        drop((theirs, ours));
        session.check();
    }

    /// Memory that is used on one thread's own default stream, and released on another thread.
    #[test]
    fn per_thread_streams_are_left_behind_in_order() {
        let session = Session::new();
        let ours = Stream::new(GPU).expect("a stream");
        for home in [None, Some(&ours)] {
            let (send, receive) = std::sync::mpsc::channel::<Tensor>();
            let (released, wait) = std::sync::mpsc::channel::<()>();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let per_thread = std::ptr::without_provenance_mut(2);
                    let (stream, target) =
                        (Stream::per_thread_default(GPU).expect("a stream"), Pinned::new(60));
                    let host = Tensor::from_vec(numbers(60), [60]).expect("as many");
                    let near = host.to_device_on(GPU, home.unwrap_or(&stream)).expect("a copy");
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
}

mod transfers {
    use super::*;

    #[test]
    fn what_is_under_way_cannot_be_written() {
        let session = Session::new();
        let stream = Stream::new(GPU).expect("a stream");
        let mut pinned = Tensor::from_vec(numbers(1000), [1000]).expect("as many").pin().expect("a copy");
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
    fn polling_ends_and_dropping_waits() {
        let session = Session::new();
        let stream = Stream::new(GPU).expect("a stream");
        let pinned = Tensor::from_vec(numbers(1000), [10, 100]).expect("as many").pin().expect("a copy");
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
    fn a_transfer_that_is_forgotten_keeps_its_memory() {
        let session = Session::new();
        let stream = Stream::new(GPU).expect("a stream");
        let pinned = Tensor::from_vec(numbers(100), [100]).expect("as many").pin().expect("a copy");
        std::mem::forget(pinned.start_to_device(GPU, &stream).expect("started"));
        drop(pinned);
        settle();
        assert_eq!(session.faults(), "");
    }

    #[test]
    fn plain_calls_wait_where_the_device_reads_host_memory() {
        let session = Session::new();
        let mut pinned = Tensor::from_vec(numbers(100), [100]).expect("as many").pin().expect("a copy");
        let near = pinned.to_device(GPU).expect("a copy");
        pinned.as_slice_mut::<u8>().expect("the only handle").fill(0);
        assert_eq!(elements(&near.to_device(Device::CPU).expect("a copy")), numbers(100));
        // The same into memory that exists, both ways.
        let (mut near, mut source) = (near, pinned);
        source.as_slice_mut::<u8>().expect("the only handle").copy_from_slice(&numbers(101)[1..]);
        source.copy_into(&mut near).expect("a copy");
        source.as_slice_mut::<u8>().expect("the only handle").fill(0);
        near.copy_into(&mut source).expect("a copy");
        assert_eq!(source.as_slice::<u8>().expect("here"), &numbers(101)[1..]);
        let pinned = (near, source);
        // Page-locked memory that is not in the order in which it crosses goes through the halves.
        let (shape, strides) = ([10, 9], [10, 1]);
        let bytes = numbers(span(&shape, &strides, DType::U8));
        let strided = on_host(&shape, &strides, DType::U8, bytes).pin().expect("a copy");
        assert_eq!(strided.cuda(0).expect("a copy").cpu().expect("a copy").len(), 90);
        drop(pinned);
        session.check();
    }
}

/// What an attack on this part found: device and host memory after failures that come at the worst moment.
mod attacks {
    use super::*;

    /// The last wait fails, and no other one does.
    #[test]
    fn a_wait_that_fails_is_made_up_for() {
        let session = Session::new();
        let stream = Stream::new(GPU).expect("a stream");
        let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
        let mut pinned = Tensor::zeros::<u8>([100]).expect("memory").pin().expect("a copy");
        session.fail("cuEventSynchronize", 1, 999);
        assert!(matches!(near.copy_into(&mut pinned), Err(Error::Cuda { .. })));
        assert_eq!(pinned.as_slice::<u8>().expect("still readable"), numbers(100), "nothing is under way");
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
    fn memory_that_may_be_in_use_is_kept() {
        let session = Session::new();
        let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
        let mut pinned = Tensor::zeros::<u8>([100]).expect("memory").pin().expect("a copy");
        let broken = || {
            for call in ["cuEventRecord", "cuEventSynchronize", "cuStreamSynchronize", "cuCtxSynchronize"] {
                session.fail(call, 1, 999);
            }
        };
        broken();
        assert!(near.to_device(Device::CUDA_HOST).is_err());
        Session::forget();
        broken();
        assert!(pinned.to_device(GPU).is_err());
        Session::forget();
        assert_eq!(pinned.as_slice_mut::<u8>().err(), Some(Error::NotUnique), "a device may be reading it");
        let mut target = Tensor::zeros::<u8>([100]).expect("memory").pin().expect("a copy");
        broken();
        assert!(near.copy_into(&mut target).is_err());
        Session::forget();
        assert!(matches!(target.as_slice::<u8>(), Err(Error::NotOnCpu { .. })), "a device may be writing it");
        drop((near, pinned, target));
        settle();
        assert_eq!(session.faults(), "");
    }

    /// What lands beside its target on another device is freed in that device's order.
    #[test]
    fn landings_are_kept_until_the_other_device_is_done() {
        let session = Session::new();
        let near = memory(0, &[3, 4], &[4, 1], DType::U8, &numbers(12));
        for call in ["cuStreamWaitEvent", "cuEventCreate", "cuEventRecord", "cuCtxPushCurrent_v2"] {
            for nth in 1.. {
                let target = memory(1, &[3, 4], &[9, 2], DType::U8, &[0; 25]);
                settle();
                Session::forget();
                session.fail(call, nth, 999);
                // SAFETY: nobody else has the memory.
                let failed = unsafe { near.copy_into_unchecked(&target) }.is_err();
                let injected = session.log().iter().any(|line| line.ends_with("-> 999"));
                let faults = session.faults();
                Session::forget();
                drop(target);
                settle();
                assert_eq!(faults + &session.faults(), "", "{call} {nth}");
                if !injected {
                    assert!(!failed);
                    break;
                }
            }
        }
        // What could not even be given back is lost; nothing is in use.
        drop(near);
        settle();
        assert_eq!(session.faults(), "");
    }

    /// Uses end with their handles; streams do not pile up, and may go afterwards.
    #[test]
    fn uses_end_with_their_handles() {
        let session = Session::new();
        let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
        let targets: Vec<Pinned> = (0..50).map(|_| Pinned::new(100)).collect();
        for target in &targets {
            let reader = Theirs::new(0);
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

    /// An export that cannot be ordered on the device is ordered by the host.
    #[test]
    fn exports_are_ready_even_where_the_device_cannot_be_made_to_wait() {
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

    /// A view is used in the order of what it is a view of.
    #[test]
    fn views_share_the_order() {
        let session = Session::new();
        let (ours, writer) = (Stream::new(GPU).expect("a stream"), Theirs::new(0));
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

    /// The thread that waits is not the one whose stream it is.
    #[test]
    fn transfers_on_per_thread_streams_are_settled_from_other_threads() {
        let session = Session::new();
        let near = Tensor::from_vec(numbers(100), [100]).expect("as many").cuda(0).expect("a copy");
        let stream = Stream::per_thread_default(GPU).expect("a stream");
        let download = near.start_to_device(Device::CUDA_HOST, &stream).expect("started");
        session.fail("cuEventSynchronize", 1, 999);
        std::thread::scope(|scope| scope.spawn(move || drop(download.wait())).join().expect("no panic"));
        drop(near);
        session.check();
    }

    /// Everybody is waited for, where the device cannot be made to wait.
    #[test]
    fn exports_wait_for_consumers_who_write() {
        let session = Session::new();
        let (writer, target) = (Theirs::new(0), Pinned::new(4));
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

    /// An owner of a stream that uses the memory when it is dropped.
    #[test]
    fn owners_of_streams_may_do_anything_when_they_go() {
        struct Curious(Tensor);
        impl Drop for Curious {
            fn drop(&mut self) {
                assert_eq!(fake_cuda::depth(), 0, "no device of ours is current");
                assert_eq!(self.0.to_device(Device::CPU).map(|copy| copy.len()), Ok(4));
            }
        }
        // SAFETY: a tensor may be used on any thread; this one is not used through a reference.
        unsafe impl Sync for Curious {}
        let session = Session::new();
        let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
        let theirs = Theirs::new(0);
        // SAFETY: it does not live as long as it should, which costs a wait.
        let stream = unsafe { Stream::from_raw(GPU, theirs.number(), Curious(near.share())) };
        near.record_stream(&stream.expect("a stream")).expect("an order");
        drop(theirs);
        assert_eq!(near.deep_clone().map(|copy| copy.len()), Ok(4));
        drop(near);
        settle();
        Session::forget(); // the fake driver calls the early end a fault, as it should
        session.check();
    }

    /// Many uses on one stream cost as much as one.
    #[test]
    fn uses_of_one_stream_are_one_wait() {
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
    fn each_use_ends_for_itself() {
        let session = Session::new();
        let writer = Theirs::new(0);
        let near = Tensor::zeros::<u8>([4]).expect("memory").cuda(0).expect("a copy");
        let first = near.share().with_stream(&writer.stream()).expect("ready");
        let second = near.share().with_stream(&writer.stream()).expect("ready");
        drop(first);
        writer.write(&second, &[1, 2, 3, 4]);
        assert_eq!(elements(&near.to_device(Device::CPU).expect("a copy")), [1, 2, 3, 4]);
        drop((near, second));
        settle();
        drop(writer);
        session.check();
    }

    /// Where everybody is on the default stream, handing on costs no call of the driver.
    #[test]
    fn handing_on_costs_nothing_on_the_default_stream() {
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

    /// A stream on which a graph is being captured is left alone; memory whose user it is stays.
    #[test]
    fn captured_streams_are_refused_and_waited_for_by_nobody() {
        let session = Session::new();
        let theirs = Theirs::new(0);
        let stream = theirs.stream();
        let near = Tensor::from_vec(numbers(4), [4]).expect("four").cuda(0).expect("a copy");
        let exported = near.share().with_stream(&stream).expect("ready").into_dlpack();
        theirs.capture(true);
        let refused = |error: Error| error.to_string().contains("a CUDA graph is being captured on it");
        assert!(near.to_device_on(Device::CPU, &stream).is_err_and(refused));
        assert!(near.deep_clone_on(MemoryFormat::Preserve, &stream).is_err_and(refused));
        assert!(near.record_stream(&stream).is_err_and(refused));
        assert!(near.share().with_stream(&stream).is_err_and(|rejected| refused(rejected.into_error())));
        Session::forget();
        drop(exported);
        drop(near); // kept for ever: nobody knows when the consumer is done
        assert_eq!(session.log_of(&["cuMemFreeAsync"]), Vec::<String>::new());
        settle();
        assert_eq!(session.faults(), "");
        theirs.capture(false);
        assert_eq!(session.depth(), 0);
    }

    /// What others may write after the call is read during the call.
    #[test]
    fn transfers_of_foreign_memory_are_done_when_they_start() {
        let session = Session::new();
        let (stream, theirs) = (Stream::new(GPU).expect("a stream"), Pinned::new(4));
        let layout = Layout::contiguous(&[4]).expect("valid");
        let descriptor = Descriptor::new(theirs.0.cast(), layout, DType::U8, Device::CPU).expect("valid");
        // SAFETY: memory of the test's own, which outlives the tensor; written when no call reads it.
        unsafe { theirs.0.write_bytes(1, 4) };
        // SAFETY: likewise.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
        let upload = tensor.start_to_device(GPU, &stream).expect("started");
        // SAFETY: likewise.
        unsafe { theirs.0.write_bytes(2, 4) };
        assert_eq!(elements(&upload.wait().expect("done").cpu().expect("a copy")), [1; 4]);
        drop((tensor, theirs, stream));
        session.check();
    }
}

/// Every call of the driver fails once, in every verb.
#[test]
fn whatever_fails_is_an_error_and_nothing_is_lost() {
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
        ("down to pinned, dense", Box::new(|| dense.to_device_on(Device::CUDA_HOST, &stream).map(Some))),
        ("started down", Box::new(|| dense.start_to_device(Device::CUDA_HOST, &stream)?.wait().map(Some))),
        ("up", Box::new(|| host.to_device(GPU).map(Some))),
        ("up from pinned, on a stream", Box::new(|| pinned.to_device_on(GPU, &stream).map(Some))),
        ("down", Box::new(|| near.to_device(Device::CPU).map(Some))),
        ("down to pinned", Box::new(|| near.to_device_on(Device::CUDA_HOST, &stream).map(Some))),
        ("clone", Box::new(|| near.deep_clone_on(MemoryFormat::Contiguous, &stream).map(Some))),
        ("across", Box::new(|| near.to_device_on(Device::cuda(1), &stream).map(Some))),
        ("started", Box::new(|| pinned.start_to_device(GPU, &stream)?.wait().map(Some))),
        (
            "export",
            Box::new(|| near.record_stream(&stream).map(|()| drop(near.share_dlpack())).map(|()| None)),
        ),
    ];
    let mut failures = 0;
    for (name, verb) in &verbs {
        for call in CALLS {
            for nth in 1.. {
                let label = format!("{name}, {call} {nth}");
                settle();
                Session::forget();
                session.fail(call, nth, if call.contains("Alloc") { 2 } else { 999 });
                let outcome = verb();
                let failed =
                    session.log().iter().any(|line| line.ends_with("-> 999") || line.ends_with("-> 2"));
                Session::forget();
                match outcome {
                    Ok(Some(copy)) => assert_eq!(elements(&copy.cpu().expect("a copy")), expected, "{label}"),
                    Ok(None) => {}
                    Err(error) => {
                        let words = matches!(error, Error::Cuda { .. } | Error::OutOfMemory { .. });
                        assert!(failed && words, "{label}: {error}");
                        failures += 1;
                    }
                }
                settle();
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

#[test]
fn threads_transfer_at_the_same_time() {
    let session = Session::new();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                for round in 0..5_u8 {
                    let len = 5 << 20;
                    let host =
                        Tensor::from_vec(vec![thread * 16 + round; len], [len as i64]).expect("as many");
                    let near = host.cuda(i32::from(thread % 2)).expect("a copy");
                    let back = near.deep_clone().expect("a copy").cpu().expect("a copy");
                    assert!(
                        back.as_slice::<u8>().expect("here").iter().all(|&byte| byte == thread * 16 + round)
                    );
                }
            });
        }
    });
    settle();
    assert_eq!(session.faults(), "");
}

/// Without a driver, and without devices: in processes of their own.
#[test]
fn a_machine_without_cuda_says_so() {
    let run = |name: &str, prepare: fn(&mut Command)| {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--exact", name, "--ignored", "--nocapture"]);
        prepare(&mut command);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    };
    run("without_a_device", |_| {});
    let mut there = Command::new("ldconfig");
    let there = there
        .arg("-p")
        .output()
        .is_ok_and(|known| String::from_utf8_lossy(&known.stdout).contains("libcuda."));
    if !there {
        run("without_a_driver", |command| {
            command.env_remove("LD_LIBRARY_PATH");
        });
    }
}

fn says(reason: &str) {
    let host = Tensor::from_vec(vec![1_u8], [1]).expect("one");
    for device in [GPU, Device::CUDA_HOST] {
        let rejected = host.share().into_device(device).expect_err("there is none");
        assert!(matches!(rejected.error(), Error::CudaUnavailable { .. }), "{}", rejected.error());
        assert!(rejected.error().to_string().contains(reason), "{}", rejected.error());
    }
    assert!(!host.is_pinned());
    assert!(
        Stream::new(GPU).is_err()
            && GPU.check_available().is_err()
            && Device::CUDA_HOST.check_available().is_err()
    );
    let data = std::ptr::without_provenance_mut(4096);
    let descriptor =
        Descriptor::new(data, Layout::contiguous(&[2]).expect("valid"), DType::U8, GPU).expect("valid");
    // SAFETY: nothing reads device memory on the host.
    let far = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    assert!(matches!(far.deep_clone(), Err(Error::CudaUnavailable { .. })));
    assert!(far.to_list().expect_err("not here").to_string().contains("Use Tensor::cpu()"));
    drop(far.share_dlpack());
    assert!(far.cpu().expect_err("no way").error().to_string().contains(reason));
}

#[test]
#[ignore = "run by a_machine_without_cuda_says_so"]
fn without_a_driver() {
    says("there is no driver (libcuda.so.1)");
}

#[test]
#[ignore = "run by a_machine_without_cuda_says_so"]
fn without_a_device() {
    Session::forget_devices();
    says("cuInit gave");
}
