//! The languages that plugins are written in, and how a project shows which it is.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Trouble;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Go,
    /// TypeScript
    Ts,
    Python,
    C,
}

impl Language {
    /// By the file that every project of the language has.
    pub(crate) fn of(folder: &Path) -> Result<Language, Trouble> {
        let has = |name: &str| folder.join(name).is_file();
        let found = Language::value_variants().iter().find(|language| has(language.mark()));
        found.copied().ok_or_else(|| {
            let marks: Vec<&str> =
                Language::value_variants().iter().map(|language| language.mark()).collect();
            Trouble::new(format!("{} is no plugin's project", folder.display())).help(format!(
                "one of {} is expected there; `monmon plugin new` writes a project",
                marks.join(", ")
            ))
        })
    }

    /// Of its SDK, in `plugins/sdk`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Go => "go",
            Language::Ts => "ts",
            Language::Python => "python",
            Language::C => "c",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Language::Rust => "Cargo.toml",
            Language::Go => "go.mod",
            Language::Ts => "package.json",
            Language::Python => "app.py",
            Language::C => "app.c",
        }
    }
}

/// The plugin's name: that of its folder.
pub(crate) fn name_of(folder: &Path) -> Result<String, Trouble> {
    let folder = std::fs::canonicalize(folder).map_err(Trouble::file(folder))?;
    let name = folder.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    name.ok_or_else(|| {
        Trouble::new(format!("the folder {} has no name to call a plugin by", folder.display()))
    })
}

/// Where a project's plugin is built.
pub(crate) fn built(folder: &Path) -> Result<PathBuf, Trouble> {
    Ok(folder.join("dist").join(format!("{}.wasm", name_of(folder)?)))
}
