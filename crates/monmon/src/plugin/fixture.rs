//! Responses on file, and what a plugin is expected to say of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue};
use monmon_model::Timings;
use monmon_wasm::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Trouble;

/// A file of `tests/`: `NAME.json`, with the response in `NAME.http` beside it.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) case: Case,
    pub(crate) page: FilePage,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    #[serde(default = "example_url")]
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) truncated: bool,
    #[serde(default)]
    pub(crate) phases: Phases,
    #[serde(default)]
    pub(crate) expect: Option<Expect>,
    /// The configuration is refused, in words that contain these.
    #[serde(default)]
    pub(crate) refused: Option<String>,
}

/// In microseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Phases {
    dns_us: Option<u64>,
    connect_us: Option<u64>,
    tls_us: Option<u64>,
    wait_us: Option<u64>,
    transfer_us: Option<u64>,
    #[serde(default)]
    total_us: u64,
}

/// What is given is held against the verdict; what is not given is not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) matched: Option<bool>,
    /// Words that the message contains.
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) values: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) metrics: BTreeMap<String, ExpectedMetric>,
    /// The plugin cannot decide, in words that contain these.
    pub(crate) error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedMetric {
    pub(crate) value: f64,
    #[serde(default)]
    pub(crate) unit: String,
}

fn example_url() -> String {
    "https://example.org/".to_owned()
}

/// A response as it stands in a file.
#[derive(Debug, Default)]
pub(crate) struct FilePage {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Fixture {
    /// All fixtures of a project, by name.
    pub(crate) fn of(folder: &Path) -> Result<Vec<Fixture>, Trouble> {
        let tests = folder.join("tests");
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&tests).map_err(Trouble::file(&tests))? {
            let path = entry.map_err(Trouble::file(&tests))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
        files.sort();
        files.iter().map(|file| Fixture::read(file)).collect()
    }

    fn read(file: &Path) -> Result<Fixture, Trouble> {
        let text = fs::read(file).map_err(Trouble::file(file))?;
        let case: Case = serde_json::from_slice(&text)
            .map_err(|error| Trouble::new(format!("{}: {error}", file.display())))?;
        if case.expect.is_some() == case.refused.is_some() {
            let message = format!("{}: one of `expect` and `refused` is expected", file.display());
            return Err(Trouble::new(message));
        }
        let page = match case.refused {
            Some(_) => FilePage::default(),
            None => {
                let path = file.with_extension("http");
                let bytes = fs::read(&path).map_err(Trouble::file(&path))?;
                FilePage::read(&bytes).map_err(|why| Trouble::new(format!("{}: {why}", path.display())))?
            }
        };
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Fixture { name, case, page })
    }

    /// Shows the response to `look`.
    pub(crate) fn show<T>(&self, look: impl FnOnce(&Response<'_>) -> T) -> T {
        let Phases { dns_us, connect_us, tls_us, wait_us, transfer_us, total_us } = self.case.phases;
        let phases = Timings { dns_us, connect_us, tls_us, wait_us, transfer_us, total_us };
        look(&Response {
            url: &self.case.url,
            status: self.page.status,
            headers: Some(&self.page.headers),
            body: &self.page.body,
            body_truncated: self.case.truncated,
            phases: &phases,
        })
    }
}

impl FilePage {
    /// As HTTP/1.1 has it; lines may end in LF alone, since editors write them so.
    fn read(bytes: &[u8]) -> Result<FilePage, String> {
        let mut rest = bytes;
        let first = line(&mut rest).ok_or("it is empty")?;
        let status = first.strip_prefix("HTTP/").and_then(|first| first.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let status =
            status.ok_or_else(|| format!("`{first}` is no status line such as `HTTP/1.1 200 OK`"))?;
        let mut headers = HeaderMap::new();
        while let Some(header) = line(&mut rest).filter(|header| !header.is_empty()) {
            let bad = || format!("`{header}` is no header");
            let (name, value) = header.split_once(':').ok_or_else(bad)?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| bad())?;
            headers.append(name, value);
        }
        Ok(FilePage { status, headers, body: rest.to_vec() })
    }
}

fn line(rest: &mut &[u8]) -> Option<String> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let line = String::from_utf8_lossy(&rest[..end]).trim_end_matches('\r').to_owned();
    *rest = rest.get(end + 1..).unwrap_or_default();
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_as_it_was_sent() {
        for text in
            ["HTTP/1.1 404 Not Found\r\nA: 1\r\na:2\r\n\r\nbody\n", "HTTP/1.1 404\nA: 1\na:2\n\nbody\n"]
        {
            let page = FilePage::read(text.as_bytes()).expect("a response");
            assert_eq!((page.status, &page.body[..]), (404, &b"body\n"[..]));
            let values: Vec<&HeaderValue> = page.headers.get_all("a").iter().collect();
            assert_eq!(values, ["1", "2"]);
        }
        for text in ["", "hello", "HTTP/1.1 abc", "HTTP/1.1 200\nno header\n"] {
            assert!(FilePage::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
