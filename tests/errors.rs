//! Every error, provoked through public functions where a test can, and its text on the page
//! `docs/errors.md`.

use std::path::Path;
use std::ptr::{NonNull, without_provenance_mut};

use dlbridge::{ArrayExt, DType, Descriptor, Device, Error, Layout, Remedy, Tensor};
use errors_page::{Lines, compare};
use ndarray::{Ix1, Ix2, array};

#[path = "support/errors_page.rs"]
mod errors_page;

fn vector() -> Tensor {
    Tensor::from_vec(vec![1.0_f32, 2.0], [2]).expect("two elements")
}

/// A tensor of memory that no code reads: its address is made up.
fn foreign(address: usize, layout: Layout, dtype: DType, device: Device) -> Tensor {
    let data = without_provenance_mut(address);
    let descriptor = Descriptor::new(data, layout, dtype, device).expect("valid");
    // SAFETY: the tests below read no element.
    unsafe { Tensor::from_raw_parts(descriptor, true, ()) }
}

fn contiguous(shape: &[i64]) -> Layout {
    Layout::contiguous(shape).expect("small")
}

fn of_another_version() -> Error {
    let source = vector().into_dlpack().into_raw();
    // SAFETY: the struct was exported above, and no other code has it.
    unsafe { (*source.as_ptr()).version.major = 2 };
    // SAFETY: the struct was exported by this function, and no other code has it. The import reads
    // the version first, and nothing else of a struct of another version.
    let rejected = unsafe { Tensor::from_dlpack(source) }.expect_err("of another version");
    let (exported, error) = rejected.into_parts();
    let source = exported.into_raw();
    // SAFETY: the struct came back inside the error.
    unsafe { (*source.as_ptr()).version.major = 1 };
    // SAFETY: the struct is as it was exported, and is consumed here.
    drop(unsafe { Tensor::from_dlpack(source) }.expect("valid"));
    error
}

/// Errors of descriptions and elements.
fn of_values() -> Vec<(&'static str, Error)> {
    let unknown = DType::scalar(99, 8);
    let zeros =
        |shape: &[i64], dtype| Tensor::zeros_with(Layout::contiguous(shape).expect("small"), dtype);
    let two = [2_u8];
    let data = NonNull::from(&two).as_ptr().cast();
    let bools = Descriptor::new(data, contiguous(&[1]), DType::BOOL, Device::CPU).expect("valid");
    // SAFETY: the array outlives the tensor, and nothing writes it.
    let bools = unsafe { Tensor::from_raw_parts(bools, false, ()) };
    let far = zeros(&[1 << 62], DType::F64).expect_err("too far");
    vec![
        ("UnsupportedVersion", of_another_version()),
        ("InvalidDescriptor", Layout::contiguous([2, -1]).expect_err("negative")),
        ("InvalidDescriptor", Layout::new(&[2, 3], &[1]).expect_err("another rank")),
        ("Overflow", Layout::contiguous([1_i64 << 62, 8]).expect_err("too large")),
        ("Overflow", far),
        ("DTypeMismatch", vector().as_slice::<f64>().expect_err("another type")),
        ("UnsupportedDType", zeros(&[2], unknown).expect_err("no such type")),
        ("InvalidBool", bools.to_vec::<bool>().expect_err("neither 0 nor 1")),
        ("OutOfMemory", zeros(&[1 << 62], DType::U8).expect_err("too large")),
    ]
}

/// Errors of devices.
fn of_devices() -> Vec<(&'static str, Error)> {
    let device = Device::cuda(0);
    let near = foreign(0x1000, contiguous(&[2]), DType::F32, device);
    let mut errors = vec![
        ("UnsupportedDevice", vector().to_device(Device::METAL).expect_err("never copied to")),
        ("NotOnCpu", near.to_vec::<f32>().expect_err("not on the host")),
        // What the machine says differs.
        (
            "CudaUnavailable",
            Error::CudaUnavailable { device, reason: "the driver has no device".into() },
        ),
        (
            "Cuda",
            Error::Cuda {
                call: "cuMemcpyHtoDAsync_v2",
                code: 700,
                message: "CUDA_ERROR_ILLEGAL_ADDRESS, an illegal memory access was encountered"
                    .into(),
            },
        ),
    ];
    if cfg!(not(feature = "cuda")) {
        errors.push(("CudaNotEnabled", vector().to_device(device).expect_err("no CUDA")));
    }
    errors
}

/// Errors of shapes, strides and addresses.
fn of_layouts() -> Vec<(&'static str, Error)> {
    let mut three = Tensor::zeros::<f32>([3]).expect("small");
    let transposed = array![[1.0_f32, 2.0], [3.0, 4.0]].reversed_axes().into_tensor();
    let broadcast = Layout::new(&[2, 3], &[0, 1]).expect("small");
    let broadcast = foreign(0x1000, broadcast, DType::F32, Device::CPU);
    // SAFETY: the test reads and writes no element.
    let mut broadcast = unsafe { broadcast.assume_exclusive() }.expect("the only handle");
    let odd = foreign(0x1001, contiguous(&[2]), DType::F32, Device::CPU);
    let deep = Tensor::zeros::<f32>([1; 65]).expect("small");
    let aliased = vector().into_aliased().expect("the only handle");
    // SAFETY: only this thread uses the memory.
    let overlapping = unsafe { aliased.copy_into_unchecked(&aliased.share()) };
    let short = Tensor::from_vec(vec![1_u8; 5], [2, 3]).expect_err("one is missing");
    let rows = || Tensor::zeros::<f32>([2, 3]).expect("small");
    let flat = rows().transpose(0, 1).expect("swapped").reshape([6]).expect_err("needs a copy");
    let beyond = rows().as_strided([7], [1], 0).expect_err("one too many");
    vec![
        ("OutOfRange", rows().transpose(0, 2).expect_err("two dimensions").into_error()),
        ("OutOfRange", rows().select(1, 3).expect_err("three columns").into_error()),
        (
            "OutOfRange",
            vector().slice(0, 2, 2, 1).expect("none").select(0, 0).expect_err("none").into_error(),
        ),
        ("InvalidView", rows().expand([4, 3]).expect_err("two rows").into_error()),
        ("InvalidView", flat.into_error()),
        ("InvalidView", beyond.into_error()),
        ("RankMismatch", vector().as_ndarray::<f32, Ix2>().expect_err("a vector")),
        ("TooManyDimensions", deep.to_list().expect_err("too deep")),
        ("ShapeMismatch", vector().copy_into(&mut three).expect_err("another shape")),
        ("LengthMismatch", short.into_error()),
        ("NotContiguous", transposed.as_slice::<f32>().expect_err("transposed")),
        ("SelfOverlap", broadcast.as_slice_mut::<f32>().expect_err("rows are the same")),
        ("CopyOverlaps", overlapping.expect_err("the same memory")),
        ("Misaligned", odd.as_slice::<f32>().expect_err("an odd address")),
    ]
}

/// Errors of other owners of the memory.
fn of_owners() -> Vec<(&'static str, Error)> {
    // SAFETY: the test does not write the memory.
    let mut read_only = unsafe { vector().assume_read_only() }.expect("the only handle");
    let aliased = vector().into_aliased().expect("the only handle");
    let mut shared = vector();
    let other = shared.share();
    let not_unique = shared.as_slice_mut::<f32>().expect_err("not alone");
    drop(other);
    let of_other_code = || {
        let tensor = foreign(0x1000, contiguous(&[2]), DType::F32, Device::CPU);
        // SAFETY: the test reads and writes no element.
        unsafe { tensor.assume_exclusive() }.expect("the only handle")
    };
    let array = of_other_code().into_ndarray::<f32, Ix1>().expect("a view").into_array();
    vec![
        ("ReadOnly", read_only.as_slice_mut::<f32>().expect_err("read-only")),
        ("ReadOnly", read_only.share_dlpack_legacy().map(drop).expect_err("read-only")),
        ("NotUnique", not_unique),
        ("Aliased", aliased.as_slice::<f32>().expect_err("may be written")),
        ("NotOriginal", of_other_code().into_vec::<f32>().expect_err("no Vec").into_error()),
        ("NotOriginal", array.expect_err("no Array").into_error()),
    ]
}

#[cfg(feature = "torch")]
fn of_libtorch() -> Vec<(&'static str, Error)> {
    use dlbridge::TorchExt;
    use tch::{Device::Cpu, Kind};

    let backwards = array![1.0_f32, 2.0].slice_move(ndarray::s![..;-1]).into_tensor();
    // SAFETY: the test does not write the memory.
    let read_only = unsafe { vector().assume_read_only() }.expect("the only handle");
    let refused = |tensor: tch::Tensor| tensor.into_tensor().expect_err("refused").into_error();
    let matrix = || tch::Tensor::zeros([2, 2], (Kind::Float, Cpu));
    let complex = tch::Tensor::zeros([2], (Kind::ComplexFloat, Cpu)).conj();
    let quantized = matrix().quantize_per_tensor(1.0, 0, Kind::QInt8);
    let (cloned, viewed, exported) = (matrix(), matrix(), matrix());
    let _clone = cloned.shallow_clone();
    let view = viewed.view([4]);
    let _struct = exported.share_dlpack().expect("shared");
    drop(viewed);
    let base = matrix();
    let part = base.narrow(0, 0, 1);
    let result = vec![
        ("NegativeStride", backwards.into_torch().expect_err("backwards").into_error()),
        ("ReadOnly (libtorch)", read_only.into_torch().expect_err("read-only").into_error()),
        ("NotPlainTensor", refused(tch::Tensor::new())),
        ("NotPlainTensor", refused(matrix().to_sparse_csr(None))),
        ("NotPlainTensor", refused(quantized)),
        ("NotPlainTensor", refused(complex.imag())),
        ("NotPlainTensor", refused(complex)),
        ("NotPlainTensor", refused(matrix().set_requires_grad(true))),
        ("NotPlainTensor", refused(matrix().internal_lazy_clone())),
        ("TorchNotExclusive", refused(cloned)),
        ("TorchNotExclusive", refused(part)),
        ("TorchNotExclusive", refused(exported)),
        ("Libtorch", Error::Libtorch("what the C++ exception says".into())),
    ];
    drop((view, base));
    result
}

#[test]
fn the_page_has_the_texts_of_rust() {
    #[cfg_attr(not(feature = "torch"), expect(unused_mut, reason = "libtorch adds its own"))]
    let mut errors = [of_values(), of_devices(), of_layouts(), of_owners()].concat();
    #[cfg(feature = "torch")]
    errors.extend(of_libtorch());
    let knows_all = cfg!(all(feature = "torch", not(feature = "cuda")));
    let lines = if knows_all { Lines::All } else { Lines::Some };
    for (key, error) in &errors {
        let name = key.split(' ').next().expect("a word");
        assert!(format!("{error:?}").starts_with(name), "{key}: {error:?}");
    }
    let texts: Vec<_> =
        errors.iter().map(|(key, error)| ((*key).to_owned(), error.to_string())).collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    compare(&page, "Rust", &texts, lines);
}

#[test]
fn the_page_has_a_section_for_every_variant() {
    let page = include_str!("../docs/errors.md");
    let (_, variants) = include_str!("../src/error.rs").split_once("pub enum Error {").expect("it");
    let (variants, _) = variants.split_once("\n}\n").expect("its end");
    let names: Vec<_> = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|letter: char| letter.is_ascii_uppercase()))
        .filter_map(|line| line.split([' ', ',', '(']).next())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("\n### {name}\n")), "docs/errors.md has no {name}");
    }
}

#[test]
fn facts_name_no_function_and_remedies_are_words_of_rust() {
    let errors = [of_values(), of_devices(), of_layouts(), of_owners()].concat();
    for (_, error) in errors {
        assert!(!error.fact().to_string().contains("()"), "{error}");
    }
    for remedy in Remedy::ALL {
        let words = remedy.to_string();
        for foreign in ["dlb_", "Tensor.", "dlbridge::cpu", ".numpy"] {
            assert!(!words.is_empty() && !words.contains(foreign), "{words}");
        }
    }
}

/// Python's module is tested from Python, which cannot list remedies.
#[test]
fn every_remedy_has_words_in_python() {
    let (_, table) = include_str!("../pyo3/src/error.rs").split_once("fn words(").expect("it");
    let (table, _) = table.split_once("\n}\n").expect("its end");
    for remedy in Remedy::ALL {
        let name = format!("Remedy::{remedy:?}");
        let is_listed = |after: &str| !after.starts_with(|next: char| next.is_alphanumeric());
        assert!(table.split(&name).skip(1).any(is_listed), "pyo3/src/error.rs has no {name}");
    }
    for foreign in ["dlb_", "deep_clone", "to_vec", "assume_"] {
        assert!(!table.contains(foreign), "{foreign}");
    }
}
