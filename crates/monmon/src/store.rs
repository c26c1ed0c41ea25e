//! `--store URL`: which store, and how it is reached.

use std::path::PathBuf;
use std::sync::Arc;

use monmon_postgres::Target;
use monmon_stage::SystemWorld;

/// A store that a command reads or makes.
pub(crate) enum Store {
    Postgres(Box<Target>),
    Sqlite(PathBuf),
}

/// Reads `postgres://...`, `host=... dbname=...` or `sqlite:PATH`. The message never repeats the URL: it may hold a password.
pub(crate) fn parse(url: &str) -> Result<Store, String> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        // `sqlite:///path` is how URLs spell an absolute path.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err("--store sqlite: needs a path, as in sqlite:monmon.db".to_owned());
        }
        return Ok(Store::Sqlite(PathBuf::from(path)));
    }
    // A URL, or words with values: `service=prod`, `host=/var/run/postgresql dbname=monmon`.
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if is_url || (url.contains('=') && !url.contains("://")) {
        return Target::parse(url, None, Arc::new(SystemWorld))
            .map(|target| Store::Postgres(Box::new(target)))
            .map_err(|error| format!("--store: {}", crate::run::with_causes(&error)));
    }
    Err("--store takes postgres://USER:PASSWORD@HOST/DATABASE or sqlite:PATH".to_owned())
}
