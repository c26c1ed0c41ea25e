//! `monmon plugin build`: the language's own tools, found, asked for what is missing, and run.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{BuildArgs, Language, Trouble, language, show};
use crate::Exit;

/// Most of what a tool says that is shown.
const SAID_BYTES_MAX: usize = 64 << 10;

/// Debian's own compiler, whose standard library can be built for WebAssembly.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library";
/// In bytes; Rust's own measure for WebAssembly is 1 MiB.
const RUST_STACK: u32 = 128 << 10;
const WASM: &str = "wasm32-unknown-unknown";

pub(crate) fn build(args: &BuildArgs) -> Result<Exit, Trouble> {
    let language = Language::of(&args.folder)?;
    let folder = fs::canonicalize(&args.folder).map_err(Trouble::file(&args.folder))?;
    let out = match &args.out {
        Some(out) => std::path::absolute(out).map_err(Trouble::file(out))?,
        None => language::built(&folder)?,
    };
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).map_err(Trouble::file(parent))?;
    }
    let project = Project { folder, out, verbose: args.verbose };
    match language {
        Language::Rust => project.rust()?,
        Language::Go => project.go()?,
        Language::Ts => project.typescript()?,
        Language::Python => project.python()?,
        Language::C => project.c()?,
    }
    let bytes = fs::metadata(&project.out).map_err(Trouble::file(&project.out))?.len();
    show(&format!("{} ({})\n", project.out.display(), monmon_syntax::format_size(bytes)));
    Ok(Exit::Good)
}

struct Project {
    folder: PathBuf,
    out: PathBuf,
    verbose: bool,
}

impl Project {
    fn rust(&self) -> Result<(), Trouble> {
        need("cargo", &["--version"], "install Rust: https://rustup.rs")?;
        let sysroot = answer(Command::new("rustc").args(["--print", "sysroot"]).current_dir(&self.folder))
            .ok_or_else(|| missing("rustc", "install Rust: https://rustup.rs"))?;
        let libraries = Path::new(&sysroot).join("lib/rustlib");
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--target", WASM]);
        if !libraries.join(WASM).is_dir() {
            // Where the standard library for WebAssembly can't be had ready, it is built from Debian's source. Its
            // compiler comes without a linker of that kind; any Rust from rustup has one.
            if !Path::new(DEBIAN_RUSTC).is_file() || !Path::new(DEBIAN_STD).is_dir() {
                return Err(missing(
                    "Rust's standard library for WebAssembly",
                    "rustup target add wasm32-unknown-unknown; or, on Debian, apt-get install rustc-web rust-web-src",
                ));
            }
            let host = answer(Command::new("rustc").args(["--print", "host-tuple"]))
                .unwrap_or_else(|| "x86_64-unknown-linux-gnu".to_owned());
            let tools = libraries.join(host.trim()).join("bin");
            let linker = tools.join("wasm-component-ld");
            if !linker.is_file() {
                return Err(missing(
                    "a linker for WebAssembly",
                    "install Rust through rustup: https://rustup.rs",
                ));
            }
            cargo.args(["-Zbuild-std=std,panic_abort"]);
            cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            cargo.env("PATH", with_path(&tools.join("gcc-ld")));
            // Flags and wrappers of the machine are for other compilers.
            cargo.env_remove("RUSTFLAGS").env_remove("RUSTC_WRAPPER").env_remove("CARGO_ENCODED_RUSTFLAGS");
        }
        // The stack comes first in memory: a small one makes a new instance cheap.
        cargo.env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            format!("-Clink-arg=-zstack-size={RUST_STACK}"),
        );
        cargo.env_remove("CARGO_TARGET_DIR");
        self.run(&mut cargo)?;
        let name = self.rust_name()?;
        let made = self.folder.join("target").join(WASM).join("release").join(format!("{name}.wasm"));
        self.take(&made)
    }

    /// As cargo names the library's file.
    fn rust_name(&self) -> Result<String, Trouble> {
        let mut cargo = Command::new("cargo");
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(&self.folder);
        let text =
            answer(&mut cargo).ok_or_else(|| Trouble::new("cargo does not tell the package's name"))?;
        let metadata: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Trouble::new(format!("cargo metadata: {error}")))?;
        let targets = metadata["packages"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|package| package["targets"].as_array().cloned().unwrap_or_default());
        let library = |target: &serde_json::Value| {
            let types = target["crate_types"].as_array();
            types.is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
        };
        let name = targets.filter(library).find_map(|target| target["name"].as_str().map(str::to_owned));
        name.map(|name| name.replace('-', "_")).ok_or_else(|| {
            Trouble::new("the project makes no plugin")
                .help("Cargo.toml needs [lib] with crate-type = [\"cdylib\"]")
        })
    }

    fn go(&self) -> Result<(), Trouble> {
        const HELP: &str = "install Go 1.24 or newer: https://go.dev/dl";
        need("go", &["version"], HELP)?;
        let mut go = Command::new("go");
        go.args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"])
            .arg(&self.out)
            .arg(".");
        go.env("GOOS", "wasip1").env("GOARCH", "wasm").env("GOFLAGS", "-mod=mod").env("GOWORK", "off");
        self.run(&mut go)
    }

    fn typescript(&self) -> Result<(), Trouble> {
        const HELP: &str = "install Node.js 20 or newer, with npm: https://nodejs.org";
        need("node", &["--version"], HELP)?;
        need("npm", &["--version"], HELP)?;
        let tool = |name: &str| self.folder.join("node_modules/.bin").join(name);
        if !tool("componentize-qjs").exists() || !tool("tsc").exists() {
            let how = if self.folder.join("package-lock.json").is_file() { "ci" } else { "install" };
            self.run(Command::new("npm").args([how, "--no-audit", "--no-fund"]))?;
        }
        self.run(&mut Command::new(tool("tsc")))?;
        let mut componentize = Command::new(tool("componentize-qjs"));
        componentize.arg("--wit").arg(self.wit()?).args(["--js", "build/plugin.js", "-n", "matcher"]);
        componentize.args(["--sync", "--stub-wasi", "-o"]).arg(&self.out);
        self.run(&mut componentize)
    }

    fn python(&self) -> Result<(), Trouble> {
        const HELP: &str = "install Python 3.10 or newer, with venv: apt-get install python3 python3-venv";
        need("python3", &["-c", "import venv"], HELP)?;
        let tool = self.folder.join(".venv/bin/componentize-py");
        if !tool.exists() {
            self.run(Command::new("python3").args(["-m", "venv", ".venv"]))?;
            let mut pip = Command::new(self.folder.join(".venv/bin/pip"));
            self.run(pip.args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                "requirements.txt",
            ]))?;
        }
        let mut componentize = Command::new(tool);
        componentize.arg("-d").arg(self.wit()?).args(["-w", "matcher", "componentize", "--stub-wasi"]);
        // The SDK lies beside, in a project of its own as in the project's folder.
        for path in ["monmon-sdk", "../sdk/python"] {
            if self.folder.join(path).is_dir() {
                componentize.args(["-p", path]);
            }
        }
        componentize.args(["-p", ".", "app", "-o"]).arg(&self.out);
        self.run(&mut componentize)
    }

    fn c(&self) -> Result<(), Trouble> {
        const HELP: &str = "apt-get install clang-22 lld-22 libclang-rt-22-dev-wasm32 wasi-libc";
        let newest = (18..=30)
            .rev()
            .map(|version| (format!("clang-{version}"), format!("/usr/bin/wasm-ld-{version}")));
        let found = newest
            .into_iter()
            .find(|(clang, linker)| runs(clang, &["--version"]) && Path::new(linker).exists());
        let (clang, linker) = found.ok_or_else(|| missing("clang for WebAssembly, with its linker", HELP))?;
        if !Path::new("/usr/include/wasm32-wasi").is_dir() {
            return Err(missing("a C library for WebAssembly", HELP));
        }
        let sdk = ["monmon-sdk", "../sdk/c"]
            .into_iter()
            .find(|path| self.folder.join(path).join("matcher.c").is_file());
        let sdk = sdk.ok_or_else(|| Trouble::new("the SDK is missing: monmon-sdk/matcher.c"))?;
        let mut compile = Command::new(clang);
        compile.args([
            "--target=wasm32-wasi",
            "--sysroot=/usr",
            "-isystem",
            "/usr/include/wasm32-wasi",
            "-Os",
        ]);
        compile.args([
            "-Wall",
            "-Wno-deprecated",
            "-Wl,--strip-debug",
            "-mexec-model=reactor",
            &format!("-fuse-ld={linker}"),
            "-I",
            sdk,
            "app.c",
        ]);
        compile
            .arg(format!("{sdk}/monmon.c"))
            .arg(format!("{sdk}/matcher.c"))
            .arg(format!("{sdk}/matcher_component_type.o"));
        compile.arg("-o").arg(&self.out);
        self.run(&mut compile)
    }

    /// The contract: a project has it in `wit`, the examples share one.
    fn wit(&self) -> Result<PathBuf, Trouble> {
        let places = ["wit", "../wit"].map(|place| self.folder.join(place));
        places
            .into_iter()
            .find(|place| place.is_dir())
            .ok_or_else(|| Trouble::new("the contract is missing: wit/matcher.wit"))
    }

    fn take(&self, made: &Path) -> Result<(), Trouble> {
        fs::copy(made, &self.out).map(drop).map_err(Trouble::file(made))
    }

    /// Runs a tool in the project's folder; what it says is shown when it fails.
    fn run(&self, command: &mut Command) -> Result<(), Trouble> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.current_dir(&self.folder).stdin(Stdio::null());
        let output =
            command.output().map_err(|error| Trouble::new(format!("{name} does not run: {error}")))?;
        if self.verbose || !output.status.success() {
            let mut said = output.stdout;
            said.extend(output.stderr);
            let from = said.len().saturating_sub(SAID_BYTES_MAX);
            drop(std::io::stderr().lock().write_all(&said[from..]));
        }
        if !output.status.success() {
            return Err(Trouble::new(format!("{name} failed: {}", output.status)));
        }
        Ok(())
    }
}

fn need(program: &str, arguments: &[&str], help: &str) -> Result<(), Trouble> {
    if runs(program, arguments) { Ok(()) } else { Err(missing(program, help)) }
}

fn missing(what: &str, help: &str) -> Trouble {
    Trouble::new(format!("missing: {what}")).help(help)
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What a program prints, without the end of the line.
fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

/// The search path with a folder in front.
fn with_path(first: &Path) -> std::ffi::OsString {
    #[expect(clippy::disallowed_methods, reason = "a child's search path is made of ours")]
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(first.to_owned()).chain(std::env::split_paths(&path)))
        .unwrap_or_default()
}
