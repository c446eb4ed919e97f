//! Moves of arrays that own their memory into tensors, and back.

use std::any::{Any, TypeId};

use super::description::{describe, layout_of};
use super::nd::{ArcArray, Array, Dimension};
use super::views::row_major;
use crate::ndarray::OwnedArray;
use crate::ndarray::owned::{Sealed, Token};
use crate::shared_buffer::SharedBuffer;
use crate::storage::{OwnerHooks, Storage};
use crate::{Descriptor, Element, Layout, Result, Tensor};

impl<T: Element, D: Dimension + 'static> OwnedArray for Array<T, D> {}
impl<T: Element, D: Dimension + 'static> OwnedArray for ArcArray<T, D> {}

impl<T: Element, D: Dimension + 'static> Sealed for Array<T, D> {
    type Item = T;

    #[inline(always)]
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

impl<T: Element, D: Dimension + 'static> Sealed for ArcArray<T, D> {
    type Item = T;

    fn recover(tensor: Tensor, token: Token) -> Self {
        match tensor.into_storage_owner() {
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

// SAFETY: `OwnerHooks` requires that `take_vec` returns the `Vec` that keeps the elements, and that
// the hooks that take `&self` may run on several threads. The first is the array's own `Vec`; the
// others are the default ones, which do not use the array.
unsafe impl<T: Element, D: Dimension + 'static> OwnerHooks for Array<T, D> {
    fn take_vec(&mut self, wanted: TypeId) -> Option<Box<dyn Any>> {
        if wanted != TypeId::of::<Vec<T>>() {
            return None;
        }
        let array = Sealed::take(self, Token(()));
        Some(Box::new(array.into_raw_vec_and_offset().0))
    }
}

/// Moves the array into a tensor. Nothing is copied.
impl<T: Element, D: Dimension + 'static> From<Array<T, D>> for Tensor {
    #[inline(always)] // as `Tensor::into_ndarray`
    fn from(mut array: Array<T, D>) -> Self {
        // The address of `as_mut_ptr` may be written through, but not the one that `describe`
        // gives.
        let data = array.as_mut_ptr();
        let descriptor = Descriptor::from_checked(data, layout_of(&array));
        // SAFETY: the storage owns the array, so only the storage reaches its memory.
        let storage = unsafe { Storage::exclusive_with_hooks(array) };
        // SAFETY: the array in the storage keeps these elements initialised and writable.
        Self::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
    }
}

/// Moves the array into a tensor. Nothing is copied. The memory is read-only if another `ArcArray`
/// shares it.
impl<T: Element, D: Dimension + 'static> From<ArcArray<T, D>> for Tensor {
    fn from(array: ArcArray<T, D>) -> Self {
        match array.try_into_owned_nocopy() {
            Ok(array) => array.into(),
            Err(array) => {
                let descriptor = describe(&array);
                // SAFETY: no code writes the memory: every other `ArcArray` copies before it
                // writes, because the one in the storage counts as a handle.
                let storage = unsafe { Storage::read_only(array) };
                // SAFETY: the array in the storage keeps these elements initialised.
                Self::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
            }
        }
    }
}
