//! Operators, comparison, iteration and formatting of an array that owns its elements through a
//! tensor.
//!
//! `&NdArray` has the operators of ndarray's own references. Each one is forwarded to a view that
//! lives as long as the borrow. Implementations for a right side of the type `&NdArray` and for
//! comparisons with other arrays name ndarray's types, and are in `version/operators.rs`.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Rem, Shl, Shr, Sub};

use num_complex::Complex;

use super::dimension::{ArrayDimension, ArrayOf, ArrayVersion, ArrayViewOf};
use super::nd_array::NdArray;
use super::owned::Token;
use crate::Element;

macro_rules! forward_binary {
    ($($operator:ident $method:ident)*) => {$(
        impl<'a, T, D, R, O> $operator<R> for &'a NdArray<T, D>
        where
            T: Element,
            D: ArrayDimension,
            &'a ArrayViewOf<'a, T, D>: $operator<R, Output = O>,
        {
            type Output = O;

            fn $method(self, right: R) -> O {
                $operator::$method(self.as_view(), right)
            }
        }
    )*};
}
forward_binary!(Add add Sub sub Mul mul Div div Rem rem BitAnd bitand BitOr bitor BitXor bitxor Shl shl Shr shr);

macro_rules! forward_unary {
    ($($operator:ident $method:ident)*) => {$(
        impl<'a, T, D, O> $operator for &'a NdArray<T, D>
        where
            T: Element,
            D: ArrayDimension,
            &'a ArrayViewOf<'a, T, D>: $operator<Output = O>,
        {
            type Output = O;

            fn $method(self) -> O {
                $operator::$method(self.as_view())
            }
        }
    )*};
}
forward_unary!(Neg neg Not not);

/// Operators whose left side is a number. They must not depend on the operators of views: the
/// compiler would look for those of every number in every expression, without end.
macro_rules! forward_scalar {
    ($($scalar:ty: $($operator:ident $method:ident)*;)*) => {$($(
        impl<D: ArrayDimension> $operator<&NdArray<$scalar, D>> for $scalar {
            type Output = ArrayOf<$scalar, D>;

            fn $method(self, right: &NdArray<$scalar, D>) -> ArrayOf<$scalar, D> {
                let function = |element| $operator::$method(self, element);
                D::Version::map(right.as_view(), function, Token(()))
            }
        }
    )*)*};
}
macro_rules! forward_numbers {
    ($($integer:ty)*; $($float:ty)*) => {
        forward_scalar!($(
            $integer: Add add Sub sub Mul mul Div div Rem rem BitAnd bitand BitOr bitor
                BitXor bitxor Shl shl Shr shr;
        )*);
        forward_scalar!($($float: Add add Sub sub Mul mul Div div Rem rem;)*);
    };
}
forward_numbers!(u8 u16 u32 u64 i8 i16 i32 i64 usize isize; f32 f64);
forward_scalar!(
    bool: BitAnd bitand BitOr bitor BitXor bitxor;
    Complex<f32>: Add add Sub sub Mul mul Div div;
    Complex<f64>: Add add Sub sub Mul mul Div div;
);

impl<T: Element, D: ArrayDimension> PartialEq for NdArray<T, D> {
    fn eq(&self, other: &Self) -> bool {
        D::Version::is_equal(self.as_view(), other.as_view(), Token(()))
    }
}

impl<T: Element + Eq, D: ArrayDimension> Eq for NdArray<T, D> {}

/// Iterates over references to the elements, in row-major order.
impl<'a, T: Element, D: ArrayDimension> IntoIterator for &'a NdArray<T, D> {
    type Item = &'a T;
    type IntoIter = <ArrayViewOf<'a, T, D> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.view().into_iter()
    }
}

impl<T: Element, D: ArrayDimension> fmt::Debug for NdArray<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_view().fmt(f)
    }
}

macro_rules! forward_format {
    ($($format:ident)*) => {$(
        impl<T, D> fmt::$format for NdArray<T, D>
        where
            T: Element,
            D: ArrayDimension,
            for<'a> ArrayViewOf<'a, T, D>: fmt::$format,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::$format::fmt(self.as_view(), f)
            }
        }
    )*};
}
forward_format!(Display LowerExp UpperExp LowerHex Binary);
