//! The client's end of one stream of HTTP/2: its request, its body, and the response in its states. `client_h1::Client`
//! holds one where HTTP/1 has its connection.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Response, request};

use crate::proxy::h2_body::{Incoming, Outgoing, to_io};

/// One stream of a client.
pub(super) struct Stream {
    /// The request as it came; taken when its head is read.
    pub(super) request: Option<Box<request::Parts>>,
    pub(super) incoming: Incoming,
    /// Shared with the task of the stream, which watches for a reset whatever the request waits for.
    pub(super) responder: Rc<RefCell<Responder>>,
}

impl Stream {
    pub(super) fn new(parts: request::Parts, body: RecvStream, respond: SendResponse<Bytes>) -> Stream {
        Stream {
            request: Some(Box::new(parts)),
            incoming: Incoming::new(body),
            responder: Rc::new(RefCell::new(Responder::Head(respond))),
        }
    }
}

/// What stands for a stream that is not there.
pub(super) fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// A response on its way.
pub(super) enum Responder {
    /// No final head was sent.
    Head(SendResponse<Bytes>),
    /// The body is being sent.
    Body(Outgoing),
}

impl Responder {
    /// Sends a 1xx.
    pub(super) fn interim(&mut self, response: Response<()>) -> io::Result<()> {
        match self {
            Responder::Head(respond) => respond.send_informational(response).map_err(to_io),
            Responder::Body(_) => Ok(()),
        }
    }

    /// Sends the head. `is_over`: nothing follows it.
    pub(super) fn head(&mut self, response: Response<()>, is_over: bool) -> io::Result<()> {
        let Responder::Head(respond) = self else { return Err(io::ErrorKind::InvalidInput.into()) };
        let body = respond.send_response(response, is_over).map_err(to_io)?;
        *self = Responder::Body(Outgoing::new(body, is_over));
        Ok(())
    }

    /// The body, once the head was sent.
    pub(super) fn body(&mut self) -> Option<&mut Outgoing> {
        match self {
            Responder::Head(_) => None,
            Responder::Body(body) => Some(body),
        }
    }

    /// Ends the stream in both directions.
    pub(super) fn reset(&mut self, reason: Reason) {
        match self {
            Responder::Head(respond) => respond.send_reset(reason),
            Responder::Body(body) => body.reset(reason),
        }
    }

    /// Ends what is left of the stream after something went wrong.
    pub(super) fn reset_unless_done(&mut self, reason: Reason) {
        match self {
            Responder::Body(body) if body.is_over() => {}
            _ => self.reset(reason),
        }
    }

    /// Ready when the client has reset the stream, or its connection is gone.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Responder::Head(respond) => respond.poll_reset(cx).map(drop),
            Responder::Body(body) => body.poll_reset(cx),
        }
    }
}
