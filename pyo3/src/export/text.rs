//! Elements as text, for `repr`.

use std::fmt::Write;

use dlbridge::{DType, Scalar, Tensor};

use super::element::{Convert, ReadElement, reader};
use super::list::MAX_LIST_DEPTH;

/// Maximum number of elements that are all shown. Of more elements, only the edges are shown.
const MAX_ALL_SHOWN: usize = 1000;

/// Number of elements that are shown at either edge of a dimension.
const EDGE_ELEMENTS: i64 = 3;

/// Length of text (bytes) after which further lists are left out, for any shape.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// The elements as text, in as many lines as they have rows. Every line but the first is indented
/// by `indent` characters. `None` if the elements cannot be read.
pub(crate) fn elements(tensor: &Tensor, indent: usize) -> Option<String> {
    if !tensor.device().is_host() || tensor.ndim() > MAX_LIST_DEPTH {
        return None;
    }
    if tensor.is_empty() {
        return Some("[]".to_owned());
    }
    let dtype = tensor.dtype();
    let mut writer = TextWriter {
        text: String::new(),
        itemsize: i64::try_from(dtype.itemsize()?).ok()?,
        all: tensor.len() <= MAX_ALL_SHOWN,
        read: reader::<AsIs>(dtype)?,
        double: matches!(dtype, DType::F64 | DType::C128),
    };
    let dims: Vec<(i64, i64)> =
        tensor.shape().iter().copied().zip(tensor.strides().iter().copied()).collect();
    // SAFETY: no size may be 0, as the tensor is not empty, and elements must be readable wherever
    // the dimensions lead from the first: a tensor's layout describes memory that it keeps.
    unsafe { writer.write(&dims, tensor.data_ptr().cast(), indent) };
    Some(writer.text)
}

/// Writes elements as text.
struct AsIs;

impl Convert for AsIs {
    type Context = ();
    type Output = Scalar;

    fn convert((): (), element: Scalar) -> Scalar {
        element
    }
}

struct TextWriter {
    text: String,
    itemsize: i64,
    /// Whether elements in the middle are shown too.
    all: bool,
    read: ReadElement<AsIs>,
    /// Whether floating-point numbers are of double precision.
    double: bool,
}

impl TextWriter {
    /// Writes the elements along `dims`, which are pairs of size and stride.
    ///
    /// # Safety
    /// * No size is 0, and elements can be read at `at` and wherever `dims` lead from there.
    unsafe fn write(&mut self, dims: &[(i64, i64)], at: *const u8, indent: usize) {
        let Some((&(size, stride), inner)) = dims.split_first() else {
            // SAFETY: an element must be readable at `at`, as this function's contract says.
            let element = unsafe { (self.read)((), at) };
            return self.write_number(element);
        };
        if self.text.len() > MAX_TEXT_BYTES {
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
            if !self.all && size > 2 * EDGE_ELEMENTS && index == EDGE_ELEMENTS {
                self.text.push_str("...");
                index = size - EDGE_ELEMENTS;
                continue;
            }
            let element = at.wrapping_offset((index * stride * self.itemsize) as isize);
            // SAFETY: elements must be readable along the inner dimensions from there, as this
            // function's contract says of all dimensions.
            unsafe { self.write(inner, element, indent + 1) };
            index += 1;
        }
        self.text.push(']');
    }

    /// Writes a number with the fewest digits that distinguish it in its own precision. A complex
    /// number is written as NumPy writes it, in both parts and without parentheses.
    fn write_number(&mut self, number: Scalar) {
        let float = |value| Scalar::Float(if self.double { value } else { shortened(value) });
        let _infallible = match number {
            Scalar::Float(value) => write!(self.text, "{}", float(value)),
            Scalar::Complex(value) => {
                let (re, im) = (float(value.re), float(value.im));
                let sign = if value.im.is_sign_negative() && !value.im.is_nan() { "" } else { "+" };
                write!(self.text, "{re}{sign}{im}j")
            }
            integer => write!(self.text, "{integer}"),
        };
    }
}

/// The double-precision number that is written with the digits which a single-precision `value`
/// needs: 0.1 for `0.1_f32`, whose value is 0.10000000149011612.
fn shortened(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}
