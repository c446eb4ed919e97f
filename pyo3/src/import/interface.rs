//! `__array_interface__` and `__cuda_array_interface__`: memory that a dictionary describes.
//! <https://numpy.org/doc/stable/reference/arrays.interface.html>
//! <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>

use std::ffi::c_void;
use std::ptr::with_exposed_provenance_mut;

use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::buffer;
use crate::byte_strides;
use crate::dtype;
use crate::error::buffer_error;
use crate::release::PyOwner;
use crate::stream::parse_stream;

/// Shares the memory that a dictionary of `object` describes; `None` if it has neither.
pub(super) fn share(object: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    let py = object.py();
    if let Some(interface) = object.getattr_opt(intern!(py, "__array_interface__"))? {
        return share_described(object, &interface.cast_into()?, |_| Ok(Device::CPU)).map(Some);
    }
    let Some(interface) = object.getattr_opt(intern!(py, "__cuda_array_interface__"))? else {
        return Ok(None);
    };
    let interface: Bound<'_, PyDict> = interface.cast_into()?;
    let stream = interface.get_item("stream")?.filter(|stream| !stream.is_none());
    if !interface.get_item("data")?.is_some_and(|data| data.is_instance_of::<PyTuple>()) {
        return Err(PyValueError::new_err(
            "the data of a CUDA array interface must be a tuple of address and read-only flag",
        ));
    }
    let tensor = share_described(object, &interface, |address| {
        // An array without elements has no address.
        let device = if address == 0 {
            Device::current_cuda()
        } else {
            Device::of_cuda_memory(pointer(address))
        };
        device.map_err(buffer_error)
    })?;
    // The producer may still be writing the memory on this stream.
    if let Some(stream) = stream
        && let Some(stream) = parse_stream(tensor.device(), &stream)?
    {
        tensor.wait_stream(&stream).map_err(buffer_error)?;
    }
    Ok(Some(tensor))
}

fn pointer(address: usize) -> *mut c_void {
    with_exposed_provenance_mut(address)
}

/// Shares the memory that `interface` describes. `locate` finds the device of an address.
fn share_described(
    object: &Bound<'_, PyAny>,
    interface: &Bound<'_, PyDict>,
    locate: impl FnOnce(usize) -> PyResult<Device>,
) -> PyResult<Tensor> {
    let described = Described::read(interface)?;
    let data = interface.get_item("data")?.filter(|data| !data.is_none());
    let Some(data) = data.as_ref().and_then(|data| data.cast::<PyTuple>().ok()) else {
        // The memory is the buffer of the object in `data`, or of the object itself.
        let exporter = data.as_ref().unwrap_or(object);
        let offset = interface.get_item("offset")?.filter(|offset| !offset.is_none());
        let offset = offset.map_or(Ok(0), |offset| offset.extract::<usize>())?;
        return buffer::from_bytes(
            exporter,
            described.dtype,
            false,
            described.layout,
            Some(offset),
        );
    };
    let (address, read_only) = data.extract::<(usize, Bound<'_, PyAny>)>()?;
    let read_only = read_only.is_truthy()?;
    let device = locate(address)?;
    let descriptor = described.at(pointer(address), device)?;
    // SAFETY: the owner must keep the memory that the descriptor describes, and writable unless
    // `data` says that it is read-only: the array interface demands it of `object`. No Rust view of
    // the memory is made in this crate.
    Ok(unsafe { Tensor::from_raw_parts(descriptor, !read_only, PyOwner::new(object)) })
}

/// The entries that both dictionaries have.
struct Described {
    layout: Layout,
    dtype: DType,
}

impl Described {
    fn read(interface: &Bound<'_, PyDict>) -> PyResult<Self> {
        let required = |key: &str| {
            let missing = || PyValueError::new_err(format!("the array interface has no '{key}'"));
            interface.get_item(key)?.ok_or_else(missing)
        };
        if interface.get_item("mask")?.is_some_and(|mask| !mask.is_none()) {
            return Err(PyBufferError::new_err("DLPack does not support masks"));
        }
        let shape: Vec<isize> = required("shape")?.extract()?;
        let typestr: String = required("typestr")?.extract()?;
        let (dtype, itemsize) = element_type(&typestr)?;
        let strides = interface.get_item("strides")?.filter(|strides| !strides.is_none());
        let layout = match strides {
            None => byte_strides::contiguous(&shape, dtype, itemsize)?,
            Some(strides) => {
                let strides = strides.extract::<Vec<isize>>()?;
                byte_strides::to_layout(&shape, &strides, dtype, itemsize)?
                    .ok_or_else(|| PyBufferError::new_err(byte_strides::UNEVEN))?
            }
        };
        Ok(Self { layout, dtype })
    }

    fn at(self, data: *mut c_void, device: Device) -> PyResult<Descriptor> {
        Descriptor::new(data, self.layout, self.dtype, device).map_err(buffer_error)
    }
}

/// Reads `typestr`, for example `<f4`: the element type and its size in bytes.
fn element_type(typestr: &str) -> PyResult<(DType, i64)> {
    let refused =
        || PyBufferError::new_err(format!("DLPack has no type for elements of type '{typestr}'"));
    let &[order, kind, ref size @ ..] = typestr.as_bytes() else { return Err(refused()) };
    // `parse` also takes a sign.
    let size = std::str::from_utf8(size)
        .ok()
        .filter(|size| size.bytes().all(|digit| digit.is_ascii_digit()))
        .and_then(|size| size.parse::<usize>().ok())
        .filter(|_| matches!(order, b'<' | b'>' | b'|' | b'='))
        .ok_or_else(refused)?;
    let swapped = if cfg!(target_endian = "little") { b'>' } else { b'<' };
    if order == swapped && size > 1 {
        return Err(PyBufferError::new_err(
            "DLPack only supports native byte order: use dlbridge.tensor(), which copies",
        ));
    }
    let dtype = dtype::from_kind(kind, size).ok_or_else(refused)?;
    Ok((dtype, i64::try_from(size).map_err(|_| refused())?))
}
