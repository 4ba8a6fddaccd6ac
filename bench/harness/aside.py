"""What goes on beside a measurement: statistics that are polled, or reloads. Says what came of it in a dictionary."""

import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import threading
import time
from pathlib import Path

# Seconds between two questions for statistics, and between two reloads.
POLL_S = 0.1
RELOAD_S = 0.5

# A real change for each program: these words become those.
CHANGES = {
    "shardgate": ('http-reuse = "always"', 'http-reuse = "always"\nbalance = "leastconn"'),
    "haproxy": ("    server origin", "    balance leastconn\n    server origin"),
    "nginx": ("        keepalive 1024;", "        least_conn;\n        keepalive 1024;"),
}


@contextlib.contextmanager
def beside(scenario, proxy, home, pid, tools):
    """Does what the scenario wants beside the load until the block ends; yields what came of it, complete after the block."""
    told = {}
    work = {"": None, "poll": poll, "reload": reload}[scenario.aside]
    if not work:
        yield told
        return
    done = threading.Event()
    thread = threading.Thread(target=work, args=(done, told, proxy, Path(home), pid, tools))
    before = tree_usage(pid) if work is reload else None
    thread.start()
    try:
        yield told
    finally:
        done.set()
        thread.join()
    if before:
        # Processes come and go: what those that ended used is part of what their parent reaped.
        user, system = (after - b for after, b in zip(tree_usage(pid), before))
        told |= {"user_us": user, "sys_us": system, "cpu_us": user + system, "rss_kib": tree_rss_kib(pid)}


def poll(done, told, proxy, home, pid, tools):
    """Asks for the statistics of all servers again and again, as a collector does."""
    times = []
    while not done.wait(POLL_S):
        started = time.monotonic()
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(home / "admin.sock"))
            stream.sendall(b"show stat\n")
            rows = 0
            while block := stream.recv(1 << 16):
                rows += block.count(b"\n")
        times.append(time.monotonic() - started)
        told["rows"] = rows
    told["polls"] = len(times)
    told["poll_ms"] = statistics.median(times) * 1e3 if times else None


def reload(done, told, proxy, home, pid, tools):
    """Changes the configuration back and forth, and has each version loaded."""
    config = home / proxy.config
    usual = config.read_text()
    changed = usual.replace(*CHANGES[proxy.program], 1)
    assert changed != usual, f"{proxy.config}: nothing to change"
    number = 0
    while not done.wait(RELOAD_S):
        number += 1
        config.write_text(changed if number % 2 else usual)
        if proxy.program == "shardgate":
            program = tools.get(proxy.name, tools["shardgate"])
            command = [program, "reload", "-s", home / "admin.sock"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        else:
            signal_of = {"haproxy": signal.SIGUSR2, "nginx": signal.SIGHUP}
            os.kill(pid, signal_of[proxy.program])
    told["reloads"] = number


def note(program, records):
    """One line about what went on beside the load of one proxy; None if nothing did."""
    if any(r.get("polls") for r in records):
        ms = statistics.median(r["poll_ms"] for r in records)
        return f"{program}: `show stat`, {records[0]['rows'] - 2} rows, took {ms:.0f} ms; asked {sum(r['polls'] for r in records)} times"
    if any("reloads" in r for r in records):
        failed, units = (sum(r[key] for r in records) for key in ("errors", "units"))
        return f"{program}: {failed} of {units} requests failed over {sum(r['reloads'] for r in records)} reloads"
    return None


def tree(pid):
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def tree_usage(pid):
    """User and system time in microseconds, that of children which ended included; in the kernel's ticks of 10 ms."""
    user = system = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return user * 10_000, system * 10_000


def tree_rss_kib(pid):
    total = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            total += int((re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{one}/status").read_text()) or [0, 0])[1])
    return total
