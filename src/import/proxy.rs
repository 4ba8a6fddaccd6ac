//! Sections of proxies and the order of everything: `global`, what `defaults` say, then each section in the order of the file.
//! One directive at a time: its fate from `coverage`, then the translation that knows it, then the table of keywords.

use std::collections::BTreeSet;

use super::coverage::{self, Fate};
use super::report::{Report, State};
use super::source::{Directive, Place, Prefix, Section};
use super::toml::{Table, Val, Writer};
use super::value::{self, Bad};
use super::words::{self, Variables};
use super::{checks, crt_store, global, legacy, logs, options, rules, sections, stick};
use crate::config::Reader;
use crate::config::keywords::{self, KeywordMode, Scope};

/// What a translation came to.
pub(super) enum Outcome {
    Exact,
    Ignored(String),
    Near(String),
    No(String),
    /// The line is wrong, for HAProxy as well.
    Wrong(String),
}

/// A section on its way to TOML.
pub(super) struct Proxy<'a, 'e> {
    pub(super) scope: Scope,
    pub(super) name: &'a str,
    pub(super) http: bool,
    pub(super) table: Table,
    /// Rules by the phase in which HAProxy runs them.
    pub(super) rules: rules::Phases,
    pub(super) checks: checks::Checks,
    /// Lengths of what is captured of requests and of responses, in the order of their ids.
    pub(super) captures: [Vec<i64>; 2],
    pub(super) sections: &'a [Section],
    pub(super) variables: &'a Variables<'e>,
    pub(super) globals: &'a global::Globals<'e>,
}

/// What every section may look at.
#[derive(Clone, Copy)]
struct Given<'a, 'e> {
    sections: &'a [Section],
    variables: &'a Variables<'e>,
    globals: &'a global::Globals<'e>,
    /// What `logs::differ` says of the sections, which is looked for once.
    logs_differ: bool,
}

/// Translates all sections.
pub(super) fn translate<'e>(
    sections: &[Section],
    (variables, read): (&Variables<'e>, &'e Reader),
    report: &mut Report,
) -> Writer {
    let mut writer = Writer::default();
    let mut defaults = Table::new(&["defaults"], Place::default(), Vec::new());
    let nameservers = sections::nameservers(sections, variables, report);
    let mut tables = global::translate(sections, nameservers, &mut defaults, variables, report);
    logs::events(&mut tables, sections);
    for table in tables {
        writer.table(&table);
    }
    let shared = shared_defaults(sections);
    let globals = global::Globals::of(sections, read);
    let given = Given { sections, variables, globals: &globals, logs_differ: logs::differ(sections) };
    let translated: Vec<Table> = sections
        .iter()
        .flat_map(|section| {
            let tables = match section.kind.as_str() {
                "frontend" | "backend" | "listen" => proxy(given, section, shared, report),
                "crt-store" => {
                    crt_store::tell_of(section, report);
                    Vec::new()
                }
                "global" | "defaults" => Vec::new(),
                kind => sections::translate(section, kind, variables, report),
            };
            // The second of one name was reported; what is wrong in it is said all the same.
            if section.twice { Vec::new() } else { tables }
        })
        .collect();
    if let Some(section) = shared.map(|at| &sections[at]) {
        defaults.place = section.place;
        defaults.comments = section.comments.clone();
        fill_defaults(&mut defaults, section, given, report);
    }
    if sections.iter().any(|s| matches!(s.kind.as_str(), "frontend" | "listen")) {
        // What HAProxy does about the two ambiguities that may be repaired.
        let why =
            ["HAProxy repairs what two readers may take for different messages; without this it is refused"
                .to_owned()];
        defaults.set(&["ambiguous-messages"], Val::text("repair"), defaults.place, &why);
    }
    if !defaults.is_empty() {
        writer.table(&defaults);
    }
    translated.iter().for_each(|table| writer.table(table));
    writer
}

/// The `defaults` section that can stay one: all proxies have the same.
fn shared_defaults(sections: &[Section]) -> Option<usize> {
    let proxies = sections.iter().filter(|s| matches!(s.kind.as_str(), "frontend" | "backend" | "listen"));
    let used: BTreeSet<Option<usize>> = proxies.map(|s| s.defaults).collect();
    match used.iter().collect::<Vec<_>>().as_slice() {
        [Some(one)] if sections[*one].defaults.is_none() => Some(*one),
        // Without a proxy they are still worth checking.
        [] => sections.iter().position(|s| s.kind == "defaults"),
        _ => None,
    }
}

/// The directives of the `defaults` of a section, those that they build on first.
pub(super) fn inherited(sections: &[Section], section: &Section) -> Vec<Directive> {
    let Some(defaults) = section.defaults.and_then(|at| sections.get(at)) else { return Vec::new() };
    let mut all = inherited(sections, defaults);
    all.extend(defaults.directives.iter().cloned());
    all
}

/// Whether a directive can stay in `[defaults]`; otherwise it is written into each section that it holds for.
fn stays(words: &[String], logs_differ: bool) -> bool {
    if words[0] == "log" && logs_differ {
        return false;
    }
    if options::is_default_server(words)
        || words.first().is_some_and(|w| {
            matches!(
                w.as_str(),
                "errorfile" | "errorloc" | "errorloc302" | "errorloc303" | "http-error" | "cookie" | "mode"
            )
        })
    {
        return true;
    }
    if ["option forwardfor", "option originalto", "option httpchk", "option redispatch"]
        .iter()
        .any(|k| coverage::begins(words, k))
    {
        return true;
    }
    let by_table = value::keyword(Scope::Defaults, words).is_some() || legacy::renamed(words).is_some();
    by_table || coverage::find(coverage::proxy(), words).is_none_or(|(.., fate)| *fate != Fate::Mapped)
}

fn fill_defaults(table: &mut Table, section: &Section, given: Given<'_, '_>, report: &mut Report) {
    let Given { sections, variables, globals, logs_differ } = given;
    let http = mode_of(section, sections, variables);
    let mut proxy = Proxy {
        scope: Scope::Defaults,
        name: &section.name,
        http,
        table: std::mem::take(table),
        rules: rules::Phases::default(),
        checks: checks::Checks::default(),
        captures: Default::default(),
        sections,
        variables,
        globals,
    };
    for directive in section.directives.iter().filter(|d| stays(&d.words, logs_differ)) {
        proxy.directive(directive, report);
    }
    proxy.checks.finish(&mut proxy.table);
    *table = proxy.table;
}

/// Whether a section is in HTTP mode.
fn mode_of(section: &Section, sections: &[Section], variables: &Variables<'_>) -> bool {
    let inherited = inherited(sections, section);
    let mode = inherited.iter().chain(&section.directives).rfind(|d| d.words[0] == "mode");
    mode.and_then(|d| d.words.get(1)).is_some_and(|mode| variables.expand(mode) == "http")
}

/// Whether all backends of a frontend in TCP mode are in HTTP mode: HAProxy goes over to HTTP then, once one is chosen.
fn leads_to_http(section: &Section, sections: &[Section], variables: &Variables<'_>) -> bool {
    let inherited = inherited(sections, section);
    let names = inherited
        .iter()
        .chain(&section.directives)
        .filter(|d| matches!(d.words[0].as_str(), "use_backend" | "default_backend"));
    let mut backends = names.map(|d| {
        let name = d.words.get(1).map(|name| variables.expand(name)).unwrap_or_default();
        sections.iter().find(|s| matches!(s.kind.as_str(), "backend" | "listen") && s.name == name)
    });
    let mut any = false;
    let all = backends.all(|backend| {
        any = true;
        backend.is_some_and(|backend| mode_of(backend, sections, variables))
    });
    any && all
}

fn proxy(given: Given<'_, '_>, section: &Section, shared: Option<usize>, report: &mut Report) -> Vec<Table> {
    let Given { sections, variables, globals, logs_differ } = given;
    let scope = match section.kind.as_str() {
        "frontend" => Scope::Frontend,
        "backend" => Scope::Backend,
        _ => Scope::Listen,
    };
    let inherited = inherited(sections, section);
    let own_disabled =
        section.directives.iter().rfind(|d| matches!(d.words[0].as_str(), "disabled" | "enabled"));
    let disabled =
        own_disabled.or(inherited.iter().rfind(|d| matches!(d.words[0].as_str(), "disabled" | "enabled")));
    if disabled.is_some_and(|d| d.words[0] == "disabled") {
        report.add(
            section.place,
            &format!("{} {}", section.kind, section.name),
            State::Ignored,
            "the section is disabled",
        );
        return Vec::new();
    }
    let own_http = mode_of(section, sections, variables);
    let http = own_http || (scope == Scope::Frontend && leads_to_http(section, sections, variables));
    let table = Table::new(&[&section.kind, &section.name], section.place, section.comments.clone());
    let mut proxy = Proxy {
        scope,
        name: &section.name,
        http,
        table,
        rules: rules::Phases::default(),
        checks: checks::Checks::default(),
        captures: Default::default(),
        sections,
        variables,
        globals,
    };
    let (state, how) = match http == own_http {
        true => (State::Exact, ""),
        false => {
            (State::Approximate, "its backends are in HTTP mode, so it is as well, from the first byte on")
        }
    };
    report.add(section.place, &format!("{} {}", section.kind, section.name), state, how);
    if !section.rest.is_empty() {
        // `listen NAME ADDRESS` of old.
        let words: Vec<String> =
            std::iter::once("bind".to_owned()).chain(section.rest.iter().cloned()).collect();
        proxy.directive(
            &Directive { place: section.place, words, prefix: Prefix::None, comments: Vec::new() },
            report,
        );
    }
    for directive in &inherited {
        let is_kept = shared.is_some() && section.defaults == shared && stays(&directive.words, logs_differ);
        if !is_kept && proxy.may_hold(&directive.words) {
            proxy.directive(directive, report);
        }
    }
    for directive in &section.directives {
        proxy.directive(directive, report);
    }
    if scope != Scope::Backend && logs::is_bare(sections, inherited.iter().chain(&section.directives)) {
        logs::connect_line(&mut proxy, section.place, report);
    }
    if http != own_http {
        proxy.table.set(&["mode"], Val::text("http"), section.place, &[]);
    }
    proxy.finish()
}

impl Proxy<'_, '_> {
    /// Whether a directive of `defaults` says something about a section of this kind.
    fn may_hold(&self, words: &[String]) -> bool {
        let letter = match self.scope {
            Scope::Frontend => 'F',
            Scope::Backend => 'B',
            _ => 'L',
        };
        coverage::find(coverage::proxy(), words).is_none_or(|(_, sections, _)| sections.contains(letter))
    }

    fn directive(&mut self, directive: &Directive, report: &mut Report) {
        let outcome = self.translate(directive);
        let prefix = match directive.prefix {
            Prefix::None => "",
            Prefix::No => "no ",
            Prefix::Default => "default ",
        };
        tell(report, directive.place, &format!("{prefix}{}", directive.words.join(" ")), outcome);
    }

    fn translate(&mut self, d: &Directive) -> Outcome {
        let Some((keyword, sections, fate)) = coverage::find(coverage::proxy(), &d.words) else {
            return unknown(&d.words[0], coverage::proxy());
        };
        let (letter, kind) = match self.scope {
            Scope::Defaults => ('D', "defaults"),
            Scope::Frontend => ('F', "a frontend"),
            Scope::Backend => ('B', "a backend"),
            _ => ('L', "a listen section"),
        };
        if !sections.contains(letter) {
            // HAProxy refuses these, and leaves the others out with a warning.
            let is_refused = self.scope == Scope::Defaults
                || [
                    "server",
                    "default-server",
                    "server-template",
                    "use-server",
                    "use_backend",
                    "default_backend",
                ]
                .contains(keyword)
                || keyword.starts_with("tcp-");
            return match is_refused {
                true => Outcome::Wrong(format!("{keyword} cannot stand in {kind}")),
                false => Outcome::Ignored(format!("{kind} has no such thing; HAProxy leaves it out, too")),
            };
        }
        match fate {
            Fate::Ignored(why) => return Outcome::Ignored((*why).to_owned()),
            // Switching off what there is not changes nothing.
            Fate::Near(_) | Fate::No(_) if d.prefix != Prefix::None => return Outcome::Exact,
            Fate::Near(how) => return Outcome::Near((*how).to_owned()),
            Fate::No(instead) => return Outcome::No((*instead).to_owned()),
            Fate::Mapped => {}
        }
        if let Some(outcome) = self.special(keyword, d) {
            return outcome;
        }
        self.by_table(&d.words, d)
    }

    /// Directives whose words need more than the table of keywords.
    fn special(&mut self, keyword: &str, d: &Directive) -> Option<Outcome> {
        if let Some(outcome) =
            rules::directive(self, keyword, d).or_else(|| checks::directive(self, keyword, d))
        {
            return Some(outcome);
        }
        Some(match keyword {
            "bind" => options::bind(self, d),
            "server" => options::server(self, d),
            "server-template" => options::template(self, d),
            "default-server" => options::default_server(self, d),
            "source" => options::source(self, d),
            "acl" => return Some(self.acl(d)),
            "cookie" => self.cookie(d),
            "errorfile" | "errorloc" | "errorloc302" | "errorloc303" => self.error_page(keyword, d),
            "http-error" => self.http_error(d),
            "declare capture" => self.declare_capture(d),
            "dispatch" => options::dispatch(self, d),
            "option transparent" | "transparent" => options::transparent(self, d),
            "load-server-state-from-file" => state_of_servers(d),
            "option forwardfor" | "option originalto" => self.address_header(d),
            "option splice-auto" | "option splice-request" | "option splice-response" => {
                let value = if d.prefix == Prefix::No { "never" } else { "auto" };
                self.put(&["splice"], Val::text(value), d)
            }
            "option forceclose" => self.by_table(&["option".to_owned(), "httpclose".to_owned()], d),
            "disabled" => Outcome::Exact,
            "ignore-persist" | "force-persist" => match rules::condition(&d.words[1..]) {
                Ok(Some((false, condition))) => self.put(&[keyword], Val::Text(condition), d),
                Ok(Some((true, condition))) => {
                    self.put(&[keyword], Val::Text(format!("not ({condition})")), d)
                }
                Ok(None) => Outcome::Wrong(format!("{keyword} needs a condition")),
                Err(message) => Outcome::Wrong(message),
            },
            "stats admin" => match rules::condition(&d.words[2..]) {
                Ok(Some((false, condition))) => self.put(&["stats", "admin"], Val::Text(condition), d),
                Ok(Some((true, condition))) => {
                    self.put(&["stats", "admin"], Val::Text(format!("not ({condition})")), d)
                }
                Ok(None) => Outcome::Wrong("stats admin needs a condition".to_owned()),
                Err(message) => Outcome::Wrong(message),
            },
            "appsession" if !self.http => Outcome::Ignored("only HTTP mode looks at it".to_owned()),
            "appsession" => stick::appsession(self, d),
            "stick-table" => stick::table(self, d),
            "stick on" | "stick match" | "stick store-request" | "stick store-response" => {
                stick::stick(self, d)
            }
            "balance" => self.balance(d),
            "log" => return logs::log(self, d),
            "option httplog" | "option tcplog" | "option httpslog" => logs::format(self, d),
            "capture request header" | "capture response header" | "capture cookie" => {
                self.capture(keyword, d)
            }
            "stats enable" if !value::exists(self.scope, "stats") => return None,
            _ => {
                let words = legacy::renamed(&d.words)?;
                self.by_table(&words, d)
            }
        })
    }

    /// Sets a key.
    pub(super) fn put(&mut self, path: &[&str], value: Val, d: &Directive) -> Outcome {
        self.table.set(path, value, d.place, &d.comments);
        Outcome::Exact
    }

    /// What the table of keywords makes of it.
    fn by_table(&mut self, words: &[String], d: &Directive) -> Outcome {
        match value::simple(self.scope, words, d.prefix, self.variables) {
            Ok((key, _)) if !self.http && self.needs_http(key) => {
                Outcome::Ignored("only HTTP mode looks at it".to_owned())
            }
            Ok((key, Val::Flag(false)))
                if self.scope == Scope::Defaults && self.table.get(&split(key)).is_none() =>
            {
                Outcome::Exact
            }
            Ok((key, value)) => self.put(&split(key), value, d),
            Err(Bad::Unknown) if d.prefix != Prefix::None => Outcome::Exact,
            Err(Bad::Unknown) => Outcome::No("not in this version".to_owned()),
            Err(Bad::Arguments(message)) => Outcome::Wrong(message),
        }
    }

    /// Whether only HTTP mode looks at a key.
    pub(super) fn needs_http(&self, key: &str) -> bool {
        self.scope != Scope::Defaults
            && keywords::find(self.scope, key).is_some_and(|keyword| keyword.mode == KeywordMode::Http)
    }

    /// The same for another table.
    pub(super) fn needs_http_in(&self, scope: Scope, key: &str) -> bool {
        self.scope != Scope::Defaults
            && keywords::find(scope, key).is_some_and(|keyword| keyword.mode == KeywordMode::Http)
    }

    fn acl(&mut self, d: &Directive) -> Outcome {
        let [_, name, words @ ..] = d.words.as_slice() else {
            return Outcome::Wrong("write acl NAME FETCH PATTERNS".to_owned());
        };
        let text = rules::join(words);
        self.table.add_text(&["acl", &self.variables.expand(name)], &text, d.place, &d.comments);
        Outcome::Exact
    }

    fn balance(&mut self, d: &Directive) -> Outcome {
        let words: Vec<String> = d.words[1..].iter().map(|word| self.variables.expand(word)).collect();
        match words.first().map(String::as_str) {
            None => Outcome::Wrong("an algorithm is missing".to_owned()),
            Some("sticky" | "log-hash") => Outcome::No("it balances logs, which are not received".to_owned()),
            Some(_) => self.put(&["balance"], Val::Text(words.join(" ")), d),
        }
    }

    fn finish(mut self) -> Vec<Table> {
        self.checks.finish(&mut self.table);
        self.rules.finish(&mut self.table, self.http);
        self.table.last(|key| key == "server" || key == "server-template");
        vec![self.table]
    }
}

/// `load-server-state-from-file`: what it is for happens by itself, but for what it does beside that.
fn state_of_servers(d: &Directive) -> Outcome {
    match d.words.get(1).map(String::as_str) {
        Some("none") => Outcome::Exact,
        Some("global" | "local") => Outcome::Near(
            "a reload keeps health and changes of servers by itself; set state-file in [global] to keep them over a restart. What the \
             configuration says wins: a file of HAProxy's is not read, because it would bring back addresses and weights that were changed \
             since"
                .to_owned(),
        ),
        _ => Outcome::Wrong("write load-server-state-from-file global, local or none".to_owned()),
    }
}

pub(super) fn split(key: &str) -> Vec<&str> {
    key.split('.').collect()
}

/// Says what a directive came to.
pub(super) fn tell(report: &mut Report, place: Place, directive: &str, outcome: Outcome) {
    match outcome {
        Outcome::Exact => report.add(place, directive, State::Exact, ""),
        Outcome::Ignored(text) => report.add(place, directive, State::Ignored, &text),
        Outcome::Near(text) => report.add(place, directive, State::Approximate, &text),
        Outcome::No(text) => report.add(place, directive, State::Unsupported, &text),
        Outcome::Wrong(text) => report.error(place, directive, &text),
    }
}

/// A word that HAProxy does not know either.
pub(super) fn unknown(word: &str, table: &'static [coverage::Row]) -> Outcome {
    let help = crate::config::diag::suggest(word, table.iter().map(|(keyword, ..)| *keyword));
    Outcome::Wrong(format!(
        "there is no keyword \"{}\" here{}",
        words::to_config(word),
        help.map_or(String::new(), |help| format!("; {help}"))
    ))
}
