//! What a row of the spool is: an item in the wire format, with a checksum.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use monmon_model::wire::{self, Message};
use monmon_model::{Event, Origin, Rejected};
use monmon_stage::{Feed, Item, Measured, Place, Refused, Reported};

/// What the body of a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message in the wire format, which says itself what it is.
    Message,
    /// A message that was rejected on its way here.
    Rejected,
}

impl Kind {
    pub(crate) fn number(self) -> i64 {
        match self {
            Kind::Message => 0,
            Kind::Rejected => 1,
        }
    }

    pub(crate) fn of_number(number: i64) -> Option<Kind> {
        match number {
            0 => Some(Kind::Message),
            1 => Some(Kind::Rejected),
            _ => None,
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) position: i64,
    pub(crate) kind: Kind,
    /// Microseconds since 1970.
    pub(crate) at: i64,
    pub(crate) body: Vec<u8>,
    /// An [`Origin`] as JSON.
    pub(crate) origin: Option<String>,
}

impl Record {
    pub(crate) fn encode(position: i64, item: &Item) -> Record {
        let mut body = Vec::with_capacity(1024);
        let (kind, at, place) = match item {
            Item::Measurement(measured) => {
                wire::encode(&measured.measurement, &mut body);
                (Kind::Message, measured.measurement.scheduled_at, measured.place.as_ref())
            }
            Item::Event(reported) => {
                wire::encode_event(&reported.event, &mut body);
                (Kind::Message, reported.event.at(), reported.place.as_ref())
            }
            Item::Rejected(Refused { rejected, place }) => {
                wire::encode_rejected(rejected, &mut body);
                (Kind::Rejected, rejected.at, place.as_ref())
            }
        };
        let origin = place
            .map(|place| serde_json::to_string(&place.origin()).expect("an origin has string keys only"));
        Record { position, kind, at: at.as_microsecond(), body, origin }
    }

    /// Of all that the row says.
    pub(crate) fn checksum(&self) -> i64 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.position.to_le_bytes());
        hasher.update(&self.kind.number().to_le_bytes());
        hasher.update(&self.at.to_le_bytes());
        hasher.update(&(self.body.len() as u64).to_le_bytes());
        hasher.update(&self.body);
        hasher.update(self.origin.as_deref().unwrap_or_default().as_bytes());
        i64::from(hasher.finalize())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.origin.as_ref().map_or(0, String::len)
    }
}

/// Whose measurement a row is, for counting what is dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) pipeline: String,
    pub(crate) source: String,
    /// The check; empty for what belongs to none.
    pub(crate) name: String,
}

impl Owner {
    pub(crate) fn of(item: &Item) -> Owner {
        match item {
            Item::Measurement(measured) => {
                let check = &measured.measurement.check;
                Owner {
                    pipeline: check.pipeline.clone(),
                    source: check.source.clone(),
                    name: check.name.clone(),
                }
            }
            Item::Event(reported) => match &*reported.event {
                Event::Receipt(receipt) => Owner {
                    pipeline: receipt.pipeline.clone(),
                    source: receipt.source.clone(),
                    name: String::new(),
                },
                Event::Incident(incident) => Owner {
                    pipeline: incident.pipeline.clone(),
                    source: incident.detector.clone(),
                    name: String::new(),
                },
            },
            Item::Rejected(Refused { rejected, .. }) => Owner {
                pipeline: rejected.origin.pipeline.clone(),
                source: rejected.origin.source.clone(),
                name: String::new(),
            },
        }
    }
}

/// Reads rows back; what repeats is shared.
#[derive(Default)]
pub(crate) struct Reader {
    decoder: wire::Decoder,
    feeds: HashMap<(String, String, String), Arc<Feed>>,
}

impl Reader {
    /// The item of a row whose checksum is right. What this monmon cannot read travels on as rejected, so that it is kept.
    pub(crate) fn item(&mut self, record: &Record) -> Item {
        let place = record.origin.as_deref().and_then(|text| self.place(text));
        let refused = |rejected, place| Item::Rejected(Refused { rejected: Box::new(rejected), place });
        let read = match record.kind {
            Kind::Message => self.decoder.decode_message(&record.body).map(|message| match message {
                Message::Measurement(measurement) => {
                    let place = place.clone();
                    Item::Measurement(Measured { measurement: Box::new(measurement), page: None, place })
                }
                Message::Event(event) => {
                    Item::Event(Reported { event: Box::new(event), place: place.clone() })
                }
            }),
            Kind::Rejected => {
                wire::decode_rejected(&record.body).map(|rejected| refused(rejected, place.clone()))
            }
        };
        read.unwrap_or_else(|error| {
            let nowhere = || Origin {
                pipeline: String::new(),
                source: "spool".to_owned(),
                topic: None,
                partition: None,
                offset: None,
            };
            let origin = record.origin.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let at = Timestamp::from_microsecond(record.at).unwrap_or(Timestamp::UNIX_EPOCH);
            let origin = origin.unwrap_or_else(nowhere);
            let body = record.body.clone();
            refused(Rejected::new(error.reason, error.message, origin, at, None, body), place)
        })
    }

    fn place(&mut self, text: &str) -> Option<Place> {
        let Origin { pipeline, source, topic, partition, offset } = serde_json::from_str(text).ok()?;
        let key = (pipeline, source, topic?);
        let feed = match self.feeds.get(&key) {
            Some(feed) => feed.clone(),
            None => {
                let feed = Arc::new(Feed {
                    pipeline: key.0.as_str().into(),
                    source: key.1.as_str().into(),
                    topic: key.2.clone(),
                });
                self.feeds.insert(key, feed.clone());
                feed
            }
        };
        Some(Place { feed, partition: partition?, offset: offset? })
    }
}

#[cfg(test)]
mod tests {
    use monmon_model::{Incident, RejectedReason};
    use monmon_testkit::stages::measurement;

    use super::*;

    fn measured(place: Option<Place>) -> Item {
        Item::Measurement(Measured { measurement: Box::new(measurement("docs", 3)), page: None, place })
    }

    #[test]
    fn items_come_back_as_they_were() {
        let feed = Feed { pipeline: "p".into(), source: "s".into(), topic: "t".to_owned() };
        let place = Place { feed: feed.into(), partition: 2, offset: 77 };
        let origin = place.origin();
        let rejected = Rejected::new(
            RejectedReason::NotJson,
            "no",
            origin.clone(),
            Timestamp::UNIX_EPOCH,
            Some(vec![1, 255]),
            b"\xff{".to_vec(),
        );
        let measurement = measurement("docs", 3);
        let incident = Event::Incident(Incident {
            id: measurement.id,
            check: measurement.check.clone(),
            pipeline: "p".to_owned(),
            detector: "outages".to_owned(),
            revision: 1,
            began_at: measurement.scheduled_at,
            opened_at: measurement.scheduled_at,
            last_bad_at: measurement.scheduled_at,
            recovered_at: None,
            closed_at: None,
            reason: "connection refused".to_owned(),
            probers: vec!["test".to_owned()],
            flapping: false,
            suppressed_by: None,
        });
        let reported = Item::Event(Reported { event: Box::new(incident), place: Some(place.clone()) });
        let mut reader = Reader::default();
        let refused = |place| Item::Rejected(Refused { rejected: Box::new(rejected.clone()), place });
        let letters = [refused(None), refused(Some(place.clone()))];
        for item in [measured(None), measured(Some(place)), reported].into_iter().chain(letters) {
            let record = Record::encode(9, &item);
            let back = reader.item(&record);
            assert_eq!(format!("{back:?}"), format!("{item:?}"));
            assert_eq!(Record::encode(9, &back), record);
        }
        assert_eq!(reader.feeds.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_kept_as_rejected() {
        let record =
            Record { position: 1, kind: Kind::Message, at: 0, body: b"hello".to_vec(), origin: None };
        let Item::Rejected(Refused { rejected, .. }) = Reader::default().item(&record) else {
            panic!("it is no measurement")
        };
        assert_eq!(
            (rejected.reason, rejected.bytes.as_slice()),
            (RejectedReason::NotJson, b"hello".as_slice())
        );
    }

    #[test]
    fn every_part_is_in_the_checksum() {
        let whole = Record::encode(5, &measured(None));
        let changed = [
            Record { position: 6, ..whole.clone() },
            Record { kind: Kind::Rejected, ..whole.clone() },
            Record { at: whole.at + 1, ..whole.clone() },
            Record { body: [&whole.body[..], b" "].concat(), ..whole.clone() },
            Record { origin: Some("{}".to_owned()), ..whole.clone() },
        ];
        for other in changed {
            assert_ne!(other.checksum(), whole.checksum(), "{other:?}");
        }
    }
}
