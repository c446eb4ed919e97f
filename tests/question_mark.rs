//! `?` on methods that consume their argument, into three kinds of error types: `anyhow::Error`, a
//! boxed `dyn Error`, and an enum of `thiserror`. The message keeps all values of the reason, and
//! the first two keep the argument.

// `Rejected` contains the argument.
#![allow(clippy::result_large_err)]

use std::error::Error as StdError;

use dlbridge::{NdArray, Rejected, Tensor};
use ndarray::{Ix1, array};

type Boxed = Box<dyn StdError + Send + Sync>;

/// An enum of an application: the `impl` that the documentation of `Rejected` shows.
#[derive(Debug, thiserror::Error)]
enum ModelError {
    #[error("exchange: {0}")]
    Exchange(#[from] dlbridge::Error),
}

impl<V> From<Rejected<V>> for ModelError {
    fn from(rejected: Rejected<V>) -> Self {
        Self::Exchange(rejected.into_error())
    }
}

/// Checks the three conversions of a failing call. `facts` are what every message must contain.
fn check<T, V: Send + 'static>(call: impl Fn() -> Result<T, Rejected<V>>, facts: &[&str]) {
    let contains = |text: &str| {
        for fact in facts {
            assert!(text.contains(fact), "{fact:?} is not in {text:?}");
        }
    };
    let with_anyhow = || -> anyhow::Result<T> { Ok(call()?) };
    let error = with_anyhow().err().expect("a refusal");
    contains(&error.to_string());
    assert_eq!(format!("{error:#}"), error.to_string(), "the reason is not written twice");
    error.downcast::<Rejected<V>>().expect("anyhow keeps the argument");

    let boxed = || -> Result<T, Boxed> { Ok(call()?) };
    let error = boxed().err().expect("a refusal");
    contains(&error.to_string());
    error.downcast::<Rejected<V>>().expect("the box keeps the argument");

    let with_thiserror = || -> Result<T, ModelError> { Ok(call()?) };
    let error = with_thiserror().err().expect("a refusal");
    contains(&error.to_string());
    let ModelError::Exchange(reason) = error;
    contains(&reason.to_string());
}

#[test]
fn vec() {
    check(|| Tensor::from_vec(vec![1.0_f32; 5], [2, 3]), &["2, 3", "6 elements", "5"]);
}

#[test]
fn tensor() {
    let tensor = || Tensor::from_vec(vec![1.0_f32; 6], [2, 3]).expect("six elements");
    check(|| tensor().into_vec::<f64>(), &["float64", "float32"]);
    check(|| tensor().into_ndarray::<f32, Ix1>(), &["expected 1", "found 2"]);
}

#[test]
fn nd_array() {
    let array = || -> NdArray<u8, Ix1> {
        Tensor::zeros::<u8>([3]).expect("3 bytes").into_ndarray().expect("bytes on the host")
    };
    check(|| array().into_array(), &["Array"]);
}

#[test]
fn a_returned_argument_can_be_used_again() {
    let fill = |values: Vec<u8>| -> anyhow::Result<Tensor> { Ok(Tensor::from_vec(values, [4])?) };
    let error = fill(vec![1, 2, 3]).expect_err("too few");
    let mut values = error.downcast::<Rejected<Vec<u8>>>().expect("the argument").into_value();
    values.push(4);
    assert_eq!(fill(values).expect("four elements").shape(), [4]);
}

#[test]
fn errors_of_borrowing_methods_convert_too() {
    let sum =
        |tensor: &Tensor| -> Result<i32, ModelError> { Ok(tensor.as_ndarray::<i32, Ix1>()?.sum()) };
    assert_eq!(sum(&array![1, 2].into()).expect("two numbers"), 3);
    let error = sum(&array![1.0_f32].into()).expect_err("no cast");
    assert!(error.to_string().contains("float32"), "{error}");
}

#[cfg(feature = "torch")]
mod torch {
    use dlbridge::{ArrayTorchExt, TorchExt};
    use ndarray::Axis;

    use super::*;

    #[test]
    fn array() {
        let reversed = || {
            let mut array = array![[1.0_f32, 2.0], [3.0, 4.0]];
            array.invert_axis(Axis(0));
            array
        };
        check(|| reversed().into_torch(), &["stride -2", "dimension 0", "libtorch"]);
    }

    #[test]
    fn tch_tensor() {
        let tensor = tch::Tensor::zeros([2], tch::kind::FLOAT_CPU);
        check(|| tensor.shallow_clone().into_tensor(), &["libtorch tensor"]);
        let sparse = || tch::Tensor::from_slice(&[1_i64, 2]).to_sparse_sparse_dim(1);
        check(|| sparse().into_ndarray::<i64, Ix1>(), &["sparse_coo"]);
    }
}
