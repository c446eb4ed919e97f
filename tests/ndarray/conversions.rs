//! Every type and layout both ways, and who may write.

use dlbridge::{
    Access, ArrayDimension, ArrayExt, DType, Descriptor, Device, Element, Error, Layout, NdArray,
    Tensor,
};
use half::{bf16, f16};
use ndarray::{
    ArcArray, Array, Array2, Array3, ArrayD, Axis, Dimension, Ix0, Ix1, Ix2, Ix3, Ix4, Ix5, Ix6,
    IxDyn, array, s,
};
use num_complex::Complex;

use crate::Version;

/// Address of the first element of a struct.
fn data_of<T>(exported: &dlbridge::Exported) -> *mut T {
    // SAFETY: valid as long as `exported` lives.
    unsafe { exported.as_ptr().as_ref() }.dl_tensor.data.cast()
}

fn matrix() -> Array2<f32> {
    array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
}

/// Arrays of one set of values in layouts of every kind.
fn layouts<T: Element>(value: impl Fn(usize) -> T) -> Vec<ArrayD<T>> {
    let base = || Array3::from_shape_fn((4, 3, 2), |(i, j, k)| value(6 * i + 2 * j + k));
    let sliced = |by: fn(&mut Array3<T>)| {
        let mut array = base();
        by(&mut array);
        array.into_dyn()
    };
    vec![
        base().into_dyn(),
        base().reversed_axes().into_dyn(),
        base().permuted_axes([1, 2, 0]).into_dyn(),
        sliced(|array| array.invert_axis(Axis(0))),
        sliced(|array| {
            array.invert_axis(Axis(1));
            array.swap_axes(0, 2);
        }),
        sliced(|array| array.slice_collapse(s![1..3, .., ..])),
        sliced(|array| array.slice_collapse(s![..;2, ..;-2, 1..])),
        sliced(|array| array.slice_collapse(s![2..3, 1..2, ..])),
        sliced(|array| array.slice_collapse(s![2..2, .., ..])),
        Array::from_elem(IxDyn(&[]), value(7)),
        Array::from_elem(IxDyn(&[1, 1, 1, 1, 1, 1, 1, 1, 1]), value(8)),
        Array::from_shape_vec(IxDyn(&[0]), vec![]).expect("empty"),
        Array::from_shape_vec(IxDyn(&[3, 0, 2]), vec![]).expect("empty"),
    ]
}

fn round_trip<T: Element>(value: impl Fn(usize) -> T) {
    for array in layouts(&value) {
        let (expected, address, strides) =
            (array.clone(), array.as_ptr(), array.strides().to_vec());
        let tensor = array.into_tensor();
        assert_eq!(tensor.dtype(), T::DTYPE);
        let shared = tensor.share();
        assert_eq!(shared.as_ndarray::<T, IxDyn>().expect("a view"), expected);
        assert_eq!(tensor.to_ndarray::<T, IxDyn>().expect("a copy"), expected);
        let cloned =
            tensor.deep_clone().expect("memory").into_ndarray::<T, IxDyn>().expect("an array");
        assert_eq!(cloned, expected);
        drop(shared);
        let array: NdArray<T, IxDyn> = tensor.into_ndarray().expect("an array");
        assert_eq!(array, expected);
        let back = array.into_array().expect("the original");
        assert_eq!(back, expected);
        assert_eq!((back.as_ptr(), back.strides()), (address, &strides[..]));
    }
}

#[test]
fn every_dtype_and_layout_round_trips() {
    round_trip(|i| i as u8);
    round_trip(|i| i as u16);
    round_trip(|i| i as u32);
    round_trip(|i| i as u64);
    round_trip(|i| i as i8);
    round_trip(|i| i as i16);
    round_trip(|i| i as i32);
    round_trip(|i| i as i64);
    round_trip(|i| i);
    round_trip(|i| i as isize);
    round_trip(|i| f16::from_f64(i as f64));
    round_trip(|i| bf16::from_f64(i as f64));
    round_trip(|i| i as f32);
    round_trip(|i| i as f64);
    round_trip(|i| i % 3 == 0);
    round_trip(|i| Complex::new(i as f32, -1.0));
    round_trip(|i| Complex::new(i as f64, -1.0));
}

/// Shapes of one rank: with elements, of size 1 everywhere, and with a 0 in every place.
fn shapes_of_rank(rank: usize) -> Vec<Vec<usize>> {
    let shape: Vec<usize> = (0..rank).map(|dimension| 1 + dimension % 3).collect();
    let mut shapes = vec![shape.clone(), vec![1; rank]];
    for dimension in 0..rank {
        let mut empty = shape.clone();
        empty[dimension] = 0;
        shapes.push(empty);
    }
    shapes
}

fn array_of<T: Element, D: Dimension>(shape: &[usize], value: impl Fn(usize) -> T) -> Array<T, D> {
    let len = shape.iter().product();
    let array = ArrayD::from_shape_vec(shape, (0..len).map(value).collect()).expect("it fits");
    array.into_dimensionality().expect("the rank")
}

/// Through tensors, structs and views, and back as an array of rank type `B`.
fn through_every_form<
    A: Dimension + ArrayDimension<Version = Version>,
    B: Dimension + ArrayDimension<Version = Version>,
>(
    array: Array<f64, A>,
) {
    let expected = array.clone().into_dyn();
    let mut tensor = array.into_tensor();
    assert_eq!(tensor.as_ndarray::<f64, B>().expect("a view").into_dyn(), expected);
    assert_eq!(tensor.as_ndarray_mut::<f64, B>().expect("alone").into_dyn(), expected);
    assert_eq!(tensor.to_ndarray::<f64, B>().expect("a copy").into_dyn(), expected);
    // SAFETY: our own struct, of a moment ago.
    let back = unsafe { Tensor::from_dlpack(tensor.into_dlpack().into_raw()) }.expect("our own");
    let mut array = back.into_ndarray::<f64, B>().expect("an array");
    assert!(!array.view().as_ptr().is_null() && array.view().as_ptr().is_aligned());
    assert_eq!(array.view().into_dyn(), expected);
    assert_eq!(array.get_mut().expect("alone").into_dyn(), expected);
    let copy = array.to_tensor().expect("a copy");
    assert_eq!(copy.to_ndarray::<f64, IxDyn>().expect("an array"), expected);
    let array = array.into_array().expect("the original");
    let vec = array.into_tensor().into_vec::<f64>().expect("its Vec");
    assert_eq!(vec, Vec::from_iter(expected));
}

/// Through libtorch, which gives empty tensors no address, and back as an array of rank type `B`.
#[cfg(feature = "torch")]
fn through_libtorch<
    A: Dimension + ArrayDimension<Version = Version>,
    B: Dimension + ArrayDimension<Version = Version>,
>(
    array: Array<f64, A>,
) {
    use dlbridge::{ArrayTorchExt, TorchExt};
    let expected = array.clone().into_dyn();
    let torch = array.clone().into_torch().expect("moved");
    let array_again = torch.into_ndarray::<f64, B>().expect("an array");
    assert!(!array_again.view().as_ptr().is_null() && array_again.view().as_ptr().is_aligned());
    assert_eq!(array_again.into_array().expect("the original").into_dyn(), expected);
    let tensor = array.into_torch().expect("moved").into_tensor().expect("a tensor");
    assert_eq!(tensor.as_slice::<f64>().expect("contiguous"), expected.as_slice().expect("too"));
    assert_eq!(tensor.into_vec::<f64>().expect("its Vec"), Vec::from_iter(expected));
}

#[cfg(not(feature = "torch"))]
fn through_libtorch<A: Dimension, B: Dimension>(_array: Array<f64, A>) {}

#[test]
fn every_rank_and_empty_shapes_round_trip() {
    fn every_form<D: Dimension + ArrayDimension<Version = Version>>(rank: usize) {
        for shape in shapes_of_rank(rank) {
            let value = |index| index as f64;
            through_every_form::<D, D>(array_of(&shape, value));
            through_every_form::<D, IxDyn>(array_of(&shape, value));
            through_every_form::<IxDyn, D>(array_of(&shape, value));
            through_libtorch::<D, D>(array_of(&shape, value));
            through_libtorch::<D, IxDyn>(array_of(&shape, value));
            through_libtorch::<IxDyn, D>(array_of(&shape, value));
        }
    }
    every_form::<Ix0>(0);
    every_form::<Ix1>(1);
    every_form::<Ix2>(2);
    every_form::<Ix3>(3);
    every_form::<Ix4>(4);
    every_form::<Ix5>(5);
    every_form::<Ix6>(6);
    every_form::<IxDyn>(7);
}

#[test]
fn static_and_dynamic_ranks_convert() {
    fn through<
        A: Dimension + ArrayDimension<Version = Version>,
        B: Dimension + ArrayDimension<Version = Version>,
    >(
        array: Array<f32, A>,
    ) -> Result<Array<f32, B>, Error> {
        Ok(array.into_tensor().into_ndarray::<f32, B>()?.into_array()?)
    }
    assert_eq!(through::<Ix2, IxDyn>(matrix()).expect("any rank"), matrix().into_dyn());
    assert_eq!(through::<IxDyn, Ix2>(matrix().into_dyn()).expect("rank 2"), matrix());
    assert_eq!(through::<Ix2, Ix3>(matrix()), Err(Error::RankMismatch { expected: 3, found: 2 }));
    assert_eq!(through::<Ix0, Ix0>(ndarray::arr0(1.0)).expect("rank 0"), ndarray::arr0(1.0));
}

#[test]
fn refused_conversions_return_the_tensor() {
    let tensor = matrix().into_tensor();
    let tensor = tensor.into_ndarray::<f64, Ix2>().expect_err("f32").into_value();
    let tensor = tensor.into_ndarray::<f32, Ix1>().expect_err("rank 2").into_value();
    assert_eq!(
        tensor.into_ndarray::<f32, Ix2>().expect("right").into_array().expect("the original"),
        matrix()
    );
}

#[test]
fn shared_arc_arrays_are_read_only_and_unique_ones_exclusive() {
    let shared: ArcArray<f32, Ix2> = matrix().into_shared();
    let other = shared.clone();
    let tensor = shared.into_tensor();
    assert_eq!(tensor.access(), Access::ReadOnly);
    let mut array = tensor.into_ndarray::<f32, Ix2>().expect("readable");
    assert!(matches!(array.get_mut(), Err(Error::ReadOnly { .. })));
    array.make_mut().expect("copied first")[[0, 0]] = 9.0;
    assert_eq!((array[[0, 0]], other[[0, 0]]), (9.0, 1.0));
    assert_eq!(other.into_tensor().access(), Access::Exclusive, "no other handle shares it now");
}

#[test]
fn writable_views_need_a_unique_handle() {
    let mut array = matrix().into_tensor().into_ndarray::<f32, Ix2>().expect("f32");
    array.get_mut().expect("alone").fill(1.0);
    let shared = array.share();
    assert!(matches!(array.get_mut(), Err(Error::NotUnique)));
    let before = array.view().as_ptr();
    array.make_mut().expect("copied")[[1, 1]] = 2.0;
    assert_ne!(array.view().as_ptr(), before);
    assert_eq!((shared.view().sum(), array.view().sum()), (6.0, 7.0));
    let before = array.view().as_ptr();
    array.make_mut().expect("alone").fill(0.0);
    assert_eq!(array.view().as_ptr(), before, "no copy when alone");
    let rejected = {
        let other = shared.share();
        let rejected = shared.into_array().expect_err("two");
        drop(other);
        rejected
    };
    assert_eq!(*rejected.error(), Error::NotUnique);
    assert!(rejected.into_value().into_array().is_ok());
}

#[test]
fn changing_a_views_layout_leaves_the_tensor_unchanged() {
    let mut array = matrix().into_tensor().into_ndarray::<f32, Ix2>().expect("f32");
    let mut view = array.get_mut().expect("alone");
    view.invert_axis(Axis(0));
    view.slice_collapse(s![..1, ..]);
    assert_eq!(array, matrix());
    let mut tensor = array.into_tensor();
    tensor.as_ndarray_mut::<f32, Ix2>().expect("alone").swap_axes(0, 1);
    assert_eq!(tensor.as_ndarray::<f32, Ix2>().expect("f32"), matrix());
}

#[test]
fn negative_strides_round_trip() {
    let mut array = matrix();
    array.invert_axis(Axis(1));
    let tensor = array.clone().into_tensor();
    assert_eq!(tensor.strides(), [3, -1]);
    assert_eq!(tensor.as_ndarray::<f32, Ix2>().expect("a view"), array);
    let clone = tensor.deep_clone().expect("memory");
    assert_eq!(clone.strides(), [3, 1]);
    assert_eq!(clone.as_ndarray::<f32, Ix2>().expect("a view"), array);
}

fn wrapped<T: Element>(mut values: Vec<T>, shape: &[i64], strides: &[i64]) -> Tensor {
    let layout = Layout::new(shape, strides).expect("valid");
    let data = values.as_mut_ptr().cast();
    let descriptor = Descriptor::new(data, layout, T::DTYPE, Device::CPU).expect("valid");
    // SAFETY: the owner keeps the elements, which no other code reaches.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, values) };
    // SAFETY: this handle is the only one, and nothing else reaches the elements.
    unsafe { tensor.assume_exclusive() }.expect("alone")
}

#[test]
fn overlapping_layouts_have_no_writable_views() {
    for (shape, strides) in
        [(&[2_i64, 3][..], &[0_i64, 1][..]), (&[3, 3], &[1, 1]), (&[3, 2], &[2, 3])]
    {
        let mut tensor = wrapped(vec![1.0_f32; 9], shape, strides);
        assert!(tensor.as_ndarray::<f32, Ix2>().is_ok());
        assert!(matches!(tensor.as_ndarray_mut::<f32, Ix2>(), Err(Error::SelfOverlap { .. })));
        let mut array = tensor.into_ndarray::<f32, Ix2>().expect("readable");
        assert!(matches!(array.get_mut(), Err(Error::SelfOverlap { .. })));
        assert!(array.make_mut().is_ok(), "a copy has elements of its own");
    }
}

#[test]
fn shapes_beyond_ndarrays_limits_are_refused() {
    let huge = Layout::new(&[1 << 62, 1 << 62, 0], &[1, 1, 1]).expect("no elements");
    let descriptor =
        Descriptor::new(std::ptr::null_mut(), huge, DType::F32, Device::CPU).expect("valid");
    // SAFETY: there are no elements.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, false, ()) };
    assert!(matches!(tensor.as_ndarray::<f32, Ix3>(), Err(Error::Overflow { .. })));
    assert!(matches!(tensor.to_ndarray::<f32, IxDyn>(), Err(Error::Overflow { .. })));
    assert!(matches!(
        tensor.into_ndarray::<f32, IxDyn>().expect_err("too many").into_error(),
        Error::Overflow { .. }
    ));
}

#[test]
fn strides_of_size_one_and_empty_dims_are_ignored() {
    for (shape, strides) in
        [(&[1_i64, 3][..], &[i64::MAX, 1][..]), (&[0, 3], &[i64::MIN, -1]), (&[1, 1], &[-5, 0])]
    {
        let mut tensor = wrapped(vec![1.0_f32; 3], shape, strides);
        assert_eq!(tensor.as_ndarray_mut::<f32, Ix2>().expect("a view").len(), tensor.len());
        let array = tensor.into_ndarray::<f32, Ix2>().expect("an array");
        assert_eq!(array.view().iter().count(), array.view().len());
    }
}

#[test]
fn misaligned_memory_can_be_copied_but_not_viewed() {
    let mut bytes = vec![0_u8; 16];
    let layout = Layout::contiguous([2]).expect("small");
    let odd = bytes.as_mut_ptr().wrapping_add(1 + bytes.as_ptr().align_offset(4)).cast();
    let descriptor = Descriptor::new(odd, layout, DType::F32, Device::CPU).expect("valid");
    // SAFETY: 8 of the owner's 16 bytes.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, false, bytes) };
    assert!(matches!(tensor.as_ndarray::<f32, Ix1>(), Err(Error::Misaligned { align: 4, .. })));
    assert_eq!(tensor.to_ndarray::<f32, Ix1>().expect("copied"), array![0.0, 0.0]);
}

#[test]
fn into_array_checks_the_bool_bytes_between_elements() {
    let mut array = array![true, false, true, false, true];
    array.slice_collapse(s![..;2]);
    let exported = array.into_tensor().into_dlpack();
    // SAFETY: the struct may be written, and no view lives. The byte is in a gap of the slice.
    unsafe { data_of::<u8>(&exported).wrapping_add(1).write(3) };
    // SAFETY: our own struct.
    let tensor = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
    let array = tensor.into_ndarray::<bool, Ix1>().expect("the elements are fine");
    assert_eq!(array, array![true, true, true]);
    let rejected = array.into_array().expect_err("the Vec behind it is not");
    assert_eq!(*rejected.error(), Error::InvalidBool { value: 3 });
    assert_eq!(rejected.into_value().view().to_vec(), [true, true, true]);
}

#[test]
fn vecs_and_arrays_convert_into_each_other() {
    let vec = vec![1_u16, 2, 3, 4];
    let address = vec.as_ptr();
    let array = Tensor::from_vec(vec, [2, 2]).expect("4").into_ndarray::<u16, Ix2>().expect("u16");
    let array = array.into_array().expect("the Vec");
    assert_eq!((array.as_ptr(), &array), (address, &array![[1, 2], [3, 4]]));
    let vec = array.into_tensor().into_vec::<u16>().expect("the Vec");
    assert_eq!(vec.as_ptr(), address);

    let mut sliced = array![1, 2, 3, 4];
    sliced.slice_collapse(s![1..3]);
    let rejected = sliced.into_tensor().into_vec::<i32>().expect_err("a part of its Vec");
    assert!(matches!(rejected.error(), Error::NotOriginal { .. }));
    let tensor = rejected.into_value();
    assert_eq!(tensor.as_slice::<i32>().expect("still whole"), [2, 3]);
    let rejected = tensor.into_vec::<i32>().expect_err("still a part");
    assert_eq!(
        rejected.into_value().into_ndarray::<i32, Ix1>().expect("readable").view().to_vec(),
        [2, 3]
    );
}

#[test]
fn copies_of_views_keep_the_memory_order() {
    let array = matrix();
    let tensor = array.t().to_tensor().expect("memory");
    assert_eq!((tensor.shape(), tensor.strides()), (&[3, 2][..], &[1, 3][..]));
    assert_eq!(tensor.to_ndarray::<f32, Ix2>().expect("f32"), array.t());
    assert_eq!(
        array.slice(s![.., ..;-1]).to_list().expect("rank 2").to_string(),
        "[[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]]"
    );
    assert_eq!(
        array
            .view()
            .into_dyn()
            .broadcast(IxDyn(&[2, 2, 3]))
            .expect("fits")
            .to_tensor()
            .expect("memory")
            .len(),
        12
    );
    let wrapped = array.into_tensor().into_ndarray::<f32, Ix2>().expect("f32");
    assert_eq!(
        wrapped.to_list().expect("rank 2").to_string(),
        "[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]"
    );
    assert_eq!(wrapped.to_tensor().expect("memory").len(), 6);
}

#[test]
fn handles_are_send_and_sync() {
    fn sendable<T: Send + Sync>(value: T) -> T {
        value
    }
    let array = sendable(sendable(matrix().into_tensor()).into_ndarray::<f32, Ix2>().expect("f32"));
    let shared = array.share();
    let sum = std::thread::spawn(move || shared.view().sum()).join().expect("no panic");
    assert_eq!(sum, array.view().sum());
}

#[test]
fn many_planes_are_interleaved_and_deinterleaved() {
    // Large enough for non-temporal stores. 15 planes of bytes once overran their store buffer.
    let (images, planes, pixels) = (300, 15, 1024);
    let values = Vec::from_iter((0..images * planes * pixels).map(|index| (index % 251) as u8));
    let array = ndarray::Array3::from_shape_vec((images, pixels, planes), values).expect("fits");
    let expected = array.clone().permuted_axes([0, 2, 1]).as_standard_layout().into_owned();
    let tensor = Tensor::from(array.permuted_axes([0, 2, 1]));
    let mut target =
        Tensor::zeros::<u8>([images as i64, planes as i64, pixels as i64]).expect("memory");
    tensor.copy_into(&mut target).expect("same shape");
    assert_eq!(
        target.as_slice::<u8>().expect("contiguous"),
        expected.as_slice().expect("standard")
    );
    let mut back = tensor.deep_clone().expect("memory");
    target.copy_into(&mut back).expect("same shape");
    assert_eq!(back.to_vec::<u8>().expect("u8"), expected.as_slice().expect("standard"));
}
