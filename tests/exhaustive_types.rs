//! The public types that other crates match and build completely, without `_` and without `..`: a
//! new variant or a new field breaks those crates. The functions below then do not compile.
//! `docs/versioning.md` lists the types, and those that are `#[non_exhaustive]`.

#![forbid(unsafe_code)]

use dlbridge::{Access, DType, Device, Imported, List, Scalar, Tensor};

/// What code may do that other code relies on for safety: each state needs a decision.
fn may_view(access: Access) -> bool {
    match access {
        Access::Exclusive | Access::ReadOnly => true,
        Access::Aliased { writable: _, trusted } => trusted,
    }
}

/// A struct that was consumed must not be lost.
fn nbytes(imported: Imported) -> usize {
    match imported {
        Imported::Managed(managed) => managed.descriptor().nbytes(),
        Imported::Tensor(tensor) => tensor.nbytes(),
    }
}

/// Writes numbers in another notation.
fn in_words(list: List) -> String {
    match list {
        List::Items(items) => items.into_iter().map(in_words).collect(),
        List::Scalar(Scalar::Bool(value)) => format!("bool {value} "),
        List::Scalar(Scalar::Int(value)) => format!("int {value} "),
        List::Scalar(Scalar::UInt(value)) => format!("uint {value} "),
        List::Scalar(Scalar::Float(value)) => format!("float {value} "),
        List::Scalar(Scalar::Complex(value)) => format!("complex {value} "),
    }
}

#[test]
fn every_state_of_access_is_matched() {
    let tensor = Tensor::from_vec(vec![1_u8, 2], [2]).expect("two elements");
    assert!(may_view(tensor.access()));
    assert!(!may_view(tensor.into_aliased().expect("the only handle").access()));
}

#[test]
fn both_kinds_of_imported_structs_are_matched() {
    let tensor = Tensor::zeros::<f32>([2, 3]).expect("24 bytes");
    assert_eq!(nbytes(Imported::Tensor(tensor)), 24);
}

#[test]
fn every_kind_of_scalar_is_matched() {
    let list = List::from(vec![vec![1_i8, -2], vec![3, 4]]);
    assert_eq!(in_words(list), "int 1 int -2 int 3 int 4 ");
    assert_eq!(in_words(List::from(vec![2.5])), "float 2.5 ");
}

#[test]
fn numbers_of_dlpack_that_have_no_name_here_make_devices_and_element_types() {
    let Device { device_type, index } = Device { device_type: 77, index: 2 };
    assert_eq!((device_type, index), (77, 2));
    let DType { code, bits, lanes } = DType { code: 77, bits: 16, lanes: 1 };
    assert_eq!((code, bits, lanes), (77, 16, 1));
}
