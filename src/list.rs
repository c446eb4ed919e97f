//! Elements as nested lists of values, as Python's `tolist` gives them.

#![forbid(unsafe_code)]

use std::fmt;

use crate::{Error, Layout, Result, Scalar};

/// The elements of a tensor as nested lists. A tensor of rank 0 is a single [`Scalar`].
///
/// `Display` writes it as Python writes a list:
///
/// ```
/// use dlbridge::{List, Scalar, Tensor};
///
/// let list = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0, 4.0], [2, 2])?.to_list()?;
/// assert_eq!(list.to_string(), "[[1.0, 2.0], [3.0, 4.0]]");
/// assert_eq!(list, vec![vec![1.0, 2.0], vec![3.0, 4.0]].into());
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum List {
    /// The value of one element.
    Scalar(Scalar),
    /// One entry for each index of one dimension.
    Items(Vec<List>),
}

/// The highest rank that can become nested lists; NumPy has the same limit.
pub(crate) const MAX_DEPTH: usize = 64;

impl List {
    /// Nests elements, which come in row-major order, by shape.
    pub(crate) fn nest<T: Into<Scalar>>(
        layout: &Layout,
        elements: impl Iterator<Item = T>,
    ) -> Result<Self> {
        if layout.ndim() > MAX_DEPTH {
            let (found, limit) = (layout.ndim(), MAX_DEPTH);
            return Err(Error::TooManyDimensions { found, limit, target: "nested lists" });
        }
        // Every list allocates for itself. This reserves the sum first, so that a lack of memory is
        // noticed before the first list is made.
        let mut slices = 1_usize;
        let lists = layout.shape().iter().fold(1_usize, |lists, &size| {
            slices = slices.saturating_mul(usize::try_from(size).unwrap_or(usize::MAX));
            lists.saturating_add(slices)
        });
        let bytes = lists.saturating_mul(size_of::<Self>());
        Vec::<Self>::new().try_reserve_exact(lists).map_err(|_| Error::OutOfMemory { bytes })?;
        nest(layout.shape(), &mut elements.map(Into::into))
    }
}

fn nest(shape: &[i64], elements: &mut impl Iterator<Item = Scalar>) -> Result<List> {
    let Some((&size, inner)) = shape.split_first() else {
        return Ok(elements.next().map_or_else(|| List::Items(Vec::new()), List::Scalar));
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut items = Vec::new();
    let bytes = size.saturating_mul(size_of::<List>());
    items.try_reserve_exact(size).map_err(|_| Error::OutOfMemory { bytes })?;
    for _ in 0..size {
        items.push(nest(inner, elements)?);
    }
    Ok(List::Items(items))
}

impl<S: Into<Scalar>> From<S> for List {
    fn from(value: S) -> Self {
        Self::Scalar(value.into())
    }
}

impl<L: Into<List>> From<Vec<L>> for List {
    fn from(items: Vec<L>) -> Self {
        Self::Items(items.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(value) => value.fmt(f),
            Self::Items(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
        }
    }
}
