//! What goes into a plugin and what comes out of it: responses, and verdicts within bounds.

use std::collections::BTreeMap;

use monmon_model::{Measurement, Metric, bounds};
use monmon_stage::Page;
use monmon_stage::matching::{VALUE_CHARS_MAX, VALUES_MAX, storable};

use crate::Fault;
use crate::bindings::monmon::matcher::types;
use crate::describe::Description;
use crate::log::line;

/// Longest name of a value, in characters.
const NAME_CHARS_MAX: usize = 64;

/// A response as a plugin gets it.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub url: &'a str,
    pub status: u16,
    pub headers: Option<&'a http::HeaderMap>,
    pub body: &'a [u8],
    pub body_truncated: bool,
    pub phases: &'a monmon_model::Timings,
}

impl<'a> Response<'a> {
    /// What a measurement and its page have; `None` without a status.
    pub(crate) fn of(measurement: &'a Measurement, page: Option<&'a Page>) -> Option<Response<'a>> {
        Some(Response {
            url: &measurement.url,
            status: measurement.status?,
            headers: page.map(|page| &*page.headers),
            body: page.map_or(&[], |page| &page.body),
            body_truncated: measurement.body_truncated,
            phases: &measurement.timings,
        })
    }

    /// What the plugin does not look at is not copied to it.
    pub(crate) fn headers(&self, description: &Description) -> Vec<types::Header<'a>> {
        let headers = self.headers.filter(|_| description.needs_headers);
        let header = |(name, value): (&'a http::HeaderName, &'a http::HeaderValue)| types::Header {
            name: name.as_str(),
            value: value.as_bytes(),
        };
        headers.into_iter().flatten().map(header).collect()
    }

    pub(crate) fn passed<'b>(
        &self,
        description: &Description,
        headers: &'b [types::Header<'b>],
    ) -> types::Response<'b>
    where
        'a: 'b,
    {
        types::Response {
            url: self.url,
            status: self.status,
            headers,
            body: if description.needs_body { self.body } else { &[] },
            body_truncated: self.body_truncated,
            phases: types::Phases {
                dns_us: self.phases.dns_us,
                connect_us: self.phases.connect_us,
                tls_us: self.phases.tls_us,
                wait_us: self.phases.wait_us,
                transfer_us: self.phases.transfer_us,
                total_us: self.phases.total_us,
            },
        }
    }
}

/// A plugin's word on a response, within bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    pub matched: bool,
    pub message: Option<String>,
    pub values: BTreeMap<String, String>,
    pub metrics: BTreeMap<String, Metric>,
}

impl Verdict {
    pub(crate) fn read(said: types::Verdict) -> Result<Verdict, Fault> {
        if said.values.len() > VALUES_MAX {
            return Err(malformed(format!("{} values, where {VALUES_MAX} can be kept", said.values.len())));
        }
        if said.metrics.len() > bounds::METRICS_MAX {
            let (count, max) = (said.metrics.len(), bounds::METRICS_MAX);
            return Err(malformed(format!("{count} metrics, where {max} can be kept")));
        }
        let mut values = BTreeMap::new();
        for (name, value) in said.values {
            hold_name("value", &name, NAME_CHARS_MAX)?;
            values.insert(name, value.chars().take(VALUE_CHARS_MAX).map(storable).collect());
        }
        let mut metrics = BTreeMap::new();
        for metric in said.metrics {
            let types::Metric { name, value, unit } = metric;
            hold_name("metric", &name, bounds::METRIC_NAME_CHARS_MAX)?;
            if !unit.is_empty() {
                hold_name("unit", &unit, bounds::METRIC_UNIT_CHARS_MAX)?;
            }
            let Some(metric) = Metric::new(value, unit) else {
                return Err(malformed(format!("the metric `{name}` is {value}, which is no number")));
            };
            metrics.insert(name, metric);
        }
        Ok(Verdict { matched: said.matched, message: said.message.map(|text| words(&text)), values, metrics })
    }
}

fn hold_name(what: &str, name: &str, chars_max: usize) -> Result<(), Fault> {
    if name.is_empty() || !bounds::fits(name, chars_max) || line(name) != name {
        return Err(malformed(format!("a {what} with the name `{}`", line(name))));
    }
    Ok(())
}

fn malformed(message: String) -> Fault {
    Fault::Malformed(message)
}

/// What a plugin says, in one line that can be stored.
pub(crate) fn words(text: &str) -> String {
    bounds::message(text.chars().take(bounds::MESSAGE_CHARS_MAX + 1).map(plain).collect::<String>())
}

fn plain(c: char) -> char {
    match c {
        '\0' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => ' ',
        c => c,
    }
}
