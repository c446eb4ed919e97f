//! Arrays of ndarray 0.17, and of both versions in one program.

#[cfg(feature = "ndarray-0_16")]
mod both_versions;
mod conversions;
mod generic_functions;
mod operators;
#[cfg(feature = "serde")]
mod serde;

use dlbridge::Ndarray0_17 as Version;
