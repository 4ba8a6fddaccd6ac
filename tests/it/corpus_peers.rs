//! The configurations of the corpus and of HAProxy's own package in HAProxy and here: requests made of what stands in the file go to both,
//! and answers, chosen servers and what the origin received must be alike.
//!
//! A file is moved to this machine first: addresses become ones of the loopback network, servers become origins that show what they got.
//! Of servers that take turns one is left, since whose turn it is depends on the core; checks, TLS and the PROXY protocol have tests of their own.

use std::collections::BTreeMap;

use crate::corpus::{examples, files, own};
use crate::haproxy_cfg::{Difference, differences, mirror, requests};
use crate::harness::Origin;
use crate::harness::peers::Peer;

/// Files that HAProxy 2.6 itself refuses, and why.
const LEFT_OUT: &[(&str, &str)] = &[("wurfl-example", "device detection is not in Debian's HAProxy either")];

/// What is meant to be different in answers that are no server's.
const KNOWN: &[Difference] = &[
    // The status of a form that is not allowed says so itself.
    known("POST / ", "303", "403"),
    known("POST / ", "location: /;st=DENY", ""),
    // The page is not HAProxy's.
    known(
        "",
        "www-authenticate: Basic realm=\"HAProxy Statistics\"",
        "www-authenticate: Basic realm=\"Statistics\"",
    ),
    // It fetches its numbers and is not loaded again, it has a length, and it tells browsers to trust nothing else.
    known("", "refresh: ", ""),
    known("", "transfer-encoding: ", ""),
    known("", "", "content-security-policy: "),
    known("", "", "referrer-policy: "),
    known("", "", "x-content-type-options: "),
];

const fn known(request: &'static str, theirs: &'static str, ours: &'static str) -> Difference {
    Difference { request, theirs, ours }
}

/// The most requests that one frontend gets: every n-th of all combinations.
const REQUESTS: usize = 60;

/// Lines that are left out, by how they begin: logs, checks and addresses of servers, and words that HAProxy 2.6 has no more.
const DROPPED: &[&[&str]] = &[
    &["log"],
    &["log-format"],
    &["source"],
    &["http-check"],
    &["tcp-check"],
    &["option", "httpchk"],
    &["option", "tcp-check"],
    &["load-server-state-from-file"],
    &["rspidel"],
    &["rspirep"],
];

/// Options of servers that stay, each with a value.
const KEPT: &[&str] = &["cookie", "weight", "id", "maxconn"];

const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "resolvers",
    "http-errors",
    "cache",
    "peers",
];

struct Section {
    head: Vec<String>,
    lines: Vec<Vec<String>>,
}

/// Cuts at spaces that no backslash or quote protects, and keeps both.
fn words(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let (mut quote, mut escaped) = (None, false);
    for c in line.chars() {
        let last = out.last_mut().expect("one at least");
        match (c, quote) {
            _ if escaped => {
                escaped = false;
                last.push(c);
            }
            ('#', None) => break,
            (' ' | '\t', None) => out.push(String::new()),
            (c, open) => {
                escaped = c == '\\' && open != Some('\'');
                if open == Some(c) {
                    quote = None;
                } else if open.is_none() && matches!(c, '"' | '\'') {
                    quote = Some(c);
                }
                last.push(c);
            }
        }
    }
    out.retain(|word| !word.is_empty());
    out
}

/// The sections without `global`, which is about the machine.
fn sections(text: &str) -> Vec<Section> {
    let mut out: Vec<Section> = Vec::new();
    for words in text.lines().map(words).filter(|words| !words.is_empty()) {
        if SECTIONS.contains(&words[0].as_str()) {
            // An address behind the name is how `bind` was written once.
            let (head, address) = words.split_at(words.len().min(2));
            let bind = || ["bind".to_owned()].into_iter().chain(address.iter().cloned()).collect();
            let lines = if address.is_empty() { Vec::new() } else { vec![bind()] };
            out.push(Section { head: head.to_vec(), lines });
        } else if let Some(section) = out.last_mut() {
            let is_dropped =
                |start: &&[&str]| words.len() >= start.len() && start.iter().zip(&words).all(|(a, b)| a == b);
            if !DROPPED.iter().any(is_dropped) {
                section.lines.push(words);
            }
        }
    }
    out.retain(|section| section.head[0] != "global");
    out
}

/// The value of the last line that begins with a word, of a section or of the defaults before it.
fn value<'a>(sections: &'a [Section], at: usize, word: &str) -> Option<&'a str> {
    let of = |section: &'a Section| {
        let found = section.lines.iter().rfind(|line| line[0] == word)?;
        found.get(1).map(String::as_str)
    };
    of(&sections[at]).or_else(|| sections[..at].iter().rfind(|s| s.head[0] == "defaults").and_then(of))
}

/// The file as it runs on this machine, with its first bind at `@ADDRESS@`, and which sections its binds are of.
fn moved(sections: &[Section], origins: &BTreeMap<(usize, String), Origin>) -> (String, Vec<usize>) {
    let mut text = "global\n".to_owned();
    let mut binds = Vec::new();
    for (at, section) in sections.iter().enumerate() {
        text.push_str(&format!("{}\n", section.head.join(" ")));
        for line in &section.lines {
            match line[0].as_str() {
                // One is enough: none of them says more than where.
                "bind" if binds.contains(&at) => {}
                "bind" => {
                    let address = if binds.is_empty() { "@ADDRESS@" } else { "@FREE@" };
                    text.push_str(&format!(" bind {address}\n"));
                    binds.push(at);
                }
                "server" => {
                    let Some(origin) = origins.get(&(at, line[1].clone())) else { continue };
                    text.push_str(&format!(" server {} {}", line[1], origin.address));
                    for pair in line[3..].windows(2).filter(|pair| KEPT.contains(&pair[0].as_str())) {
                        text.push_str(&format!(" {} {}", pair[0], pair[1]));
                    }
                    text.push('\n');
                }
                _ => text.push_str(&format!(" {}\n", line.join(" "))),
            }
        }
    }
    (text, binds)
}

/// Origins by section and server: all servers of a backend that chooses by what a request says, the first one of others.
fn origins(sections: &[Section]) -> BTreeMap<(usize, String), Origin> {
    let mut out = BTreeMap::new();
    for (at, section) in sections.iter().enumerate() {
        let balance = value(sections, at, "balance").unwrap_or_default();
        let by_request =
            matches!(balance, "source" | "uri" | "url_param" | "hash") || balance.starts_with("hdr(");
        let servers = section.lines.iter().filter(|line| line[0] == "server" && line.len() > 2);
        for line in servers.take(if by_request { usize::MAX } else { 1 }) {
            let name: &'static str = Box::leak(format!("{}/{}", section.head[1], line[1]).into_boxed_str());
            out.insert((at, line[1].clone()), mirror(name));
        }
    }
    out
}

/// What requests are made of.
struct Corpus {
    lines: Vec<String>,
    headers: Vec<String>,
    /// One of each header that is counted, together.
    all: String,
}

/// Request lines and headers made of what the file tests.
fn corpus(sections: &[Section]) -> Corpus {
    let lines = ["GET /", "GET /other/page.html?a=1&b=2", "POST /", "HEAD /x"].map(str::to_owned).to_vec();
    let mut corpus = Corpus { lines, headers: vec![String::new()], all: String::new() };
    for line in sections.iter().flat_map(|section| &section.lines) {
        corpus.line(&line.iter().map(String::as_str).collect::<Vec<_>>());
    }
    corpus.headers.push(std::mem::take(&mut corpus.all));
    corpus.headers.sort();
    corpus.headers.dedup();
    corpus.lines.sort();
    corpus.lines.dedup();
    corpus
}

impl Corpus {
    fn line(&mut self, line: &[&str]) {
        match *line {
            ["user", name, "insecure-password", password] | ["stats", "auth", name, password] => {
                self.user(name, password)
            }
            ["stats", "auth", both, ..] => {
                let (name, password) = both.split_once(':').unwrap_or((both, ""));
                self.user(name, password);
            }
            ["stats", "uri", path, ..] | ["monitor-uri", path, ..] => self.path(path),
            ["cookie", name, ..] => {
                self.headers.extend(["s1", "s2", "none"].map(|v| format!("Cookie: {name}={v}; other=1\r\n")))
            }
            ["bind" | "option" | "stats" | "server", ..] => {}
            _ => self.test(line),
        }
    }

    fn user(&mut self, name: &str, password: &str) {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        self.headers.push(format!("Authorization: Basic {text}\r\n"));
        self.headers.push("Authorization: Basic eDp5\r\n".to_owned());
    }

    fn path(&mut self, path: &str) {
        self.lines.push(format!("GET /a{path}"));
        if path.starts_with('/') {
            let paths = [path.to_owned(), format!("{path}/x?y"), path.to_uppercase()];
            self.lines.extend(paths.map(|path| format!("GET {path}")));
        }
    }

    /// The patterns of a test of paths, URLs and headers.
    fn test(&mut self, line: &[&str]) {
        let is_fetch =
            |word: &&str| ["path", "hdr", "url", "base", "req."].iter().any(|f| word.starts_with(f));
        let Some(at) = line.iter().position(is_fetch) else { return };
        let fetch = line[at].trim_start_matches("req.");
        let patterns = line[at + 1..].iter().take_while(|word| !matches!(**word, "}" | "if" | "||" | "or"));
        for pattern in patterns.filter(|word| !word.starts_with(['-', '{', '%', '!'])) {
            match fetch.split_once('(') {
                None if fetch.starts_with("path") || fetch.starts_with("url") => self.path(pattern),
                None => {}
                Some((name, argument)) => self.header(name, argument.trim_end_matches(')'), pattern),
            }
        }
    }

    fn header(&mut self, fetch: &str, name: &str, pattern: &str) {
        let tail = if pattern.ends_with('.') { "example.com" } else { "" };
        let front = if pattern.starts_with('.') { "www" } else { "" };
        let name = if name.eq_ignore_ascii_case("host") { "Host" } else { name };
        if fetch.ends_with("_cnt") {
            self.all.push_str(&format!("{name}: x\r\n"));
            return;
        }
        let line = format!("{name}: {front}{pattern}{tail}\r\n");
        if name != "Host" {
            self.all.push_str(&line);
        }
        self.headers.push(line);
    }
}

#[test]
fn they_are_the_same_in_haproxy() {
    let own = files(own("x").parent().expect("a directory"));
    let (mut compared, mut different) = (Vec::new(), Vec::new());
    for file in own.iter().chain(&files(&examples())) {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        if LEFT_OUT.iter().any(|(left, _)| *left == name) {
            continue;
        }
        let text = std::fs::read_to_string(file).expect("it is readable");
        let sections = sections(&text);
        let origins = origins(&sections);
        let Corpus { lines, headers, .. } = corpus(&sections);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let all = requests(&lines, &headers);
        let some: Vec<String> = all.iter().step_by(all.len().div_ceil(REQUESTS)).cloned().collect();
        let (text, binds) = moved(&sections, &origins);
        let (theirs, ours) = (Peer::haproxy(&text), Peer::in_haproxys_place(&text));
        let addresses = |peer: &Peer| [&[peer.address], peer.more.as_slice()].concat();
        for ((at, theirs), ours) in binds.iter().zip(addresses(&theirs)).zip(addresses(&ours)) {
            let title = format!("{name}/{}", sections[*at].head[1]);
            println!("{title}: {} of {} requests", some.len(), all.len());
            let found = differences([theirs, ours], &some, KNOWN);
            different.extend(found.iter().map(|text| format!("--- {title}\n{text}")));
            compared.push(title);
        }
    }
    assert!(different.is_empty(), "{} differ\n{}", different.len(), different.join("\n"));
    // The examples are of a package of their own.
    assert!(compared.len() >= 15, "{compared:?}");
}
