//! The door: tensors in and out of DLPack's structs, both the versioned one and the older one.
//!
//! Invariants:
//! * an [`Exported`] owns its struct and calls the struct's deleter once;
//! * a struct of our own making is the first field of a [`Block`], and only such a struct carries the
//!   address of our marker as its context: that is how it is recognised when it comes home;
//! * nothing behind a foreign struct is read before the version, and no array before its length and
//!   address were looked at.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

mod description;
mod held;

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::ffi::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_IS_COPIED,
    DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, DLPACK_FLAG_BITMASK_READ_ONLY, DLPACK_MAJOR_VERSION,
    DLPACK_MINOR_VERSION, DLPackVersion, DLTensor,
};
use crate::storage::contain_panic;
use crate::{Access, Error, Layout, Rejected, Result, Tensor};
pub use held::{Imported, ManagedTensor};
use held::{Opened, open, tensor_of};
use sealed::Token;

const READ_ONLY: u64 = DLPACK_FLAG_BITMASK_READ_ONLY as u64;
const COPIED: u64 = DLPACK_FLAG_BITMASK_IS_COPIED as u64;
const PADDED: u64 = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED as u64;

mod sealed {
    use super::*;

    /// Proof that a call comes from this crate: methods of a supertrait can be called through a
    /// bound on the public trait.
    #[derive(Clone, Copy)]
    pub struct Token(pub(super) ());

    /// What the two structs have in common.
    pub trait Sealed: Sized + 'static {
        fn new(tensor: DLTensor, flags: u64, _: Token) -> Self;
        fn tensor(&self, _: Token) -> &DLTensor;
        fn tensor_mut(&mut self, _: Token) -> &mut DLTensor;
        fn context(&self, _: Token) -> *mut c_void;
        fn flags(&self, _: Token) -> u64;
        /// # Safety
        /// * `this` points to a struct that is valid up to its version.
        unsafe fn check_version(this: *const Self) -> Result<()>;
        /// # Safety
        /// * `this` points to a struct that is valid up to its deleter.
        unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)>;
        /// # Safety
        /// * As for `deleter`, and nobody else uses the struct.
        unsafe fn set_deleter(this: *mut Self, deleter: Option<unsafe extern "C" fn(*mut Self)>);
        /// The deleter of structs of this type that this crate made.
        const DELETER: unsafe extern "C" fn(*mut Self);
        /// What stands in for the deleter of a struct that somebody else made as long as this crate
        /// holds it. Releases nothing.
        const CONSUMED: unsafe extern "C" fn(*mut Self);
        /// Its address marks structs of this type that this crate made.
        fn marker(_: Token) -> *mut c_void;
    }
}

/// An owning struct of DLPack: [`DLManagedTensorVersioned`] or the older [`DLManagedTensor`].
pub trait ManagedStruct: sealed::Sealed {}

impl ManagedStruct for DLManagedTensorVersioned {}
impl ManagedStruct for DLManagedTensor {}

// Atomics, so that no two statics may share an address.
static VERSIONED: AtomicU8 = AtomicU8::new(0);
static LEGACY: AtomicU8 = AtomicU8::new(0);

impl sealed::Sealed for DLManagedTensorVersioned {
    fn new(dl_tensor: DLTensor, flags: u64, token: Token) -> Self {
        let version = DLPackVersion { major: DLPACK_MAJOR_VERSION, minor: DLPACK_MINOR_VERSION };
        Self { version, manager_ctx: Self::marker(token), deleter: Some(Self::DELETER), flags, dl_tensor }
    }

    const DELETER: unsafe extern "C" fn(*mut Self) = delete_versioned;
    const CONSUMED: unsafe extern "C" fn(*mut Self) = consumed_versioned;

    fn tensor(&self, _: Token) -> &DLTensor {
        &self.dl_tensor
    }

    fn tensor_mut(&mut self, _: Token) -> &mut DLTensor {
        &mut self.dl_tensor
    }

    fn context(&self, _: Token) -> *mut c_void {
        self.manager_ctx
    }

    fn flags(&self, _: Token) -> u64 {
        self.flags
    }

    unsafe fn check_version(this: *const Self) -> Result<()> {
        // SAFETY: valid by the caller's promise; the version comes first in every version.
        let DLPackVersion { major, minor } = unsafe { (*this).version };
        if major == DLPACK_MAJOR_VERSION { Ok(()) } else { Err(Error::UnsupportedVersion { major, minor }) }
    }

    unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: the caller's promise.
        unsafe { (*this).deleter }
    }

    unsafe fn set_deleter(this: *mut Self, deleter: Option<unsafe extern "C" fn(*mut Self)>) {
        // SAFETY: the caller's promise.
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

    const DELETER: unsafe extern "C" fn(*mut Self) = delete_legacy;
    const CONSUMED: unsafe extern "C" fn(*mut Self) = consumed_legacy;

    fn tensor(&self, _: Token) -> &DLTensor {
        &self.dl_tensor
    }

    fn tensor_mut(&mut self, _: Token) -> &mut DLTensor {
        &mut self.dl_tensor
    }

    fn context(&self, _: Token) -> *mut c_void {
        self.manager_ctx
    }

    fn flags(&self, _: Token) -> u64 {
        // It cannot say that it may be written.
        READ_ONLY
    }

    unsafe fn check_version(_this: *const Self) -> Result<()> {
        Ok(())
    }

    unsafe fn deleter(this: *const Self) -> Option<unsafe extern "C" fn(*mut Self)> {
        // SAFETY: the caller's promise.
        unsafe { (*this).deleter }
    }

    unsafe fn set_deleter(this: *mut Self, deleter: Option<unsafe extern "C" fn(*mut Self)>) {
        // SAFETY: the caller's promise.
        unsafe { (*this).deleter = deleter };
    }

    fn marker(_: Token) -> *mut c_void {
        LEGACY.as_ptr().cast()
    }
}

/// An owned DLPack struct, to be handed to whatever speaks DLPack.
///
/// Dropping it releases the memory, as the struct's deleter would; [`into_raw`](Self::into_raw)
/// passes the struct, and the duty to call its deleter once, to someone else.
///
/// ```
/// use dlbridge::Tensor;
///
/// let exported = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.into_dlpack();
/// let raw = exported.into_raw(); // hand this to C
/// // SAFETY: the struct was made just above, and nobody else took it.
/// let back = unsafe { Tensor::from_dlpack(raw) }?;
/// assert_eq!(back.into_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub struct Exported<M: ManagedStruct = DLManagedTensorVersioned>(NonNull<M>);

// SAFETY: a DLPack struct may be released on any thread, and nothing else is done with it.
unsafe impl<M: ManagedStruct> Send for Exported<M> {}
// SAFETY: a shared reference only gives out the address.
unsafe impl<M: ManagedStruct> Sync for Exported<M> {}

impl<M: ManagedStruct> Exported<M> {
    /// Address of the struct, which `self` keeps.
    pub fn as_ptr(&self) -> NonNull<M> {
        self.0
    }

    /// The struct itself: whoever has it calls its deleter, once.
    ///
    /// Unless its flags say `READ_ONLY` the memory may be written, but not while a Rust view of the
    /// same memory lives or a call of this crate reads it: that is for whoever dereferences the
    /// pointer to see to.
    #[must_use = "the struct leaks unless its deleter is called"]
    pub fn into_raw(self) -> NonNull<M> {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl<M: ManagedStruct> Drop for Exported<M> {
    fn drop(&mut self) {
        // SAFETY: the struct is valid until its deleter runs, up to the deleter in every version.
        let deleter = unsafe { M::deleter(self.0.as_ptr()) };
        if let Some(deleter) = deleter {
            // SAFETY: we own the struct and are dropped once.
            unsafe { deleter(self.0.as_ptr()) };
        }
    }
}

impl<M: ManagedStruct> std::fmt::Debug for Exported<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Exported").field(&self.0).finish()
    }
}

/// A struct of our own making, the handle that keeps its memory, and the numbers that it points to: not the
/// handle's own, because whoever has the struct may write them.
#[repr(C)]
struct Block<M> {
    managed: M,
    shown: Layout,
    tensor: Tensor,
    /// As they were written.
    flags: u64,
}

/// Whether a struct of ours still says what it said. Its owner may have changed it: raised `READ_ONLY`, say,
/// or written another shape.
///
/// # Safety
/// * `block` was made by `export`, and nobody else uses it.
unsafe fn is_untouched<M: ManagedStruct>(block: *mut Block<M>) -> bool {
    // SAFETY: the caller's promise; here and below references end before their addresses are written.
    let tensor = unsafe { &(*block).tensor };
    // SAFETY: likewise.
    let managed = unsafe { &(*block).managed };
    // SAFETY: likewise.
    let flags = unsafe { (*block).flags };
    // SAFETY: likewise.
    let shown = unsafe { &(*block).shown };
    let addresses = (shown.shape().as_ptr().cast_mut(), shown.strides().as_ptr().cast_mut());
    let facts = |t: &DLTensor| {
        let (device, dtype) = (t.device, t.dtype);
        (
            device.device_type,
            device.device_id,
            dtype.code,
            dtype.bits,
            dtype.lanes,
            t.ndim,
            t.data,
            t.byte_offset,
        )
    };
    let now = managed.tensor(Token(()));
    (now.shape, now.strides) == addresses
        && facts(now) == facts(&tensor.as_dl_tensor())
        && shown == tensor.layout()
        && managed.flags(Token(())) == flags
}

// Neither generic nor inline, so that each has one address: it helps to recognise our structs.

#[inline(never)]
unsafe extern "C" fn delete_versioned(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: called as the deleter of a struct of ours.
    unsafe { delete(managed) };
}

#[inline(never)]
unsafe extern "C" fn delete_legacy(managed: *mut DLManagedTensor) {
    // SAFETY: called as the deleter of a struct of ours.
    unsafe { delete(managed) };
}

/// How often somebody released a struct that was not theirs any more. Counted because functions that
/// do nothing may come to share one address.
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
/// * `managed` is NULL or was made by `export`, and is not used afterwards.
unsafe fn delete<M: ManagedStruct>(managed: *mut M) {
    if managed.is_null() {
        return;
    }
    contain_panic(|| {
        // SAFETY: `export` made the struct as the first field of this block; its deleter is called
        // once.
        drop(unsafe { Box::from_raw(managed.cast::<Block<M>>()) });
    });
}

/// Puts a tensor into a new block, field by field in its place: blocks are large, and made often.
#[inline]
fn export<M: ManagedStruct>(tensor: Tensor, flags: u64) -> Exported<M> {
    #[cfg(feature = "cuda")]
    if !tensor.device().is_host() && tensor.used.is_none() {
        // An export cannot fail. Where the driver does, the device is of no use any more.
        let _broken = crate::cuda::hand_to_default(&tensor);
    }
    let block = Box::into_raw(Box::<Block<M>>::new_uninit()).cast::<Block<M>>();
    macro_rules! put {
        ($field:ident: $value:expr) => {
            // SAFETY: room for a block, which nobody else has.
            let place = unsafe { &raw mut (*block).$field };
            // SAFETY: likewise; each field is written once.
            unsafe { place.write($value) };
        };
    }
    put!(tensor: tensor);
    // SAFETY: written just above.
    let tensor = unsafe { &(*block).tensor };
    put!(shown: tensor.layout().clone());
    let mut managed = M::new(tensor.as_dl_tensor(), flags, Token(()));
    put!(flags: managed.flags(Token(())));
    let described = managed.tensor_mut(Token(()));
    // SAFETY: written above; another field than the one that is referred to, and it stays where it is.
    (described.shape, described.strides) = unsafe { &mut (*block).shown }.as_mut_ptrs();
    put!(managed: managed);
    // SAFETY: `into_raw` gives no NULL.
    Exported(unsafe { NonNull::new_unchecked(block.cast()) })
}

/// The tensor in a struct of our own making.
///
/// # Safety
/// * `source` carries our marker, and the caller owns it.
unsafe fn unwrap<M: ManagedStruct>(source: Exported<M>) -> Tensor {
    // SAFETY: marked structs are made by `export` as the first field of this block.
    let block = unsafe { Box::from_raw(source.into_raw().cast::<Block<M>>().as_ptr()) };
    let mut tensor = block.tensor;
    #[cfg(feature = "cuda")]
    {
        tensor.used = crate::cuda::Use::NONE;
    }
    tensor.trusted = true;
    tensor
}

impl Tensor {
    /// Takes over a DLPack struct. Nothing is copied; the struct's deleter is called once, on
    /// whichever thread drops the last handle. A struct that this crate exported is unwrapped, so
    /// that passing back and forth does not pile up, unless somebody changed what it says.
    ///
    /// Access follows the flags: `IS_COPIED` proves [`Access::Exclusive`] (with `READ_ONLY`:
    /// [`Access::ReadOnly`]), anything else is [`Access::Aliased`], writable unless `READ_ONLY`.
    /// Strides may be NULL (row-major) and `byte_offset` is honoured.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`] for another major version, of which nothing else is read;
    /// [`Error::InvalidDescriptor`] and [`Error::Overflow`] for a description that cannot be right, and for a
    /// struct that is held already. The struct comes back inside the error, its deleter not called.
    ///
    /// # Safety
    /// * `source` points to a valid struct that the caller owns; its deleter may be called on any
    ///   thread, and is replaced in the struct until then; `shape` and, unless NULL, `strides` point to
    ///   `ndim` numbers.
    /// * Until the deleter is called, every element, and for host memory every byte between the
    ///   lowest and the highest, is initialised and valid for reads, and for writes unless
    ///   `READ_ONLY` is set.
    /// * No other writer is active, here or elsewhere, while a Rust view of the memory (an
    ///   `ArrayView`, a slice, an [`NdArray`](crate::NdArray)) lives or a call of this crate reads it;
    ///   a bool buffer holds the bytes 0 and 1 only.
    /// * The flags are truthful: with `IS_COPIED`, nobody else reaches the memory.
    #[inline]
    pub unsafe fn from_dlpack(source: NonNull<DLManagedTensorVersioned>) -> Result<Self, Rejected<Exported>> {
        // SAFETY: the caller's promises.
        unsafe { Self::import(source) }
    }

    /// Takes over a DLPack struct of the older kind, as [`from_dlpack`](Self::from_dlpack).
    ///
    /// That struct has no flags, so its memory is taken for read-only, as NumPy does:
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
        // SAFETY: the caller's promises.
        unsafe { Self::import(source) }
    }

    /// # Safety
    /// * As for `from_dlpack`.
    unsafe fn import<M: ManagedStruct>(source: NonNull<M>) -> Result<Self, Rejected<Exported<M>>> {
        // SAFETY: the caller's promises.
        match unsafe { open(source) }? {
            Opened::Ours(tensor) => Ok(tensor),
            // SAFETY: likewise.
            Opened::Theirs(held) => unsafe { tensor_of(held) },
        }
    }

    /// Moves the tensor into a DLPack struct of version 1.3. Nothing is copied.
    ///
    /// The only handle to [`Access::Exclusive`] memory gives a struct that may be written
    /// (`IS_COPIED` too if this crate allocated the memory); foreign memory as writable as it is;
    /// everything else is `READ_ONLY`.
    ///
    /// Memory of a CUDA device is ready on the legacy default stream, as every export's is, or on that of
    /// `with_stream` (with the feature `cuda`).
    pub fn into_dlpack(mut self) -> Exported {
        let flags = self.moving_flags();
        export(self, flags)
    }

    /// Describes the tensor in DLPack's form. Nothing is copied or owned: the addresses lead into this
    /// handle, and hold until it is moved, changed or dropped. An empty tensor has no address.
    #[inline]
    pub fn as_dl_tensor(&self) -> DLTensor {
        let (dtype, device, layout) = (self.dtype(), self.device(), self.layout());
        DLTensor {
            data: if layout.is_empty() { std::ptr::null_mut() } else { self.data_ptr() },
            device: DLDevice { device_type: device.device_type.cast_unsigned(), device_id: device.index },
            // A layout has at most i32::MAX dimensions.
            ndim: i32::try_from(layout.ndim()).unwrap_or(i32::MAX),
            dtype: DLDataType { code: dtype.code, bits: dtype.bits, lanes: dtype.lanes },
            shape: layout.shape().as_ptr().cast_mut(),
            strides: layout.strides().as_ptr().cast_mut(),
            byte_offset: 0,
        }
    }

    /// Another owner of the same memory, as a DLPack struct of version 1.3. Nothing is copied.
    ///
    /// The struct is `READ_ONLY` unless the memory is foreign and writable.
    #[inline]
    pub fn share_dlpack(&self) -> Exported {
        export(self.share(), self.dlpack_flags())
    }

    /// Moves the tensor into a DLPack struct of the older kind. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] when [`into_dlpack`](Self::into_dlpack) would say `READ_ONLY`, for which
    /// the older struct has no room; [`Error::UnsupportedDType`] for padded elements, likewise. The
    /// tensor comes back inside the error.
    pub fn into_dlpack_legacy(mut self) -> Result<Exported<DLManagedTensor>, Rejected<Self>> {
        let flags = self.moving_flags();
        match self.check_legacy(flags) {
            Ok(()) => Ok(export(self, 0)),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    /// Another owner of the same memory, as a DLPack struct of the older kind. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] unless the memory is foreign and writable; [`Error::UnsupportedDType`]
    /// for padded elements.
    #[inline]
    pub fn share_dlpack_legacy(&self) -> Result<Exported<DLManagedTensor>> {
        self.check_legacy(self.dlpack_flags())?;
        Ok(export(self.share(), 0))
    }

    #[inline]
    fn check_legacy(&self, flags: u64) -> Result<()> {
        if flags & READ_ONLY != 0 {
            return Err(Error::ReadOnly {
                remedy: "the legacy struct cannot say so: use share_dlpack(), or export a deep_clone()",
            });
        }
        if flags & PADDED != 0 {
            return Err(Error::UnsupportedDType { dtype: self.dtype(), target: "the legacy struct" });
        }
        Ok(())
    }

    /// The flags of a DLPack struct that is one more owner of the memory:
    /// [`share_dlpack`](Self::share_dlpack)'s.
    #[inline]
    pub fn dlpack_flags(&self) -> u64 {
        let read_only = match self.access() {
            Access::Aliased { writable: true } => 0,
            _ => READ_ONLY,
        };
        let padded = if self.descriptor.is_padded() { PADDED } else { 0 };
        read_only | padded
    }

    /// Flags for a struct that this handle moves into.
    fn moving_flags(&mut self) -> u64 {
        let flags = self.dlpack_flags();
        if self.require_exclusive().is_err() {
            return flags;
        }
        let copied = if self.storage.is_copied() { COPIED } else { 0 };
        (flags & !READ_ONLY) | copied
    }
}
