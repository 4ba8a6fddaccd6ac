//! Facts for tests: plain fields.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::id::{BackendId, FrontendId, IdRange, ServerId};
use crate::policy::sample::{ConnFacts, Facts, FirstBytes, Live, Named, ServerLevels, Variables};

/// Facts with a field for each thing that tests change.
#[derive(Debug, Default)]
pub(crate) struct TestFacts {
    pub(crate) conn: ConnFacts,
    pub(crate) bytes: Vec<u8>,
    pub(crate) complete: bool,
    pub(crate) variables: Variables,
    pub(crate) live: TestLive,
    pub(crate) time: Duration,
    pub(crate) random: u64,
}

/// Levels: backend 0 has all servers.
#[derive(Debug, Default)]
pub(crate) struct TestLive {
    pub(crate) servers: Vec<ServerLevels>,
    pub(crate) queued: u32,
    pub(crate) sessions: u32,
}

impl TestFacts {
    /// A client connection.
    pub(crate) fn new(src: &str, dst: &str) -> TestFacts {
        let address = |s: &str| s.parse::<std::net::SocketAddr>().expect("an address").into();
        let conn = ConnFacts { src: address(src), dst: address(dst), ..ConnFacts::default() };
        TestFacts { conn, ..TestFacts::default() }
    }
}

impl Facts for TestFacts {
    type Live = TestLive;
    fn conn(&self) -> &ConnFacts {
        &self.conn
    }
    fn frontend(&self) -> Named<'_> {
        Named { number: 2, name: "fe-test" }
    }
    fn default_backend(&self) -> Option<&str> {
        Some("be-default")
    }
    fn listener(&self) -> (u32, Option<&str>) {
        (7, Some("bind-a"))
    }
    fn backend(&self) -> Option<Named<'_>> {
        None
    }
    fn server(&self) -> Option<Named<'_>> {
        None
    }
    fn first_bytes(&self) -> FirstBytes<'_> {
        FirstBytes { data: &self.bytes, complete: self.complete }
    }
    fn variables(&self) -> &Variables {
        &self.variables
    }
    fn live(&self) -> &TestLive {
        &self.live
    }
    fn unix_time(&self) -> Duration {
        self.time
    }
    fn random(&self) -> u64 {
        self.random
    }
    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }
}

impl Live for TestLive {
    fn server(&self, id: ServerId) -> ServerLevels {
        self.servers[id.0 as usize]
    }
    fn servers(&self, _: BackendId) -> IdRange<ServerId> {
        let end = u32::try_from(self.servers.len()).expect("few servers");
        IdRange::new(ServerId(0)..ServerId(end))
    }
    fn backend_sessions(&self, _: BackendId) -> u32 {
        self.sessions
    }
    fn backend_queued(&self, _: BackendId) -> u32 {
        self.queued
    }
    fn frontend_sessions(&self, _: FrontendId) -> u32 {
        self.sessions
    }
}
