//! The harnesses of dlbridge's fuzz targets.
//!
//! A harness is a function of some bytes. It decodes them into calls of dlbridge, makes the calls,
//! and compares what they did with a model that it keeps; it panics where the two differ. Every
//! sequence of bytes is an input: when the bytes are used up, the rest reads as zeros.
//!
//! The programs in `fuzz_targets/` pass a harness to libFuzzer when they are built with
//! `--cfg fuzzing`, and otherwise run it on files.

// Refusals give the tensor back.
#![allow(clippy::result_large_err)]

mod c_calls;
mod copies;
mod dlpack;
mod elements;
mod handles;
mod input;
mod memory;
mod poison;

#[cfg(test)]
mod tests;

/// A harness, which panics where dlbridge and the model differ.
pub type Harness = fn(&[u8]);

/// The fuzz targets by name.
pub const TARGETS: [(&str, Harness); 4] =
    [("c_calls", c_calls), ("copies", copies), ("dlpack", dlpack), ("handles", handles)];

/// Sequences of calls of the C library, against a model.
pub fn c_calls(data: &[u8]) {
    c_calls::run(data);
}

/// The copy engine against an element loop.
pub fn copies(data: &[u8]) {
    copies::run(data);
}

/// DLPack structs with any fields, through import, accessors, copies and exports.
pub fn dlpack(data: &[u8]) {
    dlpack::run(data);
}

/// Sequences of safe calls on tensors and arrays, against a model.
pub fn handles(data: &[u8]) {
    handles::run(data);
}

/// Runs a harness on the files that the command line names, one after the other.
///
/// # Errors
/// When a file cannot be read.
pub fn replay(harness: Harness) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        println!("{}", path.display());
        harness(&std::fs::read(path)?);
    }
    Ok(())
}
