//! C and C++ programs that use the library: in every standard, linked with the static and the
//! shared library, under sanitizers and valgrind.

use std::process::Command;

use crate::support::{
    Link, Program, is_cross, is_installed, launch, library, output_of, root, run_silent, skipped,
    succeed, tool,
};

/// Programs of `capi/tests/c`, one for each noun of the header.
const C_PROGRAMS: [&str; 10] = [
    "library", "error", "tensor", "views", "dlpack", "memory", "copy", "cache", "device", "threads",
];
/// Programs of `capi/tests/cpp` that need nothing but the library.
const CPP_PROGRAMS: [&str; 2] = ["tensor", "views"];
const C_STANDARDS: [&str; 3] = ["c99", "c11", "c17"];
pub(crate) const CPP_STANDARDS: [&str; 2] = ["c++17", "c++20"];

fn c_source(noun: &str) -> String {
    format!("c/{noun}.c")
}

/// The standards that programs are compiled in: all of them for this machine. For another one it is
/// the newest, because a standard is a matter of the compiler, not of the processor.
fn tested<'a>(standards: &'a [&'a str]) -> &'a [&'a str] {
    let len = standards.len();
    if is_cross() { &standards[len - 1..] } else { standards }
}

#[test]
fn c_programs_in_every_standard_static_and_shared() {
    for standard in tested(&C_STANDARDS) {
        for link in [Link::Shared, Link::Static] {
            for noun in C_PROGRAMS {
                let program =
                    Program::new(&format!("{noun}-{link:?}"), standard, &[&c_source(noun)]);
                run_silent(&mut launch(program.link(link)));
            }
        }
    }
}

#[test]
fn c_programs_under_address_and_undefined_behaviour_sanitizers() {
    for noun in C_PROGRAMS {
        let program = Program::new(&format!("{noun}-sanitized"), "c11", &[&c_source(noun)]);
        succeed(&mut program.sanitized(Link::Static));
    }
}

#[test]
fn cuda_on_the_fake_driver() {
    // `cargo xtask test` builds the driver and sets the variable.
    let Some(fake_cuda) = std::env::var_os("DLBRIDGE_FAKE_CUDA") else {
        skipped("CUDA in C", "DLBRIDGE_FAKE_CUDA does not name the folder of the fake CUDA driver");
        return;
    };
    let program =
        |name: &str| Program::new(name, "c11", &["c/cuda.c"]).arguments(["-Wno-pedantic"]);
    for link in [Link::Shared, Link::Static] {
        let program = program(&format!("cuda-{link:?}")).link(link);
        run_silent(Command::new(program).env("LD_LIBRARY_PATH", &fake_cuda));
    }
    succeed(program("cuda-sanitized").sanitized(Link::Static).env("LD_LIBRARY_PATH", &fake_cuda));
}

#[test]
fn threads_under_thread_sanitizer() {
    // ThreadSanitizer checks the C code only; the Rust code is not instrumented. The program itself
    // checks that the release callback sees what the threads did.
    let program = Program::new("threads-tsan", "c11", &["c/threads.c"]);
    run_silent(&mut Command::new(program.arguments(["-fsanitize=thread"]).link(Link::Shared)));
}

#[test]
fn programs_under_valgrind() {
    if !is_installed("valgrind") {
        skipped("programs under valgrind", "valgrind is not installed");
        return;
    }
    let c = C_PROGRAMS.map(|noun| (noun, "c11", c_source(noun)));
    let cpp = CPP_PROGRAMS.map(|noun| (noun, "c++17", format!("cpp/{noun}.cpp")));
    for (name, standard, source) in c.into_iter().chain(cpp) {
        let program = Program::new(&format!("{name}-valgrind"), standard, &[&source]);
        let program = program.link(Link::Shared);
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--leak-check=full", "--error-exitcode=9"]);
        valgrind.arg("--suppressions=capi/tests/c/valgrind.supp").current_dir(root());
        run_silent(valgrind.arg(program));
    }
}

#[test]
fn cpp_programs_in_every_standard_static_and_shared() {
    for noun in CPP_PROGRAMS {
        let source = format!("cpp/{noun}.cpp");
        for standard in tested(&CPP_STANDARDS) {
            for link in [Link::Shared, Link::Static] {
                let program = Program::new(&format!("{noun}-cpp-{link:?}"), standard, &[&source]);
                run_silent(&mut launch(program.link(link)));
            }
        }
    }
}

#[test]
fn cpp_programs_under_address_and_undefined_behaviour_sanitizers() {
    for noun in CPP_PROGRAMS {
        let source = format!("cpp/{noun}.cpp");
        let program = Program::new(&format!("{noun}-cpp-sanitized"), "c++20", &[&source]);
        succeed(&mut program.sanitized(Link::Static));
    }
}

#[test]
fn the_cpp_class_refuses_a_library_of_another_abi() {
    let program = Program::new("abi-mismatch", "c++17", &["cpp/abi_mismatch.cpp"]);
    run_silent(&mut launch(program.link(Link::Shared)));
}

#[test]
fn plugins_export_no_symbols_of_the_class() {
    // The comment at the top of dlbridge.hpp tells authors of plugins to compile with this option.
    let arguments = ["-shared", "-fPIC", "-fvisibility=hidden"];
    let plugin = Program::new("plugin", "c++17", &["cpp/plugin.cpp"])
        .arguments(arguments)
        .link(Link::Shared);
    let symbols = output_of(tool("nm").args(["-DC", "--defined-only"]).arg(plugin));
    assert!(symbols.contains("plugin_make") && !symbols.contains("dlbridge::"), "{symbols}");
}

#[test]
fn an_older_dlpack_header_is_refused() {
    // Defines the include guard of dlpack.h and nothing else, as a header older than 1.0 does.
    let mut compiler = Command::new("cc");
    compiler.current_dir(root()).args([
        "-fsyntax-only",
        "-Iinclude",
        "-DDLPACK_DLPACK_H_",
        "-x",
        "c",
    ]);
    let output =
        compiler.args(["-include", "dlbridge.h", "/dev/null"]).output().expect("a compiler");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && printed.contains("dlbridge.h needs DLPack 1.x"),
        "{printed}"
    );
}

#[test]
fn older_dlpack_headers_may_be_included_first() {
    let sources = C_STANDARDS.map(|standard| (standard, "c/older_dlpack_header.c"));
    let cpp_sources = CPP_STANDARDS.map(|standard| (standard, "cpp/older_dlpack_header.cpp"));
    for header in ["dlpack_1_0", "dlpack_1_1"] {
        for (standard, source) in sources.into_iter().chain(cpp_sources) {
            let program = Program::new(header, standard, &[source]).arguments([
                "-Icapi/tests/c".to_owned(),
                format!("-DDLPACK_HEADER=\"{header}.h\""),
            ]);
            run_silent(&mut launch(program.link(Link::Shared)));
        }
    }
}

/// Why a test of `std::mdspan` is skipped.
pub(crate) const NO_MDSPAN: &str =
    "no compiler here has std::mdspan (clang++-19 with libc++-19-dev does)";

/// A program in C++23 for the first compiler here whose standard library has `std::mdspan`.
pub(crate) fn with_mdspan(name: &str, sources: &[&str]) -> Option<Program> {
    let compilers =
        [("c++", &[][..]), ("clang++", &["-stdlib=libc++"]), ("clang++-19", &["-stdlib=libc++"])];
    let (compiler, arguments) = compilers.into_iter().find(|(compiler, arguments)| {
        let mut probe = Command::new(compiler);
        probe.args(*arguments).args(["-std=c++23", "-fsyntax-only", "-include", "mdspan"]);
        let output = probe.args(["-x", "c++", "/dev/null"]).output();
        output.is_ok_and(|output| output.status.success())
    })?;
    Some(Program::with("cc", compiler, name, "c++23", sources).arguments(arguments))
}

#[test]
fn mdspan_with_a_standard_library_that_has_it() {
    match with_mdspan("mdspan", &["cpp/mdspan.cpp"]) {
        Some(program) => run_silent(&mut Command::new(program.link(Link::Shared))),
        None => skipped("std::mdspan", NO_MDSPAN),
    }
}

#[test]
fn headers_compile_alone() {
    let alone = |header: &str, language: &str, standard: &str| {
        let mut compiler = Command::new("c++");
        compiler.current_dir(root()).args([
            "-fsyntax-only",
            "-pedantic",
            "-Wall",
            "-Wextra",
            "-Werror",
        ]);
        compiler.args(["-Iinclude", "-x", language]).arg(format!("-std={standard}"));
        run_silent(compiler.arg("-include").arg(header).arg("/dev/null"));
    };
    for header in ["dlbridge.h", "dlpack/dlpack.h"] {
        C_STANDARDS.iter().for_each(|standard| alone(header, "c", standard));
        CPP_STANDARDS.iter().for_each(|standard| alone(header, "c++", standard));
    }
    CPP_STANDARDS.iter().for_each(|standard| alone("dlbridge.hpp", "c++", standard));
    alone("dlbridge/torch_plain.h", "c", "c99");
}

#[test]
fn headers_may_be_included_twice() {
    for standard in CPP_STANDARDS {
        let sources = ["cpp/include_twice.cpp", "cpp/include_twice_second_unit.cpp"];
        let program = Program::new("include-twice", standard, &sources);
        run_silent(&mut launch(program.link(Link::Shared)));
    }
    for standard in C_STANDARDS {
        let sources = ["c/include_twice.c", "c/include_twice_second_unit.c"];
        let program = Program::new("include-twice", standard, &sources);
        run_silent(&mut launch(program.link(Link::Static)));
    }
}

#[test]
fn deleters_may_run_after_dlclose() {
    let program = Program::new("dlclose", "c11", &["c/dlclose.c"]);
    // The program is not linked with the library: it loads and unloads it.
    let program = program.arguments(["-ldl"]).without_library();
    run_silent(launch(program).arg(library().join("libdlbridge.so")));
}

/// The macros of `check.h` and `check.hpp` end a program when their check fails.
#[test]
fn a_failing_check_ends_the_program() {
    let c = [
        ("CHECK", "out == "),
        ("SUCCEEDS", "source is NULL"),
        ("FAILS with another status", "DLB_ERROR_NULL_POINTER, \"source is NULL\""),
        ("FAILS with another message", "DLB_ERROR_NULL_POINTER, \"source is NULL\""),
    ];
    let cpp = [
        ("CHECK", "count == 0"),
        ("THROWS without an exception", "thrown"),
        ("THROWS with another status", "DLB_ERROR_NULL_POINTER: \"the tensor was moved from\""),
        ("THROWS with another message", "DLB_ERROR_NULL_POINTER: \"the tensor was moved from\""),
    ];
    let programs =
        [("c11", "c/failing_check.c", &c[..]), ("c++17", "cpp/failing_check.cpp", &cpp[..])];
    for (standard, source, cases) in programs {
        let program = Program::new("failing-check", standard, &[source]).link(Link::Shared);
        run_silent(&mut launch(&program)); // without an argument no check fails
        for (argument, message) in cases {
            let output = launch(&program).arg(argument).output().expect("it runs");
            assert_eq!(output.status.code(), Some(1), "{source}: {argument}");
            let printed = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(printed.contains(source) && printed.contains(message), "{printed}");
        }
    }
}
