//! Operators and comparisons of ndarray's arrays with arrays that own their elements through a
//! tensor.

#![forbid(unsafe_code)]

use std::ops::{
    Add, AddAssign, BitAnd, BitAndAssign, BitOr, BitOrAssign, BitXor, BitXorAssign, Div, DivAssign,
    Mul, MulAssign, Rem, RemAssign, Shl, ShlAssign, Shr, ShrAssign, Sub, SubAssign,
};

use super::Version;
use super::nd::{Array, ArrayBase, ArrayView, Data, Dimension};
use crate::Element;
use crate::ndarray::{ArrayDimension, NdArray};

macro_rules! forward_to_view {
    ($($operator:ident $method:ident $assign:ident $assign_method:ident)*) => {$(
        impl<'a, T, D, S, E, O> $operator<&'a NdArray<T, D>> for ArrayBase<S, E>
        where
            T: Element,
            D: Dimension + ArrayDimension<Version = Version>,
            S: Data,
            E: Dimension,
            Self: $operator<&'a ArrayView<'a, T, D>, Output = O>,
        {
            type Output = O;

            fn $method(self, right: &'a NdArray<T, D>) -> O {
                $operator::$method(self, right.as_view())
            }
        }

        impl<'a, T, D, S, E, O> $operator<&'a NdArray<T, D>> for &'a ArrayBase<S, E>
        where
            T: Element,
            D: Dimension + ArrayDimension<Version = Version>,
            S: Data,
            E: Dimension,
            Self: $operator<&'a ArrayView<'a, T, D>, Output = O>,
        {
            type Output = O;

            fn $method(self, right: &'a NdArray<T, D>) -> O {
                $operator::$method(self, right.as_view())
            }
        }

        impl<'a, T, D, S, E> $assign<&'a NdArray<T, D>> for ArrayBase<S, E>
        where
            T: Element,
            D: Dimension + ArrayDimension<Version = Version>,
            S: Data,
            E: Dimension,
            Self: $assign<&'a ArrayView<'a, T, D>>,
        {
            fn $assign_method(&mut self, right: &'a NdArray<T, D>) {
                $assign::$assign_method(self, right.as_view());
            }
        }
    )*};
}
forward_to_view!(
    Add add AddAssign add_assign
    Sub sub SubAssign sub_assign
    Mul mul MulAssign mul_assign
    Div div DivAssign div_assign
    Rem rem RemAssign rem_assign
    BitAnd bitand BitAndAssign bitand_assign
    BitOr bitor BitOrAssign bitor_assign
    BitXor bitxor BitXorAssign bitxor_assign
    Shl shl ShlAssign shl_assign
    Shr shr ShrAssign shr_assign
);

impl<T, D, S> PartialEq<ArrayBase<S, D>> for NdArray<T, D>
where
    T: Element + PartialEq<S::Elem>,
    D: Dimension + ArrayDimension<Version = Version>,
    S: Data,
{
    fn eq(&self, other: &ArrayBase<S, D>) -> bool {
        *self.as_view() == *other
    }
}

impl<T, D, S> PartialEq<NdArray<T, D>> for ArrayBase<S, D>
where
    T: Element,
    D: Dimension + ArrayDimension<Version = Version>,
    S: Data,
    S::Elem: PartialEq<T>,
{
    fn eq(&self, other: &NdArray<T, D>) -> bool {
        *self == *other.as_view()
    }
}

/// Moves the elements out, or copies them: as [`NdArray::into_owned`] does.
impl<T, D> From<NdArray<T, D>> for Array<T, D>
where
    T: Element,
    D: Dimension + ArrayDimension<Version = Version>,
{
    fn from(array: NdArray<T, D>) -> Self {
        array.into_owned()
    }
}
