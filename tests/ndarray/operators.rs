//! Arrays that own their elements through a tensor stand where ndarray's own arrays stand: in
//! operators, comparisons, loops and formats.

use std::collections::HashMap;

use dlbridge::{ArrayExt, Element, Error, NdArray, Tensor};
use ndarray::{ArcArray, Array, Array1, Array2, CowArray, Ix1, Ix2, Ix3, IxDyn, array, s};

fn matrix<T: Element>(values: [T; 4]) -> NdArray<T, Ix2> {
    let tensor = Tensor::from_vec(values.to_vec(), [2, 2]).expect("4");
    tensor.into_ndarray().expect("its type")
}

/// A row-major copy, for comparison.
fn copy<T: Element>(array: &NdArray<T, Ix2>) -> Array2<T> {
    Array2::from_shape_vec((2, 2), array.as_tensor().to_vec().expect("memory")).expect("4")
}

#[test]
fn operators_give_what_those_of_references_give() {
    let (nd_one, nd_other) = (matrix([7_i32, -2, 3, 40]), matrix([3_i32, 5, -7, 11]));
    let (one, other) = (copy(&nd_one), copy(&nd_other));
    macro_rules! same_results {
        ($($operator:tt)*) => {$(
            let expected: Array2<i32> = &one $operator &other;
            assert_eq!(&nd_one $operator &nd_other, expected);
            assert_eq!(&nd_one $operator &other, expected);
            assert_eq!(&nd_one $operator other.clone(), expected);
            assert_eq!(&one $operator &nd_other, expected);
            assert_eq!(one.clone() $operator &nd_other, expected);
            assert_eq!(&nd_one $operator &other.view(), expected);
            assert_eq!(&one.view() $operator &nd_other, expected);
            assert_eq!(&nd_one $operator 3, &one $operator 3);
            assert_eq!(3 $operator &nd_other, 3 $operator &other);
        )*};
    }
    same_results!(+ - * / % & | ^);
    assert_eq!(&nd_one << 2, &one << 2);
    assert_eq!(&nd_one >> 1, &one >> 1);
    assert_eq!((-&nd_one, !&nd_one), (-&one, !&one));
    let flags = matrix([true, false, true, false]);
    assert_eq!(!&flags, array![[false, true], [false, true]]);
    assert_eq!(&matrix([1.5_f32, 2.0, 3.0, 4.0]) * 2.0, array![[3.0, 4.0], [6.0, 8.0]]);
    assert_eq!(1.0 / &matrix([1.0_f64, 2.0, 4.0, 8.0]), array![[1.0, 0.5], [0.25, 0.125]]);
    // The operands are unchanged.
    assert_eq!((&nd_one, &nd_other), (&one.into_tensor().into_ndarray().expect("i32"), &nd_other));
    assert_eq!(nd_other, other);
}

#[test]
fn operators_broadcast_and_assign() {
    let nd = matrix([1, 2, 3, 4]);
    let row =
        Tensor::from_vec(vec![10, 20], [2]).expect("2").into_ndarray::<i32, Ix1>().expect("i32");
    assert_eq!(&nd + &row, array![[11, 22], [13, 24]]);
    assert_eq!(&row * &nd, array![[10, 40], [30, 80]]);
    let mut target = array![[1, 1], [1, 1]];
    target += &nd;
    target *= &row;
    assert_eq!(target, array![[20, 60], [40, 100]]);
    let mut part = target.slice_mut(s![.., 0]);
    part -= &row;
    assert_eq!(target, array![[10, 60], [20, 100]]);
}

#[test]
#[should_panic(expected = "IncompatibleShape")]
fn shapes_that_do_not_fit_panic_as_in_ndarray() {
    let three = Tensor::zeros::<i32>([3]).expect("memory").into_ndarray::<i32, Ix1>();
    let _ = &matrix([1, 2, 3, 4]) + &three.expect("i32");
}

/// Compares in both directions, which must agree.
fn are_equal<A: PartialEq<B>, B: PartialEq<A>>(one: &A, other: &B) -> bool {
    let equal = one == other;
    assert_eq!(other == one, equal);
    equal
}

#[test]
fn comparisons_work_in_both_directions_and_with_every_kind_of_array() {
    let nd = matrix([1.0_f32, 2.0, 3.0, 4.0]);
    let owned = array![[1.0_f32, 2.0], [3.0, 4.0]];
    let shared: ArcArray<f32, Ix2> = owned.clone().into_shared();
    let either = CowArray::from(owned.view());
    assert!(are_equal(&nd, &owned));
    assert!(are_equal(&nd, &owned.view()) && are_equal(&nd, &owned.clone().view_mut()));
    assert!(are_equal(&nd, &shared) && are_equal(&nd, &either));
    assert!(are_equal(&nd, &nd.share()) && are_equal(&nd, &matrix([1.0, 2.0, 3.0, 4.0])));
    let different = [array![[1.0, 2.0], [3.0, 5.0]], array![[1.0, 2.0]], owned.t().to_owned()];
    for other in different {
        assert!(!are_equal(&nd, &other));
        assert!(nd != other.into_tensor().into_ndarray::<f32, Ix2>().expect("f32"));
    }
    // The layout does not matter, only the elements do.
    let columns = owned.t().as_standard_layout().into_owned().reversed_axes();
    assert!(nd == columns && nd == columns.into_tensor().into_ndarray().expect("f32"));
    // As in ndarray, NaN is not equal to itself.
    let nan = matrix([f32::NAN; 4]);
    assert!(nan != nan.share() && nan != nan.view());
}

#[test]
fn loops_visit_the_elements_in_row_major_order() {
    let array = array![[1, 2], [3, 4]].reversed_axes();
    let nd: NdArray<i32, Ix2> = array.into_tensor().into_ndarray().expect("i32");
    let mut seen = Vec::new();
    for &element in &nd {
        seen.push(element);
    }
    assert_eq!(seen, [1, 3, 2, 4]);
    // The references live as long as the borrow, not only as long as the iterator.
    let longest: Vec<&i32> = (&nd).into_iter().filter(|&&element| element > 1).collect();
    assert_eq!(longest, [&3, &2, &4]);
    assert_eq!((nd[[0, 1]], nd[(1, 0)]), (3, 2));
}

#[test]
#[should_panic(expected = "out of bounds")]
fn indices_are_checked() {
    let _ = matrix([1, 2, 3, 4])[[2, 0]];
}

#[test]
fn formats_are_ndarrays() {
    let nd = matrix([1.0_f64, 2.5, -3.0, 4.0]);
    let array = copy(&nd);
    assert_eq!(
        format!("{nd} {nd:.2} {nd:e} {nd:E}"),
        format!("{array} {array:.2} {array:e} {array:E}")
    );
    assert_eq!(format!("{nd:?}"), format!("{:?}", array.view()));
    let (nd, array) = (matrix([1_u8, 2, 10, 255]), array![[1_u8, 2], [10, 255]]);
    assert_eq!(format!("{nd:x} {nd:b}"), format!("{array:x} {array:b}"));
}

#[test]
fn into_owned_moves_what_was_an_array_or_vec_and_copies_the_rest() {
    let nd = matrix([1, 2, 3, 4]);
    let address = nd.view().as_ptr();
    let owned: Array2<i32> = nd.into_owned();
    assert_eq!((owned.as_ptr(), &owned), (address, &array![[1, 2], [3, 4]]));
    let strided = owned.reversed_axes();
    let nd: NdArray<i32, Ix2> = strided.into_tensor().into_ndarray().expect("i32");
    let owned = Array::from(nd);
    assert_eq!((owned.as_ptr(), &owned), (address, &array![[1, 3], [2, 4]]));
    // Another handle reads the elements: a copy.
    let nd: NdArray<i32, Ix2> = owned.into_tensor().into_ndarray().expect("i32");
    let other = nd.share();
    let mut copied: Array2<i32> = nd.into();
    assert!(copied.as_ptr() != address && copied.is_standard_layout());
    copied.fill(0);
    assert_eq!(other, array![[1, 3], [2, 4]]);
    // Memory that was neither an array nor a `Vec`, and without elements: a copy.
    let nd =
        Tensor::zeros::<bool>([2, 0]).expect("memory").into_ndarray::<bool, Ix2>().expect("bool");
    assert_eq!(nd.into_owned(), Array2::from_elem((2, 0), true));
    // Read-only memory, which another `ArcArray` has.
    let shared = array![1.0, 2.0].into_shared();
    let nd = shared.clone().into_tensor().into_ndarray::<f64, Ix1>().expect("f64");
    let copied: Array1<f64> = nd.into_owned();
    assert!(copied.as_ptr() != shared.as_ptr() && copied == shared);
}

#[test]
fn dimension_types_change_without_a_copy() {
    let nd = matrix([1, 2, 3, 4]);
    let address = nd.view().as_ptr();
    let any: NdArray<i32, IxDyn> = nd.into_dyn();
    assert_eq!((any.view().as_ptr(), any.view().shape()), (address, &[2, 2][..]));
    let any = any.into_dyn();
    let rejected = any.into_dimensionality::<Ix3>().expect_err("rank 2");
    assert_eq!(*rejected.error(), Error::RankMismatch { expected: 3, found: 2 });
    let nd: NdArray<i32, Ix2> = rejected.into_value().into_dimensionality().expect("rank 2");
    assert_eq!(nd.view().as_ptr(), address);
    let array = nd.into_dyn().into_dimensionality::<Ix2>().expect("rank 2").into_array();
    assert_eq!(array.expect("the Vec").as_ptr(), address);
    // Layouts of every kind stay as they are.
    let mut array = array![[1, 2, 3], [4, 5, 6]];
    array.invert_axis(ndarray::Axis(0));
    array.slice_collapse(s![.., ..;2]);
    let (expected, strides) = (array.clone(), array.strides().to_vec());
    let nd: NdArray<i32, Ix2> = array.into_tensor().into_ndarray().expect("i32");
    let mut nd = nd.into_dyn().into_dimensionality::<Ix2>().expect("rank 2");
    assert_eq!((nd.view(), nd.view().strides()), (expected.view(), &strides[..]));
    assert_eq!(nd.get_mut().expect("alone"), expected);
    assert_eq!(nd.into_array().expect("the array").strides(), strides);
}

#[test]
fn readers_keep_the_elements_and_writers_wait() {
    let nd = matrix([1, 2, 3, 4]);
    let mut other = nd.share();
    let view = nd.view();
    assert!(other.get_mut().is_err(), "`nd` is another handle");
    other.make_mut().expect("copied").fill(0); // other memory
    assert_eq!(view, array![[1, 2], [3, 4]]);
    let sums: HashMap<_, _> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|add| scope.spawn(move || (add, &view + add))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(sums[&3], array![[4, 5], [6, 7]]);
}
