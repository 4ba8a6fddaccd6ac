//! Handshakes: from the first byte of a connection to keys, or to the reason why there are none. rustls decides; here its
//! messages are carried. The caller sets the deadline: a handshake that is dropped leaves a connection that can only be closed.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::UnbufferedServerConnection;
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{AlertDescription, CommonState, Error, ExtractedSecrets, HandshakeKind, ServerConfig};

use super::client::Connector;
use super::early::Layer;
use super::facts::Facts;
use super::lenient::{self, Found, Lenient};
use super::records::{Front, Kernel, Records, front};
use super::server;
use super::session::Established;
use super::transport::Transport;
use crate::base::limits::{TLS_HANDSHAKE_BYTES_MAX, TLS_STEPS_PER_TURN};
use crate::proto::Parsed;
use crate::proto::client_hello::{self, ClientHelloError};
use crate::rt::{self, Conn};

/// Why there is no TLS.
#[derive(Debug)]
pub enum Failure {
    /// The peer left.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// What came is no TLS; these are its first bytes.
    NotTls(Vec<u8>),
    /// There is no certificate for this name (`strict-sni`).
    UnknownName(Box<str>),
    /// rustls refused, or the peer did.
    Tls(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

/// What a name is served with.
#[derive(Clone)]
pub struct Chosen {
    pub(super) config: Arc<ServerConfig>,
    /// Who judges certificates of clients that are let through although they are bad.
    pub(super) lenient: Option<Arc<Lenient>>,
}

/// Says which configuration serves a name; `None`: none does.
pub trait Choose {
    /// The configuration for a name that the client asked for, or for none.
    fn choose(&self, sni: Option<&str>) -> Option<Chosen>;
}

/// Accepts a handshake on a connection whose first bytes, if any came already, are `first`. Then the connection is TLS.
///
/// # Errors
/// Whatever kept it from being TLS. An alert that says so has been sent where the protocol has one.
pub async fn accept(transport: &Transport, configs: &impl Choose, first: Vec<u8>) -> Result<(), Failure> {
    let conn = transport.conn();
    let mut io = Carrier { conn, input: first, shown: 0, out: Vec::new() };
    let sni = hello(&mut io).await?;
    let Some(Chosen { config, lenient }) = configs.choose(sni.as_deref()) else {
        io.refuse(AlertDescription::UnrecognisedName).await;
        return Err(Failure::UnknownName(sni.unwrap_or_default()));
    };
    let tls = UnbufferedServerConnection::new(config).map_err(Failure::Tls)?;
    let asked = Asked { sni: sni.as_deref(), lenient: lenient.as_deref() };
    shake(transport, io, tls, asked).await
}

/// Shakes hands with a server. Then the connection is TLS. `name`: whom it is asked for, if that is another for each
/// connection; what is no name is not asked for.
///
/// # Errors
/// As for [`accept`].
pub async fn connect(
    transport: &Transport,
    connector: &Connector,
    name: Option<&str>,
) -> Result<(), Failure> {
    let io = Carrier { conn: transport.conn(), input: Vec::new(), shown: 0, out: Vec::new() };
    let name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    let name = name.unwrap_or_else(|| connector.name.clone());
    let tls = UnbufferedClientConnection::new(connector.config.clone(), name);
    shake(transport, io, tls.map_err(Failure::Tls)?, Asked::default()).await
}

/// What is known of a client before its handshake.
#[derive(Clone, Copy, Default)]
struct Asked<'a> {
    sni: Option<&'a str>,
    lenient: Option<&'a Lenient>,
}

impl Asked<'_> {
    /// What is wrong with the certificate of a client that is let through. A session that goes on was verified when it began;
    /// what was wrong then may be another thing now.
    fn judge(&self, state: &CommonState, found: Found) -> Result<Found, Failure> {
        let is_resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
        match (self.lenient, state.peer_certificates()) {
            (Some(lenient), Some(chain)) if is_resumed && !chain.is_empty() => {
                lenient.judge(chain, UnixTime::now()).map_err(Failure::Tls)
            }
            _ => Ok(found),
        }
    }
}

/// One side of a handshake: rustls has a type for each.
pub(super) trait Party: Sized {
    /// Looks at the input; how much of it is done with, and what comes next. Messages go to `out`, early data to `data`.
    fn look(&mut self, input: &mut [u8], data: &mut Vec<u8>, out: &mut Vec<u8>) -> (usize, Step);
    fn state(&self) -> &CommonState;
    /// Whether our last message may wait for the first data.
    fn may_hold_back(&self) -> bool;
    fn finish(self) -> Result<(ExtractedSecrets, Kernel), Error>;
    /// What goes on before the end of the handshake; a client never does.
    fn early(self, input: Vec<u8>) -> Option<Layer>;
}

impl Party for UnbufferedServerConnection {
    fn look(&mut self, input: &mut [u8], data: &mut Vec<u8>, out: &mut Vec<u8>) -> (usize, Step) {
        let UnbufferedStatus { discard, state } = self.process_tls_records(input);
        let step = match state {
            Ok(ConnectionState::ReadEarlyData(mut read)) => {
                // They are open already.
                while let Some(Ok(record)) = read.next_record() {
                    data.extend_from_slice(record.payload);
                }
                Step::Again
            }
            state => state.map_or_else(Step::Failed, |state| step(state, data, out)),
        };
        (discard, step)
    }

    fn state(&self) -> &CommonState {
        self
    }

    /// With TLS 1.3 only tickets wait then; before it our Finished comes last.
    fn may_hold_back(&self) -> bool {
        self.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    fn finish(self) -> Result<(ExtractedSecrets, Kernel), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, Kernel::Server(kernel)))
    }

    fn early(self, input: Vec<u8>) -> Option<Layer> {
        Some(Layer::early(self, input))
    }
}

impl Party for UnbufferedClientConnection {
    fn look(&mut self, input: &mut [u8], data: &mut Vec<u8>, out: &mut Vec<u8>) -> (usize, Step) {
        let UnbufferedStatus { discard, state } = self.process_tls_records(input);
        (discard, state.map_or_else(Step::Failed, |state| step(state, data, out)))
    }

    fn state(&self) -> &CommonState {
        self
    }

    /// A server that speaks first waits for our Finished.
    fn may_hold_back(&self) -> bool {
        false
    }

    fn finish(self) -> Result<(ExtractedSecrets, Kernel), Error> {
        self.dangerous_into_kernel_connection().map(|(secrets, kernel)| (secrets, Kernel::Client(kernel)))
    }

    fn early(self, _: Vec<u8>) -> Option<Layer> {
        None
    }
}

async fn shake(
    transport: &Transport,
    mut io: Carrier<'_>,
    mut tls: impl Party,
    asked: Asked<'_>,
) -> Result<(), Failure> {
    let mut data = Vec::new();
    let (mut shown, mut found) = (None, Found::default());
    let ended = loop {
        turn().await;
        let (discard, step) = tls.look(&mut io.input[..io.shown], &mut data, &mut io.out);
        shown = server::take_shown().or(shown);
        found = lenient::take_found().unwrap_or(found);
        io.discard(discard);
        match step {
            Step::Again => {}
            Step::Ready if !tls.state().is_handshaking() => break false,
            Step::Ended if !tls.state().is_handshaking() => break true,
            Step::Ended => return Err(Failure::Closed),
            // Before the end of the handshake only data that is early can be there.
            Step::Ready if !data.is_empty() => {
                let shaken = Shaken { tls, sni: asked.sni, shown, data };
                return begin_early(transport, io, shaken).await;
            }
            Step::Ready | Step::Receive => {
                if !io.show_more() {
                    io.flush().await?;
                    io.receive().await?;
                }
            }
            Step::Failed(error) => {
                // The alert is what comes out next.
                while let (_, Step::Again) = tls.look(&mut io.input[..io.shown], &mut data, &mut io.out) {}
                // The peer may be gone; the error says more.
                let _ = io.flush().await;
                return Err(Failure::Tls(error));
            }
        }
    };
    if !tls.may_hold_back() {
        io.flush().await?;
    }
    let found = asked.judge(tls.state(), found)?;
    let facts = Facts::of(tls.state(), asked.sni, (shown, found)).ok_or(Failure::Closed)?;
    let suite = tls.state().negotiated_cipher_suite().ok_or(Failure::Closed)?;
    let (secrets, kernel) = tls.finish().map_err(Failure::Tls)?;
    let records = Layer::Done(Records::new(suite, secrets, kernel).map_err(Failure::Tls)?);
    let Carrier { input: rest, out: queued, .. } = io;
    transport.establish(Established { records, facts, data, rest, queued, ended });
    Ok(())
}

/// What there is of a handshake that goes on while its client is served.
struct Shaken<'a, P> {
    tls: P,
    sni: Option<&'a str>,
    shown: Option<Arc<CertifiedKey>>,
    data: Vec<u8>,
}

/// Serves a client before the end of its handshake.
async fn begin_early<P: Party>(
    transport: &Transport,
    mut io: Carrier<'_>,
    shaken: Shaken<'_, P>,
) -> Result<(), Failure> {
    let Shaken { tls, sni, shown, data } = shaken;
    // It may wait for our hello before it sends the rest of what it asks.
    io.flush().await?;
    let facts = Facts::of(tls.state(), sni, (shown, Found::default())).ok_or(Failure::Closed)?;
    let rest = io.input.split_off(io.shown);
    let records = tls.early(io.input).ok_or(Failure::Closed)?;
    transport.establish(Established { records, facts, data, rest, queued: Vec::new(), ended: false });
    Ok(())
}

thread_local! {
    /// The turn of this core, and how many steps of handshakes it has had.
    static STEPS: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// Waits for a turn of the core that has room for a step of a handshake: one takes as much CPU time as hundreds of requests, and
/// those who are served already are not to wait for a crowd that comes.
async fn turn() {
    loop {
        let now = rt::limits::loops();
        let (turn, steps) = STEPS.get();
        let steps = if turn == now { steps } else { 0 };
        STEPS.set((now, steps + 1));
        if steps < TLS_STEPS_PER_TURN {
            return;
        }
        rt::yield_now().await;
    }
}

/// Receives until it is known whom the client asks for. A hello that our parser does not take is left to rustls, which
/// answers it with the right alert.
async fn hello(io: &mut Carrier<'_>) -> Result<Option<Box<str>>, Failure> {
    let mut scratch = Vec::new();
    loop {
        match client_hello::parse(&io.input, &mut scratch) {
            Ok(Parsed::Complete { value, .. }) => {
                return Ok(value.sni.map(|sni| sni.trim_end_matches('.').to_ascii_lowercase().into()));
            }
            Ok(Parsed::Partial) => {}
            Err(ClientHelloError::NotHandshake { .. } | ClientHelloError::Sslv2) => {
                return Err(Failure::NotTls(std::mem::take(&mut io.input)));
            }
            Err(_) => return Ok(None),
        }
        io.receive().await?;
    }
}

/// What is to be done next.
pub(super) enum Step {
    /// Look again.
    Again,
    /// Send what there is and receive.
    Receive,
    /// The handshake may be over.
    Ready,
    /// It is over, and the peer has closed already.
    Ended,
    Failed(Error),
}

fn step<Data>(state: ConnectionState<'_, '_, Data>, data: &mut Vec<u8>, out: &mut Vec<u8>) -> Step {
    match state {
        ConnectionState::EncodeTlsData(mut encode) => {
            let start = out.len();
            let needed = match encode.encode(&mut []) {
                Err(EncodeError::InsufficientSize(size)) => size.required_size,
                _ => 0,
            };
            out.resize(start + needed, 0);
            match encode.encode(&mut out[start..]) {
                Ok(_) => Step::Again,
                Err(_) => Step::Failed(Error::General("a handshake message that cannot be encoded".into())),
            }
        }
        ConnectionState::TransmitTlsData(transmit) => {
            transmit.done();
            Step::Again
        }
        ConnectionState::BlockedHandshake => Step::Receive,
        ConnectionState::WriteTraffic(_) => Step::Ready,
        ConnectionState::ReadTraffic(mut read) => {
            while let Some(record) = read.next_record() {
                match record {
                    Ok(record) => data.extend_from_slice(record.payload),
                    Err(error) => return Step::Failed(error),
                }
            }
            Step::Again
        }
        ConnectionState::PeerClosed | ConnectionState::Closed => Step::Ended,
        _ => Step::Failed(Error::General("an unexpected state of the handshake".into())),
    }
}

/// The bytes of a handshake and the socket they travel on.
struct Carrier<'a> {
    conn: &'a Conn,
    input: Vec<u8>,
    /// Bytes of the input that rustls sees: record by record, because what follows the handshake is `records`' to open. A key
    /// update, for one, would leave rustls with an answer that it cannot hand over.
    shown: usize,
    out: Vec<u8>,
}

impl Carrier<'_> {
    fn discard(&mut self, n: usize) {
        self.input.drain(..n);
        self.shown -= n;
    }

    /// Shows the next record; false: it is not here.
    fn show_more(&mut self) -> bool {
        let more = match front(&self.input[self.shown..]) {
            Ok(Front::Record(len)) => len,
            Ok(Front::Partial(_)) => 0,
            // rustls has the alert for it.
            Err(_) => self.input.len() - self.shown,
        };
        self.shown += more;
        more > 0
    }

    async fn receive(&mut self) -> Result<(), Failure> {
        if self.input.len() > TLS_HANDSHAKE_BYTES_MAX {
            return Err(Failure::Tls(Error::PeerSentOversizedRecord));
        }
        let Some(buf) = self.conn.recv().await? else { return Err(Failure::Closed) };
        self.input.extend_from_slice(&buf);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.conn.send_all(std::mem::take(&mut self.out)).await
    }

    /// Sends an alert before there are keys.
    async fn refuse(&mut self, alert: AlertDescription) {
        // Type alert, version 3.3, two bytes: fatal and which (RFC 8446 5.1 and 6).
        self.out.extend_from_slice(&[21, 3, 3, 0, 2, 2, alert.into()]);
        // The peer may be gone; then there is nobody to tell.
        let _ = self.flush().await;
    }
}
