//! libtorch: NumPy and PyTorch's conversions, every dtype and layout both ways, and who owns the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dlbridge::{
    Access, ArrayExt, ArrayTorchExt, DType, Descriptor, Device, Element, Error, Layout, Tensor, TorchExt,
};
use half::{bf16, f16};
use ndarray::{Array2, Axis, Ix0, Ix1, Ix2, Ix3, IxDyn, array, s};
use num_complex::Complex;
use proptest::prelude::*;
use tch::Kind;

fn matrix() -> Array2<f32> {
    array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
}

fn torch_matrix() -> tch::Tensor {
    tch::Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3])
}

fn address(tensor: &tch::Tensor) -> usize {
    tensor.data_ptr().addr()
}

/// Address of the first element of a struct.
fn data_of<T>(exported: &dlbridge::Exported) -> *mut T {
    // SAFETY: valid as long as `exported` lives.
    unsafe { exported.as_ptr().as_ref() }.dl_tensor.data.cast()
}

// ---- NumPy and PyTorch's conversions ----

#[test]
fn to_torch_copies_like_torch_tensor() {
    let mut array = matrix();
    let tensor = array.to_torch().expect("a copy");
    assert_ne!(address(&tensor), array.as_ptr().addr());
    array[[0, 0]] = 9.0;
    assert_eq!(tensor.double_value(&[0, 0]), 1.0);
    assert_eq!((tensor.size(), tensor.kind()), (vec![2, 3], Kind::Float));
}

#[test]
fn into_torch_shares_like_from_numpy() {
    let array = matrix();
    let before = array.as_ptr().addr();
    let mut tensor = array.into_torch().expect("moved");
    assert_eq!(address(&tensor), before);
    let _ = tensor.fill_(7.0);
    let array = tensor.into_ndarray::<f32, Ix2>().expect("back").into_array().expect("the original");
    assert_eq!((array.as_ptr().addr(), array.sum()), (before, 42.0));
}

#[test]
fn into_ndarray_shares_like_tensor_numpy() {
    let tensor = tch::Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0]);
    let before = address(&tensor);
    let mut array = tensor.into_ndarray::<f32, Ix1>().expect("moved");
    assert_eq!(array.as_ptr().addr(), before);
    array.get_mut().expect("alone")[0] = 9.0;
    let tensor = array.into_torch().expect("what it was");
    assert_eq!((address(&tensor), tensor.double_value(&[0])), (before, 9.0));
}

#[test]
fn as_ndarray_mut_shares_the_tensors_memory() {
    let mut tensor = torch_matrix().copy();
    let before = address(&tensor);
    let mut view = tensor.as_ndarray_mut::<f32, Ix2>().expect("alone");
    assert_eq!(view.as_ptr().addr(), before);
    view[[0, 1]] = 20.0;
    assert_eq!(tensor.double_value(&[0, 1]), 20.0);
    let _ = tensor.fill_(7.0);
    let view = tensor.as_ndarray_mut::<f32, Ix2>().expect("alone");
    assert_eq!((view[[1, 2]], view.as_ptr().addr()), (7.0, before));
}

#[test]
fn to_list_prints_like_tolist() {
    assert_eq!(torch_matrix().to_list().expect("2-D").to_string(), "[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]");
    assert_eq!(tch::Tensor::from(3_i64).to_list().expect("0-D").to_string(), "3");
    let half = torch_matrix().to_kind(Kind::BFloat16).set_requires_grad(true);
    assert_eq!(half.get(0).to_list().expect("resolved").to_string(), "[1.0, 2.0, 3.0]");
    assert_eq!(
        tch::Tensor::zeros([3, 0], tch::kind::FLOAT_CPU).to_list().expect("empty").to_string(),
        "[[], [], []]"
    );
}

#[test]
fn cuda_memory_is_refused_with_a_remedy() {
    let layout = Layout::contiguous(&[2]).expect("small");
    let data = std::ptr::without_provenance_mut(0x1000);
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::cuda(0)).expect("valid");
    // SAFETY: device memory is never read by the host.
    let cuda = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    assert!(matches!(cuda.to_torch(), Err(Error::NotOnCpu { .. })));
    let rejected = cuda.into_ndarray::<f32, Ix1>().expect_err("on the device");
    assert_eq!(
        rejected.error().to_string(),
        "can't convert cuda:0 device type tensor to ndarray. Use Tensor::cpu() to copy the tensor to host memory first."
    );
    if !tch::Cuda::is_available() {
        let rejected = rejected.into_value().into_torch().expect_err("libtorch has no device either");
        assert!(matches!(rejected.error(), Error::Libtorch(_)), "{}", rejected.error());
        assert_eq!(rejected.into_value().device(), Device::cuda(0));
    }
}

/// Whether libtorch has a CUDA device. `cargo xtask gpu-check` says that it must.
fn has_cuda() -> bool {
    let available = tch::Cuda::is_available();
    assert!(
        available || std::env::var_os("DLBRIDGE_EXPECTS_CUDA").is_none(),
        "libtorch finds no CUDA device"
    );
    available
}

#[test]
fn cuda_tensors_are_copied_to_the_host() {
    if !has_cuda() {
        return; // `cuda_memory_is_refused_with_a_remedy` covers the refusal on a description
    }
    let tensor = torch_matrix().to_device(tch::Device::Cuda(0));
    let rejected = tensor.into_ndarray::<f32, Ix2>().expect_err("on the device");
    assert!(matches!(rejected.error(), Error::NotOnCpu { .. }));
    let host = rejected.into_value().into_tensor().expect("carried").cpu().expect("transferred");
    assert_eq!(*host.into_ndarray::<f32, Ix2>().expect("on the host"), matrix());
}

#[cfg(feature = "cuda")]
#[test]
fn dlbridge_cuda_memory_moves_into_libtorch() {
    if !has_cuda() {
        return;
    }
    let near = matrix().into_tensor().cuda(0).expect("a device");
    let address = near.data_ptr();
    let mut tensor = near.into_torch().expect("moved");
    assert_eq!(tensor.device(), tch::Device::Cuda(0));
    assert_eq!(tensor.data_ptr(), address);
    let _ = tensor.g_add_scalar_(1.0);
    let back = tensor.into_tensor().expect("alone");
    assert_eq!((back.access(), back.data_ptr()), (dlbridge::Access::Exclusive, address));
    let array = back.cpu().expect("transferred").into_ndarray::<f32, Ix2>().expect("on the host");
    assert_eq!(*array, matrix() + 1.0);
}

#[test]
fn copies_do_not_see_later_writes() {
    let mut tensor = torch_matrix().copy();
    let clone = TorchExt::to_tensor(&tensor).expect("a copy");
    let _ = tensor.fill_(0.0);
    assert_eq!(clone.to_ndarray::<f32, Ix2>().expect("f32"), matrix());
    let tensor = matrix().into_tensor();
    let mut again = tensor.deep_clone().expect("memory").into_torch().expect("moved");
    let _ = again.fill_(0.0);
    assert_eq!(tensor.as_ndarray::<f32, Ix2>().expect("f32"), matrix());
}

// ---- every type, every layout ----

fn through_torch<T: Element>(value: impl Fn(usize) -> T) {
    let base = || ndarray::Array3::from_shape_fn((4, 3, 2), |(i, j, k)| value(6 * i + 2 * j + k));
    let sliced = |from, step| {
        let mut array = base();
        array.slice_collapse(s![from..;step, .., ..]);
        array.into_dyn()
    };
    for array in [
        base().into_dyn(),
        base().reversed_axes().into_dyn(),
        base().permuted_axes([1, 2, 0]).into_dyn(),
        sliced(1, 1),
        sliced(0, 2),
        sliced(3, 1),
        sliced(4, 1),
        ndarray::Array::from_elem(IxDyn(&[]), value(7)),
        ndarray::Array::from_elem(IxDyn(&[1; 9]), value(7)),
    ] {
        let (expected, before, strides) = (array.clone(), array.as_ptr(), array.strides().to_vec());
        let copied = array.to_torch().expect("copied");
        assert_eq!(copied.to_ndarray::<T, IxDyn>().expect("copied"), expected);
        let tensor = array.into_torch().expect("moved");
        assert_eq!(DType::try_from(tensor.f_kind().unwrap_or(Kind::QInt8)).unwrap_or(T::DTYPE), T::DTYPE);
        if !expected.is_empty() {
            assert_eq!(address(&tensor), before.addr());
        }
        let array = tensor.into_ndarray::<T, IxDyn>().expect("moved back");
        assert_eq!(*array, expected);
        let array = array.into_array().expect("the original");
        assert_eq!((array.as_ptr(), array.strides()), (before, &strides[..]));
        // From libtorch's own memory and back.
        let before = address(&copied);
        let array = copied.into_ndarray::<T, IxDyn>().expect("moved");
        assert_eq!(*array, expected);
        let copied = array.into_torch().expect("moved back");
        assert_eq!(address(&copied), before);
    }
}

#[test]
fn every_dtype_and_layout_round_trips_through_libtorch() {
    through_torch(|i| i as u8);
    through_torch(|i| i as u16);
    through_torch(|i| i as u32);
    through_torch(|i| i as u64);
    through_torch(|i| i as i8);
    through_torch(|i| i as i16);
    through_torch(|i| i as i32);
    through_torch(|i| i as i64);
    through_torch(|i| f16::from_f64(i as f64));
    through_torch(|i| bf16::from_f64(i as f64));
    through_torch(|i| i as f32);
    through_torch(|i| i as f64);
    through_torch(|i| i % 3 == 0);
    through_torch(|i| Complex::new(i as f32, 1.0));
    through_torch(|i| Complex::new(i as f64, 1.0));
}

proptest! {
    #[test]
    fn random_layouts_round_trip(
        shape in prop::collection::vec(0_usize..4, 0..6),
        swaps in prop::collection::vec((0_usize..6, 0_usize..6), 0..4),
        steps in prop::collection::vec(1_isize..3, 6),
        seed in 0_i32..1000,
    ) {
        let mut next = seed;
        let mut array = ndarray::ArrayD::from_shape_simple_fn(IxDyn(&shape), || { next += 1; next });
        for (a, b) in swaps {
            if a < shape.len() && b < shape.len() {
                array.swap_axes(a, b);
            }
        }
        for (axis, &step) in steps.iter().enumerate().take(shape.len()) {
            array.slice_axis_inplace(Axis(axis), ndarray::Slice::new(0, None, step));
        }
        let expected = array.clone();
        let tensor = array.into_torch().expect("no negative strides");
        prop_assert_eq!(&tensor.to_ndarray::<i32, IxDyn>().expect("a copy"), &expected);
        let back = tensor.into_ndarray::<i32, IxDyn>().expect("moved").into_array().expect("the original");
        prop_assert_eq!(back, expected);
    }
}

// ---- refusals ----

#[test]
fn into_torch_refuses_what_libtorch_cannot_represent() {
    let mut inverted = matrix();
    inverted.invert_axis(Axis(0));
    let rejected = inverted.into_torch().expect_err("libtorch would abort");
    assert!(matches!(rejected.error(), Error::NegativeStride { dimension: 0, stride: -3, .. }));
    let copied = rejected.into_value().to_torch().expect("a copy has none");
    assert_eq!(copied.double_value(&[0, 0]), 4.0);

    let shared = matrix().into_shared();
    let other = shared.clone();
    let rejected = shared.into_torch().expect_err("libtorch would write it");
    assert!(rejected.error().to_string().contains("to_torch()"), "{}", rejected.error());
    drop(other);
    assert!(rejected.into_value().into_torch().is_ok(), "nobody shares it now");

    let tensor = matrix().into_tensor();
    let second = tensor.share();
    let tensor = tensor.into_torch().expect_err("a writer beside a second handle").into_value();
    drop(second);
    // SAFETY: nobody writes the memory.
    let read_only = unsafe { tensor.assume_read_only() }.expect("alone");
    assert!(matches!(read_only.into_torch().expect_err("read-only").into_error(), Error::ReadOnly { .. }));
    let foreign = matrix().into_tensor().into_aliased().expect("alone");
    assert!(matches!(foreign.into_torch().expect_err("nobody guarantees that it is not written").into_error(), Error::Aliased));
}

#[test]
fn dtypes_unknown_to_libtorch_are_refused() {
    static BYTES: [u64; 4] = [0; 4];
    for dtype in [
        DType::scalar(2, 128),
        DType { lanes: 2, ..DType::F32 },
        DType::scalar(7, 8),
        DType::scalar(17, 4),
        DType::scalar(3, 64),
        DType::scalar(99, 8),
        DType::scalar(0, 4),
    ] {
        let layout = Layout::contiguous(&[1]).expect("small");
        let data = BYTES.as_ptr().cast_mut().cast();
        let descriptor = Descriptor::new(data, layout, dtype, Device::CPU).expect("valid");
        // SAFETY: static memory, large enough, never written because it is refused.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
        assert!(matches!(tensor.to_torch(), Err(Error::UnsupportedDType { .. })), "{dtype}");
        assert!(matches!(
            tensor.into_torch().expect_err("no such type").into_error(),
            Error::UnsupportedDType { .. }
        ));
    }
}

#[test]
fn strides_of_size_one_and_empty_dims_are_normalized() {
    static VALUES: [f32; 3] = [1.0, 2.0, 3.0];
    for (shape, strides) in
        [(&[1_i64, 3][..], &[i64::MIN, 1][..]), (&[0, 3], &[-7, i64::MAX]), (&[3, 1], &[1, -1])]
    {
        let layout = Layout::new(shape, strides).expect("valid");
        let data = VALUES.as_ptr().cast_mut().cast();
        let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
        // SAFETY: static memory, not written.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
        assert_eq!(tensor.to_torch().expect("copied").size(), shape);
        // SAFETY: nobody else reaches the memory, and nobody writes it.
        let torch = unsafe { tensor.share_torch_unchecked() }.expect("shared");
        assert_eq!(torch.numel(), torch.flatten(0, -1).numel());
    }
}

#[test]
fn ranks_above_64_are_refused() {
    let deep = Tensor::from_vec(vec![1.0_f32], vec![1; 65]).expect("one element");
    assert!(matches!(deep.to_torch(), Err(Error::TooManyDimensions { limit: 64, .. })));
    let deep = deep.into_torch().expect_err("too deep").into_value();
    assert_eq!(deep.item::<f32>(), Ok(1.0));
    let deepest = Tensor::from_vec(vec![1.0_f32], vec![1; 64]).expect("one element");
    assert_eq!(deepest.into_torch().expect("deep enough").dim(), 64);
}

// ---- who owns the memory of a libtorch tensor ----

/// Converting is refused while `other` lives, also by the view, and works afterwards.
fn refused_while<O>(tensor: tch::Tensor, other: O) {
    let mut tensor = tensor.into_ndarray::<f32, Ix2>().expect_err("not alone").into_value();
    let error = tensor.as_ndarray_mut::<f32, Ix2>().expect_err("not alone");
    assert!(matches!(error, Error::TorchNotExclusive { .. }), "{error}");
    assert!(matches!(tensor.share_dlpack(), Err(Error::TorchNotExclusive { .. })));
    let tensor = tensor.into_tensor().expect_err("not alone").into_value();
    assert_eq!(tensor.to_ndarray::<f32, Ix2>().expect("copies are made"), matrix());
    drop(other);
    assert_eq!(*tensor.into_ndarray::<f32, Ix2>().expect("alone now"), matrix());
}

#[test]
fn tensors_with_other_holders_are_refused() {
    let fresh = || torch_matrix().copy();
    let tensor = fresh();
    let clone = tensor.shallow_clone();
    refused_while(tensor, clone);
    let tensor = fresh();
    let sibling = tensor.view([6]);
    refused_while(tensor, sibling);
    let tensor = fresh();
    let detached = tensor.detach();
    refused_while(tensor, detached);
    let base = fresh();
    let view = base.view([2, 3]);
    refused_while(view, base);
    let base = fresh();
    let (view, sibling) = (base.view([2, 3]), base.view([3, 2]));
    drop(base);
    refused_while(view, sibling);
    let tensor = fresh();
    let moved = tensor.shallow_clone();
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let _ = wait.recv();
        drop(moved);
    });
    let tensor = tensor.into_ndarray::<f32, Ix2>().expect_err("a thread holds it").into_value();
    drop(stop);
    thread.join().expect("no panic");
    assert!(tensor.into_ndarray::<f32, Ix2>().is_ok());
}

#[test]
fn views_without_a_living_base_are_exclusive() {
    let base = torch_matrix().copy();
    let view = base.narrow(0, 1, 1).squeeze();
    drop(base);
    let array = view.into_ndarray::<f32, Ix1>().expect("nobody else is left");
    assert_eq!(*array, array![4.0, 5.0, 6.0]);
    let transposed = torch_matrix().copy().tr();
    assert_eq!(*transposed.into_ndarray::<f32, Ix2>().expect("likewise"), matrix().t());
}

#[test]
fn lazy_clones_are_refused() {
    let tensor = torch_matrix().copy();
    let lazy = tensor.internal_lazy_clone();
    let (tensor, error) = tensor.into_ndarray::<f32, Ix2>().expect_err("lazily shared").into_parts();
    assert!(error.to_string().contains("lazy clone"), "{error}");
    assert!(matches!(
        lazy.into_tensor().expect_err("lazily shared").into_error(),
        Error::NotPlainTensor { .. }
    ));
    assert!(tensor.copy().into_ndarray::<f32, Ix2>().is_ok());
}

#[test]
fn memory_mapped_files_are_refused() {
    let folder = std::env::temp_dir().join(format!("dlbridge-{}", std::process::id()));
    let path = folder.to_string_lossy().into_owned();
    std::fs::write(&folder, [0_u8; 16]).expect("a temporary file");
    let mapped = tch::Tensor::from_file(&path, true, 4, tch::kind::FLOAT_CPU);
    let error = mapped.into_ndarray::<f32, Ix1>().expect_err("others may write the file").into_error();
    std::fs::remove_file(&folder).expect("removed");
    assert!(matches!(error, Error::TorchNotExclusive { .. }), "{error}");
}

#[test]
fn tensors_held_by_autograd_are_refused() {
    let weight = torch_matrix().copy().set_requires_grad(true);
    let input = torch_matrix().copy();
    let output = (&weight * &input).sum(Kind::Float);
    let input = input.into_ndarray::<f32, Ix2>().expect_err("the graph holds it").into_value();
    let error = weight.into_ndarray::<f32, Ix2>().expect_err("requires grad").into_error();
    assert!(error.to_string().contains("detach()"), "{error}");
    drop(output);
    assert!(input.into_ndarray::<f32, Ix2>().is_ok());
}

#[test]
fn expanded_tensors_have_no_writable_views() {
    let mut expanded = tch::Tensor::from_slice(&[1.0_f32]).expand([2, 3], false);
    assert!(matches!(expanded.as_ndarray_mut::<f32, Ix2>(), Err(Error::SelfOverlap { .. })));
    let mut array = expanded.into_ndarray::<f32, Ix2>().expect("readable");
    assert_eq!(array.sum(), 6.0);
    assert!(matches!(array.get_mut(), Err(Error::SelfOverlap { .. })));
}

#[test]
fn other_dtypes_and_ranks_are_refused() {
    let tensor = torch_matrix().copy();
    let rejected = tensor.into_ndarray::<f64, Ix2>().expect_err("f32");
    assert_eq!(*rejected.error(), Error::DTypeMismatch { expected: DType::F64, found: DType::F32 });
    let rejected = rejected.into_value().into_ndarray::<f32, Ix3>().expect_err("rank 2");
    assert_eq!(*rejected.error(), Error::RankMismatch { expected: 3, found: 2 });
    assert!(rejected.into_value().to_ndarray::<f64, Ix2>().is_err(), "nothing is cast");
    let bf16 = torch_matrix().to_kind(Kind::BFloat16);
    assert!(matches!(bf16.to_ndarray::<f16, Ix2>(), Err(Error::DTypeMismatch { .. })));
    assert_eq!(bf16.to_ndarray::<bf16, Ix2>().expect("bf16")[[1, 2]], bf16::from_f32(6.0));
}

#[test]
fn reinterpreted_bytes_are_checked() {
    // A Vec<u8> has no alignment to speak of.
    let mut array = ndarray::Array1::from_vec(vec![0_u8; 20]);
    let odd = 1 + array.as_ptr().align_offset(4);
    array.slice_collapse(s![odd..odd + 16]);
    let tensor = array.into_torch().expect("moved").view_dtype(Kind::Float);
    let error = tensor.into_ndarray::<f32, Ix1>().expect_err("misaligned").into_error();
    assert!(matches!(error, Error::Misaligned { align: 4, .. }), "{error}");
    // A byte that libtorch wrote into a bool through another type.
    let tensor = array![true, false, true].into_torch().expect("moved");
    let _ = tensor.view_dtype(Kind::Uint8).get(2).fill_(2);
    let rejected = tensor.into_ndarray::<bool, Ix1>().expect_err("2 is no bool");
    assert_eq!(*rejected.error(), Error::InvalidBool { value: 2 });
    let mut tensor = rejected.into_value();
    assert_eq!(tensor.as_ndarray_mut::<bool, Ix1>(), Err(Error::InvalidBool { value: 2 }));
    assert_eq!(tensor.to_ndarray::<bool, Ix1>(), Err(Error::InvalidBool { value: 2 }));
    let _ = tensor.fill_(1);
    assert_eq!(*tensor.into_ndarray::<bool, Ix1>().expect("all 1"), array![true, true, true]);
}

// ---- memory of ours inside libtorch ----

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counted(values: &'static [f32]) -> (Tensor, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let layout = Layout::contiguous(&[values.len() as i64]).expect("small");
    let data = values.as_ptr().cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    // SAFETY: static; the tests do not write it.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, Counted(Arc::clone(&drops))) };
    (tensor, drops)
}

#[test]
fn owner_is_dropped_with_the_last_libtorch_view() {
    let (tensor, drops) = counted(&[1.0, 2.0, 3.0]);
    // SAFETY: the memory is not written.
    let torch = unsafe { tensor.share_torch_unchecked() }.expect("shared");
    drop(tensor);
    let view = torch.narrow(0, 1, 2);
    let sum = thread::spawn(move || torch.sum(Kind::Float).double_value(&[])).join().expect("no panic");
    assert_eq!((sum, drops.load(Ordering::SeqCst)), (6.0, 0));
    thread::spawn(move || drop(view)).join().expect("no panic");
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    let (empty, drops) = counted(&[]);
    // SAFETY: there is nothing to write.
    let empty = unsafe { empty.assume_exclusive() }.expect("alone");
    drop(empty.into_torch().expect("moved"));
    assert_eq!(drops.load(Ordering::SeqCst), 1, "also when there are no elements");
    let (tensor, drops) = counted(&[1.0]);
    // SAFETY: the memory is not written.
    let tensor = unsafe { tensor.assume_exclusive() }.expect("alone");
    let again = tensor.into_torch().expect("moved").into_tensor().expect("unwrapped");
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(again);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn views_of_dlbridge_memory_convert_back() {
    let tensor = matrix().into_torch().expect("moved");
    let row = tensor.get(1);
    drop(tensor);
    let row = row.into_ndarray::<f32, Ix1>().expect("alone");
    assert_eq!(*row, array![4.0, 5.0, 6.0]);
    let rejected = row.into_array().expect_err("a part of the original");
    assert!(matches!(rejected.error(), Error::NotOriginal { .. }));
    assert_eq!(*rejected.into_value(), array![4.0, 5.0, 6.0]);
    let flat = matrix().into_torch().expect("moved").view([6]);
    let array = flat.into_ndarray::<f32, Ix1>().expect("alone").into_array().expect("all of it");
    assert_eq!(array, array![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn resize_and_set_data_keep_dlbridge_memory_alive() {
    let mut tensor = matrix().into_torch().expect("moved");
    let _ = tensor.resize_([1000]).fill_(1.0);
    assert_eq!(tensor.into_ndarray::<f32, Ix1>().expect("libtorch's own memory now").sum(), 1000.0);
    let tensor = matrix().into_torch().expect("moved");
    assert!(tensor.f_internal_lazy_clone().is_err(), "not lazily cloneable");
    let mut tensor = torch_matrix().copy();
    let exported = tensor.share_dlpack().expect("adopted");
    assert!(tensor.f_internal_lazy_clone().is_err(), "nor after an export");
    let _ = tensor.resize_([1000]).fill_(9.0);
    let data = data_of::<f32>(&exported);
    tensor.set_data(&tch::Tensor::zeros([1], tch::kind::FLOAT_CPU));
    drop(tensor);
    // SAFETY: the struct keeps its memory, whatever became of the tensor.
    assert_eq!(unsafe { data.read() }, 1.0);
}

#[test]
fn exported_structs_share_the_tensors_memory() {
    let mut tensor = torch_matrix().copy();
    let before = address(&tensor);
    let first = tensor.share_dlpack().expect("adopted");
    let second = tensor.share_dlpack().expect("shared once more");
    // SAFETY: valid as long as `first` lives.
    let managed = unsafe { first.as_ptr().as_ref() };
    assert_eq!((managed.dl_tensor.data.addr(), managed.flags), (before, 0));
    // SAFETY: the struct may be written, and nobody else is at work on the memory.
    unsafe { managed.dl_tensor.data.cast::<f32>().write(8.0) };
    assert_eq!(tensor.double_value(&[0, 0]), 8.0);
    assert!(matches!(tensor.as_ndarray_mut::<f32, Ix2>(), Err(Error::TorchNotExclusive { .. })));
    drop(first);
    // SAFETY: made above, and libtorch does not write while `back` is looked at.
    let back = unsafe { Tensor::from_dlpack(second.into_raw()) }.expect("ours");
    assert_eq!(back.access(), Access::Aliased { writable: true, trusted: true });
    assert_eq!(back.as_ndarray::<f32, Ix2>().expect("trusted for")[[0, 0]], 8.0);
    let tensor = tensor.into_ndarray::<f32, Ix2>().expect_err("a struct is alive").into_value();
    drop(back);
    let mut array = tensor.into_ndarray::<f32, Ix2>().expect("alone again");
    array.get_mut().expect("exclusive again")[[0, 0]] = 1.0;
    assert_eq!(*array, matrix());

    let ours = matrix().into_torch().expect("moved");
    let exported = ours.share_dlpack().expect("shared");
    let ours = ours.into_ndarray::<f32, Ix2>().expect_err("a struct is alive").into_value();
    drop(exported);
    let array = ours.into_ndarray::<f32, Ix2>().expect("alone").into_array().expect("the original");
    assert_eq!(array, matrix());
    let exported = torch_matrix().copy().share_dlpack().expect("the struct outlives the tensor");
    // SAFETY: valid as long as `exported` lives.
    assert_eq!(unsafe { data_of::<f32>(&exported).read() }, 1.0);
}

#[test]
fn unchecked_conversions_share_memory() {
    let tensor = torch_matrix().copy();
    let other = tensor.shallow_clone();
    // SAFETY: nobody writes while the view lives.
    assert_eq!(unsafe { tensor.as_ndarray_unchecked::<f32, Ix2>() }.expect("f32"), matrix());
    // SAFETY: `other` neither writes nor resizes the memory.
    let foreign = unsafe { tensor.into_tensor_unchecked() }.expect("plain");
    assert_eq!(foreign.access(), Access::Aliased { writable: true, trusted: true });
    assert_eq!(foreign.as_ndarray::<f32, Ix2>().expect("trusted for"), matrix());
    let foreign = foreign.into_torch().expect_err("others may look at the memory").into_value();
    let before = address(&other);
    drop(other);
    // SAFETY: nobody else is left.
    let tensor = unsafe { foreign.assume_exclusive() }.expect("one handle").into_torch();
    assert_eq!(address(&tensor.expect("what it was")), before);

    let ours = matrix().into_tensor();
    // SAFETY: no view lives while libtorch writes.
    let mut torch = unsafe { ours.share_torch_unchecked() }.expect("shared");
    let _ = torch.fill_(3.0);
    assert_eq!(ours.as_ndarray::<f32, Ix2>().expect("f32").sum(), 18.0);
    drop(torch);
    assert!(ours.is_unique());
}

#[test]
fn kinds_and_devices_convert_both_ways() {
    for kind in [Kind::Uint8, Kind::Half, Kind::BFloat16, Kind::ComplexHalf, Kind::Bool, Kind::Float8e4m3fn] {
        assert_eq!(Kind::try_from(DType::try_from(kind).expect("in DLPack")).expect("in tch"), kind);
    }
    assert!(DType::try_from(Kind::QInt8).is_err() && Kind::try_from(DType::U16).is_err());
    for device in [tch::Device::Cpu, tch::Device::Cuda(2), tch::Device::Mps, tch::Device::Vulkan] {
        assert_eq!(tch::Device::try_from(Device::from(device)).expect("in tch"), device);
    }
    assert_eq!(tch::Device::try_from(Device::CUDA_HOST).expect("host memory"), tch::Device::Cpu);
    assert!(tch::Device::try_from(Device { device_type: 99, index: 0 }).is_err());
}

#[test]
fn results_of_operations_are_exclusive() {
    let scalar = matrix().into_torch().expect("moved").sum(Kind::Float);
    assert_eq!(scalar.into_ndarray::<f32, Ix0>().expect("alone")[()], 21.0);
    let output = tch::no_grad(|| torch_matrix().copy().matmul(&torch_matrix().tr()));
    assert_eq!(*output.into_ndarray::<f32, Ix2>().expect("alone"), matrix().dot(&matrix().t()));
    let sliced = tch::Tensor::arange(6, (Kind::Int64, tch::Device::Cpu)).slice(0, 0, 6, 2);
    assert_eq!(sliced.into_ndarray::<i64, Ix1>().expect("its base is gone").to_vec(), [0, 2, 4]);
}

#[test]
fn owners_are_dropped_once_after_refusals() {
    let refusals: [fn(Tensor) -> Tensor; 7] = [
        |tensor| tensor.into_torch().expect_err("foreign").into_value(),
        |tensor| tensor.into_ndarray::<f64, Ix1>().expect_err("f32").into_value(),
        |tensor| tensor.into_ndarray::<f32, Ix2>().expect_err("rank 1").into_value(),
        |tensor| tensor.into_vec::<f32>().expect_err("no Vec").into_value(),
        |tensor| {
            // SAFETY: only this handle reaches the memory.
            let tensor = unsafe { tensor.assume_exclusive() }.expect("one handle");
            let other = tensor.share();
            let tensor = tensor.into_aliased().expect_err("two handles").into_value();
            drop(other);
            tensor
        },
        |tensor| {
            let other = tensor.share();
            // SAFETY: refused.
            let tensor = unsafe { tensor.assume_exclusive() }.expect_err("two handles").into_value();
            drop(other);
            tensor
        },
        |tensor| {
            // SAFETY: the memory is not written, and only this handle reaches it.
            let tensor = unsafe { tensor.assume_exclusive() }.expect("one handle");
            let array = tensor.into_ndarray::<f32, Ix1>().expect("readable");
            array.into_array().expect_err("no Array").into_value().into_tensor()
        },
    ];
    for refuse in refusals {
        let (tensor, drops) = counted(&[1.0, 2.0]);
        let tensor = refuse(tensor);
        assert_eq!((drops.load(Ordering::SeqCst), tensor.to_vec::<f32>()), (0, Ok(vec![1.0, 2.0])));
        drop(tensor);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}

struct Explosive(#[expect(dead_code, reason = "dropped after the panic")] Counted);

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("an owner that panics");
    }
}

#[test]
fn owner_panics_do_not_unwind_through_libtorch() {
    static VALUES: [f32; 2] = [1.0, 2.0];
    let drops = Arc::new(AtomicUsize::new(0));
    let layout = Layout::contiguous(&[2]).expect("small");
    let data = VALUES.as_ptr().cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    let owner = Explosive(Counted(Arc::clone(&drops)));
    // SAFETY: static, not written, and reached by nobody else.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, owner) };
    // SAFETY: likewise.
    let tensor = unsafe { tensor.assume_exclusive() }.expect("alone").into_torch().expect("moved");
    assert_eq!(tensor.sum(Kind::Float).double_value(&[]), 3.0);
    drop(tensor);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn unchecked_shares_keep_their_access() {
    let (foreign, _drops) = counted(&[1.0, 2.0]);
    // SAFETY: nobody writes the memory.
    let mut torch = unsafe { foreign.share_torch_unchecked() }.expect("shared");
    assert!(matches!(torch.as_ndarray_mut::<f32, Ix1>(), Err(Error::Aliased)));
    let torch = torch.into_ndarray::<f32, Ix1>().expect_err("nobody guarantees that it is not written").into_value();
    let converted = torch.into_tensor().expect("carried");
    assert!(matches!(converted.as_slice::<f32>(), Err(Error::Aliased)));

    // SAFETY: nobody writes the memory.
    let read_only = unsafe { matrix().into_tensor().assume_read_only() }.expect("alone");
    // SAFETY: nor through libtorch.
    let mut torch = unsafe { read_only.share_torch_unchecked() }.expect("shared");
    drop(read_only);
    assert!(matches!(torch.as_ndarray_mut::<f32, Ix2>(), Err(Error::ReadOnly { .. })));
    assert!(matches!(torch.share_dlpack(), Err(Error::ReadOnly { .. })));
    let mut array = torch.into_ndarray::<f32, Ix2>().expect("readable");
    assert!(matches!(array.get_mut(), Err(Error::ReadOnly { .. })));
}

#[test]
fn read_only_access_outlasts_an_export() {
    let tensor = matrix().into_torch().expect("moved");
    let exported = tensor.share_dlpack().expect("lent");
    // SAFETY: made just above; nobody writes.
    let imported = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
    drop(tensor);
    // SAFETY: nobody writes any more.
    let read_only = unsafe { imported.assume_read_only() }.expect("alone");
    // SAFETY: nor through libtorch.
    let mut torch = unsafe { read_only.share_torch_unchecked() }.expect("shared");
    drop(read_only);
    assert!(matches!(torch.as_ndarray_mut::<f32, Ix2>(), Err(Error::ReadOnly { .. })));
}

#[test]
fn share_torch_unchecked_refuses_what_into_torch_refuses() {
    let mut inverted = matrix();
    inverted.invert_axis(Axis(0));
    let inverted = inverted.into_tensor();
    // SAFETY: refused.
    let refused = unsafe { inverted.share_torch_unchecked() };
    assert!(matches!(refused, Err(Error::NegativeStride { .. })));
    let deep = Tensor::from_vec(vec![1_u8], vec![1; 65]).expect("one element");
    // SAFETY: refused.
    let refused = unsafe { deep.share_torch_unchecked() };
    assert!(matches!(refused, Err(Error::TooManyDimensions { .. })));
}

#[test]
fn libtorch_error_messages_are_passed_on() {
    static VALUE: f32 = 1.0;
    let layout = Layout::new(&[1 << 45], &[0]).expect("one element again and again");
    let data = (&raw const VALUE).cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    // SAFETY: a static that nobody writes.
    let huge = unsafe { Tensor::from_raw_parts(descriptor, false, ()) };
    assert!(matches!(huge.to_torch(), Err(Error::Libtorch(words)) if words.contains("memory")));
}

#[test]
fn dlbridge_memory_works_in_autograd() {
    let weight = matrix().into_torch().expect("moved").set_requires_grad(true);
    let loss = (&weight * &weight).sum(Kind::Float);
    loss.backward();
    let gradient = TorchExt::to_ndarray::<f32, Ix2>(&weight.grad()).expect("the weight holds it: a copy");
    assert_eq!(gradient, matrix() * 2.0);
    let inference = tch::no_grad(|| matrix().into_torch().expect("moved").matmul(&torch_matrix().tr()));
    assert_eq!(inference.size(), [2, 2]);
}
