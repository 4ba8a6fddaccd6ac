//! `[userlist.NAME]`.

use crate::config::diag::suggest;
use crate::config::file::{Data, Entry, Table};
use crate::config::keywords::Scope;
use crate::config::resolve::layout::Layout;
use crate::config::section::{Context, Section, texts_of};
use crate::model::http::{Password, User, Userlist};

/// How the hashes begin that can be verified.
const HASHES: &[&str] = &["$5$", "$6$", "$2a$", "$2b$", "$2y$", "$y$", "$argon2"];

/// All user lists of the file, then those of `stats.auth`.
pub(in crate::config::resolve) fn userlists(context: &Context<'_>, layout: &Layout<'_>) -> Vec<Userlist> {
    let mut lists = named(context);
    lists.extend(super::statistics::userlists(layout));
    lists
}

fn named(context: &Context<'_>) -> Vec<Userlist> {
    let Some(Data::Table(named)) = context.file.root.entry("userlist").map(|entry| &entry.value.data) else {
        return Vec::new();
    };
    let tables = named.entries.iter().filter_map(|entry| match &entry.value.data {
        Data::Table(table) => Some((entry, table)),
        _ => None,
    });
    tables.map(|(entry, table)| userlist(context, entry, table)).collect()
}

fn entries<'a>(table: &'a Table, key: &str) -> Vec<(&'a Entry, &'a Table)> {
    let Some(Data::Table(named)) = table.entry(key).map(|entry| &entry.value.data) else { return Vec::new() };
    let tables = named.entries.iter().filter_map(|entry| match &entry.value.data {
        Data::Table(table) => Some((entry, table)),
        _ => None,
    });
    tables.collect()
}

fn userlist<'a>(context: &'a Context<'a>, entry: &Entry, table: &'a Table) -> Userlist {
    let mut users: Vec<User> = Vec::new();
    let groups = entries(table, "group");
    let group_names: Vec<&str> = groups.iter().map(|(entry, _)| entry.key.as_str()).collect();
    for (user, table) in entries(table, "user") {
        let section = Section::new(context, Scope::User, user.key_span.start, vec![table]);
        let mut own = Vec::new();
        for (at, group) in section.texts("groups") {
            if group_names.contains(&group.text.as_str()) {
                own.push(group.text.into());
            } else {
                let help = suggest(&group.text, group_names.iter().copied());
                context.error(at, format!("unknown group \"{}\"", group.text), help);
            }
        }
        if let Some(password) = password(&section, &user.key) {
            users.push(User { name: user.key.clone(), password, groups: own });
        }
    }
    for (group, table) in groups {
        let Some(value) = table.entry("users").map(|entry| &entry.value) else { continue };
        for (at, name) in texts_of(context, value) {
            match users.iter_mut().find(|user| user.name == name.text) {
                Some(user) if user.groups.iter().any(|own| **own == *group.key) => {}
                Some(user) => user.groups.push(group.key.as_str().into()),
                None => {
                    let help = suggest(&name.text, users.iter().map(|user| user.name.as_str()));
                    context.error(at, format!("unknown user \"{}\"", name.text), help);
                }
            }
        }
    }
    Userlist { name: entry.key.clone(), users }
}

fn password(section: &Section<'_>, user: &str) -> Option<Password> {
    match (section.string("password"), section.string("insecure-password")) {
        (Some(hash), None) => {
            if !HASHES.iter().any(|prefix| hash.starts_with(prefix)) {
                let help =
                    "make one with `openssl passwd -6`, or write insecure-password for a password as it is";
                let message =
                    "this is no hash that can be verified (SHA-256, SHA-512, bcrypt, yescrypt or argon2)";
                section.error("password", message, Some(help.to_owned()));
            }
            Some(Password::Hash(hash))
        }
        (None, Some(text)) => {
            let help = "make a hash with `openssl passwd -6` and write it as password".to_owned();
            section.warning("insecure-password", "whoever reads this file knows this password", Some(help));
            Some(Password::Plain(text))
        }
        (Some(_), Some(_)) => {
            section.error("insecure-password", "password and insecure-password exclude each other", None);
            None
        }
        (None, None) => {
            if section.value("password").or(section.value("insecure-password")).is_none() {
                section.context.error(section.at, format!("user \"{user}\" has no password"), None);
            }
            None
        }
    }
}
