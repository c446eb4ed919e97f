//! Elements as slices, vectors, lists and single values.

use std::ptr::NonNull;

use super::Tensor;
use crate::shared_buffer::SharedBuffer;
use crate::{DType, Descriptor, Element, Error, List, Rejected, Remedy, Result, host_copy};

const NO_VEC: Error = Error::NotOriginal { target: "a Vec", remedy: Remedy::CopyToVec };

/// Whether a `Vec` has exactly these elements.
fn is_all_of<T>(vec: &[T], data: NonNull<T>, len: usize) -> bool {
    vec.len() == len && (len == 0 || vec.as_ptr() == data.as_ptr())
}

impl Tensor {
    /// Address of the first `T` for a safe view that reads: all checks but rank and contiguity.
    #[inline]
    pub(crate) fn readable<T: Element>(&self, target: &'static str) -> Result<NonNull<T>> {
        let data = self.descriptor().host_ptr::<T>(target)?;
        self.require_viewable()?;
        // SAFETY: `host_ptr` checked that this is host memory of type `T`; the elements of a
        // tensor are readable.
        unsafe { host_copy::check_bools::<T>(self.descriptor()) }?;
        Ok(data)
    }

    /// Address of the first `T` for a safe view that writes: all checks but rank and contiguity.
    #[inline]
    pub(crate) fn writable<T: Element>(&mut self, target: &'static str) -> Result<NonNull<T>> {
        let data = self.descriptor().host_ptr::<T>(target)?;
        self.require_exclusive()?;
        if self.layout().overlaps() {
            return Err(self.layout().self_overlap());
        }
        // SAFETY: `host_ptr` checked that this is host memory of type `T`; the elements of a
        // tensor are readable.
        unsafe { host_copy::check_bools::<T>(self.descriptor()) }?;
        Ok(data)
    }

    /// Makes every byte between the lowest and the highest element 0 or 1, where `T` is `bool`, so
    /// that they may become part of a `Vec<bool>`.
    #[cfg(feature = "torch")]
    pub(crate) fn normalise_bools(&mut self) {
        if self.dtype() != DType::BOOL || self.require_exclusive().is_err() {
            return;
        }
        if let Ok(mut span) = self.descriptor().host_span("Vec") {
            // SAFETY: the span of host memory that only this handle reaches; bytes have any value.
            let bytes = unsafe { span.as_mut() };
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
    }

    /// Looks at every byte between the lowest and the highest element where `T` is `bool`: those in
    /// the gaps come back to safe code too when the whole container does.
    pub(crate) fn require_bools_in_span<T: Element>(&mut self) -> Result<()> {
        if T::DTYPE != DType::BOOL || self.is_empty() {
            return Ok(());
        }
        self.require_exclusive()?;
        let span = self.descriptor().host_span("Vec")?;
        // SAFETY: the span of host memory that only this handle reaches; bytes have any value.
        let bytes = unsafe { span.as_ref() };
        match bytes.iter().find(|&&byte| byte > 1) {
            None => Ok(()),
            Some(&value) => Err(Error::InvalidBool { value }),
        }
    }

    /// The elements as a slice, borrowed from this handle. Nothing is copied.
    ///
    /// # Errors
    /// When the memory is not on the host, of another type, misaligned, not
    /// [contiguous](Self::is_contiguous), [aliased](crate::Access) and not trusted, or holds an
    /// invalid bool.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        let data = self.readable::<T>("slice")?;
        if !self.is_contiguous() {
            return Err(self.layout().not_contiguous());
        }
        // SAFETY: `readable` gave an aligned pointer to initialised elements that nothing writes
        // while `self` is borrowed; contiguous, so `len` of them follow each other.
        Ok(unsafe { std::slice::from_raw_parts(data.as_ptr(), self.len()) })
    }

    /// The elements as a slice to write to, borrowed from this handle. Nothing is copied.
    ///
    /// # Errors
    /// As for [`as_slice`](Self::as_slice), and when the memory is not
    /// [`Access::Exclusive`](crate::Access::Exclusive) or there is another handle.
    pub fn as_slice_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let data = self.writable::<T>("slice")?;
        if !self.is_contiguous() {
            return Err(self.layout().not_contiguous());
        }
        // SAFETY: `writable` gave an aligned pointer to initialised elements that only `self`
        // reaches; contiguous, so `len` of them follow each other.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), self.len()) })
    }

    /// The `Vec` that was moved in. Nothing is copied.
    ///
    /// # Errors
    /// [`Error::NotOriginal`] when the owner is no `Vec<T>` of exactly these elements, and no `Array`
    /// of them that was moved in;
    /// [`Error::NotUnique`] when there is another handle, [`Error::Aliased`] or [`Error::ReadOnly`]
    /// by [`Access`](crate::Access); [`Error::DTypeMismatch`], [`Error::NotOnCpu`],
    /// [`Error::Misaligned`], [`Error::InvalidBool`]. The tensor comes back inside the error; if
    /// the owner was an `Array` with gaps, it is the `Vec` of that array from now on.
    pub fn into_vec<T: Element>(mut self) -> Result<Vec<T>, Rejected<Self>> {
        match self.check_vec::<T>() {
            Ok(()) => match self.into_storage().into_owner() {
                Ok(vec) => Ok(vec),
                Err(_) => unreachable!("this is the only handle, and its owner is a `Vec<T>`"),
            },
            Err(Error::NotOriginal { .. }) => self.into_vec_of_owner(),
            Err(error) => Err(Rejected::new(self, error)),
        }
    }

    /// Whether the owner is a `Vec<T>` of exactly these elements in this order.
    fn check_vec<T: Element>(&mut self) -> Result<()> {
        let data = self.descriptor().host_ptr::<T>("Vec")?;
        if self.buffer.storage().owner_is::<Vec<T>>() {
            self.require_exclusive()?;
        }
        let (len, contiguous) = (self.len(), self.is_contiguous());
        match self.owner_mut::<Vec<T>>() {
            Some(vec) if contiguous && is_all_of(vec, data, len) => {}
            _ => return Err(NO_VEC),
        }
        self.require_bools_in_span::<T>()
    }

    /// The `Vec` of an owner that is not a `Vec` itself but keeps its elements in one.
    #[cold]
    fn into_vec_of_owner<T: Element>(mut self) -> Result<Vec<T>, Rejected<Self>> {
        let checked = self.descriptor().host_ptr::<T>("Vec").and_then(|data| {
            self.require_exclusive()?;
            self.require_bools_in_span::<T>()?;
            Ok(data)
        });
        let data = match checked {
            Ok(data) => data,
            Err(error) => return Err(Rejected::new(self, error)),
        };
        // SAFETY: if there is a `Vec`, the tensor's buffer is dropped below, and not used before.
        let Some(mut vec) = (unsafe { self.buffer.storage_mut().take_vec::<T>() }) else {
            return Err(Rejected::new(self, NO_VEC));
        };
        if self.is_contiguous() && is_all_of(&vec, data, self.len()) {
            return Ok(vec);
        }
        // The same elements as before, with the bare `Vec` as their owner.
        let first = data.addr().get().wrapping_sub(vec.as_ptr().addr());
        let data = vec.as_mut_ptr().wrapping_byte_add(if self.is_empty() { 0 } else { first });
        let descriptor = Descriptor::from_checked(data, self.layout().clone());
        // SAFETY: the `Vec` is the memory that the tensor's owner kept, which was exclusive; its
        // elements are where they were.
        let buffer = unsafe { SharedBuffer::exclusive(vec, descriptor) };
        Err(Rejected::new(Self::from_buffer(buffer), NO_VEC))
    }

    /// Copies the elements into a new `Vec`, in row-major order.
    ///
    /// # Errors
    /// When the memory is not on the host, of another type or holds an invalid bool, and
    /// [`Error::OutOfMemory`]. Layout, alignment and access do not matter.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        // SAFETY: the elements are readable: the invariant of a tensor.
        unsafe { host_copy::to_vec(self.descriptor()) }
    }

    /// The only element.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] when there is not exactly one, and what
    /// [`to_vec`](Self::to_vec) says.
    pub fn item<T: Element>(&self) -> Result<T> {
        let length =
            || Error::LengthMismatch { shape: self.shape().into(), expected: 1, found: self.len() };
        if self.len() != 1 {
            return Err(length());
        }
        self.to_vec::<T>()?.first().copied().ok_or_else(length)
    }

    /// Copies the elements into nested lists, as Python's `tolist` does.
    ///
    /// # Errors
    /// When the memory is not on the host, its type is none of [`Element`]'s, there are more than
    /// 64 dimensions; [`Error::InvalidBool`], [`Error::OutOfMemory`].
    pub fn to_list(&self) -> Result<List> {
        self.descriptor().require_host("list")?;
        fn list_of<T: Element>(tensor: &Tensor) -> Result<List> {
            List::nest(tensor.layout(), tensor.to_vec::<T>()?.into_iter())
        }
        type C32 = num_complex::Complex<f32>;
        type C64 = num_complex::Complex<f64>;
        match self.dtype() {
            DType::BOOL => list_of::<bool>(self),
            DType::U8 => list_of::<u8>(self),
            DType::U16 => list_of::<u16>(self),
            DType::U32 => list_of::<u32>(self),
            DType::U64 => list_of::<u64>(self),
            DType::I8 => list_of::<i8>(self),
            DType::I16 => list_of::<i16>(self),
            DType::I32 => list_of::<i32>(self),
            DType::I64 => list_of::<i64>(self),
            DType::F16 => list_of::<half::f16>(self),
            DType::BF16 => list_of::<half::bf16>(self),
            DType::F32 => list_of::<f32>(self),
            DType::F64 => list_of::<f64>(self),
            DType::C64 => list_of::<C32>(self),
            DType::C128 => list_of::<C64>(self),
            dtype => Err(Error::UnsupportedDType { dtype, target: "lists" }),
        }
    }
}
