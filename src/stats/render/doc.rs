//! docs/STATS.md, generated from the tables (a golden test keeps it fresh).

use std::fmt::Write as _;

use crate::stats::counters::{BackendCells, FrontendCells, ListenerCells, ServerCells};
use crate::stats::latency::Laps;
use crate::stats::process::CORE_TABLE;
use crate::stats::render::info::INFO;
use crate::stats::series::SERIES_BYTES;
use crate::stats::table::{COMPATIBLE_COLUMNS, Object, Objects, TABLE};

/// The whole page.
pub fn stats_md() -> String {
    let mut out = String::from(INTRODUCTION);
    memory(&mut out);
    out.push_str(LATENCY);
    out.push_str(HISTORY);
    columns(&mut out);
    out.push_str("\n## show info\n\n| key | unit | tags | meaning |\n|---|---|---|---|\n");
    for row in INFO {
        let (unit, tags) = (row.unit.words(), row.nature.tags().code);
        let _ = writeln!(out, "| `{}` | {unit} | {tags} | {} |", row.name, row.help);
    }
    out.push_str(
        "\n## show activity\n\nOne number per core, and their sum first.\n\n| name | meaning |\n|---|---|\n",
    );
    for row in CORE_TABLE {
        let _ = writeln!(out, "| `{}` | {} |", row.name, row.help);
    }
    out
}

/// What a row takes, and what bounds it.
fn memory(out: &mut String) {
    let cells = [
        size_of::<ServerCells>(),
        size_of::<BackendCells>(),
        size_of::<FrontendCells>(),
        size_of::<ListenerCells>(),
    ];
    out.push_str(
        "\n## Memory\n\n| bytes of a row | server | backend | frontend | bind |\n|---|---|---|---|---|\n",
    );
    let mut line = |what: &str, [server, backend, frontend, bind]: [usize; 4]| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {what} | {server} | {backend} | {frontend} | {bind} |");
    };
    line("cells, padded to cache lines: on each data core and on the control core", cells);
    line("rates, averages and maxima, on the control core", [SERIES_BYTES; 4]);
    line(
        "percentiles of the window that was asked for last, of a row with traffic",
        [size_of::<Laps>(), size_of::<Laps>(), 0, 0],
    );
    line("where counters stood at `clear counters all`", [TABLE.len() * size_of::<u64>(); 4]);
    let _ = writeln!(
        out,
        "\nWith two data cores a server that has had traffic takes {} bytes, before histograms and history, whose bounds stand below:\n\
         at most 650 KiB of histograms a row, and 64 MiB of history for all rows together. An answer to `show stat` takes about 500\n\
         bytes a row while it is written: its text.\n",
        3 * cells[0] + SERIES_BYTES + size_of::<Laps>(),
    );
}

fn columns(out: &mut String) {
    out.push_str("## show stat\n\n| # | column | on | tags | unit | meaning |\n|---|---|---|---|---|---|\n");
    for (position, row) in TABLE.iter().enumerate() {
        if position == COMPATIBLE_COLUMNS {
            out.push_str("| | `-` | | | | Columns of our own follow. |\n");
        }
        let on = letters(row.objects);
        let (tags, unit) = (row.nature.tags().code, row.unit.words());
        let _ = writeln!(out, "| {position} | `{}` | {on} | {tags} | {unit} | {} |", row.csv, row.help);
    }
}

fn letters(objects: Objects) -> String {
    let letter = |(object, letter)| objects.contains(object).then_some(letter);
    let all =
        [(Object::Frontend, "F"), (Object::Backend, "B"), (Object::Server, "S"), (Object::Listener, "L")];
    let mut text = all.into_iter().filter_map(letter).collect::<Vec<_>>().join(" ");
    if objects.http_only() {
        text.push_str(" (http)");
    }
    text
}

const LATENCY: &str = "\
## Durations

Each step of a request, in TCP mode of a session, is timed on the server that it was sent to: `queue` (0 where a slot was
free), `connect` (not on idle connections that are used again), `tls`, `first_byte`, `transfer`, `total`. Backends show their
servers together. `show stat` has p50, p90, p99, p99.9 and the highest value of each step in microseconds, over the last
minute unless it is asked for `10s`, `5m` or `start`; `show latency` shows all windows. A column without any duration in the
window is empty.

- Durations are kept in buckets, 16 to each power of two: values are right within 6 %, below 32 µs exactly. The longest is 71
  minutes.
- Windows move by whole slices: `10s` looks back 10 seconds, `1m` 60 to 70 seconds, `5m` 300 to 330. `clear counters` does not
  touch them.
- Memory: a core has a table of 64 KiB for its durations, whatever the number of servers, which goes to the control core twice
  a second or when it is full. The control core keeps 8 bytes for each step and bucket that occurred in a slice (10 of a second, 8
  of ten seconds, 10 of thirty seconds) and 16 bytes for each that occurred since the start. A server with five steps of 30
  different buckets each takes 36 KiB there, one without traffic nothing; the most a row can take is 650 KiB.

";

const HISTORY: &str = "\
## History

`show stat at -15m` (also with `typed` or `json`) shows the main counters, sessions, queues, rates and the p50 and p99 of
`total` as they were: each second for ten minutes, every ten seconds for two hours, every minute for 24 hours. What the history
does not keep is empty there. Rates are means over the second, ten seconds or minute; percentiles are those of that time.

`show history NAME 2h` prints what a frontend, backend or server did, a line for each second, ten seconds or minute. The graphs of
the page and of `shardgate top` show it: the last minute, ten minutes, two hours or day.

Memory: a row that did something takes about 25 bytes a second, ten seconds or minute, one without traffic nothing; all of it
stays below 64 MiB: a day of about 900 rows that are busy all the time. Beyond it the oldest is forgotten first.

";

const INTRODUCTION: &str = "\
# Statistics

Generated from `src/stats/table.rs` and its neighbours; `UPDATE_GOLDEN=1 cargo test` refreshes it.

Every counter is live: bytes of a connection move while it is open. Columns and their order are HAProxy's, so that tools
made for it work; our own columns stand after the `-` column. A column that an object does not have is empty.

- `on`: F frontend, B backend, S server, L bind (listener). `(http)`: only in `mode http`.
- `tags`: HAProxy's three letters of the typed form: origin (Metric, Status, Key, Config, Product), nature (Counter, Gauge,
  Max, Rate, Limit, Duration, Age, average `a`, Name, Output) and scope (Process, Service).
- Lines of binds are printed when they are asked for by type: `show stat -1 8 -1`.
- Maxima are exact on one core. Over several cores they are the larger of the highest sum seen once a second and the highest
  value of a single core, hence a lower bound for peaks shorter than a second.
- `show stat` of 5,000 servers takes 20 to 27 ms of CPU, and nothing of the data cores but cache lines that it reads. On two cores
  that a load keeps busy, one of them shared with the control core, the answer took 42 ms, and 34 ms from HAProxy, whose requests
  had a p99 of 46 ms meanwhile instead of 7 ms. The answer goes to the kernel in one piece, up to 2 MiB, so that it does not wait
  for the client in between.
- The control core has the same priority as a data core. Where both share a CPU that is busy, each gets half of it while an answer is
  made.
- Text never holds a comma or a quote: they are replaced by `;` and `'`.
- `clear counters` forgets maxima, `clear counters all` starts counters from zero too; `show info` keeps its totals.
";
