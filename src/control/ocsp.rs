//! Keeps OCSP responses fresh (`ocsp-update`): asks the responders on a thread of its own, because looking up names and waiting for
//! strangers takes time, and hands what they signed to the cores. What is asked and what an answer must be is `tls::ocsp`.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::limits::OCSP_BYTES_MAX;
use crate::base::time::Now;
use crate::control::certificates::unix_now_s;
use crate::control::core::{Control, Notice};
use crate::control::events::Level;
use crate::rt;
use crate::tls::ocsp::{self, OcspError, Question};

/// Between two rounds: HAProxy's bounds.
const SOONEST: Duration = Duration::from_secs(5 * 60);
const LATEST: Duration = Duration::from_secs(60 * 60);

/// How long a responder may take for each step.
const PATIENCE: Duration = Duration::from_secs(10);

/// When responders are asked again.
#[derive(Default)]
pub(super) struct Ocsp {
    due: Cell<Option<Now>>,
    busy: Cell<bool>,
}

impl Ocsp {
    /// They are asked at the next tick.
    pub(super) fn hurry(&self) {
        self.due.set(None);
    }
}

/// What responders said, or why they said nothing.
#[derive(Debug)]
pub(super) struct Answers(Vec<(PathBuf, Result<Vec<u8>, String>)>);

impl Control {
    /// Once a second: asks when it is time.
    pub(super) fn tend_ocsp(&self, now: Now) {
        let state = &self.ocsp;
        if state.busy.get() || state.due.get().is_some_and(|due| now < due) {
            return;
        }
        state.due.set(Some(now + LATEST));
        let all = self.tls.borrow().questions(&self.model);
        if all.is_empty() {
            return;
        }
        let mut questions = Vec::new();
        for (path, question) in all {
            match question {
                Some(question) => questions.push((path, question)),
                None => {
                    let why =
                        "its authority names no responder, or the issuer's certificate is not behind it";
                    self.say(Level::Warning, format!("ocsp-update of {}: {why}", path.display()));
                }
            }
        }
        let tell = self.notices.clone();
        let thread = std::thread::Builder::new().name("ocsp".to_owned());
        let spawned = thread.spawn(move || {
            rt::machine::step_back();
            let answers = questions.into_iter().map(|(path, question)| (path, fetch(&question)));
            tell.send(Notice::Asked(Box::new(Answers(answers.collect()))));
        });
        match spawned {
            Ok(_) => state.busy.set(true),
            Err(e) => self.say(Level::Warning, format!("ocsp-update: cannot start a thread: {e}")),
        }
    }

    /// The responders were asked.
    pub(super) fn on_answers(&self, Answers(answers): Answers) {
        self.ocsp.busy.set(false);
        let now_s = unix_now_s();
        let (mut good, mut next) = (Vec::new(), LATEST);
        for (path, answer) in answers {
            let Some(certificate) = self.tls.borrow().find(&path).cloned() else { continue };
            let name = path.display().to_string();
            let checked = answer.map(|der| (ocsp::check(&der, &certificate.chain, now_s), der));
            match checked {
                Ok((Ok(until), der)) => {
                    // Half of the time that is left is early enough for another try.
                    let left = until.map_or(i64::MAX, |until| until - now_s) / 2;
                    next = next.min(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
                    good.push((path, der));
                }
                Ok((Err(error), _)) => {
                    next = SOONEST;
                    let level = if error == OcspError::Revoked { Level::Alert } else { Level::Warning };
                    self.say(level, format!("ocsp-update of {name}: {error}"));
                }
                Err(why) => {
                    next = SOONEST;
                    self.say(Level::Warning, format!("ocsp-update of {name}: {why}"));
                }
            }
        }
        self.ocsp.due.set(Some(rt::now() + next.max(SOONEST)));
        if good.is_empty() {
            return;
        }
        let store = self.tls.borrow().with_responses(&good);
        if let Err(why) = self.serve_certificates(store.into()) {
            self.say(Level::Warning, format!("ocsp-update: {why}"));
        }
    }
}

/// Asks one responder, as RFC 6960 A.1 has it.
fn fetch(question: &Question) -> Result<Vec<u8>, String> {
    let url = &question.url;
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url} is no http:// address"))?;
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, "/".to_owned()),
    };
    let failed = |e: io::Error| format!("{url}: {e}");
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let mut addresses = target.to_socket_addrs().map_err(failed)?;
    let address = addresses.next().ok_or_else(|| format!("{url}: the name has no address"))?;
    let mut conn = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    conn.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    conn.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    // HTTP/1.0: the answer ends with the connection, and no part of it is chunked.
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {authority}\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
        question.request.len()
    );
    conn.write_all(&[head.as_bytes(), &question.request].concat()).map_err(failed)?;
    let mut answer = Vec::new();
    conn.take(OCSP_BYTES_MAX).read_to_end(&mut answer).map_err(failed)?;
    body(&answer).ok_or_else(|| format!("{url}: the responder answers with an error"))
}

/// The body of an answer with status 200.
fn body(answer: &[u8]) -> Option<Vec<u8>> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let status = answer.split(|byte| *byte == b' ').nth(1)?;
    status.starts_with(b"200").then(|| answer[end..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_good_answers_are_taken() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nxyz").as_deref(), Some(b"xyz".as_slice()));
        assert_eq!(body(b"HTTP/1.1 404 Not Found\r\n\r\nxyz"), None);
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nA: b\r\n"), None);
        assert_eq!(body(b""), None);
    }

    #[test]
    fn a_responder_that_is_no_url_is_told() {
        let ask = |url: &str| fetch(&Question { url: url.to_owned(), request: Vec::new() });
        assert!(ask("ldap://x").is_err_and(|e| e.contains("is no http:// address")));
    }
}
