//! The handle of C code: which memory it stands for, and how its references are counted.

use std::ptr::{NonNull, with_exposed_provenance};
use std::sync::Arc;

use dlbridge::ffi::{
    DLManagedTensor, DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, DLPACK_FLAG_BITMASK_READ_ONLY,
    DLTensor,
};
use dlbridge::{Descriptor, Imported, ManagedStruct, ManagedTensor, Tensor};

const READ_ONLY: u64 = DLPACK_FLAG_BITMASK_READ_ONLY as u64;
const PADDED: u64 = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED as u64;

/// A handle to one strided buffer on one device. Several handles may share a buffer, which is
/// released with the last of them.
pub struct dlb_tensor {
    /// The result of `dlb_tensor_view`. `shape` and `strides` point into `source`, so
    /// [`Handle::new`] writes this field after `source` is at its place: moving a value may
    /// invalidate pointers into it.
    view: DLTensor,
    source: HandleSource,
}

// `dlb_tensor` is as thread-safe as its source.
const _: () = {
    const fn is_thread_safe<T: Send + Sync>() {}
    is_thread_safe::<HandleSource>();
};

// SAFETY: `view` holds numbers and addresses that are not changed after the handle was made;
// `source` is `Send` and `Sync`, as the constant above checks.
unsafe impl Send for dlb_tensor {}
// SAFETY: `view` is not changed after the handle was made, so threads only read it; `source` is
// `Sync`, as the constant above checks.
unsafe impl Sync for dlb_tensor {}

/// The origin of a handle, which owns the memory and releases it when it is dropped.
///
/// A DLPack struct of another library is kept with a checked copy of what it described, because
/// most structs are only passed on: no [`Tensor`] is allocated before a function needs one.
pub(crate) enum HandleSource {
    Managed(ManagedTensor),
    ManagedLegacy(ManagedTensor<DLManagedTensor>),
    /// A tensor whose memory is [`Access::Aliased`](dlbridge::Access), or shared with Rust code.
    Tensor(Tensor),
}

impl HandleSource {
    fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Managed(managed) => managed.descriptor(),
            Self::ManagedLegacy(managed) => managed.descriptor(),
            Self::Tensor(tensor) => tensor.descriptor(),
        }
    }

    /// The description in DLPack's form. `shape` and `strides` of the result point into `self`.
    fn as_dl_tensor(&self) -> DLTensor {
        match self {
            Self::Managed(managed) => managed.as_dl_tensor(),
            Self::ManagedLegacy(managed) => managed.as_dl_tensor(),
            Self::Tensor(tensor) => tensor.as_dl_tensor(),
        }
    }
}

/// The owner of a [`Tensor`] that [`dlb_tensor::share_tensor`] made. [`Handle::from_tensor`] finds
/// the handle in it.
struct HandleOwner(Handle);

/// The owner of a [`Tensor`] that [`dlb_tensor::share_as`] made. Its handle is never such a view
/// itself, so that views of views do not nest.
struct ViewOwner(Handle);

impl dlb_tensor {
    pub(crate) fn view(&self) -> &DLTensor {
        &self.view
    }

    pub(crate) fn flags(&self) -> u64 {
        let read_only = match &self.source {
            HandleSource::Managed(managed) => managed.flags() & READ_ONLY,
            HandleSource::ManagedLegacy(managed) => managed.flags() & READ_ONLY,
            HandleSource::Tensor(tensor) => tensor.dlpack_flags() & READ_ONLY,
        };
        read_only | if self.descriptor().is_padded() { PADDED } else { 0 }
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.flags() & READ_ONLY == 0
    }

    pub(crate) fn descriptor(&self) -> &Descriptor {
        self.source.descriptor()
    }

    /// Another handle to the same memory, described by `descriptor`. No data is copied.
    ///
    /// # Safety
    /// * The elements of `descriptor` are among the bytes of this handle.
    pub(crate) unsafe fn share_as(&self, descriptor: Descriptor) -> Handle {
        let writable = self.is_writable();
        let HandleSource::Tensor(tensor) = &self.source else {
            let owner = ViewOwner(Handle::share(self));
            // SAFETY: the producer of the struct guarantees its memory; the caller of `share_as`
            // guarantees that the elements of `descriptor` are among its bytes.
            return Handle::from_tensor(unsafe {
                Tensor::from_raw_parts(descriptor, writable, owner)
            });
        };
        // SAFETY: the owner is only used to count a reference; the memory is not reached through
        // it.
        let viewed = unsafe { tensor.owner_unchecked() };
        let whole = match viewed {
            Some(ViewOwner(whole)) => whole.clone(),
            None => Handle::share(self),
        };
        // SAFETY: the code that made `tensor` guaranteed its memory; the caller of `share_as`
        // guarantees that the elements of `descriptor` are among its bytes.
        let view = unsafe { tensor.share_as_unchecked(descriptor, writable, ViewOwner(whole)) };
        Handle::from_tensor(view)
    }

    /// A tensor that shares the memory. No data is copied.
    pub(crate) fn share_tensor(&self) -> Tensor {
        if let HandleSource::Tensor(tensor) = &self.source {
            return tensor.share();
        }
        let owner = HandleOwner(Handle::share(self));
        // SAFETY: the producer of the struct guarantees its memory, and this package makes no Rust
        // view of it.
        unsafe { Tensor::from_raw_parts(self.descriptor().clone(), self.is_writable(), owner) }
    }

    /// A tensor that shares the memory, and whose values safe code may read. No data is copied.
    ///
    /// # Safety
    /// * No other code writes the memory as long as the result exists.
    pub(crate) unsafe fn share_readable(&self) -> Tensor {
        let owner = HandleOwner(Handle::share(self));
        // SAFETY: the source of the handle keeps its memory, which the caller guarantees that no
        // other code writes.
        unsafe { Tensor::from_raw_parts(self.descriptor().clone(), false, owner) }
    }
}

/// One counted reference to a [`dlb_tensor`]. C code holds such references as pointers.
///
/// Every `dlb_tensor` lives in an `Arc` whose address was exposed: only [`Handle::new`] makes one.
pub(crate) struct Handle(Arc<dlb_tensor>);

impl Handle {
    /// Makes the first reference to a new handle of `source`.
    ///
    /// The allocation comes first, so that the compiler writes the source there instead of copying
    /// it. Always inlined, because each move of a source that was just written makes the processor
    /// wait.
    #[inline(always)]
    fn new(source: HandleSource) -> Self {
        let raw = Arc::into_raw(Arc::<dlb_tensor>::new_uninit()).cast_mut().cast::<dlb_tensor>();
        let _exposed_address = raw.expose_provenance();
        // Each field by a pointer of its own: a reference to the whole handle would claim the other
        // field, too.
        // SAFETY: `raw` points to memory for a handle, because the `Arc` was not released.
        let source_field = unsafe { &raw mut (*raw).source };
        // SAFETY: `source_field` points to the field of that memory, and nothing else uses it yet.
        unsafe { source_field.write(source) };
        // SAFETY: the source was just written.
        let view = unsafe { &*source_field }.as_dl_tensor();
        // SAFETY: as for `source_field`.
        let view_field = unsafe { &raw mut (*raw).view };
        // SAFETY: `view_field` points to the other field of that memory.
        unsafe { view_field.write(view) };
        // SAFETY: `raw` came from `Arc::into_raw`, whose reference is given up here only, and both
        // fields were written.
        Self(unsafe { Arc::from_raw(raw) })
    }

    /// Makes a handle of a tensor. A tensor that came from [`dlb_tensor::share_tensor`] becomes the
    /// same handle again.
    ///
    /// C code may keep and write the memory, so the tensor becomes
    /// [`Access::Aliased`](dlbridge::Access). One that Rust code of the same program shares stays
    /// what it is, and is read-only for C.
    pub(crate) fn from_tensor(tensor: Tensor) -> Self {
        // SAFETY: the owner is only used to count a reference; the memory is not reached through
        // it.
        if let Some(HandleOwner(handle)) = unsafe { tensor.owner_unchecked() } {
            return handle.clone();
        }
        let tensor = tensor.into_aliased().unwrap_or_else(|rejected| rejected.into_value());
        Self::new(HandleSource::Tensor(tensor))
    }

    /// Makes a handle of an imported struct. `source` is the variant for structs of type `M`.
    #[inline]
    pub(crate) fn from_imported<M: ManagedStruct>(
        imported: Imported<M>,
        source: impl FnOnce(ManagedTensor<M>) -> HandleSource,
    ) -> Self {
        match imported {
            Imported::Managed(managed) => Self::new(source(managed)),
            Imported::Tensor(tensor) => Self::from_tensor(tensor),
        }
    }

    /// One more reference to a handle that is borrowed from C code or from another [`Handle`].
    pub(crate) fn share(tensor: &dlb_tensor) -> Self {
        // `Arc` counts beside the value, where a pointer made from the reference may not reach. The
        // pointer that `Arc::into_raw` gave may; `Handle::new` exposed its provenance.
        let raw = with_exposed_provenance::<dlb_tensor>(std::ptr::from_ref(tensor).addr());
        // SAFETY: the value is in an `Arc`, because only `Handle::new` makes one, and the borrow
        // keeps it alive.
        unsafe { Arc::increment_strong_count(raw) };
        // SAFETY: the count was incremented just above for this reference.
        Self(unsafe { Arc::from_raw(raw) })
    }

    /// Gives the reference to C code.
    pub(crate) fn into_raw(self) -> NonNull<dlb_tensor> {
        // SAFETY: an `Arc`'s pointer is never null.
        unsafe { NonNull::new_unchecked(Arc::into_raw(self.0).cast_mut()) }
    }

    /// Takes the reference back from C code.
    ///
    /// # Safety
    /// * `raw` came from [`into_raw`](Self::into_raw), and C code does not use this reference any
    ///   more.
    pub(crate) unsafe fn from_raw(raw: NonNull<dlb_tensor>) -> Self {
        // SAFETY: the caller guarantees that `Arc::into_raw` returned the pointer and that this
        // reference is given up.
        Self(unsafe { Arc::from_raw(raw.as_ptr()) })
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
