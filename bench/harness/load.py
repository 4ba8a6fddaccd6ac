"""Puts one proxy under one load and reads what it used: one record per round. Starts no proxy."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .lab import ROOT, measuring_core


def measure(scenario, port, pids, tools, args):
    pin = ["taskset", "-c", measuring_core(scenario)]
    if scenario.load == "wrk":
        return measure_wrk(pin, scenario, port, pids, args)
    if scenario.load == "h2load":
        return measure_h2load(pin, scenario, port, pids, args)
    if scenario.load == "h2-idle":
        return measure_h2_idle(scenario, port, pids, args)
    connections = min(scenario.connections, 200) if args.smoke else scenario.connections
    command = [
        *pin, tools["load"], scenario.load, "--target", f"127.0.0.1:{port}", "--connections", str(connections),
        "--seconds", str(args.seconds), "--warmup", "0.05" if args.smoke else "0.5", "--path", scenario.path,
        "--watch", ",".join(map(str, pids)), *scenario.options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=args.seconds + 60)
    if done.returncode:
        sys.exit(f"bench/run: the load generator failed: {done.stderr}")
    result = json.loads(done.stdout)
    if done.stderr:
        print(done.stderr, file=sys.stderr)
    return result


def watched(command, pids):
    """Runs a generator that cannot watch; returns its output, the seconds, and the record without units and latency."""
    before = usage(pids)
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    after = usage(pids)
    spent = {key: after[key] - before[key] for key in after}
    ticks = max(1, spent["utime"] + spent["stime"])
    return done.stdout, {
        "seconds": seconds,
        "cpu_us": spent["cpu_us"],
        "user_us": spent["cpu_us"] * spent["utime"] / ticks,
        "sys_us": spent["cpu_us"] * spent["stime"] / ticks,
        "rss_kib": rss_kib(pids),
        "rss_before_kib": None,
        "switches_voluntary": spent["voluntary"],
        "switches_forced": spent["forced"],
    }


def measure_wrk(pin, scenario, port, pids, args):
    length = f"-d{max(1, round(args.seconds))}s"
    url = f"{scenario.scheme}://127.0.0.1:{port}{scenario.path}"
    with wrk_script(scenario) as script:
        command = [*pin, "wrk", "-t1", f"-c{scenario.connections}", length, "--latency", *scenario.options, "-s", script, url]
        text, record = watched(command, pids)
    errors = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    errors += sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    units = int(re.search(r"(\d+) requests in", text)[1])
    latency = {f"{name}_us": wrk_time(text, at) for name, at in (("p50", "50%"), ("p99", "99%"), ("p999", "99.9th"))}
    return {**record, "units": units, "errors": errors, **latency}


@contextlib.contextmanager
def wrk_script(scenario):
    """The scenario's script and latency.lua in one file, since wrk takes only one."""
    parts = [*([scenario.script] if scenario.script else []), "latency.lua"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write("".join((ROOT / "bench" / "wrk" / part).read_text() for part in parts))
        file.flush()
        yield file.name


def measure_h2load(pin, scenario, port, pids, args):
    """`options` say how many streams, `-m32`. Percentiles come from h2load's log of every request: its summary has none."""
    length = f"-D{max(1, round(args.seconds))}"
    url = f"{scenario.scheme}://127.0.0.1:{port}{scenario.path}"
    with tempfile.NamedTemporaryFile() as body, tempfile.NamedTemporaryFile("r") as log:
        body.write(scenario.body)
        body.flush()
        command = [*pin, "h2load", "-t1", f"-c{scenario.connections}", length, "--log-file", log.name, *scenario.options, url]
        text, record = watched([*command, "-d", body.name] if scenario.body else command, pids)
        latency = h2load_latency(log)
    done = re.search(r"(\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored", text)
    # What was in flight when the time was over counts as neither.
    return {**record, "units": int(done[2]), "errors": int(done[3]) + int(done[4]), **latency}


def h2load_latency(log):
    """Percentiles of the requests behind the first half second, in which all connections are opened at once. A line: when it
    began in µs, its status, how many µs it took."""
    requests = [(int(began), int(took)) for began, _, took in (line.split() for line in log)]
    first = min((began for began, _ in requests), default=0)
    took = sorted(took for began, took in requests if began - first >= 500_000) or sorted(took for _, took in requests) or [0]
    at = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    return {name: took[min(len(took) - 1, int(len(took) * share))] for name, share in at.items()}


def measure_h2_idle(scenario, port, pids, args):
    """Opens connections, has one request answered on each, and looks at the memory once all are quiet."""
    authority, path = f"127.0.0.1:{port}".encode(), scenario.path.encode()
    # GET, http, and two literals without indexing (RFC 7541 6.2.2).
    block = b"\x82\x86\x04" + bytes([len(path)]) + path + b"\x01" + bytes([len(authority)]) + authority
    request = len(block).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + block
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\0\x04\x01\0\0\0\0" + request
    count = min(scenario.connections, 100) if args.smoke else scenario.connections
    before = rss_kib(pids)
    with contextlib.ExitStack() as open_sockets:
        for _ in range(count):
            connection = open_sockets.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            connection.sendall(hello)
            wait_for_end_of_stream(connection.makefile("rb"))
        spent = usage(pids)
        time.sleep(args.seconds)
        quiet = usage(pids)
        after = rss_kib(pids)
    record = {"seconds": args.seconds, "cpu_us": quiet["cpu_us"] - spent["cpu_us"], "user_us": 0, "sys_us": 0}
    switches = {"switches_voluntary": 0, "switches_forced": 0}
    return {**record, **switches, "units": count, "errors": 0, "rss_kib": after, "rss_before_kib": before}


def wait_for_end_of_stream(frames):
    while head := frames.read(9):
        frames.read(int.from_bytes(head[:3], "big"))
        if head[3] in (0, 1) and head[4] & 1:
            return
    raise ConnectionError("closed before its answer")


def wrk_time(text, quantile):
    number, unit = re.search(rf"{re.escape(quantile)}\s+([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def usage(pids):
    """The same as bench/watch.rs, for load generators that cannot do it themselves."""
    total = {"cpu_us": 0.0, "utime": 0, "stime": 0, "voluntary": 0, "forced": 0}
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            total["utime"] += int(fields[11])
            total["stime"] += int(fields[12])
            total["cpu_us"] += int((task / "schedstat").read_text().split()[0]) / 1000
            status = (task / "status").read_text()
            total["voluntary"] += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])
            total["forced"] += int(re.search(r"^nonvoluntary_ctxt_switches:\s+(\d+)", status, re.M)[1])
    return total


def rss_kib(pids):
    return sum(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{p}/status").read_text())[1]) for p in pids)
