//! A library between a program and dlbridge.

use dlbridge::{ArrayTorchExt, TorchExt};
use ndarray::{Array1, Ix1};

/// Returns the cumulative sums of `numbers`, which libtorch computes.
pub fn cumulative_sums(numbers: Vec<f32>) -> Result<Vec<f32>, dlbridge::Error> {
    let tensor = Array1::from(numbers).into_torch()?;
    let sums = tensor.cumsum(0, tch::Kind::Float);
    Ok(sums.into_ndarray::<f32, Ix1>()?.to_vec())
}
