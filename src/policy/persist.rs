//! `cookie`: which server a client's cookie asks for, what of it the server gets to see, and what `Set-Cookie` goes back.
//!
//! Finding the cookie in the headers is `proto::cookie`; this module sees its value, decides, and writes values. Formats,
//! dates and decisions are HAProxy's (observed with 2.6), so a cookie that it set is understood.
//!
//! Value of an insert cookie: `SERVER`, `SERVER|LAST` or `SERVER|LAST|FIRST`, where a date is five base64 digits of the
//! UNIX time in units of four seconds. In prefix mode the application's own value follows: `SERVER~VALUE`.

use std::net::{IpAddr, SocketAddr};

use crate::base::id::ServerId;

/// Between the server and the value of the application, in prefix mode.
const DELIMITER: u8 = b'~';

/// Between the server and its dates, in insert mode.
const DATE_DELIMITER: u8 = b'|';

/// Digits of a date.
const DATE_DIGITS: usize = 5;

/// Seconds that one step of a date stands for; 30 bits of them last until 2106.
const DATE_UNIT: u64 = 4;

/// A date further in the future than this is not believed: a wrong clock must not keep a client for ever.
const FUTURE_MAX: u64 = 86_400;

/// The digits of a date, most significant first.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The settings of a backend (`cookie NAME ...`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// The name of the cookie.
    pub name: String,
    /// How it comes to the client.
    pub mode: Mode,
    /// Tag responses that set it as private (`nocache`).
    pub nocache: bool,
    /// Hide it from the server, and do not repeat it to a client that has it (`indirect`).
    pub indirect: bool,
    /// Insert only in responses to POST (`postonly`).
    pub postonly: bool,
    /// Leave a cookie of that name alone when the server sets it itself (`preserve`).
    pub preserve: bool,
    /// Attribute `HttpOnly`.
    pub httponly: bool,
    /// Attribute `Secure`.
    pub secure: bool,
    /// Attributes `domain=...`.
    pub domains: Vec<String>,
    /// Seconds without a visit after which it is ignored (`maxidle`).
    pub maxidle_s: Option<u64>,
    /// Seconds after which it is ignored in any case (`maxlife`).
    pub maxlife_s: Option<u64>,
    /// Further attributes (`attr`).
    pub attributes: Vec<String>,
}

/// The mode of `cookie`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// We set it ourselves.
    Insert,
    /// The server sets it and we replace its value.
    Rewrite,
    /// The server sets it for itself and we put the server's part before its value.
    Prefix,
}

/// Which servers have which cookie. Several may share one: the first usable of them is meant.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Sorted by value, then by server.
    entries: Vec<(Box<[u8]>, ServerId)>,
    /// Servers with the position of their entry, sorted.
    by_server: Vec<(ServerId, usize)>,
}

impl Table {
    /// From the servers that have a cookie.
    pub fn new(servers: impl IntoIterator<Item = (ServerId, String)>) -> Self {
        let entry = |(id, value): (ServerId, String)| (value.into_bytes().into_boxed_slice(), id);
        let mut entries: Vec<_> = servers.into_iter().map(entry).collect();
        entries.sort_unstable();
        let mut by_server: Vec<_> = entries.iter().enumerate().map(|(at, (_, id))| (*id, at)).collect();
        by_server.sort_unstable();
        Table { entries, by_server }
    }

    /// The servers of a cookie, in configured order.
    pub fn servers(&self, value: &[u8]) -> impl Iterator<Item = ServerId> {
        let start = self.entries.partition_point(|(v, _)| v.as_ref() < value);
        self.entries[start..].iter().take_while(move |(v, _)| v.as_ref() == value).map(|(_, id)| *id)
    }

    /// The cookie of a server, if it has one.
    pub fn cookie(&self, server: ServerId) -> Option<&[u8]> {
        let at = self.by_server.binary_search_by_key(&server, |(id, _)| *id).ok()?;
        Some(&self.entries[self.by_server[at].1].0)
    }
}

/// `dynamic`: the cookie of a server is made of its address and `dynamic-cookie-key`, so that several load balancers agree
/// without configuring it.
pub fn dynamic_cookie(key: &str, address: SocketAddr) -> String {
    let mut bytes = key.as_bytes().to_vec();
    match address.ip() {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
    bytes.extend(u32::from(address.port()).to_be_bytes());
    format!("{:016x}", xxhash_rust::xxh64::xxh64(&bytes, 0))
}

/// How far persistence binds a request (`ignore-persist`, `force-persist`, `option persist`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Binding {
    /// The server is used while it is usable.
    #[default]
    Normal,
    /// The server is used even when it is down.
    Force,
    /// The cookie is not looked at and none is set.
    Ignore,
}

/// What the cookie of a request turned out to be. The code is the third character of HAProxy's termination state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// There was none.
    None,
    /// No server has it.
    Invalid,
    /// Its server is down.
    Down,
    /// Its server is used.
    Valid,
    /// Not seen for longer than `maxidle`.
    Expired,
    /// Older than `maxlife`.
    Old,
    /// Persistence is ignored.
    Unused,
}

impl Found {
    /// The letter in logs.
    pub fn code(self) -> char {
        match self {
            Found::None => 'N',
            Found::Invalid => 'I',
            Found::Down => 'D',
            Found::Valid => 'V',
            Found::Expired => 'E',
            Found::Old => 'O',
            Found::Unused => 'U',
        }
    }
}

/// What the server gets to see of the cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestEdit {
    /// All of it.
    Keep,
    /// Nothing: the whole pair is removed from the header.
    Remove,
    /// Its value from this byte on.
    KeepFrom(usize),
}

/// The decision on a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The server to use instead of balancing.
    pub server: Option<ServerId>,
    /// What was found.
    pub found: Found,
    /// What to do with the cookie.
    pub edit: RequestEdit,
    /// Dates of a cookie that is still good, in UNIX seconds.
    dates: Dates,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Dates {
    last: Option<u64>,
    first: Option<u64>,
}

impl Request {
    /// Of a request without the cookie.
    pub const NONE: Request = Request {
        server: None,
        found: Found::None,
        edit: RequestEdit::Keep,
        dates: Dates { last: None, first: None },
    };
}

/// Decides on the `value` of the cookie in a request at UNIX time `unix_s`. `usable` says whether a server is up; a
/// drained server is.
pub fn on_request(
    spec: &Spec,
    table: &Table,
    value: &[u8],
    binding: Binding,
    unix_s: u64,
    usable: impl Fn(ServerId) -> bool,
) -> Request {
    let (server_part, dates) = split(spec.mode, value);
    let edit = match spec.mode {
        Mode::Insert if spec.indirect => RequestEdit::Remove,
        Mode::Prefix if server_part.len() < value.len() => RequestEdit::KeepFrom(server_part.len() + 1),
        _ => RequestEdit::Keep,
    };
    let no = |found| Request { server: None, found, edit, dates: Dates::default() };
    if binding == Binding::Ignore {
        return no(Found::Unused);
    }
    if is_past(dates.first, spec.maxlife_s, unix_s) {
        return no(Found::Old);
    }
    if is_past(dates.last, spec.maxidle_s, unix_s) {
        return no(Found::Expired);
    }
    let mut down = None;
    for server in table.servers(server_part) {
        if usable(server) {
            return Request { server: Some(server), found: Found::Valid, edit, dates };
        }
        down = down.or(Some(server));
    }
    match (down, binding) {
        (None, _) => no(Found::Invalid),
        (Some(server), Binding::Force) => Request { server: Some(server), found: Found::Down, edit, dates },
        (Some(_), _) => no(Found::Down),
    }
}

/// The server's part of a value and its dates.
fn split(mode: Mode, value: &[u8]) -> (&[u8], Dates) {
    let until = |byte| memchr::memchr(byte, value).map_or(value, |at| &value[..at]);
    if mode == Mode::Prefix {
        return (until(DELIMITER), Dates::default());
    }
    let server = until(DATE_DELIMITER);
    let mut dates = value[server.len()..].split(|byte| *byte == DATE_DELIMITER).skip(1).map(parse_date);
    let last = dates.next().flatten();
    (server, Dates { last, first: dates.next().flatten() })
}

/// Whether a date lies more than the limit in the past, or unbelievably far in the future.
fn is_past(date: Option<u64>, limit_s: Option<u64>, unix_s: u64) -> bool {
    let (Some(date), Some(limit)) = (date, limit_s) else { return false };
    unix_s.saturating_sub(date) > limit || date.saturating_sub(unix_s) > FUTURE_MAX
}

/// UNIX seconds of a date; `None` for anything else and for zero.
fn parse_date(digits: &[u8]) -> Option<u64> {
    let digits = digits.get(..DATE_DIGITS)?;
    let steps = digits.iter().try_fold(0u64, |steps, digit| {
        let value = memchr::memchr(*digit, BASE64)? as u64;
        Some(steps << 6 | value)
    })?;
    Some(steps * DATE_UNIT).filter(|date| *date > 0)
}

/// Appends a date, rounded up so that it never seems older than it is.
fn write_date(unix_s: u64, out: &mut Vec<u8>) {
    let steps = unix_s.div_ceil(DATE_UNIT);
    for digit in (0..DATE_DIGITS).rev() {
        out.push(BASE64[(steps >> (6 * digit) & 0x3f) as usize]);
    }
}

/// What happens to a `Set-Cookie` of the configured name that the server sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseEdit {
    /// It goes to the client as it is.
    Keep,
    /// It does not: ours replaces it, or the client has one.
    Remove,
    /// Its value becomes the server's cookie.
    Replace,
    /// The server's cookie and a `~` go before its value.
    Prefix,
}

/// Decides on a `Set-Cookie` of the configured name. `server_cookie` is the cookie of the server that answered, `None`
/// when it has none.
pub fn on_set_cookie(spec: &Spec, request: &Request, server_cookie: Option<&[u8]>) -> ResponseEdit {
    if spec.preserve {
        return ResponseEdit::Keep;
    }
    match (spec.mode, server_cookie) {
        (Mode::Insert, _) => ResponseEdit::Remove,
        _ if spec.indirect && request.server.is_some() => ResponseEdit::Remove,
        (_, None) => ResponseEdit::Keep,
        (Mode::Rewrite, Some(_)) => ResponseEdit::Replace,
        (Mode::Prefix, Some(_)) => ResponseEdit::Prefix,
    }
}

/// The facts of a response that decide whether the cookie is set.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The decision on its request.
    pub request: &'a Request,
    /// The server that answered; another than the cookie's after a redispatch.
    pub server: ServerId,
    /// Its cookie; a server without one (a backup) makes the client forget its cookie.
    pub server_cookie: Option<&'a [u8]>,
    /// Whether the server sent a `Set-Cookie` of that name.
    pub server_sets_it: bool,
    /// Whether the request was a POST.
    pub is_post: bool,
    /// UNIX time in seconds.
    pub unix_s: u64,
}

/// What was set. The code is the fourth character of HAProxy's termination state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Set {
    /// Nothing.
    Nothing,
    /// A new cookie; with `nocache` the response also gets `Cache-Control: private`.
    Inserted,
    /// The dates of the cookie that the client has.
    Updated,
}

/// Appends the value of the `Set-Cookie` header that goes to the client, if one does (insert mode).
pub fn write_set_cookie(spec: &Spec, response: &Response<'_>, out: &mut Vec<u8>) -> Set {
    let request = response.request;
    if spec.mode != Mode::Insert
        || request.found == Found::Unused
        || (spec.preserve && response.server_sets_it)
        || (spec.postonly && !response.is_post)
    {
        return Set::Nothing;
    }
    let same_server = request.server == Some(response.server);
    if same_server && !needs_new_dates(spec, request.dates, response.unix_s) {
        return Set::Nothing;
    }
    out.extend(spec.name.as_bytes());
    out.push(b'=');
    if let Some(cookie) = response.server_cookie {
        out.extend(cookie);
        write_dates(spec, request.dates.first, response.unix_s, out);
        out.extend(b"; path=/");
    } else {
        out.extend(b"; Expires=Thu, 01-Jan-1970 00:00:01 GMT; path=/");
    }
    write_attributes(spec, out);
    if same_server && response.server_cookie.is_some() { Set::Updated } else { Set::Inserted }
}

/// Whether the client's cookie lacks a date, has one too many, or was last seen in an earlier step of time.
fn needs_new_dates(spec: &Spec, dates: Dates, unix_s: u64) -> bool {
    let tracks_last = spec.maxidle_s.is_some() || dates.last.is_some();
    (tracks_last && dates.last.is_none_or(|last| last < unix_s))
        || spec.maxlife_s.is_some() != dates.first.is_some()
}

fn write_dates(spec: &Spec, first: Option<u64>, unix_s: u64, out: &mut Vec<u8>) {
    if spec.maxidle_s.is_none() && spec.maxlife_s.is_none() {
        return;
    }
    out.push(DATE_DELIMITER);
    write_date(unix_s, out);
    if spec.maxlife_s.is_some() {
        out.push(DATE_DELIMITER);
        write_date(first.unwrap_or(unix_s), out);
    }
}

fn write_attributes(spec: &Spec, out: &mut Vec<u8>) {
    for domain in &spec.domains {
        out.extend(b"; domain=");
        out.extend(domain.as_bytes());
    }
    for (wanted, attribute) in [(spec.httponly, "HttpOnly"), (spec.secure, "Secure")] {
        if wanted {
            out.extend(b"; ");
            out.extend(attribute.as_bytes());
        }
    }
    for attribute in &spec.attributes {
        out.extend(b"; ");
        out.extend(attribute.as_bytes());
    }
}

#[cfg(test)]
mod tests;
