//! The head of a message: places in the received bytes, and an edit script that is applied when it is written.
//!
//! A [`Head`] holds offsets, never bytes of the message: it is read and edited together with the bytes that it was parsed
//! from ([`Head::view`], [`Head::edit`]). Edits append to an arena and mark fields; look-ups see them at once, and encoding
//! copies untouched runs of lines as they are. Clearing keeps the memory, so a used `Head` allocates nothing more.
//! Parsers fill it (`h1::head`, HTTP/2), policy reads and edits it, `h1::encode` writes it.

mod edit;
#[cfg(test)]
mod tests;
mod view;

use crate::base::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};
use crate::proto::http::{Known, Method, Name, Version};

pub use edit::{EditError, HeadEdit};
pub use view::{HeadView, Lines, Values, split_values};

pub(crate) use view::Piece;

/// Bounds of a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadLimits {
    /// Bytes from the first of the start line to the end of the empty line (`max-header-bytes`).
    pub head_bytes_max: usize,
    /// Header lines (`max-headers`).
    pub headers_max: usize,
    /// Bytes of the request target.
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits {
            head_bytes_max: HEAD_BYTES_MAX,
            headers_max: HEADERS_MAX,
            target_bytes_max: TARGET_BYTES_MAX,
        }
    }
}

/// A piece of text: in the message's bytes, or in the arena when the top bit of `start` is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Text {
    start: u32,
    len: u32,
}

const IN_ARENA: u32 = 1 << 31;

impl Text {
    /// A piece of the message. Heads are bounded far below 2^31 bytes, so that the casts keep the value.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "bounded by HeadLimits, checked in `Head::begin`")]
    pub(crate) fn of_input(start: usize, end: usize) -> Text {
        debug_assert!(start <= end && end < IN_ARENA as usize);
        Text { start: start as u32, len: (end - start) as u32 }
    }
    #[inline]
    fn resolve<'a>(self, input: &'a [u8], arena: &'a [u8]) -> &'a [u8] {
        let (bytes, start) =
            if self.start & IN_ARENA == 0 { (input, self.start) } else { (arena, self.start & !IN_ARENA) };
        let start = start as usize;
        // Only a caller that brings other bytes than it parsed can miss; an empty text is the harmless answer.
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
    fn is_in_arena(self) -> bool {
        self.start & IN_ARENA != 0
    }
}

/// A header line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: Text,
    value: Text,
    known: Option<Known>,
    state: FieldState,
}

const _: () = assert!(size_of::<Field>() <= 20);

/// What became of a header line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FieldState {
    /// As received.
    Received,
    /// Received, but name or value are from the arena now.
    Edited,
    /// Added by us.
    Added,
    /// Gone.
    Deleted,
}

/// How far a parser came with a message of which not all bytes were there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Stage {
    /// Nothing is known yet.
    #[default]
    Start,
    /// The start line is read, fields are read up to `Head::parsed`.
    Fields,
    /// The head is complete or was refused: the next parse begins a new one.
    Done,
}

/// The head of one message; see the module.
#[derive(Clone, Debug, Default)]
pub struct Head {
    fields: Vec<Field>,
    arena: Vec<u8>,
    scratch: Vec<u8>,
    /// Bits of the known names that are or were there: a clear bit saves the search.
    present: u128,
    /// Where the first line that is not read yet begins.
    pub(crate) parsed: usize,
    /// Where the header lines begin.
    pub(crate) fields_at: usize,
    /// How many of `fields` were received.
    received: usize,
    pub(crate) stage: Stage,
    pub(crate) method: Method,
    pub(crate) version: Version,
    /// 0 in a request.
    pub(crate) status: u16,
    pub(crate) method_text: Text,
    pub(crate) target: Text,
    pub(crate) reason: Text,
}

impl Head {
    /// An empty head; it grows with its first messages.
    pub fn new() -> Head {
        Head::default()
    }
    /// Forgets the message and keeps the memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.arena.clear();
        self.present = 0;
        self.parsed = 0;
        self.fields_at = 0;
        self.received = 0;
        self.stage = Stage::Start;
        self.method = Method::Get;
        self.version = Version::Http11;
        self.status = 0;
        self.method_text = Text::default();
        self.target = Text::default();
        self.reason = Text::default();
    }
    /// Reads the head; `input` are the bytes that it was parsed from.
    #[inline]
    pub fn view<'a>(&'a self, input: &'a [u8]) -> HeadView<'a> {
        HeadView { input, head: self }
    }
    /// Changes the head; `input` are the bytes that it was parsed from.
    #[inline]
    pub fn edit<'a>(&'a mut self, input: &'a [u8]) -> HeadEdit<'a> {
        HeadEdit { input, head: self }
    }
    /// Bytes of the received head, the empty line included; zero until it is complete.
    pub fn len(&self) -> usize {
        if self.stage == Stage::Done { self.parsed } else { 0 }
    }
    /// Whether no complete head was received.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Header lines that were received, those deleted since included.
    pub fn received_lines(&self) -> usize {
        self.received
    }

    /// Takes a received header line. Its line starts at `name`, the next one where the next name starts.
    #[inline]
    pub(crate) fn push_received(&mut self, name: Text, value: Text, known: Option<Known>) {
        if let Some(known) = known {
            self.present |= known.bit();
        }
        self.fields.push(Field { name, value, known, state: FieldState::Received });
        self.received += 1;
    }
    /// Gives the last received line a value that does not stand in the message.
    pub(crate) fn replace_last_value(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        write(&mut self.arena);
        let value = self.arena_text(start);
        if let Some(last) = self.fields.last_mut() {
            last.value = value;
            last.state = FieldState::Edited;
        }
    }
    /// The text from `start` to the end of the arena.
    #[allow(clippy::cast_possible_truncation)] // the arena is bounded, see HEAD_EDIT_BYTES_MAX
    fn arena_text(&self, start: usize) -> Text {
        Text { start: start as u32 | IN_ARENA, len: (self.arena.len() - start) as u32 }
    }
    #[inline]
    fn text<'a>(&'a self, input: &'a [u8], text: Text) -> &'a [u8] {
        text.resolve(input, &self.arena)
    }
    /// Whether a field is alive and has a name.
    #[inline]
    fn is_named(&self, input: &[u8], field: &Field, name: Name<'_>) -> bool {
        if field.state == FieldState::Deleted {
            return false;
        }
        match name {
            Name::Known(known) => field.known == Some(known),
            Name::Other(text) => {
                field.known.is_none()
                    && field.name.len as usize == text.len()
                    && self.text(input, field.name).eq_ignore_ascii_case(text)
            }
        }
    }
    /// Whether a field of that name can be there.
    #[inline]
    fn may_have(&self, name: Name<'_>) -> bool {
        match name {
            Name::Known(known) => self.present & known.bit() != 0,
            Name::Other(text) => {
                debug_assert!(Known::of(text).is_none(), "names are made with Name::of");
                true
            }
        }
    }
}
