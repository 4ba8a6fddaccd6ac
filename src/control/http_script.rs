//! The dialogue of an HTTP health check (`httpchk`, `http-check`): requests out, responses judged. Pure, like `script`.
//!
//! Every request has an answer that is judged: by the expectations behind it, or else by its status, which must be 200 to
//! 399 (101 with the right `Sec-WebSocket-Accept` for a WebSocket check).

use regex::bytes::Regex;

use crate::base::limits::CHECK_BYTES_MAX;
use crate::control::dialogue::{Found, Want};
use crate::model::CheckConnect;
use crate::model::http::{Expect, HttpCheck, HttpCheckRequest, HttpCheckStep};
use crate::policy::health::CheckStatus;
use crate::proto::h1::body::BodyDecoder;
use crate::proto::h1::framing::{self, Asked};
use crate::proto::h1::head::{Ambiguous, HeadOptions, parse_response};
use crate::proto::headers::{Head, HeadView};
use crate::proto::http::{Known, Method, Name, StatusCode};
use crate::proto::websocket;

/// A check with its requests encoded and its expressions compiled.
pub(super) struct Script {
    steps: Vec<Step>,
    disable_on_404: bool,
}

enum Step {
    Connect(CheckConnect),
    Send { request: Vec<u8>, asked: Asked },
    Expect { negated: bool, matcher: Matcher },
}

enum Matcher {
    Status(Vec<(u16, u16)>),
    StatusRegex(Pattern),
    Body(Vec<u8>),
    BodyRegex(Pattern),
    Headers { expected: Vec<(String, String)>, whole: bool },
    WebSocket,
}

/// A regular expression; `config` refuses those that do not compile, so `None` matches nothing.
struct Pattern {
    text: String,
    regex: Option<Regex>,
}

/// One dialogue.
pub(super) struct Dialogue<'a> {
    script: &'a Script,
    at: usize,
    /// The key of a WebSocket handshake.
    key: String,
    /// There was a request on this connection.
    asked: bool,
    response: Response,
}

/// The answer to the last request, as far as it is here.
#[derive(Default)]
struct Response {
    asked: Asked,
    /// Bytes of the head, or of the body that are not decoded.
    input: Vec<u8>,
    head: Head,
    /// What `head` describes, kept beside it.
    head_bytes: Vec<u8>,
    body: Vec<u8>,
    decoder: Option<BodyDecoder>,
    ended: bool,
    /// Why it is not HTTP.
    broken: Option<String>,
}

impl Script {
    /// Compiles a check. `host` is named where HTTP/1.1 needs a Host and the configuration has none.
    pub(super) fn new(check: &HttpCheck, host: &str) -> Script {
        let mut steps = Vec::new();
        for (at, step) in check.steps.iter().enumerate() {
            let rest = &check.steps[at + 1..];
            match step {
                HttpCheckStep::Connect(way) => steps.push(Step::Connect(*way)),
                HttpCheckStep::Send(request) => {
                    // The last request of a connection says so, so that the server keeps nothing for us.
                    let next = rest.iter().find(|s| !matches!(s, HttpCheckStep::Expect { .. }));
                    let is_last = !matches!(next, Some(HttpCheckStep::Send(_)));
                    steps.push(send(request, check.websocket, is_last, host));
                    if check.websocket {
                        steps.push(Step::Expect { negated: false, matcher: Matcher::WebSocket });
                    } else if !matches!(rest.first(), Some(HttpCheckStep::Expect { .. })) {
                        let matcher = Matcher::Status(vec![(200, 399)]);
                        steps.push(Step::Expect { negated: false, matcher });
                    }
                }
                HttpCheckStep::Expect { negated, expect } => {
                    steps.push(Step::Expect { negated: *negated, matcher: Matcher::new(expect) });
                }
            }
        }
        Script { steps, disable_on_404: check.disable_on_404 }
    }

    /// Starts a dialogue.
    pub(super) fn start(&self, nonce: [u8; 16]) -> Dialogue<'_> {
        Dialogue {
            script: self,
            at: 0,
            asked: false,
            key: websocket::key(nonce),
            response: Response::default(),
        }
    }
}

fn send(request: &HttpCheckRequest, websocket: bool, is_last: bool, host: &str) -> Step {
    let HttpCheckRequest { method, uri, http_11, headers, body } = request;
    let version = if *http_11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let mut text = format!("{method} {uri} {version}\r\n");
    let names = |name: &str| headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    if *http_11 && !names("host") {
        text += &format!("Host: {host}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() && !names("content-length") {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    if websocket {
        // The key and the end of the head are added when it is sent.
        text +=
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ";
    } else {
        if *http_11 && is_last && !names("connection") {
            text += "Connection: close\r\n";
        } else if !http_11 && !is_last && !names("connection") {
            text += "Connection: keep-alive\r\n";
        }
        text += "\r\n";
    }
    let mut request = text.into_bytes();
    request.extend_from_slice(body);
    Step::Send { request, asked: Asked { method: Method::of(method.as_bytes()), upgrade: websocket } }
}

impl Matcher {
    fn new(expect: &Expect) -> Matcher {
        let pattern = |text: &String| Pattern { text: text.clone(), regex: Regex::new(text).ok() };
        match expect {
            Expect::Status(ranges) => Matcher::Status(ranges.clone()),
            Expect::StatusRegex(text) => Matcher::StatusRegex(pattern(text)),
            Expect::Body(text) => Matcher::Body(text.clone()),
            Expect::BodyRegex(text) => Matcher::BodyRegex(pattern(text)),
            Expect::Headers(expected) => Matcher::Headers { expected: expected.clone(), whole: false },
            Expect::FullHeaders(expected) => Matcher::Headers { expected: expected.clone(), whole: true },
        }
    }

    fn needs_body(&self) -> bool {
        matches!(self, Matcher::Body(_) | Matcher::BodyRegex(_))
    }

    fn is_met(&self, view: HeadView<'_>, body: &[u8], key: &str) -> bool {
        let status = view.status().map_or(0, StatusCode::code);
        match self {
            Matcher::Status(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&status)),
            Matcher::StatusRegex(pattern) => pattern.is_match(status.to_string().as_bytes()),
            Matcher::Body(text) => memchr::memmem::find(body, text).is_some(),
            Matcher::BodyRegex(pattern) => pattern.is_match(body),
            Matcher::Headers { expected, whole } => expected.iter().all(|(name, value)| {
                let name = Name::of(name.as_bytes());
                if *whole {
                    view.lines(name).any(|line| line == value.as_bytes())
                } else {
                    view.values(name).any(|one| one == value.as_bytes())
                }
            }),
            Matcher::WebSocket => {
                status == 101
                    && view.has_token(Known::Upgrade, b"websocket")
                    && view.line(Name::of(b"sec-websocket-accept")) == Some(websocket::accept(key).as_bytes())
            }
        }
    }

    fn words(&self) -> String {
        match self {
            Matcher::Status(_) => "status".to_owned(),
            Matcher::StatusRegex(pattern) => format!("status matching '{}'", pattern.text),
            Matcher::Body(text) => format!("content '{}'", text.escape_ascii()),
            Matcher::BodyRegex(pattern) => format!("content matching '{}'", pattern.text),
            Matcher::Headers { expected, .. } => {
                let all: Vec<String> = expected.iter().map(|(n, v)| format!("'{n}: {v}'")).collect();
                format!("header {}", all.join(", "))
            }
            Matcher::WebSocket => "a WebSocket handshake".to_owned(),
        }
    }
}

impl Pattern {
    fn is_match(&self, bytes: &[u8]) -> bool {
        self.regex.as_ref().is_some_and(|regex| regex.is_match(bytes))
    }
}

impl Dialogue<'_> {
    /// What to do next. After [`Want::Connect`] and [`Want::Send`] it is the next step's turn.
    pub(super) fn next(&mut self) -> Want {
        loop {
            let script = self.script;
            match script.steps.get(self.at) {
                None => return Want::Done(self.found(CheckStatus::L7Ok, self.reason())),
                Some(Step::Connect(way)) => {
                    self.at += 1;
                    self.asked = false;
                    return Want::Connect(*way);
                }
                // The next request goes out behind the whole answer to the one before.
                Some(Step::Send { .. }) if self.asked && !self.response.is_complete() => {
                    return self.receive();
                }
                Some(Step::Send { request, asked }) => {
                    self.at += 1;
                    self.asked = true;
                    self.response = Response { asked: *asked, ..Response::default() };
                    let mut bytes = request.clone();
                    if asked.upgrade {
                        bytes.extend_from_slice(self.key.as_bytes());
                        bytes.extend_from_slice(b"\r\n\r\n");
                    }
                    return Want::Send(bytes);
                }
                Some(Step::Expect { negated, matcher }) => match self.judge(matcher, *negated) {
                    Some(true) => self.at += 1,
                    Some(false) => return Want::Done(self.failure(matcher, *negated)),
                    None => return self.receive(),
                },
            }
        }
    }

    /// Bytes from the server.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        self.response.handle_bytes(bytes);
    }

    /// The server has closed.
    pub(super) fn handle_end(&mut self) {
        self.response.ended = true;
    }

    /// The step that waits, for the words of a timeout.
    pub(super) fn place(&self) -> String {
        let what = match self.script.steps.get(self.at) {
            Some(Step::Expect { negated, matcher }) => {
                format!(" (expect {}{})", if *negated { "not " } else { "" }, matcher.words())
            }
            Some(Step::Send { .. }) => " (send)".to_owned(),
            Some(Step::Connect(_)) => " (connect)".to_owned(),
            None => String::new(),
        };
        format!("at step {} of the check{what}", self.at + 1)
    }

    /// More bytes, or why there will be none that help.
    fn receive(&self) -> Want {
        let why = match &self.response {
            Response { broken: Some(why), .. } => why.clone(),
            Response { ended: true, decoder: None, .. } => "the server closed without a response".to_owned(),
            Response { ended: true, .. } => "the server closed within its response".to_owned(),
            _ => return Want::Receive,
        };
        Want::Done(self.found(CheckStatus::L7Response, why))
    }

    /// Whether the expectation is met; `None`: more bytes decide.
    fn judge(&self, matcher: &Matcher, negated: bool) -> Option<bool> {
        let view = self.response.view()?;
        let is_met = matcher.is_met(view, &self.response.body, &self.key);
        let is_final = !matcher.needs_body() || is_met || self.response.is_whole_as_kept();
        is_final.then_some(is_met != negated)
    }

    fn failure(&self, matcher: &Matcher, negated: bool) -> Found {
        let code = self.response.status();
        // HAProxy: only a server that is up may ask for its drain this way; `policy::health` sees to that.
        if self.script.disable_on_404 && code == Some(404) {
            return self.found(CheckStatus::L7OkConditionally, self.reason());
        }
        match matcher {
            Matcher::Status(_) | Matcher::StatusRegex(_) => {
                let reason = self.reason();
                self.found(CheckStatus::L7Status, reason)
            }
            _ => {
                let not = if negated { "matched unwanted" } else { "did not match" };
                self.found(CheckStatus::L7Response, format!("HTTP check {not} {}", matcher.words()))
            }
        }
    }

    fn reason(&self) -> String {
        let reason = self.response.view().map_or(&b""[..], |view| view.reason());
        String::from_utf8_lossy(reason).into_owned()
    }

    fn found(&self, status: CheckStatus, info: String) -> Found {
        Found { status, info, code: self.response.status() }
    }
}

impl Response {
    fn handle_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.decoder.is_none() && self.broken.is_none() && !self.input.is_empty() {
            if !self.read_head() {
                return;
            }
        }
        self.read_body();
    }

    /// Reads a head; false: there is not all of it.
    fn read_head(&mut self) -> bool {
        let options = HeadOptions { ambiguous: Ambiguous::Repair, ..HeadOptions::default() };
        let len = match parse_response(&self.input, &options, &mut self.head) {
            Ok(parsed) => match parsed.complete() {
                Some((_, len)) => len,
                None => return false,
            },
            Err(refusal) => {
                self.broken = Some(format!("invalid response: {}", refusal.reason.name()));
                return false;
            }
        };
        self.head_bytes = self.input.drain(..len).collect();
        let decision =
            framing::response(&mut self.head.edit(&self.head_bytes), self.asked, Ambiguous::Repair);
        match decision {
            Ok(decision) => {
                let status = self.head.view(&self.head_bytes).status();
                if status.is_some_and(|s| s.is_interim() && s.code() != 101) {
                    self.head.clear();
                    return true;
                }
                self.decoder = Some(BodyDecoder::new(decision.framing));
                true
            }
            Err(refusal) => {
                self.broken = Some(format!("invalid response: {}", refusal.reason.name()));
                false
            }
        }
    }

    fn read_body(&mut self) {
        let Some(decoder) = &mut self.decoder else { return };
        let mut at = 0;
        while at < self.input.len() && !decoder.is_done() {
            match decoder.step(&self.input[at..]) {
                Ok(step) => {
                    at += step.framing;
                    let room = CHECK_BYTES_MAX.saturating_sub(self.body.len());
                    self.body.extend_from_slice(&self.input[at..at + step.data.min(room)]);
                    at += step.data;
                    if step.framing + step.data == 0 {
                        break;
                    }
                }
                Err(refusal) => {
                    self.broken = Some(format!("invalid response: {}", refusal.reason.name()));
                    break;
                }
            }
        }
        self.input.drain(..at);
    }

    /// Its head, once it is there.
    fn view(&self) -> Option<HeadView<'_>> {
        self.decoder.as_ref().map(|_| self.head.view(&self.head_bytes))
    }

    fn status(&self) -> Option<u16> {
        self.view()?.status().map(StatusCode::code)
    }

    fn is_complete(&self) -> bool {
        self.decoder.as_ref().is_some_and(|body| body.is_done() || self.ended && body.may_end_here())
    }

    /// Whether no byte that may still come can change what is kept of the body.
    fn is_whole_as_kept(&self) -> bool {
        self.is_complete() || self.body.len() >= CHECK_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: Vec<HttpCheckStep>) -> HttpCheck {
        HttpCheck { steps, websocket: false, disable_on_404: false }
    }

    fn get(uri: &str) -> HttpCheckStep {
        let request =
            HttpCheckRequest { method: "GET".into(), uri: uri.into(), http_11: true, ..Default::default() };
        HttpCheckStep::Send(request)
    }

    fn expect(expect: Expect) -> HttpCheckStep {
        HttpCheckStep::Expect { negated: false, expect }
    }

    fn refuse(expect: Expect) -> HttpCheckStep {
        HttpCheckStep::Expect { negated: true, expect }
    }

    /// Holds a dialogue in which each request is answered by the next answer, in pieces of `cut` bytes; what it sent, and
    /// its last wish.
    fn play(check: &HttpCheck, answers: &[&str], cut: usize) -> (Vec<String>, Want) {
        let script = Script::new(check, "192.0.2.1:80");
        let mut dialogue = script.start(*b"the sample nonce");
        let mut answers = answers.iter();
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut sent = Vec::new();
        loop {
            match dialogue.next() {
                Want::Connect(_) => {}
                Want::Send(bytes) => {
                    sent.push(String::from_utf8(bytes).expect("requests here are text"));
                    let answer = answers.next().map_or(&b""[..], |answer| answer.as_bytes());
                    pieces = answer.chunks(cut).rev().map(<[u8]>::to_vec).collect();
                }
                Want::Receive => match pieces.pop() {
                    Some(piece) => dialogue.handle_bytes(&piece),
                    None => dialogue.handle_end(),
                },
                done @ Want::Done(_) => return (sent, done),
            }
        }
    }

    #[test]
    fn answers_are_judged_wherever_they_are_cut() {
        use CheckStatus::{L7Ok, L7Response, L7Status};
        let ok = "HTTP/1.1 200 OK\r\nX-Health: a, good\r\nContent-Length: 7\r\n\r\nhealthy";
        let chunked = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nheal\r\n3\r\nthy\r\n0\r\n\r\n";
        let closing = "HTTP/1.0 200 OK\r\n\r\nhealthy";
        let bad = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
        let body = |s: &str| Expect::Body(s.into());
        let header = |v: &str| vec![("x-health".to_owned(), v.to_owned())];
        for (steps, answer, status) in [
            (vec![], ok, L7Ok),
            (vec![], chunked, L7Ok),
            (vec![], bad, L7Status),
            (vec![], "HTTP/1.1 404 No\r\n\r\n", L7Status),
            (vec![], "", L7Response),
            (vec![], "HTTP/1.1 200 O", L7Response),
            (vec![], "SSH-2.0-OpenSSH\r\n\r\n", L7Response),
            (vec![expect(Expect::Status(vec![(500, 599)]))], bad, L7Ok),
            (vec![refuse(Expect::Status(vec![(500, 599)]))], bad, L7Status),
            (vec![expect(Expect::StatusRegex("^2".into()))], ok, L7Ok),
            (vec![expect(Expect::StatusRegex("^3".into()))], ok, L7Status),
            (vec![expect(body("healthy"))], ok, L7Ok),
            (vec![expect(body("healthy"))], chunked, L7Ok),
            (vec![expect(body("healthy"))], closing, L7Ok),
            (vec![expect(body("sick"))], chunked, L7Response),
            (vec![expect(body("sick"))], closing, L7Response),
            (vec![refuse(body("sick"))], chunked, L7Ok),
            (vec![refuse(body("thy"))], ok, L7Response),
            (vec![expect(Expect::BodyRegex("^h.*y$".into()))], chunked, L7Ok),
            (vec![refuse(Expect::BodyRegex("H".into()))], ok, L7Ok),
            (vec![expect(Expect::Headers(header("good")))], ok, L7Ok),
            (vec![expect(Expect::Headers(header("bad")))], ok, L7Response),
            (vec![expect(Expect::FullHeaders(header("good")))], ok, L7Response),
            (vec![expect(Expect::FullHeaders(header("a, good")))], ok, L7Ok),
            (vec![refuse(Expect::Headers(header("good")))], ok, L7Response),
            (vec![expect(body("healthy")), refuse(body("sick"))], ok, L7Ok),
            // A body that is cut short is no proof of what it lacks.
            (vec![refuse(body("x"))], "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", L7Response),
        ] {
            let mut all = vec![get("/")];
            all.extend(steps);
            let check = check(all);
            for cut in [1, 3, 7, 1000] {
                let (_, Want::Done(found)) = play(&check, &[answer], cut) else { panic!("it ends") };
                assert_eq!(found.status, status, "{:?} {answer:?} in pieces of {cut}", check.steps);
            }
        }
    }

    #[test]
    fn sequences_wait_for_each_answer() {
        let steps = vec![
            HttpCheckStep::Connect(CheckConnect { port: Some(1), ..Default::default() }),
            get("/login"),
            get("/data"),
            expect(Expect::Body("ok".into())),
        ];
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_owned() + &"x".repeat(100),
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        ];
        let (sent, done) = play(&check(steps), &[&answers[0], &answers[1]], 9);
        assert_eq!(sent[0], "GET /login HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n");
        assert_eq!(sent[1], "GET /data HTTP/1.1\r\nHost: 192.0.2.1:80\r\nConnection: close\r\n\r\n");
        let Want::Done(found) = done else { panic!("it ends") };
        assert_eq!((found.status, found.code, found.info.as_str()), (CheckStatus::L7Ok, Some(200), "OK"));
    }

    #[test]
    fn a_404_is_a_wish_to_drain_where_that_is_said() {
        let drain = HttpCheck { disable_on_404: true, ..check(vec![get("/")]) };
        for (answer, status) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", CheckStatus::L7OkConditionally),
            ("HTTP/1.1 405 Not Allowed\r\n\r\n", CheckStatus::L7Status),
        ] {
            let (_, Want::Done(found)) = play(&drain, &[answer], 100) else { panic!("it ends") };
            assert_eq!(found.status, status);
        }
    }

    #[test]
    fn a_websocket_answer_must_know_the_key() {
        let check = HttpCheck { websocket: true, ..check(vec![get("/ws")]) };
        let answer = |accept: &str| {
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
        };
        for (answer, status) in [
            (answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), CheckStatus::L7Ok),
            (answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOO="), CheckStatus::L7Response),
            ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), CheckStatus::L7Response),
        ] {
            let (sent, Want::Done(found)) = play(&check, &[&answer], 11) else { panic!("it ends") };
            assert!(sent[0].ends_with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"), "{}", sent[0]);
            assert_eq!(found.status, status, "{answer}");
        }
    }

    #[test]
    fn an_endless_body_is_judged_by_what_is_kept() {
        let check = check(vec![get("/"), expect(Expect::Body("never".into()))]);
        let script = Script::new(&check, "h");
        let mut dialogue = script.start([0; 16]);
        assert!(matches!(dialogue.next(), Want::Send(_)));
        dialogue.handle_bytes(b"HTTP/1.1 200 OK\r\n\r\n");
        for _ in 0..CHECK_BYTES_MAX / 1000 + 1 {
            assert_eq!(dialogue.next(), Want::Receive);
            dialogue.handle_bytes(&[b'x'; 1000]);
        }
        assert!(matches!(dialogue.next(), Want::Done(found) if found.status == CheckStatus::L7Response));
    }
}
