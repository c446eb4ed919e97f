//! Uses of handles and structs.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null, null_mut};

use capi::copy::{dlb_tensor_clone, dlb_tensor_copy_into};
use capi::device::{
    dlb_synchronize, dlb_tensor_into_device, dlb_tensor_record_stream, dlb_tensor_to_device,
    dlb_tensor_wait_stream,
};
use capi::dlpack::{
    dlb_tensor_from_dlpack, dlb_tensor_from_dlpack_legacy, dlb_tensor_into_dlpack,
    dlb_tensor_into_dlpack_legacy, dlb_tensor_share_dlpack, dlb_tensor_share_dlpack_legacy,
};
use capi::error::{DLB_ERROR_NULL_POINTER, DLB_OK};
use capi::handle::dlb_tensor;
use capi::memory::{dlb_tensor_data, dlb_tensor_data_mut};
use capi::tensor::{dlb_tensor_share, dlb_tensor_share_as, dlb_tensor_to_string, dlb_tensor_view};
use dlbridge::ffi::{DLDevice, DLManagedTensor, DLManagedTensorVersioned};

use super::call::{new_object, output, status};
use super::create::{describe, grid};
use super::{Handle, Object, World};
use crate::elements::Grid;
use crate::handles::model::{Keeper, Memory, Place, State};
use crate::input::Input;

/// A device, most often the host.
fn device(input: &mut Input<'_>) -> DLDevice {
    match input.byte() {
        byte @ 192.. => DLDevice {
            device_type: u32::from(byte - 192) % 20,
            device_id: i32::from(input.byte().cast_signed()),
        },
        _ => DLDevice { device_type: 1, device_id: 0 },
    }
}

/// The number of a stream, most often none.
fn stream(input: &mut Input<'_>) -> i64 {
    match input.byte() {
        255 => input.i64(),
        byte @ 240..255 => i64::from(byte) - 245,
        _ => -1,
    }
}

impl World {
    pub(super) fn step_tensor(
        &mut self,
        input: &mut Input<'_>,
        tensor: NonNull<dlb_tensor>,
        handle: Handle,
    ) {
        // SAFETY: the harness frees each handle once, and this one lives.
        let shared = unsafe { tensor.as_ref() };
        let step = input.byte();
        match step % 12 {
            0 => return self.release(handle),
            1 => {
                let other = dlb_tensor_share(Some(shared)).expect("not NULL");
                self.add(handle.like(Object::Tensor(other)));
                assert!(dlb_tensor_share(None).is_none());
            }
            2 => self.share_as(input, shared, &handle),
            3 => self.share_dlpack(input, shared, &handle),
            4 => return self.move_into_dlpack(input, tensor, handle),
            5 => self.clone_tensor(input, shared, &handle),
            6 => self.copy_into(input, shared, &handle),
            7 => self.write(input, tensor, &handle),
            8 => self.copy_to_device(input, shared, &handle),
            9 => return self.move_to_device(input, tensor, handle),
            10 => use_streams(input, shared),
            11 if step >= 128 => self.make_view(input, shared, &handle),
            _ => read(input, shared, &handle),
        }
        self.handles.push(handle);
    }

    /// A part of the memory, or a description that reaches outside of it.
    fn share_as(&mut self, input: &mut Input<'_>, tensor: &dlb_tensor, handle: &Handle) {
        let (mut grid, dtype) = (grid(input), handle.place.dtype);
        let view = dlb_tensor_view(Some(tensor)).expect("not NULL");
        let shift = isize::from(input.byte().cast_signed());
        let mut desc = describe(&mut grid, dtype, view.data.wrapping_byte_offset(shift));
        if input.seldom(32) {
            desc.device = device(input);
        }
        let part = new_object(input, |out, error| {
            dlb_tensor_share_as(Some(tensor), Some(&desc), out, error)
        });
        let Ok(part) = part else { return };
        let place = &handle.place;
        let first = place.first.wrapping_add_signed(shift);
        let part_place = Place { grid, first, ..place.clone() };
        if !part_place.is_empty() {
            let (within, part) = (span(place), span(&part_place));
            assert!(within.0 <= part.0 && part.1 <= within.1, "{part:?} is not in {within:?}");
        }
        self.add(Handle { place: part_place, ..handle.like(Object::Tensor(part)) });
    }

    fn share_dlpack(&mut self, input: &mut Input<'_>, tensor: &dlb_tensor, handle: &Handle) {
        let tensor = if input.seldom(32) { None } else { Some(tensor) };
        if input.flag() {
            let exported =
                new_object(input, |out, error| dlb_tensor_share_dlpack_legacy(tensor, out, error));
            if let Ok(exported) = exported {
                assert!(!handle.read_only);
                self.add(handle.like(Object::Legacy(exported)));
            }
        } else {
            let exported =
                new_object(input, |out, error| dlb_tensor_share_dlpack(tensor, out, error));
            if let Ok(exported) = exported {
                self.add(handle.like(Object::Versioned(exported)));
            }
        }
    }

    fn move_into_dlpack(
        &mut self,
        input: &mut Input<'_>,
        tensor: NonNull<dlb_tensor>,
        handle: Handle,
    ) {
        let object = if input.flag() {
            let exported = new_object(input, |out, error| {
                dlb_tensor_into_dlpack_legacy(Some(tensor), out, error)
            });
            assert!(exported.is_err() || !handle.read_only);
            exported.map(Object::Legacy)
        } else {
            new_object(input, |out, error| dlb_tensor_into_dlpack(Some(tensor), out, error))
                .map(Object::Versioned)
        };
        let object = object.unwrap_or(handle.object);
        self.handles.push(Handle { object, ..handle });
    }

    fn clone_tensor(&mut self, input: &mut Input<'_>, tensor: &dlb_tensor, handle: &Handle) {
        let format = i32::from(input.byte() % 6) - 1;
        let stream = stream(input);
        let clone = new_object(input, |out, error| {
            dlb_tensor_clone(Some(tensor), format, stream, out, error)
        });
        if let Ok(clone) = clone {
            assert!((0..4).contains(&format) && (-1..2).contains(&stream));
            self.add_copy(clone, handle);
        }
    }

    /// A handle to new memory with the elements of another.
    fn add_copy(&mut self, tensor: NonNull<dlb_tensor>, source: &Handle) {
        // SAFETY: the handle was made just now.
        let view = dlb_tensor_view(Some(unsafe { tensor.as_ref() })).expect("not NULL");
        let rank = source.place.grid.shape.len();
        let numbers = |start: *const i64| match rank {
            0 => Vec::new(),
            // SAFETY: the view has as many numbers.
            _ => unsafe { std::slice::from_raw_parts(start, rank) }.to_vec(),
        };
        let grid = Grid { shape: numbers(view.shape), strides: numbers(view.strides) };
        assert_eq!(grid.shape, source.place.grid.shape);
        let place = Place { grid, first: 0, ..source.place.clone() };
        let expected = source.place.read(&self.memories[source.place.memory]);
        let (item, mut bytes) = (place.item(), vec![0; expected.len()]);
        for (element, position) in expected.chunks(item).zip(place.positions()) {
            bytes[position..position + item].copy_from_slice(element);
        }
        let mut memory = Memory::new(bytes, view.data.addr(), Keeper::Other);
        memory.state = State::Aliased { writable: true };
        self.add_memory(memory, Handle { object: Object::Tensor(tensor), place, read_only: false });
    }

    fn copy_into(&mut self, input: &mut Input<'_>, source: &dlb_tensor, handle: &Handle) {
        let index = input.below(self.handles.len() + 1);
        let target = match self.handles.get(index).map(|target| target.object) {
            Some(Object::Tensor(target)) => Some(target),
            _ => None,
        };
        let stream = stream(input);
        let status =
            status(input, |error| dlb_tensor_copy_into(Some(source), target, stream, error));
        if target.is_none() {
            assert_eq!(status, DLB_ERROR_NULL_POINTER);
        } else if status == DLB_OK {
            let target = &self.handles[index];
            assert!(!target.read_only && !target.place.grid.repeats());
            assert_eq!(target.place.grid.shape, handle.place.grid.shape);
            assert_eq!(target.place.dtype, handle.place.dtype);
            let (from, to) = (span(&handle.place), span(&target.place));
            let same = handle.place.memory == target.place.memory && !target.place.is_empty();
            assert!(!same || from.1 <= to.0 || to.1 <= from.0, "{from:?} and {to:?} meet");
            let bytes = handle.place.read(&self.memories[handle.place.memory]);
            let item = handle.place.item();
            let (positions, memory) = (target.place.positions(), target.place.memory);
            for (element, position) in bytes.chunks(item).zip(positions) {
                self.memories[memory].bytes[position..position + item].copy_from_slice(element);
            }
        }
    }

    /// Writes an element through the address for writing.
    fn write(&mut self, input: &mut Input<'_>, tensor: NonNull<dlb_tensor>, handle: &Handle) {
        let tensor = if input.seldom(32) { None } else { Some(tensor) };
        let data = output(input, null_mut(), |out, error| dlb_tensor_data_mut(tensor, out, error));
        let Ok(data) = data else { return };
        assert!(!handle.read_only, "an address for writing read-only memory");
        let place = &handle.place;
        assert_eq!(data.is_null(), place.is_empty());
        if place.is_empty() {
            return;
        }
        let index = input.below(place.positions().len());
        let memory = &mut self.memories[place.memory];
        place.write(memory, index, input.byte());
        let position = place.positions()[index];
        let element = data.wrapping_byte_offset(position as isize - place.first as isize);
        let bytes = &memory.bytes[position..position + place.item()];
        // SAFETY: an element of memory that may be written.
        unsafe { element.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    fn copy_to_device(&mut self, input: &mut Input<'_>, tensor: &dlb_tensor, handle: &Handle) {
        let (device, stream) = (device(input), stream(input));
        let copy = new_object(input, |out, error| {
            dlb_tensor_to_device(Some(tensor), device, stream, out, error)
        });
        if let Ok(copy) = copy {
            assert_eq!((device.device_type, device.device_id), (1, 0));
            self.add_copy(copy, handle);
        }
    }

    fn move_to_device(
        &mut self,
        input: &mut Input<'_>,
        tensor: NonNull<dlb_tensor>,
        handle: Handle,
    ) {
        let (device, stream) = (device(input), stream(input));
        let moved = new_object(input, |out, error| {
            dlb_tensor_into_device(Some(tensor), device, stream, out, error)
        });
        match moved {
            Ok(moved) if moved != tensor => {
                self.memories[handle.place.memory].handles -= 1;
                self.add_copy(moved, &handle);
            }
            _ => self.handles.push(handle),
        }
    }

    pub(super) fn step_versioned(
        &mut self,
        input: &mut Input<'_>,
        source: NonNull<DLManagedTensorVersioned>,
        handle: Handle,
    ) {
        if input.seldom(4) {
            return self.release(handle);
        }
        let tensor =
            new_object(input, |out, error| dlb_tensor_from_dlpack(Some(source), out, error));
        let object = tensor.map_or(handle.object, Object::Tensor);
        self.handles.push(Handle { object, ..handle });
    }

    pub(super) fn step_legacy(
        &mut self,
        input: &mut Input<'_>,
        source: NonNull<DLManagedTensor>,
        handle: Handle,
    ) {
        if input.seldom(4) {
            return self.release(handle);
        }
        let tensor =
            new_object(input, |out, error| dlb_tensor_from_dlpack_legacy(Some(source), out, error));
        let object = tensor.map_or(handle.object, Object::Tensor);
        self.handles.push(Handle { object, ..handle });
    }
}

impl Handle {
    /// Another handle to the same elements.
    pub(super) fn like(&self, object: Object) -> Self {
        Self { object, place: self.place.clone(), read_only: self.read_only }
    }
}

/// The bytes from the lowest to the highest element; empty if there are none.
pub(super) fn span(place: &Place) -> (usize, usize) {
    let positions = place.positions();
    match (positions.iter().min(), positions.iter().max()) {
        (Some(low), Some(high)) => (*low, high + place.item()),
        _ => (0, 0),
    }
}

/// The address for reading.
fn read(input: &mut Input<'_>, tensor: &dlb_tensor, handle: &Handle) {
    let data =
        output(input, null::<c_void>(), |out, error| dlb_tensor_data(Some(tensor), out, error));
    let view = dlb_tensor_view(Some(tensor)).expect("not NULL");
    assert!(data.is_err() || data == Ok(view.data.cast_const()));
    let mut length = MaybeUninit::new(0);
    let printed = dlb_tensor_to_string(Some(tensor), null_mut(), 0, Some(&mut length), None);
    // SAFETY: initialised above.
    assert!(printed == DLB_OK && unsafe { length.assume_init() } > 0);
    assert_eq!(view.data.is_null(), handle.place.is_empty());
}

/// Streams mean nothing on the host, and only few numbers are allowed there.
fn use_streams(input: &mut Input<'_>, tensor: &dlb_tensor) {
    let (device, stream) = (device(input), stream(input));
    let recorded = status(input, |error| dlb_tensor_record_stream(Some(tensor), stream, error));
    let waited = status(input, |error| dlb_tensor_wait_stream(Some(tensor), stream, error));
    assert_eq!((recorded, waited), (DLB_OK, DLB_OK));
    let _status = status(input, |error| dlb_synchronize(device, stream, error));
    let nothing = status(input, |error| dlb_tensor_record_stream(None, stream, error));
    assert_eq!(nothing, DLB_ERROR_NULL_POINTER);
}
