//! Results as arrays of the caller's library.

#![forbid(unsafe_code)]

use dlbridge::{MemoryFormat, Tensor};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;

use crate::clone::clone;
use crate::copies::{fill, new_ndarray, to_library_of};
use crate::export::{numpy, torch};
use crate::export_policy::StrideClass;
use crate::known_types::{NDARRAY, NUMPY_NUMBER, TORCH_TENSOR};
use crate::py_tensor::PyTensor;
use crate::tensor_object::TensorObject;

/// Converts `result` to an array of the library of `original`: NumPy in, NumPy out.
///
/// | `original` | the result | its memory |
/// |---|---|---|
/// | an array or a scalar of NumPy | `numpy.ndarray` | a copy, which NumPy owns and may resize |
/// | `torch.Tensor` | `torch.Tensor` | shared; PyTorch refuses to make it larger (`resize_`) |
/// | an array with `__array_namespace__`: JAX, CuPy, array_api_strict, … | what `from_dlpack` of the namespace makes | as that library decides |
/// | another object with `__dlpack__` | what `from_dlpack` of its top-level module makes; an object of [`PyTensor`]'s class if there is none | as that library decides |
/// | an object with the buffer protocol: `bytes`, `array.array`, … | `memoryview` | shared |
/// | anything else | an object of [`PyTensor`]'s class | shared |
///
/// * A derived class gives an array of the plain class: only its author knows how to make one of
///   the derived class. A result of PyTorch does not require gradient.
/// * Strides are kept. PyTorch has no negative strides, so a result with negative strides is
///   copied, except for NumPy's copy, which is dense, too.
/// * Memory that is read-only for Python, because another handle of Rust may view it, is copied for
///   PyTorch, and for a library that refuses it. A `memoryview` or an object of the class is
///   read-only then.
/// * The result is on the device on which `result` is, not on that of `original`.
///
/// For NumPy, the copy costs one read and one write of the result. To return the memory itself,
/// return a [`PyTensor`]: `numpy.asarray` shares it, but cannot resize it.
///
/// Raises TypeError for an element type that the library does not have, and for NumPy if the memory
/// is on another device; BufferError if PyTorch moved the memory; and what the library's
/// `from_dlpack` raises.
///
/// ```
/// use dlbridge_pyo3::{Argument, like};
/// use ndarray::IxDyn;
/// use pyo3::prelude::*;
///
/// #[pyfunction]
/// fn square_root<'py>(py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
///     let values = Argument::named("x").on_host().get(x)?.to_ndarray::<f32, IxDyn>(py)?;
///     like(x, values.sqrt())
/// }
/// # fn main() -> PyResult<()> {
/// # Python::attach(|py| {
/// # let square_root = wrap_pyfunction!(square_root, py)?;
/// # let four = (4.0_f32,);
/// # let classes = [("torch", "Tensor"), ("jax.numpy", "ArrayImpl"), ("numpy", "ndarray")];
/// # for (module, class) in classes {
/// #     let float32 = py.import(module)?.getattr("float32")?;
/// #     let options = pyo3::types::PyDict::new(py);
/// #     options.set_item("dtype", float32)?;
/// #     let make = if module == "torch" { "tensor" } else { "asarray" };
/// #     let x = py.import(module)?.call_method(make, (four,), Some(&options))?;
/// #     let root = square_root.call1((x,))?;
/// #     assert_eq!(root.get_type().name()?.to_string(), class);
/// #     assert_eq!(root.call_method0("tolist")?.extract::<Vec<f32>>()?, [2.0]);
/// # }
/// # Ok(())
/// # })
/// # }
/// ```
pub fn like<'py>(
    original: &Bound<'py, PyAny>,
    result: impl Into<PyTensor>,
) -> PyResult<Bound<'py, PyAny>> {
    like_tensor(original, result.into().into_tensor(original.py())?)
}

fn like_tensor<'py>(original: &Bound<'py, PyAny>, result: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let py = original.py();
    if NDARRAY.is_type_of(original) || NUMPY_NUMBER.is_type_of(original) {
        return owned_by_numpy(py, result);
    }
    let of_torch = TORCH_TENSOR.is_type_of(original);
    let object = |tensor| TensorObject::new(tensor).into_bound(py);
    // PyTorch has no negative strides and no read-only memory.
    let negative = StrideClass::of(&result) == StrideClass::Negative;
    let shared = object(if negative { clone(py, &result)? } else { result })?;
    let read_only = shared.get().tensor().is_shared_read_only();
    if of_torch {
        let writable = if read_only { object(clone(py, shared.get().tensor())?)? } else { shared };
        return torch::to_torch(&writable);
    }
    match to_library_of(original, shared.clone()) {
        Err(error) if read_only && error.is_instance_of::<PyBufferError>(py) => {
            to_library_of(original, object(clone(py, shared.get().tensor())?)?)
        }
        converted => converted,
    }
}

/// Copies `tensor` into a new NumPy array, which owns its memory.
fn owned_by_numpy(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
    let shared = TensorObject::new(tensor).into_bound(py)?;
    let new = new_ndarray(&numpy::to_numpy(&shared)?, MemoryFormat::Preserve)?;
    fill(&new, shared.get().tensor())?;
    Ok(new)
}
