//! Devices as Python names them, and the streams that go with them.

use std::fmt;

use dlbridge::{Device, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use crate::import;

const CUDA: i32 = 2;
const ROCM: i32 = 10;

/// Whether DLPack 1.3 has a device of this type.
pub(crate) fn is_known(device: Device) -> bool {
    matches!(device.kind, 1..=4 | 7..=18)
}

/// The stream that work is ordered on where none is named: on CUDA and ROCm the legacy default stream.
pub(crate) fn default_stream(device: Device) -> Option<i64> {
    match device.kind {
        CUDA => Some(1),
        ROCM => Some(0),
        _ => None,
    }
}

/// Looks at the stream that a consumer works on. Memory of another device was taken over in the order of its
/// default stream, and can be handed on in that order.
pub(crate) fn check_stream(device: Device, stream: &Bound<'_, PyAny>) -> PyResult<()> {
    let number = match stream.call_method0(intern!(stream.py(), "__cuda_stream__")) {
        Ok(answer) => answer.extract::<(i64, i64)>()?.1,
        Err(_) => stream.extract::<i64>().map_err(|_| PyTypeError::new_err("stream is an int or None"))?,
    };
    let known = match device.kind {
        _ if number == -1 => true,
        CUDA if number == 0 || number < -1 => false,
        ROCM if number < -1 => false,
        CUDA | ROCM if Some(number) == default_stream(device) => true,
        CUDA | ROCM => {
            return Err(PyBufferError::new_err(format!(
                "this build can't make stream {number} wait: pass None, and work on the default stream of {device}"
            )));
        }
        _ => false,
    };
    if known {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("{number} is not a stream of {device}")))
}

/// The pair that `__dlpack_device__` gives: two integers, or enumerations of them.
pub(crate) fn from_pair(pair: &Bound<'_, PyAny>) -> PyResult<Device> {
    let (kind, index) = pair
        .cast::<PyTuple>()
        .ok()
        .and_then(|pair| pair.extract::<(i32, i32)>().ok())
        .ok_or_else(|| PyTypeError::new_err("a DLPack device is a tuple of two integers"))?;
    Ok(Device { kind, index })
}

/// Where a tensor is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    kind: i32,
    /// Which of several; any when nobody says.
    index: Option<i32>,
}

impl Place {
    pub(crate) const HOST: Self = Self { kind: Device::CPU.kind, index: None };

    pub(crate) fn cuda(index: Option<i32>) -> Self {
        Self { kind: CUDA, index }
    }

    pub(crate) fn from_device(device: Device) -> Self {
        Self { kind: device.kind, index: (!device.is_host()).then_some(device.index) }
    }

    /// Reads `"cpu"`, `"cuda"`, `"cuda:1"`, `(2, 1)`, or an object that shows itself so, as
    /// `torch.device` does.
    pub(crate) fn parse(device: &Bound<'_, PyAny>) -> PyResult<Self> {
        if device.is_instance_of::<PyTuple>() {
            return from_pair(device).map(Self::from_device);
        }
        let text = device.str()?;
        let text = text.to_str()?;
        let (name, index) = text.split_once(':').map_or((text, None), |(name, index)| (name, Some(index)));
        let number = index.map(|index| index.parse::<i32>().ok().filter(|&index| index >= 0));
        match (name, number) {
            ("cpu", None | Some(Some(_))) => Ok(Self::HOST),
            ("cuda", None) => Ok(Self::cuda(None)),
            ("cuda", Some(Some(index))) => Ok(Self::cuda(Some(index))),
            _ if text.starts_with("torch.") => Err(PyTypeError::new_err(format!(
                "to() moves between devices and does not cast to {text}: use torch().to() or numpy().astype()"
            ))),
            _ => Err(PyValueError::new_err(format!(
                "device '{text}' is not supported: expected 'cpu', 'cuda' or 'cuda:N'"
            ))),
        }
    }

    /// Reads which CUDA device is meant: an index, or what [`parse`](Self::parse) reads.
    pub(crate) fn parse_cuda(device: &Bound<'_, PyAny>) -> PyResult<Self> {
        let place = match device.cast::<PyInt>() {
            Ok(index) => match index.extract::<i32>() {
                Ok(index @ 0..) => Self::cuda(Some(index)),
                _ => return Err(PyValueError::new_err(format!("{index} is not the index of a CUDA device"))),
            },
            Err(_) => Self::parse(device)?,
        };
        if place.kind == CUDA {
            Ok(place)
        } else {
            Err(PyValueError::new_err(format!("{place} is not a CUDA device")))
        }
    }

    pub(crate) fn is_host(self) -> bool {
        Device { kind: self.kind, index: 0 }.is_host()
    }

    /// Whether memory of a device is where it is wanted.
    pub(crate) fn holds(self, device: Device) -> bool {
        let host = self.is_host() && device.is_host();
        host || (self.kind == device.kind && self.index.is_none_or(|index| index == device.index))
    }

    /// Copies a tensor there. PyTorch does it: it has the driver.
    pub(crate) fn receive(self, py: Python<'_>, tensor: Tensor) -> PyResult<Tensor> {
        if !self.is_host() && self.kind != CUDA {
            return Err(PyBufferError::new_err(format!("there are no copies to {self} here")));
        }
        let torch = py.import(intern!(py, "torch")).map_err(|_| {
            PyBufferError::new_err(format!(
                "copies from {} to {self} go through PyTorch, which can't be imported",
                tensor.device()
            ))
        })?;
        let tensor = crate::tensor::PyTensor::new(tensor).into_bound(py)?;
        let tensor = torch.call_method1(intern!(py, "from_dlpack"), (tensor,))?;
        import::share(&tensor.call_method1(intern!(py, "to"), (self.to_string(),))?)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { kind: CUDA, index: Some(index) } => write!(f, "cuda:{index}"),
            Self { kind: CUDA, index: None } => f.write_str("cuda"),
            Self { kind, .. } if self.is_host() && *kind == 1 => f.write_str("cpu"),
            Self { kind, index } => Device { kind: *kind, index: index.unwrap_or(0) }.fmt(f),
        }
    }
}
