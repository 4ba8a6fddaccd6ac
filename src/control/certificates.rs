//! Certificates while the process runs: orders of the admin socket, keys of session tickets that change with time, and warnings
//! before a certificate ends. What an order means is `tls::Desk`.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::time::Now;
use crate::control::core::Control;
use crate::control::events::Level;
use crate::proxy::message::ToCore;
use crate::tls::{self, Expiry};

/// How long a key seals new tickets. It opens them for two turns more.
const TICKET_KEY_TURN: Duration = Duration::from_secs(6 * 3600);

/// How often the log says that a certificate is near its end.
const WARNING_TURN: Duration = Duration::from_secs(24 * 3600);

/// What is under way about certificates.
pub(super) struct Certificates {
    /// Whether the kernel offers to protect TLS records itself.
    pub(super) kernel_tls: bool,
    desk: RefCell<tls::Desk>,
    /// When the keys of tickets change next, and when the log warns again.
    turn_at: Cell<Option<Now>>,
    warn_at: Cell<Option<Now>>,
}

impl Default for Certificates {
    fn default() -> Certificates {
        // The module may be there and not loaded; the first process that wants it loads it.
        let offered = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
        Certificates {
            kernel_tls: offered.split_whitespace().any(|name| name == "tls"),
            desk: RefCell::default(),
            turn_at: Cell::default(),
            warn_at: Cell::default(),
        }
    }
}

impl Certificates {
    /// Another configuration runs.
    pub(super) fn reset(&self) {
        self.desk.borrow_mut().reset();
        self.warn_at.set(None);
    }
}

impl Control {
    /// Does what an administrator wants: what to say, and whether cores serve something else now.
    pub(super) fn order_certificates(&self, order: &tls::Order<'_>) -> Result<(String, bool), String> {
        let store = self.tls.borrow().clone();
        let done = self.certificates.desk.borrow_mut().order(order, &self.model, &store)?;
        let changed = done.store.is_some();
        if let Some(store) = done.store {
            self.certificates.warn_at.set(None);
            self.serve_certificates(store)?;
        }
        Ok((done.text, changed))
    }

    /// Serves other certificates from now on.
    pub(super) fn serve_certificates(&self, store: Arc<tls::Store>) -> Result<(), String> {
        let failed = |error: rustls::Error| format!("Cannot set up TLS: {error}.");
        // What a core could not do must not reach it.
        tls::Binds::new(&self.model, &store, None).map_err(failed)?;
        tls::Servers::new(&self.model, &store).map_err(failed)?;
        self.tls_checks.replace(tls::Servers::of_checks(&self.model, &store).map_err(failed)?);
        self.tls.replace(store.clone());
        self.broadcast(|| ToCore::Certificates(store.clone()));
        Ok(())
    }

    /// When certificates end, as statistics have it.
    pub(super) fn certificate_expiry(&self) -> Expiry {
        self.tls.borrow().expiry(unix_now_s())
    }

    /// Once a second: renews keys of tickets and warns of certificates that end, when it is time.
    pub(super) fn tend_certificates(&self, now: Now) {
        let state = &self.certificates;
        let store = self.tls.borrow().clone();
        if store.entries.is_empty() {
            return;
        }
        let turn_at = state.turn_at.get().unwrap_or(now + TICKET_KEY_TURN);
        state.turn_at.set(Some(turn_at));
        if now >= turn_at {
            state.turn_at.set(Some(now + TICKET_KEY_TURN));
            let turned = store.with_turned_tickets().map(Arc::new);
            if let Err(why) = turned.map_or(Err("no randomness".to_owned()), |s| self.serve_certificates(s)) {
                self.say(Level::Warning, format!("keys of session tickets stay as they are: {why}"));
            }
        }
        if state.warn_at.get().is_none_or(|at| now >= at) {
            state.warn_at.set(Some(now + WARNING_TURN));
            for (path, left) in store.expiry(unix_now_s()).ending {
                let text = match left {
                    ..=0 => format!("certificate {} has expired; replace it and reload", path.display()),
                    _ => format!("certificate {} expires in {}; renew it", path.display(), span(left)),
                };
                self.say(Level::Warning, text);
            }
        }
    }
}

pub(super) fn unix_now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A span of seconds in the largest unit that it has.
fn span(seconds: i64) -> String {
    let (number, unit) = match seconds {
        86400.. => (seconds / 86400, "day"),
        3600.. => (seconds / 3600, "hour"),
        _ => (seconds / 60, "minute"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}
