//! Element types that other libraries have objects for, as element types of DLPack.

#![forbid(unsafe_code)]

use dlbridge::DType;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyFloat, PyInt, PyString, PyType};

use crate::dtype;
use crate::known_types::{NUMPY_DTYPE, NUMPY_NUMBER, TORCH_DTYPE};

/// The element type that a caller passed: its name, or an object of NumPy, PyTorch, JAX or Python.
pub(crate) fn parse_dtype(object: &Bound<'_, PyAny>) -> PyResult<DType> {
    let known = match object.cast::<PyString>() {
        // A text that is no UTF-8 is no name.
        Ok(name) => name.to_str().ok().and_then(dtype::from_name),
        Err(_) => of_library(object)?,
    };
    known.ok_or_else(|| {
        let given = object.repr().map(|text| text.to_string_lossy().chars().take(80).collect());
        PyTypeError::new_err(format!(
            "{} is not an element type: expected a name such as 'float32', or an object such as \
             numpy.float32 or torch.float32",
            given.unwrap_or_else(|_| "the object".to_owned())
        ))
    })
}

/// The element type that `object` stands for in its library: a `torch.dtype`, a `numpy.dtype`, the
/// class of NumPy's or JAX's scalars, or a class of Python for which NumPy has a type. `None` for
/// all other objects, and for types that DLPack does not have.
pub(crate) fn of_library(object: &Bound<'_, PyAny>) -> PyResult<Option<DType>> {
    if TORCH_DTYPE.is_type_of(object) {
        let text = object.str()?;
        let text = text.to_str()?;
        return Ok(match text.strip_prefix("torch.").unwrap_or(text) {
            "float4_e2m1fn_x2" => Some(DType { lanes: 2, ..DType::scalar(17, 4) }),
            name => dtype::from_name(name),
        });
    }
    if NUMPY_DTYPE.is_type_of(object) {
        return of_numpy(object);
    }
    let Ok(class) = object.cast::<PyType>() else { return Ok(None) };
    if let Some(dtype) = of_python(class) {
        return Ok(Some(dtype));
    }
    if let Some((numbers, _)) = NUMPY_NUMBER.look_up(class.py())
        && class.is_subclass(&numbers)?
    {
        return of_numpy_class(class);
    }
    // The classes of JAX's scalars have their `numpy.dtype` as an attribute.
    match class.getattr_opt(intern!(class.py(), "dtype"))? {
        Some(dtype) if NUMPY_DTYPE.is_type_of(&dtype) => of_numpy(&dtype),
        _ => Ok(None),
    }
}

/// The type that NumPy has for a class of Python.
fn of_python(class: &Bound<'_, PyType>) -> Option<DType> {
    let py = class.py();
    [
        (py.get_type::<PyFloat>(), DType::F64),
        (py.get_type::<PyInt>(), DType::I64),
        (py.get_type::<PyBool>(), DType::BOOL),
        (py.get_type::<PyComplex>(), DType::C128),
    ]
    .into_iter()
    .find_map(|(known, dtype)| class.is(&known).then_some(dtype))
}

/// The type that a `numpy.dtype` describes, which must have the machine's byte order.
pub(crate) fn of_numpy(dtype: &Bound<'_, PyAny>) -> PyResult<Option<DType>> {
    let py = dtype.py();
    if !dtype.getattr(intern!(py, "isnative"))?.is_truthy()? {
        return Ok(None);
    }
    let kind: char = dtype.getattr(intern!(py, "kind"))?.extract()?;
    let itemsize = dtype.getattr(intern!(py, "itemsize"))?.extract()?;
    let known = u8::try_from(kind).ok().and_then(|kind| dtype::from_kind(kind, itemsize));
    if known.is_some() {
        return Ok(known);
    }
    match dtype.getattr(intern!(py, "type"))?.cast::<PyType>() {
        Ok(class) if class.module()? == "ml_dtypes" => of_numpy_class(class),
        _ => Ok(None),
    }
}

/// The type of a class of scalars. `numpy.dtype(class)` would warn for the abstract ones.
fn of_numpy_class(class: &Bound<'_, PyType>) -> PyResult<Option<DType>> {
    let (module, name) = (class.module()?, class.name()?);
    if module != "numpy" && module != "ml_dtypes" {
        return Ok(None);
    }
    Ok(match name.to_str()? {
        "bool_" => Some(DType::BOOL),
        // Where these have a class of their own, they have the size of another integer type.
        "intc" => Some(DType::I32),
        "uintc" => Some(DType::U32),
        "longlong" => Some(DType::I64),
        "ulonglong" => Some(DType::U64),
        name => dtype::from_name(name),
    })
}
