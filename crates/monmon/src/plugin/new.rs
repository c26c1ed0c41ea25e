//! `monmon plugin new`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Language, NewArgs, Trouble, show};
use crate::Exit;

/// All files of `plugins/sdk` and `plugins/wit`, by their paths from `plugins`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// What stands in a template for the plugin's name.
const NAME: &str = "plugin-name";
const NAME_CHARS_MAX: usize = 64;

pub(crate) fn new(args: &NewArgs) -> Result<Exit, Trouble> {
    hold_name(&args.name)?;
    let folder = args.folder.join(&args.name);
    if folder.exists() {
        return Err(
            Trouble::new(format!("{} is there already", folder.display())).help("choose another name")
        );
    }
    for (path, bytes) in project(args.lang) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Trouble::file(parent))?;
        }
        fs::write(&path, named(bytes, &args.name)).map_err(Trouble::file(&path))?;
    }
    let folder = folder.display();
    show(&format!(
        "{folder} is a plugin's project. Next:\n    monmon plugin build {folder}\n    monmon plugin test {folder}\n"
    ));
    Ok(Exit::Good)
}

/// The files of a new project: the template's, the SDK in `monmon-sdk`, the contract in `wit`.
fn project(language: Language) -> impl Iterator<Item = (PathBuf, &'static [u8])> {
    let sdk = format!("sdk/{}/", language.folder());
    FILES.iter().filter_map(move |(path, bytes)| {
        let place = if let Some(file) = path.strip_prefix("wit/") {
            Path::new("wit").join(file)
        } else {
            let file = path.strip_prefix(&sdk)?;
            match file.strip_prefix("template/") {
                Some(file) => PathBuf::from(file),
                None => Path::new("monmon-sdk").join(file),
            }
        };
        Some((place, *bytes))
    })
}

/// With the plugin's name in the places that wait for it.
fn named(bytes: &[u8], name: &str) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace(NAME, name).into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

fn hold_name(name: &str) -> Result<(), Trouble> {
    let mut chars = name.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    let goes_on = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if begins && goes_on && name.len() <= NAME_CHARS_MAX {
        return Ok(());
    }
    Err(Trouble::new(format!("`{name}` cannot be a plugin's name"))
        .help("lower case letters, digits and hyphens, beginning with a letter"))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_language_has_a_template_with_a_test() {
        for language in Language::value_variants() {
            let paths: Vec<PathBuf> = project(*language).map(|(path, _)| path).collect();
            assert!(paths.iter().any(|path| path == Path::new("wit/matcher.wit")), "{language:?}: {paths:?}");
            assert!(paths.iter().any(|path| path.starts_with("tests")), "{language:?}: {paths:?}");
        }
    }

    #[test]
    fn names_are_plain() {
        assert!(hold_name("price-2").is_ok());
        for name in ["", "Price", "2", "a/b", "..", "a b", &"a".repeat(65)] {
            assert!(hold_name(name).is_err(), "{name}");
        }
    }
}
