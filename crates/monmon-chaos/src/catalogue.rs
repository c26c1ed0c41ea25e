//! The rows of the matrix of faults, as data: how each is brought about, what must hold, and what plays it.

use crate::plays::{
    Live, Own, access, broker, cluster, consumer, disk, failover, poison, postgres, producer, spool, stopped,
    uplink, web,
};

/// How a row runs.
pub(crate) enum Play {
    /// On the road that rows share, and at random in the chaos.
    Live(Live),
    /// On a road of its own.
    Own(Own),
    /// Held by tests of another crate, by name: what they do needs a broker that can be told what to answer.
    Elsewhere(&'static str),
    /// Not run, and why.
    Absent(&'static str),
}

pub(crate) struct Row {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
    pub(crate) means: &'static str,
    pub(crate) holds: &'static str,
    pub(crate) play: Play,
    /// Among those of the bounded run.
    pub(crate) is_quick: bool,
}

impl Row {
    /// As a line of the documentation's table.
    pub(crate) fn as_line(&self) -> String {
        let Row { number, name, means, holds, .. } = self;
        let plays = match self.play {
            Play::Live(_) => "shared road, and at random",
            Play::Own(_) => "own road",
            Elsewhere(name) => name,
            Absent(why) => why,
        };
        format!("| {number} | {name} | {means} | {holds} | {plays} |")
    }
}

const fn row(number: u8, name: &'static str, means: &'static str, holds: &'static str, play: Play) -> Row {
    Row { number, name, means, holds, play, is_quick: false }
}

const fn quick(number: u8, name: &'static str, means: &'static str, holds: &'static str, play: Play) -> Row {
    Row { number, name, means, holds, play, is_quick: true }
}

use Play::{Absent, Elsewhere, Live as L, Own as O};

pub(crate) static ROWS: &[Row] = &[
    row(
        1,
        "producer killed at its Nth call",
        "strace SIGKILL",
        "nothing published is lost",
        O(producer::killed_at_calls),
    ),
    row(
        1,
        "producer killed with a spool",
        "kill -9, Kafka away",
        "what is spooled goes out first, in order",
        O(spool::killed),
    ),
    quick(2, "producer killed", "kill -9", "nothing published is lost; slots are told", L(producer::killed)),
    row(
        2,
        "killed with checks in flight",
        "kill -9, slow site",
        "no slot silent but at the kill",
        O(producer::killed_in_flight),
    ),
    quick(3, "producer stopped", "SIGSTOP 2-6 s", "overslept, no burst, no slot twice", L(producer::stopped)),
    row(
        3,
        "stopped beyond timeouts",
        "SIGSTOP > timeout",
        "our sleep is not the site's fault",
        O(producer::overslept_timeouts),
    ),
    row(
        3,
        "producer stopped for long",
        "SIGSTOP 30 s",
        "overslept, not down, no burst",
        O(stopped::producer),
    ),
    quick(4, "producer ends and returns", "SIGTERM", "exit 0, nothing lost", L(producer::terminated)),
    row(
        4,
        "producer ends and returns, to the last request",
        "SIGTERM",
        "the site's log is the topic",
        O(crate::sabotage::ended_in_order),
    ),
    row(
        4,
        "second TERM in the flush",
        "SIGTERM twice",
        "exit 130, what was published is stored",
        O(producer::terminated_twice),
    ),
    quick(
        5,
        "Kafka refuses",
        "proxy: refuse, reset",
        "checks go on, all arrives",
        L(producer::kafka_refuses),
    ),
    row(
        5,
        "Kafka away at the start",
        "proxy: refuse",
        "checks go on, all arrives",
        O(producer::kafka_away_at_start),
    ),
    row(6, "Kafka half-open", "proxy: blackhole", "checks go on, all arrives", L(producer::kafka_silent)),
    row(6, "Kafka slow", "proxy: throttle", "checks go on, all arrives", L(producer::kafka_slow)),
    row(6, "Kafka late", "proxy: delay", "all arrives", L(producer::kafka_late)),
    quick(
        7,
        "answer lost after append",
        "proxy: cut to client",
        "one row for each id",
        L(producer::answers_lost),
    ),
    row(7, "request cut", "proxy: cut to server", "one row for each id", L(producer::requests_cut)),
    row(
        8,
        "messages time out locally",
        "delivery-timeout 2s, full queue",
        "kept and sent anew",
        O(producer::messages_time_out),
    ),
    row(
        9,
        "refusals of the broker",
        "librdkafka's mock",
        "sent anew, client renewed",
        Elsewhere("monmon-kafka: tests/kafka/mock.rs"),
    ),
    row(10, "message too large", "max.message.bytes", "dead letter, the rest goes on", O(broker::too_large)),
    row(
        11,
        "topic deleted and made anew",
        "admin client",
        "waits, heals without a restart",
        O(broker::topic_made_anew),
    ),
    row(
        11,
        "Kafka's password changed",
        "SCRAM, login anew each 3 s",
        "waits, heals without a restart",
        O(access::kafka_password),
    ),
    row(11, "Kafka's rights revoked", "ACL", "waits, heals without a restart", O(access::kafka_rights)),
    row(
        11,
        "client certificate expired",
        "25 s of life, broker restarted",
        "waits, heals without a restart",
        O(access::kafka_certificate),
    ),
    row(
        12,
        "no room for the spool",
        "tmpfs full",
        "what is there stays, slots are told",
        O(spool::disk_full),
    ),
    row(12, "syncs of the spool fail", "strace EIO", "written again, nothing lost", O(spool::syncs_fail)),
    row(
        13,
        "spool damaged",
        "bits flipped, cut, torn",
        "put aside, what is lost is counted",
        O(spool::damaged),
    ),
    row(
        13,
        "spool deleted while open, read-only",
        "rm, remount",
        "nothing lost; refused with help",
        O(spool::deleted),
    ),
    row(
        14,
        "spool opened twice",
        "a second process",
        "refused, and told by whom it is held",
        O(spool::second_process),
    ),
    row(15, "clock jumps", "libfaketime", "no slot twice, durations unchanged", O(producer::clock_jumps)),
    row(
        16,
        "names can't be resolved",
        "name server falls silent",
        "unknown(prober_...), not down",
        O(uplink::names_gone),
    ),
    row(
        17,
        "own uplink cut",
        "sites and reference gone",
        "unknown(prober_offline), not down",
        O(uplink::cut),
    ),
    row(
        18,
        "no descriptors",
        "prlimit nofile=64",
        "unknown(fd_exhausted), all arrives",
        O(producer::no_descriptors),
    ),
    row(
        19,
        "little memory, large bodies",
        "cgroup, 160 MiB",
        "not killed, all arrives",
        O(uplink::little_memory),
    ),
    row(20, "no processor", "cgroup, 3 %", "late slots are not down", O(producer::no_processor)),
    quick(21, "broker killed", "kill -9", "all arrives, lag 0", L(broker::killed)),
    row(21, "broker restarted", "SIGTERM", "all arrives, lag 0", L(broker::restarted)),
    row(21, "broker stopped", "SIGSTOP 2-9 s", "all arrives, lag 0", L(broker::paused)),
    row(21, "broker stopped for long", "SIGSTOP 30 s", "all arrives, lag 0", O(stopped::broker)),
    row(
        22,
        "three brokers",
        "leaders killed, all rolled, two stopped",
        "nothing acknowledged is lost",
        O(cluster::leaders),
    ),
    row(23, "a weak promise", "one replica", "told at the start", O(cluster::weak_promise)),
    row(
        24,
        "retention takes unread messages",
        "DeleteRecords",
        "the gap is told, the rest stored",
        O(broker::unread_deleted),
    ),
    quick(25, "consumer killed", "kill -9", "read again, no second row", L(consumer::killed)),
    quick(
        25,
        "killed before the store",
        "database stopped, kill -9",
        "committed only what is stored",
        L(consumer::killed_before_store),
    ),
    row(
        25,
        "killed at its Nth call",
        "strace SIGKILL",
        "read again, no second row",
        O(consumer::killed_at_calls),
    ),
    row(26, "zombie", "SIGSTOP beyond the session", "the heir goes on, no second row", L(consumer::zombie)),
    row(26, "all zombies", "SIGSTOP of both", "nothing lost or doubled", L(consumer::all_zombies)),
    row(
        26,
        "consumer stopped for long",
        "SIGSTOP 30 s",
        "the heir goes on, no second row",
        O(stopped::consumer),
    ),
    row(27, "one leaves and returns", "SIGTERM", "nothing lost or doubled", L(consumer::leaves)),
    row(
        27,
        "joins and leaves, cooperative",
        "TERM, kill each second",
        "nothing lost or doubled",
        O(consumer::cooperative),
    ),
    row(
        27,
        "joins and leaves, eager",
        "TERM, kill each second",
        "nothing lost or doubled",
        O(consumer::eager),
    ),
    row(
        28,
        "poll interval passed",
        "database stopped, 6 s allowed",
        "nothing lost or doubled",
        O(consumer::poll_interval),
    ),
    row(
        29,
        "commits fail",
        "librdkafka's mock",
        "read again",
        Elsewhere("monmon-kafka: tests/kafka/coordinator.rs"),
    ),
    row(
        30,
        "offset out of range",
        "commit beyond the end",
        "earliest, never latest",
        O(broker::offset_out_of_range),
    ),
    row(
        31,
        "poison of every kind",
        "14 kinds",
        "each alone in the dead letters, its reason",
        O(poison::kinds),
    ),
    row(31, "poison among the rest", "random kinds", "each in the dead letters", L(poison::live)),
    row(32, "dead letters refused", "LOCK TABLE", "waits, loses none", L(poison::letters_refused)),
    row(33, "one poison in ten", "26/s beside 240/s", "all good rows, all letters", O(poison::one_in_ten)),
    quick(34, "database killed", "kill -9", "retried, nothing lost", L(postgres::killed)),
    row(34, "database crashed", "immediate stop", "retried, nothing lost", L(postgres::crashed)),
    row(34, "database restarted", "fast stop", "retried, nothing lost", L(postgres::restarted)),
    row(34, "backend killed", "kill -9 of one backend", "retried, nothing lost", L(postgres::backend_killed)),
    row(34, "database stopped", "SIGSTOP 1-6 s", "nothing lost", L(postgres::paused)),
    row(34, "database stopped for long", "SIGSTOP 30 s", "nothing lost", O(stopped::database)),
    row(35, "read-only", "default_transaction_read_only", "waits, no dead letter", L(postgres::read_only)),
    row(
        35,
        "too many connections",
        "CONNECTION LIMIT 0",
        "waits, no dead letter",
        L(postgres::too_many_connections),
    ),
    quick(
        35,
        "password revoked",
        "ALTER ROLE",
        "waits, heals without a restart",
        L(postgres::password_revoked),
    ),
    row(35, "login revoked", "NOLOGIN", "waits, heals without a restart", L(postgres::login_revoked)),
    quick(36, "table locked", "ACCESS EXCLUSIVE held", "whole batch again", L(postgres::table_locked)),
    row(36, "deadlock", "two locks in turn", "whole batch again", L(postgres::deadlock)),
    row(36, "cancelled, terminated", "pg_cancel, pg_terminate", "whole batch again", L(postgres::cancelled)),
    row(36, "serializable", "isolation of the role", "nothing lost", L(postgres::serializable)),
    row(
        37,
        "only people can mend it",
        "table, column, right gone",
        "exit 2 with help, offsets kept",
        O(postgres::needs_people),
    ),
    row(38, "partition gone", "DETACH", "made on demand", O(postgres::partition_gone)),
    row(39, "disk full under the tables", "tmpfs tablespace", "waits, nothing lost", O(disk::tables_full)),
    quick(40, "exchange cut", "proxy: cut after N bytes", "whole batch again", L(postgres::cut)),
    row(
        40,
        "database silent or slow",
        "proxy: blackhole, throttle, ...",
        "whole batch again",
        L(postgres::silent),
    ),
    row(
        42,
        "migration and maintenance under load",
        "several at once, one killed",
        "nothing lost or doubled",
        L(postgres::maintained),
    ),
    row(43, "SQLite sink", "kill -9, busy, tmpfs full", "nothing lost or doubled", O(disk::sqlite_sink)),
    row(
        44,
        "consumers' Kafka disturbed",
        "proxy: all modes",
        "nothing lost or doubled",
        L(consumer::kafka_disturbed),
    ),
    row(
        45,
        "builds with a mistake",
        "--sabotage all",
        "each is caught",
        Elsewhere("cargo xtask chaos --sabotage all"),
    ),
    row(
        41,
        "failover to a replica that lacks the tail",
        "standby promoted",
        "the audit finds it, reading again heals",
        O(failover::lacks_the_tail),
    ),
    row(46, "upgrade, old and new together", "", "", Absent("there is no older release to play it with")),
    row(
        47,
        "hostile clients of the metrics",
        "1,000 idle, slow, long, foreign",
        "refused; nothing is felt",
        O(web::hostile_clients),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The page's table is this one: `monmon-chaos --list`.
    #[test]
    fn the_documentation_has_every_row() {
        let page = include_str!("../../../docs/faults.md");
        for row in ROWS {
            let line = row.as_line();
            assert!(page.contains(&line), "docs/faults.md lacks this line:\n{line}");
        }
    }

    #[test]
    fn most_of_the_matrix_is_played() {
        let played = ROWS.iter().filter(|row| matches!(row.play, Play::Live(_) | Play::Own(_)));
        let numbers: std::collections::BTreeSet<u8> = played.map(|row| row.number).collect();
        assert!(numbers.len() >= 35, "{} rows: {numbers:?}", numbers.len());
    }
}
