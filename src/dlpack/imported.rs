//! Structs from other libraries, consumed: checked, kept, and released once.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::exported::{Exported, is_untouched, unwrap};
use super::managed::{IS_COPIED, ManagedStruct, Payload, READ_ONLY, Token};
use super::validate::{invalid, is_ordinary};
use crate::ffi::{DLManagedTensorVersioned, DLTensor};
use crate::shared_buffer::SharedBuffer;
use crate::storage::Storage;
use crate::{Descriptor, Device, Rejected, Result, cuda};

/// A DLPack struct from another library, checked and consumed, kept as it came, and released when
/// this is dropped.
///
/// Until then another deleter stands in the struct, which releases nothing: if C code consumes the
/// struct a second time, or releases it after it gave it away, that is noticed instead of freeing
/// the memory twice. A struct without a deleter stays as it is, because it may be a constant.
pub struct ManagedTensor<M: ManagedStruct = DLManagedTensorVersioned> {
    source: Exported<M>,
    deleter: Option<unsafe extern "C" fn(*mut M)>,
}

impl<M: ManagedStruct> ManagedTensor<M> {
    #[inline]
    fn new(source: Exported<M>, deleter: Option<unsafe extern "C" fn(*mut M)>) -> Self {
        if deleter.is_some() {
            // SAFETY: `source` owns a valid struct.
            unsafe { M::set_deleter(source.as_ptr().as_ptr(), Some(M::CONSUMED)) };
        }
        Self { source, deleter }
    }

    /// Puts the struct's own deleter back.
    #[inline]
    fn restore(&mut self) {
        if self.deleter.is_some() {
            // SAFETY: `source` owns a valid struct.
            unsafe { M::set_deleter(self.source.as_ptr().as_ptr(), self.deleter) };
        }
    }

    /// The struct as it was.
    fn into_source(self) -> Exported<M> {
        let mut managed = ManuallyDrop::new(self);
        managed.restore();
        // SAFETY: `managed` is not dropped, so the result is the struct's only owner.
        unsafe { Exported::from_raw(managed.source.as_ptr()) }
    }

    /// What the struct says of the tensor: valid as long as `self` lives.
    #[inline]
    pub fn tensor(&self) -> &DLTensor {
        // SAFETY: `source` owns the struct, which is valid until its deleter runs and which the
        // caller of the importing function gave up, so that no one changes it.
        unsafe { self.source.as_ptr().as_ref() }.tensor(Token(()))
    }

    /// The struct's flags; for the older type of struct, which has none, `READ_ONLY`.
    #[inline]
    pub fn flags(&self) -> u64 {
        // SAFETY: as in `tensor`.
        unsafe { self.source.as_ptr().as_ref() }.flags(Token(()))
    }

    /// Whether the description is complete and right as it stands, so that no checked copy of it is
    /// needed: see [`is_ordinary`]. CUDA memory is never that, because the order of streams must be
    /// kept with it.
    #[inline]
    pub(crate) fn is_ordinary(&self) -> bool {
        // SAFETY: `consume`'s caller guarantees `ndim` numbers behind both addresses.
        let ordinary = unsafe { is_ordinary(self.tensor(), self.flags()) };
        ordinary && !is_tracked(self.tensor())
    }

    /// The elements that the struct describes, in a storage that keeps the struct.
    ///
    /// # Errors
    /// [`Error::InvalidDescriptor`](crate::Error::InvalidDescriptor) and
    /// [`Error::Overflow`](crate::Error::Overflow) for a description that cannot be right. The
    /// struct comes back inside the error.
    pub(crate) fn into_buffer(self) -> Result<SharedBuffer, Rejected<Exported<M>>> {
        let flags = self.flags();
        // SAFETY: `consume`'s caller guarantees `ndim` numbers behind both addresses.
        let descriptor = match unsafe { Descriptor::from_dl_tensor(self.tensor(), flags) } {
            Ok(descriptor) => descriptor,
            Err(error) => return Err(Rejected::new(self.into_source(), error)),
        };
        let storage = match (flags & IS_COPIED != 0, flags & READ_ONLY != 0) {
            // SAFETY: `consume`'s caller guarantees that the flags are true: with `IS_COPIED` only
            // the struct's owner reaches the memory.
            (true, false) => unsafe { Storage::copied(self) },
            // SAFETY: as above; the owner of such a struct does not write.
            (true, true) => unsafe { Storage::read_only(self) }.marked_as_copied(),
            (false, read_only) => Storage::aliased(self, !read_only),
        };
        // SAFETY: `consume`'s caller guarantees that the elements are initialised and valid for
        // reads, and for writes unless `READ_ONLY`, until the struct's deleter is called.
        Ok(unsafe { SharedBuffer::new(storage, descriptor) })
    }
}

impl<M: ManagedStruct> Drop for ManagedTensor<M> {
    #[inline]
    fn drop(&mut self) {
        // `source` is dropped after this, and calls the deleter.
        self.restore();
    }
}

impl<M: ManagedStruct> std::fmt::Debug for ManagedTensor<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ManagedTensor").field(&self.source).finish()
    }
}

/// Whether the order of streams is kept with the memory.
fn is_tracked(tensor: &DLTensor) -> bool {
    let device_type = tensor.device.device_type.cast_signed();
    cuda::tracks(Device { device_type, index: tensor.device.device_id })
}

/// A struct that was consumed.
pub(crate) enum Consumed<M: ManagedStruct> {
    /// This crate made the struct, which is gone.
    Ours(Payload),
    /// Another library made it, or its owner changed one of ours.
    Theirs(ManagedTensor<M>),
}

/// Consumes a struct of a version that is understood, unless it is consumed already.
///
/// # Safety
/// * As for [`Tensor::from_dlpack`](crate::Tensor::from_dlpack).
#[inline]
pub(crate) unsafe fn consume<M: ManagedStruct>(
    source: NonNull<M>,
) -> Result<Consumed<M>, Rejected<Exported<M>>> {
    // SAFETY: the caller guarantees a valid struct, which it gives up.
    let exported = unsafe { Exported::from_raw(source) };
    // SAFETY: the caller guarantees a valid struct.
    if let Err(error) = unsafe { M::check_version(source.as_ptr()) } {
        return Err(Rejected::new(exported, error));
    }
    // SAFETY: a valid struct, of a version whose fields are known.
    let deleter = unsafe { M::deleter(source.as_ptr()) };
    let is = |known| deleter.is_some_and(|deleter| std::ptr::fn_addr_eq(deleter, known));
    if is(M::CONSUMED) {
        let error = invalid("deleter", "consumed".into(), "the struct was consumed already");
        return Err(Rejected::new(exported, error));
    }
    // The marker says that this crate made the struct, the deleter that its owner put no other one
    // there since.
    // SAFETY: a valid struct, of a version whose fields are known.
    if is(M::DELETER) && unsafe { source.as_ref() }.context(Token(())) == M::marker(Token(())) {
        // SAFETY: `export` made the struct as the first field of its box; the caller owns it.
        if unsafe { is_untouched(source) } {
            // SAFETY: as above.
            return Ok(Consumed::Ours(unsafe { unwrap(exported.into_raw()) }));
        }
    }
    Ok(Consumed::Theirs(ManagedTensor::new(exported, deleter)))
}
