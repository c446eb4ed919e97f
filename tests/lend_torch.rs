//! `lend_torch`: whatever the closure does, the array gets its memory back, or a copy of it.
//! `lend_torch_or_abort`: a view keeps its memory, or the process ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use dlbridge::{ArrayTorchExt, Error};
use ndarray::{Array2, Axis, array, s};
use tch::Kind;

fn matrix() -> Array2<f32> {
    array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
}

#[test]
fn array_gets_the_same_memory_back() {
    let mut array = matrix();
    let before = array.as_ptr();
    let sum = array.lend_torch(|tensor| {
        assert_eq!(tensor.data_ptr().addr(), before.addr());
        let _ = tensor.g_mul_scalar_(2.0);
        tensor.sum(Kind::Float).double_value(&[])
    });
    assert_eq!(sum, Ok(42.0));
    assert_eq!((array.as_ptr(), array), (before, matrix() * 2.0));
}

#[test]
fn every_owned_layout_can_be_lent() {
    let mut transposed = matrix().reversed_axes();
    transposed
        .lend_torch(|tensor| {
            let _ = tensor.get(0).fill_(0.0);
        })
        .expect("lent");
    assert_eq!(transposed, array![[0.0, 0.0], [2.0, 5.0], [3.0, 6.0]]);
    let mut sliced = matrix();
    sliced.slice_collapse(s![.., ..;2]);
    sliced
        .lend_torch(|tensor| {
            let _ = tensor.fill_(0.0);
        })
        .expect("lent");
    assert_eq!(sliced, array![[0.0, 0.0], [0.0, 0.0]]);
    assert_eq!(sliced.into_raw_vec_and_offset().0, [0.0, 2.0, 0.0, 0.0, 5.0, 0.0]);
    let mut scalar = ndarray::arr0(1.0_f32);
    scalar
        .lend_torch(|tensor| {
            let _ = tensor.fill_(5.0);
        })
        .expect("lent");
    assert_eq!(scalar[()], 5.0);
    let mut empty = Array2::<f32>::zeros((0, 3));
    assert_eq!(empty.lend_torch(|tensor| tensor.size()), Ok(vec![0, 3]));
    assert_eq!(empty.shape(), [0, 3]);
    let mut lonely = matrix().into_shared();
    lonely
        .lend_torch(|tensor| {
            let _ = tensor.fill_(1.0);
        })
        .expect("no other handle shares it");
    assert_eq!(lonely.sum(), 6.0);
}

#[test]
fn refused_arrays_are_unchanged() {
    let mut inverted = matrix();
    inverted.invert_axis(Axis(1));
    let expected = inverted.clone();
    let before = inverted.as_ptr();
    assert!(matches!(inverted.lend_torch(|_| ()), Err(Error::NegativeStride { .. })));
    assert_eq!((inverted.as_ptr(), inverted), (before, expected));
    let mut shared = matrix().into_shared();
    let other = shared.clone();
    assert!(matches!(shared.lend_torch(|_| ()), Err(Error::ReadOnly { .. })));
    assert_eq!(shared.as_ptr(), other.as_ptr());
}

#[test]
fn panic_in_the_closure_returns_the_memory() {
    let mut array = matrix();
    let before = array.as_ptr();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        array.lend_torch(|tensor| {
            let _ = tensor.fill_(1.0);
            panic!("in the closure");
        })
    }));
    assert!(panic.is_err());
    assert_eq!((array.as_ptr(), array.sum()), (before, 6.0));
}

#[test]
fn array_gets_a_copy_if_a_tensor_escapes() {
    type Escape = fn(&mut tch::Tensor) -> tch::Tensor;
    let ways: [Escape; 5] = [
        |tensor| tensor.shallow_clone(),
        |tensor| tensor.get(0),
        |tensor| tensor.detach(),
        |tensor| std::mem::replace(tensor, tch::Tensor::zeros([1], tch::kind::INT64_CPU)),
        |tensor| tensor.view([6]).slice(0, 1, 3, 1),
    ];
    for escape in ways {
        let mut array = matrix();
        let before = array.as_ptr();
        let mut escaped = array.lend_torch(escape).expect("lent");
        assert_ne!(array.as_ptr(), before);
        assert_eq!(array, matrix());
        let _ = escaped.fill_(-1.0);
        assert_eq!(array, matrix(), "the escaped tensor writes its own memory");
        array.fill(3.0);
        assert_eq!(escaped.min().double_value(&[]), -1.0);
    }
}

#[test]
fn array_gets_a_copy_if_a_tensor_escapes_a_panic() {
    let mut array = matrix();
    let mut escaped = None;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        array.lend_torch(|tensor| {
            escaped = Some(tensor.shallow_clone());
            panic!("in the closure");
        })
    }));
    assert!(panic.is_err());
    let _ = escaped.expect("escaped").fill_(0.0);
    assert_eq!(array, matrix());
}

#[test]
fn escaped_tensors_can_be_written_by_another_thread() {
    let mut array = Array2::<f32>::zeros((64, 64));
    let thread = array.lend_torch(|tensor| {
        let mut escaped = tensor.shallow_clone();
        thread::spawn(move || {
            for value in 0..1000 {
                let _ = escaped.fill_(f64::from(value));
            }
            escaped
        })
    });
    let thread = thread.expect("lent");
    array.fill(-1.0);
    let escaped = thread.join().expect("no panic");
    assert_eq!((array.sum(), escaped.double_value(&[0, 0])), (-4096.0, 999.0));
}

#[test]
fn closure_may_swap_and_reshape_tensors() {
    let (mut first, mut second) = (matrix(), Array2::<f32>::ones((3, 3)));
    let (before_first, before_second) = (first.as_ptr(), second.as_ptr());
    first.lend_torch(|a| second.lend_torch(|b| std::mem::swap(a, b))).expect("lent").expect("lent");
    // The inner closure returns first, while the outer tensor has its memory.
    assert_ne!(second.as_ptr(), before_second);
    assert_eq!((first.as_ptr(), &first), (before_first, &matrix()));
    assert_eq!(second, Array2::<f32>::ones((3, 3)));

    let mut array = matrix();
    let before = array.as_ptr();
    let lent = array.lend_torch(|tensor| {
        let _ = tensor.transpose_(0, 1);
        let _ = tensor.unsqueeze_(0);
        let _ = tensor.requires_grad_(true);
        tensor.set_data(&tch::Tensor::zeros([7], tch::kind::FLOAT_CPU));
    });
    assert_eq!(lent, Ok(()));
    assert_eq!((array.as_ptr(), array), (before, matrix()));
}

#[test]
fn invalid_bool_bytes_are_normalized() {
    let mut array = array![true, false, true, false, true];
    array.slice_collapse(s![..;2]);
    array
        .lend_torch(|tensor| {
            let bytes = tensor.view_dtype(Kind::Uint8);
            // `as_strided` reaches the gaps too.
            let _ = bytes.as_strided([5], [1], None).fill_(7);
        })
        .expect("lent");
    assert_eq!(array.to_vec(), [true, true, true]);
    let (vec, _) = array.into_raw_vec_and_offset();
    let bytes: Vec<u8> = vec.into_iter().map(u8::from).collect();
    assert_eq!(bytes, [1; 5]);
    let mut array = array![true, false];
    let escaped = array
        .lend_torch(|tensor| {
            let mut bytes = tensor.view_dtype(Kind::Uint8);
            let _ = bytes.fill_(9);
            bytes
        })
        .expect("lent");
    assert_eq!((array.to_vec(), escaped.int64_value(&[0])), (vec![true, true], 9));
}

#[test]
fn resizing_moves_the_tensor_to_new_memory() {
    let mut array = matrix();
    let before = array.as_ptr();
    let lent = array.lend_torch(|tensor| {
        let _ = tensor.fill_(2.0);
        let _ = tensor.resize_([1000]);
        let _ = tensor.fill_(7.0);
        let other = tch::Tensor::ones([64], tch::kind::FLOAT_CPU);
        let _ = other.f_add_out(tensor, &other);
        tensor.size()
    });
    assert_eq!(lent, Ok(vec![64]));
    assert_eq!((array.as_ptr(), array.sum()), (before, 12.0));
}

#[test]
fn lent_tensors_are_not_unique() {
    use dlbridge::TorchExt;
    let mut array = matrix();
    let refused = array.lend_torch(|tensor| tensor.as_ndarray_mut::<f32, ndarray::Ix2>().map(drop));
    assert_eq!(refused, Ok(Err(Error::NotUnique)));
    let escaped = array.lend_torch(|tensor| tensor.share_dlpack().map(drop)).expect("lent");
    assert_eq!(escaped, Err(Error::NotUnique));
}

#[test]
fn converting_inside_the_closure_counts_as_an_escape() {
    use dlbridge::TorchExt;
    let mut array = matrix();
    let before = array.as_ptr();
    let converted = array.lend_torch(|tensor| {
        let lent = std::mem::replace(tensor, tch::Tensor::zeros([1], tch::kind::FLOAT_CPU));
        let mut converted = lent.into_tensor().expect("no other code in libtorch");
        assert_eq!(
            converted.as_slice_mut::<f32>(),
            Err(Error::NotUnique),
            "`lend_torch` has a handle too"
        );
        converted
    });
    let mut converted = converted.expect("lent");
    converted.as_slice_mut::<f32>().expect("the only handle now").fill(0.0);
    assert_eq!(converted.data_ptr().addr(), before.addr());
    assert_eq!(array, matrix(), "the array has a copy");
}

#[test]
fn views_are_lent_without_a_copy() {
    let mut array = matrix();
    let before = array.as_ptr();
    let mut view = array.view_mut();
    let sum = view.lend_torch_or_abort(|tensor| {
        assert_eq!(tensor.data_ptr().addr(), before.addr());
        let _ = tensor.g_mul_scalar_(2.0);
        let _ = tensor.view([6]).get(0).fill_(0.0);
        tensor.sum(Kind::Float).double_value(&[])
    });
    assert_eq!(sum, Ok(40.0));
    assert_eq!(view, array![[0.0, 4.0, 6.0], [8.0, 10.0, 12.0]]);
    // Rows, in any order of the dimensions; no elements; and one without dimensions.
    let mut rows = array.slice_mut(s![1.., ..]).reversed_axes();
    let strides = rows.lend_torch_or_abort(|tensor| {
        let _ = tensor.fill_(1.0);
        tensor.stride()
    });
    assert_eq!(strides.expect("lent")[0], 1);
    assert_eq!(array, array![[0.0, 4.0, 6.0], [1.0, 1.0, 1.0]]);
    let empty = array.slice_mut(s![..0, ..]).lend_torch_or_abort(|tensor| tensor.shallow_clone());
    assert_eq!(empty.expect("it shares no memory").size(), [0, 3]);
    let scalar = ndarray::arr0(2.0_f64).view_mut().lend_torch_or_abort(|tensor| tensor.square());
    assert_eq!(scalar.expect("lent").double_value(&[]), 4.0);
}

#[test]
fn views_with_memory_between_their_elements_are_refused() {
    let mut array = matrix();
    let expected = array.clone();
    let mut ran = false;
    let (mut left, mut right) = array.view_mut().split_at(Axis(1), 1);
    for view in [&mut left, &mut right] {
        // `as_strided` would reach the elements of the other view.
        let refused = view.lend_torch_or_abort(|_| ran = true).expect_err("gaps");
        let Error::InvalidDescriptor { field, reason, .. } = &refused else { panic!("{refused}") };
        assert_eq!(field, "strides");
        assert!(reason.contains("between the elements"));
    }
    let mut inverted = array.slice_mut(s![..;-1, ..]);
    let refused = inverted.lend_torch_or_abort(|_| ran = true);
    assert!(matches!(refused, Err(Error::NegativeStride { .. })));
    assert_eq!((array, ran), (expected, false));
}

#[test]
fn panic_in_the_closure_ends_the_loan_of_a_view() {
    let mut array = array![true, false];
    let panic = catch_unwind(AssertUnwindSafe(|| {
        array.view_mut().lend_torch_or_abort(|tensor| {
            let _ = tensor.view_dtype(Kind::Uint8).fill_(7);
            panic!("in the closure");
        })
    }));
    assert!(panic.is_err());
    assert_eq!(array, array![true, true], "the bytes are valid bools");
}

#[test]
fn other_handles_inside_the_closure_may_not_write_a_view() {
    use dlbridge::TorchExt;
    let mut array = matrix();
    let refused = array.view_mut().lend_torch_or_abort(|tensor| {
        let view = tensor.as_ndarray_mut::<f32, ndarray::Ix2>().map(drop);
        (view, tensor.share_dlpack().map(drop))
    });
    assert_eq!(refused, Ok((Err(Error::NotUnique), Err(Error::NotUnique))));
}

/// What a closure keeps of the tensor of a view, until after the closure.
type Escape = fn(&mut tch::Tensor) -> Box<dyn std::any::Any>;

const ESCAPES: [Escape; 7] = [
    |tensor| Box::new(tensor.shallow_clone()),
    |tensor| Box::new(tensor.view([6]).slice(0, 1, 3, 1)),
    |tensor| Box::new(std::mem::replace(tensor, tch::Tensor::new())),
    |tensor| Box::new(tensor.fill_(0.0)),
    |tensor| {
        let other = tensor.shallow_clone();
        std::mem::forget(other);
        Box::new(())
    },
    |tensor| {
        use dlbridge::TorchExt;
        let tensor = std::mem::replace(tensor, tch::Tensor::new());
        Box::new(tensor.into_tensor().expect("no other code in libtorch"))
    },
    |tensor| {
        // Autograd's graph keeps the factor.
        let weight = tch::Tensor::ones([3], tch::kind::FLOAT_CPU).set_requires_grad(true);
        Box::new(&*tensor * weight)
    },
];

#[test]
fn escaped_tensors_of_a_view_end_the_process() {
    let variable = "DLBRIDGE_TEST_ESCAPE";
    if let Ok(escape) = std::env::var(variable) {
        // The child process: `panics` stands in front of the number.
        let panics = escape.starts_with("panics");
        let escape =
            ESCAPES[escape.trim_start_matches("panics").parse::<usize>().expect("a number")];
        let (mut array, mut kept) = (matrix(), None);
        let result = catch_unwind(AssertUnwindSafe(|| {
            array.view_mut().lend_torch_or_abort(|tensor| {
                kept = Some(escape(tensor));
                assert!(!panics, "in the closure");
            })
        }));
        println!("survived: {:?}", result.is_ok());
        return;
    }
    for panics in ["", "panics"] {
        for escape in 0..ESCAPES.len() {
            let child = std::process::Command::new(std::env::current_exe().expect("a test"))
                .args(["--exact", "escaped_tensors_of_a_view_end_the_process", "--nocapture"])
                .env(variable, format!("{panics}{escape}"))
                .output()
                .expect("the same test");
            let (output, errors) =
                (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
            assert!(!child.status.success() && !output.contains("survived"), "{escape} {output}");
            assert!(errors.contains("outlived the closure of lend_torch_or_abort"), "{errors}");
        }
    }
}
