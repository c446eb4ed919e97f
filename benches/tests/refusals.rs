//! Tensors that are not plain strided buffers, made in C++. Each is refused before its memory is
//! read, and comes back with an error that has a remedy.

use dlbridge::{ArrayTorchExt, Error, Exported, Tensor, TorchExt};
use dlbridge_benches::{Blob, hostile};
use ndarray::{Ix1, Ix2};

fn make(name: &str) -> tch::Tensor {
    hostile(name).unwrap_or_else(|| panic!("hostile.cpp knows no {name}"))
}

#[test]
fn what_is_more_than_a_strided_buffer_is_refused_with_a_remedy() {
    for (name, text) in [
        ("undefined", "is undefined"),
        ("nested", "is nested"),
        ("sparse", "has the layout sparse_coo; use to_dense()"),
        ("mkldnn", "has the layout mkldnn; use to_dense()"),
        ("functional", "dispatch key Functionalize"),
        ("requires_grad", "detach()"),
        ("conjugate", "resolve_conj()"),
        ("negative", "resolve_neg()"),
        ("quantized", "dequantize()"),
        ("lazy_clone", "lazy clone"),
        ("meta", "device meta"),
        ("zero", "zero tensor"),
        ("no_memory", "no memory"),
        ("no_access", "refuses access"),
        ("no_writes", "refuses access"),
        ("int4", "an element type that DLPack does not have"),
        ("bits8", "an element type that DLPack does not have"),
        ("short_storage", "beyond its storage"),
    ] {
        let mut tensor = make(name);
        let texts = [
            tensor.as_ndarray_mut::<f32, Ix2>().map(drop).expect_err(name),
            tensor.share_dlpack().map(drop).expect_err(name),
            // SAFETY: refused before anything is read.
            unsafe { tensor.as_ndarray_unchecked::<f32, Ix2>() }.map(drop).expect_err(name),
            {
                let (value, error) = tensor.into_tensor().expect_err(name).into_parts();
                tensor = value;
                error
            },
            {
                let (value, error) =
                    tensor.into_ndarray::<f32, Ix2>().expect_err(name).into_parts();
                tensor = value;
                error
            },
            // SAFETY: refused before anything is read.
            unsafe { tensor.into_tensor_unchecked() }.map(drop).expect_err(name).into_error(),
        ];
        for error in texts {
            assert!(error.to_string().contains(text), "{name}: {error}");
        }
    }
}

#[test]
fn copies_resolve_what_can_be_resolved() {
    let values =
        |name: &str| TorchExt::to_ndarray::<f32, Ix2>(&make(name)).map(|array| array.sum());
    assert_eq!(values("requires_grad"), Ok(15.0));
    assert_eq!(values("negative"), Ok(-15.0));
    assert_eq!(values("lazy_clone"), Ok(15.0));
    assert_eq!(make("zero").to_list().expect("zeros").to_string(), "[0.0, 0.0]");
    assert_eq!(make("conjugate").to_list().expect("resolved").to_string(), "[(1-0j), (1-0j)]");
    for name in ["undefined", "short_storage", "nested", "sparse", "quantized", "meta", "int4"] {
        assert!(TorchExt::to_tensor(&make(name)).is_err(), "{name}");
        assert!(make(name).to_list().is_err(), "{name}");
    }
}

#[test]
fn memory_that_someone_else_can_reach_is_refused() {
    for name in ["external_blob", "weak"] {
        let rejected = make(name).into_ndarray::<f32, Ix1>().expect_err(name);
        assert!(
            matches!(rejected.error(), Error::TorchNotExclusive { .. }),
            "{name}: {}",
            rejected.error()
        );
        assert_eq!(
            rejected.into_value().to_ndarray::<f32, Ix1>().expect("copies are made").len(),
            4
        );
    }
}

#[test]
fn libtorchs_own_converter_takes_our_structs() {
    let tensor = Tensor::from_vec(vec![1.0_f32, 2.0, 3.0], [3]).expect("3");
    let address = tensor.data_ptr();
    let exported: Exported = tensor.share_dlpack();
    // SAFETY: made just above; libtorch does not write it here.
    let blob = unsafe { Blob::from_dlpack(exported.into_raw()) };
    assert!(!tensor.is_unique());
    assert_eq!(blob.consume(), address.cast_const());
    assert!(tensor.is_unique(), "released once");
}

#[test]
fn a_tensor_beyond_its_storage_is_not_read() {
    let tensor =
        tch::Tensor::zeros([4], tch::kind::FLOAT_CPU).internal_reshape_alias([1 << 28], [1]);
    assert!(TorchExt::to_ndarray::<f32, Ix1>(&tensor).is_err());
    assert!(TorchExt::to_tensor(&tensor).is_err());
    assert!(tensor.to_list().is_err());
    assert!(tensor.into_ndarray::<f32, Ix1>().is_err());
}

#[test]
fn clones_on_two_threads_share_by_turns() {
    let tensor = ndarray::Array1::<f32>::zeros(4).into_torch().expect("moved");
    let first = tensor.share_dlpack().expect("alone");
    let threads = [(); 4].map(|()| {
        let clone = tensor.shallow_clone();
        std::thread::spawn(move || (0..1000).all(|_| clone.share_dlpack().is_ok()))
    });
    assert!(threads.into_iter().all(|thread| thread.join().expect("no panic")));
    drop(first);
    let clone = tensor.shallow_clone();
    assert!(tensor.share_dlpack().is_ok(), "still owned by a storage of dlbridge");
    drop(clone);
    assert!(tensor.into_ndarray::<f32, Ix1>().is_ok());
}
