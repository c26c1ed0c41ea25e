//! `monmon db migrate`, and how commands wait for a store.

use std::pin::pin;
use std::time::Duration;

use monmon_postgres::Target;

use crate::cli::StoreArgs;
use crate::run::with_causes;
use crate::store::{self, Store};
use crate::{Exit, logs};

pub(crate) async fn migrate(args: &StoreArgs) -> Exit {
    let store = match store::parse(&args.store) {
        Ok(store) => store,
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            return Exit::Failed;
        }
    };
    let applied = match store {
        Store::Postgres(target) => match patiently(&target, monmon_postgres::migrate(&target)).await {
            Ok(applied) => Ok(applied.into_iter().map(|file| file.name.to_string()).collect::<Vec<_>>()),
            Err(error) => Err((with_causes(&error), error.help().map(str::to_owned))),
        },
        Store::Sqlite(path) => match monmon_sqlite::migrate(&path) {
            Ok(applied) => Ok(applied),
            Err(error) => Err((with_causes(&error), error.help().map(str::to_owned))),
        },
    };
    match applied {
        Ok(applied) if applied.is_empty() => logs::say("the tables are up to date"),
        Ok(applied) => applied.iter().for_each(|name| logs::say(&format!("applied {name}"))),
        Err((message, help)) => {
            logs::say(&format!("monmon: {message}"));
            if let Some(help) = help {
                logs::say(&format!("  help: {help}"));
            }
            return Exit::Failed;
        }
    }
    Exit::Good
}

/// What `monmon db maintain` does at its end, alone.
pub(crate) async fn pack(args: &StoreArgs) -> Exit {
    let target = match store::parse(&args.store) {
        Ok(Store::Postgres(target)) => target,
        Ok(Store::Sqlite(_)) => {
            logs::say("a SQLite file has no days to pack");
            return Exit::Good;
        }
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            return Exit::Failed;
        }
    };
    match patiently(&target, monmon_postgres::pack(&target, None, None)).await {
        Ok(packed) => {
            packed.indexes.iter().for_each(|index| logs::say(&format!("packed {index}")));
            logs::say(&format!("{} indexes packed", packed.indexes.len()));
            if packed.busy {
                logs::say("another is maintaining this store");
            }
            packed.left.iter().for_each(|(index, why)| logs::say(&format!("did not pack {index}: {why}")));
            if packed.left.is_empty() { Exit::Good } else { Exit::Bad }
        }
        Err(error) => {
            logs::say(&format!("monmon: {}", with_causes(&error)));
            if let Some(help) = error.help() {
                logs::say(&format!("  help: {help}"));
            }
            Exit::Failed
        }
    }
}

/// How long a server may take before a command says that it waits.
const QUIET: Duration = Duration::from_secs(2);

/// Waits, and does not leave whoever stands before a silent terminal to guess what for.
pub(crate) async fn patiently<T>(target: &Target, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(QUIET) => logs::say(&format!("waiting for the answer of {target}")),
    }
    work.await
}
