//! Following the body of an HTTP/1 message: which bytes are framing and which are data. Copies and keeps nothing.
//!
//! The caller forwards both kinds untouched (HTTP/1 to HTTP/1) or only the data (HTTP/2 side). RFC 9112 7.1.

#[cfg(test)]
mod tests;

use crate::base::limits::{CHUNK_EXTENSION_BYTES_MAX, HEADER_NAME_BYTES_MAX, TRAILER_BYTES_MAX};
use crate::proto::h1::framing::Framing;
use crate::proto::h1::reason::{Reason, Refusal};
use crate::proto::http::{Known, class};

/// What stands at the front of the bytes given to [`BodyDecoder::step`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// First that many bytes of framing: chunk sizes, line ends, trailers.
    pub framing: usize,
    /// How many of them, the last ones, belong to the trailer section, its empty line included. Collected over the steps
    /// they are what [`parse_trailers`](crate::proto::h1::head::parse_trailers) reads.
    pub trailer: usize,
    /// Then that many bytes of the body.
    pub data: usize,
    /// Whether the body ends behind them. What follows is the next message.
    pub done: bool,
}

/// Follows one body.
///
/// ```
/// use shardgate::proto::h1::{body::BodyDecoder, framing::Framing};
/// let mut body = BodyDecoder::new(Framing::Chunked);
/// let step = body.step(b"5\r\nhello\r\n0\r\n\r\n").unwrap();
/// assert_eq!((step.framing, step.data, step.done), (3, 5, false));
/// let step = body.step(b"\r\n0\r\n\r\n").unwrap();
/// assert_eq!((step.framing, step.data, step.done), (7, 0, true));
/// ```
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    /// Bytes of data to come: of the body, or of the chunk.
    remaining: u64,
    state: State,
    /// Digits of the chunk size, or bytes of its extensions.
    count: u16,
    /// Length of the trailer name that is being read.
    name_len: u16,
    /// Bytes of the trailer section so far.
    trailer_bytes: u32,
    /// Start of that name, long enough for every name that is forbidden there.
    name: [u8; NAME_KEPT],
}

const NAME_KEPT: usize = 24;
const SIZE_DIGITS_MAX: u16 = 16;

// A decoder is part of every stream.
const _: () = assert!(size_of::<BodyDecoder>() <= 48);

/// ```text
/// Length -> Done            UntilClose (for ever)
///
/// SizeStart -> Size -> [Extension...] -> SizeLf -> Data -> DataCr -> DataLf -> SizeStart
///                                           \ (size 0)
///                                            TrailerStart <-> TrailerName -> TrailerValue -> TrailerLf
///                                                  \-> EndLf -> Done
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum State {
    Done,
    Length,
    UntilClose,
    SizeStart,
    Size,
    ExtensionNameStart,
    ExtensionName,
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionQuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    // From here on the trailer section.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

impl BodyDecoder {
    /// A decoder at the first byte of a body.
    pub fn new(framing: Framing) -> BodyDecoder {
        let (state, remaining) = match framing {
            Framing::None | Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::SizeStart, 0),
            Framing::UntilClose | Framing::Tunnel => (State::UntilClose, 0),
        };
        BodyDecoder { remaining, state, count: 0, name_len: 0, trailer_bytes: 0, name: [0; NAME_KEPT] }
    }
    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
    /// Whether the sender may close here without having cut the body short.
    pub fn may_end_here(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }
    /// Bytes of data that are certain to follow without framing between: what may be spliced. `None`: all, until close.
    pub fn data_ahead(&self) -> Option<u64> {
        match self.state {
            State::UntilClose => None,
            State::Length | State::Data => Some(self.remaining),
            _ => Some(0),
        }
    }
    /// How many of the next `len` bytes are data that no framing comes in front of, or behind, within them; `None` if it takes a
    /// [`step`](BodyDecoder::step) to know.
    pub fn bare(&self, len: usize) -> Option<usize> {
        match self.state {
            State::Length => {
                Some(usize::try_from(self.remaining).map_or(len, |remaining| remaining.min(len)))
            }
            State::UntilClose => Some(len),
            _ => None,
        }
    }
    /// Takes note of data that was moved without being shown to [`BodyDecoder::step`], at most [`BodyDecoder::data_ahead`].
    pub fn skip_data(&mut self, count: u64) {
        debug_assert!(self.data_ahead().is_none_or(|ahead| count <= ahead));
        match self.state {
            State::Length | State::Data => self.take_data(count),
            _ => {}
        }
    }

    /// Says what stands at the front of `input`. The step takes `framing + data` bytes; the caller comes back with what
    /// follows them. A step that takes nothing and is not done needs more bytes. After an error the body is beyond repair.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let (mut framing, mut trailer) = (0, 0);
        loop {
            match self.state {
                State::Done => return Ok(Step { framing, trailer, data: 0, done: true }),
                State::UntilClose => return Ok(Step { framing, trailer, data: input.len(), done: false }),
                State::Length | State::Data => {
                    let here = input.len() - framing;
                    let data = usize::try_from(self.remaining).map_or(here, |remaining| remaining.min(here));
                    self.take_data(data as u64);
                    return Ok(Step { framing, trailer, data, done: self.is_done() });
                }
                _ => {}
            }
            let Some(&byte) = input.get(framing) else {
                return Ok(Step { framing, trailer, data: 0, done: false });
            };
            trailer += usize::from(self.state >= State::TrailerStart);
            match self.framing_byte(byte) {
                Ok(state) => self.state = state,
                Err(reason) => return Err(Refusal::new(reason, framing)),
            }
            framing += 1;
        }
    }

    fn take_data(&mut self, count: u64) {
        self.remaining = self.remaining.saturating_sub(count);
        if self.remaining == 0 {
            self.state = if self.state == State::Length { State::Done } else { State::DataCr };
        }
    }

    /// The state after one byte of framing.
    fn framing_byte(&mut self, byte: u8) -> Result<State, Reason> {
        match self.state {
            State::SizeStart | State::Size => self.size_byte(byte),
            State::SizeLf if byte == b'\n' => {
                Ok(if self.remaining > 0 { State::Data } else { State::TrailerStart })
            }
            State::SizeLf => Err(Reason::BareCr),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::SizeStart),
            State::DataCr | State::DataLf => Err(Reason::ChunkEnd),
            State::TrailerStart | State::TrailerName | State::TrailerValue => self.trailer_byte(byte),
            State::TrailerLf if byte == b'\n' => self.count_trailer(State::TrailerStart),
            State::EndLf if byte == b'\n' => Ok(State::Done),
            State::TrailerLf | State::EndLf => Err(Reason::BareCr),
            _ => self.extension_byte(byte),
        }
    }

    fn size_byte(&mut self, byte: u8) -> Result<State, Reason> {
        if self.state == State::SizeStart {
            self.remaining = 0;
            self.count = 0;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' if self.count > 0 => {
                self.count = 1;
                return Ok(State::ExtensionNameStart);
            }
            b'\r' if self.count > 0 => return Ok(State::SizeLf),
            b'\n' => return Err(Reason::BareLf),
            _ => return Err(Reason::ChunkSize),
        };
        self.count += 1;
        self.remaining = self.remaining << 4 | u64::from(digit);
        // Other implementations count in signed numbers, and none takes zeros without end.
        if self.count > SIZE_DIGITS_MAX || self.remaining > i64::MAX.unsigned_abs() {
            return Err(Reason::ChunkTooLarge);
        }
        Ok(State::Size)
    }

    /// RFC 9112 7.1.1 without its optional ("bad") white space.
    fn extension_byte(&mut self, byte: u8) -> Result<State, Reason> {
        let is_token = class::is(byte, class::TOKEN);
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        let next = match (self.state, byte) {
            (_, b'\n') => return Err(Reason::BareLf),
            (_, 0) => return Err(Reason::Nul),
            (State::ExtensionNameStart | State::ExtensionName, _) if is_token => State::ExtensionName,
            (State::ExtensionName, b'=') => State::ExtensionValueStart,
            (State::ExtensionValueStart, b'"') => State::ExtensionQuoted,
            (State::ExtensionValueStart | State::ExtensionToken, _) if is_token => State::ExtensionToken,
            (State::ExtensionQuoted, b'"') => State::ExtensionQuotedEnd,
            (State::ExtensionQuoted, b'\\') => State::ExtensionEscape,
            (State::ExtensionQuoted | State::ExtensionEscape, _) if is_text => State::ExtensionQuoted,
            (State::ExtensionName | State::ExtensionToken | State::ExtensionQuotedEnd, b';') => {
                State::ExtensionNameStart
            }
            (State::ExtensionName | State::ExtensionToken | State::ExtensionQuotedEnd, b'\r') => {
                return Ok(State::SizeLf);
            }
            _ => return Err(Reason::ChunkExtension),
        };
        self.count += 1;
        if usize::from(self.count) > CHUNK_EXTENSION_BYTES_MAX {
            return Err(Reason::ChunkExtensionTooLong);
        }
        Ok(next)
    }

    /// The same rules as for header lines; a fold is refused always.
    fn trailer_byte(&mut self, byte: u8) -> Result<State, Reason> {
        if self.state == State::TrailerStart {
            self.name_len = 0;
            match byte {
                b'\r' => return Ok(State::EndLf),
                b' ' | b'\t' if self.trailer_bytes > 0 => return Err(Reason::ObsFold),
                b' ' | b'\t' => return Err(Reason::LeadingSpace),
                _ => {}
            }
        }
        let next = match (self.state, byte) {
            (_, b'\n') => return Err(Reason::BareLf),
            (_, 0) => return Err(Reason::Nul),
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b'\t') => State::TrailerValue,
            (State::TrailerValue, _) if byte.is_ascii_control() => return Err(Reason::ValueSyntax),
            (State::TrailerValue, _) => State::TrailerValue,
            (_, b':') if self.name_len > 0 => {
                self.check_trailer_name()?;
                State::TrailerValue
            }
            (_, _) if class::is(byte, class::TOKEN) => {
                if let Some(kept) = self.name.get_mut(usize::from(self.name_len)) {
                    *kept = byte;
                }
                self.name_len += 1;
                if usize::from(self.name_len) > HEADER_NAME_BYTES_MAX {
                    return Err(Reason::NameTooLong);
                }
                State::TrailerName
            }
            (_, b' ' | b'\t') => return Err(Reason::SpaceBeforeColon),
            (_, b'\r') => return Err(Reason::NoColon),
            _ => return Err(Reason::NameSyntax),
        };
        self.count_trailer(next)
    }

    fn count_trailer(&mut self, next: State) -> Result<State, Reason> {
        self.trailer_bytes += 1;
        if self.trailer_bytes as usize > TRAILER_BYTES_MAX { Err(Reason::TrailerTooLarge) } else { Ok(next) }
    }

    /// Trailers must not frame or route: a recipient that merges them into the head would read another message
    /// (RFC 9110 6.5.1).
    fn check_trailer_name(&self) -> Result<(), Reason> {
        let name = self.name.get(..usize::from(self.name_len)).unwrap_or_default();
        match Known::of(name) {
            Some(
                Known::ContentLength
                | Known::TransferEncoding
                | Known::Host
                | Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Te
                | Known::Upgrade,
            ) => Err(Reason::TrailerForbidden),
            _ => Ok(()),
        }
    }
}
