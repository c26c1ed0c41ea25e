//! The running sink: a few requests at a time, in order for each check, each thing until it is taken.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use monmon_model::{Event, Incident, wire};
use monmon_stage::{Ack, Backoff, Batch, Envelope, Inlet, Item, Sink, StageContext, StageError};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::client::{Answer, Client};
use crate::format::{Extra, Format};

/// Things to be sent that are held here; beyond it nothing more is taken from the edge.
const HELD_MAX: usize = 1_024;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// What the state of health has for a server that takes nothing.
const REFUSING: &str = "webhook_refusing";

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    pub(crate) topic: String,
    pub(crate) measurements: bool,
    pub(crate) max_in_flight: usize,
}

pub(crate) struct WebhookSink {
    sender: Arc<Sender>,
}

/// Makes a client of what the file says, with the secrets that it has now.
pub(crate) type Recipe = Box<dyn Fn() -> Result<Client, StageError> + Send + Sync>;

struct Sender {
    client: Mutex<Arc<Client>>,
    recipe: Recipe,
    settings: Settings,
    context: StageContext,
    /// Whether the last thing said in the log was that nothing is taken.
    troubled: AtomicBool,
}

/// One thing to be sent.
struct Job {
    /// What stays in order: the check.
    key: Uuid,
    what: What,
    idempotency_key: String,
    event: &'static str,
    ack: Ack,
    backoff: Backoff,
}

enum What {
    /// Its body may hold a key, which may be another one with the next try.
    Incident(Box<Incident>),
    Measurement(Vec<u8>),
}

impl WebhookSink {
    pub(crate) fn new(
        client: Client,
        recipe: Recipe,
        settings: Settings,
        context: StageContext,
    ) -> WebhookSink {
        let client = Mutex::new(Arc::new(client));
        let sender = Sender { client, recipe, settings, context, troubled: AtomicBool::new(false) };
        WebhookSink { sender: Arc::new(sender) }
    }

    /// What has to be sent of a batch; the rest is done with.
    fn jobs(&self, batch: Batch) -> Vec<Job> {
        let counters = &self.sender.context.counters;
        counters.add_received(batch.len() as u64);
        let mut jobs = Vec::new();
        for Envelope { item, ack } in batch {
            match self.job(item) {
                Some((key, what, idempotency_key, event)) => {
                    let backoff = Backoff::between(FIRST_WAIT, LONGEST_WAIT, key.as_u64_pair().1);
                    jobs.push(Job { key, what, idempotency_key, event, ack, backoff });
                }
                None => {
                    counters.add_delivered(1);
                    ack.deliver();
                }
            }
        }
        jobs
    }

    fn job(&self, item: Item) -> Option<(Uuid, What, String, &'static str)> {
        match item {
            Item::Event(reported) => match *reported.event {
                // Nobody need be told of what is another check's trouble.
                Event::Incident(incident) if incident.suppressed_by.is_none() => {
                    let (key, event) = (idempotency_key(&incident), event_name(&incident));
                    Some((incident.check.id, What::Incident(Box::new(incident)), key, event))
                }
                Event::Incident(_) | Event::Receipt(_) => None,
            },
            Item::Measurement(measured) if self.sender.settings.measurements => {
                let mut body = Vec::new();
                wire::encode(&measured.measurement, &mut body);
                let measurement = &measured.measurement;
                Some((
                    measurement.check.id,
                    What::Measurement(body),
                    measurement.id.to_string(),
                    "measurement",
                ))
            }
            Item::Measurement(_) | Item::Rejected(_) => None,
        }
    }
}

impl Sender {
    fn body<'a>(&self, what: &'a What, client: &Client) -> Cow<'a, [u8]> {
        match what {
            What::Incident(incident) => {
                let Settings { format, topic, .. } = &self.settings;
                let extra = Extra { routing_key: client.routing_key(), topic };
                Cow::Owned(format.body(incident, &extra).to_string().into_bytes())
            }
            What::Measurement(body) => Cow::Borrowed(body),
        }
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is refused may have been mended in a file meanwhile: a token, a certificate, the URL.
    fn renew(&self) {
        // As long as it can't be read the old one is as good.
        if let Ok(client) = (self.recipe)() {
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(client);
        }
    }

    fn say_back(&self) {
        if self.troubled.swap(false, Ordering::Relaxed) {
            self.context.counters.state().over(REFUSING);
            info!(stage = %self.context.stage, place = self.client().place(), "the webhook takes what it is sent again");
        }
    }
}

/// The same for every try, replay and restart.
fn idempotency_key(incident: &Incident) -> String {
    format!("{}-{}", incident.id, incident.state().as_str())
}

fn event_name(incident: &Incident) -> &'static str {
    use monmon_model::IncidentState::{Closed, Flapping, Open};
    match incident.state() {
        Open => "incident.open",
        Flapping => "incident.flapping",
        Closed => "incident.closed",
    }
}

#[async_trait]
impl Sink for WebhookSink {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let mut lanes = Lanes::default();
        let mut requests: JoinSet<Sent> = JoinSet::new();
        // What waits for its next try takes no request from others.
        let mut rests: JoinSet<Job> = JoinSet::new();
        let mut is_open = true;
        while is_open || lanes.held > 0 {
            tokio::select! {
                Some(sent) = requests.join_next() => match sent.map_err(ended)? {
                    Sent::Done(key) => lanes.done(key),
                    Sent::Later(job, wait) => {
                        rests.spawn(rest(job, wait, self.sender.context.stop.clone()));
                    }
                },
                Some(job) = rests.join_next() => lanes.again(job.map_err(ended)?),
                batch = input.recv(), if is_open && lanes.held < HELD_MAX => match batch {
                    Some(batch) => self.jobs(batch).into_iter().for_each(|job| lanes.push(job)),
                    None => is_open = false,
                },
            }
            while requests.len() < self.sender.settings.max_in_flight
                && let Some(job) = lanes.next()
            {
                requests.spawn(send(Arc::clone(&self.sender), job));
            }
            self.sender.context.counters.state().set_in_flight(lanes.held as f64);
        }
        Ok(())
    }
}

fn ended(error: JoinError) -> StageError {
    StageError::permanent("a request's task ended").caused_by(error)
}

/// What waits, by check: of each check one thing is under way, or waits for its next try, at a time.
#[derive(Default)]
struct Lanes {
    /// Of checks of which something is under way or waits.
    waiting: HashMap<Uuid, VecDeque<Job>>,
    /// Checks of which something waits and nothing is under way.
    ready: VecDeque<Uuid>,
    /// Waiting and under way.
    held: usize,
}

impl Lanes {
    fn push(&mut self, job: Job) {
        self.held += 1;
        let key = job.key;
        match self.waiting.get_mut(&key) {
            Some(lane) => lane.push_back(job),
            None => {
                self.waiting.insert(key, VecDeque::from([job]));
                self.ready.push_back(key);
            }
        }
    }

    fn next(&mut self) -> Option<Job> {
        let key = self.ready.pop_front()?;
        self.waiting.get_mut(&key)?.pop_front()
    }

    /// A job's next try, before all others of its check.
    fn again(&mut self, job: Job) {
        self.ready.push_back(job.key);
        self.waiting.entry(job.key).or_default().push_front(job);
    }

    fn done(&mut self, key: Uuid) {
        self.held -= 1;
        if self.waiting.get(&key).is_some_and(|lane| !lane.is_empty()) {
            self.ready.push_back(key);
        } else {
            self.waiting.remove(&key);
        }
    }
}

/// What became of a request.
enum Sent {
    /// Nothing more is to be sent of it.
    Done(Uuid),
    /// To be sent again, after this long.
    Later(Job, Duration),
}

async fn send(sender: Arc<Sender>, mut job: Job) -> Sent {
    let (client, context) = (sender.client(), &sender.context);
    let stage = &context.stage;
    let now = context.clock.now().as_second();
    let body = sender.body(&job.what, &client);
    let mut answer = client.post(&body, &job.idempotency_key, job.event, now).await;
    drop(body);
    // A key that is wrong, as a token would be, can be mended.
    if let Answer::Refused(why) = answer {
        answer = match sender.settings.format.is_key_refused(&why) {
            true => Answer::Later { why, after: None },
            false => Answer::Refused(why),
        };
    }
    match answer {
        Answer::Taken => {
            sender.say_back();
            context.counters.add_delivered(1);
        }
        Answer::Refused(why) => {
            error!(%stage, place = client.place(), key = job.idempotency_key, why, "the webhook finds fault with what it was sent, which is given up");
            // Nobody was told, and nobody will be: that is no delivery. The source has done its part.
            context.counters.add_rejected(1);
            context.counters.add_failed(1);
            // It reads what it is sent.
            sender.say_back();
        }
        Answer::Later { why, after } => {
            if !sender.troubled.swap(true, Ordering::Relaxed) {
                context.counters.state().waits(REFUSING, "the webhook takes nothing now");
                warn!(%stage, place = client.place(), why, "the webhook takes nothing now; trying again until it does");
            }
            context.counters.add_retries(1);
            // Who asks for no wait at all is not asked without end.
            let wait = job.backoff.wait();
            let again = Arc::clone(&sender);
            tokio::task::spawn_blocking(move || again.renew()).await.ok();
            return Sent::Later(job, after.map_or(wait, |after| after.max(wait)));
        }
    }
    job.ack.deliver();
    Sent::Done(job.key)
}

async fn rest(job: Job, wait: Duration, stop: CancellationToken) -> Job {
    Backoff::pause_for(wait, &stop).await;
    job
}
