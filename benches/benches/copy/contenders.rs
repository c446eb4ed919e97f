//! One layout of one element type, with a source and a target for each contender.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use dlbridge::{Element, Layout, MemoryFormat, Tensor};
use dlbridge_benches::{Blob, Contender, race};
use ndarray::{ArrayViewD, IxDyn};
use strided_view::{StridedView, StridedViewMut};

use crate::cases::Case;
use crate::plain_copies::PlainCopy;
use crate::worker::{Worker, numpy_case};

/// The operations that all contenders need for an element type.
pub(crate) trait Unit: Element + Copy + Default + Send + Sync + 'static {}

impl<T: Element + Copy + Default + Send + Sync + 'static> Unit for T {}

/// One layout of one element type, with a source for each contender.
pub(crate) struct Bench<'a, T: Unit> {
    case: &'a Case,
    shape: Vec<i64>,
    numpy: &'a mut [(&'static str, Worker)],
    ours: Tensor,
    torch: tch::Tensor,
    /// libtorch does not support negative strides: it flips the tensor, which copies.
    flipped: bool,
    ndarray: Tensor,
    /// The memory that the source of strided-perm lies in.
    strided: Tensor,
    plain: [PlainCopy; 2],
    pool: threadteam::Pool,
    rounds: usize,
    element: PhantomData<T>,
}

impl<'a, T: Unit> Bench<'a, T> {
    /// Prepares a case for `rounds` turns of each contender.
    pub(crate) fn new(
        case: &'a Case,
        numpy_name: &str,
        numpy: &'a mut [(&'static str, Worker)],
        rounds: usize,
    ) -> Self {
        let Case { shape, strides, offset, .. } = case;
        for (_, worker) in &mut *numpy {
            worker.ask(&numpy_case(numpy_name, case.reach(), shape, strides, *offset));
        }
        let elements: usize = shape.iter().product();
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let steps: Vec<i64> = strides.iter().map(|&stride| stride as i64).collect();
        let memory = || crate::written::<T>(case.reach());
        let source =
            || memory().as_strided(&shape[..], &steps[..], *offset as i64).expect("in bounds");
        let flipped = strides.iter().any(|&stride| stride < 0);
        let torch = memory().into_torch().expect("moved");
        let torch = match flipped {
            true => torch.view(&shape[..]),
            false => torch.as_strided(&shape[..], &steps[..], 0),
        };
        Self {
            case,
            numpy,
            ours: source(),
            torch,
            flipped,
            ndarray: source(),
            strided: memory(),
            plain: PlainCopy::all(elements * size_of::<T>()),
            shape,
            pool: threadteam::Pool::builder().build().expect("a pool"),
            rounds,
            element: PhantomData,
        }
    }

    /// The contenders, and their median times in nanoseconds.
    pub(crate) fn run(&mut self, fresh: bool, threads: usize) -> Vec<(&'static str, f64)> {
        let dense = Layout::contiguous(&self.shape).expect("small");
        let Case { shape, strides, offset, .. } = self.case;
        let memory = self.strided.as_slice::<T>().expect("contiguous");
        let sources = Sources {
            sizes: &self.shape,
            shape,
            dense: dense.strides().iter().map(|&stride| stride as isize).collect(),
            ours: &self.ours,
            torch: &self.torch,
            flipped: self.flipped,
            plain: &self.plain,
            view: self.ndarray.as_ndarray::<T, IxDyn>().expect("a view"),
            strided: StridedView::new(memory, shape, strides, *offset as isize).expect("in bounds"),
            pool: &self.pool,
            threads,
        };
        let what = if fresh { "fresh" } else { "used" };
        let numpy: Vec<_> =
            self.numpy.iter_mut().map(|(name, worker)| worker.contender(name, what)).collect();
        let rounds = self.rounds;
        if fresh { sources.into_fresh(numpy, rounds) } else { sources.into_used(numpy, rounds) }
    }
}

/// The sources, in the form that each contender takes.
struct Sources<'a, T: Unit> {
    sizes: &'a [i64],
    shape: &'a [usize],
    /// Strides of a contiguous target.
    dense: Vec<isize>,
    ours: &'a Tensor,
    torch: &'a tch::Tensor,
    flipped: bool,
    /// Copies of as many bytes.
    plain: &'a [PlainCopy; 2],
    view: ArrayViewD<'a, T>,
    strided: StridedView<'a, T>,
    pool: &'a threadteam::Pool,
    threads: usize,
}

impl<T: Unit> Sources<'_, T> {
    fn exec(&self) -> threadteam::Exec<'_> {
        match self.threads {
            1 => threadteam::Exec::serial(),
            threads => threadteam::Exec::new(self.pool, threads).expect("a budget"),
        }
    }

    /// Copies into memory that is allocated during the copy.
    fn into_fresh(self, numpy: Vec<Contender<'_>>, rounds: usize) -> Vec<(&'static str, f64)> {
        let ours = || self.ours.deep_clone_with(MemoryFormat::Contiguous).expect("copied");
        let torch = || match self.flipped {
            true => Blob::from(self.torch.flip([1])),
            false => Blob::clone_of(self.torch, true),
        };
        let strided = || {
            let count = self.view.len();
            let mut target = Vec::<T>::with_capacity(count);
            let unwritten: &mut [MaybeUninit<T>] = &mut target.spare_capacity_mut()[..count];
            let mut to =
                StridedViewMut::new(unwritten, self.shape, &self.dense, 0).expect("in bounds");
            strided_perm::copy_into_uninit(&mut to, &self.strided, self.exec()).expect("copied");
            // SAFETY: `copy_into_uninit` has just written all `count` elements.
            unsafe { target.set_len(count) };
            target
        };
        let [memcpy, nontemporal] = self.plain;
        let own = vec![
            Contender::repeated("dlbridge", ours),
            memcpy.fresh(self.threads),
            nontemporal.fresh(self.threads),
            Contender::repeated("libtorch", torch),
            Contender::repeated("ndarray", || self.view.as_standard_layout().into_owned()),
            Contender::repeated("strided-perm", strided),
        ];
        turns(own, numpy, rounds)
    }

    /// Copies into memory that was written before.
    fn into_used(self, numpy: Vec<Contender<'_>>, rounds: usize) -> Vec<(&'static str, f64)> {
        let target = || crate::written::<T>(self.view.len()).reshape(self.sizes).expect("a view");
        let (mut ours_target, mut array_target, mut strided_target) =
            (target(), target(), target());
        let mut torch_target = target().into_torch().expect("moved");
        let mut array = array_target.as_ndarray_mut::<T, IxDyn>().expect("a view");
        let [memcpy, nontemporal] = self.plain;
        let own = vec![
            Contender::repeated("dlbridge", || {
                self.ours.copy_into(&mut ours_target).expect("copied")
            }),
            memcpy.used(self.threads),
            nontemporal.used(self.threads),
            Contender::repeated("libtorch", || match self.flipped {
                true => torch_target.copy_(&self.torch.flip([1])),
                false => torch_target.copy_(self.torch),
            }),
            Contender::repeated("ndarray", || array.assign(&self.view)),
            Contender::repeated("strided-perm", || {
                let target = strided_target.as_slice_mut::<T>().expect("only this handle");
                let mut to =
                    StridedViewMut::new(target, self.shape, &self.dense, 0).expect("in bounds");
                strided_perm::copy_into(&mut to, &self.strided, self.exec()).expect("copied");
            }),
        ];
        turns(own, numpy, rounds)
    }
}

/// The median times of all contenders, in nanoseconds.
fn turns<'a>(
    mut contenders: Vec<Contender<'a>>,
    numpy: Vec<Contender<'a>>,
    rounds: usize,
) -> Vec<(&'static str, f64)> {
    contenders.extend(numpy);
    let times = race(&mut contenders, rounds, 1);
    contenders.iter().map(|contender| contender.name).zip(times).collect()
}
