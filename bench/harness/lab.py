"""The programs under test and the origin: builds, starts, verifies and stops them. Measures nothing."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = ROOT / "bench" / "peers"
NGINX_STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
PACKAGE_OF = {"haproxy": "haproxy", "nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux", "curl": "curl", "h2load": "nghttp2-client", "openssl": "openssl"}


def need_programs(scenarios, wanted):
    """Says which Debian packages are missing; installs nothing."""
    programs = ["taskset"] + [p for p in ("haproxy", "nginx") if p in wanted]
    programs += [s.load for s in scenarios if s.load in ("wrk", "h2load")]
    programs += ["openssl"] if any(s.scheme == "https" for s in scenarios) else []
    programs += ["curl"] if any(s.verify == "http" for s in scenarios) else []
    programs += ["nginx"] if any(s.service == "grpc" for s in scenarios) else []
    missing = {PACKAGE_OF[p] for p in programs if not which(p)}
    if "nginx" in wanted and any(s.verify not in ("http", "grpc") for s in scenarios) and not NGINX_STREAM.exists():
        missing.add("libnginx-mod-stream")
    if missing:
        sys.exit(f"bench/run: missing Debian packages: apt-get install {' '.join(sorted(missing))}")


def which(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def build(args):
    """Builds the generator, the origin, the floor and the proxy; returns the path of every program."""
    if args.built:
        out = Path(args.built).resolve()
        return programs(out, args)
    profile = [] if args.smoke else ["--release"]
    optional = {"bench-floor": args.floor, "bench-chart": args.svg}
    examples = ["bench-load", "bench-origin", *(name for name, wanted in optional.items() if wanted)]
    targets = [word for example in examples for word in ("--example", example)]
    if args.shardgate and not args.binary:
        targets += ["--bin", "shardgate"]
    subprocess.run(["cargo", "build", "--quiet", *profile, *targets], cwd=ROOT, check=True)
    command = ["cargo", "metadata", "--format-version=1", "--no-deps"]
    meta = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    out = Path(json.loads(meta.stdout)["target_directory"]) / ("debug" if args.smoke else "release")
    return programs(out, args)


def programs(out, args):
    """Every program by its name; ours are in `out`."""
    return {
        "load": out / "examples" / "bench-load",
        "origin": out / "examples" / "bench-origin",
        "floor": out / "examples" / "bench-floor",
        "chart": out / "examples" / "bench-chart",
        "shardgate": Path(args.binary).resolve() if args.binary else out / "shardgate",
        "haproxy": which("haproxy"),
        "nginx": which("nginx"),
        **{name: path for name, path in args.peer},
    }


def measuring_core(scenario):
    """The load generator's core: behind those of the proxy, or core 1 where there are not enough."""
    cpus = os.cpu_count()
    return str(scenario.cores if cpus > scenario.cores else min(1, cpus - 1))


def origin_core(scenario):
    """A core of its own where there is one."""
    own = scenario.cores + 1
    return str(own) if os.cpu_count() > own else measuring_core(scenario)


@contextlib.contextmanager
def origin(tools, scenario, program="own"):
    """The servers behind the proxies; yields their ports. `program` is who serves HTTP: `own` or `nginx`."""
    with own_origin(tools, scenario) as ports:
        if program == "own":
            yield ports
            return
        if scenario.service != "http" or scenario.load == "websocket":
            sys.exit(f"bench/run: nginx is an origin of HTTP alone: {scenario.title}")
        with nginx_origin(tools, scenario) as port:
            yield {**ports, "http": port}


@contextlib.contextmanager
def nginx_origin(tools, scenario):
    """nginx with files whose names are their lengths, which is what the paths of the scenarios end with."""
    with tempfile.TemporaryDirectory(prefix="shardgate-origin-") as directory:
        port, files = free_port(), Path(directory) / "files"
        files.mkdir()
        for size in (100, 100_000, 10_000_000):
            (files / str(size)).write_bytes(b"x" * size)
        # Its workers are somebody else where root starts it.
        for path in (Path(directory), files):
            path.chmod(0o755)
        config = Path(directory) / "nginx.conf"
        template = (PEERS / "origin-nginx.conf").read_text()
        config.write_text(template.replace("@DIR@", directory).replace("@PORT@", str(port)))
        with open(Path(directory) / "log", "w+") as log:
            process = subprocess.Popen(
                ["taskset", "-c", origin_core(scenario), tools["nginx"], "-p", directory, "-c", config], stdout=log, stderr=log
            )
            try:
                wait_until(lambda: answers(port), process, lambda: log_text(log), "the origin nginx")
                yield port
            finally:
                process.terminate()
                process.wait(10)


@contextlib.contextmanager
def own_origin(tools, scenario):
    process = subprocess.Popen(
        ["taskset", "-c", origin_core(scenario), tools["origin"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        ports = {name: int(port) for name, port in (pair.split("=") for pair in line.split())}
        with grpc_server(tools, scenario) if scenario.service == "grpc" else contextlib.nullcontext(0) as grpc:
            yield ports | {"grpc": grpc}
    finally:
        process.stdin.close()
        process.wait(10)


@contextlib.contextmanager
def grpc_server(tools, scenario):
    """nginx as a server of gRPC that has one answer for every call; yields its port."""
    with tempfile.TemporaryDirectory(prefix="shardgate-bench-") as directory:
        port, home = free_port(), Path(directory)
        # Its worker is another user.
        home.chmod(0o755)
        (home / "answer").write_bytes(scenario.body)
        template = (PEERS / "nginx-grpc-server.conf").read_text()
        config = home / "nginx.conf"
        config.write_text(template.replace("@DIR@", directory).replace("@PORT@", str(port)))
        command = ["taskset", "-c", origin_core(scenario), tools["nginx"], "-p", directory, "-c", config]
        with open(home / "log", "w+") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                wait_until(lambda: answers(port), process, lambda: log_text(log), scenario.proxies[0])
                yield port
            finally:
                process.terminate()
                process.wait(10)


@contextlib.contextmanager
def running(proxy, scenario, tools, ports, args):
    """The proxy with its configuration filled in; yields its port, the ids of its processes and its directory."""
    with tempfile.TemporaryDirectory(prefix="shardgate-bench-") as directory:
        port = free_port()
        values = {
            "DIR": directory,
            "PORT": port,
            "ORIGIN": ports[scenario.service],
            "LOG": ports["log"],
            "THREADS": scenario.cores,
            "CORES": json.dumps(list(range(scenario.cores))),
            "CONTROL_CORE": 0,
            "SERVERS": servers(proxy.program) if proxy.program != "floor" else "",
            "RULES": rules(proxy.program) if proxy.program != "floor" else "",
            **proxy.values,
        }
        config = Path(directory) / proxy.config
        if proxy.program != "floor":
            own = Path(args.config) / proxy.config if proxy.program == "shardgate" and args.config else None
            template = (own or PEERS / proxy.config).read_text()
            write_maps(Path(directory))
            if scenario.scheme == "https":
                write_certificate(Path(directory), proxy.values.get("CERTIFICATE", "ecdsa"))
            config.write_text(re.sub(r"@([A-Z_]+)@", lambda m: str(values[m[1]]), template))
        cores = ",".join(str(c) for c in range(scenario.cores))
        # A program by path (`--peer`) goes by the proxy's name.
        program = tools.get(proxy.name, tools[proxy.program])
        command = {
            # Only a master can reload.
            "haproxy": [program, *(["-W"] if scenario.aside == "reload" else []), "-db", "-f", config],
            "nginx": [program, "-p", directory, "-c", config],
            "shardgate": [program, "run", "-c", config],
            "floor": [program, str(scenario.cores), f"127.0.0.1:{port}", f"127.0.0.1:{ports[scenario.service]}"],
        }[proxy.program]
        with open(Path(directory) / "log", "w+") as log:
            process = subprocess.Popen(["taskset", "-c", cores, *command], stdout=log, stderr=log)
            try:
                wait_until(lambda: answers(port), process, lambda: log_text(log), proxy.name)
                # Workers of a program that reloads come and go; `aside` counts what they use.
                yield port, [process.pid] if scenario.aside == "reload" else [process.pid, *children(process.pid)], directory
            finally:
                process.send_signal(signal.SIGTERM if proxy.program != "haproxy" else signal.SIGINT)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def rules(program):
    """200 conditions that never match, as each program's documentation would write them."""
    line = {
        "haproxy": "    http-request deny if {{ path_beg /deny/{n}/ }}\n",
        "nginx": "        location ^~ /deny/{n}/ {{ return 403; }}\n",
        "shardgate": '  {{ deny = {{ status = 403 }}, if = "{{ path_beg /deny/{n}/ }}" }},\n',
    }[program]
    return "".join(line.format(n=n) for n in range(200))


def servers(program):
    """5,000 servers that nobody uses, in two backends."""
    head, line = {
        "haproxy": ("\nbackend many{n}\n", "    server s{n} 127.1.{high}.{low}:80\n"),
        "nginx": ("", ""),
        "shardgate": ("\n[backend.many{n}.server]\n", 's{n} = {{ address = "127.1.{high}.{low}:80" }}\n'),
    }[program]
    return "".join(
        (head.format(n=n // 2500) if n % 2500 == 0 else "") + line.format(n=n, high=n // 250, low=n % 250 + 1)
        for n in range(5000)
    )


def write_maps(directory):
    """The map of the rules scenario in HAProxy's and in nginx's syntax."""
    entries = [(f"/map/{n}/100", f"value-{n}") for n in range(10_000)]
    (directory / "map.txt").write_text("".join(f"{k} {v}\n" for k, v in entries))
    (directory / "map.nginx").write_text("".join(f"{k} {v};\n" for k, v in entries))


def write_certificate(directory, kind):
    """A self-signed certificate with its key in one file."""
    key = {"ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"]}[kind]
    cert, secret = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", *key, "-days", "30", "-subj", "/CN=bench.test"]
    names = ["-addext", "subjectAltName=DNS:bench.test", "-out", cert, "-keyout", secret]
    subprocess.run([*command, *names], check=True, capture_output=True)
    (directory / f"{kind}.pem").write_text(cert.read_text() + secret.read_text())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def wait_until(condition, process, log, name):
    deadline = time.monotonic() + 10
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench/run: {name} does not come up (exit {process.poll()}):\n{log()}")
        time.sleep(0.02)


def log_text(log):
    log.seek(0)
    return log.read()


def children(pid):
    """nginx's workers."""
    time.sleep(0.1)
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(p) for p in (task / "children").read_text().split()]
    return found


def verify(scenario, port, tools, proxy):
    target = f"127.0.0.1:{port}"
    if scenario.verify == "http":
        # A server of prior knowledge alone takes no HTTP/1.
        version = ["--http2-prior-knowledge"] if "h2" in proxy.config and scenario.scheme == "http" else []
        command = ["curl", "-sSfk", *version, f"{scenario.scheme}://{target}/100000"]
        body = subprocess.run(command, capture_output=True, timeout=20)
        if body.returncode or body.stdout != b"x" * 100_000:
            sys.exit(f"bench/run: {proxy.name}: wrong answer: {body.stderr.decode()} {body.stdout[:200]!r}")
        return
    if scenario.verify == "grpc":
        # curl shows no trailers of HTTP/2.
        command = ["nghttp", "-v", "-d", "-", "-Hcontent-type: application/grpc", "-Hte: trailers", f"http://{target}/"]
        done = subprocess.run(command, input=scenario.body, capture_output=True, timeout=20)
        if done.returncode or scenario.body not in done.stdout or b"grpc-status: 0" not in done.stdout:
            sys.exit(f"bench/run: {proxy.name}: wrong answer: {done.stderr.decode()} {done.stdout[:300]!r}")
        return
    done = subprocess.run([tools["load"], f"verify-{scenario.verify}", "--target", target], timeout=60)
    if done.returncode:
        sys.exit(f"bench/run: {proxy.name} does not return the same bytes")


def chart(args, tools):
    subprocess.run([tools["chart"], args.json, args.svg], check=True)
