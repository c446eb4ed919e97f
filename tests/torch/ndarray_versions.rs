//! ndarray 0.16, which tch uses itself, and ndarray 0.17 over one buffer of libtorch.

use dlbridge::{ArrayExt, ArrayTorchExt, Error, NdArray, TorchExt};
use ndarray::{Ix2, array};
use ndarray_0_16 as nd16;
use tch::Kind;

#[test]
fn tchs_own_arrays_and_ndarray_0_17_share_one_buffer() {
    // tch copies into an array of ndarray 0.16 ...
    let weights = tch::Tensor::from_slice2(&[[1.0_f32, 2.0], [3.0, 4.0]]);
    let old: nd16::ArrayD<f32> = (&weights).try_into().expect("tch's conversion");
    assert_ne!(old.as_ptr().addr(), weights.data_ptr().addr());
    // ... which from here on keeps its memory: in ndarray 0.17, libtorch and ndarray 0.16.
    let address = old.as_ptr();
    let mut new: NdArray<f32, Ix2> = old.into_tensor().into_ndarray().expect("rank 2");
    assert_eq!((new.as_ptr(), new[[1, 0]]), (address, 3.0));
    new.get_mut().expect("alone")[[0, 0]] = 10.0;
    let mut torch = new.into_torch().expect("alone");
    assert_eq!(torch.data_ptr().addr(), address.addr());
    let _ = torch.g_add_scalar_(1.0);
    torch.as_ndarray_mut::<f32, nd16::Ix2>().expect("alone")[[1, 1]] = 0.0;
    torch.as_ndarray_mut::<f32, Ix2>().expect("alone")[[1, 0]] = -1.0;
    let old = torch.into_ndarray::<f32, nd16::IxDyn>().expect("alone");
    assert_eq!(old, nd16::array![[11.0, 3.0], [-1.0, 0.0]].into_dyn());
    let old = old.into_array().expect("the array that tch made");
    assert_eq!(old.as_ptr(), address);
    // tch takes it: a copy again.
    let copy = tch::Tensor::try_from(&old).expect("tch's conversion");
    assert_eq!(copy, old.into_torch().expect("moved"));
}

#[test]
fn every_method_takes_arrays_of_both_versions() {
    let mut old = nd16::array![[1.0_f32, 2.0], [3.0, 4.0]].reversed_axes();
    let address = old.as_ptr();
    let sum = old.lend_torch(|tensor| {
        assert_eq!((tensor.data_ptr().addr(), tensor.stride()), (address.addr(), vec![1, 2]));
        let _ = tensor.g_mul_scalar_(2.0);
        tensor.sum(Kind::Float).double_value(&[])
    });
    assert_eq!((sum, old.as_ptr()), (Ok(20.0), address));
    let escaped = old.lend_torch(|tensor| tensor.shallow_clone()).expect("lent");
    assert_ne!(old.as_ptr(), address, "a copy");
    assert_eq!(escaped, old.to_torch().expect("copied"));
    let same = array![[2.0_f32, 6.0], [4.0, 8.0]].into_torch().expect("moved");
    assert_eq!(old.view().to_torch().expect("copied"), same);

    let mut row = old.slice_mut(nd16::s![1.., ..]);
    let address = row.as_ptr();
    let lent = row.lend_torch_or_abort(|tensor| {
        let _ = tensor.fill_(0.0);
        tensor.data_ptr().addr()
    });
    assert_eq!((lent, row), (Ok(address.addr()), nd16::array![[0.0, 0.0]].view_mut()));
    let refused = old.slice_mut(nd16::s![.., 1..]).lend_torch_or_abort(|_| ());
    assert!(matches!(refused, Err(Error::InvalidDescriptor { .. })), "a column has gaps");

    let mut inverted = nd16::array![1, 2, 3];
    inverted.invert_axis(nd16::Axis(0));
    let rejected = inverted.into_torch().expect_err("a negative stride");
    assert!(matches!(rejected.error(), Error::NegativeStride { .. }));
    let inverted = rejected.into_value();
    assert_eq!(inverted, nd16::array![3, 2, 1]);
    let nd: NdArray<i32, nd16::Ix1> = inverted.into_tensor().into_ndarray().expect("i32");
    assert!(matches!(nd.to_torch().expect("copied").size()[..], [3]));
    let nd = nd.into_torch().expect_err("a negative stride").into_value();
    assert_eq!(nd, nd16::array![3, 2, 1]);

    let shared = nd16::array![1.0_f64, 2.0].into_shared();
    let rejected = shared.clone().into_torch().expect_err("shared");
    assert!(matches!(rejected.error(), Error::ReadOnly { .. }));
    drop(rejected);
    assert_eq!(shared.into_torch().expect("no other handle").size(), [2]);

    let torch = tch::Tensor::from_slice2(&[[1_i64, 2], [3, 4]]);
    let transposed = torch.tr();
    let copy: nd16::Array2<i64> = transposed.to_ndarray::<i64, nd16::Ix2>().expect("a copy");
    assert_eq!(copy, nd16::array![[1, 3], [2, 4]]);
    // SAFETY: nothing writes the tensor meanwhile.
    let view = unsafe { transposed.as_ndarray_unchecked::<i64, nd16::Ix2>() }.expect("plain");
    assert_eq!((view.as_ptr().addr(), view), (torch.data_ptr().addr(), copy.view()));
    let rejected = torch.into_ndarray::<i64, nd16::Ix2>().expect_err("shared");
    assert!(matches!(rejected.error(), Error::TorchNotExclusive { .. }));
    drop(transposed);
    let rejected = rejected.into_value().into_ndarray::<i64, nd16::Ix3>().expect_err("rank 2");
    assert_eq!(*rejected.error(), Error::RankMismatch { expected: 3, found: 2 });
}
