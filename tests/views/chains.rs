//! Random chains of views, against what ndarray's own views of the same numbers give.

use dlbridge::{Error, Tensor};
use ndarray::{ArrayD, ArrayViewD, Axis, Dimension, IxDyn, ShapeBuilder, Slice};
use proptest::collection::vec;
use proptest::prelude::*;

/// One view. Dimensions and indices are taken as they are, so some of them are out of range.
#[derive(Clone, Debug)]
enum Step {
    Permute(Vec<usize>),
    Transpose(i64, i64),
    Slice(i64, Option<i64>, Option<i64>, i64),
    Select(i64, i64),
    Flip(Vec<i64>),
    Expand(Vec<i64>),
    Squeeze,
    SqueezeDim(i64),
    Unsqueeze(i64),
    Reshape(Vec<i64>),
    AsStrided(Vec<(i64, i64)>, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let dim = || -4_i64..4;
    let bound = || proptest::option::weighted(0.7, -7_i64..8);
    prop_oneof![
        vec(0_usize..6, 6).prop_map(Step::Permute),
        (dim(), dim()).prop_map(|(dim0, dim1)| Step::Transpose(dim0, dim1)),
        (dim(), bound(), bound(), prop_oneof![4 => Just(1_i64), 6 => -3_i64..4])
            .prop_map(|(dim, start, end, step)| Step::Slice(dim, start, end, step)),
        (dim(), -4_i64..4).prop_map(|(dim, index)| Step::Select(dim, index)),
        vec(dim(), 0..3).prop_map(Step::Flip),
        vec(prop_oneof![3 => Just(-1_i64), 2 => 0_i64..5], 0..6).prop_map(Step::Expand),
        Just(Step::Squeeze),
        dim().prop_map(Step::SqueezeDim),
        dim().prop_map(Step::Unsqueeze),
        vec(prop_oneof![1 => Just(-1_i64), 6 => 0_i64..7], 0..5).prop_map(Step::Reshape),
        (vec((0_i64..4, -4_i64..5), 0..4), -6_i64..9)
            .prop_map(|(dims, offset)| Step::AsStrided(dims, offset)),
    ]
}

/// A dimension or an index that may count from the end.
fn wrap(value: i64, count: usize) -> Option<usize> {
    let count = i64::try_from(count).ok()?;
    usize::try_from(if value < 0 { value + count } else { value })
        .ok()
        .filter(|&wrapped| (wrapped as i64) < count)
}

/// The first sizes of a shape that has the elements of a tensor, so that some reshapes succeed.
fn shape_for(drawn: &[i64], len: usize) -> Vec<i64> {
    let mut left = len as i64;
    let mut shape: Vec<i64> = drawn.to_vec();
    for size in &mut shape {
        if *size > 1 && left % *size == 0 {
            left /= *size;
        } else if *size > 1 {
            *size = 1;
        }
    }
    if !shape.contains(&-1) && !shape.contains(&0) {
        shape.push(left);
    }
    shape
}

fn distinct(dims: &[i64], rank: usize) -> Option<Vec<usize>> {
    let mut seen = Vec::new();
    for &dim in dims {
        let dim = wrap(dim, rank.max(1))?;
        if seen.contains(&dim) {
            return None;
        }
        seen.push(dim);
    }
    Some(seen.into_iter().filter(|&dim| dim < rank).collect())
}

/// The permutation that sorts the drawn numbers.
fn permutation(keys: &[usize], rank: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rank).collect();
    order.sort_by_key(|&dim| keys.get(dim).copied().unwrap_or(0));
    order
}

/// The slice of NumPy's rule in one axis: which index comes first, and how many there are.
fn numpy_slice(size: usize, start: Option<i64>, end: Option<i64>, step: i64) -> (i64, i64) {
    let size = size as i64;
    let (lower, upper) = if step < 0 { (-1, size - 1) } else { (0, size) };
    let adjust = |bound: i64| if bound < 0 { (bound + size).max(lower) } else { bound.min(upper) };
    let start = start.map_or(if step < 0 { upper } else { lower }, adjust);
    let end = end.map_or(if step < 0 { lower } else { upper }, adjust);
    let indices = (0..).map(|count| start + count * step);
    let count =
        indices.take_while(|&index| if step < 0 { index > end } else { index < end }).count();
    (start, count as i64)
}

/// What ndarray gives for a step, or `None` if the step is refused.
enum Expected<'a> {
    View(ArrayViewD<'a, i32>),
    Refused,
    /// The elements in row-major order, for a step that ndarray has no view for.
    Elements(Option<Vec<i32>>, Vec<usize>),
}

fn expected<'a>(view: &'a ArrayViewD<'a, i32>, step: &Step, base: &[i32]) -> Expected<'a> {
    let rank = view.ndim();
    let mut result = view.view();
    let done = match step {
        Step::Permute(keys) => {
            return Expected::View(result.permuted_axes(permutation(keys, rank)));
        }
        Step::Transpose(dim0, dim1) => {
            wrap(*dim0, rank.max(1)).zip(wrap(*dim1, rank.max(1))).map(|(dim0, dim1)| {
                if dim0 != dim1 {
                    result.swap_axes(dim0, dim1)
                }
            })
        }
        Step::Slice(dim, start, end, step) => wrap(*dim, rank).filter(|_| *step != 0).map(|dim| {
            let (first, count) = numpy_slice(view.shape()[dim], *start, *end, *step);
            let last = first + (count - 1) * step;
            let (low, high) = match count {
                0 => (0, 0),
                _ => (first.min(last) as isize, first.max(last) as isize + 1),
            };
            let every = step.unsigned_abs() as isize;
            result.slice_axis_inplace(Axis(dim), Slice::new(low, Some(high), every));
            if *step < 0 {
                result.invert_axis(Axis(dim));
            }
        }),
        Step::Select(dim, index) => match wrap(*dim, rank) {
            Some(dim) => match wrap(*index, view.shape()[dim]) {
                Some(index) => return Expected::View(result.index_axis_move(Axis(dim), index)),
                None => None,
            },
            None => None,
        },
        Step::Flip(dims) => distinct(dims, rank)
            .map(|dims| dims.into_iter().for_each(|dim| result.invert_axis(Axis(dim)))),
        Step::Expand(shape) => {
            let Some(added) = shape.len().checked_sub(rank) else { return Expected::Refused };
            let sizes: Option<Vec<usize>> = shape
                .iter()
                .enumerate()
                .map(|(dim, &size)| match (size, dim.checked_sub(added)) {
                    (-1, None) => None,
                    (-1, Some(own)) => Some(view.shape()[own]),
                    _ => Some(size as usize),
                })
                .collect();
            return match sizes.and_then(|sizes| view.broadcast(sizes)) {
                Some(view) => Expected::View(view),
                None => Expected::Refused,
            };
        }
        Step::Squeeze => {
            for axis in (0..rank).rev().filter(|&axis| view.shape()[axis] == 1) {
                result = result.index_axis_move(Axis(axis), 0);
            }
            Some(())
        }
        Step::SqueezeDim(dim) => wrap(*dim, rank.max(1)).map(|dim| {
            if view.shape().get(dim) == Some(&1) {
                result = result.clone().index_axis_move(Axis(dim), 0);
            }
        }),
        Step::Unsqueeze(dim) => match wrap(*dim, rank + 1) {
            Some(dim) => return Expected::View(result.insert_axis(Axis(dim))),
            None => None,
        },
        Step::Reshape(drawn) => return reshaped(view, &shape_for(drawn, view.len())),
        Step::AsStrided(dims, offset) => return strided(view, dims, *offset, base),
    };
    done.map_or(Expected::Refused, |()| Expected::View(result))
}

/// The elements of a reshaped view in row-major order, if some strides reach them: those that
/// follow from the addresses of the elements.
fn reshaped<'a>(view: &ArrayViewD<'_, i32>, shape: &[i64]) -> Expected<'a> {
    let known: i64 = shape.iter().filter(|&&size| size != -1).product();
    let unknown = shape.iter().filter(|&&size| size == -1).count();
    let len = view.len() as i64;
    let inferred = match unknown {
        0 if known == len => 0,
        1 if known > 0 && len % known == 0 => len / known,
        _ => return Expected::Refused,
    };
    let shape: Vec<usize> = shape
        .iter()
        .map(|&size| if size == -1 { inferred as usize } else { size as usize })
        .collect();
    // The numbers are their own addresses.
    let addresses: Vec<i64> = view.iter().map(|&number| i64::from(number)).collect();
    let mut inner = 1;
    let mut strides = vec![0; shape.len()];
    for (&size, stride) in shape.iter().zip(&mut strides).rev() {
        if size > 1 && !addresses.is_empty() {
            *stride = addresses[inner] - addresses[0];
        }
        inner *= size;
    }
    let affine =
        ndarray::indices(shape.clone()).into_iter().zip(&addresses).all(|(index, &address)| {
            let steps =
                index.slice().iter().zip(&strides).map(|(&index, stride)| index as i64 * stride);
            address == addresses[0] + steps.sum::<i64>()
        });
    let elements = affine.then(|| view.iter().copied().collect());
    // ndarray reshapes fewer layouts than torch. If it has a view, so have we.
    let by_ndarray = view.view().into_shape_with_order(IxDyn(&shape));
    assert!(affine || by_ndarray.is_err());
    Expected::Elements(elements, shape)
}

/// The elements that `as_strided` reaches, if they lie between the lowest and the highest number
/// that the view reaches. The numbers are their own addresses.
fn strided<'a>(
    view: &ArrayViewD<'_, i32>,
    dims: &[(i64, i64)],
    offset: i64,
    base: &[i32],
) -> Expected<'a> {
    let shape: Vec<usize> = dims.iter().map(|&(size, _)| size as usize).collect();
    let first = view.first().map(|&number| i64::from(number));
    let (low, high) = (view.iter().min(), view.iter().max());
    let elements = ndarray::indices(shape.clone())
        .into_iter()
        .map(|index| {
            let steps = index.slice().iter().zip(dims).map(|(&index, dim)| index as i64 * dim.1);
            let address = i32::try_from(first? + offset + steps.sum::<i64>()).ok()?;
            let inside = low <= Some(&address) && Some(&address) <= high;
            inside.then(|| base[address as usize])
        })
        .collect();
    Expected::Elements(elements, shape)
}

/// The view of a tensor, or the tensor itself if the step was refused.
fn viewed(tensor: Tensor, step: &Step) -> Result<Tensor, (Tensor, Error)> {
    let (rank, len) = (tensor.ndim(), tensor.len());
    let view = match step {
        Step::Permute(keys) => {
            let dims = permutation(keys, rank).into_iter().enumerate();
            // Every other dimension counts from the end.
            let dims = dims.map(|(at, dim)| dim as i64 - if at % 2 == 0 { 0 } else { rank as i64 });
            tensor.permute(dims.collect::<Vec<i64>>())
        }
        Step::Transpose(dim0, dim1) => tensor.transpose(*dim0, *dim1),
        Step::Slice(dim, start, end, step) => tensor.slice(*dim, *start, *end, *step),
        Step::Select(dim, index) => tensor.select(*dim, *index),
        Step::Flip(dims) => tensor.flip(dims),
        Step::Expand(shape) => tensor.expand(shape),
        Step::Squeeze => tensor.squeeze(),
        Step::SqueezeDim(dim) => tensor.squeeze_dim(*dim),
        Step::Unsqueeze(dim) => tensor.unsqueeze(*dim),
        Step::Reshape(drawn) => tensor.reshape(shape_for(drawn, len)),
        Step::AsStrided(dims, offset) => {
            let (shape, strides): (Vec<i64>, Vec<i64>) = dims.iter().copied().unzip();
            tensor.as_strided(shape, strides, *offset)
        }
    };
    view.map_err(|rejected| rejected.into_parts())
}

/// Compares a tensor with a view of other memory with the same numbers.
fn compare(tensor: &Tensor, view: &ArrayViewD<'_, i32>, base: *const i32, first: usize) {
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    assert_eq!(tensor.shape(), shape);
    let ours = tensor.as_ndarray::<i32, IxDyn>().expect("a view");
    assert_eq!(ours, view);
    assert_eq!(tensor.to_vec::<i32>().expect("a copy"), view.iter().copied().collect::<Vec<_>>());
    if view.is_empty() {
        return;
    }
    // The same elements of the two allocations, not equal ones elsewhere.
    assert_eq!(ours.as_ptr().addr() - first, view.as_ptr().addr() - base.addr());
    let strides = tensor.strides().iter().zip(view.strides()).zip(&shape);
    strides
        .filter(|&(_, &size)| size > 1)
        .for_each(|((&ours, &theirs), _)| assert_eq!(ours, theirs as i64));
}

/// Counts what the chains did, so that the test shows that it tested something.
#[derive(Debug, Default)]
struct Counts {
    views: usize,
    refused: usize,
    copies_needed: usize,
}

fn run(
    mut tensor: Tensor,
    view: &ArrayViewD<'_, i32>,
    steps: &[Step],
    base: &ArrayD<i32>,
    first: usize,
    counts: &mut Counts,
) {
    compare(&tensor, view, base.as_ptr(), first);
    let Some((step, rest)) = steps.split_first() else { return };
    let numbers = base.as_slice().expect("row-major");
    let before = (tensor.data_ptr(), tensor.layout().clone());
    let expected = expected(view, step, numbers);
    let result = viewed(tensor, step);
    match (result, expected) {
        (Ok(result), Expected::View(next)) => {
            counts.views += 1;
            run(result, &next, rest, base, first, counts);
        }
        (Ok(result), Expected::Elements(Some(elements), shape)) => {
            counts.views += 1;
            // ndarray makes the view of the strides that were found; overlapping ones too.
            let strides: Vec<usize> =
                result.strides().iter().map(|&stride| stride as usize).collect();
            assert_eq!(result.to_vec::<i32>().expect("a copy"), elements);
            assert_eq!(result.shape(), shape.iter().map(|&size| size as i64).collect::<Vec<_>>());
            let positive = result.strides().iter().all(|&stride| stride >= 0);
            if positive && !elements.is_empty() {
                let offset = (result.data_ptr().addr() - first) / size_of::<i32>();
                let shape = IxDyn(&shape).strides(IxDyn(&strides));
                if let Ok(next) = ArrayViewD::from_shape(shape, &numbers[offset..]) {
                    run(result, &next, rest, base, first, counts);
                }
            }
        }
        (Err((back, error)), Expected::Refused | Expected::Elements(None, _)) => {
            counts.refused += 1;
            counts.copies_needed += usize::from(error.remedy().is_some());
            assert_eq!((back.data_ptr(), back.layout().clone()), before, "unchanged");
            tensor = back;
            run(tensor, view, rest, base, first, counts);
        }
        (Ok(result), _) => panic!("{step:?} of {before:?} gives {:?}", result.layout()),
        (Err((_, error)), _) => panic!("{step:?} of {before:?}: {error}"),
    }
}

#[test]
fn chains_of_views_are_those_of_ndarray() {
    let config =
        ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let counts = std::cell::RefCell::new(Counts::default());
    let chains = (vec(0_usize..5, 0..5), vec(step(), 1..9));
    let result = runner.run(&chains, |(shape, steps)| {
        let len: usize = shape.iter().product();
        let numbers: Vec<i32> = (0..len as i32).collect();
        let base = ArrayD::from_shape_vec(shape.clone(), numbers.clone()).expect("it fits");
        let first = numbers.as_ptr().addr();
        let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor::from_vec(numbers, sizes).expect("it fits");
        run(tensor, &base.view(), &steps, &base, first, &mut counts.borrow_mut());
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let counts = counts.into_inner();
    assert!(
        counts.views > 5000 && counts.refused > 2000 && counts.copies_needed > 20,
        "{counts:?}"
    );
}
