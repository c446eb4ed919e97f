//! ndarray 0.17.

mod array_ref;
#[path = "version/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the same source for each version of ndarray")]
mod version;

use ::ndarray as nd;

use self::Ndarray0_17 as Version;
#[cfg(feature = "torch")]
pub(crate) use version::describe;

/// ndarray 0.17: the [`Version`](crate::ArrayDimension::Version) of its dimension types.
///
/// A generic function names it in its bounds, so that the results of this crate's methods are
/// arrays of ndarray 0.17:
///
/// ```
/// use dlbridge::{ArrayDimension, Element, Ndarray0_17, Result, Tensor};
/// use ndarray::{Array, Dimension, Ix2, array};
///
/// fn doubled<T, D>(tensor: &Tensor) -> Result<Array<T, D>>
/// where
///     T: Element + std::ops::Add<Output = T>,
///     D: Dimension + ArrayDimension<Version = Ndarray0_17>,
/// {
///     Ok(tensor.as_ndarray::<T, D>()?.mapv(|value| value + value))
/// }
/// let tensor = Tensor::from_vec(vec![1, 2, 3, 4], [2, 2])?;
/// assert_eq!(doubled::<i32, Ix2>(&tensor)?, array![[2, 4], [6, 8]]);
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Ndarray0_17 {}
