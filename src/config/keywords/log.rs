//! The rows about logs: targets, formats, captures, rings.

use super::Kind::*;
use super::{Keyword, KeywordMode, Scope, Scopes};

const GLOBAL: Scopes = Scopes::of(&[Scope::Global]);
const FRONTEND_DEFAULTS: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Defaults]);
const FRONTEND: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen]);
const TARGET: Scopes = Scopes::of(&[Scope::LogTarget]);
const CAPTURE: Scopes = Scopes::of(&[Scope::CaptureHeader]);
const RULES: Scopes = Scopes::of(&[Scope::Rule, Scope::ResponseRule]);
const RING: Scopes = Scopes::of(&[Scope::Ring]);

/// The levels of syslog, most severe first.
pub(crate) const LEVELS: &[&str] = &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Levels of one line; the last one: there is none.
const LINE_LEVELS: &[&str] =
    &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "silent"];

/// The facilities of syslog by number; the four without a name in RFC 5424 have HAProxy's.
pub(crate) const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp",
    "audit", "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// What stands before a line.
pub(crate) const HEADERS: &[&str] =
    &["raw", "local", "rfc3164", "rfc5424", "priority", "short", "timed", "iso"];

keywords! {
    /// Keywords about logs.
    KEYWORDS, mode Any;

    "log" in GLOBAL, TextsOrTables(Scope::LogTarget), default "\"stderr\"", haproxy "log";
    "Where messages of the process go, and the lines of frontends with `log = true`: \"stderr\", \"stdout\", \"file:/path\", \"host:port\" (syslog over UDP), \"tcp@host:port\", a path (a UNIX datagram socket), \"ring@NAME\"; a list of them, or a list of tables with more keywords (see [log](#log)).";
    "log = [\"stderr\", { address = \"127.0.0.1:514\", facility = \"local0\", level = \"info\" }]"
    "log-tag" in GLOBAL, Text, default "\"shardgate\"", haproxy "log-tag";
    "Program name in syslog headers.";
    "log-tag = \"edge\""
    "log-send-hostname" in GLOBAL, FlagOrText, default "false", haproxy "log-send-hostname";
    "The host name in syslog headers, or this name; targets that say no `format` have one with it.";
    "log-send-hostname = \"lb1.example.com\""

    "log" in FRONTEND_DEFAULTS, FlagTextsOrTables(Scope::LogTarget), default "false", haproxy "log global";
    "Where a line for each request goes (in TCP mode: for each connection). true: the targets of `[global]`; false: nowhere; or targets as there, where \"global\" stands for those of `[global]`.";
    "log = true"
    "log-tag" in FRONTEND_DEFAULTS, Text, default "that of `[global]`", haproxy "log-tag";
    "Program name in the syslog headers of this frontend.";
    "log-tag = \"www\""
    "log-format" in FRONTEND_DEFAULTS, Text, default "\"json\"", haproxy "log-format, option httplog, option httpslog, option tcplog";
    "What a line says. A name of a preset: \"json\" (named fields), \"httplog\", \"httpslog\", \"tcplog\", \"clf\" (byte for byte those of HAProxy); or a format with the [variables of log formats](EXPRESSIONS.md), `%[EXPRESSION]`, and names for JSON: `%{+json}o %(status)ST %(client)ci`. What a peer sent is escaped in each of them.";
    "log-format = \"%ci:%cp [%tr] %ft %b/%s %ST %B %{+Q}r\""
    "log-format-sd" in FRONTEND_DEFAULTS, Text, default "none", haproxy "log-format-sd";
    "Structured data for targets with format \"rfc5424\".";
    "log-format-sd = \"[shardgate@0 status=\\\"%ST\\\" host=\\\"%{+E}HH\\\"]\""
    "error-log-format" in FRONTEND_DEFAULTS, Text, default "`log-format`", haproxy "error-log-format";
    "What the line of a connection says that ends before a whole request, by mistake of its client. Without it the line of a failed TLS handshake or PROXY header is `ADDRESS [DATE] FRONTEND/BIND: WHY` as with HAProxy, or the object of a JSON format.";
    "error-log-format = \"%ci:%cp [%t] %ft %tsc\""
    "dontlognull" in FRONTEND_DEFAULTS, Flag, default "false", haproxy "option dontlognull";
    "Leave connections without any byte out of the log: port scans, checks of another load balancer.";
    "dontlognull = true"
    "dontlog-normal" in FRONTEND_DEFAULTS, Flag, default "false", haproxy "option dontlog-normal";
    "Log only what went wrong: errors, timeouts, retries, statuses from 500.";
    "dontlog-normal = true"
    "log-separate-errors" in FRONTEND_DEFAULTS, Flag, default "false", haproxy "option log-separate-errors";
    "Lines of what went wrong have level \"err\" and not \"info\", so that targets can tell them apart.";
    "log-separate-errors = true"
    "logasap" in FRONTEND_DEFAULTS, Flag, default "false", haproxy "option logasap";
    "Write the line as soon as the response begins; times and bytes that go on have a `+`.";
    "logasap = true"

    "address" in TARGET, Text, default "", haproxy "log ADDRESS";
    "Where: \"stderr\", \"stdout\", \"file:/path\", \"host:port\" (UDP), \"tcp@host:port\", \"/path\" (a UNIX datagram socket), \"ring@NAME\", \"global\".";
    "address = \"192.0.2.7:514\""
    "facility" in TARGET, OneOf(FACILITIES), default "\"local0\"", haproxy "log FACILITY";
    "Facility of syslog.";
    "address = \"/dev/log\", facility = \"local3\""
    "level" in TARGET, OneOf(LEVELS), default "\"debug\"", haproxy "log MAXLEVEL";
    "Least severe level that goes here; access lines have \"info\".";
    "address = \"/dev/log\", level = \"notice\""
    "minlevel" in TARGET, OneOf(LEVELS), default "\"emerg\"", haproxy "log MINLEVEL";
    "Most severe level: lines above it get this one, so that a console is not flooded.";
    "address = \"/dev/log\", minlevel = \"err\""
    "len" in TARGET, Integer(80, 65_535), default "1024 for text in datagrams, otherwise 8192", haproxy "len";
    "Longest line with its header, in bytes; the rest is cut off. A JSON object is one still: it ends behind its last whole item, or in the middle of a text.";
    "address = \"127.0.0.1:514\", len = 8192"
    "format" in TARGET, OneOf(HEADERS), default "\"local\" for syslog (with `log-send-hostname` and over TCP \"rfc3164\"), otherwise \"raw\"", haproxy "format";
    "What stands before the line: \"raw\" nothing, \"local\" RFC 3164 without host name, \"rfc3164\" with it, \"rfc5424\", \"priority\" `<134>`, \"short\" `<6>` (what systemd reads), \"timed\" the same and the date, \"iso\" the date alone.";
    "address = \"127.0.0.1:514\", format = \"rfc5424\""
    "sample" in TARGET, Text, default "all", haproxy "sample";
    "Which lines out of how many: \"1,3-5:10\" takes four of ten.";
    "address = \"127.0.0.1:514\", sample = \"1:10\""
    "framing" in TARGET, OneOf(&["octet-counting", "newline"]), default "\"octet-counting\"", haproxy "log-proto";
    "How messages over TCP are told apart (RFC 6587).";
    "address = \"tcp@192.0.2.7:514\", framing = \"newline\""

    "capture" in RULES, Table(Scope::Capture), default "", haproxy "capture";
    "Keep a value for the log: `%hr` has it, and `capture.req.hdr` by its place.";
    "{ capture = { value = \"src\", len = 40 } }"
    "set-log-level" in RULES, OneOf(LINE_LEVELS), default "\"info\"", haproxy "set-log-level";
    "Level of the log line; \"silent\": none.";
    "{ set-log-level = \"silent\" }"

    "size" in RING, Size(4096, 1 << 30), default "\"64k\"", haproxy "size";
    "Bytes that it holds; the oldest lines make room.";
    "size = \"1M\""
    "description" in RING, Text, default "none", haproxy "description";
    "What it is for, as `show events` says it.";
    "description = \"the last requests\""
}

keywords! {
    /// Keywords about captures, of HTTP mode.
    HTTP_KEYWORDS, mode Http;

    "trace.context" in FRONTEND_DEFAULTS, Flag, default "false", haproxy "";
    "Give each request its place in a trace (W3C Trace Context): a `traceparent` of the client goes to the server as it is, and where there is none, or one that is no good, a trace begins.";
    "trace.context = true"
    "trace.to" in FRONTEND_DEFAULTS, Text, default "none", haproxy "";
    "Record a span of each request and send it to this OpenTelemetry collector (OTLP over HTTP, or HTTPS with `trace.tls`). Servers hear of that span as their parent; `trace.context` is implied.";
    "trace.to = \"http://127.0.0.1:4318/v1/traces\""
    "trace.tls" in FRONTEND_DEFAULTS, Table(Scope::ServerTls), default "the authorities that the system trusts", haproxy "";
    "How a collector of an https URL is spoken to, as [tls](#tls) of a server.";
    "trace.to = \"https://collector.internal:4318\"\ntrace.tls.ca-file = \"internal-ca.pem\""
    "trace.sample" in FRONTEND_DEFAULTS, Text, default "\"100%\"", haproxy "";
    "Share of the traces that begin here and are recorded. Who comes with a trace has decided already.";
    "trace.to = \"http://127.0.0.1:4318\"\ntrace.sample = \"0.5%\""
    "trace.service" in FRONTEND_DEFAULTS, Text, default "\"shardgate\"", haproxy "";
    "`service.name` of the spans.";
    "trace.to = \"http://127.0.0.1:4318\"\ntrace.service = \"edge\""

    "capture.request-header" in FRONTEND, Tables(Scope::CaptureHeader), default "", haproxy "capture request header";
    "Request headers to keep for `%hr` and `capture.req.hdr`: the last value of each name, as the client sent it.";
    "capture.request-header = [{ name = \"Host\", len = 32 }, { name = \"User-Agent\", len = 200 }]"
    "capture.response-header" in FRONTEND, Tables(Scope::CaptureHeader), default "", haproxy "capture response header";
    "Response headers to keep for `%hs` and `capture.res.hdr`.";
    "capture.response-header = [{ name = \"Server\", len = 32 }]"
    "capture.cookie" in FRONTEND, Table(Scope::CaptureHeader), default "", haproxy "capture cookie";
    "A cookie to keep for `%CC` and `%CS`, with its name; the name may be the beginning of one.";
    "capture.cookie = { name = \"SESSION=\", len = 40 }"
    "name" in CAPTURE, Text, default "", haproxy "capture request header NAME";
    "Name of the header or cookie. A place of headers without a name is filled by rules: `capture = { value = \"src\", id = 0 }`.";
    "name = \"Host\", len = 32"
    "len" in CAPTURE, Integer(1, 8192), default "", haproxy "len";
    "Longest value that is kept, in bytes.";
    "name = \"Host\", len = 32"
}
