//! For tests: what monmon watches and what stands in its way, on loopback and under the test's control.
//!
//! - [`Site`]: an honest site whose access log is the oracle of whole-program tests.
//! - [`HostileSite`]: one listener for every [`Behaviour`] that a server should not have.
//! - [`Proxy`]: a TCP proxy that can be cut, stopped and slowed while it runs.
//! - [`DnsServer`]: a name server whose answers are scripted.
//! - [`ForwardProxy`]: an HTTP or SOCKS5 proxy that sites are asked through.
//! - [`Dialogue`]: scripts of other protocols, with a way over to TLS, and a WebSocket echo.
//! - [`Tls`]: a certificate authority made on the spot.
//! - [`Receiver`]: the other end of webhooks.
//! - [`stages`]: a scripted source, capturing, broken and slow sinks, and the book of acks.
//!
//! Every server has a thread and a runtime of its own, so that it works beside a paused clock and a blocked
//! test, takes its port from the kernel, and is gone when it is dropped.

mod certs;
mod dialogue;
mod dns;
mod forward;
mod host;
mod hostile;
mod proxy;
mod receiver;
mod site;
pub mod stages;

pub use certs::{CertFiles, Identity, Tls, Validity};
pub use dialogue::{Dialogue, Line, WebSocketMode};
pub use dns::{DnsAnswer, DnsServer};
pub use forward::{ForwardMode, ForwardProxy};
pub use hostile::{Behaviour, Expected, HOSTILE_PAGE_TITLE, HostileSite};
pub use proxy::{Proxy, ProxyCounters, ProxyMode, Way};
pub use receiver::{Posted, Receiver, Reply};
pub use site::{Answer, DEMO_PAGE_BYTES, Hit, Site, SiteOptions};
