//! `bind`, `server`, `default-server` and `source`: an address and a row of options, each of which the table of keywords knows by HAProxy's name.

use super::coverage::{self, Fate, Row};
use super::proxy::{Outcome, Proxy, split, unknown};
use super::source::{Directive, Prefix};
use super::tls;
use super::toml::Val;
use super::value::{self, Bad};
use super::words;
use crate::config::keywords::Scope;

/// Whether a directive is `default-server`.
pub(super) fn is_default_server(words: &[String]) -> bool {
    words.first().is_some_and(|word| word == "default-server")
}

/// `bind ADDRESS[,ADDRESS] [OPTIONS]`.
pub(super) fn bind(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let Some(address) = d.words.get(1) else { return Outcome::Wrong("an address is missing".to_owned()) };
    let address = match listening(address) {
        Ok(address) => address,
        Err(outcome) => return outcome,
    };
    let own = &d.words[2..];
    let is_tls = own.iter().any(|word| word == "ssl");
    let mut options = Options::new(proxy, Scope::Bind, coverage::bind());
    // What holds for all comes first, so that what is said here replaces it.
    let common = if is_tls { proxy.globals.bind_tls.as_slice() } else { &[] };
    let worst = options.read(&[common, own].concat());
    let (mut entries, mut tls) = (options.entries, options.tls);
    if let Some(wrong) = worst.wrong {
        return wrong;
    }
    if is_tls {
        tls::finish(&mut tls);
        entries.push(("tls".to_owned(), Val::Table(tls)));
    }
    // An address alone needs no table.
    let value = if entries.is_empty() {
        Val::Text(address)
    } else {
        entries.insert(0, ("address".to_owned(), Val::Text(address)));
        Val::Table(entries)
    };
    proxy.table.push("bind", value, d.place, &d.comments);
    worst.outcome
}

/// An address as ours are written.
fn listening(address: &str) -> Result<String, Outcome> {
    let mut out = Vec::new();
    for part in address.split(',') {
        let part = ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@", "mptcp@"]
            .iter()
            .find_map(|p| part.strip_prefix(p))
            .unwrap_or(part);
        if let Some(kind) = ["quic4@", "quic6@", "udp@", "udp4@", "udp6@", "rhttp@", "sockpair@", "rev@"]
            .iter()
            .find(|p| part.starts_with(**p))
        {
            return Err(Outcome::No(format!("addresses with {kind} are not in this version")));
        }
        out.push(if part == "*" || part.starts_with(':') && part.len() == 1 {
            "*:0".to_owned()
        } else {
            part.to_owned()
        });
    }
    Ok(out.join(","))
}

/// `server NAME ADDRESS[:PORT] [OPTIONS]`.
pub(super) fn server(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let [_, name, address, options @ ..] = d.words.as_slice() else {
        return Outcome::Wrong("write server NAME ADDRESS:PORT".to_owned());
    };
    let name = proxy.variables.expand(name);
    named_server(proxy, &["server", &name], (Vec::new(), address), options, d)
}

/// `dispatch ADDRESS[:PORT]`: a server without a name.
pub(super) fn dispatch(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let [_, address] = d.words.as_slice() else {
        return Outcome::Wrong("write dispatch ADDRESS:PORT".to_owned());
    };
    nameless(proxy, "dispatch", address, d)
}

/// `option transparent`: where the client wanted to go.
pub(super) fn transparent(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    match d.prefix {
        Prefix::None => nameless(proxy, "transparent", "0.0.0.0", d),
        _ => Outcome::Exact,
    }
}

fn nameless(proxy: &mut Proxy<'_, '_>, name: &str, address: &str, d: &Directive) -> Outcome {
    match named_server(proxy, &["server", name], (Vec::new(), address), &[], d) {
        Outcome::Exact => Outcome::Near(format!("it is a server, which statistics call {name}")),
        other => other,
    }
}

/// `server-template PREFIX COUNT|FIRST-LAST NAME[:PORT] [OPTIONS]`.
pub(super) fn template(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let [_, prefix, numbers, address, options @ ..] = d.words.as_slice() else {
        return Outcome::Wrong("write server-template PREFIX COUNT NAME:PORT".to_owned());
    };
    let (prefix, numbers) = (proxy.variables.expand(prefix), proxy.variables.expand(numbers));
    let (first, last) = numbers.split_once('-').unwrap_or(("1", &numbers));
    let (Ok(first), Ok(last)) = (first.parse::<i64>(), last.parse::<i64>()) else {
        return Outcome::Wrong(format!("\"{numbers}\" is neither a count nor FIRST-LAST"));
    };
    if last < first {
        return Outcome::Wrong(format!("\"{numbers}\" is no range"));
    }
    let path = ["server-template", prefix.as_str()];
    if proxy.table.get(&path).is_some() {
        return Outcome::No(format!("there are servers {prefix}N already: give these another prefix"));
    }
    let mut entries = vec![("count".to_owned(), Val::Int(last - first + 1))];
    if first != 1 {
        entries.push(("first".to_owned(), Val::Int(first)));
    }
    named_server(proxy, &path, (entries, address), options, d)
}

/// `head`: what comes first in the table, and the address.
fn named_server(
    proxy: &mut Proxy<'_, '_>,
    path: &[&str],
    (mut head, address): (Vec<(String, Val)>, &str),
    options: &[String],
    d: &Directive,
) -> Outcome {
    let address = match with_port(proxy, address) {
        Ok(address) => address,
        Err(outcome) => return outcome,
    };
    // Of default-server the TLS options are read here: they add up to one table.
    let common = [proxy.globals.server_tls.as_slice(), &common_options(proxy, d)].concat();
    let mut common_reader = Options::new(proxy, Scope::DefaultServer, coverage::server());
    common_reader.read(&common);
    let mut reader = Options::new(proxy, Scope::Server, coverage::server());
    reader.tls = common_reader.tls;
    let worst = reader.read(options);
    let (mut entries, mut tls) = (reader.entries, reader.tls);
    if let Some(wrong) = worst.wrong {
        return wrong;
    }
    let says = |words: &[String], wanted: &str| words.iter().any(|word| word == wanted);
    if says(options, "ssl") || says(&common, "ssl") && !says(options, "no-ssl") {
        tls::finish(&mut tls);
        entries.push(("tls".to_owned(), if tls.is_empty() { Val::Flag(true) } else { Val::Table(tls) }));
    }
    head.push(("address".to_owned(), Val::Text(address)));
    head.extend(entries);
    proxy.table.set(path, Val::Table(head), d.place, &d.comments);
    worst.outcome
}

/// What `default-server` says above a line, of the section and of its defaults.
fn common_options(proxy: &Proxy<'_, '_>, d: &Directive) -> Vec<String> {
    let own = proxy
        .sections
        .iter()
        .find(|s| s.name == proxy.name && s.directives.iter().any(|o| o.place == d.place));
    let mut all = own.map(|section| super::proxy::inherited(proxy.sections, section)).unwrap_or_default();
    all.extend(
        own.into_iter()
            .flat_map(|section| section.directives.iter().take_while(|o| o.place != d.place))
            .cloned(),
    );
    all.iter().filter(|o| is_default_server(&o.words)).flat_map(|o| o.words[1..].to_vec()).collect()
}

/// The address of a server, with the port of the one bind that leads to it if it has none.
fn with_port(proxy: &Proxy<'_, '_>, address: &str) -> Result<String, Outcome> {
    let plain = ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@", "mptcp@"]
        .iter()
        .find_map(|p| address.strip_prefix(p))
        .unwrap_or(address);
    if let Some(kind) =
        ["quic4@", "quic6@", "udp@", "rhttp@", "sockpair@"].iter().find(|p| plain.starts_with(**p))
    {
        return Err(Outcome::No(format!("addresses with {kind} are not in this version")));
    }
    if plain.starts_with(['/', '@']) || plain.starts_with("unix@") || plain.starts_with("abns@") {
        return Ok(plain.to_owned());
    }
    // The port of a service is in its record.
    if words::has_variables(plain) || plain.starts_with('_') {
        return Ok(plain.to_owned());
    }
    let (host, port) = match plain.rfind(':') {
        Some(at) if plain.starts_with('[') && !plain[at..].contains(']') || !plain[..at].contains(':') => {
            (&plain[..at], &plain[at + 1..])
        }
        _ => (plain, ""),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_number(port) {
        return Ok(plain.to_owned());
    }
    // The port goes with the address: both are what the client wanted.
    if matches!(host, "0.0.0.0" | "*" | "::" | "[::]") && port.is_empty() {
        return Ok(if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" }.to_owned());
    }
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let ports = ports_leading_to(proxy);
    match ports.as_slice() {
        [one] => {
            let offset: i64 = if port.is_empty() { 0 } else { port.parse().map_err(|_| Outcome::Wrong(format!("\"{port}\" is no port")))? };
            Ok(format!("{host}:{}", one + offset))
        }
        _ => Err(Outcome::No("give the server a port: HAProxy would take that of the client's connection, and several binds lead here".to_owned())),
    }
}

/// Ports of the binds whose connections may come to this section.
fn ports_leading_to(proxy: &Proxy<'_, '_>) -> Vec<i64> {
    let mut ports = Vec::new();
    for section in proxy.sections {
        let leads = section.name == proxy.name
            || section.directives.iter().any(|d| {
                matches!(d.words[0].as_str(), "use_backend" | "default_backend")
                    && d.words.get(1).is_some_and(|n| n == proxy.name)
            });
        if !leads {
            continue;
        }
        let binds = section.directives.iter().filter(|d| d.words[0] == "bind").filter_map(|d| d.words.get(1));
        for address in binds.chain(section.rest.first()).flat_map(|list| list.split(',')) {
            match address.rsplit(':').next().and_then(|port| port.parse().ok()) {
                Some(port) if !ports.contains(&port) => ports.push(port),
                Some(_) => {}
                None => ports.extend([-1, -1]),
            }
        }
    }
    ports
}

/// `default-server [OPTIONS]`; several add up.
pub(super) fn default_server(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    let mut reader = Options::new(proxy, Scope::DefaultServer, coverage::server());
    let worst = reader.read(&d.words[1..]);
    let entries = reader.entries;
    if let Some(wrong) = worst.wrong {
        return wrong;
    }
    for (key, value) in entries {
        let mut path = vec!["default-server"];
        path.extend(split(&key));
        proxy.table.set(&path, value, d.place, &d.comments);
    }
    worst.outcome
}

/// `source ADDRESS [usesrc ...]` holds for all servers of a backend.
pub(super) fn source(proxy: &mut Proxy<'_, '_>, d: &Directive) -> Outcome {
    match source_of(&d.words[1..]) {
        Ok((value, used)) if used == d.words.len() - 1 => proxy.put(&["default-server", "source"], value, d),
        Ok(_) => Outcome::No("interface and usesrc other than client are not in this version".to_owned()),
        Err(outcome) => outcome,
    }
}

/// What `source` at a server or in a backend means, and how many words it takes.
fn source_of(words: &[String]) -> Result<(Val, usize), Outcome> {
    match words {
        [_, usesrc, client, ..] if usesrc == "usesrc" => match client.as_str() {
            "clientip" | "client" => Ok((Val::text("client"), 3)),
            _ => Err(Outcome::No("usesrc takes client or clientip in this version".to_owned())),
        },
        [_, interface, ..] if interface == "interface" => {
            Err(Outcome::No("source ... interface is not in this version".to_owned()))
        }
        [address, ..] => Ok((Val::text(address.strip_suffix(":0").unwrap_or(address)), 1)),
        [] => Err(Outcome::Wrong("source needs an address".to_owned())),
    }
}

struct Worst {
    outcome: Outcome,
    /// The line cannot be used at all.
    wrong: Option<Outcome>,
}

/// Reads a row of options into entries of a table.
struct Options<'p, 'a, 'e> {
    proxy: &'p Proxy<'a, 'e>,
    scope: Scope,
    table: &'static [Row],
    entries: Vec<(String, Val)>,
    /// What goes into the table `tls` of a bind.
    tls: Vec<(String, Val)>,
    ignored: Vec<String>,
    near: Vec<String>,
    no: Vec<String>,
}

impl<'p, 'a, 'e> Options<'p, 'a, 'e> {
    fn new(proxy: &'p Proxy<'a, 'e>, scope: Scope, table: &'static [Row]) -> Self {
        Options {
            proxy,
            scope,
            table,
            entries: Vec::new(),
            tls: Vec::new(),
            ignored: Vec::new(),
            near: Vec::new(),
            no: Vec::new(),
        }
    }

    fn read(&mut self, words: &[String]) -> Worst {
        let mut at = 0;
        while at < words.len() {
            match self.option(&words[at..]) {
                Ok(used) => at += used,
                Err(wrong) => return Worst { outcome: Outcome::Exact, wrong: Some(wrong) },
            }
        }
        let join = |list: &[String]| list.join("; ");
        let outcome = if !self.no.is_empty() {
            Outcome::No(join(&self.no))
        } else if !self.near.is_empty() {
            Outcome::Near(join(&self.near))
        } else {
            Outcome::Exact
        };
        Worst { outcome, wrong: None }
    }

    /// Reads one option; how many words it took.
    fn option(&mut self, words: &[String]) -> Result<usize, Outcome> {
        let word = words[0].as_str();
        if let Some(used) = self.special(word, words)? {
            return Ok(used);
        }
        let scope = if self.scope == Scope::Bind { Scope::BindTls } else { Scope::ServerTls };
        if let Some(used) = tls::option(
            (self.proxy.globals, self.proxy.variables),
            scope,
            &mut self.tls,
            &mut self.near,
            words,
        )? {
            return Ok(used);
        }
        let Some((_, _, fate)) = self.table.iter().find(|(keyword, ..)| *keyword == word) else {
            return Err(unknown(word, self.table));
        };
        let takes = if FLAGS.contains(&word) { 1 } else { 2 };
        match fate {
            Fate::Ignored(why) => {
                self.ignored.push(format!("{word}: {why}"));
                return Ok(takes);
            }
            Fate::Near(how) => {
                self.near.push(format!("{word}: {how}"));
                return Ok(takes);
            }
            Fate::No(instead) => {
                self.no.push(format!("{word}: {instead}"));
                return Ok(takes);
            }
            Fate::Mapped => {}
        }
        let (name, prefix) = match word.strip_prefix("no-") {
            Some(rest) if value::keyword(self.scope, &words[..1]).is_none() => (rest, Prefix::No),
            _ => (word, Prefix::None),
        };
        let named = [name.to_owned()];
        let Some((keyword, _)) = value::keyword(self.scope, &named) else {
            self.no.push(format!("{word} is not in this version"));
            return Ok(takes);
        };
        if !self.proxy.http && self.proxy.needs_http_in(self.scope, keyword.key) {
            return Ok(takes);
        }
        let used = value::arity(keyword.kind);
        let Some(arguments) = words.get(1..=used) else {
            return Err(Outcome::Wrong(format!("{word} needs a value")));
        };
        match value::value(keyword.kind, arguments, prefix, self.proxy.variables) {
            Ok(value) => {
                self.entries.retain(|(key, _)| key != keyword.key);
                self.entries.push((keyword.key.to_owned(), value));
            }
            Err(Bad::Arguments(message)) => return Err(Outcome::Wrong(format!("{word}: {message}"))),
            Err(Bad::Unknown) => self.no.push(format!("{word} is not in this version")),
        }
        Ok(used + 1)
    }

    /// Options that take more than one word, or mean something else here.
    fn special(&mut self, word: &str, words: &[String]) -> Result<Option<usize>, Outcome> {
        Ok(match (self.scope, word) {
            (Scope::Server | Scope::DefaultServer, "source") => {
                let (value, used) = source_of(&words[1..])?;
                self.entries.push(("source".to_owned(), value));
                Some(used + 1)
            }
            (Scope::Server | Scope::DefaultServer, "enabled" | "no-disabled") => Some(1),
            // Those of all sections are asked for every name.
            (Scope::Server | Scope::DefaultServer, "resolvers") => Some(2),
            // A name that is not known leaves the server without an address, and stops nothing.
            (Scope::Server | Scope::DefaultServer, "init-addr") => {
                let list = words.get(1).ok_or_else(|| Outcome::Wrong(format!("{word} needs a value")))?;
                if !list.split(',').all(|way| matches!(way, "libc" | "none" | "last")) {
                    self.near.push(format!("{word}: until its name is known a server has no address"));
                }
                Some(2)
            }
            (Scope::Bind, "accept-proxy") => {
                self.entries
                    .push((word.to_owned(), Val::List(vec![Val::text("0.0.0.0/0"), Val::text("::/0")])));
                Some(1)
            }
            (Scope::Server | Scope::DefaultServer, "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn") => {
                self.entries.push(("send-proxy-v2".to_owned(), Val::Flag(true)));
                self.entries.push(("proxy-v2-options".to_owned(), Val::List(vec![Val::text("ssl")])));
                Some(1)
            }
            (Scope::Bind, "process" | "thread" | "nice") => Some(2),
            _ => None,
        })
    }
}

/// Options without a value.
const FLAGS: &[&str] = &[
    "accept-netscaler-cip-flag",
    "agent-check",
    "allow-0rtt",
    "backup",
    "check",
    "check-reuse-pool",
    "check-send-proxy",
    "check-sni-auto",
    "check-ssl",
    "check-via-socks4",
    "defer-accept",
    "disabled",
    "enabled",
    "force-sslv3",
    "force-tlsv10",
    "force-tlsv11",
    "force-tlsv12",
    "force-tlsv13",
    "generate-certificates",
    "no-agent-check",
    "no-alpn",
    "no-backup",
    "no-ca-names",
    "no-check",
    "no-check-reuse-pool",
    "no-check-send-proxy",
    "no-check-sni-auto",
    "no-check-ssl",
    "no-renegotiate",
    "no-send-proxy",
    "no-send-proxy-v2",
    "no-send-proxy-v2-ssl",
    "no-send-proxy-v2-ssl-cn",
    "no-sni-auto",
    "no-ssl",
    "no-ssl-reuse",
    "no-sslv3",
    "no-strict-sni",
    "no-tfo",
    "no-tls-tickets",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "no-verifyhost",
    "non-stick",
    "prefer-client-ciphers",
    "quic-force-retry",
    "renegotiate",
    "send-proxy",
    "send-proxy-v2",
    "send-proxy-v2-ssl",
    "send-proxy-v2-ssl-cn",
    "sni-auto",
    "ssl",
    "ssl-reuse",
    "stick",
    "strict-maxconn",
    "strict-sni",
    "tfo",
    "tls-tickets",
    "transparent",
    "v4v6",
    "v6only",
];
