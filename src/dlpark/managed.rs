//! Conversions of dlpark's managed tensors.

use ::dlpark::Managed;

use super::structs::{DlparkStruct, give};
#[cfg(doc)]
use crate::Access;
use crate::dlpack::{Consumed, consume, unwrap_own};
use crate::ffi::DLTensor;
use crate::{Descriptor, Error, Rejected, Result, Tensor};

/// Conversions of dlpark's managed tensors, `dlpark::versioned::Dlpack` and
/// `dlpark::legacy::Dlpack`.
///
/// A managed tensor guarantees the struct, its shape, its strides and its deleter. It does not
/// guarantee the elements: neither that the address is valid, nor that the flags are true. So it is
/// safe to read the [`description`](Self::description), and to take back a tensor of this crate
/// with [`into_tensor`](Self::into_tensor). For the managed tensor of another producer there is
/// [`into_tensor_unchecked`](Self::into_tensor_unchecked).
///
/// Containers that dlpark's adapters take, such as images, can often be moved without dlpark and
/// without `unsafe`: `docs/neighbours.md` shows how.
///
/// ```
/// use dlbridge::{DlparkExt, Tensor};
///
/// let managed = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.into_dlpark();
/// assert_eq!(managed.description()?.layout().shape(), [2]);
/// let tensor = managed.into_tensor()?; // the tensor from above
/// assert_eq!(tensor.into_vec::<f32>()?, [1.0, 2.0]); // and its Vec
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a managed tensor of dlpark 0.10",
    label = "not `dlpark::versioned::Dlpack` or `dlpark::legacy::Dlpack`"
)]
pub trait DlparkExt: Sized + Sealed {
    /// Takes back a tensor of this crate. Nothing is copied.
    ///
    /// The memory has the [`Access`] that it had. Aliased memory is not trusted, because no caller
    /// gave a guarantee.
    ///
    /// ```
    /// use dlbridge::{Access, DlparkExt, Tensor};
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2, 3], [3])?;
    /// let address = tensor.data_ptr();
    /// let back = tensor.into_dlpark().into_tensor()?;
    /// assert_eq!((back.data_ptr(), back.access()), (address, Access::Exclusive));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] if another library made the managed tensor, or if `unsafe` code
    /// changed the struct. The managed tensor comes back inside the error.
    fn into_tensor(self) -> Result<Tensor, Rejected<Self>>;

    /// Moves the managed tensor of any producer into a tensor. Nothing is copied.
    ///
    /// The thread that drops the last handle calls the managed tensor's deleter, once. The flags
    /// decide the access state as for [`Tensor::from_dlpack`]: `IS_COPIED` gives
    /// [`Access::Exclusive`], and with `READ_ONLY` [`Access::ReadOnly`]. Without `IS_COPIED`, and
    /// for the older type, the memory is [`Access::Aliased`] and trusted. The older type has no
    /// flags, and its memory counts as read-only. A tensor of this crate is taken back.
    ///
    /// ```
    /// use dlbridge::DlparkExt;
    /// use dlpark::ffi::{DLDataType, DLDevice};
    /// use dlpark::{DlpackFlags, metadata::Dynamic, versioned};
    ///
    /// // What dlpark's adapters do, e.g. for images.
    /// let mut pixels = vec![0_u8, 1, 2, 3, 4, 5];
    /// let data = pixels.as_mut_ptr().cast();
    /// let mut initialized = Dynamic::new([2, 3], [3, 1]).initialize(Box::new(pixels))?;
    /// initialized.set_data(data).set_dtype(DLDataType::U8).set_device(DLDevice::CPU);
    /// initialized.set_flags(DlpackFlags::READ_ONLY)?;
    /// // SAFETY: the `Vec` keeps six bytes at `data`, and moving it does not move them.
    /// let managed: versioned::Dlpack = unsafe { initialized.finish() };
    ///
    /// // SAFETY: the elements are those of the `Vec`, which no other code reaches.
    /// let tensor = unsafe { managed.into_tensor_unchecked() }?;
    /// assert_eq!(tensor.as_slice::<u8>()?, [0, 1, 2, 3, 4, 5]);
    /// assert_eq!(tensor.data_ptr(), data);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Tensor::from_dlpack`]. The managed tensor comes back inside the error.
    ///
    /// # Safety
    /// *The bytes of the struct* are those of its elements and, for host memory, every byte from
    /// the lowest to the highest element, the bytes between the elements included.
    ///
    /// * From this call until the deleter is called, all bytes of the struct are initialised and
    ///   valid for reads, and for writes unless `READ_ONLY` is set or the type is the older one.
    /// * No other code writes a byte of the struct while a Rust view of its memory (an `ArrayView`,
    ///   a slice, an `NdArray`) lives or a call of this crate reads it; the bytes of a bool buffer
    ///   are 0 and 1 as long as such a view lives.
    /// * The flags are truthful: with `IS_COPIED`, no other code reads or writes the bytes of the
    ///   struct until its deleter is called; with `IS_COPIED` and `READ_ONLY`, no code writes them.
    unsafe fn into_tensor_unchecked(self) -> Result<Tensor, Rejected<Self>>;

    /// Returns the checked description of the elements. It borrows nothing.
    ///
    /// ```
    /// use dlbridge::{DType, DlparkExt, Tensor};
    ///
    /// let managed = Tensor::zeros::<i64>([2, 3])?.into_dlpark();
    /// let described = managed.description()?;
    /// assert_eq!((described.dtype(), described.layout().strides()), (DType::I64, &[3, 1][..]));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for a description with invalid values.
    fn description(&self) -> Result<Descriptor>;
}

impl<M: DlparkStruct> DlparkExt for Managed<M> {
    fn into_tensor(self) -> Result<Tensor, Rejected<Self>> {
        let taken = give(self, |source| {
            // SAFETY: a `Managed` owns a valid struct, whose version `Managed::from_raw` checked,
            // and gives it up if this succeeds.
            unsafe { unwrap_own(source) }.ok_or_else(|| Error::InvalidDescriptor {
                field: "deleter".into(),
                value: "another library's".into(),
                reason: "its elements cannot be checked, so only into_tensor_unchecked() takes it",
            })
        });
        let payload = taken.map_err(|(managed, error)| Rejected::new(managed, error))?;
        Ok(Tensor::from_buffer(payload.buffer))
    }

    unsafe fn into_tensor_unchecked(self) -> Result<Tensor, Rejected<Self>> {
        let taken = give(self, |source| {
            // SAFETY: a `Managed` owns a valid struct, with a deleter that may run on any thread.
            // Shape and strides are valid as long as the struct is. The caller guarantees the rest:
            // what `from_dlpack` requires of the elements and of the flags.
            unsafe { consume(source) }.map_err(|rejected| {
                let (exported, error) = rejected.into_parts();
                // `give` returns the managed tensor, which owns the struct again.
                let _owned_by_managed = exported.into_raw();
                error
            })
        });
        let buffer = match taken.map_err(|(managed, error)| Rejected::new(managed, error))? {
            Consumed::Ours(payload) => payload.buffer,
            Consumed::Theirs(managed) => managed.into_buffer(),
        };
        // SAFETY: the caller guarantees that no other code writes while views exist.
        Ok(unsafe { Tensor::from_trusted_buffer(buffer) })
    }

    fn description(&self) -> Result<Descriptor> {
        // SAFETY: a `Managed` has a readable description, which no code writes while the `Managed`
        // is borrowed.
        let tensor = unsafe { self.tensor() };
        // SAFETY: the reference was made just above, and `same_layout` compared the two types.
        let tensor = unsafe { &*(&raw const *tensor).cast::<DLTensor>() };
        // SAFETY: a `Managed` guarantees that its shape and its strides are valid for reads.
        unsafe { Descriptor::from_dl_tensor(tensor, self.flags().bits()) }
    }
}

mod sealed {
    pub trait Sealed {}
}
use sealed::Sealed;

impl<M: DlparkStruct> Sealed for Managed<M> {}
