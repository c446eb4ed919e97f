//! The error of a method that consumes its argument: the argument, and the reason.

use std::fmt;

use crate::Error;

/// The error of a method that consumes its argument: the reason, and the argument itself.
///
/// `Display` writes the reason, with all its values; the argument is not shown. `Rejected<V>` is
/// `Send` if `V` is. It is `Sync` for every `V`, because no method gives access to the argument
/// through `&Rejected<V>`. An argument is therefore never used by two threads at the same time.
///
/// What `?` does depends on the error type of the function:
///
/// | error type | what `?` does |
/// |---|---|
/// | [`Error`] | keeps the reason, drops the argument |
/// | `Box<dyn std::error::Error + Send + Sync>` | keeps both; `downcast` gives the `Rejected<V>` back |
/// | `anyhow::Error` | keeps both; `downcast` gives the `Rejected<V>` back |
/// | an enum of your own | does not compile before you add the `impl` that is shown below |
///
/// ```
/// use dlbridge::{Error, Tensor};
///
/// let rejected = Tensor::from_vec(vec![1.0_f32; 5], [2, 3]).unwrap_err();
/// assert!(matches!(rejected.error(), Error::LengthMismatch { expected: 6, found: 5, .. }));
/// assert_eq!(rejected.into_value().len(), 5); // the Vec is not lost
/// ```
///
/// An error enum that is written with `thiserror` needs one `impl` beside its `#[from]`. It covers
/// the arguments of all methods:
///
/// ```
/// #[derive(Debug, thiserror::Error)]
/// enum ModelError {
///     #[error(transparent)]
///     Exchange(#[from] dlbridge::Error), // for methods that borrow their argument
/// }
///
/// // For methods that consume their argument. It drops the argument.
/// impl<V> From<dlbridge::Rejected<V>> for ModelError {
///     fn from(rejected: dlbridge::Rejected<V>) -> Self {
///         Self::Exchange(rejected.into_error())
///     }
/// }
///
/// fn tensor(values: Vec<f32>) -> Result<dlbridge::Tensor, ModelError> {
///     Ok(dlbridge::Tensor::from_vec(values, [2, 3])?)
/// }
/// assert!(tensor(vec![0.0; 6]).is_ok() && tensor(vec![0.0; 5]).is_err());
/// ```
pub struct Rejected<V> {
    value: Unshared<V>,
    error: Error,
}

/// A value that cannot be reached through a shared reference.
struct Unshared<V>(V);

// SAFETY: `Sync` requires that threads which share a `&Unshared<V>` cannot race. The field is
// private to this module, and no function of this module reads it through a shared reference: only
// methods that take `self` by value reach it. A shared reference thus gives no access to the value.
unsafe impl<V> Sync for Unshared<V> {}

impl<V> Rejected<V> {
    pub(crate) fn new(value: V, error: Error) -> Self {
        Self { value: Unshared(value), error }
    }

    /// Returns the reason why the argument was not moved.
    ///
    /// ```
    /// use dlbridge::{Error, Tensor};
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let rejected = tensor.into_vec::<f64>().unwrap_err();
    /// assert!(matches!(rejected.error(), Error::DTypeMismatch { .. }));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Gives the reason, and drops the argument.
    ///
    /// ```
    /// use dlbridge::{Error, Tensor};
    ///
    /// fn counts(tensor: Tensor) -> Result<Vec<i64>, Error> {
    ///     tensor.into_vec().map_err(|rejected| rejected.into_error()) // `?` does the same
    /// }
    /// assert!(counts(Tensor::zeros::<f32>([2])?).is_err());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn into_error(self) -> Error {
        self.error
    }

    /// Gives the argument back. Its elements are the same, in the same memory.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2, 3], [3])?;
    /// let other = tensor.share();
    /// let rejected = tensor.into_vec::<u8>().unwrap_err(); // another handle holds the memory
    /// drop(other);
    /// assert_eq!(rejected.into_value().into_vec::<u8>()?, [1, 2, 3]); // the second attempt
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn into_value(self) -> V {
        self.value.0
    }

    /// Gives both: the argument and the reason.
    ///
    /// ```
    /// let rejected = dlbridge::Tensor::from_vec(vec![1_u8; 5], [2, 3]).unwrap_err();
    /// let (bytes, error) = rejected.into_parts();
    /// assert_eq!(bytes, [1; 5]);
    /// assert!(error.to_string().contains("needs 6 elements"));
    /// ```
    pub fn into_parts(self) -> (V, Error) {
        (self.value.0, self.error)
    }

    /// Replaces the argument by `wrap` of it, and keeps the reason.
    #[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
    pub(crate) fn map<R>(self, wrap: impl FnOnce(V) -> R) -> Rejected<R> {
        Rejected::new(wrap(self.value.0), self.error)
    }
}

impl<V> fmt::Debug for Rejected<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<V> fmt::Display for Rejected<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<V> std::error::Error for Rejected<V> {}

impl<V> From<Rejected<V>> for Error {
    fn from(rejected: Rejected<V>) -> Self {
        rejected.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sendable_value_gives_an_error_that_threads_can_share() {
        fn shared<E: std::error::Error + Send + Sync + 'static>() {}
        shared::<Rejected<std::cell::Cell<u8>>>();
        shared::<Rejected<crate::Tensor>>();
        #[cfg(feature = "torch")]
        shared::<Rejected<tch::Tensor>>();
    }
}
