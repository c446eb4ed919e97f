//! Arrays that own their memory: moved into tensors, and given back.

use std::any::{Any, TypeId};

use ::ndarray::{ArcArray, Array, Dimension};

use super::array_ext::describe;
use super::views::row_major;
use crate::shared_buffer::SharedBuffer;
use crate::storage::{OwnerHooks, Storage};
use crate::{Element, Layout, Result, Tensor};
pub(crate) use sealed::{Sealed, Token};

mod sealed {
    use super::*;

    /// Proof that a call comes from this crate: methods of a supertrait can be called through a
    /// bound on the public trait.
    #[derive(Clone, Copy)]
    pub struct Token(pub(crate) ());

    pub trait Sealed: Sized {
        type Item: Element;
        /// The array of this very type that a tensor owns, which is not shared and whose bytes were
        /// looked at.
        fn recover(tensor: Tensor, _: Token) -> Self;
        /// Moves the array out; one without elements (of rank 0: with one) stays behind.
        fn take(&mut self, _: Token) -> Self;
        /// The row-major array of these elements.
        fn from_elements(elements: Vec<Self::Item>, layout: &Layout, _: Token) -> Result<Self>;
    }
}

/// An array that owns its memory: `Array` or `ArcArray`. Closed to others.
pub trait OwnedArray: sealed::Sealed + Into<Tensor> {}

impl<T: Element, D: Dimension + 'static> OwnedArray for Array<T, D> {}
impl<T: Element, D: Dimension + 'static> OwnedArray for ArcArray<T, D> {}

impl<T: Element, D: Dimension + 'static> sealed::Sealed for Array<T, D> {
    type Item = T;

    #[inline]
    fn recover(tensor: Tensor, _: Token) -> Self {
        match tensor.into_storage().into_owner() {
            Ok(array) => array,
            Err(_) => unreachable!("made from an array of this type and not shared"),
        }
    }

    fn take(&mut self, _: Token) -> Self {
        let empty = Self::from_elem(D::zeros(self.ndim()), T::default());
        std::mem::replace(self, empty)
    }

    fn from_elements(elements: Vec<T>, layout: &Layout, _: Token) -> Result<Self> {
        row_major(elements, layout)
    }
}

impl<T: Element, D: Dimension + 'static> sealed::Sealed for ArcArray<T, D> {
    type Item = T;

    fn recover(tensor: Tensor, token: Token) -> Self {
        match tensor.into_owner() {
            Ok(array) => array,
            Err(tensor) => Array::recover(tensor, token).into_shared(),
        }
    }

    fn take(&mut self, _: Token) -> Self {
        let empty = Self::from_elem(D::zeros(self.ndim()), T::default());
        std::mem::replace(self, empty)
    }

    fn from_elements(elements: Vec<T>, layout: &Layout, _: Token) -> Result<Self> {
        row_major(elements, layout).map(Array::into_shared)
    }
}

// SAFETY: `take_vec` returns the array's own `Vec`; the hook that other threads may call at the
// same time is the default one.
unsafe impl<T: Element, D: Dimension + 'static> OwnerHooks for Array<T, D> {
    fn take_vec(&mut self, wanted: TypeId) -> Option<Box<dyn Any>> {
        if wanted != TypeId::of::<Vec<T>>() {
            return None;
        }
        let array = sealed::Sealed::take(self, Token(()));
        Some(Box::new(array.into_raw_vec_and_offset().0))
    }
}

/// Moves the array in. Nothing is copied.
impl<T: Element, D: Dimension + 'static> From<Array<T, D>> for Tensor {
    #[inline]
    fn from(mut array: Array<T, D>) -> Self {
        // The address that may be written through, which `describe` would not give.
        let data = array.as_mut_ptr();
        let descriptor = describe(&array).with_ptr(data);
        // SAFETY: the array is not used except through the storage.
        let storage = unsafe { Storage::exclusive_with_hooks(array) };
        // SAFETY: the array keeps these elements, which are its own.
        Self::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
    }
}

/// Moves the array in. Nothing is copied; the tensor is read-only if another handle shares the
/// array.
impl<T: Element, D: Dimension + 'static> From<ArcArray<T, D>> for Tensor {
    fn from(array: ArcArray<T, D>) -> Self {
        match array.try_into_owned_nocopy() {
            Ok(array) => array.into(),
            Err(array) => {
                let descriptor = describe(&array);
                // SAFETY: other handles copy before they write, because this one is counted.
                let storage = unsafe { Storage::read_only(array) };
                // SAFETY: the array keeps these elements, which are its own.
                Self::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
            }
        }
    }
}
