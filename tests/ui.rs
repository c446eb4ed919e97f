//! Programs that must not compile: views that outlive their owner, and two writers.

// The programs need no libtorch; building it once more for them would take minutes.
#![cfg(not(feature = "torch"))]

#[test]
fn lifetimes_are_enforced() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
