//! Steps of arrays, and of tensors of another library.

#![forbid(unsafe_code)]

use super::library::Library;
use super::model::{Keeper, Place, State};
use super::objects::{AnyArray, AnyNdArray, Object};
use super::{Handle, World, grid_of};
use crate::input::Input;

/// Which element of `place` a step writes, if there is one.
pub(super) fn element(input: &mut Input<'_>, place: &Place) -> Option<(usize, u8)> {
    let count = place.grid.count().expect("small") as usize;
    (count > 0).then(|| (input.below(count), input.byte()))
}

impl<L: Library> World<L> {
    pub(super) fn step_ndarray(
        &mut self,
        input: &mut Input<'_>,
        mut array: Box<dyn AnyNdArray>,
        place: Place,
    ) {
        let may_write = self.memory(&place).is_exclusive() && !array.tensor().layout().overlaps();
        match input.byte() % 8 {
            0 => self.release(Handle { object: Object::NdArray(array), place }),
            1 => {
                let other = array.share();
                self.put(Object::NdArray(array), place.clone());
                self.add(Object::NdArray(other), place);
            }
            2 => {
                if let Some((index, value)) = element(input, &place) {
                    let written = array.get_mut(index, value);
                    assert_eq!(written.is_ok(), may_write, "{written:?}");
                    if may_write {
                        self.write(&place, index, value);
                    }
                }
                self.put(Object::NdArray(array), place);
            }
            3 => self.make_mut(input, array, place, may_write),
            4 | 5 => self.put(Object::Tensor(array.into_tensor()), place),
            6 => self.give_array_back(array, place),
            _ => {
                let copy = array.to_tensor().expect("memory");
                self.put(Object::NdArray(array), place.clone());
                self.add_copy(copy, &place);
            }
        }
    }

    /// Writes to the array, or to a copy that takes its place.
    fn make_mut(
        &mut self,
        input: &mut Input<'_>,
        mut array: Box<dyn AnyNdArray>,
        place: Place,
        may_write: bool,
    ) {
        let Some((index, value)) = element(input, &place) else {
            self.put(Object::NdArray(array), place);
            return;
        };
        array.make_mut(index, value).expect("memory");
        if may_write {
            self.write(&place, index, value);
            self.put(Object::NdArray(array), place);
            return;
        }
        // The handle left its memory.
        let (grid, base) = (grid_of(array.tensor()), array.tensor().data_ptr().addr());
        self.memory(&place).handles -= 1;
        self.add_copied(Object::NdArray(array), (grid, base), &place);
        self.forget_if_unused(&place);
        let place = self.handles.last().expect("just added").place.clone();
        self.write(&place, index, value);
    }

    /// Gives back the array or the `Vec` that the memory began as.
    fn give_array_back(&mut self, array: Box<dyn AnyNdArray>, place: Place) {
        let memory = self.memory(&place);
        let is_original = match memory.keeper {
            Keeper::Array => true,
            Keeper::Vec => place.is_permuted() && place.positions().len() == memory.vec_len,
            Keeper::Other => false,
        };
        let expected = memory.is_exclusive() && is_original;
        match array.into_array() {
            Ok(array) => {
                assert!(expected, "gave {place:?} back");
                let memory = self.memory(&place);
                memory.keeper = Keeper::Array;
                self.put(Object::Array(array), Place { trusted: false, ..place });
            }
            Err(array) => {
                assert!(!expected, "did not give {place:?} back");
                self.put(Object::NdArray(array), place);
            }
        }
    }

    pub(super) fn step_array(
        &mut self,
        input: &mut Input<'_>,
        mut array: Box<dyn AnyArray>,
        place: Place,
    ) {
        match input.byte() % 8 {
            0 => self.release(Handle { object: Object::Array(array), place }),
            1 | 2 => {
                if let Some((index, value)) = element(input, &place) {
                    array.write(index, value);
                    self.write(&place, index, value);
                }
                self.put(Object::Array(array), place);
            }
            _ => self.put(Object::Tensor(array.into_tensor()), place),
        }
    }

    pub(super) fn step_other(
        &mut self,
        input: &mut Input<'_>,
        mut tensor: L::Tensor,
        place: Place,
    ) {
        match input.byte() % 8 {
            0 => self.release(Handle { object: Object::Other(tensor), place }),
            1 => {
                let other = L::share(&tensor);
                self.put(Object::Other(tensor), place.clone());
                self.add(Object::Other(other), place);
            }
            2 | 3 => {
                if let Some((index, value)) = element(input, &place) {
                    L::write(&mut tensor, index, value);
                    self.write(&place, index, value);
                }
                self.put(Object::Other(tensor), place);
            }
            _ => {
                let expected = self.memory(&place).handles == 1;
                match L::give(tensor) {
                    Ok(tensor) => {
                        assert!(expected, "another tensor has the memory of {place:?}");
                        self.memory(&place).state = State::Exclusive;
                        self.put(Object::Tensor(tensor), Place { trusted: false, ..place });
                    }
                    Err(tensor) => {
                        assert!(!expected, "did not give {place:?} back");
                        self.put(Object::Other(tensor), place);
                    }
                }
            }
        }
    }
}
