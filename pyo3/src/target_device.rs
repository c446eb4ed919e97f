//! The argument `device=` of functions and methods.

#![forbid(unsafe_code)]

use std::fmt;

use dlbridge::Device;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyTuple};

use crate::device::{self, CUDA};

/// The device that a caller passed: its type and, if the caller named one, its index.
#[derive(Clone, Copy)]
pub(crate) struct TargetDevice {
    device_type: i32,
    /// `None` if the target may be any device of this type.
    index: Option<i32>,
}

impl TargetDevice {
    pub(crate) const HOST: Self = Self { device_type: Device::CPU.device_type, index: None };

    pub(crate) fn cuda(index: Option<i32>) -> Self {
        Self { device_type: CUDA, index }
    }

    pub(crate) fn from_device(device: Device) -> Self {
        let index = (!device.is_host()).then_some(device.index);
        Self { device_type: device.device_type, index }
    }

    /// Reads `"cpu"`, `"cuda"`, `"cuda:1"`, `(2, 1)`, or an object whose `str` is one of these,
    /// such as `torch.device`. `function` is the name of the caller, for error messages.
    pub(crate) fn parse(device: &Bound<'_, PyAny>, function: &str) -> PyResult<Self> {
        if device.is_instance_of::<PyTuple>() {
            return device::from_pair(device).map(Self::from_device);
        }
        let text = device.str()?;
        let text = text.to_str()?;
        let (name, index) =
            text.split_once(':').map_or((text, None), |(name, index)| (name, Some(index)));
        let number = index.map(|index| index.parse::<i32>().ok().filter(|&index| index >= 0));
        match (name, number) {
            ("cpu", None | Some(Some(_))) => Ok(Self::HOST),
            ("cuda", None) => Ok(Self::cuda(None)),
            ("cuda", Some(Some(index))) => Ok(Self::cuda(Some(index))),
            _ => Err(no_device_error(text, function)),
        }
    }

    /// Reads a CUDA device: an index, or an argument that [`parse`](Self::parse) reads.
    pub(crate) fn parse_cuda(device: &Bound<'_, PyAny>) -> PyResult<Self> {
        let target = match device.cast::<PyInt>() {
            Ok(index) => match index.extract::<i32>() {
                Ok(index @ 0..) if !device.is_instance_of::<PyBool>() => Self::cuda(Some(index)),
                _ => {
                    let message = format!("{index} is not the index of a CUDA device");
                    return Err(PyValueError::new_err(message));
                }
            },
            Err(_) => Self::parse(device, "cuda()")?,
        };
        if target.is_cuda() {
            Ok(target)
        } else {
            Err(PyValueError::new_err(format!("{target} is not a CUDA device")))
        }
    }

    pub(crate) fn is_cuda(self) -> bool {
        self.device_type == CUDA
    }

    pub(crate) fn is_host(self) -> bool {
        self.device().is_host()
    }

    pub(crate) fn index(self) -> Option<i32> {
        self.index
    }

    /// The device; the first of its type if the caller named none.
    pub(crate) fn device(self) -> Device {
        Device { device_type: self.device_type, index: self.index.unwrap_or(0) }
    }

    /// Whether memory of `device` is on the target already.
    pub(crate) fn includes(self, device: Device) -> bool {
        let host = self.is_host() && device.is_host();
        host || (self.device_type == device.device_type
            && self.index.is_none_or(|index| index == device.index))
    }
}

#[cold]
fn no_device_error(text: &str, function: &str) -> PyErr {
    // `str(numpy.float32)` is "<class 'numpy.float32'>".
    let name = text.strip_prefix("<class '").map_or(text, |name| name.trim_end_matches("'>"));
    let name = name.trim_start_matches("torch.").trim_start_matches("numpy.");
    if !text.starts_with("torch.") && !is_dtype(name) {
        return PyValueError::new_err(format!(
            "device '{text}' is not supported: expected 'cpu', 'cuda' or 'cuda:N'"
        ));
    }
    PyTypeError::new_err(format!(
        "{function} takes a device, not a dtype: cast with torch().to(torch.{name}) or \
         numpy().astype('{name}')"
    ))
}

/// Whether `name` is that of an element type, such as `float16`, `int8` or `complex64`.
fn is_dtype(name: &str) -> bool {
    const KINDS: [&str; 6] = ["bool", "int", "uint", "float", "bfloat", "complex"];
    let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    KINDS.contains(&kind) || name.starts_with("float8_")
}

impl fmt::Display for TargetDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { device_type: CUDA, index: Some(index) } => write!(f, "cuda:{index}"),
            Self { device_type: CUDA, index: None } => f.write_str("cuda"),
            Self { device_type, .. } if device_type == Device::CPU.device_type => {
                f.write_str("cpu")
            }
            target => target.device().fmt(f),
        }
    }
}
