//! What the server says when it says no, sorted by what can be done about it.

use tokio_postgres::error::{DbError, SqlState};

use monmon_model::BadRow;
use monmon_stage::StageError;
use uuid::Uuid;

/// Why the store could not be used. No variant holds a password.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the PostgreSQL URL cannot be used: {0}")]
    BadUrl(String),
    /// Files that cannot be used, or a server whose certificate is not trusted.
    #[error("TLS for PostgreSQL cannot be set up: {0}")]
    Tls(String),
    /// No connection, or it was lost, or the server is not ready: worth another try.
    #[error("{place}: {message}")]
    Unreachable { place: String, message: String },
    #[error("{place} refused the login: {message}")]
    Credentials { place: String, message: String },
    #[error("the role has not the rights it needs: {0}")]
    Rights(String),
    /// Tables or columns that are not there.
    #[error("the schema of monmon is not there, or is older than this version needs: {0}")]
    Schema(String),
    /// The database holds characters of one alphabet only.
    #[error("{place}: the encoding of the database is {encoding}, and monmon needs UTF8")]
    Encoding { place: String, encoding: String },
    /// The server refused a value. Only one row is at fault.
    #[error("the store refused a row: {0}")]
    Row(String),
    /// A value that no measurement has, which a newer version may know.
    #[error("row {id} of the store cannot be read: {bad}")]
    Unreadable { id: Uuid, bad: BadRow },
    /// No check of the name that was asked for.
    #[error("{place} knows no check `{name}`")]
    NoCheck { place: String, name: String },
    /// The partition for a row is not there (any more).
    #[error("no partition for a row: {0}")]
    Partition(String),
    #[error("the server refused: {0}")]
    Refused(String),
}

impl StoreError {
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unreachable { .. })
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            StoreError::Schema(_) => Some(
                "run `monmon db migrate --store URL` with the same URL, or give the sink `migrate=#true`",
            ),
            StoreError::Encoding { .. } => Some(
                "what sites say is in any alphabet: make a database with `CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0`",
            ),
            StoreError::Tls(_) => Some(
                "name the authority that signed the server's certificate: `tls ca=\"ca.pem\"`, or sslrootcert in the URL",
            ),
            StoreError::Unreadable { .. } => {
                Some("a newer monmon may have stored it: read the store with that one")
            }
            StoreError::NoCheck { .. } => Some("`monmon status` lists them as pipeline/source/name"),
            StoreError::Credentials { .. } => Some("check user, password, database and certificate"),
            StoreError::Rights(_) => Some(
                "the role must own monmon's tables, or be a member of the role that does: it makes partitions",
            ),
            _ => None,
        }
    }

    /// Sorts an error of the driver. `place` is the server as users may see it.
    pub(crate) fn sort(error: &tokio_postgres::Error, place: &str) -> StoreError {
        match error.as_db_error() {
            Some(refusal) => sort_refusal(refusal, place),
            // A value that the driver cannot encode is a row's fault, not the connection's.
            None if is_encoding(error) => StoreError::Row(chain(error)),
            // The server is there and is not who it should be, or we are not.
            None if is_distrust(error) => StoreError::Tls(format!("{place}: {}", chain(error))),
            None => StoreError::Unreachable { place: place.to_owned(), message: chain(error) },
        }
    }
}

impl From<StoreError> for StageError {
    fn from(error: StoreError) -> StageError {
        let text = error.to_string();
        let help = error.help();
        let stage = match error.is_transient() {
            true => StageError::transient(text),
            false => StageError::permanent(text),
        };
        match help {
            Some(help) => stage.help(help),
            None => stage,
        }
    }
}

fn sort_refusal(refusal: &DbError, place: &str) -> StoreError {
    // The message alone: `detail` may hold the row's values.
    let text = format!("{} (SQLSTATE {})", refusal.message(), refusal.code().code());
    let code = refusal.code();
    if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        return StoreError::Rights(text);
    }
    // By the function of the server that says so: the message is in the language that the server is set to.
    if *code == SqlState::CHECK_VIOLATION && refusal.routine() == Some("ExecFindPartition") {
        return StoreError::Partition(text);
    }
    if [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::DATATYPE_MISMATCH,
        SqlState::INVALID_SCHEMA_NAME,
    ]
    .contains(code)
    {
        return StoreError::Schema(text);
    }
    match &code.code()[..2] {
        "22" | "23" | "54" => StoreError::Row(text),
        "28" | "3D" => StoreError::Credentials { place: place.to_owned(), message: text },
        // Syntax, features and what else the program itself would have to be changed for.
        "0A" | "21" | "42" | "2F" | "38" | "39" | "HV" => StoreError::Refused(text),
        // Connections (08), transactions (25: read-only, idle too long; 40: deadlock), resources (53), locks (55),
        // operators (57), the disk (58), internal errors (XX), and all that is not known: it may pass.
        _ => StoreError::Unreachable { place: place.to_owned(), message: text },
    }
}

fn is_encoding(error: &tokio_postgres::Error) -> bool {
    error.to_string().starts_with("error serializing")
}

fn is_distrust(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        // An io::Error hides what it carries from `source`.
        let carried = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = carried.and_then(|carried| carried.downcast_ref::<rustls::Error>()) {
            return matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        cause = inner.source();
    }
    false
}

/// An error and its causes, each once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A message of the protocol.
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    /// How the refusal of a server is sorted that says this.
    async fn sorted(fields: &[(u8, &str)]) -> StoreError {
        let (near, mut far) = tokio::io::duplex(4_096);
        let mut config = tokio_postgres::Config::new();
        config.user("app");
        let fields = fields.iter().flat_map(|(kind, text)| [&[*kind], text.as_bytes(), b"\0"].concat());
        let refusal = message(b'E', &fields.chain([0]).collect::<Vec<u8>>());
        let ready = message(b'Z', b"I");
        let server = async move {
            let mut asked = [0; 4_096];
            for answer in [message(b'R', &[0; 4]), refusal] {
                assert_ne!(far.read(&mut asked).await.expect("a message"), 0);
                far.write_all(&[answer, ready.clone()].concat()).await.expect("written");
            }
            far
        };
        let asking = async move {
            let (client, connection) =
                config.connect_raw(near, tokio_postgres::NoTls).await.expect("connected");
            tokio::select! {
                answer = client.batch_execute("INSERT") => answer.expect_err("refused"),
                ended = connection => panic!("{ended:?}"),
            }
        };
        let (_far, error) = tokio::join!(server, asking);
        StoreError::sort(&error, "here")
    }

    #[tokio::test]
    async fn a_missing_partition_is_known_in_any_language() {
        let said = "keine Partition von Relation \u{bb}monmon_measurement\u{ab} f\u{fc}r die Zeile gefunden";
        let fields = [(b'S', "FEHLER"), (b'C', "23514"), (b'M', said), (b'R', "ExecFindPartition")];
        assert!(matches!(sorted(&fields).await, StoreError::Partition(text) if text.contains(said)));
        // Whoever may define a constraint may choose its words.
        let fields = [
            (b'S', "ERROR"),
            (b'C', "23514"),
            (b'M', "no partition"),
            (b'R', "ExecConstraints"),
            (b'n', "c"),
        ];
        assert!(matches!(sorted(&fields).await, StoreError::Row(_)));
    }
}
