//! C++ programs that must not compile, and what the compiler prints about them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{libtorch, root, scratch, skipped};

/// What precedes each statement below, which uses these variables.
const BEGIN: &str = "
#include <dlbridge.hpp>
#include <vector>
using dlbridge::Tensor;
void program(Tensor tensor, const Tensor constant, dlbridge::Exported exported,
             dlbridge::ExportedLegacy legacy, std::vector<float> values,
             std::unique_ptr<float> owner, float *data) {
";

/// Statements, and the line of the header that tells the author what to write.
const REFUSED: [(&str, &str); 16] = [
    ("tensor.into_dlpack();", "write std::move(tensor).into_dlpack()"),
    ("constant.into_dlpack();", "write std::move(tensor).into_dlpack()"),
    ("tensor.into_dlpack_legacy();", "write std::move(tensor).into_dlpack_legacy()"),
    ("tensor.into_device(dlbridge::cpu);", "write std::move(tensor).into_device(device)"),
    ("Tensor::from_dlpack(exported);", "write from_dlpack(std::move(source))"),
    ("Tensor::from_dlpack(legacy);", "write from_dlpack(std::move(source))"),
    ("Tensor::from_vector(values, {2});", "write from_vector(std::move(v), shape)"),
    ("Tensor::from_memory<float>(data, {2}, owner);", "move the owner in: std::move(owner)"),
    ("Tensor::from_memory(data, {2}, {1}, owner);", "move the owner in: std::move(owner)"),
    ("Tensor::from_memory(tensor.view(), owner);", "move the owner in: std::move(owner)"),
    (
        "const std::vector<float> kept; Tensor::from_memory(kept.data(), {2}, std::move(kept));",
        "a const owner would be copied, not moved",
    ),
    (
        "Tensor::from_memory(data, {2}, static_cast<float *>(data));",
        "a bare pointer or array owns nothing",
    ),
    ("Tensor::from_memory(&tensor, {2}, nullptr);", "this type is no element type of DLPack"),
    ("tensor.share().data<float>();", "give the temporary tensor a name"),
    ("tensor.share().at_mut<float>(0);", "give the temporary tensor a name"),
    ("tensor.at<float>(1.5);", "an index is an integer"),
];

/// What a compiler prints about a program, which it refuses.
fn refusal(compiler: &str, standard: &str, program: &str, arguments: &[String]) -> String {
    let file = scratch(&format!("refused-{standard}")).join("program.cpp");
    fs::write(&file, program).expect("written");
    let mut command = Command::new(compiler);
    command.current_dir(root()).args(["-fsyntax-only", "-Iinclude"]);
    let output = command.arg(format!("-std={standard}")).args(arguments).arg(&file).output();
    let output = output.expect("a compiler");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{program}\ncompiles");
    printed
}

fn compilers() -> impl Iterator<Item = &'static str> {
    ["c++", "clang++", "clang++-19"]
        .into_iter()
        .filter(|compiler| crate::support::is_installed(compiler))
}

#[test]
fn the_compiler_says_what_to_write_instead() {
    for compiler in compilers() {
        // Without the statement the program compiles.
        let file = scratch("refused-none").join("program.cpp");
        fs::write(&file, format!("{BEGIN}(void)data;\n}}\n")).expect("written");
        let mut command = Command::new(compiler);
        command.current_dir(root()).args(["-fsyntax-only", "-std=c++17", "-Iinclude"]);
        crate::support::run_silent(command.arg(file));
        for (statement, message) in REFUSED {
            let program = format!("{BEGIN}{statement}\n}}\n");
            let printed = refusal(compiler, "c++17", &program, &[]);
            assert!(printed.contains(message), "{compiler}: {statement}\n{printed}");
        }
    }
}

#[test]
fn into_torch_consumes_its_argument() {
    let Some(libtorch) = libtorch() else {
        skipped("into_torch() of a tensor that is not moved", "there is no libtorch");
        return;
    };
    let include = |folder: &Path| format!("-isystem{}", folder.display());
    let arguments = [
        include(&libtorch.join("include")),
        include(&libtorch.join("include/torch/csrc/api/include")),
    ];
    let program = "#include <dlbridge/torch.hpp>\n\
                   void program(dlbridge::Tensor tensor) { dlbridge::into_torch(tensor); }\n";
    let printed = refusal("c++", "c++20", program, &arguments);
    assert!(printed.contains("write into_torch(std::move(tensor))"), "{printed}");
}
