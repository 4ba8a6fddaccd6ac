//! Layer 5, the data plane: everything one core does.
//!
//! The way of a connection: `listener` accepts, `session` applies connection rules and the PROXY header, `tcp` routes,
//! `dispatch` finds a server (waiting in `queue`), `relay` moves bytes, `end` says once how it ended. In HTTP mode `http`
//! tells the way of a request: `client_h1`, `exchange` with the connections of `idle`, `forward`.

pub mod auth;
pub mod capture;
mod client_cert;
mod client_h1;
mod client_h2;
pub mod core;
mod dial;
mod dispatch;
pub mod end;
mod exchange;
pub mod explain;
mod facts;
mod first_bytes;
mod forward;
mod h2_body;
mod h2_conn;
mod h2_head;
mod h2_stream;
mod h2_tasks;
mod h2_tunnel;
mod http;
mod http_after;
mod http_insert;
mod http_location;
mod http_request;
mod http_response;
mod http_rules;
mod http_wait;
mod idle;
mod idle_share;
mod idle_wait;
mod info;
mod input;
mod kept;
pub mod listener;
pub mod log;
mod lot;
pub mod message;
mod observe;
mod pad;
pub mod password;
mod patience;
mod piping;
mod process_variables;
mod proxy_header;
pub mod queue;
mod reach;
pub mod refusals;
mod relay;
mod reply;
mod server_h2;
mod session;
mod statistics;
pub mod stick;
pub mod stick_admin;
mod tcp;
pub mod timings;
mod tls;
pub mod trace;
mod tuning;
pub mod worker;
