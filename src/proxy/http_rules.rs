//! Rules of HTTP mode at work: walks them over a head, changes it, and says what else they want. Decides nothing itself:
//! conditions and order are `policy::rule`'s, what an edit may do is `proto::headers`'.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::base::id::{BackendId, ServerId};
use crate::policy::format::Format;
use crate::policy::http_action::{
    HeaderEdit, LineEdit, NameMatch, Redirect, Reply, RequestAction, ResponseAction,
};
use crate::policy::rule::{Rule, Verdict, next_rule};
use crate::policy::sample::{Expr, FirstBytes, VariableId};
use crate::proto::headers::{EditError, Head, HeadEdit};
use crate::proto::http::{Method, Name, StatusCode};
use crate::proto::target;
use crate::proxy::facts::{self, Message, SessionFacts};
use crate::proxy::session::Session;
use crate::stats::table::Stat;

/// First bytes are no fetch of HTTP mode.
const NO_BYTES: FirstBytes<'static> = FirstBytes { data: &[], complete: true };

/// A head that rules look at and change.
pub(super) struct Subject<'a> {
    pub(super) session: &'a Session,
    pub(super) head: &'a mut Head,
    /// The bytes that it was parsed from.
    pub(super) bytes: &'a [u8],
    /// Whether it is a response.
    pub(super) is_response: bool,
    pub(super) message: Message<'a>,
    /// Memory for what formats write.
    pub(super) text: &'a mut Vec<u8>,
}

/// Where rules send a request.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Route {
    pub(super) backend: Option<BackendId>,
    pub(super) server: Option<ServerId>,
}

/// Why an exchange does not go on.
pub(super) enum Halt<'a> {
    /// `deny`.
    Deny(&'a Reply),
    /// `tarpit`.
    Tarpit(&'a Reply),
    /// `return`.
    Return(&'a Reply),
    /// `redirect`.
    Redirect(&'a Redirect),
    /// `reject`.
    Reject,
    /// `silent-drop`.
    SilentDrop,
    /// A change that was not possible, with `strict-mode`.
    Failed,
}

impl<'a> Subject<'a> {
    /// Walks the rules of a request.
    pub(super) fn on_request<'r>(
        &mut self,
        rules: &'r [Rule<RequestAction>],
        route: &mut Route,
    ) -> Result<(), Halt<'r>> {
        let mut at = 0;
        let mut strict = true;
        while let Some((index, action)) = self.next(rules, at) {
            at = index + 1;
            match action {
                RequestAction::Allow => break,
                RequestAction::Deny(reply) => return Err(Halt::Deny(reply)),
                RequestAction::Return(reply) => return Err(Halt::Return(reply)),
                RequestAction::Tarpit(reply) => return Err(Halt::Tarpit(reply)),
                RequestAction::Redirect(redirect) => return Err(Halt::Redirect(redirect)),
                RequestAction::Reject => return Err(Halt::Reject),
                RequestAction::SilentDrop => return Err(Halt::SilentDrop),
                RequestAction::Edit(edit) => {
                    let result = self.edit(edit);
                    self.judge(result, strict)?;
                }
                RequestAction::Line(edit) => {
                    let result = self.edit_line(edit);
                    self.judge(result, strict)?;
                }
                RequestAction::SetVar { variable, value } => self.set_variable(*variable, value),
                RequestAction::UnsetVar(variable) => self.session.variables.borrow_mut().unset(*variable),
                RequestAction::UseBackend(backend) => {
                    route.backend = Some(*backend);
                    break;
                }
                RequestAction::UseBackendNamed(name) => {
                    self.write(name);
                    // An unknown name leaves the choice to default-backend.
                    route.backend = self.session.core.http_backend(self.text);
                    break;
                }
                RequestAction::UseServer(server) => route.server = route.server.or(Some(*server)),
                RequestAction::StrictMode(is_strict) => strict = *is_strict,
                // These do not load yet, see `config::keywords`.
                RequestAction::Auth { .. }
                | RequestAction::Capture { .. }
                | RequestAction::WaitForBody { .. }
                | RequestAction::SetTimeout { .. }
                | RequestAction::SetLogLevel(_)
                | RequestAction::EarlyHint { .. }
                | RequestAction::SetSrc(_)
                | RequestAction::SetDst(_)
                | RequestAction::NormalizeUri(_)
                | RequestAction::SetPriorityClass(_)
                | RequestAction::SetPriorityOffset(_) => {}
            }
        }
        Ok(())
    }

    /// Walks the rules of a response.
    pub(super) fn on_response<'r>(&mut self, rules: &'r [Rule<ResponseAction>]) -> Result<(), Halt<'r>> {
        let mut at = 0;
        let mut strict = true;
        while let Some((index, action)) = self.next(rules, at) {
            at = index + 1;
            match action {
                ResponseAction::Allow => break,
                ResponseAction::Deny(reply) => return Err(Halt::Deny(reply)),
                ResponseAction::Return(reply) => return Err(Halt::Return(reply)),
                ResponseAction::Edit(edit) => {
                    let result = self.edit(edit);
                    self.judge(result, strict)?;
                }
                ResponseAction::SetStatus { status, reason } => {
                    let reason = reason.as_ref().map(|text| text.as_bytes());
                    let result = StatusCode::new(*status)
                        .map_or(Ok(()), |status| self.head.edit(self.bytes).set_status(status, reason));
                    self.judge(result, strict)?;
                }
                ResponseAction::SetVar { variable, value } => self.set_variable(*variable, value),
                ResponseAction::UnsetVar(variable) => self.session.variables.borrow_mut().unset(*variable),
                ResponseAction::StrictMode(is_strict) => strict = *is_strict,
                // These do not load yet, see `config::keywords`.
                ResponseAction::Capture { .. } | ResponseAction::SetLogLevel(_) => {}
            }
        }
        Ok(())
    }

    /// The next rule that applies, from a place on.
    fn next<'r, A>(&self, rules: &'r [Rule<A>], from: usize) -> Option<(usize, &'r A)> {
        if from >= rules.len() {
            return None;
        }
        let variables = self.session.variables.borrow();
        let mut scratch = self.session.core.scratch.borrow_mut();
        let facts = SessionFacts {
            session: self.session,
            variables: &variables,
            first: NO_BYTES,
            message: self.message(),
        };
        match next_rule(rules, from, &facts, &mut scratch) {
            Verdict::Apply(index, action) => Some((index, action)),
            // Nothing of HTTP mode waits: the head is here.
            Verdict::NeedMore(_) | Verdict::End => None,
        }
    }

    fn message(&self) -> Message<'_> {
        let view = self.head.view(self.bytes);
        match self.is_response {
            true => Message { response: Some(view), ..self.message },
            false => Message { request: Some(view), ..self.message },
        }
    }

    /// Writes a format to `text`.
    pub(super) fn write(&mut self, format: &Format) {
        let mut text = std::mem::take(self.text);
        text.clear();
        self.append(format, &mut text);
        *self.text = text;
    }

    /// Appends what a format gives.
    pub(super) fn append(&self, format: &Format, out: &mut Vec<u8>) {
        if let Some(text) = format.as_text() {
            out.extend_from_slice(text);
            return;
        }
        let variables = self.session.variables.borrow();
        let mut scratch = self.session.core.scratch.borrow_mut();
        let facts = SessionFacts {
            session: self.session,
            variables: &variables,
            first: NO_BYTES,
            message: self.message(),
        };
        format.write(&facts, &mut scratch, b"", out);
    }

    fn set_variable(&mut self, variable: VariableId, value: &Expr) {
        let mut text = std::mem::take(self.text);
        facts::set_variable(self.session, (NO_BYTES, self.message()), variable, value, &mut text);
        *self.text = text;
    }

    fn judge(&self, result: Result<(), EditError>, strict: bool) -> Result<(), Halt<'static>> {
        if result.is_ok() {
            return Ok(());
        }
        let shard = self.session.core.shard();
        shard.frontends[self.session.info.frontend].count(Stat::RewriteErrors);
        if let Some(backend) = self.session.info.backend.get() {
            shard.backends[backend].count(Stat::RewriteErrors);
        }
        if strict { Err(Halt::Failed) } else { Ok(()) }
    }

    fn edit(&mut self, edit: &HeaderEdit) -> Result<(), EditError> {
        match edit {
            HeaderEdit::Set { name, value } => {
                self.write(value);
                self.head.edit(self.bytes).set_as(name, self.text)
            }
            HeaderEdit::Add { name, value } => {
                self.write(value);
                self.head.edit(self.bytes).add_as(name, self.text)
            }
            HeaderEdit::Del(names) => {
                delete(&mut self.head.edit(self.bytes), names);
                Ok(())
            }
            HeaderEdit::Replace { name, pattern, value } => {
                let template = self.template(value);
                let mut head = self.head.edit(self.bytes);
                head.rewrite_lines(Name::of(name), |line, out| replace(pattern, &template, line, out))
                    .map(drop)
            }
            HeaderEdit::ReplaceValue { name, pattern, value } => {
                let template = self.template(value);
                let mut head = self.head.edit(self.bytes);
                head.rewrite_values(Name::of(name), |line, out| replace(pattern, &template, line, out))
                    .map(drop)
            }
        }
    }

    fn edit_line(&mut self, edit: &LineEdit) -> Result<(), EditError> {
        match edit {
            LineEdit::Method(value) => {
                self.write(value);
                let (old, new) = (self.head.view(self.bytes).method(), Method::of(self.text));
                // How a response to HEAD or CONNECT ends is special, and its client knows only what it asked itself.
                let is_special = |m| matches!(m, Method::Head | Method::Connect);
                if old != new && (is_special(new) || old == Method::Connect) {
                    return Err(EditError::Method);
                }
                self.head.edit(self.bytes).set_method(self.text)
            }
            LineEdit::Path(value) => {
                self.write(value);
                self.head.edit(self.bytes).set_path(self.text)
            }
            LineEdit::Query(value) => {
                self.write(value);
                let query = self.text.strip_prefix(b"?").unwrap_or(self.text);
                self.head.edit(self.bytes).set_query(query)
            }
            LineEdit::Uri(value) => {
                self.write(value);
                self.head.edit(self.bytes).set_target(self.text)
            }
            LineEdit::ReplacePath { pattern, value } => {
                let template = self.template(value);
                let path = self.head.view(self.bytes).path();
                self.text.clear();
                if !replace(pattern, &template, path, self.text) {
                    return Ok(());
                }
                self.head.edit(self.bytes).set_path(self.text)
            }
            LineEdit::ReplaceUri { pattern, value } => {
                let template = self.template(value);
                let uri = self.head.view(self.bytes).target();
                self.text.clear();
                if !replace(pattern, &template, uri, self.text) {
                    return Ok(());
                }
                self.head.edit(self.bytes).set_target(self.text)
            }
        }
    }

    /// The text that groups are put into; copied only where it depends on the request.
    fn template<'f>(&self, format: &'f Format) -> Cow<'f, [u8]> {
        match format.as_text() {
            Some(text) => Cow::Borrowed(text),
            None => {
                let mut text = Vec::new();
                self.append(format, &mut text);
                Cow::Owned(text)
            }
        }
    }

    /// Appends where a redirect leads.
    pub(super) fn location(&self, redirect: &Redirect, out: &mut Vec<u8>) {
        use crate::policy::http_action::RedirectTarget;
        use crate::proto::http::Known;
        let view = self.head.view(self.bytes);
        let (_, path, rest) = target::split_path(view.target());
        let start = out.len();
        match &redirect.target {
            RedirectTarget::Location(format) => return self.append(format, out),
            RedirectTarget::Prefix(format) => {
                self.append(format, out);
                // A prefix of "/" alone stands for no prefix, as with HAProxy.
                if &out[start..] == b"/" {
                    out.truncate(start);
                }
            }
            RedirectTarget::Scheme(format) => {
                self.append(format, out);
                out.extend_from_slice(b"://");
                out.extend_from_slice(view.line(Known::Host).unwrap_or_default());
            }
        }
        out.extend_from_slice(if path.is_empty() { b"/" } else { path });
        if redirect.append_slash && !path.ends_with(b"/") && !path.is_empty() {
            out.push(b'/');
        }
        if !redirect.drop_query {
            out.extend_from_slice(rest);
        }
    }
}

/// `del-header`. Texts of the match are in lower case.
fn delete(head: &mut HeadEdit<'_>, names: &NameMatch) {
    let lower = |name: &[u8]| name.iter().map(u8::to_ascii_lowercase).collect::<SmallVec<[u8; 64]>>();
    match names {
        NameMatch::Exact(name) => head.delete(Name::of(name)),
        NameMatch::Begins(text) => head.delete_where(|name| lower(name).starts_with(text)),
        NameMatch::Ends(text) => head.delete_where(|name| lower(name).ends_with(text)),
        NameMatch::Contains(text) => {
            head.delete_where(|name| memchr::memmem::find(&lower(name), text).is_some())
        }
        NameMatch::Matches(regex) => head.delete_where(|name| regex.is_match(name)),
    };
}

/// Writes the template in place of the whole text if the expression matches anywhere in it. `\0` is what matched, `\1` to
/// `\9` are its groups, and any other character after a backslash stands for itself.
fn replace(pattern: &regex::bytes::Regex, template: &[u8], text: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(groups) = pattern.captures(text) else { return false };
    let mut rest = template;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        match rest.get(at + 1) {
            Some(digit) if digit.is_ascii_digit() => {
                let group = groups.get(usize::from(digit - b'0'));
                out.extend_from_slice(group.map_or(b"", |group| group.as_bytes()));
            }
            Some(other) => out.push(*other),
            None => out.push(b'\\'),
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_put_into_the_template() {
        for (pattern, template, text, expected) in [
            ("^/old/(.*)", r"/new/\1", "/old/a/b", Some("/new/a/b")),
            ("(a)(b)?", r"\2|\1|\0\\", "xay", Some(r"|a|a\")),
            ("x", r"end\", "x", Some(r"end\")),
            ("x", "y", "a", None),
            ("(.*)", r"/foo\1", "/bar", Some("/foo/bar")),
        ] {
            let pattern = regex::bytes::Regex::new(pattern).expect("a pattern");
            let mut out = Vec::new();
            let is_replaced = replace(&pattern, template.as_bytes(), text.as_bytes(), &mut out);
            assert_eq!(is_replaced.then(|| String::from_utf8_lossy(&out).into_owned()).as_deref(), expected);
        }
    }
}
