//! Sequences of safe calls on `Tensor`, `NdArray`, `Array` and `Exported`, against a model.
//!
//! The interpreter keeps a few handles. Each byte sequence makes handles, uses them, and drops
//! them. The model knows what each memory holds, how many handles it has, and what is known of it;
//! so it says which calls succeed, and what every handle sees: only the elements that a call writes
//! change, and each owner is dropped once, with the last handle.
//!
//! Calls of unsafe functions satisfy the contracts of the functions.

mod arrays;
mod create;
pub(crate) mod exports;
pub(crate) mod library;
pub(crate) mod model;
mod objects;
mod tensors;

use dlbridge::{Layout, Tensor};

use crate::elements::Grid;
use crate::input::Input;
use library::{Library, Nothing};
use model::{Keeper, Memory, Place, bytes_of, with_type};
use objects::Object;

/// More handles make executions slow.
const MAX_HANDLES: usize = 8;
const MAX_STEPS: usize = 40;

/// Decodes a sequence of calls and makes them.
pub(crate) fn run(data: &[u8]) {
    run_with::<Nothing>(data);
}

/// The same with another library.
pub(crate) fn run_with<L: Library>(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::<L> { memories: Vec::new(), handles: Vec::new(), is_changed: false };
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
        world.check_drops();
    }
    world.check_all();
    while !world.handles.is_empty() {
        let handle = world.handles.swap_remove(input.below(world.handles.len()));
        world.release(handle);
        world.check_drops();
    }
}

/// One owner of some memory.
struct Handle<L: Library> {
    object: Object<L>,
    place: Place,
}

/// The handles, and the model of their memory.
struct World<L: Library> {
    memories: Vec<Memory>,
    handles: Vec<Handle<L>>,
    /// Whether the last step wrote elements.
    is_changed: bool,
}

impl<L: Library> World<L> {
    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        let wants_more = op < 80 && self.handles.len() < MAX_HANDLES;
        if wants_more || self.handles.is_empty() {
            self.create(input);
        } else {
            let Handle { object, place } =
                self.handles.swap_remove(input.below(self.handles.len()));
            match object {
                Object::Tensor(tensor) => self.step_tensor(input, tensor, place),
                Object::NdArray(array) => self.step_ndarray(input, array, place),
                Object::Array(array) => self.step_array(input, array, place),
                Object::Exported(exported) => self.step_exported(input, exported, place),
                Object::Legacy(exported) => self.step_legacy(exported, place),
                Object::Other(tensor) => self.step_other(input, tensor, place),
            }
        }
        if std::mem::take(&mut self.is_changed) {
            self.check_all();
        } else if let Some(handle) = self.handles.last() {
            self.check(handle);
        }
    }

    fn memory(&mut self, place: &Place) -> &mut Memory {
        &mut self.memories[place.memory]
    }

    /// Puts back a handle that was taken out of the list, perhaps as another object.
    fn put(&mut self, object: Object<L>, place: Place) {
        self.handles.push(Handle { object, place });
    }

    /// One more handle to the same memory.
    fn add(&mut self, object: Object<L>, place: Place) {
        self.memory(&place).handles += 1;
        self.put(object, place);
    }

    /// The first handle to new memory.
    fn add_memory(&mut self, memory: Memory, object: Object<L>, mut place: Place) {
        place.memory = self.memories.len();
        self.memories.push(memory);
        self.add(object, place);
    }

    /// A tensor in memory of its own, with the elements of `source`.
    fn add_copy(&mut self, tensor: Tensor, source: &Place) {
        let (grid, base) = (grid_of(&tensor), tensor.data_ptr().addr());
        self.add_copied(Object::Tensor(tensor), (grid, base), source);
    }

    /// A handle to memory that dlbridge made, of a dense layout, with the elements of `source`.
    fn add_copied(&mut self, object: Object<L>, (grid, base): (Grid, usize), source: &Place) {
        let expected = source.read(&self.memories[source.memory]);
        let place = Place { grid, first: 0, trusted: false, ..source.clone() };
        let mut bytes = vec![0; expected.len()];
        let item = place.item();
        for (element, position) in expected.chunks(item).zip(place.positions()) {
            bytes[position..position + item].copy_from_slice(element);
        }
        let mut memory = Memory::new(bytes, base, Keeper::Other);
        memory.copied = true;
        self.add_memory(memory, object, place);
    }

    /// Drops a handle that was taken out of the list.
    fn release(&mut self, handle: Handle<L>) {
        let Handle { object, place } = handle;
        self.memory(&place).handles -= 1;
        drop(object);
        self.forget_if_unused(&place);
    }

    /// The owner outside lives as long as a handle does.
    fn forget_if_unused(&mut self, place: &Place) {
        let memory = self.memory(place);
        if memory.handles == 0 {
            memory.outside = None;
        }
    }

    /// Writes an element in the model.
    fn write(&mut self, place: &Place, index: usize, value: u8) {
        place.write(&mut self.memories[place.memory], index, value);
        self.is_changed = true;
    }

    /// Whether a Rust view of the memory may be alive.
    fn has_view(&self, memory: usize) -> bool {
        let is_view = |handle: &Handle<L>| {
            handle.place.memory == memory && matches!(handle.object, Object::NdArray(_))
        };
        self.handles.iter().any(is_view)
    }

    fn check_drops(&self) {
        self.memories.iter().for_each(Memory::check_drops);
    }

    fn check_all(&self) {
        self.handles.iter().for_each(|handle| self.check(handle));
    }

    /// Compares a handle with the model.
    fn check(&self, handle: &Handle<L>) {
        let place = &handle.place;
        let expected = place.read(&self.memories[place.memory]);
        let found = match &handle.object {
            Object::Tensor(tensor) => self.read_tensor(tensor, place),
            Object::NdArray(array) => {
                assert!(self.read_tensor(array.tensor(), place) == expected);
                array.read()
            }
            Object::Array(array) => array.read(),
            Object::Exported(exported) => {
                // SAFETY: dlbridge made the struct, and no code has released it yet.
                exports::read(unsafe { &exported.as_ptr().as_ref().dl_tensor }, place)
            }
            Object::Legacy(exported) => {
                // SAFETY: dlbridge made the struct, and no code has released it yet.
                exports::read(unsafe { &exported.as_ptr().as_ref().dl_tensor }, place)
            }
            Object::Other(tensor) => L::read(tensor),
        };
        assert!(found == expected, "wrong elements: {place:?}");
    }

    /// Compares a tensor with the model, all but the elements, which it gives.
    fn read_tensor(&self, tensor: &Tensor, place: &Place) -> Vec<u8> {
        let memory = &self.memories[place.memory];
        assert_eq!(tensor.shape(), place.grid.shape);
        assert!(place.has_strides(tensor.strides()), "{tensor:?} {place:?}");
        assert_eq!(tensor.dtype(), place.dtype);
        assert_eq!(tensor.access(), memory.access(place.trusted));
        assert_eq!(tensor.is_unique(), memory.handles == 1);
        if !place.is_empty() {
            assert_eq!(tensor.data_ptr().addr(), memory.base + place.first);
        }
        with_type!(place.dtype, T => bytes_of(tensor.to_vec::<T>().expect("on the host")))
    }
}

fn grid_of(tensor: &Tensor) -> Grid {
    Grid { shape: tensor.shape().to_vec(), strides: tensor.strides().to_vec() }
}

/// The layout of a grid, which is small.
fn layout(grid: &Grid) -> Layout {
    Layout::new(&grid.shape, &grid.strides).expect("small")
}
