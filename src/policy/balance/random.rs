//! `random(draws)`: draw servers at random by weight, take the least loaded of them. Needs no shared cursor, and with
//! two or more draws the load stays close to even however many balancers feed the same servers.

use crate::base::id::ServerId;
use crate::base::rng::Rng;
use crate::policy::balance::ServerView;
use crate::policy::balance::least_conn::Pressure;
use crate::policy::balance::pool::Pool;

/// The least loaded of `draws` draws that are `free`. When no draw is, the next free server after the last draw.
pub(super) fn pick(
    pool: &Pool,
    draws: u32,
    rng: &mut Rng,
    view: &impl ServerView,
    free: impl Fn(ServerId) -> bool,
) -> Option<ServerId> {
    let mut best: Option<(ServerId, Pressure)> = None;
    let mut drawn = 0;
    for _ in 0..draws.max(1) {
        let point = rng.below(pool.total);
        drawn = pool.entries.partition_point(|e| e.before <= point) - 1;
        let entry = pool.entries[drawn];
        if !free(entry.id) {
            continue;
        }
        let pressure = Pressure::of(view.load(entry.id), entry.weight);
        if best.is_none_or(|(_, b)| pressure.is_below(b)) {
            best = Some((entry.id, pressure));
        }
    }
    if let Some((id, _)) = best {
        return Some(id);
    }
    let len = pool.len();
    (1..=len).map(|step| pool.entries[(drawn + step) % len].id).find(|id| free(*id))
}
