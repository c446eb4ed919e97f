//! Tensors as text, compared with NumPy's.

use dlbridge::{DType, Descriptor, Device, Element, Layout, Tensor};
use half::{bf16, f16};
use num_complex::Complex;

/// The arrays of `tests/display/numpy_str.py`, and what NumPy 2.4 prints for each.
const NUMPY: &str = include_str!("display/numpy_str.txt");

/// One array, and its text.
struct Case<'a> {
    dtype: &'a str,
    shape: Vec<i64>,
    content: &'a str,
    text: String,
}

fn cases(file: &str) -> Vec<Case<'_>> {
    let mut cases = Vec::<Case>::new();
    for line in file.lines() {
        if let Some(array) = line.strip_prefix("# ") {
            let [dtype, shape, content] = array.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let shape = shape.split(',').filter_map(|size| size.parse().ok()).collect();
            cases.push(Case { dtype, shape, content, text: String::new() });
        } else if let (Some(case), Some(text)) = (cases.last_mut(), line.strip_prefix('|')) {
            let separator = if case.text.is_empty() { "" } else { "\n" };
            case.text += separator;
            case.text += text;
        }
    }
    cases
}

/// A tensor of these numbers.
fn tensor(case: &Case) -> Tensor {
    fn counting<T: Element>(case: &Case, number: impl Fn(usize) -> T) -> Tensor {
        let len = case.shape.iter().product::<i64>() as usize;
        Tensor::from_vec((0..len).map(number).collect(), &case.shape).expect("it fits")
    }
    if case.content == "arange" {
        return match case.dtype {
            "bool" => counting(case, |number| number != 0),
            "uint8" => counting(case, |number| number as u8),
            "int16" => counting(case, |number| number as i16),
            "int32" => counting(case, |number| number as i32),
            "int64" => counting(case, |number| number as i64),
            "float16" => counting(case, |number| f16::from_f64(number as f64)),
            "float32" => counting(case, |number| number as f32),
            "float64" => counting(case, |number| number as f64),
            "complex64" => counting(case, |number| Complex::new(number as f32, 0.0)),
            "complex128" => counting(case, |number| Complex::new(number as f64, 0.0)),
            dtype => panic!("{dtype}"),
        };
    }
    let mut bytes: Vec<u8> = (0..case.content.len() / 2)
        .map(|index| u8::from_str_radix(&case.content[2 * index..][..2], 16).expect("two digits"))
        .collect();
    let dtype = [
        DType::BOOL,
        DType::U8,
        DType::U16,
        DType::U64,
        DType::I8,
        DType::I64,
        DType::F16,
        DType::F32,
        DType::F64,
        DType::C64,
        DType::C128,
    ];
    let dtype = dtype.into_iter().find(|dtype| dtype.to_string() == case.dtype).expect("known");
    if cfg!(target_endian = "big") {
        let parts = if matches!(dtype, DType::C64 | DType::C128) { 2 } else { 1 };
        for number in bytes.chunks_mut(dtype.itemsize().expect("whole bytes") / parts) {
            number.reverse();
        }
    }
    let packed = Tensor::from_bytes_owner(Aligned::new(bytes), dtype, &case.shape, 0);
    packed.expect("it fits")
}

/// Bytes that begin at an address which suits every element type.
struct Aligned {
    numbers: Vec<u128>,
    len: usize,
}

impl Aligned {
    fn new(bytes: Vec<u8>) -> Self {
        let chunks = bytes.chunks(16).map(|chunk| {
            let mut number = [0; 16];
            number[..chunk.len()].copy_from_slice(chunk);
            u128::from_ne_bytes(number)
        });
        Self { numbers: chunks.collect(), len: bytes.len() }
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: every bit pattern is a valid `u8`.
        let (_, bytes, _) = unsafe { self.numbers.align_to() };
        &bytes[..self.len]
    }
}

#[test]
fn texts_are_those_of_numpy() {
    let other = std::env::var("DLBRIDGE_NUMPY_STR");
    let file = other
        .map_or_else(|_| NUMPY.to_owned(), |path| std::fs::read_to_string(path).expect("a file"));
    let cases = cases(&file);
    assert!(cases.len() > 250, "{}", cases.len());
    let mut different = 0;
    for case in &cases {
        let (ours, numpys) = (tensor(case).to_string(), &case.text);
        if ours != *numpys {
            different += 1;
            eprintln!("# {} {:?} {}\n{numpys}\n{ours}", case.dtype, case.shape, case.content);
        }
    }
    assert_eq!(different, 0, "of {}", cases.len());
}

#[test]
fn layouts_do_not_matter() {
    let rows = Tensor::from_vec((0..6_i32).collect(), (2, 3)).expect("it fits");
    let mut columns =
        Tensor::zeros_with(Layout::new(&[2, 3], &[1, -2]).expect("small"), DType::I32)
            .expect("memory");
    rows.copy_into(&mut columns).expect("the same shape");
    assert_eq!(columns.to_string(), "[[0 1 2]\n [3 4 5]]");
    let text = Tensor::from_vec((0..2000_i32).collect(), (40, 50)).expect("it fits").to_string();
    let mut columns =
        Tensor::zeros_with(Layout::new(&[40, 50], &[-1, 40]).expect("small"), DType::I32)
            .expect("memory");
    Tensor::from_vec((0..2000_i32).collect(), (40, 50))
        .expect("it fits")
        .copy_into(&mut columns)
        .expect("the same shape");
    assert_eq!(columns.to_string(), text);
}

#[test]
fn the_precision_of_the_format_is_that_of_numpy() {
    let thirds = Tensor::from_vec(vec![1.0 / 3.0, 2.0 / 3.0, 1.0], [3]).expect("it fits");
    assert_eq!(format!("{thirds:.3}"), "[0.333 0.667 1.   ]");
    assert_eq!(format!("{thirds:.0}"), "[0. 1. 1.]");
    assert_eq!(
        format!("{thirds:.20}"),
        "[0.3333333333333333 0.6666666666666666 1.                ]"
    );
    let large = Tensor::from_vec(vec![1e20 / 3.0], [1]).expect("it fits");
    assert_eq!(format!("{large:.2}"), "[3.33e+19]");
    let complex =
        Tensor::from_vec(vec![Complex::new(1.0_f32 / 3.0, -2.0 / 3.0)], [1]).expect("it fits");
    assert_eq!(format!("{complex:.1}"), "[0.3-0.7j]");
}

#[test]
fn bfloat16_is_printed_as_float16_is() {
    let text = |values: &[f32]| {
        let values: Vec<_> = values.iter().copied().map(bf16::from_f32).collect();
        Tensor::from_slice(&values, [values.len()]).expect("it fits").to_string()
    };
    assert_eq!(text(&[0.1, 1.0]), "[0.1 1. ]");
    assert_eq!(text(&[128.0, 1.5]), "[128.    1.5]");
    assert_eq!(text(&[1024.0]), "[1.024e+03]");
    let single = Tensor::from_vec(vec![bf16::from_f32(0.1)], ()).expect("one element");
    assert_eq!(single.to_string(), "0.1");
}

/// The memory of the elements that are not printed does not exist.
#[test]
fn only_the_elements_that_are_printed_are_read() {
    let mut ends = [1_u8, 2, 3, 0, 7, 8, 9];
    let size = 1_i64 << 40;
    // Index 0 is the first of `ends`, and the last index the last of them, in the other dimension.
    let layout = Layout::new(&[size, 7], &[0, 1]).expect("broadcast");
    let described = Descriptor::new(ends.as_mut_ptr().cast(), layout, DType::U8, Device::CPU);
    // SAFETY: the tensor is dropped before the array, which is not written.
    let broadcast = unsafe { Tensor::from_raw_parts(described.expect("valid"), false, ()) };
    let row = "[1 2 3 ... 7 8 9]";
    let (rows, last) = (format!("{row}\n ").repeat(3), format!("{row}\n {row}\n {row}"));
    assert_eq!(broadcast.to_string(), format!("[{rows}...\n {last}]"));
    // A byte between the ends is no bool, which would be an error if it were read.
    let mut flags = vec![1_u8; 2000];
    flags[1000] = 7;
    let flags = Tensor::from_bytes_owner(flags, DType::BOOL, [2000], 0).expect("it fits");
    assert_eq!(flags.to_string(), "[ True  True  True ...  True  True  True]");
}

#[test]
fn what_cannot_be_printed_is_described() {
    let describe = |tensor: &Tensor, text: &str| {
        assert_eq!(tensor.to_string(), text);
        assert_eq!(format!("{tensor:?}"), text);
    };
    let flags = Tensor::from_bytes_owner([0_u8, 7], DType::BOOL, [2], 0).expect("it fits");
    describe(&flags, "Tensor(..., shape=[2], dtype=bool, device=cpu)");
    let float8 = Tensor::from_bytes_owner([0_u8; 2], DType::scalar(10, 8), [1, 2], 0);
    describe(
        &float8.expect("it fits"),
        "Tensor(..., shape=[1, 2], dtype=float8_e4m3fn, device=cpu)",
    );
    let aliased = Tensor::zeros::<f32>([2]).expect("memory").into_aliased().expect("alone");
    describe(&aliased, "Tensor(..., shape=[2], dtype=float32, device=cpu)");
    let (data, shape) = (std::ptr::without_provenance_mut(0x1000), [2_i64, 3]);
    let layout = Layout::contiguous(shape).expect("small");
    let described = Descriptor::new(data, layout, DType::F32, Device::cuda(1)).expect("valid");
    // SAFETY: host code does not read memory of a device.
    let device = unsafe { Tensor::from_raw_parts(described, false, ()) };
    describe(&device, "Tensor(..., shape=[2, 3], dtype=float32, device=cuda:1)");
    // More elements than can be printed, although no dimension is long.
    let layout = Layout::new(&[2; 40], &[0; 40]).expect("broadcast");
    let mut element = 1_u8;
    let described = Descriptor::new((&raw mut element).cast(), layout, DType::U8, Device::CPU);
    // SAFETY: the tensor is dropped before the element, which is not written.
    let broadcast = unsafe { Tensor::from_raw_parts(described.expect("valid"), false, ()) };
    assert!(broadcast.to_string().starts_with("Tensor(..., shape=[2, 2, "));
    let deep = Tensor::from_vec(vec![1_u8], vec![1; 65]).expect("one element");
    assert!(deep.to_string().starts_with("Tensor(..., shape=[1, 1, "));
    let deep = Tensor::from_vec(vec![1_u8], vec![1; 64]).expect("one element");
    assert_eq!(deep.to_string(), format!("{}1{}", "[".repeat(64), "]".repeat(64)));
}
