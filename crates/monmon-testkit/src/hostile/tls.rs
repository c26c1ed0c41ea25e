//! What the TLS behaviours show, and the fragments of the protocol that they send by hand.

use std::{collections::BTreeMap, io, sync::Arc};

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::Behaviour;
use crate::certs::{Identity, Tls, Validity, loopback_names};

/// Names on the certificate of [`Behaviour::TlsManyNames`].
const MANY_NAMES: usize = 10_000;

/// Alert records: type 21, version, length 2, level fatal, description (RFC 8446, section 6).
pub(crate) const ALERT_HANDSHAKE_FAILURE: &[u8] = &[21, 3, 3, 0, 2, 2, 40];
pub(crate) const ALERT_PROTOCOL_VERSION: &[u8] = &[21, 3, 1, 0, 2, 2, 70];

/// The servers that the behaviours need, each made only if it is asked for.
pub(crate) struct Handshakes {
    acceptors: BTreeMap<Behaviour, TlsAcceptor>,
}

impl Handshakes {
    pub(crate) fn new(tls: &Tls, behaviours: &[Behaviour]) -> io::Result<Handshakes> {
        let mut acceptors = BTreeMap::new();
        for behaviour in behaviours {
            if let Some(config) = config(tls, *behaviour)? {
                acceptors.insert(*behaviour, TlsAcceptor::from(config));
            }
        }
        Ok(Handshakes { acceptors })
    }

    pub(crate) fn acceptor(&self, behaviour: Behaviour) -> Option<&TlsAcceptor> {
        self.acceptors.get(&behaviour)
    }
}

fn config(tls: &Tls, behaviour: Behaviour) -> io::Result<Option<Arc<ServerConfig>>> {
    let names = loopback_names();
    let identity = match behaviour {
        Behaviour::TlsExpired => tls.server(&names, Validity::Over)?,
        Behaviour::TlsNotYetValid => tls.server(&names, Validity::NotYet)?,
        Behaviour::TlsWrongName => tls.server(&["elsewhere.test".to_owned()], Validity::Always)?,
        Behaviour::TlsSelfSigned => Identity::self_signed(&names)?,
        Behaviour::TlsUnknownIssuer => Tls::new("nobody's authority")?.loopback_server()?,
        Behaviour::TlsMissingIntermediate => tls.intermediate("below")?.0.loopback_server()?,
        Behaviour::TlsChainOutOfOrder => {
            let (below, certificate) = tls.intermediate("below")?;
            let stranger = Identity::self_signed(&["stranger.test".to_owned()])?;
            let mut identity = below.loopback_server()?;
            identity.chain.extend(stranger.chain);
            identity.chain.push(certificate);
            identity
        }
        Behaviour::TlsManyNames => {
            let mut many = names;
            many.extend((0..MANY_NAMES).map(|n| format!("name-{n}.site.test")));
            tls.server(&many, Validity::Always)?
        }
        Behaviour::TlsClientCertificate => {
            return tls.loopback_server()?.client_demanding_config(tls).map(Some);
        }
        Behaviour::TlsAskedPlainly
        | Behaviour::TlsDrip
        | Behaviour::TlsNoCloseNotify
        | Behaviour::TlsTruncated => tls.loopback_server()?,
        _ => return Ok(None),
    };
    identity.server_config().map(Some)
}

/// A ServerHello of TLS 1.0: a well-formed record that chooses version 3.1 and
/// TLS_RSA_WITH_AES_128_CBC_SHA (RFC 2246, section 7.4.1.3).
pub(crate) fn old_hello() -> Vec<u8> {
    let mut hello = vec![3, 1];
    hello.extend([7; 32]); // random
    hello.extend([0, 0, 0x2F, 0]); // no session, the suite, no compression
    let hello_length = u8::try_from(hello.len()).expect("the hello is shorter than 256 bytes");
    let mut record = vec![22, 3, 1, 0, hello_length + 4, 2, 0, 0, hello_length];
    record.extend(hello);
    record
}
