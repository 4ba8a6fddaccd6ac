//! Rules of HTTP mode at work: walks them over a head, changes it, and says what else they want. Decides nothing itself:
//! conditions and order are `policy::rule`'s, what an edit may do is `proto::headers`'.

use std::borrow::Cow;
use std::time::Duration;

use smallvec::SmallVec;

use crate::base::id::{BackendId, ServerId};
use crate::policy::format::Format;
use crate::policy::http_action::{
    HeaderEdit, LineEdit, NameMatch, Normalizer, Redirect, RedirectTarget, Reply, RequestAction,
    ResponseAction, Service, TimeoutValue,
};
use crate::policy::normalize::{BadEscape, normalize};
use crate::policy::rule::{RuleList, Verdict};
use crate::policy::sample::{Expr, FirstBytes, Value, VariableId};
use crate::policy::stick::StickAction;
use crate::proto::headers::{EditError, Head, HeadEdit};
use crate::proto::http::{Name, StatusCode, is_value};
use crate::proto::target;
use crate::proxy::explain::{List, next_rule};
use crate::proxy::facts::{self, Message};
use crate::proxy::log;
use crate::proxy::session::Session;
use crate::proxy::stick::Span;
use crate::proxy::tuning::readdress;
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

/// Where rules send a request, and what goes to its client before.
#[derive(Clone, Default, Debug)]
pub(super) struct Route {
    pub(super) backend: Option<BackendId>,
    pub(super) server: Option<ServerId>,
    /// What the control core is to answer.
    pub(super) service: Option<Service>,
    /// Whether the client may change something on the statistics page.
    pub(super) is_admin: bool,
    /// Header lines of a 103.
    pub(super) hints: Vec<u8>,
}

/// How far a walk over one list of rules came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Where to go on.
    at: usize,
    strict: bool,
    /// `allow` was met: of the rules that follow only those that route count.
    allowed: bool,
}

impl Walk {
    /// At the first rule.
    pub(super) const START: Walk = Walk { at: 0, strict: true, allowed: false };
}

/// What a walk waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pause {
    /// The body of the request, or this many bytes of it, for at most this long.
    Body(Duration, Option<u64>),
    /// Credentials have to be verified.
    Credentials,
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
    /// `auth`, with its realm.
    Auth(&'a str),
    /// A target that `normalize-uri` refuses.
    BadTarget,
    /// `reject`.
    Reject,
    /// `silent-drop`.
    SilentDrop,
    /// A change that was not possible, with `strict-mode`.
    Failed,
}

impl<'a> Subject<'a> {
    /// Walks the rules of a request from where `walk` stands; says what to wait for before it can go on, if anything.
    pub(super) fn on_request<'r>(
        &mut self,
        rules: &'r RuleList<RequestAction>,
        walk: &mut Walk,
        route: &mut Route,
    ) -> Result<Option<Pause>, Halt<'r>> {
        loop {
            let (index, action) = match self.next(rules, walk.at) {
                Verdict::Apply(index, action) => (index, action),
                // All of the head is here: only credentials are still open.
                Verdict::NeedMore(index) => {
                    walk.at = index;
                    return Ok(Some(Pause::Credentials));
                }
                Verdict::End => return Ok(None),
            };
            walk.at = index + 1;
            let strict = walk.strict;
            if walk.allowed && !action.routes() {
                if let Some(trace) = self.session.core.trace.get() {
                    trace.skipped(rules, index);
                }
                continue;
            }
            self.session.hit(&rules[index]);
            match action {
                RequestAction::Allow => walk.allowed = true,
                RequestAction::Deny(reply) => return Err(Halt::Deny(reply)),
                RequestAction::Return(reply) => return Err(Halt::Return(reply)),
                RequestAction::Tarpit(reply) => return Err(Halt::Tarpit(reply)),
                RequestAction::Redirect(redirect) if self.is_ignored(redirect) => {}
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
                RequestAction::SetVarFmt { variable, value } => self.set_text(*variable, value),
                RequestAction::UnsetVar(variable) => self.session.unset_variable(*variable),
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
                RequestAction::UseService(service) => {
                    route.service = Some(*service);
                    break;
                }
                RequestAction::Administrate => route.is_admin = true,
                RequestAction::StrictMode(is_strict) => walk.strict = *is_strict,
                RequestAction::Auth { realm } => return Err(Halt::Auth(realm)),
                RequestAction::WaitForBody { time, at_least } => {
                    return Ok(Some(Pause::Body(*time, *at_least)));
                }
                RequestAction::EarlyHint { name, value } => {
                    self.write(value);
                    let value = self.text.trim_ascii();
                    if is_value(value) {
                        for part in [name, &b": "[..], value, b"\r\n"] {
                            route.hints.extend_from_slice(part);
                        }
                    }
                }
                RequestAction::NormalizeUri(normalizer) => {
                    let result = self.normalize(*normalizer)?;
                    self.judge(result, strict)?;
                }
                RequestAction::Stick(action) => self.stick(action),
                other => self.tune(other),
            }
        }
        Ok(None)
    }

    /// What concerns the request but none of its bytes.
    fn tune(&self, action: &RequestAction) {
        let session = self.session;
        match action {
            RequestAction::SetTimeout { timeout, value } => {
                let ms = match value {
                    TimeoutValue::Fixed(time) => i64::try_from(time.as_millis()).ok(),
                    TimeoutValue::Milliseconds(expr) => self.value(expr, |value| value.as_int()),
                };
                session.tune(|tuning| tuning.set_timeout(*timeout, ms.unwrap_or(0)));
            }
            RequestAction::SetPriorityClass(expr) => {
                if let Some(class) = self.value(expr, |value| value.as_int()) {
                    session.tune(|tuning| tuning.set_class(class));
                }
            }
            RequestAction::SetPriorityOffset(expr) => {
                if let Some(ms) = self.value(expr, |value| value.as_int()) {
                    session.tune(|tuning| tuning.set_offset(ms));
                }
            }
            RequestAction::SetSrc(expr) => {
                if let Some(ip) = self.value(expr, |value| value.as_ip()) {
                    session.rewrite_conn(|facts| facts.src = readdress(facts.src, Some(ip), None));
                }
            }
            RequestAction::SetDst(expr) => {
                if let Some(ip) = self.value(expr, |value| value.as_ip()) {
                    session.rewrite_conn(|facts| facts.dst = readdress(facts.dst, Some(ip), None));
                }
            }
            RequestAction::SetSrcPort(expr) => {
                if let Some(port) = self.port(expr) {
                    session.rewrite_conn(|facts| facts.src = readdress(facts.src, None, Some(port)));
                }
            }
            RequestAction::SetDstPort(expr) => {
                if let Some(port) = self.port(expr) {
                    session.rewrite_conn(|facts| facts.dst = readdress(facts.dst, None, Some(port)));
                }
            }
            RequestAction::Capture { value, slot, len } => self.capture(value, *slot, *len),
            RequestAction::SetLogLevel(level) => log::set_level(session, *level),
            // The others are done by `on_request`.
            _ => {}
        }
    }

    fn stick(&self, action: &StickAction) {
        self.session.stick_action(action, (NO_BYTES, self.message()), Span::Request);
    }

    fn port(&self, expr: &Expr) -> Option<u16> {
        u16::try_from(self.value(expr, |value| value.as_int())?).ok()
    }

    /// What an expression gives, read as something that owns itself.
    fn value<R>(&self, expr: &Expr, read: impl FnOnce(Value<'_>) -> Option<R>) -> Option<R> {
        self.session.with_facts(NO_BYTES, self.message(), |facts, scratch| {
            expr.eval(facts, scratch).value.and_then(read)
        })
    }

    fn normalize(&mut self, normalizer: Normalizer) -> Result<Result<(), EditError>, Halt<'static>> {
        let target = self.head.view(self.bytes).target();
        self.text.clear();
        match normalize(normalizer, target, self.text) {
            Ok(false) => Ok(Ok(())),
            Ok(true) => Ok(self.head.edit(self.bytes).set_target(self.text)),
            Err(BadEscape) => Err(Halt::BadTarget),
        }
    }

    /// Walks the rules of a response.
    pub(super) fn on_response<'r>(&mut self, rules: &'r RuleList<ResponseAction>) -> Result<(), Halt<'r>> {
        let mut at = 0;
        let mut strict = true;
        // Nothing waits here: conditions that would are those on credentials, which belong to requests.
        while let Verdict::Apply(index, action) = self.next(rules, at) {
            at = index + 1;
            self.session.hit(&rules[index]);
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
                ResponseAction::SetVarFmt { variable, value } => self.set_text(*variable, value),
                ResponseAction::UnsetVar(variable) => self.session.unset_variable(*variable),
                ResponseAction::StrictMode(is_strict) => strict = *is_strict,
                ResponseAction::Capture { value, slot, len } => self.capture(value, *slot, *len),
                ResponseAction::SetLogLevel(level) => log::set_level(self.session, *level),
                ResponseAction::Stick(action) => self.stick(action),
            }
        }
        Ok(())
    }

    /// The next rule that applies, from a place on.
    fn next<'r, A>(&self, rules: &'r RuleList<A>, from: usize) -> Verdict<'r, A> {
        if from >= rules.len() && self.session.core.trace.get().is_none() {
            return Verdict::End;
        }
        let list = if self.is_response { List::Response } else { List::Request };
        self.session.with_facts(NO_BYTES, self.message(), |facts, scratch| {
            next_rule(list, rules, from, facts, scratch)
        })
    }

    fn message(&self) -> Message<'_> {
        let view = self.head.view(self.bytes);
        match self.is_response {
            true => Message { response: Some(view), ..self.message },
            false => Message { request: Some(view), ..self.message },
        }
    }

    /// Writes a format to `text`, for a head.
    pub(super) fn write(&mut self, format: &Format) {
        let mut text = std::mem::take(self.text);
        text.clear();
        self.append(format, &mut text);
        *self.text = text;
    }

    /// Appends what a format gives, for a head.
    pub(super) fn append(&self, format: &Format, out: &mut Vec<u8>) {
        if let Some(text) = format.as_text() {
            out.extend_from_slice(text);
            return;
        }
        self.session.with_facts(NO_BYTES, self.message(), |facts, scratch| {
            format.write_in_head(facts, scratch, out);
        });
    }

    /// Appends what a format gives, byte for byte.
    pub(super) fn append_raw(&self, format: &Format, out: &mut Vec<u8>) {
        self.session.with_facts(NO_BYTES, self.message(), |facts, scratch| {
            format.write(facts, scratch, b"", out);
        });
    }

    /// `capture`: a value without bytes leaves its place empty.
    fn capture(&self, value: &Expr, slot: u16, len: u16) {
        self.session.with_facts(NO_BYTES, self.message(), |facts, scratch| {
            if let Some(value) = value.eval(facts, scratch).value {
                value.with_text(|text| log::capture(self.session, self.is_response, (slot, len), text));
            }
        });
    }

    fn set_variable(&mut self, variable: VariableId, value: &Expr) {
        let mut text = std::mem::take(self.text);
        facts::set_variable(self.session, (NO_BYTES, self.message()), variable, value, &mut text);
        *self.text = text;
    }

    fn set_text(&mut self, variable: VariableId, value: &Format) {
        let mut text = std::mem::take(self.text);
        text.clear();
        self.append_raw(value, &mut text);
        self.session.store_variable(variable, Value::Str(&text));
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
                self.head.edit(self.bytes).change_method(self.text)
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
                self.set_uri()
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
            LineEdit::Pathq(value) => {
                self.write(value);
                let target = self.head.view(self.bytes).target();
                let before = target.len() - target::origin_form(target).1.len();
                drop(self.text.splice(0..0, target[..before].iter().copied()));
                self.head.edit(self.bytes).set_target(self.text)
            }
            LineEdit::ReplacePathq { pattern, value } => {
                let template = self.template(value);
                let target = self.head.view(self.bytes).target();
                let (slash, rest) = target::origin_form(target);
                let pathq = if rest.is_empty() { slash } else { rest };
                self.text.clear();
                self.text.extend_from_slice(&target[..target.len() - rest.len()]);
                if !replace(pattern, &template, pathq, self.text) {
                    return Ok(());
                }
                self.head.edit(self.bytes).set_target(self.text)
            }
            LineEdit::ReplaceUri { pattern, value } => {
                let template = self.template(value);
                let uri = self.head.view(self.bytes).target();
                self.text.clear();
                if !replace(pattern, &template, uri, self.text) {
                    return Ok(());
                }
                self.set_uri()
            }
        }
    }

    /// Makes the text the target. If it names another host, the request is for that one (RFC 9112 3.2.2).
    fn set_uri(&mut self) -> Result<(), EditError> {
        let (before, _, _) = target::split_path(self.text);
        let named = memchr::memmem::find(before, b"://").map(|at| &before[at + 3..]);
        let is_other = before != target::split_path(self.head.view(self.bytes).target()).0;
        self.head.edit(self.bytes).set_target(self.text)?;
        match named {
            Some(host) if is_other => self.head.edit(self.bytes).set_as(b"Host", host),
            _ => Ok(()),
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

    /// Whether it leads nowhere, and is to be passed over then.
    fn is_ignored(&mut self, redirect: &Redirect) -> bool {
        match &redirect.target {
            RedirectTarget::Location(format) if redirect.ignore_empty => {
                self.write(format);
                self.text.is_empty()
            }
            _ => false,
        }
    }

    /// Appends where a redirect leads.
    pub(super) fn location(&self, redirect: &Redirect, out: &mut Vec<u8>) {
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
