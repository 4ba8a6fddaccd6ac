//! The edit script of a head: what rules change, seen by look-ups at once and written by the encoder.
//!
//! Every text from outside is checked here, so that no rule can put a line break into a message or change how long its
//! body is said to be.

use std::fmt;

use super::{Field, FieldState, Head, HeadView, Text};
use crate::base::limits::{HEAD_EDIT_BYTES_MAX, HEAD_EDIT_FIELDS_MAX};
use crate::proto::http::{Known, Method, Name, StatusCode, class, is_token, is_value};
use crate::proto::target::{self, Target};

/// Why an edit was not made; the head is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EditError {
    /// Edits of one message take more than [`HEAD_EDIT_BYTES_MAX`] bytes or [`HEAD_EDIT_FIELDS_MAX`] lines.
    Full,
    /// The name is not a token.
    Name,
    /// The value holds a control byte, a line break for one.
    Value,
    /// The method is not a token.
    Method,
    /// The target is empty or holds a byte that no target has.
    Target,
    /// Content-Length and Transfer-Encoding say how the body ends, which was decided before any rule: the encoder alone
    /// writes them ([`BodyHeaders`](crate::proto::h1::encode::BodyHeaders)).
    Framing,
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EditError::Full => "too many edits of one message",
            EditError::Name => "not a header name",
            EditError::Value => "a control character in a header value",
            EditError::Method => "not a method",
            EditError::Target => "not a request target",
            EditError::Framing => "Content-Length and Transfer-Encoding are written by the proxy alone",
        })
    }
}

impl std::error::Error for EditError {}

/// A head that is being changed, together with the bytes that it was parsed from.
#[derive(Debug)]
pub struct HeadEdit<'a> {
    pub(super) input: &'a [u8],
    pub(super) head: &'a mut Head,
}

impl HeadEdit<'_> {
    /// The head as it is now.
    pub fn view(&self) -> HeadView<'_> {
        self.head.view(self.input)
    }

    /// `add-header`: a line at the end. The value is trimmed.
    pub fn add<'n>(&mut self, name: impl Into<Name<'n>>, value: &[u8]) -> Result<(), EditError> {
        let name = name.into();
        let (text, known) = match name {
            Name::Known(known) => (known.name().as_bytes(), Some(known)),
            Name::Other(text) => (text, Known::of(text)),
        };
        self.push(text, known, value)
    }
    /// `add-header` with the name written as given.
    pub fn add_as(&mut self, name: &[u8], value: &[u8]) -> Result<(), EditError> {
        self.push(name, Known::of(name), value)
    }
    fn push(&mut self, name: &[u8], known: Option<Known>, value: &[u8]) -> Result<(), EditError> {
        let value = value.trim_ascii();
        if !is_token(name) {
            return Err(EditError::Name);
        }
        if known.is_some_and(frames) {
            return Err(EditError::Framing);
        }
        if !is_value(value) {
            return Err(EditError::Value);
        }
        if self.head.fields.len() - self.head.received >= HEAD_EDIT_FIELDS_MAX {
            return Err(EditError::Full);
        }
        self.room_for(name.len() + value.len())?;
        let name = self.append(name);
        let value = self.append(value);
        if let Some(known) = known {
            self.head.present |= known.bit();
        }
        self.head.fields.push(Field { name, value, known, state: FieldState::Added });
        Ok(())
    }
    /// `set-header`: the name has one line afterwards, at the end.
    pub fn set<'n>(&mut self, name: impl Into<Name<'n>>, value: &[u8]) -> Result<(), EditError> {
        let name = name.into();
        let before = self.head.fields.len();
        self.add(name, value)?;
        self.delete_first(before, name);
        Ok(())
    }
    /// `set-header` with the name written as given.
    pub fn set_as(&mut self, name: &[u8], value: &[u8]) -> Result<(), EditError> {
        let before = self.head.fields.len();
        self.add_as(name, value)?;
        self.delete_first(before, Name::of(name));
        Ok(())
    }
    /// `del-header`: how many lines went. Content-Length and Transfer-Encoding stay, see [`EditError::Framing`].
    pub fn delete<'n>(&mut self, name: impl Into<Name<'n>>) -> usize {
        match name.into() {
            Name::Known(known) if frames(known) => 0,
            name => self.delete_first(self.head.fields.len(), name),
        }
    }
    /// Deletes what says how the body ends, because it was repaired or is about to be said anew.
    pub(crate) fn delete_framing(&mut self, name: Known) {
        debug_assert!(frames(name));
        self.delete_first(self.head.fields.len(), Name::Known(name));
    }
    /// `del-header` by a match on the name: how many lines went. Names come in the case they were received in.
    pub fn delete_where(&mut self, mut is_wanted: impl FnMut(&[u8]) -> bool) -> usize {
        self.delete_indexed(self.head.fields.len(), |head, input, index| {
            let field = &head.fields[index];
            !field.known.is_some_and(frames) && is_wanted(head.text(input, field.name))
        })
    }
    /// Deletes the lines of a name whose value is as wanted: how many went. Framing headers stay, as with
    /// [`HeadEdit::delete`].
    pub fn delete_lines<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        mut is_wanted: impl FnMut(&[u8]) -> bool,
    ) -> usize {
        let name = name.into();
        if let Name::Known(known) = name
            && frames(known)
        {
            return 0;
        }
        self.delete_indexed(self.head.fields.len(), |head, input, i| {
            let field = &head.fields[i];
            head.is_named(input, field, name) && is_wanted(head.text(input, field.value))
        })
    }
    /// Deletes received lines of a name and leaves those that we added: what a peer says about its own connection must
    /// not undo what rules added.
    pub(crate) fn delete_received(&mut self, name: Name<'_>) -> usize {
        self.delete_first(self.head.received, name)
    }
    /// The values of a name, joined by commas, in the scratch buffer: to walk over them while the head changes. The caller
    /// gives the buffer back with [`HeadEdit::give_back`].
    pub(crate) fn collect_values(&mut self, name: Known) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.head.scratch);
        scratch.clear();
        for line in self.view().lines(name) {
            scratch.extend_from_slice(line);
            scratch.push(b',');
        }
        scratch
    }
    /// Returns the scratch buffer, so that its memory is used again.
    pub(crate) fn give_back(&mut self, scratch: Vec<u8>) {
        self.head.scratch = scratch;
    }
    fn delete_first(&mut self, count: usize, name: Name<'_>) -> usize {
        if !self.head.may_have(name) {
            return 0;
        }
        self.delete_indexed(count, |head, input, i| head.is_named(input, &head.fields[i], name))
    }
    fn delete_indexed(
        &mut self,
        count: usize,
        mut is_wanted: impl FnMut(&Head, &[u8], usize) -> bool,
    ) -> usize {
        let mut deleted = 0;
        for index in 0..count {
            if self.head.fields[index].state != FieldState::Deleted && is_wanted(self.head, self.input, index)
            {
                self.head.fields[index].state = FieldState::Deleted;
                deleted += 1;
            }
        }
        deleted
    }
    /// `replace-header`: rewrites each line of a name. `rewrite` gets the value and writes the new one, or says false to
    /// leave the line alone. Says how many were rewritten.
    pub fn rewrite_lines<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        mut rewrite: impl FnMut(&[u8], &mut Vec<u8>) -> bool,
    ) -> Result<usize, EditError> {
        let name = name.into();
        if matches!(name, Name::Known(known) if frames(known)) {
            return Err(EditError::Framing);
        }
        let mut rewritten = 0;
        for index in 0..self.head.fields.len() {
            let field = self.head.fields[index];
            if !self.head.is_named(self.input, &field, name) {
                continue;
            }
            let mut scratch = std::mem::take(&mut self.head.scratch);
            scratch.clear();
            let is_new = rewrite(self.head.text(self.input, field.value), &mut scratch);
            let outcome = if is_new { self.replace_value(index, &scratch) } else { Ok(()) };
            self.head.scratch = scratch;
            outcome?;
            rewritten += usize::from(is_new);
        }
        Ok(rewritten)
    }
    /// `replace-value`: as [`HeadEdit::rewrite_lines`] for each comma-separated value.
    pub fn rewrite_values<'n>(
        &mut self,
        name: impl Into<Name<'n>>,
        mut rewrite: impl FnMut(&[u8], &mut Vec<u8>) -> bool,
    ) -> Result<usize, EditError> {
        let mut rewritten = 0;
        self.rewrite_lines(name, |line, out| {
            let before = rewritten;
            for (index, value) in super::split_values(line).enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                let at = out.len();
                if rewrite(value, out) {
                    rewritten += 1;
                } else {
                    out.truncate(at);
                    out.extend_from_slice(value);
                }
            }
            rewritten > before
        })?;
        Ok(rewritten)
    }
    fn replace_value(&mut self, index: usize, value: &[u8]) -> Result<(), EditError> {
        let value = value.trim_ascii();
        if !is_value(value) {
            return Err(EditError::Value);
        }
        self.room_for(value.len())?;
        let value = self.append(value);
        let field = &mut self.head.fields[index];
        field.value = value;
        if field.state == FieldState::Received {
            field.state = FieldState::Edited;
        }
        Ok(())
    }

    /// `set-method` by a rule. How a response to HEAD or CONNECT ends is special, and its client knows only what it asked
    /// itself: no other method becomes one of them, and CONNECT stays. `*` has no other method than OPTIONS.
    pub fn change_method(&mut self, method: &[u8]) -> Result<(), EditError> {
        let (old, new) = (self.head.method, Method::of(method));
        let is_special = |m| matches!(m, Method::Head | Method::Connect);
        let is_asterisk = self.view().target() == b"*";
        if old != new && (is_special(new) || old == Method::Connect || is_asterisk) {
            return Err(EditError::Method);
        }
        self.set_method(method)
    }
    /// Sets the method, whatever it was.
    pub fn set_method(&mut self, method: &[u8]) -> Result<(), EditError> {
        if !is_token(method) {
            return Err(EditError::Method);
        }
        self.room_for(method.len())?;
        self.head.method = Method::of(method);
        self.head.method_text = self.append(method);
        Ok(())
    }
    /// `set-uri`: one of the forms that the method may have (RFC 9112 3.2).
    pub fn set_target(&mut self, target: &[u8]) -> Result<(), EditError> {
        match Target::parse(target, self.head.method == Method::Connect) {
            Err(_) => Err(EditError::Target),
            Ok(Target::Asterisk) if self.head.method != Method::Options => Err(EditError::Target),
            Ok(_) => self.set_target_parts(&[target]),
        }
    }
    /// Whether the target is `*` or an authority, which have neither path nor query and stay what they are.
    fn is_pathless(&self) -> bool {
        self.head.method == Method::Connect || self.view().target() == b"*"
    }
    /// `set-path`: everything else of the target stays. The path must begin with a slash.
    pub fn set_path(&mut self, path: &[u8]) -> Result<(), EditError> {
        if path.first() != Some(&b'/') || path.contains(&b'?') {
            return Err(EditError::Target);
        }
        if self.is_pathless() {
            return Ok(());
        }
        let scratch = self.target_to_scratch();
        let (before, _, after) = target::split_path(&scratch);
        let outcome = self.set_target_parts(&[before, path, after]);
        self.head.scratch = scratch;
        outcome
    }
    /// `set-query`: the text after the question mark; empty removes the mark as well.
    pub fn set_query(&mut self, query: &[u8]) -> Result<(), EditError> {
        if self.is_pathless() {
            return Ok(());
        }
        let scratch = self.target_to_scratch();
        let end = memchr::memchr(b'?', &scratch).unwrap_or(scratch.len());
        let mark: &[u8] = if query.is_empty() { b"" } else { b"?" };
        let outcome = self.set_target_parts(&[&scratch[..end], mark, query]);
        self.head.scratch = scratch;
        outcome
    }
    /// A copy of the target in the scratch buffer, which the caller gives back.
    fn target_to_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.head.scratch);
        scratch.clear();
        scratch.extend_from_slice(self.head.text(self.input, self.head.target));
        scratch
    }
    fn set_target_parts(&mut self, parts: &[&[u8]]) -> Result<(), EditError> {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if len == 0 || !parts.iter().all(|p| p.iter().all(|b| class::is(*b, class::TARGET))) {
            return Err(EditError::Target);
        }
        self.room_for(len)?;
        let start = self.head.arena.len();
        for part in parts {
            self.head.arena.extend_from_slice(part);
        }
        self.head.target = self.head.arena_text(start);
        Ok(())
    }
    /// `set-status`: the registered reason phrase is used when none is given.
    pub fn set_status(&mut self, status: StatusCode, reason: Option<&[u8]>) -> Result<(), EditError> {
        let reason = reason.unwrap_or(status.reason().as_bytes());
        if !is_value(reason) {
            return Err(EditError::Value);
        }
        self.room_for(reason.len())?;
        self.head.reason = self.append(reason);
        self.head.status = status.code();
        Ok(())
    }

    fn room_for(&self, len: usize) -> Result<(), EditError> {
        if self.head.arena.len() + len > HEAD_EDIT_BYTES_MAX { Err(EditError::Full) } else { Ok(()) }
    }
    fn append(&mut self, bytes: &[u8]) -> Text {
        let start = self.head.arena.len();
        self.head.arena.extend_from_slice(bytes);
        let text = self.head.arena_text(start);
        debug_assert!(text.is_in_arena());
        text
    }
}

/// Whether a header says how the body ends.
fn frames(name: Known) -> bool {
    matches!(name, Known::ContentLength | Known::TransferEncoding)
}

impl Head {
    /// Starts a head that was not received as HTTP/1: a request of HTTP/2, a check, a reply of our own. Lines are added
    /// with [`Head::edit`] and `input` is empty. Fails when the method or the target are malformed.
    pub fn start_request(&mut self, method: &[u8], target: &[u8]) -> Result<(), EditError> {
        self.clear();
        self.stage = super::Stage::Done;
        let mut edit = self.edit(&[]);
        edit.set_method(method)?;
        edit.set_target_parts(&[target])
    }
    /// Starts the head of a response that was not received as HTTP/1; see [`Head::start_request`].
    pub fn start_response(&mut self, status: StatusCode) -> Result<(), EditError> {
        self.clear();
        self.stage = super::Stage::Done;
        self.edit(&[]).set_status(status, None)
    }
    /// The version that the message came with, for heads that were not received as HTTP/1.
    pub fn set_version(&mut self, version: crate::proto::http::Version) {
        self.version = version;
    }
}
