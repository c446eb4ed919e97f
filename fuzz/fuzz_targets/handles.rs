//! Sequences of safe calls against a model.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dlbridge_fuzz::handles(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    dlbridge_fuzz::replay(dlbridge_fuzz::handles)
}
