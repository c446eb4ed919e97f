//! Structs from other libraries, consumed: read once, checked, kept, and released once.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::exported::{Exported, describe, is_untouched, unwrap};
use super::managed::{Contents, IS_COPIED, ManagedStruct, Payload, READ_ONLY, Token};
use super::validate::invalid;
use crate::ffi::{DLManagedTensorVersioned, DLTensor};
use crate::shared_buffer::SharedBuffer;
use crate::storage::Storage;
use crate::{Descriptor, Rejected, Result, cuda};

/// A DLPack struct from another library, consumed, and released when this is dropped. What it
/// described was copied and checked first; the struct itself is not read again, because its
/// producer may go on writing it.
///
/// Until it is released, another deleter stands in the struct, which releases nothing: if C code
/// consumes the struct a second time, or releases it after it gave it away, that is noticed instead
/// of freeing the memory twice. A struct without a deleter stays as it is, because it may be a
/// constant.
pub struct ManagedTensor<M: ManagedStruct = DLManagedTensorVersioned> {
    owner: StructOwner<M>,
    descriptor: Descriptor,
    flags: u64,
}

/// What owns the memory that a struct describes: the struct, for its deleter.
struct StructOwner<M: ManagedStruct> {
    source: NonNull<M>,
    deleter: Option<unsafe extern "C" fn(*mut M)>,
}

// SAFETY: the caller that imported the struct guarantees that its deleter may be called on any
// thread, and nothing else is done with the struct.
unsafe impl<M: ManagedStruct> Send for StructOwner<M> {}
// SAFETY: a shared reference only gives out the address.
unsafe impl<M: ManagedStruct> Sync for StructOwner<M> {}

impl<M: ManagedStruct> StructOwner<M> {
    /// # Safety
    /// * `source` is a valid struct that the result owns, and `deleter` is its deleter.
    unsafe fn new(source: NonNull<M>, deleter: Option<unsafe extern "C" fn(*mut M)>) -> Self {
        if deleter.is_some() {
            // SAFETY: the caller guarantees a valid struct, which it gives up.
            unsafe { M::set_deleter(source.as_ptr(), Some(M::CONSUMED)) };
        }
        Self { source, deleter }
    }
}

impl<M: ManagedStruct> Drop for StructOwner<M> {
    fn drop(&mut self) {
        let Some(deleter) = self.deleter else { return };
        // A deleter may look at the struct, which has to be what it was.
        // SAFETY: `source` is valid until its deleter runs.
        unsafe { M::set_deleter(self.source.as_ptr(), Some(deleter)) };
        // SAFETY: the struct's own deleter, called once, by the struct's owner.
        unsafe { deleter(self.source.as_ptr()) };
    }
}

impl<M: ManagedStruct> ManagedTensor<M> {
    /// What the struct described when it was consumed.
    #[inline]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The same in DLPack's form. The addresses lead into this value, not into the struct, and hold
    /// until it is moved or dropped. `byte_offset` is 0 and the strides are not NULL, whatever the
    /// struct said.
    #[inline]
    pub fn as_dl_tensor(&self) -> DLTensor {
        describe(&self.descriptor)
    }

    /// The flags of the struct when it was consumed; for the older type of struct, which has none,
    /// `READ_ONLY`.
    #[inline]
    pub fn flags(&self) -> u64 {
        self.flags
    }

    /// Whether the memory can be used without a tensor: the order of streams, which CUDA memory
    /// needs, is kept with tensors.
    #[inline]
    pub(crate) fn needs_no_tensor(&self) -> bool {
        !cuda::tracks(self.descriptor.device())
    }

    /// The elements that the struct described, in a storage that keeps the struct.
    pub(crate) fn into_buffer(self) -> SharedBuffer {
        let Self { owner, descriptor, flags } = self;
        let storage = match (flags & IS_COPIED != 0, flags & READ_ONLY != 0) {
            // SAFETY: `consume`'s caller guarantees that the flags are true: with `IS_COPIED` only
            // the struct's owner reaches the memory.
            (true, false) => unsafe { Storage::copied(owner) },
            // SAFETY: as above; the owner of such a struct does not write.
            (true, true) => unsafe { Storage::read_only(owner) }.marked_as_copied(),
            (false, read_only) => Storage::aliased(owner, !read_only),
        };
        // SAFETY: `consume`'s caller guarantees that the elements are initialised and valid for
        // reads, and for writes unless `READ_ONLY`, until the struct's deleter is called.
        unsafe { SharedBuffer::new(storage, descriptor) }
    }
}

impl<M: ManagedStruct> std::fmt::Debug for ManagedTensor<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagedTensor")
            .field("source", &self.owner.source)
            .field("descriptor", &self.descriptor)
            .finish_non_exhaustive()
    }
}

/// A struct that was consumed.
pub(crate) enum Consumed<M: ManagedStruct> {
    /// This crate made the struct, which is gone.
    Ours(Payload),
    /// Another library made it, or its owner changed one of ours.
    Theirs(ManagedTensor<M>),
}

/// Consumes a struct of a version that is understood, unless it is consumed already. Every field
/// is read once, and so are shape and strides.
///
/// # Errors
/// As for [`Tensor::from_dlpack`](crate::Tensor::from_dlpack).
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
    // SAFETY: a valid struct, of a version whose fields are known.
    let contents = unsafe { M::read(source.as_ptr()) };
    // The marker says that this crate made the struct, the deleter that its owner put no other one
    // there since.
    if is(M::DELETER) && contents.context == M::marker(Token(())) {
        // SAFETY: `export` made the struct as the first field of its box; the caller owns it.
        if unsafe { is_untouched(source, &contents) } {
            // SAFETY: as above.
            return Ok(Consumed::Ours(unsafe { unwrap(exported.into_raw()) }));
        }
    }
    let Contents { tensor, flags, .. } = contents;
    // SAFETY: the caller guarantees `ndim` numbers behind both addresses.
    match unsafe { Descriptor::from_dl_tensor(&tensor, flags) } {
        Ok(descriptor) => {
            let _owned_below = ManuallyDrop::new(exported);
            // SAFETY: a valid struct and its deleter; nothing else owns it any more.
            let owner = unsafe { StructOwner::new(source, deleter) };
            Ok(Consumed::Theirs(ManagedTensor { owner, descriptor, flags }))
        }
        Err(error) => Err(Rejected::new(exported, error)),
    }
}
