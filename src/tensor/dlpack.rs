//! Tensors in and out of DLPack's structs.

use std::ptr::NonNull;

#[cfg(doc)]
use super::Access;
use super::Tensor;
use crate::dlpack::{
    self, Consumed, Exported, IS_COPIED, ManagedStruct, ManagedTensor, PADDED, Payload, READ_ONLY,
};
use crate::ffi::{DLManagedTensor, DLManagedTensorVersioned, DLTensor};
use crate::{Error, Rejected, Remedy, Result};

/// A DLPack struct that was consumed at the least cost.
///
/// ```
/// use dlbridge::{Imported, Tensor};
///
/// let raw = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.into_dlpack().into_raw();
/// // SAFETY: the struct was made just above, and no other code consumed it.
/// match unsafe { Imported::new(raw) }? {
///     Imported::Managed(managed) => println!("{:?}", managed.descriptor().layout()),
///     Imported::Tensor(tensor) => assert_eq!(tensor.into_vec::<f32>()?, [1.0, 2.0]), // one of ours
/// }
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Debug)]
pub enum Imported<M: ManagedStruct = DLManagedTensorVersioned> {
    /// A struct of another library, which needs no tensor yet.
    Managed(ManagedTensor<M>),
    /// The tensor of a struct of this crate's own, or of CUDA memory.
    Tensor(Tensor),
}

impl<M: ManagedStruct> Imported<M> {
    /// Consumes a DLPack struct as [`Tensor::from_dlpack`] does, but makes no tensor of a struct of
    /// another library if that is possible: then no storage is allocated. For code that mostly
    /// passes structs on.
    ///
    /// # Errors
    /// As for [`Tensor::from_dlpack`].
    ///
    /// # Safety
    /// * As for [`Tensor::from_dlpack`].
    #[inline]
    pub unsafe fn new(source: NonNull<M>) -> Result<Self, Rejected<Exported<M>>> {
        // SAFETY: the caller guarantees all that `consume` requires.
        let buffer = match unsafe { dlpack::consume(source) }? {
            Consumed::Theirs(managed) if managed.needs_no_tensor() => {
                return Ok(Self::Managed(managed));
            }
            Consumed::Theirs(managed) => managed.into_buffer(),
            Consumed::Ours(payload) => payload.buffer,
        };
        // SAFETY: the caller guarantees that no one writes while views exist.
        Ok(Self::Tensor(unsafe { Tensor::from_trusted_buffer(buffer) }))
    }
}

impl Tensor {
    /// Consumes a DLPack struct. Nothing is copied; the struct's deleter is called once, on
    /// whichever thread drops the last handle. A struct that this crate exported is unwrapped, so
    /// that passing back and forth adds no layers, unless its owner changed what it says.
    ///
    /// Access follows the flags: `IS_COPIED` proves [`Access::Exclusive`] (with `READ_ONLY`:
    /// [`Access::ReadOnly`]), anything else is [`Access::Aliased`], writable unless `READ_ONLY`.
    /// Strides may be NULL (row-major) and `byte_offset` is honoured. Every field of the struct,
    /// every size and every stride is read once, during the call: what the producer writes there
    /// later changes nothing.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`] for another major version, of which nothing else is read;
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for a description that cannot be right,
    /// and for a struct that is consumed already. The struct comes back inside the error, its
    /// deleter not called.
    ///
    /// # Safety
    /// *The bytes of the struct* are those of its elements and, for host memory, every byte from
    /// the lowest to the highest element, the bytes between the elements included.
    ///
    /// * `source` points to a valid struct that the caller owns; its deleter may be called on any
    ///   thread, and is replaced in the struct until then; during this call, `shape` and, unless
    ///   NULL, `strides` point to `ndim` numbers.
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
        // SAFETY: the caller guarantees all that `import` requires.
        unsafe { Self::import(source) }
    }

    /// Consumes a DLPack struct of the older type, as [`from_dlpack`](Self::from_dlpack).
    ///
    /// That struct has no flags, so its memory is treated as read-only, as NumPy does:
    /// [`Access::Aliased`], not writable.
    ///
    /// # Errors
    /// As for [`from_dlpack`](Self::from_dlpack); there is no version to check.
    ///
    /// # Safety
    /// * As for [`from_dlpack`](Self::from_dlpack).
    pub unsafe fn from_dlpack_legacy(
        source: NonNull<DLManagedTensor>,
    ) -> Result<Self, Rejected<Exported<DLManagedTensor>>> {
        // SAFETY: the caller guarantees all that `import` requires.
        unsafe { Self::import(source) }
    }

    /// # Safety
    /// * As for [`from_dlpack`](Self::from_dlpack).
    unsafe fn import<M: ManagedStruct>(source: NonNull<M>) -> Result<Self, Rejected<Exported<M>>> {
        // SAFETY: the caller guarantees all that `consume` requires.
        let buffer = match unsafe { dlpack::consume(source) }? {
            Consumed::Ours(payload) => payload.buffer,
            Consumed::Theirs(managed) => managed.into_buffer(),
        };
        // SAFETY: the caller guarantees that no one writes while views exist.
        Ok(unsafe { Self::from_trusted_buffer(buffer) })
    }

    /// Hands the tensor to a struct, which owns it from then on.
    ///
    /// # Safety
    /// * `flags` are true of every byte from the lowest to the highest element of this handle.
    #[inline]
    unsafe fn export<M: ManagedStruct>(self, flags: u64) -> Exported<M> {
        let Self { stream_use, buffer, .. } = self;
        // SAFETY: the caller guarantees true flags.
        unsafe { dlpack::export(Payload { stream_use, buffer }, flags) }
    }

    /// Moves the tensor into a DLPack struct of version 1.3. Nothing is copied.
    ///
    /// The only handle to [`Access::Exclusive`] memory gives a struct that may be written
    /// (`IS_COPIED` too if this crate allocated the memory); aliased memory as writable as it is;
    /// everything else is `READ_ONLY`.
    ///
    /// Memory of a CUDA device is ready on the legacy default stream, as every export's is, or on
    /// that of `with_stream` (with the feature `cuda`).
    pub fn into_dlpack(mut self) -> Exported {
        let flags = self.moving_flags();
        // SAFETY: `moving_flags` checked what this handle knows of its memory.
        unsafe { self.export(flags) }
    }

    /// Describes the tensor in DLPack's form. Nothing is copied or owned: the addresses lead into
    /// this handle, and hold until it is moved, changed or dropped. An empty tensor has no address.
    #[inline]
    pub fn as_dl_tensor(&self) -> DLTensor {
        dlpack::describe(self.descriptor())
    }

    /// Another owner of the same memory, as a DLPack struct of version 1.3. Nothing is copied.
    ///
    /// The struct is `READ_ONLY` unless the memory is aliased and writable.
    #[inline]
    pub fn share_dlpack(&self) -> Exported {
        // SAFETY: `dlpack_flags` are true for one more owner.
        unsafe { self.share().export(self.dlpack_flags()) }
    }

    /// Moves the tensor into a DLPack struct of the older type. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] when [`into_dlpack`](Self::into_dlpack) would say `READ_ONLY`, for which
    /// the older struct has no room; [`Error::UnsupportedDType`] for padded elements, which it
    /// cannot express either. The tensor comes back inside the error.
    pub fn into_dlpack_legacy(mut self) -> Result<Exported<DLManagedTensor>, Rejected<Self>> {
        let flags = self.moving_flags();
        match self.check_legacy(flags) {
            // SAFETY: `check_legacy` refused memory that is read-only.
            Ok(()) => Ok(unsafe { self.export(0) }),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    /// Another owner of the same memory, as a DLPack struct of the older type. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] unless the memory is aliased and writable; [`Error::UnsupportedDType`]
    /// for padded elements.
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

    /// The flags of a DLPack struct that is one more owner of the memory:
    /// [`share_dlpack`](Self::share_dlpack)'s.
    #[inline]
    pub fn dlpack_flags(&self) -> u64 {
        let read_only = if self.is_shared_read_only() { READ_ONLY } else { 0 };
        let padded = if self.descriptor().is_padded() { PADDED } else { 0 };
        read_only | padded
    }

    /// Flags for a struct that this handle moves into.
    fn moving_flags(&mut self) -> u64 {
        let flags = self.dlpack_flags();
        if self.require_exclusive().is_err() {
            return flags;
        }
        let copied = if self.buffer.storage().is_copied() { IS_COPIED } else { 0 };
        (flags & !READ_ONLY) | copied
    }
}
