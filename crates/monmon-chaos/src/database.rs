//! The oracle of rows: asked directly, past every proxy, as the superuser.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use uuid::Uuid;

use crate::services::eventually;

/// How many ids one question asks for.
const IDS_AT_ONCE: usize = 5_000;

pub(crate) struct Database {
    runtime: Runtime,
    port: u16,
    pub(crate) name: String,
    /// Tables with measurements: the one, and those that a fault has put aside.
    pub(crate) tables: Vec<String>,
}

pub(crate) type Rows = Vec<Vec<Option<String>>>;

impl Database {
    pub(crate) fn new(port: u16, name: &str) -> Result<Database> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Database { runtime, port, name: name.to_owned(), tables: vec!["monmon_measurement".to_owned()] })
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres:secret@127.0.0.1:{}/{database}?connect_timeout=5", self.port)
    }

    /// Runs statements on the server's own database.
    pub(crate) fn server(&self, sql: &str) -> Result<Rows> {
        self.ask("postgres", sql)
    }

    pub(crate) fn query(&self, sql: &str) -> Result<Rows> {
        self.ask(&self.name, sql)
    }

    fn ask(&self, database: &str, sql: &str) -> Result<Rows> {
        let work = async {
            let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(connection);
            client.simple_query(sql).await
        };
        let messages = self.runtime.block_on(work).with_context(|| format!("asking: {sql}"))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    pub(crate) fn count(&self, sql: &str) -> Result<u64> {
        let rows = self.query(sql)?;
        let text = rows.first().and_then(|row| row.first()).cloned().flatten().unwrap_or_default();
        text.parse().with_context(|| format!("{sql} gave {text:?}"))
    }

    /// Of these ids, those that are stored.
    pub(crate) fn stored_of(&self, ids: &[Uuid]) -> Result<BTreeSet<Uuid>> {
        let mut found = BTreeSet::new();
        for part in ids.chunks(IDS_AT_ONCE) {
            for table in &self.tables {
                let list: Vec<String> = part.iter().map(|id| format!("'{id}'")).collect();
                let sql = format!("SELECT id FROM {table} WHERE id IN ({})", list.join(","));
                found.extend(ids_of(self.query(&sql)?));
            }
        }
        Ok(found)
    }

    pub(crate) fn all_ids(&self) -> Result<Vec<Uuid>> {
        let mut all = Vec::new();
        for table in &self.tables {
            all.extend(ids_of(self.query(&format!("SELECT id FROM {table}"))?));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// A server that recovers from the fault before this one is waited for.
    pub(crate) fn is_up(&self) -> Result<()> {
        eventually("database that answers", || Ok(self.server("SELECT 1").is_ok()))
    }

    /// A session that stays open, to hold locks with; released when dropped.
    pub(crate) fn session(&self) -> Result<Session<'_>> {
        self.is_up()?;
        let opened = self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url(&self.name), NoTls).await?;
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(connection);
            Ok::<_, tokio_postgres::Error>((client, tasks))
        });
        let (client, tasks) = opened.context("opening a session")?;
        Ok(Session { database: self, client, _tasks: tasks })
    }
}

fn ids_of(rows: Rows) -> impl Iterator<Item = Uuid> {
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()?.parse().ok())
}

pub(crate) struct Session<'a> {
    database: &'a Database,
    client: tokio_postgres::Client,
    _tasks: tokio::task::JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Session<'_> {
    pub(crate) fn run(&self, sql: &str) -> Result<()> {
        let done = self.database.runtime.block_on(self.client.batch_execute(sql));
        done.with_context(|| format!("running: {sql}"))
    }
}
