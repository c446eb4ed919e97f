//! Conversions of tensors to and from DLPack's structs.

use std::ptr::NonNull;

#[cfg(doc)]
use super::Access;
use super::Tensor;
use crate::dlpack::{
    self, Consumed, Exported, IS_COPIED, ManagedStruct, ManagedTensor, PADDED, Payload, READ_ONLY,
};
use crate::ffi::{DLManagedTensor, DLManagedTensorVersioned, DLTensor};
use crate::{Error, Rejected, Remedy, Result};

/// A DLPack struct that was consumed without allocating a storage, if that is possible.
///
/// ```
/// use dlbridge::{Imported, Tensor};
///
/// let raw = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.into_dlpack().into_raw();
/// // SAFETY: the struct was made just above, and no other code consumed it.
/// match unsafe { Imported::new(raw) }? {
///     Imported::Managed(managed) => println!("{:?}", managed.descriptor().layout()),
///     Imported::Tensor(tensor) => assert_eq!(tensor.into_vec::<f32>()?, [1.0, 2.0]), // this one
/// }
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Debug)]
pub enum Imported<M: ManagedStruct = DLManagedTensorVersioned> {
    /// The struct of another library, in memory that this crate need not track.
    Managed(ManagedTensor<M>),
    /// The tensor of a struct that this crate made, or of CUDA memory.
    Tensor(Tensor),
}

impl<M: ManagedStruct> Imported<M> {
    /// Consumes a DLPack struct as [`Tensor::from_dlpack`] does, but makes a tensor only if needed.
    ///
    /// The struct of another library becomes a [`ManagedTensor`], for which no storage is
    /// allocated. This is for code that reads a description and releases the struct.
    ///
    /// ```
    /// use dlbridge::{Imported, Tensor, ffi::DLManagedTensorVersioned};
    /// use std::ptr::NonNull;
    ///
    /// /// Consumes a struct and returns its number of bytes.
    /// ///
    /// /// # Safety
    /// /// * As for [`Tensor::from_dlpack`].
    /// unsafe fn nbytes(source: NonNull<DLManagedTensorVersioned>) -> dlbridge::Result<usize> {
    ///     // SAFETY: the caller guarantees all that `Tensor::from_dlpack` requires.
    ///     match unsafe { Imported::new(source) }? {
    ///         Imported::Managed(managed) => Ok(managed.descriptor().nbytes()),
    ///         Imported::Tensor(tensor) => Ok(tensor.nbytes()),
    ///     }
    /// }
    /// let raw = Tensor::zeros::<f32>([2, 3])?.into_dlpack().into_raw();
    /// // SAFETY: the struct was made just above, and no other code consumed it.
    /// assert_eq!(unsafe { nbytes(raw) }?, 24);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Tensor::from_dlpack`].
    ///
    /// # Safety
    /// * As for [`Tensor::from_dlpack`].
    #[inline]
    pub unsafe fn new(source: NonNull<M>) -> Result<Self, Rejected<Exported<M>>> {
        // SAFETY: the caller guarantees all that `from_dlpack` requires; `consume` requires the
        // same.
        let buffer = match unsafe { dlpack::consume(source) }? {
            Consumed::Theirs(managed) if managed.needs_no_tensor() => {
                return Ok(Self::Managed(managed));
            }
            Consumed::Theirs(managed) => managed.into_buffer(),
            Consumed::Ours(payload) => payload.buffer,
        };
        // SAFETY: the caller guarantees that no other code writes while views exist.
        Ok(Self::Tensor(unsafe { Tensor::from_trusted_buffer(buffer) }))
    }
}

impl Tensor {
    /// Consumes a DLPack struct. Nothing is copied.
    ///
    /// The thread that drops the last handle calls the struct's deleter, once. A struct that this
    /// crate exported is unwrapped, unless its owner changed a field. A buffer that is passed back
    /// and forth is thus not wrapped again and again.
    ///
    /// The flags of the struct decide the access state. `IS_COPIED` gives [`Access::Exclusive`],
    /// and with `READ_ONLY` [`Access::ReadOnly`]. Without `IS_COPIED` the memory is
    /// [`Access::Aliased`], and writable unless `READ_ONLY` is set. Strides may be NULL, which
    /// means row-major, and `byte_offset` is added. Every field, every size and every stride is
    /// read once, during the call. If the producer writes them later, the tensor stays as it is.
    ///
    /// ```
    /// use dlbridge::{Tensor, ffi::DLManagedTensorVersioned};
    /// use std::ptr::NonNull;
    ///
    /// /// Stands for a C function that makes a struct and gives it to its caller.
    /// fn make_frame() -> NonNull<DLManagedTensorVersioned> {
    ///     Tensor::zeros::<u8>([2, 3]).expect("6 bytes").into_dlpack().into_raw()
    /// }
    /// // SAFETY: `make_frame` gives the caller a valid struct, and no other code uses its memory.
    /// let frame = unsafe { Tensor::from_dlpack(make_frame()) }?;
    /// assert_eq!(frame.shape(), [2, 3]);
    /// assert_eq!(frame.as_slice::<u8>()?, [0; 6]); // the producer's memory
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`] for another major version, of which no other field is read;
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for a description with values that
    /// cannot be right; [`Error::InvalidDescriptor`] for a struct that was consumed already. The
    /// struct comes back inside the error, and its deleter was not called.
    ///
    /// # Safety
    /// *The bytes of the struct* are those of its elements and, for host memory, every byte from
    /// the lowest to the highest element, the bytes between the elements included.
    ///
    /// * `source` points to a valid struct that the caller owns. Its deleter may be called on any
    ///   thread; until then another deleter replaces it in the struct. During this call, `shape`
    ///   and, unless it is NULL, `strides` point to `ndim` numbers.
    /// * From this call until the deleter is called, all bytes of the struct are initialised and
    ///   valid for reads, and for writes unless `READ_ONLY` is set.
    /// * No other code writes a byte of the struct while a Rust view of its memory (an `ArrayView`,
    ///   a slice, an [`NdArray`](crate::NdArray)) lives or a call of this crate reads it; the bytes
    ///   of a bool buffer are 0 and 1 as long as such a view lives.
    /// * The flags are truthful: with `IS_COPIED`, no other code reads or writes the bytes of the
    ///   struct until its deleter is called; with `IS_COPIED` and `READ_ONLY`, no code writes them.
    #[inline]
    pub unsafe fn from_dlpack(
        source: NonNull<DLManagedTensorVersioned>,
    ) -> Result<Self, Rejected<Exported>> {
        // SAFETY: the caller guarantees all that `from_dlpack` requires; `import` requires the
        // same.
        unsafe { Self::import(source) }
    }

    /// Consumes a DLPack struct of the older type `DLManagedTensor`. Nothing is copied.
    ///
    /// That struct has no flags. This crate treats its memory as read-only, as NumPy does: it is
    /// [`Access::Aliased`], and not writable.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.into_aliased()?;
    /// let raw = tensor.into_dlpack_legacy()?.into_raw(); // writable for the consumer
    /// // SAFETY: the struct was made just above, and no other code consumed it.
    /// let back = unsafe { Tensor::from_dlpack_legacy(raw) }?;
    /// assert_eq!(back.as_slice::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`from_dlpack`](Self::from_dlpack), except that there is no version to check.
    ///
    /// # Safety
    /// * As for [`from_dlpack`](Self::from_dlpack).
    pub unsafe fn from_dlpack_legacy(
        source: NonNull<DLManagedTensor>,
    ) -> Result<Self, Rejected<Exported<DLManagedTensor>>> {
        // SAFETY: the caller guarantees all that `from_dlpack` requires; `import` requires the
        // same.
        unsafe { Self::import(source) }
    }

    /// # Safety
    /// * As for [`from_dlpack`](Self::from_dlpack).
    unsafe fn import<M: ManagedStruct>(source: NonNull<M>) -> Result<Self, Rejected<Exported<M>>> {
        // SAFETY: the caller guarantees all that `from_dlpack` requires; `consume` requires the
        // same.
        let buffer = match unsafe { dlpack::consume(source) }? {
            Consumed::Ours(payload) => payload.buffer,
            Consumed::Theirs(managed) => managed.into_buffer(),
        };
        // SAFETY: the caller guarantees that no other code writes while views exist.
        Ok(unsafe { Self::from_trusted_buffer(buffer) })
    }

    /// Moves the tensor into a struct.
    ///
    /// # Safety
    /// * `flags` are true of every byte from the lowest to the highest element of this handle.
    #[inline]
    unsafe fn export<M: ManagedStruct>(self, flags: u64) -> Exported<M> {
        let Self { stream_use, buffer, .. } = self;
        // SAFETY: the caller guarantees that the flags are true of this handle's memory.
        unsafe { dlpack::export(Payload { stream_use, buffer }, flags) }
    }

    /// Moves the tensor into a DLPack struct of version 1.3. Nothing is copied.
    ///
    /// The consumer may write the memory if this is the only handle to [`Access::Exclusive`]
    /// memory, or if the memory is aliased and writable. Otherwise the struct has the flag
    /// `READ_ONLY`. It has the flag `IS_COPIED` if this is the only handle to exclusive memory that
    /// this crate allocated.
    ///
    /// The elements of CUDA memory are ready on the legacy default stream, or on the stream that
    /// was passed to `with_stream` (with the feature `cuda`).
    ///
    /// ```
    /// use dlbridge::{Tensor, ffi};
    ///
    /// let exported = Tensor::zeros::<f32>([2, 3])?.into_dlpack();
    /// // SAFETY: `exported` keeps the struct, and no other code has it.
    /// let flags = unsafe { exported.as_ptr().as_ref() }.flags;
    /// assert_eq!(flags, u64::from(ffi::DLPACK_FLAG_BITMASK_IS_COPIED)); // not READ_ONLY
    /// let to_c = exported.into_raw(); // the consumer calls the deleter
    /// # // SAFETY: the struct was made just above, and no other code consumed it.
    /// # drop(unsafe { Tensor::from_dlpack(to_c) });
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn into_dlpack(mut self) -> Exported {
        let flags = self.moving_flags();
        // SAFETY: `moving_flags` gives flags that are true of a handle that is moved.
        unsafe { self.export(flags) }
    }

    /// Describes the tensor as a DLPack struct that owns nothing.
    ///
    /// The addresses point into this handle, and are valid until it is moved, changed or dropped.
    /// `data` is NULL if there are no elements.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let view = tensor.as_dl_tensor(); // for a C function that only borrows
    /// assert_eq!((view.ndim, view.dtype.bits, view.data), (1, 32, tensor.data_ptr()));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn as_dl_tensor(&self) -> DLTensor {
        dlpack::describe(self.descriptor())
    }

    /// Makes a DLPack struct of version 1.3 that owns the same memory. Nothing is copied.
    ///
    /// The struct is `READ_ONLY` unless the memory is aliased and writable. While the struct lives,
    /// this handle is not the only one, so it cannot write exclusive memory.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let mut tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let for_consumer = tensor.share_dlpack();
    /// assert_eq!(tensor.as_slice::<f32>()?, [1.0, 2.0]); // both may read
    /// assert!(tensor.as_slice_mut::<f32>().is_err());
    /// drop(for_consumer); // as its deleter does
    /// assert!(tensor.as_slice_mut::<f32>().is_ok());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn share_dlpack(&self) -> Exported {
        // SAFETY: `dlpack_flags` gives flags that are true of one more owner.
        unsafe { self.share().export(self.dlpack_flags()) }
    }

    /// Moves the tensor into a `DLManagedTensor`, DLPack's older struct. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::{Error, Tensor};
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// let other = tensor.share(); // now neither handle may be written
    /// let rejected = tensor.into_dlpack_legacy().unwrap_err();
    /// assert!(matches!(rejected.error(), Error::ReadOnly { .. }));
    /// drop(other);
    /// let exported = rejected.into_value().into_dlpack_legacy()?;
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ReadOnly`] if [`into_dlpack`](Self::into_dlpack) would set `READ_ONLY`, and
    /// [`Error::UnsupportedDType`] for padded elements: the older struct has no flags. The tensor
    /// comes back inside the error.
    pub fn into_dlpack_legacy(mut self) -> Result<Exported<DLManagedTensor>, Rejected<Self>> {
        let flags = self.moving_flags();
        match self.check_legacy(flags) {
            // SAFETY: `check_legacy` refused memory that is read-only.
            Ok(()) => Ok(unsafe { self.export(0) }),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    /// Makes a `DLManagedTensor`, DLPack's older struct, that owns the same memory.
    ///
    /// Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// assert!(tensor.share_dlpack_legacy().is_err()); // the struct cannot say READ_ONLY
    /// let tensor = tensor.into_aliased()?;
    /// let exported = tensor.share_dlpack_legacy()?;
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::ReadOnly`] unless the memory is aliased and writable, and
    /// [`Error::UnsupportedDType`] for padded elements: the older struct has no flags.
    #[inline]
    pub fn share_dlpack_legacy(&self) -> Result<Exported<DLManagedTensor>> {
        self.check_legacy(self.dlpack_flags())?;
        // SAFETY: `check_legacy` refused memory that is read-only.
        Ok(unsafe { self.share().export(0) })
    }

    #[inline]
    fn check_legacy(&self, flags: u64) -> Result<()> {
        if flags & READ_ONLY != 0 {
            return Err(Error::ReadOnly { remedy: Remedy::ExportVersioned });
        }
        if flags & PADDED != 0 {
            return Err(Error::UnsupportedDType {
                dtype: self.dtype(),
                target: "DLPack's older struct",
            });
        }
        Ok(())
    }

    /// Returns the flags that the struct of [`share_dlpack`](Self::share_dlpack) has.
    ///
    /// ```
    /// use dlbridge::{Tensor, ffi};
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// assert_eq!(tensor.dlpack_flags(), u64::from(ffi::DLPACK_FLAG_BITMASK_READ_ONLY));
    /// assert_eq!(tensor.into_aliased()?.dlpack_flags(), 0);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn dlpack_flags(&self) -> u64 {
        let read_only = if self.is_shared_read_only() { READ_ONLY } else { 0 };
        let padded = if self.descriptor().is_padded() { PADDED } else { 0 };
        read_only | padded
    }

    /// Returns the flags of a struct that this handle is moved into.
    fn moving_flags(&mut self) -> u64 {
        let flags = self.dlpack_flags();
        if self.require_exclusive().is_err() {
            return flags;
        }
        let copied = if self.buffer.storage().is_copied() { IS_COPIED } else { 0 };
        (flags & !READ_ONLY) | copied
    }
}
