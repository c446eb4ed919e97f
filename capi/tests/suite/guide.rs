//! Builds and runs the programs of `docs/cpp.md`, and compares what they print with the page: under
//! sanitizers, and with the commands of the page in an empty folder. Does the same with the program
//! of `docs/cuda.md`, on the fake driver.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{exports, libraries, prefix};
use crate::support::{
    Link, Program, is_installed, libtorch, output_of, root, scratch, skipped, succeed,
};
use crate::torch;

/// A block of code of the page.
struct Block {
    language: String,
    /// The file that the text before the block names; empty for other blocks.
    file: String,
    text: String,
}

/// The blocks of `docs/cpp.md`, in order.
fn blocks() -> Vec<Block> {
    let blocks = blocks_of("docs/cpp.md");
    assert!(blocks.len() > 20, "the page has {} blocks", blocks.len());
    blocks
}

fn blocks_of(page: &str) -> Vec<Block> {
    let page = fs::read_to_string(root().join(page)).expect("the page");
    let mut parts = page.split("```");
    let mut before = parts.next().expect("text").to_owned();
    let mut blocks = Vec::new();
    while let (Some(block), Some(after)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').expect("a language");
        let named = before.trim_end().strip_suffix("`:").and_then(|text| text.rsplit_once('`'));
        let file = named.map_or("", |(_, name)| name).to_owned();
        blocks.push(Block { language: language.to_owned(), file, text: text.to_owned() });
        after.clone_into(&mut before);
    }
    blocks
}

/// Writes the files of the page to an empty folder. Every program of the page has a name.
fn write_files(folder: &Path) {
    for Block { language, file, text } in blocks() {
        let is_file = !["sh", "text"].contains(&language.as_str());
        assert_eq!(is_file, !file.is_empty(), "a block in {language}, file `{file}`:\n{text}");
        if is_file {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, text).expect("written");
        }
    }
}

/// What a program prints according to the page.
fn printed_by(file: &str) -> String {
    let mut blocks = blocks().into_iter().skip_while(|block| block.file != file);
    blocks.find(|block| block.language == "text").expect("what it prints").text
}

#[test]
fn the_programs_print_what_the_page_says() {
    let folder = scratch("guide");
    write_files(&folder);
    for name in ["first", "errors", "views", "frame", "pool", "threads"] {
        let file = format!("{name}.cpp");
        let program =
            Program::new(&format!("guide-{name}"), "c++17", &[]).arguments([folder.join(&file)]);
        assert_eq!(output_of(&mut program.sanitized(Link::Shared)), printed_by(&file), "{file}");
    }
}

#[test]
fn the_host_gets_a_packed_tensor_from_the_plugin() {
    let folder = scratch("guide-host");
    write_files(&folder);
    let plugin = Program::new("guide-plugin", "c11", &[])
        .arguments(["-shared", "-fPIC", "-fvisibility=hidden"])
        .arguments([folder.join("plugin.c")])
        .link(Link::Shared);
    fs::copy(plugin, folder.join("plugin.so")).expect("copied");
    let host = Program::new("guide-host", "c++17", &[]).arguments([folder.join("host.cpp")]);
    let mut host = host.arguments(["-ldl"]).sanitized(Link::Shared);
    assert_eq!(output_of(host.current_dir(folder)), printed_by("host.cpp"));
}

/// The host is linked with the shared library, whose functions must not replace those of a plugin
/// that contains the static library.
#[test]
fn a_plugin_with_the_static_library_exports_its_own_functions_only() {
    let folder = scratch("guide-static");
    write_files(&folder);
    for (standard, source) in [("c11", "plugin.c"), ("c++17", "fill/fill.cpp")] {
        let plugin = Program::new("guide-static-plugin", standard, &[])
            .arguments(["-shared", "-fPIC", "-fvisibility=hidden"])
            .arguments(["-Wl,--exclude-libs,libdlbridge.a", "-Wl,-z,nodelete"])
            .arguments([folder.join(source)])
            .link(Link::Static);
        require_own_exports(&plugin);
        let object = if standard == "c11" { "plugin.so" } else { "fill/build/fill.so" };
        fs::create_dir_all(folder.join("fill/build")).expect("created");
        fs::copy(plugin, folder.join(object)).expect("copied");
    }
    for host in ["host", "fill_host"] {
        let file = format!("{host}.cpp");
        let built = Program::new(&format!("guide-static-{host}"), "c++17", &[])
            .arguments([folder.join(&file)])
            .arguments(["-ldl"])
            .link(Link::Shared);
        let mut host = Command::new(built);
        assert_eq!(output_of(host.current_dir(&folder)), printed_by(&file), "{file}");
    }
}

/// Checks that a plugin exports its own functions, and none of the library or of `dlbridge.hpp`.
fn require_own_exports(plugin: &Path) {
    let exported = exports(plugin);
    assert!(exported.contains(" T plugin_"), "{exported}");
    assert!(!exported.contains("dlb_") && !exported.contains("dlbridge"), "{exported}");
}

#[test]
fn the_plugin_releases_every_struct_that_it_was_given() {
    let folder = scratch("guide-plugin-alone");
    write_files(&folder);
    fs::write(folder.join("caller.c"), CALLER).expect("written");
    let program = Program::new("guide-caller", "c11", &[])
        .arguments(["-Icapi/tests/c"])
        .arguments(["plugin.c", "caller.c"].map(|file| folder.join(file)));
    assert_eq!(output_of(&mut program.sanitized(Link::Shared)), "");
}

/// Calls the plugin with a good struct and with bad ones.
const CALLER: &str = "
#include \"check.h\"
#include \"plugin.h\"
int main(void) {
  producer good, bad, matrix;
  DLManagedTensorVersioned *output = NULL;
  char message[100] = \"\";
  produce(&good);
  CHECK(plugin_pack(&good.managed, &output, message, sizeof message) == 0);
  CHECK(good.deleted == 1 && output != NULL && output->dl_tensor.ndim == 3);
  output->deleter(output);
  output = NULL;
  produce(&bad);
  bad.managed.dl_tensor.ndim = -1;
  CHECK(plugin_pack(&bad.managed, &output, message, sizeof message) != 0);
  CHECK(bad.deleted == 1 && output == NULL && strstr(message, \"ndim\") != NULL);
  produce(&matrix);
  matrix.managed.dl_tensor.ndim = 2;
  CHECK(plugin_pack(&matrix.managed, &output, message, sizeof message) == DLB_ERROR_LAYOUT);
  CHECK(matrix.deleted == 1 && output == NULL && strcmp(message, \"an image has 3 dimensions\") == 0);
  return 0;
}
";

#[test]
fn the_cuda_program_prints_what_its_page_says() {
    // `cargo xtask test` builds the fake driver and sets the variable.
    let Some(fake_cuda) = std::env::var_os("DLBRIDGE_FAKE_CUDA") else {
        skipped(
            "the program of docs/cuda.md",
            "DLBRIDGE_FAKE_CUDA does not name the folder of the fake CUDA driver",
        );
        return;
    };
    let all = blocks_of("docs/cuda.md");
    let mut blocks = all.iter().skip_while(|block| block.language != "cpp");
    let source = scratch("guide-cuda").join("program.cpp");
    fs::write(&source, &blocks.next().expect("a program").text).expect("written");
    let printed = &blocks.find(|block| block.language == "text").expect("what it prints").text;
    let built = Program::new("guide-cuda", "c++17", &[]).arguments([source]);
    let mut program = built.sanitized(Link::Static);
    assert_eq!(&output_of(program.env("LD_LIBRARY_PATH", fake_cuda)), printed);
}

#[test]
fn the_libtorch_programs_print_what_the_page_says() {
    let folder = scratch("guide-libtorch");
    write_files(&folder);
    for name in ["convert", "camera"] {
        let file = format!("{name}.cpp");
        for printed in torch::run(&format!("guide-libtorch-{name}"), &folder.join(&file)) {
            assert_eq!(printed, printed_by(&file));
        }
    }
}

/// The home folder of a user who has installed the library as the page says.
fn home(prefix: &Path) -> PathBuf {
    let home = scratch("guide-home");
    let installed = home.join("dlbridge");
    fs::create_dir(&installed).expect("created");
    for folder in ["include", "share"] {
        symlink(prefix.join(folder), installed.join(folder)).expect("linked");
    }
    // The page installs with `--libdir lib`.
    symlink(libraries(prefix), installed.join("lib")).expect("linked");
    home
}

#[test]
fn the_commands_of_the_page_work_in_an_empty_folder() {
    let Some(prefix) = prefix() else { return };
    if !is_installed("pkg-config") || cmake().is_none() {
        skipped("the commands of docs/cpp.md", "there is no pkg-config or no CMake");
        return;
    }
    let (folder, home, libtorch) = (scratch("guide-commands"), home(prefix), libtorch());
    write_files(&folder);
    let all = blocks();
    let mut script = String::new();
    let mut expected = Vec::new();
    for pair in all.windows(2).filter(|pair| pair[0].language == "sh") {
        let commands = &pair[0].text;
        if commands.contains("tar -xzf") {
            // `cargo xtask dist` makes the archive, and tries it.
            let name = concat!("dlbridge-", env!("CARGO_PKG_VERSION"), "-linux-x86_64.tar.gz\n");
            assert!(commands.contains(name), "{commands}");
            continue;
        }
        if commands.contains("cargo cinstall") {
            assert!(commands.contains("--prefix $HOME/dlbridge --libdir lib"), "{commands}");
            continue;
        }
        if commands.contains("$LIBTORCH") && libtorch.is_none() {
            skipped("the commands for libtorch in docs/cpp.md", "there is no libtorch");
            continue;
        }
        script += &format!("{commands}\necho '{END}'\n");
        expected.push((pair[1].language == "text").then(|| pair[1].text.clone()));
    }
    let mut shell = Command::new("sh");
    shell.env("HOME", &home).env_remove("LD_LIBRARY_PATH").env("PATH", path_with_cmake());
    shell.envs(libtorch.map(|folder| ("LIBTORCH", folder)));
    let printed = output_of(shell.current_dir(&folder).args(["-e", "-c", &script]));
    require_own_exports(&folder.join("fill/build/fill.so"));
    require_own_exports(&folder.join("plugin.so")); // linked with the static library, after the shared
    let printed: Vec<&str> = printed.split(&format!("{END}\n")).collect();
    assert_eq!(printed.len(), expected.len() + 1);
    for (found, expected) in printed.iter().zip(expected) {
        assert!(expected.is_none_or(|expected| *found == expected), "{found}");
    }
}

/// `cargo xtask test` uses the version of cargo-c that the page installs.
#[test]
fn the_page_installs_the_cargo_c_that_the_tests_use() {
    let tools = fs::read_to_string(root().join("xtask/src/tools.rs")).expect("the tools");
    let (_, rest) = tools.split_once("\"cargo-c\", \"--version\", \"").expect("a version");
    let (version, _) = rest.split_once('"').expect("its end");
    let page = fs::read_to_string(root().join("docs/cpp.md")).expect("the page");
    let command = format!("\ncargo install --locked cargo-c@{version}\n");
    assert!(page.contains(&command), "docs/cpp.md does not install cargo-c {version}");
}

/// A line that separates the output of commands.
const END: &str = "== end of a block ==";

/// CMake of the virtual environment, or an installed one.
fn cmake() -> Option<PathBuf> {
    let found = [root().join(".venv/bin/cmake"), PathBuf::from("cmake")];
    let works = |cmake: &PathBuf| Command::new(cmake).arg("--version").output().is_ok();
    found.into_iter().find(works)
}

fn path_with_cmake() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let venv = root().join(".venv/bin");
    let folders = std::env::split_paths(&path).chain(std::iter::once(venv));
    std::env::join_paths(folders).expect("a path")
}

/// The compiler's and the linker's messages in the page's last table are those that they print.
#[test]
fn compiler_and_linker_print_the_messages_of_the_page() {
    let folder = scratch("guide-messages");
    write_files(&folder);
    let table = fs::read_to_string(root().join("docs/cpp.md")).expect("the page");
    let fails = |arguments: &[&str], message: &str| {
        let mut compiler = Command::new("c++");
        compiler.current_dir(&folder).args(["-std=c++17", "first.cpp", "-o", "first"]);
        let output = compiler.args(arguments).output().expect("a compiler");
        // Linkers differ in their quotation marks.
        let printed = String::from_utf8_lossy(&output.stderr).replace(['`', '‘', '’'], "'");
        assert!(!output.status.success() && printed.contains(message), "{printed}");
        let (in_page, _) = message.split_once("dlb_tensor").unwrap_or((message, ""));
        assert!(table.contains(in_page), "{message} is not in the page");
    };
    let include = format!("-I{}", root().join("include").display());
    fails(&[], "dlbridge.hpp: No such file or directory");
    fails(&[&include], "undefined reference to 'dlb_tensor");
    fails(&[&include, "-L.", "-ldlbridge"], "cannot find -ldlbridge");
    let archive = crate::support::library().join("libdlbridge.a");
    let mut compiler = Command::new("c++");
    compiler.current_dir(&folder).args(["-std=c++17", "first.cpp", &include, "-o", "first"]);
    succeed(compiler.arg(archive).args(crate::support::SYSTEM_LIBRARIES));
}
