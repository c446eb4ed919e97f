//! The handle: share, look at, free.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{NonNull, with_exposed_provenance};
use std::sync::Arc;

use dlbridge::ffi::{DLManagedTensor, DLPACK_FLAG_BITMASK_READ_ONLY, DLTensor};
use dlbridge::{Descriptor, Device, Imported, ManagedStruct, ManagedTensor, Tensor};

use crate::error::{
    DLB_ERROR_DEVICE, DLB_ERROR_LAYOUT, Failure, InArgument, Required, contain, dlb_error, dlb_status, guard,
};

const READ_ONLY: u64 = DLPACK_FLAG_BITMASK_READ_ONLY as u64;

/// A handle to one strided buffer on one device. Several handles may share a buffer, which is released
/// with the last of them.
pub struct dlb_tensor {
    /// Leads into the owner.
    view: DLTensor,
    owner: Owner,
}

// SAFETY: the view is some numbers and addresses, which nobody changes; owners are both.
unsafe impl Send for dlb_tensor {}
// SAFETY: likewise.
unsafe impl Sync for dlb_tensor {}

/// What keeps the memory. A struct that somebody else made is kept as it is: most are only passed on.
pub(crate) enum Owner {
    Struct(ManagedTensor),
    Legacy(ManagedTensor<DLManagedTensor>),
    /// Foreign from birth. Boxed, because a handle is mostly a struct.
    Tensor(Box<Tensor>),
}

/// The owner of a tensor of the hub that was made of a handle.
struct Reference(Handle);

/// The owner of memory that a handle keeps, seen in another way. That handle keeps it otherwise than by such a
/// reference, so that views of views do not pile up.
struct Seen(Handle);

impl dlb_tensor {
    /// What the handle looks like.
    pub(crate) fn view(&self) -> &DLTensor {
        &self.view
    }

    pub(crate) fn flags(&self) -> u64 {
        match &self.owner {
            Owner::Struct(held) => held.flags() & READ_ONLY,
            Owner::Legacy(held) => held.flags() & READ_ONLY,
            Owner::Tensor(tensor) => tensor.dlpack_flags(),
        }
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.flags() & READ_ONLY == 0
    }

    pub(crate) fn descriptor(&self) -> Result<Descriptor, dlbridge::Error> {
        // SAFETY: the view leads into the owner, which keeps shape and strides.
        unsafe { Descriptor::from_dl_tensor(&self.view, self.flags()) }
    }

    /// The same memory, seen as the descriptor says. No data is copied.
    ///
    /// # Safety
    /// * The descriptor stays within the bytes of this handle.
    pub(crate) unsafe fn seen_as(&self, descriptor: Descriptor) -> Handle {
        let home = match &self.owner {
            Owner::Tensor(tensor) => {
                // SAFETY: the owner serves to count references.
                let seen = unsafe { tensor.owner_unchecked() };
                seen.map(|Seen(home)| Handle(Arc::clone(&home.0)))
            }
            _ => None,
        };
        let owner = Seen(home.unwrap_or_else(|| Handle::of(self)));
        let view = match &self.owner {
            // SAFETY: whoever gave us the memory answers for it, and these bytes are part of it.
            Owner::Tensor(tensor) => unsafe {
                tensor.share_as_unchecked(descriptor, self.is_writable(), owner)
            },
            // SAFETY: likewise.
            _ => unsafe { Tensor::from_raw_parts(descriptor, self.is_writable(), owner) },
        };
        view.into()
    }

    /// The tensor of the hub. No data is copied.
    pub(crate) fn tensor(&self, argument: &str) -> Result<Tensor, Failure> {
        if let Owner::Tensor(tensor) = &self.owner {
            return Ok(tensor.share());
        }
        let (descriptor, owner) = (self.descriptor().argument(argument)?, Reference(Handle::of(self)));
        // SAFETY: whoever gave us the struct answers for its memory; no Rust view is ever made here.
        Ok(unsafe { Tensor::from_raw_parts(descriptor, self.is_writable(), owner) })
    }
}

/// A counted reference to a handle of C's, which holds one itself.
pub(crate) struct Handle(Arc<dlb_tensor>);

impl Handle {
    /// One more reference to a handle that is borrowed.
    fn of(tensor: &dlb_tensor) -> Self {
        // SAFETY: every handle came out of `into_raw`, and is alive while it is borrowed. The address is
        // that of the allocation, which `into_raw` exposed; a reference leads to less.
        let borrowed = ManuallyDrop::new(unsafe {
            Arc::from_raw(with_exposed_provenance(std::ptr::from_ref(tensor).addr()))
        });
        Self(Arc::clone(&borrowed))
    }

    /// Gives the reference to C.
    pub(crate) fn into_raw(self) -> NonNull<dlb_tensor> {
        let raw = Arc::into_raw(self.0).cast_mut();
        let _exposed = raw.expose_provenance();
        // SAFETY: an `Arc` has an address.
        unsafe { NonNull::new_unchecked(raw) }
    }

    /// Takes the reference back from C.
    ///
    /// # Safety
    /// * It came from [`into_raw`](Self::into_raw), and C does not use it any more.
    pub(crate) unsafe fn from_raw(raw: NonNull<dlb_tensor>) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { Arc::from_raw(raw.as_ptr()) })
    }
}

impl std::ops::Deref for Handle {
    type Target = dlb_tensor;

    fn deref(&self) -> &dlb_tensor {
        &self.0
    }
}

impl From<Tensor> for Handle {
    /// Gives up what is known about the memory: C code may hold and write it. A tensor that was made of
    /// a handle becomes that handle again.
    fn from(tensor: Tensor) -> Self {
        // SAFETY: the owner serves to count references.
        if let Some(Reference(handle)) = unsafe { tensor.owner_unchecked() } {
            return Self(Arc::clone(&handle.0));
        }
        // A tensor that Rust code of the same program shares stays what it is: for C it is read-only.
        let tensor = Box::new(tensor.into_aliased().unwrap_or_else(|rejected| rejected.into_value()));
        // The box stays where it is.
        Self(Arc::new(dlb_tensor { view: tensor.as_dl_tensor(), owner: Owner::Tensor(tensor) }))
    }
}

impl From<ManagedTensor> for Owner {
    fn from(held: ManagedTensor) -> Self {
        Self::Struct(held)
    }
}

impl From<ManagedTensor<DLManagedTensor>> for Owner {
    fn from(held: ManagedTensor<DLManagedTensor>) -> Self {
        Self::Legacy(held)
    }
}

impl<M: ManagedStruct> From<Imported<M>> for Handle
where
    Owner: From<ManagedTensor<M>>,
{
    #[inline]
    fn from(imported: Imported<M>) -> Self {
        match imported {
            Imported::Managed(held) => {
                Self(Arc::new(dlb_tensor { view: *held.tensor(), owner: held.into() }))
            }
            Imported::Tensor(tensor) => tensor.into(),
        }
    }
}

/// Returns another handle to the same memory; NULL for NULL. No data is copied. Handles are counted
/// references: the new one may be the same pointer, and each is freed once.
///
/// Ownership: borrows `tensor`; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_share(tensor: Option<&dlb_tensor>) -> Option<NonNull<dlb_tensor>> {
    contain(None, || tensor.map(|tensor| Handle::of(tensor).into_raw()))
}

/// Returns another handle to the same memory, seen as `desc` says: a part of it, a transpose, another element
/// type. No data is copied; shape and strides of `desc` are. It stays within the bytes from the lowest element of
/// `tensor` to the highest, on the same device; the first element is at its `data + byte_offset`, and NULL
/// `strides` mean row-major. The memory is as writable as before, and elements below a byte as padded.
///
/// Ownership: borrows both; returns new, free with dlb_tensor_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_share_as(
    tensor: Option<&dlb_tensor>,
    desc: Option<&DLTensor>,
    out: Option<&mut MaybeUninit<NonNull<dlb_tensor>>>,
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
) -> dlb_status {
    guard(error, || {
        let (tensor, desc, out) = (tensor.required("tensor")?, desc.required("desc")?, out.required("out")?);
        let whole = tensor.descriptor().argument("tensor")?;
        // SAFETY: the caller's description: shape and strides have `ndim` numbers each.
        let part = unsafe { Descriptor::from_dl_tensor(desc, tensor.flags()) }.argument("desc")?;
        if part.device() != whole.device() {
            let name =
                |device: Device| format!("{device} (type {}, index {})", device.device_type, device.index);
            let message =
                format!("desc: it is on {}, the tensor on {}", name(part.device()), name(whole.device()));
            return Err(Failure::new(DLB_ERROR_DEVICE, message));
        }
        let ((start, bytes), (whole_start, whole_bytes)) = (part.span(), whole.span());
        let skipped = start.addr().checked_sub(whole_start.addr());
        let inside =
            skipped.and_then(|skipped| whole_bytes.checked_sub(skipped)).is_some_and(|left| bytes <= left);
        if !inside && !part.layout().is_empty() {
            let message = format!(
                "desc: {bytes} bytes at {start:?} are not all among the tensor's {whole_bytes} bytes at {whole_start:?}"
            );
            return Err(Failure::new(DLB_ERROR_LAYOUT, message));
        }
        // SAFETY: looked at just above.
        out.write(unsafe { tensor.seen_as(part) }.into_raw());
        Ok(())
    })
}

/// Frees a handle; does nothing for NULL. With the last one the memory is released: this thread runs
/// the deleter, or the callback.
///
/// Ownership: takes `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_free(tensor: Option<NonNull<dlb_tensor>>) {
    // SAFETY: a handle that its caller gives up.
    contain((), || drop(tensor.map(|tensor| unsafe { Handle::from_raw(tensor) })));
}

/// Returns what the tensor looks like: address, shape, strides (never NULL unless ndim is 0), element
/// type and device in one call; NULL for NULL. `byte_offset` is 0, and `data` is NULL when there are no
/// elements; it is an address of the tensor's device, and may be written unless the flags say READ_ONLY.
/// Shape and strides are not to be written.
///
/// Ownership: borrows `tensor`; returns a view that is valid until that handle is taken or freed.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_view(tensor: Option<&dlb_tensor>) -> Option<&DLTensor> {
    tensor.map(dlb_tensor::view)
}

/// Returns the DLPack flags of the tensor: DLPACK_FLAG_BITMASK_READ_ONLY exactly when the memory may
/// not be written, and DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED; 0 for NULL.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_flags(tensor: Option<&dlb_tensor>) -> u64 {
    contain(0, || tensor.map_or(0, dlb_tensor::flags))
}

/// Returns the bytes of all elements, gaps between them left out; 0 for NULL.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_nbytes(tensor: Option<&dlb_tensor>) -> u64 {
    let bytes = |tensor: &dlb_tensor| tensor.descriptor().map_or(0, |descriptor| descriptor.nbytes() as u64);
    contain(0, || tensor.map_or(0, bytes))
}

/// Returns whether the elements lie one after the other in row-major order; false for NULL. Strides of
/// dimensions of size 1 do not matter, nor do any strides when there are no elements.
///
/// Ownership: borrows `tensor`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_tensor_is_contiguous(tensor: Option<&dlb_tensor>) -> bool {
    let contiguous =
        |tensor: &dlb_tensor| tensor.descriptor().is_ok_and(|descriptor| descriptor.layout().is_contiguous());
    contain(false, || tensor.is_some_and(contiguous))
}
