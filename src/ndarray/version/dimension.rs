//! The array types of this version.

use std::ptr::NonNull;

use super::Version;
use super::description::describe;
use super::nd::{
    Array, ArrayView, ArrayViewMut, Dim, Dimension, Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn,
};
use super::views::{self, dimensions};
use crate::ndarray::owned::{Sealed, Token};
use crate::ndarray::{ArrayDimension, ArrayVersion};
use crate::{Element, Layout, Result, Tensor};

/// Repeats an expression with a name for each of ndarray's rank types in turn.
macro_rules! for_each_rank_type {
    ($rank:ident => $repeated:expr) => {
        for_each_rank_type!($rank => $repeated; Ix0 Ix1 Ix2 Ix3 Ix4 Ix5 Ix6 IxDyn)
    };
    ($rank:ident => $repeated:expr; $($type:ident)*) => {$({
        type $rank = $type;
        $repeated
    })*};
}

impl<I> ArrayDimension for Dim<I>
where
    Self: Dimension + 'static,
{
    type Version = Version;
}

impl<D: Dimension + 'static> ArrayVersion<D> for Version {
    type Array<T: Element> = Array<T, D>;
    type View<'a, T: Element> = ArrayView<'a, T, D>;
    type ViewMut<'a, T: Element> = ArrayViewMut<'a, T, D>;
    type Dyn = IxDyn;

    #[inline]
    unsafe fn view<'a, T: Element>(
        data: NonNull<T>,
        layout: &Layout,
        _: Token,
    ) -> Result<ArrayView<'a, T, D>> {
        // SAFETY: the caller guarantees aligned, valid elements that are not written.
        unsafe { views::view(data, layout) }
    }

    #[inline(always)]
    unsafe fn usual_view<'a, T: Element>(
        data: NonNull<T>,
        layout: &Layout,
        _: Token,
    ) -> Option<ArrayView<'a, T, D>> {
        // SAFETY: the caller guarantees aligned, valid elements that are not written.
        unsafe { views::usual_view(data, layout) }
    }

    #[inline]
    unsafe fn view_mut<'a, T: Element>(
        data: NonNull<T>,
        layout: &Layout,
        _: Token,
    ) -> Result<ArrayViewMut<'a, T, D>> {
        // SAFETY: the caller guarantees aligned, valid elements that no other code reaches, and
        // that no two indices reach the same one.
        unsafe { views::view_mut(data, layout) }
    }

    #[inline]
    fn shorten<'a, T: Element>(
        view: &'a ArrayView<'static, T, D>,
        _: Token,
    ) -> &'a ArrayView<'a, T, D> {
        // SAFETY: the two types differ only in a lifetime, so their layout is the same. A view may
        // be used for a shorter time than its elements live: ndarray's own `reborrow` allows it,
        // but takes the view by value.
        unsafe { &*std::ptr::from_ref(view).cast() }
    }

    fn into_dyn<T: Element>(
        view: ArrayView<'static, T, D>,
        _: Token,
    ) -> ArrayView<'static, T, IxDyn> {
        view.into_dyn()
    }

    fn is_equal<T: Element>(
        one: &ArrayView<'_, T, D>,
        other: &ArrayView<'_, T, D>,
        _: Token,
    ) -> bool {
        one == other
    }

    #[inline]
    fn is_same<T: Element>(array: &Array<T, D>, view: &ArrayView<'_, T, D>, _: Token) -> bool {
        views::is_same(array, view)
    }

    fn map<T: Element>(
        view: &ArrayView<'_, T, D>,
        function: impl FnMut(T) -> T,
        _: Token,
    ) -> Array<T, D> {
        view.mapv(function)
    }

    fn to_array<T: Element>(view: &ArrayView<'_, T, D>, _: Token) -> Array<T, D> {
        view.to_owned()
    }

    fn check_layout(layout: &Layout, _: Token) -> Result<()> {
        dimensions::<D>(layout).map(drop)
    }

    fn row_major<T: Element>(elements: Vec<T>, layout: &Layout, _: Token) -> Result<Array<T, D>> {
        views::row_major(elements, layout)
    }

    fn with_strides<T: Element>(
        elements: Vec<T>,
        layout: &Layout,
        _: Token,
    ) -> Result<Array<T, D>> {
        views::with_strides(elements, layout)
    }

    fn recover_array<T: Element>(mut tensor: Tensor, token: Token) -> Result<Array<T, D>, Tensor> {
        for_each_rank_type!(Rank => if is_whole_array::<T, Rank>(&mut tensor) {
            let array: Array<T, Rank> = Sealed::recover(tensor, token);
            return match array.into_dyn().into_dimensionality() {
                Ok(array) => Ok(array),
                Err(_) => unreachable!("the rank was compared"),
            };
        });
        Err(tensor)
    }
}

/// Returns true if the owner is an array of exactly these elements in this layout.
fn is_whole_array<T: Element, D: Dimension + 'static>(tensor: &mut Tensor) -> bool {
    let (data, layout) = (tensor.data_ptr().cast::<T>(), tensor.layout().clone());
    let Some(array) = tensor.owner_mut::<Array<T, D>>() else { return false };
    let seen = describe(array);
    let same_address = layout.is_empty() || seen.data_ptr().cast() == data;
    same_address && seen.layout().is_same_order(&layout)
}
