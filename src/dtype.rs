//! Element types, as DLPack describes them, and the Rust types that tensors can hold.

#![forbid(unsafe_code)]

use std::fmt;

use half::{bf16, f16};
use num_complex::Complex;

use crate::Scalar;

/// The type of an element, as DLPack describes it: type code, width in bits, and number of lanes.
///
/// A tensor may have an element type that this crate does not know. This crate passes such a tensor
/// on, but neither reads nor copies its elements.
///
/// ```
/// use dlbridge::{DType, Tensor};
///
/// let tensor = Tensor::zeros::<half::bf16>([2])?;
/// assert_eq!(tensor.dtype(), DType::BF16);
/// assert_eq!(DType::BF16.to_string(), "bfloat16"); // the names are those of NumPy and PyTorch
/// let float4 = DType { code: 17, bits: 4, lanes: 2 }; // kDLFloat4_e2m1fn is 17
/// assert_eq!(float4.to_string(), "float4_e2m1fnx2");
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DType {
    /// The type code, as a number of DLPack's enum `DLDataTypeCode`.
    pub code: u8,
    /// The width of one number in bits. For a complex number, the width of both parts together.
    pub bits: u8,
    /// The number of numbers in one element: 1 except for vector types.
    pub lanes: u16,
}

const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;
const OPAQUE: u8 = 3;
const BFLOAT: u8 = 4;
const COMPLEX: u8 = 5;
const BOOL: u8 = 6;
const BCOMPLEX: u8 = 18;

/// The types with DLPack's type codes 7 to 17: name, and the only width (bits) that DLPack allows.
const NARROW_FLOATS: [(&str, u8); 11] = [
    ("float8_e3m4", 8),
    ("float8_e4m3", 8),
    ("float8_e4m3b11fnuz", 8),
    ("float8_e4m3fn", 8),
    ("float8_e4m3fnuz", 8),
    ("float8_e5m2", 8),
    ("float8_e5m2fnuz", 8),
    ("float8_e8m0fnu", 8),
    ("float6_e2m3fn", 6),
    ("float6_e3m2fn", 6),
    ("float4_e2m1fn", 4),
];

impl DType {
    /// One byte, 0 or 1.
    pub const BOOL: Self = Self::scalar(BOOL, 8);
    /// `u8`.
    pub const U8: Self = Self::scalar(UINT, 8);
    /// `u16`.
    pub const U16: Self = Self::scalar(UINT, 16);
    /// `u32`.
    pub const U32: Self = Self::scalar(UINT, 32);
    /// `u64`.
    pub const U64: Self = Self::scalar(UINT, 64);
    /// `i8`.
    pub const I8: Self = Self::scalar(INT, 8);
    /// `i16`.
    pub const I16: Self = Self::scalar(INT, 16);
    /// `i32`.
    pub const I32: Self = Self::scalar(INT, 32);
    /// `i64`.
    pub const I64: Self = Self::scalar(INT, 64);
    /// IEEE half precision.
    pub const F16: Self = Self::scalar(FLOAT, 16);
    /// The upper half of an `f32`.
    pub const BF16: Self = Self::scalar(BFLOAT, 16);
    /// `f32`.
    pub const F32: Self = Self::scalar(FLOAT, 32);
    /// `f64`.
    pub const F64: Self = Self::scalar(FLOAT, 64);
    /// Two `f32`.
    pub const C64: Self = Self::scalar(COMPLEX, 64);
    /// Two `f64`.
    pub const C128: Self = Self::scalar(COMPLEX, 128);

    /// `usize`.
    const USIZE: Self = Self::scalar(UINT, usize::BITS as u8);
    /// `isize`.
    const ISIZE: Self = Self::scalar(INT, isize::BITS as u8);

    /// Returns the type with this type code, this width in bits, and one lane.
    ///
    /// ```
    /// use dlbridge::DType;
    ///
    /// assert_eq!(DType::scalar(2, 32), DType::F32); // kDLFloat is 2
    /// assert_eq!(DType::scalar(10, 8).to_string(), "float8_e4m3fn");
    /// ```
    pub const fn scalar(code: u8, bits: u8) -> Self {
        Self { code, bits, lanes: 1 }
    }

    /// Returns the size of one element in bits: the width times the number of lanes.
    ///
    /// ```
    /// use dlbridge::DType;
    ///
    /// assert_eq!(DType::C64.element_bits(), 64);
    /// assert_eq!(DType { lanes: 4, ..DType::F32 }.element_bits(), 128);
    /// ```
    pub const fn element_bits(self) -> u32 {
        self.bits as u32 * self.lanes as u32
    }

    /// Returns the size of one element in bytes.
    ///
    /// The result is `None` if the size is not a positive multiple of 8 bits.
    ///
    /// ```
    /// use dlbridge::DType;
    ///
    /// assert_eq!(DType::F64.itemsize(), Some(8));
    /// assert_eq!(DType::scalar(17, 4).itemsize(), None); // two float4_e2m1fn share a byte
    /// ```
    pub const fn itemsize(self) -> Option<usize> {
        match self.element_bits() {
            0 => None,
            bits if bits % 8 == 0 => Some((bits / 8) as usize),
            _ => None,
        }
    }

    /// Returns the alignment (bytes) of elements of this type: the size of one number if that is a
    /// power of two, and otherwise 1. A complex number consists of two numbers.
    pub(crate) const fn alignment(self) -> usize {
        let parts = if matches!(self.code, COMPLEX | BCOMPLEX) { 2 } else { 1 };
        let bytes = (self.bits / parts / 8) as usize;
        if bytes.is_power_of_two() && self.bits.is_multiple_of(8) { bytes } else { 1 }
    }

    /// Returns true if DLPack defines this type, in version 1.3 or in its development since.
    ///
    /// This crate copies elements of these types only.
    ///
    /// ```
    /// use dlbridge::DType;
    ///
    /// assert!(DType::F16.is_known());
    /// assert!(!DType::scalar(2, 24).is_known()); // no float has 24 bits
    /// ```
    pub const fn is_known(self) -> bool {
        let width_fits = match self.code {
            INT | UINT => matches!(self.bits, 1..=64),
            FLOAT => matches!(self.bits, 16 | 32 | 64 | 128),
            BFLOAT => self.bits == 16,
            COMPLEX => matches!(self.bits, 32 | 64 | 128),
            BOOL => self.bits == 8,
            BCOMPLEX => self.bits == 32,
            code => match self.narrow_float() {
                Some((_, bits)) => self.bits == bits,
                None => code == OPAQUE,
            },
        };
        width_fits && self.lanes > 0 && self.code != OPAQUE
    }

    /// Returns true for a narrow float of a width that DLPack forbids consumers to accept.
    #[inline]
    pub(crate) const fn has_wrong_width(self) -> bool {
        match self.narrow_float() {
            Some((_, bits)) => self.bits != bits,
            None => false,
        }
    }

    #[inline]
    const fn narrow_float(self) -> Option<(&'static str, u8)> {
        match self.code {
            7..=17 => Some(NARROW_FLOATS[self.code as usize - 7]),
            _ => None,
        }
    }
}

impl fmt::Display for DType {
    /// Writes the name that NumPy and PyTorch use if they have one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, bits, lanes } = *self;
        match code {
            BOOL if bits == 8 => f.write_str("bool"),
            INT => write!(f, "int{bits}"),
            UINT => write!(f, "uint{bits}"),
            FLOAT => write!(f, "float{bits}"),
            BFLOAT => write!(f, "bfloat{bits}"),
            COMPLEX => write!(f, "complex{bits}"),
            BCOMPLEX => write!(f, "bcomplex{bits}"),
            _ => match self.narrow_float() {
                Some((name, width)) if width == bits => f.write_str(name),
                _ => write!(f, "dtype(code {code}, {bits} bits)"),
            },
        }?;
        if lanes == 1 { Ok(()) } else { write!(f, "x{lanes}") }
    }
}

impl fmt::Debug for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a tensor can hold.
///
/// The trait is implemented for `u8` to `u64`, `i8` to `i64`, `usize`, `isize`, `half::f16`,
/// `half::bf16`, `f32`, `f64`, `bool`, `Complex<f32>` and `Complex<f64>`. Other crates cannot
/// implement it. Unsafe code of this crate relies on two facts: [`DTYPE`](Self::DTYPE) has the size
/// of `Self`, and every bit pattern is valid for every type except `bool`. The bytes of a `bool`
/// buffer are checked before this crate reads them as `bool`.
///
/// Two Rust types may have the same `DTYPE`: on 64-bit machines `usize` and `u64` both have
/// `uint64`, and `isize` and `i64` both have `int64`. (On 32-bit machines it is `uint32` and
/// `int32`.) Views and copies may have either of the two types. [`Tensor::into_vec`] gives back
/// only the type that the `Vec` had: for a tensor that was made from a `Vec<usize>`,
/// `into_vec::<u64>()` is an error, and `to_vec::<u64>()` copies.
///
/// [`Tensor::into_vec`]: crate::Tensor::into_vec
///
/// ```
/// use dlbridge::{DType, Tensor};
///
/// let tokens = Tensor::from_vec(vec![3_usize, 1, 2], [3])?;
/// # #[cfg(target_pointer_width = "64")]
/// assert_eq!((tokens.dtype(), tokens.as_slice::<u64>()?), (DType::U64, &[3, 1, 2][..]));
/// assert_eq!(tokens.into_vec::<usize>()?, [3, 1, 2]);
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an element type of dlbridge",
    label = "not an element type",
    note = "the element types are `bool`, `u8` to `u64`, `i8` to `i64`, `usize`, `isize`, `f32`, \
            `f64`, and `f16`, `bf16` of `half` 2, `Complex<f32>`, `Complex<f64>` of `num-complex` 0.4",
    note = "convert the elements to one of these types first, for example with `array.mapv(…)` or \
            `vec.into_iter().map(…).collect()`"
)]
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + Into<Scalar> + fmt::Debug + Send + Sync + 'static
{
    /// DLPack's description of this type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($type:ty => $dtype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
        }
        const _: () = assert!(size_of::<$type>() * 8 == DType::$dtype.bits as usize);
    )*};
}

/// Evaluates an expression with a name for the Rust type that elements of a type have in memory:
/// `with_element_type!(dtype, T => expression, other => expression)`. The last expression is for
/// element types without a Rust type. `usize` and `isize` have the element types of other integers.
macro_rules! with_element_type {
    ($dtype:expr, $T:ident => $body:expr, $other:ident => $none:expr) => {
        with_element_type!(@ $dtype, $T => $body, $other => $none;
            BOOL bool, U8 u8, U16 u16, U32 u32, U64 u64, I8 i8, I16 i16, I32 i32, I64 i64,
            F16 ::half::f16, BF16 ::half::bf16, F32 f32, F64 f64,
            C64 ::num_complex::Complex<f32>, C128 ::num_complex::Complex<f64>)
    };
    (@ $dtype:expr, $T:ident => $body:expr, $other:ident => $none:expr;
        $($constant:ident $type:ty),*) => {
        match $dtype {
            $($crate::DType::$constant => {
                type $T = $type;
                $body
            })*
            $other => $none,
        }
    };
}
pub(crate) use with_element_type;

elements! {
    bool => BOOL,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    usize => USIZE, isize => ISIZE,
    f16 => F16, bf16 => BF16, f32 => F32, f64 => F64,
    Complex<f32> => C64, Complex<f64> => C128,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_numpy_and_torch() {
        for (dtype, name) in [
            (DType::BOOL, "bool"),
            (DType::U16, "uint16"),
            (DType::I64, "int64"),
            (DType::F16, "float16"),
            (DType::BF16, "bfloat16"),
            (DType::C64, "complex64"),
            (DType::scalar(10, 8), "float8_e4m3fn"),
            (DType::scalar(17, 4), "float4_e2m1fn"),
            (DType::scalar(18, 32), "bcomplex32"),
            (DType { lanes: 4, ..DType::F32 }, "float32x4"),
            (DType::scalar(99, 8), "dtype(code 99, 8 bits)"),
            (DType::scalar(6, 1), "dtype(code 6, 1 bits)"),
        ] {
            assert_eq!(dtype.to_string(), name);
        }
    }

    #[test]
    fn sizes_count_whole_bytes_only() {
        assert_eq!(DType::C128.itemsize(), Some(16));
        assert_eq!(DType::scalar(17, 4).itemsize(), None);
        assert_eq!(DType { lanes: 2, ..DType::scalar(17, 4) }.itemsize(), Some(1));
        assert_eq!(DType { lanes: 0, ..DType::F32 }.itemsize(), None);
    }

    #[test]
    fn the_alignment_is_at_least_that_of_the_rust_type() {
        fn check<T: Element>() {
            assert!(T::DTYPE.alignment() >= align_of::<T>(), "{}", T::DTYPE);
        }
        check::<bool>();
        check::<u16>();
        check::<i64>();
        check::<usize>();
        check::<bf16>();
        check::<f64>();
        check::<Complex<f32>>();
        check::<Complex<f64>>();
        for (code, bits, bytes) in [(0, 24, 1), (0, 9, 1), (2, 128, 16), (5, 32, 2), (17, 4, 1)] {
            assert_eq!(DType::scalar(code, bits).alignment(), bytes, "{code} {bits}");
        }
        assert_eq!(DType { lanes: 4, ..DType::F32 }.alignment(), 4);
    }

    #[test]
    fn only_types_that_dlpack_defines_are_known() {
        assert!(DType::C128.is_known());
        assert!(DType::scalar(17, 4).is_known());
        for (code, bits) in [(2, 8), (2, 0), (3, 64), (6, 1), (10, 16), (17, 8), (18, 8), (0, 65)] {
            assert!(!DType::scalar(code, bits).is_known(), "{code} {bits}");
        }
        assert!(!DType { lanes: 0, ..DType::F32 }.is_known());
    }
}
