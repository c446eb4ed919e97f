//! DLPack structs with any fields.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dlbridge_fuzz::dlpack(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    dlbridge_fuzz::replay(dlbridge_fuzz::dlpack)
}
