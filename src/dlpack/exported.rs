//! DLPack structs that this crate makes, and recognises when they come back.
//!
//! Invariant: an [`Exported`] owns its struct, and calls the struct's deleter once.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::managed::{Contents, ExportedBox, ManagedStruct, Payload, Token};
use crate::Descriptor;
use crate::cuda;
use crate::ffi::{DLDataType, DLDevice, DLManagedTensorVersioned, DLTensor};

/// An owned DLPack struct, for a consumer of DLPack.
///
/// Dropping an `Exported` calls the struct's deleter, which releases the memory.
/// [`into_raw`](Self::into_raw) gives the struct to the caller, who then has to call the deleter
/// once.
///
/// ```
/// use dlbridge::Tensor;
///
/// let exported = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.into_dlpack();
/// let raw = exported.into_raw(); // for the consumer
/// // SAFETY: the struct was made just above, and no other code consumed it.
/// let back = unsafe { Tensor::from_dlpack(raw) }?;
/// assert_eq!(back.into_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), dlbridge::Error>(())
/// ```
pub struct Exported<M: ManagedStruct = DLManagedTensorVersioned>(NonNull<M>);

// SAFETY: an `Exported` only calls the struct's deleter. This crate's deleters may run on any
// thread, and the caller of `consume` guarantees the same of others.
unsafe impl<M: ManagedStruct> Send for Exported<M> {}
// SAFETY: a shared reference only gives out the address.
unsafe impl<M: ManagedStruct> Sync for Exported<M> {}

impl<M: ManagedStruct> Exported<M> {
    /// Takes ownership of a struct.
    ///
    /// # Safety
    /// * `source` points to a struct that is valid up to its deleter, which may be called on any
    ///   thread. The caller owns the struct, and gives it up.
    pub(super) unsafe fn from_raw(source: NonNull<M>) -> Self {
        Self(source)
    }

    /// Returns the address of the struct, which `self` continues to own.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let exported = Tensor::zeros::<f32>([2, 3])?.into_dlpack();
    /// // SAFETY: `exported` keeps the struct, and no other code has it.
    /// let described = unsafe { exported.as_ptr().as_ref() }.dl_tensor;
    /// assert_eq!((described.ndim, described.byte_offset), (2, 0));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn as_ptr(&self) -> NonNull<M> {
        self.0
    }

    /// Gives the struct to the caller, who becomes its owner and has to call its deleter once.
    ///
    /// Unless the struct has the flag `READ_ONLY`, its elements may be written, but not the bytes
    /// between them. The code that writes through the pointer must make sure that no Rust view of
    /// the same memory lives meanwhile, and that no call of this crate reads it.
    ///
    /// ```
    /// use dlbridge::{Tensor, ffi::DLManagedTensorVersioned};
    ///
    /// /// Stands for a C function that consumes a struct.
    /// unsafe fn consume(source: *mut DLManagedTensorVersioned) {
    ///     // SAFETY: the caller guarantees a valid struct, and gives it up.
    ///     let deleter = unsafe { (*source).deleter };
    ///     // SAFETY: the deleter is called once, with the struct that it belongs to.
    ///     deleter.map(|deleter| unsafe { deleter(source) });
    /// }
    /// let raw = Tensor::zeros::<f32>([2, 3])?.into_dlpack().into_raw();
    /// // SAFETY: the struct was made just above, and is not used afterwards.
    /// unsafe { consume(raw.as_ptr()) };
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[must_use = "the struct leaks unless its deleter is called"]
    pub fn into_raw(self) -> NonNull<M> {
        ManuallyDrop::new(self).0
    }
}

impl<M: ManagedStruct> Drop for Exported<M> {
    fn drop(&mut self) {
        // SAFETY: `self` owns the struct, which is valid up to its deleter until that runs.
        let deleter = unsafe { M::deleter(self.0.as_ptr()) };
        if let Some(deleter) = deleter {
            // SAFETY: `self` owns the struct and is dropped once, so this is the only call.
            unsafe { deleter(self.0.as_ptr()) };
        }
    }
}

impl<M: ManagedStruct> std::fmt::Debug for Exported<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Exported").field(&self.0).finish()
    }
}

/// Describes elements as a `DLTensor`. The addresses point into `descriptor`. `data` is NULL if
/// there are no elements. `byte_offset` is 0 unless `data` is the handle of a buffer.
#[inline]
pub(crate) fn describe(descriptor: &Descriptor) -> DLTensor {
    let (dtype, device, layout) = (descriptor.dtype(), descriptor.device(), descriptor.layout());
    DLTensor {
        data: if layout.is_empty() { std::ptr::null_mut() } else { descriptor.data_ptr() },
        device: DLDevice {
            device_type: device.device_type.cast_unsigned(),
            device_id: device.index,
        },
        // A layout has at most i32::MAX dimensions.
        ndim: i32::try_from(layout.ndim()).unwrap_or(i32::MAX),
        dtype: DLDataType { code: dtype.code, bits: dtype.bits, lanes: dtype.lanes },
        shape: layout.shape().as_ptr().cast_mut(),
        strides: layout.strides().as_ptr().cast_mut(),
        byte_offset: descriptor.byte_offset() as u64,
    }
}

/// Puts a payload into a new box. The fields are written in place, because boxes are large, and
/// exports are frequent.
///
/// # Safety
/// * `flags` are true of every byte from the lowest to the highest element of the payload: without
///   `READ_ONLY` a consumer may write the elements, and with `IS_COPIED` only the payload reaches
///   these bytes.
#[inline]
pub(crate) unsafe fn export<M: ManagedStruct>(payload: Payload, flags: u64) -> Exported<M> {
    if !payload.buffer.descriptor().device().is_host() && payload.stream_use.is_none() {
        // An export has no way to fail. If this call fails, the device is broken: its later calls
        // fail, too.
        let _broken = cuda::record_default_stream(&payload.buffer);
    }
    let exported = Box::into_raw(Box::<ExportedBox<M>>::new_uninit()).cast::<ExportedBox<M>>();
    macro_rules! put {
        ($field:ident: $value:expr) => {
            // SAFETY: `exported` is the address of a new allocation for an `ExportedBox<M>`.
            let field = unsafe { &raw mut (*exported).$field };
            // SAFETY: the field lies within the new allocation, which no other code has.
            unsafe { field.write($value) };
        };
    }
    put!(payload: payload);
    // SAFETY: the payload was written just above, and no other code has the allocation.
    let descriptor = unsafe { &(*exported).payload }.buffer.descriptor();
    put!(shown: descriptor.layout().clone());
    put!(flags: flags);
    let mut tensor = describe(descriptor);
    // The numbers stay where they are until the box is dropped. No reference to them is kept,
    // because the struct's owner may write them.
    // SAFETY: `shown` was written just above, and nothing else borrows it.
    (tensor.shape, tensor.strides) = unsafe { &mut (*exported).shown }.as_mut_ptrs();
    put!(managed: M::new(tensor, flags, Token(())));
    // SAFETY: `exported` came from `Box::into_raw`, which never returns NULL.
    Exported(unsafe { NonNull::new_unchecked(exported.cast()) })
}

/// Returns true if a struct of this crate has the contents that it was made with. `now` is what was
/// read from it. Its owner may have changed it: for example, set `READ_ONLY` or written a shape.
///
/// # Safety
/// * `source` points to the first field of an [`ExportedBox`], which the caller owns.
pub(super) unsafe fn is_untouched<M: ManagedStruct>(source: NonNull<M>, now: &Contents) -> bool {
    let exported = source.cast::<ExportedBox<M>>().as_ptr();
    // SAFETY: the caller guarantees that `source` points to an `ExportedBox`, and owns it.
    let shown = unsafe { &(*exported).shown };
    // SAFETY: the caller guarantees that `source` points to an `ExportedBox`, and owns it.
    let payload = unsafe { &(*exported).payload };
    // SAFETY: the caller guarantees that `source` points to an `ExportedBox`, and owns it.
    let flags = unsafe { (*exported).flags };
    let addresses = (shown.shape().as_ptr().cast_mut(), shown.strides().as_ptr().cast_mut());
    (now.tensor.shape, now.tensor.strides) == addresses
        && is_same_description(&now.tensor, &describe(payload.buffer.descriptor()))
        && shown == payload.buffer.layout()
        && now.flags == M::shown_flags(flags)
}

/// Returns true if two descriptions have equal fields, except the addresses of shape and strides.
fn is_same_description(one: &DLTensor, other: &DLTensor) -> bool {
    let facts = |tensor: &DLTensor| {
        let (device, dtype) = (tensor.device, tensor.dtype);
        (
            (device.device_type, device.device_id),
            (dtype.code, dtype.bits, dtype.lanes),
            (tensor.ndim, tensor.data, tensor.byte_offset),
        )
    };
    facts(one) == facts(other)
}

/// Takes the payload out of a struct of this crate, and frees the struct.
///
/// # Safety
/// * `source` points to the first field of an [`ExportedBox`], which the caller owns.
pub(super) unsafe fn unwrap<M: ManagedStruct>(source: NonNull<M>) -> Payload {
    // SAFETY: the caller guarantees an `ExportedBox`, whose address came from `Box::into_raw`, and
    // gives it up.
    let exported = unsafe { Box::from_raw(source.cast::<ExportedBox<M>>().as_ptr()) };
    exported.payload
}
