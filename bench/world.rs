//! A world for the pure layers: maps, a request, and what conditions ask about them. tests/allocations.rs and icount.rs use it.

use std::net::IpAddr;
use std::time::Duration;

use shardgate::base::id::{BackendId, FrontendId, IdRange, ServerId};
use shardgate::config::expr::{NameKind, Resolver};
use shardgate::policy::pattern::PatternTable;
use shardgate::policy::sample::{ConnFacts, Facts, FirstBytes, Live, Named, ServerLevels, Variables};
use shardgate::proto::headers::{Head, HeadView};

/// Names and files of a configuration: two maps, `routes` with 10,000 hosts and any other name with 1,000 paths.
#[derive(Default)]
pub(crate) struct World {
    patterns: PatternTable,
}

impl Resolver for World {
    fn backend(&self, _: &str) -> Option<BackendId> {
        None
    }
    fn frontend(&self, _: &str) -> Option<FrontendId> {
        None
    }
    fn server(&self, _: BackendId, _: &str) -> Option<ServerId> {
        None
    }
    fn names(&self, _: NameKind) -> Vec<String> {
        Vec::new()
    }
    fn here(&self) -> (Option<FrontendId>, Option<BackendId>) {
        (None, None)
    }
    fn load(&self, path: &str) -> Result<Vec<u8>, String> {
        if path == "routes" {
            let route = |n: u32| format!("host{n}.example.com/app{n}/ backend-{n}\n").into_bytes();
            return Ok((0..10_000).flat_map(route).collect());
        }
        Ok((0..1000).flat_map(|n| format!("/app/{n}/ backend-{n}\n").into_bytes()).collect())
    }
    fn patterns(&self) -> &PatternTable {
        &self.patterns
    }
    fn env(&self, _: &str) -> Option<String> {
        None
    }
    fn hostname(&self) -> String {
        "host".to_owned()
    }
}

/// A request that arrived.
#[derive(Default)]
pub(crate) struct Request {
    pub(crate) conn: ConnFacts,
    pub(crate) variables: Variables,
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: Head,
}

impl Facts for Request {
    type Live = Request;
    fn conn(&self) -> &ConnFacts {
        &self.conn
    }
    fn frontend(&self) -> Named<'_> {
        Named { number: 1, name: "web" }
    }
    fn default_backend(&self) -> Option<&str> {
        None
    }
    fn listener(&self) -> (u32, Option<&str>) {
        (1, None)
    }
    fn backend(&self) -> Option<Named<'_>> {
        None
    }
    fn server(&self) -> Option<Named<'_>> {
        None
    }
    fn first_bytes(&self) -> FirstBytes<'_> {
        FirstBytes::default()
    }
    fn variables(&self) -> &Variables {
        &self.variables
    }
    fn live(&self) -> &Request {
        self
    }
    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_500_000_000)
    }
    fn random(&self) -> u64 {
        7
    }
    fn request_id(&self) -> u32 {
        300
    }
    fn process(&self) -> u32 {
        71
    }
    fn is_local(&self, _: IpAddr) -> bool {
        false
    }
    fn request(&self) -> Option<HeadView<'_>> {
        Some(self.head.view(&self.bytes))
    }
}

impl Live for Request {
    fn server(&self, _: ServerId) -> ServerLevels {
        ServerLevels::default()
    }
    fn servers(&self, _: BackendId) -> IdRange<ServerId> {
        IdRange::new(ServerId(0)..ServerId(0))
    }
    fn backend_sessions(&self, _: BackendId) -> u32 {
        0
    }
    fn backend_queued(&self, _: BackendId) -> u32 {
        0
    }
    fn frontend_sessions(&self, _: FrontendId) -> u32 {
        0
    }
}
