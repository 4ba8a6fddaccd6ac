//! Protects and opens TLS records once the handshake is over. rustls shakes hands and owns the secrets of the connection;
//! records are opened with its ciphers, in place on the buffers that the kernel filled, so that an idle connection is two keys
//! and a received byte is copied only where a record spans two receives. RFC 8446 5, RFC 5246 6.2. Called by `session`.

use std::fmt;
use std::ops::Range;

use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{
    InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite,
};

use super::seal::{self, AROUND_BYTES, Sealer};
use crate::base::limits::TLS_HANDSHAKE_BYTES_MAX;

/// Bytes of a record header: type, version, length.
pub(super) const HEADER_BYTES: usize = 5;
/// Bytes of plain text in a record (RFC 8446 5.1).
pub(super) const PLAIN_BYTES_MAX: usize = 1 << 14;
/// Bytes of a protected record behind its header: TLS 1.2 allows 2048 more than the plain text (RFC 5246 6.2.3).
const RECORD_BYTES_MAX: usize = PLAIN_BYTES_MAX + 2048;

const KEY_UPDATE: u8 = 24;
const NEW_SESSION_TICKET: u8 = 4;
const ALERT_FATAL: u8 = 2;
const ALERT_WARNING: u8 = 1;
const CLOSE_NOTIFY: u8 = 0;
/// RFC 5246 7.2: an alert that TLS 1.3 does without.
const USER_CANCELED: u8 = 90;

/// Why a connection cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// A record is not what its header says, too long, or was tampered with.
    BadRecord,
    /// A message that has no place after the handshake; renegotiation for one, which is never done.
    Unexpected,
    /// The peer sent this alert.
    Alert(u8),
    /// Keys are worn out or a key update failed.
    Keys,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::BadRecord => f.write_str("a TLS record that cannot be opened"),
            Broken::Unexpected => f.write_str("an unexpected TLS message"),
            Broken::Alert(code) => write!(f, "the peer sent TLS alert {code}"),
            Broken::Keys => f.write_str("TLS keys that are worn out"),
        }
    }
}

impl Broken {
    /// The alert that says so to the peer (RFC 8446 6.2); none in answer to an alert.
    fn alert(&self) -> Option<u8> {
        match self {
            Broken::BadRecord => Some(20),
            Broken::Unexpected => Some(10),
            Broken::Keys => Some(80),
            Broken::Alert(_) => None,
        }
    }
}

/// What the front of the input is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Front {
    /// Not a whole record yet; it takes this many bytes, as far as that is known.
    Partial(usize),
    /// A whole record of this many bytes, header included.
    Record(usize),
}

/// Looks at the record at the front of `input`.
pub(super) fn front(input: &[u8]) -> Result<Front, Broken> {
    let &[_, major, _, high, low, ..] = input else { return Ok(Front::Partial(HEADER_BYTES)) };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if major != 3 || len > RECORD_BYTES_MAX {
        return Err(Broken::BadRecord);
    }
    let whole = HEADER_BYTES + len;
    Ok(if input.len() < whole { Front::Partial(whole) } else { Front::Record(whole) })
}

/// What a record was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Opened {
    /// Data, at this place of the record.
    Data(Range<usize>),
    /// Something that was dealt with.
    Nothing,
    /// close_notify: the peer sends no more.
    Closed,
}

/// Which side of the connection we are, with what rustls needs for new keys.
pub(super) enum Kernel {
    /// We accepted.
    Server(KernelConnection<ServerConnectionData>),
    /// We connected.
    Client(KernelConnection<ClientConnectionData>),
}

/// What seals records.
enum Tx {
    /// TLS 1.3, which is nearly all there is.
    Own(Box<Sealer>),
    /// TLS 1.2 has three layouts of records: rustls writes them.
    Rustls(Box<dyn MessageEncrypter>),
}

/// The record layer of one connection.
pub(super) struct Records {
    rx: Box<dyn MessageDecrypter>,
    tx: Tx,
    rx_seq: u64,
    tx_seq: u64,
    kernel: Kernel,
    suite: SupportedCipherSuite,
    /// A handshake message that spans records.
    joined: Vec<u8>,
}

impl Records {
    /// The record layer that goes on where the handshake ended.
    pub(super) fn new(
        suite: SupportedCipherSuite,
        secrets: ExtractedSecrets,
        kernel: Kernel,
    ) -> Result<Records, Error> {
        let ExtractedSecrets { tx: (tx_seq, tx), rx: (rx_seq, rx) } = secrets;
        let mut tx = encrypter(suite, tx)?;
        if let Tx::Rustls(tx) = &mut tx
            && tx_seq > 0
        {
            // AWS-LC takes the first nonce it sees for that of record 0, counts from there, and refuses to go back. What is
            // sealed here is the nonce's second use; it never leaves this line.
            let payload = OutboundChunks::from(&[][..]);
            let typ = ContentType::ApplicationData;
            drop(tx.encrypt(OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload }, 0)?);
        }
        Ok(Records { rx: decrypter(suite, rx)?, tx, rx_seq, tx_seq, kernel, suite, joined: Vec::new() })
    }

    /// Opens a whole record in place. `out` gets what has to be said to the peer in turn.
    pub(super) fn open(&mut self, record: &mut [u8], out: &mut Vec<u8>) -> Result<Opened, Broken> {
        let base = record.as_ptr() as usize;
        let (header, payload) = record.split_at_mut(HEADER_BYTES);
        let typ = ContentType::from(header[0]);
        let is_tls13 = self.is_tls13();
        // RFC 8446 5.2: everything is protected now, and protected records look like data.
        if is_tls13 && typ != ContentType::ApplicationData {
            return Err(Broken::Unexpected);
        }
        let message = InboundOpaqueMessage::new(typ, ProtocolVersion::TLSv1_2, payload);
        let plain = self.rx.decrypt(message, self.rx_seq).map_err(|_| Broken::BadRecord)?;
        self.rx_seq += 1;
        match plain.typ {
            ContentType::ApplicationData => {
                let start = plain.payload.as_ptr() as usize - base;
                Ok(Opened::Data(start..start + plain.payload.len()))
            }
            ContentType::Alert => match *plain.payload {
                [_, CLOSE_NOTIFY] => Ok(Opened::Closed),
                [_, USER_CANCELED] => Ok(Opened::Nothing),
                // no_renegotiation and the like are no reason to end (RFC 5246 7.2); TLS 1.3 has no warnings.
                [ALERT_WARNING, _] if !is_tls13 => Ok(Opened::Nothing),
                [_, code] => Err(Broken::Alert(code)),
                _ => Err(Broken::BadRecord),
            },
            ContentType::Handshake if is_tls13 => {
                let bytes = plain.payload.to_vec();
                self.handshake(&bytes, out)?;
                Ok(Opened::Nothing)
            }
            // TLS 1.2: a ClientHello or HelloRequest asks for renegotiation.
            _ => Err(Broken::Unexpected),
        }
    }

    fn is_tls13(&self) -> bool {
        matches!(self.suite, SupportedCipherSuite::Tls13(_))
    }

    /// Messages after the handshake: new keys, and tickets for a client.
    fn handshake(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.joined.extend_from_slice(bytes);
        let joined = std::mem::take(&mut self.joined);
        let mut rest = joined.as_slice();
        while let &[kind, a, b, c, ref body @ ..] = rest {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > TLS_HANDSHAKE_BYTES_MAX {
                return Err(Broken::Unexpected);
            }
            if body.len() < len {
                break;
            }
            let (body, behind) = body.split_at(len);
            match (kind, &mut self.kernel) {
                (KEY_UPDATE, _) => {
                    // RFC 8446 5.1: nothing of the old keys may stand behind it in its record.
                    if !behind.is_empty() {
                        return Err(Broken::Unexpected);
                    }
                    self.key_update(body, out)?;
                }
                (NEW_SESSION_TICKET, Kernel::Client(kernel)) => {
                    kernel.handle_new_session_ticket(body).map_err(|_| Broken::Unexpected)?;
                }
                _ => return Err(Broken::Unexpected),
            }
            rest = behind;
        }
        self.joined = rest.to_vec();
        Ok(())
    }

    fn key_update(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let requested = match body {
            [0] => false,
            [1] => true,
            _ => return Err(Broken::Unexpected),
        };
        let (seq, secrets) = match &mut self.kernel {
            Kernel::Server(kernel) => kernel.update_rx_secret(),
            Kernel::Client(kernel) => kernel.update_rx_secret(),
        }
        .map_err(|_| Broken::Keys)?;
        self.rx = decrypter(self.suite, secrets).map_err(|_| Broken::Keys)?;
        self.rx_seq = seq;
        if requested {
            self.renew_tx(out)?;
        }
        Ok(())
    }

    /// Tells the peer of new keys and uses them.
    fn renew_tx(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.seal(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], out)?;
        let (seq, secrets) = match &mut self.kernel {
            Kernel::Server(kernel) => kernel.update_tx_secret(),
            Kernel::Client(kernel) => kernel.update_tx_secret(),
        }
        .map_err(|_| Broken::Keys)?;
        self.tx = encrypter(self.suite, secrets).map_err(|_| Broken::Keys)?;
        self.tx_seq = seq;
        Ok(())
    }

    /// Protects data, appended to `out`.
    pub(super) fn protect(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        // RFC 8446 5.5: a key may protect so many records and no more.
        let limit = match self.suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        };
        let records = data.len().div_ceil(PLAIN_BYTES_MAX);
        let last = self.tx_seq.saturating_add(records as u64);
        if let Tx::Own(sealer) = &self.tx
            && last.saturating_add(2) < limit
        {
            let sealed = seal_all(sealer, data, self.tx_seq, out);
            // Where it failed the connection is over; no number is used twice.
            self.tx_seq = last;
            return sealed;
        }
        for piece in data.chunks(PLAIN_BYTES_MAX) {
            if self.tx_seq.saturating_add(2) >= limit {
                if !self.is_tls13() {
                    return Err(Broken::Keys);
                }
                self.renew_tx(out)?;
            }
            self.seal(ContentType::ApplicationData, piece, out)?;
        }
        Ok(())
    }

    /// close_notify, appended to `out`.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.seal(ContentType::Alert, &[ALERT_WARNING, CLOSE_NOTIFY], out)
    }

    /// The alert that ends the connection, appended to `out`.
    pub(super) fn refuse(&mut self, broken: &Broken, out: &mut Vec<u8>) {
        if let Some(alert) = broken.alert() {
            // It ends either way.
            let _ = self.seal(ContentType::Alert, &[ALERT_FATAL, alert], out);
        }
    }

    fn seal(&mut self, typ: ContentType, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        let at = out.len();
        match &mut self.tx {
            Tx::Own(sealer) => {
                out.resize(at + plain.len() + AROUND_BYTES, 0);
                sealer.seal(typ, plain, self.tx_seq, &mut out[at..]).map_err(|_| Broken::Keys)?;
            }
            Tx::Rustls(tx) => {
                let payload = OutboundChunks::from(plain);
                let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload };
                let sealed = tx.encrypt(message, self.tx_seq).map_err(|_| Broken::Keys)?.encode();
                if at == 0 {
                    *out = sealed;
                } else {
                    out.extend_from_slice(&sealed);
                }
            }
        }
        self.tx_seq += 1;
        Ok(())
    }
}

/// Seals data in records from number `seq` on, appended to `out`.
fn seal_all(sealer: &Sealer, data: &[u8], mut seq: u64, out: &mut Vec<u8>) -> Result<(), Broken> {
    let at = out.len();
    let len = data.len() + data.len().div_ceil(PLAIN_BYTES_MAX) * AROUND_BYTES;
    if at == 0 {
        *out = seal::room(len);
    } else {
        out.resize(at + len, 0);
    }
    let records = out[at..].chunks_mut(PLAIN_BYTES_MAX + AROUND_BYTES);
    for (piece, record) in data.chunks(PLAIN_BYTES_MAX).zip(records) {
        if sealer.seal(ContentType::ApplicationData, piece, seq, record).is_err() {
            out.truncate(at);
            return Err(Broken::Keys);
        }
        seq += 1;
    }
    Ok(())
}

fn decrypter(
    suite: SupportedCipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, Error> {
    let (key, iv) = parts(secrets)?;
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
            suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed])
        }
    })
}

fn encrypter(suite: SupportedCipherSuite, secrets: ConnectionTrafficSecrets) -> Result<Tx, Error> {
    match suite {
        SupportedCipherSuite::Tls13(_) => {
            let unknown = || Error::General("a cipher without a record layer".into());
            Sealer::new(&secrets).map(|sealer| Tx::Own(Box::new(sealer))).ok_or_else(unknown)
        }
        SupportedCipherSuite::Tls12(suite) => {
            let (key, iv) = parts(secrets)?;
            let (fixed, explicit) = iv.as_ref().split_at(suite.aead_alg.key_block_shape().fixed_iv_len);
            Ok(Tx::Rustls(suite.aead_alg.encrypter(key, fixed, explicit)))
        }
    }
}

fn parts(
    secrets: ConnectionTrafficSecrets,
) -> Result<(rustls::crypto::cipher::AeadKey, rustls::crypto::cipher::Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("a cipher without a record layer".into())),
    }
}
