//! Copies that write whole cache lines of the target, which may begin anywhere in a line.

#![forbid(unsafe_code)]

use super::{check_shifted, permuted};
use crate::Layout;

/// Runs that are longer than two cache lines go straight to whole lines of the target. Those that
/// follow each other share the lines at their ends.
#[test]
fn long_runs_begin_and_end_anywhere_in_lines() {
    for (run, shift) in (128..=400).step_by(17).zip((0..64).step_by(5).cycle()) {
        for gap in [0, 1, 64, 77] {
            let source = Layout::new(&[9, 3, run], &[run, 9 * run + 3, 1]).expect("small");
            let target =
                Layout::new(&[9, 3, run], &[3 * (run + gap), run + gap, 1]).expect("small");
            check_shifted(&source, &target, 1, (3, shift));
            check_shifted(&source, &target, 4, (0, shift & !3));
        }
    }
}

/// Tiles of whole cache lines: rows and columns of a multiple of 64 bytes, also in short groups,
/// and targets whose rows begin on cache lines.
#[test]
fn tiles_of_whole_lines_are_transposed() {
    for (base, order) in [
        (vec![256, 384], vec![1, 0]),
        (vec![16, 8, 192], vec![2, 1, 0]),
        (vec![32, 4, 3, 128], vec![3, 2, 1, 0]),
        (vec![3, 192, 128], vec![0, 2, 1]),
        // Squares of registers that go on in the next group, or in the next outer group.
        (vec![12, 5, 16, 64], vec![3, 2, 1, 0]),
        (vec![5, 3, 64, 64], vec![3, 2, 1, 0]),
        (vec![24, 40, 64], vec![2, 1, 0]),
    ] {
        let (source, target) = permuted(&base, &order);
        for itemsize in [1, 2, 4, 8] {
            for shift in (0..64).step_by(16) {
                check_shifted(&source, &target, itemsize, (8 * (shift % 3), shift));
            }
        }
    }
}

/// The same with rows that begin within cache lines, at the same distance or at other ones. There
/// are enough rows for whole tiles wherever the memory begins.
#[test]
fn tiles_whose_rows_begin_within_lines_are_transposed() {
    for (base, order) in [([1, 13, 41, 64], [3, 2, 1, 0]), ([7, 11, 9, 64], [3, 2, 1, 0])] {
        let (source, target) = permuted(&base, &order);
        for (itemsize, shift) in [(1, 16), (2, 3), (4, 63), (8, 48)] {
            check_shifted(&source, &target, itemsize, (5, shift));
        }
    }
    for columns in [701, 704] {
        for (itemsize, rows) in [(1, 320), (2, 320), (4, 160), (8, 160)] {
            let (source, target) = permuted(&[columns, rows], &[1, 0]);
            for shift in [0, 9, 31, 48, 63] {
                check_shifted(&source, &target, itemsize, (shift % 2, shift));
            }
        }
    }
}

/// Tiles of whole lines with gaps of whole lines behind the rows, and with negative strides.
#[test]
fn tiles_of_whole_lines_with_gaps_are_transposed() {
    for (itemsize, sign) in [(1, 1), (1, -1), (2, -1), (4, 1), (8, -1)] {
        let (rows, columns) = (320, 384);
        let source = Layout::new(&[rows, columns], &[1, sign * (rows + 64)]).expect("small");
        let target = Layout::new(&[rows, columns], &[sign * (columns + 128), 1]).expect("small");
        for shift in (0..64).step_by(16) {
            check_shifted(&source, &target, itemsize, (0, shift));
        }
    }
}

/// Rows that follow each other and are whole lines, in tiles of whole rows, of which the last one
/// may be too low for whole lines of the source. The first of these matrices are regressions: such
/// a tile did not fit the store buffer.
#[test]
fn rows_of_lines_that_follow_each_other_are_transposed() {
    for (itemsize, base) in [
        (4, [1, 672, 30]),
        (1, [2, 640, 127]),
        (2, [1, 640, 125]),
        (1, [3, 256, 320]),
        (2, [3, 256, 321]),
        (4, [2, 256, 64]),
        (8, [2, 8, 1000]),
        (16, [2, 36, 210]),
        (16, [2, 1200, 9]),
    ] {
        let (source, target) = permuted(&base, &[0, 2, 1]);
        for shift in [0, 1, 16, 63] {
            check_shifted(&source, &target, itemsize, (shift % 3, shift));
        }
    }
}

/// Rows that dimensions of the source continue, and groups of columns that continue each other,
/// with gaps behind the rows of the target or without.
#[test]
fn rows_in_groups_are_transposed() {
    for (base, order) in [
        (vec![16, 10, 3, 5, 32], vec![4, 3, 2, 1, 0]),
        (vec![40, 6, 5, 20], vec![3, 2, 1, 0]),
        (vec![3, 4, 32, 6, 16], vec![4, 1, 0, 3, 2]),
        (vec![3, 16, 10, 64], vec![3, 0, 2, 1]),
    ] {
        let (source, dense) = permuted(&base, &order);
        let mut strides = dense.strides().to_vec();
        let outer = strides.len() - 2;
        strides[..outer].iter_mut().for_each(|stride| *stride *= 3);
        let gaps = Layout::new(dense.shape(), &strides).expect("small");
        for itemsize in [1, 2, 4, 8, 16] {
            for (target, shift) in [(&dense, 0), (&dense, 16), (&dense, 5), (&gaps, 0), (&gaps, 7)]
            {
                check_shifted(&source, target, itemsize, (shift % 3, shift));
            }
        }
    }
}

/// Short runs of whole lines, which are copied in the order of the source.
#[test]
fn short_runs_are_copied_in_any_order() {
    for (base, order) in [([5, 7, 6, 256], [0, 2, 1, 3]), ([5, 7, 6, 192], [2, 1, 0, 3])] {
        let (source, dense) = permuted(&base, &order);
        let mut strides = dense.strides().to_vec();
        strides[0] *= 2;
        let gaps = Layout::new(dense.shape(), &strides).expect("small");
        strides[1] *= -1;
        let backwards = Layout::new(dense.shape(), &strides).expect("small");
        for target in [dense, gaps, backwards] {
            for (itemsize, shift) in [(1, 0), (1, 16), (4, 0), (4, 3)] {
                check_shifted(&source, &target, itemsize, (shift, shift));
            }
        }
    }
}

/// Runs of a line or more that follow each other in the target: in the source they are apart,
/// follow each other in another order, backwards, or are the same run. The target begins anywhere
/// in a line, and may have gaps behind some runs.
#[test]
fn runs_that_follow_each_other_are_joined() {
    for (run, shift) in [64, 65, 72, 96, 127, 128, 160, 201, 320, 2051, 4500].into_iter().zip(0..) {
        let shape = [3, 5, 4, run];
        let dense = Layout::contiguous(shape).expect("small");
        let gaps = Layout::new(&shape, &[20 * run + 77, 4 * run, run, 1]).expect("small");
        for strides in [
            [20 * run, run, 5 * run, 1],
            [run, 3 * run, 15 * run, 1],
            [20 * (run + 9), 4 * (run + 9), run + 9, 1],
            [25 * run, 5 * run, -run, 1],
            [2 * run, 0, 0, 1],
            [0, run, 0, 1],
        ] {
            let source = Layout::new(&shape, &strides).expect("small");
            for target in [&dense, &gaps] {
                for shift in [0, 1, 16, 63, 5 * shift] {
                    check_shifted(&source, target, 1, (shift % 3, shift));
                }
            }
        }
    }
}

/// Small matrices with rows of one or more whole cache lines in the target, and columns of one or
/// more times 16 bytes. One of the shifts makes the rows begin on lines.
#[test]
fn small_matrices_of_whole_lines_are_transposed() {
    for (itemsize, rows, columns) in [
        (1, 16, 64),
        (2, 8, 64),
        (2, 16, 32),
        (4, 4, 64),
        (4, 16, 16),
        (8, 2, 8),
        (8, 8, 8),
        (8, 6, 16),
        (16, 1, 8),
        (16, 3, 12),
        (16, 8, 8),
    ] {
        let (source, target) = permuted(&[173, columns, rows], &[0, 2, 1]);
        for shift in (0..64).step_by(16) {
            check_shifted(&source, &target, itemsize, (itemsize, shift));
        }
    }
}

/// Every second unit, or units in reversed order, in rows of many cache lines, of about one line,
/// and between both, whose target begins anywhere in a line. Rows of the target follow each other,
/// or have gaps of a unit.
#[test]
fn units_are_loaded_wherever_the_target_begins() {
    for itemsize in [1, 2, 4, 8, 16] {
        for (rows, row_bytes, gap) in [(1, 9000, 0), (3, 1130, 0), (3, 2050, 1), (5, 70, 1)] {
            let (columns, gap) = (row_bytes / itemsize as i64, i64::from(gap));
            let shape = [rows, columns];
            let target = Layout::new(&shape, &[columns + gap, 1]).expect("small");
            for step in [2, -1] {
                let source = Layout::new(&shape, &[2 * columns + 3, step]).expect("small");
                for shift in 0..64 {
                    check_shifted(&source, &target, itemsize, (shift % 7, shift));
                }
            }
        }
    }
}
