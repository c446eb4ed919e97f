//! Devices as Python names them, and the streams that go with them.

use std::fmt;

use dlbridge::{Device, Stream, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyTuple};

use crate::error::buffer_error;
use crate::import;
use crate::owner::PyOwner;

const CUDA: i32 = 2;
const ROCM: i32 = 10;

/// Whether DLPack 1.3 has a device of this type.
pub(crate) fn is_known(device: Device) -> bool {
    matches!(device.device_type, 1..=4 | 7..=18)
}

/// The stream that work is ordered on where none is named: on CUDA and ROCm the legacy default stream.
pub(crate) fn default_stream(device: Device) -> Option<i64> {
    match device.device_type {
        CUDA => Some(1),
        ROCM => Some(0),
        _ => None,
    }
}

/// The stream that a consumer works on, where memory must be made ready for it: every export is ready on the
/// default stream.
pub(crate) fn stream_of(device: Device, stream: &Bound<'_, PyAny>) -> PyResult<Option<Stream>> {
    let number = match stream.getattr_opt(intern!(stream.py(), "__cuda_stream__"))? {
        Some(protocol) => match protocol.call0()?.extract::<(i64, i64)>()? {
            (0, number) => number,
            (version, _) => {
                return Err(PyBufferError::new_err(format!(
                    "version {version} of __cuda_stream__ is not known"
                )));
            }
        },
        None => {
            stream.extract::<i64>().map_err(|_| PyTypeError::new_err("stream is an int or None"))?
        }
    };
    match (device.device_type, number) {
        (_, -1) => Ok(None),
        (CUDA | ROCM, _) if Some(number) == default_stream(device) => Ok(None),
        (CUDA, 2..) => {
            // SAFETY: the consumer's stream, which it says lives; where it gave an object, that is kept.
            unsafe { Stream::from_raw(device, number, StreamOwner::new(stream)) }
                .map(Some)
                .map_err(buffer_error)
        }
        (ROCM, 1..) => Err(PyBufferError::new_err(format!(
            "dlbridge can't make stream {number} wait: pass None, and work on the default stream of {device}"
        ))),
        _ => Err(PyValueError::new_err(format!("{number} is not a stream of {device}"))),
    }
}

/// An object that holds a stream.
struct StreamOwner(#[expect(dead_code, reason = "held, not used")] PyOwner);

// SAFETY: an object of Python's, which is used by nobody and released attached.
unsafe impl Sync for StreamOwner {}

impl StreamOwner {
    fn new(object: &Bound<'_, PyAny>) -> Self {
        Self(PyOwner::new(object))
    }
}

/// The pair that `__dlpack_device__` gives: two integers, or enumerations of them.
pub(crate) fn from_pair(pair: &Bound<'_, PyAny>) -> PyResult<Device> {
    let (device_type, index) = pair
        .cast::<PyTuple>()
        .ok()
        .and_then(|pair| pair.extract::<(i32, i32)>().ok())
        .ok_or_else(|| PyTypeError::new_err("a DLPack device is a tuple of two integers"))?;
    Ok(Device { device_type, index })
}

/// The device that a caller asks for.
#[derive(Clone, Copy)]
pub(crate) struct TargetDevice {
    device_type: i32,
    /// Which of several; any when nobody says.
    index: Option<i32>,
}

impl TargetDevice {
    pub(crate) const HOST: Self = Self { device_type: Device::CPU.device_type, index: None };

    pub(crate) fn cuda(index: Option<i32>) -> Self {
        Self { device_type: CUDA, index }
    }

    pub(crate) fn from_device(device: Device) -> Self {
        Self { device_type: device.device_type, index: (!device.is_host()).then_some(device.index) }
    }

    /// Reads `"cpu"`, `"cuda"`, `"cuda:1"`, `(2, 1)`, or an object that shows itself so, as
    /// `torch.device` does.
    pub(crate) fn parse(device: &Bound<'_, PyAny>) -> PyResult<Self> {
        if device.is_instance_of::<PyTuple>() {
            return from_pair(device).map(Self::from_device);
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
        let target = match device.cast::<PyInt>() {
            Ok(index) => match index.extract::<i32>() {
                Ok(index @ 0..) if !device.is_instance_of::<PyBool>() => Self::cuda(Some(index)),
                _ => {
                    return Err(PyValueError::new_err(format!(
                        "{index} is not the index of a CUDA device"
                    )));
                }
            },
            Err(_) => Self::parse(device)?,
        };
        if target.device_type == CUDA {
            Ok(target)
        } else {
            Err(PyValueError::new_err(format!("{target} is not a CUDA device")))
        }
    }

    pub(crate) fn is_cuda(self) -> bool {
        self.device_type == CUDA
    }

    /// The device; the first of several when nobody says which.
    pub(crate) fn device(self) -> Device {
        Device { device_type: self.device_type, index: self.index.unwrap_or(0) }
    }

    pub(crate) fn is_host(self) -> bool {
        Device { device_type: self.device_type, index: 0 }.is_host()
    }

    /// Whether memory of a device is where it is wanted.
    pub(crate) fn holds(self, device: Device) -> bool {
        let host = self.is_host() && device.is_host();
        host || (self.device_type == device.device_type
            && self.index.is_none_or(|index| index == device.index))
    }

    /// Copies a tensor there. From and to the devices that dlbridge does not know, PyTorch may be able to.
    pub(crate) fn receive(self, py: Python<'_>, tensor: Tensor) -> PyResult<Tensor> {
        if tensor.device().device_type == ROCM && self.is_host() {
            return self.receive_through_torch(py, tensor);
        }
        let device = match self {
            Self { device_type: CUDA, index: None } => {
                Device::current_cuda().map_err(buffer_error)?
            }
            Self { device_type, index } => Device { device_type, index: index.unwrap_or(0) },
        };
        py.detach(|| tensor.to_device(device)).map_err(buffer_error)
    }

    fn receive_through_torch(self, py: Python<'_>, tensor: Tensor) -> PyResult<Tensor> {
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

impl fmt::Display for TargetDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { device_type: CUDA, index: Some(index) } => write!(f, "cuda:{index}"),
            Self { device_type: CUDA, index: None } => f.write_str("cuda"),
            Self { device_type, .. } if self.is_host() && *device_type == 1 => f.write_str("cpu"),
            Self { device_type, index } => {
                Device { device_type: *device_type, index: index.unwrap_or(0) }.fmt(f)
            }
        }
    }
}
