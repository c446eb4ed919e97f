//! More owners of imported memory: shared, exported, imported again, and dropped in any order.

use std::ptr::NonNull;

use dlbridge::ffi::{DLManagedTensor, DLTensor};
use dlbridge::{Access, Error, Exported, Tensor};

use super::checks::{Expected, MAX_COUNT};
use super::producer::{Given, Kind};
use crate::input::Input;

const READ_ONLY: u64 = 1;
const MAX_STEPS: usize = 12;

/// One owner of the memory.
enum Owner {
    Tensor(Tensor),
    Versioned(Exported),
    Legacy(Exported<DLManagedTensor>),
}

/// Makes more owners of a tensor's memory, and drops all of them.
pub(super) fn pass_around<M: Kind>(
    input: &mut Input<'_>,
    tensor: Tensor,
    expected: &Expected,
    given: &Given<M>,
) {
    let mut owners = vec![Owner::Tensor(tensor)];
    for _ in 0..MAX_STEPS {
        if input.is_empty() || owners.is_empty() {
            break;
        }
        let owner = owners.swap_remove(input.below(owners.len()));
        step(input, owner, expected, &mut owners);
        consume_again(input, given, &owners);
        assert_eq!(given.deletions(), usize::from(owners.is_empty() && given.has_deleter()));
    }
    while !owners.is_empty() {
        assert_eq!(given.deletions(), 0, "released while an owner lives");
        drop(owners.swap_remove(input.below(owners.len())));
    }
}

/// As long as the library holds a struct, a second import of it is refused and releases nothing.
fn consume_again<M: Kind>(input: &mut Input<'_>, given: &Given<M>, owners: &[Owner]) {
    if owners.is_empty() || !given.has_deleter() || !input.seldom(16) {
        return;
    }
    // SAFETY: the struct still exists, and one that is consumed is refused.
    let rejected = unsafe { M::import(given.source) }.expect_err("consumed already");
    assert!(
        matches!(rejected.error(), Error::InvalidDescriptor { field, .. } if field == "deleter")
    );
    drop(rejected);
}

/// Does something with one owner, and puts those that are left into the list.
fn step(input: &mut Input<'_>, owner: Owner, expected: &Expected, owners: &mut Vec<Owner>) {
    match owner {
        Owner::Tensor(tensor) => step_tensor(input, tensor, expected, owners),
        Owner::Versioned(exported) => {
            let raw = exported.into_raw();
            let as_before = tamper(input, raw, expected);
            // SAFETY: ours, and given up just above.
            let tensor = unsafe { Tensor::from_dlpack(raw) }.expect("ours");
            keep(tensor, as_before, expected, owners);
        }
        Owner::Legacy(exported) => {
            let raw = exported.into_raw();
            let as_before = tamper(input, raw, expected);
            // SAFETY: ours, and given up just above.
            let tensor = unsafe { Tensor::from_dlpack_legacy(raw) }.expect("ours");
            keep(tensor, as_before, expected, owners);
        }
    }
}

/// Adds a tensor to the list if it is as expected; otherwise checks it and drops it.
fn keep(tensor: Tensor, as_before: bool, expected: &Expected, owners: &mut Vec<Owner>) {
    if as_before {
        expected.check_description(&tensor);
        expected.check_elements(&tensor);
        owners.push(Owner::Tensor(tensor));
    } else {
        assert_eq!(tensor.ndim(), expected.grid.shape.len());
        let _formatted = format!("{tensor:?}");
        // A clone has memory for every element, also if all of them are the same one.
        if tensor.len() <= MAX_COUNT as usize {
            drop(tensor.deep_clone());
        }
    }
}

fn step_tensor(
    input: &mut Input<'_>,
    tensor: Tensor,
    expected: &Expected,
    owners: &mut Vec<Owner>,
) {
    let access = tensor.access();
    let shared_read_only = !matches!(access, Access::Aliased { writable: true, .. });
    let padded = expected.description.dtype.bits < 8 && tensor.descriptor().is_padded();
    match input.byte() % 8 {
        0 => drop(tensor),
        1 => {
            let exported = tensor.share_dlpack();
            assert_eq!(flags_of(&exported) & READ_ONLY != 0, shared_read_only);
            owners.extend([Owner::Tensor(tensor), Owner::Versioned(exported)]);
        }
        2 => {
            let unique = tensor.is_unique();
            let exported = tensor.into_dlpack();
            let read_only = shared_read_only && !(access == Access::Exclusive && unique);
            assert_eq!(flags_of(&exported) & READ_ONLY != 0, read_only);
            owners.push(Owner::Versioned(exported));
        }
        3 => {
            match tensor.share_dlpack_legacy() {
                Ok(exported) => owners.push(Owner::Legacy(exported)),
                Err(error) => assert!(shared_read_only || padded, "{error}"),
            }
            owners.push(Owner::Tensor(tensor));
        }
        4 => match tensor.into_dlpack_legacy() {
            Ok(exported) => owners.push(Owner::Legacy(exported)),
            Err(rejected) => {
                assert!(shared_read_only || padded, "{}", rejected.error());
                owners.push(Owner::Tensor(rejected.into_value()));
            }
        },
        5 => copy_into_it(tensor, expected, owners),
        6 => match tensor.into_aliased() {
            Ok(tensor) => owners.push(Owner::Tensor(tensor)),
            Err(rejected) => owners.push(Owner::Tensor(rejected.into_value())),
        },
        _ => {
            let other = tensor.share();
            assert!(!tensor.is_unique() && !other.is_unique());
            owners.extend([Owner::Tensor(tensor), Owner::Tensor(other)]);
        }
    }
}

/// Copies the elements out, and in again: nothing changes.
fn copy_into_it(tensor: Tensor, expected: &Expected, owners: &mut Vec<Owner>) {
    if expected.bytes.is_some() && expected.description.dtype.is_known() {
        let clone = tensor.deep_clone().expect("readable host memory");
        // SAFETY: no other code uses the memory, and there are no views.
        match unsafe { clone.copy_into_unchecked(&tensor) } {
            Ok(()) => assert!(!tensor.is_read_only() && !expected.grid.repeats()),
            Err(Error::ReadOnly { .. }) => assert!(tensor.is_read_only()),
            Err(Error::SelfOverlap { .. }) => assert!(tensor.layout().overlaps()),
            Err(error) => assert!(expected.item.is_none(), "{error}"),
        }
        expected.check_elements(&tensor);
    }
    owners.push(Owner::Tensor(tensor));
}

fn flags_of(exported: &Exported) -> u64 {
    // SAFETY: dlbridge made the struct, and no code has released it yet.
    unsafe { exported.as_ptr().as_ref() }.flags
}

/// Changes a struct that dlbridge made as its owner may, so that its description stays true.
/// Returns whether the description is the same as before.
fn tamper<M: Kind>(input: &mut Input<'_>, raw: NonNull<M>, expected: &Expected) -> bool {
    // SAFETY: dlbridge made the struct, and no code has released it yet.
    let tensor: *mut DLTensor = unsafe { M::description_of(raw) };
    // SAFETY: the description is a part of that struct, and no other code uses it meanwhile.
    let tensor = unsafe { &mut *tensor };
    let rank = expected.grid.shape.len();
    match input.byte() % 8 {
        0 if rank > 0 => {
            // SAFETY: `shape` has as many numbers.
            let shape = unsafe { std::slice::from_raw_parts_mut(tensor.shape, rank) };
            let size = &mut shape[input.below(rank)];
            // Fewer elements than there are.
            *size = (*size).min(i64::from(input.byte() % 4));
            expected.grid.shape == shape
        }
        1 if rank > 1 && tensor.strides.is_aligned() && !tensor.strides.is_null() => {
            let (one, other) = (input.below(rank), input.below(rank));
            for numbers in [tensor.shape, tensor.strides] {
                // SAFETY: both have as many numbers.
                unsafe { std::slice::from_raw_parts_mut(numbers, rank) }.swap(one, other);
            }
            one == other
        }
        _ => true,
    }
}
