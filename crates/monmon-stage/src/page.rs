//! A page: what a site sent. It never leaves the process.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Headers and body of the last reply; copies share the bytes and the memory's permit.
#[derive(Clone, Debug)]
pub struct Page {
    pub headers: Arc<HeaderMap>,
    /// After decoding, at most the source's bound.
    pub body: Bytes,
    /// The body went on past the bound.
    pub truncated: bool,
    /// Its beginning, for the record of a measurement that a matcher finds fault with.
    pub evidence: Option<Arc<str>>,
    hold: Arc<PageHold>,
}

impl Page {
    pub fn new(headers: HeaderMap, body: Bytes, truncated: bool, hold: PageHold) -> Page {
        Page { headers: Arc::new(headers), body, truncated, evidence: None, hold: Arc::new(hold) }
    }

    #[must_use]
    pub fn with_evidence(mut self, evidence: Arc<str>) -> Page {
        self.evidence = Some(evidence);
        self
    }

    /// How much of the budget the page holds, in bytes.
    pub fn held_bytes(&self) -> u64 {
        self.hold.0.as_ref().map_or(0, |permit| permit.num_permits() as u64 * PageBudget::UNIT)
    }
}

/// The memory that pages may take in all, in a source and everything behind it.
#[derive(Clone, Debug)]
pub struct PageBudget(Arc<Semaphore>);

/// A part of a [`PageBudget`], given back when dropped.
#[derive(Debug, Default)]
pub struct PageHold(Option<OwnedSemaphorePermit>);

impl PageBudget {
    /// The budget is counted in pieces of this many bytes.
    pub const UNIT: u64 = 1024;

    pub fn new(bytes: u64) -> PageBudget {
        let pieces = usize::try_from(bytes.div_ceil(PageBudget::UNIT)).unwrap_or(usize::MAX);
        PageBudget(Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes memory for some more bytes of a body; `false` when there is none left. It never waits, since waiting here
    /// would stretch the measurement.
    pub fn grow(&self, hold: &mut PageHold, bytes: u64) -> bool {
        let Ok(pieces) = u32::try_from(bytes.div_ceil(PageBudget::UNIT)) else { return false };
        let Ok(permit) = Arc::clone(&self.0).try_acquire_many_owned(pieces) else { return false };
        match &mut hold.0 {
            Some(held) => held.merge(permit),
            empty => *empty = Some(permit),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_held_until_the_last_copy_goes() {
        let budget = PageBudget::new(4096);
        let mut hold = PageHold::default();
        assert!(budget.grow(&mut hold, 3000));
        assert!(!budget.grow(&mut hold, 2000));
        let page = Page::new(HeaderMap::new(), Bytes::new(), false, hold);
        let copy = page.clone();
        drop(page);
        assert_eq!(copy.held_bytes(), 3072);
        assert!(!budget.grow(&mut PageHold::default(), 2000));
        drop(copy);
        assert!(budget.grow(&mut PageHold::default(), 4096));
    }
}
