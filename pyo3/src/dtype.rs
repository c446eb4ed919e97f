//! Element types by the names and codes that Python's libraries use.

#![forbid(unsafe_code)]

use std::ffi::CStr;

use dlbridge::DType;

/// Types that NumPy has only with the package ml_dtypes. There, an element of less than a byte is
/// padded to a byte.
const ML_DTYPES: [DType; 19] = [
    DType::BF16,
    DType::scalar(5, 32),
    DType::scalar(7, 8),
    DType::scalar(8, 8),
    DType::scalar(9, 8),
    DType::scalar(10, 8),
    DType::scalar(11, 8),
    DType::scalar(12, 8),
    DType::scalar(13, 8),
    DType::scalar(14, 8),
    DType::scalar(15, 6),
    DType::scalar(16, 6),
    DType::scalar(17, 4),
    DType::scalar(0, 1),
    DType::scalar(0, 2),
    DType::scalar(0, 4),
    DType::scalar(1, 1),
    DType::scalar(1, 2),
    DType::scalar(1, 4),
];

/// The type of ml_dtypes with this name, for example `bfloat16`.
pub(crate) fn from_ml_dtypes(name: &str) -> Option<DType> {
    ML_DTYPES.into_iter().find(|dtype| dtype.to_string() == name)
}

/// The type with this name, as `DType` writes it; `None` if DLPack defines no such type.
pub(crate) fn from_name(name: &str) -> Option<DType> {
    let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let code = match kind {
        "bool" => 6,
        "int" => 0,
        "uint" => 1,
        "float" => 2,
        "bfloat" => 4,
        "complex" => 5,
        "bcomplex" => 18,
        _ => return from_ml_dtypes(name),
    };
    let bits = if kind == name { 8 } else { name[kind.len()..].parse().ok()? };
    let dtype = DType::scalar(code, bits);
    (dtype.is_known() && dtype.to_string() == name).then_some(dtype)
}

/// Whether ml_dtypes has the type.
pub(crate) fn is_ml_dtypes(dtype: DType) -> bool {
    ML_DTYPES.contains(&dtype)
}

/// The type of a kind (a letter, as in NumPy's `dtype.kind`) and a size in bytes.
pub(crate) fn from_kind(kind: u8, itemsize: usize) -> Option<DType> {
    Some(match (kind, itemsize) {
        (b'b', 1) => DType::BOOL,
        (b'i', 1) => DType::I8,
        (b'i', 2) => DType::I16,
        (b'i', 4) => DType::I32,
        (b'i', 8) => DType::I64,
        (b'u', 1) => DType::U8,
        (b'u', 2) => DType::U16,
        (b'u', 4) => DType::U32,
        (b'u', 8) => DType::U64,
        (b'f', 2) => DType::F16,
        (b'f', 4) => DType::F32,
        (b'f', 8) => DType::F64,
        (b'c', 8) => DType::C64,
        (b'c', 16) => DType::C128,
        _ => return None,
    })
}

/// The type of a format of the buffer protocol, which are those of the `struct` module. The byte
/// order must be the machine's.
pub(crate) fn from_format(format: &[u8], itemsize: usize) -> Option<DType> {
    let code = match format {
        [b'@' | b'=', code @ ..] => code,
        [b'<', code @ ..] if cfg!(target_endian = "little") || itemsize == 1 => code,
        [b'>' | b'!', code @ ..] if cfg!(target_endian = "big") || itemsize == 1 => code,
        code => code,
    };
    let (kind, size) = match code {
        b"?" => (b'b', 1),
        b"b" => (b'i', 1),
        b"B" | b"c" => (b'u', 1),
        b"h" => (b'i', 2),
        b"H" => (b'u', 2),
        b"i" => (b'i', 4),
        b"I" => (b'u', 4),
        b"q" => (b'i', 8),
        b"Q" => (b'u', 8),
        // The size depends on the platform, and on the prefix.
        b"l" | b"n" => (b'i', itemsize),
        b"L" | b"N" => (b'u', itemsize),
        b"e" => (b'f', 2),
        b"f" => (b'f', 4),
        b"d" => (b'f', 8),
        b"Zf" => (b'c', 8),
        b"Zd" => (b'c', 16),
        _ => return None,
    };
    if size == itemsize { from_kind(kind, size) } else { None }
}

/// The format of a type in the buffer protocol; `None` if it has none.
pub(crate) fn format(dtype: DType) -> Option<&'static CStr> {
    Some(match dtype {
        DType::BOOL => c"?",
        DType::I8 => c"b",
        DType::I16 => c"h",
        DType::I32 => c"i",
        DType::I64 => c"q",
        DType::U8 => c"B",
        DType::U16 => c"H",
        DType::U32 => c"I",
        DType::U64 => c"Q",
        DType::F16 => c"e",
        DType::F32 => c"f",
        DType::F64 => c"d",
        DType::C64 => c"Zf",
        DType::C128 => c"Zd",
        _ => return None,
    })
}
