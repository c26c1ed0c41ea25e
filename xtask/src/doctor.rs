//! What the machine must have, each thing with the package that brings it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;

use crate::{failure::Failure, project::Project, runner::Runner, say};

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Install what is missing (Debian packages as root or through sudo; Rust's parts through rustup)
    #[arg(long)]
    pub(crate) install: bool,
    /// Only what the build of monmon needs, not its tests
    #[arg(long, conflicts_with = "demo")]
    pub(crate) build: bool,
    /// Also what the demo needs
    #[arg(long)]
    pub(crate) demo: bool,
}

/// Ordered: who runs the demo also tests, who tests also builds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum For {
    Build,
    Tests,
    Demo,
}

enum Remedy {
    /// A Debian package; of `one|other` the first that the distribution offers.
    Package(&'static str),
    Component(&'static str),
}

struct Need {
    what: &'static str,
    why: &'static str,
    whom: For,
    present: fn(&Project) -> bool,
    remedy: Remedy,
}

/// The oldest Java that Kafka 4 runs on.
const JAVA_MIN: u32 = 17;

/// Neither cmake nor pkg-config is here: all crates were built from nothing on x86-64 without them.
static NEEDS: &[Need] = &[
    Need {
        what: "a C compiler",
        why: "links every program; builds SQLite, OpenSSL, AWS-LC, librdkafka",
        whom: For::Build,
        present: |_| runs("cc", &["--version"]),
        remedy: Remedy::Package("build-essential"),
    },
    Need {
        what: "a C++ compiler",
        why: "asked for by librdkafka's configure",
        whom: For::Build,
        present: |_| runs("c++", &["--version"]),
        remedy: Remedy::Package("g++"),
    },
    Need {
        what: "make",
        why: "builds OpenSSL and librdkafka",
        whom: For::Build,
        present: |_| runs("make", &["--version"]),
        remedy: Remedy::Package("make"),
    },
    Need {
        what: "perl with its standard modules",
        why: "configures OpenSSL",
        whom: For::Build,
        present: |_| runs("perl", &["-MFindBin", "-MIPC::Cmd", "-MFile::Compare", "-MFile::Copy", "-e", "1"]),
        remedy: Remedy::Package("perl"),
    },
    Need {
        what: "rustfmt",
        why: "first check of the tests",
        whom: For::Tests,
        present: |project| succeeds(&mut project.cargo(&["fmt", "--version"])),
        remedy: Remedy::Component("rustfmt"),
    },
    Need {
        what: "clippy",
        why: "second check of the tests",
        whom: For::Tests,
        present: |project| succeeds(&mut project.cargo(&["clippy", "--version"])),
        remedy: Remedy::Component("clippy"),
    },
    Need {
        what: "Java 17 or newer",
        why: "runs Kafka",
        whom: For::Tests,
        present: |project| java_version(project).is_some_and(|version| version >= JAVA_MIN),
        remedy: Remedy::Package("openjdk-21-jre-headless|openjdk-17-jre-headless|default-jre-headless"),
    },
    Need {
        what: "Maven",
        why: "fetches Kafka",
        whom: For::Tests,
        present: |_| runs("mvn", &["--version"]),
        remedy: Remedy::Package("maven"),
    },
    Need {
        what: "openssl",
        why: "makes the certificates of the test servers",
        whom: For::Tests,
        present: |_| runs("openssl", &["version"]),
        remedy: Remedy::Package("openssl"),
    },
    Need {
        what: "PostgreSQL's server",
        why: "the database of the tests",
        whom: For::Tests,
        present: |project| postgres_bin(project).is_some(),
        remedy: Remedy::Package("postgresql"),
    },
    Need {
        what: "strace",
        why: "kills and spoils at chosen system calls, for the harness of faults",
        whom: For::Tests,
        present: |_| runs("strace", &["-V"]),
        remedy: Remedy::Package("strace"),
    },
    Need {
        what: "faketime",
        why: "sets a process's clock, for the harness of faults",
        whom: For::Tests,
        present: |_| runs("faketime", &["--version"]),
        remedy: Remedy::Package("faketime"),
    },
    Need {
        what: "Rust's standard library for WebAssembly",
        why: "builds the plugins in Rust",
        whom: For::Tests,
        present: |_| rust_for_wasm(),
        remedy: Remedy::Package("rustc-web"),
    },
    Need {
        what: "the source of Rust's standard library for WebAssembly",
        why: "builds the plugins in Rust",
        whom: For::Tests,
        present: |_| rust_for_wasm(),
        remedy: Remedy::Package("rust-web-src"),
    },
    Need {
        what: "Go 1.24 or newer",
        why: "builds the plugins in Go",
        whom: For::Tests,
        present: |_| go_version().is_some_and(|version| version >= (1, 24)),
        remedy: Remedy::Package("golang-1.26-go|golang-1.25-go|golang-1.24-go|golang-go"),
    },
    Need {
        what: "clang and lld for WebAssembly",
        why: "build the plugins in C",
        whom: For::Tests,
        present: |_| clang_for_wasm(),
        remedy: Remedy::Package("clang-22|clang-19|clang-18"),
    },
    Need {
        what: "lld's linker for WebAssembly",
        why: "links the plugins in C",
        whom: For::Tests,
        present: |_| clang_for_wasm(),
        remedy: Remedy::Package("lld-22|lld-19|lld-18"),
    },
    Need {
        what: "clang's library for WebAssembly",
        why: "links the plugins in C",
        whom: For::Tests,
        present: |_| clang_for_wasm(),
        remedy: Remedy::Package(
            "libclang-rt-22-dev-wasm32|libclang-rt-19-dev-wasm32|libclang-rt-18-dev-wasm32",
        ),
    },
    Need {
        what: "a C library for WebAssembly",
        why: "links the plugins in C",
        whom: For::Tests,
        present: |_| Path::new("/usr/include/wasm32-wasi").is_dir(),
        remedy: Remedy::Package("wasi-libc"),
    },
    Need {
        what: "Node.js with npm",
        why: "builds the plugins in TypeScript",
        whom: For::Tests,
        present: |_| runs("node", &["--version"]) && runs("npm", &["--version"]),
        remedy: Remedy::Package("npm"),
    },
    Need {
        what: "Python with venv",
        why: "builds the plugins in Python",
        whom: For::Tests,
        present: |_| runs("python3", &["-c", "import venv, ensurepip"]),
        remedy: Remedy::Package("python3-venv"),
    },
    Need {
        what: "nginx",
        why: "a web server of the tests and the demo",
        whom: For::Tests,
        present: |_| runs("nginx", &["-v"]) || Path::new("/usr/sbin/nginx").exists(),
        remedy: Remedy::Package("nginx"),
    },
    Need {
        what: "Apache",
        why: "a web server of the tests",
        whom: For::Tests,
        present: |_| Path::new("/usr/sbin/apache2").exists(),
        remedy: Remedy::Package("apache2-bin"),
    },
    Need {
        what: "tinyproxy",
        why: "an HTTP proxy of the tests",
        whom: For::Tests,
        present: |_| Path::new("/usr/bin/tinyproxy").exists(),
        remedy: Remedy::Package("tinyproxy-bin"),
    },
    Need {
        what: "microsocks",
        why: "a SOCKS proxy of the tests",
        whom: For::Tests,
        present: |_| Path::new("/usr/bin/microsocks").exists(),
        remedy: Remedy::Package("microsocks"),
    },
    Need {
        what: "dnsmasq",
        why: "a name server of the tests",
        whom: For::Tests,
        present: |_| Path::new("/usr/sbin/dnsmasq").exists(),
        remedy: Remedy::Package("dnsmasq-base"),
    },
    Need {
        what: "unbound",
        why: "a name server of the tests",
        whom: For::Tests,
        present: |_| Path::new("/usr/sbin/unbound").exists(),
        remedy: Remedy::Package("unbound"),
    },
    Need {
        what: "pgbouncer",
        why: "the pooler of the tests",
        whom: For::Tests,
        present: |_| Path::new("/usr/sbin/pgbouncer").exists(),
        remedy: Remedy::Package("pgbouncer"),
    },
];

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    let whom = match options {
        Options { build: true, .. } => For::Build,
        Options { demo: true, .. } => For::Demo,
        _ => For::Tests,
    };
    let missing = missing(project, whom);
    if missing.is_empty() {
        say::line("everything needed is here");
        return Ok(());
    }
    for need in &missing {
        say::line(format_args!("missing: {} ({}): {}", need.what, need.why, need.remedy.text()));
    }
    if !options.install {
        return Err(Failure::Missing(missing.len()));
    }
    install(project, runner, &missing)?;
    // A package may be there and still not be what is needed, as an old Java.
    match self::missing(project, whom).as_slice() {
        [] => Ok(()),
        [need, ..] => Err(Failure::Verdict(format!(
            "{} is still missing after `{}`: {}",
            need.what,
            need.remedy.text(),
            need.why
        ))),
    }
}

fn missing(project: &Project, whom: For) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| need.whom <= whom && !(need.present)(project)).collect()
}

fn install(project: &Project, runner: &Runner, missing: &[&Need]) -> Result<(), Failure> {
    let mut packages = Vec::new();
    let mut components = vec!["component", "add"];
    for need in missing {
        match need.remedy {
            Remedy::Package(name) => packages.push(name),
            Remedy::Component(name) => components.push(name),
        }
    }
    if !packages.is_empty() {
        runner.run("install packages", &mut project.script("install.sh", &packages))?;
    }
    if components.len() > 2 {
        runner.run("install parts of Rust", Command::new("rustup").args(&components))?;
    }
    Ok(())
}

impl Remedy {
    fn text(&self) -> String {
        match self {
            Self::Package(name) => format!("apt-get install {}", name.replace('|', " or ")),
            Self::Component(name) => format!("rustup component add {name}"),
        }
    }
}

/// As `monmon plugin build` looks for it: rustup's own, or Debian's compiler with its library's source.
fn rust_for_wasm() -> bool {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let of_rustup = sysroot.is_ok_and(|sysroot| {
        let path = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
        path.join("lib/rustlib/wasm32-unknown-unknown").is_dir()
    });
    of_rustup
        || (Path::new("/usr/bin/rustc").is_file() && Path::new("/usr/lib/rustlib/src/rust/library").is_dir())
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    succeeds(Command::new(program).args(arguments))
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn java_version(project: &Project) -> Option<u32> {
    let java = project.java_home.as_ref().map_or_else(|| PathBuf::from("java"), |home| home.join("bin/java"));
    let output = Command::new(java).arg("-version").stdin(Stdio::null()).output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stderr))
}

/// Of one version the compiler, the linker and the library.
fn clang_for_wasm() -> bool {
    (18..=30).any(|version| {
        runs(&format!("clang-{version}"), &["--version"])
            && Path::new(&format!("/usr/bin/wasm-ld-{version}")).exists()
            && Path::new(&format!("/usr/lib/llvm-{version}/lib/clang/{version}/lib/wasi")).is_dir()
    })
}

/// Of `go version go1.26.8 linux/amd64`.
fn go_version() -> Option<(u32, u32)> {
    let output = Command::new("go").arg("version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut parts = text.split(' ').nth(2)?.strip_prefix("go")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Of `openjdk version "17.0.15" 2025-04-15`.
fn major_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version \"")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// As `postgres.sh` looks for it.
fn postgres_bin(project: &Project) -> Option<PathBuf> {
    let has_server = |bin: &PathBuf| bin.join("initdb").exists();
    if let Some(bin) = &project.postgres_bin {
        return Some(bin.clone()).filter(has_server);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.filter_map(Result::ok).map(|version| version.path().join("bin")).find(has_server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_tells_its_version_in_several_ways() {
        assert_eq!(major_version("openjdk version \"17.0.15\" 2025-04-15\n"), Some(17));
        assert_eq!(major_version("java version \"1.8.0_412\"\n"), Some(1));
        assert_eq!(major_version("openjdk version \"25\" 2025-09-16\n"), Some(25));
        assert_eq!(major_version("openjdk version \"26-ea\"\n"), Some(26));
        assert_eq!(major_version("bash: java: not found"), None);
        assert_eq!(major_version("version \""), None);
    }

    #[test]
    fn every_remedy_is_one_line() {
        for need in NEEDS {
            assert!(!need.remedy.text().contains('\n') && !need.what.is_empty() && !need.why.is_empty());
        }
    }
}
