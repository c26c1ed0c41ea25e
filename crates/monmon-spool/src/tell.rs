//! What a spool logs: each state once when it begins and once when it is over, with counts.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use monmon_stage::{StageContext, StageError};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::desk::Turned;
use crate::error::{SpoolError, SpoolErrorKind};
use crate::renew::Renewal;
use crate::store::Totals;

/// What is dropped is told this often at most.
const DROPPED_EVERY: Duration = Duration::from_secs(60);

pub(crate) struct Teller {
    pipeline: Arc<str>,
    stage: Arc<str>,
    path: PathBuf,
    /// Since when there is something on the disk, and what was done meanwhile.
    spooling: Option<Episode>,
    dropped: u64,
    dropped_told_at: Option<Instant>,
    full: bool,
    trouble: Option<SpoolErrorKind>,
    /// The last thing that the sink ended with, until it delivers again.
    sink_trouble: Option<String>,
}

/// Rows that are no longer in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone {
    pub(crate) delivered: usize,
    pub(crate) set_aside: usize,
}

struct Episode {
    since: Instant,
    spooled: u64,
    replayed: u64,
}

impl Episode {
    fn new() -> Episode {
        Episode { since: Instant::now(), spooled: 0, replayed: 0 }
    }
}

impl Teller {
    pub(crate) fn new(context: &StageContext, path: &Path) -> Teller {
        Teller {
            pipeline: context.pipeline.clone(),
            stage: context.stage.clone(),
            path: path.to_owned(),
            spooling: None,
            dropped: 0,
            dropped_told_at: None,
            full: false,
            trouble: None,
            sink_trouble: None,
        }
    }

    pub(crate) fn opened(&mut self, totals: Totals, renewal: Option<&Renewal>) {
        if let Some(renewal) = renewal {
            self.renewed(renewal);
        }
        if totals.items > 0 {
            self.spooling = Some(Episode::new());
            info!(pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(), items = totals.items,
                "the spool has items from before; they go to the sink first");
        }
    }

    pub(crate) fn renewed(&self, renewal: &Renewal) {
        let Renewal { put_aside, kept, lost } = renewal;
        match put_aside {
            Some(file) => error!(
                pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(),
                put_aside = %file.display(), kept, lost,
                "the spool was damaged; what could be read of it goes on, and the damaged file is put aside"
            ),
            None => error!(
                pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(), kept, lost,
                "the spool was deleted while in use; what it had is in a new file"
            ),
        }
    }

    pub(crate) fn delivered(&mut self) {
        self.sink_trouble = None;
    }

    pub(crate) fn turned(&mut self, turned: Turned, totals: Totals, gone: Gone, now: Instant) {
        if let Some(episode) = &mut self.spooling {
            episode.replayed += gone.delivered as u64;
        }
        let set_aside = gone.set_aside;
        if turned.spooled > 0 {
            let (pipeline, stage, path) = (&self.pipeline, &self.stage, &self.path);
            let episode = self.spooling.get_or_insert_with(|| {
                warn!(%pipeline, %stage, spool = %path.display(), items = turned.spooled,
                    "the sink does not deliver in time; what comes goes to the spool");
                Episode::new()
            });
            episode.spooled += turned.spooled;
        }
        if set_aside > 0 {
            error!(pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(), items = set_aside,
                "the sink refuses these again and again; they are kept apart in the spool");
        }
        if totals.items == 0
            && let Some(Episode { since, spooled, replayed }) = self.spooling.take()
        {
            let seconds = (now - since).as_secs_f64();
            info!(pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(), spooled, replayed,
                seconds, "the spool has drained; items go straight to the sink again");
        }
        match (turned.full, std::mem::replace(&mut self.full, turned.full)) {
            (true, false) => warn!(
                pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(), items = totals.items,
                bytes = totals.bytes, "the spool is full; the source is held back"
            ),
            (false, true) if turned.spooled > 0 => info!(
                pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(),
                "the spool has room again"
            ),
            // Nothing was to be written, so nothing is known.
            (false, true) => self.full = true,
            _ => {}
        }
        self.dropped += turned.dropped;
        if self.dropped > 0 && self.dropped_told_at.is_none_or(|at| at + DROPPED_EVERY <= now) {
            self.tell_dropped();
            self.dropped_told_at = Some(now);
        }
    }

    fn tell_dropped(&mut self) {
        let items = std::mem::take(&mut self.dropped);
        if items > 0 {
            warn!(pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(), items,
                "the spool is full, and items were dropped; `monmon status --spool` tells whose");
        }
    }

    /// The disk does not do what it should.
    pub(crate) fn trouble(&mut self, error: &SpoolError) {
        if self.trouble.replace(error.kind()) != Some(error.kind()) {
            let cause = error.source().map(ToString::to_string);
            warn!(pipeline = %self.pipeline, stage = %self.stage, %error, cause, help = error.help(),
                "nothing can be spooled; trying again until it can");
        }
    }

    pub(crate) fn well(&mut self) {
        if self.trouble.take().is_some() {
            info!(pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(), "the spool works again");
        }
    }

    /// The sink could not go on.
    pub(crate) fn sink_ended(&mut self, error: &StageError) {
        let cause = error.source().map(ToString::to_string);
        let told = format!("{error} {cause:?}");
        if self.sink_trouble.replace(told.clone()) == Some(told) {
            return;
        }
        let (pipeline, stage, help) = (&self.pipeline, &self.stage, error.help_text());
        let text = "the sink could not go on; it is opened again, and what comes meanwhile is spooled";
        match error.is_transient() {
            true => warn!(%pipeline, %stage, %error, cause, help, "{text}"),
            false => error!(%pipeline, %stage, %error, cause, help, "{text}"),
        }
    }

    pub(crate) fn ended(&mut self, totals: Totals) {
        self.tell_dropped();
        if totals.items > 0 {
            info!(pipeline = %self.pipeline, stage = %self.stage, spool = %self.path.display(), items = totals.items,
                bytes = totals.bytes, "not delivered, and kept in the spool for the next run");
        }
    }
}
