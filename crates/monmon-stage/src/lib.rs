//! What a stage is: kinds, specs, envelopes, acks, and the context a stage runs in.
//!
//! A stage kind is one static [`StageKind`]: how it is written (its node in the catalogue), how it is decoded into a
//! [`StageSpec`], and, through that, how it is opened into a running [`Source`], [`Transform`] or [`Sink`].

mod ack;
mod backoff;
mod context;
mod counters;
mod edge;
mod emitter;
mod envelope;
mod error;
mod gather;
mod kind;
pub mod matching;
mod memory;
mod page;
mod replay;
mod retention;
mod sabotage;
mod slices;
mod state;
mod twins;

pub use ack::{Ack, AckTracker};
pub use backoff::Backoff;
pub use context::{Clock, Mode, ProberIdentity, StageContext, SystemClock, SystemWorld, WorldRef};
pub use counters::{Counts, Listed, StageCounters};
pub use edge::{EDGE_PLACES, EdgeGauge, Inlet, Outlet, Tap, inlet};
pub use emitter::{Closed, Emitter};
pub use envelope::{Batch, Envelope, Feed, Item, Measured, Place, Refused, Reported};
pub use error::StageError;
pub use gather::Gather;
pub use kind::{
    DecodeContext, FROM, OpenFuture, OpenStage, STAGE_NAME, Section, Sink, Source, StageKind, StageSpec,
    Transform,
};
pub use memory::Memory;
pub use page::{Page, PageBudget, PageHold};
pub use replay::{
    FROM_STORE, Page as StoredPage, Replay, ReplaySettings, StoreReader, decode_selection, parse_instant,
};
pub use retention::{Kept, LabelKept, Level, RETENTION, Retention};
pub use sabotage::is_sabotaged;
pub use slices::{Slice, Slices};
pub use state::{PartitionState, Partitions, StageState};
pub use twins::{StoredTwin, TwinLog, Twins};
