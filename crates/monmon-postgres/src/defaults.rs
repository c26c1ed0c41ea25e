//! What a connection string leaves open: service files, the PG* variables and the password file, as libpq takes them, in
//! this order. Everything is read anew whenever it is asked for, so that what was changed on the disk is met by the next
//! connection.

use std::path::{Path, PathBuf};

use monmon_syntax::World;

use crate::conninfo::{Settings, put};
use crate::error::StoreError;

/// The largest service or password file.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Where Debian's libpq and PostgreSQL's own keep the services of the whole machine.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/postgresql-common", "/usr/local/pgsql/etc"];

const VARIABLES: [(&str, &str); 18] = [
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGOPTIONS", "options"),
    ("PGPASSFILE", "passfile"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// Fills in what is not given.
pub(crate) fn fill(settings: &mut Settings, world: &dyn World) -> Result<(), StoreError> {
    let set = |name: &str| world.env(name).filter(|value| !value.is_empty());
    if let Some(service) = settings.remove("service").or_else(|| set("PGSERVICE")) {
        let named = settings.remove("servicefile").or_else(|| set("PGSERVICEFILE"));
        for (word, value) in service_settings(&service, named, world)? {
            settings.entry(word).or_insert(value);
        }
    }
    for (variable, word) in VARIABLES {
        if let Some(value) = set(variable) {
            settings.entry(word.to_owned()).or_insert(value);
        }
    }
    if !settings.contains_key("user") {
        let user = set("USER").or_else(|| set("LOGNAME"));
        let user = user.ok_or_else(|| StoreError::BadUrl("it names no user".to_owned()))?;
        settings.insert("user".to_owned(), user);
    }
    Ok(())
}

/// The file that is named, else the user's, else the machine's.
fn service_settings(service: &str, named: Option<String>, world: &dyn World) -> Result<Settings, StoreError> {
    let mut files: Vec<PathBuf> = match named {
        Some(named) => vec![named.into()],
        None => home(world).map(|home| home.join(".pg_service.conf")).into_iter().collect(),
    };
    match world.env("PGSYSCONFDIR") {
        Some(folder) => files.push(Path::new(&folder).join("pg_service.conf")),
        None => files.extend(SYSTEM_FOLDERS.map(|folder| Path::new(folder).join("pg_service.conf"))),
    }
    for file in &files {
        let Ok(bytes) = world.read_file(file, FILE_BYTES_MAX) else { continue };
        if let Some(settings) = section(&String::from_utf8_lossy(&bytes), service)
            .map_err(|error| StoreError::BadUrl(format!("`{}`: {error}", file.display())))?
        {
            return Ok(settings);
        }
    }
    let looked: Vec<String> = files.iter().map(|file| format!("`{}`", file.display())).collect();
    Err(StoreError::BadUrl(format!("the service `{service}` is in none of {}", looked.join(", "))))
}

/// The lines of one `[section]`; none where there is no such section.
fn section(text: &str, name: &str) -> Result<Option<Settings>, String> {
    let mut found = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            found = (title.strip_suffix(']') == Some(name)).then(Settings::new);
        } else if let Some(settings) = &mut found {
            let (word, value) = line.split_once('=').ok_or("a line is no `word=value`")?;
            // The first one counts, and a service cannot name another.
            if word == "service" {
                return Err("a service names a service".to_owned());
            }
            if !settings.contains_key(word) {
                put(settings, word, value.to_owned()).map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(found)
}

/// The password file's word for a host, if there is one.
pub(crate) fn password(
    settings: &Settings,
    host: &str,
    port: u16,
    database: &str,
    user: &str,
    world: &dyn World,
) -> Option<String> {
    let path = match settings.get("passfile") {
        Some(path) => PathBuf::from(path),
        None => home(world)?.join(".pgpass"),
    };
    if is_open_to_others(&path) {
        tracing::warn!(path = %path.display(), "the password file is not used: others may read it; chmod 0600 mends that");
        return None;
    }
    let bytes = world.read_file(&path, FILE_BYTES_MAX).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // A socket's folder is the machine itself.
    let host = if host.starts_with('/') { "localhost" } else { host };
    let wanted = [host, &port.to_string(), database, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| password_of(line, wanted))
}

/// `host:port:database:user:password`, each of the four a `*` or to be met; a backslash takes the next character as it is.
fn password_of(line: &str, wanted: [&str; 4]) -> Option<String> {
    let mut rest = line;
    for wanted in wanted {
        let (field, after) = field(rest);
        if field != "*" && unescaped(field) != wanted {
            return None;
        }
        rest = after?;
    }
    let password = unescaped(field(rest).0);
    (!password.is_empty()).then_some(password)
}

/// Up to the next bare colon, and what follows it.
fn field(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            ':' if !escaped => return (&text[..at], Some(&text[at + 1..])),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    (text, None)
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    plain
}

pub(crate) fn home(world: &dyn World) -> Option<PathBuf> {
    world.env("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::conninfo::parse;

    struct Paper {
        variables: BTreeMap<&'static str, &'static str>,
        files: BTreeMap<&'static str, &'static str>,
    }

    impl World for Paper {
        fn env(&self, name: &str) -> Option<String> {
            self.variables.get(name).map(|value| (*value).to_owned())
        }

        fn read_file(&self, path: &Path, _max: usize) -> Result<Vec<u8>, io::Error> {
            let text = path.to_str().and_then(|path| self.files.get(path));
            text.map(|text| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    fn filled(text: &str, world: &Paper) -> String {
        let mut settings = parse(text).expect("a connection string");
        match fill(&mut settings, world) {
            Ok(()) => {
                settings.iter().map(|(word, value)| format!("{word}={value}")).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_string_goes_before_the_service_and_the_service_before_the_variables() {
        let services =
            "# ours\n[test]\nhost=t\n\n[prod]\nhost=p\nport=6432\nuser=svc\nhost=other\n[last]\nuser=x\n";
        let world = Paper {
            variables: BTreeMap::from([
                ("HOME", "/home/me"),
                ("PGUSER", "env"),
                ("PGDATABASE", "envdb"),
                ("PGPASSWORD", ""),
                ("USER", "me"),
            ]),
            files: BTreeMap::from([
                ("/home/me/.pg_service.conf", services),
                ("/etc/postgresql-common/pg_service.conf", "[machine]\nhost=m\n"),
                ("/bad", "[a]\nservice=b\n[b]\ncolour=red\n[c]\nnothing\n"),
            ]),
        };
        let cases = [
            ("service=prod host=mine", "dbname=envdb host=mine port=6432 user=svc"),
            ("postgres://?service=machine", "dbname=envdb host=m user=env"),
            ("host=h", "dbname=envdb host=h user=env"),
            (
                "service=a servicefile=/bad",
                "the PostgreSQL URL cannot be used: `/bad`: a service names a service",
            ),
            (
                "service=c servicefile=/bad",
                "the PostgreSQL URL cannot be used: `/bad`: a line is no `word=value`",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(filled(text, &world), expected, "{text}");
        }
        assert!(filled("service=b servicefile=/bad", &world).contains("a parameter is not known"));
        assert!(filled("service=none", &world).contains("is in none of `/home/me/.pg_service.conf`"));
        let bare = Paper { variables: BTreeMap::from([("USER", "me")]), files: BTreeMap::new() };
        assert_eq!(filled("host=h", &bare), "host=h user=me");
        assert!(filled("host=h", &Paper { variables: BTreeMap::new(), ..bare }).contains("names no user"));
    }

    #[test]
    fn the_password_file_is_read_line_by_line() {
        let file =
            "# no\nh:5432:d:other:x\nh:5432:d:u:a\\:b\\\\c:rest\n*:*:*:u:any\nlocalhost:*:*:v:socket\n";
        let world = Paper {
            variables: BTreeMap::from([("HOME", "/nowhere")]),
            files: BTreeMap::from([("/nowhere/.pgpass", file)]),
        };
        let settings = Settings::new();
        let word = |host, port, user| password(&settings, host, port, "d", user, &world);
        assert_eq!(word("h", 5432, "u").as_deref(), Some("a:b\\c"));
        assert_eq!(word("h", 5433, "u").as_deref(), Some("any"));
        assert_eq!(word("/tmp", 1, "v").as_deref(), Some("socket"));
        assert_eq!(word("h", 1, "v"), None);
    }
}
