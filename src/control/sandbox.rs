//! What a configuration needs inside the sandbox (`sandbox = true`): the directories that it writes to, and whether it is
//! transparent. Pure; `rt::sandbox` puts it in force, a reload asks whether the next configuration fits.

use std::path::{Path, PathBuf};

use crate::model::http::HttpRules;
use crate::model::log::Output;
use crate::model::{AdminEndpoint, AdminSocket, BindAddress, LogTarget, Model};
use crate::policy::http_action::RequestAction;
use crate::policy::rule::TcpAction;
use crate::rt::sandbox::Needs;

/// What this configuration needs, and `more` admin sockets.
pub(super) fn needs(model: &Model, more: &[AdminSocket]) -> Needs {
    let mut files: Vec<&Path> = Vec::new();
    files.extend(model.global.admin.iter().chain(more).filter_map(|socket| match &socket.at {
        AdminEndpoint::Unix(path) => Some(path.as_path()),
        AdminEndpoint::Tcp(_) | AdminEndpoint::Fd(_) => None,
    }));
    files.extend(model.binds.values().filter_map(|bind| match &bind.address {
        BindAddress::Unix(path) => Some(path.as_path()),
        _ => None,
    }));
    files.extend(model.global.state_file.as_deref());
    if let LogTarget::File(path) = &model.global.log {
        files.push(path);
    }
    files.extend(model.logging.outputs.iter().filter_map(|output| match output {
        Output::File(path) => Some(path.as_path()),
        _ => None,
    }));
    files.extend(model.binds.values().filter_map(|bind| bind.tls.as_deref()?.key_log.as_deref()));
    let mut writable: Vec<PathBuf> = files.into_iter().map(directory).collect();
    writable.sort();
    writable.dedup();
    let transparent = model.binds.values().any(|bind| bind.transparent)
        || model.servers.values().any(|server| server.source_is_client);
    Needs { writable, transparent, silent_drop: drops_silently(model) }
}

/// Whether a rule says `silent-drop`.
fn drops_silently(model: &Model) -> bool {
    let of_http =
        |rules: &HttpRules| rules.request.iter().any(|rule| matches!(rule.action, RequestAction::SilentDrop));
    model.frontends.values().any(|frontend| {
        let mut rules = frontend.connection_rules.iter().chain(frontend.content_rules.iter());
        rules.any(|rule| matches!(rule.action, TcpAction::SilentDrop))
            || frontend.http.as_ref().is_some_and(|http| of_http(&http.rules))
    }) || model
        .backends
        .values()
        .any(|backend| backend.http.as_ref().is_some_and(|http| of_http(&http.rules)))
}

/// Files are made and removed in their directory.
fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// What the next configuration needs and the sandbox does not allow. A rule that drops silently is no reason to refuse it: whoever
/// is under attack needs that rule now, and without the capability it does what it can.
pub(super) fn misses(allowed: &Needs, next: &Needs) -> Option<String> {
    if next.transparent && !allowed.transparent {
        return Some("transparent binds and source = \"client\"".to_owned());
    }
    let is_allowed = |path: &&PathBuf| allowed.writable.iter().any(|dir| path.starts_with(dir));
    let path = next.writable.iter().find(|path| !is_allowed(path))?;
    Some(format!("writing to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::load;

    fn needs_of(global: &str, bind: &str) -> Needs {
        let text = format!(
            "[global]\n{global}\n[admin]\nsocket = \"/run/sg/a.sock\"\n[defaults]\n\
             timeout = {{ client = 1, connect = 1, server = 1 }}\n[backend.b.server.s]\naddress = \"192.0.2.1:1\"\n\
             [frontend.f]\nbind = [{bind}]\ndefault-backend = \"b\"\n"
        );
        let (model, diagnostics) = load::from_text("test", &text).expect("the machine can be looked at");
        needs(&model.unwrap_or_else(|| panic!("{diagnostics:?}")), &[])
    }

    #[test]
    fn what_is_written_is_what_is_configured() {
        let plain = needs_of(
            "log = \"file:/var/log/sg/x.log\"\nstate-file = \"/var/lib/sg/state\"",
            "\"127.0.0.1:80\", \"unix@/run/web/s\"",
        );
        let expected = ["/run/sg", "/run/web", "/var/lib/sg", "/var/log/sg"].map(PathBuf::from).to_vec();
        assert_eq!(plain, Needs { writable: expected, transparent: false, silent_drop: false });
        let drops = needs_of(
            "",
            "\"127.0.0.1:80\"]\nconnection-rules = [{ silent-drop = true, if = \"{ src 192.0.2.1 }\" }",
        );
        assert!(drops.silent_drop);
        assert_eq!(misses(&plain, &Needs { writable: Vec::new(), ..drops }), None);
        let other = needs_of("log = \"file:/var/log/sg/deep/x.log\"", "\"127.0.0.1:80\"");
        assert_eq!(misses(&plain, &other), None);
        let elsewhere = needs_of("log = \"file:/srv/x.log\"", "\"127.0.0.1:80\"");
        assert_eq!(misses(&plain, &elsewhere).as_deref(), Some("writing to /srv"));
        let transparent = needs_of("", "{ address = \"0.0.0.0:80\", transparent = true }");
        assert_eq!(
            misses(&plain, &transparent).as_deref(),
            Some("transparent binds and source = \"client\"")
        );
    }
}
