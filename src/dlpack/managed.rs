//! DLPack's two owning structs, their common operations, and the box of this crate's structs.
//!
//! Invariants:
//! * A struct that this crate makes is the first field of an [`ExportedBox`]. Only such a struct
//!   has the address of this crate's marker as its context, by which it is recognised when it comes
//!   back.
//! * The version of a struct is read before any other field.

use std::ffi::c_void;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::contain_panic::contain_panic;
use crate::cuda::StreamUse;
use crate::ffi::{
    DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_IS_COPIED,
    DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, DLPACK_FLAG_BITMASK_READ_ONLY,
    DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION, DLPackVersion, DLTensor,
};
use crate::shared_buffer::SharedBuffer;
use crate::{Error, Layout, Result};
pub(super) use sealed::Contents;
pub(crate) use sealed::Token;

/// The memory must not be written.
pub(crate) const READ_ONLY: u64 = DLPACK_FLAG_BITMASK_READ_ONLY as u64;
/// The producer copied the elements for this struct, so its consumer alone reaches them.
pub(crate) const IS_COPIED: u64 = DLPACK_FLAG_BITMASK_IS_COPIED as u64;
/// Elements narrower than a byte take a byte each.
pub(crate) const PADDED: u64 = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED as u64;

mod sealed {
    use super::*;

    /// The fields of a struct. Each was read once, because code that gave the struct away may still
    /// write it.
    pub struct Contents {
        pub(in crate::dlpack) context: *mut c_void,
        pub(in crate::dlpack) tensor: DLTensor,
        pub(in crate::dlpack) flags: u64,
    }

    /// Proof that a call comes from this crate: methods of a supertrait can be called through a
    /// bound on the public trait.
    #[derive(Clone, Copy)]
    pub struct Token(pub(in crate::dlpack) ());

    /// The common operations of the two structs.
    pub trait Sealed: Sized + 'static {
        fn new(tensor: DLTensor, flags: u64, _: Token) -> Self;
        /// # Safety
        /// * `this` points to a valid struct of a version whose fields are known.
        unsafe fn read(this: *const Self) -> Contents;
        /// Returns the flags that [`read`](Self::read) finds in a struct that was made with
        /// `flags`.
        fn shown_flags(flags: u64) -> u64;
        /// # Safety
        /// * `this` points to a struct that is valid up to its version.
        unsafe fn check_version(this: *const Self) -> Result<()>;
        /// # Safety
        /// * `this` points to a struct that is valid up to its deleter.
        unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)>;
        /// # Safety
        /// * `this` points to a struct that is valid up to its deleter, and no other code uses the
        ///   struct during the call.
        unsafe fn set_deleter(this: *mut Self, deleter: Option<unsafe extern "C" fn(*mut Self)>);
        /// The deleter of structs of this type that this crate made.
        const DELETER: unsafe extern "C" fn(*mut Self);
        /// The deleter that a struct of another library has while this crate owns the struct. It
        /// releases nothing.
        const CONSUMED: unsafe extern "C" fn(*mut Self);
        /// Returns the address that marks structs of this type that this crate made.
        fn marker(_: Token) -> *mut c_void;
    }
}

/// An owning struct of DLPack: [`DLManagedTensorVersioned`] or the older [`DLManagedTensor`].
///
/// The trait is implemented for these two types. Other crates cannot implement it.
///
/// ```
/// use dlbridge::{Exported, Imported, ManagedStruct, Tensor};
///
/// /// Takes a struct of either type back, and makes a tensor of it if possible.
/// fn take_back<M: ManagedStruct>(exported: Exported<M>) -> dlbridge::Result<Imported<M>> {
///     // SAFETY: an `Exported` owns a valid struct, which `into_raw` gives out.
///     Ok(unsafe { Imported::new(exported.into_raw()) }?)
/// }
/// let tensor = Tensor::zeros::<f32>([2, 3])?.into_aliased()?;
/// assert!(matches!(take_back(tensor.share_dlpack())?, Imported::Tensor(_)));
/// assert!(matches!(take_back(tensor.share_dlpack_legacy()?)?, Imported::Tensor(_)));
/// # Ok::<(), dlbridge::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not one of dlbridge's declarations of DLPack's owning structs",
    label = "not `DLManagedTensorVersioned` or `DLManagedTensor` of `dlbridge::ffi`",
    note = "a pointer to another crate's declaration of the same C struct can be cast: `pointer.cast()`"
)]
pub trait ManagedStruct: sealed::Sealed {}

impl ManagedStruct for DLManagedTensorVersioned {}
impl ManagedStruct for DLManagedTensor {}

// They are atomics, because immutable statics of equal value may get the same address.
static VERSIONED: AtomicU8 = AtomicU8::new(0);
static LEGACY: AtomicU8 = AtomicU8::new(0);

impl sealed::Sealed for DLManagedTensorVersioned {
    fn new(dl_tensor: DLTensor, flags: u64, token: Token) -> Self {
        let version = DLPackVersion { major: DLPACK_MAJOR_VERSION, minor: DLPACK_MINOR_VERSION };
        let deleter = Some(Self::DELETER);
        Self { version, manager_ctx: Self::marker(token), deleter, flags, dl_tensor }
    }

    fn shown_flags(flags: u64) -> u64 {
        flags
    }

    const DELETER: unsafe extern "C" fn(*mut Self) = delete_versioned;
    const CONSUMED: unsafe extern "C" fn(*mut Self) = consumed_versioned;

    unsafe fn read(this: *const Self) -> Contents {
        // The read is volatile, so that the compiler does not read the struct twice.
        // SAFETY: the caller guarantees a valid struct of a version whose fields are known.
        let Self { manager_ctx, flags, dl_tensor, .. } = unsafe { this.read_volatile() };
        Contents { context: manager_ctx, tensor: dl_tensor, flags }
    }

    unsafe fn check_version(this: *const Self) -> Result<()> {
        // SAFETY: the caller guarantees that the version is valid; it comes first in every version.
        let DLPackVersion { major, minor } = unsafe { (*this).version };
        if major == DLPACK_MAJOR_VERSION {
            Ok(())
        } else {
            Err(Error::UnsupportedVersion { major, minor })
        }
    }

    unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: the caller guarantees that the struct is valid up to its deleter.
        unsafe { (*this).deleter }
    }

    unsafe fn set_deleter(this: *mut Self, deleter: Option<unsafe extern "C" fn(*mut Self)>) {
        // SAFETY: the caller guarantees that the struct is valid and not used by other code.
        unsafe { (*this).deleter = deleter };
    }

    fn marker(_: Token) -> *mut c_void {
        VERSIONED.as_ptr().cast()
    }
}

impl sealed::Sealed for DLManagedTensor {
    fn new(dl_tensor: DLTensor, _flags: u64, token: Token) -> Self {
        Self { dl_tensor, manager_ctx: Self::marker(token), deleter: Some(Self::DELETER) }
    }

    fn shown_flags(_flags: u64) -> u64 {
        READ_ONLY
    }

    const DELETER: unsafe extern "C" fn(*mut Self) = delete_legacy;
    const CONSUMED: unsafe extern "C" fn(*mut Self) = consumed_legacy;

    unsafe fn read(this: *const Self) -> Contents {
        // The read is volatile, so that the compiler does not read the struct twice.
        // SAFETY: the caller guarantees a valid struct.
        let Self { manager_ctx, dl_tensor, .. } = unsafe { this.read_volatile() };
        // The older struct has no flag that allows writing.
        Contents { context: manager_ctx, tensor: dl_tensor, flags: READ_ONLY }
    }

    unsafe fn check_version(_this: *const Self) -> Result<()> {
        Ok(())
    }

    unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: the caller guarantees that the struct is valid up to its deleter.
        unsafe { (*this).deleter }
    }

    unsafe fn set_deleter(this: *mut Self, deleter: Option<unsafe extern "C" fn(*mut Self)>) {
        // SAFETY: the caller guarantees that the struct is valid and not used by other code.
        unsafe { (*this).deleter = deleter };
    }

    fn marker(_: Token) -> *mut c_void {
        LEGACY.as_ptr().cast()
    }
}

/// The contents of a struct that this crate makes.
pub(crate) struct Payload {
    /// The stream that the consumer uses the memory on. It is the first field, because the use must
    /// end before the memory is released.
    pub(crate) stream_use: StreamUse,
    pub(crate) buffer: SharedBuffer,
}

/// A struct that this crate makes, the sizes and strides that it points to, and its payload. The
/// sizes and strides are copies of the buffer's, because the struct's owner may write them.
#[repr(C)]
pub(super) struct ExportedBox<M> {
    pub(super) managed: M,
    pub(super) shown: Layout,
    pub(super) payload: Payload,
    /// The flags that the struct was made with.
    pub(super) flags: u64,
}

// A pointer to the struct is a pointer to its box.
const _: () = assert!(offset_of!(ExportedBox<DLManagedTensorVersioned>, managed) == 0);
const _: () = assert!(offset_of!(ExportedBox<DLManagedTensor>, managed) == 0);

// Neither function is generic or inlined, so that each has one address, by which `consume`
// recognises structs of this crate.

#[inline(never)]
unsafe extern "C" fn delete_versioned(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: the struct's owner calls its deleter once, with the struct itself. Only structs that
    // this crate made have this deleter.
    unsafe { delete(managed) };
}

#[inline(never)]
unsafe extern "C" fn delete_legacy(managed: *mut DLManagedTensor) {
    // SAFETY: the struct's owner calls its deleter once, with the struct itself. Only structs that
    // this crate made have this deleter.
    unsafe { delete(managed) };
}

/// The numbers of calls of the deleters of consumed structs. The two functions count, because the
/// linker may give functions with equal code the same address.
static MISUSES: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

#[inline(never)]
unsafe extern "C" fn consumed_versioned(_managed: *mut DLManagedTensorVersioned) {
    MISUSES[0].fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
unsafe extern "C" fn consumed_legacy(_managed: *mut DLManagedTensor) {
    MISUSES[1].fetch_add(1, Ordering::Relaxed);
}

/// # Safety
/// * `managed` is NULL, or the first field of an [`ExportedBox`] that is not used afterwards.
unsafe fn delete<M: ManagedStruct>(managed: *mut M) {
    if managed.is_null() {
        return;
    }
    contain_panic(|| {
        // SAFETY: the caller guarantees that the struct is the first field of an `ExportedBox`,
        // whose address came from `Box::into_raw`, and that it is not used afterwards.
        drop(unsafe { Box::from_raw(managed.cast::<ExportedBox<M>>()) });
    });
}
