//! Structs of other libraries. Each is read once, checked, kept, and released once.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::exported::{Exported, describe, is_untouched, unwrap};
use super::managed::{Contents, IS_COPIED, ManagedStruct, Payload, READ_ONLY, Token};
use super::validate::invalid;
use crate::ffi::{DLManagedTensorVersioned, DLTensor};
use crate::shared_buffer::SharedBuffer;
use crate::storage::Storage;
use crate::{Descriptor, Rejected, Result, cuda};

/// The DLPack struct of another library, which this crate consumed and releases when it is dropped.
///
/// When the struct was consumed, its description was copied and checked. The struct is not read
/// again, because its producer may still write it.
///
/// Until the struct is released, it has another deleter, which does nothing. Code that releases a
/// struct which it gave away thus does not free the memory, and a second import of the struct is an
/// error. A struct without a deleter is not changed, because it may be a constant.
///
/// ```
/// use dlbridge::ffi::{DLDataType, DLDevice, DLManagedTensorVersioned, DLPackVersion, DLTensor};
/// use dlbridge::{Imported, ManagedTensor};
/// use std::ptr;
///
/// let (mut values, mut shape) = ([1.0_f32, 2.0], [2]);
/// let dl_tensor = DLTensor {
///     data: values.as_mut_ptr().cast(),
///     device: DLDevice { device_type: 1, device_id: 0 }, // the host
///     ndim: 1,
///     dtype: DLDataType { code: 2, bits: 32, lanes: 1 }, // float32
///     shape: shape.as_mut_ptr(),
///     strides: ptr::null_mut(), // row-major
///     byte_offset: 0,
/// };
/// let mut foreign = DLManagedTensorVersioned {
///     version: DLPackVersion { major: 1, minor: 1 },
///     manager_ctx: ptr::null_mut(),
///     deleter: None, // the stack frame owns the memory
///     flags: 0,
///     dl_tensor,
/// };
/// // SAFETY: the struct describes two initialised numbers, which live longer than `imported`.
/// let imported = unsafe { Imported::new(ptr::NonNull::from(&mut foreign)) }?;
/// let Imported::Managed(managed): Imported = imported else { panic!("another library's") };
/// assert_eq!(managed.descriptor().layout().strides(), [1]);
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub struct ManagedTensor<M: ManagedStruct = DLManagedTensorVersioned> {
    owner: StructOwner<M>,
    descriptor: Descriptor,
    flags: u64,
}

/// A struct, which owns the memory that it describes through its deleter.
struct StructOwner<M: ManagedStruct> {
    source: NonNull<M>,
    deleter: Option<unsafe extern "C" fn(*mut M)>,
}

// SAFETY: the caller that imported the struct guarantees that its deleter may be called on any
// thread, and a `StructOwner` uses the struct for nothing else.
unsafe impl<M: ManagedStruct> Send for StructOwner<M> {}
// SAFETY: a shared reference only gives out the address.
unsafe impl<M: ManagedStruct> Sync for StructOwner<M> {}

impl<M: ManagedStruct> StructOwner<M> {
    /// # Safety
    /// * `source` is a valid struct that the result owns, and `deleter` is its deleter.
    unsafe fn new(source: NonNull<M>, deleter: Option<unsafe extern "C" fn(*mut M)>) -> Self {
        if deleter.is_some() {
            // SAFETY: the caller guarantees a valid struct, and gives it up.
            unsafe { M::set_deleter(source.as_ptr(), Some(M::CONSUMED)) };
        }
        Self { source, deleter }
    }
}

impl<M: ManagedStruct> Drop for StructOwner<M> {
    fn drop(&mut self) {
        let Some(deleter) = self.deleter else { return };
        // A deleter may read the struct, so the struct must be as its producer made it.
        // SAFETY: `self` owns the struct, which is valid until its deleter runs.
        unsafe { M::set_deleter(self.source.as_ptr(), Some(deleter)) };
        // SAFETY: `self` owns the struct and is dropped once, so this is the only call of the
        // deleter that the struct came with.
        unsafe { deleter(self.source.as_ptr()) };
    }
}

impl<M: ManagedStruct> ManagedTensor<M> {
    /// Returns what the struct described when it was consumed.
    ///
    /// ```
    /// # use dlbridge::{Tensor, ffi::{DLManagedTensorVersioned, DLPackVersion}};
    /// # let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3])?;
    /// # let mut foreign = DLManagedTensorVersioned {
    /// #     version: DLPackVersion { major: 1, minor: 1 },
    /// #     manager_ctx: std::ptr::null_mut(),
    /// #     deleter: None,
    /// #     flags: 0,
    /// #     dl_tensor: tensor.as_dl_tensor(),
    /// # };
    /// # let source = std::ptr::NonNull::from(&mut foreign);
    /// use dlbridge::{DType, Imported};
    ///
    /// // SAFETY: `source` points to a valid struct of another library, which no other code uses.
    /// if let Imported::Managed(managed) = unsafe { Imported::new(source) }? {
    ///     let described = managed.descriptor();
    ///     assert_eq!((described.layout().shape(), described.dtype()), (&[3][..], DType::F32));
    /// }
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns what the struct described when it was consumed, as a `DLTensor`.
    ///
    /// The addresses point into this value and not into the struct. They are valid until this value
    /// is moved or dropped. The strides are never NULL, and `byte_offset` is 0 unless `data` is the
    /// handle of a buffer.
    ///
    /// ```
    /// # use dlbridge::{Tensor, ffi::{DLManagedTensorVersioned, DLPackVersion}};
    /// # let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3])?;
    /// # let mut foreign = DLManagedTensorVersioned {
    /// #     version: DLPackVersion { major: 1, minor: 1 },
    /// #     manager_ctx: std::ptr::null_mut(),
    /// #     deleter: None,
    /// #     flags: 0,
    /// #     dl_tensor: tensor.as_dl_tensor(),
    /// # };
    /// # foreign.dl_tensor.strides = std::ptr::null_mut();
    /// # let source = std::ptr::NonNull::from(&mut foreign);
    /// use dlbridge::Imported;
    ///
    /// // SAFETY: `source` points to a valid struct of another library, which no other code uses.
    /// if let Imported::Managed(managed) = unsafe { Imported::new(source) }? {
    ///     assert!(!managed.as_dl_tensor().strides.is_null()); // the struct's own are NULL
    /// }
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn as_dl_tensor(&self) -> DLTensor {
        describe(&self.descriptor)
    }

    /// Returns the flags that the struct had when it was consumed.
    ///
    /// For the older struct, which has no flags, the result is `READ_ONLY`.
    ///
    /// ```
    /// # use dlbridge::{Tensor, ffi::DLManagedTensor};
    /// # let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3])?;
    /// # let mut foreign = DLManagedTensor {
    /// #     dl_tensor: tensor.as_dl_tensor(),
    /// #     manager_ctx: std::ptr::null_mut(),
    /// #     deleter: None,
    /// # };
    /// # let source = std::ptr::NonNull::from(&mut foreign);
    /// use dlbridge::{Imported, ffi::DLPACK_FLAG_BITMASK_READ_ONLY};
    ///
    /// // SAFETY: `source` points to a valid `DLManagedTensor` of another library, which no other
    /// // code uses.
    /// if let Imported::Managed(managed) = unsafe { Imported::new(source) }? {
    ///     assert_eq!(managed.flags(), u64::from(DLPACK_FLAG_BITMASK_READ_ONLY));
    /// }
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn flags(&self) -> u64 {
        self.flags
    }

    /// Returns true if the memory can be used without a tensor. CUDA memory cannot, because only
    /// tensors keep the order of streams.
    #[inline]
    pub(crate) fn needs_no_tensor(&self) -> bool {
        !cuda::tracks(self.descriptor.device())
    }

    /// Moves the struct into a storage, which keeps the elements that the struct described.
    pub(crate) fn into_buffer(self) -> SharedBuffer {
        let Self { owner, descriptor, flags } = self;
        let storage = match (flags & IS_COPIED != 0, flags & READ_ONLY != 0) {
            // SAFETY: the caller of `consume` guarantees that the flags are true: with `IS_COPIED`
            // only the struct's owner reaches the memory.
            (true, false) => unsafe { Storage::copied(owner) },
            // SAFETY: the caller of `consume` guarantees that the flags are true: with `IS_COPIED`
            // and `READ_ONLY` no code writes the memory.
            (true, true) => unsafe { Storage::read_only(owner) }.marked_as_copied(),
            (false, read_only) => Storage::aliased(owner, !read_only),
        };
        // SAFETY: the caller of `consume` guarantees that the elements are initialised and valid
        // for reads, and for writes unless `READ_ONLY`, until the struct's deleter is called.
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

/// The result of consuming a struct.
pub(crate) enum Consumed<M: ManagedStruct> {
    /// This crate made the struct, which was freed.
    Ours(Payload),
    /// Another library made the struct, or its owner changed a struct that this crate made.
    Theirs(ManagedTensor<M>),
}

/// Consumes a struct of a supported version that was not consumed before. Every field, every size
/// and every stride is read once.
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
    // SAFETY: the caller guarantees a valid struct, whose deleter may be called on any thread, and
    // gives it up.
    let exported = unsafe { Exported::from_raw(source) };
    // SAFETY: the caller guarantees a struct that is valid up to its version.
    if let Err(error) = unsafe { M::check_version(source.as_ptr()) } {
        return Err(Rejected::new(exported, error));
    }
    // SAFETY: the caller guarantees a valid struct, and `check_version` a version whose fields are
    // known.
    let deleter = unsafe { M::deleter(source.as_ptr()) };
    if has_deleter(deleter, M::CONSUMED) {
        let error = invalid("deleter", "consumed".into(), "the struct was consumed already");
        return Err(Rejected::new(exported, error));
    }
    // SAFETY: the caller guarantees a valid struct, and `check_version` a version whose fields are
    // known.
    let contents = unsafe { M::read(source.as_ptr()) };
    // SAFETY: the caller owns the struct, from which `deleter` and `contents` were read.
    if unsafe { is_own(source, deleter, &contents) } {
        // SAFETY: `is_own` found a struct that `export` made as the first field of an
        // `ExportedBox`, and `exported` owns it.
        return Ok(Consumed::Ours(unsafe { unwrap(exported.into_raw()) }));
    }
    let Contents { tensor, flags, .. } = contents;
    // SAFETY: the caller guarantees that `shape` and `strides` point to `ndim` numbers.
    match unsafe { Descriptor::from_dl_tensor(&tensor, flags) } {
        Ok(descriptor) => {
            let _owned_below = ManuallyDrop::new(exported);
            // SAFETY: the caller guarantees a valid struct, `deleter` was read from it, and
            // `exported`, which owned it, is forgotten.
            let owner = unsafe { StructOwner::new(source, deleter) };
            Ok(Consumed::Theirs(ManagedTensor { owner, descriptor, flags }))
        }
        Err(error) => Err(Rejected::new(exported, error)),
    }
}

/// Takes the payload out of a struct that this crate made and that has the contents it was made
/// with. A struct of another library, or one that was changed, stays as it is.
///
/// # Safety
/// * `source` points to a valid struct of a version whose fields are known. The caller owns it, and
///   gives it up if there is a payload. Its `DLTensor` and its flags need not be true.
#[cfg(feature = "dlpark")]
pub(crate) unsafe fn unwrap_own<M: ManagedStruct>(source: NonNull<M>) -> Option<Payload> {
    // SAFETY: the caller guarantees a valid struct of a known version.
    let deleter = unsafe { M::deleter(source.as_ptr()) };
    // SAFETY: the caller guarantees a valid struct of a known version.
    let contents = unsafe { M::read(source.as_ptr()) };
    // SAFETY: the caller owns the struct, from which `deleter` and `contents` were read.
    let own = unsafe { is_own(source, deleter, &contents) };
    // SAFETY: `is_own` found a struct that `export` made as the first field of an `ExportedBox`,
    // and the caller gives it up.
    own.then(|| unsafe { unwrap(source) })
}

/// Returns true if this crate made the struct, and its owner has changed nothing since.
///
/// # Safety
/// * The caller owns the struct at `source`, which has this deleter and these contents.
#[inline]
unsafe fn is_own<M: ManagedStruct>(
    source: NonNull<M>,
    deleter: Option<unsafe extern "C" fn(*mut M)>,
    contents: &Contents,
) -> bool {
    // The marker shows that this crate made the struct, and the deleter that its owner has not
    // replaced the deleter since.
    let marked = has_deleter(deleter, M::DELETER) && contents.context == M::marker(Token(()));
    // SAFETY: only `export` makes structs with the marker, each as the first field of an
    // `ExportedBox`, and the caller owns this one.
    marked && unsafe { is_untouched(source, contents) }
}

#[inline]
fn has_deleter<M>(
    deleter: Option<unsafe extern "C" fn(*mut M)>,
    known: unsafe extern "C" fn(*mut M),
) -> bool {
    deleter.is_some_and(|deleter| std::ptr::fn_addr_eq(deleter, known))
}
