//! Views of tensors, against libtorch's own shape, strides, first element, and its refusals.

use dlbridge::{Rejected, Tensor, TorchExt};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// One view that libtorch has, too. The arguments are taken as they are.
#[derive(Clone, Debug)]
enum Step {
    Permute(Vec<i64>),
    Transpose(i64, i64),
    Slice(i64, Option<i64>, Option<i64>, i64),
    Select(i64, i64),
    Expand(Vec<i64>),
    Squeeze,
    SqueezeDim(i64),
    Unsqueeze(i64),
    Reshape(Vec<i64>),
    AsStrided(Vec<(i64, i64)>, i64),
}

/// A step, and true if its arguments are to be made right for the tensor. libtorch takes long for
/// each error, so most steps are right.
fn step() -> impl Strategy<Value = (Step, bool)> {
    let dim = || -4_i64..4;
    let bound = || {
        proptest::option::weighted(
            0.7,
            prop_oneof![20 => -7_i64..8, 1 => Just(i64::MIN), 1 => Just(i64::MAX)],
        )
    };
    let step = prop_oneof![
        2 => vec(dim(), 0..5).prop_map(Step::Permute),
        2 => (dim(), dim()).prop_map(|(dim0, dim1)| Step::Transpose(dim0, dim1)),
        2 => (dim(), bound(), bound(), prop_oneof![1_i64..4, 0_i64..4, Just(1 << 40)])
            .prop_map(|(dim, start, end, step)| Step::Slice(dim, start, end, step)),
        2 => (dim(), -4_i64..4).prop_map(|(dim, index)| Step::Select(dim, index)),
        2 => vec(prop_oneof![5 => Just(-1_i64), 4 => 0_i64..5, 1 => Just(-2_i64)], 0..6)
            .prop_map(Step::Expand),
        2 => Just(Step::Squeeze),
        2 => dim().prop_map(Step::SqueezeDim),
        2 => (-5_i64..5).prop_map(Step::Unsqueeze),
        3 => vec(prop_oneof![2 => Just(-1_i64), 12 => 0_i64..7, 1 => Just(-2_i64)], 0..5)
            .prop_map(Step::Reshape),
        2 => (vec((0_i64..4, 0_i64..5), 0..4), -6_i64..9)
            .prop_map(|(dims, offset)| Step::AsStrided(dims, offset)),
    ];
    (step, proptest::bool::weighted(0.85))
}

impl Step {
    /// This step with arguments that most tensors of the shape have: dimensions in range, a
    /// permutation, sizes that fit.
    fn made_right(self, shape: &[i64], len: usize) -> Self {
        let rank = shape.len() as i64;
        let dim_of = |dim: i64, rank: i64| {
            if rank == 0 { dim.clamp(-1, 0) } else { dim % rank }
        };
        let dim = |dim: i64| dim_of(dim, rank);
        match self {
            // No index or slice is right.
            Self::Select(..) if shape.contains(&0) => Self::Squeeze,
            Self::Slice(..) | Self::Select(..) if rank == 0 => Self::Unsqueeze(0),
            Self::Permute(keys) => {
                let mut order: Vec<i64> = (0..rank).collect();
                order.sort_by_key(|&dim| keys.get(dim as usize).copied());
                // Every other dimension counts from the end.
                order.iter_mut().step_by(2).for_each(|dim| *dim -= rank);
                Self::Permute(order)
            }
            Self::Transpose(dim0, dim1) => Self::Transpose(dim(dim0), dim(dim1)),
            Self::Slice(of, start, end, step) => Self::Slice(dim(of), start, end, step),
            Self::Select(of, index) => {
                let of = dim(of);
                let size = shape.get(of.rem_euclid(rank.max(1)) as usize).copied().unwrap_or(1);
                Self::Select(of, index % size.max(1))
            }
            Self::Expand(sizes) => {
                let target = |(&own, size): (&i64, i64)| match own {
                    1 => size.max(-1),
                    own if size < 0 => size.max(-1).min(own),
                    own => own,
                };
                let drawn = sizes.iter().copied().chain(std::iter::repeat(3));
                let own: Vec<i64> = shape.iter().zip(drawn).map(target).collect();
                let added = sizes.len().saturating_sub(shape.len());
                Self::Expand([vec![2; added], own].concat())
            }
            Self::SqueezeDim(of) => Self::SqueezeDim(dim(of)),
            Self::Unsqueeze(of) => Self::Unsqueeze(dim_of(of, rank + 1)),
            Self::Reshape(drawn) => Self::Reshape(shape_for(&drawn, len)),
            Self::AsStrided(dims, offset) => {
                let near = dims.into_iter().take(2).map(|(size, stride)| (size % 3, stride % 3));
                Self::AsStrided(near.collect(), if len > 4 { offset.rem_euclid(3) } else { 0 })
            }
            Self::Squeeze => Self::Squeeze,
        }
    }
}

/// The drawn sizes, made smaller until their product divides the number of elements, and a last
/// size that makes them equal. Sizes of 0 and one of -1 stay.
fn shape_for(drawn: &[i64], len: usize) -> Vec<i64> {
    let mut left = len as i64;
    let mut shape = drawn.to_vec();
    for size in shape.iter_mut().filter(|size| **size > 1) {
        while left % *size != 0 {
            *size -= 1;
        }
        left /= *size;
    }
    if !shape.contains(&-1) && !shape.contains(&0) {
        shape.push(left);
    }
    shape
}

// `Rejected` contains the tensor.
#[allow(clippy::result_large_err)]
fn ours(tensor: Tensor, step: &Step) -> Result<Tensor, Rejected<Tensor>> {
    match step {
        Step::Permute(dims) => tensor.permute(dims),
        Step::Transpose(dim0, dim1) => tensor.transpose(*dim0, *dim1),
        Step::Slice(dim, start, end, step) => tensor.slice(*dim, *start, *end, *step),
        Step::Select(dim, index) => tensor.select(*dim, *index),
        Step::Expand(shape) => tensor.expand(shape),
        Step::Squeeze => tensor.squeeze(),
        Step::SqueezeDim(dim) => tensor.squeeze_dim(*dim),
        Step::Unsqueeze(dim) => tensor.unsqueeze(*dim),
        Step::Reshape(shape) => tensor.reshape(shape),
        Step::AsStrided(dims, offset) => {
            let (shape, strides): (Vec<i64>, Vec<i64>) = dims.iter().copied().unzip();
            tensor.as_strided(shape, strides, *offset)
        }
    }
}

/// The place of the first element in the storage. Tensors without elements have no address.
fn place(tensor: &tch::Tensor, first: usize) -> i64 {
    (tensor.data_ptr().addr().saturating_sub(first) / size_of::<i32>()) as i64
}

fn libtorchs(
    tensor: &tch::Tensor,
    step: &Step,
    first: usize,
) -> Result<tch::Tensor, tch::TchError> {
    match step {
        Step::Permute(dims) => tensor.f_permute(dims),
        Step::Transpose(dim0, dim1) => tensor.f_transpose(*dim0, *dim1),
        Step::Slice(dim, start, end, step) => tensor.f_slice(*dim, *start, *end, *step),
        Step::Select(dim, index) => tensor.f_select(*dim, *index),
        Step::Expand(shape) => tensor.f_expand(shape, false),
        Step::Squeeze => tensor.f_squeeze(),
        Step::SqueezeDim(dim) => tensor.f_squeeze_dim(*dim),
        Step::Unsqueeze(dim) => tensor.f_unsqueeze(*dim),
        Step::Reshape(shape) => tensor.f_view(shape.as_slice()),
        Step::AsStrided(dims, offset) => {
            let (shape, strides): (Vec<i64>, Vec<i64>) = dims.iter().copied().unzip();
            tensor.f_as_strided(shape, strides, place(tensor, first) + offset)
        }
    }
}

/// What the chains did, for each step that libtorch has.
#[derive(Debug, Default)]
struct Counts {
    views: std::collections::BTreeMap<&'static str, usize>,
    refused: std::collections::BTreeMap<&'static str, usize>,
    copies_needed: usize,
}

fn name(step: &Step) -> &'static str {
    match step {
        Step::Permute(_) => "permute",
        Step::Transpose(..) => "transpose",
        Step::Slice(..) => "slice",
        Step::Select(..) => "select",
        Step::Expand(_) => "expand",
        Step::Squeeze | Step::SqueezeDim(_) => "squeeze",
        Step::Unsqueeze(_) => "unsqueeze",
        Step::Reshape(_) => "view",
        Step::AsStrided(..) => "as_strided",
    }
}

fn same(tensor: &Tensor, torch: &tch::Tensor, firsts: (usize, usize), context: &str) {
    assert_eq!(tensor.shape(), torch.size(), "{context}");
    if tensor.is_empty() {
        return;
    }
    for ((&size, &stride), other) in tensor.shape().iter().zip(tensor.strides()).zip(torch.stride())
    {
        assert!(
            size == 1 || stride == other,
            "{context}: {:?} {:?}",
            tensor.layout(),
            torch.stride()
        );
    }
    let offset = tensor.data_ptr().addr() - firsts.0;
    assert_eq!(offset, torch.data_ptr().addr() - firsts.1, "{context}");
    let numbers = torch.contiguous().view([-1]);
    assert_eq!(
        tensor.to_vec::<i32>().expect("on the host"),
        Vec::<i32>::try_from(numbers).expect("numbers")
    );
}

#[test]
fn chains_of_views_are_those_of_libtorch() {
    let config =
        ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let counts = std::cell::RefCell::new(Counts::default());
    let chains = (vec(prop_oneof![1 => Just(0_i64), 8 => 1_i64..5], 0..5), vec(step(), 1..9));
    let result = TestRunner::new(config).run(&chains, |(shape, steps)| {
        let len: i64 = shape.iter().product();
        let numbers: Vec<i32> = (0..len as i32).collect();
        let mut torch = tch::Tensor::from_slice(&numbers).view(shape.as_slice());
        let firsts = (numbers.as_ptr().addr(), torch.data_ptr().addr());
        let mut tensor = Tensor::from_vec(numbers, &shape).expect("it fits");
        let mut counts = counts.borrow_mut();
        for (step, right) in steps {
            let step = match right {
                true => step.made_right(tensor.shape(), tensor.len()),
                false => step,
            };
            let step = &step;
            let context = format!("{step:?} of {:?}", tensor.layout());
            let theirs = libtorchs(&torch, step, firsts.1);
            match (ours(tensor, step), theirs) {
                (Ok(view), Ok(theirs)) => {
                    *counts.views.entry(name(step)).or_default() += 1;
                    same(&view, &theirs, firsts, &context);
                    (tensor, torch) = (view, theirs);
                }
                (Err(rejected), Err(_)) => {
                    *counts.refused.entry(name(step)).or_default() += 1;
                    counts.copies_needed += usize::from(rejected.error().remedy().is_some());
                    tensor = rejected.into_value();
                }
                // libtorch expands tensors without elements to negative sizes.
                (Err(rejected), Ok(theirs)) if theirs.size().iter().any(|&size| size < 0) => {
                    tensor = rejected.into_value();
                }
                // libtorch compares with the storage, which goes on behind the tensor.
                (Err(rejected), Ok(_)) if matches!(step, Step::AsStrided(..)) => {
                    tensor = rejected.into_value();
                }
                // libtorch has no negative offset, even without elements.
                (Ok(view), Err(_)) if matches!(step, Step::AsStrided(..)) && view.is_empty() => {
                    break;
                }
                (Ok(view), Err(error)) => panic!("{context}: {:?}, but {error}", view.layout()),
                (Err(rejected), Ok(theirs)) => {
                    panic!("{context}: {}, but {:?}", rejected.error(), theirs.size())
                }
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let Counts { views, refused, copies_needed } = counts.into_inner();
    assert_eq!(views.len(), 9, "{views:?}");
    assert!(views.values().all(|&count| count > 200), "{views:?}");
    assert!(refused.len() == 9 && refused.values().all(|&count| count > 15), "{refused:?}");
    assert!(copies_needed > 20, "{copies_needed}");
}

/// `flip` copies in libtorch: the elements are the same, and the strides are not.
#[test]
fn flips_have_the_elements_of_libtorch() {
    let shape = [2_i64, 3, 4];
    let numbers: Vec<i32> = (0..24).collect();
    let torch = tch::Tensor::from_slice(&numbers).view(shape);
    for dims in [&[0_i64][..], &[1, 2], &[-1, -3], &[0, 1, 2], &[]] {
        let tensor = Tensor::from_vec(numbers.clone(), shape).expect("24");
        let flipped = tensor.flip(dims).expect("a view");
        let expected = torch.flip(dims).to_ndarray::<i32, ndarray::IxDyn>().expect("a copy");
        assert_eq!(flipped.to_ndarray::<i32, ndarray::IxDyn>().expect("a copy"), expected);
    }
    let scalar = || Tensor::from_vec(vec![7_i32], [] as [i64; 0]).expect("one");
    let torch = tch::Tensor::from(7_i32);
    for dims in [&[0_i64][..], &[-1], &[], &[1], &[0, 0]] {
        assert_eq!(scalar().flip(dims).is_ok(), torch.f_flip(dims).is_ok(), "{dims:?}");
    }
    let matrix = tch::Tensor::zeros([2, 2], tch::kind::INT64_CPU);
    for dims in [&[0_i64, 0][..], &[1, -1], &[2], &[-3]] {
        let tensor = Tensor::zeros::<i64>([2, 2]).expect("small");
        assert_eq!(tensor.flip(dims).is_ok(), matrix.f_flip(dims).is_ok(), "{dims:?}");
    }
}
