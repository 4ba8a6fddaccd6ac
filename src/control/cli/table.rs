//! THE table of admin commands: words, usage, help, level and handler. `help`, the answer to an unknown command and
//! docs/ADMIN.md are derived from it.

use std::fmt::Write as _;

use crate::control::cli::session::{Answer, Call};
use crate::control::cli::{
    certificates, configuration, drift, elsewhere, frontends, history, inspect, latency, patterns, servers,
    settings, show, stick, vips,
};
use crate::model::AdminLevel::{self, Admin, Operator, User};
use crate::policy::abort;

/// One command.
pub struct Command {
    /// The words that name it.
    pub words: &'static [&'static str],
    /// Words and arguments as an operator types them.
    pub usage: &'static str,
    /// One line about it.
    pub help: &'static str,
    /// Who may use it.
    pub level: AdminLevel,
    pub(super) run: fn(&mut Call<'_>) -> Answer,
}

impl Command {
    /// Whether it changes the process rather than showing it or changing its own connection: such are audited.
    pub fn changes(&self) -> bool {
        const VERBS: [&str; 18] = [
            "abort", "add", "clear", "commit", "confirm", "del", "disable", "enable", "new", "note",
            "prepare", "reload", "rollback", "set", "shutdown", "takeover", "update", "dump",
        ];
        VERBS.contains(&self.words[0])
            && self.words != ["set", "timeout"]
            && self.words != ["set", "severity-output"]
    }
}

impl Command {
    /// Whether it gives another value than the configured one, which is noted as an override.
    pub(super) fn is_override(&self) -> bool {
        let files = ["add", "clear", "commit", "del", "set"].contains(&self.words[0])
            && self.words.get(1).is_some_and(|word| ["acl", "map"].contains(word));
        let changes = [
            &["disable", "server"][..],
            &["enable", "server"],
            &["set", "maxconn", "frontend"],
            &["set", "maxconn", "global"],
            &["set", "maxconn", "server"],
            &["set", "rate-limit"],
            &["set", "server"],
            &["set", "weight"],
        ];
        files || changes.contains(&self.words)
    }
}

macro_rules! commands {
    ($([$($word:literal)+] $usage:literal $level:ident $run:path, $help:literal;)*) => {
        /// All commands, in the order of `help`.
        pub const COMMANDS: &[Command] = &[$(Command {
            words: &[$($word),+], usage: $usage, help: $help, level: $level, run: $run,
        }),*];
    };
}

commands! {
    ["add" "acl"] "add acl [@<ver>] <acl> <pattern>" Operator patterns::add_acl, "add a pattern, or those of the payload, one a line";
    ["add" "map"] "add map [@<ver>] <map> <key> <value>" Operator patterns::add_map, "add an entry, or those of the payload, one a line";
    ["abort" "ssl" "cert"] "abort ssl cert <name>" Admin certificates::abort, "forget a certificate that was set and not committed";
    ["add" "ssl" "crt-list"] "add ssl crt-list <list> <name>" Admin certificates::add_to_list, "show a certificate for its names, or as the payload says (<name> [<options>] <host>...), from now on";
    ["adopt"] "adopt [<object>]" Operator drift::adopt, "the lines of the configuration that would make runtime changes permanent; object: b/s, backend b, frontend f, map m, acl a, global";
    ["clear" "acl"] "clear acl [@<ver>] <acl>" Operator patterns::clear_acl, "remove all patterns";
    ["clear" "counters"]          "clear counters [all]"                Operator frontends::clear_counters, "forget maxima; with all (level admin), start counters from zero";
    ["clear" "map"] "clear map [@<ver>] <map>" Operator patterns::clear_map, "remove all entries";
    ["clear" "overrides"] "clear overrides [<object>]" Admin drift::clear, "take runtime changes back: what is configured holds again";
    ["clear" "table"] "clear table <table> [<filter>]*" Admin stick::clear, "forget entries of a stick table: all, or those of key <key> or data.<type> <op> <value>";
    ["confirm"]                   "confirm"                             Admin    configuration::confirm, "keep the configuration that is on trial";
    ["commit" "acl"] "commit acl @<ver> <acl>" Operator patterns::commit_acl, "put a prepared version in place";
    ["commit" "map"] "commit map @<ver> <map>" Operator patterns::commit_map, "put a prepared version in place";
    ["commit" "ssl" "cert"] "commit ssl cert <name>" Admin certificates::commit, "serve what was set";
    ["del" "acl"] "del acl <acl> [<pattern>|#<ref>]" Operator patterns::del_acl, "remove a pattern";
    ["del" "map"] "del map <map> [<key>|#<ref>]" Operator patterns::del_map, "remove an entry";
    ["del" "ssl" "cert"] "del ssl cert <name>" Admin certificates::del, "forget a certificate that nothing uses";
    ["del" "ssl" "crt-list"] "del ssl crt-list <list> <name>[:<line>]" Admin certificates::del_from_list, "show a certificate no longer";
    ["disable" "agent"]           "disable agent <bk>/<srv>"            Admin    servers::disable_agent, "stop agent checks of a server";
    ["disable" "frontend"]        "disable frontend <frontend>"         Admin    frontends::disable, "stop accepting on a frontend, for now";
    ["disable" "health"]          "disable health <bk>/<srv>"           Admin    servers::disable_health, "stop health checks of a server";
    ["disable" "server"]          "disable server <bk>/<srv>"           Admin    servers::disable, "put a server into maintenance";
    ["drain" "generation"]        "drain generation <number>"           Admin    configuration::drain_generation, "end the sessions that live by an older configuration";
    ["dump" "ssl" "cert"] "dump ssl cert <name>" Admin certificates::dump, "a certificate with its chain and key as PEM";
    ["echo"]                      "echo <text>"                         User     settings::echo, "print the text";
    ["enable" "agent"]            "enable agent <bk>/<srv>"             Admin    servers::enable_agent, "start agent checks of a server";
    ["enable" "frontend"]         "enable frontend <frontend>"          Admin    frontends::enable, "accept on a frontend again";
    ["enable" "health"]           "enable health <bk>/<srv>"            Admin    servers::enable_health, "start health checks of a server";
    ["enable" "server"]           "enable server <bk>/<srv>"            Admin    servers::enable, "put a server back into rotation";
    ["for"] "for <delay> <command>" Operator drift::lasting, "run a command whose change ends by itself after that time";
    ["get" "acl"] "get acl <acl> <value>" Operator patterns::get_acl, "whether a value matches, and which pattern";
    ["get" "map"] "get map <map> <value>" Operator patterns::get_map, "what a value maps to";
    ["get" "weight"]              "get weight <bk>/<srv>"               User     servers::get_weight, "print a server's weight and what it started with";
    ["new" "ssl" "cert"] "new ssl cert <name>" Admin certificates::new, "make place for a certificate (then set, commit, add it to a list)";
    ["note"] "note <text>" Operator settings::note, "write a line into the log, for people and scripts that change something";
    ["operator"]                  "operator"                            User     settings::operator, "lower this connection to level operator";
    ["prepare" "acl"] "prepare acl <acl>" Operator patterns::prepare_acl, "begin a new version";
    ["prepare" "map"] "prepare map <map>" Operator patterns::prepare_map, "begin a new version";
    ["set" "map"] "set map [@<ver>] <map> [<key>|#<ref>] <value>" Operator patterns::set_map, "change the value of an entry";
    ["reload"]                    "reload [confirm <time> [abort-if <condition>]]" Admin configuration::reload, "read the configuration file again and run what it says; confirm: go back by itself unless confirmed in time, or if the condition holds";
    ["rollback"]                  "rollback [<generation>]"             Admin    configuration::roll_back, "run an earlier configuration again (see show configurations); without a number the one before";
    ["set" "maxconn" "frontend"]  "set maxconn frontend <fe> <value>"   Admin    frontends::set_maxconn, "change a frontend's limit of connections";
    ["set" "maxconn" "global"]    "set maxconn global <value>"          Admin    frontends::set_maxconn_global, "change the process's limit of connections; 0: as at the start";
    ["set" "maxconn" "server"]    "set maxconn server <bk>/<srv> <value>" Admin  servers::set_maxconn, "change a server's limit of sessions; 0: none";
    ["set" "rate-limit"]          "set rate-limit [connections|sessions|ssl-sessions] global <value>" Admin frontends::set_rate_limit, "limit new connections, or TLS connections, of the process in each second; 0: no limit";
    ["set" "server"]              "set server <bk>/<srv> [opts]"        Admin    servers::set, "change a server's state, health, weight, address, name, and where its checks and its agent are";
    ["set" "table"] "set table <table> key <key> [data.<type> <value>]*" Admin stick::set, "make or change an entry of a stick table";
    ["set" "severity-output"]     "set severity-output [none|number|string]" User settings::set_severity, "what stands before errors on this connection, for programs";
    ["set" "ssl" "cert"] "set ssl cert <name> <payload>" Admin certificates::set, "replace a certificate (or NAME.key, NAME.ocsp); served after commit";
    ["set" "timeout"]             "set timeout cli <delay>"             User     settings::set_timeout, "change how long this connection may stay quiet";
    ["set" "vip"]                 "set vip <vip> state drain|ready"     Admin    vips::set, "ask for another node to have an address; role ...: what keepalived and the watcher say";
    ["set" "weight"]              "set weight <bk>/<srv> <weight>[%]"   Admin    servers::set_weight, "change a server's weight";
    ["show" "acl"] "show acl [[@<ver>] <acl>]" Operator patterns::show_acl, "ACL files, or the patterns of one";
    ["show" "activity"]           "show activity [desc]"                User     show::activity, "what each core does; desc: and what each number counts";
    ["show" "backend"]            "show backend"                        User     show::backend, "names of the backends";
    ["show" "cli" "level"]        "show cli level"                      User     settings::show_level, "level of this connection";
    ["show" "cli" "sockets"]      "show cli sockets"                    Operator show::cli_sockets, "admin sockets and their levels";
    ["show" "configuration"]      "show configuration"                  Admin    configuration::show_configuration, "the text of the configuration that runs";
    ["show" "drift"] "show drift [<object>]" Operator drift::show, "runtime changes: what runs otherwise than configured, by whom and since when";
    ["show" "configurations"] "show configurations [<generation>]" Admin configuration::show_history, "configurations that are kept for rollback, or the text of one";
    ["show" "env"]                "show env [<name>]"                   Operator inspect::environment, "variables of the environment";
    ["show" "errors" "reasons"]   "show errors reasons [all]"           User     show::error_reasons, "HTTP messages that were refused, by reason; all: with those that never occurred";
    ["show" "errors"] "show errors [<iid>|<proxy>] [request|response]" Operator inspect::errors, "the last malformed messages and where they are wrong";
    ["show" "fd"] "show fd [<num>]" Operator inspect::descriptors, "open file descriptors";
    ["show" "events"]             "show events [<ring>] [-w] [-n]"      Operator show::events, "rings of log lines (process: what the process logged), or the lines of one; -w: go on as they come, -n: without those that are there";
    ["show" "files"] "show files" Operator configuration::show_files, "files that the configuration names, with a hash of what was read";
    ["show" "generations"]        "show generations"                    Operator configuration::show_generations, "configurations that sessions live by, and failed reloads";
    ["show" "history"] "show history <frontend>|<backend>[/<server>] [<time>]" User history::show, "what it did: a line for each second (10 min), 10 seconds (2 h) or minute (24 h) of the last so long";
    ["show" "info"]               "show info [typed|json] [desc]"       User     show::info, "the process: versions, limits, totals, rates";
    ["show" "latency"]            "show latency [<backend>[/<server>]] [10s|1m|5m|start]" User latency::show, "percentiles of durations in microseconds, step by step";
    ["show" "listeners"]          "show listeners"                      User     show::listeners, "binds: frontend, name, address in use, state";
    ["show" "map"] "show map [[@<ver>] <map>]" Operator patterns::show_map, "maps, or the entries of one";
    ["show" "pools"] "show pools" Operator inspect::pools, "memory that is kept for the next use";
    ["show" "resolvers"] "show resolvers" Operator inspect::resolvers, "names of servers and what they resolve to";
    ["show" "rules"] "show rules [never-hit]" Operator inspect::rules, "rules: how often they applied, and seconds since the last time";
    ["show" "schema" "json"] "show schema json" User inspect::schema, "JSON schema of show info json and show stat json";
    ["show" "server"] "show server <bk>/<srv>" Operator drift::server, "effective values of a server and where each comes from";
    ["show" "servers" "conn"]     "show servers conn [<backend>]"       User     servers::show_conn, "connections to servers";
    ["show" "servers" "state"]    "show servers state [<backend>]"      User     servers::show_state, "states of servers in HAProxy's state file format";
    ["show" "sess"]               "show sess [<id>|all]"                Operator show::sessions, "live sessions";
    ["show" "sources"] "show sources" Operator inspect::sources, "source ports: in use, in TIME_WAIT, free, closed a second, seconds until none is free";
    ["show" "ssl" "cert"] "show ssl cert [[*]<name>]" Operator certificates::show, "certificates, or all about one; *: what is not committed";
    ["show" "ssl" "crt-list"] "show ssl crt-list [-n] [<list>]" Operator certificates::show_list, "lists of certificates (crt-lists, directories, frontend/bind), or the lines of one; -n: numbered";
    ["show" "stat"]               "show stat [<iid> <type> <sid>] [typed|json] [desc|up|no-maint|10s|1m|5m|start]* [at -<time>]" User show::stat, "counters of frontends, servers, backends; percentiles over the window (1m); at -15m: as they were";
    ["show" "table"] "show table [<table> [<filter>]*]" Operator stick::show, "stick tables, or the entries of one: all, or those of key <key> or data.<type> <op> <value>";
    ["show" "threads"] "show threads" Operator inspect::threads, "what the thread of each core does";
    ["show" "vip"]                "show vip"                            User     vips::show, "addresses of several nodes: who has them, and whether this node serves";
    ["show" "version"]            "show version"                        User     show::version, "the version";
    ["shutdown" "frontend"]       "shutdown frontend <frontend>"        Admin    frontends::shutdown, "close the listeners of a frontend until a reload; sessions go on";
    ["shutdown" "session"]        "shutdown session <id>"               Admin    frontends::shutdown_session, "end a session (see show sess)";
    ["shutdown" "sessions" "server"] "shutdown sessions server <bk>/<srv>" Admin servers::shutdown_sessions, "end all sessions of a server";
    ["takeover" "done"]           "takeover done"                       Admin    configuration::takeover_done, "asked by a process that has taken over: finish what runs, and leave";
    ["takeover" "sockets"]        "takeover sockets"                    Admin    configuration::takeover_sockets, "asked by a process that takes over (run --takeover): hand over the listening sockets";
    ["update" "ssl" "ocsp-response"] "update ssl ocsp-response" Admin certificates::update_ocsp, "ask responders about all certificates with ocsp-update now";
    ["user"]                      "user"                                User     settings::user, "lower this connection to level user";
    ["wait"]                      "wait <delay>"                        User     settings::wait, "wait (milliseconds, or with a unit) before the next command";
    ["help"]                      "help [<command>]"                    User     settings::help, "list matching or all commands";
    ["prompt"]                    "prompt [i|n|p]"                      User     settings::prompt, "begin a dialogue with prompt (i: without prompt), or end it (n)";
    ["quit"]                      "quit"                                User     settings::quit, "close the connection";
}

/// What a line's words name.
pub(super) enum Found {
    /// This command; its arguments follow its words.
    Command(&'static Command),
    /// None; these may be meant.
    Unknown {
        /// Commands that begin with the same words, or look alike.
        candidates: Vec<&'static Command>,
    },
}

/// The command that the first words name.
pub(super) fn find(words: &[String]) -> Found {
    let named = |command: &&Command| {
        command.words.len() <= words.len()
            && command.words.iter().zip(words).all(|(word, typed)| word == typed)
    };
    match COMMANDS.iter().filter(named).max_by_key(|command| command.words.len()) {
        Some(command) => Found::Command(command),
        None => Found::Unknown { candidates: candidates(words) },
    }
}

/// Of the commands that share the longest beginning with what was typed those that go on alike; if there are none, all that share
/// it.
pub(super) fn candidates(words: &[String]) -> Vec<&'static Command> {
    let shared = |command: &Command| command.words.iter().zip(words).take_while(|(a, b)| a == b).count();
    let longest = COMMANDS.iter().map(shared).max().unwrap_or(0);
    let sharing = COMMANDS.iter().filter(|command| shared(command) == longest);
    let near = |command: &&Command| {
        let rest = &command.words[longest..];
        let typed =
            words[longest..].iter().take(rest.len()).map(String::as_str).collect::<Vec<_>>().join(" ");
        !typed.is_empty() && strsim::jaro_winkler(&rest.join(" "), &typed) > 0.85
    };
    let alike: Vec<&'static Command> = sharing.clone().filter(near).collect();
    if alike.is_empty() && longest > 0 { sharing.collect() } else { alike }
}

/// The answer to a command that does not exist. Tools look for its first two words.
pub(super) fn unknown(candidates: &[&'static Command], level: AdminLevel) -> String {
    let mut text = match candidates {
        [] => "Unknown command. Please enter one of the following commands only:\n".to_owned(),
        _ => "Unknown command, but maybe one of the following ones is a better match:\n".to_owned(),
    };
    list(candidates, level, &mut text);
    text
}

/// `help`: the commands that this level may use; of the candidates only, if there are any.
pub(super) fn help(candidates: &[&'static Command], level: AdminLevel) -> String {
    let mut text = "The following commands are valid at this level:\n".to_owned();
    list(candidates, level, &mut text);
    text
}

fn list(candidates: &[&'static Command], level: AdminLevel, out: &mut String) {
    const ALWAYS: [&str; 3] = ["help", "prompt", "quit"];
    for command in COMMANDS.iter().filter(|command| command.level <= level) {
        let chosen = candidates.is_empty()
            || ALWAYS.contains(&command.words[0])
            || candidates.iter().any(|candidate| candidate.words == command.words);
        if chosen {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {:39}: {}", command.usage, command.help);
        }
    }
}

/// docs/ADMIN.md: the table as a page (a golden test keeps it fresh).
pub fn admin_md() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("\n## Commands\n\n| command | level | meaning |\n|---|---|---|\n");
    for command in COMMANDS {
        let usage = command.usage.replace('|', "\\|");
        let _ = writeln!(out, "| `{usage}` | {} | {} |", level_name(command.level), command.help);
    }
    elsewhere::reference(&mut out);
    out.push_str(TRIALS);
    out.push_str(&abort::reference());
    out
}

/// HAProxy's word for a level.
pub(super) fn level_name(level: AdminLevel) -> &'static str {
    match level {
        User => "user",
        Operator => "operator",
        Admin => "admin",
    }
}

const TRIALS: &str = "
## Configurations on trial

`reload confirm 2m abort-if http_5xx > 1% or p99 > 2x` (from the shell `shardgate reload --confirm 2m --abort-if '...'`) runs the
configuration and goes back to the one before unless `confirm` comes within two minutes, or as soon as the condition holds.
Going back is a switch within the process: no connection is lost. `rollback` goes back at once; no other reload is accepted
meanwhile. The file itself is not touched: after going back, put it right before the next reload or start.

A condition compares values of the last ten seconds since the switch with a limit, or with `2x`, a multiple of their value in the
ten seconds before it, by `>`, `>=`, `<` or `<=`. `and` binds closer than `or`. Percentages and percentiles count from 20
requests on, those before the switch too.

";

const INTRODUCTION: &str = "\
# The admin socket

Generated from `src/control/cli/table.rs`; `UPDATE_GOLDEN=1 cargo test` refreshes it.

`shardgate ctl -s SOCKET 'show stat'` asks from the shell; any tool made for HAProxy's socket works too
(`echo 'show info;show stat' | socat - UNIX-CONNECT:SOCKET`).

- A line holds commands separated by `;`; a backslash makes the next character an ordinary one.
- Each answer is one block that ends with an empty line. A command that has nothing to say answers with the empty line alone.
- Without `prompt` the connection closes once the lines that came are answered. With it the connection goes on, and each
  answer is followed by `> `.
- `<<` at the end of a line announces a payload: the lines up to an empty one, or up to `END` after `<<END`.
- Levels: user < operator < admin. The socket's configuration sets it; `operator` and `user` lower it for a connection.
- Text of an unknown command begins with `Unknown command`; of one above the level it is `Permission denied`.
- Every change, and every refusal for want of a level, is logged each time: who (user and process id of a UNIX socket's client,
  else its address), what, and from which value to which: `admin: uid 0 pid 4711 did `set weight web/s1 5` (from 10 to 5)`.
- A socket may listen on an address of the loopback network (`address = \"127.0.0.1:9999\"`): every user of the machine reaches it.
- Bounds: a line 64 KiB, a payload 4 MiB, 64 connections; a client that does not read for `timeout cli` is closed.
- `shardgate ctl` without commands is a dialogue in a terminal, with completion (Tab) and history.
- `shardgate top` shows rates, queues, errors and latencies of all frontends, backends and servers live in a terminal of 80 by 24
  or more, and the load of each core; it sorts, filters, drains, enables and weighs servers. `?` explains its keys.
- `set server` also takes `check-addr IP [port PORT]`, `check-port`, `agent-addr IP [port PORT]`, `agent-port`, `agent-send` and,
  for a server that has a name, `fqdn`. They last until the configuration says something else about the same thing.
- A change of a configured value is an override (`show drift`, `adopt`, `clear overrides`): docs/scenarios/runtime-changes.md. `for 30m` in
  front of it ends it by itself.
- `shutdown frontend` closes the listeners of a frontend as soon as they have served whom the kernel accepted; its sessions go on, and
  kept connections end with their next response. Only a reload or a restart opens it again, as with HAProxy. A socket that a service
  manager handed over (`fd@`) stays open there: who connects waits.
- `show events process` has the last 256 KiB of what the process logged, `show events process -w -n` what it logs from now on.
- Servers are named `backend/server`, by name or by number as `#iid/#sid`.
- Each line of `show stat` is described in [STATS.md](STATS.md).
";
