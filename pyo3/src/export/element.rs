//! One element of a tensor as a value.

use dlbridge::{DType, Scalar};
use half::{bf16, f16};
use num_complex::Complex;

/// A conversion of elements to another type.
pub(super) trait Convert {
    type Context;
    type Output;

    fn convert(context: Self::Context, element: Scalar) -> Self::Output;
}

/// Reads an element, which need not be aligned, and converts it.
pub(super) type ReadElement<C> =
    unsafe fn(<C as Convert>::Context, *const u8) -> <C as Convert>::Output;

/// The function that reads elements of a type; `None` for types of which Python has no numbers. It
/// may be called with an address at which such an element can be read.
pub(super) fn reader<C: Convert>(dtype: DType) -> Option<ReadElement<C>> {
    macro_rules! read {
        ($type:ty) => {
            |context, at| {
                // SAFETY: an element must be readable at the address, as each caller of a
                // `ReadElement` guarantees.
                let element = unsafe { at.cast::<$type>().read_unaligned() };
                C::convert(context, Scalar::from(element))
            }
        };
    }
    Some(match dtype {
        DType::BOOL => |context, at| {
            // SAFETY: an element must be readable at the address, as each caller of a `ReadElement`
            // guarantees.
            let byte = unsafe { at.read() };
            // Like NumPy, this takes every byte but 0 as true.
            C::convert(context, Scalar::Bool(byte != 0))
        },
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
