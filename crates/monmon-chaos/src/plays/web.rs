//! What can be done to the listener that serves metrics and health, which nobody has to log in to.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    dice::Dice,
    road::{Manner, Road, Shape},
    services::{local, patience},
    theatre::Theatre,
};

const IDLE: usize = 1_000;
/// What the process may hold more than without clients: the server's own bound on connections, and what closing ones keep.
const MORE_DESCRIPTORS_MAX: u64 = 100;
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Row 47: clients that are in the way, that ask for what they may not have, and that send nonsense, while all goes on.
pub(crate) fn hostile_clients(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::open(theatre, Shape { name: "clients", ..Shape::default() })?;
    let (producer, consumer) = theatre.services.ports.metrics();
    let at = |port: u16| Manner {
        arguments: vec!["--metrics".to_owned(), format!("127.0.0.1:{port}")],
        ..Manner::default()
    };
    road.start_producer_so(0, &at(producer))?;
    road.start_consumer_so(0, &at(consumer))?;
    road.flows(60)?;
    let before = road.producer(0)?.holds().context("the producer runs")?.descriptors;
    let ports = [producer, consumer];
    for round in 0..2 {
        let mut idle = Vec::new();
        for number in 0..IDLE {
            idle.push(TcpStream::connect(local(ports[number % 2])).context("one more connection")?);
        }
        theatre.injected();
        for port in ports {
            served(port)?;
            drip(port)?;
            theatre.injected();
            refusals(port, dice)?;
            theatre.injected();
        }
        road.flows(200)?;
        let held = road.producer(0)?.holds().context("the producer runs")?.descriptors;
        ensure!(
            held <= before + MORE_DESCRIPTORS_MAX,
            "round {round}: {held} descriptors, where {before} were held without clients"
        );
        drop(idle);
        ports.into_iter().try_for_each(served)?;
    }
    road.settle()
}

/// An answer is given to who asks in order, with all that keeps a browser from making more of it, and no secret in it.
fn served(port: u16) -> Result<()> {
    let host = format!("Host: 127.0.0.1:{port}");
    let answer = ask(port, &format!("GET /metrics HTTP/1.1\r\n{host}\r\n\r\n"))?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "metrics: {answer:.200}");
    let (head, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
    let head = head.to_ascii_lowercase();
    for header in ["x-content-type-options: nosniff", "content-security-policy: default-src 'none'"] {
        ensure!(head.contains(header), "`{header}` is not in {head}");
    }
    ensure!(body.contains("monmon_stage_received_total"), "no metrics: {body:.200}");
    ensure!(!body.contains("app:secret"), "a secret is among the metrics");
    let health = ask(port, &format!("GET /healthz HTTP/1.1\r\n{host}\r\n\r\n"))?;
    ensure!(health.contains("\"status\""), "health: {health:.200}");
    Ok(())
}

/// A request that never comes to its end is ended.
fn drip(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(local(port))?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ")?;
    let begun = Instant::now();
    let mut heard = [0; 512];
    loop {
        ensure!(begun.elapsed() < patience(), "a request that drips is never ended");
        if stream.write_all(b"x").is_err() {
            return Ok(());
        }
        match stream.read(&mut heard) {
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Ok(count) if count > 0 => {
                let said = String::from_utf8_lossy(&heard[..count]).into_owned();
                ensure!(said.starts_with("HTTP/1.1 4"), "half a request is answered with {said:.100}");
            }
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

/// What is asked for wrongly is not had; an end without an answer is one too.
fn refusals(port: u16, dice: &mut Dice) -> Result<()> {
    let host = format!("Host: localhost:{port}");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\n{host}\r\n\r\n");
    let other = |name: &str| format!("GET /metrics HTTP/1.1\r\nHost: {name}\r\n\r\n");
    let long = format!("/metrics?{}", "a".repeat(64 << 10));
    let many: String = (0..500).map(|number| format!("X-{number}: y\r\n")).collect();
    let noise: String =
        (0..4_000).map(|_| char::from(u8::try_from(dice.between(1, 126)).unwrap_or(b'x'))).collect();
    let asked = [
        (get(&long), "400 414 431"),
        (get("/../../../../etc/passwd"), "400 404"),
        (get("/%2e%2e/%2e%2e/etc/passwd"), "400 404"),
        (get("//etc/passwd"), "400 404"),
        (get("/metrics/../healthz"), "400 404"),
        (get("/<script>alert(1)</script>"), "400 404"),
        (other("evil.example"), "421"),
        (other("127.0.0.1.evil.example"), "421"),
        (format!("POST /metrics HTTP/1.1\r\n{host}\r\nContent-Length: 1000000000\r\n\r\nx"), "400 405"),
        (format!("DELETE /metrics HTTP/1.1\r\n{host}\r\n\r\n"), "405"),
        (format!("CONNECT evil.example:80 HTTP/1.1\r\n{host}\r\n\r\n"), "400 404 405"),
        (format!("GET /metrics HTTP/1.1\r\n{host}\r\n{many}\r\n"), "400 431"),
        (format!("GET /metrics HTTP/1.1\r\n{host}\r\nX: {}\r\n\r\n", "b".repeat(1 << 20)), "400 431"),
        ("\u{16}\u{3}\u{1}".to_owned() + &"\u{0}".repeat(300) + "\r\n\r\n", "400"),
        (noise + "\r\n\r\n", "400"),
    ];
    for (request, due) in asked {
        let answer = ask(port, &request)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let is_refused = answer.is_empty() || due.split(' ').any(|due| due == status);
        ensure!(is_refused, "{request:.80}: {answer:.200}, where {due} is due");
        ensure!(!answer.contains("root:"), "a file is served: {answer:.200}");
        ensure!(!answer.contains("<script>"), "what was asked comes back: {answer:.200}");
    }
    Ok(())
}

/// All that is answered until the connection ends. A server that has heard enough may end it before all is sent.
fn ask(port: u16, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(local(port)).context("connecting")?;
    stream.set_read_timeout(Some(patience()))?;
    stream.set_write_timeout(Some(patience()))?;
    stream.write_all(request.as_bytes()).ok();
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    while answer.len() < ANSWER_BYTES_MAX {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                anyhow::bail!("no answer and no end: {request:.80}")
            }
            Err(_) => break,
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
