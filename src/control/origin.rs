//! Answers about where values come from: `show drift`, `adopt`, `show server`. Reads what runs and the text of the configuration;
//! changes nothing.

use std::fmt::Write as _;

use crate::base::id::ServerId;
use crate::config::file::{self, File};
use crate::config::overlay;
use crate::config::places::{self, Object};
use crate::control::core::Control;
use crate::control::drift::date;
use crate::control::load::{self, Source};
use crate::control::state::overrides::{Field, Key, Override, shown};
use crate::live::AdminState;
use crate::model::ServerAddress;

/// `show drift`.
pub(super) fn drift(control: &Control, object: &str) -> String {
    let overrides = control.overrides.borrow();
    let mut out = String::new();
    for one in overrides.iter().filter(|one| object.is_empty() || one.key.is_of(object)) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}: {}", one.key, story(one));
    }
    match (out.is_empty(), object) {
        (false, _) => out,
        (true, "") => "Everything runs as configured.".to_owned(),
        (true, _) => format!("There is no override of {object}."),
    }
}

/// What an override is: from which value to which, by whom, since when and until when.
fn story(one: &Override) -> String {
    let Override { from, to, who, at, until, .. } = one;
    let until = until.map(|until| format!(" until {}", date(until))).unwrap_or_default();
    format!("{} -> {} by {who} at {}{until}", shown(from.as_deref()), shown(to.as_deref()), date(*at))
}

/// The text of the configuration that runs, as a tree; `None`: it is not TOML of the operator's.
fn file(control: &Control) -> Option<File> {
    let name = match &control.process.config.as_ref()?.source {
        source @ Source::Toml(_) => source.name(),
        Source::Haproxy(_) => return None,
    };
    let text = control.generations.borrow().text()?;
    let mut file = file::parse(&name, &text).0?;
    // What the running process was told of it, it was told at its start.
    let _ = overlay::apply(&mut file, &load::node());
    Some(file)
}

/// `adopt`: lines for the configuration, under the headers of their sections.
pub(super) fn adopt(control: &Control, object: &str) -> String {
    let file = file(control);
    let overrides = control.overrides.borrow();
    let chosen: Vec<&Override> =
        overrides.iter().filter(|one| object.is_empty() || one.key.is_of(object)).collect();
    let mut out = String::new();
    let mut section = String::new();
    for one in &chosen {
        match (&file, is_of_a_file(&one.key)) {
            (Some(file), false) => {
                let (object, lines) = change(file, one);
                let header = object.map(|object| format!("[{}]  # {}", object.name, object.origin));
                let header = header.unwrap_or_default();
                if header != section && !header.is_empty() {
                    let _ = writeln!(out, "{}{header}", if out.is_empty() { "" } else { "\n" });
                    section = header;
                }
                out.push_str(&lines);
            }
            (None, false) => {
                let _ = writeln!(out, "# {}: {}", place(control, &one.key), haproxy_words(one));
            }
            (_, true) => out.push_str(&entry(one)),
        }
    }
    match (out.is_empty(), object) {
        (false, _) => out,
        (true, "") => "Everything runs as configured.".to_owned(),
        (true, _) => format!("There is no override of {object}."),
    }
}

fn is_of_a_file(key: &Key) -> bool {
    matches!(key, Key::Map(..) | Key::Acl(..))
}

/// The keyword that says it and the value of it; `None`: there is none.
fn keyword(one: &Override) -> Option<(&'static str, String)> {
    let to = one.to.clone().unwrap_or_default();
    Some(match &one.key {
        Key::Server(_, _, Field::Addr) => ("address", toml::Value::String(to).to_string()),
        Key::Server(_, _, Field::Weight) => ("weight", to),
        Key::Server(_, _, Field::State) if to == "drain" => return None,
        Key::Server(_, _, Field::State) => ("disabled", (to == "maint").to_string()),
        Key::Server(_, _, Field::Maxconn) | Key::FrontendMaxconn(_) | Key::GlobalMaxconn => ("maxconn", to),
        Key::Server(_, _, field @ (Field::CheckAddr | Field::AgentAddr | Field::Fqdn)) => {
            (field.keyword(), toml::Value::String(to).to_string())
        }
        Key::Server(_, _, Field::AgentSend) => {
            ("agent-send", toml::Value::String(to.replace("\\n", "\n")).to_string())
        }
        Key::Server(_, _, field @ (Field::CheckPort | Field::AgentPort)) => (field.keyword(), to),
        Key::Server(_, _, Field::Health | Field::Agent) | Key::FrontendState(_) | Key::VipState(_) => {
            return None;
        }
        Key::GlobalRate => ("maxconnrate", to),
        Key::GlobalTlsRate => ("maxsslrate", to),
        Key::Map(..) | Key::Acl(..) => return None,
    })
}

/// The section that an override concerns, and the lines to put there.
fn change<'a>(file: &'a File, one: &Override) -> (Option<Object<'a>>, String) {
    let object = match &one.key {
        Key::Server(backend, server, _) => places::server(file, backend, server),
        Key::FrontendMaxconn(name) | Key::FrontendState(name) => places::frontend(file, name),
        _ => Some(places::section(file, "global")),
    };
    let by = format!("by {} at {}", one.who, date(one.at));
    let Some((keyword, value)) = keyword(one) else {
        let (key, to) = (&one.key, shown(one.to.as_deref()));
        return (object, format!("# {key} is {to} {by}: no keyword says that\n"));
    };
    let instead = match object.as_ref().and_then(|object| object.setting(keyword)) {
        Some(found) if found.inherited.is_none() => {
            format!("instead of {}, {}", found.value, found.origin)
        }
        Some(found) => format!("new here, {} of {} is inherited from {}", keyword, found.value, found.origin),
        None => "new".to_owned(),
    };
    (object, format!("{keyword} = {value}  # {instead}; {by}\n"))
}

/// An entry of a map or ACL file.
fn entry(one: &Override) -> String {
    let (Key::Map(file, key) | Key::Acl(file, key)) = &one.key else { return String::new() };
    let mut out = format!("# {file}, by {} at {}\n", one.who, date(one.at));
    for (sign, values) in [('-', &one.from), ('+', &one.to)] {
        for value in values.iter().flat_map(|values| values.split('\n')) {
            let _ = writeln!(out, "#{sign} {}", format!("{key} {value}").trim_end());
        }
    }
    out
}

/// Where the object of a key is configured.
fn place(control: &Control, key: &Key) -> String {
    let configured = match key {
        Key::Server(backend, server, _) => {
            control.lookup().server(backend, server).map(|id| control.model.servers[id].origin.clone())
        }
        _ => None,
    };
    configured.map_or_else(|| key.to_string(), |origin| format!("{origin}: {key}"))
}

fn haproxy_words(one: &Override) -> String {
    match keyword(one) {
        Some(("disabled", value)) => if value == "true" { "disabled" } else { "enabled" }.to_owned(),
        Some((keyword, value)) => format!("{keyword} {}", value.trim_matches('"')),
        None => format!("{}: no keyword says that", shown(one.to.as_deref())),
    }
}

/// `show server`: the values in effect and where each comes from, then all else that is configured.
pub(super) fn server(control: &Control, id: ServerId) -> String {
    let server = &control.model.servers[id];
    let file = file(control);
    let backend = &control.model.backends[server.backend].name;
    let object = file.as_ref().and_then(|file| places::server(file, backend, &server.name));
    let settings = object.as_ref().map(Object::settings).unwrap_or_default();
    let configured = |keyword: &str| match settings.iter().find(|setting| setting.keyword == keyword) {
        Some(setting) => match &setting.inherited {
            Some(section) => format!("{} ({section})", setting.origin),
            None => setting.origin.clone(),
        },
        // A configuration of HAProxy's: a server is one line of it.
        None if object.is_none() => server.origin.clone(),
        None => "default".to_owned(),
    };
    let mut out = String::new();
    let mut line = |what: &str, value: &str, source: &str| {
        let _ = writeln!(out, "{what:<20} {value:<28} {source}");
    };
    line("# value", "in effect", "from");
    for field in Field::ALL {
        let (keyword, value, is_as_configured) = effective(control, id, field);
        let overrides = control.overrides.borrow();
        // An agent may have said something else since.
        let holds = |one: &&Override| {
            !matches!(field, Field::Weight | Field::State) || one.to.as_deref() == Some(value.as_str())
        };
        let source = match overrides.get(&control.key(id, field)).filter(holds) {
            Some(one) => format!("override: {}; {}", story(one), configured(keyword)),
            None if is_as_configured => configured(keyword),
            None if field == Field::Addr => {
                let states = control.states.borrow();
                let host = states.servers[id].aims.host(server).map_or("", |(host, _)| host);
                format!("DNS: {host}; {}", configured(keyword))
            }
            None => format!("agent; {}", configured(keyword)),
        };
        line(if field == Field::State { "state" } else { keyword }, &value, &source);
    }
    line("status", &control.server_facts(id).status(), &judge(control, id));
    let mut shown = Field::ALL.map(Field::keyword).to_vec();
    for field in Field::MORE {
        if let Some(one) = control.overrides.borrow().get(&control.key(id, field)) {
            let source = format!("override: {}; {}", story(one), configured(field.keyword()));
            line(field.word(), one.to.as_deref().unwrap_or_default(), &source);
            shown.push(field.keyword());
        }
    }
    for setting in settings.iter().filter(|setting| !shown.contains(&&*setting.keyword)) {
        line(&setting.keyword, &setting.value, &configured(&setting.keyword));
    }
    out
}

/// A value in effect: its keyword, how it is, and whether the configuration says so.
fn effective(control: &Control, id: ServerId, field: Field) -> (&'static str, String, bool) {
    let (server, live) = (&control.model.servers[id], &control.live.servers[id]);
    match field {
        Field::Addr => {
            let address = control.server_facts(id).address();
            let is_name = matches!(server.address, ServerAddress::Name { .. });
            ("address", if address.is_empty() { "(not resolved)".to_owned() } else { address }, !is_name)
        }
        Field::Weight => {
            let weight = live.user_weight();
            ("weight", weight.to_string(), weight == server.weight)
        }
        Field::Maxconn => {
            let maxconn = control.states.borrow().servers[id].maxconn;
            let value = maxconn.map_or_else(|| "(no limit)".to_owned(), |maxconn| maxconn.to_string());
            ("maxconn", value, maxconn == server.maxconn)
        }
        // State; nobody asks for the others.
        _ => {
            let state = live.admin();
            let configured = if server.disabled { AdminState::Maint } else { AdminState::Ready };
            ("disabled", state_word(state).to_owned(), state == configured)
        }
    }
}

/// As commands name it.
pub(super) fn state_word(state: AdminState) -> &'static str {
    match state {
        AdminState::Ready => "ready",
        AdminState::Drain => "drain",
        AdminState::Maint => "maint",
    }
}

/// What says whether the server is up.
fn judge(control: &Control, id: ServerId) -> String {
    let facts = control.server_facts(id);
    let checked = match (&facts.tracked, &facts.check) {
        (Some(tracked), _) => return format!("state of {tracked} (track)"),
        (None, Some(check)) => format!("checks, last: {}", check.result.words()),
        (None, None) => "not checked".to_owned(),
    };
    match &facts.agent {
        Some((agent, _)) => format!("{checked}; agent, last: {}", agent.result.words()),
        None => checked,
    }
}
