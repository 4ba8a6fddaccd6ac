//! A client that sends data before its handshake is over (0-RTT, RFC 8446 2.3) is answered before that: until its Finished is here
//! rustls protects and opens records, and then `records` goes on. Whether what it asks may be answered so early is not decided
//! here. Called by `session`.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic};

use super::handshake::{Party, Step};
use super::records::{Broken, Opened, Records};

/// The record layer of a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all connections are done; a box would be one more allocation for each"
)]
pub(super) enum Layer {
    /// The client has not finished its handshake.
    Early(Box<Early>),
    /// The handshake is over.
    Done(Records),
    /// It failed between the two.
    Gone,
}

/// A connection whose client is still shaking hands.
pub(super) struct Early {
    tls: UnbufferedServerConnection,
    /// The beginning of a message that spans records.
    input: Vec<u8>,
}

impl Layer {
    /// What goes on where the first data came before the end of the handshake. `input` is what rustls saw and is not done with.
    pub(super) fn early(tls: UnbufferedServerConnection, input: Vec<u8>) -> Layer {
        Layer::Early(Box::new(Early { tls, input }))
    }

    /// Whether what comes now may be a replay of what somebody else sent before.
    pub(super) fn is_early(&self) -> bool {
        matches!(self, Layer::Early(_))
    }

    /// Opens a whole record in place. `out` gets what has to be said to the peer in turn.
    pub(super) fn open(&mut self, record: &mut [u8], out: &mut Vec<u8>) -> Result<Opened, Broken> {
        let early = match self {
            Layer::Done(records) => return records.open(record, out),
            Layer::Early(early) => early,
            Layer::Gone => return Err(Broken::Unexpected),
        };
        let opened = early.open(record, out)?;
        if !early.tls.is_handshaking() {
            self.finish()?;
        }
        Ok(opened)
    }

    /// The handshake is over.
    fn finish(&mut self) -> Result<(), Broken> {
        let Layer::Early(early) = std::mem::replace(self, Layer::Gone) else { return Ok(()) };
        let Early { tls, input } = *early;
        let suite = tls.negotiated_cipher_suite().filter(|_| input.is_empty()).ok_or(Broken::Unexpected)?;
        let (secrets, kernel) = tls.finish().map_err(|_| Broken::Keys)?;
        *self = Layer::Done(Records::new(suite, secrets, kernel).map_err(|_| Broken::Keys)?);
        Ok(())
    }

    /// Protects data, appended to `out`.
    pub(super) fn protect(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        match self {
            Layer::Done(records) => records.protect(data, out),
            Layer::Early(early) => early.write(out, |traffic, out| traffic.encrypt(data, out)),
            Layer::Gone => Err(Broken::Keys),
        }
    }

    /// close_notify, appended to `out`.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        match self {
            Layer::Done(records) => records.close(out),
            Layer::Early(early) => early.write(out, |traffic, out| traffic.queue_close_notify(out)),
            Layer::Gone => Err(Broken::Keys),
        }
    }

    /// The alert that ends the connection, appended to `out`.
    pub(super) fn refuse(&mut self, broken: &Broken, out: &mut Vec<u8>) {
        // rustls has written its own.
        if let Layer::Done(records) = self {
            records.refuse(broken, out);
        }
    }
}

impl Early {
    fn open(&mut self, record: &mut [u8], out: &mut Vec<u8>) -> Result<Opened, Broken> {
        self.input.extend_from_slice(record);
        let mut data = Vec::new();
        let is_closed = loop {
            let (discard, step) = self.tls.look(&mut self.input, &mut data, out);
            self.input.drain(..discard);
            match step {
                Step::Again => {}
                Step::Ready | Step::Receive => break false,
                Step::Ended => break true,
                Step::Failed(_) => {
                    // The alert is what comes out next.
                    while let (_, Step::Again) = self.tls.look(&mut self.input, &mut data, out) {}
                    return Err(Broken::Unexpected);
                }
            }
        };
        if is_closed {
            return Ok(Opened::Closed);
        }
        // Of one record came no more than was in it.
        let Some(place) = record.get_mut(..data.len()) else { return Err(Broken::BadRecord) };
        place.copy_from_slice(&data);
        Ok(if data.is_empty() { Opened::Nothing } else { Opened::Data(0..data.len()) })
    }

    /// Writes with the keys of the application, which are there since our Finished.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        mut encrypt: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Broken> {
        let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.input);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else { return Err(Broken::Keys) };
        let needed = match encrypt(&mut traffic, &mut []) {
            Err(EncryptError::InsufficientSize(size)) => size.required_size,
            _ => return Err(Broken::Keys),
        };
        let start = out.len();
        out.resize(start + needed, 0);
        let written = encrypt(&mut traffic, &mut out[start..]).map_err(|_| Broken::Keys)?;
        out.truncate(start + written);
        self.input.drain(..discard);
        Ok(())
    }
}

type Traffic<'a> = WriteTraffic<'a, rustls::server::ServerConnectionData>;
