//! The methods of a tensor that name dlpark's types.

#![forbid(unsafe_code)]

use ::dlpark::{legacy, versioned};

use super::structs::into_managed;
use super::view::DlparkView;
#[cfg(doc)]
use crate::{Access, Error};
use crate::{Rejected, Result, Tensor};

impl Tensor {
    /// Moves the tensor into a versioned managed tensor of dlpark. Nothing is copied.
    ///
    /// dlpark finishes a managed tensor with an `unsafe` function, because it cannot know whether
    /// the addresses in it are valid. A tensor knows, so this method is safe. The flags are those
    /// of [`into_dlpack`](Self::into_dlpack): `READ_ONLY`, `IS_COPIED` and `IS_SUBBYTE_TYPE_PADDED`
    /// say what is true of the memory. [`DlparkExt::into_tensor`](crate::DlparkExt::into_tensor)
    /// gives the tensor back.
    ///
    /// dlpark's functions that read a managed tensor are `unsafe`, because they trust its
    /// description. For host memory that is [`Access::Exclusive`] or [`Access::ReadOnly`], the
    /// result of this method meets what they require.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use dlpark::DlpackFlags;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3])?;
    /// let address = tensor.data_ptr();
    /// let managed: dlpark::versioned::Dlpack = tensor.into_dlpark();
    /// assert_eq!(managed.validate()?.data_ptr(), address);
    /// assert_eq!(managed.flags(), DlpackFlags::empty()); // the consumer may write
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_dlpark(self) -> versioned::Dlpack {
        into_managed(self.into_dlpack())
    }

    /// Moves the tensor into dlpark's managed tensor of the older type. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let managed: dlpark::legacy::Dlpack = tensor.into_dlpark_legacy()?;
    /// assert_eq!(managed.validate()?.shape(), [2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`into_dlpack_legacy`](Self::into_dlpack_legacy): [`Error::ReadOnly`] and
    /// [`Error::UnsupportedDType`], because the older struct has no flags. The tensor comes back
    /// inside the error.
    pub fn into_dlpark_legacy(self) -> Result<legacy::Dlpack, Rejected<Self>> {
        self.into_dlpack_legacy().map(into_managed)
    }

    /// Makes a versioned managed tensor of dlpark that owns the same memory. Nothing is copied.
    ///
    /// This is for dlpark's functions that borrow a managed tensor. The flags are those of
    /// [`share_dlpack`](Self::share_dlpack): `READ_ONLY` unless the memory is aliased and writable.
    /// While the result lives, this handle is not the only one, so it cannot write.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use dlpark::DlpackFlags;
    ///
    /// let mut tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let shared = tensor.share_dlpark();
    /// assert_eq!(shared.flags(), DlpackFlags::READ_ONLY);
    /// assert!(tensor.as_slice_mut::<f32>().is_err());
    /// drop(shared);
    /// assert!(tensor.as_slice_mut::<f32>().is_ok());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn share_dlpark(&self) -> versioned::Dlpack {
        into_managed(self.share_dlpack())
    }

    /// Makes a managed tensor of dlpark's older type that owns the same memory. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// assert!(tensor.share_dlpark_legacy().is_err()); // the struct cannot say READ_ONLY
    /// let shared = tensor.into_aliased()?.share_dlpark_legacy()?;
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`share_dlpack_legacy`](Self::share_dlpack_legacy).
    pub fn share_dlpark_legacy(&self) -> Result<legacy::Dlpack> {
        self.share_dlpack_legacy().map(into_managed)
    }

    /// Borrows the tensor as a description for dlpark. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::zeros::<u8>([2, 3])?;
    /// let view = tensor.as_dlpark();
    /// assert!(view.tensor_ref()?.is_compact()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_dlpark(&self) -> DlparkView<'_> {
        DlparkView::new(self)
    }
}
