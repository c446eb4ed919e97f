//! The rules for arguments: those of torch, and of NumPy for negative steps.

use dlbridge::{Error, Layout, Rejected, Remedy, Tensor};

use crate::{numbers, refused};

type View = Result<Tensor, Rejected<Tensor>>;

fn out_of_range(name: &'static str, value: i64, min: i64, max: i64) -> Error {
    Error::OutOfRange { name, value, min, max }
}

fn reason(error: &Error) -> &str {
    match error {
        Error::InvalidView { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

/// Shape and strides of a view, and the number that its first element holds.
fn seen(view: View) -> (Vec<i64>, Vec<i64>, i32) {
    let view = view.expect("a view");
    let first = view.to_vec::<i32>().expect("on the host")[0];
    (view.shape().to_vec(), view.strides().to_vec(), first)
}

#[test]
fn dimensions_count_from_the_end_if_negative() {
    let image = || numbers(&[2, 3, 4]);
    let by = |dim: i64| [seen(image().select(dim, -1)), seen(image().slice(dim, -1, None, 1))];
    assert_eq!(by(0)[0], (vec![3, 4], vec![4, 1], 12));
    assert_eq!(by(2)[1], (vec![2, 3, 1], vec![12, 4, 1], 3));
    for dim in 0..3 {
        assert_eq!(by(dim), by(dim - 3));
        assert_eq!(seen(image().flip([dim])), seen(image().flip([dim - 3])));
        assert_eq!(seen(image().unsqueeze(dim)), seen(image().unsqueeze(dim - 4)));
        assert_eq!(seen(image().transpose(dim, 1)), seen(image().transpose(dim - 3, -2)));
    }
    assert_eq!(seen(image().permute([-1, 0, 1])), (vec![4, 2, 3], vec![1, 12, 4], 0));
    assert_eq!(seen(image().unsqueeze(3)), (vec![2, 3, 4, 1], vec![12, 4, 1, 1], 0));
}

#[test]
fn dimensions_out_of_range_are_refused() {
    let range = |value| out_of_range("dimension", value, -2, 1);
    for dim in [2, -3, i64::MAX, i64::MIN] {
        let refused = |view: &dyn Fn(Tensor) -> View| refused(numbers(&[2, 3]), view);
        assert_eq!(refused(&|tensor| tensor.permute([0, dim])), range(dim));
        assert_eq!(refused(&|tensor| tensor.transpose(dim, 0)), range(dim));
        assert_eq!(refused(&|tensor| tensor.transpose(0, dim)), range(dim));
        assert_eq!(refused(&|tensor| tensor.slice(dim, 0, 1, 1)), range(dim));
        assert_eq!(refused(&|tensor| tensor.select(dim, 0)), range(dim));
        assert_eq!(refused(&|tensor| tensor.flip([1, dim])), range(dim));
        assert_eq!(refused(&|tensor| tensor.squeeze_dim(dim)), range(dim));
    }
    assert_eq!(
        refused(numbers(&[2, 3]), |tensor| tensor.unsqueeze(3)),
        out_of_range("dimension", 3, -3, 2)
    );
    let error = refused(numbers(&[2, 3]), |tensor| tensor.unsqueeze(-4));
    assert_eq!(error.to_string(), "dimension -4 is out of range: expected -3 to 2");
}

#[test]
fn scalars_have_a_dimension_0_where_torch_gives_them_one() {
    for dim in [0, -1] {
        for view in [
            numbers(&[]).transpose(dim, 0),
            numbers(&[]).flip([dim]),
            numbers(&[]).squeeze_dim(dim),
            numbers(&[]).permute([]),
            numbers(&[]).squeeze(),
            numbers(&[1]).squeeze(),
            numbers(&[1]).select(0, dim),
        ] {
            assert_eq!(seen(view), (vec![], vec![], 0));
        }
        assert_eq!(seen(numbers(&[]).unsqueeze(dim)), (vec![1], vec![1], 0));
        let none = out_of_range("dimension", dim, 0, -1);
        assert_eq!(refused(numbers(&[]), |scalar| scalar.slice(dim, 0, 1, 1)), none);
        assert_eq!(refused(numbers(&[]), |scalar| scalar.select(dim, 0)), none);
    }
    let error = refused(numbers(&[]), |scalar| scalar.select(0, 0));
    assert_eq!(error.to_string(), "dimension 0 is out of range: there is none");
    assert_eq!(
        refused(numbers(&[]), |scalar| scalar.flip([1])),
        out_of_range("dimension", 1, -1, 0)
    );
}

#[test]
fn dimensions_that_occur_twice_are_refused() {
    for dims in [[0, 0], [1, -1]] {
        for error in [
            refused(numbers(&[2, 3]), |tensor| tensor.permute(dims)),
            refused(numbers(&[2, 3]), |tensor| tensor.flip(dims)),
        ] {
            assert!(reason(&error).contains("occurs twice"), "{error}");
            assert_eq!(error.remedy(), None);
        }
    }
    for dims in [&[0][..], &[0, 1, 0], &[]] {
        let expected = Error::RankMismatch { expected: 2, found: dims.len() };
        assert_eq!(refused(numbers(&[2, 3]), |tensor| tensor.permute(dims)), expected);
    }
    assert_eq!(seen(numbers(&[2, 3]).flip([])), (vec![2, 3], vec![3, 1], 0));
}

#[test]
fn slices_clamp_their_bounds() {
    let slice = |start: Option<i64>, end: Option<i64>, step| {
        numbers(&[6]).slice(0, start, end, step).expect("a slice").to_vec::<i32>().expect("numbers")
    };
    assert_eq!(slice(Some(-100), Some(100), 1), [0, 1, 2, 3, 4, 5]);
    assert_eq!(slice(Some(i64::MIN), Some(i64::MAX), i64::MAX), [0]);
    assert_eq!(slice(Some(4), Some(2), 1), [0; 0]);
    assert_eq!(slice(Some(4), Some(2), -1), [4, 3]);
    assert_eq!(slice(Some(100), Some(-100), -2), [5, 3, 1]);
    assert_eq!(slice(None, Some(0), -1), [5, 4, 3, 2, 1]);
    assert_eq!(slice(None, Some(-1), -1), [0; 0], "-1 is the last index, as in NumPy");
    assert_eq!(slice(Some(i64::MAX), None, i64::MIN), [5]);
    let error = refused(numbers(&[6]), |tensor| tensor.slice(0, None, None, 0));
    assert_eq!(
        error.to_string(),
        "shape (6,) with strides (1,) has no such view: the step of a slice cannot be 0"
    );
}

#[test]
fn indices_out_of_range_are_refused() {
    for index in [3, -4, i64::MIN] {
        let error = refused(numbers(&[2, 3]), |tensor| tensor.select(1, index));
        assert_eq!(error, out_of_range("index", index, -3, 2));
    }
    let error = refused(numbers(&[2, 0]), |tensor| tensor.select(1, 0));
    assert_eq!(error.to_string(), "index 0 is out of range: there is none");
    assert_eq!(numbers(&[2, 0]).select(0, 1).expect("a row").shape(), [0]);
}

#[test]
fn only_size_1_is_expanded() {
    let column = || numbers(&[3, 1]);
    assert_eq!(seen(column().expand([3, 4])), (vec![3, 4], vec![1, 0], 0));
    assert_eq!(seen(column().expand([2, -1, 4])), (vec![2, 3, 4], vec![0, 1, 0], 0));
    assert_eq!(seen(column().expand([-1, -1])), (vec![3, 1], vec![1, 1], 0));
    assert_eq!(seen(numbers(&[]).expand([2, 2])), (vec![2, 2], vec![0, 0], 0));
    assert_eq!(column().expand([3, 0]).expect("no elements").strides(), [1, 1]);
    assert_eq!(numbers(&[1, 0]).expand([4, 0]).expect("no elements").shape(), [4, 0]);
    for (shape, part) in [
        (&[3][..], "fewer dimensions"),
        (&[2, 1], "does not keep size 3"),
        (&[0, 1], "does not keep size 3"),
        (&[-1, 3, 1], "is new"),
        (&[-2, 1], "does not keep size 3"),
    ] {
        let error = refused(column(), |tensor| tensor.expand(shape));
        assert!(reason(&error).contains(part), "{error}");
    }
    for shape in [&[3, -2][..], &[-2, 3, 1]] {
        let error = refused(column(), |tensor| tensor.expand(shape));
        assert!(matches!(error, Error::InvalidDescriptor { .. }), "{error}");
    }
    let error = refused(numbers(&[1, 1]), |tensor| tensor.expand([1_i64 << 40, 1 << 40]));
    assert!(matches!(error, Error::Overflow { .. }), "{error}");
    let error = refused(numbers(&[1, 0]), |tensor| tensor.expand([1, 5]));
    assert!(reason(&error).contains("does not keep size 0"), "{error}");
}

#[test]
fn only_size_1_is_squeezed() {
    let sizes = || numbers(&[1, 2, 1, 3, 1]);
    assert_eq!(seen(sizes().squeeze()), (vec![2, 3], vec![3, 1], 0));
    assert_eq!(seen(sizes().squeeze_dim(2)), (vec![1, 2, 3, 1], vec![6, 3, 1, 1], 0));
    assert_eq!(seen(sizes().squeeze_dim(1)).0, [1, 2, 1, 3, 1]);
}

#[test]
fn one_size_of_a_shape_may_be_inferred() {
    let shaped = |shape: &[i64]| numbers(&[2, 6]).reshape(shape).map(|view| view.shape().to_vec());
    assert_eq!(shaped(&[-1]).expect("12"), [12]);
    assert_eq!(shaped(&[3, -1, 2]).expect("2"), [3, 2, 2]);
    assert_eq!(shaped(&[12, -1]).expect("1"), [12, 1]);
    for (shape, part) in [
        (&[-1, -1][..], "two sizes of -1"),
        (&[5, -1], "does not have 12 elements"),
        (&[0, -1], "does not have 12 elements"),
        (&[11], "does not have 12 elements"),
        (&[], "does not have 12 elements"),
        (&[1_i64 << 40, 1 << 40, -1], "does not have 12 elements"),
        (&[1_i64 << 62, 4, 3], "does not have 12 elements"),
    ] {
        let error = refused(numbers(&[2, 6]), |tensor| tensor.reshape(shape));
        assert!(reason(&error).contains(part), "{error}");
        assert_eq!(error.remedy(), None);
    }
    let error = refused(numbers(&[2, 6]), |tensor| tensor.reshape([-2, -6]));
    assert_eq!(
        error.to_string(),
        "shape[0] = -2: a size cannot be negative, except for one -1, which is computed"
    );
}

#[test]
fn shapes_without_elements() {
    let shaped = |shape: &[i64]| numbers(&[2, 0]).reshape(shape).map(|view| view.shape().to_vec());
    assert_eq!(shaped(&[0]).expect("none"), [0]);
    assert_eq!(shaped(&[-1]).expect("none"), [0]);
    assert_eq!(shaped(&[-1, 7]).expect("none"), [0, 7]);
    assert_eq!(shaped(&[1_i64 << 62, 1 << 62, 0]).expect("none"), [1 << 62, 1 << 62, 0]);
    let error = refused(numbers(&[2, 0]), |tensor| tensor.reshape([-1, 0]));
    assert!(reason(&error).contains("every size would fit"), "{error}");
    let error = refused(numbers(&[2, 0]), |tensor| tensor.reshape([1]));
    assert!(reason(&error).contains("does not have 0 elements"), "{error}");
}

#[test]
fn a_shape_that_needs_a_copy_has_a_remedy() {
    let columns = numbers(&[2, 3]).transpose(0, 1).expect("swapped");
    let error = refused(columns, |tensor| tensor.reshape([6]));
    assert_eq!(error.remedy(), Some(Remedy::CloneContiguous));
    assert_eq!(
        error.to_string(),
        "shape (3, 2) with strides (1, 3) has no such view: shape (6,) takes elements that are \
         unequally far apart; copy with to_vec() or deep_clone_with(MemoryFormat::Contiguous)"
    );
}

#[test]
fn ranks_above_64_have_views() {
    let deep = || numbers(&[&[1; 68][..], &[2, 3]].concat());
    let reversed: Vec<i64> = (0..70).rev().collect();
    let view = deep().permute(&reversed).expect("70 dimensions");
    assert_eq!((&view.shape()[..2], view.strides()[0], view.strides()[1]), (&[3, 2][..], 1, 3));
    assert_eq!(deep().flip(&reversed).expect("flipped").item_at_start(), 5);
    assert_eq!(deep().squeeze().expect("two left").shape(), [2, 3]);
    assert_eq!(deep().reshape([6]).expect("a vector").ndim(), 1);
    assert_eq!(deep().unsqueeze(0).expect("71 dimensions").ndim(), 71);
}

trait Start {
    fn item_at_start(self) -> i32;
}

impl Start for Tensor {
    fn item_at_start(self) -> i32 {
        self.to_vec::<i32>().expect("on the host")[0]
    }
}

#[test]
fn strides_and_shape_of_as_strided_are_checked() {
    let strided = |shape: &'static [i64], strides: &'static [i64]| {
        refused(numbers(&[6]), move |tensor| tensor.as_strided(shape, strides, 0))
    };
    assert!(matches!(strided(&[2, 3], &[1]), Error::InvalidDescriptor { .. }));
    assert!(matches!(strided(&[-1], &[1]), Error::InvalidDescriptor { .. }));
    assert!(matches!(strided(&[3], &[i64::MAX]), Error::Overflow { .. }));
    assert_eq!(
        strided(&[2, 3], &[4, 1]).to_string(),
        "shape (6,) with strides (1,) has no such view: it reaches from element 0 to 6, and the \
         tensor from 0 to 5"
    );
    let expected = Layout::new(&[2, 2], &[-3, 2]).expect("small");
    let view = numbers(&[6]).as_strided([2, 2], [-3, 2], 3).expect("a view");
    assert_eq!(
        (view.layout(), view.to_vec::<i32>().expect("numbers")),
        (&expected, vec![3, 5, 0, 2])
    );
}
