//! Devices as DLPack numbers them.

#![forbid(unsafe_code)]

use dlbridge::Device;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// DLPack's `kDLCUDA`.
pub(crate) const CUDA: i32 = 2;
/// DLPack's `kDLROCM`.
pub(crate) const ROCM: i32 = 10;

/// Whether DLPack has devices of this type: 1.3 has the types up to 18, and the next version those
/// up to 21.
pub(crate) fn is_known(device: Device) -> bool {
    matches!(device.device_type, 1..=4 | 7..=21)
}

/// Reads what `__dlpack_device__` returns: a tuple of two integers, or of enumerations of them.
pub(crate) fn from_pair(pair: &Bound<'_, PyAny>) -> PyResult<Device> {
    let (device_type, index) =
        pair.cast::<PyTuple>().ok().and_then(|pair| pair.extract::<(i32, i32)>().ok()).ok_or_else(
            || PyTypeError::new_err("a DLPack device must be a tuple of two integers"),
        )?;
    Ok(Device { device_type, index })
}
