//! One layout of one element type, with a source and a target for each contender.

use std::mem::MaybeUninit;

use dlbridge::{Descriptor, Device, Element, Layout, MemoryFormat, Tensor};
use dlbridge_benches::{Blob, Contender, race};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use strided_view::{StridedView, StridedViewMut};

use crate::cases::Case;
use crate::plain_copies::{MEMCPY, NONTEMPORAL, PlainCopies};
use crate::worker::{Worker, numpy_case};

/// The operations that all contenders need for an element type.
pub(crate) trait Unit: Element + Copy + Default + Send + Sync + 'static {}

impl<T: Element + Copy + Default + Send + Sync + 'static> Unit for T {}

/// One layout of one element type, with a source and a target for each contender.
pub(crate) struct Bench<'a, T: Unit> {
    case: &'a Case,
    numpy: &'a mut [(&'static str, Worker)],
    source: Vec<T>,
    pool: threadteam::Pool,
    rounds: usize,
}

impl<'a, T: Unit> Bench<'a, T> {
    /// Prepares a case for `rounds` turns of each contender.
    pub(crate) fn new(
        case: &'a Case,
        numpy_name: &str,
        numpy: &'a mut [(&'static str, Worker)],
        rounds: usize,
    ) -> Self {
        let mut source = vec![T::default(); case.reach()];
        let bytes = source.as_mut_ptr().cast::<u8>();
        for index in 0..source.len() * size_of::<T>() {
            // Before the first write, the system maps all pages of new memory to one page of zeros.
            // SAFETY: a byte of the vector; every element type takes 0 and 1 in any byte.
            unsafe { bytes.wrapping_add(index).write((index % 7 == 0).into()) };
        }
        let Case { shape, strides, offset, .. } = case;
        for (_, worker) in &mut *numpy {
            worker.ask(&numpy_case(numpy_name, source.len(), shape, strides, *offset));
        }
        let pool = threadteam::Pool::builder().build().expect("a pool");
        Self { case, numpy, source, pool, rounds }
    }

    /// The contenders, and their median times in nanoseconds.
    pub(crate) fn run(&mut self, fresh: bool, threads: usize) -> Vec<(&'static str, f64)> {
        let Case { shape, strides, offset, .. } = self.case;
        let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let steps: Vec<i64> = strides.iter().map(|&stride| stride as i64).collect();
        let first = self.source[*offset..].as_ptr();
        let layout = Layout::new(&sizes, &steps).expect("small");
        let descriptor =
            Descriptor::new(first.cast_mut().cast(), layout, T::DTYPE, Device::CPU).expect("small");
        // SAFETY: `self.source` holds the elements and outlives the tensor.
        let ours = unsafe { Tensor::from_raw_parts(descriptor, false, ()) };
        // SAFETY: no code writes `self.source` while the tensor lives.
        let ours = unsafe { ours.assume_read_only() }.expect("on the host");
        // libtorch does not support negative strides: it flips the tensor, which copies.
        let flipped = strides.iter().any(|&stride| stride < 0);
        let torch = Tensor::from_slice(&self.source, [self.source.len() as i64]).expect("copied");
        let torch = torch.into_torch().expect("moved");
        let torch = if flipped {
            torch.view(&sizes[..])
        } else {
            torch.as_strided(&sizes[..], &steps[..], 0)
        };
        let elements = shape.iter().product();
        let dense = Layout::contiguous(&sizes).expect("small");
        let sources = Sources {
            shape,
            dense: dense.strides().iter().map(|&stride| stride as isize).collect(),
            torch,
            flipped,
            plain: PlainCopies::new(elements * size_of::<T>(), threads),
            elements,
            view: ours.as_ndarray::<T, IxDyn>().expect("a view"),
            ours: &ours,
            strided: StridedView::new(&self.source, shape, strides, *offset as isize)
                .expect("in bounds"),
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

/// One source, in the form that each contender takes.
struct Sources<'a, T: Unit> {
    shape: &'a [usize],
    /// Strides of a contiguous target.
    dense: Vec<isize>,
    ours: &'a Tensor,
    torch: tch::Tensor,
    /// The strides of the source are negative, and libtorch flips it.
    flipped: bool,
    /// Copies of as many bytes.
    plain: PlainCopies,
    elements: usize,
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
            false => Blob::clone_of(&self.torch, true),
        };
        let strided = || {
            let count = self.elements;
            let mut target = Vec::<T>::with_capacity(count);
            let unwritten: &mut [MaybeUninit<T>] = &mut target.spare_capacity_mut()[..count];
            let mut to =
                StridedViewMut::new(unwritten, self.shape, &self.dense, 0).expect("in bounds");
            strided_perm::copy_into_uninit(&mut to, &self.strided, self.exec()).expect("copied");
            // SAFETY: `copy_into_uninit` has just written all `count` elements.
            unsafe { target.set_len(count) };
            target
        };
        let plain = &self.plain;
        let own = vec![
            Contender::repeated("dlbridge", ours),
            Contender::repeated(MEMCPY, || plain.fresh(PlainCopies::memcpy)),
            Contender::repeated(NONTEMPORAL, || plain.fresh(PlainCopies::nontemporal)),
            Contender::repeated("libtorch", torch),
            Contender::repeated("ndarray", || self.view.as_standard_layout().into_owned()),
            Contender::repeated("strided-perm", strided),
        ];
        turns(own, numpy, rounds)
    }

    /// Copies into memory that was written before.
    fn into_used(self, numpy: Vec<Contender<'_>>, rounds: usize) -> Vec<(&'static str, f64)> {
        let sizes: Vec<i64> = self.shape.iter().map(|&size| size as i64).collect();
        let mut ours_target = Tensor::zeros::<T>(&sizes).expect("allocated");
        let mut memcpy_target = self.plain.used_target();
        let mut nontemporal_target = self.plain.used_target();
        let mut torch_target = self.torch.zeros_like().contiguous();
        let mut array = ArrayD::<T>::from_elem(IxDyn(self.shape), T::default());
        let mut strided_target = vec![T::default(); self.elements];
        let own = vec![
            Contender::repeated("dlbridge", || {
                self.ours.copy_into(&mut ours_target).expect("copied")
            }),
            Contender::repeated(MEMCPY, || self.plain.memcpy(&mut memcpy_target)),
            Contender::repeated(NONTEMPORAL, || self.plain.nontemporal(&mut nontemporal_target)),
            Contender::repeated("libtorch", || match self.flipped {
                true => torch_target.copy_(&self.torch.flip([1])),
                false => torch_target.copy_(&self.torch),
            }),
            Contender::repeated("ndarray", || array.assign(&self.view)),
            Contender::repeated("strided-perm", || {
                let target = &mut strided_target;
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
