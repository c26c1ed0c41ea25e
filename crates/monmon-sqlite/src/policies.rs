//! What the sinks of one file keep for how long: of all that were seen lately the longest times count, so that none deletes
//! what another one's pipeline promises to keep.

use monmon_stage::Retention;
use rusqlite::{Connection, params};

use crate::rows::id_text;

/// A sink says what it keeps for how long, in place of what it said before.
pub(crate) fn register(
    connection: &Connection,
    pipeline: &str,
    stage: &str,
    retention: &Retention,
) -> rusqlite::Result<()> {
    const SQL: &str = "INSERT INTO monmon_retention_policy (id, pipeline, stage, policy, seen_at)
        VALUES (?1, ?2, ?3, ?4, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
        ON CONFLICT (id) DO UPDATE SET policy = excluded.policy, seen_at = excluded.seen_at";
    let id = id_text(monmon_model::retention_id(pipeline, stage));
    connection.execute(SQL, params![id, pipeline, stage, retention.policy().to_string()])?;
    Ok(())
}

/// Which sinks' times count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Of those that were seen in the last week.
    Lately,
    /// Also of those that were not.
    Ever,
}

/// Of this one and of all sinks that were seen.
pub(crate) fn longest(connection: &Connection, own: &Retention, seen: Seen) -> rusqlite::Result<Retention> {
    const LATELY: &str = "SELECT policy FROM monmon_retention_policy
        WHERE seen_at > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-7 days') ORDER BY id";
    const EVER: &str = "SELECT policy FROM monmon_retention_policy ORDER BY id";
    let mut all = vec![own.clone()];
    let mut statement = connection.prepare(match seen {
        Seen::Lately => LATELY,
        Seen::Ever => EVER,
    })?;
    let policies = statement.query_map([], |row| row.get::<_, String>(0))?;
    for policy in policies {
        // One that cannot be read is of a newer version, and may keep anything.
        let policy = serde_json::from_str(&policy?).ok();
        all.push(policy.and_then(|policy| Retention::of_policy(&policy)).unwrap_or_default());
    }
    Ok(Retention::longest(&all))
}
