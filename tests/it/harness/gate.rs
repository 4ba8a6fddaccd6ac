//! The proxy under test: the real binary with a configuration, its admin socket, its log and its end.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use super::{PATIENCE, connect, eventually, until};

/// A running proxy. Killed when dropped; [`finish`](Self::finish) is how a test ends.
pub(crate) struct Shardgate {
    child: Child,
    dir: tempfile::TempDir,
    /// Sockets the process had when it was ready.
    sockets_at_start: usize,
    /// What stands before the sections of the test in its configuration.
    head: String,
}

/// A process beside the one that a [`Shardgate`] has. Killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts one.
    pub(crate) fn spawn(command: &mut Command) -> Process {
        Process(command.spawn().expect("the binary runs"))
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        eventually("the process to leave", || self.0.try_wait().expect("our own child"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is over already when the test is good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How to start one.
pub(crate) struct Start {
    body: String,
    global: String,
    defaults: String,
    /// Further admin sockets, as tables.
    admin: String,
    cores: usize,
    nofile: Option<usize>,
    inherited: Option<OwnedFd>,
    wrapper: Vec<String>,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Shardgate {
    /// Starts it with these sections; `[global]`, `[admin]` and `[defaults]` are filled in. `@DIR@` is its directory.
    pub(crate) fn start(body: &str) -> Self {
        Self::with(body).start()
    }

    /// The same with more to say.
    pub(crate) fn with(body: &str) -> Start {
        Start {
            body: body.to_owned(),
            global: String::new(),
            defaults: String::new(),
            admin: String::new(),
            cores: 2,
            nofile: None,
            inherited: None,
            wrapper: Vec::new(),
            env: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// One frontend `fe` and one backend with one server at this address: the usual test.
    pub(crate) fn relay(server: SocketAddr) -> Self {
        Self::start(&relay(server, ""))
    }

    /// Asks another admin socket in its directory; an error if it does not answer.
    pub(crate) fn ask_at(&self, name: &str, command: &str) -> std::io::Result<String> {
        ask(&self.dir.path().join(name), command)
    }

    /// Changes its configuration file and lets it run what stands there; what a refusal said.
    pub(crate) fn edit(&mut self, change: impl FnOnce(String) -> String) -> Result<String, String> {
        let file = self.dir.path().join("shardgate.toml");
        let text = fs::read_to_string(&file).expect("written at the start");
        fs::write(&file, change(text)).expect("our own directory");
        let said = self.try_reload();
        self.sockets_at_start = self.sockets_at_start.max(self.sockets());
        said
    }

    /// Asks the admin socket.
    pub(crate) fn ask(&self, command: &str) -> String {
        ask(&self.dir.path().join("admin.sock"), command).expect("the admin socket answers")
    }

    /// Where a frontend's only (or first) bind listens.
    pub(crate) fn address(&self, frontend: &str) -> SocketAddr {
        let text = self.bind_field(frontend, None);
        text.parse().unwrap_or_else(|_| panic!("{text} is no address of {frontend}"))
    }

    /// Where a named bind listens.
    pub(crate) fn bind_address(&self, frontend: &str, bind: &str) -> SocketAddr {
        let text = self.bind_field(frontend, Some(bind));
        text.parse().unwrap_or_else(|_| panic!("{text} is no address of {frontend}/{bind}"))
    }

    fn bind_field(&self, frontend: &str, bind: Option<&str>) -> String {
        let listeners = self.ask("show listeners");
        listeners
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|f| f.len() >= 3 && f[0] == frontend && bind.is_none_or(|b| f[1] == b))
            .unwrap_or_else(|| panic!("no listener of {frontend} {bind:?} in:\n{listeners}"))[2]
            .to_owned()
    }

    /// A client connection to a frontend.
    pub(crate) fn connect(&self, frontend: &str) -> TcpStream {
        connect(self.address(frontend))
    }

    /// `show stat`, rows by `proxy/service`, fields by column name.
    pub(crate) fn stats(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        parse(&self.ask("show stat"))
    }

    /// One field of one row.
    pub(crate) fn stat(&self, row: &str, column: &str) -> String {
        let stats = self.stats();
        let found = stats.get(row).unwrap_or_else(|| panic!("no row {row} in {:?}", stats.keys()));
        found.get(column).cloned().unwrap_or_default()
    }

    /// The same as a number; empty is 0.
    pub(crate) fn count(&self, row: &str, column: &str) -> u64 {
        let text = self.stat(row, column);
        if text.is_empty() {
            0
        } else {
            text.parse().unwrap_or_else(|_| panic!("{row} {column} is {text:?}"))
        }
    }

    /// Waits until a field has this value.
    pub(crate) fn wait_stat(&self, row: &str, column: &str, value: &str) {
        let mut last = String::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            last = self.stat(row, column);
            if last == value {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("{row} {column} stays {last:?}, not {value:?}; log:\n{}", self.log());
    }

    /// A value of `show info`.
    pub(crate) fn info(&self, key: &str) -> String {
        let text = self.ask("show info");
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": ").map(str::to_owned))
            .unwrap_or_else(|| panic!("no {key} in:\n{text}"))
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Waits for a text in the log.
    pub(crate) fn wait_log(&self, text: &str) {
        until(&format!("{text:?} in the log:\n{}", self.log()), || self.log().contains(text));
    }

    /// Writes other sections into its configuration file.
    pub(crate) fn rewrite(&self, body: &str) {
        write_config(self.dir.path(), &self.head, body);
    }

    /// `shardgate reload`; what it said, good or bad.
    pub(crate) fn try_reload(&self) -> Result<String, String> {
        let socket = self.dir.path().join("admin.sock");
        let output = Command::new(binary()).args(["reload", "-s"]).arg(socket).output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match output.status.code() {
            Some(0) => Ok(text(output.stdout)),
            Some(1) => Err(text(output.stderr)),
            other => panic!("exit status {other:?}: {}", text(output.stderr)),
        }
    }

    /// `shardgate plan` with its configuration file: the exit code and what it printed.
    pub(crate) fn plan(&self) -> (i32, String) {
        self.plan_of(&[])
    }

    /// The same with further arguments.
    pub(crate) fn plan_of(&self, arguments: &[&str]) -> (i32, String) {
        let (socket, file) = (self.dir.path().join("admin.sock"), self.dir.path().join("shardgate.toml"));
        let mut command = Command::new(binary());
        let output = command
            .args(["plan", "-s"])
            .arg(socket)
            .arg("-c")
            .arg(file)
            .args(arguments)
            .output()
            .expect("it runs");
        let code = output.status.code().expect("it is not killed");
        (code, String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Lets it run other sections.
    pub(crate) fn reload(&mut self, body: &str) {
        self.rewrite(body);
        self.try_reload().unwrap_or_else(|why| panic!("reload refused: {why}"));
        self.sockets_at_start = self.sockets_at_start.max(self.sockets());
    }

    /// Ends it with a signal, which it may not survive, and starts it again with what is in its configuration file now.
    pub(crate) fn restart(&mut self, signal: &str) {
        let before = self.log().matches(" ready: ").count();
        self.signal(signal);
        self.wait_exit();
        let mut log = fs::OpenOptions::new();
        let log = log.append(true).open(self.dir.path().join("log")).expect("it was made at the start");
        self.child = Command::new(binary())
            .args(["run", "-c"])
            .arg(self.dir.path().join("shardgate.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        self.wait_ready();
        // It answers before everything is as the process before had it, while names are looked up.
        if before > 0 {
            until("the start to be over", || self.log().matches(" ready: ").count() > before);
        }
    }

    /// Waits until it answers.
    fn wait_ready(&mut self) {
        let socket = self.dir.path().join("admin.sock");
        eventually("the admin socket answers", || {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("it ended with {status}; log:\n{}", self.log());
            }
            let answer = ask(&socket, "show listeners").ok()?;
            answer.lines().any(|line| !line.is_empty() && !line.starts_with('#')).then_some(())
        });
        self.sockets_at_start = self.sockets();
    }

    /// Starts another process with its configuration file that takes over, and waits until it serves. The process before.
    pub(crate) fn take_over(&mut self) -> Process {
        let pids = self.log().matches("has handed over and leaves").count();
        let new = self.successor().spawn().expect("the binary runs");
        // Both are killed when the test fails anywhere from here on.
        let old = Process(std::mem::replace(&mut self.child, new));
        eventually("the takeover", || {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("it ended with {status}; log:\n{}", self.log());
            }
            (self.log().matches("has handed over and leaves").count() > pids).then_some(())
        });
        self.sockets_at_start = self.sockets();
        old
    }

    /// The command of a process that takes over.
    pub(crate) fn successor(&self) -> Command {
        let log = fs::File::options().append(true).open(self.dir.path().join("log")).expect("our own file");
        let mut command = Command::new(binary());
        command.args(["run", "-c"]).arg(self.dir.path().join("shardgate.toml"));
        command.arg("--takeover").arg(self.dir.path().join("admin.sock"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        command
    }

    /// Its temporary directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sockets it has open, by /proc.
    pub(crate) fn sockets(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("our own child")
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("our own child");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("the kernel says it");
        line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Sends a signal by name (`TERM`, `INT`).
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &command]).status().expect("sh runs").success());
    }

    /// Waits for the end of the process.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let dir = self.dir.path().join("log");
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                return status;
            }
            if std::time::Instant::now() > deadline {
                panic!("it does not end; log:\n{}", fs::read_to_string(dir).unwrap_or_default());
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until no session is left and every socket of a session is closed.
    pub(crate) fn wait_quiet(&self) {
        let mut last = String::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            let busy: Vec<String> = self
                .stats()
                .iter()
                .filter(|(_, row)| row.get("scur").is_some_and(|v| !v.is_empty() && v != "0"))
                .map(|(name, row)| format!("{name} scur={}", row["scur"]))
                .collect();
            // Idle connections to servers outlive the sessions that opened them.
            let idle = self
                .stats()
                .values()
                .filter_map(|row| row.get("srv_icur")?.parse::<usize>().ok())
                .sum::<usize>();
            let (now, start) = (self.sockets(), self.sockets_at_start + idle);
            let current = self.info("CurrConns");
            if busy.is_empty() && now <= start && current == "0" {
                return;
            }
            last = format!("{busy:?}, CurrConns {current}, {now} sockets, {start} at the start");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("something leaks: {last}; log:\n{}", self.log());
    }

    /// The end of a test: nothing leaks, nothing panicked, SIGTERM ends it with 0.
    pub(crate) fn finish(mut self) {
        self.wait_quiet();
        let log = self.log();
        assert!(!log.contains("panicked"), "a panic in the log:\n{log}");
        self.signal("TERM");
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "exit status after SIGTERM; log:\n{}", self.log());
    }
}

impl Drop for Shardgate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the proxy ---\n{}", self.log());
        }
    }
}

impl Start {
    /// More lines of `[global]`.
    pub(crate) fn global(mut self, lines: &str) -> Self {
        self.global.push_str(lines);
        self.global.push('\n');
        self
    }

    /// More lines of `[defaults]`; a timeout given here replaces the usual one.
    pub(crate) fn defaults(mut self, lines: &str) -> Self {
        self.defaults.push_str(lines);
        self.defaults.push('\n');
        self
    }

    /// With one more admin socket: an inline table.
    pub(crate) fn admin(mut self, table: &str) -> Self {
        self.admin.push_str(", ");
        self.admin.push_str(table);
        self
    }

    /// On how many data cores; two unless said otherwise.
    pub(crate) fn cores(mut self, cores: usize) -> Self {
        self.cores = cores;
        self
    }

    /// With a limit of open files.
    pub(crate) fn nofile(mut self, limit: usize) -> Self {
        self.nofile = Some(limit);
        self
    }

    /// With a listening socket as fd 3, the way systemd hands it over.
    pub(crate) fn inherit(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.inherited = Some(socket.into());
        self
    }

    /// Started by another program, which must end in an `exec` of its further arguments.
    pub(crate) fn through(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// With a further argument of `run`.
    pub(crate) fn argument(mut self, text: &str) -> Self {
        self.arguments.push(text.to_owned());
        self
    }

    /// With an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the file and starts the process; waits until it is ready.
    pub(crate) fn start(self) -> Shardgate {
        let dir = temporary_directory();
        let config = self.write(dir.path());
        let head = self.head();
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(dir.path().join("log"))
            .expect("our own directory");
        let mut script = String::new();
        if let Some(limit) = self.nofile {
            script.push_str(&format!("ulimit -n {limit}; "));
        }
        if self.inherited.is_some() {
            // The socket comes as standard input, because that is what can be handed over without unsafe code.
            script.push_str("exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; ");
        }
        script.push_str("exec \"$@\"");
        let child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args(&self.wrapper)
            .arg(binary())
            .args(["run", "-c"])
            .arg(&config)
            .args(&self.arguments)
            .envs(self.env)
            .stdin(self.inherited.map_or_else(Stdio::null, Stdio::from))
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let mut gate = Shardgate { child, dir, sockets_at_start: 0, head };
        gate.wait_ready();
        gate
    }

    /// Starts a process that is expected to end by itself.
    pub(crate) fn run_to_end(self, subcommand: &str) -> Output {
        let dir = temporary_directory();
        let config = self.write(dir.path());
        let child = Command::new("sh")
            .args(["-c", "exec \"$@\"", "sh"])
            .args(&self.wrapper)
            .arg(binary())
            .args([subcommand, "-c"])
            .arg(&config)
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.wait_with_output().expect("our own child")
    }

    /// The complete configuration file.
    fn write(&self, dir: &Path) -> PathBuf {
        write_config(dir, &self.head(), &self.body)
    }

    /// What stands before the sections of the test.
    fn head(&self) -> String {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let cores: Vec<usize> = (0..self.cores.min(cpus)).collect();
        let mut text = String::from("[global]\n");
        if !self.global.contains("cores =") {
            text.push_str(&format!("cores = {cores:?}\n"));
        }
        // Everything that works without the sandbox works in it; a test that asks for more than it allows says so.
        if !self.global.contains("sandbox =") {
            text.push_str("sandbox = true\n");
        }
        text.push_str(&self.global);
        let socket = "{ path = \"@DIR@/admin.sock\", level = \"admin\" }";
        text.push_str(&format!("[admin]\nsocket = [{socket}{}]\n[defaults]\n", self.admin));
        if !self.defaults.contains("mode = ") {
            text.push_str("mode = \"tcp\"\n");
        }
        for (key, value) in [("connect", "5s"), ("client", "60s"), ("server", "60s")] {
            if !self.defaults.contains(&format!("timeout.{key} ")) {
                text.push_str(&format!("timeout.{key} = \"{value}\"\n"));
            }
        }
        text.push_str(&self.defaults);
        text
    }
}

fn write_config(dir: &Path, head: &str, body: &str) -> PathBuf {
    let file = dir.join("shardgate.toml");
    let text = format!("{head}{body}").replace("@DIR@", &dir.to_string_lossy());
    fs::write(&file, text).expect("our own directory");
    file
}

/// A frontend `fe` on a port of the kernel's choice and a backend `be` with one server `s1`, which gets these more keywords.
pub(crate) fn relay(server: SocketAddr, server_keywords: &str) -> String {
    format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "be"
[backend.be]
[backend.be.server.s1]
address = "{server}"
{server_keywords}
"#
    )
}

/// The binary under test: this build's, or the one of the environment variable `SHARDGATE_BINARY`.
pub(crate) fn binary() -> String {
    std::env::var("SHARDGATE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_shardgate").to_owned())
}

/// Short, because the path of a UNIX socket has at most 107 bytes.
fn temporary_directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("shardgate-it-").tempdir().expect("a temporary directory")
}

fn ask(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The answer to `show stat`: rows by `proxy/service`, fields by column name.
pub(crate) fn parse(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut lines = text.lines().filter(|l| !l.is_empty());
    let header = lines.next().expect("a header");
    let names: Vec<&str> = header.trim_start_matches("# ").trim_end_matches(',').split(',').collect();
    lines
        .map(|line| {
            let fields: Vec<&str> = line.trim_end_matches(',').split(',').collect();
            let row: BTreeMap<_, _> =
                names.iter().map(|n| (*n).to_owned()).zip(fields.iter().map(|f| (*f).to_owned())).collect();
            (format!("{}/{}", fields[0], fields[1]), row)
        })
        .collect()
}
