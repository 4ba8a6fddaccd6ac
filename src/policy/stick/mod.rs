//! Stick tables: what is known of a client, a user or any other key. What a table keeps, how its keys are made, and what rules
//! do with its entries; the entries themselves are `table`'s. Each core has a copy of its own; `proxy::stick` carries what one
//! of them counts to the others.

mod data;
mod key;
mod table;
#[cfg(test)]
mod tests;

pub use data::{Cell, DATA, Data, DataInfo, Store, parse_store};
pub use key::{Key, KeyKind};
pub use table::{Change, Full, Row, Slot, Table};

use std::time::Duration;

use crate::base::id::{BackendId, TableId};
use crate::policy::sample::{Expr, Value};

/// One table (`stick-table`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Its name: that of its section.
    pub name: String,
    /// What its keys are.
    pub kind: KeyKind,
    /// Most entries.
    pub size: u32,
    /// How long an entry lives that nobody touches.
    pub expire: Option<Duration>,
    /// A full table takes no new keys, instead of forgetting the oldest.
    pub nopurge: bool,
    /// What is kept of each key.
    pub store: Vec<Store>,
    /// The backend of the same section, whose servers its `server_id` names on the admin socket.
    pub backend: Option<BackendId>,
}

/// A column of a table that a fetch, a converter or the admin socket reads or changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Whether there is an entry (`in_table`).
    Exists,
    /// Whether the counter tracks one (`sc_tracked`).
    Tracked,
    /// How many streams and sessions track it (`sc_trackers`).
    Trackers,
    /// The value of a column.
    Value(Cell),
    /// Its value in thousands (`sc_kbytes_in`).
    Kilo(Cell),
    /// Its value after one is added (`sc_inc_gpc0`).
    Increment(Cell),
    /// Its value before it is set to 0 (`sc_clr_gpc0`).
    Clear(Cell),
}

impl Read {
    /// Whether the answer is a boolean.
    pub fn is_bool(self) -> bool {
        matches!(self, Read::Exists | Read::Tracked)
    }
}

/// Which entry a fetch reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// That of a counter (`sc_*`), in its table or under the same key in another.
    Counter(u8, Option<TableId>),
    /// That of the client's address (`src_*`).
    Source(TableId),
}

/// Which entry is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// That of a counter, in its table or under the same key in another.
    Counter(u8, Option<TableId>),
    /// That of a key.
    Key(TableId, Value<'a>),
}

/// What rules do with tables.
#[derive(Clone, Debug)]
pub enum StickAction {
    /// Have a counter track a key (`track-sc0`), unless it tracks one already.
    Track {
        /// Its number.
        counter: u8,
        /// The table.
        table: TableId,
        /// The key.
        key: Expr,
    },
    /// Add to a column of what a counter tracks (`sc-inc-gpc0`, `sc-add-gpc`).
    Add {
        /// Its number.
        counter: u8,
        /// The column.
        cell: Cell,
        /// How much.
        amount: Amount,
    },
    /// Set it (`sc-set-gpt0`).
    Set {
        /// Its number.
        counter: u8,
        /// The column.
        cell: Cell,
        /// To what.
        amount: Amount,
    },
}

/// A number in a rule.
#[derive(Clone, Debug)]
pub enum Amount {
    /// As it is written.
    Fixed(i64),
    /// What an expression gives.
    Expr(Box<Expr>),
}

/// A persistence rule of a backend (`stick on` and its kin).
#[derive(Clone, Debug)]
pub struct Stick {
    /// What it does.
    pub when: StickWhen,
    /// Where servers are remembered.
    pub table: TableId,
    /// For whom.
    pub key: Expr,
}

/// What a persistence rule does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StickWhen {
    /// Look the server up, and remember the one that was used (`on`).
    On,
    /// Look it up (`match`).
    Match,
    /// Remember it under a key of the request (`store-request`).
    StoreRequest,
    /// Remember it under a key of the response (`store-response`).
    StoreResponse,
}

impl StickWhen {
    /// Whether it chooses servers.
    pub fn matches(self) -> bool {
        matches!(self, StickWhen::On | StickWhen::Match)
    }
    /// Whether it remembers servers under a key of the request.
    pub fn stores_request(self) -> bool {
        matches!(self, StickWhen::On | StickWhen::StoreRequest)
    }
}

/// What stands for a server in a table: made of its name, so that it means the same server after a reload and in each backend
/// that has a server of that name. Never 0.
pub fn server_mark(name: &str) -> u64 {
    // FNV-1a: stable, and a handful of names is not attacked.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(1)
}
