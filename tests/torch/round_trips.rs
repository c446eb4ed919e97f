//! Every rank, with and without elements, through every chain of conversions.

use dlbridge::{ArrayDimension, ArrayTorchExt, Element, Ndarray0_17, Tensor, TorchExt};
use ndarray::{Array, ArrayD, Dimension, Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6, IxDyn, ShapeBuilder};

/// Shapes of a rank: sizes of 1 and of 0 in every dimension.
fn shapes(rank: usize) -> Vec<Vec<usize>> {
    let mut shapes = vec![(2..2 + rank).collect::<Vec<_>>(), vec![1; rank], vec![0; rank]];
    for dimension in 0..rank {
        for size in [0, 1] {
            let mut shape = shapes[0].clone();
            shape[dimension] = size;
            shapes.push(shape);
        }
    }
    shapes
}

fn array<T: Element, D: Dimension>(shape: &[usize], fortran: bool, one: T) -> Array<T, D> {
    let elements = vec![one; shape.iter().product()];
    let array = ArrayD::from_shape_vec(IxDyn(shape).set_f(fortran), elements).expect("its length");
    array.into_dimensionality().expect("its rank")
}

/// The address of what is described is never NULL, whatever the shape.
fn not_null(tensor: &Tensor) {
    assert!(!tensor.data_ptr().is_null(), "{:?}", tensor.shape());
}

fn through<
    T: Element,
    D: Dimension + ArrayDimension<Version = Ndarray0_17>,
    E: Dimension + ArrayDimension<Version = Ndarray0_17>,
>(
    one: T,
) {
    let rank = D::NDIM.or(E::NDIM).unwrap_or(3);
    for shape in shapes(rank) {
        for fortran in [false, true] {
            let original = || array::<T, D>(&shape, fortran, one);
            let other = array::<T, E>(&shape, fortran, one);
            // Array -> torch -> NdArray -> Array, of the same type and of another rank type.
            let torch = original().into_torch().expect("moved");
            let nd = torch.into_ndarray::<T, D>().expect("moved");
            not_null(nd.as_tensor());
            assert_eq!(nd.share().to_owned(), original());
            assert_eq!(nd.into_array().expect("what it was"), original());
            let torch = original().into_torch().expect("moved");
            let nd = torch.into_ndarray::<T, E>().expect("moved");
            not_null(nd.as_tensor());
            assert_eq!(nd.into_array().expect("the same memory"), other);
            // libtorch's own memory, a second time through libtorch.
            let torch = original().to_torch().expect("copied");
            let nd = torch.into_ndarray::<T, E>().expect("moved");
            not_null(nd.as_tensor());
            let mut torch = nd.into_torch().expect("back");
            assert_eq!(torch.as_ndarray_mut::<T, E>().expect("alone"), other);
            assert_eq!(TorchExt::to_ndarray::<T, D>(&torch).expect("copied"), original());
            // SAFETY: nothing writes the tensor meanwhile.
            let view = unsafe { torch.as_ndarray_unchecked::<T, E>() }.expect("plain");
            assert_eq!(view, other);
            // DLPack, shared by libtorch and moved by dlbridge.
            let exported = torch.share_dlpack().expect("alone");
            // SAFETY: a struct of dlbridge, made just above; nothing writes the memory meanwhile.
            let tensor = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
            not_null(&tensor);
            assert_eq!(tensor.to_ndarray::<T, D>().expect("copied"), original());
            drop(tensor);
            let tensor = torch.into_tensor().expect("alone again");
            not_null(&tensor);
            assert_eq!(*tensor.into_ndarray::<T, E>().expect("exclusive"), other);
            vectors(&original());
        }
    }
}

/// Array -> torch -> Tensor -> Vec.
fn vectors<T: Element, D: Dimension + ArrayDimension<Version = Ndarray0_17>>(
    original: &Array<T, D>,
) {
    let tensor = original.clone().into_torch().expect("moved").into_tensor().expect("moved");
    let shared = tensor.share();
    not_null(&shared);
    assert_eq!(shared.to_vec::<T>().expect("copied").len(), original.len());
    drop(shared);
    if original.is_standard_layout() && !original.is_empty() {
        let vec = tensor.into_vec::<T>().expect("the array's own");
        assert_eq!(vec.len(), original.len());
    } else if let Ok(vec) = tensor.into_vec::<T>() {
        assert_eq!(vec.len(), original.len());
    }
    // From a copy that libtorch made.
    let copied = TorchExt::to_tensor(&original.to_torch().expect("copied")).expect("copied");
    assert_eq!(copied.to_vec::<T>().expect("readable").len(), original.len());
}

fn every_rank<T: Element>(one: T) {
    through::<T, Ix0, IxDyn>(one);
    through::<T, Ix1, IxDyn>(one);
    through::<T, Ix2, IxDyn>(one);
    through::<T, Ix3, IxDyn>(one);
    through::<T, Ix4, IxDyn>(one);
    through::<T, Ix5, IxDyn>(one);
    through::<T, Ix6, IxDyn>(one);
    through::<T, IxDyn, Ix0>(one);
    through::<T, IxDyn, Ix2>(one);
    through::<T, IxDyn, Ix6>(one);
    through::<T, IxDyn, IxDyn>(one);
}

#[test]
fn every_rank_with_and_without_elements_makes_every_round_trip() {
    every_rank(1.5_f32);
    every_rank(true);
    every_rank(num_complex::Complex::new(1.0_f64, -1.0));
}

#[test]
fn strides_that_mean_nothing_are_libtorchs_own() {
    let strides = |shape: &[i64], given: &[i64]| {
        let layout = dlbridge::Layout::new(shape, given).expect("valid");
        let mut elements = vec![0.0_f32; 100];
        let data = elements.as_mut_ptr().cast();
        let (dtype, device) = (dlbridge::DType::F32, dlbridge::Device::CPU);
        let descriptor = dlbridge::Descriptor::new(data, layout, dtype, device).expect("valid");
        // SAFETY: the elements are in the `Vec`, which the tensor owns.
        let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, elements) };
        // SAFETY: no other code reaches the memory.
        let exclusive = unsafe { tensor.assume_exclusive() }.expect("alone");
        exclusive.into_torch().expect("moved").stride()
    };
    assert_eq!(strides(&[1, 3], &[100, 1]), [3, 1]);
    assert_eq!(strides(&[3, 1], &[1, -9]), [1, 1]);
    assert_eq!(strides(&[0, 2], &[-9, -1]), [2, 1]);
    assert_eq!(strides(&[1], &[0]), [1]);
    assert_eq!(strides(&[2, 1, 3], &[3, 0, 1]), [3, 3, 1]);
    assert_eq!(strides(&[1, 2, 3, 4], &[24, 1, 8, 2]), [24, 1, 8, 2], "channels last");
    assert_eq!(strides(&[2, 1, 3], &[1, 0, 2]), [1, 6, 2]);
    assert_eq!(strides(&[2, 1, 4, 4], &[16, 1, 4, 1]), [16, 1, 4, 1], "and one channel");
    assert_eq!(strides(&[1, 1], &[i64::MIN, i64::MAX]), [1, 1]);
}
