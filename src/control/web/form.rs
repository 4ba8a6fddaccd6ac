//! The form of the statistics page: changes servers as the admin socket does, with its commands, its checks and its audit. A
//! token binds a form to the page that showed it, so that another site cannot send one with the user's credentials.

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::control::web::{Answer, Request, Web};
use crate::model::AdminLevel;

/// The user of an `Authorization` header.
pub(super) fn user_of(authorization: &str) -> Option<String> {
    let (scheme, text) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, _) = text.split_once(':')?;
    Some(user.chars().filter(|c| !c.is_control()).take(64).collect())
}

/// The token of forms for whoever has these credentials.
pub(super) fn token(web: &Web, authorization: &[u8]) -> String {
    let whole = keyed(web, authorization);
    whole[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keyed(web: &Web, text: &[u8]) -> [u8; 32] {
    let key: Vec<u8> = web.key.iter().flat_map(|part| part.to_ne_bytes()).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// Applies a form and sends the browser back to the page, as HAProxy does: `;st=DONE`, or what went wrong.
pub(super) async fn apply(web: &Web, request: &Request) -> Answer {
    let fields = fields(&request.body);
    let one = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    // Compared as keyed hashes: the time says nothing about how far they agree.
    let expected = token(web, &request.authorization);
    let is_ours = keyed(web, one("t").as_bytes()) == keyed(web, expected.as_bytes());
    let outcome = match () {
        () if !request.is_admin => "DENY",
        () if request.is_foreign || !is_ours => "DENY",
        () => change(web, request, &fields).await,
    };
    if outcome == "DENY" {
        return Answer::error("403 Forbidden");
    }
    let uri = request.page.as_ref().map_or("/", |page| page.uri.as_str());
    let headers = format!("Location: {uri};st={outcome}\r\n");
    Answer { headers, ..Answer::error("303 See Other") }
}

/// Does what the form says to each server that it names: `s=BACKEND/SERVER`, or `b=BACKEND` with `s=SERVER`.
async fn change(web: &Web, request: &Request, fields: &[(String, String)]) -> &'static str {
    let one = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let servers: Vec<String> = fields
        .iter()
        .filter(|(key, _)| key == "s")
        .filter_map(|(_, value)| find(web, request, one("b"), value))
        .collect();
    if servers.is_empty() {
        return "NONE";
    }
    let action = one("action");
    let weight = one("weight");
    let mut wrong = 0;
    for server in &servers {
        let line = match action {
            "ready" | "drain" | "maint" => format!("set server {server} state {action}"),
            "enable" => format!("enable server {server}"),
            "disable" => format!("disable server {server}"),
            "shutdown" => format!("shutdown sessions server {server}"),
            "weight" if !weight.is_empty() && weight.bytes().all(|b| b.is_ascii_digit() || b == b'%') => {
                format!("set weight {server} {weight}")
            }
            _ => return "UNKN",
        };
        let said = web.command(AdminLevel::Admin, request.who(), &line).await;
        wrong += usize::from(!said.is_empty());
    }
    match wrong {
        0 => "DONE",
        n if n == servers.len() => "ERRP",
        _ => "PART",
    }
}

/// `backend/server` of the model, if the page shows it.
fn find(web: &Web, request: &Request, backend: &str, server: &str) -> Option<String> {
    let (backend, server) = server.split_once('/').unwrap_or((backend, server));
    let control = web.base.current();
    let model = &control.model;
    let by_number = backend.strip_prefix('#').and_then(|n| n.parse::<u32>().ok());
    let found = model.backends.values().find(|b| match by_number {
        Some(iid) => b.iid == iid && !b.is_internal(),
        None => b.name == backend && !b.is_internal(),
    })?;
    let scope = &request.page.as_ref()?.scope;
    let is_shown = scope.is_empty() || scope.contains(&found.name);
    let id = found.servers.iter().find(|id| model.servers[*id].name == server)?;
    is_shown.then(|| format!("{}/{}", found.name, model.servers[id].name))
}

/// The fields of a form (`application/x-www-form-urlencoded`).
fn fields(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    text.split('&')
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let rest = bytes.as_slice();
                let hex = rest.get(..2).and_then(|h| std::str::from_utf8(h).ok());
                match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                    Some(decoded) => {
                        out.push(decoded);
                        bytes.nth(1);
                    }
                    None => out.push(b'%'),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded_and_broken_ones_do_no_harm() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        for (body, expected) in [
            ("s=a%2Fb&action=drain", vec![pair("s", "a/b"), pair("action", "drain")]),
            ("a=%&b=%4&c=%zz&d=+x", vec![pair("a", "%"), pair("b", "%4"), pair("c", "%zz"), pair("d", " x")]),
            ("", vec![]),
            ("nothing", vec![]),
        ] {
            assert_eq!(fields(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn the_user_is_told_from_credentials() {
        assert_eq!(user_of("Basic YWRtaW46c2VjcmV0"), Some("admin".to_owned()));
        for wrong in ["", "Basic", "Basic !!", "Bearer YWRtaW46c2VjcmV0", "Basic YWRtaW4="] {
            assert_eq!(user_of(wrong), None, "{wrong}");
        }
    }
}
