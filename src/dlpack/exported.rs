//! Structs of this crate's own making, handed out and recognised when they come back.
//!
//! Invariant: an [`Exported`] owns its struct, and calls the struct's deleter once.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::managed::{Contents, ExportedBox, ManagedStruct, Payload, Token};
use crate::Descriptor;
use crate::cuda;
use crate::ffi::{DLDataType, DLDevice, DLManagedTensorVersioned, DLTensor};

/// An owned DLPack struct, to be handed to any consumer of DLPack.
///
/// Dropping it releases the memory, as the struct's deleter would; [`into_raw`](Self::into_raw)
/// passes the struct, and the duty to call its deleter once, to the caller.
///
/// ```
/// use dlbridge::Tensor;
///
/// let exported = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?.into_dlpack();
/// let raw = exported.into_raw(); // hand this to C
/// // SAFETY: the struct was made just above, and no other code consumed it.
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
    /// Makes `source` a struct that the result owns.
    ///
    /// # Safety
    /// * `source` points to a struct that is valid up to its deleter; the result becomes its owner.
    pub(super) unsafe fn from_raw(source: NonNull<M>) -> Self {
        Self(source)
    }

    /// Address of the struct, which `self` keeps.
    pub fn as_ptr(&self) -> NonNull<M> {
        self.0
    }

    /// Gives out the struct itself. The caller becomes its owner, and calls its deleter once.
    ///
    /// Unless its flags say `READ_ONLY` the elements may be written (not the bytes between them),
    /// but not while a Rust view of the same memory lives or a call of this crate reads it: the
    /// code that dereferences the pointer is responsible for that.
    #[must_use = "the struct leaks unless its deleter is called"]
    pub fn into_raw(self) -> NonNull<M> {
        ManuallyDrop::new(self).0
    }
}

impl<M: ManagedStruct> Drop for Exported<M> {
    fn drop(&mut self) {
        // SAFETY: the struct is valid up to its deleter in every version, until the deleter runs.
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

/// Describes elements in DLPack's form. The addresses lead into `descriptor`. Elements that do not
/// exist have no address. `byte_offset` is 0 unless `data` is the handle of a buffer.
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

/// Puts a payload into a new box, field by field in its place: boxes are large, and made often.
///
/// # Safety
/// * `flags` are true of every byte from the lowest to the highest element of the payload: without
///   `READ_ONLY` a consumer may write the elements, and with `IS_COPIED` only the payload reaches
///   these bytes.
#[inline]
pub(crate) unsafe fn export<M: ManagedStruct>(payload: Payload, flags: u64) -> Exported<M> {
    if !payload.buffer.descriptor().device().is_host() && payload.stream_use.is_none() {
        // An export cannot fail. Where the driver does, the device is of no use any more.
        let _broken = cuda::record_default_stream(&payload.buffer);
    }
    let exported = Box::into_raw(Box::<ExportedBox<M>>::new_uninit()).cast::<ExportedBox<M>>();
    macro_rules! put {
        ($field:ident: $value:expr) => {
            // SAFETY: the address is that of a new allocation for such a box.
            let field = unsafe { &raw mut (*exported).$field };
            // SAFETY: no other code has the allocation; each field is written once.
            unsafe { field.write($value) };
        };
    }
    put!(payload: payload);
    // SAFETY: the payload was written just above.
    let descriptor = unsafe { &(*exported).payload }.buffer.descriptor();
    put!(shown: descriptor.layout().clone());
    put!(flags: flags);
    let mut tensor = describe(descriptor);
    // The numbers stay where they are until the box is dropped, and no reference to them is made:
    // the struct's owner may write them.
    // SAFETY: `shown` was written above, and is borrowed by nothing else.
    (tensor.shape, tensor.strides) = unsafe { &mut (*exported).shown }.as_mut_ptrs();
    put!(managed: M::new(tensor, flags, Token(())));
    // SAFETY: `Box::into_raw` gives no NULL.
    Exported(unsafe { NonNull::new_unchecked(exported.cast()) })
}

/// Whether a struct of ours, which says `now`, still says what it said. Its owner may have changed
/// it: set `READ_ONLY`, say, or written another shape.
///
/// # Safety
/// * `source` is the first field of an [`ExportedBox`], which the caller owns.
pub(super) unsafe fn is_untouched<M: ManagedStruct>(source: NonNull<M>, now: &Contents) -> bool {
    let exported = source.cast::<ExportedBox<M>>().as_ptr();
    // SAFETY: the caller guarantees that `source` points to such a box.
    let shown = unsafe { &(*exported).shown };
    // SAFETY: as above.
    let payload = unsafe { &(*exported).payload };
    // SAFETY: as above.
    let flags = unsafe { (*exported).flags };
    let addresses = (shown.shape().as_ptr().cast_mut(), shown.strides().as_ptr().cast_mut());
    (now.tensor.shape, now.tensor.strides) == addresses
        && is_same_description(&now.tensor, &describe(payload.buffer.descriptor()))
        && shown == payload.buffer.layout()
        && now.flags == M::shown_flags(flags)
}

/// Whether two descriptions say the same, apart from the addresses of shape and strides.
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

/// What a struct of ours keeps.
///
/// # Safety
/// * `source` points to the first field of an [`ExportedBox`], which the caller owns.
pub(super) unsafe fn unwrap<M: ManagedStruct>(source: NonNull<M>) -> Payload {
    // SAFETY: the caller guarantees that the box is such a one, and gives it up.
    let exported = unsafe { Box::from_raw(source.cast::<ExportedBox<M>>().as_ptr()) };
    exported.payload
}
