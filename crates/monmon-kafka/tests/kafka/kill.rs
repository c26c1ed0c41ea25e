//! A reader that is killed, and how much its heir reads again.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use crate::harness::{
    RunningSource, brokers, committed, deliver, encoded, measurement, publish, seq, topic, until, values,
};

/// Tells the reader what to read.
const OPTIONS: &str = "MONMON_TEST_READER_OPTIONS";

/// How many commits must be seen before the kill.
const COMMITS: usize = 5;

/// What was acked when a commit was seen is in the commit that is seen so many later: one may have been under way.
const BEHIND: usize = 2;

/// Not a test but the reader that the test below starts and kills: it acks whatever comes, and says so before.
#[tokio::test(flavor = "multi_thread")]
async fn the_reader() {
    #[expect(clippy::disallowed_methods, reason = "what the test says to the process that it starts")]
    let Ok(options) = std::env::var(OPTIONS) else { return };
    let mut source = RunningSource::start(&options).await;
    let mut acked = 0;
    while let Some(batch) = source.recv().await {
        acked += batch.len();
        writeln!(std::io::stdout(), "\nacked {acked}").expect("the test listens");
        batch.into_iter().for_each(|envelope| envelope.ack.deliver());
    }
}

struct Reader {
    child: Child,
    acked: Arc<AtomicU64>,
    listener: std::thread::JoinHandle<()>,
}

impl Reader {
    fn start(options: &str) -> Reader {
        let mut child = Command::new(std::env::current_exe().expect("this program's path"))
            .args(["kill::the_reader", "--exact", "--nocapture"])
            .env(OPTIONS, options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the reader starts");
        let acked = Arc::new(AtomicU64::new(0));
        let (lines, heard) = (BufReader::new(child.stdout.take().expect("piped")), acked.clone());
        let listener = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(count) = line.strip_prefix("acked ").and_then(|count| count.parse().ok()) {
                    heard.store(count, Ordering::Relaxed);
                }
            }
        });
        Reader { child, acked, listener }
    }

    fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success(), "{name} can't be sent");
    }

    /// Gives the last word on what was acked.
    fn kill(mut self) -> u64 {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        self.listener.join().expect("no panic");
        self.acked.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_came_since_the_last_commits_is_read_again() {
    let (topic, group) = (topic(1, &[]).await, format!("group.{}", Uuid::new_v4()));
    let options =
        format!("brokers \"{}\"\ntopic \"{topic}\"\ngroup \"{group}\"\nsession-timeout \"6s\"", brokers());
    let reader = Reader::start(&options);
    let mut published = 0;
    // Each commit that is seen, and what was acked by then.
    let mut seen: Vec<(u64, u64)> = Vec::new();
    while seen.len() < COMMITS {
        let values: Vec<_> =
            (published..published + 50).map(|number| encoded(&measurement(number))).collect();
        publish(&topic, 0, &values).await;
        published += 50;
        let at = committed(&group, &topic, 1)[0].map_or(0, |at| u64::try_from(at).expect("an offset"));
        if at > seen.last().map_or(0, |(last, _)| *last) {
            seen.push((at, reader.acked()));
        }
    }
    let acked = reader.kill();
    let last = u64::try_from(committed(&group, &topic, 1)[0].expect("committed")).expect("an offset");
    assert!(last <= acked, "{last} is committed, and only {acked} are acked");
    for window in seen.windows(BEHIND + 1) {
        let ((_, acked), (committed, _)) = (window[0], window[BEHIND]);
        assert!(acked <= committed, "{acked} were acked long before {committed} were committed: {seen:?}");
    }
    // So fewer are read again than were acked since the last commits but two.
    assert!(acked - last <= acked - seen[COMMITS - 1 - BEHIND].1);

    let mut heir = RunningSource::start(&options).await;
    let rest = heir.take((published - last) as usize).await;
    assert_eq!(rest.iter().map(seq).collect::<Vec<_>>(), (last + 1..=published).collect::<Vec<_>>());
    rest.into_iter().for_each(|envelope| envelope.ack.deliver());
    heir.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(published as i64)]);
}

/// It stands still for longer than its session, with acks that it has not committed, and comes back when its heir is
/// further on: what it would commit is refused.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_back_from_the_dead_commits_nothing_of_before() {
    let (topic, group) = (topic(1, &[]).await, format!("group.{}", Uuid::new_v4()));
    let options =
        format!("brokers \"{}\"\ntopic \"{topic}\"\ngroup \"{group}\"\nsession-timeout \"6s\"", brokers());
    let zombie = Reader::start(&options);
    publish(&topic, 0, &values(0..50)).await;
    until("the first commit", || committed(&group, &topic, 1) == [Some(50)]).await;
    publish(&topic, 0, &values(50..100)).await;
    until("all is acked", || zombie.acked() == 100).await;
    zombie.signal("STOP");
    publish(&topic, 0, &values(100..150)).await;
    let mut heir = RunningSource::start(&options).await;
    // It gets the partition when the session of the other has ended.
    let mut read = 0;
    while read < 150 {
        let batch = heir.recv().await.expect("the heir reads");
        read = batch.iter().map(seq).max().unwrap_or(read);
        deliver(batch);
    }
    until("the heir's commit", || committed(&group, &topic, 1) == [Some(150)]).await;
    zombie.signal("CONT");
    let mut published = 150;
    let mut last = 150;
    // One of the two has the partition; whoever it is, the group's place never goes back.
    while last < 1_000 {
        if last == published as i64 {
            publish(&topic, 0, &values(published..published + 50)).await;
            published += 50;
        }
        let at = committed(&group, &topic, 1)[0].expect("committed");
        assert!(at >= last, "the place went back from {last} to {at}");
        last = at;
        if let Ok(Some(batch)) =
            tokio::time::timeout(std::time::Duration::from_millis(10), heir.input.recv()).await
        {
            deliver(batch);
        }
    }
    zombie.kill();
    heir.stop().await.expect("a good end");
}
