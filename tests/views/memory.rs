//! The memory that views reach: gaps, devices, packed elements, memory that moves, and several
//! handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dlbridge::ffi::{DLDataType, DLDevice, DLTensor};
use dlbridge::{Access, DType, Descriptor, Device, Error, Layout, MovableOwner, Tensor};
use ndarray::Ix2;

use crate::{numbers, refused};

const FLOAT4: DType = DType::scalar(17, 4);

fn packed(len: i64) -> Tensor {
    Tensor::zeros_with(Layout::contiguous([len]).expect("small"), FLOAT4).expect("a few bytes")
}

/// A tensor of memory that no code reads.
fn foreign(layout: Layout, device: Device) -> Tensor {
    let data = std::ptr::without_provenance_mut(0x1000);
    let descriptor = Descriptor::new(data, layout, DType::F32, device).expect("valid");
    // SAFETY: the tests read no element.
    unsafe { Tensor::from_raw_parts(descriptor, true, ()) }
}

#[test]
fn gaps_of_host_memory_can_be_reached_and_those_of_a_device_cannot() {
    let rows = || Layout::new(&[2, 3], &[4, 1]).expect("small");
    let whole = numbers(&[2, 4]).slice(1, 0, 3, 1).expect("without the last column");
    assert_eq!(*whole.layout(), rows());
    let through_the_gap = whole.as_strided([7], [1], 0).expect("in between");
    assert_eq!(through_the_gap.to_vec::<i32>().expect("on the host"), [0, 1, 2, 3, 4, 5, 6]);
    for device in [Device::cuda(0), Device::METAL] {
        let error = refused(foreign(rows(), device), |tensor| tensor.as_strided([7], [1], 0));
        assert!(matches!(error, Error::InvalidView { .. }), "{error}");
        assert!(error.to_string().contains("may have no memory"), "{error}");
        // The view would be the tensor itself, but nothing proves that of strides in general.
        refused(foreign(rows(), device), |tensor| tensor.as_strided([2, 3], [4, 1], 0));
        let dense = foreign(Layout::contiguous([2, 3]).expect("small"), device);
        assert_eq!(dense.as_strided([6], [-1], 5).expect("no gaps").strides(), [-1]);
    }
}

#[test]
fn the_address_of_a_device_moves_and_the_handle_of_a_buffer_does_not() {
    let vector = || Layout::contiguous([6]).expect("small");
    let on_cuda = foreign(vector(), Device::cuda(0)).slice(0, 2, None, 1).expect("a slice");
    assert_eq!((on_cuda.data_ptr().addr(), on_cuda.descriptor().byte_offset()), (0x1008, 0));
    let on_metal = foreign(vector(), Device::METAL).slice(0, 2, None, 1).expect("a slice");
    assert_eq!((on_metal.data_ptr().addr(), on_metal.descriptor().byte_offset()), (0x1000, 8));
    let last = on_metal.flip([0]).expect("reversed");
    assert_eq!((last.data_ptr().addr(), last.descriptor().byte_offset()), (0x1000, 20));
    let exported = last.into_dlpack();
    // SAFETY: `exported` keeps the struct.
    let described = unsafe { exported.as_ptr().as_ref() }.dl_tensor;
    assert_eq!((described.data.addr(), described.byte_offset), (0x1000, 20));
}

/// A producer says that its buffer has elements before its beginning.
#[test]
fn a_view_cannot_begin_before_its_buffer() {
    let (mut shape, mut strides) = ([3_i64], [-1_i64]);
    let lying = DLTensor {
        data: std::ptr::without_provenance_mut(0x1000),
        device: DLDevice { device_type: 8, device_id: 0 },
        ndim: 1,
        dtype: DLDataType { code: 2, bits: 32, lanes: 1 },
        shape: shape.as_mut_ptr(),
        strides: strides.as_mut_ptr(),
        byte_offset: 4,
    };
    // SAFETY: shape and strides point to one number each.
    let descriptor = unsafe { Descriptor::from_dl_tensor(&lying, 0) }.expect("not checked");
    // SAFETY: the test reads no element.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    let error = refused(tensor, |tensor| tensor.select(0, 2));
    assert_eq!(error.to_string(), "byte_offset = -4: an element cannot begin before its buffer");
}

#[test]
fn packed_elements_must_begin_at_a_byte() {
    let error = refused(packed(6), |tensor| tensor.slice(0, 1, None, 1));
    assert_eq!(
        error.to_string(),
        "elements of type float4_e2m1fn are not supported by views that begin within a byte"
    );
    for view in [packed(6).select(0, 3), packed(6).flip([0]), packed(6).as_strided([1], [1], 5)] {
        assert!(matches!(view.expect_err("half a byte").error(), Error::UnsupportedDType { .. }));
    }
    let start = packed(6).data_ptr().addr() % 256;
    let tail = packed(6).slice(0, 2, None, 1).expect("from the second byte");
    assert_eq!((tail.data_ptr().addr() % 256, tail.nbytes()), (start + 1, 2));
    let reversed = packed(5).flip([0]).expect("from the third byte");
    assert_eq!((reversed.data_ptr().addr() % 256, reversed.descriptor().span().1), (start + 2, 3));
    // Without elements nothing has to begin anywhere.
    assert_eq!(packed(6).slice(0, 3, 3, 1).expect("no elements").len(), 0);
    // The last byte has room for one more element, which the tensor does not have.
    let error = refused(packed(5), |tensor| tensor.as_strided([6], [1], 0));
    assert!(matches!(error, Error::InvalidView { .. }), "{error}");
}

/// The last byte of a view may have an element that the view leaves out.
#[test]
fn a_copy_into_a_part_of_a_byte_keeps_the_rest_of_the_byte() {
    let packed = |bytes: &'static [u8], len: i64| {
        let owned = Tensor::from_bytes_owner(bytes, FLOAT4, [len], 0).expect("enough bytes");
        owned.deep_clone().expect("a copy")
    };
    let bytes_of = |tensor: &Tensor| {
        let bytes = tensor.data_ptr().cast::<u8>();
        // SAFETY: the tensor keeps two bytes, which no other code uses.
        [unsafe { bytes.read() }, unsafe { bytes.wrapping_add(1).read() }]
    };
    let whole = packed(&[0x21, 0x43], 4); // 1, 2, 3, 4: the low half of a byte comes first
    let three = whole.share().slice(0, 0, 3, 1).expect("from the first byte");
    let source = packed(&[0x65, 0xf7], 3); // 5, 6, 7, and half a byte of padding
    // SAFETY: no other code uses the memory.
    unsafe { source.copy_into_unchecked(&three) }.expect("a copy");
    assert_eq!(bytes_of(&whole), [0x65, 0x47], "5, 6, 7, 4");
    // SAFETY: no other code uses the memory.
    unsafe { packed(&[0x98, 0xba], 4).copy_into_unchecked(&whole) }.expect("a copy");
    assert_eq!(bytes_of(&whole), [0x98, 0xba]);
}

#[test]
fn padded_elements_begin_at_every_byte() {
    let mut bytes = [1_u8, 2, 3, 4];
    let layout = Layout::contiguous([4]).expect("small");
    let described = Descriptor::new(bytes.as_mut_ptr().cast(), layout, FLOAT4, Device::CPU);
    let padded = described.and_then(Descriptor::padded).expect("valid");
    // SAFETY: the array keeps four bytes, and lives longer than the tensor.
    let tensor = unsafe { Tensor::from_raw_parts(padded, true, ()) };
    let view = tensor.slice(0, 3, None, -2).expect("at bytes");
    assert_eq!(view.data_ptr().addr(), bytes.as_ptr().addr() + 3);
    assert_eq!(
        (view.descriptor().span().0.addr(), view.descriptor().span().1),
        (bytes.as_ptr().addr() + 1, 3)
    );
    assert!(view.descriptor().is_padded());
}

#[test]
fn an_expanded_tensor_cannot_be_written() {
    let mut rows = numbers(&[1, 3]).expand([2, 3]).expect("repeated");
    assert_eq!(rows.access(), Access::Exclusive);
    assert!(matches!(rows.as_ndarray_mut::<i32, Ix2>(), Err(Error::SelfOverlap { .. })));
    let copied = numbers(&[2, 3]).copy_into(&mut rows);
    assert!(matches!(copied, Err(Error::SelfOverlap { .. })), "{copied:?}");
    let mut row = rows.select(0, 1).expect("one of them");
    row.as_slice_mut::<i32>().expect("no overlap any more")[0] = 7;
    assert_eq!(row.to_vec::<i32>().expect("numbers"), [7, 1, 2]);
    let mut windows = row.as_strided([2, 2], [1, 1], 0).expect("windows");
    assert!(matches!(windows.as_ndarray_mut::<i32, Ix2>(), Err(Error::SelfOverlap { .. })));
}

#[test]
fn the_elements_of_a_very_large_expanded_tensor_cannot_be_copied() {
    let huge = numbers(&[1]).expand([i64::MAX]).expect("counted");
    assert_eq!(huge.len(), i64::MAX as usize);
    assert!(huge.to_vec::<i32>().is_err() && huge.deep_clone().is_err() && huge.to_list().is_err());
    assert_eq!(huge.select(0, -1).expect("the last").item::<i32>().expect("one"), 0);
}

/// Two views of the same memory: neither handle is the only one.
#[test]
fn a_view_beside_its_tensor_cannot_be_written() {
    let mut whole = numbers(&[4]);
    let mut half = whole.share().slice(0, 2, None, 1).expect("a half");
    assert_eq!(whole.as_slice_mut::<i32>(), Err(Error::NotUnique));
    assert_eq!(half.as_slice_mut::<i32>(), Err(Error::NotUnique));
    assert_eq!(
        whole.copy_into(&mut half),
        Err(Error::ShapeMismatch { expected: vec![2], found: vec![4] })
    );
    let other = whole.share().slice(0, 0, 2, 1).expect("the other half");
    assert_eq!(other.copy_into(&mut half), Err(Error::NotUnique));
    drop((other, half));
    whole.as_slice_mut::<i32>().expect("the only handle")[3] = 9;
}

#[test]
fn a_copy_between_views_of_one_storage_is_refused_if_they_overlap() {
    let whole = numbers(&[6]).into_aliased().expect("the only handle");
    let part = |start: i64, end: i64| whole.share().slice(0, start, end, 1).expect("a part");
    // SAFETY: only this thread uses the memory.
    let overlapping = unsafe { part(0, 4).copy_into_unchecked(&part(2, 6)) };
    assert_eq!(overlapping, Err(Error::CopyOverlaps));
    let reversed = part(0, 3).flip([0]).expect("reversed");
    // SAFETY: only this thread uses the memory.
    unsafe { reversed.copy_into_unchecked(&part(3, 6)) }.expect("apart");
    assert_eq!(whole.to_vec::<i32>().expect("a copy"), [0, 1, 2, 2, 1, 0]);
    // SAFETY: only this thread uses the memory.
    let onto_itself = unsafe { reversed.copy_into_unchecked(&part(0, 3)) };
    assert_eq!(onto_itself, Err(Error::CopyOverlaps));
}

struct Flag(Arc<AtomicBool>);

impl MovableOwner for Flag {
    fn check_address(&self) -> dlbridge::Result<()> {
        if self.0.load(Ordering::Acquire) { Ok(()) } else { Err(Error::Aliased) }
    }
}

#[test]
fn the_owner_of_movable_memory_is_asked_for_a_view_too() {
    let mut values = [1_u8, 2, 3, 4];
    let stays = Arc::new(AtomicBool::new(true));
    let layout = Layout::contiguous([4]).expect("small");
    let data = values.as_mut_ptr().cast();
    let described = Descriptor::new(data, layout, DType::U8, Device::CPU).expect("valid");
    // SAFETY: the array lives longer than the tensor, and no code writes it.
    let tensor = unsafe { Tensor::from_movable_parts(described, true, Flag(stays.clone())) };
    let view = tensor.slice(0, None, None, -2).expect("a view");
    assert!(view.may_move() && view.as_slice::<u8>().is_err());
    assert_eq!(view.to_vec::<u8>().expect("a copy"), [4, 2]);
    stays.store(false, Ordering::Release);
    assert_eq!(view.to_vec::<u8>(), Err(Error::Aliased));
}

#[test]
fn access_and_trust_stay() {
    let aliased = numbers(&[2, 3]).into_aliased().expect("the only handle");
    let view = aliased.transpose(0, 1).expect("swapped");
    assert_eq!(view.access(), Access::Aliased { writable: true, trusted: false });
    assert!(view.as_ndarray::<i32, Ix2>().is_err());
    let trusted = foreign(Layout::contiguous([2]).expect("small"), Device::cuda(0));
    let view = trusted.flip([0]).expect("reversed");
    assert_eq!(view.access(), Access::Aliased { writable: true, trusted: true });
}

#[test]
fn tensors_without_an_address_have_views_without_elements() {
    let layout = Layout::contiguous([0, 3]).expect("small");
    let nowhere = Descriptor::new(std::ptr::null_mut(), layout, DType::F32, Device::CPU);
    // SAFETY: there are no elements.
    let empty = unsafe { Tensor::from_raw_parts(nowhere.expect("no elements"), false, ()) };
    let view = empty.select(1, 2).expect("a column").flip([0]).expect("reversed");
    let view = view.expand([5, 0]).expect("repeated").reshape([-1, 4]).expect("another shape");
    assert_eq!((view.shape(), view.data_ptr()), (&[0, 4][..], std::ptr::null_mut()));
    let error = refused(view, |empty| empty.as_strided((), [], 0));
    assert!(matches!(error, Error::InvalidView { .. }), "{error}");
}
