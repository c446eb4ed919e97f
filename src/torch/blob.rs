//! Memory of ours as a libtorch tensor.

use std::borrow::Cow;

use super::bindings::{dlb_torch_empty, dlb_torch_from_blob};
use super::{TorchOwner, make};
use crate::ffi::{DLDataType, DLDevice};
use crate::layout::TORCH_RANK;
use crate::ndarray::{OwnedArray, Token};
use crate::storage::Storage;
use crate::{Access, DType, Descriptor, Device, Error, Layout, MemoryFormat, Rejected, Result, Tensor, copy};

/// libtorch counts devices in 8 bits.
const MAX_INDEX: i32 = 127;

/// Refuses what libtorch cannot hold, before it sees it: its own answer to some is to abort.
#[inline]
fn check(descriptor: &Descriptor) -> Result<()> {
    let (dtype, device, layout) = (descriptor.dtype(), descriptor.device(), descriptor.layout());
    if !(device.is_host() || device == Device::cuda(device.index.clamp(0, MAX_INDEX))) {
        return Err(Error::UnsupportedDevice { device, target: "libtorch" });
    }
    if !is_supported(dtype) || descriptor.is_padded() {
        return Err(Error::UnsupportedDType { dtype, target: "libtorch" });
    }
    // libtorch counts dimensions in 64 bits of a mask here and there.
    if layout.ndim() > TORCH_RANK {
        return Err(Error::TooManyDimensions { found: layout.ndim(), limit: TORCH_RANK, target: "libtorch" });
    }
    let dims = layout.shape().iter().zip(layout.strides()).enumerate();
    for (dimension, (&size, &stride)) in dims {
        if size > 1 && stride < 0 && !layout.is_empty() {
            return Err(Error::NegativeStride { dimension, stride, target: "libtorch" });
        }
    }
    Ok(())
}

/// The types of DLPack that libtorch 2.11 to 2.13 have.
fn is_supported(dtype: DType) -> bool {
    match (dtype.code, dtype.bits, dtype.lanes) {
        (0 | 1, 8 | 16 | 32 | 64, 1) => true, // integers
        (2, 16 | 32 | 64, 1) => true,         // floats
        (4, 16, 1) => true,                   // bfloat16
        (5, 32 | 64 | 128, 1) => true,        // complex
        (6, 8, 1) => true,                    // bool
        (10..=14, 8, 1) => true,              // float8 e4m3fn, e4m3fnuz, e5m2, e5m2fnuz, e8m0fnu
        (17, 4, 2) => true,                   // a pair of float4
        _ => false,
    }
}

/// Strides for libtorch: those that do not matter are made harmless.
#[inline]
fn strides(layout: &Layout) -> Cow<'_, [i64]> {
    let dims = || layout.shape().iter().zip(layout.strides());
    if !layout.is_empty() && dims().all(|(_, &stride)| stride >= 0) {
        return Cow::Borrowed(layout.strides());
    }
    let harmless = |(&size, &stride): (&i64, &i64)| {
        if size <= 1 || layout.is_empty() { 0.max(stride.min(1)) } else { stride }
    };
    Cow::Owned(dims().map(harmless).collect())
}

fn dl(dtype: DType) -> DLDataType {
    DLDataType { code: dtype.code, bits: dtype.bits, lanes: dtype.lanes }
}

/// Makes a tensor over the memory of a storage, of which libtorch holds the reference afterwards.
///
/// # Safety
/// * The storage keeps the elements of `descriptor`, which [`check`] has passed.
/// * libtorch may read and write them as long as it holds the reference.
#[inline]
pub(super) unsafe fn from_storage(
    storage: Storage,
    descriptor: &Descriptor,
) -> Result<tch::Tensor, (Storage, Error)> {
    let layout = descriptor.layout();
    let (strides, dtype) = (strides(layout), dl(descriptor.dtype()));
    // The address of an empty tensor is not used, but should not be NULL.
    let data = if layout.is_empty() { std::ptr::without_provenance_mut(64) } else { descriptor.data_ptr() };
    #[cfg(feature = "cuda")]
    let storage = if descriptor.device().is_host() {
        storage
    } else {
        let tensor = Tensor::new(storage, descriptor.clone());
        match crate::cuda::hand_to_default(&tensor) {
            Ok(()) => tensor.storage,
            Err(error) => return Err((tensor.storage, error)),
        }
    };
    let device = descriptor.device();
    let device = DLDevice { device_type: device.device_type.cast_unsigned(), device_id: device.index };
    let (shape, rank, context) = (layout.shape().as_ptr(), layout.ndim(), storage.into_thin());
    // SAFETY: sizes and strides are not negative and stay within the address space, by `check` and
    // the invariants of a descriptor; the context begins with its release function (`Header`).
    let made = make(|out| unsafe {
        dlb_torch_from_blob(data, shape, strides.as_ptr(), rank, dtype, device, context, out)
    });
    // SAFETY: on failure libtorch has not taken the reference.
    made.map_err(|error| (unsafe { Storage::from_thin(context) }, error))
}

impl Tensor {
    /// Moves the tensor into libtorch: Python's `torch.from_numpy`. Nothing is copied; the memory is
    /// released when libtorch is done with it. A tensor that came from libtorch becomes what it was.
    ///
    /// Memory of a CUDA device is ready on the legacy default stream, which is libtorch's unless it is told
    /// otherwise. libtorch wants CUDA of its own for it.
    ///
    /// # Errors
    /// [`Error::NotUnique`] when there is another handle; [`Error::ReadOnly`], because libtorch knows no
    /// read-only memory; [`Error::NegativeStride`], [`Error::UnsupportedDType`],
    /// [`Error::UnsupportedDevice`], [`Error::TooManyDimensions`] beyond 64, [`Error::Libtorch`];
    /// [`Error::Aliased`] for memory that others may reach, until
    /// [`assume_exclusive`](Self::assume_exclusive) vouches for it. The tensor comes back inside the
    /// error; [`to_torch`](Self::to_torch) copies instead.
    #[inline]
    pub fn into_torch(mut self) -> Result<tch::Tensor, Rejected<Self>> {
        if let Err(error) = self.check_torch() {
            return Err(Rejected::new(self, error));
        }
        #[cfg(feature = "cuda")]
        // libtorch does not tell when it is done with that stream.
        std::mem::replace(&mut self.used, crate::cuda::Use::NONE).stay();
        let storage = match self.storage.into_owner::<TorchOwner>() {
            Ok(owner) => return Ok(owner.into_tensor()),
            Err(storage) => storage,
        };
        // SAFETY: checked; this is the only handle, and the memory may be written.
        match unsafe { from_storage(storage, &self.descriptor) } {
            Ok(tensor) => Ok(tensor),
            Err((storage, error)) => Err(Rejected::new(Self { storage, ..self }, error)),
        }
    }

    #[inline]
    pub(super) fn check_torch(&mut self) -> Result<()> {
        if !self.storage.owner_is::<TorchOwner>() {
            check(&self.descriptor)?;
        }
        match self.access() {
            Access::ReadOnly | Access::Aliased { writable: false } => {
                Err(Error::ReadOnly { remedy: "libtorch would write it: use to_torch() to copy" })
            }
            // libtorch writes in safe code, and views of the same memory may exist behind another door.
            Access::Aliased { .. } if self.device().is_host() => Err(Error::Aliased),
            _ if self.storage.is_unique() => Ok(()),
            _ => Err(Error::NotUnique),
        }
    }

    /// Copies the elements into a new libtorch tensor, in the order of their strides: Python's
    /// `torch.tensor`. libtorch allocates the memory.
    ///
    /// # Errors
    /// [`Error::NotOnCpu`], [`Error::UnsupportedDType`], [`Error::TooManyDimensions`] beyond 64;
    /// [`Error::Libtorch`] when libtorch has no memory left.
    pub fn to_torch(&self) -> Result<tch::Tensor> {
        // SAFETY: the elements are readable: the invariant of a tensor.
        unsafe { copy_of(&self.descriptor) }
    }

    /// Another owner of the same memory, as a libtorch tensor. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::NegativeStride`], [`Error::UnsupportedDType`], [`Error::UnsupportedDevice`],
    /// [`Error::TooManyDimensions`] beyond 64, [`Error::Libtorch`].
    ///
    /// # Safety
    /// * Nothing writes the memory through libtorch while a Rust view of it lives or a call of this
    ///   crate reads it, and nothing reads or writes it through libtorch while Rust writes it.
    /// * Nobody outside writes it while it is read through libtorch, or reads it while it is written.
    /// * Memory that may not be written is not written through libtorch.
    pub unsafe fn share_torch_unchecked(&self) -> Result<tch::Tensor> {
        check(&self.descriptor)?;
        // SAFETY: checked; the caller answers for who reads and writes.
        unsafe { from_storage(self.storage.share(), &self.descriptor) }.map_err(|(_, error)| error)
    }
}

/// A libtorch tensor with memory of its own that holds the elements of `source`.
///
/// # Safety
/// * The elements of `source` are readable, as far as they are on the host.
pub(crate) unsafe fn copy_of(source: &Descriptor) -> Result<tch::Tensor> {
    source.require_host("libtorch CPU tensor")?;
    let layout = source.layout().cloned(MemoryFormat::Preserve)?;
    check(&source.moved_to(source.data_ptr().cast(), layout.clone()))?;
    copy::check(source)?;
    let (strides, dtype) = (strides(&layout), dl(source.dtype()));
    let (shape, rank) = (layout.shape().as_ptr(), layout.ndim());
    // SAFETY: sizes and strides are not negative.
    let tensor = make(|out| unsafe { dlb_torch_empty(shape, strides.as_ptr(), rank, dtype, out) })?;
    let target = tensor.data_ptr().cast::<u8>();
    copy::advise_huge_pages(target, source.nbytes());
    // SAFETY: new memory of libtorch's, with room for the elements in this layout.
    unsafe { copy::copy(source, target, &layout, copy::Memory::Fresh) };
    Ok(tensor)
}

/// Moves an array into libtorch.
#[inline]
pub(crate) fn from_array<A: OwnedArray>(array: A) -> Result<tch::Tensor, Rejected<A>> {
    let mut tensor: Tensor = array.into();
    if let Err(error) = tensor.check_torch() {
        return Err(Rejected::new(A::recover(tensor, Token(())), error));
    }
    // SAFETY: checked; this is the only handle, and the memory may be written.
    match unsafe { from_storage(tensor.storage, &tensor.descriptor) } {
        Ok(tensor) => Ok(tensor),
        Err((storage, error)) => {
            Err(Rejected::new(A::recover(Tensor { storage, ..tensor }, Token(())), error))
        }
    }
}
