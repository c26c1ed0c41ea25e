//! The faults themselves, by what they strike. A play brings its fault about, proves that it happened, and heals it.

pub(crate) mod access;
pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod consumer;
pub(crate) mod disk;
pub(crate) mod failover;
pub(crate) mod poison;
pub(crate) mod postgres;
pub(crate) mod producer;
pub(crate) mod spool;
pub(crate) mod stopped;
pub(crate) mod uplink;
pub(crate) mod web;

use anyhow::Result;

use crate::{dice::Dice, road::Road, theatre::Theatre};

/// A fault on a road that is shared with others.
pub(crate) type Live = fn(&mut Road<'_>, &mut Dice) -> Result<()>;
/// A fault that needs a road of its own, which it opens and settles.
pub(crate) type Own = fn(&Theatre, &mut Dice) -> Result<()>;
