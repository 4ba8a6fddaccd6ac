//! Requests that the control core answers: the statistics page of a frontend or backend, and what `use-service` names. Says
//! which ones those are and writes the ticket that tells the control core what is asked for and by whom; everything else is
//! the way of any other request.

use std::io::Write as _;

use crate::base::id::BackendId;
use crate::model::statistics::{StatsPage, TICKET};
use crate::policy::http_action::Service;
use crate::proto::headers::{EditError, HeadEdit, HeadView};
use crate::proto::target::split_path;
use crate::proxy::session::Session;

/// Whether a request is for the page: its target begins with the page's, and goes on as something below it.
pub(super) fn is_for(page: &StatsPage, request: HeadView<'_>) -> bool {
    let target = request.target();
    let (before, ..) = split_path(target);
    covers(page.uri.as_bytes(), &target[before.len()..])
}

fn covers(uri: &[u8], target: &[u8]) -> bool {
    let Some(rest) = target.strip_prefix(uri) else { return false };
    uri.ends_with(b"/") || matches!(rest.first(), None | Some(b'/' | b'?' | b';' | b'&'))
}

/// Tells the control core what is asked for: the service, whose page it is, whether the client may change something, and its
/// address. What the client said under that name goes.
pub(super) fn write_ticket(
    session: &Session,
    head: &mut HeadEdit<'_>,
    (service, is_admin): (Service, bool),
    backend: Option<BackendId>,
) -> Result<(), EditError> {
    let (kind, name) = match backend {
        None => ('f', &session.frontend().name),
        Some(id) => ('b', &session.core.model.backends[id].name),
    };
    let role = if is_admin { "admin" } else { "user" };
    let client = session.with_conn(|facts| facts.src);
    let mut text = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = write!(text, "{} {kind}{name} {role} {client}", service.name());
    head.set_as(TICKET.as_bytes(), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_is_below_its_uri_and_no_more() {
        for (uri, target, expected) in [
            ("/stats", "/stats", true),
            ("/stats", "/stats;csv;norefresh", true),
            ("/stats", "/stats/api/v1/info", true),
            ("/stats", "/stats?x", true),
            ("/stats", "/statistics", false),
            ("/stats", "/", false),
            ("/", "/anything", true),
            ("/haproxy?stats", "/haproxy?stats;csv", true),
            ("/haproxy?stats", "/haproxy?stats&x=1", true),
            ("/haproxy?stats", "/haproxy", false),
        ] {
            assert_eq!(covers(uri.as_bytes(), target.as_bytes()), expected, "{uri} {target}");
        }
    }
}
