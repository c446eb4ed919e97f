//! The fields of a `numpy.ndarray`, read from its C struct, without calls of NumPy.
//!
//! Extension modules that are compiled against NumPy's headers read the same fields: the functions
//! `PyArray_DATA`, `PyArray_DIMS` and others are inline. So NumPy keeps these fields where they are
//! within a major version. The element type is recognised by the address of the array's dtype
//! object, because NumPy has one object for each plain type.
//! <https://numpy.org/doc/stable/reference/c-api/types-and-structures.html#c.PyArrayObject>
//!
//! `find_out` compares the fields of sample arrays with NumPy's Python attributes. If they differ,
//! or NumPy has another major version, the arrays are read through `__array_struct__`.

use std::ffi::{c_char, c_int, c_void};
use std::mem::size_of;
use std::ptr::null_mut;
use std::slice;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use dlbridge::DType;
use pyo3::Borrowed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::dtype;
use crate::known_types::NDARRAY;

/// The fields of NumPy's `PyArrayObject_fields` that are read.
#[repr(C)]
struct Fields {
    head: ffi::PyObject,
    data: *mut c_char,
    nd: c_int,
    dimensions: *const isize,
    strides: *const isize,
    base: *mut ffi::PyObject,
    descr: *mut ffi::PyObject,
    flags: c_int,
}

/// NumPy's major version for which the layout of the struct was checked.
const MAJOR_VERSION: &str = "2.";

/// NumPy's flag for an array that may be written.
const WRITABLE: c_int = 0x400;
/// NumPy's flag for an array that may be written, but will not be in a later version. NumPy exports
/// it as read-only.
const WARN_ON_WRITE: c_int = c_int::MIN;

/// Codes of the element types that NumPy and DLPack have, the most frequent first.
const CODES: [&str; 16] =
    ["f", "d", "l", "i", "B", "?", "e", "b", "h", "H", "I", "L", "q", "Q", "F", "D"];

/// A plain element type.
struct ElementType {
    /// NumPy's dtype object. A reference to it is leaked, so that its address is never reused.
    object: *mut ffi::PyObject,
    dtype: DType,
    itemsize: i64,
}

/// How to read NumPy's arrays.
pub(crate) struct NumpyObjects {
    types: Vec<ElementType>,
}

/// The result of `find_out`, or NULL. It is never freed.
static OBJECTS: AtomicPtr<NumpyObjects> = AtomicPtr::new(null_mut());

/// Number of attempts of `find_out` that are left.
static TRIES: AtomicI32 = AtomicI32::new(8);

/// What an array says of its elements.
pub(crate) struct Elements<'a> {
    pub(crate) data: *mut c_void,
    pub(crate) shape: &'a [isize],
    /// In bytes.
    pub(crate) strides: &'a [isize],
    pub(crate) dtype: DType,
    pub(crate) itemsize: i64,
    pub(crate) writable: bool,
}

/// How to read NumPy's arrays; `None` if their layout is not as expected.
#[inline]
pub(crate) fn numpy_objects(py: Python<'_>) -> Option<&'static NumpyObjects> {
    let known = OBJECTS.load(Ordering::Acquire);
    // SAFETY: the pointer must be NULL or that of a value that is never freed: `find_out` stores
    // only those.
    let known = unsafe { known.as_ref() };
    known.or_else(|| find_out(py))
}

#[cold]
fn find_out(py: Python<'_>) -> Option<&'static NumpyObjects> {
    if TRIES.load(Ordering::Relaxed) <= 0 {
        return None;
    }
    TRIES.fetch_sub(1, Ordering::Relaxed);
    let objects: &_ = Box::leak(Box::new(NumpyObjects::find_out(py).ok()??));
    OBJECTS.store(std::ptr::from_ref(objects).cast_mut(), Ordering::Release);
    Some(objects)
}

/// The struct of an array.
///
/// # Safety
/// * `array` is a `numpy.ndarray`, or of a derived class.
#[inline]
unsafe fn fields<'a>(array: &'a Bound<'_, PyAny>) -> &'a Fields {
    // SAFETY: the object must begin with the struct and stay as it is during the borrow:
    // `NumpyObjects::find_out` checked the first for NumPy's class, and only code that is attached
    // to the interpreter changes an array, which the callers do not run meanwhile.
    unsafe { &*array.as_ptr().cast::<Fields>() }
}

impl NumpyObjects {
    /// What `array` says of its elements; `None` if its elements are not of a plain type in the
    /// machine's byte order. The result is valid until Python code runs.
    ///
    /// # Safety
    /// * `array` is a `numpy.ndarray`, and not of a derived class.
    /// * No Python code runs while the result is used.
    #[inline]
    pub(crate) unsafe fn elements<'a>(&self, array: &'a Bound<'_, PyAny>) -> Option<Elements<'a>> {
        // SAFETY: `array` must be a `numpy.ndarray`: this function's contract says so.
        let fields = unsafe { fields(array) };
        let element = self.types.iter().find(|element| element.object == fields.descr)?;
        let rank = usize::try_from(fields.nd).ok()?;
        let numbers = |start: *const isize| match rank {
            0 => &[],
            // SAFETY: there must be `rank` numbers at `start`, which do not change meanwhile: NumPy
            // keeps `nd` sizes and `nd` strides, and changes them only in code that is attached to
            // the interpreter, which does not run, as this function's contract says.
            _ => unsafe { slice::from_raw_parts(start, rank) },
        };
        Some(Elements {
            data: fields.data.cast::<c_void>(),
            shape: numbers(fields.dimensions),
            strides: numbers(fields.strides),
            dtype: element.dtype,
            itemsize: element.itemsize,
            writable: fields.flags & (WRITABLE | WARN_ON_WRITE) == WRITABLE,
        })
    }

    /// The object that keeps the memory of `array`, if it is not a `numpy.ndarray` itself: the base
    /// of its base, and so on. An array of a derived class counts as another object.
    ///
    /// # Safety
    /// * `array` is a `numpy.ndarray`, and not of a derived class.
    #[inline]
    pub(crate) unsafe fn foreign_base<'a, 'py>(
        &self,
        array: &'a Bound<'py, PyAny>,
    ) -> Option<Borrowed<'a, 'py, PyAny>> {
        let mut array = array.as_borrowed();
        loop {
            // SAFETY: `array` must be a `numpy.ndarray`: this function's contract says so of the
            // first one, and the class of each later one is checked below.
            let base = unsafe { fields(&array) }.base;
            // SAFETY: the object must be alive, or NULL: an array holds a reference to its base,
            // and the caller to the first array.
            let base = unsafe { Borrowed::from_ptr_or_opt(array.py(), base) }?;
            if !NDARRAY.is_exact_type_of(&base) {
                return Some(base);
            }
            array = base;
        }
    }

    fn find_out(py: Python<'_>) -> PyResult<Option<Self>> {
        let numpy = py.import("numpy")?;
        let version: String = numpy.getattr("__version__")?.extract()?;
        let Some((class, _)) = NDARRAY.look_up(py) else { return Ok(None) };
        // SAFETY: the class must be alive, as that of a `Bound` is.
        let flags = unsafe { ffi::PyType_GetFlags(class.as_type_ptr()) };
        // A class that Python code defines is on the heap; NumPy's is not.
        if !version.starts_with(MAJOR_VERSION)
            || flags & ffi::Py_TPFLAGS_HEAPTYPE != 0
            || class.getattr("__basicsize__")?.extract::<usize>()? < size_of::<Fields>()
        {
            return Ok(None);
        }
        for array in sample_arrays(&numpy)? {
            if !NDARRAY.is_exact_type_of(&array) || !agree(&array)? {
                return Ok(None);
            }
        }
        let dtype_of = |code: &&str| element_type(&numpy, code).transpose();
        Ok(Some(Self { types: CODES.iter().filter_map(dtype_of).collect::<PyResult<_>>()? }))
    }
}

/// The element type of NumPy with a code; `None` if DLPack does not have it.
fn element_type(numpy: &Bound<'_, PyModule>, code: &str) -> PyResult<Option<ElementType>> {
    let object = numpy.getattr("dtype")?.call1((code,))?;
    let kind: String = object.getattr("kind")?.extract()?;
    let itemsize: usize = object.getattr("itemsize")?.extract()?;
    let kind = kind.bytes().next().unwrap_or(0);
    let Some(dtype) = dtype::from_kind(kind, itemsize) else { return Ok(None) };
    Ok(Some(ElementType { object: object.into_ptr(), dtype, itemsize: itemsize as i64 }))
}

/// Arrays whose fields all differ: with and without a base, writable and read-only, with negative
/// strides, and without dimensions.
fn sample_arrays<'py>(numpy: &Bound<'py, PyModule>) -> PyResult<[Bound<'py, PyAny>; 4]> {
    let py = numpy.py();
    let cube = numpy.getattr("zeros")?.call1(((2, 3, 5), "f"))?;
    let part = cube.call_method1("transpose", ((2, 0, 1),))?;
    let part = py.import("operator")?.getattr("getitem")?.call1((part, backwards(py)?))?;
    let scalar = numpy.getattr("zeros")?.call1(((), "d"))?;
    let options = PyDict::new(py);
    options.set_item("write", false)?;
    scalar.call_method("setflags", (), Some(&options))?;
    let bytes = numpy.getattr("frombuffer")?.call1((c"12345678".to_bytes(), "h"))?;
    Ok([cube, part, scalar, bytes])
}

/// The slice `::-1`.
fn backwards(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("builtins")?.getattr("slice")?.call1((py.None(), py.None(), -1))
}

/// Whether the fields of `array`, which must be of NumPy's class, are its Python attributes.
fn agree(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let data = array.getattr("__array_interface__")?.get_item("data")?.get_item(0)?;
    let data: usize = data.extract()?;
    let nd: c_int = array.getattr("ndim")?.extract()?;
    let shape: Vec<isize> = array.getattr("shape")?.extract()?;
    let strides: Vec<isize> = array.getattr("strides")?.extract()?;
    let (base, dtype) = (array.getattr("base")?, array.getattr("dtype")?);
    let base = if base.is_none() { null_mut() } else { base.as_ptr() };
    let flags: i64 = array.getattr("flags")?.getattr("num")?.extract()?;
    // SAFETY: the object must have the bytes of the struct: `find_out` checked its size. Fields of
    // these types may have any value.
    let fields = unsafe { fields(array) };
    // The addresses of shape and strides are used only if everything around them is in place.
    if (fields.data.addr(), fields.nd) != (data, nd)
        || (fields.base, fields.descr) != (base, dtype.as_ptr())
        || i64::from(fields.flags) != i64::from(flags as c_int)
    {
        return Ok(false);
    }
    if nd == 0 {
        return Ok(true);
    }
    // SAFETY: there must be as many numbers as dimensions, which do not change meanwhile: the
    // fields around the address are as expected, and no Python code runs.
    let sizes = unsafe { slice::from_raw_parts(fields.dimensions, shape.len()) };
    // SAFETY: there must be as many numbers as dimensions, which do not change meanwhile: the
    // fields around the address are as expected, and no Python code runs.
    let steps = unsafe { slice::from_raw_parts(fields.strides, strides.len()) };
    Ok((sizes, steps) == (&shape[..], &strides[..]))
}
