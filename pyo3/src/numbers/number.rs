//! One number of Python, and its conversion to an element type.

#![forbid(unsafe_code)]

use std::fmt;

use dlbridge::DType;
use half::{bf16, f16};
use num_complex::Complex;
use pyo3::exceptions::PyOverflowError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyComplexMethods, PyFloat, PyFloatMethods, PyInt};

use crate::dtype_names;
use crate::known_types::NUMPY_NUMBER;

/// A number as it was in the list.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Bool(bool),
    Int(i64),
    /// An integer above the range of `Int`.
    UInt(u64),
    /// An integer that is in neither range, rounded; infinite if it is too large.
    BigInt(f64),
    Float(f64),
    Complex(Complex<f64>),
}

/// What numbers are, in the order in which a mixture takes the later kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
    Complex,
}

impl Kind {
    /// The element type of numbers of this kind, which holds a number of Python exactly.
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::Bool => DType::BOOL,
            Self::Int => DType::I64,
            Self::Float => DType::F64,
            Self::Complex => DType::C128,
        }
    }
}

impl Number {
    /// The number that an object of Python or a scalar of NumPy is, and the element type of the
    /// scalar. `None` for all other objects. No method of the object is called, except for scalars
    /// of NumPy.
    pub(super) fn read(object: &Bound<'_, PyAny>) -> PyResult<Option<(Self, Option<DType>)>> {
        if let Ok(value) = object.cast_exact::<PyFloat>() {
            return Ok(Some((Self::Float(value.value()), None)));
        }
        if let Ok(value) = object.cast_exact::<PyInt>() {
            return Ok(Some((Self::of_int(value)?, None)));
        }
        // `numpy.float64` is derived from `float`.
        if !object.is_exact_instance_of::<PyBool>() && NUMPY_NUMBER.is_type_of(object) {
            return Self::of_numpy(object);
        }
        Ok(Self::of_python(object)?.map(|number| (number, None)))
    }

    fn of_python(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        Ok(if let Ok(value) = object.cast::<PyBool>() {
            Some(Self::Bool(value.is_true()))
        } else if let Ok(value) = object.cast::<PyInt>() {
            Some(Self::of_int(value)?)
        } else if let Ok(value) = object.cast::<PyFloat>() {
            Some(Self::Float(value.value()))
        } else if let Ok(value) = object.cast::<PyComplex>() {
            Some(Self::Complex(Complex::new(value.real(), value.imag())))
        } else {
            None
        })
    }

    fn of_int(value: &Bound<'_, PyInt>) -> PyResult<Self> {
        let py = value.py();
        let is_overflow = |error: &PyErr| error.is_instance_of::<PyOverflowError>(py);
        match value.extract::<i64>() {
            Ok(value) => return Ok(Self::Int(value)),
            Err(error) if is_overflow(&error) => {}
            Err(error) => return Err(error),
        }
        match value.extract::<u64>() {
            Ok(value) => return Ok(Self::UInt(value)),
            Err(error) if is_overflow(&error) => {}
            Err(error) => return Err(error),
        }
        match value.extract::<f64>() {
            Ok(value) => Ok(Self::BigInt(value)),
            Err(error) if is_overflow(&error) => Ok(Self::BigInt(f64::INFINITY)),
            Err(error) => Err(error),
        }
    }

    fn of_numpy(scalar: &Bound<'_, PyAny>) -> PyResult<Option<(Self, Option<DType>)>> {
        let py = scalar.py();
        let dtype = dtype_names::of_numpy(&scalar.getattr(intern!(py, "dtype"))?)?;
        let Some(dtype) = dtype else { return Ok(None) };
        let value = scalar.call_method0(intern!(py, "item"))?;
        Ok(Self::of_python(&value)?.map(|number| (number, Some(dtype))))
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) | Self::UInt(_) | Self::BigInt(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::Complex(_) => Kind::Complex,
        }
    }

    /// The number as a float of double precision; `None` for complex numbers.
    fn real(self) -> Option<f64> {
        Some(match self {
            Self::Bool(value) => f64::from(u8::from(value)),
            Self::Int(value) => value as f64,
            Self::UInt(value) => value as f64,
            Self::BigInt(value) | Self::Float(value) => value,
            Self::Complex(_) => return None,
        })
    }

    /// Whether the number is an integer that no float holds.
    fn is_too_large(self) -> bool {
        matches!(self, Self::BigInt(value) if value.is_infinite())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int(value) => write!(f, "{value}"),
            Self::UInt(value) => write!(f, "{value}"),
            Self::BigInt(value) if value.is_infinite() => f.write_str("an integer over 1.7e308"),
            Self::BigInt(value) => write!(f, "{value:e}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Complex(value) => write!(f, "({:?}{:+?}j)", value.re, value.im),
        }
    }
}

/// Why a number cannot be an element of a type.
pub(super) enum Misfit {
    /// The type has no numbers of this kind.
    Kind,
    /// The number is outside of the type's range.
    Range,
}

/// An element type that numbers of Python can be converted to.
pub(super) trait FromNumber: Sized {
    fn from_number(number: Number) -> Result<Self, Misfit>;
}

impl FromNumber for bool {
    fn from_number(number: Number) -> Result<Self, Misfit> {
        match number {
            Number::Bool(value) => Ok(value),
            Number::Int(0) => Ok(false),
            Number::Int(1) => Ok(true),
            number if number.kind() == Kind::Int => Err(Misfit::Range),
            _ => Err(Misfit::Kind),
        }
    }
}

macro_rules! from_integers {
    ($($type:ty),*) => {$(
        impl FromNumber for $type {
            fn from_number(number: Number) -> Result<Self, Misfit> {
                match number {
                    Number::Bool(value) => Ok(Self::from(value)),
                    Number::Int(value) => Self::try_from(value).map_err(|_| Misfit::Range),
                    Number::UInt(value) => Self::try_from(value).map_err(|_| Misfit::Range),
                    Number::BigInt(_) => Err(Misfit::Range),
                    _ => Err(Misfit::Kind),
                }
            }
        }
    )*};
}

from_integers!(u8, u16, u32, u64, i8, i16, i32, i64);

/// `value` in a narrower type, as `narrowed` says. A finite number must stay finite.
fn rounded<T>(value: f64, narrowed: T, is_finite: bool) -> Result<T, Misfit> {
    if value.is_finite() && !is_finite { Err(Misfit::Range) } else { Ok(narrowed) }
}

macro_rules! from_floats {
    ($($type:ty: $narrow:expr),*) => {$(
        impl FromNumber for $type {
            fn from_number(number: Number) -> Result<Self, Misfit> {
                if number.is_too_large() {
                    return Err(Misfit::Range);
                }
                let value = number.real().ok_or(Misfit::Kind)?;
                let narrow: fn(f64) -> $type = $narrow;
                let narrowed = narrow(value);
                rounded(value, narrowed, narrowed.is_finite())
            }
        }
    )*};
}

from_floats!(f16: f16::from_f64, bf16: bf16::from_f64);
from_floats!(f32: |value| value as f32, f64: |value| value);

macro_rules! from_complex {
    ($($part:ty),*) => {$(
        impl FromNumber for Complex<$part> {
            fn from_number(number: Number) -> Result<Self, Misfit> {
                let part = |value| <$part>::from_number(Number::Float(value));
                match number {
                    Number::Complex(value) => Ok(Self::new(part(value.re)?, part(value.im)?)),
                    number => Ok(Self::new(<$part>::from_number(number)?, 0.0)),
                }
            }
        }
    )*};
}

from_complex!(f32, f64);
