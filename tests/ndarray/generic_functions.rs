//! Functions that are generic over the dimension type, with ndarray's own bound `Dimension`.

use std::ops::Add;

use dlbridge::{ArrayDimension, ArrayExt, Element, NdArray, Ndarray0_17, Result, Tensor};
use ndarray::{
    Array, ArrayRef, ArrayView, ArrayViewMut, Axis, Dim, Dimension, Ix1, Ix2, IxDyn, LinalgScalar,
    RemoveAxis, array,
};

/// Every method that names array types, with its ndarray type.
fn through_every_method<T, D>(array: Array<T, D>) -> Result<Array<T, D>>
where
    T: Element + Add<Output = T>,
    D: Dimension + ArrayDimension<Version = Ndarray0_17>,
{
    let mut tensor: Tensor = array.into_tensor();
    let view: ArrayView<'_, T, D> = tensor.as_ndarray::<T, D>()?;
    let doubled: Array<T, D> = &view + &view;
    let mut view: ArrayViewMut<'_, T, D> = tensor.as_ndarray_mut::<T, D>()?;
    view.assign(&doubled);
    let copy: Array<T, D> = tensor.to_ndarray::<T, D>()?;
    let mut array: NdArray<T, D> = tensor.into_ndarray()?;
    assert_eq!(array, copy);
    let reference: &ArrayRef<T, D> = &array;
    assert_eq!(reference.len(), copy.len());
    assert_eq!(array.view().shape(), array.shape()); // by `Deref`
    let view: ArrayViewMut<'_, T, D> = array.get_mut()?;
    assert_eq!(view.raw_dim(), copy.raw_dim());
    let sum: Array<T, D> = &*array + &*copy;
    assert_eq!(&array + &array, sum);
    let any: NdArray<T, IxDyn> = array.into_dyn();
    let array: NdArray<T, D> = any.into_dimensionality()?;
    let array: Array<T, D> = array.into_array()?;
    Ok(array.into_tensor().into_ndarray::<T, D>()?.into_owned())
}

/// `Dim<I>` in place of `D` needs no bound of dlbridge.
fn sum_of_rows<T, I>(tensor: &Tensor) -> Result<Array<T, <Dim<I> as Dimension>::Smaller>>
where
    T: Element + LinalgScalar,
    Dim<I>: RemoveAxis + 'static,
{
    Ok(tensor.as_ndarray::<T, Dim<I>>()?.sum_axis(Axis(0)))
}

/// A function that does not name array types needs only `ArrayDimension`, and works for every
/// version of ndarray.
fn lengths<T: Element, D: ArrayDimension>(tensors: Vec<Tensor>) -> Result<Vec<usize>> {
    let arrays = tensors.into_iter().map(|tensor| Ok(tensor.into_ndarray::<T, D>()?));
    let arrays: Result<Vec<NdArray<T, D>>> = arrays.collect();
    Ok(arrays?.iter().map(|array| array.into_iter().count()).collect())
}

#[test]
fn methods_return_the_array_types_of_the_bound() {
    let result = through_every_method(array![[1, 2], [3, 4]]);
    assert_eq!(result.expect("every method"), array![[2, 4], [6, 8]]);
    let result = through_every_method(array![1.5_f32, 2.0].into_dyn());
    assert_eq!(result.expect("every method"), array![3.0, 4.0].into_dyn());
}

#[test]
fn bounds_may_be_on_the_inner_type() {
    let tensor = array![[1, 2], [3, 4]].into_tensor();
    assert_eq!(sum_of_rows::<i32, [usize; 2]>(&tensor).expect("rank 2"), array![4, 6]);
}

#[test]
fn functions_may_be_generic_over_the_version() {
    let tensors = || vec![Tensor::zeros::<u8>([3]).expect("memory"), array![1_u8].into_tensor()];
    assert_eq!(lengths::<u8, Ix1>(tensors()).expect("rank 1"), [3, 1]);
    assert!(lengths::<u8, Ix2>(tensors()).is_err());
    #[cfg(feature = "ndarray-0_16")]
    assert_eq!(lengths::<u8, ndarray_0_16::IxDyn>(tensors()).expect("any rank"), [3, 1]);
}

#[test]
fn references_of_ndarray_are_compared() {
    let nd = array![1, 2, 3].into_tensor().into_ndarray::<i32, Ix1>().expect("i32");
    let array = array![1, 2, 3];
    let reference: &ArrayRef<i32, Ix1> = &array;
    assert!(nd == *reference && *nd == array);
    assert!(*reference == nd);
}
