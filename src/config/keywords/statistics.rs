//! The rows of the statistics page and of the services that the control core answers.

use super::Kind::*;
use super::{Keyword, KeywordMode, Scope, Scopes};

const PROXY: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Backend, Scope::Defaults]);
const OWN: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Backend]);
const REQUEST: Scopes = Scopes::of(&[Scope::Rule]);

keywords! {
    /// Keywords of statistics over HTTP.
    KEYWORDS, mode Http;

    "stats.enable" in PROXY, Flag, default "true if another `stats` keyword is there", haproxy "stats enable";
    "Serve the statistics page below `stats.uri`. Any of the following keywords does that too.";
    "stats.enable = true"
    "stats.uri" in PROXY, Text, default "\"/haproxy?stats\"", haproxy "stats uri";
    "How the targets of requests for the page begin: what follows is nothing, or starts with `/`, `?`, `;` or `&`. Append `;csv`, `;json` or `;typed` for data, `;up` or `;no-maint` for fewer servers, `;norefresh` for a page that stays as it is.";
    "stats.uri = \"/stats\""
    "stats.refresh" in PROXY, Duration(std::time::Duration::from_secs(1)), default "never", haproxy "stats refresh";
    "How often browsers without scripts load the page again; with scripts it is live anyway.";
    "stats.refresh = \"60s\""
    "stats.realm" in PROXY, Text, default "\"Statistics\"", haproxy "stats realm";
    "What the browser says when it asks for the password of `stats.auth`.";
    "stats.realm = \"Load balancer\"\nstats.auth = \"admin:change me\""
    "stats.auth" in PROXY, Texts, default "everybody may see it", haproxy "stats auth";
    "`USER:PASSWORD`, or a list of those, that may see the page. The password stands in the file as it is: a `userlist` with hashes and `stats.http-request` is better.";
    "stats.auth = \"admin:change me\""
    "stats.http-request" in OWN, Tables(Scope::Rule), default "", haproxy "stats http-request";
    "Rules on requests for the page: `allow`, `deny` and `auth`, each with a condition.";
    "stats.http-request = [{ deny = true, unless = \"{ src 10.0.0.0/8 }\" }]"
    "stats.admin" in OWN, Text, default "nobody", haproxy "stats admin";
    "Who may change servers on the page: a condition.";
    "stats.admin = \"{ src 127.0.0.0/8 }\""
    "stats.scope" in PROXY, Texts, default "all", haproxy "stats scope";
    "Show only these frontends and backends; `.` is the section itself.";
    "stats.scope = [\".\"]"
    "stats.hide-version" in PROXY, Flag, default "false", haproxy "stats hide-version";
    "Do not show the version.";
    "stats.hide-version = true"
    "stats.show-node" in PROXY, FlagOrText, default "false", haproxy "stats show-node";
    "Show the name of this machine, or this name.";
    "stats.show-node = true"
    "stats.show-desc" in PROXY, FlagOrText, default "false", haproxy "stats show-desc";
    "Show the description of `[global]`, or this text.";
    "stats.show-desc = \"Edge, rack 3\""
    "stats.show-legends" in PROXY, Flag, default "false", haproxy "stats show-legends";
    "Show addresses, cookies and algorithms too.";
    "stats.show-legends = true"
    "use-service" in REQUEST, OneOf(&["prometheus-exporter", "api"]), default "", haproxy "use-service";
    "Answer with metrics for Prometheus, or with the JSON of `show` commands below `/api/v1/`.";
    "{ use-service = \"prometheus-exporter\", if = \"{ path /metrics }\" }"
}
