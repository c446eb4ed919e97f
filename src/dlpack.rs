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

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::ffi::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_IS_COPIED,
    DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, DLPACK_FLAG_BITMASK_READ_ONLY, DLPACK_MAJOR_VERSION,
    DLPACK_MINOR_VERSION, DLPackVersion, DLTensor,
};
use crate::storage::{Storage, contain_panic};
use crate::{Access, DType, Descriptor, Device, Error, Layout, Rejected, Result, Tensor};
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
        fn tensor_mut(&mut self) -> &mut DLTensor;
        fn context(&self) -> *mut c_void;
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
        const TAKEN: unsafe extern "C" fn(*mut Self);
        /// Its address marks structs of this type that this crate made.
        fn marker(_: Token) -> *mut c_void;
    }
}

/// An owning struct of DLPack: [`DLManagedTensorVersioned`] or the older [`DLManagedTensor`].
pub trait Managed: sealed::Sealed {}

impl Managed for DLManagedTensorVersioned {}
impl Managed for DLManagedTensor {}

// Atomics, so that no two statics may share an address.
static VERSIONED: AtomicU8 = AtomicU8::new(0);
static LEGACY: AtomicU8 = AtomicU8::new(0);

impl sealed::Sealed for DLManagedTensorVersioned {
    fn new(dl_tensor: DLTensor, flags: u64, token: Token) -> Self {
        let version = DLPackVersion { major: DLPACK_MAJOR_VERSION, minor: DLPACK_MINOR_VERSION };
        Self { version, manager_ctx: Self::marker(token), deleter: Some(Self::DELETER), flags, dl_tensor }
    }

    const DELETER: unsafe extern "C" fn(*mut Self) = delete_versioned;
    const TAKEN: unsafe extern "C" fn(*mut Self) = taken_versioned;

    fn tensor_mut(&mut self) -> &mut DLTensor {
        &mut self.dl_tensor
    }

    fn context(&self) -> *mut c_void {
        self.manager_ctx
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
    const TAKEN: unsafe extern "C" fn(*mut Self) = taken_legacy;

    fn tensor_mut(&mut self) -> &mut DLTensor {
        &mut self.dl_tensor
    }

    fn context(&self) -> *mut c_void {
        self.manager_ctx
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
pub struct Exported<M: Managed = DLManagedTensorVersioned>(NonNull<M>);

// SAFETY: a DLPack struct may be released on any thread, and nothing else is done with it.
unsafe impl<M: Managed> Send for Exported<M> {}
// SAFETY: a shared reference only gives out the address.
unsafe impl<M: Managed> Sync for Exported<M> {}

impl<M: Managed> Exported<M> {
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

impl<M: Managed> Drop for Exported<M> {
    fn drop(&mut self) {
        // SAFETY: the struct is valid until its deleter runs, up to the deleter in every version.
        let deleter = unsafe { M::deleter(self.0.as_ptr()) };
        if let Some(deleter) = deleter {
            // SAFETY: we own the struct and are dropped once.
            unsafe { deleter(self.0.as_ptr()) };
        }
    }
}

impl<M: Managed> std::fmt::Debug for Exported<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Exported").field(&self.0).finish()
    }
}

/// A struct of our own making, and the handle that keeps its memory, shape and strides.
#[repr(C)]
struct Block<M> {
    managed: M,
    tensor: Tensor,
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
unsafe extern "C" fn taken_versioned(_managed: *mut DLManagedTensorVersioned) {
    MISUSES[0].fetch_add(1, Ordering::Relaxed);
}

#[inline(never)]
unsafe extern "C" fn taken_legacy(_managed: *mut DLManagedTensor) {
    MISUSES[1].fetch_add(1, Ordering::Relaxed);
}

/// A struct that somebody else made, released when this is dropped.
///
/// Until then another deleter stands in it: to take it a second time, or to release it after it was
/// given away, is a mistake that C code makes, and is noticed instead of freeing the memory twice.
/// A struct without a deleter stays as it is, because it may be a constant.
struct Taken<M: Managed> {
    source: Exported<M>,
    deleter: Option<unsafe extern "C" fn(*mut M)>,
}

impl<M: Managed> Taken<M> {
    /// Takes over a struct with this deleter.
    fn new(source: Exported<M>, deleter: Option<unsafe extern "C" fn(*mut M)>) -> Self {
        if deleter.is_some() {
            // SAFETY: a valid struct that `source` owns.
            unsafe { M::set_deleter(source.0.as_ptr(), Some(M::TAKEN)) };
        }
        Self { source, deleter }
    }
}

impl<M: Managed> Drop for Taken<M> {
    fn drop(&mut self) {
        if self.deleter.is_some() {
            // SAFETY: a valid struct that `source` owns, and releases next.
            unsafe { M::set_deleter(self.source.0.as_ptr(), self.deleter) };
        }
    }
}

/// # Safety
/// * `managed` is NULL or was made by `export`, and is not used afterwards.
unsafe fn delete<M: Managed>(managed: *mut M) {
    if managed.is_null() {
        return;
    }
    contain_panic(|| {
        // SAFETY: `export` made the struct as the first field of this block; its deleter is called
        // once.
        drop(unsafe { Box::from_raw(managed.cast::<Block<M>>()) });
    });
}

fn export<M: Managed>(tensor: Tensor, flags: u64) -> Exported<M> {
    let managed = M::new(tensor.as_dl_tensor(), flags, Token(()));
    let block = Box::into_raw(Box::new(Block { managed, tensor }));
    // SAFETY: made just above, and nobody else has it; the reference ends before the next one begins.
    let described = unsafe { &(*block).tensor }.as_dl_tensor();
    // Once more, because its addresses hold from here on: the tensor stays where it is.
    // SAFETY: likewise; another field than the one the addresses lead into.
    *unsafe { &mut (*block).managed }.tensor_mut() = described;
    // SAFETY: `into_raw` gives no NULL.
    Exported(unsafe { NonNull::new_unchecked(block.cast()) })
}

/// The tensor in a struct of our own making.
///
/// # Safety
/// * `source` carries our marker, and the caller owns it.
unsafe fn unwrap<M: Managed>(source: Exported<M>) -> Tensor {
    // SAFETY: marked structs are made by `export` as the first field of this block.
    let block = unsafe { Box::from_raw(source.into_raw().cast::<Block<M>>().as_ptr()) };
    Tensor { vouched: true, ..block.tensor }
}

impl Descriptor {
    /// Reads a description in DLPack's form. Shape and strides are copied; of `flags`, only
    /// `IS_SUBBYTE_TYPE_PADDED` means something here.
    ///
    /// Strides may be NULL (row-major) and `byte_offset` is honoured.
    ///
    /// # Errors
    /// [`Error::Descriptor`] and [`Error::Overflow`] for a description that cannot be right.
    ///
    /// # Safety
    /// * `shape` and `strides` point to `ndim` numbers each, unless they are NULL or misaligned or
    ///   `ndim` is negative.
    pub unsafe fn from_dl_tensor(tensor: &DLTensor, flags: u64) -> Result<Self> {
        // SAFETY: the caller's promise.
        let layout = unsafe { Layout::from_dl_tensor(tensor) }?;
        let DLDataType { code, bits, lanes } = tensor.dtype;
        let dtype = DType { code, bits, lanes };
        if dtype.has_wrong_width() {
            return Err(refusal("dtype.bits", bits.to_string(), "this kind of number has another width"));
        }
        let mut data = tensor.data;
        if !data.is_null() {
            let offset = usize::try_from(tensor.byte_offset).ok();
            if offset.and_then(|offset| data.addr().checked_add(offset)).is_none() {
                let reason = "the address exceeds the address space";
                return Err(refusal("byte_offset", tensor.byte_offset.to_string(), reason));
            }
            data = data.wrapping_byte_add(offset.unwrap_or(0));
        }
        let device =
            Device { kind: tensor.device.device_type.cast_signed(), index: tensor.device.device_id };
        let descriptor = Self::new(data, layout, dtype, device)?;
        if flags & PADDED != 0 { descriptor.padded() } else { Ok(descriptor) }
    }
}

impl Layout {
    /// Reads shape and strides of a description in DLPack's form. NULL strides mean row-major.
    ///
    /// # Errors
    /// [`Error::Descriptor`] and [`Error::Overflow`] for what cannot be right.
    ///
    /// # Safety
    /// * As for [`Descriptor::from_dl_tensor`].
    pub unsafe fn from_dl_tensor(tensor: &DLTensor) -> Result<Self> {
        let Ok(ndim) = usize::try_from(tensor.ndim) else {
            let reason = "the number of dimensions cannot be negative";
            return Err(refusal("ndim", tensor.ndim.to_string(), reason));
        };
        // SAFETY: the caller's promise for a shape of `ndim` numbers.
        let Some(shape) = (unsafe { numbers(tensor.shape, ndim) }) else {
            let reason = "a tensor of some rank needs a shape";
            return Err(refusal("shape", format!("{:?}", tensor.shape), reason));
        };
        if tensor.strides.is_null() {
            // Not allowed since DLPack 1.2, yet NumPy and PyTorch take it for row-major in all versions.
            return Self::contiguous(shape);
        }
        // SAFETY: the caller's promise for strides of `ndim` numbers.
        match unsafe { numbers(tensor.strides, ndim) } {
            Some(strides) => Self::new(shape, strides),
            None => {
                Err(refusal("strides", format!("{:?}", tensor.strides), "the address is misaligned"))
            }
        }
    }
}

#[cold]
fn refusal(field: &str, value: String, reason: &'static str) -> Error {
    Error::Descriptor { field: field.into(), value, reason }
}

/// # Safety
/// * Unless it is NULL or misaligned, `start` points to `count` numbers that stay as they are for `'a`.
unsafe fn numbers<'a>(start: *const i64, count: usize) -> Option<&'a [i64]> {
    if count == 0 {
        return Some(&[]);
    }
    if start.is_null() || !start.is_aligned() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(start, count) })
}

impl Tensor {
    /// Takes over a DLPack struct. Nothing is copied; the struct's deleter is called once, on
    /// whichever thread drops the last handle. A struct that this crate exported is unwrapped, so
    /// that passing back and forth does not pile up.
    ///
    /// Access follows the flags: `IS_COPIED` proves [`Access::Exclusive`] (with `READ_ONLY`:
    /// [`Access::ReadOnly`]), anything else is [`Access::Foreign`], writable unless `READ_ONLY`.
    /// Strides may be NULL (row-major) and `byte_offset` is honoured.
    ///
    /// # Errors
    /// [`Error::Version`] for another major version, of which nothing else is read;
    /// [`Error::Descriptor`] and [`Error::Overflow`] for a description that cannot be right, and for a
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
    pub unsafe fn from_dlpack(source: NonNull<DLManagedTensorVersioned>) -> Result<Self, Rejected<Exported>> {
        let source = Exported(source);
        // SAFETY: valid by the caller's promise; the version comes first in every version.
        let DLPackVersion { major, minor } = unsafe { (*source.0.as_ptr()).version };
        if major != DLPACK_MAJOR_VERSION {
            return Err(Rejected::new(source, Error::Version { major, minor }));
        }
        // SAFETY: valid by the caller's promise, and of a version whose fields we know.
        let flags = unsafe { (*source.0.as_ptr()).flags };
        let access = match (flags & COPIED != 0, flags & READ_ONLY != 0) {
            (true, false) => Access::Exclusive,
            (true, true) => Access::ReadOnly,
            (false, read_only) => Access::Foreign { writable: !read_only },
        };
        // SAFETY: the caller's promises.
        unsafe { Self::import(source, access, flags) }
    }

    /// Takes over a DLPack struct of the older kind, as [`from_dlpack`](Self::from_dlpack).
    ///
    /// That struct has no flags, so its memory is taken for read-only, as NumPy does:
    /// [`Access::Foreign`], not writable.
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
        unsafe { Self::import(Exported(source), Access::Foreign { writable: false }, 0) }
    }

    /// # Safety
    /// * As for `from_dlpack`, for a struct whose fields we know.
    unsafe fn import<M: Managed>(
        mut source: Exported<M>,
        access: Access,
        flags: u64,
    ) -> Result<Self, Rejected<Exported<M>>> {
        // SAFETY: the caller owns the valid struct, and so do we now.
        let managed = unsafe { source.0.as_mut() };
        // The marker says that we made it, the deleter that nobody put another one in since.
        let unwrapped = |deleter| std::ptr::fn_addr_eq(deleter, M::DELETER);
        // SAFETY: a valid struct.
        let deleter = unsafe { M::deleter(managed) };
        if managed.context() == M::marker(Token(())) && deleter.is_some_and(unwrapped) {
            // SAFETY: the marker is there, and nobody wrapped the struct.
            return Ok(unsafe { unwrap(source) });
        }
        if deleter.is_some_and(|deleter| std::ptr::fn_addr_eq(deleter, M::TAKEN)) {
            let error = refusal("deleter", "taken".into(), "the struct was taken over already");
            // It belongs to whoever took it, not to the refusal.
            return Err(Rejected::new(source, error));
        }
        // SAFETY: the caller promises `ndim` numbers behind both addresses.
        match unsafe { Descriptor::from_dl_tensor(managed.tensor_mut(), flags) } {
            Ok(descriptor) => {
                let owner = Taken::new(source, deleter);
                Ok(Self::new(Storage::new(owner, access, flags & COPIED != 0), descriptor))
            }
            Err(error) => Err(Rejected::new(source, error)),
        }
    }

    /// Moves the tensor into a DLPack struct of version 1.3. Nothing is copied.
    ///
    /// The only handle to [`Access::Exclusive`] memory gives a struct that may be written
    /// (`IS_COPIED` too if this crate allocated the memory); foreign memory as writable as it is;
    /// everything else is `READ_ONLY`.
    pub fn into_dlpack(mut self) -> Exported {
        let flags = self.moving_flags();
        export(self, flags)
    }

    /// Describes the tensor in DLPack's form. Nothing is copied or owned: the addresses lead into this
    /// handle, and hold until it is moved, changed or dropped. An empty tensor has no address.
    pub fn as_dl_tensor(&self) -> DLTensor {
        let (dtype, device, layout) = (self.dtype(), self.device(), self.layout());
        DLTensor {
            data: if layout.is_empty() { std::ptr::null_mut() } else { self.data_ptr() },
            device: DLDevice { device_type: device.kind.cast_unsigned(), device_id: device.index },
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
    pub fn share_dlpack_legacy(&self) -> Result<Exported<DLManagedTensor>> {
        self.check_legacy(self.dlpack_flags())?;
        Ok(export(self.share(), 0))
    }

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
    pub fn dlpack_flags(&self) -> u64 {
        let read_only = match self.access() {
            Access::Foreign { writable: true } => 0,
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
