//! The admin socket from outside: who did what, hostile clients, and the tools that people use on it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::harness::gate::{binary, relay};
use crate::harness::http::http_gate;
use crate::harness::peers::free_address;
use crate::harness::{Origin, PATIENCE, Shardgate, connect, eventually, program, until};

fn socket(gate: &Shardgate) -> UnixStream {
    let stream = UnixStream::connect(gate.dir().join("admin.sock")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn read_all(mut stream: impl Read) -> String {
    let mut text = Vec::new();
    // A connection that was closed with input unread ends in a reset.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn every_change_is_logged_with_who_and_what() {
    let gate = Shardgate::relay(Origin::echo().address);
    gate.ask("set weight be/s1 17");
    let me = format!("pid {} did `set weight be/s1 17` (from ", std::process::id());
    gate.wait_log(&me);
    gate.ask("user; set weight be/s1 3");
    gate.wait_log("was refused `set weight be/s1 3`");
    gate.ask("show stat");
    assert!(!gate.log().contains("did `show"), "looking is no change");
    gate.finish();
}

#[test]
fn tcp_is_for_the_loopback_network_alone() {
    let address = free_address();
    let origin = Origin::echo();
    let body = relay(origin.address, "");
    let gate =
        Shardgate::with(&body).admin(&format!("{{ address = \"{address}\", level = \"user\" }}")).start();
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"show cli level; set weight be/s1 1\n").expect("sent");
    assert_eq!(read_all(stream), "user\n\nPermission denied\n\n");
    gate.wait_log("127.0.0.1:");
    assert!(gate.ask("show cli sockets").contains(&format!("{address} user all")));
    gate.finish();
}

#[test]
fn hostile_clients_get_an_answer_and_do_no_harm() {
    let origin = Origin::echo();
    let gate = Shardgate::relay(origin.address);
    let address = gate.address("fe");
    // A line of ten megabytes: the rest of it is not waited for.
    let mut endless = socket(&gate);
    let _ = endless.write_all(&vec![b'x'; 10 << 20]);
    assert_eq!(read_all(endless), "Line or payload too long.\n\n");
    // Clients that ask for much and read nothing.
    let deaf: Vec<UnixStream> = (0..8)
        .map(|_| {
            let mut stream = socket(&gate);
            stream.write_all("show stat;".repeat(6000).as_bytes()).expect("taken");
            stream.write_all(b"\n").expect("taken");
            stream
        })
        .collect();
    // Far more connections than are served.
    let many: Vec<UnixStream> =
        (0..1000).map_while(|_| UnixStream::connect(gate.dir().join("admin.sock")).ok()).collect();
    assert!(many.len() > 64);
    let refused = read_all(many.last().expect("some").try_clone().expect("a descriptor"));
    assert_eq!(refused, "Too many admin connections.\n\n");
    let mut client = connect(address);
    client.write_all(b"through").expect("sent");
    client.read_exact(&mut [0; 7]).expect("traffic goes on");
    drop((client, many, deaf));
    until("there is room again", || socket_answers(&gate));
    assert!(gate.rss_kib() < 400_000, "{} KiB", gate.rss_kib());
    gate.finish();
}

fn socket_answers(gate: &Shardgate) -> bool {
    let mut stream = socket(gate);
    stream.write_all(b"show version\n").is_ok() && read_all(stream).starts_with("0.")
}

#[test]
fn a_dialogue_a_chain_and_a_payload() {
    let gate = Shardgate::relay(Origin::echo().address);
    let mut stream = socket(&gate);
    stream
        .write_all(b"prompt\nset timeout cli 60\nshow version;echo <<END\none\ntwo\nEND\nquit\n")
        .expect("sent");
    let version = gate.ask("show version").trim().to_owned();
    assert_eq!(read_all(stream), format!("\n> \n> + + + {version}\n\n> one\ntwo\n\n> "));
    gate.finish();
}

#[test]
fn ctl_does_not_mind_who_stops_reading() {
    let gate = Shardgate::relay(Origin::echo().address);
    let script = format!(
        "{} ctl -s {}/admin.sock 'show stat' 'show info' | head -1; exit ${{PIPESTATUS[0]}}",
        binary(),
        gate.dir().display()
    );
    let output = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().expect("bash runs");
    assert!(output.stdout.starts_with(b"# pxname"));
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    gate.finish();
}

#[test]
fn activity_shows_what_the_cores_do() {
    let started = Instant::now();
    let gate = Shardgate::relay(Origin::echo().address);
    let sum = |name: &str| -> u64 {
        let text = gate.ask("show activity");
        let line =
            text.lines().find(|line| line.starts_with(&format!("{name}: "))).expect("a line").to_owned();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    };
    for name in ["loops", "enters", "waits", "idle_ns", "cpu_ns", "tasks", "timers_fired", "completions"] {
        until(name, || sum(name) > 0);
    }
    // What the process logged can be read, and followed.
    let ring = gate.ask("show events");
    assert!(ring.contains("  process   : "), "{ring}");
    assert!(gate.ask("show events process").contains(" INFO frontend fe listens on "));
    assert!(gate.ask("show events proces").contains("Did you mean process?"));
    let mut follower = socket(&gate);
    follower.write_all(b"show events process -w -n\n").expect("sent");
    gate.ask("note hello from the night shift");
    let mut line = String::new();
    BufReader::new(&mut follower).read_line(&mut line).expect("a line");
    assert!(line.contains("hello from the night shift"), "{line}");
    drop(follower);
    until("an idle process says so", || {
        gate.info("Idle_pct").parse::<u32>().is_ok_and(|percent| percent > 50)
    });
    let text = gate.ask("show activity");
    let slept = text.lines().find_map(|line| line.strip_prefix("idle_ns: ")).expect("a line");
    let numbers: Vec<u128> = slept.split([' ', '[', ']']).filter_map(|word| word.parse().ok()).collect();
    let age = started.elapsed().as_nanos();
    assert!(
        numbers.len() > 2 && numbers[1..].iter().all(|core| *core <= age),
        "no core slept longer than {age} ns: {slept}"
    );
    gate.finish();
}

#[test]
fn maps_and_acls_change_while_they_are_used() {
    let body = "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\nrules = [\n\
        { deny = { status = 403 }, if = \"{ src -f @DIR@/bad.acl } !{ path /open }\" },\n\
        { return = { status = 200, content-type = \"text/plain\", lf-string = \"%[path,map_str(@DIR@/names.map,none)]\" } },\n]\n";
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = dir.path().display().to_string();
    std::fs::write(dir.path().join("names.map"), "/a first\n/b second\n").expect("writable");
    std::fs::write(dir.path().join("bad.acl"), "192.0.2.0/24\n").expect("writable");
    let gate = Shardgate::start(&body.replace("@DIR@", &at));
    let (map, acl) = (format!("{at}/names.map"), format!("{at}/bad.acl"));
    let get = |path: &str| gate.wire("fe").get(path);
    assert_eq!((get("/a").text(), get("/c").text()), ("first".to_owned(), "none".to_owned()));
    let list = gate.ask("show map");
    assert!(list.contains(&format!("({map}) ")) && list.contains("entry_cnt=2"), "{list}");
    for (command, answer) in [
        (format!("add map {map} /c third one"), "\n"),
        (format!("set map {map} /a changed"), "\n"),
        (format!("del map {map} /b"), "\n"),
        (format!("del map {map} /b"), "Key not found.\n\n"),
        (format!("set map {map} /b x"), "entry not found.\n\n"),
        ("show map nothing".to_owned(), "Unknown map identifier. Please use #<id> or <file>.\n\n"),
        (format!("show map {acl}"), "Unknown map identifier. Please use #<id> or <file>.\n\n"),
        (format!("add acl {acl} not-an-address"), "Entry 2 is refused"),
    ] {
        let said = gate.ask(&command);
        assert!(
            said == answer || (answer.ends_with("refused") && said.starts_with(answer)),
            "{command}: {said}"
        );
    }
    assert_eq!(["/a", "/b", "/c"].map(|path| get(path).text()), ["changed", "none", "third one"]);
    // A payload, and a version that is put in place as a whole.
    let version = gate.ask(&format!("prepare map {map}"));
    assert_eq!(version, "New version created: 1\n\n");
    gate.ask(&format!("add map @1 {map} <<\n/a whole\n/d new\n\n"));
    assert_eq!(get("/a").text(), "changed", "nothing shows before the commit");
    assert_eq!(gate.ask(&format!("commit map @1 {map}")), "\n");
    assert_eq!(["/a", "/c", "/d"].map(|path| get(path).text()), ["whole", "none", "new"]);
    assert!(gate.ask(&format!("commit map @1 {map}")).starts_with("Unknown version"));
    assert!(gate.ask(&format!("get map {map} /d")).contains("match=yes, key=\"/d\", value=\"new\""));
    assert!(gate.ask(&format!("show map {map}")).contains(" /d new\n"));
    gate.ask(&format!("add acl {acl} 127.0.0.0/8"));
    assert_eq!((get("/a").status(), get("/open").status()), (403, 200));
    gate.ask(&format!("clear acl {acl}"));
    assert_eq!(get("/a").status(), 200);
    gate.wait_log(" (from 2 entries to none)");
    gate.finish();
}

#[test]
fn the_last_malformed_messages_are_kept_with_the_place() {
    let origin = Origin::http(|_| "HTTP/1.1 2x0 OK\r\n\r\n".to_owned());
    let gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    client.send("GET /bad HTTP/1.1\r\nHost: a\r\nX\u{1}: y\r\n\r\n");
    assert_eq!(client.response("GET").status(), 400);
    assert_eq!(gate.wire("fe").get("/").status(), 502);
    until("both are there", || gate.ask("show errors").starts_with("Total events captured: 2\n"));
    let all = gate.ask("show errors");
    assert!(all.contains("frontend fe (#") && all.contains("error at position 29:\n"), "{all}");
    assert!(all.contains("> 00028 X\\x01: y\\r\\n\n"), "{all}");
    assert!(all.contains("> 00000 HTTP/1.1 2x0 OK\\r\\n\n") && all.contains("server s1 (#1)"), "{all}");
    assert!(!gate.ask("show errors fe request").contains("2x0"));
    assert!(!gate.ask("show errors be response").contains("/bad"));
    // A flood is sampled.
    for _ in 0..100 {
        let mut client = gate.wire("fe");
        client.send("\u{1}\r\n\r\n");
        assert_eq!(client.response("GET").status(), 400);
    }
    until("the flood is counted", || gate.count("fe/FRONTEND", "ereq") >= 101);
    assert!(gate.ask("show errors").matches("invalid request").count() <= 64);
    gate.finish();
}

/// A program in a terminal of 80 by 24, made by script(1).
struct InTerminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl InTerminal {
    fn start(words: &str) -> InTerminal {
        let command = format!("stty rows 24 cols 80; exec {words}");
        let mut child = Command::new(program("script"))
            .args(["-q", "-e", "-f", "-c", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script runs");
        let (keys, mut out) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let shown = Arc::new(Mutex::new(String::new()));
        let mine = shown.clone();
        let reader = std::thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(len @ 1..) = out.read(&mut block) {
                mine.lock().expect("no panic").push_str(&String::from_utf8_lossy(&block[..len]));
            }
        });
        InTerminal { child, keys, shown, reader: Some(reader) }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it reads");
    }

    /// Waits until this was printed, in one piece.
    fn wait(&self, what: &str) {
        until(what, || self.shown.lock().expect("no panic").contains(what));
    }

    /// Waits until it was printed, and behind it that the next line is asked for: what is pressed before that, the terminal
    /// takes for itself, the end of input too.
    fn wait_for_answer(&self, what: &str) {
        let is_asked = |shown: &str| shown.rfind(what).is_some_and(|at| shown[at..].contains("shardgate> "));
        until(what, || is_asked(&self.shown.lock().expect("no panic")));
    }

    fn end(mut self) -> (bool, String) {
        let status = eventually("its end", || self.child.try_wait().expect("a child of ours"));
        self.reader.take().expect("not joined before").join().expect("no panic");
        (status.success(), self.shown.lock().expect("no panic").clone())
    }
}

impl Drop for InTerminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the terminal shows {:?}", self.shown.lock());
        }
        // It ended already, but when the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn top_shows_what_happens_and_drains_a_server() {
    let origin = Origin::http_named("a");
    let gate = http_gate(&origin, "", "", "");
    let mut top = InTerminal::start(&format!("{} top -s {}/admin.sock", binary(), gate.dir().display()));
    top.wait("RATE/s");
    top.wait("s1");
    gate.wire("fe").get("/");
    // The server is the last row; what asks for confirmation changes nothing before it is given.
    top.press("Gd");
    top.wait("drain (sessions finish, no new ones) be/s1?");
    assert_eq!(gate.stat("be/s1", "status"), "no check");
    top.press("y");
    gate.wait_stat("be/s1", "status", "DRAIN");
    top.wait("done: set server be/s1 state drain");
    top.press("w7\ry");
    gate.wait_stat("be/s1", "weight", "7");
    top.press("q");
    let (good, shown) = top.end();
    assert!(good, "{shown}");
    assert!(shown.contains("\x1b[?1049l"), "the terminal is as it was before");
    // Without a terminal, or without a process, it says so.
    let socket = gate.dir().join("admin.sock").display().to_string();
    let output =
        Command::new(binary()).args(["top", "-s", &socket]).stdin(Stdio::null()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("needs a terminal"));
    gate.finish();
}

#[test]
fn top_leaves_the_terminal_as_it_was_when_it_is_killed() {
    let gate = Shardgate::relay(Origin::echo().address);
    for signal in ["TERM", "INT", "HUP"] {
        let pid = gate.dir().join(format!("pid-{signal}"));
        let socket = gate.dir().join("admin.sock");
        let words =
            format!("sh -c 'echo $$ >{}; exec {} top -s {}'", pid.display(), binary(), socket.display());
        let top = InTerminal::start(&words);
        top.wait("RATE/s");
        let pid = std::fs::read_to_string(&pid).expect("written before it began");
        let sent =
            Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status().expect("kill runs");
        assert!(sent.success());
        let (good, shown) = top.end();
        assert!(!good, "{signal}");
        let (entered, left) = (shown.rfind("\x1b[?1049h"), shown.rfind("\x1b[?1049l"));
        assert!(entered.is_some() && left > entered, "{signal}: {shown}");
    }
    gate.finish();
}

#[test]
fn programs_end_with_their_terminal_though_sighup_is_ignored() {
    let gate = Shardgate::relay(Origin::echo().address);
    let dir = gate.dir().display();
    for (program, shows) in [("top", "RATE/s"), ("ctl", "shardgate> ")] {
        let done = gate.dir().join(program);
        let words = format!("{} {program} -s {dir}/admin.sock; echo $? >{}", binary(), done.display());
        let mut terminal =
            InTerminal::start(&format!("env XDG_STATE_HOME={dir} bash -c 'trap \"\" HUP; {words}'"));
        terminal.wait(shows);
        terminal.child.kill().expect("it runs");
        let code = eventually("the program ends", || {
            std::fs::read_to_string(&done).ok().filter(|text| text.ends_with('\n'))
        });
        assert_ne!(code, "0\n", "{program}");
    }
    gate.finish();
}

#[test]
fn ctl_completes_words_in_a_terminal_and_remembers_lines() {
    let gate = Shardgate::relay(Origin::echo().address);
    let words = format!("env XDG_STATE_HOME={0} {1} ctl -s {0}/admin.sock", gate.dir().display(), binary());
    let mut first = InTerminal::start(&words);
    first.wait("shardgate> ");
    first.press("get wei\tbe/\t\r");
    first.wait_for_answer("1 (initial 1)");
    first.press("quit\r");
    assert!(first.end().0);
    let mut second = InTerminal::start(&words);
    second.wait("shardgate> ");
    // Up twice: `quit`, then what was asked before it.
    second.press("\x1b[A\x1b[A\r");
    second.wait_for_answer("1 (initial 1)");
    second.press("\x04");
    assert!(second.end().0);
    gate.finish();
}
