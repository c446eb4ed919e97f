//! Reads nested lists and tuples.
//!
//! Python code may run meanwhile (a scalar of NumPy is asked for its value, a signal is handled, or
//! garbage is collected), and change the lists. So each item is fetched with a check of the list's
//! present size, and a list must have the same size before and after its items are read.

#![forbid(unsafe_code)]

use std::fmt::Write;

use dlbridge::DType;
use pyo3::exceptions::{PyIndexError, PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::number::{Kind, Number};

/// Maximum depth of nested lists, and so maximum rank; NumPy's is the same.
const MAX_LIST_DEPTH: usize = 64;

/// Number of lists that are read between two looks at pending signals, such as Ctrl-C.
const LISTS_PER_SIGNAL_CHECK: usize = 1 << 10;

/// A list or a tuple.
enum Items<'a, 'py> {
    List(&'a Bound<'py, PyList>),
    Tuple(&'a Bound<'py, PyTuple>),
}

impl<'a, 'py> Items<'a, 'py> {
    fn of(object: &'a Bound<'py, PyAny>) -> Option<Self> {
        if let Ok(list) = object.cast::<PyList>() {
            return Some(Self::List(list));
        }
        object.cast::<PyTuple>().ok().map(Self::Tuple)
    }

    /// The number of items. A `__len__` of a derived class is not called.
    fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Tuple(tuple) => tuple.len(),
        }
    }

    /// An item. A `__getitem__` of a derived class is not called.
    fn get(&self, index: usize) -> PyResult<Bound<'py, PyAny>> {
        let item = match self {
            Self::List(list) => list.get_item(index),
            Self::Tuple(tuple) => tuple.get_item(index),
        };
        item.map_err(|error| match self {
            Self::List(list) if error.is_instance_of::<PyIndexError>(list.py()) => changed(),
            _ => error,
        })
    }
}

#[cold]
fn changed() -> PyErr {
    PyValueError::new_err("a list changed its size while it was read")
}

/// The numbers of nested lists, in row-major order.
pub(super) struct Numbers {
    pub(super) shape: Vec<i64>,
    pub(super) numbers: Vec<Number>,
    /// The kind of the mixture; `None` if there are no numbers.
    pub(super) kind: Option<Kind>,
    /// The element type of NumPy's scalars if all numbers are scalars of one type.
    pub(super) scalars: Option<DType>,
}

/// Whether `object` is a list or a tuple.
pub(super) fn is_nested(object: &Bound<'_, PyAny>) -> bool {
    Items::of(object).is_some()
}

/// Reads a number, or lists that are nested to equal depths and sizes.
pub(super) fn read(object: &Bound<'_, PyAny>) -> PyResult<Numbers> {
    let shape = shape_of(object)?;
    let numbers = Numbers { shape: Vec::new(), numbers: Vec::new(), kind: None, scalars: None };
    let mut reader = Reader { sizes: shape, indices: Vec::new(), lists: 0, read: numbers };
    reader.nested(object)?;
    let Reader { sizes, mut read, .. } = reader;
    read.shape = sizes.into_iter().map(|size| size as i64).collect();
    Ok(read)
}

/// The shape that the first items of the lists have.
fn shape_of(object: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let mut shape = Vec::new();
    let mut object = object.clone();
    loop {
        let Some(items) = Items::of(&object) else { return Ok(shape) };
        if shape.len() == MAX_LIST_DEPTH {
            return Err(PyValueError::new_err(format!(
                "lists are nested more than {MAX_LIST_DEPTH} deep"
            )));
        }
        shape.push(items.len());
        if items.len() == 0 {
            return Ok(shape);
        }
        let first = items.get(0)?;
        object = first;
    }
}

struct Reader {
    sizes: Vec<usize>,
    /// The indices of the item that is read.
    indices: Vec<usize>,
    /// Number of lists that were read.
    lists: usize,
    read: Numbers,
}

impl Reader {
    /// Reads the item at `indices`.
    fn nested(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let items = Items::of(object);
        let Some(&size) = self.sizes.get(self.indices.len()) else {
            return match items {
                None => self.number(object),
                Some(_) => Err(self.ragged("is a list", "a number")),
            };
        };
        let Some(items) = items else {
            return Err(match Number::read(object)? {
                Some(_) => self.ragged("is a number", "a list"),
                None => self.no_number(object),
            });
        };
        if items.len() != size {
            let found = format!("has {} items", items.len());
            return Err(self.ragged(&found, &size.to_string()));
        }
        self.lists += 1;
        if self.lists.is_multiple_of(LISTS_PER_SIGNAL_CHECK) {
            object.py().check_signals()?;
        }
        if self.indices.len() + 1 == self.sizes.len() {
            let reserved = self.read.numbers.try_reserve(size);
            reserved
                .map_err(|_| PyMemoryError::new_err("no memory for the numbers of the lists"))?;
        }
        for index in 0..size {
            self.indices.push(index);
            self.nested(&items.get(index)?)?;
            self.indices.pop();
        }
        if items.len() == size { Ok(()) } else { Err(changed()) }
    }

    fn number(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some((number, scalar)) = Number::read(object)? else {
            return Err(self.no_number(object));
        };
        let first = self.read.numbers.is_empty();
        self.read.scalars = scalar.filter(|_| first || self.read.scalars == scalar);
        self.read.kind = self.read.kind.max(Some(number.kind()));
        self.read.numbers.push(number);
        Ok(())
    }

    #[cold]
    fn ragged(&self, found: &str, expected: &str) -> PyErr {
        let (place, first) = (place(&self.indices), place(&vec![0; self.indices.len()]));
        PyValueError::new_err(format!("ragged lists: {place} {found}, {first} {expected}"))
    }

    #[cold]
    fn no_number(&self, object: &Bound<'_, PyAny>) -> PyErr {
        let name = object.get_type().fully_qualified_name();
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        let remedy = if object.hasattr("__dlpack__").unwrap_or(false)
            || object.hasattr("__array__").unwrap_or(false)
        {
            ": join arrays with numpy.stack() or torch.stack() first"
        } else if object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>() {
            ""
        } else if object.hasattr("__iter__").unwrap_or(false) {
            ": use list()"
        } else {
            ""
        };
        PyTypeError::new_err(format!(
            "{} is of type '{name}', not a number, list or tuple{remedy}",
            place(&self.indices)
        ))
    }
}

/// An item of the argument as an expression: `x[1][0]`.
pub(super) fn place(indices: &[usize]) -> String {
    let mut text = "x".to_owned();
    for index in indices {
        let _infallible = write!(text, "[{index}]");
    }
    text
}
