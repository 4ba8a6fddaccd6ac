//! Access lines: what a line says is gathered while the stream goes its way, and written at its end. `http` and `session` call it;
//! what a line looks like is `policy::log`, where it goes is `control::logs`.

mod line;
mod record;
mod writer;

pub(super) use line::{line_of, timer};
pub(super) use record::{
    Record, begin, begin_once, capture, on_answer, on_connected, on_cookie, on_own_answer, on_planned,
    on_redispatch, on_request, on_response, recorded, set_level,
};
pub use writer::{ENTRY_HEADER, LogSetup};
pub(super) use writer::{LogWriter, early, finish, finish_connection, hand_over};
