//! Puts the SDKs of `plugins/sdk` and the contract into the program, for `monmon plugin new`.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What building leaves behind.
const BUILT: [&str; 6] = ["target", "node_modules", "dist", "build", ".venv", "__pycache__"];

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts by their environment")]
fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let plugins = fs::canonicalize(manifest.join("../../plugins"))?;
    let mut files = Vec::new();
    for part in ["sdk", "wit"] {
        println!("cargo::rerun-if-changed={}", plugins.join(part).display());
        collect(&plugins.join(part), &mut files)?;
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&plugins)?.to_str().ok_or("a name that is not UTF-8")?;
        writeln!(list, "    ({name:?}, include_bytes!({:?})),", file.display().to_string())?;
    }
    list.push(']');
    fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("sdk.rs"), list)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| BUILT.iter().any(|built| name == *built)) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
