//! NumPy arrays, without linking NumPy: through their C struct, or through the struct that
//! `__array_struct__` shows.

use std::ffi::{c_int, c_void};

use dlbridge::{DType, Descriptor, Device, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::{base_buffer, capsule, proxy};
use crate::byte_strides;
use crate::dtype;
use crate::error::buffer_error;
use crate::known_types::NDARRAY;
use crate::numpy_asarray::numpy_asarray;
use crate::numpy_objects::{NumpyObjects, numpy_objects};
use crate::numpy_registry;
use crate::release::{ArrayOwner, BufferGuard, PyOwner, ensure_ready};

/// NumPy's `PyArrayInterface`, to which `__array_struct__` leads; unchanged since its first
/// version.
/// <https://numpy.org/doc/stable/reference/arrays.interface.html#c-struct-access>
#[repr(C)]
struct ArrayInterface {
    two: c_int,
    nd: c_int,
    typekind: u8, // a `char`, which has a sign on some platforms
    itemsize: c_int,
    flags: c_int,
    shape: *const isize,
    strides: *const isize,
    data: *mut c_void,
    descr: *mut ffi::PyObject,
}

const NATIVE_ORDER: c_int = 0x200;
const WRITABLE: c_int = 0x400;

/// Why an array cannot be shared. NumPy's exports and `torch.from_numpy` raise different exceptions
/// for the same reason.
pub(crate) enum Refused {
    DType(String),
    ByteOrder,
    Strides,
    Other(PyErr),
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self::Other(error)
    }
}

/// The remedy for elements of a type that DLPack does not have, as the end of an error message.
fn remedy(name: &str) -> &'static str {
    match name {
        "datetime64" | "timedelta64" => ": use array.view('int64')",
        "void" | "record" => ": share its fields one by one, e.g. array['a']",
        "longdouble" | "clongdouble" => ": use array.astype()",
        _ => "",
    }
}

impl Refused {
    /// The exception that `numpy.ndarray.__dlpack__` raises.
    pub(crate) fn into_export_error(self) -> PyErr {
        PyBufferError::new_err(match self {
            Self::DType(name) => {
                format!("DLPack has no type for elements of type numpy.{name}{}", remedy(&name))
            }
            Self::ByteOrder => "DLPack only supports native byte order: use \
                                array.astype(array.dtype.newbyteorder('=')), or \
                                dlbridge.tensor(array), which copies"
                .to_owned(),
            Self::Strides => byte_strides::UNEVEN.to_owned(),
            Self::Other(error) => return error,
        })
    }

    /// The exception for an array that was to be written. A remedy that copies would not help.
    pub(crate) fn into_write_error(self) -> PyErr {
        PyBufferError::new_err(match self {
            Self::ByteOrder => "DLPack only supports native byte order",
            Self::Strides => "DLPack only supports strides which are a multiple of itemsize",
            refused => return refused.into_export_error(),
        })
    }

    /// The exception that `torch.from_numpy` raises.
    pub(crate) fn into_conversion_error(self) -> PyErr {
        match self {
            Self::DType(name) => PyTypeError::new_err(format!(
                "can't convert np.ndarray of type numpy.{name}: DLPack has no such type{}",
                remedy(&name)
            )),
            Self::ByteOrder => PyValueError::new_err(
                "given numpy array has byte order different from the native byte order: use \
                 array.astype(array.dtype.newbyteorder('=')), or dlbridge.tensor(array), which \
                 copies",
            ),
            Self::Strides => PyValueError::new_err(
                "given numpy array strides not a multiple of the element byte size. Copy the numpy \
                 array to reallocate the memory: use array.copy(), or dlbridge.tensor(array), \
                 which copies",
            ),
            Self::Other(error) => error,
        }
    }
}

/// Shares the memory of an array.
#[inline]
pub(crate) fn share(array: &Bound<'_, PyAny>) -> Result<Tensor, Refused> {
    if NDARRAY.is_exact_type_of(array)
        && let Some(objects) = numpy_objects(array.py())
        && let Some(tensor) = share_fields(objects, array)?
    {
        return Ok(tensor);
    }
    share_shown(array)
}

/// Shares the memory of a `numpy.ndarray`, which must not be of a derived class. `None` if its
/// elements are not of a plain type in the machine's byte order.
#[inline(always)] // it has one caller, and a large result
fn share_fields(
    objects: &NumpyObjects,
    array: &Bound<'_, PyAny>,
) -> Result<Option<Tensor>, Refused> {
    // SAFETY: the array must be a `numpy.ndarray`, which the caller checked, and no Python code may
    // run before the last use of `elements`: the descriptor below copies the numbers, and until
    // then only arithmetic is done, or an exception is made and returned.
    let Some(elements) = (unsafe { objects.elements(array) }) else { return Ok(None) };
    let (dtype, writable) = (elements.dtype, elements.writable);
    let layout =
        byte_strides::to_layout(elements.shape, elements.strides, dtype, elements.itemsize)?;
    let layout = layout.ok_or(Refused::Strides)?;
    let descriptor = Descriptor::new(elements.data, layout, dtype, Device::CPU);
    let descriptor = descriptor.map_err(buffer_error)?;
    // SAFETY: the array must be a `numpy.ndarray`, which the caller checked.
    if unsafe { objects.foreign_base(array) }.is_some() {
        let (low, bytes) = descriptor.span();
        if let Some(guard) = base_buffer::hold(array, (low.addr(), bytes))? {
            return Ok(Some(share_held(descriptor, writable, guard)));
        }
    }
    Ok(Some(share_owned(descriptor, writable, array)))
}

/// Shares the memory of an array that `__array_struct__` shows.
fn share_shown(array: &Bound<'_, PyAny>) -> Result<Tensor, Refused> {
    let capsule = array.getattr(intern!(array.py(), "__array_struct__"))?;
    // SAFETY: the object must be alive, as a `Bound` is. NumPy's capsule has no name; for any other
    // object the result is NULL, with an exception.
    let shown = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), std::ptr::null()) };
    if shown.is_null() {
        return Err(PyErr::fetch(array.py()).into());
    }
    // SAFETY: the pointer must be that of a valid struct, which lives as long as the reference:
    // NumPy guarantees it for `__array_struct__`, and `capsule`, which owns the struct, outlives
    // `shown`.
    let shown = unsafe { &*shown.cast::<ArrayInterface>() };
    if shown.two != 2 {
        return Err(PyBufferError::new_err("__array_struct__ does not describe an array").into());
    }
    let (dtype, itemsize) = element_type(array, shown)?;
    let rank = usize::try_from(shown.nd).unwrap_or(0);
    let numbers = |start: *const isize| match rank {
        0 => &[],
        // SAFETY: there must be `rank` numbers at `start`: NumPy guarantees `nd` of each.
        _ => unsafe { std::slice::from_raw_parts(start, rank) },
    };
    let (shape, strides) = (numbers(shown.shape), numbers(shown.strides));
    let layout = byte_strides::to_layout(shape, strides, dtype, itemsize)?;
    let layout = layout.ok_or(Refused::Strides)?;
    let descriptor = Descriptor::new(shown.data, layout, dtype, Device::CPU)
        .and_then(|descriptor| if dtype.bits < 8 { descriptor.padded() } else { Ok(descriptor) });
    let descriptor = descriptor.map_err(buffer_error)?;
    let writable = shown.flags & WRITABLE != 0;
    let own = shows_own_memory(array, &capsule);
    if own {
        let (low, bytes) = descriptor.span();
        if let Some(guard) = base_buffer::hold(array, (low.addr(), bytes))? {
            return Ok(share_held(descriptor, writable, guard));
        }
    }
    if !own {
        // The capsule keeps the memory of another object.
        let owner = PyOwner::new(PyTuple::new(array.py(), [array, &capsule])?.as_any());
        // SAFETY: the owner must keep the memory alive, and writable if `writable`: it holds the
        // capsule, which holds the object whose memory it shows, and NumPy sets the flag. No Rust
        // view of the memory is made in this crate.
        return Ok(unsafe { Tensor::from_raw_parts(descriptor, writable, owner) });
    }
    Ok(share_owned(descriptor, writable, array))
}

/// Shares elements that `array` keeps.
#[inline(always)] // a descriptor is large
fn share_owned(elements: Descriptor, writable: bool, array: &Bound<'_, PyAny>) -> Tensor {
    let owner = ArrayOwner::new(array);
    // SAFETY: the owner must keep the memory alive, and writable if `writable`: the array does, as
    // NumPy refuses to resize it while there are references, unless the caller of `resize` passes
    // `refcheck=False`. No Rust view of the memory is made in this crate.
    unsafe { Tensor::from_raw_parts(elements, writable, owner) }
}

/// Shares elements in a buffer of which `guard` holds a view.
#[cold]
fn share_held(elements: Descriptor, writable: bool, guard: BufferGuard) -> Tensor {
    // SAFETY: the owner must keep the memory alive, and writable if `writable`: the caller checked
    // that the elements lie in the buffer, and NumPy that it may be written. No Rust view of the
    // memory is made in this crate.
    unsafe { Tensor::from_raw_parts(elements, writable, guard) }
}

/// Whether `capsule` shows the memory of `array` itself. An object of a derived class may show that
/// of another object.
#[inline]
fn shows_own_memory(array: &Bound<'_, PyAny>, capsule: &Bound<'_, PyAny>) -> bool {
    // The capsule's context is the object whose memory the capsule shows.
    // SAFETY: the object must be a capsule, which `share` checked.
    NDARRAY.is_exact_type_of(array)
        || unsafe { ffi::PyCapsule_GetContext(capsule.as_ptr()) } == array.as_ptr().cast()
}

/// The element type of an array, and its size in bytes.
fn element_type(array: &Bound<'_, PyAny>, shown: &ArrayInterface) -> Result<(DType, i64), Refused> {
    let size = usize::try_from(shown.itemsize).unwrap_or(0);
    let dtype = match dtype::from_kind(shown.typekind, size) {
        Some(dtype) => dtype,
        None => further_type(array, size)?,
    };
    if shown.flags & NATIVE_ORDER == 0 && size > 1 {
        return Err(Refused::ByteOrder);
    }
    Ok((dtype, i64::from(shown.itemsize)))
}

/// The element type of an array with elements of `size` bytes, whose dtype is one of ml_dtypes or
/// in NumPy's registry.
#[cold]
fn further_type(array: &Bound<'_, PyAny>, size: usize) -> Result<DType, Refused> {
    let py = array.py();
    let dtype = array.getattr(intern!(py, "dtype"))?;
    let class = dtype.getattr(intern!(py, "type"))?;
    let module: String = class.getattr(intern!(py, "__module__"))?.extract()?;
    let name: String = dtype.getattr(intern!(py, "name"))?.extract()?;
    // An array of a derived class may name another type than the one of its memory.
    let fits = |dtype: &DType| dtype.itemsize().unwrap_or(1) == size && dtype.lanes == 1;
    if module == "ml_dtypes"
        && let Some(dtype) = dtype::from_ml_dtypes(&name).filter(fits)
    {
        return Ok(dtype);
    }
    if let Some(capsule) = numpy_registry::export_of(&dtype)?
        && let Some(dtype) = Some(capsule::consume(&capsule)?.dtype()).filter(fits)
    {
        return Ok(dtype);
    }
    Err(Refused::DType(class.getattr(intern!(py, "__name__"))?.extract()?))
}

/// Shares an array: `dlbridge.from_numpy`.
pub(crate) fn from_numpy(array: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    ensure_ready(array.py())?;
    if NDARRAY.is_exact_type_of(array) {
        return share(array).map_err(Refused::into_conversion_error);
    }
    if let Some(target) = proxy::target_of(array)? {
        return from_numpy(&target);
    }
    if !NDARRAY.is_type_of(array) {
        let name = array.get_type().fully_qualified_name()?;
        return Err(PyTypeError::new_err(format!("expected np.ndarray (got {name})")));
    }
    refuse_mask(array)?;
    share(array).map_err(Refused::into_conversion_error)
}

/// Whether the `__dlpack__` of an array of a derived class is NumPy's own.
pub(super) fn has_own_dlpack(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = array.py();
    let Some((class, _)) = NDARRAY.look_up(py) else { return Ok(false) };
    let name = intern!(py, "__dlpack__");
    let Some(method) = class.getattr_opt(name)? else { return Ok(false) };
    Ok(array.get_type().getattr(name)?.is(&method))
}

/// Refuses a masked array with masked elements, because DLPack has no masks.
pub(super) fn refuse_mask(array: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(mask) = array.getattr_opt(intern!(array.py(), "mask"))? else { return Ok(()) };
    let Some(any) = mask.getattr_opt(intern!(array.py(), "any"))? else { return Ok(()) };
    if any.call0()?.is_truthy()? {
        return Err(PyBufferError::new_err(
            "DLPack does not support masks: use filled() or compressed()",
        ));
    }
    Ok(())
}

/// Shares the memory of an array that NumPy makes from a NumPy scalar, such as `numpy.float32(1)`.
pub(super) fn share_number(number: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    share(&numpy_asarray(number)?).map_err(Refused::into_export_error)
}
