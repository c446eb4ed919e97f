//! Views of handles: any arguments. The elements of a view are elements of its tensor, or lie
//! between them.

use std::collections::HashSet;

use capi::handle::dlb_tensor;
use capi::tensor::dlb_tensor_view;
use capi::views::{
    DLB_SLICE_NONE, dlb_tensor_as_strided, dlb_tensor_expand, dlb_tensor_flip, dlb_tensor_permute,
    dlb_tensor_reshape, dlb_tensor_select, dlb_tensor_slice, dlb_tensor_squeeze,
    dlb_tensor_squeeze_dim, dlb_tensor_transpose, dlb_tensor_unsqueeze,
};

use super::call::new_object;
use super::steps::span;
use super::{Handle, Object, World};
use crate::elements::Grid;
use crate::handles::model::Place;
use crate::input::Input;

/// Number of functions that make a view.
const FUNCTIONS: usize = 11;

/// A number that is most often small.
fn number(input: &mut Input<'_>) -> i64 {
    match input.byte() {
        252 => DLB_SLICE_NONE,
        253 => i64::MIN + 1,
        254 => i64::MAX,
        255 => input.i64(),
        byte => i64::from(byte % 10) - 5,
    }
}

/// Sizes, strides or dimensions: small, so that the elements of a view can be counted.
fn numbers(input: &mut Input<'_>, count: usize) -> Vec<i64> {
    (0..count).map(|_| i64::from(input.byte() % 8) - 3).collect()
}

impl World {
    pub(super) fn make_view(
        &mut self,
        input: &mut Input<'_>,
        tensor: &dlb_tensor,
        handle: &Handle,
    ) {
        let function = input.below(FUNCTIONS);
        let count = input.below(4);
        let (sizes, steps) = (numbers(input, count), numbers(input, count));
        let [a, b, c, d] = std::array::from_fn(|_| number(input));
        let ndim = if input.seldom(32) { -1 } else { count as i32 };
        let (sizes, steps) = (sizes.as_ptr(), steps.as_ptr());
        let shared = if input.seldom(32) { None } else { Some(tensor) };
        let view = new_object(input, |out, error| match function {
            0 => dlb_tensor_permute(shared, sizes, ndim, out, error),
            1 => dlb_tensor_transpose(shared, a, b, out, error),
            2 => dlb_tensor_slice(shared, a, b, c, d, out, error),
            3 => dlb_tensor_select(shared, a, b, out, error),
            4 => dlb_tensor_flip(shared, sizes, ndim, out, error),
            5 => dlb_tensor_expand(shared, sizes, ndim, out, error),
            6 => dlb_tensor_squeeze(shared, out, error),
            7 => dlb_tensor_squeeze_dim(shared, a, out, error),
            8 => dlb_tensor_unsqueeze(shared, a, out, error),
            9 => dlb_tensor_reshape(shared, sizes, ndim, out, error),
            _ => dlb_tensor_as_strided(shared, sizes, steps, ndim, a, out, error),
        });
        let Ok(view) = view else { return };
        // SAFETY: the handle was made just now.
        let place = place_of(unsafe { view.as_ref() }, tensor, handle);
        if !place.is_empty() && function == FUNCTIONS - 1 {
            let (within, part) = (span(&handle.place), span(&place));
            assert!(within.0 <= part.0 && part.1 <= within.1, "{part:?} is not in {within:?}");
        } else {
            let elements: HashSet<_> = handle.place.positions().into_iter().collect();
            assert!(place.positions().iter().all(|position| elements.contains(position)));
        }
        self.add(Handle { place, ..handle.like(Object::Tensor(view)) });
    }
}

/// What the library says about a view.
fn place_of(view: &dlb_tensor, tensor: &dlb_tensor, handle: &Handle) -> Place {
    let [view, whole] = [view, tensor].map(|tensor| dlb_tensor_view(Some(tensor)).expect("given"));
    let numbers = |start: *const i64| match view.ndim {
        0 => Vec::new(),
        // SAFETY: the view has as many numbers.
        ndim => unsafe { std::slice::from_raw_parts(start, ndim as usize) }.to_vec(),
    };
    let grid = Grid { shape: numbers(view.shape), strides: numbers(view.strides) };
    let shift = view.data.addr().wrapping_sub(whole.data.addr());
    let first = if view.data.is_null() { 0 } else { handle.place.first.wrapping_add(shift) };
    Place { grid, first, ..handle.place.clone() }
}
