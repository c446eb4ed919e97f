//! The description in a DLPack struct, true or not, and whether an importer must refuse it.

#![forbid(unsafe_code)]

use dlbridge::{DType, Device};

use crate::elements::Grid;
use crate::input::Input;

/// The most bytes that the harness allocates for the elements of a truthful description.
const MAX_BYTES: i128 = 1 << 10;

/// Numbers that a size, a stride or an offset seldom is.
const WILD: [i64; 12] = [
    -1,
    i64::MIN,
    i64::MAX,
    i64::MIN + 1,
    1 << 62,
    1 << 61,
    1 << 32,
    -(1 << 32),
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 47,
    -(1 << 56),
];

const DTYPES: [DType; 18] = [
    DType::F32,
    DType::U8,
    DType::BOOL,
    DType::I64,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::C64,
    DType::C128,
    DType::I8,
    DType::U16,
    DType::U32,
    DType { lanes: 3, ..DType::F32 },
    DType::scalar(17, 4),
    DType::scalar(1, 1),
    DType::scalar(15, 6),
    DType::scalar(3, 64),
    DType::scalar(10, 8),
];

const DEVICE_TYPES: [i32; 10] = [1, 2, 3, 11, 13, 4, 8, 0, 99, -1];

/// Where the struct says that the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Memory that the harness allocates for the elements.
    Allocated,
    Null,
    /// An address without memory.
    Address(usize),
}

/// Where the struct says that numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    There,
    Null,
    Misaligned,
}

/// The fields of a struct.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) version: (u32, u32),
    pub(crate) flags: u64,
    pub(crate) device: Device,
    pub(crate) dtype: DType,
    /// What `shape` and `strides` point to, whatever the fields say.
    pub(crate) grid: Grid,
    pub(crate) ndim: i32,
    pub(crate) shape: Numbers,
    pub(crate) strides: Numbers,
    pub(crate) data: Data,
    pub(crate) byte_offset: u64,
    pub(crate) has_deleter: bool,
}

/// What an importer has to do with a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refuse,
    Accept,
    /// Both are right.
    Either,
    /// The harness cannot make the description true.
    Untrue,
}

impl Description {
    pub(crate) fn read(input: &mut Input<'_>) -> Self {
        let rank = match input.byte() {
            255 => 70,
            byte => usize::from(byte % 6),
        };
        let mut grid = Grid::row_major((0..rank).map(|_| size(input)).collect());
        let strides = numbers(input);
        if strides == Numbers::There && input.flag() {
            grid.strides = (0..rank).map(|_| stride(input)).collect();
        }
        Self {
            version: version(input),
            flags: if input.seldom(32) { input.u64() } else { u64::from(input.byte() & 7) },
            device: device(input),
            dtype: dtype(input),
            ndim: if input.seldom(32) { -i32::from(input.byte()) - 1 } else { rank as i32 },
            grid,
            shape: numbers(input),
            strides,
            data: data(input),
            byte_offset: byte_offset(input),
            has_deleter: !input.seldom(32),
        }
    }

    /// Sizes and strides as the struct gives them: NULL strides mean row-major.
    pub(crate) fn described(&self) -> Grid {
        match self.strides {
            Numbers::Null => Grid::row_major(self.grid.shape.clone()),
            _ => self.grid.clone(),
        }
    }

    pub(crate) fn is_host(&self) -> bool {
        matches!(self.device.device_type, 1 | 3 | 11)
    }

    /// Bits that an element takes.
    pub(crate) fn stored_bits(&self) -> u32 {
        let padded = self.flags & 4 != 0 && self.dtype.bits < 8;
        u32::from(if padded { 8 } else { self.dtype.bits }) * u32::from(self.dtype.lanes)
    }

    /// Distances in bytes from the first element to the lowest byte and to the end of the highest.
    pub(crate) fn byte_extent(&self) -> Option<(i128, i128)> {
        let (low, high) = self.described().extent()?;
        let bits = i128::from(self.stored_bits());
        let first = low.saturating_mul(bits).div_euclid(8);
        let end = high.saturating_add(1).saturating_mul(bits).saturating_add(7).div_euclid(8);
        Some((first, end))
    }

    /// What an importer has to do, `versioned` or not, if the elements can be in memory.
    pub(crate) fn verdict(&self, versioned: bool) -> Verdict {
        if versioned && self.version.0 != 1 {
            return Verdict::Refuse;
        }
        let rank = self.grid.shape.len();
        let missing =
            rank > 0 && (self.shape != Numbers::There || self.strides == Numbers::Misaligned);
        let grid = self.described();
        if self.ndim < 0 || missing || grid.count().is_none() || has_no_such_width(self.dtype) {
            return Verdict::Refuse;
        }
        let extent = self.byte_extent();
        let fits = |distance: i128| i64::try_from(distance).is_ok();
        let elements = grid.extent().unwrap_or((0, 0));
        if !fits(elements.0) || !fits(elements.1) {
            return Verdict::Refuse;
        }
        let Some((low, end)) = extent else {
            // Without memory, the offset has no meaning.
            return if self.byte_offset == 0 { Verdict::Accept } else { Verdict::Either };
        };
        if self.data == Data::Null || end - low > isize::MAX as i128 {
            return Verdict::Refuse;
        }
        let Data::Address(address) = self.data else {
            return self.verdict_on_memory(end - low);
        };
        let address = address as i128 + i128::from(self.byte_offset);
        let outside = address > usize::MAX as i128 || address + end > usize::MAX as i128;
        match (self.is_host(), outside || address + low <= 0) {
            (true, true) => Verdict::Refuse,
            (true, false) => Verdict::Untrue,
            // The offset is added to an address, but not to the handle of a buffer.
            (false, _) if self.byte_offset > 0 => Verdict::Either,
            (false, _) => Verdict::Accept,
        }
    }

    /// The same for elements in memory that the harness allocates.
    fn verdict_on_memory(&self, bytes: i128) -> Verdict {
        if bytes > MAX_BYTES || self.byte_offset >= 1 << 40 {
            return Verdict::Untrue;
        }
        if self.byte_offset > 0 && !self.is_host() { Verdict::Either } else { Verdict::Accept }
    }
}

/// Whether an element of this type has no size, or one that DLPack forbids.
fn has_no_such_width(dtype: DType) -> bool {
    let expected = match dtype.code {
        7..=14 => 8,
        15 | 16 => 6,
        17 => 4,
        _ => dtype.bits,
    };
    dtype.bits == 0 || dtype.lanes == 0 || dtype.bits != expected
}

fn size(input: &mut Input<'_>) -> i64 {
    match input.byte() {
        255 => input.i64(),
        byte @ 240..255 => WILD[usize::from(byte - 240) % WILD.len()],
        byte => i64::from(byte % 8),
    }
}

fn stride(input: &mut Input<'_>) -> i64 {
    match input.byte() {
        255 => input.i64(),
        byte @ 240..255 => WILD[usize::from(byte - 240) % WILD.len()],
        byte => i64::from(byte % 24) - 8,
    }
}

fn numbers(input: &mut Input<'_>) -> Numbers {
    match input.byte() % 32 {
        31 => Numbers::Null,
        30 => Numbers::Misaligned,
        _ => Numbers::There,
    }
}

fn version(input: &mut Input<'_>) -> (u32, u32) {
    match input.byte() {
        byte @ 248.. => (u32::from(byte) * 0x0101_0101, u32::from(input.byte())),
        byte @ 240..248 => (u32::from(byte - 240), 0),
        byte => (1, u32::from(byte % 5)),
    }
}

fn device(input: &mut Input<'_>) -> Device {
    match input.byte() {
        byte @ 192.. => {
            let device_type = DEVICE_TYPES[usize::from(byte) % DEVICE_TYPES.len()];
            Device { device_type, index: i32::from(input.byte().cast_signed()) }
        }
        _ => Device::CPU,
    }
}

fn dtype(input: &mut Input<'_>) -> DType {
    match input.byte() {
        255 => {
            let (code, bits) = (input.byte(), input.byte());
            DType { code, bits, lanes: u16::from(input.byte()) }
        }
        254 => DType { code: input.byte(), bits: input.byte(), lanes: input.u16() },
        byte => DTYPES[usize::from(byte) % DTYPES.len()],
    }
}

fn data(input: &mut Input<'_>) -> Data {
    match input.byte() {
        255 => Data::Null,
        254 => Data::Address(usize::MAX - usize::from(input.byte())),
        253 => Data::Address(usize::from(input.byte()) + 1),
        252 => Data::Address((input.u64() as usize).max(1)),
        _ => Data::Allocated,
    }
}

fn byte_offset(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        255 => input.u64(),
        254 => u64::MAX - u64::from(input.byte()),
        253 => i64::MAX as u64 + u64::from(input.byte()),
        byte @ 192..253 => u64::from(byte - 192),
        _ => 0,
    }
}
