//! Arrays of ndarray 0.16: the tests of ndarray 0.17, with the other version under the name
//! `ndarray`. With `feature = "torch"` the arrays go through libtorch, too.

extern crate ndarray_0_16 as ndarray;

#[path = "ndarray/conversions.rs"]
mod conversions;
#[path = "ndarray/operators.rs"]
mod operators;
#[cfg(feature = "serde")]
#[path = "ndarray/serde.rs"]
mod serde;

use dlbridge::Ndarray0_16 as Version;
