//! Tensors of Python's numbers: of one number, or of nested lists and tuples.

#![forbid(unsafe_code)]

mod number;
mod reader;

use dlbridge::{DType, Element, Tensor};
use half::{bf16, f16};
use num_complex::Complex;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyComplex, PyFloat, PyInt};

use crate::error::buffer_error;
use crate::known_types::NUMPY_NUMBER;
use number::{FromNumber, Misfit, Number};
use reader::{Numbers, place};

/// Whether `object` is a number of Python, or a list or tuple.
pub(crate) fn is_numbers(object: &Bound<'_, PyAny>) -> bool {
    reader::is_nested(object)
        || ((object.is_instance_of::<PyInt>()
            || object.is_instance_of::<PyFloat>()
            || object.is_instance_of::<PyComplex>())
            && !NUMPY_NUMBER.is_type_of(object))
}

/// Whether `object` is a scalar of NumPy.
pub(crate) fn is_numpy_scalar(object: &Bound<'_, PyAny>) -> bool {
    NUMPY_NUMBER.is_type_of(object)
}

/// A new tensor of the numbers, on the host. Without `dtype`, the numbers determine it.
pub(crate) fn to_tensor(object: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Tensor> {
    let read = reader::read(object)?;
    let inferred = read.scalars.or(read.kind.map(number::Kind::dtype)).unwrap_or(DType::F64);
    let target = Target { dtype: dtype.unwrap_or(inferred), inferred: dtype.is_none() };
    match target.dtype {
        DType::BOOL => target.fill::<bool>(&read),
        DType::U8 => target.fill::<u8>(&read),
        DType::U16 => target.fill::<u16>(&read),
        DType::U32 => target.fill::<u32>(&read),
        DType::U64 => target.fill::<u64>(&read),
        DType::I8 => target.fill::<i8>(&read),
        DType::I16 => target.fill::<i16>(&read),
        DType::I32 => target.fill::<i32>(&read),
        DType::I64 => target.fill::<i64>(&read),
        DType::F16 => target.fill::<f16>(&read),
        DType::BF16 => target.fill::<bf16>(&read),
        DType::F32 => target.fill::<f32>(&read),
        DType::F64 => target.fill::<f64>(&read),
        DType::C64 => target.fill::<Complex<f32>>(&read),
        DType::C128 => target.fill::<Complex<f64>>(&read),
        dtype => Err(PyTypeError::new_err(format!(
            "can't make elements of type {dtype} from numbers: make an array of this type with \
             NumPy (and ml_dtypes) or PyTorch, and pass that"
        ))),
    }
}

/// The element type of the new tensor.
struct Target {
    dtype: DType,
    /// Whether the numbers determined it.
    inferred: bool,
}

impl Target {
    fn fill<T: Element + FromNumber>(&self, read: &Numbers) -> PyResult<Tensor> {
        let mut tensor = Tensor::zeros::<T>(&read.shape).map_err(buffer_error)?;
        let elements = tensor.as_slice_mut::<T>().map_err(buffer_error)?;
        for (index, (element, &number)) in elements.iter_mut().zip(&read.numbers).enumerate() {
            *element = T::from_number(number)
                .map_err(|misfit| self.misfit(misfit, number, index, &read.shape))?;
        }
        Ok(tensor)
    }

    #[cold]
    fn misfit(&self, misfit: Misfit, number: Number, index: usize, shape: &[i64]) -> PyErr {
        let (place, dtype) = (place(&unraveled(index, shape)), self.dtype);
        match misfit {
            Misfit::Range if self.inferred => PyOverflowError::new_err(format!(
                "{place} = {number} is out of range for {dtype}: pass dtype='uint64' or \
                 dtype='float64'"
            )),
            Misfit::Range => {
                PyOverflowError::new_err(format!("{place} = {number} is out of range for {dtype}"))
            }
            Misfit::Kind => PyTypeError::new_err(format!(
                "{place} = {number} can't be converted to {dtype}: pass dtype='{}'",
                number.kind().dtype()
            )),
        }
    }
}

/// The indices of an element whose row-major index is `index`.
fn unraveled(mut index: usize, shape: &[i64]) -> Vec<usize> {
    let mut indices = vec![0; shape.len()];
    for (place, &size) in indices.iter_mut().zip(shape).rev() {
        let size = usize::try_from(size).unwrap_or(1).max(1);
        *place = index % size;
        index /= size;
    }
    indices
}
