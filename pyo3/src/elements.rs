//! The elements of a [`PyTensor`]: copies, which are safe, and handles that read and write without
//! a copy on a guarantee of the caller.

use dlbridge::{Access, Element, Tensor};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::clone::{clone, detach_if_large};
use crate::error::buffer_error;
use crate::py_tensor::PyTensor;
use crate::raise::exception;

impl PyTensor {
    /// Copies the elements into a new `Vec`, in row-major order.
    ///
    /// Other Python threads run during a copy of 64 KiB or more.
    ///
    /// Raises TypeError if the element type is not `T`; BufferError if the memory is on another
    /// device, if PyTorch moved it, and for a byte that is no `bool`; and MemoryError. No text
    /// names the argument: [`Argument`](crate::Argument) checks type, rank and device, and does.
    ///
    /// ```
    /// use dlbridge_pyo3::PyTensor;
    /// use pyo3::prelude::*;
    ///
    /// #[pyfunction]
    /// fn largest(py: Python<'_>, x: PyTensor) -> PyResult<Option<u8>> {
    ///     Ok(x.to_vec(py)?.into_iter().max())
    /// }
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let bytes = pyo3::types::PyBytes::new(py, b"axb");
    /// # let largest = wrap_pyfunction!(largest, py)?.call1((bytes,))?;
    /// # assert_eq!(largest.extract::<u8>()?, b'x');
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn to_vec<T: Element>(&self, py: Python<'_>) -> PyResult<Vec<T>> {
        let tensor = self.tensor(py)?;
        detach_if_large(py, tensor, tensor, || tensor.to_vec::<T>()).map_err(exception)
    }

    /// Copies the elements into a new row-major `Array`.
    ///
    /// Raises as [`to_vec`](Self::to_vec), and ValueError if the rank is not that of `D`.
    ///
    /// ```
    /// use dlbridge_pyo3::PyTensor;
    /// use ndarray::Ix2;
    /// use pyo3::prelude::*;
    ///
    /// #[pyfunction]
    /// fn row_sums(py: Python<'_>, x: PyTensor) -> PyResult<PyTensor> {
    ///     let x = x.to_ndarray::<f64, Ix2>(py)?;
    ///     Ok(x.sum_axis(ndarray::Axis(1)).into())
    /// }
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = py.import("numpy")?.call_method1("ones", ((2, 3),))?;
    /// # let sums = wrap_pyfunction!(row_sums, py)?.call1((x,))?.call_method0("tolist")?;
    /// # assert_eq!(sums.extract::<Vec<f64>>()?, [3.0, 3.0]);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[cfg(feature = "ndarray")]
    pub fn to_ndarray<T, D>(&self, py: Python<'_>) -> PyResult<ndarray::Array<T, D>>
    where
        T: Element,
        D: ndarray::Dimension + dlbridge::ArrayDimension<Version = dlbridge::Ndarray0_17>,
    {
        let tensor = self.tensor(py)?;
        detach_if_large(py, tensor, tensor, || tensor.to_ndarray::<T, D>()).map_err(exception)
    }

    /// Copies the elements into a new tensor, which only Rust reaches.
    ///
    /// The copy keeps the order of the strides and closes gaps. It is
    /// [`Access::Exclusive`](dlbridge::Access): safe code reads and writes it without a further
    /// copy. Memory of a CUDA device is copied on that device.
    ///
    /// Raises BufferError if PyTorch moved the memory, and for devices that dlbridge cannot copy
    /// from; MemoryError; and RuntimeError if CUDA reports a failure.
    ///
    /// ```
    /// use dlbridge_pyo3::{OrRaise, PyTensor};
    /// use pyo3::prelude::*;
    ///
    /// #[pyfunction]
    /// fn doubled(py: Python<'_>, x: PyTensor) -> PyResult<PyTensor> {
    ///     let mut copy = x.deep_clone(py)?;
    ///     // Other Python threads run meanwhile. They do not reach the copy.
    ///     py.detach(|| {
    ///         copy.as_ndarray_mut::<f32, ndarray::IxDyn>().map(|mut all| all *= 2.0).or_raise()
    ///     })?;
    ///     Ok(copy.into())
    /// }
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = py.import("torch")?.call_method1("ones", (2,))?;
    /// # let doubled = wrap_pyfunction!(doubled, py)?.call1((x,))?.call_method0("tolist")?;
    /// # assert_eq!(doubled.extract::<Vec<f32>>()?, [2.0, 2.0]);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn deep_clone(&self, py: Python<'_>) -> PyResult<Tensor> {
        clone(py, self.tensor(py)?)
    }

    /// Returns a handle of which safe code may make views. Nothing is copied.
    ///
    /// The handle is [`Access::ReadOnly`](dlbridge::Access). It keeps the memory alive.
    ///
    /// Raises BufferError if PyTorch moved the memory since it was shared.
    ///
    /// ```
    /// use dlbridge_pyo3::{OrRaise, PyTensor};
    /// use pyo3::prelude::*;
    ///
    /// /// The sum. No other thread may write `x` during the call.
    /// #[pyfunction]
    /// fn sum(py: Python<'_>, x: PyTensor) -> PyResult<f32> {
    ///     // SAFETY: the documentation of this function forbids writes and moves during the call.
    ///     let x = unsafe { x.assume_read_only(py)? };
    ///     let all = x.as_slice::<f32>().or_raise()?;
    ///     Ok(py.detach(|| all.iter().sum())) // other Python threads run meanwhile
    /// }
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = py.import("torch")?.call_method1("ones", (5,))?;
    /// # assert_eq!(wrap_pyfunction!(sum, py)?.call1((x,))?.extract::<f32>()?, 5.0);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Safety
    /// Until the returned tensor, and all that is made from it, is dropped:
    ///
    /// * No code writes a byte of the memory, from the lowest to the highest element: no other
    ///   thread of Python or of a library, and no Python code that this thread calls.
    /// * PyTorch does not move the memory (see the [limits](Self#limits)).
    ///
    /// The caller of a Python function cannot be forced to keep this promise, so the author
    /// documents it, as NumPy and PyTorch do for their own functions.
    pub unsafe fn assume_read_only(&self, py: Python<'_>) -> PyResult<Tensor> {
        let tensor = self.tensor(py)?;
        if !matches!(tensor.access(), Access::Aliased { .. }) {
            return Ok(tensor.share());
        }
        // SAFETY: no other code must write the memory while a view exists: the caller guarantees
        // it.
        let handle = unsafe { with_own_state(tensor, false) };
        // SAFETY: the memory must not be written until the handle's owner is dropped. That owner
        // was made for this handle alone, and the caller guarantees it until the handle and all
        // that is made from it are dropped.
        unsafe { handle.assume_read_only() }.map_err(buffer_error)
    }

    /// Returns a handle that safe code may read and write. Nothing is copied.
    ///
    /// The handle is [`Access::Exclusive`](dlbridge::Access). It keeps the memory alive.
    ///
    /// Raises ValueError for memory that is read-only, or that another handle of Rust may view; and
    /// BufferError if PyTorch moved the memory since it was shared.
    ///
    /// ```
    /// use dlbridge_pyo3::{OrRaise, PyTensor};
    /// use pyo3::prelude::*;
    ///
    /// /// Doubles `x` in place. No other thread may use `x` during the call.
    /// #[pyfunction]
    /// fn double_(py: Python<'_>, x: PyTensor) -> PyResult<()> {
    ///     // SAFETY: the documentation of this function forbids any use during the call.
    ///     let mut x = unsafe { x.assume_exclusive(py)? };
    ///     let all = x.as_slice_mut::<f32>().or_raise()?;
    ///     py.detach(|| all.iter_mut().for_each(|value| *value *= 2.0));
    ///     Ok(())
    /// }
    /// # fn main() -> PyResult<()> {
    /// # Python::attach(|py| {
    /// # let x = py.import("torch")?.call_method1("ones", (2,))?;
    /// # wrap_pyfunction!(double_, py)?.call1((&x,))?;
    /// # assert_eq!(x.call_method0("tolist")?.extract::<Vec<f32>>()?, [2.0, 2.0]);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Safety
    /// Until the returned tensor, and all that is made from it, is dropped:
    ///
    /// * No other code reads or writes a byte of the memory, from the lowest to the highest
    ///   element: no other thread of Python or of a library, no Python code that this thread calls,
    ///   and no other handle, such as `self`.
    /// * PyTorch does not move the memory (see the [limits](Self#limits)).
    pub unsafe fn assume_exclusive(&self, py: Python<'_>) -> PyResult<Tensor> {
        let tensor = self.tensor(py)?;
        // Exclusive memory with several handles is read-only for Python: another handle of Rust may
        // have a view of it.
        let viewed = tensor.access() == Access::Exclusive && !tensor.is_unique();
        if tensor.is_read_only() || viewed {
            return Err(PyValueError::new_err("the memory is read-only: write to a copy instead"));
        }
        // SAFETY: no other code must write the memory while a view exists: the caller guarantees
        // it.
        let handle = unsafe { with_own_state(tensor, true) };
        // SAFETY: only this handle must reach the memory until its owner is dropped. That owner was
        // made for this handle alone, and the caller guarantees it until the handle and all that is
        // made from it are dropped.
        unsafe { handle.assume_exclusive() }.map_err(buffer_error)
    }
}

/// Another handle to the memory of `tensor`, with an access state of its own.
///
/// # Safety
/// * As for `Tensor::from_raw_parts`: no other code writes the memory while a view made from the
///   handle exists.
unsafe fn with_own_state(tensor: &Tensor, writable: bool) -> Tensor {
    // SAFETY: the descriptor must describe initialised memory that the owner keeps: it is the
    // tensor's own, and the owner is another handle of the tensor. The caller guarantees that no
    // other code writes the memory.
    unsafe { tensor.share_as_unchecked(tensor.descriptor().clone(), writable, tensor.share()) }
}
