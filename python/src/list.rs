//! Elements as Python's own numbers, and as text.

use std::fmt::Write;

use dlbridge::{DType, MemoryFormat, Tensor};
use half::{bf16, f16};
use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyFloat, PyList};

use crate::copies;
use crate::error::tuple;

/// Lists nest at most this deep, as NumPy's do.
const MAX_DEPTH: usize = 64;

const MOST_EMPTY_LISTS: i64 = 1 << 24;

/// The bytes of an element, and zeros after them.
type Bytes = [u8; 16];

/// Reads an element, which need not be aligned.
///
/// # Safety
/// * So many bytes can be read there.
#[inline]
unsafe fn read(at: *const u8, itemsize: usize) -> Bytes {
    let mut bytes = [0; 16];
    let to = bytes.as_mut_ptr();
    // Sizes that are known are copied without a call; no element that has a reader is of another.
    match itemsize {
        // SAFETY: the caller's promise, here and below.
        1 => unsafe { at.copy_to_nonoverlapping(to, 1) },
        // SAFETY: as above.
        2 => unsafe { at.copy_to_nonoverlapping(to, 2) },
        // SAFETY: as above.
        4 => unsafe { at.copy_to_nonoverlapping(to, 4) },
        // SAFETY: as above.
        8 => unsafe { at.copy_to_nonoverlapping(to, 8) },
        // SAFETY: as above.
        16 => unsafe { at.copy_to_nonoverlapping(to, 16) },
        _ => {}
    }
    bytes
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

/// Two numbers that follow each other.
fn pair<const N: usize>(bytes: &Bytes) -> [[u8; N]; 2] {
    [first(bytes), first(bytes.get(N..).unwrap_or_default())]
}

type ToPython<'py> = fn(Python<'py>, &Bytes) -> Bound<'py, PyAny>;

fn to_python<'py>(dtype: DType) -> Option<ToPython<'py>> {
    macro_rules! int {
        ($type:ty) => {
            |py, bytes| match <$type>::from_ne_bytes(first(bytes)).into_pyobject(py) {
                Ok(number) => number.into_any(),
                Err(never) => match never {},
            }
        };
    }
    macro_rules! float {
        ($type:ty) => {
            |py, bytes| PyFloat::new(py, <$type>::from_ne_bytes(first(bytes)).into()).into_any()
        };
    }
    macro_rules! complex {
        ($type:ty) => {
            |py, bytes| {
                let [re, im] = pair(bytes).map(<$type>::from_ne_bytes);
                PyComplex::from_doubles(py, re.into(), im.into()).into_any()
            }
        };
    }
    Some(match dtype {
        // Any byte but 0 is true, as for NumPy.
        DType::BOOL => |py, bytes| PyBool::new(py, bytes[0] != 0).to_owned().into_any(),
        DType::U8 => int!(u8),
        DType::U16 => int!(u16),
        DType::U32 => int!(u32),
        DType::U64 => int!(u64),
        DType::I8 => int!(i8),
        DType::I16 => int!(i16),
        DType::I32 => int!(i32),
        DType::I64 => int!(i64),
        DType::F16 => float!(f16),
        DType::BF16 => float!(bf16),
        DType::F32 => float!(f32),
        DType::F64 => float!(f64),
        DType::C64 => complex!(f32),
        DType::C128 => complex!(f64),
        _ => return None,
    })
}

/// `Tensor.tolist`.
pub(crate) fn to_list<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    if !tensor.device().is_host() {
        return Err(PyTypeError::new_err(format!(
            "can't list the elements of a tensor on {}: use Tensor.cpu() first",
            tensor.device()
        )));
    }
    let dtype = tensor.dtype();
    let (Some(to_python), Some(itemsize)) = (to_python(dtype), dtype.itemsize()) else {
        return Err(PyTypeError::new_err(format!(
            "Python has no numbers of type {dtype}: use numpy().astype('float32')"
        )));
    };
    if tensor.ndim() > MAX_DEPTH {
        return Err(PyValueError::new_err(format!(
            "{} dimensions are more than lists may nest",
            tensor.ndim()
        )));
    }
    // Of a shape that ends in 0 there may be lists without end.
    let lists = tensor
        .shape()
        .iter()
        .take_while(|&&size| size > 0)
        .try_fold(1_i64, |n, &size| n.checked_mul(size));
    if tensor.is_empty() && lists.is_none_or(|lists| lists > MOST_EMPTY_LISTS) {
        return Err(PyMemoryError::new_err(format!(
            "shape {} has too many empty lists",
            tuple(tensor.shape())
        )));
    }
    let copy;
    let rows = if tensor.is_contiguous() {
        tensor
    } else {
        copy = copies::clone_as(py, tensor, MemoryFormat::Contiguous)?;
        &copy
    };
    let mut at = rows.data_ptr().cast::<u8>().cast_const();
    nest(py, rows.shape(), &mut || {
        // SAFETY: one of the elements, which lie one after the other, and are asked for once each.
        let bytes = unsafe { read(at, itemsize) };
        at = at.wrapping_add(itemsize);
        to_python(py, &bytes)
    })
}

fn nest<'py>(
    py: Python<'py>,
    shape: &[i64],
    next: &mut dyn FnMut() -> Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some((&size, inner)) = shape.split_first() else { return Ok(next()) };
    let size = usize::try_from(size).unwrap_or(0);
    let list = if inner.is_empty() {
        PyList::new(py, (0..size).map(|_| next()))
    } else {
        PyList::new(py, (0..size).map(|_| nest(py, inner, next)).collect::<PyResult<Vec<_>>>()?)
    };
    Ok(list?.into_any())
}

/// `Tensor.item`.
pub(crate) fn item<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    if tensor.len() != 1 {
        return Err(PyValueError::new_err(format!(
            "item() needs one element, and the tensor has {}: use tolist()",
            tensor.len()
        )));
    }
    let mut item = to_list(py, tensor)?;
    for _ in 0..tensor.ndim() {
        item = item.get_item(0)?;
    }
    Ok(item)
}

/// Up to so many elements all are shown, and more only at the edges.
const SHOWN: usize = 1000;
const EDGE: i64 = 3;
/// Text of so many bytes is not made longer, whatever the shape.
const LONG: usize = 64 << 10;

/// The elements as text, in as many lines as they have rows, indented to follow a first line of so many
/// characters. `None` where they cannot be read.
pub(crate) fn text(tensor: &Tensor, indent: usize) -> Option<String> {
    if !tensor.device().is_host() || tensor.ndim() > MAX_DEPTH {
        return None;
    }
    if tensor.is_empty() {
        return Some("[]".to_owned());
    }
    let itemsize = tensor.dtype().itemsize()?;
    let mut page = Page {
        text: String::new(),
        itemsize: i64::try_from(itemsize).ok()?,
        all: tensor.len() <= SHOWN,
        show: to_text(tensor.dtype())?,
    };
    let dims: Vec<(i64, i64)> =
        tensor.shape().iter().copied().zip(tensor.strides().iter().copied()).collect();
    // SAFETY: the first element of a tensor with elements, whose others lie where the dimensions say.
    unsafe { page.write(&dims, tensor.data_ptr().cast::<u8>(), indent) };
    Some(page.text)
}

type ToText = fn(&mut String, &Bytes);

fn to_text(dtype: DType) -> Option<ToText> {
    macro_rules! int {
        ($type:ty) => {
            |text, bytes| {
                let _infallible = write!(text, "{}", <$type>::from_ne_bytes(first(bytes)));
            }
        };
    }
    macro_rules! float {
        ($type:ty) => {
            |text, bytes| {
                text.push_str(&spelled(&format!("{:?}", <$type>::from_ne_bytes(first(bytes)))))
            }
        };
    }
    macro_rules! complex {
        ($type:ty) => {
            |text, bytes| {
                let [re, im] = pair(bytes).map(<$type>::from_ne_bytes);
                let im = spelled(&format!("{im:?}"));
                let sign = if im.starts_with('-') { "" } else { "+" };
                let _infallible = write!(text, "{}{sign}{im}j", spelled(&format!("{re:?}")));
            }
        };
    }
    Some(match dtype {
        DType::BOOL => |text, bytes| text.push_str(if bytes[0] != 0 { "True" } else { "False" }),
        DType::U8 => int!(u8),
        DType::U16 => int!(u16),
        DType::U32 => int!(u32),
        DType::U64 => int!(u64),
        DType::I8 => int!(i8),
        DType::I16 => int!(i16),
        DType::I32 => int!(i32),
        DType::I64 => int!(i64),
        DType::F16 => float!(f16),
        DType::BF16 => float!(bf16),
        DType::F32 => float!(f32),
        DType::F64 => float!(f64),
        DType::C64 => complex!(f32),
        DType::C128 => complex!(f64),
        _ => return None,
    })
}

/// A number as Python spells it.
fn spelled(number: &str) -> String {
    let exponent = number
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)));
    match exponent {
        Some((digits, exponent)) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        None => number.replace("NaN", "nan"),
    }
}

/// Text that grows.
struct Page {
    text: String,
    itemsize: i64,
    /// Whether elements in the middle are shown too.
    all: bool,
    show: ToText,
}

impl Page {
    /// # Safety
    /// * No size is 0, and elements can be read at `at` and wherever the dimensions lead from there.
    unsafe fn write(&mut self, dims: &[(i64, i64)], at: *const u8, indent: usize) {
        let Some((&(size, stride), inner)) = dims.split_first() else {
            // SAFETY: the caller's promise.
            let bytes = unsafe { read(at, self.itemsize as usize) };
            return (self.show)(&mut self.text, &bytes);
        };
        if self.text.len() > LONG {
            return self.text.push_str("...");
        }
        self.text.push('[');
        let mut index = 0;
        while index < size {
            if index > 0 && inner.is_empty() {
                self.text.push_str(", ");
            } else if index > 0 {
                self.text.push_str(",\n");
                self.text.extend(std::iter::repeat_n(' ', indent + 1));
            }
            if !self.all && size > 2 * EDGE && index == EDGE {
                self.text.push_str("...");
                index = size - EDGE;
                continue;
            }
            let element = at.wrapping_offset((index * stride * self.itemsize) as isize);
            // SAFETY: the caller's promise, for a part.
            unsafe { self.write(inner, element, indent + 1) };
            index += 1;
        }
        self.text.push(']');
    }
}
