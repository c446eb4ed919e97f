//! Every processor, both ways to write, whole and in parts, against a loop over elements.

use proptest::collection::vec;
use proptest::prelude::*;

use super::kernels;
use super::plan::Plan;
use super::processor::{self, Processor};
use crate::Layout;

/// All that this machine can run.
fn processors() -> Vec<(&'static str, &'static Processor)> {
    let mut all = vec![("portable", &processor::PORTABLE)];
    #[cfg(target_arch = "x86_64")]
    {
        all.push(("SSE2", &processor::x86::SSE2));
        if is_x86_feature_detected!("avx2") {
            all.push(("AVX2", &processor::x86::AVX2));
        }
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
            all.push(("AVX512", &processor::x86::AVX512));
        }
    }
    all
}

/// How one dimension lies in memory.
#[derive(Clone, Debug)]
struct Dim {
    size: i64,
    /// Where it comes among the others, and how far its elements are apart.
    order: u32,
    step: i64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Backwards,
    Broadcast,
    /// As close as the elements of the dimension inside.
    Overlapping,
}

fn dims() -> impl Strategy<Value = Vec<(Dim, Dim)>> {
    let size = prop_oneof![6 => 1..6_i64, 1 => Just(0_i64), 2 => 6..20_i64, 2 => 20..90_i64];
    let kind = prop_oneof![
        6 => Just(Kind::Plain), 2 => Just(Kind::Backwards), 1 => Just(Kind::Broadcast), 1 => Just(Kind::Overlapping)
    ];
    let step = prop_oneof![6 => Just(1_i64), 1 => 2..4_i64];
    let dim = (size, (any::<u32>(), step.clone(), kind.clone()), (any::<u32>(), step, kind));
    let dim = dim.prop_map(|(size, (order, step, kind), (to_order, to_step, to_kind))| {
        let to_kind = if to_kind == Kind::Backwards { to_kind } else { Kind::Plain };
        (Dim { size, order, step, kind }, Dim { size, order: to_order, step: to_step, kind: to_kind })
    });
    vec(dim, 0..=8).prop_filter("small enough", |dims| {
        dims.iter().map(|(dim, _)| dim.size.max(1)).product::<i64>() <= 50_000
    })
}

/// Strides of the dimensions, in order, with gaps by `step`.
fn layout(dims: &[Dim]) -> Layout {
    let mut order: Vec<usize> = (0..dims.len()).collect();
    order.sort_by_key(|&dim| dims[dim].order);
    let mut strides = vec![0; dims.len()];
    let (mut next, mut last) = (1, 1);
    for dim in order {
        let Dim { size, step, kind, .. } = dims[dim];
        strides[dim] = match kind {
            Kind::Plain => next * step,
            Kind::Backwards => -next * step,
            Kind::Broadcast => 0,
            Kind::Overlapping => last,
        };
        last = strides[dim];
        next = next.max(size.max(1) * strides[dim].abs());
    }
    let shape: Vec<i64> = dims.iter().map(|dim| dim.size).collect();
    Layout::new(&shape, &strides).expect("small")
}

/// Offsets of all elements from the first, in row-major order.
fn offsets(layout: &Layout) -> Vec<i64> {
    let mut offsets = vec![0];
    for (&size, &stride) in layout.shape().iter().zip(layout.strides()) {
        offsets = offsets.iter().flat_map(|base| (0..size).map(move |index| base + index * stride)).collect();
    }
    offsets
}

/// Memory for the elements of a layout, and where the first one is.
fn memory(layout: &Layout, itemsize: usize, fill: impl FnMut(usize) -> u8) -> (Vec<u8>, usize) {
    let (low, high) = layout.extent().unwrap_or((0, -1));
    let bytes = (high - low + 1) as usize * itemsize;
    ((0..bytes).map(fill).collect(), low.unsigned_abs() as usize * itemsize)
}

/// All plans that a plan can be split into.
fn parts(plan: Plan) -> Vec<Plan> {
    match plan.split() {
        Ok((one, other)) => [parts(one), parts(other)].concat(),
        Err(plan) => vec![plan],
    }
}

fn check(source: &Layout, target: &Layout, itemsize: usize) {
    if source.is_empty() {
        return;
    }
    let (from, first) = memory(source, itemsize, |byte| (byte % 251) as u8);
    let (blank, to_first) = memory(target, itemsize, |_| 0xEE);
    let mut expected = blank.clone();
    for (from_offset, to_offset) in offsets(source).into_iter().zip(offsets(target)) {
        let at = |first: usize, offset: i64| (first as i64 + offset * itemsize as i64) as usize;
        let (read, write) = (at(first, from_offset), at(to_first, to_offset));
        expected[write..write + itemsize].copy_from_slice(&from[read..read + itemsize]);
    }
    let plan = Plan::new(source.shape(), source.strides(), target.strides(), itemsize);
    for (name, processor) in processors() {
        for streams in [false, true] {
            for plans in [vec![plan.clone()], parts(plan.clone())] {
                let mut to = blank.clone();
                for plan in &plans {
                    // SAFETY: both memories have all elements of their layouts.
                    unsafe {
                        kernels::run(
                            plan,
                            from[first..].as_ptr(),
                            to[to_first..].as_mut_ptr(),
                            processor,
                            streams,
                        );
                    }
                }
                let count = plans.len();
                assert!(
                    to == expected,
                    "{name}, streams: {streams}, parts: {count}, {source:?} -> {target:?} of {itemsize}: {plan:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_layout_is_copied_to_every_other(
        dims in dims(), itemsize in prop::sample::select(vec![1_usize, 2, 4, 8, 16, 3, 6, 12, 20, 32])
    ) {
        let (from, to): (Vec<Dim>, Vec<Dim>) = dims.into_iter().unzip();
        let (source, target) = (layout(&from), layout(&to));
        prop_assume!(!target.overlaps());
        check(&source, &target, itemsize);
    }
}
