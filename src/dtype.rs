//! Element types: as DLPack describes them, and as Rust knows them.

#![forbid(unsafe_code)]

use std::fmt;

use half::{bf16, f16};
use num_complex::Complex;

use crate::Scalar;

/// The type of an element, as DLPack describes it: a type code, a width in bits, and a number of
/// lanes.
///
/// Types that this crate does not know are carried along but never read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DType {
    /// Type code: a `DLDataTypeCode` of DLPack.
    pub code: u8,
    /// Width of one number in bits; a complex number counts whole.
    pub bits: u8,
    /// Numbers per element: 1 except in vector types.
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

/// Types from DLPack's type code 7 on: their names and the only width that they may have.
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

    /// A type of one lane.
    pub const fn scalar(code: u8, bits: u8) -> Self {
        Self { code, bits, lanes: 1 }
    }

    /// Bits of one element, all lanes together.
    pub const fn element_bits(self) -> u32 {
        self.bits as u32 * self.lanes as u32
    }

    /// Bytes of one element, or `None` for elements that do not fill whole bytes.
    pub const fn itemsize(self) -> Option<usize> {
        match self.element_bits() {
            0 => None,
            bits if bits % 8 == 0 => Some((bits / 8) as usize),
            _ => None,
        }
    }

    /// Whether DLPack 1.3, or what follows it, defines this type; others are carried but never read
    /// or copied.
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

    /// Whether this is a narrow float of a width that DLPack forbids consumers to accept.
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
    /// The name that NumPy and PyTorch use where they have one.
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
/// Implemented for `u8` to `u64`, `i8` to `i64`, `usize`, `isize`, `half::f16`, `half::bf16`,
/// `f32`, `f64`, `bool`, `Complex<f32>` and `Complex<f64>`, and closed: unsafe code of this crate
/// relies on [`DTYPE`](Self::DTYPE) having the size of `Self`, and on every bit pattern being valid
/// for every type except `bool`, whose bytes are checked before a `bool` is made of them.
///
/// Two Rust types may have one element type: on 64-bit machines `usize` is `uint64`, as `u64` is,
/// and `isize` is `int64` (on 32-bit machines `uint32` and `int32`). Views and copies are of
/// whichever of the two is asked for. The original container is given back as what it began as: a
/// tensor of a `Vec<usize>` refuses `into_vec::<u64>()`, and `to_vec::<u64>()` copies it.
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
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + Into<Scalar> + fmt::Debug + Send + Sync + 'static
{
    /// How DLPack describes this type.
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
    fn only_types_that_dlpack_defines_are_known() {
        assert!(DType::C128.is_known());
        assert!(DType::scalar(17, 4).is_known());
        for (code, bits) in [(2, 8), (2, 0), (3, 64), (6, 1), (10, 16), (17, 8), (18, 8), (0, 65)] {
            assert!(!DType::scalar(code, bits).is_known(), "{code} {bits}");
        }
        assert!(!DType { lanes: 0, ..DType::F32 }.is_known());
    }
}
