//! Configurations as people write them, of articles and of HAProxy's own package: each loads, as it is and as the TOML that is made
//! of it, and decides as it should.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::gate::binary;

/// What a configuration does with one question: a backend, a status, or the beginning of what is sent.
struct Case {
    file: &'static str,
    ask: &'static [&'static str],
    expect: &'static str,
}

const fn case(file: &'static str, ask: &'static [&'static str], expect: &'static str) -> Case {
    Case { file, ask, expect }
}

const CASES: &[Case] = &[
    case("statistics-and-auth", &["GET http://a:8080/x"], "Web-Farm"),
    case("statistics-and-auth", &["GET http://a:8080/MyWebPage/x"], "403"),
    case("statistics-and-auth", &["GET http://a:8443/MyWebPage/x"], "Web-Farm"),
    case("statistics-and-auth", &["GET http://a:8080/acme"], "401"),
    case(
        "statistics-and-auth",
        &["GET http://a:8080/acme", "-H", "Authorization: Basic am9lYmxvZ2dzOmxldG1laW4="],
        "Web-Farm",
    ),
    case("statistics-and-auth", &["GET http://a:8181/haproxy?stats"], "401"),
    case("first-farm", &["GET http://a:8080/"], "Web-Farm"),
    case("first-farm", &["tcp 198.51.100.1:5000 -> 127.0.0.1:8443"], "Web-Farm-SSL"),
    case("first-farm", &["tcp 203.0.113.7:5000 -> 127.0.0.2:8443"], "App-PilotCustomer2"),
    case("first-farm", &["tcp 203.0.113.7:5000 -> :35007"], "App-Customer1"),
    case("proxy-protocol-to-pages", &["tcp 203.0.113.7:5000 -> :8443"], "pages_https"),
    case("interfaces", &["GET http://a:8082/"], "bk"),
    case("readable-urls", &["GET http://a:8080/"], "bk_http"),
    case("client-certificates", &["GET http://a:8080/"], "X-SSL: 0"),
    case("websockets", &["GET http://www.domain.com:8080/"], "bk_web"),
    case("websockets", &["GET http://ws.domain.com:8080/"], "403"),
    case(
        "websockets",
        &["GET http://ws.domain.com:8080/", "-H", "Sec-WebSocket-Protocol: echo-protocol"],
        "403",
    ),
    case(
        "websockets",
        &[
            "GET http://www.domain.com:8080/",
            "-H",
            "Connection: upgrade",
            "-H",
            "Upgrade: websocket",
            "-H",
            "Sec-WebSocket-Key: x",
            "-H",
            "Sec-WebSocket-Version: 13",
            "-H",
            "Sec-WebSocket-Protocol: echo-protocol",
        ],
        "bk_ws",
    ),
    case("transparent", &["GET http://a:8080/"], "bk_application"),
    case("examples/content-sw-sample", &["GET http://img.example.com/", "--frontend", "public"], "static"),
    case(
        "examples/option-http_proxy",
        &["GET http://192.0.2.1:80/x", "--frontend", "test-proxy", "--src", "192.168.200.150"],
        "test-proxy-srv",
    ),
    case(
        "examples/transparent_proxy",
        &["GET http://a:80/", "--frontend", "MyFrontend"],
        "TransparentBack_http",
    ),
    case("examples/quick-test", &["GET http://a/", "--frontend", "p"], "p"),
];

/// What `import` says of a file of HAProxy's package beyond 0 (exact) and 2 (approximate), with the words of the report.
const NOT_WHOLE: &[(&str, &str)] = &[
    ("socks4", "socks4: not in this version"),
    ("wurfl-example", "device detection is not in this version"),
];

pub(crate) fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/haproxy").join(format!("{name}.cfg"))
}

pub(crate) fn examples() -> PathBuf {
    PathBuf::from("/usr/share/doc/haproxy/examples")
}

pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "cfg")).collect();
    files.sort();
    files
}

/// A directory with the file in it, and the certificates that some of them name.
fn place(file: &Path) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let copy = dir.path().join(file.file_name().expect("a file"));
    std::fs::copy(file, &copy).expect("it is readable");
    (dir, copy)
}

fn run(arguments: &[&str], dir: &Path) -> (i32, String) {
    let done = Command::new(binary()).args(arguments).current_dir(dir).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.code().unwrap_or(-1), text)
}

#[test]
fn all_of_them_load_as_they_are_and_as_toml() {
    let own = files(own("x").parent().expect("a directory"));
    assert!(own.len() >= 8, "{own:?}");
    for file in own.iter().chain(&files(&examples())) {
        let (dir, copy) = place(file);
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let path = copy.display().to_string();
        let (code, report) = run(&["import", &path, "-o", "out.toml"], dir.path());
        if let Some((_, words)) = NOT_WHOLE.iter().find(|(known, _)| *known == name) {
            assert!(code == 3 && report.contains(words), "{name}: {report}");
            continue;
        }
        assert!(code == 0 || code == 2, "{name}: {report}");
        // Certificates are not part of the articles, nor is the resolver of the machine.
        if !std::fs::read_to_string(file).expect("it is readable").contains(" crt ") {
            for arguments in [["check", "-f", &path], ["check", "-c", "out.toml"]] {
                let (code, said) = run(&arguments, dir.path());
                assert_eq!(code, 0, "{name} {arguments:?}: {said}");
            }
        }
    }
}

#[test]
fn they_decide_as_they_should() {
    for Case { file, ask, expect } in CASES {
        let source = match file.strip_prefix("examples/") {
            Some(name) => examples().join(format!("{name}.cfg")),
            None => own(file),
        };
        if !source.exists() {
            // Installed without documentation.
            assert!(file.starts_with("examples/"), "{}", source.display());
            continue;
        }
        let (dir, copy) = place(&source);
        let path = copy.display().to_string();
        let (_, report) = run(&["import", &path, "-o", "out.toml"], dir.path());
        // The same over the TOML.
        for config in [["-f", &path], ["-c", "out.toml"]] {
            let mut command = Command::new(binary());
            command.arg("explain").args(config).arg("--json").args(*ask).current_dir(dir.path());
            let done = command.output().expect("the binary runs");
            let told: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|e| {
                panic!("{file} {ask:?}: {e}: {}\n{report}", String::from_utf8_lossy(&done.stderr))
            });
            let decision = &told["decision"];
            let seen = [
                decision["backend"].as_str().unwrap_or_default().to_owned(),
                told["answer"]
                    .as_str()
                    .and_then(|answer| answer.split(' ').nth(1))
                    .unwrap_or_default()
                    .to_owned(),
            ];
            let is_sent = decision["sent"].as_str().is_some_and(|sent| sent.contains(expect));
            assert!(seen.iter().any(|word| word == expect) || is_sent, "{file} {config:?} {ask:?}: {told:#}");
        }
    }
}
