//! Logs: targets of `[global]` and of frontends, formats, captures, `[ring.NAME]`.

use std::path::PathBuf;

use super::language::Language;
use super::layout::Layout;
use crate::base::limits::SPAN_BYTES;
use crate::config::diag::{closest, suggest};
use crate::config::expr;
use crate::config::file::{Data, Table};
use crate::config::keywords::{FACILITIES, LEVELS, Scope};
use crate::config::section::{Context, Section, texts_of};
use crate::config::units::{self, Problem};
use crate::model::http::HttpRules;
use crate::model::log::*;
use crate::model::{LogTarget, Mode};
use crate::policy::http_action::{RequestAction, ResponseAction};
use crate::policy::log::{Field, Keep, LogFormat, Reads};
use crate::policy::rule::{RuleList, TcpAction};
use crate::policy::sample::VariableTable;

/// The name in syslog headers unless `log-tag` says another.
const TAG: &str = "shardgate";

/// HAProxy's `len`: what every syslog server takes.
const DATAGRAM_BYTES: u32 = 1024;

/// Lines of files and streams, and objects, of which half would say little.
const LINE_BYTES: u32 = 8192;

/// `len` of a target that says nothing of it: what it is depends on the lines.
const LEN_UNSAID: u32 = 0;

/// local0.
const FACILITY: u8 = 16;

/// Bytes of a ring unless `size` says otherwise.
const RING_BYTES: u32 = 64 * 1024;

/// The log settings of the file while its sections are read.
pub(super) struct Logs {
    pub(super) logging: Logging,
    /// The targets of `[global]` as they are written.
    global: Vec<Target>,
    /// `log-send-hostname`.
    hostname: Option<String>,
}

impl Logs {
    /// Reads `[global]` and the rings.
    pub(super) fn new(layout: &Layout<'_>) -> Logs {
        let logging = Logging { rings: rings(layout.global.context), ..Logging::default() };
        let global = &layout.global;
        let mut logs = Logs { logging, global: Vec::new(), hostname: hostname(global) };
        let targets = match global.value("log") {
            Some(_) => logs.targets(global, false),
            None => vec![plain_target(logs.output(Output::Stderr), Header::Raw, LINE_BYTES)],
        };
        let set = LogSet {
            tag: header_word(global, "log-tag").unwrap_or_else(|| TAG.to_owned()),
            hostname: logs.hostname.clone(),
            targets: with_len(&targets, DATAGRAM_BYTES),
        };
        logs.global = targets;
        logs.logging.sets.push(set);
        logs
    }

    /// Where the process itself writes: the first local target.
    pub(super) fn events(&self) -> LogTarget {
        let outputs = self.logging.sets[0].targets.iter().map(|target| &self.logging.outputs[target.output]);
        let local = |output: &Output| match output {
            Output::Stderr => Some(LogTarget::Stderr),
            Output::Stdout => Some(LogTarget::Stdout),
            Output::File(path) => Some(LogTarget::File(path.clone())),
            _ => None,
        };
        outputs.into_iter().find_map(local).unwrap_or(LogTarget::Stderr)
    }

    /// The log of a frontend.
    pub(super) fn frontend(
        &mut self,
        section: &Section<'_>,
        language: &Language<'_>,
        mode: Mode,
        variables: &mut VariableTable,
    ) -> Option<Box<FrontendLog>> {
        let targets = self.targets_of(section)?;
        let mut keep = Vec::new();
        let mut format = |key: &str, default: Option<&str>| {
            compile(section, language, mode, (key, default), &mut keep, variables)
        };
        let line = format("log-format", Some("json"))?;
        let len = if line.is_text() { DATAGRAM_BYTES } else { LINE_BYTES };
        let set = self.set(section, with_len(&targets, len))?;
        let structured = format("log-format-sd", None);
        let error = format("error-log-format", None);
        // As with HAProxy such a connection has a line of its own kind, unless `error-log-format` says what it is.
        let refused = match &error {
            None if line.is_text() => Some(language.log_preset(expr::REFUSED, &mut keep, variables)),
            error => error.clone(),
        };
        let formats = [Some(&line), structured.as_ref(), error.as_ref(), refused.as_ref()];
        let reads =
            formats.into_iter().flatten().map(LogFormat::reads).fold(Reads::default(), |all, one| all | one);
        let reads_http = formats.into_iter().flatten().flat_map(LogFormat::fields).any(Field::is_http);
        if mode == Mode::Tcp && (reads_http || !keep.is_empty()) {
            let help =
                "here there are only connections and bytes; use it in a frontend of HTTP mode".to_owned();
            section.error("log-format", "the log format of TCP mode reads HTTP", Some(help));
        }
        let flag = |key: &str| section.flag(key).unwrap_or(false);
        Some(Box::new(FrontendLog {
            set,
            line,
            structured,
            error,
            refused,
            keep,
            reads,
            dontlognull: flag("dontlognull"),
            dontlog_normal: flag("dontlog-normal"),
            separate_errors: flag("log-separate-errors"),
            asap: flag("logasap"),
        }))
    }

    /// A frontend's targets; `None`: it does not log.
    fn targets_of(&mut self, section: &Section<'_>) -> Option<Vec<Target>> {
        match &section.value("log")?.data {
            Data::Boolean(false) => None,
            Data::Boolean(true) => Some(self.global.clone()),
            _ => Some(self.targets(section, true)),
        }
    }

    /// The set of a frontend with these targets.
    fn set(&mut self, section: &Section<'_>, targets: Vec<Target>) -> Option<u16> {
        let tag = header_word(section, "log-tag").unwrap_or_else(|| self.logging.sets[0].tag.clone());
        self.add(LogSet { tag, hostname: self.hostname.clone(), targets })
    }

    /// The traces of a frontend.
    pub(super) fn trace(
        &mut self,
        section: &Section<'_>,
        language: &Language<'_>,
        mode: Mode,
        variables: &mut VariableTable,
    ) -> Option<Box<FrontendTrace>> {
        let to = section.parsed("trace.to", collector);
        let threshold = section.parsed("trace.sample", share).unwrap_or(SAMPLE_ALL);
        let is_wanted = to.is_some() || section.flag("trace.context").unwrap_or(false);
        let of_collector = ["trace.sample", "trace.service", "trace.tls"];
        let is_own = |key: &&&str| section.own().is_some_and(|own| own.at(key).is_some());
        if let (None, Some(key)) = (section.value("trace.to"), of_collector.iter().find(is_own)) {
            let help = Some("add trace.to = \"http://127.0.0.1:4318/v1/traces\"".to_owned());
            section.warning(key, format!("{key} has no effect: no span is recorded without trace.to"), help);
        }
        if mode == Mode::Tcp || !is_wanted {
            return None;
        }
        let service = section.string("trace.service").unwrap_or_else(|| TAG.to_owned());
        let set = to.and_then(|(address, path, is_tls)| {
            let tls = is_tls.then(|| super::tls::peer(section, "trace.tls"));
            if tls.is_none() && section.table("trace.tls").is_some() {
                section.error("trace.tls", "trace.to is no https URL", Some("write https://".to_owned()));
            }
            let output = self.output(Output::Spans { address, path, service: service.clone(), tls });
            let targets = vec![plain_target(output, Header::Raw, SPAN_BYTES)];
            self.add(LogSet { tag: service, hostname: None, targets })
        });
        let attributes = language.log_preset(expr::SPAN, &mut Vec::new(), variables);
        let reads = attributes.reads();
        Some(Box::new(FrontendTrace { set, threshold, attributes, reads }))
    }

    /// The place of a set; the same ones share it.
    fn add(&mut self, set: LogSet) -> Option<u16> {
        let found = self.logging.sets.iter().position(|other| *other == set);
        let index = found.unwrap_or_else(|| {
            self.logging.sets.push(set);
            self.logging.sets.len() - 1
        });
        u16::try_from(index).ok()
    }

    fn output(&mut self, output: Output) -> usize {
        let outputs = &mut self.logging.outputs;
        outputs.iter().position(|other| *other == output).unwrap_or_else(|| {
            outputs.push(output);
            outputs.len() - 1
        })
    }

    /// The targets of `log` in a section. `has_global`: "global" stands for those of `[global]`.
    fn targets(&mut self, section: &Section<'_>, has_global: bool) -> Vec<Target> {
        let mut targets = Vec::new();
        let Some(value) = section.value("log") else { return targets };
        for (at, text) in texts_of(section.context, value) {
            match (text.text.as_str(), has_global) {
                ("global", true) => targets.extend(self.global.iter().cloned()),
                (text, _) => {
                    match self.address(text, Framing::OctetCounting) {
                        Ok(output) => targets.push(self.defaults(output)),
                        Err(problem) => section.context.problem(at, problem),
                    };
                }
            }
        }
        for table in section.tables("log", Scope::LogTarget) {
            targets.extend(self.target(&table));
        }
        targets
    }

    fn target(&mut self, table: &Section<'_>) -> Option<Target> {
        let Some(address) = table.string("address") else {
            let help = "add address = \"127.0.0.1:514\"".to_owned();
            table.context.error(table.at, "this log target has no address", Some(help));
            return None;
        };
        let framing = match table.string("framing").as_deref() {
            Some("newline") => Framing::Newline,
            _ => Framing::OctetCounting,
        };
        let output = match self.address(&address, framing) {
            Ok(output) => output,
            Err(problem) => {
                table.context.problem(table.value_at("address"), problem);
                return None;
            }
        };
        let number = |key: &str, names: &[&str]| {
            let name = table.string(key)?;
            u8::try_from(names.iter().position(|other| *other == name)?).ok()
        };
        let mut target = self.defaults(output);
        target.facility = number("facility", FACILITIES).unwrap_or(FACILITY);
        target.level = number("level", LEVELS).unwrap_or(7);
        target.minlevel = number("minlevel", LEVELS).unwrap_or(0);
        target.len = table.count("len").unwrap_or(target.len);
        target.format = match table.string("format").as_deref() {
            Some("raw") => Header::Raw,
            Some("local") => Header::Local,
            Some("rfc3164") => Header::Rfc3164,
            Some("rfc5424") => Header::Rfc5424,
            Some("priority") => Header::Priority,
            Some("short") => Header::Short,
            Some("timed") => Header::Timed,
            Some("iso") => Header::Iso,
            _ => target.format,
        };
        target.sample = table.parsed("sample", sample);
        Some(target)
    }

    fn defaults(&self, output: usize) -> Target {
        match self.logging.outputs[output] {
            Output::Udp(_) | Output::Unix(_) => {
                let header = if self.hostname.is_some() { Header::Rfc3164 } else { Header::Local };
                plain_target(output, header, LEN_UNSAID)
            }
            Output::Tcp { .. } => plain_target(output, Header::Rfc3164, LINE_BYTES),
            _ => plain_target(output, Header::Raw, LINE_BYTES),
        }
    }

    /// An address, and where it is among the outputs.
    fn address(&mut self, text: &str, framing: Framing) -> Result<usize, Problem> {
        let output = match text.split_once(':') {
            _ if text == "stderr" => Output::Stderr,
            _ if text == "stdout" => Output::Stdout,
            Some(("file", path)) if path.starts_with('/') => Output::File(PathBuf::from(path)),
            Some(("file", path)) => {
                let message = format!("the path of a log file starts with /, and \"{path}\" does not");
                return Err(Problem::new(message));
            }
            _ if text.starts_with('/') || text.starts_with("unix@/") => {
                let path = text.strip_prefix("unix@").unwrap_or(text);
                units::fits(text, path)?;
                Output::Unix(PathBuf::from(path))
            }
            _ if text.starts_with("ring@") => {
                let name = &text["ring@".len()..];
                let rings = &self.logging.rings;
                let Some(index) = rings.iter().position(|ring| ring.name == name) else {
                    let help = suggest(name, rings.iter().map(|ring| ring.name.as_str()))
                        .unwrap_or_else(|| format!("add [ring.{name}]"));
                    return Err(Problem::with_help(format!("there is no ring \"{name}\""), help));
                };
                Output::Ring(index)
            }
            _ if text.starts_with("tcp@") => {
                Output::Tcp { address: host_and_port(&text["tcp@".len()..])?, framing }
            }
            _ => Output::Udp(host_and_port(text.strip_prefix("udp@").unwrap_or(text))?),
        };
        Ok(self.output(output))
    }
}

fn plain_target(output: usize, format: Header, len: u32) -> Target {
    Target { output, format, facility: FACILITY, level: 7, minlevel: 0, len, sample: None }
}

/// The name of a program or a host, which stands in a header of one line.
fn header_word(section: &Section<'_>, key: &str) -> Option<String> {
    let word = section.string(key)?;
    if word.is_empty() || word.contains(char::is_control) {
        let help = format!("write a word: {key} = \"edge\"");
        section.error(key, "a name in syslog headers is not empty and has no control characters", Some(help));
        return None;
    }
    Some(word)
}

/// Targets that say how long their lines may be.
fn with_len(targets: &[Target], len: u32) -> Vec<Target> {
    let mut targets = targets.to_vec();
    targets.iter_mut().filter(|target| target.len == LEN_UNSAID).for_each(|target| target.len = len);
    targets
}

/// Address and path of `http://host:port/path`.
fn collector(url: &str) -> Result<(String, String, bool), Problem> {
    const FORM: &str = "write \"http://127.0.0.1:4318/v1/traces\"";
    let wrong = || Problem::with_help(format!("\"{url}\" is no URL of a collector"), FORM);
    let (is_tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(wrong()),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port || !is_plain(path) {
        return Err(wrong());
    }
    let address = host_and_port(host).map_err(|_| wrong())?;
    Ok((address, if path.is_empty() { "/v1/traces".to_owned() } else { path.to_owned() }, is_tls))
}

/// All of 56 bits.
const SAMPLE_ALL: u64 = 1 << 56;

/// `12.5%` of [`SAMPLE_ALL`].
fn share(text: &str) -> Result<u64, Problem> {
    let wrong =
        || Problem::with_help(format!("\"{text}\" is no share"), "write a percentage: \"100%\", \"0.1%\"");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let are_digits = |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if !are_digits(whole) || !are_digits(part) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<4}").parse().map_err(|_| wrong())?;
    let millionths = whole * 10_000 + part;
    let share = u128::from(SAMPLE_ALL) * u128::from(millionths) / 1_000_000;
    u64::try_from(share).ok().filter(|_| millionths <= 1_000_000).ok_or_else(wrong)
}

/// `host:port`; the port of syslog where there is none.
fn host_and_port(text: &str) -> Result<String, Problem> {
    let wrong = || {
        Problem::with_help(
            format!("\"{text}\" is no target of log"),
            "write \"stderr\", \"stdout\", \"file:/path\", \"host:514\", \"tcp@host:514\", \"/dev/log\" or \"ring@NAME\"",
        )
    };
    let is_host = |host: &str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, port) = rest.split_once(']').ok_or_else(wrong)?;
        let port = port.strip_prefix(':').unwrap_or("514");
        let is_good = ip.parse::<std::net::Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok_and(|p| p > 0);
        return if is_good { Ok(format!("[{ip}]:{port}")) } else { Err(wrong()) };
    }
    match text.split_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|p| p > 0) => {
            Ok(text.to_owned())
        }
        // A word alone is rather a slip than a host.
        None if is_host(text) && text.contains('.') => Ok(format!("{text}:514")),
        _ => Err(wrong()),
    }
}

fn hostname(global: &Section<'_>) -> Option<String> {
    match &global.value("log-send-hostname")?.data {
        Data::Boolean(true) => Some(global.context.env.hostname.clone()),
        Data::Boolean(false) => None,
        _ => header_word(global, "log-send-hostname"),
    }
}

/// `1,3-5:10`.
fn sample(text: &str) -> Result<Sample, Problem> {
    let wrong = || {
        Problem::with_help(
            format!("\"{text}\" is no sample"),
            "write which lines out of how many: \"1:10\", \"1,3-5:10\"",
        )
    };
    let (ranges, round) = text.split_once(':').ok_or_else(wrong)?;
    let round: u32 = round.parse().ok().filter(|round| *round > 0).ok_or_else(wrong)?;
    let ranges = ranges.split(',').map(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (0 < from && from <= to && to <= round).then_some((from, to))
    });
    Ok(Sample { ranges: ranges.collect::<Option<_>>().ok_or_else(wrong)?, round })
}

fn rings(context: &Context<'_>) -> Vec<Ring> {
    let Some(Data::Table(named)) = context.file.root.entry("ring").map(|entry| &entry.value.data) else {
        return Vec::new();
    };
    let ring = |entry: &crate::config::file::Entry, table| {
        let section = Section::new(context, Scope::Ring, entry.key_span.start, vec![table]);
        Ring {
            name: entry.key.clone(),
            size: section.size("size").and_then(|size| u32::try_from(size).ok()).unwrap_or(RING_BYTES),
            description: section.string("description").unwrap_or_default(),
        }
    };
    let tables = named.entries.iter().filter_map(|entry| match &entry.value.data {
        Data::Table(table) => Some(ring(entry, table)),
        _ => None,
    });
    tables.collect()
}

/// The formats that have a name.
const PRESETS: &[&str] = &["json", "httplog", "httpslog", "tcplog", "clf"];

/// One of the formats of a frontend. A word alone is a preset.
fn compile(
    section: &Section<'_>,
    language: &Language<'_>,
    mode: Mode,
    (key, default): (&str, Option<&str>),
    keep: &mut Vec<Keep>,
    variables: &mut VariableTable,
) -> Option<LogFormat> {
    let text = section.text(key);
    let word = text.as_ref().map(|text| text.text.as_str()).or(default)?;
    let preset = match word {
        "json" => Some(expr::json_preset(mode == Mode::Http)),
        "tcplog" => Some(expr::TCPLOG.to_owned()),
        "httplog" | "httpslog" | "clf" if mode == Mode::Tcp => {
            let own = section.own().is_some_and(|own| own.at(key).is_some());
            if own {
                let help = "use \"tcplog\" or \"json\"".to_owned();
                section.error(key, format!("\"{word}\" is the format of HTTP mode"), Some(help));
            }
            // Inherited from the defaults it is meant for other sections; HAProxy falls back likewise.
            Some(expr::TCPLOG.to_owned())
        }
        "httplog" => Some(expr::HTTPLOG.to_owned()),
        "httpslog" => Some(expr::HTTPSLOG.to_owned()),
        "clf" => Some(expr::CLF.to_owned()),
        _ => None,
    };
    // A word alone that is nearly a preset is meant to be one.
    if let (None, Some(text)) = (&preset, &text)
        && !text.text.contains(|c: char| c == '%' || c.is_whitespace())
        && let Some(close) = closest(text.text.as_str(), PRESETS.iter().copied())
    {
        let message = format!("\"{word}\" is no format, and each line would say just that");
        section.context.error(section.value_at(key), message, Some(format!("did you mean \"{close}\"?")));
        return None;
    }
    match (preset, text) {
        (Some(preset), _) => Some(language.log_preset(&preset, keep, variables)),
        (None, Some(text)) => language.log_format(&text, keep, variables),
        (None, None) => None,
    }
}

/// `capture.*` of a frontend.
pub(super) fn captures(section: &Section<'_>) -> Captures {
    let slots = |key: &str| {
        let tables = section.tables(key, Scope::CaptureHeader);
        tables.iter().filter_map(slot).collect::<Vec<_>>()
    };
    let cookie = section.table("capture.cookie").and_then(|table: &Table| {
        let at = section.value_at("capture.cookie");
        let table = Section::new(section.context, Scope::CaptureHeader, at, vec![table]);
        if table.string("name").is_none() {
            let help = "add name = \"SESSION=\"".to_owned();
            table.context.error(table.at, "this capture has no name", Some(help));
        }
        slot(&table)
    });
    Captures { request: slots("capture.request-header"), response: slots("capture.response-header"), cookie }
}

/// Gives the capture of a rule a place behind those that are there; one that names its place learns how long it may be.
fn place(section: &Section<'_>, slots: &mut Vec<CaptureSlot>, (slot, len): (&mut u16, &mut u16)) {
    if *len > 0 {
        slots.push(CaptureSlot { name: None, len: *len });
        *slot = u16::try_from(slots.len() - 1).unwrap_or(u16::MAX);
        return;
    }
    match slots.get(usize::from(*slot)) {
        Some(known) => *len = known.len,
        None => {
            let message = format!("there is no place {slot} for a capture: there are {}", slots.len());
            let help = "places are numbered from 0: add { len = 40 } to capture.request-header or capture.response-header";
            section.context.error(section.at, message, Some(help.to_owned()));
        }
    }
}

/// Gives the captures of TCP mode their places.
pub(super) fn capture_in_content(
    section: &Section<'_>,
    rules: &mut RuleList<TcpAction>,
    captures: &mut Captures,
) {
    for action in rules.actions_mut() {
        if let TcpAction::Capture { slot, len, .. } = action {
            place(section, &mut captures.request, (slot, len));
        }
    }
}

/// Gives the captures of rules their places, behind those of headers.
pub(super) fn capture_in_rules(section: &Section<'_>, rules: &mut HttpRules, captures: &mut Captures) {
    for action in rules.request.actions_mut() {
        if let RequestAction::Capture { slot, len, .. } = action {
            place(section, &mut captures.request, (slot, len));
        }
    }
    for action in rules.response.actions_mut().chain(rules.after.actions_mut()) {
        if let ResponseAction::Capture { slot, len, .. } = action {
            place(section, &mut captures.response, (slot, len));
        }
    }
}

fn slot(table: &Section<'_>) -> Option<CaptureSlot> {
    let missing = |key: &str, help: &str| {
        table.context.error(table.at, format!("this capture has no {key}"), Some(help.to_owned()));
    };
    let name = table.string("name");
    let Some(len) = table.count("len").and_then(|len| u16::try_from(len).ok()) else {
        missing("len", "add len = 32");
        return None;
    };
    Some(CaptureSlot { name: name.map(|name| name.into_bytes().into()), len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_http_urls_with_a_port() {
        for (url, expected) in [
            ("http://127.0.0.1:4318/v1/traces", Some(("127.0.0.1:4318", "/v1/traces", false))),
            ("http://collector:4318", Some(("collector:4318", "/v1/traces", false))),
            ("http://[::1]:80/", Some(("[::1]:80", "/", false))),
            ("http://collector/v1/traces", None),
            ("https://collector:4318", Some(("collector:4318", "/v1/traces", true))),
            ("collector:4318", None),
            ("http://collector:4318/a b", None),
            ("http://col\r\nlector:4318", None),
        ] {
            let found = collector(url).ok();
            let found = found.as_ref().map(|(address, path, tls)| (address.as_str(), path.as_str(), *tls));
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn shares_are_percentages() {
        for (text, expected) in [
            ("100%", Some(SAMPLE_ALL)),
            ("50%", Some(SAMPLE_ALL / 2)),
            ("0%", Some(0)),
            ("0.0001%", Some(SAMPLE_ALL / 1_000_000)),
            ("100.0001%", None),
            ("0.00001%", None),
            ("-1%", None),
            ("0.5", None),
            ("%", None),
        ] {
            assert_eq!(share(text).ok(), expected, "{text}");
        }
    }
}
