//! DLPack structs of libtorch's memory: it goes under our care first, because libtorch alone would free
//! or move it whenever a tensor is resized or a lazy clone is written.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::bindings::{dlb_torch_adopt, dlb_torch_free_memory, dlb_torch_memory};
use super::{Read, check, handle, read};
use crate::storage::Storage;
use crate::{Access, Error, Exported, Result, Tensor};

/// Another owner of a tensor's memory, as a DLPack struct.
pub(super) fn share(tensor: &tch::Tensor) -> Result<Exported> {
    let Read { descriptor, shared, context } = read(tensor)?;
    descriptor.require_host("DLPack on the host")?;
    let (context, shared) = match (context, shared) {
        (Some(context), shared) => (context, shared),
        (None, Some(error)) => return Err(error),
        (None, None) => (adopt(tensor)?, None),
    };
    let share = |storage: &mut Storage| share_with_torch(storage, shared);
    // SAFETY: the tensor's storage holds the context's reference (unless another thread replaces
    // the storage meanwhile: tch's race, a stated limit); it is changed only if the tensor owns
    // its memory alone, and then nobody else uses it.
    let storage = unsafe { Storage::with_thin(context.as_ptr(), share) }?;
    Ok(Tensor { trusted: false, ..Tensor::new(storage, descriptor) }.into_dlpack())
}

/// One more reference to memory of ours that libtorch holds and goes on writing. `shared` is why the
/// tensor does not own the memory alone: then another thread may be here too, so nothing is changed.
fn share_with_torch(storage: &mut Storage, shared: Option<Error>) -> Result<Storage> {
    match (storage.access(), shared) {
        (Access::Aliased { writable: true }, _) => Ok(storage.share()),
        (_, Some(error)) => Err(error),
        (Access::Exclusive, None) if storage.lend() => Ok(storage.share()),
        (Access::Exclusive, None) => Err(Error::NotUnique),
        _ => Err(Error::ReadOnly { remedy: "use to_tensor() to copy" }),
    }
}

/// Puts memory that a tensor owns alone under the care of a storage of ours, and gives the
/// storage's context.
fn adopt(tensor: &tch::Tensor) -> Result<NonNull<c_void>> {
    let context = Storage::new(FormerOwner(None), Access::Exclusive, false).into_thin();
    let mut former = std::ptr::null_mut();
    // SAFETY: a plain tensor that owns its memory alone, so that nobody else is looking at its
    // storage; the context begins with its release function (`Header`).
    let adopted = check(unsafe { dlb_torch_adopt(handle(tensor), context, &raw mut former) });
    // SAFETY: made above; libtorch holds the reference on success, nobody on failure.
    unsafe {
        Storage::with_thin(context, |storage| {
            storage.owner_mut::<FormerOwner>().map(|owner| owner.0 = NonNull::new(former))
        })
    };
    match (adopted, NonNull::new(context)) {
        (Ok(()), Some(context)) => Ok(context),
        (adopted, _) => {
            // SAFETY: libtorch did not take the reference.
            drop(unsafe { Storage::from_thin(context) });
            Err(adopted.err().unwrap_or(Error::Aliased))
        }
    }
}

/// What kept the memory of a libtorch tensor before this crate did.
struct FormerOwner(Option<NonNull<dlb_torch_memory>>);

// SAFETY: memory of the CPU allocator, which may be freed on any thread.
unsafe impl Send for FormerOwner {}

impl Drop for FormerOwner {
    fn drop(&mut self) {
        if let Some(memory) = self.0 {
            // SAFETY: given by `dlb_torch_adopt`, and freed once.
            unsafe { dlb_torch_free_memory(memory.as_ptr()) };
        }
    }
}
