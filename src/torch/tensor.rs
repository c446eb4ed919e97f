//! The methods of a tensor that name libtorch's types.

use super::blob::{copy_of, from_buffer, require_representable};
use super::owner::TorchOwner;
use super::tensor_info::tensor_info;
use crate::{Access, DType, Error, Rejected, Remedy, Result, Tensor, host_copy};

/// Refuses a tensor that libtorch must not get: it cannot represent the tensor, or would write
/// memory that other code reaches.
#[inline]
pub(super) fn require_movable(tensor: &mut Tensor) -> Result<()> {
    require_representable(tensor.descriptor())?;
    require_sole_writer(tensor)
}

/// Refuses a tensor whose memory libtorch must not get, because it would write memory that other
/// code reaches.
#[inline]
fn require_sole_writer(tensor: &mut Tensor) -> Result<()> {
    if tensor.is_read_only() {
        return Err(Error::ReadOnly { remedy: Remedy::CopyToTorch });
    }
    match tensor.access() {
        // libtorch writes in safe code, and other code may have views of the same memory.
        Access::Aliased { .. } if tensor.device().is_host() => Err(Error::Aliased),
        Access::Aliased { .. } if tensor.is_only_handle() => tensor.check_address(),
        _ if tensor.is_only_handle() => Ok(()),
        _ => Err(Error::NotUnique),
    }
}

/// Refuses memory of type `bool` with other bytes than 0 and 1: tch copies the bytes into a
/// `Vec<bool>`, in safe code and unchecked. libtorch also reaches the bytes between the elements.
/// Memory of a device is not checked.
#[inline]
fn require_bools(tensor: &mut Tensor) -> Result<()> {
    if tensor.dtype() != DType::BOOL || !tensor.device().is_host() {
        return Ok(());
    }
    tensor.require_bools_in_span::<bool>()
}

/// Returns true if this is the only handle to the memory of a libtorch tensor, and has its elements
/// in its order. A view has others.
#[inline]
fn is_torch_tensor(tensor: &mut Tensor) -> bool {
    let own = tensor.owner_mut::<TorchOwner>().map(|owner| owner.descriptor());
    own.is_some_and(|own| own.is_ok_and(|own| own.is_same_elements(tensor.descriptor())))
}

/// Moves a tensor's memory into libtorch. On failure the tensor comes back inside the error.
///
/// # Safety
/// * [`require_movable`] passed.
#[inline]
pub(super) unsafe fn into_blob(tensor: Tensor) -> Result<tch::Tensor, Rejected<Tensor>> {
    // SAFETY: the caller checked that libtorch can represent the elements, that they may be
    // written, and that this is the only handle.
    let replace = |buffer| unsafe { from_buffer(buffer) };
    // SAFETY: on failure `from_buffer` gives back the buffer that it got.
    let moved = unsafe { tensor.replace_buffer(replace) };
    moved.map_err(|(tensor, error)| Rejected::new(tensor, error))
}

impl Tensor {
    /// Moves the tensor into libtorch: Python's `torch.from_numpy`. Nothing is copied.
    ///
    /// The memory is released when libtorch drops its last tensor of it. A tensor that came from
    /// libtorch becomes the libtorch tensor that it was. A view of it becomes a new libtorch
    /// tensor, whose storage reaches from the lowest to the highest element of the view.
    ///
    /// `resize_` beyond the memory, `set_source_tensor_` and `set_data` give the libtorch tensor
    /// other memory. Then the moved memory is released, and the libtorch tensor does not come back
    /// as the `Array` or `Vec` that it was.
    ///
    /// libtorch gets the same strides, except those that reach no element: in dimensions of size 1
    /// and in tensors without elements they become those that libtorch gives its own tensors.
    ///
    /// Memory of a CUDA device is ready on the legacy default stream, which is libtorch's default.
    /// It needs a libtorch that was built with CUDA.
    ///
    /// ```
    /// use dlbridge::{Tensor, TorchExt};
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3])?;
    /// let address = tensor.data_ptr();
    /// let torch = tensor.into_torch()?;
    /// assert_eq!((torch.data_ptr(), torch.double_value(&[2])), (address, 3.0));
    /// assert_eq!(torch.into_tensor()?.into_vec::<f32>()?, [1.0, 2.0, 3.0]); // the Vec, back again
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotUnique`] if there is another handle; [`Error::ReadOnly`], because
    /// libtorch has no read-only memory; [`Error::NegativeStride`], [`Error::UnsupportedDType`],
    /// [`Error::UnsupportedDevice`], [`Error::TooManyDimensions`] beyond 64, [`Error::Libtorch`];
    /// [`Error::InvalidBool`] if a byte of type `bool` on the host is neither 0 nor 1;
    /// [`Error::Aliased`] for host memory that other code may reach, until the caller guarantees
    /// with [`assume_exclusive`](Self::assume_exclusive) that none does. The tensor comes back
    /// inside the error; [`to_torch`](Self::to_torch) copies instead.
    #[inline]
    pub fn into_torch(mut self) -> Result<tch::Tensor, Rejected<Self>> {
        let is_torch_tensor = is_torch_tensor(&mut self);
        let checked = match is_torch_tensor {
            true => require_sole_writer(&mut self),
            false => require_movable(&mut self).and_then(|()| require_bools(&mut self)),
        };
        if let Err(error) = checked {
            return Err(Rejected::new(self, error));
        }
        // libtorch does not report when its use of the memory on this handle's stream ends.
        self.keep_stream_use();
        if !is_torch_tensor {
            // SAFETY: `require_movable` passed just above.
            return unsafe { into_blob(self) };
        }
        match self.into_storage_owner::<TorchOwner>() {
            Ok(owner) => Ok(owner.into_tensor()),
            Err(_) => unreachable!("`is_torch_tensor` found the owner of the only handle"),
        }
    }

    /// Copies the elements into a new libtorch tensor: Python's `torch.tensor`.
    ///
    /// The copy's dimensions have the order of the tensor's strides. libtorch allocates its memory.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1_i64, 2, 3, 4], [2, 2])?;
    /// let copy = tensor.to_torch()?;
    /// assert_eq!(copy.size(), [2, 2]);
    /// assert_ne!(copy.data_ptr(), tensor.data_ptr());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOnCpu`], [`Error::UnsupportedDType`], [`Error::TooManyDimensions`] beyond 64;
    /// [`Error::InvalidBool`]; [`Error::Libtorch`] if libtorch cannot allocate the memory.
    pub fn to_torch(&self) -> Result<tch::Tensor> {
        self.check_address()?;
        // SAFETY: the elements are readable: the invariant of a tensor.
        let copy = unsafe { copy_of(self.descriptor()) }?;
        if self.dtype() == DType::BOOL {
            // The copy, because other code may be writing the memory of this tensor.
            let written = tensor_info(&copy)?.descriptor;
            // SAFETY: `copy` keeps its elements, which `copy_of` wrote just above.
            unsafe { host_copy::check_bools::<bool>(&written) }?;
        }
        Ok(copy)
    }

    /// Makes a libtorch tensor that is another owner of the same memory. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// // SAFETY: while both live, neither of them writes.
    /// let torch = unsafe { tensor.share_torch_unchecked()? };
    /// assert_eq!(torch.data_ptr(), tensor.data_ptr());
    /// assert_eq!(torch.max().double_value(&[]), 2.0);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NegativeStride`], [`Error::UnsupportedDType`], [`Error::UnsupportedDevice`],
    /// [`Error::TooManyDimensions`] beyond 64, [`Error::Libtorch`].
    ///
    /// # Safety
    /// libtorch can reach every byte from the lowest to the highest element, also those between
    /// elements, and "the memory" means all of them:
    ///
    /// * No code writes the memory through libtorch while a Rust view of it lives or a call of this
    ///   crate reads it, and no code reads or writes it through libtorch while Rust writes it.
    /// * No code outside this crate and libtorch writes it while it is read through libtorch, or
    ///   reads it while it is written through libtorch.
    /// * Memory that may not be written is not written through libtorch.
    pub unsafe fn share_torch_unchecked(&self) -> Result<tch::Tensor> {
        require_representable(self.descriptor())?;
        // SAFETY: `require_representable` passed; the caller guarantees that libtorch's reads and
        // writes do not overlap others in time.
        unsafe { from_buffer(self.buffer().share()) }.map_err(|(_, error)| error)
    }
}
