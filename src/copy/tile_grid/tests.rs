//! Property tests of the tiles.

#![forbid(unsafe_code)]

use std::iter;

use proptest::prelude::*;

use super::coming::BLOCK_L2_DIVISOR;
use super::*;
use crate::copy::caches::caches;

fn sizes() -> impl Strategy<Value = MatrixSize> {
    let dim = || prop_oneof![1..10_usize, 10..700_usize];
    let columns = prop_oneof![4 => dim(), 1 => 700..8000_usize];
    (0..5_u32, 1..4_usize, dim(), columns).prop_map(|(unit, row_groups, rows, columns)| {
        MatrixSize { unit: 1 << unit, row_groups, rows, columns }
    })
}

/// Checks that the tiles fit the store buffer, and that the shares of their rows cover every
/// unit once. `row_address` is where a row of the target begins.
fn check(size: MatrixSize, grid: &TileGrid, row_address: impl Fn(usize) -> *const u8) {
    let row_bytes = size.columns * size.unit;
    let mut covered = vec![0_u8; size.row_groups * size.rows * row_bytes];
    let mut next = Some(grid.first());
    while let Some(tile) = next {
        let pitch = row_pitch(tile.columns() * size.unit);
        assert!(tile.rows * pitch <= STORE_BUFFER_BYTES, "{tile:?} of {size:?}");
        for row in tile.row..tile.row + tile.rows {
            let first = (tile.column * size.unit) as isize;
            let share = grid.share_of_row(&tile, row_address(row).wrapping_offset(first));
            let share = (first + share.start) as usize..(first + share.end) as usize;
            let held = tile.columns() * size.unit;
            assert!(tile.first_column * size.unit <= share.start);
            assert!(share.end <= tile.first_column * size.unit + held);
            covered[row * row_bytes..][share].iter_mut().for_each(|count| *count += 1);
        }
        check_strips(size, &tile);
        next = grid.after(&tile);
    }
    assert!(covered.iter().all(|&count| count == 1), "{size:?} {grid:?}");
    check_bands(grid);
}

/// Checks that shares of rows begin and end on cache lines of the target, or at the ends of the
/// row.
fn check_lines(size: MatrixSize, grid: &TileGrid, row_address: impl Fn(usize) -> *const u8) {
    for tile in iter::successors(Some(grid.first()), |tile| grid.after(tile)) {
        for row in tile.row..tile.row + tile.rows {
            let target = row_address(row).wrapping_add(tile.column * size.unit);
            let share = grid.share_of_row(&tile, target);
            let in_line = |end| target.wrapping_offset(end).addr() % CACHE_LINE_BYTES;
            assert!(tile.column == 0 || in_line(share.start) == 0, "{tile:?} of {size:?}");
            assert!(tile.is_last || in_line(share.end) == 0, "{tile:?} of {size:?}");
        }
    }
}

/// Checks that the tiles of all bands are the tiles of the matrix.
fn check_bands(grid: &TileGrid) {
    let all = iter::successors(Some(grid.first()), |tile| grid.after(tile));
    let bands = (0..grid.bands()).filter_map(|band| grid.first_of_band(band)).flat_map(|first| {
        iter::successors(Some(first), |tile| grid.after(tile).filter(|next| next.row > 0))
    });
    assert!(all.eq(bands), "{grid:?}");
}

/// Checks that the strips of a tile follow each other and make up the tile.
fn check_strips(size: MatrixSize, tile: &TileBounds) {
    let mut next = tile.first_column;
    for strip in tile.strips(size.unit) {
        assert_eq!((strip.row, strip.rows), (tile.row, tile.rows));
        assert_eq!(strip.first_column, next, "{strip:?} of {tile:?}");
        assert!(strip.columns() > 0, "{strip:?} of {tile:?}");
        next = strip.end_column;
    }
    assert_eq!(next, tile.end_column, "{tile:?}");
}

/// Checks that the tiles of one matrix prefetch every unit of the next one once: those of the first
/// block for it, the others within it. Each column of a chain goes on with one of the next group.
fn check_coming(size: MatrixSize, grid: &TileGrid, group: Option<usize>) {
    let rows = size.row_groups * size.rows;
    let mut counts = vec![0_u8; rows * size.columns];
    for tile in iter::successors(Some(grid.first()), |tile| grid.after(tile)) {
        let coming = grid.coming(&tile, false);
        for column in coming.columns {
            for row in coming.row..coming.row + coming.rows {
                let column = column + row / rows * group.unwrap_or(0);
                counts[row % rows * size.columns + column] += 1;
            }
        }
    }
    assert!(counts.iter().all(|&count| count == 1), "{size:?} {grid:?}");
}

/// Checks that a block of several tiles takes up at most its part of the L2 cache.
fn check_blocks(size: MatrixSize, grid: &TileGrid) {
    for tile in iter::successors(Some(grid.first()), |tile| grid.after(tile)) {
        let block = grid.rows.block(tile.row);
        let bytes = block.len() * tile.columns() * size.unit;
        let part = caches().l2 / BLOCK_L2_DIVISOR;
        assert!(grid.rows.tiles(block) == 1 || bytes <= part, "{tile:?} of {size:?}");
    }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn tiles_fit_the_store_buffer_and_cover_every_unit_once(
        size in sizes(),
        first in 0..128_usize,
        gap in 0..128_usize,
        (pad_to_lines, nontemporal) in any::<(bool, bool)>(),
    ) {
        let row = size.columns * size.unit + gap * size.unit;
        let stride = if pad_to_lines { row.next_multiple_of(CACHE_LINE_BYTES) } else { row };
        let address = |row: usize| std::ptr::without_provenance(4096 + first + row * stride);
        let grid = TileGrid::new(size, nontemporal);
        check(size, &grid, |_| std::ptr::without_provenance(4096));
        let aligned = grid.aligned_to(address(0), stride.is_multiple_of(CACHE_LINE_BYTES));
        check(size, &aligned, address);
        check_lines(size, &aligned, address);
        if !stride.is_multiple_of(CACHE_LINE_BYTES) {
            check_blocks(size, &aligned);
        }
        if let Some(whole_rows) = grid.of_whole_rows() {
            check(size, &whole_rows, address);
        }
    }

    #[test]
    fn each_unit_is_prefetched_once(size in sizes()) {
        check_coming(size, &TileGrid::new(size, true), None);
    }

    #[test]
    fn each_unit_of_a_chain_is_prefetched_once(
        (unit, rows) in (0..5_u32, 1..100_usize),
        (columns, groups, outer_groups) in (1..70_usize, 2..40_usize, 1..3_usize),
    ) {
        let all_columns = columns * groups * outer_groups;
        let size = MatrixSize { unit: 1 << unit, row_groups: 1, rows, columns: all_columns };
        let grid = TileGrid::new(size, true).with_chain(groups, columns);
        check_coming(size, &grid, Some(columns));
    }
}
