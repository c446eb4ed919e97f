//! Views in libtorch and back: what its storage reaches, and which tensor comes back.

use dlbridge::{Access, ArrayExt, Error, Tensor, TorchExt};
use ndarray::{Ix1, Ix2, array};

use crate::support::{address, matrix, torch_matrix};

/// The bytes of a libtorch tensor's storage, as libtorch counts them: the highest place of one more
/// element that `as_strided` accepts.
fn storage_elements(tensor: &tch::Tensor) -> i64 {
    (0..).find(|&place| tensor.f_as_strided([1], [1], place).is_err()).expect("an end")
}

#[test]
fn a_view_of_a_libtorch_tensor_is_not_the_tensor() {
    let torch = torch_matrix();
    let first = address(&torch);
    let column = torch.into_tensor().expect("alone").select(1, 1).expect("a column");
    assert_eq!(column.access(), Access::Exclusive);
    let column = column.into_torch().expect("moved");
    assert_eq!((column.size(), column.stride()), (vec![2], vec![3]));
    assert_eq!(address(&column), first + 4);
    assert_eq!(Vec::<f32>::try_from(column.contiguous()).expect("numbers"), [2.0, 5.0]);
    assert_eq!(storage_elements(&column), 4, "from the lowest to the highest element");
    // And back again: the libtorch tensor is still the owner, and the view is the view.
    let column = column.into_tensor().expect("alone");
    assert_eq!(
        (column.shape(), column.strides(), column.access()),
        (&[2][..], &[3][..], Access::Exclusive)
    );
    let column = column.into_torch().expect("moved again");
    assert_eq!((column.size(), address(&column)), (vec![2], first + 4));
    let array = column.into_ndarray::<f32, Ix1>().expect("alone");
    assert_eq!(*array, array![2.0, 5.0]);
}

#[test]
fn a_view_that_is_all_of_the_tensor_is_the_tensor() {
    let torch = torch_matrix();
    let (first, whole) = (address(&torch), storage_elements(&torch));
    let view = torch.into_tensor().expect("alone").transpose(0, 1).expect("swapped");
    let view = view.permute([1, 0]).expect("swapped back");
    let torch = view.into_torch().expect("moved");
    assert_eq!(
        (torch.size(), address(&torch), storage_elements(&torch)),
        (vec![2, 3], first, whole)
    );
    // A storage that libtorch allocated can grow in place; a blob cannot.
    assert!(torch.into_tensor().is_ok());
}

#[test]
fn views_that_libtorch_cannot_have_are_refused() {
    let reversed = torch_matrix().into_tensor().expect("alone").flip([1]).expect("a view");
    let (view, error) = reversed.into_torch().expect_err("negative strides").into_parts();
    assert!(matches!(error, Error::NegativeStride { dimension: 1, stride: -1, .. }), "{error}");
    let copied = view.to_torch().expect("a copy");
    assert_eq!(copied, torch_matrix().flip([1]));
    let forward = view.flip([1]).expect("a view").into_torch().expect("as it came");
    assert_eq!(forward, torch_matrix());
    let tensor = torch_matrix().into_tensor().expect("alone");
    let row = tensor.share().select(0, 0).expect("a row");
    let (row, error) = row.into_torch().expect_err("two handles").into_parts();
    assert_eq!(error, Error::NotUnique);
    drop(tensor);
    assert_eq!(row.into_torch().expect("the only handle").size(), [3]);
}

#[test]
fn the_storage_of_a_view_does_not_reach_what_the_view_left_out() {
    let part = matrix().into_tensor().slice(1, 1, 2, 1).expect("the second column");
    let torch = part.into_torch().expect("moved");
    assert_eq!((torch.size(), torch.stride()), (vec![2, 1], vec![3, 1]));
    assert_eq!(storage_elements(&torch), 4);
    assert!(torch.f_as_strided([6], [1], 0).is_err());
    let back = torch.into_tensor().expect("alone");
    assert_eq!(back.to_vec::<f32>().expect("numbers"), [2.0, 5.0]);
    let array = back.into_ndarray::<f32, Ix2>().expect("an array");
    let error = array.into_array().expect_err("the array has six elements");
    assert!(matches!(error.error(), Error::NotOriginal { .. }), "{}", error.error());
}

/// libtorch may make a tensor longer within its storage, which ends with the view.
#[test]
fn a_view_that_libtorch_enlarges_moves_to_other_memory() {
    let all = matrix().into_tensor().reshape([6]).expect("a vector");
    let head = all.slice(0, 0, 2, 1).expect("two");
    let mut torch = head.into_torch().expect("moved");
    let first = address(&torch);
    let _ = torch.resize_([6]);
    assert_ne!(address(&torch), first, "the memory of the array has only two elements here");
}

#[test]
fn an_expanded_view_goes_to_libtorch_and_back() {
    let row = torch_matrix().into_tensor().expect("alone").select(0, 1).expect("a row");
    let rows = row.expand([4, 3]).expect("repeated").into_torch().expect("moved");
    assert_eq!((rows.size(), rows.stride(), storage_elements(&rows)), (vec![4, 3], vec![0, 1], 3));
    assert_eq!(rows.sum(tch::Kind::Float).double_value(&[]), 60.0);
    let mut back = rows.into_tensor().expect("alone");
    assert!(matches!(back.as_ndarray_mut::<f32, Ix2>(), Err(Error::SelfOverlap { .. })));
}

#[test]
fn an_empty_view_goes_to_libtorch_and_back() {
    let none = torch_matrix().into_tensor().expect("alone").slice(0, 2, None, 1).expect("no rows");
    let torch = none.into_torch().expect("moved");
    assert_eq!((torch.size(), torch.numel()), (vec![0, 3], 0));
    assert_eq!(torch.into_tensor().expect("alone").shape(), [0, 3]);
}

/// Bytes of a gap that libtorch wrote are part of no container.
#[test]
fn libtorch_may_write_the_gaps_of_a_view() {
    let bools = array![true, false, true, false].into_tensor();
    let odd = bools.slice(0, None, None, 2).expect("every second").into_torch().expect("moved");
    let bytes = odd.as_strided([3], [1], 0).view_dtype(tch::Kind::Uint8);
    let _ = bytes.shallow_clone().fill_(9);
    drop(bytes);
    let odd = odd.into_tensor().expect("alone");
    assert_eq!(odd.to_vec::<bool>(), Err(Error::InvalidBool { value: 9 }));
    let (odd, error) = odd.into_vec::<bool>().expect_err("no bools").into_parts();
    assert_eq!(error, Error::InvalidBool { value: 9 });
    let none = odd.slice(0, 0, 0, 1).expect("no elements");
    assert!(none.into_vec::<bool>().is_err(), "the array has four");
}

#[test]
fn a_view_of_unproven_memory_stays_refused() {
    let weights = torch_matrix();
    let also = weights.shallow_clone();
    // SAFETY: no code writes, resizes or frees the memory while `tensor` lives.
    let tensor = unsafe { weights.into_tensor_unchecked() }.expect("plain");
    let row = tensor.select(0, 1).expect("a row");
    assert_eq!(row.as_slice::<f32>().expect("trusted"), [4.0, 5.0, 6.0]);
    let (row, error) = row.into_torch().expect_err("shared").into_parts();
    assert_eq!(error, Error::Aliased);
    drop(also);
    assert_eq!(row.access(), Access::Aliased { writable: true, trusted: true });
}

/// A libtorch tensor that exported its memory, and whose tensor of this crate is viewed.
#[test]
fn exports_of_a_viewed_libtorch_tensor_are_the_view() {
    let tensor = torch_matrix().into_tensor().expect("alone");
    let first = tensor.data_ptr().addr();
    let exported = tensor.select(1, 2).expect("a column").into_dlpack();
    // SAFETY: `exported` keeps the struct.
    let described = unsafe { exported.as_ptr().as_ref() }.dl_tensor;
    assert_eq!((described.ndim, described.data.addr()), (1, first + 8));
    // SAFETY: this crate made the struct, and no other code has it.
    let column = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
    let torch = column.into_torch().expect("moved");
    assert_eq!(Vec::<f32>::try_from(torch.contiguous()).expect("numbers"), [3.0, 6.0]);
    let exported = torch.share_dlpack().expect("ours");
    // SAFETY: `exported` keeps the struct.
    assert_eq!(unsafe { exported.as_ptr().as_ref() }.dl_tensor.data.addr(), first + 8);
}
