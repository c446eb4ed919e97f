//! Tensors of every kind: one for each dispatch key, tensors of tch's `internal_` functions that
//! differ from ordinary ones, and tensors that only C++ code can make.

use dlbridge_benches::{dispatch_keys, hostile, with_key};
use tch::kind::{FLOAT_CPU, INT64_CPU};
use tch::{Device, Kind, Tensor};

type Make = Box<dyn Fn() -> Option<Tensor>>;

/// How to make a tensor, and what conversions must do with it.
pub(crate) struct Source {
    pub(crate) name: String,
    /// A part of the error of conversions that share or move; `None` if they must succeed.
    refusal: Option<String>,
    /// Whether conversions that copy must succeed.
    copies: bool,
    whole: Make,
    window: Make,
}

impl Source {
    fn without_window(self) -> Self {
        Self { window: Box::new(|| None), ..self }
    }

    /// The tensor, or a window of it that begins in the middle; `None` if libtorch refuses.
    pub(crate) fn make(&self, window: bool) -> Option<Tensor> {
        if window { (self.window)() } else { (self.whole)() }
    }

    /// A part of the error that a conversion must give; `None` if it must succeed.
    pub(crate) fn refusal_of(&self, conversion: &str) -> Option<&str> {
        if conversion.starts_with("to_") && self.copies { None } else { self.refusal.as_deref() }
    }
}

pub(crate) fn all() -> Vec<Source> {
    let mut sources: Vec<Source> = (0..dispatch_keys()).map(key).collect();
    sources.extend(ordinary());
    sources.extend(lazy());
    sources.extend(sparse());
    sources.extend(quantized_and_nested());
    sources.extend(without_memory());
    sources.extend(from_cpp());
    sources
}

/// A tensor with one dispatch key beside those of an ordinary tensor.
fn key(index: i32) -> Source {
    let (_, name) = with_key(index, false);
    let refusal = match name.as_str() {
        "CPU"
        | "Dense"
        | "ADInplaceOrView"
        | "AutogradFunctionality"
        | "AutocastCPU"
        | "AutocastCUDA" => None,
        "CUDA" => Some("CPU and CUDA at once"),
        "Quantized" => Some("is quantized"),
        "Sparse" | "SparseCsr" | "MkldnnCPU" => Some("has the layout"),
        "NestedTensor" | "AutogradNestedTensor" => Some("is nested"),
        "Conjugate" => Some("conjugate bit"),
        "Negative" => Some("negative bit"),
        "ZeroTensor" => Some("zero tensor"),
        "Meta" => Some("device meta"),
        other => Some(other),
    };
    Source {
        refusal: refusal.map(str::to_owned),
        copies: matches!(name.as_str(), "Conjugate" | "Negative" | "ZeroTensor"),
        name: format!("key {name}"),
        whole: Box::new(move || Some(with_key(index, false).0)),
        window: Box::new(move || Some(with_key(index, true).0)),
    }
}

/// A source whose window libtorch makes, if it can: rows 1 and 2, columns 1 and 2.
fn source(name: &str, refusal: Option<&str>, copies: bool, make: fn() -> Option<Tensor>) -> Source {
    Source {
        name: name.to_owned(),
        refusal: refusal.map(str::to_owned),
        copies,
        whole: Box::new(make),
        window: Box::new(move || {
            let mut tensor = make()?;
            for dimension in 0..i64::try_from(tensor.dim()).ok()? {
                tensor = tensor.f_narrow(dimension, 1, 2).ok()?;
            }
            Some(tensor)
        }),
    }
}

/// The numbers from 0 to 11, 3 by 4.
fn plain() -> Tensor {
    Tensor::arange(12, FLOAT_CPU).reshape([3, 4])
}

fn complex() -> Tensor {
    Tensor::complex(&plain(), &plain())
}

/// Tensors that look odd but are plain: conversions must give their values.
fn ordinary() -> Vec<Source> {
    let ordinary = |name, make| source(name, None, true, make);
    vec![
        ordinary("plain", || Some(plain())),
        ordinary("complex", || Some(complex())),
        ordinary("transposed", || Some(plain().tr())),
        ordinary("detached", || Some(plain().set_requires_grad(true).detach())),
        // A view of it is held by two of autograd's records, which is refused as shared.
        ordinary("fw_primal", || plain().f_internal_fw_primal(0).ok()).without_window(),
        ordinary("reshape_alias", || plain().f_internal_reshape_alias([3, 4], [4, 1]).ok()),
        ordinary("unsafe_view", || plain().f_internal_unsafe_view([4, 3]).ok()),
        ordinary("view of a test", || {
            plain().f_internal_test_autograd_multiple_dispatch_view().ok()
        }),
        ordinary("conj_copy", || complex().f_internal_conj_copy().ok()),
        ordinary("conj_physical", || complex().f_internal_conj_physical().ok()),
        ordinary("neg_view_copy", || plain().f_internal_neg_view_copy().ok()),
        ordinary("reshape_copy", || plain().f_internal_reshape_copy([4, 3]).ok()),
        ordinary("to_copy", || plain().f_internal_to_copy(FLOAT_CPU, false).ok()),
        ordinary("to_dense", || sparse_coo()?.f_internal_to_dense(None, false).ok()),
        ordinary("cast_double", || plain().f_internal_cast_double(false).ok()),
        ordinary("stack", || Tensor::f_internal_stack(&[plain(), plain()], 0).ok()),
        ordinary("full precision", || {
            plain().f_internal_autocast_to_full_precision(false, true).ok()
        }),
        ordinary("same feature meta", || {
            plain().f_internal_new_zeros_with_same_feature_meta(&plain(), 0).ok()
        }),
        ordinary("values of a sparse one", || sparse_coo()?.f_internal_values().ok()),
        ordinary("indices of a sparse one", || sparse_coo()?.f_internal_indices().ok()),
        ordinary("inference", || hostile("inference")),
    ]
}

/// Tensors that libtorch computes when they are read: only copies can be made.
fn lazy() -> Vec<Source> {
    vec![
        source("requires grad", Some("requires grad"), true, || {
            Some(plain().set_requires_grad(true))
        }),
        source("result with a graph", Some("requires grad"), true, || {
            Some(plain().set_requires_grad(true) * 2)
        }),
        source("conj", Some("conjugate bit"), true, || complex().f_internal_conj().ok()),
        source("neg_view", Some("negative bit"), true, || plain().f_internal_neg_view().ok()),
        source("imaginary part of conj", Some("negative bit"), true, || {
            complex().f_internal_conj().ok()?.f_imag().ok()
        }),
        source("lazy_clone", Some("lazy clone"), true, || plain().f_internal_lazy_clone().ok()),
        source("batched", Some("Batched"), false, || plain().f_internal_add_batch_dim(0, 1).ok()),
        source("functional", Some("Functionalize"), false, || hostile("functional")),
    ]
}

fn sparse_coo() -> Option<Tensor> {
    plain().f_to_sparse_sparse_dim(2).ok()
}

fn sparse() -> Vec<Source> {
    let sparse = |name, layout, make| source(name, Some(layout), false, make);
    vec![
        sparse("to_sparse", "sparse_coo", || {
            plain().f_internal_to_sparse(None, None::<i64>, None).ok()
        }),
        sparse("to_sparse_sparse_dim", "sparse_coo", || {
            plain().f_internal_to_sparse_sparse_dim(1).ok()
        }),
        sparse("to_sparse_csr", "sparse_csr", || plain().f_internal_to_sparse_csr(None).ok()),
        sparse("to_sparse_csc", "sparse_csc", || plain().f_internal_to_sparse_csc(None).ok()),
        sparse("to_sparse_bsr", "sparse_bsr", || {
            plain().f_internal_to_sparse_bsr([1, 2], None).ok()
        }),
        sparse("to_sparse_bsc", "sparse_bsc", || {
            plain().f_internal_to_sparse_bsc([1, 2], None).ok()
        }),
        sparse("sparse_coo_tensor_unsafe", "sparse_coo", || {
            let indices = Tensor::zeros([2, 3], INT64_CPU);
            let values = Tensor::ones([3], FLOAT_CPU);
            Tensor::f_internal_sparse_coo_tensor_unsafe(&indices, &values, [3, 4], FLOAT_CPU, false)
                .ok()
        }),
        sparse("coalesced", "sparse_coo", || sparse_coo()?.f_internal_coalesced(true).ok()),
        sparse("sparse_broadcast_to", "sparse_coo", || {
            sparse_coo()?.f_internal_sparse_broadcast_to([2, 3, 4]).ok()
        }),
        sparse("spdiags", "sparse_coo", || {
            let offsets = Tensor::from_slice(&[0_i64, 1, 2]);
            Tensor::f_internal_spdiags(&plain(), &offsets, [4, 4], None).ok()
        }),
        sparse("to_mkldnn", "mkldnn", || plain().f_to_mkldnn(None).ok()),
        sparse("mkldnn_transpose", "mkldnn", || {
            plain().f_to_mkldnn(None).ok()?.f_internal_mkldnn_transpose(0, 1).ok()
        }),
    ]
}

fn quantized_and_nested() -> Vec<Source> {
    let quantized = |name, make| source(name, Some("is quantized"), false, make);
    let nested = |name, make| source(name, Some("is nested"), false, make);
    vec![
        quantized("quantize_per_tensor", || {
            plain().f_quantize_per_tensor(0.5, 0, Kind::QInt8).ok()
        }),
        quantized("empty_affine_quantized", || {
            let options = (Kind::QInt8, Device::Cpu);
            Tensor::f_internal_empty_affine_quantized([3, 4], options, 0.5, 0).ok()
        }),
        quantized("empty_per_channel_affine_quantized", || {
            let (scales, zeros) = per_channel();
            let options = (Kind::QInt8, Device::Cpu);
            Tensor::f_internal_empty_per_channel_affine_quantized(
                [3, 4],
                &scales,
                &zeros,
                0,
                options,
            )
            .ok()
        }),
        quantized("make_per_tensor_quantized_tensor", || {
            levels_of_u8().f_internal_make_per_tensor_quantized_tensor(0.5, 0).ok()
        }),
        quantized("make_per_channel_quantized_tensor", || {
            let (scales, zeros) = per_channel();
            levels_of_u8().f_internal_make_per_channel_quantized_tensor(&scales, &zeros, 0).ok()
        }),
        nested("nested_from_padded", || {
            let sizes = Tensor::from_slice(&[4_i64, 2]).reshape([2, 1]);
            let padded = plain().f_narrow(0, 0, 2).ok()?.f_contiguous().ok()?;
            Tensor::f_internal_nested_from_padded(&padded, &sizes, false).ok()
        }),
        nested("nested_view_from_buffer", || {
            let sizes = Tensor::from_slice(&[4_i64, 2]).reshape([2, 1]);
            let (strides, offsets) =
                (Tensor::ones([2, 1], INT64_CPU), Tensor::from_slice(&[0_i64, 4]));
            plain()
                .f_flatten(0, -1)
                .ok()?
                .f_internal_nested_view_from_buffer(&sizes, &strides, &offsets)
                .ok()
        }),
        nested("nested", || hostile("nested")),
    ]
}

fn per_channel() -> (Tensor, Tensor) {
    (Tensor::ones([3], (Kind::Double, Device::Cpu)), Tensor::zeros([3], INT64_CPU))
}

fn levels_of_u8() -> Tensor {
    plain().to_kind(Kind::Uint8)
}

/// Tensors whose sizes do not describe memory.
fn without_memory() -> Vec<Source> {
    let mut huge = source("huge zero tensor", Some("zero tensor"), true, || None);
    huge.window = Box::new(|| {
        let zeros = Tensor::f_internal_efficientzerotensor([1 << 46], FLOAT_CPU).ok()?;
        zeros.f_narrow(0, 1 << 45, 4).ok()
    });
    let beyond = |name, reason, make| source(name, Some(reason), false, make).without_window();
    vec![
        huge,
        source("efficientzerotensor", Some("zero tensor"), true, || {
            Tensor::f_internal_efficientzerotensor([3, 4], FLOAT_CPU).ok()
        }),
        source("conjugated zero tensor", Some("zero tensor"), true, || {
            let options = (Kind::ComplexFloat, Device::Cpu);
            Tensor::f_internal_efficientzerotensor([3, 4], options).ok()?.f_internal_conj().ok()
        }),
        beyond("beyond the storage", "beyond its storage", || {
            plain().f_internal_reshape_alias([1 << 28, 4], [4, 1]).ok()
        }),
        beyond("a count of bytes that wraps to 0", "too large", || {
            plain().f_internal_reshape_alias([1 << 62], [1]).ok()
        }),
        beyond("negative offset", "negative", || hostile("negative_offset")),
        beyond("no writes", "refuses access", || hostile("no_writes")),
    ]
}

/// Tensors for which tch has no function.
fn from_cpp() -> Vec<Source> {
    let names = [
        ("undefined", "is undefined"),
        ("meta", "device meta"),
        ("int4", "an element type that DLPack does not have"),
        ("bits8", "an element type that DLPack does not have"),
        ("short_storage", "beyond its storage"),
        ("no_memory", "no memory"),
        ("no_access", "refuses access"),
    ];
    let made = |(name, refusal): (&'static str, &str)| Source {
        name: name.to_owned(),
        refusal: Some(refusal.to_owned()),
        copies: false,
        whole: Box::new(move || hostile(name)),
        window: Box::new(move || hostile(name)?.f_slice(0, 2, 3, 1).ok()),
    };
    names.into_iter().map(made).collect()
}
