//! One element of a tensor as a value.

use dlbridge::{DType, Scalar};
use half::{bf16, f16};
use num_complex::Complex;

/// Reads an element, which need not be aligned.
pub(super) type ReadElement = unsafe fn(*const u8) -> Scalar;

/// The function that reads elements of a type; `None` for types of which Python has no numbers.
///
/// # Safety of the function
/// * An element of the type can be read at the address.
pub(super) fn reader(dtype: DType) -> Option<ReadElement> {
    macro_rules! read {
        ($type:ty) => {
            // SAFETY: an element must be readable at the address, as the contract of `ReadElement`
            // says.
            |at| Scalar::from(unsafe { at.cast::<$type>().read_unaligned() })
        };
    }
    Some(match dtype {
        // Every byte but 0 is true, as for NumPy.
        // SAFETY: a byte must be readable at the address, as the contract of `ReadElement` says.
        DType::BOOL => |at| Scalar::Bool(unsafe { at.read() } != 0),
        DType::U8 => read!(u8),
        DType::U16 => read!(u16),
        DType::U32 => read!(u32),
        DType::U64 => read!(u64),
        DType::I8 => read!(i8),
        DType::I16 => read!(i16),
        DType::I32 => read!(i32),
        DType::I64 => read!(i64),
        DType::F16 => read!(f16),
        DType::BF16 => read!(bf16),
        DType::F32 => read!(f32),
        DType::F64 => read!(f64),
        DType::C64 => read!(Complex<f32>),
        DType::C128 => read!(Complex<f64>),
        _ => return None,
    })
}
