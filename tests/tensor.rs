//! `Tensor`: ownership, views, copies and lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dlbridge::{
    Access, DType, Descriptor, Device, Element, Error, Layout, List, MemoryFormat, Tensor,
};
use half::{bf16, f16};
use num_complex::Complex;
use proptest::prelude::*;

/// Address of the first element of a struct.
fn data_of<T>(exported: &dlbridge::Exported) -> *mut T {
    // SAFETY: valid as long as `exported` lives.
    unsafe { exported.as_ptr().as_ref() }.dl_tensor.data.cast()
}

fn counting() -> Tensor {
    Tensor::from_vec((0..24_i32).collect(), [2, 3, 4]).expect("24 elements")
}

/// Wraps a vector in any layout.
fn strided(len: usize, first: i64, shape: &[i64], strides: &[i64]) -> Tensor {
    let mut values = Vec::from_iter(0..len as i32);
    let data = values.as_mut_ptr().wrapping_offset(first as isize).cast();
    let layout = Layout::new(shape, strides).expect("a valid layout");
    let descriptor = Descriptor::new(data, layout, DType::I32, Device::CPU).expect("valid");
    // SAFETY: the owner keeps the elements, which no other code reaches; the tests stay within
    // `len`.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, values) };
    // SAFETY: this handle is the only one, and nothing else reaches the memory.
    unsafe { tensor.assume_exclusive() }.expect("one handle")
}

#[test]
fn vec_round_trip_keeps_address_and_capacity() {
    let mut vec = Vec::with_capacity(100);
    vec.extend([1.0_f64, 2.0, 3.0, 4.0]);
    let address = vec.as_ptr();
    let vec = Tensor::from_vec(vec, [2, 2]).expect("4").into_vec::<f64>().expect("the only handle");
    assert_eq!((vec.as_ptr(), vec.capacity()), (address, 100));
}

/// Every rank from 0 to 8, and for each a 0 in every place.
fn shapes() -> Vec<Vec<i64>> {
    let mut shapes = vec![];
    for rank in 0..=8_usize {
        let shape: Vec<i64> = (0..rank as i64).map(|dimension| 1 + dimension % 3).collect();
        for dimension in 0..rank {
            let mut empty = shape.clone();
            empty[dimension] = 0;
            shapes.push(empty);
        }
        shapes.push(vec![1; rank]);
        shapes.push(shape);
    }
    shapes
}

#[test]
fn vecs_of_every_shape_come_back() {
    for shape in shapes() {
        let values: Vec<u16> = (0..shape.iter().product::<i64>() as u16).collect();
        let (expected, address) = (values.clone(), values.as_ptr());
        let mut tensor = Tensor::from_vec(values, &shape[..]).expect("it fits");
        assert_eq!(tensor.as_slice::<u16>().expect("contiguous"), expected);
        assert_eq!(tensor.as_slice_mut::<u16>().expect("alone"), expected);
        let clone = tensor.deep_clone().expect("memory");
        assert_eq!((clone.strides(), clone.shape()), (tensor.strides(), &shape[..]));
        assert_eq!(clone.to_vec::<u16>().expect("u16"), expected);
        let mut target = Tensor::zeros::<u16>(&shape[..]).expect("memory");
        tensor.copy_into(&mut target).expect("same shape");
        assert_eq!(target.as_slice::<u16>().expect("contiguous"), expected);
        // SAFETY: our own struct, of a moment ago.
        let back = unsafe { Tensor::from_dlpack(tensor.into_dlpack().into_raw()) };
        let back = back.expect("our own").into_vec::<u16>().expect("the original");
        assert_eq!((back.as_ptr(), back), (address, expected), "{shape:?}");
    }
}

#[test]
fn machine_sized_integers_are_elements() {
    let narrow = cfg!(target_pointer_width = "32");
    let tokens = Tensor::from_vec(vec![3_usize, 1, usize::MAX], [3]).expect("3 elements");
    assert_eq!(tokens.dtype(), if narrow { DType::U32 } else { DType::U64 });
    assert_eq!(tokens.as_slice::<usize>().expect("usize"), [3, 1, usize::MAX]);
    assert_eq!(tokens.to_list().expect("numbers"), vec![3, 1, usize::MAX].into());
    let offset = Tensor::from_vec(vec![-1_isize], [1]).expect("1 element");
    assert_eq!(offset.dtype(), if narrow { DType::I32 } else { DType::I64 });
    assert_eq!(offset.item::<isize>(), Ok(-1));
    assert!(matches!(offset.as_slice::<usize>(), Err(Error::DTypeMismatch { .. })));
}

/// Views and copies are of either Rust type; the container that comes back is the one that went in.
#[cfg(target_pointer_width = "64")]
#[test]
fn containers_of_machine_sized_integers_keep_their_type() {
    let tensor = Tensor::from_vec(vec![3_usize, 1, 2], [3]).expect("3 elements");
    let address = tensor.as_slice::<u64>().expect("the same elements").as_ptr();
    assert_eq!(tensor.to_vec::<u64>().expect("a copy"), [3, 1, 2]);
    let rejected = tensor.into_vec::<u64>().expect_err("it is a Vec<usize>");
    assert!(matches!(rejected.error(), Error::NotOriginal { .. }));
    let vec = rejected.into_value().into_vec::<usize>().expect("the original");
    assert_eq!((vec.as_ptr().cast(), &vec[..]), (address, &[3, 1, 2][..]));
    let mut tensor = Tensor::from_vec(vec![-1_i64], [1]).expect("1 element");
    tensor.as_slice_mut::<isize>().expect("the same elements")[0] = 5;
    assert!(tensor.share().into_vec::<isize>().is_err());
    assert_eq!(tensor.into_vec::<i64>().expect("the original"), [5]);
}

#[test]
fn wrong_shapes_are_refused() {
    let rejected = Tensor::from_vec(vec![1_u8; 5], [2, 3]).expect_err("6 elements wanted");
    assert_eq!(
        *rejected.error(),
        Error::LengthMismatch { shape: vec![2, 3], expected: 6, found: 5 }
    );
    assert_eq!(rejected.into_value(), [1; 5]);
    assert!(matches!(Tensor::from_slice(&[1_u8], [-1]), Err(Error::InvalidDescriptor { .. })));
    assert!(matches!(Tensor::zeros::<f64>([i64::MAX, i64::MAX]), Err(Error::Overflow { .. })));
    assert!(matches!(
        Tensor::zeros::<f64>([1_i64 << 61]),
        Err(Error::Overflow { .. } | Error::OutOfMemory { .. })
    ));
    assert!(matches!(Tensor::zeros::<u8>([1_i64 << 46]), Err(Error::OutOfMemory { .. })));
}

#[test]
fn refused_into_vec_returns_the_tensor() {
    let tensor = counting().into_vec::<u32>().expect_err("i32").into_value();
    let other = tensor.share();
    let rejected = tensor.into_vec::<i32>().expect_err("two handles");
    assert_eq!(*rejected.error(), Error::NotUnique);
    drop(other);
    assert_eq!(rejected.into_value().into_vec::<i32>().expect("one handle").len(), 24);
    let zeros = Tensor::zeros::<i32>([2]).expect("small");
    assert!(matches!(
        zeros.into_vec::<i32>().expect_err("never a Vec").into_error(),
        Error::NotOriginal { .. }
    ));
}

#[test]
fn as_slice_mut_needs_a_unique_handle() {
    let mut tensor = counting();
    tensor.as_slice_mut::<i32>().expect("alone")[0] = 7;
    let shared = tensor.share();
    assert_eq!(tensor.as_slice_mut::<i32>().expect_err("two"), Error::NotUnique);
    assert!(!tensor.is_unique());
    let reader = thread::spawn(move || shared.as_slice::<i32>().expect("readable")[0]);
    assert_eq!(reader.join().expect("no panic"), 7);
    assert!(tensor.as_slice_mut::<i32>().is_ok());
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn raw_parts_owner_is_dropped_once() {
    static VALUE: f32 = 1.0;
    let drops = Arc::new(AtomicUsize::new(0));
    let layout = Layout::contiguous(()).expect("rank 0");
    let data = (&raw const VALUE).cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    // SAFETY: a static that no code writes.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, false, Counted(Arc::clone(&drops))) };
    assert_eq!(tensor.access(), Access::Aliased { writable: false, trusted: true });
    assert_eq!(tensor.item::<f32>().expect("one element"), 1.0);
    let other = tensor.share();
    thread::spawn(move || drop(tensor)).join().expect("no panic");
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(other);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn as_slice_needs_contiguous_memory() {
    let transposed = strided(6, 0, &[2, 3], &[1, 2]);
    assert!(matches!(transposed.as_slice::<i32>(), Err(Error::NotContiguous { .. })));
    assert_eq!(transposed.to_vec::<i32>().expect("copied"), [0, 2, 4, 1, 3, 5]);
    let mut odd_strides_of_size_one = strided(6, 0, &[1, 6, 1], &[99, 1, -5]);
    assert_eq!(odd_strides_of_size_one.as_slice_mut::<i32>().expect("contiguous").len(), 6);
}

#[test]
fn overlapping_layouts_are_never_writable() {
    for (shape, strides) in [(&[4_i64][..], &[0_i64][..]), (&[3, 3], &[1, 1]), (&[2, 3], &[0, 1])] {
        let mut tensor = strided(9, 0, shape, strides);
        assert!(tensor.as_slice::<i32>().is_err() || tensor.is_contiguous());
        assert!(matches!(tensor.as_slice_mut::<i32>(), Err(Error::SelfOverlap { .. })));
        let zeros = Tensor::zeros::<i32>(shape).expect("small");
        assert!(matches!(zeros.copy_into(&mut tensor), Err(Error::SelfOverlap { .. })));
    }
}

#[test]
fn copy_into_refuses_invalid_targets() {
    let source = counting();
    let mut target = Tensor::zeros::<i32>([2, 3, 4]).expect("small");
    source.copy_into(&mut target).expect("same shape and type");
    assert_eq!(target.to_vec::<i32>().expect("i32"), Vec::from_iter(0..24));
    let mut wrong = Tensor::zeros::<i32>([4, 3, 2]).expect("small");
    assert!(matches!(source.copy_into(&mut wrong), Err(Error::ShapeMismatch { .. })));
    let mut wrong = Tensor::zeros::<u32>([2, 3, 4]).expect("small");
    assert!(matches!(source.copy_into(&mut wrong), Err(Error::DTypeMismatch { .. })));
    let mut shared = source.share();
    assert_eq!(source.copy_into(&mut shared), Err(Error::NotUnique));
    let mut aliased = counting().into_aliased().expect("alone");
    assert_eq!(source.copy_into(&mut aliased), Err(Error::Aliased));
    // SAFETY: no other code knows this memory.
    assert_eq!(unsafe { source.copy_into_unchecked(&aliased) }, Ok(()));
    // SAFETY: refused before anything is written.
    assert_eq!(unsafe { source.copy_into_unchecked(&source.share()) }, Err(Error::CopyOverlaps));
    // SAFETY: no code writes the memory.
    let read_only = unsafe { counting().assume_read_only() }.expect("alone");
    // SAFETY: refused before anything is written.
    let refused = unsafe { source.copy_into_unchecked(&read_only) };
    assert!(matches!(refused, Err(Error::ReadOnly { .. })));
}

#[test]
fn copy_into_new_fills_uninitialized_memory() {
    // The larger asks for huge pages, and is not aligned to them.
    for side in [3_i64, 3000] {
        let count = i32::try_from(side * side).expect("small");
        let source = Tensor::from_vec(Vec::from_iter(0..count), [side, side]).expect("counted");
        let transposed = Descriptor::new(
            source.descriptor().data_ptr(),
            Layout::new(&[side, side], &[1, side]).expect("small"),
            DType::I32,
            Device::CPU,
        );
        // SAFETY: the source's own memory, which it keeps.
        let transposed = unsafe {
            Tensor::from_raw_parts(transposed.expect("the same elements"), false, source.share())
        };
        let mut new = Vec::<i32>::with_capacity(count as usize + 1);
        let first = new.as_mut_ptr().wrapping_add(1);
        let target = Descriptor::new(
            first.cast(),
            Layout::contiguous([side, side]).expect("small"),
            DType::I32,
            Device::CPU,
        );
        // SAFETY: only written, through this tensor; `new` outlives it.
        let target = unsafe { Tensor::from_raw_parts(target.expect("an address"), true, ()) };
        // SAFETY: no other code knows the memory.
        assert_eq!(unsafe { transposed.copy_into_new_unchecked(&target) }, Ok(()));
        drop(target);
        // SAFETY: this element was left out; all others were written.
        unsafe { new.as_mut_ptr().write(-1) };
        // SAFETY: the copy wrote all elements but one, and the line above wrote that one.
        unsafe { new.set_len(count as usize + 1) };
        let side = side as usize;
        assert!((0..side * side).all(|at| new[1 + at] as usize == at % side * side + at / side));
    }
}

#[test]
fn deep_clones_do_not_alias_their_source() {
    let mut tensor = counting();
    let clone = tensor.deep_clone().expect("memory");
    tensor.as_slice_mut::<i32>().expect("alone")[5] = -1;
    assert_eq!(clone.as_slice::<i32>().expect("contiguous")[5], 5);
    assert_eq!((clone.access(), clone.is_unique()), (Access::Exclusive, true));
    assert_eq!(clone.data_ptr().addr() % 64, 0);
    let last = tensor.deep_clone_with(MemoryFormat::ChannelsLast);
    assert!(matches!(last, Err(Error::RankMismatch { expected: 4, found: 3 })));
    let image = tensor.deep_clone_with(MemoryFormat::Contiguous).expect("memory");
    assert_eq!(image.strides(), [12, 4, 1]);
}

fn bools(mut bytes: Vec<u8>, shape: &[i64], strides: &[i64]) -> Tensor {
    let layout = Layout::new(shape, strides).expect("valid");
    let data = bytes.as_mut_ptr().cast();
    let descriptor = Descriptor::new(data, layout, DType::BOOL, Device::CPU).expect("valid");
    // SAFETY: the owner keeps the bytes, which no other code reaches.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, bytes) };
    // SAFETY: this handle is the only one, and nothing else reaches the memory.
    unsafe { tensor.assume_exclusive() }.expect("alone")
}

#[test]
fn invalid_bool_bytes_are_refused() {
    let mut tensor = bools(vec![1, 2, 0, 255], &[2], &[2]);
    assert_eq!(tensor.to_vec::<bool>().expect("the elements are fine"), [true, false]);
    assert_eq!(tensor.to_list().expect("the elements are fine").to_string(), "[True, False]");
    let mut tensor2 = bools(vec![1, 0, 2], &[3], &[1]);
    let invalid = Error::InvalidBool { value: 2 };
    assert_eq!(tensor2.as_slice::<bool>(), Err(invalid.clone()));
    assert_eq!(tensor2.as_slice_mut::<bool>(), Err(invalid.clone()));
    assert_eq!(tensor2.to_vec::<bool>(), Err(invalid.clone()));
    assert_eq!(tensor2.to_list(), Err(invalid.clone()));
    assert_eq!(tensor2.deep_clone().expect("bytes").as_slice::<bool>(), Err(invalid));
    assert!(tensor.as_slice_mut::<u8>().is_err(), "a bool is no u8");
}

#[test]
fn bools_are_checked_again_after_an_export() {
    let tensor = Tensor::from_vec(vec![true, false], [2]).expect("2");
    assert_eq!(tensor.as_slice::<bool>().expect("fine so far"), [true, false]);
    let exported = tensor.into_dlpack();
    // SAFETY: the struct may be written (no READ_ONLY), and no view lives.
    unsafe { data_of::<u8>(&exported).write(7) };
    // SAFETY: our own struct; that it holds an invalid byte is what the test is about.
    let back = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
    assert_eq!(back.as_slice::<bool>(), Err(Error::InvalidBool { value: 7 }));
    assert_eq!(
        back.into_vec::<bool>().expect_err("no Vec<bool>").into_error(),
        Error::InvalidBool { value: 7 }
    );
}

#[test]
fn lists_print_like_pythons() {
    fn list<T: Element>(values: Vec<T>, shape: &[i64]) -> String {
        Tensor::from_vec(values, shape).expect("fits").to_list().expect("listable").to_string()
    }
    assert_eq!(list(vec![1_u8, 2], &[2]), "[1, 2]");
    assert_eq!(list(vec![u64::MAX], &[]), "18446744073709551615");
    assert_eq!(list(vec![i8::MIN], &[1, 1]), "[[-128]]");
    assert_eq!(list(vec![0.1_f32], &[1]), "[0.10000000149011612]");
    assert_eq!(list(vec![f16::from_f32(1.5)], &[1]), "[1.5]");
    assert_eq!(list(vec![bf16::from_f32(-2.0)], &[1]), "[-2.0]");
    assert_eq!(list(vec![true, false], &[2]), "[True, False]");
    assert_eq!(list(vec![Complex::new(1.0_f32, -2.0)], &[1]), "[(1-2j)]");
    assert_eq!(list::<f64>(vec![], &[0, 3]), "[]");
    assert_eq!(list::<f64>(vec![], &[3, 0]), "[[], [], []]");
    let list = counting().to_list().expect("rank 3");
    assert!(matches!(&list, List::Items(items) if items.len() == 2));
}

#[test]
fn nested_lists_of_very_high_rank_are_refused() {
    let deep = Tensor::from_vec(vec![1_u8], vec![1; 100_000]).expect("one element");
    assert!(matches!(deep.to_list(), Err(Error::TooManyDimensions { limit: 64, .. })));
    assert_eq!(deep.deep_clone().expect("memory").to_vec::<u8>().expect("u8"), [1]);
    assert!(format!("{deep:?}").starts_with("Tensor(..., shape=[1, 1,"));
    let wide = Tensor::from_vec(Vec::<u8>::new(), [1_i64 << 60, 0]).expect("no elements");
    assert!(matches!(wide.to_list(), Err(Error::OutOfMemory { .. })));
    assert!(format!("{wide:?}").contains("shape=[1152921504606846976, 0]"));
    let wide = Tensor::zeros::<u8>([1 << 20, 1 << 20, 0]).expect("no elements");
    assert!(matches!(wide.to_list(), Err(Error::OutOfMemory { .. })));
}

#[test]
fn debug_prints_the_values_that_are_readable() {
    assert_eq!(
        format!("{:?}", Tensor::from_vec(vec![1.0_f32, 2.0], [2]).expect("2")),
        "Tensor([1.0, 2.0], shape=[2], dtype=float32, device=cpu)"
    );
    let aliased = counting().into_aliased().expect("alone");
    assert_eq!(format!("{aliased:?}"), "Tensor(..., shape=[2, 3, 4], dtype=int32, device=cpu)");
}

#[test]
fn item_needs_exactly_one_element() {
    assert_eq!(Tensor::from_vec(vec![5_i64], [1, 1]).expect("1").item::<i64>(), Ok(5));
    assert!(matches!(
        counting().item::<i32>(),
        Err(Error::LengthMismatch { expected: 1, found: 24, .. })
    ));
}

#[test]
fn cpu_returns_host_tensors_unchanged() {
    let tensor = counting();
    let address = tensor.data_ptr();
    assert_eq!(tensor.cpu().expect("already there").data_ptr(), address);
    let layout = Layout::contiguous([2]).expect("small");
    let data = std::ptr::without_provenance_mut(0x1000);
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::cuda(0)).expect("valid");
    // SAFETY: device memory is never read by the host.
    let cuda = unsafe { Tensor::from_raw_parts(descriptor, false, ()) };
    let rejected = cuda.cpu().expect_err("no CUDA here");
    assert_eq!(rejected.into_value().device(), Device::cuda(0));
}

/// A layout within `0..len` elements, with strides of any sign, and where its first element is.
fn layouts() -> impl Strategy<Value = (Vec<i64>, Vec<i64>, i64, usize)> {
    let dims =
        prop::collection::vec((prop_oneof![Just(0_i64), Just(1), 2_i64..5], -7_i64..8), 0..6);
    dims.prop_map(|dims| {
        let (shape, strides): (Vec<i64>, Vec<i64>) = dims.into_iter().unzip();
        let reach = |sign: i64| -> i64 {
            shape
                .iter()
                .zip(&strides)
                .map(|(&size, &stride)| ((size - 1).max(0) * stride * sign).max(0))
                .sum()
        };
        let (below, above) = (reach(-1), reach(1));
        (shape, strides, below, (below + above + 1) as usize)
    })
}

/// Every element by index arithmetic alone.
fn naive(first: i64, shape: &[i64], strides: &[i64]) -> Vec<i32> {
    let mut offsets = vec![first];
    for (&size, &stride) in shape.iter().zip(strides) {
        offsets = offsets
            .iter()
            .flat_map(|offset| (0..size).map(move |index| offset + index * stride))
            .collect();
    }
    offsets.into_iter().map(|offset| offset as i32).collect()
}

proptest! {
    #[test]
    fn copies_agree_with_index_arithmetic((shape, strides, first, len) in layouts()) {
        let tensor = strided(len, first, &shape, &strides);
        let expected = naive(first, &shape, &strides);
        prop_assert_eq!(tensor.to_vec::<i32>().expect("i32"), &expected[..]);
        let clone = tensor.deep_clone().expect("memory");
        prop_assert_eq!(clone.to_vec::<i32>().expect("i32"), &expected[..]);
        prop_assert!(!clone.layout().overlaps());
        let mut target = tensor.deep_clone_with(MemoryFormat::Contiguous).expect("memory");
        prop_assert_eq!(target.as_slice::<i32>().expect("contiguous"), &expected[..]);
        clone.copy_into(&mut target).expect("same shape");
        prop_assert_eq!(target.as_slice::<i32>().expect("contiguous"), &expected[..]);
    }

    #[test]
    fn copy_into_fills_any_layout((shape, strides, first, len) in layouts()) {
        let mut target = strided(len, first, &shape, &strides);
        let count = target.len();
        let values = Vec::from_iter(100..100 + count as i32);
        let source = Tensor::from_vec(values.clone(), shape).expect("fits");
        match source.copy_into(&mut target) {
            Ok(()) => prop_assert_eq!(target.to_vec::<i32>().expect("i32"), values),
            Err(error) => {
                let overlap = matches!(error, Error::SelfOverlap { .. });
                prop_assert!(overlap);
                prop_assert!(target.layout().overlaps());
            }
        }
    }
}

#[test]
fn broadcast_bools_are_checked_once() {
    let huge = bools(vec![1], &[1 << 40, 1 << 10], &[0, 0]);
    assert!(matches!(huge.as_slice::<bool>(), Err(Error::NotContiguous { .. })), "and in no time");
    assert!(matches!(huge.to_list(), Err(Error::OutOfMemory { .. })));
    assert!(matches!(huge.deep_clone(), Err(Error::OutOfMemory { .. })));
}

#[test]
fn packed_elements_are_copied_only_in_their_own_layout() {
    static PACKED: [u8; 2] = [0x21, 0x43];
    let layout = Layout::contiguous([1, 2, 1, 2]).expect("small");
    let data = PACKED.as_ptr().cast_mut().cast();
    let descriptor =
        Descriptor::new(data, layout, DType::scalar(17, 4), Device::CPU).expect("valid");
    // SAFETY: static, and not written.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, false, ()) };
    assert!(tensor.deep_clone().is_ok());
    let last = tensor.deep_clone_with(MemoryFormat::ChannelsLast);
    assert!(matches!(last, Err(Error::UnsupportedDType { .. })));
}

#[test]
fn zeros_support_every_layout_and_dtype() {
    for (shape, strides) in [
        (&[2_i64, 3][..], &[1_i64, 2][..]),
        (&[2, 3], &[-8, 2]),
        (&[3], &[0]),
        (&[], &[]),
        (&[0, 3], &[-7, 9]),
    ] {
        let layout = Layout::new(shape, strides).expect("valid");
        let strides = layout.strides().to_vec();
        let zeros = Tensor::zeros_with(layout, DType::F64).expect("small");
        assert_eq!((zeros.shape(), zeros.strides()), (shape, &strides[..]));
        assert!(zeros.to_vec::<f64>().expect("readable").iter().all(|&value| value == 0.0));
        assert_eq!(zeros.access(), Access::Exclusive);
    }
    let packed = Tensor::zeros_with(Layout::contiguous([5]).expect("valid"), DType::scalar(17, 4));
    assert_eq!(packed.expect("small").nbytes(), 3);
    let refused = |shape: &[i64], dtype| {
        Tensor::zeros_with(Layout::contiguous(shape).expect("valid"), dtype)
            .expect_err("impossible")
    };
    assert!(matches!(refused(&[1], DType::scalar(99, 8)), Error::UnsupportedDType { .. }));
    assert!(matches!(refused(&[1], DType::scalar(2, 0)), Error::InvalidDescriptor { .. }));
    assert!(matches!(refused(&[1 << 60], DType::C128), Error::Overflow { .. }));
    assert!(matches!(refused(&[1 << 58], DType::F64), Error::OutOfMemory { .. }));
}
