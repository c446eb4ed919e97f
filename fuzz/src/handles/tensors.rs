//! Steps of tensors.

use dlbridge::{MemoryFormat, Tensor};
use ndarray::{Ix2, IxDyn};

use super::arrays::element;
use super::library::Library;
use super::model::{Keeper, Place, State, Value, bytes_of, with_type};
use super::objects::{Object, into_ndarray};
use super::{Handle, World};
use crate::input::Input;

impl<L: Library> World<L> {
    pub(super) fn step_tensor(&mut self, input: &mut Input<'_>, tensor: Tensor, place: Place) {
        match input.byte() % 18 {
            0 => self.release(Handle { object: Object::Tensor(tensor), place }),
            1 => {
                let other = tensor.share();
                self.put(Object::Tensor(tensor), place.clone());
                self.add(Object::Tensor(other), place);
            }
            2 => self.clone_tensor(input, tensor, place),
            3 => self.move_to_aliased(tensor, place),
            4 => self.assume(input, tensor, place),
            5 => self.share_dlpack(input, tensor, place),
            6 => self.move_into_dlpack(input, tensor, place),
            7 | 8 => self.move_into_ndarray(input, tensor, place),
            9 => with_type!(place.dtype, T => self.view::<T>(tensor, place)),
            10 | 11 => with_type!(place.dtype, T => self.write_view::<T>(input, tensor, place)),
            12 => with_type!(place.dtype, T => self.move_into_vec::<T>(tensor, place)),
            13 => with_type!(place.dtype, T => self.copy_out::<T>(tensor, place)),
            14 => self.copy_into(input, tensor, place),
            15 => self.copy_into_aliased(input, tensor, place),
            _ => self.take(tensor, place),
        }
    }
    fn clone_tensor(&mut self, input: &mut Input<'_>, tensor: Tensor, place: Place) {
        let formats =
            [MemoryFormat::Preserve, MemoryFormat::Contiguous, MemoryFormat::ChannelsLast];
        let format = input.one_of(&formats);
        match tensor.deep_clone_with(format) {
            Ok(copy) => {
                assert_eq!(copy.shape(), place.grid.shape);
                assert!(format != MemoryFormat::Contiguous || copy.is_contiguous());
                self.put(Object::Tensor(tensor), place.clone());
                self.add_copy(copy, &place);
            }
            Err(error) => {
                assert!(format == MemoryFormat::ChannelsLast && tensor.ndim() != 4, "{error}");
                self.put(Object::Tensor(tensor), place);
            }
        }
    }

    fn move_to_aliased(&mut self, tensor: Tensor, place: Place) {
        let memory = self.memory(&place);
        let is_aliased = matches!(memory.state, State::Aliased { .. });
        let expected = is_aliased || memory.handles == 1;
        match tensor.into_aliased() {
            Ok(tensor) => {
                assert!(expected);
                memory.state = State::Aliased { writable: !memory.is_read_only() };
                self.put(Object::Tensor(tensor), Place { trusted: false, ..place });
            }
            Err(rejected) => {
                assert!(!expected, "{}", rejected.error());
                self.put(Object::Tensor(rejected.into_value()), place);
            }
        }
    }

    /// Guarantees more than is known, which is true: nothing else uses the memory.
    fn assume(&mut self, input: &mut Input<'_>, tensor: Tensor, place: Place) {
        let memory = self.memory(&place);
        let (assumed, state) = if input.flag() || memory.is_read_only() {
            // SAFETY: the model never writes read-only memory.
            (unsafe { tensor.assume_read_only() }, State::ReadOnly)
        } else {
            // SAFETY: the memory may be written, and nothing but handles reaches it.
            (unsafe { tensor.assume_exclusive() }, State::Exclusive)
        };
        let tensor = match assumed {
            Ok(tensor) => {
                assert_eq!(memory.handles, 1);
                memory.state = state;
                tensor
            }
            Err(rejected) => {
                assert!(memory.handles > 1, "{}", rejected.error());
                rejected.into_value()
            }
        };
        self.put(Object::Tensor(tensor), place);
    }

    fn share_dlpack(&mut self, input: &mut Input<'_>, tensor: Tensor, place: Place) {
        let exported = if input.flag() {
            let writable = self.memory(&place).state == State::Aliased { writable: true };
            let exported = tensor.share_dlpack_legacy();
            assert_eq!(exported.is_ok(), writable, "{exported:?}");
            exported.ok().map(Object::Legacy)
        } else {
            let exported = tensor.share_dlpack();
            self.check_flags(&exported, &place, false);
            Some(Object::Exported(exported))
        };
        self.put(Object::Tensor(tensor), place.clone());
        if let Some(exported) = exported {
            self.add(exported, place);
        }
    }

    fn move_into_dlpack(&mut self, input: &mut Input<'_>, tensor: Tensor, place: Place) {
        if !input.flag() {
            let exported = tensor.into_dlpack();
            self.check_flags(&exported, &place, true);
            self.put(Object::Exported(exported), place);
            return;
        }
        let memory = self.memory(&place);
        let writable = memory.is_exclusive() || memory.state == State::Aliased { writable: true };
        match tensor.into_dlpack_legacy() {
            Ok(exported) => {
                assert!(writable);
                self.put(Object::Legacy(exported), place);
            }
            Err(rejected) => {
                assert!(!writable, "{}", rejected.error());
                self.put(Object::Tensor(rejected.into_value()), place);
            }
        }
    }

    /// Whether safe code may view the elements.
    fn is_viewable(&mut self, place: &Place) -> bool {
        let memory = self.memory(place);
        let trusted = place.trusted || !matches!(memory.state, State::Aliased { .. });
        trusted && place.is_aligned(memory)
    }

    fn move_into_ndarray(&mut self, input: &mut Input<'_>, tensor: Tensor, place: Place) {
        let fixed = input.seldom(4);
        let expected = self.is_viewable(&place) && (!fixed || tensor.ndim() == 2);
        match into_ndarray(tensor, fixed) {
            Ok(array) => {
                assert!(expected);
                self.put(Object::NdArray(array), place);
            }
            Err(rejected) => {
                assert!(!expected, "{}", rejected.error());
                self.put(Object::Tensor(rejected.into_value()), place);
            }
        }
    }

    fn view<T: Value>(&mut self, tensor: Tensor, place: Place) {
        let expected = self.is_viewable(&place);
        let bytes = place.read(self.memory(&place));
        let view = tensor.as_ndarray::<T, IxDyn>();
        assert_eq!(view.is_ok(), expected, "{view:?}");
        if let Ok(view) = view {
            assert!(bytes_of(view.iter().copied()) == bytes);
        }
        assert_eq!(tensor.as_ndarray::<T, Ix2>().is_ok(), expected && tensor.ndim() == 2);
        let slice = tensor.as_slice::<T>();
        assert_eq!(slice.is_ok(), expected && place.is_contiguous(), "{slice:?}");
        if let Ok(slice) = slice {
            assert!(bytes_of(slice.iter().copied()) == bytes);
        }
        assert!(tensor.as_slice::<u64>().is_err() && tensor.as_ndarray::<i8, IxDyn>().is_err());
        self.put(Object::Tensor(tensor), place);
    }

    fn write_view<T: Value>(&mut self, input: &mut Input<'_>, mut tensor: Tensor, place: Place) {
        let memory = self.memory(&place);
        let is_writable =
            memory.is_exclusive() && place.is_aligned(memory) && !tensor.layout().overlaps();
        assert!(!is_writable || !place.grid.repeats(), "one element has two indices");
        let chosen = element(input, &place);
        let (index, value) = chosen.unwrap_or_default();
        if input.flag() {
            let slice = tensor.as_slice_mut::<T>();
            assert_eq!(slice.is_ok(), is_writable && place.is_contiguous(), "{slice:?}");
            if let (Ok(slice), Some(_)) = (slice, chosen) {
                slice[index] = T::of(value);
                self.write(&place, index, value);
            }
        } else {
            let view = tensor.as_ndarray_mut::<T, IxDyn>();
            assert_eq!(view.is_ok(), is_writable, "{view:?}");
            if let (Ok(mut view), Some(_)) = (view, chosen) {
                view.iter_mut().nth(index).into_iter().for_each(|element| *element = T::of(value));
                self.write(&place, index, value);
            }
        }
        self.put(Object::Tensor(tensor), place);
    }

    fn move_into_vec<T: Value>(&mut self, tensor: Tensor, place: Place) {
        let count = tensor.len();
        let memory = self.memory(&place);
        let is_whole = place.is_contiguous() && count == memory.vec_len;
        let expected = memory.is_exclusive() && memory.keeper != Keeper::Other && is_whole;
        match tensor.into_vec::<T>() {
            Ok(vec) => {
                assert!(expected);
                assert!(bytes_of(vec.iter().copied()) == place.read(memory));
                assert!(vec.is_empty() || vec.as_ptr().addr() == memory.base);
                memory.handles = 0;
                self.forget_if_unused(&place);
            }
            Err(rejected) => {
                assert!(!expected, "{}", rejected.error());
                if memory.is_exclusive() && memory.keeper == Keeper::Array {
                    // The array is taken apart.
                    memory.keeper = Keeper::Vec;
                }
                self.put(Object::Tensor(rejected.into_value()), place);
            }
        }
    }

    /// Copies that leave dlbridge.
    fn copy_out<T: Value>(&mut self, tensor: Tensor, place: Place) {
        let bytes = place.read(self.memory(&place));
        let array = tensor.to_ndarray::<T, IxDyn>().expect("on the host");
        assert!(bytes_of(array.iter().copied()) == bytes);
        assert_eq!(tensor.to_ndarray::<T, Ix2>().is_ok(), tensor.ndim() == 2);
        assert!(tensor.to_list().is_ok() && tensor.to_vec::<u64>().is_err());
        let item = tensor.item::<T>();
        assert_eq!(item.is_ok(), tensor.len() == 1);
        assert!(item.is_err() || bytes_of(item) == bytes);
        assert!(!format!("{tensor:?}").is_empty());
        self.put(Object::Tensor(tensor), place);
    }

    /// Takes another tensor out of the list, for which `is_wanted`.
    fn other_tensor(
        &mut self,
        input: &mut Input<'_>,
        is_wanted: impl Fn(&Self, &Place) -> bool,
    ) -> Option<(Tensor, Place)> {
        let index = input.byte() as usize % self.handles.len().max(1);
        let handle = self.handles.get(index)?;
        if !matches!(handle.object, Object::Tensor(_)) || !is_wanted(self, &handle.place) {
            return None;
        }
        let Handle { object, place } = self.handles.swap_remove(index);
        match object {
            Object::Tensor(tensor) => Some((tensor, place)),
            _ => unreachable!("compared above"),
        }
    }

    /// Copies into a tensor that nothing else reaches.
    fn copy_into(&mut self, input: &mut Input<'_>, source: Tensor, place: Place) {
        if let Some((mut target, at)) = self.other_tensor(input, |_, _| true) {
            let expected = is_alike(&place, &at)
                && self.memory(&at).is_exclusive()
                && !target.layout().overlaps();
            let copied = source.copy_into(&mut target);
            assert_eq!(copied.is_ok(), expected, "{copied:?}");
            if expected {
                self.copied(&place, &at);
            }
            self.put(Object::Tensor(target), at);
        }
        self.put(Object::Tensor(source), place);
    }

    /// Copies into a tensor whose memory has other handles, but no views.
    fn copy_into_aliased(&mut self, input: &mut Input<'_>, source: Tensor, place: Place) {
        let target = self.other_tensor(input, |world, place| !world.has_view(place.memory));
        if let Some((target, at)) = target {
            let expected = is_alike(&place, &at)
                && !self.memory(&at).is_read_only()
                && !target.layout().overlaps()
                && !do_spans_meet(&place, &at);
            // SAFETY: nothing else uses the memory, of which no Rust view lives.
            let copied = unsafe { source.copy_into_unchecked(&target) };
            assert_eq!(copied.is_ok(), expected, "{copied:?}");
            if expected {
                self.copied(&place, &at);
            }
            self.put(Object::Tensor(target), at);
        }
        self.put(Object::Tensor(source), place);
    }

    /// Copies elements in the model.
    fn copied(&mut self, from: &Place, to: &Place) {
        let (bytes, item) = (from.read(&self.memories[from.memory]), from.item());
        for (element, position) in bytes.chunks(item).zip(to.positions()) {
            self.memories[to.memory].bytes[position..position + item].copy_from_slice(element);
        }
        self.is_changed = true;
    }

    /// Moves the tensor into another library.
    fn take(&mut self, tensor: Tensor, place: Place) {
        let may_move = self.memory(&place).is_exclusive();
        match L::take(tensor) {
            Ok(tensor) => {
                assert!(may_move, "another handle holds the memory of {place:?}");
                self.put(Object::Other(tensor), place);
            }
            Err(tensor) => self.put(Object::Tensor(tensor), place),
        }
    }
}

fn is_alike(one: &Place, other: &Place) -> bool {
    one.grid.shape == other.grid.shape && one.dtype == other.dtype
}

/// Whether the bytes from the lowest to the highest element of two places have some in common.
fn do_spans_meet(one: &Place, other: &Place) -> bool {
    if one.memory != other.memory {
        return false;
    }
    let span = |place: &Place| {
        let positions = place.positions();
        let (low, high) = (positions.iter().min()?, positions.iter().max()?);
        Some((*low, high + place.item()))
    };
    match (span(one), span(other)) {
        (Some(one), Some(other)) => one.0 < other.1 && other.0 < one.1,
        _ => false,
    }
}
