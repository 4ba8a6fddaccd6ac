//! The control core as a server of HTTP: the statistics page, its data, metrics, and the JSON of `show` commands. Data cores
//! forward such requests to a socket that only this process may use, with a ticket that says whose page it is and what the
//! client may do; TLS, HTTP/2, credentials and rules are theirs. `page` and `rows` write the page, `form` changes servers.

mod api;
mod form;
mod metrics;
mod page;
mod rows;
mod rules;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::limits::{HEAD_BYTES_MAX, WEB_FORM_BYTES_MAX};
use crate::base::time::Now;
use crate::control::admin;
use crate::control::cli::{AdminSession, Next};
use crate::control::core::ControlBase;
use crate::control::events::Level;
use crate::control::target::Target;
use crate::model::statistics::{StatsPage, TICKET};
use crate::model::{AdminLevel, Model};
use crate::policy::http_action::Service;
use crate::proto::h1::head::{HeadOptions, parse_request};
use crate::proto::headers::Head;
use crate::proto::http::{Method, Name};
use crate::rt::{self, Conn, Endpoint, ListenOptions, Listener, StartError};
use crate::stats::latency::Window;
use crate::stats::render::{Filter, Form};
use crate::stats::snapshot::Snapshot;

/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two updates of a live page.
const BEAT: Duration = Duration::from_secs(1);
/// How old what live pages show may be: those that ask at about the same time share one look at the counters.
const SHARED: Duration = Duration::from_millis(500);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 256;
/// A name for the socket that nobody can foresee.
pub(super) fn socket_name() -> String {
    // The standard library's hashers are seeded by the operating system.
    let part = || RandomState::new().hash_one(0);
    format!("shardgate-{:016x}{:016x}", part(), part())
}

/// What answers have in common.
pub(super) struct Web {
    base: Rc<ControlBase>,
    /// Makes the tokens of forms.
    key: [u64; 4],
    /// Snapshots that live pages share, and when they were taken.
    shared: RefCell<Vec<(Window, Now, Rc<Snapshot>)>>,
}

/// Opens the socket and serves it; the next configuration may need it if this one does not.
///
/// # Errors
/// It cannot be made.
pub(super) fn start(base: &Rc<ControlBase>) -> Result<(), StartError> {
    let name = &base.process.web_socket;
    let options = ListenOptions { backlog: BACKLOG, ..ListenOptions::default() };
    let fd = rt::listen(Endpoint::Abstract(name), options).map_err(|e| {
        StartError(format!("cannot make the socket of the statistics page: {}", rt::error::words(&e)))
    })?;
    let key = std::array::from_fn(|_| RandomState::new().hash_one(0));
    let web = Rc::new(Web { base: base.clone(), key, shared: RefCell::default() });
    rt::spawn(accept(web, Listener::new(fd)));
    Ok(())
}

async fn accept(web: Rc<Web>, mut listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(conn) => rt::spawn(serve(web.clone(), conn)),
            Err(e) => {
                web.base.say(Level::Warning, format!("cannot accept requests for statistics: {e}"));
                rt::sleep_until(rt::now() + BEAT).await;
            }
        }
    }
}

/// Time until the next update of a live page, by the percentage that the control core is busy: many pages of many servers
/// must not keep it from its checks and its admins.
fn beat(load: u8) -> Duration {
    match load {
        0..50 => BEAT,
        50..80 => 2 * BEAT,
        _ => 5 * BEAT,
    }
}

/// A request as its data core passed it on.
struct Request {
    is_post: bool,
    is_head: bool,
    /// From the path on.
    target: String,
    service: Service,
    page: Option<Rc<StatsPage>>,
    is_admin: bool,
    /// Address of the client.
    client: String,
    /// What it said in `Authorization`; tokens of forms belong to it.
    authorization: Vec<u8>,
    /// A browser says that another site sent it here.
    is_foreign: bool,
    /// The body is said to be JSON.
    is_json: bool,
    body: Vec<u8>,
}

impl Request {
    /// Whether a word stands in the target behind a semicolon.
    fn has(&self, word: &str) -> bool {
        self.target.split([';', '&']).skip(1).any(|part| part == word)
    }
    /// The window of time that percentiles are of, if the target names one.
    fn window(&self) -> Option<Window> {
        Window::NAMED.iter().find(|(name, _)| self.has(name)).map(|(_, window)| *window)
    }
    /// The time that graphs show.
    fn span(&self) -> &'static rows::Span {
        rows::SPANS[1..].iter().find(|span| self.has(span.word)).unwrap_or(&rows::SPANS[0])
    }
    /// The level that its commands have.
    fn level(&self) -> AdminLevel {
        if self.is_admin { AdminLevel::Admin } else { AdminLevel::User }
    }
    /// Who it is, for the audit log.
    fn who(&self) -> String {
        let user = std::str::from_utf8(&self.authorization).ok().and_then(form::user_of);
        match user {
            Some(user) => format!("{user} from {} (statistics page)", self.client),
            None => format!("{} (statistics page)", self.client),
        }
    }
}

/// A whole answer.
struct Answer {
    status: &'static str,
    content_type: &'static str,
    /// Further header lines.
    headers: String,
    body: String,
}

impl Answer {
    fn ok(content_type: &'static str, body: String) -> Answer {
        Answer { status: "200 OK", content_type, headers: String::new(), body }
    }
    fn error(status: &'static str) -> Answer {
        let body = format!("{status}\n");
        Answer { status, content_type: "text/plain; charset=utf-8", headers: String::new(), body }
    }
}

/// One connection: one request.
async fn serve(web: Rc<Web>, conn: Conn) {
    // Only this process itself is served: who else finds the socket is sent away.
    let ours = i32::try_from(std::process::id()).ok();
    if conn.peer_credentials().map(|(_, pid)| pid) != ours {
        return;
    }
    let received =
        rt::with_deadline(receive(&web.base.current().model, &conn), Some(rt::now() + PATIENCE)).await;
    let answer = match received {
        Ok(Ok(request)) if request.service == Service::Page && request.has("live") => {
            return live(&web, &conn, &request).await;
        }
        Ok(Ok(request)) => (answer(&web, &request).await, request.is_head),
        Ok(Err(status)) => (Answer::error(status), false),
        Err(rt::Elapsed) => return,
    };
    let (Answer { status, content_type, headers, body }, is_head) = answer;
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    if !is_head {
        text.push_str(&body);
    }
    // A client that leaves needs no answer.
    let _ = rt::with_deadline(conn.send_all(text.into_bytes()), Some(rt::now() + PATIENCE)).await;
}

/// Reads one request; `Err`: what to answer instead.
async fn receive(model: &Model, conn: &Conn) -> Result<Request, &'static str> {
    const BAD: &str = "400 Bad Request";
    let mut input: Vec<u8> = Vec::new();
    let mut head = Head::default();
    let (mut request, len, body_len) = loop {
        let Ok(Some(bytes)) = conn.recv().await else { return Err(BAD) };
        input.extend_from_slice(&bytes);
        match parse_request(&input, &HeadOptions::default(), &mut head) {
            Ok(parsed) if parsed.is_partial() && input.len() <= 2 * HEAD_BYTES_MAX => {}
            Ok(parsed) if parsed.is_partial() => return Err("431 Request Header Fields Too Large"),
            Ok(_) => break understand(model, &head, &input)?,
            Err(_) => return Err(BAD),
        }
    };
    while input.len() < len + body_len {
        let Ok(Some(bytes)) = conn.recv().await else { return Err(BAD) };
        input.extend_from_slice(&bytes);
    }
    request.body = input[len..len + body_len].to_vec();
    Ok(request)
}

/// The request without its body, and the lengths of head and body.
fn understand(model: &Model, head: &Head, input: &[u8]) -> Result<(Request, usize, usize), &'static str> {
    let view = head.view(input);
    let text = |name: &str| view.line(Name::of(name.as_bytes())).and_then(|v| std::str::from_utf8(v).ok());
    let ticket = text(TICKET).ok_or("403 Forbidden")?;
    let mut words = ticket.split(' ');
    let service = match words.next() {
        Some("page") => Service::Page,
        Some("api") => Service::Api,
        Some("prometheus-exporter") => Service::Prometheus,
        _ => return Err("400 Bad Request"),
    };
    let page = words.next().and_then(|whose| page_of(model, whose));
    let is_admin = words.next() == Some("admin");
    let client = words.next().unwrap_or("-").to_owned();
    let body_len = match text("content-length") {
        None if text("transfer-encoding").is_some() => return Err("411 Length Required"),
        None => 0,
        Some(len) => len.trim().parse().map_err(|_| "400 Bad Request")?,
    };
    if body_len > WEB_FORM_BYTES_MAX {
        return Err("413 Content Too Large");
    }
    let target = String::from_utf8_lossy(view.target()).into_owned();
    let path_at = crate::proto::target::split_path(view.target()).0.len();
    let request = Request {
        is_post: view.method() == Method::Post,
        is_head: view.method() == Method::Head,
        target: target.get(path_at..).unwrap_or_default().to_owned(),
        service,
        page,
        is_admin,
        client,
        authorization: text("authorization").unwrap_or_default().as_bytes().to_vec(),
        is_foreign: text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")),
        is_json: text("content-type").is_some_and(is_json),
        body: Vec::new(),
    };
    Ok((request, head.len(), body_len))
}

/// Whether a content type is JSON, whatever its parameters.
fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// `fNAME`: the page of a frontend; `b`: of a backend. By name, as the data core may run another generation than this core.
fn page_of(model: &Model, whose: &str) -> Option<Rc<StatsPage>> {
    let name = whose.get(1..)?;
    let page = match whose.as_bytes().first()? {
        b'f' => model.frontends.values().find(|f| f.name == name)?.http.as_ref()?.stats.as_ref()?,
        _ => model.backends.values().find(|b| b.name == name)?.http.as_ref()?.stats.as_ref()?,
    };
    Some(Rc::new((**page).clone()))
}

async fn answer(web: &Rc<Web>, request: &Request) -> Answer {
    match request.service {
        Service::Prometheus => Answer::ok(
            "text/plain; version=0.0.4; charset=utf-8",
            metrics::answer(web, &request.target).await,
        ),
        Service::Api => api::answer(web, request).await,
        Service::Page if request.target.contains("/api/v1/") => api::answer(web, request).await,
        Service::Page if request.is_post => form::apply(web, request).await,
        Service::Page => {
            let Some(settings) = &request.page else { return Answer::error("404 Not Found") };
            if request.has("graphs") {
                let graphs: BTreeMap<_, _> =
                    rows::graphs(web, &settings.scope, request.span()).into_iter().collect();
                return Answer::ok("application/json", format!("{}\n", serde_json::json!(graphs)));
            }
            let is_data = ["csv", "json", "typed"].iter().any(|form| request.has(form));
            let usual = if is_data { Window::default() } else { Window::TenSeconds };
            let snapshot = web.snapshot(settings, request.window().unwrap_or(usual));
            let filter = filter_of(request, settings);
            let mut out = String::new();
            match () {
                _ if request.has("csv") => Form::Csv.stat(&snapshot, &filter, &mut out),
                _ if request.has("json") => Form::Json.stat(&snapshot, &filter, &mut out),
                _ if request.has("typed") => Form::Typed.stat(&snapshot, &filter, &mut out),
                _ => return page::page(web, request, settings, &snapshot, &filter),
            }
            let is_json = request.has("json");
            Answer::ok(if is_json { "application/json" } else { "text/plain; charset=utf-8" }, out)
        }
    }
}

fn filter_of(request: &Request, page: &StatsPage) -> Filter {
    Filter {
        up: request.has("up"),
        no_maint: request.has("no-maint"),
        legends: page.legends || request.is_admin,
        ..Filter::ALL
    }
}

impl Web {
    /// What a page shows: only the proxies of its scope.
    fn snapshot(&self, page: &StatsPage, window: Window) -> Snapshot {
        let mut snapshot = self.base.current().snapshot(window, &Filter::EVERYTHING);
        if !page.scope.is_empty() {
            snapshot.entries.retain(|entry| page.scope.contains(&entry.proxy));
        }
        snapshot
    }

    /// What live pages show.
    fn shared(&self, window: Window) -> Rc<Snapshot> {
        let now = rt::now();
        let mut shared = self.shared.borrow_mut();
        shared.retain(|(_, at, _)| now.since(*at) < SHARED);
        if let Some((_, _, snapshot)) = shared.iter().find(|(of, ..)| *of == window) {
            return snapshot.clone();
        }
        let snapshot = Rc::new(self.base.current().snapshot(window, &Filter::EVERYTHING));
        shared.push((window, now, snapshot.clone()));
        snapshot
    }

    /// Runs an admin command and gives what it answers.
    async fn command(&self, level: AdminLevel, who: String, line: &str) -> String {
        let mut session = AdminSession::new(level, who);
        let mut out = String::new();
        session.handle_input(format!("{line}\n").as_bytes());
        loop {
            match session.poll(&mut Target::new(self.base.current()), &mut out) {
                Next::Do(job) => {
                    let outcome = admin::perform(&self.base, None, job).await;
                    session.handle_outcome(outcome);
                }
                Next::Continue => rt::yield_now().await,
                Next::Read | Next::Close => break,
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// A stream of server-sent events: once a second what changed. It ends with the client, and when the process stops.
async fn live(web: &Rc<Web>, conn: &Conn, request: &Request) {
    let Some(settings) = &request.page else { return };
    let mut text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                    X-Accel-Buffering: no\r\nConnection: close\r\n\r\nretry: 2000\n\n"
        .to_owned();
    let mut sent = rows::Sent::default();
    if request.is_admin {
        sent.rules = Some(Vec::new());
    }
    let window = request.window().unwrap_or(Window::TenSeconds);
    loop {
        {
            let snapshot = web.shared(window);
            let filter = filter_of(request, settings);
            rows::event(web, &snapshot, (&filter, &settings.scope), &mut sent, &mut text);
        }
        let written = conn.send_all(std::mem::take(&mut text).into_bytes());
        if !matches!(rt::with_deadline(written, Some(rt::now() + PATIENCE)).await, Ok(Ok(()))) {
            return;
        }
        if web.base.current().live.process.stopping.load(Ordering::Relaxed) {
            return;
        }
        let load = web.base.collector.borrow().loads().last().copied().unwrap_or(0);
        rt::sleep_until(rt::now() + beat(load)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_pages_give_way_to_the_rest_of_the_control_core() {
        assert_eq!([0, 49, 50, 80, 100].map(|load| beat(load).as_secs()), [1, 1, 2, 5, 5]);
    }
}
