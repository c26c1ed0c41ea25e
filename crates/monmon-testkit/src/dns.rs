//! A name server whose answers are scripted, over UDP and TCP on one port.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, sleep_until};

use crate::host::{Host, Running};

/// How long a UDP answer may be before it is cut (RFC 1035, section 4.2.1).
const UDP_BYTES_MAX: usize = 512;
/// How many questions are kept in the log.
const LOG_MAX: usize = 10_000;
const TTL: u32 = 0;

/// What the server answers to a question about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsAnswer {
    Addresses(Vec<IpAddr>),
    /// Another name, which is answered with it.
    Alias(String),
    Mail(u16, String),
    Text(String),
    /// NOERROR without a record.
    Empty,
    NotFound,
    ServerFailure,
    Refused,
    Silence,
    /// Bytes that are no message.
    Garbage,
    /// The right answer under another message's id.
    WrongId,
}

#[derive(Default)]
struct Script {
    /// Several answers of one name are given in turn.
    answers: BTreeMap<String, (usize, Vec<DnsAnswer>)>,
    log: Vec<String>,
}

pub struct DnsServer {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    // Fields drop in order: the listener ends before its runtime does.
    _running: Running,
    _host: Host,
}

impl DnsServer {
    /// Knows no name: all are not found.
    pub fn start() -> io::Result<DnsServer> {
        // One port for both; another process may have the second half of the first that is tried.
        let (tcp, udp) = (0..32)
            .find_map(|_| {
                let tcp = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
                let udp = std::net::UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
                Some((tcp, udp))
            })
            .ok_or_else(|| io::Error::other("no port for both UDP and TCP"))?;
        DnsServer::on(tcp, udp, Duration::ZERO)
    }

    /// At an address of its own, and with every answer so much later than its question.
    pub fn start_slow(address: SocketAddr, delay: Duration) -> io::Result<DnsServer> {
        DnsServer::on(std::net::TcpListener::bind(address)?, std::net::UdpSocket::bind(address)?, delay)
    }

    fn on(tcp: std::net::TcpListener, udp: std::net::UdpSocket, delay: Duration) -> io::Result<DnsServer> {
        let host = Host::start("test-dns")?;
        let script = Arc::new(Mutex::new(Script::default()));
        let address = tcp.local_addr()?;
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let entered = host.handle().enter();
        let (tcp, udp) = (TcpListener::from_std(tcp)?, UdpSocket::from_std(udp)?);
        drop(entered);
        let over_tcp = Arc::clone(&script);
        let running = host.accept(tcp, move |accepted| {
            let script = Arc::clone(&over_tcp);
            async move {
                // A client that goes away is no fault of the server's.
                serve_tcp(accepted.stream, &script, delay).await.ok();
            }
        });
        let over_udp = Arc::clone(&script);
        host.handle().spawn(async move { serve_udp(&udp, &over_udp, delay).await });
        Ok(DnsServer { address, script, _running: running, _host: host })
    }

    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, name: &str, answer: DnsAnswer) {
        self.set_in_turn(name, vec![answer]);
    }

    /// Each question gets the next answer, and the first again after the last.
    pub fn set_in_turn(&self, name: &str, answers: Vec<DnsAnswer>) {
        lock(&self.script).answers.insert(name.to_ascii_lowercase(), (0, answers));
    }

    /// What was asked so far: `name TYPE`.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.script).log.clone()
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve_udp(socket: &UdpSocket, script: &Mutex<Script>, delay: Duration) {
    let mut buffer = [0; 4096];
    // Answers that wait for their time, in the order of their questions.
    let mut waiting: VecDeque<(Instant, Vec<u8>, SocketAddr)> = VecDeque::new();
    loop {
        let next = waiting.front().map(|(at, ..)| *at);
        let came = tokio::select! {
            came = socket.recv_from(&mut buffer) => came,
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                if let Some((_, answer, from)) = waiting.pop_front() {
                    socket.send_to(&answer, from).await.ok();
                }
                continue;
            }
        };
        let Ok((length, from)) = came else { return };
        let Some(mut answer) = answer(&buffer[..length], script) else { continue };
        if answer.len() > UDP_BYTES_MAX {
            let Ok(mut cut) = Message::from_vec(&answer) else { continue };
            cut.answers.clear();
            cut.metadata.truncation = true;
            let Ok(bytes) = cut.to_vec() else { continue };
            answer = bytes;
        }
        if delay.is_zero() {
            socket.send_to(&answer, from).await.ok();
        } else {
            waiting.push_back((Instant::now() + delay, answer, from));
        }
    }
}

async fn serve_tcp(mut stream: TcpStream, script: &Mutex<Script>, delay: Duration) -> io::Result<()> {
    loop {
        let length = usize::from(stream.read_u16().await?);
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        let Some(answer) = answer(&question, script) else { continue };
        sleep(delay).await;
        stream.write_u16(u16::try_from(answer.len()).map_err(io::Error::other)?).await?;
        stream.write_all(&answer).await?;
    }
}

/// The bytes of an answer; none where the script has the server be silent, or the question is none.
fn answer(question: &[u8], script: &Mutex<Script>) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let asked = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let record_type = query.query_type();
    let mut script = lock(script);
    if script.log.len() < LOG_MAX {
        script.log.push(format!("{asked} {record_type}"));
    }
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = question.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.authoritative = true;
    message.add_query(query);
    let mut name = asked;
    // An alias of an alias of itself ends somewhere: the client has to notice.
    for _ in 0..16 {
        let next = match script.answers.get_mut(&name) {
            Some((turn, answers)) => {
                let next = answers.get(*turn % answers.len().max(1)).cloned();
                *turn += 1;
                next.unwrap_or(DnsAnswer::NotFound)
            }
            None => DnsAnswer::NotFound,
        };
        let record =
            |data: RData| Some(Record::from_rdata(Name::from_ascii(format!("{name}.")).ok()?, TTL, data));
        match next {
            DnsAnswer::Silence => return None,
            DnsAnswer::Garbage => return Some(b"this is no message".to_vec()),
            DnsAnswer::NotFound => message.metadata.response_code = ResponseCode::NXDomain,
            DnsAnswer::ServerFailure => message.metadata.response_code = ResponseCode::ServFail,
            DnsAnswer::Refused => message.metadata.response_code = ResponseCode::Refused,
            DnsAnswer::Empty => {}
            DnsAnswer::WrongId => {
                message.metadata.id ^= 0x5a5a;
                message.add_answer(record(RData::A(A::new(127, 0, 0, 1)))?);
            }
            DnsAnswer::Addresses(addresses) => {
                for address in addresses {
                    let data = match address {
                        IpAddr::V4(ip) if record_type == RecordType::A => RData::A(A(ip)),
                        IpAddr::V6(ip) if record_type == RecordType::AAAA => RData::AAAA(AAAA(ip)),
                        _ => continue,
                    };
                    message.add_answer(record(data)?);
                }
            }
            DnsAnswer::Mail(preference, host) if record_type == RecordType::MX => {
                let host = Name::from_ascii(format!("{host}.")).ok()?;
                message.add_answer(record(RData::MX(MX::new(preference, host)))?);
            }
            DnsAnswer::Text(text) if record_type == RecordType::TXT => {
                message.add_answer(record(RData::TXT(TXT::new(vec![text])))?);
            }
            DnsAnswer::Mail(..) | DnsAnswer::Text(_) => {}
            DnsAnswer::Alias(to) => {
                let target = Name::from_ascii(format!("{to}.")).ok()?;
                message.add_answer(record(RData::CNAME(CNAME(target)))?);
                if record_type == RecordType::CNAME {
                    break;
                }
                name = to.to_ascii_lowercase();
                continue;
            }
        }
        break;
    }
    message.to_vec().ok()
}
