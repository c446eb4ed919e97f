//! `Debug` for tensors.

#![forbid(unsafe_code)]

use std::fmt;

use super::Tensor;

/// Maximum number of elements whose values are shown.
const DEBUG_MAX_ELEMENTS: usize = 1000;

impl fmt::Debug for Tensor {
    /// Writes the values if safe code may read them, and always shape, element type and device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tensor(")?;
        if self.len() <= DEBUG_MAX_ELEMENTS
            && self.require_viewable().is_ok()
            && !self.shape().contains(&0)
        {
            match self.to_list() {
                Ok(list) => write!(f, "{list}, ")?,
                Err(_) => f.write_str("..., ")?,
            }
        } else {
            f.write_str("..., ")?;
        }
        write!(f, "shape={:?}, dtype={}, device={})", self.shape(), self.dtype(), self.device())
    }
}
