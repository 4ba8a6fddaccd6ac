//! The rows of stick tables: what they keep, who is counted in them, and persistence by them.

use super::Kind::*;
use super::{Keyword, KeywordMode, Kind, Scope, Scopes};
use crate::base::limits::{STICK_COUNTERS, STICK_ENTRIES_MAX, STICK_KEY_BYTES_MAX};

const PROXY: Scopes = Scopes::of(&[Scope::Frontend, Scope::Listen, Scope::Backend]);
const BACKEND: Scopes = Scopes::of(&[Scope::Backend, Scope::Listen]);
const TABLE: Scopes = Scopes::of(&[Scope::StickTable]);
const STICK: Scopes = Scopes::of(&[Scope::StickRule]);
const TRACK: Scopes = Scopes::of(&[Scope::TrackSc]);
const CHANGE: Scopes = Scopes::of(&[Scope::ScChange]);
const TRACKING_RULE: Scopes = Scopes::of(&[Scope::ConnectionRule, Scope::Rule]);
const RULE: Scopes = Scopes::of(&[Scope::ConnectionRule, Scope::Rule, Scope::ResponseRule]);

const COUNTER: Kind = Integer(0, STICK_COUNTERS as i64 - 1);

keywords! {
    /// Keywords of stick tables.
    KEYWORDS, mode Any;

    "stick-table" in PROXY, Table(Scope::StickTable), default "none", haproxy "stick-table";
    "A table of counters and servers by key, under the name of the section (see [stick tables](#stick-tables)).";
    "stick-table = { type = \"ip\", size = \"1m\", expire = \"10m\", store = [\"http_req_rate(10s)\"] }"
    "stick" in BACKEND, Tables(Scope::StickRule), default "none", haproxy "stick on, stick match, stick store-request, stick store-response";
    "Persistence by table: rules that look up and remember the server of a key, in order. The cookie of a request goes first.";
    "stick-table = { type = \"ip\", size = \"1m\", expire = \"30m\" }\nstick = [{ on = \"src\" }]"

    "type" in TABLE, OneOf(&["ip", "ipv6", "integer", "string", "binary"]), default "", haproxy "type";
    "What the keys are. `ip` are IPv4 addresses, `ipv6` both kinds; a value that is no key is not counted.";
    "type = \"ipv6\""
    "len" in TABLE, Integer(1, STICK_KEY_BYTES_MAX as i64), default "32", haproxy "len";
    "Bytes of a key of type `string`, which is cut there, or `binary`, which is filled up with zeros.";
    "type = \"string\", len = 64"
    "size" in TABLE, Size(1, STICK_ENTRIES_MAX as u64), default "", haproxy "size";
    "Most entries, on each core: every core has all of them. A full table forgets the entry that was not touched for longest.";
    "type = \"ip\", size = \"100k\""
    "expire" in TABLE, Duration(std::time::Duration::from_millis(1)), default "never", haproxy "expire";
    "How long an entry lives that nobody touches. One that is tracked lives in any case.";
    "type = \"ip\", expire = \"30m\""
    "nopurge" in TABLE, Flag, default "false", haproxy "nopurge";
    "A full table takes no new keys until one expires.";
    "type = \"ip\", nopurge = true"
    "store" in TABLE, Texts, default "nothing", haproxy "store";
    "What is kept of each key: `server_id`, `gpc0`, `gpc1`, `gpt0`, `gpc(N)`, `gpt(N)`, `conn_cnt`, `conn_cur`, `sess_cnt`, `http_req_cnt`, `http_err_cnt`, `http_fail_cnt`, `bytes_in_cnt`, `bytes_out_cnt`, and rates with their period: `gpc0_rate(T)`, `gpc1_rate(T)`, `gpc_rate(N,T)`, `conn_rate(T)`, `sess_rate(T)`, `http_req_rate(T)`, `http_err_rate(T)`, `http_fail_rate(T)`, `bytes_in_rate(T)`, `bytes_out_rate(T)`. `stick` adds `server_id` by itself.";
    "type = \"ip\", store = [\"conn_cur\", \"http_req_rate(10s)\"]"

    "on" in STICK, Text, default "", haproxy "stick on";
    "Look the server of this key up, and remember the one that was used: an expression.";
    "on = \"src\""
    "match" in STICK, Text, default "", haproxy "stick match";
    "Look the server of this key up: an expression.";
    "match = \"src\""
    "store-request" in STICK, Text, default "", haproxy "stick store-request";
    "Remember the server that was used for this key: an expression on the request.";
    "store-request = \"src\""
    "table" in STICK, Text, default "that of the section", haproxy "table";
    "Section whose table it is.";
    "table = \"app\""
    "if" in STICK, Text, default "always", haproxy "if";
    "When it applies: a condition.";
    "if = \"{ dst_port 80 }\""
    "unless" in STICK, Text, default "never", haproxy "unless";
    "When it does not apply: a condition. Not together with `if`.";
    "unless = \"{ src 10.0.0.0/8 }\""

    "track-sc0" in TRACKING_RULE, TextOrTable(Scope::TrackSc), default "", haproxy "track-sc0";
    "Count for this key, an expression, from now on; with a table of keywords to name another table. In `connection-rules` until the connection is over, in `rules` until the request is. A counter that tracks something already goes on with it.";
    "{ track-sc0 = \"src\" }"
    "track-sc1" in TRACKING_RULE, TextOrTable(Scope::TrackSc), default "", haproxy "track-sc1";
    "The same with the second counter.";
    "{ track-sc1 = { key = \"src\", table = \"web\" } }"
    "track-sc2" in TRACKING_RULE, TextOrTable(Scope::TrackSc), default "", haproxy "track-sc2";
    "The same with the third counter.";
    "{ track-sc2 = \"dst_port\" }"
    "sc-inc-gpc0" in RULE, COUNTER, default "", haproxy "sc-inc-gpc0";
    "Add 1 to `gpc0` of what a counter tracks: the number of the counter.";
    "{ sc-inc-gpc0 = 0 }"
    "sc-inc-gpc1" in RULE, COUNTER, default "", haproxy "sc-inc-gpc1";
    "Add 1 to `gpc1`.";
    "{ sc-inc-gpc1 = 0 }"
    "sc-inc-gpc" in RULE, Table(Scope::ScChange), default "", haproxy "sc-inc-gpc";
    "Add 1 to the `gpc` of a number.";
    "{ sc-inc-gpc = { index = 2 } }"
    "sc-add-gpc" in RULE, Table(Scope::ScChange), default "", haproxy "sc-add-gpc";
    "Add a number, or what an expression gives, to a `gpc`.";
    "{ sc-add-gpc = { value = \"5\" } }"
    "sc-set-gpt0" in RULE, Table(Scope::ScChange), default "", haproxy "sc-set-gpt0";
    "Set `gpt0` of what a counter tracks.";
    "{ sc-set-gpt0 = { value = \"1\" } }"
    "sc-set-gpt" in RULE, Table(Scope::ScChange), default "", haproxy "sc-set-gpt";
    "Set the `gpt` of a number.";
    "{ sc-set-gpt = { index = 1, value = \"1\" } }"

    "key" in TRACK, Text, default "", haproxy "track-sc0";
    "The key: an expression.";
    "key = \"src\""
    "table" in TRACK, Text, default "that of the section", haproxy "table";
    "Section whose table it is.";
    "key = \"src\", table = \"web\""

    "sc" in CHANGE, COUNTER, default "0", haproxy "sc-add-gpc";
    "The counter.";
    "sc = 1, value = \"1\""
    "index" in CHANGE, Integer(0, 15), default "0", haproxy "sc-add-gpc";
    "Which `gpc` or `gpt` of the entry.";
    "index = 0, value = \"1\""
    "value" in CHANGE, Text, default "", haproxy "sc-add-gpc";
    "A number, or an expression.";
    "value = \"dst_port\""
}

keywords! {
    /// What needs responses.
    HTTP_KEYWORDS, mode Http;

    "store-response" in STICK, Text, default "", haproxy "stick store-response";
    "Remember the server that answered for this key: an expression on the response, in HTTP mode.";
    "store-response = \"res.cook(SESSION)\""
}
