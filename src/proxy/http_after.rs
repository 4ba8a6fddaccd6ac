//! `after-response-rules`: the last word on every response, whoever made it. On those of servers they run behind the response rules; an
//! answer of our own is read again for them, which only those pay for who have such rules.

use crate::base::id::BackendId;
use crate::policy::http_action::ResponseAction;
use crate::policy::rule::RuleList;
use crate::proto::Parsed;
use crate::proto::h1::encode::{self, BodyHeaders, ConnectionHeader, HeadOut};
use crate::proto::h1::head::{HeadOptions, parse_response};
use crate::proto::http::Known;
use crate::proxy::facts::Message;
use crate::proxy::http::{backend_http, http_of};
use crate::proxy::http_rules::Subject;
use crate::proxy::pad::{Memory, Pad};
use crate::proxy::session::Session;
use crate::rt::SendBuf;

/// The rules of the backend, then those of the frontend.
pub(super) fn lists(
    session: &Session,
    backend: Option<BackendId>,
) -> impl Iterator<Item = &RuleList<ResponseAction>> + Clone {
    let own = backend.map(|id| &backend_http(&session.core.model.backends[id]).rules.after);
    let all = own.into_iter().chain([&http_of(session.frontend()).rules.after]);
    all.filter(|rules| !rules.is_empty())
}

/// An answer of our own as the rules want it.
pub(super) fn own_answer(session: &Session, backend: Option<BackendId>, answer: Vec<u8>) -> Vec<u8> {
    let lists = lists(session, backend);
    if lists.clone().next().is_none() {
        return answer;
    }
    let mut pad = Pad::take(session.core.base());
    let Memory { response, text, .. } = &mut *pad;
    response.clear();
    let close = match parse_response(&answer, &HeadOptions::default(), response) {
        Ok(Parsed::Complete { value, .. }) => Some(value.has_token(Known::Connection, b"close")),
        // The page of an operator may be anything.
        _ => None,
    };
    let Some(close) = close else { return answer };
    let message = Message::default();
    let mut subject = Subject { session, head: response, bytes: &answer, is_response: true, message, text };
    for rules in lists {
        // A change that does not fit leaves the answer as it was before the rule.
        let _ = subject.on_response(rules);
    }
    let connection = if close { ConnectionHeader::Close } else { ConnectionHeader::None };
    let mut out = session.core.pads.buffer();
    let how = HeadOut { body: BodyHeaders::Keep, connection };
    encode::response(&mut response.edit(&answer), how, &mut out);
    out.extend_from_slice(answer.get(response.len()..).unwrap_or_default());
    session.core.pads.keep(Some(SendBuf::from(answer)));
    out
}
