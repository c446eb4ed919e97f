//! New memory of every kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlbridge::{Descriptor, Device, Tensor};
use ndarray::{Array, ArrayD, Axis, Dimension, Ix2, IxDyn, ShapeBuilder, Slice};

use super::library::Library;
use super::model::{DTYPES, Keeper, Memory, Place, State, Value, bytes_of, with_type};
use super::objects::Object;
use super::{World, layout};
use crate::elements::Grid;
use crate::input::Input;
use crate::memory::{Block, Fill};

/// The owner of memory that the harness allocated: counts that it was dropped.
struct CountedBlock {
    _block: Block,
    drops: Arc<AtomicUsize>,
}

impl Drop for CountedBlock {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// A shape of up to 27 elements.
fn shape(input: &mut Input<'_>) -> Vec<i64> {
    let rank = input.below(4);
    (0..rank).map(|_| i64::from(input.byte() % 4)).collect()
}

fn place(grid: Grid, dtype: dlbridge::DType) -> Place {
    Place { memory: 0, grid, first: 0, dtype, trusted: false }
}

impl<L: Library> World<L> {
    /// Makes memory, and the first handle to it.
    pub(super) fn create(&mut self, input: &mut Input<'_>) {
        let dtype = input.one_of(&DTYPES);
        match input.byte() % 8 {
            0 | 1 => with_type!(dtype, T => self.create_vec::<T>(input)),
            2 | 3 => with_type!(dtype, T => self.create_array::<T>(input)),
            4 => with_type!(dtype, T => self.create_shared_array::<T>(input)),
            5 => self.create_zeros(input, dtype),
            _ => self.create_block(input, dtype),
        }
    }

    fn create_vec<T: Value>(&mut self, input: &mut Input<'_>) {
        let grid = Grid::row_major(shape(input));
        let count = grid.count().expect("small") as usize;
        let start = input.byte();
        let values: Vec<T> =
            (0..count).map(|index| T::of(start.wrapping_add(index as u8))).collect();
        if input.seldom(16) {
            let too_long = values.iter().copied().chain([T::of(0)]).collect();
            let rejected = Tensor::from_vec::<T>(too_long, &grid.shape).expect_err("too long");
            assert_eq!(rejected.into_value().len(), count + 1);
        }
        let bytes = bytes_of(values.iter().copied());
        let (tensor, keeper) = if input.seldom(4) {
            (Tensor::from_slice(&values, &grid.shape).expect("memory"), Keeper::Other)
        } else {
            let tensor = Tensor::from_vec(values, &grid.shape);
            (tensor.unwrap_or_else(|error| panic!("{}", error.error())), Keeper::Vec)
        };
        let mut memory = Memory::new(bytes, tensor.data_ptr().addr(), keeper);
        (memory.copied, memory.vec_len) = (keeper == Keeper::Other, count);
        self.add_memory(memory, Object::Tensor(tensor), place(grid, T::DTYPE));
    }

    /// An array in any order, with reversed axes and gaps.
    fn create_array<T: Value>(&mut self, input: &mut Input<'_>) {
        let (array, vec_len) = array::<T>(input);
        if array.ndim() == 2 && input.flag() {
            let array = array.into_dimensionality::<Ix2>().expect("two dimensions");
            self.add_array(array, vec_len);
        } else {
            self.add_array(array, vec_len);
        }
    }

    fn add_array<T: Value, D: Dimension + 'static>(&mut self, array: Array<T, D>, vec_len: usize) {
        let (mut memory, place) = describe(&array);
        memory.vec_len = vec_len;
        self.add_memory(memory, Object::Array(Box::new(array)), place);
    }

    /// An array that is reference-counted, with or without another handle outside.
    fn create_shared_array<T: Value>(&mut self, input: &mut Input<'_>) {
        let (array, vec_len) = array::<T>(input);
        let (mut memory, place) = describe(&array);
        memory.vec_len = vec_len;
        let shared = array.into_shared();
        if input.flag() {
            memory.outside = Some(Box::new(shared.clone()));
            (memory.state, memory.keeper) = (State::ReadOnly, Keeper::Other);
        }
        self.add_memory(memory, Object::Tensor(Tensor::from(shared)), place);
    }

    fn create_zeros(&mut self, input: &mut Input<'_>, dtype: dlbridge::DType) {
        let mut place = place(Grid::row_major(shape(input)), dtype);
        if input.flag() {
            place.grid.strides.iter_mut().for_each(|stride| *stride *= 2);
        }
        let (low, high) = place.grid.extent().unwrap_or((0, -1));
        let bytes = vec![0; (high - low + 1) as usize * place.item()];
        let tensor = Tensor::zeros_with(layout(&place.grid), dtype).expect("memory");
        let mut memory = Memory::new(bytes, tensor.data_ptr().addr(), Keeper::Other);
        memory.copied = true;
        self.add_memory(memory, Object::Tensor(tensor), place);
    }

    /// Memory of the harness's own, with any strides, aligned or not.
    fn create_block(&mut self, input: &mut Input<'_>, dtype: dlbridge::DType) {
        let mut grid = Grid::row_major(shape(input));
        if input.flag() {
            grid.strides.iter_mut().for_each(|stride| *stride = i64::from(input.byte() % 8) - 3);
        }
        let mut place = Place { trusted: true, ..place(grid, dtype) };
        let (low, high) = place.grid.extent().unwrap_or((0, -1));
        let shift = if input.seldom(8) { 1 } else { 0 };
        place.first = shift + low.unsigned_abs() as usize * place.item();
        let size = shift + (high - low + 1) as usize * place.item();
        let fill = if dtype == dlbridge::DType::BOOL { Fill::Bools } else { Fill::Pattern };
        let block = Block::new(size, fill);
        let drops = Arc::new(AtomicUsize::new(0));
        let mut memory = Memory::new(block.bytes().to_vec(), block.at(0).addr(), Keeper::Other);
        memory.drops = Some(Arc::clone(&drops));
        let writable = input.flag();
        memory.state = State::Aliased { writable };
        let data = block.at(place.first.min(block.len()));
        let descriptor = Descriptor::new(data, layout(&place.grid), dtype, Device::CPU);
        let owner = CountedBlock { _block: block, drops };
        // SAFETY: the block has every element, which the harness writes through handles only, and
        // only while no Rust view lives; bools are 0 or 1.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor.expect("valid"), writable, owner) };
        self.add_memory(memory, Object::Tensor(tensor), place);
    }
}

/// An array of some order, and the number of elements in its `Vec`.
fn array<T: Value>(input: &mut Input<'_>) -> (ArrayD<T>, usize) {
    let shape: Vec<usize> = shape(input).into_iter().map(|size| size as usize).collect();
    let start = input.byte();
    let count: usize = shape.iter().product();
    let values = (0..count).map(|index| T::of(start.wrapping_add(index as u8))).collect();
    let how = input.byte();
    let shape = IxDyn(&shape).set_f(how & 1 == 1);
    let mut array = Array::from_shape_vec(shape, values).expect("as many elements");
    for axis in 0..array.ndim() {
        if how >> (axis + 1) & 1 == 1 {
            array.invert_axis(Axis(axis));
        }
        if how >> (axis + 4) & 1 == 1 && array.len_of(Axis(axis)) > 1 {
            array.slice_axis_inplace(Axis(axis), Slice::new(1, None, 1));
        }
    }
    (array, count)
}

/// What an array's memory holds from its lowest element to its highest, and where its elements are.
fn describe<T: Value, D: Dimension>(array: &Array<T, D>) -> (Memory, Place) {
    let grid = Grid {
        shape: array.shape().iter().map(|&size| size as i64).collect(),
        strides: array.strides().iter().map(|&stride| stride as i64).collect(),
    };
    let mut place = place(grid, T::DTYPE);
    let (low, high) = place.grid.extent().unwrap_or((0, -1));
    place.first = low.unsigned_abs() as usize * size_of::<T>();
    let mut bytes = vec![0; (high - low + 1) as usize * size_of::<T>()];
    for (&value, position) in array.iter().zip(place.positions()) {
        let element = bytes_of([value]);
        bytes[position..position + element.len()].copy_from_slice(&element);
    }
    let base = array.as_ptr().addr().wrapping_sub(place.first);
    (Memory::new(bytes, base, Keeper::Array), place)
}
