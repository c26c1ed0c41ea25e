//! Where plugins are compiled and their code is kept.

use std::path::{Path, PathBuf};

use monmon_stage::SystemWorld;
use monmon_syntax::World;
use monmon_wasm::{COMPILE_TIME, Compiler, HostOptions};

/// The command by which this program is its own compiling process.
pub(crate) const COMPILE: &str = "compile-plugin";

/// Tells the host of plugins how to work: compiling is done by this very program, as a process of its own.
pub(crate) fn set_up() {
    let world = SystemWorld;
    let compiler = match std::env::current_exe() {
        Ok(program) => Compiler::Process { program, arguments: vec![COMPILE.to_owned()], time: COMPILE_TIME },
        Err(_) => Compiler::InPlace,
    };
    let [given, cache, home] = ["MONMON_CACHE_DIR", "XDG_CACHE_HOME", "HOME"].map(|name| world.env(name));
    monmon_wasm::set_up(HostOptions { cache: folder(given, cache, home), compiler });
}

/// As the XDG base directory specification has it; an empty `MONMON_CACHE_DIR` keeps nothing.
fn folder(given: Option<String>, cache: Option<String>, home: Option<String>) -> Option<PathBuf> {
    match (given, cache, home) {
        (Some(given), _, _) => Some(PathBuf::from(given)).filter(|folder| !folder.as_os_str().is_empty()),
        (None, Some(cache), _) if Path::new(&cache).is_absolute() => {
            Some(Path::new(&cache).join("monmon/plugins"))
        }
        (None, _, Some(home)) => Some(Path::new(&home).join(".cache/monmon/plugins")),
        (None, _, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_where_it_is_expected() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(folder(text("/a"), text("/b"), text("/c")), Some("/a".into()));
        assert_eq!(folder(text(""), text("/b"), text("/c")), None);
        assert_eq!(folder(None, text("/b"), text("/c")), Some("/b/monmon/plugins".into()));
        assert_eq!(folder(None, text("b"), text("/c")), Some("/c/.cache/monmon/plugins".into()));
        assert_eq!(folder(None, None, None), None);
    }
}
