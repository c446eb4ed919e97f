//! `Tensor.__torch_function__`: functions of PyTorch take tensors of dlbridge as their own.
//! <https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch>

#![forbid(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::torch::to_torch;
use crate::tensor_object::TensorObject;

/// Maximum depth of lists in arguments. PyTorch looks for tensors in the outermost only.
const MAX_DEPTH: usize = 8;

/// Calls `function` with a `torch.Tensor` of the same memory in place of each tensor of dlbridge.
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let args = converted_all(args.iter(), MAX_DEPTH)?;
    let kwargs = match kwargs {
        Some(kwargs) => Some(converted_dict(kwargs, MAX_DEPTH)?),
        None => None,
    };
    function.call(PyTuple::new(function.py(), args)?, kwargs.as_ref())
}

/// The argument, with tensors of PyTorch in it.
fn converted<'py>(argument: &Bound<'py, PyAny>, depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let py = argument.py();
    if let Ok(tensor) = argument.cast_exact::<TensorObject>() {
        return to_torch(tensor);
    }
    let Some(depth) = depth.checked_sub(1) else { return Ok(argument.clone()) };
    if let Ok(tuple) = argument.cast_exact::<PyTuple>() {
        return Ok(PyTuple::new(py, converted_all(tuple.iter(), depth)?)?.into_any());
    }
    if let Ok(list) = argument.cast_exact::<PyList>() {
        return Ok(PyList::new(py, converted_all(list.iter(), depth)?)?.into_any());
    }
    if let Ok(dict) = argument.cast_exact::<PyDict>() {
        return Ok(converted_dict(dict, depth)?.into_any());
    }
    Ok(argument.clone())
}

fn converted_all<'py>(
    arguments: impl Iterator<Item = Bound<'py, PyAny>>,
    depth: usize,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    arguments.map(|argument| converted(&argument, depth)).collect()
}

fn converted_dict<'py>(dict: &Bound<'py, PyDict>, depth: usize) -> PyResult<Bound<'py, PyDict>> {
    let new = dict.copy()?;
    for (key, value) in dict.copy()?.iter() {
        new.set_item(key, converted(&value, depth)?)?;
    }
    Ok(new)
}
