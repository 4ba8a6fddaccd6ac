//! Questions to DNS: the addresses of a name, of both families, and of a service, whose SRV records say name and port. On the
//! resolver's thread and for the doctor; who gets which address is `resolve`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::sync::Semaphore;

use crate::base::limits::{RESOLVE_AT_ONCE, RESOLVE_TARGETS_MAX};

/// One address of a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Found {
    pub(super) ip: IpAddr,
    /// What a service says; `None`: that of whoever asked for the name.
    pub(super) port: Option<u16>,
}

impl Found {
    /// As the address of a server.
    pub(super) fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }

    /// Whether a server is there.
    pub(super) fn is(self, address: SocketAddr) -> bool {
        self.ip == address.ip() && self.port.is_none_or(|port| port == address.port())
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// What a name has, and for how long.
type Answer = Result<(Vec<Found>, Duration), String>;

/// An address of a name, and the port that a service says.
type Address = (IpAddr, Option<u16>);

/// Looks up names once, all at the same time. Blocks; for the doctor.
pub(super) fn look_up_all(
    hosts: Vec<String>,
    nameservers: &[SocketAddr],
) -> Vec<(String, Result<Vec<Address>, String>)> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return hosts.into_iter().map(|host| (host, Err(e.to_string()))).collect(),
    };
    runtime.block_on(async {
        let permits = Arc::new(Semaphore::new(RESOLVE_AT_ONCE));
        let ask = |host: String| {
            let (permits, nameservers) = (permits.clone(), nameservers.to_vec());
            tokio::spawn(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                look_up(&host, &nameservers)
                    .await
                    .map(|(found, _)| found.iter().map(|found| (found.ip, found.port)).collect())
            })
        };
        let asked: Vec<_> = hosts.into_iter().map(|host| (host.clone(), ask(host))).collect();
        let mut found = Vec::new();
        for (host, answer) in asked {
            found.push((host, answer.await.unwrap_or_else(|e| Err(e.to_string()))));
        }
        found
    })
}

/// The addresses of a name, or of a service if it begins with an underscore.
pub(super) async fn look_up(host: &str, nameservers: &[SocketAddr]) -> Answer {
    let resolver = resolver(nameservers)?;
    if host.starts_with('_') { service(&resolver, host).await } else { addresses(&resolver, host).await }
}

/// Reads the system's configuration each time: it may change while the process runs.
fn resolver(nameservers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let mut builder = match nameservers {
        [] => TokioResolver::builder_tokio().map_err(|e| e.to_string())?,
        given => {
            let servers = given.iter().map(|address| {
                let port = |mut connection: ConnectionConfig| {
                    connection.port = address.port();
                    connection
                };
                let connections = vec![port(ConnectionConfig::udp()), port(ConnectionConfig::tcp())];
                NameServerConfig::new(address.ip(), true, connections)
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    // Answers are kept by us, as long as their TTL says.
    builder.options_mut().cache_size = 0;
    builder.build().map_err(|e| e.to_string())
}

/// Both families, /etc/hosts included.
async fn addresses(resolver: &TokioResolver, host: &str) -> Answer {
    let (v6, v4) = tokio::join!(resolver.ipv6_lookup(host), resolver.ipv4_lookup(host));
    let mut found = Vec::new();
    let mut ttl_s = u32::MAX;
    for lookup in [&v6, &v4].into_iter().flatten() {
        for record in lookup.answers() {
            // Aliases on the way have a TTL too.
            ttl_s = ttl_s.min(record.ttl);
            found.extend(record.data.ip_addr().map(|ip| Found { ip, port: None }));
        }
    }
    if found.is_empty() {
        Err(reason(v6.err(), v4.err()))
    } else {
        Ok((found, Duration::from_secs(ttl_s.into())))
    }
}

/// The targets of a service with their ports, those of the best priority that has an address.
async fn service(resolver: &TokioResolver, host: &str) -> Answer {
    let lookup = resolver.srv_lookup(host).await.map_err(|e| reason(None, Some(e)))?;
    let mut ttl = Duration::from_secs(u32::MAX.into());
    let mut targets = Vec::new();
    for record in lookup.answers() {
        ttl = ttl.min(Duration::from_secs(record.ttl.into()));
        if let RData::SRV(srv) = &record.data {
            targets.push((srv.priority, srv.target.to_string(), srv.port));
        }
    }
    targets.sort();
    targets.truncate(RESOLVE_TARGETS_MAX);
    let mut found = Vec::new();
    let mut failure = None;
    for same in targets.chunk_by(|a, b| a.0 == b.0) {
        for (_, target, port) in same {
            match addresses(resolver, target).await {
                Ok((addresses, own)) => {
                    ttl = ttl.min(own);
                    found.extend(addresses.into_iter().map(|found| Found { port: Some(*port), ..found }));
                }
                Err(why) => failure = Some(format!("{target}: {why}")),
            }
        }
        if !found.is_empty() {
            return Ok((found, ttl));
        }
    }
    Err(failure.unwrap_or_else(|| "it has no service record".to_owned()))
}

/// Why neither family has an address, in a few words.
fn reason(v6: Option<NetError>, v4: Option<NetError>) -> String {
    match v4.or(v6) {
        Some(e) if e.is_nx_domain() => "there is no such name".to_owned(),
        Some(e) if !e.is_no_records_found() => e.to_string(),
        _ => "it has no address".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_resolves_this_machine() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (addresses, _) = runtime.block_on(look_up("localhost", &[])).expect("/etc/hosts has it");
        assert!(addresses.iter().all(|found| found.ip.is_loopback()), "{addresses:?}");
    }
}
