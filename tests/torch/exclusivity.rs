//! When a libtorch tensor is the only one that reaches its memory.

use std::thread;

use dlbridge::{ArrayTorchExt, Error, TorchExt};
use ndarray::{Ix0, Ix1, Ix2, array};
use tch::Kind;

use crate::support::{matrix, torch_matrix};

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
    let array = view.into_ndarray::<f32, Ix1>().expect("no other code is left");
    assert_eq!(*array, array![4.0, 5.0, 6.0]);
    let transposed = torch_matrix().copy().tr();
    assert_eq!(
        *transposed.into_ndarray::<f32, Ix2>().expect("no other code is left"),
        matrix().t()
    );
}

#[test]
fn lazy_clones_are_refused() {
    let tensor = torch_matrix().copy();
    let lazy = tensor.internal_lazy_clone();
    let (tensor, error) =
        tensor.into_ndarray::<f32, Ix2>().expect_err("lazily shared").into_parts();
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
    let error =
        mapped.into_ndarray::<f32, Ix1>().expect_err("others may write the file").into_error();
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
fn results_of_operations_are_exclusive() {
    let scalar = matrix().into_torch().expect("moved").sum(Kind::Float);
    assert_eq!(scalar.into_ndarray::<f32, Ix0>().expect("alone")[()], 21.0);
    let output = tch::no_grad(|| torch_matrix().copy().matmul(&torch_matrix().tr()));
    assert_eq!(*output.into_ndarray::<f32, Ix2>().expect("alone"), matrix().dot(&matrix().t()));
    let sliced = tch::Tensor::arange(6, (Kind::Int64, tch::Device::Cpu)).slice(0, 0, 6, 2);
    assert_eq!(sliced.into_ndarray::<i64, Ix1>().expect("its base is gone").to_vec(), [0, 2, 4]);
}
