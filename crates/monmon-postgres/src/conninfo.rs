//! A connection string as libpq reads it: a URL, or words with values.

use std::collections::BTreeMap;

use monmon_syntax::nearest;

use crate::error::StoreError;

/// Connection settings by libpq's words.
pub(crate) type Settings = BTreeMap<String, String>;

/// The words that have a meaning here.
const KNOWN: &[&str] = &[
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "passfile",
    "password",
    "port",
    "service",
    "servicefile",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Words of libpq that ask for nothing here: what they tune does not exist in this client.
const IGNORED: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "sslcompression",
    "sslsni",
];

/// Words of libpq that ask for a safety which this client does not give: to pass over them would be a lie.
const REFUSED: &[&str] = &[
    "require_auth",
    "requirepeer",
    "requiressl",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslpassword",
];

/// What was wrong with a connection string, which itself may hold a password and is not repeated.
fn bad(message: impl Into<String>) -> StoreError {
    StoreError::BadUrl(message.into())
}

/// Reads `postgres://user:password@host:port/database?sslmode=...`, or `host=... user=...`.
pub(crate) fn parse(text: &str) -> Result<Settings, StoreError> {
    let text = text.trim();
    match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
        Some(rest) => url(rest),
        None if text.contains("://") => Err(bad("it does not begin with postgres://")),
        None => words(text),
    }
}

/// Puts one setting to the others; a word that comes twice has its last value, as with libpq.
pub(crate) fn put(settings: &mut Settings, word: &str, value: String) -> Result<(), StoreError> {
    match word {
        known if KNOWN.contains(&known) => {
            // Empty is as good as not given.
            match value.is_empty() {
                true => settings.remove(known),
                false => settings.insert(known.to_owned(), value),
            };
            Ok(())
        }
        ignored if IGNORED.contains(&ignored) => Ok(()),
        refused if REFUSED.contains(&refused) => {
            Err(bad(format!("the parameter `{refused}` is not supported")))
        }
        unknown => Err(unknown_word(unknown)),
    }
}

/// The word is not repeated: it may be the rest of a password in which a space, `&` or `?` was not escaped.
fn unknown_word(word: &str) -> StoreError {
    match nearest(word, KNOWN.iter().copied()) {
        Some(near) => bad(format!("a parameter is not known; `{near}` is")),
        None => {
            bad("a parameter is not known; in a password `@`, `/`, `?`, `&`, `%` and spaces must be escaped")
        }
    }
}

fn url(rest: &str) -> Result<Settings, StoreError> {
    let mut settings = Settings::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        // The `/` of a password that was not escaped: what follows would be shown as the database.
        None if database.contains('@') => {
            return Err(bad("an `@` stands behind the host; in a password `/`, `?` and `@` must be escaped"));
        }
        None => (None, authority),
    };
    if let Some(user) = user {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        put(&mut settings, "user", percent_decoded(user)?)?;
        put(&mut settings, "password", percent_decoded(password)?)?;
    }
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = host_and_port(host)?;
        names.push(percent_decoded(name)?);
        ports.push(port.to_owned());
    }
    put(&mut settings, "host", names.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        put(&mut settings, "port", ports.join(","))?;
    }
    put(&mut settings, "dbname", percent_decoded(database)?)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (word, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (word, value) {
            // As JDBC writes it; libpq reads it as well.
            ("ssl", "true") => put(&mut settings, "sslmode", "require".to_owned())?,
            (word, value) => put(&mut settings, word, percent_decoded(value)?)?,
        }
    }
    Ok(settings)
}

fn host_and_port(host: &str) -> Result<(&str, &str), StoreError> {
    let expected = || bad("expected postgres://user:password@host:port/database");
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, after) = rest.split_once(']').ok_or_else(expected)?;
            (name, if after.is_empty() { "" } else { after.strip_prefix(':').ok_or_else(expected)? })
        }
        None => host.split_once(':').unwrap_or((host, "")),
    };
    match port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0) {
        true => Ok((name, port)),
        false => Err(expected()),
    }
}

/// `host=db.example.org user=app password='it''s \'secret\''`
fn words(text: &str) -> Result<Settings, StoreError> {
    let mut settings = Settings::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, after) = rest.split_once('=').ok_or_else(|| {
            bad("expected postgres://user:password@host:port/database, or host=... user=...")
        })?;
        let (value, after) = value(after.trim_start())?;
        put(&mut settings, word.trim_end(), value)?;
        rest = after.trim_start();
    }
    Ok(settings)
}

/// A value up to a space, or in single quotes; a backslash takes the next character as it is.
fn value(text: &str) -> Result<(String, &str), StoreError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            space if !quoted && space.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    match quoted {
        true => Err(bad("a quoted value has no end")),
        false => Ok((value, "")),
    }
}

pub(crate) fn percent_decoded(text: &str) -> Result<String, StoreError> {
    let broken = || bad("a parameter has a broken percent escape");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(broken);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| broken())?);
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(settings) => {
                settings.iter().map(|(word, value)| format!("{word}={value}")).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn connection_strings_are_read_as_libpq_reads_them() {
        let cases = [
            ("postgres://u:p@h:1/d", "dbname=d host=h password=p port=1 user=u"),
            ("postgresql://", ""),
            ("postgres:///d", "dbname=d"),
            ("postgres://u@/d?host=/var/run/postgresql", "dbname=d host=/var/run/postgresql user=u"),
            ("postgres://%2Ftmp/d", "dbname=d host=/tmp"),
            ("postgres://u:p%40%3A@a:1,b:2,c/d", "dbname=d host=a,b,c password=p@: port=1,2, user=u"),
            ("postgres://[::1]:6432,[fe80::1]/d", "dbname=d host=::1,fe80::1 port=6432,"),
            ("postgres://?service=prod&sslmode=verify-full", "service=prod sslmode=verify-full"),
            (
                "postgres://h?ssl=true&gssencmode=disable&options=-c%20a%3Db",
                "host=h options=-c a=b sslmode=require",
            ),
            (
                "host=h user = 'a b' password='it\\'s \\\\' dbname=d",
                "dbname=d host=h password=it's \\ user=a b",
            ),
            ("  service=prod  ", "service=prod"),
            ("password=  host=h", "password=host=h"),
            ("host='h", "the PostgreSQL URL cannot be used: a quoted value has no end"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        let cases = [
            ("postgres://u:sekret@h/d?colour=red", "a parameter is not known"),
            ("postgres://u:sekret@h/d?sslmod=disable", "a parameter is not known; `sslmode` is"),
            ("password=my sekret host=h", "a parameter is not known; in a password"),
            ("postgres://h/d?password=a&sekret", "a parameter is not known"),
            ("postgres://u:12?sekret@h/d", "a parameter is not known"),
            ("postgres://u:12/sekret@h/d", "an `@` stands behind the host"),
            ("postgres://u:sekret@h/d?sslcrl=a", "the parameter `sslcrl` is not supported"),
            ("postgres://u:sekret@h:port/d", "expected postgres://"),
            ("postgres://u:sekret@[::1/d", "expected postgres://"),
            ("mysql://u:sekret@h/d", "does not begin with postgres://"),
            ("postgres://u:sekret@h/d?sslrootcert=%2", "broken percent escape"),
            ("u sekret", "expected postgres://"),
        ];
        for (text, part) in cases {
            let said = shown(text);
            assert!(said.contains(part) && !said.contains("sekret"), "{text}: {said}");
        }
    }
}
