//! The pages of the demo site: what a path asks for is in the path.

use std::{sync::Arc, time::Duration};

use super::answer::{Answer, Reply};

/// The size of the demo site's pages.
pub const DEMO_PAGE_BYTES: usize = 10_240;

/// The largest page that a path can ask for.
const ASKED_BYTES_MAX: usize = 64 << 20;
const ASKED_DELAY_MAX: Duration = Duration::from_secs(60);
const ASKED_HOPS_MAX: u32 = 100;
const TITLE: &str = "Welcome to the demo site";

pub(crate) struct Demo {
    page: Arc<Reply>,
}

impl Demo {
    pub(crate) fn new() -> Demo {
        Demo { page: Arc::new(Answer::html(TITLE, DEMO_PAGE_BYTES).into_reply()) }
    }

    pub(crate) fn reply(&self, path: &str) -> Option<Arc<Reply>> {
        let (_, rest) = path.split_once('/')?;
        let (kind, argument) = rest.split_once('/').unwrap_or((rest, ""));
        let answer = match kind {
            "page" => return Some(Arc::clone(&self.page)),
            "bytes" => Answer::html(TITLE, argument.parse::<usize>().ok()?.min(ASKED_BYTES_MAX)),
            "gzip" => Answer::html(TITLE, argument.parse::<usize>().ok()?.min(ASKED_BYTES_MAX)).gzip(),
            "status" => Answer::status(argument.parse().ok().filter(|status| (200..=599).contains(status))?),
            "slow" => {
                let delay = Duration::from_millis(argument.parse().ok()?).min(ASKED_DELAY_MAX);
                Answer::html(TITLE, DEMO_PAGE_BYTES).delay_head(delay)
            }
            "redirect" => match argument.parse::<u32>().ok()?.min(ASKED_HOPS_MAX) {
                0 => return Some(Arc::clone(&self.page)),
                hops => Answer::redirect(&format!("/redirect/{}", hops - 1)),
            },
            _ => return None,
        };
        Some(Arc::new(answer.into_reply()))
    }
}
