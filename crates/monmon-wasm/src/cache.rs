//! Compiled code on disk, so that a start does not compile again.
//!
//! Loading code trusts it blindly, so nothing is loaded that is not known to be what was written: the folder is ours
//! alone, a file is named by the digest of the plugin and by what the code was compiled for, and beside each stands a
//! note with the code's digest. Digesting tens of megabytes takes longer than loading them; where the file is still the
//! very one that was written (device, inode, size, times of change), it is taken for it, as git does with its index; and
//! as there, a file that changed within a moment of the note is not.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::debug;

use crate::describe::Description;
use crate::engine::hex;

/// All that the folder may hold; the oldest go first.
const CACHE_BYTES_MAX: u64 = 1 << 30;
/// Longest note.
const NOTE_BYTES_MAX: u64 = 256 << 10;
/// How much of a file is digested at once.
const PIECE_BYTES: usize = 256 << 10;
/// A change within so long of a note may have left the times as they were.
const MOMENT: Duration = Duration::from_secs(2);
/// Half-written files that are older were left behind.
const LEFT_AFTER: Duration = Duration::from_secs(3600);

/// A folder of compiled code that belongs to us alone.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// The very file, as far as the file system tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it was taken when the last change was over for certain.
    fn is_settled(&self, noted: &Metadata) -> bool {
        let last = self.changed.max(self.modified);
        let noted = Duration::from_secs(u64::try_from(noted.mtime()).unwrap_or(0));
        noted > Duration::from_secs(u64::try_from(last.0).unwrap_or(u64::MAX)).saturating_add(MOMENT)
    }
}

/// What stands beside a file of code.
#[derive(Serialize, Deserialize)]
struct CodeNote {
    sha256: String,
    stamp: Stamp,
    description: Description,
}

/// What is known of a plugin's file.
#[derive(Serialize, Deserialize)]
struct SourceNote {
    path: PathBuf,
    sha256: String,
    stamp: Stamp,
}

/// Code that is what was written.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) description: Description,
}

impl Cache {
    /// Makes the folder if it is not there; refuses one that others may write to.
    pub(crate) fn open(folder: &Path) -> io::Result<Cache> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let metadata = fs::metadata(folder)?;
        let us = rustix::process::geteuid().as_raw();
        if metadata.uid() != us || metadata.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::other("the folder belongs to another user, or others may write to it"));
        }
        let cache = Cache { folder: folder.to_owned() };
        cache.tidy();
        Ok(cache)
    }

    /// The digest of a plugin's file, if it was noted and the file is still the very one.
    pub(crate) fn digest(&self, path: &Path) -> Option<String> {
        let path = fs::canonicalize(path).ok()?;
        let at = self.source_note(&path);
        let (note, noted): (SourceNote, Metadata) = read_note(&at)?;
        let stamp = Stamp::of(&fs::metadata(&path).ok()?);
        (note.path == path && note.stamp == stamp && stamp.is_settled(&noted)).then_some(note.sha256)
    }

    /// Notes the digest of a plugin's file.
    pub(crate) fn note_digest(&self, path: &Path, before: Option<&Metadata>, sha256: &str) {
        let Ok(path) = fs::canonicalize(path) else { return };
        let Some(stamp) = before.map(Stamp::of) else { return };
        let at = self.source_note(&path);
        // Written again only where it would say something new: a note must become older than the file.
        let note = SourceNote { path, sha256: sha256.to_owned(), stamp };
        self.write(&at, |file| serde_json::to_writer(file, &note).map_err(io::Error::from));
    }

    /// The code of a plugin, if it is here and sound.
    pub(crate) fn find(&self, name: &str) -> Option<Found> {
        let path = self.folder.join(format!("{name}.code"));
        let (note, noted): (CodeNote, Metadata) = read_note(&self.folder.join(format!("{name}.json")))?;
        let stamp = Stamp::of(&fs::metadata(&path).ok()?);
        if note.stamp != stamp || !stamp.is_settled(&noted) {
            if digest(File::open(&path).ok()?).ok()? != note.sha256 {
                debug!(path = %path.display(), "compiled code that is not what was written; compiling again");
                return None;
            }
            // The next start finds it settled.
            self.note_code(name, note.sha256.clone(), stamp, &note.description);
        }
        Some(Found { path, description: note.description })
    }

    /// Keeps code; gives where it is, if it could be kept.
    pub(crate) fn keep(&self, name: &str, code: &[u8], description: &Description) -> Option<PathBuf> {
        let path = self.folder.join(format!("{name}.code"));
        self.write(&path, |file| file.write_all(code))?;
        let stamp = Stamp::of(&fs::metadata(&path).ok()?);
        self.note_code(name, hex(&Sha256::digest(code)), stamp, description);
        Some(path)
    }

    fn note_code(&self, name: &str, sha256: String, stamp: Stamp, description: &Description) {
        let note = CodeNote { sha256, stamp, description: description.clone() };
        let at = self.folder.join(format!("{name}.json"));
        self.write(&at, |file| serde_json::to_writer(file, &note).map_err(io::Error::from));
    }

    fn source_note(&self, path: &Path) -> PathBuf {
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        self.folder.join(format!("source-{}.json", hex(&digest[..16])))
    }

    /// Whole or not at all, whoever else writes at the same time. What fails costs a compilation later.
    fn write(&self, path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Option<()> {
        let written = tempfile::Builder::new()
            .prefix(".half-")
            .make_in(&self.folder, |path| {
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
            })
            .and_then(|mut file| {
                fill(file.as_file_mut())?;
                file.as_file_mut().flush()?;
                file.persist(path).map_err(io::Error::from)
            });
        if let Err(error) = &written {
            debug!(path = %path.display(), %error, "not kept");
        }
        written.ok().map(drop)
    }

    /// Takes out what is too much, and what was left half-written.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (modified, size, path) in files {
            let half = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".half-"));
            let left = half && modified.elapsed().is_ok_and(|age| age > LEFT_AFTER);
            if (left || total > CACHE_BYTES_MAX) && fs::remove_file(&path).is_ok() {
                total -= size;
            }
        }
    }
}

fn digest(mut file: File) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&digest.finalize())),
            read => digest.update(&piece[..read]),
        }
    }
}

fn read_note<T: DeserializeOwned>(path: &Path) -> Option<(T, Metadata)> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if metadata.len() > NOTE_BYTES_MAX {
        return None;
    }
    let text = fs::read(path).ok()?;
    Some((serde_json::from_slice(&text).ok()?, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            name: "test".to_owned(),
            version: "1".to_owned(),
            help: String::new(),
            needs_body: true,
            needs_headers: false,
            parameters: Vec::new(),
        }
    }

    #[test]
    fn code_is_found_again_and_never_when_it_was_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(&folder.path().join("plugins")).expect("ours");
        assert!(cache.find("a").is_none());
        let path = cache.keep("a", b"code", &description()).expect("kept");
        assert_eq!(cache.find("a").map(|found| found.path), Some(path.clone()));
        // Of the same length, and with the times put back.
        let before = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
        fs::write(&path, b"c0de").expect("written");
        File::options().write(true).open(&path).and_then(|file| file.set_modified(before)).expect("put back");
        assert!(cache.find("a").is_none());
        fs::write(&path, b"cod").expect("cut off");
        assert!(cache.find("a").is_none());
        fs::write(folder.path().join("plugins/a.json"), b"{").expect("written");
        assert!(cache.find("a").is_none());
        cache.keep("a", b"code", &description()).expect("kept anew");
        assert!(cache.find("a").is_some());
    }

    #[test]
    fn a_note_is_trusted_only_when_it_is_younger_by_a_moment() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(&folder.path().join("plugins")).expect("ours");
        let plugin = folder.path().join("a.wasm");
        fs::write(&plugin, b"one").expect("written");
        let metadata = fs::metadata(&plugin).expect("there");
        cache.note_digest(&plugin, Some(&metadata), "digest");
        assert_eq!(cache.digest(&plugin), None, "both were written within a moment");

        let note = cache.source_note(&fs::canonicalize(&plugin).expect("there"));
        let later = SystemTime::UNIX_EPOCH
            + Duration::from_secs(u64::try_from(metadata.mtime()).expect("after 1970"))
            + MOMENT * 2;
        File::options().write(true).open(note).and_then(|file| file.set_modified(later)).expect("set");
        assert_eq!(cache.digest(&plugin).as_deref(), Some("digest"));
        fs::write(&plugin, b"two").expect("written");
        assert_eq!(cache.digest(&plugin), None);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("set");
        assert!(Cache::open(folder.path()).is_err());
    }
}
