//! Pickles of tensors. With protocol 5, the elements are an out-of-band buffer and are not copied.
//! <https://peps.python.org/pep-0574/>

use dlbridge::{DType, Descriptor, Layout, Tensor};
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyTuple};

use crate::clone::clone;
use crate::error::buffer_error;
use crate::export::buffer::memoryview;
use crate::export_policy::share_read_only;
use crate::import;
use crate::tensor_object::TensorObject;
use crate::torch_owner::check_owner_address;

/// The second argument of `Tensor._rebuild`: code, bits and lanes of an element, whether it is
/// padded, shape and strides.
pub(crate) type Description = (u8, u8, u16, bool, Vec<i64>, Vec<i64>);

/// `Tensor.__reduce_ex__`.
pub(crate) fn reduce<'py>(
    tensor: &Bound<'py, TensorObject>,
    protocol: i32,
) -> PyResult<Bound<'py, PyTuple>> {
    let py = tensor.py();
    let this = tensor.get().tensor();
    check_owner_address(py, this)?;
    if !this.device().is_host() {
        return Err(PyBufferError::new_err(format!(
            "can't pickle memory on {}: use Tensor.cpu() first",
            this.device()
        )));
    }
    let copy;
    let (dense, bytes) = match bytes_of(this) {
        Some(bytes) => (this, bytes),
        None => {
            // A pickle must not contain the bytes between the elements, which belong to others.
            copy = TensorObject::new(clone(py, this)?);
            let bytes = bytes_of(copy.tensor())
                .ok_or_else(|| PyBufferError::new_err("can't see the elements as bytes"))?;
            (copy.tensor(), bytes)
        }
    };
    let constant = this.is_shared_read_only();
    let bytes = if constant { share_read_only(&bytes) } else { bytes };
    let bytes = TensorObject::new(bytes).into_bound(py)?.into_any();
    let bytes = if protocol >= 5 {
        let wrapper = py.import(intern!(py, "pickle"))?.getattr(intern!(py, "PickleBuffer"))?;
        wrapper.call1((bytes,))?
    } else if constant {
        PyBytes::type_object(py).call1((memoryview(&bytes)?,))?
    } else {
        PyByteArray::type_object(py).call1((memoryview(&bytes)?,))?
    };
    let DType { code, bits, lanes } = dense.dtype();
    let description: Description = (
        code,
        bits,
        lanes,
        dense.descriptor().is_padded(),
        dense.shape().to_vec(),
        dense.strides().to_vec(),
    );
    let rebuild = tensor.get_type().getattr(intern!(py, "_rebuild"))?;
    (rebuild, (bytes, description)).into_pyobject(py)
}

/// `Tensor._rebuild`: makes a tensor from a pickle. It shares the bytes that the unpickler passes.
pub(crate) fn rebuild(
    bytes: &Bound<'_, PyAny>,
    description: Description,
) -> PyResult<TensorObject> {
    let (code, bits, lanes, padded, shape, strides) = description;
    let dtype = DType { code, bits, lanes };
    if !dtype.is_known() {
        return Err(PyBufferError::new_err(format!("DLPack has no elements of type {dtype}")));
    }
    let layout = Layout::new(&shape, &strides).map_err(buffer_error)?;
    import::from_bytes(bytes, dtype, padded, layout, None).map(TensorObject::new)
}

/// The elements as plain bytes, the lowest first; `None` unless they lie one after the other in
/// some order.
fn bytes_of(tensor: &Tensor) -> Option<Tensor> {
    let (start, bytes) = tensor.descriptor().span();
    if bytes != tensor.nbytes() || tensor.layout().overlaps() {
        return None;
    }
    let layout = Layout::contiguous([i64::try_from(bytes).ok()?]).ok()?;
    let descriptor = Descriptor::new(start.cast(), layout, DType::U8, tensor.device()).ok()?;
    // SAFETY: the owner must keep the memory that the descriptor describes, and every byte must be
    // initialised: the span is the tensor's own, without bytes between its elements, and the owner
    // is another handle of the tensor.
    Some(unsafe {
        Tensor::from_raw_parts(descriptor, !tensor.is_shared_read_only(), tensor.share())
    })
}
