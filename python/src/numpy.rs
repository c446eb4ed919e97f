//! NumPy arrays, without linking any NumPy: in through the struct that every array shows, out through the
//! buffer protocol.

use std::ffi::{c_char, c_int, c_void};

use dlbridge::{DType, Descriptor, Device, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::buffer;
use crate::dtype;
use crate::error::buffer_error;
use crate::layout;
use crate::library::{self, NDARRAY, call};
use crate::owner::PyOwner;
use crate::tensor::PyTensor;

/// What `__array_struct__` shows: NumPy's `PyArrayInterface`, unchanged since its first version.
/// <https://numpy.org/doc/stable/reference/arrays.interface.html#c-struct-access>
#[repr(C)]
struct ArrayInterface {
    two: c_int,
    nd: c_int,
    typekind: c_char,
    itemsize: c_int,
    flags: c_int,
    shape: *const isize,
    strides: *const isize,
    data: *mut c_void,
    descr: *mut ffi::PyObject,
}

const NATIVE_ORDER: c_int = 0x200;
const WRITABLE: c_int = 0x400;

/// An array that NumPy refuses to export, or PyTorch to take: which of their errors it is.
pub(crate) enum Refused {
    DType(String),
    ByteOrder,
    Strides,
    Other(PyErr),
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self::Other(error)
    }
}

/// What to do about elements of a type that DLPack does not have.
fn remedy(name: &str) -> &'static str {
    match name {
        "datetime64" | "timedelta64" => ": use array.view('int64')",
        "void" | "record" => ": share its fields one by one, e.g. array['a']",
        "longdouble" | "clongdouble" => ": use array.astype()",
        _ => "",
    }
}

impl Refused {
    /// As `__dlpack__` refuses.
    pub(crate) fn into_export_error(self) -> PyErr {
        PyBufferError::new_err(match self {
            Self::DType(name) => {
                format!("DLPack has no type for elements of type numpy.{name}{}", remedy(&name))
            }
            Self::ByteOrder => "DLPack only supports native byte order: use \
                                array.astype(array.dtype.newbyteorder('='))"
                .to_owned(),
            Self::Strides => layout::UNEVEN.to_owned(),
            Self::Other(error) => return error,
        })
    }

    /// As `torch.from_numpy` refuses.
    pub(crate) fn into_conversion_error(self) -> PyErr {
        match self {
            Self::DType(name) => PyTypeError::new_err(format!(
                "can't convert np.ndarray of type numpy.{name}: DLPack has no such type{}",
                remedy(&name)
            )),
            Self::ByteOrder => PyValueError::new_err(
                "given numpy array has byte order different from the native byte order: use \
                 array.astype(array.dtype.newbyteorder('='))",
            ),
            Self::Strides => PyValueError::new_err(
                "given numpy array strides not a multiple of the element byte size. Copy the numpy array to reallocate \
                 the memory.",
            ),
            Self::Other(error) => error,
        }
    }
}

/// An array's memory, shared.
#[inline]
pub(crate) fn share(array: &Bound<'_, PyAny>) -> Result<Tensor, Refused> {
    let capsule = array.getattr(intern!(array.py(), "__array_struct__"))?;
    // SAFETY: a live object; NumPy's capsule has no name. Of anything else NULL comes back.
    let shown = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), std::ptr::null()) };
    if shown.is_null() {
        return Err(PyErr::fetch(array.py()).into());
    }
    // SAFETY: an array shows a valid struct, which the capsule keeps.
    let shown = unsafe { &*shown.cast::<ArrayInterface>() };
    if shown.two != 2 {
        return Err(PyBufferError::new_err("__array_struct__ shows no array").into());
    }
    let (dtype, itemsize) = element_type(array, shown)?;
    let rank = usize::try_from(shown.nd).unwrap_or(0);
    let numbers = |start: *const isize| match rank {
        0 => &[],
        // SAFETY: as many numbers as the array has dimensions.
        _ => unsafe { std::slice::from_raw_parts(start, rank) },
    };
    let layout = layout::of_bytes(numbers(shown.shape), numbers(shown.strides), itemsize)?;
    let layout = layout.ok_or(Refused::Strides)?;
    let descriptor = Descriptor::new(shown.data, layout, dtype, Device::CPU)
        .and_then(|descriptor| if dtype.bits < 8 { descriptor.padded() } else { Ok(descriptor) });
    let descriptor = descriptor.map_err(buffer_error)?;
    // What is not an array itself may show somebody else's memory: the capsule keeps whoever has it.
    let owner = match NDARRAY.is_known_class_of(array) {
        true => PyOwner::new(array),
        false => PyOwner::new(PyTuple::new(array.py(), [array, &capsule])?.as_any()),
    };
    // SAFETY: the array keeps its memory as long as it is referred to (NumPy refuses to resize it then, unless
    // told not to look), and says whether it may be written. No Rust view is ever made here.
    Ok(unsafe { Tensor::from_raw_parts(descriptor, shown.flags & WRITABLE != 0, owner) })
}

fn element_type(array: &Bound<'_, PyAny>, shown: &ArrayInterface) -> Result<(DType, i64), Refused> {
    let py = array.py();
    let size = usize::try_from(shown.itemsize).unwrap_or(0);
    let dtype = match dtype::from_kind(shown.typekind.cast_unsigned(), size) {
        Some(dtype) => dtype,
        None => {
            let dtype = array.getattr(intern!(py, "dtype"))?;
            let class = dtype.getattr(intern!(py, "type"))?;
            let module: String = class.getattr(intern!(py, "__module__"))?.extract()?;
            let name: String = dtype.getattr(intern!(py, "name"))?.extract()?;
            match dtype::from_ml_dtypes(&name) {
                // A derived class may name another type than its memory is of.
                Some(dtype) if module == "ml_dtypes" && dtype.itemsize().unwrap_or(1) == size => {
                    dtype
                }
                _ => {
                    return Err(Refused::DType(class.getattr(intern!(py, "__name__"))?.extract()?));
                }
            }
        }
    };
    if shown.flags & NATIVE_ORDER == 0 && size > 1 {
        return Err(Refused::ByteOrder);
    }
    Ok((dtype, i64::from(shown.itemsize)))
}

/// Shares an array: `dlbridge.from_numpy`.
pub(crate) fn from_numpy(array: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    if NDARRAY.is_known_class_of(array) {
        return share(array).map_err(Refused::into_conversion_error);
    }
    if let Some(target) = library::behind_proxy(array)? {
        return from_numpy(&target);
    }
    if !NDARRAY.is_class_of(array) {
        let name = array.get_type().fully_qualified_name()?;
        return Err(PyTypeError::new_err(format!("expected np.ndarray (got {name})")));
    }
    refuse_mask(array)?;
    share(array).map_err(Refused::into_conversion_error)
}

/// Refuses a masked array of which some elements are masked: no other library would know.
pub(crate) fn refuse_mask(array: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(mask) = array.getattr_opt(intern!(array.py(), "mask"))? else { return Ok(()) };
    let Some(any) = mask.getattr_opt(intern!(array.py(), "any"))? else { return Ok(()) };
    if any.call0()?.is_truthy()? {
        return Err(PyBufferError::new_err("DLPack has no masks: use filled() or compressed()"));
    }
    Ok(())
}

/// `numpy.asarray`.
fn as_ndarray(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static AS_ARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    AS_ARRAY.import(py, "numpy", "asarray")
}

/// The memory of an array that NumPy makes of one of its numbers.
pub(crate) fn share_number(number: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    share(&call(as_ndarray(number.py())?, number)?).map_err(Refused::into_export_error)
}

/// The tensor as an array that shares its memory.
pub(crate) fn to_numpy<'py>(tensor: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyAny>> {
    let py = tensor.py();
    let this = tensor.get().tensor();
    if !this.device().is_host() {
        return Err(PyTypeError::new_err(format!(
            "can't convert {} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.",
            this.device()
        )));
    }
    let as_ndarray = as_ndarray(py)?;
    // Of a tensor that is no buffer NumPy would come back to us.
    let as_array = |tensor: &Bound<'py, PyAny>| call(as_ndarray, &buffer::view(tensor)?);
    let dtype = this.dtype();
    if dtype::format(dtype).is_some() {
        return as_array(tensor.as_any());
    }
    let unsupported =
        |remedy: &str| PyTypeError::new_err(format!("Got unsupported ScalarType {dtype}{remedy}"));
    // Packed elements have no address.
    let itemsize = match (dtype.itemsize(), this.descriptor().is_padded()) {
        (Some(itemsize), _) if dtype.lanes == 1 => itemsize,
        (None, true) if dtype.lanes == 1 => 1,
        _ => return Err(unsupported("")),
    };
    let bits = DType::scalar(1, u8::try_from(8 * itemsize).unwrap_or(0));
    if !dtype::is_ml_dtypes(dtype) || dtype::format(bits).is_none() {
        return Err(unsupported(""));
    }
    let ml_dtypes = py
        .import(intern!(py, "ml_dtypes"))
        .map_err(|_| unsupported(": NumPy has it only with the package ml_dtypes"))?;
    let class = ml_dtypes.getattr(dtype.to_string().as_str()).map_err(|_| unsupported(""))?;
    let plain = as_array(PyTensor::seen_as(tensor.get(), bits)?.into_bound(py)?.as_any())?;
    plain.call_method1(intern!(py, "view"), (class,))
}

/// `Tensor.__array__`: what `numpy.asarray` and `numpy.array` call when the buffer protocol does not do.
pub(crate) fn array<'py>(
    tensor: &Bound<'py, PyTensor>,
    dtype: Option<&Bound<'py, PyAny>>,
    copy: Option<bool>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = tensor.py();
    let array = to_numpy(tensor)?;
    if dtype.is_none() && copy != Some(true) {
        return Ok(array);
    }
    let options = PyDict::new(py);
    options.set_item("dtype", dtype)?;
    options.set_item("copy", copy)?;
    py.import(intern!(py, "numpy"))?.call_method("array", (array,), Some(&options))
}
