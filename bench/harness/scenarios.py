"""What is measured: one entry a scenario. To add one: a configuration per program in bench/peers, and a line in SCENARIOS.

Measures nothing itself; `lab` starts the programs and `load` puts them under load.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Proxy:
    """One way to run one program: `config` is a template in bench/peers, `values` fill its @WORDS@."""

    name: str
    program: str
    config: str
    values: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """What is measured.

    `load` names the generator: `wrk`, `h2load`, or a scenario of bench-load. `options` go to the generator as they are.
    `scheme` is the URL's for wrk, h2load and curl. `aside` is what goes on meanwhile: `poll` or `reload`, see `aside.py`.
    """

    title: str
    service: str  # the origin's port
    load: str
    connections: int
    unit: str
    per: float  # units that one row of the table is about (1e9: per GB)
    proxies: tuple
    verify: str
    cores: int = 1
    path: str = "/"
    script: str = ""
    options: tuple = ()
    scheme: str = "http"
    aside: str = ""
    body: bytes = b""  # what h2load sends


def proxies(stem, *more, **values):
    """Shardgate, HAProxy and nginx with the configurations `*-stem.*` of bench/peers, and what else is compared."""
    endings = {"shardgate": "toml", "haproxy": "cfg", "nginx": "conf"}
    return (*(Proxy(p, p, f"{p}-{stem}.{end}", values) for p, end in endings.items()), *more)


# A relay on our own ring that looks at nothing: what the kernel and the ring cost alone.
FLOOR = Proxy("floor", "floor", "none")
HAPROXY_SPLICE = Proxy("haproxy-splice", "haproxy", "haproxy-splice.cfg")
TCP = proxies("tcp", FLOOR, BUFFER="16k")
BULK = proxies("tcp", HAPROXY_SPLICE, BUFFER="64k")
HTTP = proxies("http", FLOOR)
# Bodies that fill buffers: HAProxy splices them too, as its documentation recommends for large objects.
HTTP_BULK = proxies("http", Proxy("haproxy-splice", "haproxy", "haproxy-http-splice.cfg"), FLOOR)
RULES = proxies("rules")
# The same without the conditions.
MAPS = proxies("rules", RULES="")
# HTTP/2 from the client, clear by prior knowledge and over TLS by ALPN; the servers speak HTTP/1.
H2 = proxies("h2")
H2S = proxies("h2-tls")
# HTTP/2 on both sides.
# Not nginx: with `grpc_pass` some of its calls fail here, and figures beside errors would mean nothing.
GRPC = proxies("grpc")[:2]
# Not compressed, its length, ten bytes.
GRPC_MESSAGE = b"\0\0\0\0\x0a" + b"x" * 10
ECDSA = proxies("https", CERTIFICATE="ecdsa")
RSA = proxies("https", CERTIFICATE="rsa")
# A line for each request as a datagram to a syslog server, beside the same without: what counts is how much it adds.
LOG = (
    *proxies("http")[:2],
    Proxy("shardgate-log", "shardgate", "shardgate-http-log.toml"),
    Proxy("haproxy-log", "haproxy", "haproxy-http-log.cfg"),
)


def tcp(title, service, load, connections, unit="exchange", per=1, who=TCP, **more):
    return Scenario(title, service, load, connections, unit, per, who, verify=service, **more)


def http(title, connections, load="wrk", who=HTTP, path="/100", unit="request", **more):
    return Scenario(title, "http", load, connections, unit, 1, who, verify="http", path=path, **more)


def h2(title, connections, streams, who=H2, **more):
    """Requests over HTTP/2, `streams` at a time on each connection."""
    scheme = "https" if who is H2S else "http"
    return http(title, connections, "h2load", who, options=(f"-m{streams}",), scheme=scheme, **more)


def grpc(title, connections, streams):
    """Unary calls with a message of ten bytes each way, HTTP/2 on both sides; the server is nginx, which says `grpc-status` in
    trailers."""
    options = (f"-m{streams}", "-Hcontent-type: application/grpc", "-Hte: trailers")
    return Scenario(title, "grpc", "h2load", connections, "call", 1, GRPC, "grpc", options=options, body=GRPC_MESSAGE)


def rate(number, connections, **more):
    """Requests at a fixed rate, whatever the answers take: latency counts from when a request was due."""
    options = ("--rate", str(number))
    meanwhile = ", a reload twice a second" if more.get("aside") == "reload" else ""
    title = f"{number} requests/s over {connections} connections{meanwhile}"
    return http(title, connections, "http-rate", options=options, **more)


def https(title, connections, load="wrk", who=ECDSA, **more):
    """TLS 1.3 with AES-128-GCM and X25519 for all."""
    return http(title, connections, load, who, scheme="https", **more)


WEBSOCKET = tuple(Proxy("nginx", "nginx", "nginx-websocket.conf") if p.program == "nginx" else p for p in HTTP)
# 5,000 servers beside the one that is used. nginx has no statistics of servers.
MANY = tuple(p for p in proxies("http-many") if p.program != "nginx")

SCENARIOS = {
    "tcp-small": tcp("64..100 byte exchanges on 64 long connections", "echo", "small", 64),
    "tcp-small-1": tcp("the same on 1 connection (mostly idle)", "echo", "small", 1),
    "tcp-small-2core": tcp("64 connections, two data cores", "echo", "small", 64, cores=2),
    "tcp-conn": tcp("connect, one exchange, close; 64 at a time", "conn", "conn", 64, "connection"),
    "tcp-bulk": tcp("download over 4 connections", "bulk", "bulk", 4, "byte", 1e9, BULK),
    "tcp-bulk-up": tcp("upload over 4 connections", "bulk", "bulk-up", 4, "byte", 1e9, BULK),
    "tcp-idle": tcp("8000 idle connections, memory", "echo", "idle", 8000, "connection"),
    "http1-small": http("GET 100 bytes, keep-alive, 64 connections", 64),
    "http1-small-2core": http("the same, two data cores", 64, cores=2),
    "http1-100k": http("GET 100 kB, keep-alive, 64 connections", 64, who=HTTP_BULK, path="/100000"),
    "http1-10m": http("GET 10 MB, keep-alive, 16 connections", 16, who=HTTP_BULK, path="/10000000"),
    "http1-post": http("POST 4 kB, keep-alive, 64 connections", 64, path="/", script="post.lua"),
    "http1-post-1m": http("POST 1 MB, keep-alive, 16 connections", 16, who=HTTP_BULK, path="/", script="post-1m.lua"),
    "http1-conn": http("connect, one request, close; 64 at a time", 64, "http-conn", who=proxies("http"), unit="connection"),
    "http1-idle": http("4000 keep-alive connections after a request each, memory", 4000, "http-idle", unit="connection"),
    "h2-8x32": h2("HTTP/2, GET 100 bytes, 8 connections with 32 streams each", 8, 32),
    "h2-64x8": h2("HTTP/2, GET 100 bytes, 64 connections with 8 streams each", 64, 8),
    "h2-100k": h2("HTTP/2, GET 100 kB, 8 connections with 8 streams each", 8, 8, path="/100000"),
    "h2s-8x32": h2("HTTP/2 over TLS, GET 100 bytes, 8 connections with 32 streams each", 8, 32, H2S),
    "h2s-64x8": h2("HTTP/2 over TLS, GET 100 bytes, 64 connections with 8 streams each", 64, 8, H2S),
    "h2s-100k": h2("HTTP/2 over TLS, GET 100 kB, 8 connections with 8 streams each", 8, 8, H2S, path="/100000"),
    "grpc-8x32": grpc("unary gRPC calls, 8 connections with 32 streams each", 8, 32),
    "h2-idle": http("1000 HTTP/2 connections after a request each, memory", 1000, "h2-idle", H2, unit="connection"),
    "http1-rules": http("200 conditions and a 10,000-entry map", 64, who=RULES, script="rules.lua"),
    "http1-maps": http("a 10,000-entry map", 64, who=MAPS, script="rules.lua"),
    "http1-websocket": http("messages of 64..100 bytes each way after an upgrade, 64 connections", 64, "websocket", who=WEBSOCKET, unit="message"),
    "stats-quiet": http("5,000 servers configured, nobody asks for statistics", 64, who=MANY),
    "stats-polled": http("5,000 servers configured, `show stat` ten times a second", 64, who=MANY, aside="poll"),
    "reload": rate(2000, 64, who=proxies("http"), aside="reload"),
    "http1-log": http("GET 100 bytes, keep-alive, 64 connections, with and without httplog to UDP syslog", 64, who=LOG),
    "http1-mostly-idle-1000": rate(1000, 1000),
    "http1-mostly-idle-8000": rate(2000, 8000),
    "http1-rate-1": rate(1, 1),
    "http1-rate-10": rate(10, 4),
    "http1-rate-100": rate(100, 16),
    "http1-rate-10000": rate(10_000, 64),
    "tls-full-ecdsa": https("full handshake (ECDSA P-256), one request, close", 8, "tls-full", unit="handshake"),
    "tls-full-rsa": https("full handshake (RSA 2048), one request, close", 8, "tls-full", RSA, unit="handshake"),
    "tls-resumed": https("resumed handshake (ECDSA P-256), one request, close", 8, "tls-resumed", unit="handshake"),
    "tls-resumed-rsa": https("resumed handshake (RSA 2048), one request, close", 8, "tls-resumed", RSA, unit="handshake"),
    "tls-small": https("GET 100 bytes over TLS, keep-alive, 64 connections", 64),
    "tls-10m": https("GET 10 MB over TLS, keep-alive, 16 connections", 16, path="/10000000"),
    "tls-idle": https("2000 TLS connections after a request each, memory", 2000, "tls-idle", unit="connection"),
}
DEFAULT = ["tcp-small", "tcp-conn", "tcp-bulk", "tcp-bulk-up", "tcp-idle", "http1-small", "http1-100k", "http1-10m", "http1-post", "http1-idle", "http1-rules", "grpc-8x32"]
