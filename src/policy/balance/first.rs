//! `first`: fill the first server, in configured order, before the second gets anything. Meant for farms that switch
//! unused servers off; needs `maxconn`.

use crate::base::id::ServerId;
use crate::policy::balance::pool::Pool;

/// The first server that is `free`.
pub(super) fn pick(pool: &Pool, free: impl Fn(ServerId) -> bool) -> Option<ServerId> {
    pool.entries.iter().map(|e| e.id).find(|id| free(*id))
}
