//! A single element as an ordinary value.

#![forbid(unsafe_code)]

use std::fmt;

use num_complex::Complex;

/// The value of one element of any type, as Python would show it.
///
/// ```
/// use dlbridge::Scalar;
///
/// assert_eq!(Scalar::from(7_u8), Scalar::UInt(7)); // narrow types are widened exactly
/// assert_eq!(Scalar::from(true).to_string(), "True");
/// assert_eq!(Scalar::from(1e16).to_string(), "1e+16");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A real floating-point number of any width.
    Float(f64),
    /// A complex number of any width.
    Complex(Complex<f64>),
}

macro_rules! scalars {
    ($($variant:ident($wide:ty): $($type:ty),*;)*) => {$($(
        impl From<$type> for Scalar {
            fn from(value: $type) -> Self {
                Self::$variant(<$wide>::from(value))
            }
        }
    )*)*};
}

scalars! {
    Bool(bool): bool;
    Int(i64): i8, i16, i32, i64;
    UInt(u64): u8, u16, u32, u64;
    Float(f64): half::f16, half::bf16, f32, f64;
}

// The standard library has no `From<usize>` for `u64`, because `usize` may have more than 64 bits.
const _: () = assert!(usize::BITS <= u64::BITS);

impl From<usize> for Scalar {
    fn from(value: usize) -> Self {
        Self::UInt(value as u64)
    }
}

impl From<isize> for Scalar {
    fn from(value: isize) -> Self {
        Self::Int(value as i64)
    }
}

impl From<Complex<f32>> for Scalar {
    fn from(value: Complex<f32>) -> Self {
        Self::Complex(Complex::new(value.re.into(), value.im.into()))
    }
}

impl From<Complex<f64>> for Scalar {
    fn from(value: Complex<f64>) -> Self {
        Self::Complex(value)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bool(value) => f.write_str(if value { "True" } else { "False" }),
            Self::Int(value) => value.fmt(f),
            Self::UInt(value) => value.fmt(f),
            Self::Float(value) => write_float(f, value, true),
            Self::Complex(Complex { re, im }) => {
                // Python omits a real part of +0, and the parentheses with it.
                let imaginary_only = re == 0.0 && re.is_sign_positive();
                if !imaginary_only {
                    f.write_str("(")?;
                    write_float(f, re, false)?;
                    if !im.is_sign_negative() || im.is_nan() {
                        f.write_str("+")?;
                    }
                }
                write_float(f, im, false)?;
                f.write_str(if imaginary_only { "j" } else { "j)" })
            }
        }
    }
}

/// Writes the shortest digits that read back as the same number, in Python's form.
fn write_float(f: &mut fmt::Formatter<'_>, value: f64, point: bool) -> fmt::Result {
    if value.is_nan() {
        return f.write_str("nan");
    }
    if value.is_infinite() {
        return f.write_str(if value > 0.0 { "inf" } else { "-inf" });
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(f, "{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ if point => write!(f, "{value:?}"),
        _ => write!(f, "{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_python_spells_them() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.1_f32.into(), "0.10000000149011612"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.0, "-0.0"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(Scalar::Float(value).to_string(), text);
        }
        assert_eq!(Scalar::from(u64::MAX).to_string(), "18446744073709551615");
        assert_eq!(Scalar::from(usize::MAX), Scalar::from(usize::MAX as u64));
        assert_eq!(Scalar::from(-1_isize), Scalar::from(-1_i8));
        assert_eq!(Scalar::from(true).to_string(), "True");
        assert_eq!(Scalar::from(Complex::new(1.0_f32, 2.0)).to_string(), "(1+2j)");
        assert_eq!(Scalar::from(Complex::new(0.0, -1.5)).to_string(), "-1.5j");
        assert_eq!(Scalar::from(Complex::new(-0.0, 1.0)).to_string(), "(-0+1j)");
    }
}
