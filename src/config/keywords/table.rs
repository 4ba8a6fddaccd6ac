//! The rows of both modes. Order within a scope is the order of the documentation.

use std::time::Duration;

use super::Kind::*;
use super::{Keyword, KeywordMode, Kind, Scope, Scopes};
use crate::base::limits::{RETRIES_MAX, SERVERS_PER_BACKEND_MAX, WEIGHT_MAX};

const GLOBAL: Scopes = Scopes::of(&[Scope::Global]);
const ADMIN: Scopes = Scopes::of(&[Scope::Admin]);
const ADMIN_SOCKET: Scopes = Scopes::of(&[Scope::AdminSocket]);
const FRONTEND: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen]);
const FRONTEND_DEFAULTS: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Defaults]);
const BACKEND: Scopes = Scopes::of(&[Scope::Backend, Scope::Listen]);
const BACKEND_DEFAULTS: Scopes = Scopes::of(&[Scope::Backend, Scope::Listen, Scope::Defaults]);
const PROXY: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Backend]);
const PROXY_DEFAULTS: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Backend, Scope::Defaults]);
const BIND: Scopes = Scopes::of(&[Scope::Bind]);
const RULE: Scopes = Scopes::of(&[Scope::ConnectionRule, Scope::Rule]);
const CONTENT_RULE: Scopes = Scopes::of(&[Scope::Rule]);
const SET_VAR: Scopes = Scopes::of(&[Scope::SetVar]);
const SERVER: Scopes = Scopes::of(&[Scope::Server]);
const TEMPLATE: Scopes = Scopes::of(&[Scope::ServerTemplate]);
const SERVER_TEMPLATE: Scopes = Scopes::of(&[Scope::Server, Scope::ServerTemplate]);
const SERVER_DEFAULTS: Scopes = Scopes::of(&[Scope::Server, Scope::ServerTemplate, Scope::DefaultServer]);
const TCP_CHECK: Scopes = Scopes::of(&[Scope::TcpCheck]);

const ANY_TIME: Kind = Duration(Duration::ZERO);
const SOME_TIME: Kind = Duration(std::time::Duration::from_millis(1));
const COUNT: Kind = Integer(0, u32::MAX as i64);
const POSITIVE: Kind = Integer(1, u32::MAX as i64);
/// Ids are shown in signed columns by tools that read the CSV.
const ID: Kind = Integer(1, i32::MAX as i64);
/// A window of flow control (RFC 9113 6.9.1).
const WINDOW: Kind = Size(16_384, i32::MAX as u64);
const PORT: Kind = Integer(1, u16::MAX as i64);

keywords! {
    /// Keywords of both modes.
    KEYWORDS, mode Any;

    "cores" in GLOBAL, Cpus, default "all CPUs the process may use", haproxy "nbthread, cpu-map";
    "CPUs of the data cores: one pinned executor each. A list of CPU numbers, a string like \"0-3,8\", or how many of the allowed CPUs to take.";
    "cores = \"0\""
    "control-core" in GLOBAL, Integer(0, u16::MAX as i64), default "a CPU without a data core, otherwise the last data core", haproxy "";
    "CPU of the control core: health checks, statistics, admin sockets. It may be that of a data core.";
    "control-core = 0"
    "maxconn" in GLOBAL, POSITIVE, default "derived from the limit of open files", haproxy "maxconn";
    "Client connections of the whole process. Beyond it new connections wait in the accept queues of the kernel.";
    "maxconn = 20000"
    "hard-stop-after" in GLOBAL, SOME_TIME, default "no limit", haproxy "hard-stop-after";
    "How long a stopping process waits for its sessions before it closes them.";
    "hard-stop-after = \"30s\""
    "sandbox" in GLOBAL, Flag, default "false", haproxy "";
    "Give up at the start what this configuration does not need: capabilities, writing outside of the directories of its sockets, log files, key logs and state file (Landlock), all system calls but those that it makes, so that it starts no other program (seccomp; the kernel's audit log has what was refused). `show info` and `shardgate doctor` say what is in force. A reload that needs more is refused.";
    "sandbox = true"
    "nameserver" in GLOBAL, Texts, default "those of /etc/resolv.conf", haproxy "";
    "Where names of servers are asked for: addresses of DNS servers, with a port if it is not 53. They are asked in order.";
    "nameserver = [\"192.0.2.53\", \"127.0.0.1:8600\"]"
    "node" in GLOBAL, Text, default "the host name", haproxy "node";
    "Name of this machine in statistics.";
    "node = \"lb1\""
    "maxconnrate" in GLOBAL, Integer(0, u32::MAX as i64), default "no limit", haproxy "maxconnrate";
    "New connections of the process in each second; more wait in the kernel's accept queue. 0: no limit.";
    "maxconnrate = 10000"
    "description" in GLOBAL, Text, default "empty", haproxy "description";
    "Free text in statistics.";
    "description = \"edge, rack 4\""
    "state-file" in GLOBAL, Text, default "none: a restart forgets runtime changes and what checks found", haproxy "";
    "Absolute path of the file that remembers runtime changes (`show drift`) and the health of servers over a restart. A remembered change comes back only if the configuration still says what it replaced; addresses and ports of the configuration always win.";
    "state-file = \"/var/lib/shardgate/state\""
    "spread-checks" in GLOBAL, Integer(0, 50), default "0", haproxy "spread-checks";
    "Random spread of health checks in percent of their interval, so that many servers are not checked at the same instant. The first checks are spread in any case.";
    "spread-checks = 5"
    "maxpipes" in GLOBAL, COUNT, default "1024", haproxy "maxpipes";
    "Pipes for splice(2) in the whole process; each core has its share. A flow that finds none is copied.";
    "maxpipes = 2000"
    "tune.buffers-max" in GLOBAL, Integer(64, 1 << 15), default "16384", haproxy "tune.buffers.limit";
    "Receive buffers (16 KiB each) a core may have at most. They are allocated when needed.";
    "tune.buffers-max = 4096"
    "tune.pipesize" in GLOBAL, Size(4096, 1 << 30), default "\"512k\"", haproxy "tune.pipesize";
    "Bytes of a pipe for splice(2). Unprivileged processes get at most /proc/sys/fs/pipe-max-size.";
    "tune.pipesize = \"256k\""
    "tune.h2.fe.max-concurrent-streams" in GLOBAL, Integer(1, 1 << 20), default "100", haproxy "tune.h2.fe.max-concurrent-streams";
    "Requests at once on one connection of a client that speaks HTTP/2.";
    "tune.h2.fe.max-concurrent-streams = 50"
    "tune.h2.fe.initial-window-size" in GLOBAL, WINDOW, default "65535", haproxy "tune.h2.fe.initial-window-size";
    "Bytes of one request body that a client may send before a server has taken them. A connection whose uploads move grows to `tune.h2.fe.rxbuf`.";
    "tune.h2.fe.initial-window-size = \"128k\""
    "tune.h2.fe.rxbuf" in GLOBAL, WINDOW, default "\"4m\"", haproxy "tune.h2.fe.rxbuf";
    "Bytes that a client may send on one connection before servers have taken them, once its uploads move: what a path of 50 ms needs at 80 MB/s.";
    "tune.h2.fe.rxbuf = \"1600k\""
    "tune.h2.fe.max-total-streams" in GLOBAL, COUNT, default "0", haproxy "tune.h2.fe.max-total-streams";
    "Requests on one connection of a client before it is asked to open another. 0: no limit.";
    "tune.h2.fe.max-total-streams = 10000"
    "tune.h2.fe.max-resets" in GLOBAL, POSITIVE, default "1000", haproxy "";
    "Requests that a client may give up in ten seconds before its connection is closed with ENHANCE_YOUR_CALM.";
    "tune.h2.fe.max-resets = 200"
    "tune.h2.fe.glitches-threshold" in GLOBAL, POSITIVE, default "100", haproxy "tune.h2.fe.glitches-threshold";
    "Malformed requests on one connection of a client before it is closed with ENHANCE_YOUR_CALM.";
    "tune.h2.fe.glitches-threshold = 20"
    "tune.h2.be.initial-window-size" in GLOBAL, WINDOW, default "\"256k\"", haproxy "tune.h2.be.initial-window-size";
    "Bytes of one response body that a server may send before the client has taken them, at first. It grows with a client that takes them.";
    "tune.h2.be.initial-window-size = \"64k\""
    "tune.h2.be.rxbuf" in GLOBAL, WINDOW, default "the window of each stream that the connection may have, and 1600k for those that grow", haproxy "tune.h2.be.rxbuf";
    "Bytes that a server may send on one connection before clients have taken them. With less than all windows together, clients that do not read hold up others whose requests share the connection.";
    "tune.h2.be.rxbuf = \"32m\""
    "stats.compat-name" in GLOBAL, Text, default "\"HAProxy\"", haproxy "";
    "What `show info` says as `Name`. Monitoring tools made for HAProxy refuse other names.";
    "stats.compat-name = \"hapee-lb\""

    "socket" in ADMIN, TextsOrTables(Scope::AdminSocket), default "none", haproxy "stats socket";
    "Path of the admin socket (a UNIX stream socket), or a list of tables. A path alone is a socket of level admin that only the user of the process may open.";
    "socket = \"/run/shardgate/admin.sock\""
    "path" in ADMIN_SOCKET, Text, default "", haproxy "stats socket";
    "Path of the socket.";
    "path = \"/run/shardgate/admin.sock\""
    "address" in ADMIN_SOCKET, Text, default "", haproxy "stats socket";
    "Address and port to listen on instead of a path; of the loopback network, since nothing there is encrypted or authenticated: every user of this machine can connect. `fd@3`: a listening socket that the parent process left open as descriptor 3.";
    "address = \"127.0.0.1:9999\""
    "mode" in ADMIN_SOCKET, FileMode, default "\"600\"", haproxy "mode";
    "Permission bits of the socket file, in octal.";
    "mode = \"660\""
    "level" in ADMIN_SOCKET, OneOf(&["user", "operator", "admin"]), default "\"operator\"", haproxy "level";
    "What its users may do: \"user\" reads statistics, \"operator\" also makes changes that are not sensitive, \"admin\" everything.";
    "level = \"user\""

    "mode" in PROXY_DEFAULTS, OneOf(&["tcp", "http"]), default "\"tcp\"", haproxy "mode";
    "What the section understands of what it relays. This version relays bytes (\"tcp\").";
    "mode = \"tcp\""
    "id" in PROXY, ID, default "the next free number", haproxy "id";
    "Number of the section in statistics, and what `fe_id` and `be_id` say.";
    "id = 80"
    "bind" in FRONTEND, TextsOrTables(Scope::Bind), default "", haproxy "bind";
    "Where to listen: an address, a list of them, or a list of tables with more keywords (see [bind](#bind)).";
    "bind = [\"127.0.0.1:8081\", \"[::1]:8081\", \"127.0.0.1:9000-9010\"]"
    "maxconn" in FRONTEND_DEFAULTS, COUNT, default "no limit but the global one", haproxy "maxconn";
    "Concurrent connections over all cores; more wait in the accept queue of the kernel. 0: no limit of its own.";
    "maxconn = 2000"
    "timeout.client" in FRONTEND_DEFAULTS, ANY_TIME, default "no timeout (and a warning)", haproxy "timeout client";
    "How long a client may stay silent when it is its turn. 0: no timeout.";
    "timeout.client = \"30s\""
    "timeout.client-hs" in FRONTEND_DEFAULTS, ANY_TIME, default "`timeout.client`", haproxy "timeout client-hs";
    "How long a client may take for its TLS handshake.";
    "timeout.client-hs = \"10s\""
    "timeout.client-fin" in FRONTEND_DEFAULTS, ANY_TIME, default "`timeout.client`", haproxy "timeout client-fin";
    "The same once one direction of the client's connection is closed.";
    "timeout.client-fin = \"5s\""
    "acl" in FRONTEND, NamedTexts, default "", haproxy "acl";
    "Named conditions for `if` and `unless`, each one text or a list of texts of which one must hold.";
    "acl.office = [\"src 192.0.2.0/24\", \"src 2001:db8::/32\"]"
    "connection-rules" in FRONTEND, Tables(Scope::ConnectionRule), default "", haproxy "tcp-request connection";
    "Rules on a fresh connection, before any byte of it is read (see [rules](#rules)).";
    "connection-rules = [{ reject = true, if = \"{ src 192.0.2.66 }\" }]"
    "rules" in FRONTEND, Tables(Scope::Rule), default "", haproxy "tcp-request content, use_backend";
    "Rules on the first bytes of a session; with `inspect-delay` they wait for those (see [rules](#rules)).";
    "rules = [{ use-backend = \"app\", if = \"{ dst_port 8443 }\" }]"
    "inspect-delay" in FRONTEND_DEFAULTS, ANY_TIME, default "0", haproxy "tcp-request inspect-delay";
    "How long `rules` wait at most for the bytes that their conditions look at.";
    "inspect-delay = \"5s\""
    "default-backend" in FRONTEND_DEFAULTS, Text, default "in a listen section its own servers", haproxy "default_backend";
    "The backend of sessions that no rule sent elsewhere.";
    "default-backend = \"app\""
    "splice" in PROXY_DEFAULTS, OneOf(&["auto", "always", "never"]), default "\"auto\"", haproxy "option splice-auto";
    "How bytes are moved: \"auto\" copies small and short flows and moves bulk flows inside the kernel.";
    "splice = \"never\""
    "balance" in BACKEND_DEFAULTS, Text, default "\"roundrobin\"", haproxy "balance";
    "How sessions are distributed: \"roundrobin\", \"leastconn\", \"first\", \"source\", \"random\", \"random(N)\" (best of N draws, 2 by default) or \"hash EXPR\".";
    "balance = \"leastconn\""
    "hash-type" in BACKEND_DEFAULTS, Text, default "\"map-based sdbm\"", haproxy "hash-type";
    "How `source` and `hash` find the server of a key: method (\"map-based\" or \"consistent\"), function (\"sdbm\", \"djb2\", \"wt6\", \"crc32\" or \"none\") and modifier (\"avalanche\"). \"consistent\" alone is \"consistent sdbm avalanche\".";
    "hash-type = \"consistent\""
    "hash-balance-factor" in BACKEND_DEFAULTS, Integer(0, 65535), default "0", haproxy "hash-balance-factor";
    "No server gets more than this percentage of the average load from a consistent hash; at least 101. 0: no such bound.";
    "hash-type = \"consistent\"\nhash-balance-factor = 150"
    "timeout.connect" in BACKEND_DEFAULTS, ANY_TIME, default "no timeout (and a warning)", haproxy "timeout connect";
    "How long one attempt to connect to a server may take.";
    "timeout.connect = \"5s\""
    "timeout.server" in BACKEND_DEFAULTS, ANY_TIME, default "no timeout (and a warning)", haproxy "timeout server";
    "How long a server may stay silent when it is its turn. 0: no timeout.";
    "timeout.server = \"30s\""
    "timeout.server-fin" in BACKEND_DEFAULTS, ANY_TIME, default "`timeout.server`", haproxy "timeout server-fin";
    "The same once one direction of the server's connection is closed.";
    "timeout.server-fin = \"5s\""
    "timeout.tunnel" in BACKEND_DEFAULTS, ANY_TIME, default "`timeout.client` and `timeout.server`", haproxy "timeout tunnel";
    "Silence on both sides once bytes went both ways; then it replaces `timeout.client` and `timeout.server`.";
    "timeout.tunnel = \"1h\""
    "timeout.queue" in BACKEND_DEFAULTS, ANY_TIME, default "`timeout.connect`", haproxy "timeout queue";
    "How long a session waits for a free slot of a server.";
    "timeout.queue = \"10s\""
    "timeout.check" in BACKEND_DEFAULTS, ANY_TIME, default "`inter` of the server", haproxy "timeout check";
    "How long a health check may take once connected.";
    "timeout.check = \"2s\""
    "retries" in BACKEND_DEFAULTS, Integer(0, RETRIES_MAX as i64), default "3", haproxy "retries";
    "Further attempts after a failed connection attempt.";
    "retries = 2"
    "redispatch" in BACKEND_DEFAULTS, FlagOrInteger(-(RETRIES_MAX as i64), RETRIES_MAX as i64), default "false", haproxy "option redispatch";
    "Whether a retry may take another server: true for the last retry, N for every N-th, -N for the N-th from the last on. Unless false, who is bound to a server whose queue is full (`maxqueue`) goes to another one, too.";
    "redispatch = true"
    "allbackups" in BACKEND_DEFAULTS, Flag, default "false", haproxy "option allbackups";
    "Use all usable backup servers together once no other server is usable, instead of the first.";
    "allbackups = true"
    "tcp-check" in BACKEND, Tables(Scope::TcpCheck), default "a connection is enough", haproxy "tcp-check";
    "What a health check does once connected: steps in order (see [tcp-check](#tcp-check)).";
    "tcp-check = [{ send = \"PING\\r\\n\" }, { expect-string = \"+PONG\" }]"
    "default-server" in BACKEND_DEFAULTS, Table(Scope::DefaultServer), default "", haproxy "default-server";
    "Keywords for all servers that do not have them themselves.";
    "default-server = { check = true, inter = \"1s\" }"
    "server" in BACKEND, Named(Scope::Server), default "", haproxy "server";
    "The servers (see [servers](#servers)); their order is that of the file.";
    "server.s9 = { address = \"127.0.0.1:9009\" }"
    "server-template" in BACKEND, Named(Scope::ServerTemplate), default "", haproxy "server-template";
    "Several servers behind one host name (see [server templates](#server-templates)).";
    "server-template.app = { count = 3, address = \"app.example.com:80\" }"

    "address" in BIND, Text, default "", haproxy "bind";
    "Where to listen: `*:80`, `:80`, `[::]:80`, `192.0.2.1:80`, `192.0.2.1:1000-1010` (one bind each), `unix@/path` or `/path`, `abns@name`, `fd@3` (a socket that systemd or the parent opened), and lists of these with commas. With port 0 the kernel chooses one. An address that this machine does not have yet is no error: it is listened on as soon as it is there.";
    "address = \"127.0.0.1:8081,127.0.0.1:8082\""
    "name" in BIND, Text, default "\"sock-N\"", haproxy "name";
    "Its name in statistics.";
    "name = \"lan\""
    "id" in BIND, ID, default "the next free number", haproxy "id";
    "Its number in statistics.";
    "id = 7"
    "interface" in BIND, Text, default "any", haproxy "interface";
    "Take only what arrives on this network interface.";
    "interface = \"lo\""
    "transparent" in BIND, Flag, default "false", haproxy "transparent";
    "Accept connections to addresses that are not of this machine (IP_TRANSPARENT; needs CAP_NET_ADMIN).";
    "transparent = true"
    "backlog" in BIND, Integer(1, 1 << 20), default "4096", haproxy "backlog";
    "Length of the accept queue; the kernel limits it to net.core.somaxconn.";
    "backlog = 10000"
    "defer-accept" in BIND, Flag, default "false", haproxy "defer-accept";
    "Accept a connection when its first bytes are there. Not for protocols in which the server speaks first.";
    "defer-accept = true"
    "tfo" in BIND, FlagOrInteger(1, 1 << 20), default "false", haproxy "tfo";
    "TCP Fast Open, with this many pending requests; true: 256.";
    "tfo = true"
    "mss" in BIND, Integer(88, 65535), default "what the kernel finds", haproxy "mss";
    "Maximum segment size to announce.";
    "mss = 1400"
    "tcp-ut" in BIND, SOME_TIME, default "what the kernel has", haproxy "tcp-ut";
    "How long sent bytes may stay unacknowledged before the connection is closed (TCP_USER_TIMEOUT).";
    "tcp-ut = \"30s\""
    "maxconn" in BIND, COUNT, default "no limit but the frontend's", haproxy "maxconn";
    "Concurrent connections of this bind over all cores.";
    "maxconn = 500"
    "accept" in BIND, OneOf(&["hash", "cpu", "balanced"]), default "\"hash\"", haproxy "shards, tune.listener.multi-queue";
    "Which core gets a connection: by the kernel's hash, the core whose CPU received it (for NICs with RSS), or the one with the fewest sessions.";
    "accept = \"balanced\""
    "accept-proxy" in BIND, Texts, default "nobody", haproxy "accept-proxy";
    "Networks whose connections start with a PROXY protocol header (version 1 or 2), which then says who the client is. From all others such a header is data like any other.";
    "accept-proxy = [\"10.0.0.0/8\", \"fd00::/8\"]"
    "v4v6" in BIND, Flag, default "true", haproxy "v4v6";
    "An IPv6 wildcard address takes IPv4 connections too.";
    "address = \"[::]:8083\", v4v6 = true"
    "v6only" in BIND, Flag, default "false", haproxy "v6only";
    "An IPv6 wildcard address takes IPv6 connections only.";
    "address = \"[::]:8083\", v6only = true"
    "tls" in BIND, Table(Scope::BindTls), default "plain TCP", haproxy "ssl";
    "Speak TLS with clients (see [tls](#tls)).";
    "tls = { certificates = \"site.pem\" }"

    "accept" in RULE, True, default "", haproxy "accept";
    "Stop evaluating these rules and go on with the connection. In `rules` those of the rest that are `use-backend` are still tried, without waiting for further bytes.";
    "{ accept = true, if = \"{ src 10.0.0.0/8 }\" }"
    "reject" in RULE, True, default "", haproxy "reject";
    "Close the connection.";
    "{ reject = true, unless = \"{ src 10.0.0.0/8 }\" }"
    "silent-drop" in RULE, True, default "", haproxy "silent-drop";
    "Forget the connection without telling the client, which then waits for its own timeout. Needs CAP_NET_ADMIN, which the sandbox keeps when the configuration of the start has such a rule; without it a reset is sent that ends at the first router.";
    "{ silent-drop = true, if = \"{ src 192.0.2.66 }\" }"
    "set-var" in RULE, Table(Scope::SetVar), default "", haproxy "set-var";
    "Store the value of an expression in a variable, and go on.";
    "{ set-var = { name = \"sess.peer\", value = \"src\" } }"
    "use-backend" in CONTENT_RULE, Text, default "", haproxy "use_backend";
    "Send the session to this backend and stop evaluating.";
    "{ use-backend = \"app\", if = \"{ dst_port 443 }\" }"
    "if" in RULE, Text, default "always", haproxy "if";
    "When the rule applies: a condition.";
    "{ reject = true, if = \"{ src 192.0.2.0/24 } and not { dst_port 80 }\" }"
    "unless" in RULE, Text, default "never", haproxy "unless";
    "When the rule does not apply: a condition. Not together with `if`.";
    "{ reject = true, unless = \"{ src 10.0.0.0/8 }\" }"

    "name" in SET_VAR, Text, default "", haproxy "set-var(NAME)";
    "The variable, with its scope: `sess.NAME` lives as long as the session.";
    "name = \"sess.peer\", value = \"src\""
    "value" in SET_VAR, Text, default "", haproxy "set-var(NAME) EXPR";
    "The expression.";
    "name = \"sess.port\", value = \"dst_port\""

    "address" in SERVER_TEMPLATE, Text, default "", haproxy "server";
    "Where the server is: `192.0.2.1:80`, `[2001:db8::1]:80`, `name.example.com:80` (resolved at start and again as its TTL says), `_http._tcp.example.com` (an SRV record: name and port come from it), `unix@/path` or `abns@name`.";
    "address = \"app.example.com:9001\""
    "count" in TEMPLATE, Integer(1, SERVERS_PER_BACKEND_MAX as i64), default "", haproxy "";
    "How many servers there are.";
    "count = 3"
    "first" in TEMPLATE, Integer(0, 1 << 20), default "1", haproxy "";
    "The number of the first.";
    "first = 4"
    "resolve-prefer" in SERVER_DEFAULTS, OneOf(&["ipv4", "ipv6"]), default "\"ipv6\"", haproxy "resolve-prefer";
    "Which address is taken of a name that has both.";
    "resolve-prefer = \"ipv4\""
    "resolve-opts" in SERVER_DEFAULTS, SomeOf(&["allow-dup-ip", "ignore-weight", "prevent-dup-ip"]), default "none", haproxy "resolve-opts";
    "Whether servers of a backend that share a name may have the same address (`allow-dup-ip`) or rather have none (`prevent-dup-ip`). Without it those of a template never do, and others only where the name has fewer addresses than there are servers. Weights of SRV records count in no case (`ignore-weight`).";
    "resolve-opts = [\"allow-dup-ip\"]"
    "id" in SERVER, ID, default "the next free number", haproxy "id";
    "Its number in statistics, unique in the backend.";
    "id = 12"
    "weight" in SERVER_DEFAULTS, Integer(0, WEIGHT_MAX as i64), default "1", haproxy "weight";
    "Its share of the load; 0: it gets no new sessions.";
    "weight = 10"
    "backup" in SERVER_DEFAULTS, Flag, default "false", haproxy "backup";
    "Used only when no other server is usable.";
    "backup = true"
    "disabled" in SERVER_DEFAULTS, Flag, default "false", haproxy "disabled";
    "Start in maintenance.";
    "disabled = true"
    "maxconn" in SERVER_DEFAULTS, COUNT, default "no limit", haproxy "maxconn";
    "Concurrent sessions over all cores; more wait in the queue. 0: no limit.";
    "maxconn = 100"
    "maxqueue" in SERVER_DEFAULTS, COUNT, default "no limit", haproxy "maxqueue";
    "Sessions that may wait for this server; more go to another one. Those that persistence or `use-server` binds to it do so with `redispatch`, and get a 503 without it or with `force-persist`. 0: no limit.";
    "maxqueue = 50"
    "source" in SERVER_DEFAULTS, Texts, default "the kernel chooses", haproxy "source";
    "Local addresses of connections to the server, each with an optional range of ports that are allocated without asking the kernel: 64,000 connections per address. \"client\": the address of the client, so that the server sees it (see TRANSPARENT.md; needs CAP_NET_ADMIN); a client whose address is of the other family than the server's, or that has none, gets one of this machine.";
    "source = [\"127.0.0.1:10000-20000\", \"127.0.0.2:10000-20000\"]"
    "send-proxy" in SERVER_DEFAULTS, Flag, default "false", haproxy "send-proxy";
    "Send a PROXY protocol header, version 1, first.";
    "send-proxy = true"
    "send-proxy-v2" in SERVER_DEFAULTS, Flag, default "false", haproxy "send-proxy-v2";
    "Send a PROXY protocol header, version 2, first.";
    "send-proxy-v2 = true"
    "proxy-v2-options" in SERVER_DEFAULTS, SomeOf(&["authority", "crc32c", "ssl", "unique-id"]), default "none", haproxy "proxy-v2-options";
    "What else the version 2 header says: the name the client asked for, a checksum, TLS of the client, a unique id.";
    "send-proxy-v2 = true\nproxy-v2-options = [\"crc32c\"]"
    "slowstart" in SERVER_DEFAULTS, ANY_TIME, default "0", haproxy "slowstart";
    "Time over which a server that came up regains its full weight.";
    "slowstart = \"30s\""
    "on-marked-down" in SERVER_DEFAULTS, OneOf(&["shutdown-sessions"]), default "sessions go on", haproxy "on-marked-down";
    "What happens to its sessions when it goes down.";
    "on-marked-down = \"shutdown-sessions\""
    "on-marked-up" in SERVER_DEFAULTS, OneOf(&["shutdown-backup-sessions"]), default "sessions go on", haproxy "on-marked-up";
    "What happens to the sessions of all backup servers of the backend when this server, itself no backup, comes up with a weight above 0.";
    "on-marked-up = \"shutdown-backup-sessions\""
    "tcp-ut" in SERVER_DEFAULTS, SOME_TIME, default "what the kernel has", haproxy "tcp-ut";
    "How long sent bytes may stay unacknowledged before the connection is closed (TCP_USER_TIMEOUT).";
    "tcp-ut = \"30s\""
    "check" in SERVER_DEFAULTS, Flag, default "false", haproxy "check";
    "Whether its health is checked. Checks take the way of the traffic: same address, same port, and the PROXY header if the traffic has one. A server without checks counts as up.";
    "check = true"
    "addr" in SERVER_DEFAULTS, Text, default "that of the server", haproxy "addr";
    "IP address to check instead of the server's.";
    "check = true\naddr = \"127.0.0.1\""
    "port" in SERVER_DEFAULTS, PORT, default "that of the server", haproxy "port";
    "Port to check instead of the server's.";
    "check = true\nport = 8080"
    "check-send-proxy" in SERVER_DEFAULTS, Flag, default "as the traffic does, unless `addr` or `port` is set", haproxy "check-send-proxy";
    "Start checks with a PROXY header (LOCAL).";
    "check = true\nsend-proxy-v2 = true\ncheck-send-proxy = true"
    "check-tls" in SERVER_DEFAULTS, Flag, default "as the traffic does, unless `addr` or `port` is set", haproxy "check-ssl";
    "Speak TLS in checks, with the settings of `tls`.";
    "check = true\ntls = true\nport = 8080\ncheck-tls = true"
    "check-sni" in SERVER_DEFAULTS, Text, default "`sni` of `tls`", haproxy "check-sni";
    "The name that TLS checks ask for. The certificate must have it unless `verifyhost` says another.";
    "check = true\ntls = true\ncheck-sni = \"health.internal\""
    "inter" in SERVER_DEFAULTS, SOME_TIME, default "\"2s\"", haproxy "inter";
    "Time between two checks.";
    "check = true\ninter = \"1s\""
    "fastinter" in SERVER_DEFAULTS, SOME_TIME, default "`inter`", haproxy "fastinter";
    "Time between two checks while the server is on its way up or down.";
    "check = true\nfastinter = \"500ms\""
    "downinter" in SERVER_DEFAULTS, SOME_TIME, default "`inter`", haproxy "downinter";
    "Time between two checks while the server is down.";
    "check = true\ndowninter = \"5s\""
    "rise" in SERVER_DEFAULTS, Integer(1, 10000), default "2", haproxy "rise";
    "Checks in a row that must succeed before a server that is down counts as up.";
    "check = true\nrise = 3"
    "fall" in SERVER_DEFAULTS, Integer(1, 10000), default "3", haproxy "fall";
    "Checks in a row that must fail before a server that is up counts as down.";
    "check = true\nfall = 2"

    "send" in TCP_CHECK, Text, default "", haproxy "tcp-check send";
    "Send this text.";
    "{ send = \"PING\\r\\n\" }"
    "send-binary" in TCP_CHECK, Text, default "", haproxy "tcp-check send-binary";
    "Send these bytes, in hexadecimal.";
    "{ send-binary = \"50 49 4e 47 0d 0a\" }"
    "expect-string" in TCP_CHECK, Text, default "", haproxy "tcp-check expect string";
    "Wait until the answer contains this text.";
    "{ expect-string = \"+PONG\" }"
    "expect-binary" in TCP_CHECK, Text, default "", haproxy "tcp-check expect binary";
    "Wait until the answer contains these bytes, in hexadecimal.";
    "{ expect-binary = \"2b 4f 4b\" }"
    "expect-regex" in TCP_CHECK, Text, default "", haproxy "tcp-check expect rstring";
    "Wait until the answer matches this regular expression.";
    "{ expect-regex = \"^220 .*SMTP\" }"
    "not-expect-string" in TCP_CHECK, Text, default "", haproxy "tcp-check expect ! string";
    "Fail when the answer contains this text.";
    "{ not-expect-string = \"READONLY\" }"
    "not-expect-binary" in TCP_CHECK, Text, default "", haproxy "tcp-check expect ! binary";
    "Fail when the answer contains these bytes, in hexadecimal.";
    "{ not-expect-binary = \"ff\" }"
    "not-expect-regex" in TCP_CHECK, Text, default "", haproxy "tcp-check expect ! rstring";
    "Fail when the answer matches this regular expression.";
    "{ not-expect-regex = \"^-ERR\" }"
}
