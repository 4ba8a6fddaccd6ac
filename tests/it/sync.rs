//! shardgate-sync: configurations from a git repository, with real git, real signatures and the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::gate::binary;
use crate::harness::http::{Wire, sections};
use crate::harness::{Origin, Shardgate, connect};

/// A repository that everybody fetches from, and the tree that its author works in.
struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    fn new() -> Repository {
        let repository = Repository { dir: tempfile::tempdir().expect("a temporary directory") };
        repository.git(&["init", "--quiet", "--bare", "-b", "main", "../bare"]);
        repository.git(&["init", "--quiet", "-b", "main"]);
        repository
    }

    fn bare(&self) -> PathBuf {
        self.dir.path().join("bare")
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn git(&self, arguments: &[&str]) {
        fs::create_dir_all(self.tree()).expect("writable");
        let mut command = Command::new("git");
        command
            .current_dir(self.tree())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "gpg.format=ssh"]);
        let output = command.args(arguments).output().expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Publishes a configuration, signed if there is a key.
    fn publish(&self, file: &str, text: &str, key: Option<&Path>) {
        fs::write(self.tree().join(file), text).expect("writable");
        self.git(&["add", "--all"]);
        match key {
            Some(key) => {
                let key = format!("user.signingkey={}", key.display());
                self.git(&["-c", &key, "commit", "--quiet", "--allow-empty", "-S", "-m", "change it"]);
            }
            None => self.git(&["commit", "--quiet", "--allow-empty", "-m", "change it"]),
        }
        self.git(&["push", "--quiet", "../bare", "main"]);
    }

    /// A key pair; its file without `.pub`.
    fn key(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let status =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
        assert!(status.expect("ssh-keygen runs").success());
        path
    }
}

/// A balancer that takes its configuration from a file of the repository.
struct Node {
    gate: Shardgate,
    name: &'static str,
    settings: String,
}

impl Node {
    /// Its file is NAME.toml, and what runs at first is the first commit.
    fn new(name: &'static str, gate: Shardgate, repository: &Repository, settings: &str) -> Node {
        let settings = format!(
            "REPOSITORY={}\nFILE={name}.toml\nNODE={name}\nSTATE={dir}/sync\nSOCKET={dir}/admin.sock\nSHARDGATE={}\nCONFIRM=1h\n\
             SOAK=1\nABORT_IF='http_5xx > 1%'\n{settings}\n",
            repository.bare().display(),
            binary(),
            dir = gate.dir().display()
        );
        Node { gate, name, settings }
    }

    /// What it runs now.
    fn text(&self) -> String {
        fs::read_to_string(self.gate.dir().join("shardgate.toml")).expect("its own file")
    }

    /// From now on it reads what was synchronized.
    fn follow(&self) {
        let config = self.gate.dir().join("shardgate.toml");
        fs::remove_file(&config).expect("its own file");
        let current = self.gate.dir().join(format!("sync/current/{}.toml", self.name));
        std::os::unix::fs::symlink(current, config).expect("writable");
    }

    fn sync_with(&self, more: &str) -> (bool, String) {
        let settings = self.gate.dir().join("sync.conf");
        fs::write(&settings, format!("{}{more}\n", self.settings)).expect("writable");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/appliance/shardgate-sync");
        let mut command = Command::new(script);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let Output { status, stdout, stderr } = command.arg(settings).output().expect("it runs");
        (
            status.success(),
            format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)),
        )
    }

    /// It must go well, and say this.
    fn syncs(&self, expected: &str) {
        let (good, said) = self.sync_with("");
        assert!(good && said.contains(expected), "{expected:?} in:\n{said}\n{}", self.gate.log());
    }

    /// It must not go well, and say this.
    fn refuses(&self, expected: &str) {
        let (good, said) = self.sync_with("");
        assert!(!good && said.contains(expected), "{expected:?} in:\n{said}\n{}", self.gate.log());
    }

    /// What its rules say.
    fn rules(&self) -> String {
        self.gate.wire("fe").get("/").header("x-rules").unwrap_or("none").to_owned()
    }
}

/// A configuration whose rules say `first`.
fn first(origin: &Origin) -> Shardgate {
    let rules = "response-rules = [{ set-header = { name = \"x-rules\", value = \"first\" } }]";
    Shardgate::with(&sections(origin, rules, "", "")).defaults("mode = \"http\"").start()
}

#[test]
fn a_good_commit_runs_and_a_bad_one_does_not() {
    let (origin, repository) = (Origin::http_named("one"), Repository::new());
    let node = Node::new("a", first(&origin), &repository, "");
    let text = node.text();
    repository.publish("a.toml", &text, None);
    node.syncs("is the first: start shardgate run -c ");
    node.follow();
    repository.publish("a.toml", &text.replace("first", "second"), None);
    node.syncs(" confirmed");
    assert_eq!(node.rules(), "second");
    for step in
        [" is new: change it (Ada)", " differs in 1 points", " runs on trial as generation 2", " confirmed"]
    {
        assert!(node.gate.log().contains(step), "{step} in:\n{}", node.gate.log());
    }
    // Nothing is new.
    assert_eq!(node.sync_with(""), (true, String::new()));

    repository.publish("a.toml", "[frontend.x\n", None);
    node.refuses("refused: ");
    node.syncs("was refused before: ");
    assert!(node.gate.ask("show generations").contains("\n2 current "), "nothing has changed");

    // What the process alone can find out: somebody else listens there.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let bind = format!(
        "\n[frontend.b]\nbind = \"{}\"\ndefault-backend = \"be\"\n",
        taken.local_addr().expect("bound")
    );
    repository.publish("a.toml", &format!("{text}{bind}"), None);
    node.refuses("cannot bind ");
    assert_eq!(node.rules(), "second");
    node.gate.try_reload().expect("the file is the one that runs");
    assert_eq!(node.rules(), "second");

    fs::rename(repository.bare(), repository.dir.path().join("away")).expect("writable");
    node.refuses("cannot fetch from ");
    assert_eq!(node.rules(), "second");
    node.gate.finish();
}

/// Ends a load, also when its test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_commit_that_makes_errors_is_taken_back_and_reaches_no_other_node() {
    let (origin, repository) = (Origin::http_named("one"), Repository::new());
    let bad = Origin::http(|_| "HTTP/1.1 500 So\r\nContent-Length: 0\r\n\r\n".to_owned());
    let node = |name| Node::new(name, first(&origin), &repository, "CANARY=a");
    let (a, b) = (node("a"), node("b"));
    let (text_a, text_b) = (a.text(), b.text());
    let publish = |from: &str, to: &str| {
        fs::write(repository.tree().join("b.toml"), text_b.replace(from, to)).expect("writable");
        repository.publish("a.toml", &text_a.replace(from, to), None);
    };
    publish("first", "first");
    b.syncs("a has passed nothing yet");
    a.syncs("passed on to the other nodes");
    b.syncs("is the first");
    a.follow();
    b.follow();
    publish("first", "second");
    b.syncs("");
    assert_eq!((a.rules(), b.rules()), ("first".to_owned(), "first".to_owned()), "the other one goes first");
    a.syncs("passed on to the other nodes");
    b.syncs(" confirmed");
    assert_eq!((a.rules(), b.rules()), ("second".to_owned(), "second".to_owned()));

    publish(&origin.address.to_string(), &bad.address.to_string());
    let stop = AtomicBool::new(false);
    let address = a.gate.address("fe");
    std::thread::scope(|s| {
        let _stop = Stop(&stop);
        s.spawn(|| {
            let mut wire = Wire::new(connect(address));
            while !stop.load(Ordering::Acquire) {
                wire.get("/");
            }
        });
        let (good, said) = a.sync_with("SOAK=3000");
        assert!(!good && said.contains("refused: (trial of 3: http_5xx is "), "{said}\n{}", a.gate.log());
    });
    assert_eq!(a.rules(), "second");
    a.syncs("was refused before: ");
    b.syncs("");
    assert!(b.gate.ask("show generations").contains("\n2 current "), "it has seen nothing of it");
    a.gate.finish();
    b.gate.finish();
}

#[test]
fn only_what_is_signed_runs_if_it_must_be() {
    let (origin, repository) = (Origin::http_named("one"), Repository::new());
    let (ours, other) = (repository.key("ours"), repository.key("other"));
    let signers = repository.dir.path().join("signers");
    let public = fs::read_to_string(ours.with_extension("pub")).expect("it was made");
    fs::write(&signers, format!("ada@example.org {public}")).expect("writable");
    let settings = format!("VERIFY=yes\nKEYS={}", signers.display());
    let node = Node::new("a", first(&origin), &repository, &settings);
    let text = node.text();
    repository.publish("a.toml", &text, Some(&ours));
    node.syncs("is the first");
    node.follow();
    repository.publish("a.toml", &text.replace("first", "unsigned"), None);
    node.refuses("it has no good signature");
    repository.publish("a.toml", &text.replace("first", "strange"), Some(&other));
    node.refuses("it has no good signature");
    assert_eq!(node.rules(), "first");
    repository.publish("a.toml", &text.replace("first", "signed"), Some(&ours));
    node.syncs(" confirmed");
    assert_eq!(node.rules(), "signed");

    // A signed tag vouches for a commit that is not signed.
    let tags = "TAGS='v*'";
    repository.publish("a.toml", &text.replace("first", "tagged"), None);
    let key = format!("user.signingkey={}", ours.display());
    for tag in ["v1.9", "v1.10"] {
        repository.git(&[
            "-c",
            &key,
            "tag",
            "-s",
            "-m",
            "release",
            tag,
            if tag == "v1.10" { "HEAD" } else { "HEAD~1" },
        ]);
    }
    repository.git(&["push", "--quiet", "--tags", "../bare"]);
    let (good, said) = node.sync_with(tags);
    assert!(good && said.contains(" confirmed"), "{said}");
    assert_eq!(node.rules(), "tagged");
    node.gate.finish();
}

#[test]
fn a_run_that_was_interrupted_is_put_right() {
    let (origin, repository) = (Origin::http_named("one"), Repository::new());
    let node = Node::new("a", first(&origin), &repository, "");
    let text = node.text();
    repository.publish("a.toml", &text, None);
    node.syncs("is the first");
    node.follow();
    // As it is after a kill in the middle of the trial.
    let sync = node.gate.dir().join("sync");
    let current = fs::read_link(sync.join("current")).expect("it was made");
    fs::write(sync.join("trial"), current.file_name().expect("a commit").as_encoded_bytes())
        .expect("writable");
    repository.publish("a.toml", &text.replace("first", "second"), None);
    fs::write(node.gate.dir().join("shardgate.toml"), text.replace("first", "half")).expect("writable");
    crate::trial::order(&node.gate, &["reload", "--confirm", "1h"]).expect("it runs");
    assert_eq!(node.rules(), "half");
    fs::write(sync.join(&current).join("a.toml"), &text).expect("writable");
    node.syncs("an earlier run was interrupted: back to ");
    assert_eq!(node.rules(), "second");
    node.gate.finish();
}
