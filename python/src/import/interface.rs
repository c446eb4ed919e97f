//! `__array_interface__` and `__cuda_array_interface__`: memory that a dictionary describes.
//! <https://numpy.org/doc/stable/reference/arrays.interface.html>
//! <https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html>

use std::ffi::{CStr, c_int, c_void};
use std::ptr::with_exposed_provenance_mut;

use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::buffer;
use crate::dtype;
use crate::error::buffer_error;
use crate::layout;
use crate::owner::Owner;

/// Shares memory that an object describes so; `None` when it does not.
pub(super) fn share(object: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    let py = object.py();
    if let Some(interface) = object.getattr_opt(intern!(py, "__array_interface__"))? {
        return share_described(object, &interface.cast_into()?, |_, _| Ok(Device::CPU)).map(Some);
    }
    if let Some(interface) = object.getattr_opt(intern!(py, "__cuda_array_interface__"))? {
        return share_described(object, &interface.cast_into()?, cuda::wait_for).map(Some);
    }
    Ok(None)
}

/// `locate` finds the device of an address, and waits for whoever writes there.
fn share_described(
    object: &Bound<'_, PyAny>,
    interface: &Bound<'_, PyDict>,
    locate: impl FnOnce(&Bound<'_, PyDict>, usize) -> PyResult<Device>,
) -> PyResult<Tensor> {
    let described = Described::read(interface)?;
    let data = interface.get_item("data")?.filter(|data| !data.is_none());
    let Some(data) = data.as_ref().and_then(|data| data.cast::<PyTuple>().ok()) else {
        // The memory is the buffer of another object, or its own.
        let lender = data.as_ref().unwrap_or(object);
        let offset = interface.get_item("offset")?.filter(|offset| !offset.is_none());
        let offset = offset.map_or(Ok(0), |offset| offset.extract::<usize>())?;
        return buffer::from_bytes(lender, described.dtype, false, described.layout, Some(offset));
    };
    let (address, read_only) = data.extract::<(usize, Bound<'_, PyAny>)>()?;
    let read_only = read_only.is_truthy()?;
    let device = locate(interface, address)?;
    let descriptor = described.at(with_exposed_provenance_mut::<c_void>(address), device)?;
    // SAFETY: the object describes memory that it keeps, and says whether it may be written. No Rust view is ever
    // made here.
    Ok(unsafe { Tensor::from_raw_parts(descriptor, !read_only, Owner::new(object)) })
}

/// What both dictionaries say alike.
struct Described {
    layout: Layout,
    dtype: DType,
}

impl Described {
    fn read(interface: &Bound<'_, PyDict>) -> PyResult<Self> {
        let wanted = |key: &str| {
            let missing = || PyValueError::new_err(format!("an array interface says its {key}"));
            interface.get_item(key)?.ok_or_else(missing)
        };
        if interface.get_item("mask")?.is_some_and(|mask| !mask.is_none()) {
            return Err(PyBufferError::new_err("DLPack has no masks"));
        }
        let shape: Vec<isize> = wanted("shape")?.extract()?;
        let typestr: String = wanted("typestr")?.extract()?;
        let (dtype, itemsize) = element_type(&typestr)?;
        let strides = interface.get_item("strides")?.filter(|strides| !strides.is_none());
        let layout = match strides {
            None => {
                let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
                Layout::contiguous(&shape).map_err(buffer_error)?
            }
            Some(strides) => layout::of_bytes(&shape, &strides.extract::<Vec<isize>>()?, itemsize)?
                .ok_or_else(|| PyBufferError::new_err(layout::UNEVEN))?,
        };
        Ok(Self { layout, dtype })
    }

    fn at(self, data: *mut c_void, device: Device) -> PyResult<Descriptor> {
        Descriptor::new(data, self.layout, self.dtype, device).map_err(buffer_error)
    }
}

/// Reads `<f4` and the like.
fn element_type(typestr: &str) -> PyResult<(DType, i64)> {
    let refused = || PyBufferError::new_err(format!("DLPack has no type for elements of type '{typestr}'"));
    let &[order, kind, ref size @ ..] = typestr.as_bytes() else { return Err(refused()) };
    let size =
        std::str::from_utf8(size).ok().and_then(|size| size.parse::<usize>().ok()).ok_or_else(refused)?;
    let foreign = if cfg!(target_endian = "little") { b'>' } else { b'<' };
    if order == foreign && size > 1 {
        return Err(PyBufferError::new_err("DLPack only supports native byte order"));
    }
    let dtype = dtype::from_kind(kind, size).ok_or_else(refused)?;
    Ok((dtype, i64::try_from(size).map_err(|_| refused())?))
}

/// The little that is needed of CUDA's driver, which whoever has memory on a device has loaded.
mod cuda {
    use super::*;

    /// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`.
    const DEVICE_ORDINAL: c_int = 9;

    type PointerGetAttribute = unsafe extern "C" fn(*mut c_void, c_int, u64) -> c_int;
    type StreamSynchronize = unsafe extern "C" fn(*mut c_void) -> c_int;

    /// Finds the device of an address, and waits for the stream that the interface names.
    pub(super) fn wait_for(interface: &Bound<'_, PyDict>, address: usize) -> PyResult<Device> {
        let mut index = 0;
        if address != 0 {
            let get = function(c"cuPointerGetAttribute")?;
            // SAFETY: the driver's function of this name has this type.
            let get = unsafe { std::mem::transmute::<*mut c_void, PointerGetAttribute>(get) };
            // SAFETY: room for the number that the driver gives for this attribute; it knows or refuses the address.
            succeeded("cuPointerGetAttribute", unsafe {
                get((&raw mut index).cast(), DEVICE_ORDINAL, address as u64)
            })?;
        }
        let stream = interface.get_item("stream")?.filter(|stream| !stream.is_none());
        if let Some(stream) = stream {
            let stream: usize = stream.extract()?;
            if stream == 0 {
                return Err(PyValueError::new_err(
                    "0 is no stream of a CUDA array interface: 1 and 2 are the defaults",
                ));
            }
            let wait = function(c"cuStreamSynchronize")?;
            // SAFETY: the driver's function of this name has this type.
            let wait = unsafe { std::mem::transmute::<*mut c_void, StreamSynchronize>(wait) };
            // SAFETY: the object names a stream of its own, or one of the driver's two defaults.
            let waited = interface.py().detach(|| unsafe { wait(with_exposed_provenance_mut(stream)) });
            succeeded("cuStreamSynchronize", waited)?;
        }
        Ok(Device::cuda(index))
    }

    fn succeeded(function: &str, status: c_int) -> PyResult<()> {
        if status == 0 {
            Ok(())
        } else {
            Err(PyBufferError::new_err(format!("{function} gave CUDA's error {status}")))
        }
    }

    /// A function of the driver, if it is loaded.
    fn function(name: &CStr) -> PyResult<*mut c_void> {
        // SAFETY: a string; nothing is loaded that is not loaded already.
        let driver = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if driver.is_null() {
            return Err(PyBufferError::new_err(
                "CUDA's driver is not loaded, so memory on a device can't be located",
            ));
        }
        // SAFETY: a library that is loaded, and stays so: the reference is kept for ever.
        let function = unsafe { libc::dlsym(driver, name.as_ptr()) };
        if function.is_null() {
            return Err(PyBufferError::new_err(format!("CUDA's driver has no {}", name.to_string_lossy())));
        }
        Ok(function)
    }
}
