//! Looking things up in a head, with HAProxy's meaning of `hdr` (values split at commas) and `fhdr` (whole lines).

use super::{Field, FieldState, Head};
use crate::proto::http::{Known, Method, Name, StatusCode, Version};
use crate::proto::target;

/// A head together with the bytes that it was parsed from.
#[derive(Clone, Copy, Debug)]
pub struct HeadView<'a> {
    pub(super) input: &'a [u8],
    pub(super) head: &'a Head,
}

impl<'a> HeadView<'a> {
    /// The method of a request.
    pub fn method(&self) -> Method {
        self.head.method
    }
    /// The method as text.
    pub fn method_text(&self) -> &'a [u8] {
        self.head.text(self.input, self.head.method_text)
    }
    /// The request target as text (`url`).
    pub fn target(&self) -> &'a [u8] {
        self.head.text(self.input, self.head.target)
    }
    /// The path of the target (`path`): from its first slash up to the question mark. Empty for `*` and authorities.
    pub fn path(&self) -> &'a [u8] {
        target::path_of(self.target())
    }
    /// The query of the target (`query`) without the question mark; empty when there is none.
    pub fn query(&self) -> &'a [u8] {
        target::query_of(self.target()).unwrap_or_default()
    }
    /// The version of the message.
    pub fn version(&self) -> Version {
        self.head.version
    }
    /// The status of a response; `None` in a request.
    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::new(self.head.status)
    }
    /// The reason phrase of a response.
    pub fn reason(&self) -> &'a [u8] {
        self.head.text(self.input, self.head.reason)
    }
    /// Bytes of the received head.
    pub fn received_bytes(&self) -> usize {
        self.head.len()
    }

    /// All header lines in order: name and value.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let view = *self;
        let alive = view.head.fields.iter().filter(|f| f.state != FieldState::Deleted);
        alive.map(move |f| (view.head.text(view.input, f.name), view.head.text(view.input, f.value)))
    }
    /// The same, with what each name is.
    pub fn known_fields(&self) -> impl Iterator<Item = (Option<Known>, &'a [u8], &'a [u8])> + use<'a> {
        let view = *self;
        let alive = view.head.fields.iter().filter(|f| f.state != FieldState::Deleted);
        alive.map(move |f| (f.known, view.head.text(view.input, f.name), view.head.text(view.input, f.value)))
    }
    /// Whether a header is there (`hdr(name) -m found`).
    #[inline]
    pub fn has<'n>(&self, name: impl Into<Name<'n>>) -> bool {
        self.lines(name).next().is_some()
    }
    /// Whether one of a set of known names can be there: false is certain, true may be about a deleted line. The sum of
    /// their [`Known::bit`]s makes the set.
    #[inline]
    pub fn may_have_any(&self, names: u128) -> bool {
        self.head.present & names != 0
    }
    /// The values of all lines of a name, not split (`fhdr`).
    #[inline]
    pub fn lines<'n>(&self, name: impl Into<Name<'n>>) -> Lines<'a, 'n> {
        let name = name.into();
        let fields: &[Field] = if self.head.may_have(name) { &self.head.fields } else { &[] };
        Lines { view: *self, fields: fields.iter(), name }
    }
    /// The value of the only or first line of a name.
    #[inline]
    pub fn line<'n>(&self, name: impl Into<Name<'n>>) -> Option<&'a [u8]> {
        self.lines(name).next()
    }
    /// `fhdr(name,occurrence)`: counted from 1 at the first line, from -1 at the last. 0 gives the last.
    pub fn line_at<'n>(&self, name: impl Into<Name<'n>>, occurrence: i32) -> Option<&'a [u8]> {
        nth(self.lines(name), occurrence)
    }
    /// `fhdr_cnt(name)`
    pub fn line_count<'n>(&self, name: impl Into<Name<'n>>) -> usize {
        self.lines(name).count()
    }
    /// The values of all lines of a name, split at commas outside of quotes, without the space around them (`hdr`).
    #[inline]
    pub fn values<'n>(&self, name: impl Into<Name<'n>>) -> Values<'a, 'n> {
        Values { lines: self.lines(name), rest: None }
    }
    /// `hdr(name,occurrence)`: counted from 1 at the first value, from -1 at the last. 0 gives the last.
    pub fn value_at<'n>(&self, name: impl Into<Name<'n>>, occurrence: i32) -> Option<&'a [u8]> {
        nth(self.values(name), occurrence)
    }
    /// `hdr_cnt(name)`
    pub fn value_count<'n>(&self, name: impl Into<Name<'n>>) -> usize {
        self.values(name).count()
    }
    /// Whether one of the values of a name is this token, whatever its case: `Connection: close`.
    pub fn has_token(&self, name: Known, token: &[u8]) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(token))
    }

    /// The lines for an encoder, in order and in runs: lines next to each other that are as received come as one piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<'a>> + use<'a> {
        let view = *self;
        let mut index = 0;
        std::iter::from_fn(move || {
            let fields = &view.head.fields;
            while fields.get(index)?.state == FieldState::Deleted {
                index += 1;
            }
            let first = index;
            index += 1;
            if fields[first].state != FieldState::Received {
                let field = &fields[first];
                let text = |t| view.head.text(view.input, t);
                return Some(Piece::Line { name: text(field.name), value: text(field.value) });
            }
            while fields.get(index).is_some_and(|f| f.state == FieldState::Received) {
                index += 1;
            }
            let start = fields[first].name.start as usize;
            Some(Piece::Raw(view.input.get(start..view.line_end(index - 1)).unwrap_or_default()))
        })
    }
    /// Where the received line `index` ends, its CRLF included: where the next one begins, or the empty line.
    fn line_end(&self, index: usize) -> usize {
        if index + 1 < self.head.received {
            self.head.fields[index + 1].name.start as usize
        } else {
            self.head.parsed.saturating_sub(2)
        }
    }
}

/// What an encoder writes next.
pub(crate) enum Piece<'a> {
    /// Whole lines, CRLF included.
    Raw(&'a [u8]),
    /// A line to be put together.
    Line {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
}

/// Item `occurrence` of an iterator in HAProxy's counting.
fn nth<'a>(mut items: impl Iterator<Item = &'a [u8]> + Clone, occurrence: i32) -> Option<&'a [u8]> {
    let from_first = |n: u32| usize::try_from(n).ok().and_then(|n| n.checked_sub(1));
    match occurrence {
        0 | -1 => items.last(),
        1.. => items.nth(from_first(occurrence.unsigned_abs())?),
        _ => {
            let count = items.clone().count();
            items.nth(count.checked_sub(usize::try_from(occurrence.unsigned_abs()).ok()?)?)
        }
    }
}

/// Iterator over the lines of one name.
#[derive(Clone, Debug)]
pub struct Lines<'a, 'n> {
    view: HeadView<'a>,
    fields: std::slice::Iter<'a, Field>,
    name: Name<'n>,
}

impl<'a> Iterator for Lines<'a, '_> {
    type Item = &'a [u8];
    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let HeadView { input, head } = self.view;
        let name = self.name;
        self.fields.find(|f| head.is_named(input, f, name)).map(|f| head.text(input, f.value))
    }
}

/// Iterator over the comma-separated values of one name.
#[derive(Clone, Debug)]
pub struct Values<'a, 'n> {
    lines: Lines<'a, 'n>,
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = match self.rest.take() {
            Some(rest) => rest,
            None => self.lines.next()?,
        };
        let end = value_end(rest);
        if end < rest.len() {
            self.rest = Some(&rest[end + 1..]);
        }
        Some(rest[..end].trim_ascii())
    }
}

/// Splits one value at commas outside of quotes, as `hdr` does; empty elements are kept.
pub fn split_values(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest.take()?;
        let end = value_end(line);
        if end < line.len() {
            rest = Some(&line[end + 1..]);
        }
        Some(line[..end].trim_ascii())
    })
}

/// Index of the first comma outside of a quoted string (RFC 9110 5.6.4), or the length.
fn value_end(line: &[u8]) -> usize {
    let Some(mut at) = memchr::memchr2(b',', b'"', line) else { return line.len() };
    let mut is_quoted = false;
    while let Some(byte) = line.get(at) {
        match byte {
            b',' if !is_quoted => return at,
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => at += 1,
            _ => {}
        }
        at += 1;
    }
    line.len()
}
