//! When a client can't go on, another one does.

use std::time::Duration;

use monmon_stage::StageError;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Poller;
use crate::client;
use crate::source::rebalance::Reports;

/// How often what the pipeline file points at is read anew while the brokers refuse us.
const REREAD_EVERY: Duration = Duration::from_secs(5);

impl Poller {
    pub(super) fn renew(&mut self) -> Result<(), StageError> {
        if self.shared.health.standstill.is_too_long() {
            warn!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %self.shared.topic,
                "the kafka consumer looks for no broker any more, and is made anew");
            let next = self.next_client(&self.config).map_err(|error| client::unusable(&error))?;
            self.make_room_for(next)?;
        }
        if self.shared.health.is_refused() && self.reread_at <= Instant::now() {
            self.reread()?;
        }
        Ok(())
    }

    /// A certificate or a password may have been replaced where it comes from; the client has what was there when it was
    /// made, and would be refused with it for ever.
    fn reread(&mut self) -> Result<(), StageError> {
        self.reread_at = Instant::now() + REREAD_EVERY;
        // What can't be read, or does not fit together, is being replaced just now.
        let Ok(config) = (self.recipe)() else { return Ok(()) };
        if config.config_map() == self.config.config_map() {
            return Ok(());
        }
        let Ok(next) = self.next_client(&config) else { return Ok(()) };
        info!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %self.shared.topic,
            "the kafka consumer is made anew, with what its settings are now");
        self.config = config;
        self.make_room_for(next)
    }

    fn next_client(&self, config: &ClientConfig) -> KafkaResult<BaseConsumer<Reports>> {
        config.create_with_context(Reports::new(self.shared.clone()))
    }

    /// The partitions go as in a rebalance: what was not committed of them is read again.
    fn make_room_for(&mut self, next: BaseConsumer<Reports>) -> Result<(), StageError> {
        let last = std::mem::replace(&mut self.consumer, next);
        last.client().context().replace();
        // It waits for the group's coordinator, which it can't reach; nobody need wait for that.
        std::thread::Builder::new().name("kafka close".to_owned()).spawn(move || drop(last)).ok();
        self.shared.forget_assignment();
        self.shared.health.standstill.is_over();
        self.restarts.clear();
        self.full_since = None;
        self.subscribe()
    }
}
