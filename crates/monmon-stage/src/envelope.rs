//! What flows through the graph.

use monmon_model::{Measurement, Rejected};

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
    /// What could not be read or stored: it travels on to the sinks, which keep it apart.
    Rejected(Box<Rejected>),
}

/// A measurement, with the page it was made from as long as a later stage wants it.
#[derive(Clone, Debug)]
pub struct Measured {
    pub measurement: Box<Measurement>,
    pub page: Option<Page>,
}

impl Envelope {
    pub fn measurement(measurement: Measurement, page: Option<Page>, ack: Ack) -> Envelope {
        Envelope { item: Item::Measurement(Measured { measurement: Box::new(measurement), page }), ack }
    }

    pub fn rejected(rejected: Rejected, ack: Ack) -> Envelope {
        Envelope { item: Item::Rejected(Box::new(rejected)), ack }
    }

    /// A copy for another branch of the graph, with a share of the ack.
    pub fn share(&self) -> Envelope {
        Envelope { item: self.item.clone(), ack: self.ack.share() }
    }

    /// Lets go of the page, which no later stage wants.
    pub fn drop_page(&mut self) {
        if let Item::Measurement(measured) = &mut self.item {
            measured.page = None;
        }
    }
}
