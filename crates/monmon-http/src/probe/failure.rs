//! From errors to the closed list of kinds. Decided by types and codes, along the chain of causes; where a library
//! tells two causes apart by nothing but its text, that is said beside it.

use std::error::Error;
use std::io;
use std::time::Duration;

use monmon_model::{Failure, FailureKind, Phase};
use monmon_syntax::format_duration;

use super::gate::{Flood, Gate};
use super::tls_failure::of_rustls;

/// The kind for time that ran out in a phase.
pub(crate) fn timeout_kind(phase: Phase) -> FailureKind {
    match phase {
        Phase::Dns => FailureKind::DnsTimeout,
        Phase::Connect => FailureKind::ConnectTimeout,
        Phase::Start | Phase::Tls | Phase::Wait | Phase::Transfer => FailureKind::Timeout,
    }
}

/// How late a timer may be. One that is later was not held up by the site: the process was stopped, or starved.
const LATE_MAX: Duration = Duration::from_secs(1);

/// Whether what was to take no longer than `bound` took so long that the prober itself must have slept.
pub(crate) fn overslept(bound: Duration, taken: Duration, phase: Phase) -> Option<Failure> {
    (taken > bound + LATE_MAX).then(|| {
        let message = format!(
            "the prober was stopped or starved: {} seconds went by where it gives up after {}",
            taken.as_secs(),
            format_duration(bound)
        );
        Failure::new(FailureKind::Overslept, phase, message)
    })
}

/// An error of the operating system.
pub(crate) fn of_io(error: &io::Error, phase: Phase) -> Failure {
    Failure::new(io_kind(error, phase), phase, without_code(error))
}

fn io_kind(error: &io::Error, phase: Phase) -> FailureKind {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    match error.raw_os_error() {
        Some(EMFILE | ENFILE) => return FailureKind::FdExhausted,
        Some(ENOBUFS) => return FailureKind::OutOfMemory,
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::OutOfMemory => FailureKind::OutOfMemory,
        io::ErrorKind::ConnectionRefused => FailureKind::ConnectRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            FailureKind::ConnectUnreachable
        }
        // No local port is left: too many connections of our own.
        io::ErrorKind::AddrNotAvailable if phase == Phase::Connect => FailureKind::Overload,
        io::ErrorKind::TimedOut => timeout_kind(phase),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            match phase {
                Phase::Connect => FailureKind::ConnectReset,
                Phase::Transfer => FailureKind::BodyIncomplete,
                _ => FailureKind::Reset,
            }
        }
        io::ErrorKind::UnexpectedEof => match phase {
            Phase::Tls => FailureKind::TlsClosed,
            Phase::Transfer => FailureKind::BodyIncomplete,
            _ => FailureKind::ClosedEarly,
        },
        _ => match phase {
            Phase::Dns => FailureKind::DnsFailed,
            Phase::Connect => FailureKind::ConnectUnreachable,
            Phase::Tls => FailureKind::TlsClosed,
            Phase::Start => FailureKind::Internal,
            Phase::Wait | Phase::Transfer => FailureKind::Reset,
        },
    }
}

/// The text without `(os error 111)`, which says nothing to a reader.
fn without_code(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof && error.raw_os_error().is_none() {
        // Whoever reports it points to a manual of its own.
        return "the connection was closed in the middle".to_owned();
    }
    let mut text = error.to_string();
    if let Some(at) = text.find(" (os error") {
        text.truncate(at);
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => text,
    }
}

/// What hyper could not go on with, before or after the head.
pub(crate) fn of_hyper(error: &hyper::Error, phase: Phase, gate: &Gate) -> Failure {
    if gate.is_flooded() {
        let kind = if phase == Phase::Wait { FailureKind::HeadTooLarge } else { FailureKind::TooLarge };
        return Failure::new(kind, phase, Flood.to_string());
    }
    if let Some(h2) = cause::<h2::Error>(error) {
        return of_h2(h2, phase);
    }
    if error.is_parse() {
        let (kind, message) = parse_kind(error, gate);
        return Failure::new(kind, phase, message);
    }
    if let Some(tls) = cause::<rustls::Error>(error) {
        return of_rustls(tls, phase);
    }
    if let Some(io) = cause::<io::Error>(error) {
        return of_body_io(io, phase);
    }
    let (kind, message) = if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        match phase {
            Phase::Transfer => (FailureKind::BodyIncomplete, "the connection closed before the body's end"),
            _ => (FailureKind::ClosedEarly, "the server closed the connection without an answer"),
        }
    } else {
        (FailureKind::Protocol, "the server did what HTTP forbids")
    };
    Failure::new(kind, phase, message)
}

/// hyper's own decoders report through `io::Error`, beside what the system reports.
fn of_body_io(error: &io::Error, phase: Phase) -> Failure {
    let own = error.raw_os_error().is_none();
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if own => {
            let text = error.to_string();
            // Told apart by the text alone: hyper gives a flood of extensions or trailers the kind of a bad chunk.
            let flood = text.contains("over limit") || text.contains("trailers count overflow");
            let kind = if flood { FailureKind::TooLarge } else { FailureKind::BadChunk };
            Failure::new(kind, phase, text.to_lowercase())
        }
        io::ErrorKind::UnexpectedEof if phase == Phase::Transfer => {
            Failure::new(FailureKind::BodyIncomplete, phase, "the connection closed before the body's end")
        }
        _ => of_io(error, phase),
    }
}

fn parse_kind(error: &hyper::Error, gate: &Gate) -> (FailureKind, String) {
    let head = gate.kept();
    let text = error.to_string();
    // Told apart by the text alone: hyper gives the question after the cause to servers only.
    if text.contains("too large") {
        // hyper has one error for too many bytes, too many headers and a length that is out of its range.
        if length_out_of_range(&head) {
            return (FailureKind::BadLength, "the content length is too large to be one".to_owned());
        }
        if gate.read() < super::HEAD_BUFFER_BYTES_MAX as u64 {
            let max = super::HEADERS_MAX;
            return (FailureKind::TooManyHeaders, format!("the head has more than {max} headers"));
        }
        return (FailureKind::HeadTooLarge, "the head is too large".to_owned());
    }
    // Told apart by the text alone: hyper keeps the cause of a header error to itself.
    if text.contains("content-length") {
        return (FailureKind::BadLength, "the content length is not a length, or there are two".to_owned());
    }
    let shown: String =
        head.iter().take(40).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
    (FailureKind::HttpParse, format!("the reply is not HTTP; it begins with `{shown}`"))
}

/// Whether a content length in this head is beyond what hyper can count (its two largest values are marks).
fn length_out_of_range(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| {
        let text = String::from_utf8_lossy(line).to_ascii_lowercase();
        let Some(value) = text.strip_prefix("content-length:") else { return false };
        value.trim().parse::<u64>().is_ok_and(|length| length > u64::MAX - 2)
    })
}

fn of_h2(error: &h2::Error, phase: Phase) -> Failure {
    if let Some(io) = error.get_io() {
        return of_io(io, phase);
    }
    let kind = match error.reason() {
        _ if phase == Phase::Transfer && error.is_reset() && error.is_remote() => FailureKind::BodyIncomplete,
        Some(h2::Reason::REFUSED_STREAM) => FailureKind::Refused,
        Some(h2::Reason::NO_ERROR) if error.is_go_away() => FailureKind::Refused,
        _ => FailureKind::H2Protocol,
    };
    Failure::new(kind, phase, error.to_string())
}

/// The first error of this type along the chain of causes, looking into what `io::Error` carries.
pub(crate) fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    const DEPTH_MAX: usize = 16;
    let mut next = Some(error);
    for _ in 0..DEPTH_MAX {
        let error = next?;
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_much_too_late_is_the_probers_own_trouble() {
        let bound = Duration::from_secs(2);
        for (taken_ms, is_own) in
            [(1_000, false), (2_001, false), (3_000, false), (3_001, true), (32_000, true)]
        {
            let failure = overslept(bound, Duration::from_millis(taken_ms), Phase::Wait);
            let kind = failure.map(|failure| failure.kind);
            assert_eq!(kind, is_own.then_some(FailureKind::Overslept), "{taken_ms} ms");
        }
    }

    #[test]
    fn what_the_kernel_says_of_a_connection_has_its_kind() {
        const ENFILE: i32 = 23;
        const ECONNREFUSED: i32 = 111;
        const EHOSTUNREACH: i32 = 113;
        for (code, kind) in [
            (ENFILE, FailureKind::FdExhausted),
            (ECONNREFUSED, FailureKind::ConnectRefused),
            // No test can have a host that no router finds; what becomes of it is decided here.
            (EHOSTUNREACH, FailureKind::ConnectUnreachable),
        ] {
            let failure = of_io(&io::Error::from_raw_os_error(code), Phase::Connect);
            assert_eq!((failure.kind, failure.phase), (kind, Phase::Connect), "{code}");
        }
    }
}
