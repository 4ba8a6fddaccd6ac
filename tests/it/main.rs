//! Black-box tests: the real binary, real sockets, real peers. One file a subject; `harness` is what they are written with.

#![allow(clippy::disallowed_methods, reason = "tests wait for conditions with wall-clock deadlines")]
#![allow(clippy::disallowed_types, reason = "scripted origins are ordinary threads that share a Mutex")]

mod harness;

mod admin;
mod checks;
mod close;
mod config;
mod content;
mod demo;
mod dispatch;
mod doctor;
mod explain;
mod grpc;
mod h2;
mod h2_frames;
mod h2_server;
mod h2_streams;
mod haproxy_cfg;
mod http;
mod http_actions;
mod http_auth;
mod http_checks;
mod http_idle;
mod http_rules;
mod http_splice;
mod limits;
mod listen;
mod log_lines;
mod log_targets;
mod logs;
mod manager;
mod pair;
mod persistence;
mod proxy_header;
mod queue;
mod relay;
mod reload;
mod reload_process;
mod sandbox;
mod scale_out;
mod scenarios_checks;
mod scenarios_reload;
mod scenarios_rules;
mod scenarios_tls;
mod shared;
mod source;
mod state;
mod stats;
mod stats_page;
mod stick;
mod stop;
mod sync;
mod timeouts;
mod tls;
mod tls_early;
mod tls_live;
mod tls_peers;
mod tools;
mod traces;
mod transparent;
mod trial;
mod upgrade;
mod upkeep;
mod uplinks;
