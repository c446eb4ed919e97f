//! Exports elements as Python's own numbers, in nested lists.

use std::marker::PhantomData;

use dlbridge::{MemoryFormat, Scalar, Tensor};
use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyFloat, PyList};

use super::element::{Convert, reader};
use crate::clone::clone_as;
use crate::error::tuple;
use crate::torch_owner::check_owner_address;

/// Maximum depth of nested lists, and so maximum rank; NumPy's is the same.
pub(super) const MAX_LIST_DEPTH: usize = 64;

/// Maximum number of lists that are made for a tensor without elements.
const MAX_EMPTY_LISTS: i64 = 1 << 24;

/// Conversion of an element to a number of Python.
struct ToPython<'py>(PhantomData<Python<'py>>);

impl<'py> Convert for ToPython<'py> {
    type Context = Python<'py>;
    type Output = Bound<'py, PyAny>;

    #[inline(always)] // the type of number is known where an element is read
    fn convert(py: Python<'py>, element: Scalar) -> Bound<'py, PyAny> {
        let converted = match element {
            Scalar::Bool(value) => return PyBool::new(py, value).to_owned().into_any(),
            Scalar::Float(value) => return PyFloat::new(py, value).into_any(),
            Scalar::Complex(value) => {
                return PyComplex::from_doubles(py, value.re, value.im).into_any();
            }
            Scalar::Int(value) => value.into_pyobject(py),
            Scalar::UInt(value) => value.into_pyobject(py),
        };
        match converted {
            Ok(number) => number.into_any(),
            Err(never) => match never {},
        }
    }
}

/// `Tensor.tolist`.
pub(crate) fn to_list<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    if !tensor.device().is_host() {
        return Err(PyTypeError::new_err(format!(
            "can't list the elements of a tensor on {}: use Tensor.cpu() first",
            tensor.device()
        )));
    }
    let dtype = tensor.dtype();
    let (Some(read), Some(itemsize)) = (reader::<ToPython<'py>>(dtype), dtype.itemsize()) else {
        return Err(PyTypeError::new_err(format!(
            "Python has no numbers of type {dtype}: use numpy().astype('float32')"
        )));
    };
    check_owner_address(py, tensor)?;
    check_shape(tensor)?;
    let copy;
    let rows = if tensor.is_contiguous() {
        tensor
    } else {
        copy = clone_as(py, tensor, MemoryFormat::Contiguous)?;
        &copy
    };
    let mut next = rows.data_ptr().cast::<u8>().cast_const();
    let moves = rows.may_move();
    nest(py, rows, rows.shape(), moves, &mut || {
        let at = next;
        next = next.wrapping_add(itemsize);
        // SAFETY: an element must be readable at `at`: `nest` asks for as many elements as the
        // shape has, and those of a contiguous tensor follow each other from `data_ptr` on.
        unsafe { read(py, at) }
    })
}

/// Checks that the lists can be nested so deep, and are not too many.
fn check_shape(tensor: &Tensor) -> PyResult<()> {
    if tensor.ndim() > MAX_LIST_DEPTH {
        return Err(PyValueError::new_err(format!(
            "{} dimensions are more than lists may nest",
            tensor.ndim()
        )));
    }
    // A shape such as (2**40, 0) has no elements, but an empty list for each row.
    let lists = tensor
        .shape()
        .iter()
        .take_while(|&&size| size > 0)
        .try_fold(1_i64, |lists, &size| lists.checked_mul(size));
    if tensor.is_empty() && lists.is_none_or(|lists| lists > MAX_EMPTY_LISTS) {
        return Err(PyMemoryError::new_err(format!(
            "shape {} has too many empty lists",
            tuple(tensor.shape())
        )));
    }
    Ok(())
}

/// Lists of the elements that `next` gives, nested as `shape` says, which is that of `tensor` or of
/// its last dimensions.
///
/// The interpreter may collect garbage when it makes a list, and so run Python code. If `moves`,
/// that code may move the memory: so it is checked before each row, and no list is made while a row
/// is read.
fn nest<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    shape: &[i64],
    moves: bool,
    next: &mut dyn FnMut() -> Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some((&size, inner)) = shape.split_first() else { return Ok(next()) };
    let range = 0..usize::try_from(size).unwrap_or(0);
    let list = if !inner.is_empty() {
        let lists = range.map(|_| nest(py, tensor, inner, moves, next));
        PyList::new(py, lists.collect::<PyResult<Vec<_>>>()?)
    } else if moves {
        check_owner_address(py, tensor)?;
        PyList::new(py, range.map(|_| next()).collect::<Vec<_>>())
    } else {
        PyList::new(py, range.map(|_| next()))
    };
    Ok(list?.into_any())
}

/// `Tensor.item`.
pub(crate) fn item<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    if tensor.len() != 1 {
        return Err(PyValueError::new_err(format!(
            "item() needs one element, and the tensor has {}: use tolist()",
            tensor.len()
        )));
    }
    let mut item = to_list(py, tensor)?;
    for _ in 0..tensor.ndim() {
        item = item.get_item(0)?;
    }
    Ok(item)
}
