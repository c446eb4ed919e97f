//! `src/cuda/strided_copy.ptx`, from the kernels in `strided_copy.cu`, by NVIDIA's run-time compiler.

use std::ffi::{CString, c_char, c_int, c_void};

use libloading::Library;

use crate::{Outcome, root, setup};

/// Where its wheel puts it.
const COMPILER: &str = "nvidia/cu13/lib";

/// Where the compiler and its parts are.
pub(crate) fn compiler() -> Outcome<std::path::PathBuf> {
    Ok(setup::site_packages(&setup::venv(None))?.join(COMPILER))
}

/// The kernels as PTX.
pub(crate) fn ptx() -> Outcome<String> {
    let source = CString::new(std::fs::read_to_string(root().join("src/cuda/strided_copy.cu"))?)?;
    // SAFETY: NVIDIA's library.
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
    // SAFETY: the function has this type.
    let create = unsafe { library.get::<Create>(b"nvrtcCreateProgram\0") }?;
    // SAFETY: room for the handle, and strings.
    succeeded("nvrtcCreateProgram", unsafe {
        create(&raw mut program, source.as_ptr(), c"strided_copy.cu".as_ptr(), 0, none, none)
    })?;
    // SAFETY: the function has this type.
    let compile = unsafe { library.get::<Compile>(b"nvrtcCompileProgram\0") }?;
    // SAFETY: a program and strings.
    let compiled = unsafe { compile(program, count, options.as_ptr()) };
    if compiled != 0 {
        return Err(
            text(&library, program, b"nvrtcGetProgramLogSize\0", b"nvrtcGetProgramLog\0")?.into()
        );
    }
    let ptx = text(&library, program, b"nvrtcGetPTXSize\0", b"nvrtcGetPTX\0")?;
    // The kernels use nothing that is new, and should run wherever there is a driver.
    let head = "// Generated from strided_copy.cu by `cargo xtask bindings`. It asks for little, so that old drivers take it too.\n";
    let kept =
        ptx.lines().skip_while(|line| !line.starts_with(".version")).map(|line| match line {
            line if line.starts_with(".version") => ".version 7.0",
            line if line.starts_with(".target") => ".target sm_52",
            line => line,
        });
    Ok(kept.fold(head.to_owned(), |text, line| text + line + "\n").trim_end().to_owned() + "\n")
}

/// Reads a text of a program's.
fn text(library: &Library, program: *mut c_void, size_name: &[u8], name: &[u8]) -> Outcome<String> {
    type Size = unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int;
    type Read = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;
    let mut size = 0;
    // SAFETY: the function has this type.
    let size_of = unsafe { library.get::<Size>(size_name) }?;
    // SAFETY: a program, and room for the number.
    succeeded("nvrtc", unsafe { size_of(program, &raw mut size) })?;
    let mut text = vec![0_u8; size];
    // SAFETY: the function has this type.
    let read = unsafe { library.get::<Read>(name) }?;
    // SAFETY: a program, and as much room as it said.
    succeeded("nvrtc", unsafe { read(program, text.as_mut_ptr().cast()) })?;
    text.pop(); // the end of a C string
    Ok(String::from_utf8(text)?)
}

fn succeeded(call: &str, status: c_int) -> Outcome {
    if status == 0 { Ok(()) } else { Err(format!("{call} gave {status}").into()) }
}

/// Has NVIDIA's assembler look at the PTX, for old chips and new ones.
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
