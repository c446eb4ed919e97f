//! Sequences of calls of the C library against a model.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dlbridge_fuzz::c_calls(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    dlbridge_fuzz::replay(dlbridge_fuzz::c_calls)
}
