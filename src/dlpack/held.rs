//! Structs of somebody else's making, taken over.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::description::{is_ordinary, refusal};
use super::sealed::Token;
use super::{Block, COPIED, Exported, ManagedStruct, READ_ONLY, is_untouched, unwrap};
use crate::ffi::{DLManagedTensorVersioned, DLTensor};
use crate::storage::Storage;
use crate::{Access, Descriptor, Device, Rejected, Result, Tensor};

/// A DLPack struct that somebody else made, checked and taken over, released when this is dropped.
///
/// Until then another deleter stands in the struct: to take it a second time, or to release it after it
/// was given away, is a mistake that C code makes, and is noticed instead of freeing the memory twice.
/// A struct without a deleter stays as it is, because it may be a constant.
pub struct ManagedTensor<M: ManagedStruct = DLManagedTensorVersioned> {
    source: Exported<M>,
    deleter: Option<unsafe extern "C" fn(*mut M)>,
}

impl<M: ManagedStruct> ManagedTensor<M> {
    #[inline]
    fn new(source: Exported<M>, deleter: Option<unsafe extern "C" fn(*mut M)>) -> Self {
        if deleter.is_some() {
            // SAFETY: a valid struct that `source` owns.
            unsafe { M::set_deleter(source.0.as_ptr(), Some(M::CONSUMED)) };
        }
        Self { source, deleter }
    }

    /// Puts the struct's own deleter back.
    #[inline]
    fn restore(&mut self) {
        if self.deleter.is_some() {
            // SAFETY: a valid struct that `source` owns.
            unsafe { M::set_deleter(self.source.0.as_ptr(), self.deleter) };
        }
    }

    /// The struct as it was.
    fn into_source(self) -> Exported<M> {
        let mut held = ManuallyDrop::new(self);
        held.restore();
        // `held` is not dropped, so this is its only owner.
        Exported(held.source.0)
    }

    /// What the struct says of the tensor: valid as long as this lives.
    #[inline]
    pub fn tensor(&self) -> &DLTensor {
        // SAFETY: a valid struct until its deleter runs, which nobody changes.
        unsafe { self.source.0.as_ref() }.tensor(Token(()))
    }

    /// The struct's flags; of the older kind of struct, which has none, `READ_ONLY`.
    #[inline]
    pub fn flags(&self) -> u64 {
        // SAFETY: likewise.
        unsafe { self.source.0.as_ref() }.flags(Token(()))
    }
}

impl<M: ManagedStruct> Drop for ManagedTensor<M> {
    #[inline]
    fn drop(&mut self) {
        // Released next, as a field.
        self.restore();
    }
}

impl<M: ManagedStruct> std::fmt::Debug for ManagedTensor<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ManagedTensor").field(&self.source).finish()
    }
}

/// What becomes of a DLPack struct that is taken over at the least cost.
///
/// ```
/// use dlbridge::{Imported, Tensor};
///
/// let raw = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.into_dlpack().into_raw();
/// // SAFETY: the struct was made just above, and nobody else took it.
/// match unsafe { Imported::new(raw) }? {
///     Imported::Managed(held) => println!("{} dimensions", held.tensor().ndim),
///     Imported::Tensor(tensor) => assert_eq!(tensor.into_vec::<f32>()?, [1.0, 2.0]), // one of ours
/// }
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[derive(Debug)]
pub enum Imported<M: ManagedStruct = DLManagedTensorVersioned> {
    /// A struct that needs no tensor yet: it says everything in the ordinary way, and right.
    Managed(ManagedTensor<M>),
    /// The tensor of a struct of this crate's own, of one that leaves something unsaid, or of CUDA memory.
    Tensor(Tensor),
}

impl<M: ManagedStruct> Imported<M> {
    /// Takes over a DLPack struct as [`Tensor::from_dlpack`] does, but keeps it as it is if that can be:
    /// nothing is allocated then. For code that mostly passes structs on.
    ///
    /// # Errors
    /// As for [`Tensor::from_dlpack`].
    ///
    /// # Safety
    /// * As for [`Tensor::from_dlpack`].
    #[inline]
    pub unsafe fn new(source: NonNull<M>) -> Result<Self, Rejected<Exported<M>>> {
        // SAFETY: the caller's promises.
        match unsafe { open(source) }? {
            Opened::Ours(tensor) => Ok(Self::Tensor(tensor)),
            Opened::Theirs(held) => {
                // SAFETY: the caller promises `ndim` numbers behind both addresses.
                if unsafe { is_ordinary(held.tensor(), held.flags()) } && !needs_order(held.tensor()) {
                    return Ok(Self::Managed(held));
                }
                // SAFETY: the caller's promises.
                Ok(Self::Tensor(unsafe { tensor_of(held) }?))
            }
        }
    }
}

/// Whether memory is used in the order of streams, which a tensor keeps.
fn needs_order(tensor: &DLTensor) -> bool {
    let (device_type, index) = (tensor.device.device_type.cast_signed(), tensor.device.device_id);
    cfg!(feature = "cuda") && Device { device_type, index }.on_cuda().is_some()
}

/// A struct that may be taken over.
pub(super) enum Opened<M: ManagedStruct> {
    Ours(Tensor),
    Theirs(ManagedTensor<M>),
}

/// Takes over a struct of a version that is understood, unless somebody has it already. Unwraps our own.
///
/// # Safety
/// * As for `Tensor::from_dlpack`.
#[inline]
pub(super) unsafe fn open<M: ManagedStruct>(source: NonNull<M>) -> Result<Opened<M>, Rejected<Exported<M>>> {
    // SAFETY: valid by the caller's promise.
    if let Err(error) = unsafe { M::check_version(source.as_ptr()) } {
        return Err(Rejected::new(Exported(source), error));
    }
    // SAFETY: valid by the caller's promise, and of a version whose fields we know.
    let deleter = unsafe { M::deleter(source.as_ptr()) };
    let is = |known| deleter.is_some_and(|deleter| std::ptr::fn_addr_eq(deleter, known));
    if is(M::CONSUMED) {
        let error = refusal("deleter", "consumed".into(), "the struct was consumed already");
        return Err(Rejected::new(Exported(source), error));
    }
    // The marker says that we made it, the deleter that nobody put another one in since.
    // SAFETY: likewise.
    if is(M::DELETER) && unsafe { source.as_ref() }.context(Token(())) == M::marker(Token(())) {
        // SAFETY: made by `export` as the first field of a block, which the caller owns.
        if unsafe { is_untouched(source.cast::<Block<M>>().as_ptr()) } {
            // SAFETY: likewise, and nobody wrapped it.
            return Ok(Opened::Ours(unsafe { unwrap(Exported(source)) }));
        }
    }
    Ok(Opened::Theirs(ManagedTensor::new(Exported(source), deleter)))
}

/// The tensor of a struct that somebody else made.
///
/// # Safety
/// * As for `Tensor::from_dlpack`.
pub(super) unsafe fn tensor_of<M: ManagedStruct>(
    held: ManagedTensor<M>,
) -> Result<Tensor, Rejected<Exported<M>>> {
    let flags = held.flags();
    let access = match (flags & COPIED != 0, flags & READ_ONLY != 0) {
        (true, false) => Access::Exclusive,
        (true, true) => Access::ReadOnly,
        (false, read_only) => Access::Aliased { writable: !read_only },
    };
    // SAFETY: the caller promises `ndim` numbers behind both addresses.
    match unsafe { Descriptor::from_dl_tensor(held.tensor(), flags) } {
        Ok(descriptor) => Ok(Tensor::new(Storage::new(held, access, flags & COPIED != 0), descriptor)),
        Err(error) => Err(Rejected::new(held.into_source(), error)),
    }
}
