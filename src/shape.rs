//! Values that are a shape: integers of any type in arrays, slices, vectors and tuples.

#![forbid(unsafe_code)]

use smallvec::SmallVec;

use crate::{Error, Result};

use sealed::{Size, Sizes};

/// The number of sizes that need no heap allocation.
const INLINE_RANK: usize = 6;

/// The sizes of a shape whose rank is not part of its type.
type SizeList = SmallVec<[i64; INLINE_RANK]>;

/// A value that is a shape: the size of each dimension.
///
/// The sizes are integers of any type, in one of these forms: `[T; N]`, `[T]`, `Vec<T>`,
/// `Box<[T]>`, a tuple of one to six integers (of different types, if need be), ndarray's `Dim`,
/// or a reference to any of them. `()` and ndarray's `Ix0` are the shape of a single element. Other
/// crates cannot implement the trait.
///
/// ```
/// use dlbridge::Tensor;
/// use ndarray::Array2;
///
/// let (rows, columns): (usize, usize) = (2, 3);
/// let tensor = Tensor::zeros::<f32>([rows, columns])?; // no cast to `i64`
/// assert_eq!(Tensor::zeros::<u8>(tensor.shape())?.shape(), [2, 3]);
/// assert_eq!(Tensor::zeros::<u8>((rows, 3))?.shape(), [2, 3]);
/// assert_eq!(Tensor::zeros::<u8>(Array2::<f32>::zeros((2, 3)).shape())?.shape(), [2, 3]);
/// assert_eq!(Tensor::zeros::<u8>(())?.len(), 1); // `[]` has no integer type, and does not compile
/// # Ok::<(), dlbridge::Error>(())
/// ```
///
/// Functions that take a shape return [`Error::InvalidDescriptor`], with the size, if a size is
/// negative or exceeds an `i64`.
///
/// Rust gives a literal without a suffix the type `i32` here. A larger literal needs a suffix, or
/// the compiler refuses it: `[3_000_000_000_i64]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a shape",
    label = "not a shape",
    note = "a shape is `[T; N]`, `&[T]`, `Vec<T>`, ndarray's `Dim`, or a tuple of up to six \
            integers, where `T` is an integer type; the shape of a single element is `()`"
)]
pub trait Shape: Sizes {}

pub(crate) mod sealed {
    use crate::Result;

    /// The sizes of a shape.
    pub trait Sizes {
        type Owned: AsRef<[i64]>;

        /// Copies the sizes.
        ///
        /// # Errors
        /// `Error::InvalidDescriptor` if a size exceeds an `i64`.
        fn sizes(&self) -> Result<Self::Owned>;
    }

    /// An integer that can be a size.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` is not an integer type",
        label = "the sizes of a shape are integers"
    )]
    pub trait Size: Copy + std::fmt::Display {
        /// The same number, or `None` if it exceeds an `i64`.
        fn to_i64(self) -> Option<i64>;
    }
}

macro_rules! sizes {
    ($($integer:ty),*) => {$(
        impl Size for $integer {
            #[inline]
            fn to_i64(self) -> Option<i64> {
                i64::try_from(self).ok()
            }
        }
    )*};
}

sizes!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

/// Converts the size of one dimension.
#[inline]
fn size<T: Size>(dimension: usize, size: T) -> Result<i64> {
    size.to_i64().ok_or_else(|| too_large(dimension, size.to_string()))
}

#[cold]
fn too_large(dimension: usize, value: String) -> Error {
    let field = format!("shape[{dimension}]");
    Error::InvalidDescriptor { field, value, reason: "a size must fit an i64" }
}

impl<T: Size, const N: usize> Shape for [T; N] {}
impl<T: Size> Shape for [T] {}

impl<T: Size, const N: usize> Sizes for [T; N] {
    type Owned = [i64; N];

    #[inline]
    fn sizes(&self) -> Result<Self::Owned> {
        let mut sizes = [0; N];
        for (dimension, (converted, &given)) in sizes.iter_mut().zip(self).enumerate() {
            *converted = size(dimension, given)?;
        }
        Ok(sizes)
    }
}

impl<T: Size> Sizes for [T] {
    type Owned = SizeList;

    #[inline]
    fn sizes(&self) -> Result<Self::Owned> {
        self.iter().enumerate().map(|(dimension, &given)| size(dimension, given)).collect()
    }
}

/// Implements the trait for types that give out the sizes as something else that implements it.
macro_rules! delegated {
    ($([$($generics:tt)*] $shape:ty: $inner:ty = $by:expr;)*) => {$(
        impl<$($generics)*> Shape for $shape {}
        impl<$($generics)*> Sizes for $shape {
            type Owned = <$inner as Sizes>::Owned;

            #[inline]
            fn sizes(&self) -> Result<Self::Owned> {
                let by: fn(&Self) -> &$inner = $by;
                by(self).sizes()
            }
        }
    )*};
}

delegated! {
    [S: Shape + ?Sized] &S: S = |shape| shape;
    [T: Size] Vec<T>: [T] = |shape| shape;
    [T: Size] Box<[T]>: [T] = |shape| shape;
}

/// Implements the trait for the dimension types of a version of ndarray.
#[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
macro_rules! ndarray_dimensions {
    ($ndarray:ident) => {
        impl<I: ?Sized> Shape for ::$ndarray::Dim<I> where Self: ::$ndarray::Dimension {}

        impl<I: ?Sized> Sizes for ::$ndarray::Dim<I>
        where
            Self: ::$ndarray::Dimension,
        {
            type Owned = SizeList;

            #[inline]
            fn sizes(&self) -> Result<Self::Owned> {
                ::$ndarray::Dimension::slice(self).sizes()
            }
        }
    };
}

#[cfg(feature = "ndarray")]
ndarray_dimensions!(ndarray);
#[cfg(feature = "ndarray-0_16")]
ndarray_dimensions!(ndarray_0_16);

macro_rules! tuples {
    ($($rank:literal: ($($size:ident $dimension:tt),*);)*) => {$(
        impl<$($size: Size),*> Shape for ($($size,)*) {}
        impl<$($size: Size),*> Sizes for ($($size,)*) {
            type Owned = [i64; $rank];

            #[inline]
            fn sizes(&self) -> Result<Self::Owned> {
                Ok([$(size($dimension, self.$dimension)?),*])
            }
        }
    )*};
}

tuples! {
    0: ();
    1: (A 0);
    2: (A 0, B 1);
    3: (A 0, B 1, C 2);
    4: (A 0, B 1, C 2, D 3);
    5: (A 0, B 1, C 2, D 3, E 4);
    6: (A 0, B 1, C 2, D 3, E 4, F 5);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(shape: impl Shape) -> Vec<i64> {
        shape.sizes().expect("small sizes").as_ref().to_vec()
    }

    #[test]
    fn every_form_of_a_shape_is_the_same_shape() {
        let wanted = [2, 3];
        assert_eq!(sizes([2, 3]), wanted);
        assert_eq!(sizes([2_i64, 3]), wanted);
        assert_eq!(sizes([2_usize, 3]), wanted);
        assert!([[2_i64, 3]].iter().map(sizes).all(|sizes| sizes == wanted)); // a reference
        assert_eq!(sizes(&[2_u16, 3][..]), wanted);
        assert_eq!(sizes(vec![2_u32, 3]), wanted);
        let vec = vec![2_isize, 3];
        assert_eq!((sizes(&vec), sizes(vec)), (wanted.to_vec(), wanted.to_vec()));
        assert_eq!(sizes(vec![2_u8, 3].into_boxed_slice()), wanted);
        assert_eq!(sizes((2, 3)), wanted);
        assert_eq!(sizes((2_usize, 3)), wanted);
        let pair = (2_i64, 3_u8);
        assert_eq!(sizes(pair), wanted);
        assert_eq!(sizes((1, 2_i8, 3_i16, 4_u64, 5, 6)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(sizes((7,)), [7]);
        assert_eq!(sizes(()), [0_i64; 0]);
        assert_eq!(sizes([-1, 4]), [-1, 4]); // functions that take a shape refuse -1, or infer it
        assert_eq!(sizes(vec![1; 40]), [1; 40]); // more than fit without an allocation
    }

    #[test]
    #[cfg(feature = "ndarray")]
    fn dimensions_of_ndarray_are_shapes() {
        use ::ndarray::{Array3, Ix0, IxDyn, arr0};

        let array = Array3::<f32>::zeros((2, 3, 4));
        assert_eq!(sizes(array.raw_dim()), [2, 3, 4]);
        assert_eq!(sizes(array.shape()), [2, 3, 4]);
        assert_eq!(sizes(array.dim()), [2, 3, 4]);
        let any_rank = array.into_dyn().raw_dim();
        assert_eq!(sizes(&any_rank), [2, 3, 4]);
        assert_eq!(sizes(any_rank), [2, 3, 4]);
        assert_eq!(sizes(IxDyn(&[5; 7])), [5; 7]);
        assert_eq!(sizes(arr0(1.0).raw_dim()), [0_i64; 0]);
        assert_eq!(sizes(Ix0()), [0_i64; 0]);
    }

    #[test]
    fn sizes_that_exceed_an_i64_are_refused_with_their_value() {
        let too_large = 1_u64 << 63;
        let error = Error::InvalidDescriptor {
            field: "shape[1]".to_owned(),
            value: "9223372036854775808".to_owned(),
            reason: "a size must fit an i64",
        };
        assert_eq!([0, too_large].sizes().expect_err("an array"), error);
        assert_eq!([0, too_large][..].sizes().expect_err("a slice"), error);
        assert_eq!((0, too_large, 3).sizes().expect_err("a tuple"), error);
        assert_eq!(vec![0, too_large].sizes().expect_err("a vector"), error);
        assert_eq!(sizes([too_large - 1]), [i64::MAX]);
    }
}
