//! DLPack structs with any fields, through import, every accessor, copy, export and import again.
//!
//! The harness keeps the guarantees that [`Tensor::from_dlpack`](dlbridge::Tensor::from_dlpack)
//! asks of its caller: shape and strides have as many numbers as `ndim` says, and the elements of
//! what may be accepted are memory. Everything else may be wrong, and has to be refused.

mod checks;
pub(crate) mod description;
mod handles;
pub(crate) mod producer;

use dlbridge::Imported;
use dlbridge::ffi::{DLManagedTensor, DLManagedTensorVersioned};

use crate::input::Input;
use checks::Expected;
use description::{Description, Verdict};
use producer::{Given, Kind};

/// Decodes a struct, imports it, and checks what becomes of it.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.seldom(4) {
        import::<DLManagedTensor>(&mut input);
    } else {
        import::<DLManagedTensorVersioned>(&mut input);
    }
}

fn import<M: Kind>(input: &mut Input<'_>) {
    let mut description = Description::read(input);
    if !M::VERSIONED {
        // The older struct has neither.
        (description.version, description.flags) = ((1, 3), 1);
    }
    let verdict = description.verdict(M::VERSIONED);
    if verdict == Verdict::Untrue {
        return;
    }
    let given = Given::<M>::new(&description);
    if input.seldom(8) {
        import_managed(&description, given, verdict);
        return;
    }
    // SAFETY: the struct is valid, and what it says is true or has to be refused.
    match unsafe { M::import(given.source) } {
        Err(rejected) => {
            assert_ne!(verdict, Verdict::Accept, "{description:?}: {}", rejected.error());
            refused(&given, rejected);
        }
        Ok(tensor) => {
            assert_ne!(verdict, Verdict::Refuse, "accepted {description:?}");
            let expected = Expected::new(&description, &given);
            expected.check(&tensor);
            handles::pass_around(input, tensor, &expected, &given);
        }
    }
    given.close();
}

/// The same for code that keeps the struct as it came.
fn import_managed<M: Kind>(description: &Description, given: Given<M>, verdict: Verdict) {
    // SAFETY: the struct is valid, and what it says is true or has to be refused.
    match unsafe { M::import_managed(given.source) } {
        Err(rejected) => {
            assert_ne!(verdict, Verdict::Accept, "{description:?}: {}", rejected.error());
            refused(&given, rejected);
        }
        Ok(imported) => {
            assert_ne!(verdict, Verdict::Refuse, "accepted {description:?}");
            match imported {
                Imported::Tensor(tensor) => Expected::new(description, &given).check(&tensor),
                Imported::Managed(managed) => {
                    assert_eq!(managed.as_dl_tensor().ndim, description.ndim);
                    assert_eq!(managed.descriptor().dtype(), description.dtype);
                    assert_eq!(managed.flags() & 1, description.flags & 1);
                }
            }
        }
    }
    given.close();
}

/// A refused struct comes back as it was, and is released once.
fn refused<M: Kind>(given: &Given<M>, rejected: dlbridge::Rejected<dlbridge::Exported<M>>) {
    assert_eq!(given.deletions(), 0, "a refused struct was released");
    let (exported, error) = rejected.into_parts();
    assert!(!error.to_string().is_empty() && !format!("{error:?}").is_empty());
    assert_eq!(exported.as_ptr(), given.source);
    drop(exported);
}
