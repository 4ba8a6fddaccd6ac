//! Commands of HAProxy that are not here, and what to do instead. The answer begins with `Unknown command` like that of any
//! other, so that tools which try a command find out; what follows is for people.

use std::fmt::Write as _;

/// The words that a command begins with, and what there is in its place.
const ELSEWHERE: &[(&[&str], &str)] = &[
    (&["add", "server"], SERVERS),
    (&["del", "server"], SERVERS),
    (&["abort", "ssl", "ca-file"], AUTHORITIES),
    (&["add", "ssl", "ca-file"], AUTHORITIES),
    (&["commit", "ssl", "ca-file"], AUTHORITIES),
    (&["del", "ssl", "ca-file"], AUTHORITIES),
    (&["new", "ssl", "ca-file"], AUTHORITIES),
    (&["set", "ssl", "ca-file"], AUTHORITIES),
    (&["show", "ssl", "ca-file"], AUTHORITIES),
    (&["abort", "ssl", "crl-file"], AUTHORITIES),
    (&["commit", "ssl", "crl-file"], AUTHORITIES),
    (&["del", "ssl", "crl-file"], AUTHORITIES),
    (&["new", "ssl", "crl-file"], AUTHORITIES),
    (&["set", "ssl", "crl-file"], AUTHORITIES),
    (&["show", "ssl", "crl-file"], AUTHORITIES),
    (
        &["set", "ssl", "ocsp-response"],
        "`set ssl cert NAME.ocsp <<` and `commit ssl cert NAME`, or `update ssl ocsp-response`",
    ),
    (&["show", "ssl", "ocsp-response"], "`show ssl cert NAME` says whether a response is stapled"),
    (&["set", "ssl", "tls-key"], TICKETS),
    (&["show", "tls-keys"], TICKETS),
    (&["show", "ssl", "providers"], "`show version`; TLS is part of the program"),
    (&["show", "libs"], "`show version`; everything is in one program"),
    (&["disable", "dynamic-cookie"], COOKIES),
    (&["enable", "dynamic-cookie"], COOKIES),
    (&["set", "dynamic-cookie-key"], COOKIES),
    (&["debug"], LOOKS),
    (&["show", "profiling"], LOOKS),
    (&["set", "profiling"], LOOKS),
    (&["show", "tasks"], LOOKS),
    (&["show", "trace"], EXPLAIN),
    (&["trace"], EXPLAIN),
    (&["httpclient"], "curl, or `shardgate explain` for what would become of a request"),
    (&["get", "var"], VARIABLES),
    (&["set", "var"], VARIABLES),
    (&["show", "cache"], "nothing: there is no cache"),
    (&["show", "peers"], "`show table`, and docs/STICK_TABLES.md for how nodes share tables"),
    (&["show", "startup-logs"], "the log, or `shardgate check FILE`, which says the same again"),
    (&["show", "proc"], "`show info`: there is one process, `show generations` for what it still serves"),
    (&["experimental-mode"], "nothing: no command needs it"),
    (&["expert-mode"], "nothing: no command needs it"),
    (&["mcli-debug-mode"], "nothing: there is one process"),
];

const SERVERS: &str = "write it into the configuration and `reload`, which loses no connection";
const AUTHORITIES: &str = "change the file and `reload`: authorities and revocation lists are read again";
const TICKETS: &str =
    "the file of tls-ticket-keys and `reload`; without one the process makes and renews keys itself";
const COOKIES: &str = "the configuration (dynamic-cookie-key) and `reload`";
const LOOKS: &str = "`show activity` and `show threads` for what each core does";
const EXPLAIN: &str =
    "`show events RING -w`, `show errors`, or `shardgate explain` for what becomes of one request";
const VARIABLES: &str = "rules (set-var), and `show rules` for whether they applied";

/// What there is in place of a command that HAProxy has, or why its form is another one.
pub(super) fn instead(words: &[String]) -> Option<String> {
    if words.first().is_some_and(|word| word.starts_with('@')) {
        return Some(
            "Unknown command: there is one process, leave the @ and what belongs to it out.".to_owned(),
        );
    }
    let is_it = |(named, _): &&(&[&str], &str)| {
        named.len() <= words.len() && named.iter().zip(words).all(|(word, typed)| word == typed)
    };
    let (named, what) = ELSEWHERE.iter().find(is_it)?;
    Some(format!("Unknown command: '{}' is not here. In its place: {what}.", named.join(" ")))
}

/// The section of docs/ADMIN.md: one line for each way, with all commands that it replaces.
pub(super) fn reference(out: &mut String) {
    out.push_str(
        "\n## Commands of HAProxy that are not here\n\nThe answer says the same.\n\n| command | in its place |\n|---|---|\n",
    );
    let mut told: Vec<&str> = Vec::new();
    for (_, what) in ELSEWHERE {
        if told.contains(what) {
            continue;
        }
        told.push(what);
        let names = ELSEWHERE.iter().filter(|(_, same)| same == what);
        let names: Vec<String> = names.map(|(words, _)| format!("`{}`", words.join(" "))).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} | {what} |", names.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::cli::table::COMMANDS;

    #[test]
    fn nothing_is_both_here_and_elsewhere() {
        for command in COMMANDS {
            for (words, _) in ELSEWHERE {
                assert!(!command.words.starts_with(words), "{words:?}");
            }
        }
    }
}
