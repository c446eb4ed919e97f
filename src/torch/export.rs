//! DLPack structs of libtorch's memory.
//!
//! libtorch frees or moves the memory of a tensor when the tensor is resized or a lazy clone is
//! written, even if a DLPack struct still names the memory. So the first export makes a [`Storage`]
//! of this crate the owner of the memory, and libtorch holds one reference to that storage:
//!
//! ```text
//!   before          at::Tensor ──► at::DataPtr { memory, libtorch's deleter }
//!
//!   first export    at::Tensor ──► at::DataPtr { memory, context: a reference ─┐ }
//!   (adopt)                                                                    ▼
//!                   DLPack struct ─────────────── a reference ────────────► Storage
//!                                                                    owner: FormerOwner, the
//!                                                                    DataPtr from before
//!
//!   later exports   one more reference each
//! ```
//!
//! While both libtorch and a struct hold the memory, the storage is *shared out*: aliased and
//! writable. When libtorch's reference is the only one left, `TensorInfo::reclaim` makes the
//! storage exclusive again.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::bindings::{dlb_torch_adopt, dlb_torch_free_memory, dlb_torch_memory};
use super::shim::{check, handle};
use super::tensor_info::{TensorInfo, tensor_info};
use crate::shared_buffer::SharedBuffer;
use crate::storage::{Storage, StorageState};
use crate::{Error, Exported, Remedy, Result, Tensor};

/// Makes a DLPack struct that is one more owner of the memory of `tensor`.
pub(super) fn share(tensor: &tch::Tensor) -> Result<Exported> {
    let mut info = tensor_info(tensor)?;
    // SAFETY: `tensor`, which was read, is borrowed until this function returns.
    unsafe { info.reclaim() };
    let shared = info.require_alone().err();
    let TensorInfo { descriptor, context, .. } = info;
    descriptor.require_host("DLPack on the host")?;
    let (context, shared) = match (context, shared) {
        (Some(context), shared) => (context, shared),
        (None, Some(error)) => return Err(error),
        (None, None) => (adopt(tensor)?, None),
    };
    let share = |storage: &mut Storage| share_with_torch(storage, shared);
    // SAFETY: the tensor's storage holds the context's reference (unless another thread replaces
    // the storage meanwhile: tch's race, a documented limit). The storage is changed only if the
    // tensor owns its memory alone; then no other code uses that reference.
    let storage = unsafe { Storage::with_raw(context.as_ptr(), share) }?;
    // SAFETY: the storage keeps the memory that the descriptor was read from.
    let buffer = unsafe { SharedBuffer::new(storage, descriptor) };
    Ok(Tensor::from_buffer(buffer).into_dlpack())
}

/// One more reference to a storage of this crate whose memory libtorch holds and may write.
/// `shared` is the reason why the tensor does not own the memory alone. Then another thread may run
/// this function for the same storage, so nothing is changed.
fn share_with_torch(storage: &mut Storage, shared: Option<Error>) -> Result<Storage> {
    match (storage.state(), shared) {
        (StorageState::Aliased { writable: true }, _) => Ok(storage.share()),
        (_, Some(error)) => Err(error),
        (StorageState::Exclusive, None) if storage.share_out() => Ok(storage.share()),
        (StorageState::Exclusive, None) => Err(Error::NotUnique),
        _ => Err(Error::ReadOnly { remedy: Remedy::CopyFromTorch }),
    }
}

/// Makes a new storage the owner of memory that a tensor owns alone. Returns the context of
/// libtorch's reference to the storage.
fn adopt(tensor: &tch::Tensor) -> Result<NonNull<c_void>> {
    // SAFETY: the tensor owns the memory alone, and the storage becomes the owner instead.
    let context = unsafe { Storage::exclusive(FormerOwner(None)) }.into_raw();
    let mut former = std::ptr::null_mut();
    // SAFETY: a plain tensor that owns its memory alone, so that no other code reads its storage;
    // the context begins with a `dlb_torch_context` (asserted in `storage`).
    let adopted = check(unsafe { dlb_torch_adopt(handle(tensor), context, &raw mut former) });
    // SAFETY: made above; on success libtorch holds the reference, and no other code uses it yet.
    unsafe {
        Storage::with_raw(context, |storage| {
            storage.owner_mut::<FormerOwner>().map(|owner| owner.0 = NonNull::new(former))
        })
    };
    match (adopted, NonNull::new(context)) {
        (Ok(()), Some(context)) => Ok(context),
        (adopted, _) => {
            // SAFETY: libtorch did not take the reference.
            drop(unsafe { Storage::from_raw(context) });
            Err(adopted.err().unwrap_or(Error::Aliased))
        }
    }
}

/// The owner that a libtorch tensor's memory had before this crate adopted it.
struct FormerOwner(Option<NonNull<dlb_torch_memory>>);

// SAFETY: memory of the CPU allocator, which may be freed on any thread.
unsafe impl Send for FormerOwner {}

impl Drop for FormerOwner {
    fn drop(&mut self) {
        if let Some(memory) = self.0 {
            // SAFETY: `dlb_torch_adopt` returned it, and it is freed once, here.
            unsafe { dlb_torch_free_memory(memory.as_ptr()) };
        }
    }
}
