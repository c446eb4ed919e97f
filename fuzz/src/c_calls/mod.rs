//! Sequences of calls of the C library, with NULL and wild arguments, against a model.
//!
//! The harness satisfies what `dlbridge.h` requires of its caller: handles are valid and freed
//! once, and shapes and strides have `ndim` numbers. Everything else may be wrong, and has to be
//! refused with a status and an error object.

mod call;
mod create;
mod steps;
mod views;

use std::ptr::NonNull;

use capi::handle::dlb_tensor;
use capi::tensor::{
    dlb_tensor_flags, dlb_tensor_free, dlb_tensor_is_contiguous, dlb_tensor_nbytes, dlb_tensor_view,
};
use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned};

use crate::handles::model::{Memory, Place};
use crate::input::Input;

const MAX_HANDLES: usize = 8;
const MAX_STEPS: usize = 40;
const READ_ONLY: u64 = 1;

/// Decodes a sequence of calls and makes them.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World { memories: Vec::new(), handles: Vec::new() };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.memories.iter().for_each(Memory::check_drops);
        world.handles.last().into_iter().for_each(|handle| world.check(handle));
    }
    world.handles.iter().for_each(|handle| world.check(handle));
    while !world.handles.is_empty() {
        let handle = world.handles.swap_remove(input.below(world.handles.len()));
        world.release(handle);
        world.memories.iter().for_each(Memory::check_drops);
    }
}

/// What C code holds.
#[derive(Clone, Copy)]
enum Object {
    Tensor(NonNull<dlb_tensor>),
    Versioned(NonNull<DLManagedTensorVersioned>),
    Legacy(NonNull<DLManagedTensor>),
}

struct Handle {
    object: Object,
    place: Place,
    read_only: bool,
}

struct World {
    memories: Vec<Memory>,
    handles: Vec<Handle>,
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        if (op < 80 && self.handles.len() < MAX_HANDLES) || self.handles.is_empty() {
            self.create(input);
            return;
        }
        let handle = self.handles.swap_remove(input.below(self.handles.len()));
        match handle.object {
            Object::Tensor(tensor) => self.step_tensor(input, tensor, handle),
            Object::Versioned(source) => self.step_versioned(input, source, handle),
            Object::Legacy(source) => self.step_legacy(input, source, handle),
        }
    }

    /// One more handle to the memory of another.
    fn add(&mut self, handle: Handle) {
        self.memories[handle.place.memory].handles += 1;
        self.handles.push(handle);
    }

    /// The first handle to new memory.
    fn add_memory(&mut self, memory: Memory, mut handle: Handle) {
        handle.place.memory = self.memories.len();
        self.memories.push(memory);
        self.add(handle);
    }

    /// Frees a handle that was taken out of the list.
    fn release(&mut self, handle: Handle) {
        self.memories[handle.place.memory].handles -= 1;
        match handle.object {
            Object::Tensor(tensor) => dlb_tensor_free(Some(tensor)),
            Object::Versioned(source) => {
                // SAFETY: the library made the struct, which the harness owns.
                let deleter = unsafe { source.as_ref() }.deleter.expect("a deleter");
                // SAFETY: the deleter of a struct that the harness owns, called once.
                unsafe { deleter(source.as_ptr()) };
            }
            Object::Legacy(source) => {
                // SAFETY: the library made the struct, which the harness owns.
                let deleter = unsafe { source.as_ref() }.deleter.expect("a deleter");
                // SAFETY: the deleter of a struct that the harness owns, called once.
                unsafe { deleter(source.as_ptr()) };
            }
        }
        if self.memories[handle.place.memory].handles == 0 {
            self.memories[handle.place.memory].outside = None;
        }
    }

    /// Compares a handle with the model.
    fn check(&self, handle: &Handle) {
        let Handle { object, place, read_only } = handle;
        let memory = &self.memories[place.memory];
        let description = match object {
            Object::Tensor(tensor) => {
                // SAFETY: the handle was not freed.
                let tensor = Some(unsafe { tensor.as_ref() });
                assert_eq!(dlb_tensor_flags(tensor) & READ_ONLY != 0, *read_only);
                let count = place.grid.count().expect("small") as u64;
                assert_eq!(dlb_tensor_nbytes(tensor), count * place.item() as u64);
                assert_eq!(dlb_tensor_is_contiguous(tensor), place.is_contiguous());
                *dlb_tensor_view(tensor).expect("not NULL")
            }
            Object::Versioned(source) => {
                // SAFETY: the struct was not released.
                let source = unsafe { source.as_ref() };
                assert_eq!(source.flags & READ_ONLY != 0, *read_only);
                source.dl_tensor
            }
            // SAFETY: the struct was not released.
            Object::Legacy(source) => unsafe { source.as_ref() }.dl_tensor,
        };
        assert!(description.data.is_null() == place.is_empty());
        let found = crate::handles::exports::read(&description, place);
        assert!(found == place.read(memory), "wrong elements: {place:?}");
    }
}
