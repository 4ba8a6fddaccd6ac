"""Tables of medians, and the record of a run. Reads records, measures nothing."""

import os
import re
import statistics
import time
from pathlib import Path

from . import aside


def show(name, scenario, proxies, records, smoke):
    """One line per proxy: medians over the rounds, the ratio of CPU per unit to the best peer's, and what it costs above
    the floor, where there is one."""
    print(f"\n{name}: {scenario.title}{' (smoke: the figures mean nothing)' if smoke else ''}")
    rows = [(proxy, summary([r for r in records if r["proxy"] == proxy.name], scenario.per)) for proxy in proxies]
    rows = [(proxy, m) for proxy, m in rows if m]
    if scenario.load.endswith("idle"):
        show_idle(rows)
    else:
        show_work(rows, scenario)
    for proxy in proxies:
        if line := aside.note(proxy.name, [r for r in records if r["proxy"] == proxy.name]):
            print(f"  {line}")


def show_idle(rows):
    print(f"{'proxy':<16}{'RSS before':>14}{'RSS after':>14}{'bytes/conn':>12}{'CPU ms/s idle':>15}{'ratio':>8}")
    best = min((m["grown"] for p, m in rows if is_peer(p)), default=None)
    for proxy, m in rows:
        print(
            f"{proxy.name:<16}{m['rss_before']:>10.0f} KiB{m['rss']:>10.0f} KiB{m['grown']:>12.0f}{m['busy'] * 1e3:>15.2f}"
            f"{ratio(m['grown'], best):>8}"
        )


def show_work(rows, scenario):
    per = "GB" if scenario.per == 1e9 else scenario.unit
    scale, cpu_name = (1e3, "CPU ms") if scenario.per == 1e9 else (1, "CPU µs")
    print(
        f"{'proxy':<16}{cpu_name + '/' + per:>18}{'user':>8}{'sys':>8}{'±':>7}{per + 's/s':>14}{'busy':>7}"
        f"{'p50 µs':>9}{'p99 µs':>9}{'p99.9':>9}{'RSS MiB':>9}{'switches/' + per:>20}{'floor+':>8}{'ratio':>8}"
    )
    best = min((m["cpu"] for p, m in rows if is_peer(p)), default=None)
    floor = next((m["cpu"] for p, m in rows if p.program == "floor"), None)
    for proxy, m in rows:
        latency = "".join(f"{m[q]:>9.0f}" if m[q] else f"{'-':>9}" for q in ("p50", "p99", "p999"))
        rate = f"{m['rate']:>14.2f}" if scenario.per == 1e9 else f"{m['rate']:>14.0f}"
        above = f"{(m['cpu'] - floor) / scale:>8.2f}" if floor and proxy.program != "floor" else f"{'-':>8}"
        print(
            f"{proxy.name:<16}{m['cpu'] / scale:>18.2f}{m['user'] / scale:>8.2f}{m['sys'] / scale:>8.2f}{m['spread']:>6.0%} "
            f"{rate}{m['busy']:>7.0%}{latency}{m['rss'] / 1024:>9.1f}{m['switches']:>20.2f}{above}{ratio(m['cpu'], best):>8}"
        )


def is_peer(proxy):
    return proxy.program not in ("shardgate", "floor")


def summary(records, per):
    """Medians over the rounds of one proxy; None when there are none. `per`: units that a figure is about."""
    if not records:
        return None
    units = [max(1, r["units"]) / per for r in records]

    def median(values):
        values = [v for v in values if v is not None]
        return statistics.median(values) if values else None

    cpu = [r["cpu_us"] / u for r, u in zip(records, units)]
    latency = {q: median([r.get(f"{q}_us") for r in records]) for q in ("p50", "p99", "p999")}
    return {
        "cpu": median(cpu),
        "spread": (max(cpu) - min(cpu)) / 2 / max(median(cpu), 1e-9),
        "user": median(r["user_us"] / u for r, u in zip(records, units)),
        "sys": median(r["sys_us"] / u for r, u in zip(records, units)),
        "rate": median(u / r["seconds"] for r, u in zip(records, units)),
        "busy": median(r["cpu_us"] / 1e6 / r["seconds"] for r in records),
        "switches": median((r["switches_voluntary"] + r["switches_forced"]) / u for r, u in zip(records, units)),
        "rss": median(r["rss_kib"] for r in records),
        "rss_before": median(r["rss_before_kib"] for r in records),
        "grown": median(grown(r) for r in records if r["rss_before_kib"]),
        **latency,
    }


def grown(record):
    return (record["rss_kib"] - record["rss_before_kib"]) * 1024 / max(1, record["units"])


def ratio(value, best):
    return f"{value / best:.2f}" if best else "-"


def machine():
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {"kernel": os.uname().release, "cpus": os.cpu_count(), "cpu": cpu[1] if cpu else "", "time": time.time()}


def compare(before, after):
    """Two records of bench/run side by side: CPU per unit of every proxy in both, and the change."""
    print(f"{'scenario':<24}{'proxy':<16}{'before':>12}{'after':>12}{'change':>9}{'spread':>16}")
    names = dict.fromkeys((r["scenario"], r["proxy"]) for r in after["results"])
    for scenario, proxy in names:
        per = after.get("per", {}).get(scenario, 1)
        mine = [[r for r in run["results"] if (r["scenario"], r["proxy"]) == (scenario, proxy)] for run in (before, after)]
        old, new = (summary(records, per) for records in mine)
        if not old or not new:
            continue
        key = "grown" if scenario.endswith("-idle") and new["grown"] is not None else "cpu"
        change = new[key] / old[key] - 1 if old[key] else 0
        spread = f"±{old['spread']:.0%} ±{new['spread']:.0%}"
        # A change within the spread of either run says nothing.
        mark = " *" if abs(change) > max(old["spread"], new["spread"], 0.02) else ""
        print(f"{scenario:<24}{proxy:<16}{old[key]:>12.2f}{new[key]:>12.2f}{change:>+8.1%}{spread:>16}{mark}")
