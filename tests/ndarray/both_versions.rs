//! Arrays of ndarray 0.16 and 0.17 over one buffer.

use dlbridge::{ArrayExt, Error, NdArray, OwnedArray, Tensor};
use ndarray::{Ix2, IxDyn, array};
use ndarray_0_16 as nd16;

#[test]
fn one_buffer_goes_through_both_versions_and_back() {
    let old = nd16::array![[1.0_f32, 2.0], [3.0, 4.0]];
    let address = old.as_ptr();
    let mut tensor = old.into_tensor();
    assert_eq!(tensor.as_ndarray::<f32, Ix2>().expect("f32").as_ptr(), address);
    tensor.as_ndarray_mut::<f32, Ix2>().expect("alone")[[0, 0]] = 5.0;
    tensor.as_ndarray_mut::<f32, nd16::Ix2>().expect("alone")[[1, 1]] = 6.0;
    let new: NdArray<f32, Ix2> = tensor.into_ndarray().expect("f32");
    assert_eq!((new.as_ptr(), new[[1, 1]]), (address, 6.0));
    let old: NdArray<f32, nd16::Ix2> = new.into_dimensionality().expect("rank 2");
    assert_eq!((old.view().as_ptr(), old[[0, 0]]), (address, 5.0));
    // The array of version 0.16 becomes one of version 0.17.
    let new = old.into_dimensionality::<IxDyn>().expect("any rank").into_array().expect("its Vec");
    assert_eq!((new.as_ptr(), &new), (address, &array![[5.0, 2.0], [3.0, 6.0]].into_dyn()));
    let old = new.into_tensor().into_ndarray::<f32, nd16::IxDyn>().expect("f32").into_array();
    assert_eq!(old.expect("its Vec").as_ptr(), address);
}

#[test]
fn other_layouts_change_the_version_too() {
    let old = nd16::array![[1, 2, 3], [4, 5, 6]].reversed_axes();
    let address = old.as_ptr();
    let new = old.into_tensor().into_ndarray::<i32, Ix2>().expect("i32").into_array();
    let new = new.expect("its Vec, with other strides");
    assert_eq!((new.as_ptr(), new.strides()), (address, &[1, 3][..]));
    assert_eq!(new, array![[1, 4], [2, 5], [3, 6]]);
    // A part of a `Vec`, and negative strides: only the same version gives the array back.
    for by in [nd16::s![..;-1, ..], nd16::s![.., ..;2], nd16::s![1.., ..]] {
        let mut old = nd16::array![[1, 2, 3], [4, 5, 6]];
        old.slice_collapse(by);
        let (expected, address) = (old.clone(), old.as_ptr());
        let nd = old.into_tensor().into_ndarray::<i32, Ix2>().expect("i32");
        let rejected = nd.into_array().expect_err("a part, or reversed");
        assert!(matches!(rejected.error(), Error::NotOriginal { .. }));
        let nd = rejected.into_value();
        assert_eq!(nd.as_ptr(), address);
        let old: NdArray<i32, nd16::Ix2> = nd.into_dimensionality().expect("rank 2");
        assert_eq!(old, expected);
    }
}

#[test]
fn both_versions_share_elements_while_neither_writes() {
    let tensor = nd16::Array2::<u8>::ones((2, 3)).into_tensor();
    let mut new = tensor.share().into_ndarray::<u8, Ix2>().expect("u8");
    let mut old = tensor.into_ndarray::<u8, nd16::Ix2>().expect("u8");
    assert_eq!(new.as_ptr(), old.view().as_ptr());
    assert!(matches!(new.get_mut(), Err(Error::NotUnique)));
    assert!(matches!(old.get_mut(), Err(Error::NotUnique)));
    let sums = std::thread::scope(|scope| {
        let thread = scope.spawn(|| new.sum());
        (old.view().sum(), thread.join().expect("no panic"))
    });
    assert_eq!(sums, (6, 6));
    drop(old);
    new.get_mut().expect("alone").fill(2);
    assert_eq!(new.sum(), 12);
}

#[test]
fn one_function_takes_arrays_of_both_versions() {
    fn collect(array: impl OwnedArray) -> Tensor {
        array.into()
    }
    let tensors = [collect(array![1, 2]), collect(nd16::array![1, 2])];
    assert_eq!(tensors[0].to_vec::<i32>(), tensors[1].to_vec::<i32>());
    let lists = (array![[1, 2]].to_list(), nd16::array![[1, 2]].t().to_list());
    assert_eq!(lists.0.expect("rank 2").to_string(), "[[1, 2]]");
    assert_eq!(lists.1.expect("rank 2").to_string(), "[[1], [2]]");
    let copy = nd16::array![[1, 2], [3, 4]].slice(nd16::s![.., 1]).to_tensor().expect("memory");
    assert_eq!(copy.to_ndarray::<i32, IxDyn>().expect("i32"), array![2, 4].into_dyn());
}
