//! Copies to, from and between devices, which are complete when the call returns.

use dlbridge::{
    Access, DType, Descriptor, Device, Error, Layout, MemoryFormat, Remedy, Stream, Tensor,
};

use crate::fake_cuda::{
    Current, ExternalMemory, ExternalStream, Pinned, Session, context, cuda, memory, peek,
    synchronize_devices,
};
use crate::tensors::{GPU, LAYOUTS, TYPES, elements, numbers, on_host, span};

#[test]
fn every_layout_and_dtype_round_trips() {
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
                assert_eq!(
                    copy.layout(),
                    host.deep_clone_with(format).expect("a copy").layout(),
                    "{label}"
                );
                assert_eq!(elements(&copy.cpu().expect("a copy")), expected, "{label}");
            }
            let other = theirs.to_device(Device::cuda(1)).expect("a copy");
            assert_eq!(
                (other.device(), other.layout()),
                (Device::cuda(1), clone.layout()),
                "{label}"
            );
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
fn copy_into_fills_existing_memory() {
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
                // SAFETY: only this test's thread uses the target's memory.
                unsafe { near.copy_into_unchecked(&target) }.expect("a copy");
                assert_eq!(elements(&target), expected, "{label}");
                for (source, index) in [(&host, 0), (&near, 0), (&near, 1)] {
                    let target = memory(index, shape, strides, dtype, &room);
                    // SAFETY: only this test's thread uses the target's memory.
                    unsafe { source.copy_into_unchecked(&target) }.expect("a copy");
                    let (start, len) = target.descriptor().span();
                    synchronize_devices();
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
        Some(Error::NotOriginal { target: "a Vec", remedy: Remedy::CopyToVec })
    );
    session.check();
}

#[test]
fn large_copies_reuse_the_bounce_buffers() {
    let session = Session::new();
    let len = (13 << 20) + 5;
    let host = Tensor::from_vec(numbers(len), [len as i64]).expect("as many");
    let up = host.to_device(GPU).expect("a copy");
    let chunks: Vec<String> = session.log_of(&["cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2"]);
    assert_eq!(chunks.len(), 4, "{chunks:?}");
    assert!(session.log_of(&["cuMemHostAlloc"]).is_empty(), "made before");
    Session::forget();
    let down = up.cpu().expect("a copy");
    assert_eq!(
        down.as_slice::<u8>().expect("on the host"),
        host.as_slice::<u8>().expect("on the host")
    );
    assert!(session.log_of(&["cuMemHostAlloc"]).is_empty());
    // Strided on both sides, in one pass over the bus.
    let (shape, strides) = ([1500, 1400], [1400 * 3, 3]);
    let bytes = numbers(span(&shape, &strides, DType::F32));
    let near = memory(0, &shape, &strides, DType::F32, &bytes);
    let host = on_host(&shape, &strides, DType::F32, bytes);
    Session::forget();
    let down = near.to_device(Device::CPU).expect("a copy");
    let copied_bytes = |log: Vec<String>| -> usize {
        let bytes = |line: &String| {
            line.split("bytes=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok())
        };
        log.iter().map(|line| bytes(line).unwrap_or(0)).sum()
    };
    assert_eq!(
        copied_bytes(session.log_of(&["cuMemcpyDtoHAsync", "cuMemcpyDtoHAsync_v2"])),
        1500 * 1400 * 4
    );
    assert_eq!(elements(&down), elements(&host));
    Session::forget();
    let up = host.to_device(GPU).expect("a copy");
    assert_eq!(
        copied_bytes(session.log_of(&["cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2"])),
        1500 * 1400 * 4
    );
    assert!(session.log_of(&["cuLaunchKernel"]).is_empty(), "packed on the host");
    assert_eq!(elements(&up.cpu().expect("a copy")), elements(&host));
    // The bytes of a broadcast are copied once.
    let row = on_host(&[1000, 1000], &[0, 1], DType::F32, numbers(4000));
    Session::forget();
    let up = row.to_device(GPU).expect("a copy");
    assert_eq!(copied_bytes(session.log_of(&["cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2"])), 4000);
    assert_eq!(elements(&up.cpu().expect("a copy")), elements(&row));
    drop(near);
    session.check();
}

#[test]
fn packed_elements_are_copied_as_bytes() {
    let session = Session::new();
    let layout = Layout::contiguous([3, 5]).expect("valid");
    let mut bytes = numbers(8);
    let data = bytes.as_mut_ptr().cast();
    let descriptor =
        Descriptor::new(data, layout, DType::scalar(17, 4), Device::CPU).expect("valid");
    // SAFETY: the bytes of the vector.
    let host = unsafe { Tensor::from_raw_parts(descriptor, true, bytes) };
    let up = host.to_device(GPU).expect("a copy");
    assert_eq!(up.nbytes(), 8);
    let down = up
        .deep_clone()
        .expect("a copy")
        .to_device(Device::cuda(1))
        .expect("a copy")
        .cpu()
        .expect("a copy");
    // SAFETY: 8 bytes of a new tensor.
    assert_eq!(unsafe { std::slice::from_raw_parts(down.data_ptr().cast::<u8>(), 8) }, numbers(8));
    assert!(matches!(
        up.deep_clone_with(MemoryFormat::ChannelsLast),
        Err(Error::RankMismatch { .. })
    ));
    drop(up);
    session.check();
}

#[test]
fn into_device_returns_unchanged_and_to_device_copies() {
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
    // Page-locked memory that dlbridge did not make is recognised by its address.
    let theirs = Pinned::new(64);
    let layout = Layout::contiguous([64]).expect("valid");
    let descriptor =
        Descriptor::new(theirs.0.cast(), layout, DType::U8, Device::CPU).expect("valid");
    // SAFETY: memory of the test's own, which outlives the tensor.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    assert!(tensor.is_pinned());
    drop((tensor.pin().expect("pinned already"), theirs, near, copy, plain, pinned));
    session.check();
}

#[test]
fn callers_context_stays_current() {
    let session = Session::new();
    let current = Current::of(1);
    let near = Tensor::zeros::<f32>([1000]).expect("memory").cuda(0).expect("a copy");
    let _ = near.deep_clone().expect("a copy").cpu().expect("a copy");
    drop(near);
    assert_eq!(session.depth(), 1);
    let mut found = std::ptr::null_mut();
    cuda!(cuCtxGetCurrent(&raw mut found => *mut *mut std::ffi::c_void));
    assert_eq!(found, context(1));
    drop(current);
    session.check();
}

/// A download on another stream uses the bounce buffers next, while the upload still reads them.
#[test]
fn bounce_buffers_are_not_reused_while_a_device_reads_them() {
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

#[test]
fn blocking_copies_wait_until_host_memory_is_unused() {
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
    // Page-locked memory that is not contiguous is copied through the bounce buffers.
    let (shape, strides) = ([10, 9], [10, 1]);
    let bytes = numbers(span(&shape, &strides, DType::U8));
    let strided = on_host(&shape, &strides, DType::U8, bytes).pin().expect("a copy");
    assert_eq!(strided.cuda(0).expect("a copy").cpu().expect("a copy").len(), 90);
    drop(pinned);
    session.check();
}

/// The owner of aliased memory may free it on a stream that dlbridge does not know.
#[test]
fn copies_of_aliased_memory_are_complete_on_return() {
    let session = Session::new();
    let (theirs, ours) = (ExternalStream::new(0), Stream::new(GPU).expect("a stream"));
    let source = || {
        synchronize_devices();
        ExternalMemory::new(0, theirs.as_raw(), &[1, 2, 3, 4]).into_tensor(&[4], &[1], DType::U8)
    };
    let aliased = source();
    synchronize_devices();
    let clone = aliased.deep_clone_on(MemoryFormat::Preserve, &ours).expect("a copy");
    drop(aliased);
    let aliased = source();
    synchronize_devices();
    let other = aliased.to_device_on(Device::cuda(1), &ours).expect("a copy");
    drop(aliased);
    let target = source();
    synchronize_devices();
    // SAFETY: only this test's thread uses the target's memory.
    unsafe { clone.copy_into_unchecked_on(&target, &ours) }.expect("a copy");
    drop(target);
    assert_eq!(elements(&clone.cpu().expect("a copy")), [1, 2, 3, 4]);
    assert_eq!(elements(&other.cpu().expect("a copy")), [1, 2, 3, 4]);
    drop((theirs, ours));
    session.check();
}

#[test]
fn threads_copy_concurrently() {
    let session = Session::new();
    let copy_back = |device: i32, value: u8| {
        let len = 5 << 20;
        let host = Tensor::from_vec(vec![value; len], [len as i64]).expect("as many");
        let near = host.cuda(device).expect("a copy");
        let back = near.deep_clone().expect("a copy").cpu().expect("a copy");
        assert!(back.as_slice::<u8>().expect("here").iter().all(|&byte| byte == value));
    };
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                (0..5).for_each(|round| copy_back(i32::from(thread % 2), thread * 16 + round));
            });
        }
    });
    synchronize_devices();
    assert_eq!(session.faults(), "");
}
