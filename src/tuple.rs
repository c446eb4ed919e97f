//! How messages print shapes and strides.

#![forbid(unsafe_code)]

use std::fmt;

/// The numbers of a shape or of strides, as Python prints a tuple of them.
pub(crate) struct Tuple<'a>(pub(crate) &'a [i64]);

impl fmt::Display for Tuple<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [number] = self.0 {
            return write!(f, "({number},)");
        }
        f.write_str("(")?;
        for (index, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_python_prints_a_tuple() {
        let cases = [(&[][..], "()"), (&[2], "(2,)"), (&[2, -3], "(2, -3)")];
        for (numbers, text) in cases {
            assert_eq!(Tuple(numbers).to_string(), text);
        }
    }
}
