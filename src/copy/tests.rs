//! The kernels against a loop over elements: for every set of instructions, straight to the target
//! and through the store buffer, whole and split.

#[cfg(target_os = "linux")]
mod guard_pages;
mod lines;

use proptest::collection::vec;
use proptest::prelude::*;

use super::Memory;
use super::copy_plan::CopyPlan;
use super::endpoints::Endpoints;
use super::kernels;
use super::processor::{self, Processor};
use super::tiled_transpose::TiledTranspose;
use crate::Layout;

/// The sets of instructions that this machine has.
fn processors() -> Vec<(&'static str, &'static Processor)> {
    #[cfg_attr(
        any(miri, not(any(target_arch = "aarch64", target_arch = "x86_64"))),
        expect(unused_mut, reason = "there are no other instructions")
    )]
    let mut all = vec![("portable", &processor::PORTABLE)];
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    all.push(("NEON", &processor::NEON));
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        all.push(("SSE2", &processor::SSE2));
        if is_x86_feature_detected!("avx2") {
            all.push(("AVX2", &processor::AVX2));
        }
        let avx2 = is_x86_feature_detected!("avx2");
        if avx2 && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
            all.push(("AVX512", &processor::AVX512));
            if is_x86_feature_detected!("avx512vbmi") {
                all.push(("AVX512 VBMI", &processor::AVX512_VBMI));
            }
        }
    }
    all
}

/// How one dimension lies in memory.
#[derive(Clone, Debug)]
struct Dim {
    size: i64,
    /// Dimensions of smaller rank are closer together in memory.
    rank: u32,
    /// By how much the stride exceeds that of a dense dimension, as a factor.
    spread: i64,
    class: StrideClass,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum StrideClass {
    Plain,
    Backwards,
    Broadcast,
    /// As close as the elements of the dimension inside.
    Overlapping,
}

fn dims() -> impl Strategy<Value = Vec<(Dim, Dim)>> {
    let size = prop_oneof![6 => 1..6_i64, 1 => Just(0_i64), 2 => 6..20_i64, 2 => 20..90_i64];
    let class = prop_oneof![
        6 => Just(StrideClass::Plain),
        2 => Just(StrideClass::Backwards),
        1 => Just(StrideClass::Broadcast),
        1 => Just(StrideClass::Overlapping),
    ];
    let spread = prop_oneof![6 => Just(1_i64), 1 => 2..4_i64];
    let side = || (any::<u32>(), spread.clone(), class.clone());
    let dim = (size, side(), side()).prop_map(|(size, source, target)| {
        let dim = |(rank, spread, class)| Dim { size, rank, spread, class };
        let (source, mut target) = (dim(source), dim(target));
        // Every element of a target is its own.
        if target.class != StrideClass::Backwards {
            target.class = StrideClass::Plain;
        }
        (source, target)
    });
    vec(dim, 0..=8).prop_filter("small enough", |dims| {
        dims.iter().map(|(dim, _)| dim.size.max(1)).product::<i64>() <= 50_000
    })
}

/// A layout of these dimensions.
fn layout(dims: &[Dim]) -> Layout {
    let mut order: Vec<usize> = (0..dims.len()).collect();
    order.sort_by_key(|&dim| dims[dim].rank);
    let mut strides = vec![0; dims.len()];
    let (mut next, mut last) = (1, 1);
    for dim in order {
        let Dim { size, spread, class, .. } = dims[dim];
        strides[dim] = match class {
            StrideClass::Plain => next * spread,
            StrideClass::Backwards => -next * spread,
            StrideClass::Broadcast => 0,
            StrideClass::Overlapping => last,
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
        offsets = offsets
            .iter()
            .flat_map(|base| (0..size).map(move |index| base + index * stride))
            .collect();
    }
    offsets
}

/// Memory for the elements of a layout after `shift` other bytes, and the index of the first
/// element's first byte.
fn memory(
    layout: &Layout,
    itemsize: usize,
    shift: usize,
    fill: impl FnMut(usize) -> u8,
) -> (Vec<u8>, usize) {
    let (low, high) = layout.extent().unwrap_or((0, -1));
    let bytes = (high - low + 1) as usize * itemsize + shift;
    ((0..bytes).map(fill).collect(), low.unsigned_abs() as usize * itemsize + shift)
}

/// All parts of a plan that is cut in halves up to `halvings` times.
fn parts(plan: &CopyPlan, halvings: u32, memory: Memory) -> Vec<CopyPlan> {
    (0..1 << halvings).filter_map(|number| plan.part(number, halvings, memory)).collect()
}

fn check(source: &Layout, target: &Layout, itemsize: usize) {
    check_shifted(source, target, itemsize, (0, 0));
}

fn check_shifted(source: &Layout, target: &Layout, itemsize: usize, shifts: (usize, usize)) {
    if source.is_empty() {
        return;
    }
    let (from, first) = memory(source, itemsize, shifts.0, |byte| (byte % 251) as u8);
    let (blank, to_first) = memory(target, itemsize, shifts.1, |_| 0xEE);
    let mut expected = blank.clone();
    for (from_offset, to_offset) in offsets(source).into_iter().zip(offsets(target)) {
        let at = |first: usize, offset: i64| (first as i64 + offset * itemsize as i64) as usize;
        let (read, write) = (at(first, from_offset), at(to_first, to_offset));
        expected[write..write + itemsize].copy_from_slice(&from[read..read + itemsize]);
    }
    let plan = CopyPlan::new(source.shape(), source.strides(), target.strides(), itemsize);
    for (name, processor) in processors() {
        for nontemporal in [false, true] {
            for (halvings, memory) in [(0, Memory::Used), (5, Memory::Used), (5, Memory::Fresh)] {
                let plans = parts(&plan, halvings, memory);
                let mut to = blank.clone();
                let ends = Endpoints {
                    source: from[first..].as_ptr(),
                    target: to[to_first..].as_mut_ptr(),
                };
                for plan in &plans {
                    // SAFETY: both memories have all elements of their layouts (`memory`), and the
                    // machine has the processor's instructions (`processors`).
                    unsafe { kernels::run(plan, ends, processor, nontemporal) };
                }
                let count = plans.len();
                assert!(
                    to == expected,
                    "{name}, non-temporal: {nontemporal}, parts: {count}, \
                     {source:?} -> {target:?} of {itemsize}: {plan:?}"
                );
            }
        }
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn random_layouts_match_a_loop_over_elements(
        dims in dims(),
        itemsize in prop::sample::select(vec![1_usize, 2, 4, 8, 16, 3, 6, 12, 20, 32]),
        shifts in (0_usize..64, 0_usize..64),
    ) {
        let (from, to): (Vec<Dim>, Vec<Dim>) = dims.into_iter().unzip();
        let (source, target) = (layout(&from), layout(&to));
        prop_assume!(!target.overlaps());
        check_shifted(&source, &target, itemsize, shifts);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    /// Matrices of many tiles, with gaps behind the rows on both sides, and with negative strides.
    #[test]
    fn large_matrices_with_gaps_are_transposed(
        (outer, rows, columns) in (1_i64..4, 1_i64..900, 1_i64..900),
        (from_gap, to_gap, matrices) in (0_i64..70, 0_i64..70, any::<bool>()),
        (from_back, to_back) in any::<(bool, bool)>(),
        itemsize in prop::sample::select(vec![1_usize, 2, 4, 8, 16]),
        shifts in (0_usize..64, 0_usize..64),
    ) {
        prop_assume!(rows * columns * outer < 300_000);
        let sign = |back| if back { -1 } else { 1 };
        let (from_pitch, to_pitch) = (rows + from_gap, columns + to_gap);
        // In the target, matrices follow each other, or rows of all matrices are side by side.
        let source = [from_pitch * columns, sign(from_back), sign(to_back) * from_pitch];
        let (to_pitch, between) = match matrices {
            true => (to_pitch, to_pitch * rows),
            false => (to_pitch * outer, to_pitch),
        };
        let target = [between, sign(to_back) * to_pitch, sign(from_back)];
        let shape = [outer, rows, columns];
        let layout = |strides: &[i64]| Layout::new(&shape, strides).expect("small");
        prop_assume!(!layout(&target).overlaps());
        check_shifted(&layout(&source), &layout(&target), itemsize, shifts);
    }
}

/// Contiguous memory seen with its dimensions in another order, copied to contiguous memory.
fn permuted(base: &[i64], order: &[usize]) -> (Layout, Layout) {
    let base = Layout::contiguous(base).expect("small");
    let pick = |values: &[i64]| order.iter().map(|&dim| values[dim]).collect::<Vec<_>>();
    let (shape, strides) = (pick(base.shape()), pick(base.strides()));
    (Layout::new(&shape, &strides).expect("small"), Layout::contiguous(&shape).expect("small"))
}

/// Pairs of layouts that are large enough for several tiles, parts and shuffle plans, and odd
/// enough for all of their edges.
fn shapes() -> Vec<(Layout, Layout)> {
    let mut all = Vec::new();
    for base in [
        [300, 700],
        [100, 701],
        [257, 511],
        [512, 512],
        [64, 1000],
        [1000, 64],
        [2000, 7],
        [7, 2000],
        [65, 33],
    ] {
        all.push(permuted(&base, &[1, 0]));
    }
    for channels in 2..=17 {
        all.push(permuted(&[3, 701, channels], &[0, 2, 1]));
        all.push(permuted(&[3, channels, 701], &[0, 2, 1]));
        all.push(permuted(&[203, channels, 19 - channels], &[0, 2, 1]));
    }
    all.push(permuted(&[16, 16, 8, 8, 9], &[4, 3, 2, 1, 0]));
    all.push(permuted(&[5, 40, 3, 41], &[3, 1, 0, 2]));
    all.push(permuted(&[40, 3, 50, 2], &[2, 1, 0, 3]));
    all.push(permuted(&[6, 7, 130], &[1, 0, 2]));
    let new = |shape: &[i64], strides: &[i64]| Layout::new(shape, strides).expect("small");
    let dense = |shape: &[i64]| Layout::contiguous(shape).expect("small");
    all.push((new(&[70, 901], &[1802, 2]), dense(&[70, 901])));
    all.push((new(&[70, 901], &[901, -1]), dense(&[70, 901])));
    all.push((new(&[70, 901], &[-901, 1]), dense(&[70, 901])));
    all.push((new(&[300, 400], &[-1, 300]), dense(&[300, 400])));
    all.push((new(&[300, 400], &[0, 1]), dense(&[300, 400])));
    all.push((new(&[300, 400], &[1, 0]), dense(&[300, 400])));
    all.push((new(&[300, 400], &[1, 1]), dense(&[300, 400])));
    all.push((dense(&[70, 901]), new(&[70, 901], &[2, 140])));
    all.push((dense(&[300, 400]), new(&[300, 400], &[-401, 1])));
    all
}

#[test]
fn large_layouts_match_a_loop_over_elements() {
    for (source, target) in shapes() {
        for itemsize in [1, 2, 4, 8, 16, 12] {
            check(&source, &target, itemsize);
        }
    }
}

/// Matrices that are closer together in the source than their columns, or than their groups of
/// columns: they are copied band by band.
#[test]
fn matrices_closer_together_than_their_columns_are_transposed() {
    for (base, order, itemsizes) in [
        (vec![40, 12, 5, 64], vec![3, 2, 1, 0], vec![1, 2, 4, 8, 16]),
        (vec![16, 9, 3, 2, 40], vec![4, 3, 2, 1, 0], vec![1, 4, 16]),
        (vec![1101, 2, 16], vec![2, 1, 0], vec![4]),
        (vec![1104, 2, 16], vec![2, 1, 0], vec![4, 8]),
        // Outer groups whose groups are enough for two parts.
        (vec![2, 100, 7, 20], vec![3, 2, 1, 0], vec![1]),
    ] {
        let (source, target) = permuted(&base, &order);
        for itemsize in itemsizes {
            for shift in [0, 16, 41] {
                check_shifted(&source, &target, itemsize, (shift % 16, shift));
            }
        }
    }
}

/// A regression: matrices are copied band by band, and one with rows that begin within lines has
/// wider tiles, and so fewer bands, than its size alone says.
#[test]
fn matrices_with_fewer_bands_than_their_size_says_are_transposed() {
    let shape = [3, 75, 14];
    let source = Layout::new(&shape, &[150, 2, 450]).expect("small");
    let target = Layout::new(&shape, &[1050, -14, 1]).expect("small");
    for shift in [0, 16, 20] {
        check_shifted(&source, &target, 16, (0, shift));
    }
}

/// A regression: an image that the source has once and the target several times was copied whole
/// for each of its bands.
#[test]
fn images_have_no_bands() {
    let plan = CopyPlan::new(&[2, 3, 9000], &[0, 1, 3], &[27_000, 9000, 1], 1);
    let (outer, &[rows, outer_groups, groups, columns]) = plan.split_dims() else {
        panic!("{plan:?} is no transpose")
    };
    assert_eq!(outer.len(), 1);
    for (name, processor) in processors() {
        let row = [outer_groups, groups, columns];
        let matrix = TiledTranspose::new(&plan, rows, row, processor, true);
        assert!(processor.shuffle.is_none() || matrix.bands().is_none(), "{name}");
    }
}

/// Small matrices that follow each other, with all numbers of units that fit registers and shuffles
/// of one line.
#[test]
fn small_matrices_are_transposed() {
    for (rows, columns) in [
        (2, 2),
        (3, 3),
        (4, 4),
        (5, 5),
        (7, 7),
        (8, 8),
        (12, 12),
        (16, 16),
        (4, 8),
        (16, 2),
        (3, 21),
    ] {
        let (source, target) = permuted(&[1213, rows, columns], &[0, 2, 1]);
        for itemsize in [1, 2, 4, 8, 16] {
            check_shifted(&source, &target, itemsize, (0, itemsize));
        }
    }
}

/// A regression: short rows that are put into the store buffer together went to a buffer without
/// room for all planes of an image.
#[test]
fn images_are_deinterleaved_and_interleaved() {
    for itemsize in [1, 2, 4] {
        for planes in 2..=17 {
            for pixels in [65, 600, 1024, 1171] {
                let shape = [3, planes, pixels];
                let apart = Layout::new(&shape, &[planes * pixels, pixels, 1]).expect("small");
                let together = Layout::new(&shape, &[planes * pixels, 1, planes]).expect("small");
                check(&together, &apart, itemsize);
                check(&apart, &together, itemsize);
            }
        }
    }
}

/// Images of many pixels, and small matrices, whose target begins anywhere in a cache line.
#[test]
fn shuffles_write_to_lines_wherever_the_target_begins() {
    for itemsize in [1, 2, 4, 8, 16] {
        for (shape, shift) in [([2, 2311, 2], 0), ([2, 2311, 3], 4), ([1, 1500, 4], 20)]
            .into_iter()
            .chain([([2, 3, 2311], 8), ([1, 4, 1500], 48), ([2, 2, 2311], 63)])
            .chain([([1213, 3, 3], 16), ([1213, 8, 8], 32), ([1213, 4, 4], 1)])
        {
            let (source, target) = permuted(&shape, &[0, 2, 1]);
            check_shifted(&source, &target, itemsize, (itemsize, shift));
        }
    }
}

/// Planes of an overlapping source that are not a whole number of units apart: runs of two or more
/// elements are one unit.
#[test]
fn planes_that_are_a_part_of_a_unit_apart_are_interleaved() {
    for itemsize in [1, 2, 4] {
        for (run, planes, distance) in [
            (2, 3, 3),
            (2, 3, 17),
            (2, 7, 63),
            (4, 3, 5),
            (4, 2, 61),
            (8, 1, 9),
            (4, 3, -5),
            (2, 2, -3),
        ] {
            let source = Layout::new(&[1171, planes, run], &[run, distance, 1]).expect("small");
            let target = Layout::contiguous([1171, planes, run]).expect("small");
            check_shifted(&source, &target, itemsize, (0, 5));
        }
    }
}
