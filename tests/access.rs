//! The table of `Access`: which state allows a view, a write, a writable export.

use std::ptr::NonNull;

use dlbridge::{Access, DType, Descriptor, Device, Error, Layout, Tensor};

const READ_ONLY: u64 = dlbridge::ffi::DLPACK_FLAG_BITMASK_READ_ONLY as u64;

/// A row of the table.
struct Row {
    access: Access,
    make: fn() -> Tensor,
    view: bool,
    write: bool,
    moves_writable: bool,
    shares_writable: bool,
}

fn exclusive() -> Tensor {
    Tensor::from_vec(vec![1_i32, 2, 3], [3]).expect("3 elements")
}

fn trusted(writable: bool) -> Tensor {
    let mut values = vec![1_i32, 2, 3];
    let layout = Layout::contiguous([3]).expect("valid");
    let descriptor = Descriptor::new(values.as_mut_ptr().cast(), layout, DType::I32, Device::CPU);
    // SAFETY: the owner keeps the elements, which no other code reaches.
    unsafe { Tensor::from_raw_parts(descriptor.expect("an address"), writable, values) }
}

fn untrusted(writable: bool) -> Tensor {
    trusted(writable).into_aliased().expect("the only handle")
}

fn rows() -> [Row; 6] {
    let aliased = |writable, trusted| Access::Aliased { writable, trusted };
    [
        Row {
            access: Access::Exclusive,
            make: exclusive,
            view: true,
            write: true,
            moves_writable: true,
            shares_writable: false,
        },
        Row {
            access: Access::ReadOnly,
            // SAFETY: the elements are not written from now on.
            make: || unsafe { exclusive().assume_read_only() }.expect("the only handle"),
            view: true,
            write: false,
            moves_writable: false,
            shares_writable: false,
        },
        Row {
            access: aliased(true, true),
            make: || trusted(true),
            view: true,
            write: false,
            moves_writable: true,
            shares_writable: true,
        },
        Row {
            access: aliased(false, true),
            make: || trusted(false),
            view: true,
            write: false,
            moves_writable: false,
            shares_writable: false,
        },
        Row {
            access: aliased(true, false),
            make: || untrusted(true),
            view: false,
            write: false,
            moves_writable: true,
            shares_writable: true,
        },
        Row {
            access: aliased(false, false),
            make: || untrusted(false),
            view: false,
            write: false,
            moves_writable: false,
            shares_writable: false,
        },
    ]
}

/// The flags of a struct, which is released.
fn flags(exported: dlbridge::Exported) -> u64 {
    let raw: NonNull<dlbridge::ffi::DLManagedTensorVersioned> = exported.as_ptr();
    // SAFETY: `exported` keeps the struct.
    unsafe { raw.as_ref() }.flags
}

#[test]
fn each_state_allows_what_its_row_says() {
    for row in rows() {
        let name = format!("{:?}", row.access);
        let mut tensor = (row.make)();
        assert_eq!(tensor.access(), row.access);
        assert_eq!(tensor.as_slice::<i32>().is_ok(), row.view, "view of {name}");
        assert_eq!(tensor.to_vec::<i32>().expect("copies are allowed"), [1, 2, 3], "{name}");
        assert_eq!(tensor.as_slice_mut::<i32>().is_ok(), row.write, "write to {name}");
        assert_eq!(tensor.is_shared_read_only(), !row.shares_writable, "{name}");
        assert_eq!(flags(tensor.share_dlpack()) & READ_ONLY == 0, row.shares_writable, "{name}");
        assert_eq!(flags(tensor.into_dlpack()) & READ_ONLY == 0, row.moves_writable, "{name}");
    }
}

#[test]
fn a_second_handle_keeps_the_state_and_takes_writing_away() {
    for row in rows() {
        let mut tensor = (row.make)();
        let second = tensor.share();
        assert_eq!(second.access(), row.access);
        assert!(tensor.as_slice_mut::<i32>().is_err(), "{:?}", row.access);
    }
}

#[test]
fn memory_that_its_producer_marked_read_only_never_becomes_exclusive() {
    for row in rows() {
        let tensor = (row.make)();
        let read_only = tensor.is_read_only();
        // SAFETY: nothing else reaches the memory; where it is read-only the call is refused.
        match unsafe { tensor.assume_exclusive() } {
            Ok(tensor) => assert!(!read_only && tensor.access() == Access::Exclusive),
            Err(rejected) => {
                assert!(read_only && matches!(rejected.error(), Error::ReadOnly { .. }));
                assert_eq!(rejected.into_value().access(), row.access, "as it was");
            }
        }
    }
}

#[test]
fn trust_comes_from_unsafe_calls_only() {
    let untrusted = exclusive().into_aliased().expect("the only handle");
    assert_eq!(untrusted.as_slice::<i32>(), Err(Error::Aliased));
    let untrusted = untrusted.share().into_aliased().expect("it is aliased already");
    assert_eq!(untrusted.access(), Access::Aliased { writable: true, trusted: false });
    drop(untrusted);
    // SAFETY: no other code reaches the memory, and nothing writes it.
    let trusted = unsafe {
        let exported = exclusive().into_aliased().expect("the only handle").into_dlpack();
        Tensor::from_dlpack(exported.into_raw())
    };
    let trusted = trusted.expect("a struct of this crate");
    assert_eq!(trusted.access(), Access::Aliased { writable: true, trusted: true });
}

#[cfg(feature = "torch")]
#[test]
fn only_exclusive_host_memory_moves_into_libtorch() {
    for row in rows() {
        let moved = (row.make)().into_torch().map(drop).map_err(dlbridge::Error::from);
        let expected = match row.access {
            Access::Exclusive => Ok(()),
            Access::ReadOnly | Access::Aliased { writable: false, .. } => Err("read-only"),
            Access::Aliased { .. } => Err("code outside"),
        };
        match (moved, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (moved, expected) => panic!("{:?}: {moved:?}, not {expected:?}", row.access),
        }
    }
}
