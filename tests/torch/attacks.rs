//! What safe code can do with tch's safe functions to reach memory that dlbridge holds as its own,
//! or to make dlbridge read memory that a tensor does not have.

use dlbridge::{ArrayTorchExt, Error, NdArray, TorchExt};
use ndarray::{Ix1, Ix2, array};
use tch::kind::FLOAT_CPU;
use tch::{Device, Kind, Tensor};

use crate::support::{address, matrix, torch_matrix};

fn plain() -> Tensor {
    torch_matrix().copy()
}

/// Every conversion refuses the tensor, and none crashes.
fn refused(mut tensor: Tensor, reason: &str) {
    let check = |error: Error| {
        let text = error.to_string();
        assert!(text.contains(reason), "{text}");
    };
    check(tensor.as_ndarray_mut::<f32, Ix1>().map(drop).expect_err(reason));
    check(tensor.share_dlpack().map(drop).expect_err(reason));
    // SAFETY: refused.
    check(unsafe { tensor.as_ndarray_unchecked::<f32, Ix1>() }.map(drop).expect_err(reason));
    let (tensor, error) = tensor.into_tensor().expect_err(reason).into_parts();
    check(error);
    let (tensor, error) = tensor.into_ndarray::<f32, Ix1>().expect_err(reason).into_parts();
    check(error);
    // SAFETY: refused.
    check(unsafe { tensor.into_tensor_unchecked() }.expect_err(reason).into_error());
}

#[test]
fn a_zero_tensor_reads_no_address() {
    let secret = b"bytes of this process".to_vec();
    let start = i64::try_from(secret.as_ptr().addr()).expect("an address of user space");
    let length = i64::try_from(secret.len()).expect("short");
    let zeros = Tensor::internal_efficientzerotensor([1 << 47], (Kind::Uint8, Device::Cpu));
    let window = zeros.narrow(0, start, length);
    assert_eq!(window.to_ndarray::<u8, Ix1>().expect("zeros").to_vec(), [0; 21]);
    assert_eq!(TorchExt::to_tensor(&window).expect("zeros").to_vec(), Ok(vec![0_u8; 21]));
    refused(window, "is a zero tensor, which has no memory");
    // Behind a tensor with ordinary keys libtorch puts zeros in memory.
    let mut taken = Tensor::zeros([4], (Kind::Uint8, Device::Cpu));
    let _ = taken.set_source_tensor_(&zeros);
    let window = taken.narrow(0, start, length);
    drop((taken, zeros));
    assert_eq!(window.to_ndarray::<u8, Ix1>().expect("zeros").to_vec(), [0; 21]);
}

#[test]
fn sizes_that_wrap_around_do_not_fit_any_storage() {
    let double = || Tensor::zeros([4], (Kind::Double, Device::Cpu));
    // The product of sizes and width is 0, 8 or 24 in 64 bits.
    for (shape, strides) in [
        (vec![1_i64 << 61], vec![1_i64]),
        (vec![(1 << 61) + 1], vec![1]),
        (vec![2, 2], vec![i64::MAX, 1]),
        (vec![2, 2], vec![(1 << 61) + 1, 1 << 61]),
        (vec![3, 1 << 40, 1 << 40], vec![0, 0, 0]),
    ] {
        let Ok(tensor) = double().f_internal_reshape_alias(&shape[..], &strides[..]) else {
            continue;
        };
        assert!(TorchExt::to_ndarray::<f64, ndarray::IxDyn>(&tensor).is_err(), "{shape:?}");
        assert!(TorchExt::to_tensor(&tensor).is_err(), "{shape:?}");
        assert!(tensor.into_tensor().is_err(), "{shape:?}");
    }
    // Without elements, no offset leads anywhere.
    let empty = double().as_strided([0, 2], [1, 1], 1 << 62);
    assert_eq!(empty.into_ndarray::<f64, Ix2>().expect("empty").len(), 0);
    let beyond = double().internal_reshape_alias([5], [1]);
    refused(beyond, "reaches beyond its storage");
}

#[test]
fn tensors_that_take_over_a_storage_share_it() {
    let source = plain();
    let mut taker = Tensor::zeros([1], FLOAT_CPU);
    let _ = taker.set_source_tensor_(&source);
    let mut source = source.into_ndarray::<f32, Ix2>().expect_err("shared").into_value();
    assert!(matches!(source.as_ndarray_mut::<f32, Ix2>(), Err(Error::TorchNotExclusive { .. })));
    let mut second = Tensor::zeros([1], FLOAT_CPU);
    second.set_data(&source);
    drop(taker);
    let source = source.into_ndarray::<f32, Ix2>().expect_err("still shared").into_value();
    drop(second);
    assert_eq!(*source.into_ndarray::<f32, Ix2>().expect("alone"), matrix());
}

#[test]
fn an_array_that_libtorch_resized_is_another_memory() {
    let before = matrix();
    let start = before.as_ptr().addr();
    let mut tensor = before.into_torch().expect("moved");
    let _ = tensor.resize_([100]);
    assert_ne!(address(&tensor), start, "libtorch moved the elements to memory of its own");
    let nd = tensor.into_ndarray::<f32, Ix1>().expect("libtorch's");
    assert_eq!((nd[5], nd.len()), (6.0, 100));
    assert!(matches!(nd.into_array().map_err(|e| e.into_error()), Err(Error::NotOriginal { .. })));
    // Fewer elements stay where they are, and are no longer the array.
    for size in [0, 2] {
        let mut tensor = matrix().into_torch().expect("moved");
        let _ = tensor.resize_([size]);
        let nd = tensor.into_ndarray::<f32, Ix1>().expect("ours");
        let rejected = nd.into_array().expect_err("another shape");
        assert!(matches!(rejected.error(), Error::NotOriginal { .. }));
        assert_eq!(rejected.into_value().len() as i64, size);
    }
}

#[test]
fn bytes_outside_of_a_window_do_not_come_back_as_bools() {
    let tensor = array![true, false, true, false].into_torch().expect("moved");
    let _ = tensor.view_dtype(Kind::Uint8).narrow(0, 2, 2).fill_(2);
    let window = tensor.narrow(0, 0, 2);
    drop(tensor);
    let nd = window.into_ndarray::<bool, Ix1>().expect("its own bytes are bools");
    assert_eq!(*nd, array![true, false]);
    let nd = nd.into_array().expect_err("the rest of the array holds 2").into_value();
    let whole = nd.into_tensor().into_vec::<bool>();
    assert!(whole.is_err(), "{whole:?}");
}

#[test]
fn other_types_do_not_come_back_as_the_vec_of_another() {
    let tensor = array![1.0_f32, 2.0].into_torch().expect("moved").view_dtype(Kind::Int);
    let nd: NdArray<i32, Ix1> = tensor.into_ndarray().expect("the same bytes");
    assert_eq!(nd[0], 1.0_f32.to_bits().cast_signed());
    let nd = nd.into_array().expect_err("an array of f32").into_value();
    let tensor = nd.into_tensor().into_vec::<i32>().expect_err("a Vec<f32>").into_value();
    assert!(tensor.into_vec::<f32>().is_err(), "the tensor's type is i32");
}

#[test]
fn what_autograd_holds_is_not_exclusive() {
    let weight = plain().set_requires_grad(true);
    (&weight * 2.0).sum(Kind::Float).backward();
    let gradient = weight.grad().into_ndarray::<f32, Ix2>().expect_err("the weight holds it");
    let gradient = gradient.into_value();
    drop(weight);
    assert_eq!(gradient.into_ndarray::<f32, Ix2>().expect("alone")[[0, 0]], 2.0);
    // A tensor that the graph saved for later, under another handle.
    let input = plain();
    let weight = plain().set_requires_grad(true);
    let graph = (&weight * input.detach()).sum(Kind::Float);
    let input = input.into_ndarray::<f32, Ix2>().expect_err("saved").into_value();
    graph.backward();
    drop((graph, weight));
    assert!(input.into_ndarray::<f32, Ix2>().is_ok());
}

#[test]
fn what_autocast_caches_is_not_written() {
    let weight = plain().set_requires_grad(true);
    let input = plain();
    tch::autocast(true, || {
        let _ = input.f_matmul(&weight.tr());
        let cached = weight.into_ndarray::<f32, Ix2>().expect_err("requires grad");
        assert!(cached.error().to_string().contains("requires grad"));
    });
}

#[test]
fn parts_of_sparse_and_quantized_tensors_are_shared() {
    let sparse = plain().to_sparse_sparse_dim(2);
    let mut values = sparse.internal_values();
    assert!(values.as_ndarray_mut::<f32, Ix1>().is_err(), "the sparse tensor holds them");
    let mut dense = plain();
    let quantized = dense.quantize_per_tensor(1.0, 0, Kind::QInt8);
    dense.as_ndarray_mut::<f32, Ix2>().expect("quantized into other memory")[[0, 0]] = 9.0;
    assert_eq!(quantized.dequantize().double_value(&[0, 0]), 1.0);
    drop(sparse);
    assert_eq!(values.as_ndarray_mut::<f32, Ix1>().expect("alone").len(), 6);
}

#[test]
fn memory_of_an_array_is_not_cloned_lazily() {
    let tensor = matrix().into_torch().expect("moved");
    assert!(tensor.f_internal_lazy_clone().is_err(), "libtorch would free it by its own means");
    assert_eq!(*tensor.into_ndarray::<f32, Ix2>().expect("alone"), matrix());
}

#[test]
fn a_closure_that_swaps_storages_gets_no_memory_of_the_array() {
    let mut array = matrix();
    let mut kept = Tensor::zeros([1], FLOAT_CPU);
    array
        .lend_torch(|tensor| {
            assert!(tensor.as_ndarray_mut::<f32, Ix2>().is_err(), "the array keeps a handle");
            assert!(tensor.share_dlpack().is_err());
            kept.set_data(tensor);
            let _ = tensor.set_source_tensor_(&Tensor::zeros([6], FLOAT_CPU));
            let _ = tensor.resize_([1000]);
        })
        .expect("lent");
    assert_eq!(array, matrix());
    let _ = kept.fill_(7.0);
    assert_eq!(array, matrix(), "the array has other memory than the tensor that escaped");
}
