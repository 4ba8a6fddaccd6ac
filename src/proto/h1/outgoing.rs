//! How a response goes on to a client: which headers say where it ends, and what becomes of its body.
//!
//! Pure choice from facts; writing is `encode.rs`. RFC 9112 6.1, 6.3 and 9.3.

use crate::proto::h1::encode::{BodyHeaders, ConnectionHeader, HeadOut};
use crate::proto::h1::framing::{Asked, Decision, Framing};
use crate::proto::headers::HeadView;
use crate::proto::http::{Known, Method, StatusCode, Version};

/// In what form the body goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyForm {
    /// Framing and data as they come.
    AsIs,
    /// The data alone; the client knows the end by Content-Length or by the close.
    DataOnly,
    /// The data in chunks of ours, closed with the last chunk.
    Chunked,
}

/// The plan for one response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponsePlan {
    /// How its head is written.
    pub head: HeadOut,
    /// How its body goes on.
    pub body: BodyForm,
    /// Whether the client's connection is closed behind it.
    pub close: bool,
    /// Whether the body that the server sends is left out: for the client this response has none. The server's
    /// connection, which that body is on, is of no further use.
    pub leaves_out: bool,
}

/// The client of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// What it asked.
    pub asked: Asked,
    /// The version it speaks.
    pub version: Version,
    /// Whether its connection may stay open: it wishes so, its request did not forbid it, and so does the configuration.
    pub may_stay: bool,
}

/// Plans a response. `decision` is what `framing::response` made of it; the server's own connection is not looked at.
///
/// Rules may have changed the method or the status since, and with them whether there is a body (RFC 9112 6.3): what the
/// client would take for its next response must not follow, and what it waits for must not be missing.
pub fn plan(view: HeadView<'_>, decision: &Decision, client: Client) -> ResponsePlan {
    let is_head = client.asked.method == Method::Head;
    let is_bare = matches!(view.status().map_or(0, StatusCode::code), 204 | 304);
    match decision.framing {
        Framing::Tunnel => plan_body(view, decision, client),
        Framing::None if !is_head && !is_bare && !view.status().is_some_and(StatusCode::is_interim) => {
            // It was a 204 or a 304: no body comes, whatever length a 304 tells of.
            let mut plan = plan_body(view, decision, client);
            plan.head.body = BodyHeaders::Length(0);
            plan
        }
        Framing::None => plan_body(view, decision, client),
        _ if is_head || is_bare => {
            let none = Decision { framing: Framing::None, ..*decision };
            let mut plan = plan_body(view, &none, client);
            if is_bare {
                plan.head.body = BodyHeaders::Neither;
            }
            ResponsePlan { leaves_out: true, ..plan }
        }
        _ => plan_body(view, decision, client),
    }
}

/// The plan for a response whose status and method are those that its framing was decided by.
fn plan_body(view: HeadView<'_>, decision: &Decision, client: Client) -> ResponsePlan {
    let status = view.status().map_or(0, StatusCode::code);
    if decision.framing == Framing::Tunnel {
        // Neither a 101 nor a 2xx to CONNECT may say a length (RFC 9110 8.6, 9.3.6).
        let connection = if status == 101 { ConnectionHeader::Upgrade } else { ConnectionHeader::None };
        let head = HeadOut { body: BodyHeaders::Neither, connection };
        return ResponsePlan { head, body: BodyForm::AsIs, close: false, leaves_out: false };
    }
    if client.version == Version::Http2 {
        // Frames say where the body ends; a length that the server says is true still.
        let body = match decision.framing {
            Framing::Chunked | Framing::UntilClose => BodyHeaders::Neither,
            _ if status == 204 => BodyHeaders::Neither,
            _ => BodyHeaders::Keep,
        };
        let head = HeadOut { body, connection: ConnectionHeader::None };
        return ResponsePlan { head, body: BodyForm::DataOnly, close: false, leaves_out: false };
    }
    if (100..200).contains(&status) {
        let head = HeadOut { body: BodyHeaders::Neither, connection: ConnectionHeader::None };
        return ResponsePlan { head, body: BodyForm::AsIs, close: false, leaves_out: false };
    }
    let is_old = client.version == Version::Http10;
    let (headers, body, is_framed) = match decision.framing {
        Framing::Chunked if is_old => (BodyHeaders::Neither, BodyForm::DataOnly, false),
        // The end of the server's connection becomes a last chunk, so that the client's stays open.
        Framing::UntilClose if !is_old && client.may_stay => (BodyHeaders::Chunked, BodyForm::Chunked, true),
        Framing::UntilClose => (BodyHeaders::Neither, BodyForm::AsIs, false),
        // A 204 has no length (RFC 9110 8.6); an old client does not know codings even where they announce nothing.
        Framing::None if status == 204 => (BodyHeaders::Neither, BodyForm::AsIs, true),
        Framing::None if is_old && view.has(Known::TransferEncoding) => {
            (BodyHeaders::Neither, BodyForm::AsIs, true)
        }
        _ => (BodyHeaders::Keep, BodyForm::AsIs, true),
    };
    let close = !client.may_stay || !is_framed;
    let connection = match (close, is_old) {
        (true, _) => ConnectionHeader::Close,
        (false, true) => ConnectionHeader::KeepAlive,
        (false, false) => ConnectionHeader::None,
    };
    ResponsePlan { head: HeadOut { body: headers, connection }, body, close, leaves_out: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::h1::framing;
    use crate::proto::h1::head::{Ambiguous, HeadOptions, parse_response};
    use crate::proto::headers::Head;

    fn planned(text: &str, client: Client) -> (BodyHeaders, BodyForm, ConnectionHeader, bool) {
        let text = format!("HTTP/1.1 {text}\r\n");
        let bytes = text.as_bytes();
        let mut head = Head::new();
        let parsed = parse_response(bytes, &HeadOptions::default(), &mut head);
        parsed.expect("a head").complete().expect("a whole head");
        let decision =
            framing::response(&mut head.edit(bytes), client.asked, Ambiguous::Reject).expect("a good one");
        let plan = plan(head.view(bytes), &decision, client);
        (plan.head.body, plan.body, plan.head.connection, plan.close)
    }

    #[test]
    fn responses_fit_their_clients() {
        use BodyHeaders::*;
        let new = Client { asked: Asked::default(), version: Version::Http11, may_stay: true };
        let old = Client { version: Version::Http10, ..new };
        let closing = Client { may_stay: false, ..new };
        let head = Client { asked: Asked { method: Method::Head, upgrade: false }, ..new };
        let old_head = Client { version: Version::Http10, ..head };
        let connect = Client { asked: Asked { method: Method::Connect, upgrade: false }, ..new };
        let upgrade = Client { asked: Asked { method: Method::Get, upgrade: true }, ..new };
        let none = ConnectionHeader::None;
        let close = ConnectionHeader::Close;
        let keep_alive = ConnectionHeader::KeepAlive;
        let length = "200 OK\r\nContent-Length: 5\r\n";
        let chunked = "200 OK\r\nTransfer-Encoding: chunked\r\n";
        let open_end = "200 OK\r\n";
        for (text, client, expected) in [
            (length, new, (Keep, BodyForm::AsIs, none, false)),
            (length, old, (Keep, BodyForm::AsIs, keep_alive, false)),
            (length, closing, (Keep, BodyForm::AsIs, close, true)),
            (chunked, new, (Keep, BodyForm::AsIs, none, false)),
            (chunked, old, (Neither, BodyForm::DataOnly, close, true)),
            (open_end, new, (Chunked, BodyForm::Chunked, none, false)),
            (open_end, old, (Neither, BodyForm::AsIs, close, true)),
            (open_end, closing, (Neither, BodyForm::AsIs, close, true)),
            (length, head, (Keep, BodyForm::AsIs, none, false)),
            (chunked, head, (Keep, BodyForm::AsIs, none, false)),
            (chunked, old_head, (Neither, BodyForm::AsIs, keep_alive, false)),
            ("204 No Content\r\nContent-Length: 0\r\n", new, (Neither, BodyForm::AsIs, none, false)),
            ("304 Not Modified\r\nContent-Length: 9\r\n", new, (Keep, BodyForm::AsIs, none, false)),
            ("103 Early Hints\r\n", closing, (Neither, BodyForm::AsIs, none, false)),
            (
                "101 Switching Protocols\r\n",
                upgrade,
                (Neither, BodyForm::AsIs, ConnectionHeader::Upgrade, false),
            ),
            (length, connect, (Neither, BodyForm::AsIs, none, false)),
        ] {
            assert_eq!(planned(text, client), expected, "{text:?} {client:?}");
        }
    }

    #[test]
    fn a_status_that_a_rule_changed_has_the_body_that_fits_it() {
        use BodyHeaders::*;
        let client = Client { asked: Asked::default(), version: Version::Http11, may_stay: true };
        let h2 = Client { version: Version::Http2, ..client };
        let head = Client { asked: Asked { method: Method::Head, upgrade: false }, ..client };
        // What the server says, the status that a rule sets, then headers and whether the body is left out.
        for (text, status, client, expected) in [
            ("200 OK\r\nContent-Length: 5\r\n", 204, client, (Neither, true)),
            ("200 OK\r\nContent-Length: 5\r\n", 304, client, (Neither, true)),
            ("200 OK\r\nTransfer-Encoding: chunked\r\n", 204, client, (Neither, true)),
            ("200 OK\r\n", 204, client, (Neither, true)),
            ("200 OK\r\nContent-Length: 5\r\n", 204, h2, (Neither, true)),
            ("200 OK\r\nContent-Length: 5\r\n", 404, client, (Keep, false)),
            ("304 Not Modified\r\nContent-Length: 9\r\n", 200, client, (Length(0), false)),
            ("304 Not Modified\r\nContent-Length: 9\r\n", 200, h2, (Length(0), false)),
            ("204 No Content\r\n", 200, client, (Length(0), false)),
            ("304 Not Modified\r\nContent-Length: 9\r\n", 200, head, (Keep, false)),
        ] {
            let text = format!("HTTP/1.1 {text}\r\n");
            let bytes = text.as_bytes();
            let mut head = Head::new();
            let parsed = parse_response(bytes, &HeadOptions::default(), &mut head);
            parsed.expect("a head").complete().expect("a whole head");
            let decision = framing::response(&mut head.edit(bytes), client.asked, Ambiguous::Reject)
                .expect("a good one");
            let status = StatusCode::new(status).expect("a status");
            head.edit(bytes).set_status(status, None).expect("there is room");
            let plan = plan(head.view(bytes), &decision, client);
            assert_eq!((plan.head.body, plan.leaves_out), expected, "{text:?} {status:?} {client:?}");
            assert!(!plan.close);
        }
    }
}
