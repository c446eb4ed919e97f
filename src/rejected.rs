//! A refused move: what was to be moved comes back together with the reason.

use std::fmt;

use crate::Error;

/// The error of a method that consumes its argument: why it failed, and the argument itself.
///
/// `?` in a function that returns [`Error`], or an error type that is `From<Error>` or
/// `From<Rejected<V>>`, drops the value and keeps the error. `Rejected` is `Send` and `Sync` for
/// every value that is `Send`, so `?` into `anyhow::Error` works too.
///
/// ```
/// use dlbridge::{Error, Tensor};
///
/// let rejected = Tensor::from_vec(vec![1.0_f32; 5], [2, 3]).unwrap_err();
/// assert!(matches!(rejected.error(), Error::LengthMismatch { expected: 6, found: 5, .. }));
/// assert_eq!(rejected.into_value().len(), 5); // the Vec is not lost
/// ```
///
/// With an error type of your own, written with `thiserror`, one more variant keeps `?` working:
///
/// ```
/// #[derive(Debug, thiserror::Error)]
/// enum ModelError {
///     #[error(transparent)]
///     Exchange(#[from] dlbridge::Error),
/// }
///
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

/// A value that no shared reference reaches.
struct Unshared<V>(V);

// SAFETY: the field is private to this module, whose methods move the value out and never borrow it
// from a `&Unshared`. So threads that share an `Unshared` cannot use the value at the same time.
unsafe impl<V> Sync for Unshared<V> {}

impl<V> Rejected<V> {
    pub(crate) fn new(value: V, error: Error) -> Self {
        Self { value: Unshared(value), error }
    }

    /// Why the value was not moved.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Gives back why the value was not moved, and drops the value.
    pub fn into_error(self) -> Error {
        self.error
    }

    /// Gives back what was to be moved: the same elements in the same memory.
    pub fn into_value(self) -> V {
        self.value.0
    }

    /// Gives back what was to be moved, and why it was not.
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

    /// The same refusal around another form of the value.
    #[cfg(feature = "ndarray")]
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
