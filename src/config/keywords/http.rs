//! The rows of HTTP mode. Order within a scope is the order of the documentation.

use std::time::Duration;

use super::Kind::*;
use super::{Keyword, KeywordMode, Kind, Scope, Scopes};
use crate::base::limits::{BUF_BYTES, HEADERS_MAX};

const FRONTEND_DEFAULTS: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Defaults]);
const ONLY_BACKEND: Scopes = Scopes::of(&[Scope::Backend]);
const BACKEND: Scopes = Scopes::of(&[Scope::Backend, Scope::Listen]);
const BACKEND_DEFAULTS: Scopes = Scopes::of(&[Scope::Backend, Scope::Listen, Scope::Defaults]);
const PROXY: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Backend]);
const PROXY_DEFAULTS: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Backend, Scope::Defaults]);
const SERVER: Scopes = Scopes::of(&[Scope::Server]);
const SERVER_DEFAULTS: Scopes = Scopes::of(&[Scope::Server, Scope::ServerTemplate, Scope::DefaultServer]);
const REQUEST: Scopes = Scopes::of(&[Scope::Rule]);
const RESPONSE: Scopes = Scopes::of(&[Scope::ResponseRule]);
const BOTH: Scopes = Scopes::of(&[Scope::Rule, Scope::ResponseRule]);
const HEADER_VALUE: Scopes = Scopes::of(&[Scope::HeaderValue]);
const DEL_HEADER: Scopes = Scopes::of(&[Scope::DelHeader]);
const REPLACE_HEADER: Scopes = Scopes::of(&[Scope::ReplaceHeader]);
const REPLACE: Scopes = Scopes::of(&[Scope::ReplaceHeader, Scope::ReplaceUri]);
const REPLY: Scopes = Scopes::of(&[Scope::Reply]);
const REDIRECT: Scopes = Scopes::of(&[Scope::Redirect]);
const AUTH: Scopes = Scopes::of(&[Scope::Auth]);
const CAPTURE: Scopes = Scopes::of(&[Scope::Capture]);
const WAIT: Scopes = Scopes::of(&[Scope::WaitForBody]);
const SET_TIMEOUT: Scopes = Scopes::of(&[Scope::SetTimeout]);
const SET_STATUS: Scopes = Scopes::of(&[Scope::SetStatus]);
const ADDRESS_HEADER: Scopes = Scopes::of(&[Scope::AddressHeader]);
const COOKIE: Scopes = Scopes::of(&[Scope::Cookie]);
const HTTP_ERRORS: Scopes = Scopes::of(&[Scope::HttpErrors]);
const USERLIST: Scopes = Scopes::of(&[Scope::Userlist]);
const USER: Scopes = Scopes::of(&[Scope::User]);
const GROUP: Scopes = Scopes::of(&[Scope::Group]);

const ANY_TIME: Kind = Duration(Duration::ZERO);
const SOME_TIME: Kind = Duration(std::time::Duration::from_millis(1));
const COUNT_OR_ALL: Kind = Integer(-1, u32::MAX as i64);
const HEAD_SIZE: Kind = Size(256, BUF_BYTES as u64);

const NORMALIZERS: &[&str] = &[
    "fragment-encode",
    "fragment-strip",
    "path-merge-slashes",
    "path-strip-dot",
    "path-strip-dotdot",
    "path-strip-dotdot full",
    "percent-decode-unreserved",
    "percent-decode-unreserved strict",
    "percent-to-uppercase",
    "percent-to-uppercase strict",
    "query-sort-by-name",
];

keywords! {
    /// Keywords that need HTTP mode.
    KEYWORDS, mode Http;

    "http-keep-alive" in PROXY_DEFAULTS, Flag, default "true", haproxy "option http-keep-alive";
    "Keep connections open after a response, to the client and to the server.";
    "http-keep-alive = true"
    "http-server-close" in PROXY_DEFAULTS, Flag, default "false", haproxy "option http-server-close";
    "Close the connection to the server after each response, and keep that to the client.";
    "http-server-close = true"
    "httpclose" in PROXY_DEFAULTS, Flag, default "false", haproxy "option httpclose";
    "Close both connections after each response.";
    "httpclose = true"
    "timeout.http-request" in FRONTEND_DEFAULTS, ANY_TIME, default "`timeout.client`", haproxy "timeout http-request";
    "How long a client may take to send a whole request head.";
    "timeout.http-request = \"10s\""
    "timeout.http-keep-alive" in FRONTEND_DEFAULTS, ANY_TIME, default "`timeout.http-request`", haproxy "timeout http-keep-alive";
    "How long a client may wait with its next request.";
    "timeout.http-keep-alive = \"15s\""
    "timeout.tarpit" in FRONTEND_DEFAULTS, ANY_TIME, default "`timeout.connect` of the defaults", haproxy "timeout tarpit";
    "How long the action `tarpit` holds a client.";
    "timeout.tarpit = \"20s\""
    "max-header-bytes" in FRONTEND_DEFAULTS, HEAD_SIZE, default "\"16k\"", haproxy "tune.bufsize";
    "Bytes of a whole request head; larger ones are answered with 431.";
    "max-header-bytes = \"8k\""
    "max-headers" in FRONTEND_DEFAULTS, Integer(1, HEADERS_MAX as i64), default "101", haproxy "tune.http.maxhdr";
    "Header fields of a request; more are answered with 431.";
    "max-headers = 60"
    "max-uri-bytes" in FRONTEND_DEFAULTS, HEAD_SIZE, default "`max-header-bytes`", haproxy "";
    "Bytes of a request target; longer ones are answered with 414.";
    "max-uri-bytes = \"4k\""
    "ambiguous-messages" in FRONTEND_DEFAULTS, OneOf(&["reject", "repair"]), default "\"reject\"", haproxy "";
    "What to do about the two ambiguities that RFC 9112 lets a proxy repair: Content-Length beside Transfer-Encoding, and folded header lines. \"repair\" does what HAProxy does; all other ambiguities are refused always.";
    "ambiguous-messages = \"repair\""
    "forwardfor" in PROXY_DEFAULTS, FlagOrTable(Scope::AddressHeader), default "false", haproxy "option forwardfor";
    "Tell the server the address of the client in `X-Forwarded-For`.";
    "forwardfor = { except = [\"127.0.0.0/8\"], if-none = true }"
    "forward-client-cert" in FRONTEND_DEFAULTS, Flag, default "false", haproxy "";
    "Tell the server about the TLS connection and the certificate of the client: `X-SSL` (1 or 0), and with a certificate `X-SSL-Client-Verify` (0: it is good), `X-SSL-Client-DN`, `X-SSL-Client-CN`, `X-SSL-Issuer`, `X-SSL-Client-Serial`, `X-SSL-Client-SHA1`, `X-SSL-Client-NotBefore`, `X-SSL-Client-NotAfter`, and `Client-Cert` with `Client-Cert-Chain` (RFC 9440). Whatever a request has under `X-SSL`, `X-SSL-*`, `Client-Cert` and `Client-Cert-Chain` is removed first, on all binds of the frontend, so that a server may believe what it gets.";
    "forward-client-cert = true"
    "originalto" in PROXY_DEFAULTS, FlagOrTable(Scope::AddressHeader), default "false", haproxy "option originalto";
    "Tell the server the address that the client connected to in `X-Original-To`.";
    "originalto = true"
    "forwarded" in PROXY_DEFAULTS, Flag, default "false", haproxy "option forwarded";
    "Tell the server about the client in the header `Forwarded` (RFC 7239).";
    "forwarded = true"
    "unique-id-format" in FRONTEND_DEFAULTS, Text, default "", haproxy "unique-id-format";
    "Format of the id that each request gets. `%rt` is another number for each request of the process.";
    "unique-id-format = \"%{+X}o %ci:%cp_%fi:%fp_%Ts_%rt:%pid\""
    "unique-id-header" in FRONTEND_DEFAULTS, Text, default "none", haproxy "unique-id-header";
    "Header that carries the unique id to the server.";
    "unique-id-format = \"%[uuid]\"\nunique-id-header = \"X-Request-Id\""
    "location" in FRONTEND_DEFAULTS, OneOf(&["same-host"]), default "left alone", haproxy "";
    "\"same-host\": redirects of the server to the host of the request get the scheme that the client uses; other hosts are left alone.";
    "location = \"same-host\""
    "response-rules" in PROXY, Tables(Scope::ResponseRule), default "", haproxy "http-response";
    "Rules on each response (see [response rules](#response-rules)).";
    "response-rules = [{ del-header = \"Server\" }]"
    "after-response-rules" in PROXY, Tables(Scope::ResponseRule), default "", haproxy "http-after-response";
    "Rules on each response whoever made it: a server, a rule, or Shardgate itself with a redirect or an error page. They run last, and change headers, status and variables; none of them ends a response.";
    "after-response-rules = [{ set-header = { name = \"Strict-Transport-Security\", value = \"max-age=31536000\" } }]"
    "rules" in ONLY_BACKEND, Tables(Scope::Rule), default "", haproxy "http-request";
    "Rules on each request, after those of the frontend (see [rules](#rules)).";
    "rules = [{ set-header = { name = \"X-Backend\", value = \"app\" } }]"
    "acl" in ONLY_BACKEND, NamedTexts, default "", haproxy "acl";
    "Named conditions for the rules of the backend.";
    "acl.local = \"src 127.0.0.0/8\""
    "errorfile" in PROXY_DEFAULTS, NamedTexts, default "built-in pages", haproxy "errorfile";
    "Whole responses, headers included, for errors that Shardgate answers itself: status and file.";
    "errorfile.503 = \"/etc/503.http\""
    "errorloc302" in PROXY_DEFAULTS, NamedTexts, default "none", haproxy "errorloc302, errorloc";
    "Where errors that Shardgate would answer itself send the client instead: status and URL. It comes back with the same method.";
    "errorloc302.503 = \"https://status.example.com/\""
    "errorloc303" in PROXY_DEFAULTS, NamedTexts, default "none", haproxy "errorloc303";
    "The same, and the client comes there with GET whatever its request was.";
    "errorloc303.503 = \"https://status.example.com/\""
    "http-error" in PROXY_DEFAULTS, Tables(Scope::Reply), default "built-in pages", haproxy "http-error";
    "What errors that Shardgate answers itself look like, written here: status, content, headers. They are fixed texts.";
    "http-error = [{ status = 503, content-type = \"text/plain\", string = \"back in a minute\" }]"
    "errorfiles" in PROXY_DEFAULTS, Texts, default "none", haproxy "errorfiles";
    "Sections `[http-errors.NAME]` whose pages are used where `errorfile` has none.";
    "errorfiles = \"site\""

    "cookie" in BACKEND_DEFAULTS, Table(Scope::Cookie), default "no persistence", haproxy "cookie";
    "Persistence by cookie: a client comes back to the server that it had.";
    "cookie = { name = \"SRV\", mode = \"insert\", indirect = true, nocache = true }"
    "dynamic-cookie-key" in BACKEND_DEFAULTS, Text, default "", haproxy "dynamic-cookie-key";
    "Secret from which dynamic cookies are made; load balancers with the same one agree on them.";
    "cookie = { name = \"SRV\", mode = \"insert\", dynamic = true }\ndynamic-cookie-key = \"change me\""
    "ignore-persist" in BACKEND, Text, default "never", haproxy "ignore-persist";
    "Requests that are balanced in spite of their cookie: a condition.";
    "ignore-persist = \"{ path_beg /static/ }\""
    "force-persist" in BACKEND, Text, default "never", haproxy "force-persist";
    "Requests that reach the server of their cookie even if it is down: a condition.";
    "force-persist = \"{ src 10.0.0.0/8 }\""
    "http-reuse" in BACKEND_DEFAULTS, OneOf(&["never", "safe", "aggressive", "always"]), default "\"safe\"", haproxy "http-reuse";
    "Which requests may use an idle server connection that another session opened.";
    "http-reuse = \"always\""
    "retry-on" in BACKEND_DEFAULTS, Texts, default "\"conn-failure\"", haproxy "retry-on";
    "Failures that are retried: none, conn-failure, empty-response, junk-response, response-timeout, all-retryable-errors, or statuses. Never once a byte of the response went out, nor if the server may have acted on a request that is not idempotent.";
    "retry-on = [\"conn-failure\", \"empty-response\", \"503\"]"

    "cookie" in SERVER, Text, default "none", haproxy "cookie";
    "Value of the persistence cookie that means this server.";
    "cookie = \"s1\""
    "pool-max-conn" in SERVER_DEFAULTS, COUNT_OR_ALL, default "-1", haproxy "pool-max-conn";
    "Idle connections that are kept, over all cores. -1: no limit.";
    "pool-max-conn = 100"
    "pool-purge-delay" in SERVER_DEFAULTS, ANY_TIME, default "\"5s\"", haproxy "pool-purge-delay";
    "How often half of the idle connections that were not needed are closed.";
    "pool-purge-delay = \"10s\""
    "max-reuse" in SERVER_DEFAULTS, COUNT_OR_ALL, default "-1", haproxy "max-reuse";
    "Further requests on one connection. -1: no limit.";
    "max-reuse = 1000"
    "proto" in SERVER_DEFAULTS, OneOf(&["h1", "h2"]), default "\"h1\"", haproxy "proto";
    "What to speak to the server: HTTP/1.1, or HTTP/2, on a clear connection by prior knowledge (h2c). Servers of gRPC need \"h2\".";
    "proto = \"h2\""
    "max-streams" in SERVER_DEFAULTS, Integer(1, 1 << 20), default "100", haproxy "tune.h2.be.max-concurrent-streams";
    "Requests at once on one connection of HTTP/2 to the server; the server may allow less. When less than an eighth of them is free the next connection is opened, before it is needed.";
    "proto = \"h2\"\nmax-streams = 50"

    "allow" in BOTH, True, default "", haproxy "allow";
    "Leave out the rules that follow, but for those that route a request (`use-backend`, `use-server`).";
    "{ allow = true, if = \"{ src 10.0.0.0/8 }\" }"
    "deny" in BOTH, TrueOrTable(Scope::Reply), default "", haproxy "deny";
    "Answer with an error, 403 (502 instead of a response) unless told otherwise, and stop.";
    "{ deny = { status = 429 }, if = \"{ src 192.0.2.0/24 }\" }"
    "return" in BOTH, TrueOrTable(Scope::Reply), default "", haproxy "return";
    "Answer with a reply of your own, and stop.";
    "{ return = { status = 200, content-type = \"text/plain\", string = \"ok\\n\" }, if = \"{ src 10.0.0.0/8 }\" }"
    "tarpit" in REQUEST, TrueOrTable(Scope::Reply), default "", haproxy "tarpit";
    "Keep the client waiting for `timeout.tarpit`, then answer, 500 unless told otherwise.";
    "{ tarpit = true, if = \"{ path_beg /wp-login }\" }"
    "redirect" in REQUEST, Table(Scope::Redirect), default "", haproxy "redirect";
    "Answer with a redirect.";
    "{ redirect = { scheme = \"https\", code = 301 }, if = \"{ dst_port 80 }\" }"
    "auth" in REQUEST, TrueOrTable(Scope::Auth), default "", haproxy "auth";
    "Ask for a name and a password (401). The condition says for whom: usually `unless` the credentials are right.";
    "{ auth = { realm = \"Staff\" }, unless = \"{ src 10.0.0.0/8 }\" }"
    "set-header" in BOTH, Table(Scope::HeaderValue), default "", haproxy "set-header";
    "Remove all headers of that name and add this one.";
    "{ set-header = { name = \"X-Forwarded-Proto\", value = \"https\" } }"
    "add-header" in BOTH, Table(Scope::HeaderValue), default "", haproxy "add-header";
    "Add a header.";
    "{ add-header = { name = \"Via\", value = \"1.1 lb1\" } }"
    "del-header" in BOTH, TextOrTable(Scope::DelHeader), default "", haproxy "del-header";
    "Remove headers by name.";
    "{ del-header = \"X-Powered-By\" }"
    "replace-header" in BOTH, Table(Scope::ReplaceHeader), default "", haproxy "replace-header";
    "Replace what a regular expression finds in a header's whole value.";
    "{ replace-header = { name = \"Cookie\", regex = \"foo=([^;]*)\", value = \"foo=\\\\1\" } }"
    "replace-value" in BOTH, Table(Scope::ReplaceHeader), default "", haproxy "replace-value";
    "The same for each value of a comma list.";
    "{ replace-value = { name = \"X-Forwarded-For\", regex = \"^192\\\\.168\\\\.(.*)$\", value = \"172.16.\\\\1\" } }"
    "set-path" in REQUEST, Text, default "", haproxy "set-path";
    "Replace the path of the request: a format.";
    "{ set-path = \"/app%[path]\" }"
    "replace-path" in REQUEST, Table(Scope::ReplaceUri), default "", haproxy "replace-path";
    "Replace what a regular expression finds in the path.";
    "{ replace-path = { regex = \"^/old/(.*)\", value = \"/new/\\\\1\" } }"
    "set-query" in REQUEST, Text, default "", haproxy "set-query";
    "Replace the query of the request: a format.";
    "{ set-query = \"%[query]&from=lb\" }"
    "set-pathq" in REQUEST, Text, default "", haproxy "set-pathq";
    "Replace path and query of the request together: a format.";
    "{ set-pathq = \"/app%[pathq]\" }"
    "replace-pathq" in REQUEST, Table(Scope::ReplaceUri), default "", haproxy "replace-pathq";
    "Replace what a regular expression finds in path and query.";
    "{ replace-pathq = { regex = \"^/(.*)[?]lang=de$\", value = \"/de/\\\\1\" } }"
    "set-var-fmt" in BOTH, Table(Scope::SetVar), default "", haproxy "set-var-fmt";
    "Store a text in a variable, a format with `%[...]`, and go on.";
    "{ set-var-fmt = { name = \"txn.from\", value = \"%[src]:%[src_port]\" } }"
    "set-uri" in REQUEST, Text, default "", haproxy "set-uri";
    "Replace the whole target of the request: a format.";
    "{ set-uri = \"/maintenance\" }"
    "replace-uri" in REQUEST, Table(Scope::ReplaceUri), default "", haproxy "replace-uri";
    "Replace what a regular expression finds in the target.";
    "{ replace-uri = { regex = \"^/a(.*)\", value = \"/b\\\\1\" } }"
    "set-method" in REQUEST, Text, default "", haproxy "set-method";
    "Replace the method: a format.";
    "{ set-method = \"GET\", if = \"{ method HEAD }\" }"
    "set-status" in RESPONSE, Table(Scope::SetStatus), default "", haproxy "set-status";
    "Replace the status of the response.";
    "{ set-status = { status = 503, reason = \"Slow Down\" } }"
    "unset-var" in BOTH, Text, default "", haproxy "unset-var";
    "Forget a variable.";
    "{ unset-var = \"txn.x\" }"
    "set-var" in RESPONSE, Table(Scope::SetVar), default "", haproxy "set-var";
    "Store the value of an expression in a variable, and go on.";
    "{ set-var = { name = \"txn.code\", value = \"status\" } }"
    "use-server" in REQUEST, Text, default "", haproxy "use-server";
    "Send to this server of the backend if it is usable.";
    "{ use-server = \"s0\", if = \"{ path_beg /admin }\" }"
    "wait-for-body" in REQUEST, Table(Scope::WaitForBody), default "", haproxy "wait-for-body";
    "Wait for the body of the request, as far as the buffer holds it.";
    "{ wait-for-body = { time = \"2s\", at-least = \"1k\" } }"
    "set-timeout" in REQUEST, Table(Scope::SetTimeout), default "", haproxy "set-timeout";
    "Replace a timeout for this request.";
    "{ set-timeout = { name = \"server\", value = \"90s\" } }"
    "set-nice" in BOTH, Integer(-1024, 1024), default "", haproxy "set-nice";
    "Accepted and ignored with a warning: cores do not queue tasks by niceness.";
    "{ set-nice = 1 }"
    "strict-mode" in BOTH, Flag, default "true", haproxy "strict-mode";
    "Whether a rewrite that does not fit ends the request with 500; otherwise it is left out.";
    "{ strict-mode = false }"
    "early-hint" in REQUEST, Table(Scope::HeaderValue), default "", haproxy "early-hint";
    "Add a header to the 103 that goes out before the request is forwarded.";
    "{ early-hint = { name = \"Link\", value = \"</a.css>; rel=preload\" } }"
    "set-src" in REQUEST, Text, default "", haproxy "set-src";
    "Take this address for that of the client: an expression.";
    "{ set-src = \"src\" }"
    "set-dst" in REQUEST, Text, default "", haproxy "set-dst";
    "Take this address for that which the client connected to: an expression.";
    "{ set-dst = \"dst\" }"
    "set-src-port" in REQUEST, Text, default "", haproxy "set-src-port";
    "Take this port for that of the client: an expression.";
    "{ set-src-port = \"int(4711)\" }"
    "set-dst-port" in REQUEST, Text, default "", haproxy "set-dst-port";
    "Take this port for that which the client connected to: an expression.";
    "{ set-dst-port = \"hdr_val(x-forwarded-port)\" }"
    "normalize-uri" in REQUEST, OneOf(NORMALIZERS), default "", haproxy "normalize-uri";
    "Bring the target one step towards its normal form (RFC 3986 section 6).";
    "{ normalize-uri = \"path-merge-slashes\" }"
    "set-priority-class" in REQUEST, Text, default "", haproxy "set-priority-class";
    "Order in the queue of a server, lower first: an expression.";
    "{ set-priority-class = \"int(1)\" }"
    "set-priority-offset" in REQUEST, Text, default "", haproxy "set-priority-offset";
    "Milliseconds later (or earlier) in the queue within a class: an expression.";
    "{ set-priority-offset = \"int(-100)\" }"
    "if" in RESPONSE, Text, default "always", haproxy "if";
    "When the rule applies: a condition.";
    "{ del-header = \"Server\", if = \"{ status 200 }\" }"
    "unless" in RESPONSE, Text, default "never", haproxy "unless";
    "When the rule does not apply: a condition. Not together with `if`.";
    "{ del-header = \"Server\", unless = \"{ status 200 }\" }"

    "name" in HEADER_VALUE, Text, default "", haproxy "set-header NAME";
    "Name of the header.";
    "name = \"X-Client\", value = \"%[src]\""
    "value" in HEADER_VALUE, Text, default "", haproxy "set-header NAME FMT";
    "Its value: a format.";
    "name = \"X-Port\", value = \"%[dst_port]\""
    "name" in DEL_HEADER, Text, default "", haproxy "del-header NAME";
    "Name of the header, or the part of it that `match` says.";
    "name = \"X-Internal-\", match = \"beg\""
    "match" in DEL_HEADER, OneOf(&["str", "beg", "end", "sub", "reg"]), default "\"str\"", haproxy "del-header -m";
    "How names are compared: whole, beginning, end, part, or regular expression.";
    "name = \"^x-(a|b)$\", match = \"reg\""
    "name" in REPLACE_HEADER, Text, default "", haproxy "replace-header NAME";
    "Name of the header.";
    "name = \"Host\", regex = \"^www\\\\.(.*)\", value = \"\\\\1\""
    "regex" in REPLACE, Text, default "", haproxy "replace-header MATCH-REGEX";
    "What to find.";
    "name = \"Host\", regex = \"a\", value = \"b\""
    "value" in REPLACE, Text, default "", haproxy "replace-header REPLACE-FMT";
    "What to put there: a format in which `\\1` is the first group.";
    "name = \"Host\", regex = \"a(.)\", value = \"b\\\\1\""

    "status" in REPLY, Integer(200, 599), default "of the action", haproxy "status";
    "Status of the answer.";
    "status = 404"
    "content-type" in REPLY, Text, default "\"text/plain\" with a string", haproxy "content-type";
    "Media type of the body.";
    "status = 200, content-type = \"application/json\", string = \"{}\""
    "string" in REPLY, Text, default "", haproxy "string";
    "The body.";
    "status = 200, string = \"ok\""
    "file" in REPLY, Text, default "", haproxy "file";
    "File with the body, read at load.";
    "status = 200, content-type = \"text/html\", file = \"/etc/page.html\""
    "lf-string" in REPLY, Text, default "", haproxy "lf-string";
    "The body: a format.";
    "status = 200, content-type = \"text/plain\", lf-string = \"you are %[src]\""
    "hdr" in REPLY, NamedTexts, default "", haproxy "hdr";
    "Further headers, each value a format.";
    "status = 200, string = \"ok\", hdr = { Cache-Control = \"no-store\" }"

    "location" in REDIRECT, Text, default "", haproxy "redirect location";
    "The new target: a format.";
    "location = \"https://www.example.com/\""
    "prefix" in REDIRECT, Text, default "", haproxy "redirect prefix";
    "What to put before the target of the request: a format.";
    "prefix = \"https://www.example.com\""
    "scheme" in REDIRECT, Text, default "", haproxy "redirect scheme";
    "The scheme of the new target; host and target stay: a format.";
    "scheme = \"https\""
    "code" in REDIRECT, Integer(301, 308), default "302", haproxy "code";
    "Status: 301, 302, 303, 307 or 308.";
    "scheme = \"https\", code = 301"
    "drop-query" in REDIRECT, Flag, default "false", haproxy "drop-query";
    "Leave the query of the request out.";
    "prefix = \"/new\", drop-query = true"
    "append-slash" in REDIRECT, Flag, default "false", haproxy "append-slash";
    "Add a slash to a path without one at its end.";
    "prefix = \"/new\", drop-query = true, append-slash = true"
    "ignore-empty" in REDIRECT, Flag, default "false", haproxy "ignore-empty";
    "Pass the rule over where its location is empty, as with a map that knows only some paths.";
    "location = \"%[url_param(to)]\", ignore-empty = true"
    "set-cookie" in REDIRECT, Text, default "", haproxy "set-cookie";
    "Cookie to set, as NAME or NAME=VALUE.";
    "location = \"/\", set-cookie = \"SEEN=1\""
    "clear-cookie" in REDIRECT, Text, default "", haproxy "clear-cookie";
    "Cookie to remove, as NAME.";
    "location = \"/\", clear-cookie = \"USERID\""

    "realm" in AUTH, Text, default "the name of the section", haproxy "auth realm";
    "What the browser shows.";
    "realm = \"Staff\""
    "value" in CAPTURE, Text, default "", haproxy "capture SAMPLE";
    "The value: an expression.";
    "value = \"src\", len = 40"
    "len" in CAPTURE, Integer(1, 8192), default "that of `id`", haproxy "capture len";
    "Longest value that is kept, in bytes. The value has a place of its own, behind those of headers and of the rules above.";
    "value = \"src\", len = 8"
    "id" in CAPTURE, Integer(0, 1023), default "a place of its own", haproxy "capture id";
    "Instead of `len`: the place in `capture.request-header` or `capture.response-header` that the value goes to, from 0.";
    "value = \"src\", id = 0"
    "time" in WAIT, SOME_TIME, default "", haproxy "wait-for-body time";
    "At most this long.";
    "time = \"1s\""
    "at-least" in WAIT, HEAD_SIZE, default "the whole body, as far as the buffer holds it", haproxy "wait-for-body at-least";
    "Until this many bytes are there.";
    "time = \"1s\", at-least = \"1k\""
    "name" in SET_TIMEOUT, OneOf(&["client", "server", "tunnel", "connect", "queue"]), default "", haproxy "set-timeout";
    "Which timeout.";
    "name = \"tunnel\", value = \"2h\""
    "value" in SET_TIMEOUT, Text, default "", haproxy "set-timeout";
    "A duration, or an expression that gives milliseconds.";
    "name = \"server\", value = \"int(90000)\""
    "status" in SET_STATUS, Integer(200, 599), default "", haproxy "set-status";
    "The new status.";
    "status = 404"
    "reason" in SET_STATUS, Text, default "the usual one", haproxy "set-status reason";
    "The new reason phrase.";
    "status = 404, reason = \"Gone Fishing\""

    "header" in ADDRESS_HEADER, Text, default "X-Forwarded-For or X-Original-To", haproxy "header";
    "Name of the header.";
    "header = \"X-Client\""
    "except" in ADDRESS_HEADER, Texts, default "none", haproxy "except";
    "Not for these networks.";
    "except = [\"10.0.0.0/8\"]"
    "if-none" in ADDRESS_HEADER, Flag, default "false", haproxy "if-none";
    "Not if the request has that header already.";
    "if-none = true"

    "name" in COOKIE, Text, default "", haproxy "cookie NAME";
    "Name of the cookie.";
    "name = \"SRV\", mode = \"insert\""
    "mode" in COOKIE, OneOf(&["insert", "rewrite", "prefix"]), default "\"insert\"", haproxy "insert, rewrite, prefix";
    "\"insert\": Shardgate sets it. \"rewrite\": the server sets it and its value is replaced. \"prefix\": the server's own value stays, with the server's name before it.";
    "name = \"JSESSIONID\", mode = \"prefix\""
    "indirect" in COOKIE, Flag, default "false", haproxy "indirect";
    "Hide the cookie from the server, and do not set it again if the client has it.";
    "name = \"SRV\", mode = \"insert\", indirect = true"
    "nocache" in COOKIE, Flag, default "false", haproxy "nocache";
    "Mark responses that set it as not cacheable.";
    "name = \"SRV\", mode = \"insert\", nocache = true"
    "postonly" in COOKIE, Flag, default "false", haproxy "postonly";
    "Set it only in responses to POST.";
    "name = \"SRV\", mode = \"insert\", postonly = true"
    "preserve" in COOKIE, Flag, default "false", haproxy "preserve";
    "Leave it alone if the server sets it itself.";
    "name = \"SRV\", mode = \"insert\", preserve = true"
    "httponly" in COOKIE, Flag, default "false", haproxy "httponly";
    "Attribute HttpOnly: not for scripts.";
    "name = \"SRV\", mode = \"insert\", httponly = true"
    "secure" in COOKIE, Flag, default "false", haproxy "secure";
    "Attribute Secure: only over TLS.";
    "name = \"SRV\", mode = \"insert\", secure = true"
    "domain" in COOKIE, Texts, default "none", haproxy "domain";
    "Attribute Domain; several give several.";
    "name = \"SRV\", mode = \"insert\", domain = \".example.com\""
    "maxidle" in COOKIE, SOME_TIME, default "no limit", haproxy "maxidle";
    "Without a visit for this long the cookie is ignored.";
    "name = \"SRV\", mode = \"insert\", maxidle = \"30m\""
    "maxlife" in COOKIE, SOME_TIME, default "no limit", haproxy "maxlife";
    "After this long the cookie is ignored.";
    "name = \"SRV\", mode = \"insert\", maxlife = \"8h\""
    "attr" in COOKIE, Texts, default "none", haproxy "attr";
    "Further attributes.";
    "name = \"SRV\", mode = \"insert\", attr = [\"SameSite=Lax\"]"
    "dynamic" in COOKIE, Flag, default "false", haproxy "dynamic";
    "Values are made from the address of the server and `dynamic-cookie-key`.";
    "name = \"SRV\", mode = \"insert\""


    "errorfile" in HTTP_ERRORS, NamedTexts, default "", haproxy "errorfile";
    "Whole responses, headers included: status and file.";
    "errorfile.503 = \"/etc/503.http\""
    "user" in USERLIST, Named(Scope::User), default "", haproxy "user";
    "The users.";
    "user.eve = { password = \"$5$saltsalt$abc\" }"
    "group" in USERLIST, Named(Scope::Group), default "", haproxy "group";
    "The groups.";
    "group.admins = { users = [\"adam\"] }"
    "password" in USER, Text, default "", haproxy "password";
    "Hash of the password, as crypt(5) writes it: SHA-256 (`$5$`), SHA-512 (`$6$`), bcrypt (`$2b$`), yescrypt (`$y$`) or argon2.";
    "password = \"$6$saltsalt$abc\""
    "insecure-password" in USER, Text, default "", haproxy "insecure-password";
    "The password as it is. Gives a warning: whoever reads the file knows it.";
    "insecure-password = \"secret\""
    "groups" in USER, Texts, default "none", haproxy "groups";
    "Groups that the user belongs to.";
    "password = \"$6$saltsalt$abc\"\ngroups = [\"admins\"]"
    "users" in GROUP, Texts, default "none", haproxy "users";
    "Users that belong to the group.";
    "users = [\"adam\"]"
}
