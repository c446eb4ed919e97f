//! The copy engine against an element loop: any two layouts of one shape, with poisoned gaps.

use dlbridge::{DType, Descriptor, Device, Error, Layout, MemoryFormat, Tensor};
use num_complex::Complex;

use crate::elements::Grid;
use crate::input::Input;
use crate::memory::{Block, Fill};
use crate::poison::{poison_except, unpoison};

/// Element types of whole bytes: all units that the engine has, and items that are none.
const DTYPES: [DType; 14] = [
    DType::U8,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::C128,
    DType::BOOL,
    DType { lanes: 3, ..DType::U8 },
    DType { lanes: 5, ..DType::U8 },
    DType { lanes: 3, ..DType::F16 },
    DType { lanes: 3, ..DType::F32 },
    DType { lanes: 7, ..DType::U16 },
    DType { lanes: 4, ..DType::F64 },
    DType { lanes: 100, ..DType::U8 },
    DType { lanes: 2, ..DType::scalar(17, 4) },
];

/// Element types below a byte, which are packed unless the description says otherwise.
const NARROW: [DType; 4] =
    [DType::scalar(17, 4), DType::scalar(1, 1), DType::scalar(15, 6), DType::scalar(0, 3)];

const FORMATS: [MemoryFormat; 4] = [
    MemoryFormat::Preserve,
    MemoryFormat::Contiguous,
    MemoryFormat::ChannelsLast,
    MemoryFormat::ChannelsLast3d,
];

/// Number of bytes of all elements at most: mostly what one kernel call moves, at times more than
/// the size from which several threads share a copy.
fn limit(input: &Input<'_>) -> usize {
    match input {
        _ if input.is_one_in(1 << 14) => 3 << 20,
        _ if input.is_one_in(1 << 9) => 48 << 10,
        _ if input.is_one_in(1 << 5) => 8 << 10,
        _ => 640,
    }
}

/// Decodes a copy and compares it with an element loop.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.seldom(16) {
        return packed(&mut input);
    }
    let limit = limit(&input);
    let dtype = input.one_of(&DTYPES);
    let item = dtype.itemsize().expect("whole bytes");
    let shape = shape(&mut input, limit / item);
    let source = Grid { strides: strides(&mut input, &shape, true), shape: shape.clone() };
    let target = Grid { strides: strides(&mut input, &shape, false), shape };
    let is_small = |grid: &Grid| {
        grid.extent().is_none_or(|(low, high)| high - low < (4 * limit / item) as i128)
    };
    if is_small(&source) && is_small(&target) {
        let case = Case::new(&mut input, dtype, source, target);
        case.check_copy_into(&mut input);
        case.check_clone(&mut input);
        case.check_vec();
    }
}

/// A shape of up to `limit` elements.
fn shape(input: &mut Input<'_>, limit: usize) -> Vec<i64> {
    let rank = input.below(7);
    let mut shape = Vec::with_capacity(rank);
    let mut room = limit.max(1) as i64;
    for _ in 0..rank {
        let size = match input.byte() {
            255 => 0,
            byte @ 224..255 => i64::from(byte - 223) * 33,
            byte @ 192..224 => i64::from(byte - 191) * 4,
            byte => i64::from(byte % 24) + 1,
        };
        let size = size.min(room);
        room /= size.max(1);
        shape.push(size);
    }
    // What is large is large in one dimension.
    if limit > 1 << 16 && rank > 0 && room > 1 {
        shape[input.below(rank)] *= room;
    }
    shape
}

/// Strides with gaps, padding, reversed and (in a source) broadcast dimensions, in any order; or
/// any small numbers.
fn strides(input: &mut Input<'_>, shape: &[i64], is_source: bool) -> Vec<i64> {
    let rank = shape.len();
    if input.seldom(8) {
        return (0..rank).map(|_| i64::from(input.byte().cast_signed())).collect();
    }
    let mut order: Vec<usize> = (0..rank).rev().collect();
    if input.flag() {
        (1..rank).for_each(|place| order.swap(place, input.below(place + 1)));
    }
    let mut strides = vec![0; rank];
    let mut next = 1_i64;
    for dimension in order {
        let how = input.byte();
        if is_source && how & 7 == 7 {
            continue;
        }
        let gap = if how & 8 != 0 { i64::from(how & 3) + 1 } else { 1 };
        let padding = if how & 16 != 0 { i64::from(how >> 5) * 3 } else { 0 };
        let stride = next * gap;
        strides[dimension] = if how & 0x60 == 0x60 { -stride } else { stride };
        next = stride * shape[dimension].max(1) + padding;
    }
    strides
}

/// One side of a copy.
struct Side {
    grid: Grid,
    offsets: Vec<i64>,
    /// Position of the first element in its block, in bytes.
    first: usize,
}

impl Side {
    fn new(grid: Grid) -> Self {
        Self { offsets: grid.offsets(), grid, first: 0 }
    }

    /// Puts the lowest element at a position; returns the end of the highest.
    fn place(&mut self, lowest: usize, item: usize) -> usize {
        let (low, high) = self.grid.extent().unwrap_or((0, -1));
        self.first = lowest + low.unsigned_abs() as usize * item;
        lowest + (high - low + 1) as usize * item
    }

    /// The positions of the elements in the block, in bytes.
    fn positions(&self, item: usize) -> impl Iterator<Item = usize> {
        let position =
            move |&offset: &i64| self.first.wrapping_add_signed(offset as isize * item as isize);
        self.offsets.iter().map(position)
    }

    fn lowest(&self, item: usize) -> usize {
        let low = self.grid.extent().map_or(0, |(low, _)| low);
        self.first - low.unsigned_abs() as usize * item
    }

    fn end(&self, item: usize) -> usize {
        let high = self.grid.extent().map_or(-1, |(_, high)| high);
        self.first.wrapping_add_signed((high + 1) as isize * item as isize)
    }
}

/// Two layouts of one shape, in memory of their own or in one block.
struct Case {
    dtype: DType,
    item: usize,
    source: Side,
    target: Side,
    source_block: Block,
    /// `None` if both sides are in `source_block`.
    target_block: Option<Block>,
}

impl Case {
    fn new(input: &mut Input<'_>, dtype: DType, source: Grid, target: Grid) -> Self {
        let item = dtype.itemsize().expect("whole bytes");
        let (mut source, mut target) = (Side::new(source), Side::new(target));
        let shifts = [input.below(72), input.below(72)];
        let fill = if dtype == DType::BOOL { Fill::Bools } else { Fill::Pattern };
        if input.seldom(8) {
            // One block: apart, or one in the other.
            let source_end = source.place(shifts[0], item);
            let lowest = if input.flag() { source_end + shifts[1] } else { shifts[1] };
            let end = target.place(lowest, item).max(source_end);
            let source_block = Block::new(end, fill);
            return Self { dtype, item, source, target, source_block, target_block: None };
        }
        let source_block = Block::new(source.place(shifts[0], item), fill);
        let target_block = Some(Block::new(target.place(shifts[1], item), Fill::Value(0xee)));
        Self { dtype, item, source, target, source_block, target_block }
    }

    fn target_block(&self) -> &Block {
        self.target_block.as_ref().unwrap_or(&self.source_block)
    }

    fn tensor(&self, block: &Block, side: &Side, writable: bool) -> Option<Tensor> {
        let layout = Layout::new(&side.grid.shape, &side.grid.strides).ok()?;
        let data = block.at(side.first.min(block.len()));
        let descriptor = Descriptor::new(data, layout, self.dtype, Device::CPU).ok()?;
        // SAFETY: the block has every element, outlives the tensor, and is written by no one else;
        // in a block of bools all bytes are 0 or 1.
        Some(unsafe { Tensor::from_raw_parts(descriptor, writable, ()) })
    }

    fn source_tensor(&self) -> Tensor {
        self.tensor(&self.source_block, &self.source, false).expect("a valid layout")
    }

    fn poison(&self) {
        let item = self.item;
        let [source, target] = [&self.source, &self.target]
            .map(|side| side.positions(item).map(move |position| position..position + item));
        match &self.target_block {
            Some(block) => {
                poison_except(&self.source_block, source);
                poison_except(block, target);
            }
            None => poison_except(&self.source_block, source.chain(target)),
        }
    }

    fn unpoison(&self) {
        unpoison(&self.source_block);
        unpoison(self.target_block());
    }

    fn check_copy_into(&self, input: &mut Input<'_>) {
        let writable = !input.seldom(16);
        let before = self.target_block().bytes().to_vec();
        let mut expected = before.clone();
        for (from, to) in self.source.positions(self.item).zip(self.target.positions(self.item)) {
            let element = &self.source_block.bytes()[from..from + self.item];
            expected[to..to + self.item].copy_from_slice(element);
        }
        let source = self.source_tensor();
        let target = self.tensor(self.target_block(), &self.target, writable).expect("valid");
        self.poison();
        let copied = if input.seldom(4) {
            // SAFETY: no other code uses the target's memory, of which there are no views.
            unsafe { source.copy_into_new_unchecked(&target) }
        } else {
            // SAFETY: no other code uses the target's memory, of which there are no views.
            unsafe { source.copy_into_unchecked(&target) }
        };
        self.unpoison();
        let after = self.target_block().bytes();
        match copied {
            Ok(()) => {
                assert!(writable, "wrote to read-only memory");
                assert!(!self.target.grid.repeats(), "wrote an element twice");
                assert!(!self.sides_overlap(), "the sides overlap");
                assert!(after == expected, "wrong elements, or a gap was written");
            }
            Err(error) => {
                self.check_refusal(&error, writable);
                assert!(after == before, "a refused copy wrote something");
            }
        }
    }

    fn sides_overlap(&self) -> bool {
        let [source, target] =
            [&self.source, &self.target].map(|side| side.lowest(self.item)..side.end(self.item));
        self.target_block.is_none() && source.start < target.end && target.start < source.end
    }

    fn check_refusal(&self, error: &Error, writable: bool) {
        let _formatted = (error.to_string(), format!("{error:?}"));
        match error {
            Error::ReadOnly { .. } => assert!(!writable, "{error}"),
            Error::SelfOverlap { .. } => {
                let layout = Layout::new(&self.target.grid.shape, &self.target.grid.strides);
                assert!(layout.expect("valid").overlaps(), "{error}");
            }
            Error::CopyOverlaps => assert!(self.sides_overlap(), "{error}"),
            _ => panic!("{error}"),
        }
    }

    fn check_clone(&self, input: &mut Input<'_>) {
        let format = input.one_of(&FORMATS);
        let source = self.source_tensor();
        self.poison();
        let clone = source.deep_clone_with(format);
        self.unpoison();
        let rank = self.source.grid.shape.len();
        let expected_rank = match format {
            MemoryFormat::ChannelsLast => 4,
            MemoryFormat::ChannelsLast3d => 5,
            _ => rank,
        };
        let clone = match clone {
            Ok(clone) => clone,
            Err(Error::RankMismatch { expected, found })
                if (expected, found) == (expected_rank, rank) =>
            {
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(rank, expected_rank);
        assert_eq!(clone.shape(), self.source.grid.shape);
        assert_eq!(clone.nbytes(), self.source.offsets.len() * self.item);
        assert_eq!(clone.descriptor().span().1, clone.nbytes(), "a gap in {:?}", clone.layout());
        assert!(format != MemoryFormat::Contiguous || clone.is_contiguous());
        let grid = Grid { shape: clone.shape().to_vec(), strides: clone.strides().to_vec() };
        let start = clone.data_ptr().cast::<u8>().cast_const();
        for (from, to) in self.source.positions(self.item).zip(grid.offsets()) {
            // SAFETY: an element of the clone, if the layout is right, which AddressSanitizer sees.
            let element = unsafe { start.offset(to as isize * self.item as isize) };
            // SAFETY: `element` is the address of `item` bytes of the clone, which is alive.
            let element = unsafe { std::slice::from_raw_parts(element, self.item) };
            assert!(element == &self.source_block.bytes()[from..from + self.item], "wrong element");
        }
    }

    fn check_vec(&self) {
        match self.dtype {
            DType::U8 => self.check_vec_of::<u8>(),
            DType::F16 => self.check_mismatch::<u16>(),
            DType::F32 => self.check_vec_of::<f32>(),
            DType::F64 => self.check_vec_of::<f64>(),
            DType::C128 => self.check_vec_of::<Complex<f64>>(),
            _ => self.check_mismatch::<u8>(),
        }
    }

    fn check_vec_of<T: dlbridge::Element>(&self) {
        let source = self.source_tensor();
        self.poison();
        let vec = source.to_vec::<T>();
        self.unpoison();
        let vec = vec.expect("host memory of this type");
        // SAFETY: numbers have no padding.
        let bytes =
            unsafe { std::slice::from_raw_parts(vec.as_ptr().cast::<u8>(), size_of_val(&*vec)) };
        let elements = self.source.positions(self.item);
        let expected = elements.flat_map(|from| &self.source_block.bytes()[from..from + self.item]);
        assert!(bytes.iter().eq(expected), "wrong elements");
    }

    fn check_mismatch<T: dlbridge::Element>(&self) {
        let error = self.source_tensor().to_vec::<T>().expect_err("another element type");
        assert_eq!(error, Error::DTypeMismatch { expected: T::DTYPE, found: self.dtype });
    }
}

/// Elements below a byte: a copy moves whole bytes between contiguous tensors, and is refused
/// between others.
fn packed(input: &mut Input<'_>) {
    let dtype = input.one_of(&NARROW);
    let count = i64::from(input.byte());
    let strides = [if input.flag() { 1 } else { i64::from(input.byte() % 4) }, 1];
    let blocks = strides.map(|stride| {
        let bits = (count - 1).max(0) * stride * i64::from(dtype.bits) + i64::from(dtype.bits);
        let bytes = if count == 0 { 0 } else { (bits as usize).div_ceil(8) };
        Block::new(bytes, if stride == 1 { Fill::Pattern } else { Fill::Value(0) })
    });
    let tensors = [0, 1].map(|side| {
        let layout = Layout::new(&[count], &[strides[side]]).expect("small");
        let descriptor = Descriptor::new(blocks[side].at(0), layout, dtype, Device::CPU);
        // SAFETY: the block has every bit of every element, and outlives the tensor.
        unsafe { Tensor::from_raw_parts(descriptor.expect("small"), true, ()) }
    });
    let [source, target] = &tensors;
    let bytes = source.nbytes();
    assert_eq!(bytes, (count as usize * usize::from(dtype.bits)).div_ceil(8));
    // SAFETY: no other code uses the target's memory, of which there are no views.
    let copied = unsafe { source.copy_into_unchecked(target) };
    let clone = source.deep_clone();
    if !source.is_contiguous() {
        assert!(matches!(copied, Err(Error::UnsupportedDType { .. })), "{copied:?}");
        assert!(matches!(clone, Err(Error::UnsupportedDType { .. })), "{clone:?}");
        return;
    }
    copied.expect("contiguous");
    assert_eq!(blocks[1].bytes()[..bytes], blocks[0].bytes()[..bytes]);
    let clone = clone.expect("contiguous");
    if bytes > 0 {
        let start = clone.data_ptr().cast::<u8>();
        // SAFETY: the clone has as many bytes as its source.
        let cloned = unsafe { std::slice::from_raw_parts(start, bytes) };
        assert_eq!(cloned, &blocks[0].bytes()[..bytes]);
    }
}
