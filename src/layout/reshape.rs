//! Views with another shape and the same row-major order of elements.
//!
//! The dimensions of the source are first joined into *runs*, from the last dimension on. Two
//! neighbours become one run if the outer stride is the product of the inner stride and the inner
//! size. The elements of a run are equally far apart, so a run can be split into any sizes
//! whose product is its number of elements. No other shape has a view, because the distance
//! between neighbours changes where two runs meet:
//!
//! ```text
//! source  shape (4, 3, 2), strides (12, 2, 1)    rows of 6 elements, with 6 more between two rows
//! runs    6 elements, 1 apart; then 4 elements, 12 apart
//! views   (4, 6), (4, 2, 3), (2, 2, 6, 1), …
//! none    (12, 2): 12 = 3 · 4 takes elements from both runs
//! ```
//!
//! Dimensions of size 1 take part in no address: those of the source are left out, and those of the
//! view get the stride that the next smaller dimension would end with.

use super::view::View;
use super::{Layout, Scratch};
use crate::tuple::Tuple;
use crate::{Error, Result};

/// Elements that are equally far apart.
struct Run {
    /// The number of elements.
    count: i64,
    /// The distance between two of them.
    stride: i64,
}

impl Layout {
    /// Returns the view with this shape and the same row-major order of elements. One size may be
    /// -1: it follows from the others.
    pub(crate) fn reshaped(&self, shape: &[i64]) -> Result<View> {
        let sizes = self.inferred(shape)?;
        let mut dims: Scratch<(i64, i64)> = sizes.iter().map(|&size| (size, 1)).collect();
        if !self.is_empty() && self.split_runs(&mut dims).is_none() {
            let reason =
                format!("shape {} takes elements that are unequally far apart", Tuple(&sizes));
            return Err(self.needs_copy(reason));
        }
        self.view(&dims, 0)
    }

    /// Returns the sizes with -1 replaced, for a shape of as many elements as this layout has.
    fn inferred(&self, shape: &[i64]) -> Result<Scratch<i64>> {
        let mut unknown = shape.iter().enumerate().filter(|&(_, &size)| size == -1);
        let inferred = unknown.next().map(|(dimension, _)| dimension);
        if unknown.next().is_some() {
            return Err(self.no_view(format!("shape {} has two sizes of -1", Tuple(shape))));
        }
        if let Some((dimension, size)) = shape.iter().enumerate().find(|&(_, &size)| size < -1) {
            return Err(Error::InvalidDescriptor {
                field: format!("shape[{dimension}]"),
                value: size.to_string(),
                reason: "a size cannot be negative, except for one -1, which is computed",
            });
        }
        let known = || shape.iter().filter(|&&size| size != -1);
        let product = match known().any(|&size| size == 0) {
            true => Some(0),
            false => known().try_fold(1_i64, |product, &size| product.checked_mul(size)),
        };
        let len = i64::try_from(self.len()).unwrap_or(i64::MAX);
        let mut sizes: Scratch<i64> = shape.into();
        match (inferred.and_then(|dimension| sizes.get_mut(dimension)), product) {
            (None, Some(product)) if product == len => Ok(sizes),
            (Some(_), Some(0)) if len == 0 => Err(self.no_view(format!(
                "every size would fit for -1 in shape {}, because there are no elements",
                Tuple(shape)
            ))),
            (Some(size), Some(product)) if len.checked_rem(product) == Some(0) => {
                *size = len.checked_div(product).unwrap_or(0);
                Ok(sizes)
            }
            _ => Err(self.no_view(format!("shape {} does not have {len} elements", Tuple(shape)))),
        }
    }

    /// Sets the strides of `dims`, whose sizes have as many elements as this layout; `None` if a
    /// size takes elements of two runs.
    fn split_runs(&self, dims: &mut [(i64, i64)]) -> Option<()> {
        let mut runs = self.runs().into_iter();
        let mut run = runs.next().unwrap_or(Run { count: 1, stride: 1 });
        for (size, stride) in dims.iter_mut().rev() {
            if *size > 1 && run.count == 1 {
                run = runs.next()?;
            }
            if run.count.checked_rem(*size)? != 0 {
                return None;
            }
            *stride = run.stride;
            run.count = run.count.checked_div(*size)?;
            // After the last size of a run, this stride is used only by sizes of 1.
            run.stride = run.stride.saturating_mul(*size);
        }
        Some(())
    }

    /// Joins the dimensions into runs, the innermost first.
    fn runs(&self) -> Scratch<Run> {
        let mut runs = Scratch::<Run>::new();
        for (size, stride) in self.dims().rev().filter(|&(size, _)| size != 1) {
            match runs.last_mut() {
                Some(run) if run.stride.checked_mul(run.count) == Some(stride) => {
                    // The product fits: it is at most the number of elements.
                    run.count = run.count.saturating_mul(size);
                }
                _ => runs.push(Run { count: size, stride }),
            }
        }
        runs
    }
}
