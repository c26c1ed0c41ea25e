//! Who this prober is: an id made at the first start and kept.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use monmon_stage::ProberIdentity;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cli::ProberArgs;

const FILE: &str = "prober.json";

/// Longest name or location, in bytes.
const TEXT_BYTES_MAX: usize = 200;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    id: Uuid,
}

/// The prober's identity; its id is made if there is none yet.
pub(crate) fn identity(
    args: &ProberArgs,
    home: Option<&str>,
    state_home: Option<&str>,
) -> Result<ProberIdentity, String> {
    let folder = folder(args, home, state_home)?;
    let id = kept_id(&folder).map_err(|error| {
        format!(
            "the prober's id can't be kept in {}: {error}\n  help: --state-dir names another folder",
            folder.display()
        )
    })?;
    let name = args.name.clone().unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned());
    for (what, text) in [("--prober", Some(&name)), ("--location", args.location.as_ref())] {
        if text.is_some_and(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX || text.contains('\0')) {
            return Err(format!("{what} takes 1 to {TEXT_BYTES_MAX} bytes without NUL"));
        }
    }
    Ok(ProberIdentity { id, name, location: args.location.clone(), state: Some(folder) })
}

/// As the XDG base directory specification has it.
fn folder(args: &ProberArgs, home: Option<&str>, state_home: Option<&str>) -> Result<PathBuf, String> {
    match (&args.state_dir, state_home, home) {
        (Some(folder), _, _) => Ok(folder.clone()),
        (None, Some(state), _) if Path::new(state).is_absolute() => Ok(Path::new(state).join("monmon")),
        (None, _, Some(home)) => Ok(Path::new(home).join(".local/state/monmon")),
        (None, _, None) => {
            Err("there is no home folder to keep the prober's id in; --state-dir names one".to_owned())
        }
    }
}

fn kept_id(folder: &Path) -> io::Result<Uuid> {
    let path = folder.join(FILE);
    loop {
        match fs::read_to_string(&path) {
            Ok(text) => {
                return serde_json::from_str::<Kept>(&text).map(|kept| kept.id).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::create_dir_all(folder)?;
        match make_id(folder, &path) {
            // Another process was first: its id is ours.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
    }
}

/// The whole file appears at once, and only if there was none: written aside, then linked to its name.
fn make_id(folder: &Path, path: &Path) -> io::Result<()> {
    let aside = folder.join(format!("{FILE}.{}", Uuid::new_v4()));
    let kept = Kept { id: Uuid::new_v4() };
    let mut file = OpenOptions::new().write(true).create_new(true).open(&aside)?;
    serde_json::to_writer(&mut file, &kept)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(state_dir: Option<PathBuf>) -> ProberArgs {
        ProberArgs { name: Some("test".to_owned()), location: None, state_dir }
    }

    #[test]
    fn an_id_is_made_once_even_by_many_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let ids: Vec<Uuid> = std::thread::scope(|scope| {
            let start = || identity(&args(Some(state.clone())), None, None).unwrap().id;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{").unwrap();
        let error = identity(&args(Some(folder.path().to_owned())), None, None).unwrap_err();
        assert!(error.contains(FILE), "{error}");
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let found = |home, state| folder(&args(None), home, state).ok();
        assert_eq!(found(Some("/h"), None), Some(PathBuf::from("/h/.local/state/monmon")));
        assert_eq!(found(Some("/h"), Some("/s")), Some(PathBuf::from("/s/monmon")));
        assert_eq!(found(Some("/h"), Some("relative")), Some(PathBuf::from("/h/.local/state/monmon")));
        assert_eq!(found(None, None), None);
    }
}
