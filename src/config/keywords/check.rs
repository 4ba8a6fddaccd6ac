//! The rows about health checks and what follows from them, of both modes. Order within a scope is the order of the
//! documentation; the timing of a check is in `table`.

use std::time::Duration;

use super::Kind::*;
use super::{Keyword, KeywordMode, Kind, Scope, Scopes};

const BACKEND: Scopes = Scopes::of(&[Scope::Backend, Scope::Listen]);
const BACKEND_DEFAULTS: Scopes = Scopes::of(&[Scope::Backend, Scope::Listen, Scope::Defaults]);
const SERVER_DEFAULTS: Scopes = Scopes::of(&[Scope::Server, Scope::ServerTemplate, Scope::DefaultServer]);
const TCP_CHECK: Scopes = Scopes::of(&[Scope::TcpCheck]);
const HTTPCHK: Scopes = Scopes::of(&[Scope::HttpChk]);
const HTTP_CHECK: Scopes = Scopes::of(&[Scope::HttpCheck]);
const CHECK_SEND: Scopes = Scopes::of(&[Scope::HttpCheckSend]);
const CHECK_REQUEST: Scopes = Scopes::of(&[Scope::HttpChk, Scope::HttpCheckSend]);
const CHECK_CONNECT: Scopes = Scopes::of(&[Scope::CheckConnect]);

const SERVER: Scopes = Scopes::of(&[Scope::Server]);
const SOME_TIME: Kind = Duration(Duration::from_millis(1));
const COUNT: Kind = Integer(0, u32::MAX as i64);
const PORT: Kind = Integer(1, u16::MAX as i64);

keywords! {
    /// Keywords about checks.
    KEYWORDS, mode Any;

    "abortonclose" in BACKEND_DEFAULTS, Flag, default "false", haproxy "option abortonclose";
    "Give up sessions and requests that wait in the queue, for a connection or for a response when their client has closed, half-closed included.";
    "abortonclose = true"
    "fullconn" in BACKEND_DEFAULTS, COUNT, default "a tenth of the `maxconn` of the process", haproxy "fullconn";
    "Sessions of the backend at which its servers reach their `maxconn`; with fewer they take between `minconn` and that.";
    "fullconn = 1000"
    "httpchk" in BACKEND_DEFAULTS, FlagOrTable(Scope::HttpChk), default "false", haproxy "option httpchk";
    "Health checks are HTTP requests.";
    "httpchk = { method = \"GET\", uri = \"/health\" }"
    "http-check" in BACKEND, Tables(Scope::HttpCheck), default "one request, status 200 to 399", haproxy "http-check";
    "What an HTTP health check does, step by step (see [http-check](#http-check)).";
    "httpchk = true\nhttp-check = [{ expect-status = \"200-299\" }]"
    "disable-on-404" in BACKEND_DEFAULTS, Flag, default "false", haproxy "http-check disable-on-404";
    "A server that is up and whose check answers 404 gets no new load; clients that persistence sends there are still served.";
    "httpchk = true\ndisable-on-404 = true"
    "grpc-check" in BACKEND_DEFAULTS, Text, default "none", haproxy "";
    "Health checks are calls of `grpc.health.v1.Health/Check` over HTTP/2, for the service of this name; \"\" asks for the server as a whole. What answers SERVING is up.";
    "grpc-check = \"shop.Cart\""
    "minconn" in SERVER_DEFAULTS, COUNT, default "`maxconn`", haproxy "minconn";
    "Concurrent requests while the backend is far from `fullconn`.";
    "minconn = 10\nmaxconn = 100"
    "observe" in SERVER_DEFAULTS, OneOf(&["layer4", "layer7"]), default "only checks", haproxy "observe";
    "Real traffic counts beside the checks: failed connections (\"layer4\"), or those and bad responses: 5xx but 501 and 505, broken, late or missing (\"layer7\").";
    "check = true\nobserve = \"layer4\""
    "error-limit" in SERVER_DEFAULTS, Integer(1, u32::MAX as i64), default "10", haproxy "error-limit";
    "Errors in a row, over all cores, after which `on-error` happens.";
    "check = true\nobserve = \"layer4\"\nerror-limit = 5"
    "on-error" in SERVER_DEFAULTS, OneOf(&["fastinter", "fail-check", "sudden-death", "mark-down"]), default "\"fail-check\"", haproxy "on-error";
    "What such a row of errors means: check soon, a failed check, a failed check after which one more takes the server down, or down. The next check follows after `fastinter` in any case.";
    "check = true\nobserve = \"layer4\"\non-error = \"mark-down\""
    "track" in SERVER, Text, default "none", haproxy "track";
    "Follow the state of another server, as `backend/server` or as a server of the same backend, instead of checking.";
    "address = \"127.0.0.1:9001\"\ntrack = \"s0\""
    "agent-check" in SERVER_DEFAULTS, Flag, default "false", haproxy "agent-check";
    "Ask an agent on the server, which answers with one line of words: `up`, `down`, `stopped`, `fail`, `ready`, `drain`, `maint`, `75%` (of the weight), `maxconn:30`. An agent that cannot be reached changes nothing.";
    "agent-check = true\nagent-port = 9777"
    "agent-port" in SERVER_DEFAULTS, PORT, default "", haproxy "agent-port";
    "Port of the agent.";
    "agent-check = true\nagent-port = 9777"
    "agent-addr" in SERVER_DEFAULTS, Text, default "that of the server", haproxy "agent-addr";
    "IP address of the agent.";
    "agent-check = true\nagent-port = 9777\nagent-addr = \"127.0.0.1\""
    "agent-inter" in SERVER_DEFAULTS, SOME_TIME, default "`inter`", haproxy "agent-inter";
    "Time between two questions to the agent.";
    "agent-check = true\nagent-port = 9777\nagent-inter = \"5s\""
    "agent-send" in SERVER_DEFAULTS, Text, default "nothing", haproxy "agent-send";
    "Text that the agent gets first.";
    "agent-check = true\nagent-port = 9777\nagent-send = \"web1\\n\""
    "method" in CHECK_REQUEST, Text, default "\"OPTIONS\", \"GET\" with `websocket`", haproxy "method";
    "Method of the request.";
    "method = \"HEAD\""
    "uri" in CHECK_REQUEST, Text, default "\"/\"", haproxy "uri";
    "Target of the request.";
    "uri = \"/health\""
    "version" in CHECK_REQUEST, OneOf(&["HTTP/1.0", "HTTP/1.1"]), default "\"HTTP/1.0\", \"HTTP/1.1\" with a Host", haproxy "version";
    "Version of the request.";
    "version = \"HTTP/1.1\", hdr = { Host = \"www.example.com\" }"
    "hdr" in CHECK_REQUEST, NamedTexts, default "", haproxy "hdr";
    "Headers of the request. `Host` has nothing to do with the address of the server.";
    "hdr = { Host = \"www.example.com\" }"
    "body" in CHECK_SEND, Text, default "", haproxy "body";
    "Body of the request.";
    "method = \"POST\", body = \"ping\""
    "websocket" in HTTPCHK, Flag, default "false", haproxy "";
    "The check is a WebSocket handshake: the answer must be 101 with the right Sec-WebSocket-Accept.";
    "uri = \"/ws\", websocket = true"
    "send" in HTTP_CHECK, Table(Scope::HttpCheckSend), default "", haproxy "http-check send";
    "Send a request.";
    "{ send = { method = \"GET\", uri = \"/health\" } }"
    "connect" in HTTP_CHECK, Table(Scope::CheckConnect), default "", haproxy "http-check connect";
    "Open a connection; without it there is one to the server's address.";
    "{ connect = { port = 8080 } }"
    "expect-status" in HTTP_CHECK, Text, default "", haproxy "http-check expect status";
    "The status must be one of these: \"200\", \"200-299,404\".";
    "{ expect-status = \"200-299\" }"
    "expect-rstatus" in HTTP_CHECK, Text, default "", haproxy "http-check expect rstatus";
    "The status must match a regular expression.";
    "{ expect-rstatus = \"^2..$\" }"
    "expect-string" in HTTP_CHECK, Text, default "", haproxy "http-check expect string";
    "The body must contain this.";
    "{ expect-string = \"healthy\" }"
    "expect-rstring" in HTTP_CHECK, Text, default "", haproxy "http-check expect rstring";
    "The body must match a regular expression.";
    "{ expect-rstring = \"(?i)ok\" }"
    "expect-hdr" in HTTP_CHECK, NamedTexts, default "", haproxy "http-check expect hdr";
    "These headers must have these values.";
    "{ expect-hdr = { X-Health = \"ok\" } }"
    "expect-fhdr" in HTTP_CHECK, NamedTexts, default "", haproxy "http-check expect fhdr";
    "These headers must have these values as a whole: a comma list is not taken apart.";
    "{ expect-fhdr = { X-Health = \"ok, ready\" } }"
    "not-expect-status" in HTTP_CHECK, Text, default "", haproxy "http-check expect ! status";
    "The status must be none of these.";
    "{ not-expect-status = \"500-599\" }"
    "not-expect-rstatus" in HTTP_CHECK, Text, default "", haproxy "http-check expect ! rstatus";
    "The status must not match a regular expression.";
    "{ not-expect-rstatus = \"^5\" }"
    "not-expect-string" in HTTP_CHECK, Text, default "", haproxy "http-check expect ! string";
    "The body must not contain this.";
    "{ not-expect-string = \"error\" }"
    "not-expect-rstring" in HTTP_CHECK, Text, default "", haproxy "http-check expect ! rstring";
    "The body must not match a regular expression.";
    "{ not-expect-rstring = \"(?i)fail\" }"
    "not-expect-hdr" in HTTP_CHECK, NamedTexts, default "", haproxy "http-check expect ! hdr";
    "These headers must not have these values.";
    "{ not-expect-hdr = { X-Health = \"bad\" } }"
    "not-expect-fhdr" in HTTP_CHECK, NamedTexts, default "", haproxy "http-check expect ! fhdr";
    "These headers must not have these values as a whole.";
    "{ not-expect-fhdr = { X-Health = \"bad, worse\" } }"
    "connect" in TCP_CHECK, Table(Scope::CheckConnect), default "", haproxy "tcp-check connect";
    "Open a connection; without it there is one to the address of the check.";
    "{ connect = { port = 8080 } }"
    "port" in CHECK_CONNECT, PORT, default "of the check", haproxy "port";
    "Port to connect to.";
    "port = 8080"
    "addr" in CHECK_CONNECT, Text, default "of the check", haproxy "addr";
    "IP address to connect to.";
    "addr = \"127.0.0.1\""
    "send-proxy" in CHECK_CONNECT, Flag, default "as the check", haproxy "send-proxy";
    "Start with a PROXY header.";
    "send-proxy = true"
}
