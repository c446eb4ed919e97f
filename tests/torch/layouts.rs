//! Every dtype and layout, both ways.

use dlbridge::{ArrayTorchExt, DType, Element, TorchExt};
use half::{bf16, f16};
use ndarray::{Axis, IxDyn, s};
use num_complex::Complex;
use proptest::prelude::*;
use tch::Kind;

use crate::support::address;

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
        assert_eq!(
            DType::try_from(tensor.f_kind().unwrap_or(Kind::QInt8)).unwrap_or(T::DTYPE),
            T::DTYPE
        );
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
        first in 0_i32..1000,
    ) {
        let mut values = first..;
        let mut array = ndarray::ArrayD::from_shape_simple_fn(IxDyn(&shape), || {
            values.next().expect("endless")
        });
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
        let back = tensor.into_ndarray::<i32, IxDyn>().expect("moved");
        let back = back.into_array().expect("the original");
        prop_assert_eq!(back, expected);
    }
}
