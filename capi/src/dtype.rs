//! The names of element types.

use std::ffi::c_char;
use std::io::Write;

use dlbridge::DType;
use dlbridge::ffi::DLDataType;

use crate::error::contain;
use crate::text::TextBuffer;

/// The element type of a struct.
pub(crate) fn from_dlpack(dtype: DLDataType) -> DType {
    let DLDataType { code, bits, lanes } = dtype;
    DType { code, bits, lanes }
}

/// Writes the name of an element type, as NumPy and PyTorch spell it: "float32", "bfloat16",
/// "float8_e4m3fn", with lanes "float32x4". Returns the length of the whole name in bytes, without
/// the NUL. Writes at most `size` bytes, the last of them NUL, so a result of `size` or more means
/// that the name was cut off. Writes nothing if `buffer` is NULL or `size` is 0. Every name fits
/// into 48 bytes.
///
/// Ownership: borrows `buffer`.
///
/// Example:
///
/// ```c
/// char name[48];
/// DLDataType dtype = {kDLBfloat, 16, 1};
/// size_t length = dlb_dtype_name(dtype, name, sizeof name);
/// assert(length == 8 && name[0] == 'b'); // "bfloat16"
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_dtype_name(dtype: DLDataType, buffer: *mut c_char, size: usize) -> usize {
    contain(0, || {
        let mut name = [0_u8; MAX_NAME_BYTES];
        let mut rest = name.as_mut_slice();
        if write!(rest, "{}", from_dlpack(dtype)).is_err() {
            return 0; // unreachable: every name fits, see the test
        }
        let len = MAX_NAME_BYTES - rest.len();
        // SAFETY: the caller of the C function guarantees `size` bytes at `buffer`, or NULL.
        unsafe { TextBuffer { start: buffer, size }.write(&name[..len]) };
        len
    })
}

/// Every name fits, with its NUL.
const MAX_NAME_BYTES: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(dtype: DLDataType, size: usize) -> (usize, Vec<u8>) {
        let mut buffer = vec![b'?'; size];
        let len = dlb_dtype_name(dtype, buffer.as_mut_ptr().cast(), size);
        (len, buffer)
    }

    #[test]
    fn names_are_cut_off_at_the_size() {
        let float32 = DLDataType { code: 2, bits: 32, lanes: 1 };
        assert_eq!(name(float32, 8), (7, b"float32\0".to_vec()));
        assert_eq!(name(float32, 10), (7, b"float32\0??".to_vec()));
        assert_eq!(name(float32, 7), (7, b"float3\0".to_vec()));
        assert_eq!(name(float32, 1), (7, b"\0".to_vec()));
        assert_eq!(name(float32, 0), (7, Vec::new()));
        assert_eq!(dlb_dtype_name(float32, std::ptr::null_mut(), 8), 7);
        let vector = DLDataType { lanes: 4, ..float32 };
        assert_eq!(name(vector, 10), (9, b"float32x4\0".to_vec()));
    }

    #[test]
    fn every_name_fits() {
        for code in 0..=u8::MAX {
            for bits in 0..=u8::MAX {
                let (len, _) = name(DLDataType { code, bits, lanes: u16::MAX }, 0);
                assert!((1..MAX_NAME_BYTES).contains(&len), "{code} {bits}: {len}");
            }
        }
    }
}
