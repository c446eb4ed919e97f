//! The methods of a tensor that name ndarray's types.

use super::dimension::{ArrayDimension, ArrayOf, ArrayVersion, ArrayViewMutOf, ArrayViewOf};
use super::nd_array::NdArray;
use super::owned::Token;
#[cfg(doc)]
use crate::Access;
use crate::{DType, Element, Error, Rejected, Remedy, Result, Tensor};

impl Tensor {
    /// Borrows the elements as an array view. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::{DType, Layout, Tensor};
    /// use ndarray::{Ix1, Ix2, array};
    ///
    /// let columns = Layout::new(&[2, 3], &[1, 2])?; // any strides
    /// let tensor = Tensor::zeros_with(columns, DType::F32)?;
    /// assert_eq!(tensor.as_ndarray::<f32, Ix2>()?.strides(), [1, 2]);
    /// assert!(tensor.as_ndarray::<f32, Ix1>().is_err()); // the rank is 2
    /// assert!(tensor.as_ndarray::<f64, Ix2>().is_err()); // no cast
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOnCpu`], [`Error::DTypeMismatch`], [`Error::RankMismatch`],
    /// [`Error::Misaligned`]; [`Error::Aliased`] for [`Access::Aliased`] memory that is not
    /// trusted; [`Error::InvalidBool`]; [`Error::Overflow`] for a shape without elements that
    /// ndarray cannot count.
    pub fn as_ndarray<T: Element, D: ArrayDimension>(&self) -> Result<ArrayViewOf<'_, T, D>> {
        let data = self.readable::<T>("ndarray")?;
        // SAFETY: `readable` checked that the address is aligned and the elements are valid, and
        // that nothing writes them while `self` is borrowed.
        unsafe { D::Version::view(data, self.layout(), Token(())) }
    }

    /// Borrows the elements as an array view that may be written. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use ndarray::{Ix2, array};
    ///
    /// let mut tensor = Tensor::from_vec(vec![1, 2, 3, 4], [2, 2])?;
    /// tensor.as_ndarray_mut::<i32, Ix2>()?.row_mut(0).fill(0);
    /// assert_eq!(tensor.into_vec::<i32>()?, [0, 0, 3, 4]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`as_ndarray`](Self::as_ndarray); [`Error::Aliased`], [`Error::ReadOnly`] or
    /// [`Error::NotUnique`] unless this is the only handle to [`Access::Exclusive`] memory;
    /// [`Error::SelfOverlap`] if two indices may reach the same element.
    pub fn as_ndarray_mut<T: Element, D: ArrayDimension>(
        &mut self,
    ) -> Result<ArrayViewMutOf<'_, T, D>> {
        let data = self.writable::<T>("ndarray")?;
        // SAFETY: `writable` checked that the address is aligned and the elements are valid, that
        // only `self` reaches them, and that no two indices reach the same one.
        unsafe { D::Version::view_mut(data, self.layout(), Token(())) }
    }

    /// Moves the tensor into an array that owns it. Nothing is copied.
    ///
    /// ```
    /// use dlbridge::{NdArray, Tensor};
    /// use ndarray::{Ix1, Ix2, IxDyn, array};
    ///
    /// let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0, 4.0], [2, 2])?;
    /// let rejected = tensor.into_ndarray::<f32, Ix1>().unwrap_err(); // the rank is 2
    /// let matrix: NdArray<f32, Ix2> = rejected.into_value().into_ndarray()?;
    /// assert_eq!(matrix.dot(&array![1.0, 1.0]), array![3.0, 7.0]);
    /// let any_rank: NdArray<f32, IxDyn> = matrix.into_tensor().into_ndarray()?;
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`as_ndarray`](Self::as_ndarray). The tensor comes back inside the error.
    #[inline(always)] // with it, a tensor between two conversions stays in registers
    pub fn into_ndarray<T: Element, D: ArrayDimension>(
        self,
    ) -> Result<NdArray<T, D>, Rejected<Self>> {
        // SAFETY: the tensor moves into the array with the view.
        match unsafe { self.usual_view::<T, D>() } {
            // SAFETY: the view was made of the elements of this tensor, which allows it.
            Some(view) => Ok(unsafe { NdArray::new(view, self) }),
            None => self.into_any_ndarray().map_err(|(tensor, error)| Rejected::new(tensor, error)),
        }
    }

    /// Makes a view of the elements in the usual case: the tensor allows it, bytes need not be
    /// checked, there are elements, and no stride is negative. `None` means "not the usual case".
    ///
    /// # Safety
    /// * The view is used only as long as the tensor lives and is not borrowed for writing.
    #[inline(always)]
    unsafe fn usual_view<T: Element, D: ArrayDimension>(
        &self,
    ) -> Option<ArrayViewOf<'static, T, D>> {
        let data = self.descriptor().typed_host_ptr::<T>()?;
        if T::DTYPE == DType::BOOL || !self.is_viewable() {
            return None;
        }
        // SAFETY: `typed_host_ptr` checked that the address is aligned; the elements of a tensor
        // are readable, every bit pattern is a `T` because that is not `bool`, and nothing writes
        // them, because the state allows views. The caller keeps the tensor.
        unsafe { D::Version::usual_view(data, self.layout(), Token(())) }
    }

    /// [`into_ndarray`](Self::into_ndarray) in all cases.
    #[cold]
    fn into_any_ndarray<T: Element, D: ArrayDimension>(
        self,
    ) -> Result<NdArray<T, D>, (Self, Error)> {
        let data = match self.readable::<T>("ndarray") {
            Ok(data) => data,
            Err(error) => return Err((self, error)),
        };
        // SAFETY: `readable` checked that the address is aligned and the elements are valid. The
        // tensor keeps them, and `NdArray` gives the view out only as long as its tensor is
        // borrowed.
        match unsafe { D::Version::view(data, self.layout(), Token(())) } {
            // SAFETY: the view was made of the elements of this tensor, and `readable` allowed it.
            Ok(view) => Ok(unsafe { NdArray::new(view, self) }),
            Err(error) => Err((self, error)),
        }
    }

    /// Copies the elements into a new row-major `Array`.
    ///
    /// The access state does not matter.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use ndarray::{Ix2, array};
    ///
    /// let tensor = Tensor::from_vec(vec![1, 2, 3, 4], [2, 2])?.into_aliased()?;
    /// assert!(tensor.as_ndarray::<i32, Ix2>().is_err()); // other code may write the memory
    /// assert_eq!(tensor.to_ndarray::<i32, Ix2>()?, array![[1, 2], [3, 4]]); // a copy is allowed
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOnCpu`], [`Error::DTypeMismatch`], [`Error::RankMismatch`],
    /// [`Error::InvalidBool`], [`Error::OutOfMemory`], and [`Error::Overflow`] for a shape without
    /// elements that ndarray cannot count.
    pub fn to_ndarray<T: Element, D: ArrayDimension>(&self) -> Result<ArrayOf<T, D>> {
        self.descriptor().require_host("ndarray")?;
        D::Version::check_layout(self.layout(), Token(()))?;
        D::Version::row_major(self.to_vec()?, self.layout(), Token(()))
    }

    /// Gives back the array that the tensor was made from, if its dimension type was not `D`, or
    /// the `Vec` that owns the elements, as an array.
    #[cold]
    pub(crate) fn into_other_original<T: Element, D: ArrayDimension>(
        mut self,
    ) -> Result<ArrayOf<T, D>, Rejected<Self>> {
        let check_layout = |layout| D::Version::check_layout(layout, Token(()));
        let checked = self.check_container::<T>().and_then(|()| check_layout(self.layout()));
        if let Err(error) = checked {
            return Err(Rejected::new(self, error));
        }
        let tensor = match D::Version::recover_array(self, Token(())) {
            Ok(array) => return Ok(array),
            Err(tensor) => tensor,
        };
        let layout = tensor.layout().clone();
        let vec = tensor.into_vec().or_else(|rejected| rejected.into_value().into_permuted_vec());
        match vec {
            Ok(vec) => match D::Version::with_strides(vec, &layout, Token(())) {
                Ok(array) => Ok(array),
                Err(_) => unreachable!("rank, strides and number of elements were checked"),
            },
            Err(tensor) => {
                let (target, remedy) = ("an Array", Remedy::CopyToNdarray);
                Err(Rejected::new(tensor, Error::NotOriginal { target, remedy }))
            }
        }
    }

    /// Gives the `Vec` that owns the elements, if it has no other elements. They may be in any
    /// order. The caller has checked that this is the only handle to exclusive memory.
    fn into_permuted_vec<T: Element>(mut self) -> Result<Vec<T>, Self> {
        let (data, len) = (self.data_ptr().cast::<T>(), self.len());
        let permuted = !self.is_empty()
            && !self.layout().overlaps()
            && self.strides().iter().all(|&stride| stride >= 0);
        match self.owner_mut::<Vec<T>>() {
            Some(vec) if permuted && vec.len() == len && vec.as_ptr() == data => {
                self.into_storage().into_owner().map_err(|_| unreachable!("the only handle"))
            }
            _ => Err(self),
        }
    }

    /// Fails unless this is the only handle to exclusive memory of type `T`, with valid bools.
    #[inline]
    fn check_container<T: Element>(&mut self) -> Result<()> {
        self.descriptor().host_ptr::<T>("ndarray")?;
        self.require_exclusive()?;
        self.require_bools_in_span::<T>()
    }
}
