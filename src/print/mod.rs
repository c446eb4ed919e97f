//! Elements as text, as NumPy's `str` prints an array.
//!
//! [`decimal`] has the digits of one number, [`float_format`] the common form of all numbers of an
//! array, [`words`] the text of every element, and [`brackets`] the nested rows. The constants are
//! the defaults of NumPy's print options.

#![forbid(unsafe_code)]

mod brackets;
mod decimal;
mod float_format;
mod words;

pub(crate) use brackets::{write_list, write_rows};
pub(crate) use words::Words;

/// Maximum number of elements of an array that is printed completely.
const COMPLETE_MAX_ELEMENTS: usize = 1000;

/// The number of items that are printed at each end of a dimension that is shortened.
pub(crate) const EDGE_ITEMS: i64 = 3;

/// Maximum length (characters) of a line. A line with one long element may be longer.
const LINE_WIDTH: usize = 75;

/// Maximum number of digits after the decimal point, unless the caller asks for another one.
pub(crate) const FRACTION_DIGITS: usize = 8;

/// Returns true if an array with `len` elements is printed with its edge items only.
pub(crate) fn is_shortened(len: usize) -> bool {
    len > COMPLETE_MAX_ELEMENTS
}
