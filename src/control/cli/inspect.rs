//! Commands that look into the process: malformed messages, threads, descriptors, memory, source ports, names.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use crate::base::limits::{BUF_BYTES, DESCRIPTORS_SHOWN_MAX};
use crate::control::cli::session::{Answer, Call, Reply};
use crate::control::cli::target::{Captured, Job, Outcome};
use crate::model::Model;
use crate::stats::process::{CORE_CELLS, CoreStat};

/// Bytes of a malformed message on a line of its dump.
const DUMP_WIDTH: usize = 32;

/// `show errors [FRONTEND or BACKEND] [request|response]`.
pub(super) fn errors(call: &mut Call<'_>) -> Answer {
    let has = |word: &str| call.args.iter().any(|arg| arg == word);
    let (requests, responses) = (has("request"), has("response"));
    let name = call.args.iter().find(|arg| !matches!(arg.as_str(), "request" | "response" | "-1"));
    let model = call.target.model();
    let number = name.and_then(|name| name.parse::<u32>().ok());
    let (total, kept) = call.target.errors();
    let mut out = format!("Total events captured: {total}\n");
    for captured in kept {
        let one = &captured.malformed;
        let frontend = &model.frontends[one.frontend];
        let backend = one.server.map(|id| &model.backends[model.servers[id].backend]);
        let is_of = |wanted: &String| {
            frontend.name == *wanted
                || Some(frontend.iid) == number
                || backend.is_some_and(|b| b.name == *wanted || Some(b.iid) == number)
        };
        let kind = requests == responses || one.server.is_some() == responses;
        if kind && name.is_none_or(is_of) {
            push_error(&mut out, &captured, model);
        }
    }
    Ok(Reply::Text(out))
}

fn push_error(out: &mut String, captured: &Captured, model: &Model) {
    let one = &captured.malformed;
    let frontend = &model.frontends[one.frontend];
    let (backend, server) = match one.server {
        Some(id) => {
            let server = &model.servers[id];
            let backend = &model.backends[server.backend];
            (format!("{} (#{})", backend.name, backend.iid), format!("{} (#{})", server.name, server.sid))
        }
        None => ("<NONE> (#-1)".to_owned(), "<NONE> (#-1)".to_owned()),
    };
    let kind = if one.server.is_some() { "response" } else { "request" };
    let since = captured.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "\n[{}.{:03}] frontend {} (#{}): invalid {kind}: {}\n  backend {backend}, server {server}, event #{}\n  src {}, \
         session {:#x}\n  {} bytes, error at position {}:\n\n",
        since.as_secs(),
        since.subsec_millis(),
        frontend.name,
        frontend.iid,
        one.reason,
        captured.number,
        one.client,
        one.session,
        one.len,
        one.at,
    );
    dump(out, &one.bytes, one.start, one.at);
}

/// Lines of the message with their position; the line of the offending byte is marked.
fn dump(out: &mut String, bytes: &[u8], start: usize, at: usize) {
    let mut position = start;
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1).min(DUMP_WIDTH);
        let (line, more) = rest.split_at(end);
        let mark = if (position..position + end).contains(&at) { '>' } else { ' ' };
        let _ = writeln!(out, "{mark} {position:05} {}", line.escape_ascii());
        position += end;
        rest = more;
    }
}

/// `show rules [never-hit]`.
pub(super) fn rules(call: &mut Call<'_>) -> Answer {
    let never = match call.arg(0) {
        "" => false,
        "never-hit" => true,
        _ => return Err("Expected nothing or never-hit.".to_owned()),
    };
    let mut out = "# hits last_s section list origin rule\n".to_owned();
    let hits = call.target.rule_hits();
    for rule in call.target.model().rules() {
        let (hits, since) = hits.get(rule.id as usize).copied().unwrap_or_default();
        if never && hits > 0 {
            continue;
        }
        let last = if hits > 0 { since.as_secs().to_string() } else { "-".to_owned() };
        let _ = writeln!(
            out,
            "{hits} {last} {}/{} {} {} {}",
            rule.kind, rule.section, rule.list, rule.origin, rule.text
        );
    }
    Ok(Reply::Text(out))
}

/// `show threads`: one line a core.
pub(super) fn threads(call: &mut Call<'_>) -> Answer {
    let global = &call.target.model().global;
    let cpus: Vec<usize> = global.cores.iter().copied().chain([global.control_core]).collect();
    let cores = call.target.cores();
    let mut out = "# thread cpu cpu_ms idle_ms tasks loops waits sessions\n".to_owned();
    for (index, (cpu, core)) in cpus.iter().zip(&cores).enumerate() {
        let name = if index + 1 == cores.len() { "control".to_owned() } else { format!("core-{index}") };
        let get = |stat: CoreStat| core[stat as usize];
        let _ = writeln!(
            out,
            "{name} {cpu} {} {} {} {} {} {}",
            get(CoreStat::CpuNs) / 1_000_000,
            get(CoreStat::IdleNs) / 1_000_000,
            get(CoreStat::Tasks),
            get(CoreStat::Turns),
            get(CoreStat::Waits),
            get(CoreStat::Connections),
        );
    }
    Ok(Reply::Text(out))
}

/// `show fd [NUMBER]`.
pub(super) fn descriptors(call: &mut Call<'_>) -> Answer {
    let found = call.target.descriptors()?;
    let wanted = call.arg(0).parse::<u32>().ok();
    let mut out = "# fd: what\n".to_owned();
    for (number, what) in found.iter().filter(|(number, _)| wanted.is_none_or(|one| one == *number)) {
        let _ = writeln!(out, "{number}: {what}");
    }
    if found.len() == DESCRIPTORS_SHOWN_MAX {
        let _ = writeln!(out, "# there may be more: this list ends at {DESCRIPTORS_SHOWN_MAX}");
    }
    Ok(Reply::Text(out))
}

/// `show env [NAME]`: what the configuration can read.
pub(super) fn environment(call: &mut Call<'_>) -> Answer {
    let wanted = call.arg(0);
    let mut all: Vec<String> = std::env::vars_os()
        .filter(|(name, _)| wanted.is_empty() || name == wanted)
        .map(|(name, value)| format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    all.sort_unstable();
    if all.is_empty() { Err("Variable not found".to_owned()) } else { Ok(Reply::Text(all.concat())) }
}

/// `show pools`: memory that is kept for the next use, and what statistics hold.
pub(super) fn pools(call: &mut Call<'_>) -> Answer {
    let global = &call.target.model().global;
    let cores = call.target.cores();
    let sum = |stat: CoreStat| cores.iter().map(|core: &[u64; CORE_CELLS]| core[stat as usize]).sum::<u64>();
    let (buffer, pipe) = (BUF_BYTES as u64, u64::from(global.pipe_bytes));
    let (histograms, history) = call.target.statistics_bytes();
    let data_cores = global.cores.len() as u64;
    let buffers_max = u64::from(global.buffers_max) * data_cores;
    let pipes_max = u64::from(global.pipes_max) * data_cores;
    let (buffers, pipes, free) = (sum(CoreStat::Buffers), sum(CoreStat::Pipes), sum(CoreStat::PipesFree));
    Ok(Reply::Text(format!(
        "# pool (bytes each): used free limit bytes_used\n\
         receive_buffers ({buffer}): {buffers} {} {buffers_max} {}\n\
         pipes ({pipe}): {pipes} {free} {pipes_max} {}\n\
         latency_histograms (1): {histograms} 0 0 {histograms}\n\
         history (1): {history} 0 {} {history}\n",
        buffers_max.saturating_sub(buffers),
        buffers * buffer,
        pipes * pipe,
        crate::base::limits::HISTORY_BYTES_MAX,
    )))
}

/// `show sources`: how many source ports are left, how many a second go into TIME_WAIT, and in how many seconds none is free.
pub(super) fn sources(_: &mut Call<'_>) -> Answer {
    let answer = |outcome| {
        let Outcome::Sources(rows) = outcome else { return String::new() };
        let mut out = "# source destination used time_wait free rate forecast\n".to_owned();
        for row in rows {
            let forecast = row.exhausted_in_s().map_or("-".to_owned(), |seconds| seconds.to_string());
            let _ = write!(out, "{} {} {} {}", row.source, row.destination, row.used, row.waiting);
            let _ = writeln!(out, " {} {} {forecast}", row.free, row.rate);
        }
        out
    };
    Ok(Reply::Job(Job::Sources, Box::new(answer)))
}

/// `show resolvers`: names of servers, and what the last look-up found.
pub(super) fn resolvers(call: &mut Call<'_>) -> Answer {
    let mut out = "# name found failed age_s addresses\n".to_owned();
    for name in call.target.resolvers() {
        let last = match &name.found {
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Err(why) => format!("({why})"),
        };
        let (found, failed) = name.counts;
        let _ = writeln!(out, "{} {found} {failed} {} {last}", name.host, name.age.as_secs());
    }
    Ok(Reply::Text(out))
}

/// `show schema json`.
pub(super) fn schema(_: &mut Call<'_>) -> Answer {
    Ok(Reply::Text(SCHEMA.to_owned()))
}

/// What `show info json` and `show stat json` print, as JSON Schema.
const SCHEMA: &str = r##"{"$schema":"http://json-schema.org/draft-04/schema#","oneOf":[{"title":"Info","type":"array","items":{"$ref":"#/definitions/infoItem"}},{"title":"Stat","type":"array","items":{"title":"InfoItem","type":"array","items":{"$ref":"#/definitions/statItem"}}},{"title":"Error","type":"object","properties":{"errorStr":{"type":"string"}},"required":["errorStr"]}],"definitions":{"field":{"type":"object","properties":{"pos":{"type":"integer","minimum":0},"name":{"type":"string"}},"required":["pos","name"]},"tags":{"type":"object","properties":{"origin":{"type":"string","enum":["Metric","Status","Key","Config","Product","Unknown"]},"nature":{"type":"string","enum":["Gauge","Limit","Min","Max","Rate","Counter","Duration","Age","Time","Name","Output","Avg","Unknown"]},"scope":{"type":"string","enum":["Cluster","Process","Service","System","Unknown"]}},"required":["origin","nature","scope"]},"typedValue":{"type":"object","oneOf":[{"$ref":"#/definitions/s32Value"},{"$ref":"#/definitions/u32Value"},{"$ref":"#/definitions/u64Value"},{"$ref":"#/definitions/strValue"}]},"s32Value":{"properties":{"type":{"type":"string","enum":["s32"]},"value":{"type":"integer","minimum":-2147483648,"maximum":2147483647}},"required":["type","value"]},"u32Value":{"properties":{"type":{"type":"string","enum":["u32"]},"value":{"type":"integer","minimum":0,"maximum":4294967295}},"required":["type","value"]},"u64Value":{"properties":{"type":{"type":"string","enum":["u64"]},"value":{"type":"integer","minimum":0,"maximum":9007199254740991}},"required":["type","value"]},"strValue":{"properties":{"type":{"type":"string","enum":["str"]},"value":{"type":"string"}},"required":["type","value"]},"infoItem":{"type":"object","properties":{"field":{"$ref":"#/definitions/field"},"processNum":{"type":"integer","minimum":1},"tags":{"$ref":"#/definitions/tags"},"value":{"$ref":"#/definitions/typedValue"}},"required":["field","processNum","tags","value"]},"statItem":{"type":"object","properties":{"objType":{"type":"string","enum":["Frontend","Backend","Listener","Server"]},"proxyId":{"type":"integer","minimum":0},"id":{"type":"integer","minimum":0},"field":{"$ref":"#/definitions/field"},"processNum":{"type":"integer","minimum":1},"tags":{"$ref":"#/definitions/tags"},"value":{"$ref":"#/definitions/typedValue"}},"required":["objType","proxyId","id","field","processNum","tags","value"]}}}
"##;
