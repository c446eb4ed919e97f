//! The model: the elements in each memory, and what each handle to it may do.

#![forbid(unsafe_code)]

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlbridge::{Access, DType, Element};
use num_complex::Complex;

use crate::elements::Grid;

/// The element types of the interpreter.
pub(crate) const DTYPES: [DType; 5] = [DType::F32, DType::U8, DType::BOOL, DType::I16, DType::C128];

/// Repeats an expression with a name for the Rust type of an element type of [`DTYPES`].
macro_rules! with_type {
    ($dtype:expr, $type:ident => $repeated:expr) => {
        match $dtype {
            dlbridge::DType::F32 => {
                type $type = f32;
                $repeated
            }
            dlbridge::DType::U8 => {
                type $type = u8;
                $repeated
            }
            dlbridge::DType::BOOL => {
                type $type = bool;
                $repeated
            }
            dlbridge::DType::I16 => {
                type $type = i16;
                $repeated
            }
            _ => {
                type $type = num_complex::Complex<f64>;
                $repeated
            }
        }
    };
}
pub(crate) use with_type;

/// An element that a byte stands for.
pub(crate) trait Value: Element {
    fn of(byte: u8) -> Self;
    /// Appends the bytes that the element has in memory.
    fn put(self, bytes: &mut Vec<u8>);
}

macro_rules! values {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn of(byte: u8) -> Self {
                <$type>::from(byte)
            }
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_ne_bytes());
            }
        }
    )*};
}

values!(f32, u8, i16);

impl Value for bool {
    fn of(byte: u8) -> Self {
        byte & 1 == 1
    }

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }
}

impl Value for Complex<f64> {
    fn of(byte: u8) -> Self {
        Self::new(f64::from(byte), -1.0)
    }

    fn put(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.re.to_ne_bytes());
        bytes.extend_from_slice(&self.im.to_ne_bytes());
    }
}

/// The bytes that some elements have in memory.
pub(crate) fn bytes_of<T: Value>(values: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    values.into_iter().for_each(|value| value.put(&mut bytes));
    bytes
}

/// What is known of memory, as [`Access`] without the trust in a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Exclusive,
    ReadOnly,
    Aliased { writable: bool },
}

/// The owner of memory, if the interpreter can get it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    Vec,
    Array,
    Other,
}

/// Memory that handles share.
pub(crate) struct Memory {
    /// The bytes in it.
    pub(crate) bytes: Vec<u8>,
    /// Its address.
    pub(crate) base: usize,
    pub(crate) state: State,
    pub(crate) keeper: Keeper,
    /// Number of elements in the `Vec` of the keeper, if it has one.
    pub(crate) vec_len: usize,
    /// Whether dlbridge made it for a copy.
    pub(crate) copied: bool,
    /// Number of handles.
    pub(crate) handles: usize,
    /// How often the owner was dropped, if the owner counts that.
    pub(crate) drops: Option<Arc<AtomicUsize>>,
    /// Another owner, outside of dlbridge, which only keeps the memory.
    pub(crate) outside: Option<Box<dyn Any>>,
}

impl Memory {
    pub(crate) fn new(bytes: Vec<u8>, base: usize, keeper: Keeper) -> Self {
        Self {
            bytes,
            base,
            state: State::Exclusive,
            keeper,
            vec_len: 0,
            copied: false,
            handles: 0,
            drops: None,
            outside: None,
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.state, State::ReadOnly | State::Aliased { writable: false })
    }

    /// Whether the only handle may write.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.state == State::Exclusive && self.handles == 1
    }

    pub(crate) fn access(&self, trusted: bool) -> Access {
        match self.state {
            State::Exclusive => Access::Exclusive,
            State::ReadOnly => Access::ReadOnly,
            State::Aliased { writable } => Access::Aliased { writable, trusted },
        }
    }

    /// The owner is dropped once, and only when there are no more handles.
    pub(crate) fn check_drops(&self) {
        if let Some(drops) = &self.drops {
            let expected = usize::from(self.handles == 0);
            assert_eq!(drops.load(Ordering::SeqCst), expected, "{} handles", self.handles);
        }
    }
}

/// Which elements of which memory a handle has.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Index of the memory.
    pub(crate) memory: usize,
    pub(crate) grid: Grid,
    /// Position of the first element in the memory, in bytes.
    pub(crate) first: usize,
    pub(crate) dtype: DType,
    pub(crate) trusted: bool,
}

impl Place {
    pub(crate) fn item(&self) -> usize {
        self.dtype.itemsize().expect("whole bytes")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.grid.shape.contains(&0)
    }

    /// The positions of the elements in the memory, in bytes.
    pub(crate) fn positions(&self) -> Vec<usize> {
        let item = self.item() as isize;
        let offsets = self.grid.offsets().into_iter();
        offsets.map(|offset| self.first.wrapping_add_signed(offset as isize * item)).collect()
    }

    /// The bytes of the elements in row-major order.
    pub(crate) fn read(&self, memory: &Memory) -> Vec<u8> {
        let item = self.item();
        let positions = self.positions().into_iter();
        positions.flat_map(|position| &memory.bytes[position..position + item]).copied().collect()
    }

    /// Writes one element, counted in row-major order.
    pub(crate) fn write(&self, memory: &mut Memory, index: usize, value: u8) {
        let position = self.positions()[index];
        let mut bytes = Vec::new();
        with_type!(self.dtype, T => T::of(value).put(&mut bytes));
        memory.bytes[position..position + bytes.len()].copy_from_slice(&bytes);
    }

    /// Whether the first element is aligned, if there is one.
    pub(crate) fn is_aligned(&self, memory: &Memory) -> bool {
        let align = with_type!(self.dtype, T => align_of::<T>());
        self.is_empty() || (memory.base + self.first).is_multiple_of(align)
    }

    /// Whether the elements are contiguous in row-major order.
    pub(crate) fn is_contiguous(&self) -> bool {
        let dense = Grid::row_major(self.grid.shape.clone());
        self.grid.offsets() == dense.offsets()
    }

    /// Whether the elements are contiguous in the order of strides that are not negative.
    pub(crate) fn is_permuted(&self) -> bool {
        let mut positions = self.positions();
        positions.sort_unstable();
        let dense = positions.windows(2).all(|pair| pair[0] + self.item() == pair[1]);
        let mut dims = self.grid.shape.iter().zip(&self.grid.strides);
        dense && (self.is_empty() || dims.all(|(&size, &stride)| size == 1 || stride >= 0))
    }

    /// Whether strides are equal in dimensions with several elements.
    pub(crate) fn has_strides(&self, strides: &[i64]) -> bool {
        let mut pairs = self.grid.shape.iter().zip(self.grid.strides.iter().zip(strides));
        self.is_empty() || pairs.all(|(&size, (one, other))| size <= 1 || one == other)
    }
}
