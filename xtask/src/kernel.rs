//! Compiles the kernels of `src/cuda/strided_copy.cu` to `strided_copy.ptx` with NVIDIA's run-time
//! compiler (nvrtc).

use std::ffi::{CString, c_char, c_int, c_void};

use libloading::Library;

use crate::{Outcome, root, setup};

/// The folder of the compiler in its wheel.
const COMPILER_FOLDER: &str = "nvidia/cu13/lib";

/// The folder of the compiler and its parts.
pub(crate) fn compiler() -> Outcome<std::path::PathBuf> {
    Ok(setup::site_packages(&setup::venv(None))?.join(COMPILER_FOLDER))
}

/// The kernels as PTX.
pub(crate) fn ptx() -> Outcome<String> {
    let source = CString::new(std::fs::read_to_string(root().join("src/cuda/strided_copy.cu"))?)?;
    // SAFETY: this loads NVIDIA's library, whose initialisers may run at any time.
    let library = unsafe { Library::new(compiler()?.join("libnvrtc.so.13")) }?;
    let mut program: *mut c_void = std::ptr::null_mut();
    let options = [c"--gpu-architecture=compute_75", c"--std=c++17"].map(|option| option.as_ptr());
    type Create = unsafe extern "C" fn(
        *mut *mut c_void,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int;
    type Compile = unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int;
    let (none, count) = (std::ptr::null(), options.len() as c_int);
    // SAFETY: nvrtc.h declares the function with this type.
    let create = unsafe { library.get::<Create>(b"nvrtcCreateProgram\0") }?;
    // SAFETY: `program` is a local variable to write to, the strings end with a NUL, and there are
    // no headers.
    succeeded("nvrtcCreateProgram", unsafe {
        create(&raw mut program, source.as_ptr(), c"strided_copy.cu".as_ptr(), 0, none, none)
    })?;
    // SAFETY: nvrtc.h declares the function with this type.
    let compile = unsafe { library.get::<Compile>(b"nvrtcCompileProgram\0") }?;
    // SAFETY: `program` was just created, and `options` holds `count` strings that end with a NUL.
    let compiled = unsafe { compile(program, count, options.as_ptr()) };
    if compiled != 0 {
        return Err(
            text(&library, program, b"nvrtcGetProgramLogSize\0", b"nvrtcGetProgramLog\0")?.into()
        );
    }
    let ptx = text(&library, program, b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0")?;
    // The kernels use no new instruction, so old versions are named, which old drivers accept too.
    let head = "// Generated from strided_copy.cu by `cargo xtask bindings`. \
                It asks for little, so that old drivers take it too.\n";
    let kept =
        ptx.lines().skip_while(|line| !line.starts_with(".version")).map(|line| match line {
            line if line.starts_with(".version") => ".version 7.0",
            line if line.starts_with(".target") => ".target sm_52",
            line => line,
        });
    Ok(kept.fold(head.to_owned(), |text, line| text + line + "\n").trim_end().to_owned() + "\n")
}

/// Reads a text that belongs to a program: its PTX, or the compiler's log.
fn text(library: &Library, program: *mut c_void, size_name: &[u8], name: &[u8]) -> Outcome<String> {
    type Size = unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int;
    type GetText = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;
    let mut size = 0;
    // SAFETY: nvrtc.h declares the function with this type.
    let size_of = unsafe { library.get::<Size>(size_name) }?;
    // SAFETY: the caller passes a program, and `size` is a local variable to write to.
    succeeded("nvrtc", unsafe { size_of(program, &raw mut size) })?;
    let mut text = vec![0_u8; size];
    // SAFETY: nvrtc.h declares the function with this type.
    let read = unsafe { library.get::<GetText>(name) }?;
    // SAFETY: the caller passes a program, and `text` has the size that the compiler returned.
    succeeded("nvrtc", unsafe { read(program, text.as_mut_ptr().cast()) })?;
    text.pop(); // the NUL at the end
    Ok(String::from_utf8(text)?)
}

fn succeeded(call: &str, status: c_int) -> Outcome {
    if status == 0 { Ok(()) } else { Err(format!("{call} gave {status}").into()) }
}

/// Checks that NVIDIA's assembler accepts the PTX, for old GPUs and new ones.
pub(crate) fn assembles() -> Outcome {
    let assembler =
        setup::site_packages(&setup::venv(None))?.join("triton/backends/nvidia/bin/ptxas");
    for chip in ["sm_52", "sm_75", "sm_90", "sm_100"] {
        let mut command = std::process::Command::new(&assembler);
        command.arg(format!("--gpu-name={chip}")).args(["--output-file", "/dev/null"]);
        crate::run(command.arg(root().join("src/cuda/strided_copy.ptx")))?;
    }
    Ok(())
}
