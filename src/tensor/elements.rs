//! The elements of a tensor as slices, vectors, lists and single values.

use std::ptr::NonNull;

use super::Tensor;
use crate::dtype::with_element_type;
use crate::shared_buffer::SharedBuffer;
use crate::{DType, Descriptor, Element, Error, List, Rejected, Remedy, Result, host_copy};

const NO_VEC: Error = Error::NotOriginal { target: "a Vec", remedy: Remedy::CopyToVec };

/// Returns true if `vec` consists of exactly the `len` elements at `data`.
fn is_all_of<T>(vec: &[T], data: NonNull<T>, len: usize) -> bool {
    vec.len() == len && (len == 0 || vec.as_ptr() == data.as_ptr())
}

impl Tensor {
    /// Returns the address of the first element for a safe view that reads, after all checks except
    /// those of rank and contiguity.
    #[inline]
    pub(crate) fn readable<T: Element>(&self, target: &'static str) -> Result<NonNull<T>> {
        let data = self.descriptor().host_ptr::<T>(target)?;
        self.require_viewable()?;
        // SAFETY: `host_ptr` checked that this is host memory of type `T`; the elements of a
        // tensor are readable.
        unsafe { host_copy::check_bools::<T>(self.descriptor()) }?;
        Ok(data)
    }

    /// Returns the address of the first element for a safe view that writes, after all checks
    /// except those of rank and contiguity.
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

    /// Replaces every byte from the lowest to the highest element that is not 0 by 1, if the
    /// element type is `bool`. The bytes may then become part of a `Vec<bool>`.
    #[cfg(feature = "torch")]
    pub(crate) fn normalise_bools(&mut self) {
        if self.dtype() != DType::BOOL || self.require_exclusive().is_err() {
            return;
        }
        if let Ok(mut span) = self.descriptor().host_span("Vec") {
            // SAFETY: `require_exclusive` checked that only this handle reaches the bytes, which
            // are initialised: the invariant of `SharedBuffer`. The mutable borrow excludes views.
            let bytes = unsafe { span.as_mut() };
            bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
        }
    }

    /// Checks that every byte from the lowest to the highest element is 0 or 1, if `T` is `bool`.
    /// The bytes in the gaps are checked, too, because they are part of the container that is given
    /// back.
    pub(crate) fn require_bools_in_span<T: Element>(&mut self) -> Result<()> {
        if T::DTYPE != DType::BOOL || self.is_empty() {
            return Ok(());
        }
        self.require_exclusive()?;
        let span = self.descriptor().host_span("Vec")?;
        // SAFETY: `require_exclusive` checked that only this handle reaches the bytes, which are
        // initialised: the invariant of `SharedBuffer`.
        let bytes = unsafe { span.as_ref() };
        match bytes.iter().find(|&&byte| byte > 1) {
            None => Ok(()),
            Some(&value) => Err(Error::InvalidBool { value }),
        }
    }

    /// Borrows the elements as a slice. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1_i64, 2, 3, 4], [2, 2])?;
    /// assert_eq!(tensor.as_slice::<i64>()?, [1, 2, 3, 4]); // the rows follow each other
    /// assert!(tensor.as_slice::<u64>().is_err()); // no cast
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOnCpu`], [`Error::DTypeMismatch`], [`Error::Misaligned`]; [`Error::Aliased`] for
    /// [aliased](crate::Access) memory that is not trusted; [`Error::InvalidBool`];
    /// [`Error::NotContiguous`] unless the tensor [is contiguous](Self::is_contiguous).
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        let data = self.readable::<T>("slice")?;
        if !self.is_contiguous() {
            return Err(self.layout().not_contiguous());
        }
        // SAFETY: `readable` gave an aligned pointer to initialised elements that nothing writes
        // while `self` is borrowed; contiguous, so `len` of them follow each other.
        Ok(unsafe { std::slice::from_raw_parts(data.as_ptr(), self.len()) })
    }

    /// Borrows the elements as a slice that may be written. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let mut tensor = Tensor::from_vec(vec![1.0_f32, 2.0], [2])?;
    /// tensor.as_slice_mut::<f32>()?[1] = 5.0;
    /// let other = tensor.share();
    /// assert!(tensor.as_slice_mut::<f32>().is_err()); // `other` may be reading
    /// assert_eq!(other.as_slice::<f32>()?, [1.0, 5.0]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`as_slice`](Self::as_slice); [`Error::Aliased`], [`Error::ReadOnly`] or
    /// [`Error::NotUnique`] unless this is the only handle to
    /// [`Access::Exclusive`](crate::Access::Exclusive) memory.
    pub fn as_slice_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        let data = self.writable::<T>("slice")?;
        if !self.is_contiguous() {
            return Err(self.layout().not_contiguous());
        }
        // SAFETY: `writable` gave an aligned pointer to initialised elements that only `self`
        // reaches; contiguous, so `len` of them follow each other.
        Ok(unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), self.len()) })
    }

    /// Gives back the `Vec` that the tensor was made from. Nothing is copied.
    ///
    /// The tensor may also have been made from an `Array`; then the result is the array's `Vec`.
    ///
    /// ```
    /// use dlbridge::{Error, Tensor};
    ///
    /// let vec = vec![1.0_f32, 2.0, 3.0, 4.0];
    /// let address = vec.as_ptr();
    /// let tensor = Tensor::from_vec(vec, [2, 2])?;
    /// assert_eq!(tensor.into_vec::<f32>()?.as_ptr(), address);
    ///
    /// let rejected = Tensor::zeros::<f32>([2])?.into_vec::<f32>().unwrap_err();
    /// assert!(matches!(rejected.error(), Error::NotOriginal { .. })); // it never was a Vec
    /// assert_eq!(rejected.into_value().to_vec::<f32>()?, [0.0, 0.0]); // a copy is one
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOriginal`] unless the owner is a `Vec<T>` of exactly these elements, or an
    /// `Array` whose `Vec<T>` has exactly these elements; [`Error::NotUnique`] if there is another
    /// handle; [`Error::Aliased`] or [`Error::ReadOnly`] by [`Access`](crate::Access);
    /// [`Error::DTypeMismatch`], [`Error::NotOnCpu`], [`Error::Misaligned`],
    /// [`Error::InvalidBool`]. The tensor comes back inside the error. If its owner was an `Array`
    /// with gaps, the owner is then the `Vec` of that array.
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

    /// Checks that the owner is a `Vec<T>` of exactly these elements in this order.
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

    /// Gives the `Vec` of an owner that is not a `Vec` itself but keeps its elements in one.
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
        // SAFETY: `take_vec` requires that the storage is not used afterwards. If it gives a `Vec`,
        // the tensor is dropped below, and only its descriptor is used before.
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
        // SAFETY: the `Vec` keeps the memory that the tensor's owner kept, at the same address, and
        // `require_exclusive` checked that nothing else reaches it.
        let buffer = unsafe { SharedBuffer::exclusive(vec, descriptor) };
        Err(Rejected::new(Self::from_buffer(buffer), NO_VEC))
    }

    /// Copies the elements into a new `Vec`, in row-major order.
    ///
    /// The tensor may have any layout, alignment and access state.
    ///
    /// ```
    /// use dlbridge::{ArrayExt, Tensor};
    /// use ndarray::array;
    ///
    /// let transposed = array![[1, 2], [3, 4]].reversed_axes().into_tensor();
    /// assert_eq!(transposed.to_vec::<i32>()?, [1, 3, 2, 4]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOnCpu`], [`Error::DTypeMismatch`], [`Error::InvalidBool`],
    /// [`Error::OutOfMemory`].
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check_address()?;
        // SAFETY: the elements are readable: the invariant of a tensor.
        unsafe { host_copy::to_vec(self.descriptor()) }
    }

    /// Copies the first and the last `items` items of each dimension that has more than twice as
    /// many ([`Layout::edges`]), and with `None` all elements. No other element is read.
    pub(super) fn edges_to_vec<T: Element>(&self, items: Option<i64>) -> Result<Vec<T>> {
        self.descriptor().require_host("text")?;
        self.check_address()?;
        let edges = items.map_or_else(|| self.layout().clone(), |items| self.layout().edges(items));
        let selected = self.descriptor().relocated(self.data_ptr().cast(), edges);
        // SAFETY: the elements of a tensor are readable, and `edges` reaches these or some of them.
        unsafe { host_copy::to_vec(&selected) }
    }

    /// Returns the element of a tensor that has exactly one.
    ///
    /// ```
    /// use dlbridge::{Error, Tensor};
    ///
    /// assert_eq!(Tensor::from_vec(vec![7_i64], [1, 1])?.item::<i64>()?, 7);
    /// let two = Tensor::zeros::<i64>([2])?;
    /// assert!(matches!(two.item::<i64>(), Err(Error::LengthMismatch { found: 2, .. })));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] unless there is exactly one element, and those of
    /// [`to_vec`](Self::to_vec).
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
    /// The element type need not be known when the program is compiled.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let mask = Tensor::from_vec(vec![true, false, false, true], [2, 2])?;
    /// assert_eq!(mask.to_list()?.to_string(), "[[True, False], [False, True]]");
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOnCpu`]; [`Error::UnsupportedDType`] unless the element type is that of an
    /// [`Element`]; [`Error::TooManyDimensions`] beyond 64; [`Error::InvalidBool`],
    /// [`Error::OutOfMemory`].
    pub fn to_list(&self) -> Result<List> {
        self.descriptor().require_host("list")?;
        fn list_of<T: Element>(tensor: &Tensor) -> Result<List> {
            List::nest(tensor.layout(), tensor.to_vec::<T>()?.into_iter())
        }
        with_element_type!(self.dtype(), T => list_of::<T>(self), dtype => {
            Err(Error::UnsupportedDType { dtype, target: "lists" })
        })
    }
}
