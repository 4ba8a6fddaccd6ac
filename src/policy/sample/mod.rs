//! Sample fetches and the expressions made of them: `src`, `req.ssl_sni,lower`. An expression is compiled at load by
//! `config::expr` and evaluated over [`Facts`]; it knows ids, not names, and allocates nothing once its scratch memory grew.

mod eval;
mod facts;
mod fetch;
mod http;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
mod value;
mod variables;

pub use eval::{Cursor, Expr, Sample, Scratch};
pub use facts::{
    Auth, ConnError, ConnFacts, Facts, FirstBytes, Live, Named, Recorded, ServerLevels, TimerName, UserlistId,
};
pub(crate) use fetch::stick_value;
pub use fetch::{Fetch, LengthOffset, Literal, TimeUnit};
pub use http::{HEADER_OCCURRENCES_BACK_MAX, HeaderFetch, HeaderName, HttpFetch, ReadAs, Side, credentials};
pub use tls::{DnPart, TlsAnswer, TlsFetch};
pub use value::{Kind, Value};
pub use variables::{VariableId, VariableScope, VariableTable, Variables};
