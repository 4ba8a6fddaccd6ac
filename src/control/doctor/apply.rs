//! Does what findings propose. Each step says what came of it, and none stops the others.

use std::fs;
use std::io;
use std::path::Path;

use super::{Finding, Fix};
use crate::control::gateways;
use crate::model::Model;

/// What was done and what not, a line each. `proc_sys` is where sysctls are set, `file` where they are kept.
pub(super) fn apply(model: &Model, findings: &[Finding], proc_sys: &Path, file: &Path) -> Vec<String> {
    let mut said = Vec::new();
    for fix in findings.iter().filter_map(|finding| finding.fix.as_ref()) {
        let done = match fix {
            Fix::Sysctl { key, value } => {
                fs::write(proc_sys.join(key.replace('.', "/")), value).and_then(|()| keep(file, key, value))
            }
            Fix::Write { path, text } => fs::write(path, text),
            Fix::Gateways => gateways::install(model).map_err(io::Error::other),
            Fix::Transparent(plan) => plan.install().map_err(io::Error::other),
        };
        said.push(match done {
            Ok(()) => format!("done   {fix}"),
            Err(error) => format!("FAILED {fix}: {error}"),
        });
    }
    said
}

/// Puts a sysctl into a file of sysctl.d, in place of what is there for it.
fn keep(file: &Path, key: &str, value: &str) -> io::Result<()> {
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "# Set by `shardgate doctor --apply`.\n".to_owned()
        }
        Err(error) => return Err(error),
    };
    fs::write(file, with_key(&before, key, value))
}

fn with_key(text: &str, key: &str, value: &str) -> String {
    let is_it = |line: &&str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    let mut lines: Vec<&str> = text.lines().filter(|line| !is_it(line)).collect();
    let line = format!("{key} = {value}");
    lines.push(&line);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::doctor::Area;
    use crate::control::load;

    const EMPTY: &str = "[defaults]\ntimeout = { client = 1, connect = 1, server = 1 }\n[backend.b.server.s]\naddress = \
                         \"192.0.2.1:1\"\n[frontend.f]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"b\"\n";

    #[test]
    fn a_sysctl_is_set_and_kept_and_the_rest_goes_on_after_a_failure() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("90.conf");
        fs::create_dir_all(dir.path().join("net/core")).expect("made");
        let fix = |key: &str, value: &str| {
            let fix = Fix::Sysctl { key: key.to_owned(), value: value.to_owned() };
            Finding::change(Area::Sysctl, "x").with(fix)
        };
        let findings =
            [fix("net.none.x", "1"), fix("net.core.somaxconn", "1"), fix("net.core.somaxconn", "2")];
        let (model, _) = load::from_text("test", EMPTY).expect("the machine can be looked at");
        let model = model.expect("a good configuration");
        let said = apply(&model, &findings, dir.path(), &file);
        assert!(
            said[0].starts_with("FAILED sysctl -w 'net.none.x=1'") && said[2].starts_with("done"),
            "{said:?}"
        );
        assert_eq!(fs::read_to_string(dir.path().join("net/core/somaxconn")).expect("there"), "2");
        let kept = fs::read_to_string(file).expect("there");
        assert_eq!(kept.lines().skip(1).collect::<Vec<_>>(), ["net.core.somaxconn = 2"], "{kept}");
    }
}
