//! Facts for tests: plain fields.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::id::{BackendId, FrontendId, IdRange, ServerId};
use crate::policy::sample::{
    Auth, ConnFacts, Facts, FirstBytes, Live, Named, ServerLevels, UserlistId, Variables,
};
use crate::proto::Parsed;
use crate::proto::h1::head::{HeadOptions, parse_request, parse_response};
use crate::proto::headers::{Head, HeadView};

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
    pub(crate) request: Option<(Vec<u8>, Head)>,
    pub(crate) response: Option<(Vec<u8>, Head)>,
    pub(crate) body: Vec<u8>,
    /// Whether the user is verified, and the groups.
    pub(crate) auth: Option<Vec<Box<str>>>,
    pub(crate) auth_pending: bool,
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

    /// With a request.
    pub(crate) fn with_request(mut self, text: &str) -> TestFacts {
        let mut head = Head::new();
        let parsed = parse_request(text.as_bytes(), &HeadOptions::default(), &mut head);
        assert!(matches!(parsed, Ok(Parsed::Complete { .. })), "{text:?} is a request");
        self.request = Some((text.as_bytes().to_vec(), head));
        self
    }

    /// With a response.
    pub(crate) fn with_response(mut self, text: &str) -> TestFacts {
        let mut head = Head::new();
        let parsed = parse_response(text.as_bytes(), &HeadOptions::default(), &mut head);
        assert!(matches!(parsed, Ok(Parsed::Complete { .. })), "{text:?} is a response");
        self.response = Some((text.as_bytes().to_vec(), head));
        self
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
    fn request_id(&self) -> u32 {
        300
    }
    fn process(&self) -> u32 {
        71
    }
    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }
    fn request(&self) -> Option<HeadView<'_>> {
        self.request.as_ref().map(|(bytes, head)| head.view(bytes))
    }
    fn response(&self) -> Option<HeadView<'_>> {
        self.response.as_ref().map(|(bytes, head)| head.view(bytes))
    }
    fn body(&self) -> &[u8] {
        &self.body
    }
    fn is_first_request(&self) -> Option<bool> {
        self.request.as_ref().map(|_| true)
    }
    fn auth(&self, _: UserlistId) -> Auth<'_> {
        match &self.auth {
            _ if self.auth_pending => Auth::Pending,
            Some(groups) => Auth::User { groups },
            None => Auth::Denied,
        }
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
