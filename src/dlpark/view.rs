//! A description for dlpark that borrows a tensor.

use std::marker::PhantomData;

use ::dlpark::ffi::{DLDataType, DLDataTypeCode, DLDevice, DLDeviceType, DLTensor};
use ::dlpark::tensor;

use crate::Tensor;

/// A `DLTensor` of dlpark that borrows a [`Tensor`]. It owns nothing.
///
/// [`Tensor::as_dlpark`] makes it. As long as it lives, the tensor cannot be moved, changed or
/// dropped.
///
/// ```
/// use dlbridge::Tensor;
///
/// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3])?;
/// let view = tensor.as_dlpark();
/// assert_eq!(view.tensor_ref()?.shape(), [3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// ```compile_fail,E0505
/// let tensor = dlbridge::Tensor::zeros::<f32>([3]).unwrap();
/// let view = tensor.as_dlpark();
/// drop(tensor); // error: it is borrowed
/// assert!(view.tensor_ref().is_ok());
/// ```
pub struct DlparkView<'a> {
    described: DLTensor,
    tensor: PhantomData<&'a Tensor>,
}

impl<'a> DlparkView<'a> {
    pub(super) fn new(tensor: &'a Tensor) -> Self {
        let ours = tensor.as_dl_tensor();
        let (device, dtype) = (ours.device, ours.dtype);
        let described = DLTensor {
            data: ours.data,
            device: DLDevice {
                device_type: DLDeviceType(device.device_type),
                device_id: device.device_id,
            },
            ndim: ours.ndim,
            dtype: DLDataType {
                code: DLDataTypeCode(dtype.code),
                bits: dtype.bits,
                lanes: dtype.lanes,
            },
            shape: ours.shape,
            strides: ours.strides,
            byte_offset: ours.byte_offset,
        };
        Self { described, tensor: PhantomData }
    }

    /// Returns the description as dlpark's reference, whose shape and strides are valid.
    ///
    /// dlpark's methods that read elements are `unsafe`. If the memory is on the host, all elements
    /// are initialised and can be read as long as this view lives. Whether other code writes them
    /// meanwhile is what [`Tensor::access`] says; [`Tensor::as_slice`] checks that, and is safe.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3])?;
    /// let view = tensor.as_dlpark();
    /// let described = view.tensor_ref()?;
    /// assert_eq!((described.num_elements(), described.num_bytes()), (3, 12));
    /// assert_eq!(described.data_ptr(), tensor.data_ptr());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// ```compile_fail,E0505
    /// let tensor = dlbridge::Tensor::zeros::<f32>([3]).unwrap();
    /// let view = tensor.as_dlpark();
    /// let described = view.tensor_ref().unwrap();
    /// drop(view); // error: it is borrowed
    /// assert_eq!(described.shape(), [3]);
    /// ```
    ///
    /// # Errors
    /// dlpark's own, if the number of elements or of bytes exceeds a `usize`. dlpark counts bytes
    /// as if no element were repeated, so a tensor that repeats elements can exceed it.
    pub fn tensor_ref(&self) -> Result<tensor::TensorRef<'_>, tensor::Error> {
        // SAFETY: shape and strides point into the tensor's layout, which stays where it is and is
        // not written as long as the tensor is borrowed.
        unsafe { tensor::TensorRef::from_raw(&self.described) }
    }
}

impl std::fmt::Debug for DlparkView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DlparkView").field(&self.described).finish()
    }
}
