//! dlbridge for Python. What users see of it is described in `package/dlbridge/__init__.pyi`.
//!
//! Everything here works on raw pointers: Python aliases freely, so memory is foreign from birth, and no Rust
//! view of it is ever made.

// Refusals give the source back, and a tensor's layout is stored inline.
#![allow(clippy::result_large_err)]

mod buffer;
mod capsule;
mod copies;
mod cuda_array_interface;
mod device;
mod dtype;
mod error;
mod exchange;
mod export;
mod import;
mod layout;
mod library;
mod list;
mod method;
mod numpy;
mod owner;
mod pickle;
mod tensor;
mod torch;

use dlbridge::MemoryFormat;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use tensor::PyTensor;

/// Shares the memory of any array.
///
/// Takes anything with `__dlpack__`, old or new, with the buffer protocol (bytes, memoryview, array.array, mmap),
/// with `__array_interface__` or `__cuda_array_interface__`, and DLPack capsules. Read-only memory stays read-only.
///
/// With `device`, memory elsewhere is copied there, by the producer or by dlbridge. `copy=True` copies in any case,
/// and `copy=False` raises ValueError where sharing would need a copy.
///
/// Raises BufferError for what cannot be shared, for example tensors that require gradient, elements of no DLPack
/// type, or strides that are no multiple of the element's size, and AttributeError for objects that are not arrays.
#[pyfunction]
#[pyo3(signature = (x, /, *, device = None, copy = None))]
fn from_dlpack(
    x: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    import::from_dlpack(x, device, copy).map(PyTensor::new)
}

/// Shares the memory of a NumPy array, read-only if the array is. Strides may be negative or zero.
///
/// Raises TypeError for anything but an array, and for element types that DLPack does not have; ValueError for
/// strides that are no multiple of the element's size, and for a byte order that is not the machine's; BufferError
/// for a masked array of which elements are masked.
#[pyfunction]
#[pyo3(signature = (array, /))]
fn from_numpy(array: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    numpy::from_numpy(array).map(PyTensor::new)
}

/// Copies any array that `from_dlpack` takes into new memory that may be written.
///
/// The order of its strides is kept, and gaps are closed; memory of a CUDA device is copied there. Raises TypeError for
/// objects that are not arrays, lists among them, and BufferError as `from_dlpack` does.
#[pyfunction]
#[pyo3(name = "tensor", signature = (x, /))]
fn copied(x: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let py = x.py();
    let shared = import::share(x).map_err(|error| {
        if !error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py) {
            return error;
        }
        let class =
            x.get_type().fully_qualified_name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!(
            "expected an array of any library, got '{class}': numpy.array() makes one"
        ))
    })?;
    copies::clone(py, &shared).map(PyTensor::new)
}

/// Copies any array into a new one of the same library; the order of its strides is kept, and gaps are closed.
///
/// NumPy and PyTorch own the new memory; of a derived class it is a plain array. Other libraries share the memory
/// with this one through their own `from_dlpack`; an object that has only the buffer protocol gives a memoryview,
/// any other a Tensor.
///
/// Raises BufferError and AttributeError as `from_dlpack` does.
#[pyfunction]
#[pyo3(signature = (x, /))]
fn clone<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    copies::copy_of(x, MemoryFormat::Preserve)
}

/// The array itself when its elements lie in row-major order; otherwise a copy that does.
///
/// The copy is a new array of the same library, as `clone` makes it.
#[pyfunction]
#[pyo3(signature = (x, /))]
fn contiguous<'py>(x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    copies::contiguous(x)
}

/// Copies the elements of one array into another of the same shape and element type, of whatever libraries.
///
/// Any strides will do, also where both reach into the same memory. Nothing is broadcast or cast, and nothing
/// between the elements of `dst` is touched. Across devices too: a `dst` on a CUDA device is complete in the order of
/// its legacy default stream.
///
/// Raises ValueError for other shapes or types, for read-only memory, and for a `dst` whose elements share memory.
#[pyfunction]
#[pyo3(signature = (dst, src, /))]
fn copyto(dst: &Bound<'_, PyAny>, src: &Bound<'_, PyAny>) -> PyResult<()> {
    copies::copy_to(dst, src)
}

/// One tensor buffer, many runtimes, no copies unless you ask.
#[pymodule(gil_used = true)]
mod _dlbridge {
    #[pymodule_export]
    use super::owner::_close;
    #[pymodule_export]
    use super::pickle::_rebuild;
    #[pymodule_export]
    use super::{PyTensor, clone, contiguous, copied, copyto, from_dlpack, from_numpy};

    use pyo3::exceptions::PyImportError;
    use pyo3::ffi;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        // SAFETY: attached, so there is a current interpreter.
        let interpreter = unsafe { ffi::PyInterpreterState_Get() };
        // SAFETY: an interpreter that lives.
        if unsafe { ffi::PyInterpreterState_GetID(interpreter) } != 0 {
            // Deleters attach to the main interpreter; in another they would wait for each other.
            return Err(PyImportError::new_err("dlbridge can't be used in subinterpreters"));
        }
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::method::install(&py.get_type::<super::PyTensor>())?;
        py.import("atexit")?.call_method1("register", (module.getattr("_close")?,))?;
        Ok(())
    }
}
