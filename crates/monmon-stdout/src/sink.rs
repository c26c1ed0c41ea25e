//! The running sink: a batch is one write.

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use async_trait::async_trait;
use monmon_model::{Event, wire};
use monmon_stage::{Batch, Inlet, Item, Sink, StageCounters, StageError};

/// A buffer that has grown beyond this is given back after its batch.
const BUFFER_KEPT_MAX: usize = 1 << 20;

pub(crate) struct StdoutSink<W> {
    out: W,
    counters: Arc<StageCounters>,
}

impl<W: Write + Send + 'static> StdoutSink<W> {
    pub(crate) fn new(out: W, counters: Arc<StageCounters>) -> StdoutSink<W> {
        StdoutSink { out, counters }
    }
}

#[async_trait]
impl<W: Write + Send + 'static> Sink for StdoutSink<W> {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        // A reader may be slow or stopped: a thread that may wait does the writing, all of it, so that no line is ever
        // split between two.
        let StdoutSink { mut out, counters } = *self;
        let writing = tokio::task::spawn_blocking(move || {
            let mut lines = Vec::new();
            while let Some(batch) = input.blocking_recv() {
                counters.add_received(batch.len() as u64);
                write_batch(&mut out, &mut lines, batch, &counters)?;
            }
            Ok(())
        });
        match writing.await {
            Ok(result) => result,
            Err(error) => Err(StageError::permanent("the writing thread ended").caused_by(error)),
        }
    }
}

fn write_batch(
    out: &mut impl Write,
    lines: &mut Vec<u8>,
    batch: Batch,
    counters: &StageCounters,
) -> Result<(), StageError> {
    lines.clear();
    let mut rejected = 0;
    for envelope in &batch {
        match &envelope.item {
            Item::Measurement(measured) => wire::encode(&measured.measurement, lines),
            // What a source says of itself is for stores, which can hold it against their rows.
            Item::Event(reported) if matches!(*reported.event, Event::Receipt(_)) => continue,
            Item::Event(reported) => wire::encode_event(&reported.event, lines),
            Item::Rejected(one) => {
                rejected += 1;
                wire::encode_rejected(&one.rejected, lines);
            }
        }
        lines.push(b'\n');
    }
    let written = out.write_all(lines).and_then(|()| out.flush());
    lines.shrink_to(BUFFER_KEPT_MAX);
    let count = batch.len() as u64;
    match written {
        Ok(()) => {
            counters.add_rejected(rejected);
            counters.add_delivered(count);
            batch.into_iter().for_each(|envelope| envelope.ack.deliver());
            Ok(())
        }
        Err(error) => {
            counters.add_failed(count);
            batch.into_iter().for_each(|envelope| envelope.ack.fail());
            Err(explain(error))
        }
    }
}

fn explain(error: std::io::Error) -> StageError {
    match error.kind() {
        ErrorKind::BrokenPipe => StageError::permanent("nobody reads the standard output any more")
            .help("the program behind the pipe has ended")
            .caused_by(error),
        _ => StageError::permanent("the standard output takes no more lines").caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jiff::Timestamp;
    use monmon_model::{
        Check, Failure, FailureKind, Measurement, Origin, Phase, Prober, Rejected, RejectedReason, check_id,
        measurement_id,
    };
    use monmon_stage::{Ack, AckTracker, Emitter, Envelope, inlet};
    use uuid::Uuid;

    use super::*;

    #[derive(Default)]
    struct Book(Mutex<Vec<(u64, bool)>>);

    impl AckTracker for Book {
        fn resolved(&self, token: u64, delivered: bool) {
            self.0.lock().unwrap().push((token, delivered));
        }
    }

    /// Takes some bytes, then is a pipe without a reader.
    #[derive(Clone)]
    struct Pipe {
        written: Arc<Mutex<Vec<u8>>>,
        room: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut written = self.written.lock().unwrap();
            if written.len() + bytes.len() > self.room {
                return Err(ErrorKind::BrokenPipe.into());
            }
            written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn measurement() -> Measurement {
        let id = check_id("p", "s", "c");
        let check = Check {
            id,
            name: "c".into(),
            pipeline: "p".into(),
            source: "s".into(),
            method: "GET".into(),
            url: "http://127.0.0.1/".into(),
            schedule: None,
            interval_us: 1_000_000,
            timeout_us: 1,
            labels: Default::default(),
        };
        let prober =
            Prober { id: Uuid::from_u128(1), name: "p".into(), location: None, boot: Uuid::from_u128(2) };
        let at: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let failure = Failure::new(FailureKind::Overload, Phase::Start, "line\nbreak");
        let id = measurement_id(prober.id, id, at, 1);
        Measurement::not_made(id, 1, 1, check.into(), prober.into(), at, failure)
    }

    fn rejected() -> Rejected {
        let origin =
            Origin { pipeline: "p".into(), source: "s".into(), topic: None, partition: None, offset: None };
        Rejected::new(RejectedReason::NotJson, "no", origin, Timestamp::UNIX_EPOCH, None, b"\xff\n".to_vec())
    }

    async fn run(room: usize) -> (Result<(), StageError>, String, Vec<(u64, bool)>) {
        let pipe = Pipe { written: Arc::default(), room };
        let written = pipe.written.clone();
        let book = Arc::new(Book::default());
        let (outlet, input) = inlet(4, false);
        let emitter = Emitter::new(vec![outlet]);
        let first = Envelope::measurement(measurement(), None, Ack::new(book.clone(), 1));
        let second = Envelope::rejected(rejected(), None, Ack::new(book.clone(), 2));
        emitter.emit(vec![first, second]).await.unwrap();
        drop(emitter);
        let ended = Box::new(StdoutSink::new(pipe, Arc::default())).run(input).await;
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let acks = book.0.lock().unwrap().clone();
        (ended, text, acks)
    }

    #[tokio::test]
    async fn an_item_is_a_line_and_acked_once_written() {
        let (ended, text, acks) = run(usize::MAX).await;
        ended.unwrap();
        assert_eq!(acks, [(1, true), (2, true)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(wire::decode(lines[0].as_bytes()).unwrap(), measurement());
        assert!(lines[1].contains(r#""type":"rejected""#) && text.ends_with("}\n"), "{text}");
    }

    #[tokio::test]
    async fn a_pipe_without_a_reader_is_an_error_and_fails_the_acks() {
        let (ended, _, acks) = run(10).await;
        let error = ended.unwrap_err();
        assert!(!error.is_transient());
        assert_eq!(error.to_string(), "nobody reads the standard output any more");
        assert_eq!(acks, [(1, false), (2, false)]);
    }
}
