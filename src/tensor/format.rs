//! `Display` and `Debug` for tensors.

#![forbid(unsafe_code)]

use std::fmt;

use super::Tensor;
use crate::Element;
use crate::dtype::with_element_type;
use crate::list::MAX_DEPTH;
use crate::print::{EDGE_ITEMS, FRACTION_DIGITS, Words, is_shortened, write_list, write_rows};

/// Maximum number of elements whose values `Debug` shows.
const DEBUG_MAX_ELEMENTS: usize = 1000;

/// Maximum number of elements that `Display` prints. A tensor of many short dimensions is not
/// shortened, and may have any number of elements.
const DISPLAY_MAX_ELEMENTS: usize = 100_000;

impl fmt::Display for Tensor {
    /// Writes the elements as NumPy's `str` does.
    ///
    /// The elements are in nested brackets and aligned columns, with the digits that tell the
    /// numbers apart.
    ///
    /// * If there are more than 1000 elements, the first and the last 3 items of each dimension are
    ///   printed. The others are not read, so printing a large memory map is fast.
    /// * Floating-point numbers have at most 8 digits after the point, or as many as the precision
    ///   of the format says: `{:.3}`. A tensor of rank 0 is printed with all digits that its number
    ///   needs. Lines have at most 75 characters.
    /// * If safe code may not read the memory, or if it is on a device, the shape, the element type
    ///   and the device are printed, as by `Debug`.
    ///
    /// NumPy 2.4 prints the same text, with these exceptions. `bfloat16`, which NumPy does not
    /// have, is printed as `float16` is. The shape, the element type and the device are printed
    /// instead if more than 100 000 elements are left after shortening, for more than 64
    /// dimensions, for element types that no [`Element`] has, and for `bool` bytes that are not 0
    /// or 1.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 0.1, -2.5, 1.0 / 3.0], [2, 2])?;
    /// assert_eq!(tensor.to_string(), "[[ 1.          0.1       ]\n [-2.5         0.33333334]]");
    /// assert_eq!(format!("{tensor:.2}"), "[[ 1.    0.1 ]\n [-2.5   0.33]]");
    /// let counts = Tensor::from_vec((0..1001_i64).collect(), [1001])?;
    /// assert_eq!(counts.to_string(), "[   0    1    2 ...  998  999 1000]");
    /// assert_eq!(Tensor::from_vec(vec![0.1_f32], ())?.to_string(), "0.1");
    /// let aliased = tensor.into_aliased()?; // other code may write the memory
    /// assert_eq!(aliased.to_string(), "Tensor(..., shape=[2, 2], dtype=float32, device=cpu)");
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() && self.device().is_host() {
            return f.write_str("[]");
        }
        let max_fraction = f.precision().unwrap_or(FRACTION_DIGITS);
        match self.printed_words(max_fraction) {
            Some(words) => write_rows(f, self.shape(), is_shortened(self.len()), words),
            None => {
                f.write_str("Tensor(..., ")?;
                self.write_description(f)
            }
        }
    }
}

impl fmt::Debug for Tensor {
    /// Writes the elements, the shape, the element type and the device in one line.
    ///
    /// Each element has the digits that its number needs. The elements are left out if there are
    /// more than 1000 or none, and where `Display` leaves them out.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 0.1], [2])?;
    /// let expected = "Tensor([1.0, 0.1], shape=[2], dtype=float32, device=cpu)";
    /// assert_eq!(format!("{tensor:?}"), expected);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tensor(")?;
        match self.listed_words() {
            Some(words) => write_list(f, self.shape(), &mut words.into_iter())?,
            None => f.write_str("...")?,
        }
        f.write_str(", ")?;
        self.write_description(f)
    }
}

impl Tensor {
    fn write_description(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shape={:?}, dtype={}, device={})", self.shape(), self.dtype(), self.device())
    }

    /// Returns the text of each element that is printed, and reads only these. `None` if the tensor
    /// is described instead.
    fn printed_words(&self, max_fraction: usize) -> Option<Vec<String>> {
        self.require_viewable().ok()?;
        if self.ndim() > MAX_DEPTH {
            return None;
        }
        with_element_type!(self.dtype(), T => self.words_of::<T>(max_fraction), _other => None)
    }

    /// Returns the text of each element for `Debug`. `None` if the elements are left out.
    fn listed_words(&self) -> Option<Vec<String>> {
        self.require_viewable().ok()?;
        if self.is_empty() || self.len() > DEBUG_MAX_ELEMENTS || self.ndim() > MAX_DEPTH {
            return None;
        }
        fn words<T: Element + Words>(tensor: &Tensor) -> Option<Vec<String>> {
            Some(tensor.to_vec::<T>().ok()?.into_iter().map(Words::word).collect())
        }
        with_element_type!(self.dtype(), T => words::<T>(self), _other => None)
    }

    /// As [`printed_words`](Self::printed_words), for elements of type `T`.
    fn words_of<T: Element + Words>(&self, max_fraction: usize) -> Option<Vec<String>> {
        let items = is_shortened(self.len()).then_some(EDGE_ITEMS);
        let printed = items.map_or(self.len(), |items| self.layout().edges(items).len());
        if printed > DISPLAY_MAX_ELEMENTS {
            return None;
        }
        let elements = self.edges_to_vec::<T>(items).ok()?;
        match (self.ndim(), &elements[..]) {
            (0, &[element]) => Some(vec![element.word()]),
            _ => Some(T::words(&elements, max_fraction)),
        }
    }
}
