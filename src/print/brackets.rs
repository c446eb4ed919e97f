//! Rows of elements in nested brackets.

use std::fmt::{self, Write};

use super::{EDGE_ITEMS, LINE_WIDTH};

/// Writes words in nested brackets, one level for each dimension of `shape`. No size is 0.
///
/// The words come in row-major order. If `shortened`, the words of a dimension of more than
/// `2 * EDGE_ITEMS` items are those of its first and last `EDGE_ITEMS` items.
pub(crate) fn write_rows(
    out: &mut dyn Write,
    shape: &[i64],
    shortened: bool,
    words: impl IntoIterator<Item = String>,
) -> fmt::Result {
    Rows { out, shortened, words: words.into_iter() }.write(shape, 0)
}

/// Writes words in nested brackets with commas, in one line. The words come in row-major order.
pub(crate) fn write_list(
    out: &mut dyn Write,
    shape: &[i64],
    words: &mut dyn Iterator<Item = String>,
) -> fmt::Result {
    let Some((&size, inner)) = shape.split_first() else {
        return out.write_str(&words.next().unwrap_or_default());
    };
    out.write_str("[")?;
    for item in 0..size {
        if item > 0 {
            out.write_str(", ")?;
        }
        write_list(out, inner, words)?;
    }
    out.write_str("]")
}

struct Rows<'a, W> {
    out: &'a mut dyn Write,
    shortened: bool,
    words: W,
}

impl<W: Iterator<Item = String>> Rows<'_, W> {
    /// Writes the items of the outermost of these dimensions, which is `depth` brackets deep.
    fn write(&mut self, shape: &[i64], depth: usize) -> fmt::Result {
        let Some((&size, inner)) = shape.split_first() else {
            return self.out.write_str(&self.words.next().unwrap_or_default());
        };
        let shortened = self.shortened && size > 2 * EDGE_ITEMS;
        let items = if shortened { 2 * EDGE_ITEMS } else { size };
        let gap = shortened.then_some(EDGE_ITEMS);
        if inner.is_empty() {
            return self.write_row(items, gap, depth);
        }
        self.out.write_str("[")?;
        for item in 0..items {
            if item > 0 {
                self.start_item(inner.len(), depth)?;
            }
            if gap == Some(item) {
                self.out.write_str("...")?;
                self.start_item(inner.len(), depth)?;
            }
            self.write(inner, depth + 1)?;
        }
        self.out.write_str("]")
    }

    /// Starts a line for the next item, below an empty line for each inner dimension but the last.
    fn start_item(&mut self, inner_rank: usize, depth: usize) -> fmt::Result {
        write!(self.out, "{:\n<inner_rank$}{:indent$}", "", "", indent = depth + 1)
    }

    /// Writes the elements of the innermost dimension, in as many lines as they need.
    fn write_row(&mut self, items: i64, gap: Option<i64>, depth: usize) -> fmt::Result {
        let indent = depth + 1;
        // Leaves columns for the closing brackets of all dimensions.
        let max_width = LINE_WIDTH.saturating_sub(indent);
        let mut line = "[".to_owned();
        // Counts the indent, whose last column is the opening bracket.
        let mut width = indent;
        for item in 0..items {
            let word = self.words.next().unwrap_or_default();
            let gap = (gap == Some(item)).then(|| "...".to_owned());
            for word in gap.into_iter().chain([word]) {
                if width + word.len() > max_width && width > indent {
                    writeln!(self.out, "{}", line.trim_end())?;
                    line = " ".repeat(indent);
                    width = indent;
                }
                line.push_str(&word);
                line.push(' ');
                width += word.len() + 1;
            }
        }
        // Removes the separator after the last word, but no space of the word itself.
        line.pop();
        write!(self.out, "{line}]")
    }
}
