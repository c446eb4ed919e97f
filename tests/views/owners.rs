//! Owners that a view does not give back, or gives back as they were: `Vec`s, arrays, DLPack
//! structs.

use dlbridge::ffi::DLManagedTensorVersioned;
use dlbridge::{Access, ArrayExt, DType, Error, Exported, Tensor, ffi};
use ndarray::{ArcArray2, Array2, Axis, Ix1, Ix2, IxDyn, array};

use crate::numbers;
use crate::producer::HostileProducer;

const IS_COPIED: u64 = ffi::DLPACK_FLAG_BITMASK_IS_COPIED as u64;
const READ_ONLY: u64 = ffi::DLPACK_FLAG_BITMASK_READ_ONLY as u64;

fn struct_of(exported: &Exported) -> DLManagedTensorVersioned {
    // SAFETY: `exported` keeps the struct, and no other code has it.
    unsafe { exported.as_ptr().read() }
}

fn not_original(error: &Error) -> bool {
    matches!(error, Error::NotOriginal { .. })
}

#[test]
fn a_part_does_not_give_the_vec_back() {
    for part in [
        numbers(&[6]).slice(0, 0, 5, 1),
        numbers(&[6]).slice(0, 1, None, 1),
        numbers(&[6]).slice(0, 6, None, 1),
        numbers(&[6]).slice(0, None, None, 2),
        numbers(&[6]).flip([0]),
        numbers(&[1]).expand([2]),
        numbers(&[6]).as_strided([6], [0], 0),
        numbers(&[2, 3]).transpose(0, 1),
        numbers(&[2, 3]).select(0, 1),
    ] {
        let part = part.expect("a view");
        let before = part.to_vec::<i32>().expect("a copy");
        let (part, error) = part.into_vec::<i32>().expect_err("not the whole Vec").into_parts();
        assert!(not_original(&error), "{error}");
        assert_eq!(part.to_vec::<i32>().expect("a copy"), before, "the tensor came back");
    }
}

#[test]
fn a_view_of_the_whole_vec_gives_it_back() {
    let vec = vec![1_i32, 2, 3, 4, 5, 6];
    let address = vec.as_ptr();
    let tensor = Tensor::from_vec(vec, [2, 3]).expect("six");
    let view = tensor.flip([0]).and_then(|view| view.flip([0])).expect("as it was");
    let view = view.reshape([3, -1]).and_then(|view| view.unsqueeze(1)).expect("another shape");
    let vec = view.into_vec::<i32>().expect("the Vec");
    assert_eq!((vec.as_ptr(), vec), (address, vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn a_part_does_not_give_the_array_back() {
    let matrix = || array![[1, 2, 3], [4, 5, 6]].into_tensor();
    for part in [
        matrix().slice(1, 0, 2, 1),
        matrix().slice(0, 1, None, 1),
        matrix().flip([1]),
        matrix().select(0, 0),
        matrix().slice(0, 0, 0, 1),
        matrix().as_strided([2, 3], [3, 0], 0),
    ] {
        let part = part.expect("a view");
        let expected = part.to_ndarray::<i32, IxDyn>().expect("a copy");
        let array = part.into_ndarray::<i32, IxDyn>().expect("an array view");
        let (array, error) = array.into_array().expect_err("not the whole array").into_parts();
        assert!(not_original(&error), "{error}");
        assert_eq!(*array, expected, "the array came back");
        let (part, error) = array.into_tensor().into_vec::<i32>().expect_err("a part").into_parts();
        assert!(not_original(&error), "{error}");
        // The owner may be the array's `Vec` by now; the elements are the same.
        assert_eq!(part.as_ndarray::<i32, IxDyn>().expect("a view"), expected);
    }
}

#[test]
fn a_view_with_another_order_of_all_elements_gives_the_memory_back() {
    let matrix = array![[1, 2, 3], [4, 5, 6]];
    let address = matrix.as_ptr();
    let columns = matrix.into_tensor().transpose(0, 1).expect("swapped");
    let columns = columns.into_ndarray::<i32, Ix2>().expect("an array view");
    let columns = columns.into_array().expect("all elements of the Vec");
    assert_eq!((columns.as_ptr(), columns.strides()), (address, &[1, 3][..]));
    assert_eq!(columns, array![[1, 4], [2, 5], [3, 6]]);
}

#[test]
fn a_view_of_the_whole_array_gives_it_back() {
    let mut reversed = array![[1, 2, 3], [4, 5, 6]];
    reversed.invert_axis(Axis(0));
    let (address, strides) = (reversed.as_ptr(), reversed.strides().to_vec());
    let view = reversed.into_tensor().transpose(0, 1).expect("swapped");
    let view = view.permute([1, 0]).expect("swapped back");
    let array = view.into_ndarray::<i32, Ix2>().expect("an array").into_array().expect("the array");
    assert_eq!((array.as_ptr(), array.strides()), (address, &strides[..]));
}

/// An array whose memory has elements that the array does not reach: a gap in each row.
#[test]
fn an_array_with_gaps_does_not_become_one_without() {
    let mut gaps = array![[1, 2, 3], [4, 5, 6]];
    gaps.slice_collapse(ndarray::s![.., ..2]);
    let flat = gaps.into_tensor().as_strided([5], [1], 0).expect("through the gap");
    assert_eq!(flat.to_vec::<i32>().expect("a copy"), [1, 2, 3, 4, 5]);
    let error = flat.into_vec::<i32>().expect_err("the Vec has six");
    assert!(not_original(error.error()), "{}", error.error());
    let flat = error.into_value();
    assert_eq!(flat.as_slice::<i32>().expect("the same elements"), [1, 2, 3, 4, 5]);
}

#[test]
fn views_of_shared_arrays_stay_read_only() {
    let shared: ArcArray2<i32> = array![[1, 2], [3, 4]].into_shared();
    let mut column = shared.clone().into_tensor().select(1, 0).expect("a column");
    assert_eq!(column.access(), Access::ReadOnly);
    assert!(matches!(column.as_ndarray_mut::<i32, Ix1>(), Err(Error::ReadOnly { .. })));
    drop(shared);
    assert_eq!(column.access(), Access::ReadOnly);
    assert_eq!(struct_of(&column.into_dlpack()).flags, READ_ONLY);
}

/// Bytes of a view that are no bools do not get into a container, and are no obstacle for a view
/// that does not reach them.
#[test]
fn bools_are_checked_where_a_view_reaches() {
    let bools = Tensor::from_vec(vec![false; 6], [6]).expect("six");
    let exported = bools.slice(0, None, None, 2).expect("every second").into_dlpack();
    let described = struct_of(&exported).dl_tensor;
    assert_eq!((described.data.is_null(), struct_of(&exported).flags & READ_ONLY), (false, 0));
    // A consumer writes the third element of the `Vec`, which is the second of the view.
    // SAFETY: the struct is writable, has six bytes from `data` on, and no view of them lives.
    unsafe { described.data.cast::<u8>().wrapping_add(2).write(7) };
    // SAFETY: this crate made the struct, and no other code has it.
    let view = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
    assert_eq!(view.to_vec::<bool>(), Err(Error::InvalidBool { value: 7 }));
    let (view, _) = view.into_ndarray::<bool, Ix1>().expect_err("no bool").into_parts();
    let (view, error) = view.into_vec::<bool>().expect_err("a part").into_parts();
    assert_eq!(error, Error::InvalidBool { value: 7 });
    let others = view.slice(0, None, None, 2).expect("without that one");
    assert_eq!(others.to_vec::<bool>().expect("bools"), [false, false]);
    assert_eq!(others.as_ndarray::<bool, Ix1>().expect("bools"), array![false, false]);
    // The gap between the two is no bool, so they are no part of a container.
    let (_, error) = others
        .into_ndarray::<bool, Ix1>()
        .expect("bools")
        .into_array()
        .expect_err("a part")
        .into_parts();
    assert_eq!(error, Error::InvalidBool { value: 7 });
}

#[test]
fn a_struct_of_a_view_comes_back_as_the_view() {
    let exported = numbers(&[2, 3]).select(1, -1).expect("a column").into_dlpack();
    let described = struct_of(&exported);
    assert_eq!((described.dl_tensor.ndim, described.flags), (1, 0), "exclusive, and not copied");
    // SAFETY: this crate made the struct, and no other code has it.
    let mut column = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
    assert_eq!((column.shape(), column.strides()), (&[2][..], &[3][..]));
    assert_eq!(column.access(), Access::Exclusive);
    column.as_ndarray_mut::<i32, Ix1>().expect("the only handle").fill(9);
    assert!(column.into_vec::<i32>().is_err(), "the Vec has six elements");
}

#[test]
fn a_struct_of_a_part_of_a_copy_is_a_copy() {
    let copy = Tensor::zeros::<u8>([4]).expect("a few bytes");
    assert_eq!(struct_of(&copy.slice(0, 1, 3, 1).expect("a part").into_dlpack()).flags, IS_COPIED);
    let copy = Tensor::zeros::<u8>([4]).expect("a few bytes");
    let part = copy.share().slice(0, 1, 3, 1).expect("a part");
    assert_eq!(struct_of(&part.into_dlpack()).flags, READ_ONLY, "there are two handles");
}

/// A struct of another library: a view of it leaves as a struct of this crate, which describes the
/// view, and the other library's deleter runs once.
#[test]
fn a_view_of_another_librarys_struct_leaves_as_the_view() {
    let (source, deleted) = HostileProducer::default().make();
    // SAFETY: the struct is valid, and no other code has it.
    let tensor = unsafe { Tensor::from_dlpack(source) }.expect("valid");
    let first = tensor.data_ptr();
    let exported = tensor.slice(0, None, None, -2).expect("reversed").into_dlpack();
    assert_ne!(exported.as_ptr(), source);
    let described = struct_of(&exported).dl_tensor;
    assert_eq!(described.data, first.wrapping_byte_add(8));
    // SAFETY: `exported` keeps one size.
    assert_eq!(unsafe { *described.shape }, 2);
    // SAFETY: `exported` keeps one stride.
    assert_eq!(unsafe { *described.strides }, -2);
    // SAFETY: this crate made the struct, and no other code has it.
    let view = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
    assert_eq!(view.to_vec::<f32>().expect("numbers"), [2.0, 0.0]);
    assert_eq!(deleted.times(), 0);
    drop(view);
    assert_eq!(deleted.times(), 1);
}

/// A struct that its consumer changed is another description; a view of it stays within.
#[test]
fn views_keep_the_owner_until_the_last_handle() {
    let (source, deleted) = HostileProducer::default().make();
    // SAFETY: the struct is valid, and no other code has it.
    let tensor = unsafe { Tensor::from_dlpack(source) }.expect("valid");
    let element = tensor.share().select(0, 2).expect("an element");
    let empty = tensor.slice(0, 3, None, 1).expect("none");
    assert_eq!((empty.len(), deleted.times()), (0, 0));
    drop(empty);
    assert_eq!((element.item::<f32>().expect("one"), deleted.times()), (2.0, 0));
    drop(element);
    assert_eq!(deleted.times(), 1);
}

#[test]
fn a_view_becomes_an_array_that_writes_only_its_elements() {
    let tensor = Tensor::from_vec(vec![0_u8; 12], [3, 4]).expect("twelve");
    let mut corner =
        tensor.slice(0, 1, None, 1).expect("rows").slice(1, None, None, -3).expect("columns");
    corner.as_ndarray_mut::<u8, Ix2>().expect("the only handle").assign(&array![[1, 2], [3, 4]]);
    let mut corner = corner.into_ndarray::<u8, Ix2>().expect("an array");
    corner.get_mut().expect("the only handle")[[0, 1]] += 10;
    let all = corner.into_tensor().as_strided([2, 4], [4, -1], 0).expect("the two rows");
    let expected: Array2<u8> = array![[1, 0, 0, 12], [3, 0, 0, 4]];
    assert_eq!(all.to_ndarray::<u8, Ix2>().expect("a copy"), expected);
    assert_eq!(all.dtype(), DType::U8);
}
