//! What rules set for one request beside its bytes: timeouts, its place in queues, other addresses.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::net::Addr;
use crate::policy::admission::Priority;
use crate::policy::http_action::TimeoutName;
use crate::policy::sample::ConnFacts;
use crate::proxy::session::Session;
use crate::tls::Facts;

/// Set by `set-timeout` and `set-priority-*`; as configured unless set.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tuning {
    /// Milliseconds, by [`TimeoutName`].
    timeouts: [Option<NonZeroU32>; 5],
    pub(super) priority: Priority,
}

/// All that rules set for one request.
#[derive(Clone, Default, Debug)]
pub(super) struct Special {
    tuning: Tuning,
    /// Facts of the connection with other addresses.
    pub(super) conn: Option<ConnFacts>,
}

/// Bounds of `set-priority-class`, HAProxy's.
const CLASS_MAX: i64 = 2047;
/// Bounds of `set-priority-offset` in milliseconds, HAProxy's.
const OFFSET_MAX: i64 = 524_287;

impl Tuning {
    /// A timeout in milliseconds; values that are no time leave it as it was.
    pub(super) fn set_timeout(&mut self, name: TimeoutName, ms: i64) {
        if let Some(ms) = u32::try_from(ms).ok().and_then(NonZeroU32::new) {
            self.timeouts[name as usize] = Some(ms);
        }
    }

    pub(super) fn set_class(&mut self, class: i64) {
        self.priority.class = i16::try_from(class.clamp(-CLASS_MAX, CLASS_MAX)).unwrap_or_default();
    }

    pub(super) fn set_offset(&mut self, ms: i64) {
        self.priority.offset_ms = i32::try_from(ms.clamp(-OFFSET_MAX, OFFSET_MAX)).unwrap_or_default();
    }

    fn timeout(&self, name: TimeoutName) -> Option<Duration> {
        self.timeouts[name as usize].map(|ms| Duration::from_millis(ms.get().into()))
    }
}

impl Session {
    /// A timeout of this request: the rule's, or the configured one.
    pub(super) fn timeout(&self, name: TimeoutName, configured: Option<Duration>) -> Option<Duration> {
        let special = self.info.special.borrow();
        special.as_ref().and_then(|special| special.tuning.timeout(name)).or(configured)
    }

    /// Whether TLS ends here for this client.
    pub(super) fn is_tls(&self) -> bool {
        self.info.conn().tls().is_some()
    }

    /// Whether what came so far may be a replay: the client has not finished its handshake.
    pub(super) fn is_early(&self) -> bool {
        self.info.conn().tls().is_some_and(Facts::is_early)
    }

    /// `timeout client` of this request.
    pub(super) fn timeout_client(&self) -> Option<Duration> {
        self.timeout(TimeoutName::Client, self.frontend().timeout_client)
    }

    /// Changes what rules set for this request.
    pub(super) fn tune(&self, change: impl FnOnce(&mut Tuning)) {
        change(&mut self.info.special.borrow_mut().get_or_insert_default().tuning);
    }

    /// Forgets what rules set for the request before.
    pub(super) fn forget_tuning(&self) {
        // The memory stays: a session that needed it once does so again.
        if let Some(special) = &mut *self.info.special.borrow_mut() {
            **special = Special::default();
        }
    }

    /// Looks at the facts of the connection, with the addresses that rules gave this request.
    pub(super) fn with_conn<R>(&self, look: impl FnOnce(&ConnFacts) -> R) -> R {
        let special = self.info.special.borrow();
        look(special.as_ref().and_then(|s| s.conn.as_ref()).unwrap_or_else(|| self.info.conn_facts()))
    }

    /// `set-src` and `set-dst`: another address for this request.
    pub(super) fn rewrite_conn(&self, change: impl FnOnce(&mut ConnFacts)) {
        let mut facts = self.with_conn(Clone::clone);
        change(&mut facts);
        self.info.special.borrow_mut().get_or_insert_default().conn = Some(facts);
    }

    /// Whether rules gave this request other addresses.
    pub(super) fn is_readdressed(&self) -> bool {
        self.info.special.borrow().as_ref().is_some_and(|special| special.conn.is_some())
    }

    /// Its place in queues.
    pub(super) fn priority(&self) -> Priority {
        self.info.special.borrow().as_ref().map_or_else(Priority::default, |special| special.tuning.priority)
    }

    /// The client's own address, not one that a rule made up: what floods are counted by.
    pub(super) fn client_ip(&self) -> Option<std::net::IpAddr> {
        self.info.conn_facts().src.ip()
    }
}

/// An address with another IP, or another port, or both. What has no port yet gets 0.
pub(super) fn readdress(address: Addr, ip: Option<std::net::IpAddr>, port: Option<u16>) -> Addr {
    match (ip.or(address.ip()), port.or(address.port())) {
        (Some(ip), port) => Addr::Ip((ip, port.unwrap_or(0)).into()),
        (None, _) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_within_their_bounds() {
        let mut tuning = Tuning::default();
        for (ms, expected) in
            [(0, None), (-5, None), (1, Some(1)), (i64::MAX, Some(1)), (90_000, Some(90_000))]
        {
            tuning.set_timeout(TimeoutName::Server, ms);
            assert_eq!(tuning.timeout(TimeoutName::Server), expected.map(Duration::from_millis), "{ms}");
        }
        assert_eq!(tuning.timeout(TimeoutName::Client), None);
        tuning.set_class(-5000);
        tuning.set_offset(1 << 40);
        assert_eq!(tuning.priority, Priority { class: -2047, offset_ms: 524_287 });
    }

    #[test]
    fn half_an_address_may_be_replaced() {
        let old = Addr::Ip("192.0.2.1:80".parse().expect("an address"));
        let ip = Some("2001:db8::1".parse().expect("an address"));
        assert_eq!(readdress(old, ip, None), Addr::Ip("[2001:db8::1]:80".parse().expect("an address")));
        assert_eq!(readdress(old, None, Some(1)), Addr::Ip("192.0.2.1:1".parse().expect("an address")));
        assert_eq!(readdress(Addr::Unix, None, Some(1)), Addr::Unix);
    }
}
