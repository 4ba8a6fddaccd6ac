//! What a walk over rules may have to wait for: the body of the request, or the verdict on its credentials.

use std::time::Duration;

use crate::base::limits::BODY_WAIT_BYTES_MAX;
use crate::proto::h1::body::BodyDecoder;
use crate::proto::h1::framing::{Decision, Framing};
use crate::proto::h1::reason::Reason;
use crate::proto::http::{Known, Version};
use crate::proxy::auth;
use crate::proxy::client_h1::{Client, NoHead};
use crate::proxy::end::{End, Kind, Phase, Side};
use crate::proxy::http::{Stop, Turn};
use crate::proxy::http_rules::Pause;
use crate::proxy::pad::Pad;
use crate::proxy::session::Session;
use crate::rt;

/// Waits until the walk can go on.
pub(super) async fn wait(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &Turn,
    (decision, pause): (&Decision, Pause),
) -> Result<(), Stop> {
    // Whoever waits must not keep a receive buffer of the core meanwhile.
    client.link.input.detach();
    match pause {
        Pause::Body(time, at_least) => body(session, client, pad, turn, decision, (time, at_least)).await,
        Pause::Credentials => {
            let head = pad.request.view(client.link.input.bytes());
            let busy = End::new(Side::Proxy, Phase::Inspect, Kind::Resource);
            let verified = auth::verify(session, head, &pad.auth).await;
            verified.map_err(|_| Stop::Reply { status: 503, end: busy })
        }
    }
}

/// `wait-for-body`.
async fn body(
    session: &Session,
    client: &mut Client,
    pad: &mut Pad,
    turn: &Turn,
    decision: &Decision,
    (time, at_least): (Duration, Option<u64>),
) -> Result<(), Stop> {
    let head_len = pad.request.len();
    let deadline = Some(rt::now() + time);
    let ended = |kind| End::new(Side::Client, Phase::Inspect, kind);
    let failed = |no| match no {
        NoHead::Timeout => {
            session.refused(Reason::BodyTimeout);
            Stop::Reply { status: 408, end: ended(Kind::Timeout) }
        }
        _ => Stop::End(ended(Kind::Abort)),
    };
    while client.stream.is_some() {
        let is_enough = at_least.is_some_and(|least| pad.body.len() as u64 >= least);
        if is_enough || pad.body.len() >= BODY_WAIT_BYTES_MAX {
            return Ok(());
        }
        go_on(session, client, pad, turn).await?;
        if !client.more_ahead(deadline, &mut pad.body).await.map_err(failed)? {
            return Ok(());
        }
    }
    loop {
        let bytes = client.link.input.bytes().get(head_len..).unwrap_or_default();
        let (len, is_whole) = look(session, decision, bytes, &mut pad.body)?;
        let is_enough = at_least.is_some_and(|least| len as u64 >= least);
        if is_whole || is_enough || bytes.len() >= BODY_WAIT_BYTES_MAX {
            return Ok(());
        }
        go_on(session, client, pad, turn).await?;
        client.more(session, deadline).await.map_err(failed)?;
        client.link.input.detach();
    }
}

/// A client that waits for leave to send the body gets it from us, once: the server is not asked yet.
async fn go_on(session: &Session, client: &mut Client, pad: &mut Pad, turn: &Turn) -> Result<(), Stop> {
    let mut head = pad.request.edit(client.link.input.bytes());
    let waits = turn.version != Version::Http10 && head.view().has_token(Known::Expect, b"100-continue");
    if !waits {
        return Ok(());
    }
    head.delete(Known::Expect);
    let leave = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    client.send_interim(session, leave).await.map_err(Stop::End)
}

/// How many bytes of the body's data are here, and whether they are all. The data of chunks is put together in `data`.
pub(super) fn look(
    session: &Session,
    decision: &Decision,
    bytes: &[u8],
    data: &mut Vec<u8>,
) -> Result<(usize, bool), Stop> {
    match decision.framing {
        Framing::Length(length) => {
            let here = usize::try_from(length).map_or(bytes.len(), |length| length.min(bytes.len()));
            Ok((here, here as u64 == length))
        }
        Framing::Chunked => {
            data.clear();
            let mut decoder = BodyDecoder::new(Framing::Chunked);
            let mut at = 0;
            loop {
                let step = decoder.step(&bytes[at..]).map_err(|refusal| {
                    session.refused(refusal.reason);
                    let end = End::new(Side::Client, Phase::Data, Kind::Malformed);
                    Stop::Reply { status: refusal.reason.status(), end }
                })?;
                let start = at + step.framing;
                data.extend_from_slice(&bytes[start..start + step.data]);
                let end = start + step.data;
                if step.done || end == at || end == bytes.len() {
                    return Ok((data.len(), step.done));
                }
                at = end;
            }
        }
        Framing::None | Framing::UntilClose | Framing::Tunnel => Ok((0, true)),
    }
}

/// The data of the body as far as it is here: `bytes` are what follows the head, which may be another request.
pub(super) fn body_of<'a>(decision: &Decision, bytes: &'a [u8], data: &'a [u8]) -> &'a [u8] {
    match decision.framing {
        Framing::Length(length) => {
            &bytes[..usize::try_from(length).map_or(bytes.len(), |length| length.min(bytes.len()))]
        }
        Framing::Chunked => data,
        Framing::None | Framing::UntilClose | Framing::Tunnel => &[],
    }
}
