//! What flows through the graph.

use std::sync::Arc;

use monmon_model::{Details, Event, Match, Measurement, Origin, Outcome, Rejected, RejectedReason};

use crate::edge::PLACE_BYTES;
use crate::{Ack, Page};

/// What travels along an edge at once.
pub type Batch = Vec<Envelope>;

/// One item, and the duty to say what became of it.
#[derive(Debug)]
pub struct Envelope {
    pub item: Item,
    pub ack: Ack,
}

#[derive(Clone, Debug)]
pub enum Item {
    Measurement(Measured),
    /// What a prober or a detector tells beside measurements; transforms let it pass.
    Event(Reported),
    /// What could not be read or stored: it travels on to the sinks, which keep it apart.
    Rejected(Refused),
}

/// A measurement, with the page it was made from as long as a later stage wants it.
#[derive(Clone, Debug)]
pub struct Measured {
    pub measurement: Box<Measurement>,
    pub page: Option<Page>,
    /// Where it was read; none when it was made in this process.
    pub place: Option<Place>,
}

/// An event.
#[derive(Clone, Debug)]
pub struct Reported {
    pub event: Box<Event>,
    /// Where it was read; none when it was made in this process.
    pub place: Option<Place>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct Refused {
    pub rejected: Box<Rejected>,
    /// Where it was read; none when it was made in this process, or comes from a store. Not its origin, which a letter
    /// keeps wherever it is moved to.
    pub place: Option<Place>,
}

impl Measured {
    /// Puts the beginning of the page on record, where the check asks for it and a matcher found fault with the page.
    pub fn keep_evidence(&mut self) {
        if let Some(evidence) = self.page.as_ref().and_then(|page| page.evidence.as_ref())
            && self.measurement.outcome != Outcome::Up
        {
            let kept = &mut self.measurement.details_mut().evidence;
            kept.get_or_insert_with(|| evidence.to_string());
        }
    }
}

/// Where in a log of messages something was read. Cheap to carry: nearly nobody ever asks.
#[derive(Clone, Debug)]
pub struct Place {
    pub feed: Arc<Feed>,
    pub partition: i32,
    pub offset: i64,
}

/// A topic as one source reads it.
#[derive(Debug)]
pub struct Feed {
    pub pipeline: Arc<str>,
    pub source: Arc<str>,
    pub topic: String,
}

impl Place {
    pub fn origin(&self) -> Origin {
        Origin {
            pipeline: self.feed.pipeline.to_string(),
            source: self.feed.source.to_string(),
            topic: Some(self.feed.topic.clone()),
            partition: Some(self.partition),
            offset: Some(self.offset),
        }
    }
}

impl Measured {
    /// This measurement as a dead letter, from where it was read or, if it was made here, from its source.
    pub fn reject(&self, reason: RejectedReason, message: impl Into<String>) -> Refused {
        let origin = self.place.as_ref().map(Place::origin);
        let rejected = Rejected::of_measurement(&self.measurement, origin, reason, message);
        Refused { rejected: Box::new(rejected), place: self.place.clone() }
    }
}

impl Reported {
    /// This event as a dead letter, from where it was read or, if it was made here, from its stage.
    pub fn reject(&self, reason: RejectedReason, message: impl Into<String>) -> Refused {
        let origin = self.place.as_ref().map(Place::origin);
        let rejected = Rejected::of_event(&self.event, origin, reason, message);
        Refused { rejected: Box::new(rejected), place: self.place.clone() }
    }
}

impl Envelope {
    pub fn measurement(measurement: Measurement, page: Option<Page>, ack: Ack) -> Envelope {
        let measurement = Box::new(measurement);
        Envelope { item: Item::Measurement(Measured { measurement, page, place: None }), ack }
    }

    /// A measurement that was read from a log of messages.
    pub fn read(measurement: Measurement, place: Place, ack: Ack) -> Envelope {
        let measurement = Box::new(measurement);
        Envelope { item: Item::Measurement(Measured { measurement, page: None, place: Some(place) }), ack }
    }

    pub fn event(event: Event, place: Option<Place>, ack: Ack) -> Envelope {
        Envelope { item: Item::Event(Reported { event: Box::new(event), place }), ack }
    }

    pub fn rejected(rejected: Rejected, place: Option<Place>, ack: Ack) -> Envelope {
        Envelope { item: Item::Rejected(Refused { rejected: Box::new(rejected), place }), ack }
    }

    /// A copy for another branch of the graph, with a share of the ack.
    pub fn share(&self) -> Envelope {
        Envelope { item: self.item.clone(), ack: self.ack.share() }
    }

    /// About how many bytes the item takes in a store or on the way to one.
    pub fn weight(&self) -> usize {
        self.item.weight()
    }

    /// Lets go of the page, which no later stage wants.
    pub fn drop_page(&mut self) {
        if let Item::Measurement(measured) = &mut self.item {
            measured.page = None;
        }
    }
}

impl Item {
    /// About how many bytes it takes in a store or on the way to one.
    pub fn weight(&self) -> usize {
        match self {
            Item::Measurement(measured) => measurement_weight(&measured.measurement),
            Item::Event(_) => EVENT_BYTES,
            Item::Rejected(refused) => {
                let rejected = &refused.rejected;
                let key = rejected.key.as_ref().map_or(0, Vec::len);
                FIXED_BYTES + rejected.bytes.len() + rejected.message.len() + key
            }
        }
    }

    /// How many places of an edge it takes, if the edge has so many.
    pub fn places(&self) -> usize {
        self.weight().div_ceil(PLACE_BYTES).max(1)
    }
}

/// What an item takes without its texts of free length.
const FIXED_BYTES: usize = 400;
/// About what an event takes.
const EVENT_BYTES: usize = 800;

fn measurement_weight(measurement: &Measurement) -> usize {
    let redirects: usize = measurement.redirects.iter().map(|hop| hop.url.len() + 300).sum();
    let matches: usize = measurement.matches.iter().map(match_weight).sum();
    let reason = measurement.reason.as_ref().map_or(0, |reason| reason.message().len());
    let error = measurement.error.as_ref().map_or(0, |error| error.message.len());
    let tls = measurement.tls.as_ref().map_or(0, |tls| {
        tls.certificate.iter().chain(&tls.chain).map(|one| one.subject.len() + one.issuer.len() + 150).sum()
    });
    let details = measurement.details.as_ref().map_or(0, |details| details_weight(details));
    FIXED_BYTES + measurement.url.len() + redirects + matches + reason + error + tls + details
}

fn details_weight(details: &Details) -> usize {
    let said = |message: &Option<String>| message.as_ref().map_or(0, String::len) + 150;
    let steps: usize = details.steps.iter().map(|step| step.url.len() + said(&step.message)).sum();
    let addresses: usize = details.addresses.iter().map(|tried| said(&tried.message)).sum();
    100 + details.evidence.as_ref().map_or(0, String::len) + steps + addresses
}

fn match_weight(found: &Match) -> usize {
    let values: usize = found.values.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let metrics: usize =
        found.metrics.iter().map(|(name, metric)| name.len() + metric.unit().len() + 40).sum();
    100 + found.message.as_ref().map_or(0, String::len) + values + metrics
}
