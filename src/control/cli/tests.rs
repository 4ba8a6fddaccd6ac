//! Dialogues with the admin socket over a target made of plain values.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::*;
use crate::base::limits::{ADMIN_LINE_BYTES_MAX, ADMIN_PAYLOAD_BYTES_MAX};
use crate::control::ctl;
use crate::model::AdminLevel;
use crate::stats::render::tests::assert_golden;
use fixture::{fixture, talk};

mod fixture;

/// The answer to one connection that sends this text at level admin.
fn ask(text: &str) -> (String, Vec<String>) {
    let mut fixture = fixture();
    let (out, next) = talk(
        &mut fixture,
        &mut AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned()),
        format!("{text}\n").as_bytes(),
    );
    assert_eq!(next, Next::Close, "{text}");
    (out, fixture.changes)
}

#[test]
fn changes_answer_with_an_empty_line_and_reach_the_target() {
    for (command, change) in [
        ("set weight web/web1 5", "weight ServerId(0) 5"),
        ("set weight web/web1 50%", "weight ServerId(0) 5"),
        ("set weight web/web1 9999999999%", "weight ServerId(0) 256"),
        ("set weight #3/#2 256", "weight ServerId(1) 256"),
        ("set server web/web1 weight 0", "weight ServerId(0) 0"),
        ("set server web/web1 state drain", "admin ServerId(0) Drain"),
        ("set server web/web3 state ready", "admin ServerId(2) Ready"),
        ("set server web/web1 state maint", "admin ServerId(0) Maint"),
        ("disable server web/web2", "admin ServerId(1) Maint"),
        ("enable server web/web2", "admin ServerId(1) Ready"),
        ("set server web/web1 health stopping", "health ServerId(0) Stopping"),
        ("set server web/web1 health up", "health ServerId(0) Up"),
        ("disable health web/web1", "checks ServerId(0) false"),
        ("enable health web/web1", "checks ServerId(0) true"),
        ("set server web/web1 check-port 81", "ServerId(0) Check { ip: None, port: Some(81) }"),
        (
            "set server web/web1 check-addr 10.0.0.9 port 82",
            "ServerId(0) Check { ip: Some(10.0.0.9), port: Some(82) }",
        ),
        ("set server web/web1 agent-addr ::1", "ServerId(0) Agent { ip: Some(::1), port: None }"),
        ("set server web/web1 agent-port 9778", "ServerId(0) Agent { ip: None, port: Some(9778) }"),
        ("set server web/web1 agent-send hi\\\\n", "ServerId(0) AgentSend([104, 105, 10])"),
        ("set server web/web1 agent down", "agent ServerId(0) Down"),
        ("disable agent web/web1", "agent ServerId(0) false"),
        ("set rate-limit sessions global 50", "rate 50"),
        ("set maxconn server web/web1 20", "maxconn ServerId(0) Some(20)"),
        ("set maxconn server web/web1 0", "maxconn ServerId(0) None"),
        ("set maxconn frontend public 100", "maxconn FrontendId(0) Some(100)"),
        ("set maxconn global 0", "maxconn None"),
        ("shutdown sessions server web/web1", "shutdown ServerId(0)"),
        ("disable frontend public", "enabled FrontendId(0) false"),
        ("clear counters", "clear false"),
        ("clear counters all", "clear true"),
    ] {
        assert_eq!(ask(command), ("\n".to_owned(), vec![change.to_owned()]), "{command}");
    }
    for command in
        ["shutdown session 0x1f", "shutdown session 1F", "disable agent web/web2", "set timeout cli 5m"]
    {
        assert_eq!(ask(command), ("\n".to_owned(), Vec::new()), "{command}");
    }
}

#[test]
fn errors_are_haproxys_and_change_nothing() {
    for (command, answer) in [
        ("get weight web1", "Require 'backend/server'."),
        ("get weight", "Require 'backend/server'."),
        ("get weight nope/web1", "No such backend."),
        ("disable server web/nope", "No such server."),
        ("set weight #3/#9 1", "No such server."),
        ("set weight web/web1", "Require <weight> or <weight%>."),
        ("set weight web/web1 abc", "Empty weight string empty or preceded by garbage"),
        ("set weight web/web1 %", "Empty weight string empty or preceded by garbage"),
        ("set weight web/web1 5x", "Trailing garbage in weight string"),
        ("set weight web/web1 257", "Absolute weight can only be between 0 and 256 inclusive."),
        ("set weight web/web1 -1", "Absolute weight can only be between 0 and 256 inclusive."),
        ("set weight web/web1 -1%", "Relative weight must be positive."),
        (
            "set server web/web1",
            "usage: set server <backend>/<server> addr | agent | agent-addr | agent-port | agent-send | check-addr | check-port | \
             fqdn | health | state | weight",
        ),
        ("set server web/web1 state foo", "'set server <srv> state' expects 'ready', 'drain' and 'maint'."),
        ("set server web/web1 health foo", "'set server <srv> health' expects 'up', 'stopping', or 'down'."),
        ("set server web/web1 addr", "set server <b>/<s> addr requires an address and optionally a port."),
        ("set server web/web1 addr foo", "Invalid addr 'foo' by 'stats socket command'"),
        (
            "set server web/web1 addr 10.0.0.1 port x",
            "no need to change the addr, problem converting port 'x' to an int by 'stats socket command'",
        ),
        (
            "set server web/web1 addr 10.0.0.2 port 70000",
            "IP changed from '10.0.0.1' to '10.0.0.2', provided port is not valid by 'stats socket command'",
        ),
        ("set server web/web1 addr 10.0.0.1", "no need to change the addr by 'stats socket command'"),
        ("enable health web/web2", "Health check was not configured on this server, cannot enable."),
        ("enable agent web/web2", "Agent was not configured on this server, cannot enable."),
        ("set server web/web2 check-port 81", "health checks are not enabled on this server"),
        ("set server web/web2 agent-port 81", "agent checks are not enabled on this server"),
        ("set server web/web2 agent-send x", "agent checks are not enabled on this server"),
        ("set server web/web1 check-port", "set server <b>/<s> check-port requires a port."),
        (
            "set server web/web1 agent-addr",
            "set server <b>/<s> agent-addr requires an address and optionally a port.",
        ),
        ("set server web/web1 check-addr foo", "invalid addr 'foo'"),
        ("set server web/web1 check-addr 10.0.0.1 port", "provided port is not an integer"),
        ("set server web/web1 agent-port 65536", "provided port is invalid"),
        ("set server web/web1 fqdn", "set server <b>/<s> fqdn requires a FQDN."),
        (
            "set server web/web1 fqdn a.example",
            "set server <b>/<s> fqdn failed because no resolution is configured.",
        ),
        ("set rate-limit sessions", "'set rate-limit' only supports 'global'."),
        ("set rate-limit sessions global x", "Expects an integer value."),
        ("set maxconn server web/web1", "Require <maxconn>."),
        ("set maxconn server web/web1 x", "maxconn string empty or preceded by garbage"),
        ("set maxconn server web/web1 5x", "Trailing garbage in maxconn string"),
        ("set maxconn server web/web1 99999999999", "Value out of range."),
        ("set maxconn frontend public", "Integer value expected."),
        ("set maxconn frontend public -1", "Value out of range."),
        ("set maxconn frontend nope 1", "No such frontend."),
        ("set maxconn global", "Expects an integer value."),
        ("enable frontend", "A frontend name is expected."),
        ("enable frontend nope", "No such frontend."),
        ("shutdown frontend", "A frontend name is expected."),
        ("shutdown frontend web", "No such frontend."),
        ("shutdown session", "Session pointer expected (use 'show sess')."),
        ("shutdown session 0x20", "No such session (use 'show sess')."),
        ("show sess 0x20", "Session not found."),
        ("show sess zz", "Session not found."),
        ("show servers state nope", "Can't find backend."),
        ("show stat nope 1 -1", "No such proxy."),
        ("set timeout cli", "Expects an integer value."),
        ("set timeout cli 0", "Invalid timeout value."),
        ("set timeout cli x", "Invalid timeout value."),
        ("set timeout foo 1", "'set timeout' only supports 'cli'."),
        ("clear counters foo", "'clear counters' only supports 'all'."),
        ("wait x", "Expects a duration in milliseconds."),
        ("wait 99999999d", "Expects a duration in milliseconds."),
    ] {
        let (said, changes) = ask(command);
        let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("Did you mean ")).collect();
        assert_eq!((said, changes), (vec![answer, ""], Vec::new()), "{command}");
    }
    assert_eq!(ask("enable frontend public").0, "All sockets are already enabled.\n\n");
    assert_eq!(
        ask("disable frontend public;disable frontend public").0,
        "\nAll sockets are already disabled.\n\n"
    );
    assert_eq!(ask("set maxconn global 2001").0, "Value out of range.\n\n");
    assert_eq!(
        ask("shutdown frontend #2;shutdown frontend public;enable frontend public;disable frontend public").0,
        "\nFrontend was already shut down.\n\nFrontend was previously shut down, cannot enable.\n\n\
         Frontend was previously shut down, cannot disable.\n\n"
    );
    assert_eq!(ask("set maxconn frontend #2 5").0, "\n");
    assert_eq!(ask("set maxconn frontend #7 5").0, "No such frontend.\n\n");
}

#[test]
fn a_new_address_is_reported_as_old_tools_expect() {
    for (arguments, answer, change) in [
        ("10.0.0.9", "IP changed from '10.0.0.1' to '10.0.0.9'", "10.0.0.9:80"),
        (
            "10.0.0.9 port 80",
            "IP changed from '10.0.0.1' to '10.0.0.9', no need to change the port",
            "10.0.0.9:80",
        ),
        ("10.0.0.1 port 81", "no need to change the addr, port changed from '80' to '81'", "10.0.0.1:81"),
        ("::1 port 81", "IP changed from '10.0.0.1' to '::1', port changed from '80' to '81'", "[::1]:81"),
    ] {
        let (out, changes) = ask(&format!("set server web/web1 addr {arguments}"));
        assert_eq!(out, format!("{answer} by 'stats socket command'\n\n"));
        assert_eq!(changes, [format!("address ServerId(0) {change}")]);
    }
    let (out, changes) = ask("set server web/web1 addr 10.0.0.1 port 80");
    assert_eq!(out, "no need to change the addr, no need to change the port by 'stats socket command'\n\n");
    assert!(changes.is_empty());
}

#[test]
fn shows_are_the_golden_ones() {
    for command in [
        "show info",
        "show stat",
        "show stat -1 8 -1",
        "show stat web 4 2 typed",
        "show stat web 2 -1 json",
        "show servers state",
        "show servers conn web",
        "show backend",
        "show listeners",
        "show history web",
        "show latency web 1m",
        "show activity",
        "show errors reasons",
        "show errors reasons all",
        "show sess",
        "show errors",
        "show errors web response",
        "show threads",
        "show fd 12",
        "show pools",
        "show resolvers",
        "show sources",
        "show schema json",
        "show version",
        "show cli level",
        "show cli sockets",
        "get weight web/web1",
        "help",
        "help set maxconn",
        "foo",
        "set maxcon",
    ] {
        let file = command.replace([' ', '-', '/'], "_");
        assert_golden(&format!("tests/golden/stats/cli/{file}.txt"), &ask(command).0);
    }
    assert_golden("docs/ADMIN.md", &table::admin_md());
}

#[test]
fn each_command_of_a_line_gets_one_block() {
    let blocks = |text: &str| ask(text).0.matches("\n\n").count();
    for (line, expected) in [
        ("show info;show stat", 2),
        ("show info;show stat\r", 2),
        ("show version;nope;show version", 3),
        ("show version; ;show version;", 2),
        ("show version\nshow version", 2),
    ] {
        assert_eq!(blocks(line), expected, "{line:?}");
    }
    assert_eq!(ask("set weight web/web1 1;show version;disable server web/web1").0, "\n0.1.0\n\n\n");
    assert_eq!(ask("quit;show version").0, "");
    assert_eq!(ask(r"echo a\;b  c").0, "a;b c\n\n");
    assert!(ask("").0.starts_with("Unknown command. Please enter"));
    assert!(ask("nonsense").0.starts_with("Unknown command"));
    assert!(ask("show nonsense").0.starts_with("Unknown command"));
}

#[test]
fn slips_of_the_keyboard_are_understood() {
    let ask = |line: &str| ask(line).0;
    // The one command that was meant, and what is always said.
    for (typed, meant) in
        [("show stats", "show stat"), ("set wieght web/web1 5", "set weight"), ("shwo info", "show info")]
    {
        let said = ask(typed);
        let commands: Vec<&str> =
            said.lines().skip(1).take_while(|line| !line.trim_start().starts_with("help")).collect();
        assert!(commands.len() == 1 && commands[0].trim_start().starts_with(meant), "{typed}: {said}");
    }
    for (typed, answer) in [
        ("set weight web/web11 5", "No such server.\nDid you mean web1?"),
        ("set weight wbe/web1 5", "No such backend.\nDid you mean web?"),
        ("disable server web2", "Require 'backend/server'.\nDid you mean web/web2?"),
        ("disable frontend pubic", "No such frontend.\nDid you mean public?"),
        ("show stat pubilc 1 -1", "No such proxy.\nDid you mean public?"),
        ("show servers state webb", "Can't find backend.\nDid you mean web?"),
        ("show history publc", "No such frontend or backend.\nDid you mean public?"),
        ("show latency webb", "No such backend.\nDid you mean web?"),
        (
            "add server web/web4 10.0.0.4:80",
            "Unknown command: 'add server' is not here. In its place: write it into the configuration and \
          `reload`, which loses no connection.",
        ),
        ("@1 show info", "Unknown command: there is one process, leave the @ and what belongs to it out."),
        ("show stat domain dns", "Names of servers and their look-ups: 'show resolvers'."),
        ("set severity-output loud", "one of 'none', 'number', 'string' is a required argument"),
    ] {
        assert_eq!(ask(typed), format!("{answer}\n\n"), "{typed}");
    }
    assert_eq!(ask("show stat domain proxy"), ask("show stat"));
    assert_eq!(
        ask("set severity-output number;show version;enable frontend nope"),
        "\n0.1.0\n\n[3]: No such frontend.\n\n"
    );
    assert!(
        ask("show activity desc").contains("loops: ")
            && ask("show activity").starts_with("# name: all [ core-0 control ]\n")
    );
    assert!(ask("show env PATH").starts_with("PATH="));
    assert_eq!(ask("show env NO_SUCH_NAME"), "Variable not found\n\n");
}

#[test]
fn a_dialogue_goes_on_with_a_prompt_and_ends_when_told() {
    let (mut fixture, mut session) =
        (fixture(), AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned()));
    for (input, answer, next) in [
        ("prompt\n", "\n> ", Next::Read),
        ("show version\n", "0.1.0\n\n> ", Next::Read),
        ("show version;show version\n", "0.1.0\n\n> 0.1.0\n\n> ", Next::Read),
        ("\n", "> ", Next::Read),
        ("set timeout cli 90\r\n", "\n> ", Next::Read),
        ("show ver", "", Next::Read),
        ("sion\nshow cli level\n", "0.1.0\n\n> admin\n\n> ", Next::Read),
        ("echo x <<\n", "+ ", Next::Read),
        ("line; one\n", "+ ", Next::Read),
        ("\n", "x\nline; one\n\n> ", Next::Read),
        ("echo <<END\n\nEND\n", "+ + \n\n> ", Next::Read),
        ("prompt\n", "\n", Next::Close),
    ] {
        assert_eq!(
            talk(&mut fixture, &mut session, input.as_bytes()),
            (answer.to_owned(), next),
            "{input:?}"
        );
    }
    assert_eq!(session.timeout(), Duration::from_secs(90));

    let mut session = AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned());
    for (input, answer, next) in [
        ("prompt i\n", "\n", Next::Read),
        ("show version\n", "0.1.0\n\n", Next::Read),
        ("quit\n", "", Next::Close),
    ] {
        assert_eq!(
            talk(&mut fixture, &mut session, input.as_bytes()),
            (answer.to_owned(), next),
            "{input:?}"
        );
    }
}

#[test]
fn a_line_that_is_not_complete_is_never_run() {
    let (mut fixture, mut session) =
        (fixture(), AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned()));
    assert_eq!(
        talk(&mut fixture, &mut session, b"shutdown sessions server web/web1"),
        (String::new(), Next::Read)
    );
    assert!(fixture.changes.is_empty());
}

#[test]
fn levels_are_kept_and_only_ever_lowered() {
    let at = |level, text: &str| {
        let mut fixture = fixture();
        talk(
            &mut fixture,
            &mut AdminSession::new(level, "uid 0 pid 1".to_owned()),
            format!("{text}\n").as_bytes(),
        )
        .0
    };
    let denied = "Permission denied\n\n";
    for command in ["clear counters", "show sess", "show cli sockets", "set weight web/web1 1", "operator"] {
        assert_eq!(at(AdminLevel::User, command), denied, "{command}");
    }
    for command in ["clear counters all", "disable server web/web1", "shutdown session 0x1f"] {
        assert_eq!(at(AdminLevel::Operator, command), denied, "{command}");
    }
    assert_eq!(at(AdminLevel::Operator, "clear counters"), "\n");
    assert_eq!(
        at(AdminLevel::Admin, "user;show cli level;operator;show cli level"),
        "\nuser\n\nPermission denied\n\nuser\n\n"
    );
    assert_eq!(at(AdminLevel::Admin, "operator;show cli level"), "\noperator\n\n");
    assert!(!at(AdminLevel::User, "help").contains("set weight"));
    assert!(!at(AdminLevel::User, "show stat").contains("10.0.0.1:80"));
}

#[test]
fn jobs_are_answered_in_order() {
    let (out, changes) = ask("show version;wait 20;show sess 0x1f;wait 2s;show version");
    let session = "0x1f: src=192.0.2.7:4711 dst=127.0.0.1:8080 fe=public be=web srv=<none> addr=<none> core=1 age=65s state=queue in=10 out=20";
    assert_eq!(out, format!("0.1.0\n\nDone.\n\n{session}\n\nDone.\n\n0.1.0\n\n"));
    assert_eq!(changes, ["wait 20ms", "wait 2s"]);
}

#[test]
fn input_and_output_are_bounded() {
    let (mut fixture, mut session) =
        (fixture(), AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned()));
    let (out, next) = talk(&mut fixture, &mut session, &vec![b'x'; ADMIN_LINE_BYTES_MAX + 1]);
    assert_eq!((out.as_str(), next), ("Line or payload too long.\n\n", Next::Close));

    let mut session = AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned());
    let mut input = b"echo <<\n".to_vec();
    input.extend(b"0123456789\n".repeat(ADMIN_PAYLOAD_BYTES_MAX / 11 + 2));
    assert_eq!(talk(&mut fixture, &mut session, &input).1, Next::Close);
    let mut session = AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned());
    session.handle_input("help;".repeat(1000).as_bytes());
    session.handle_input(b"\n");
    let mut out = String::new();
    assert_eq!(session.poll(&mut fixture, &mut out), Next::Continue);
    assert!(out.len() < 2 * crate::base::limits::ADMIN_OUTPUT_BYTES, "written out in between: {}", out.len());
}

#[test]
fn bytes_that_are_no_text_are_an_unknown_command() {
    let (out, _) = talk(
        &mut fixture(),
        &mut AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned()),
        b"\xff\xfe\x00;show version\n",
    );
    assert!(out.starts_with("Unknown command") && out.ends_with("\n\n0.1.0\n\n"), "{out}");
}

/// The socket loop in its simplest form: read, poll, write; returns what reached the target.
fn serve_one(listener: &UnixListener) -> Vec<String> {
    let (mut stream, _) = listener.accept().expect("a client");
    let (mut fixture, mut session) =
        (fixture(), AdminSession::new(AdminLevel::Admin, "uid 0 pid 1".to_owned()));
    let mut buffer = [0; 7];
    loop {
        let n = stream.read(&mut buffer).expect("readable");
        let (out, next) = talk(&mut fixture, &mut session, &buffer[..n]);
        stream.write_all(out.as_bytes()).expect("writable");
        if n == 0 || next == Next::Close {
            return fixture.changes;
        }
    }
}

#[test]
fn the_client_and_a_session_understand_each_other() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("admin.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let long = format!("quit\n{}", "show version\n".repeat(100_000));
    let scripts = ["show version\necho <<E\na;b\nE\nset weight web/web1 3;show cli level", long.as_str()];
    let commands = ["show version".to_owned(), "disable server web/web1".to_owned()];
    // Asserted only when all clients are gone: a failure must not leave the server waiting.
    let (answers, changes) = std::thread::scope(|scope| {
        let server = scope.spawn(|| [serve_one(&listener), serve_one(&listener), serve_one(&listener)]);
        let mut answers = [Vec::new(), Vec::new(), Vec::new()];
        let results = [
            ctl::run(&path, &commands, &mut answers[0]),
            ctl::run_script(&path, &mut scripts[0].as_bytes(), &mut answers[1]),
            ctl::run_script(&path, &mut scripts[1].as_bytes(), &mut answers[2]),
        ];
        (
            results
                .map(|result| result.map_err(|error| error.to_string()))
                .into_iter()
                .zip(answers)
                .collect::<Vec<_>>(),
            server.join(),
        )
    });
    let expected = ["0.1.0\n\n\n", "0.1.0\n\na;b\n\n\nadmin\n\n", ""];
    for ((result, answer), expected) in answers.into_iter().zip(expected) {
        assert_eq!((result, String::from_utf8_lossy(&answer).as_ref()), (Ok(()), expected));
    }
    let changes = changes.expect("no panic").concat();
    assert_eq!(changes, ["admin ServerId(0) Maint", "weight ServerId(0) 3"]);
}

#[test]
fn changes_and_refusals_are_audited_and_nothing_else() {
    let mut fixture = fixture();
    let mut say = |level, line: &str| {
        let mut session = AdminSession::new(level, "uid 1000 pid 77".to_owned());
        talk(&mut fixture, &mut session, format!("{line}\n").as_bytes());
        std::mem::take(&mut fixture.audited)
    };
    for (line, text) in [
        (
            "set rate-limit sessions global 9",
            "uid 1000 pid 77 did `set rate-limit sessions global 9` (from 0 to 9)",
        ),
        ("set weight web/web1 5", "uid 1000 pid 77 did `set weight web/web1 5` (from 10 to 5)"),
        (
            "set server web/web1 state drain",
            "uid 1000 pid 77 did `set server web/web1 state drain` (from ready to drain)",
        ),
        (
            "set maxconn server web/web1 7",
            "uid 1000 pid 77 did `set maxconn server web/web1 7` (from 100 to 7)",
        ),
        ("clear counters", "uid 1000 pid 77 did `clear counters`"),
        ("shutdown session 0x1f", "uid 1000 pid 77 did `shutdown session 0x1f`"),
    ] {
        assert_eq!(say(AdminLevel::Admin, line), [text], "{line}");
    }
    for line in
        ["show stat", "set timeout cli 5", "set weight web/none 5", "set weight web/web1 x", "user", "nope"]
    {
        assert!(say(AdminLevel::Admin, line).is_empty(), "{line}");
    }
    assert_eq!(
        say(AdminLevel::User, "set weight web/web1 5"),
        ["uid 1000 pid 77 was refused `set weight web/web1 5`"]
    );
    let long = say(AdminLevel::Admin, &format!("disable server web/web1 {}", "x\u{1b}".repeat(5000)));
    assert!(long[0].len() < 600 && !long[0].contains('\u{1b}'), "{}", long[0]);
}
