//! dlpark's declarations of DLPack's owning structs, and the declarations of this crate.
//!
//! Invariant: a struct of dlpark has the layout of its counterpart in [`ffi`](crate::ffi), so a
//! pointer to one is a pointer to the other.

use std::mem::{ManuallyDrop, offset_of};
use std::ptr::NonNull;

use ::dlpark::{Managed, ManagedTensorBase, ffi as theirs};

use crate::{Exported, ManagedStruct, ffi as ours};

/// One of dlpark's declarations of DLPack's owning structs.
///
/// The trait is implemented for `dlpark::ffi::DLManagedTensorVersioned` and for
/// `dlpark::ffi::DLManagedTensor`. Other crates cannot implement it.
///
/// ```
/// use dlbridge::{DlparkExt, DlparkStruct, Tensor};
/// use dlpark::Managed;
///
/// /// Takes back a tensor that was moved into one of dlpark's managed tensors.
/// fn take_back<M: DlparkStruct>(managed: Managed<M>) -> dlbridge::Result<Tensor> {
///     Ok(managed.into_tensor()?)
/// }
/// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
/// assert_eq!(take_back(tensor.into_dlpark())?.into_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub trait DlparkStruct: ManagedTensorBase + Counterpart + 'static {}

impl DlparkStruct for theirs::DLManagedTensorVersioned {}
impl DlparkStruct for theirs::DLManagedTensor {}

/// This crate's declaration of the same C struct.
///
/// # Safety
/// * The two types have the same size, alignment and offsets of fields.
pub unsafe trait Counterpart: Sized {
    type Ours: ManagedStruct;
}

/// Compares size, alignment and offsets when the crate is compiled.
macro_rules! same_layout {
    ($($name:ident { $($field:ident),* })*) => {$(
        const _: () = {
            assert!(size_of::<ours::$name>() == size_of::<theirs::$name>());
            assert!(align_of::<ours::$name>() == align_of::<theirs::$name>());
            $(assert!(offset_of!(ours::$name, $field) == offset_of!(theirs::$name, $field));)*
        };
    )*};
}

same_layout! {
    DLPackVersion { major, minor }
    DLDevice { device_type, device_id }
    DLDataType { code, bits, lanes }
    DLTensor { data, device, ndim, dtype, shape, strides, byte_offset }
    DLManagedTensor { dl_tensor, manager_ctx, deleter }
    DLManagedTensorVersioned { version, manager_ctx, deleter, flags, dl_tensor }
}

// SAFETY: `same_layout` compared the two types and the types of their fields.
unsafe impl Counterpart for theirs::DLManagedTensorVersioned {
    type Ours = ours::DLManagedTensorVersioned;
}

// SAFETY: `same_layout` compared the two types and the types of their fields.
unsafe impl Counterpart for theirs::DLManagedTensor {
    type Ours = ours::DLManagedTensor;
}

/// Returns the address of a managed tensor's struct, which the managed tensor continues to own.
pub(super) fn address<M: DlparkStruct>(managed: &Managed<M>) -> NonNull<M::Ours> {
    match NonNull::new(managed.as_ptr()) {
        Some(source) => source.cast(),
        None => unreachable!("`Managed::from_raw` refuses NULL"),
    }
}

/// Moves a struct that this crate made into dlpark's owner of such structs.
pub(super) fn into_managed<M: DlparkStruct>(exported: Exported<M::Ours>) -> Managed<M> {
    let source = exported.into_raw().cast::<M>();
    // SAFETY: `exported` owned a valid struct, gave it up, and this crate's structs have their own
    // shape and strides, which no other code writes. `Counterpart` guarantees the layout. The
    // deleter may run on any thread, and contains panics.
    match unsafe { Managed::from_raw(source.as_ptr()) } {
        Ok(managed) => managed,
        Err(error) => unreachable!("a struct of this crate was refused: {error}"),
    }
}

/// Gives a managed tensor's struct to `consume`. If that fails, the managed tensor comes back.
pub(super) fn give<M: DlparkStruct, R, E>(
    managed: Managed<M>,
    consume: impl FnOnce(NonNull<M::Ours>) -> Result<R, E>,
) -> Result<R, (Managed<M>, E)> {
    // A managed tensor that was given away must not call the deleter, not even during a panic.
    let managed = ManuallyDrop::new(managed);
    match consume(address(&managed)) {
        Ok(result) => Ok(result),
        Err(error) => Err((ManuallyDrop::into_inner(managed), error)),
    }
}
