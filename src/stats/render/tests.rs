//! Golden outputs of a small snapshot, and the rules that tools made for HAProxy rely on.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::base::id::{BackendId, FrontendId, ListenerId, ServerId};
use crate::base::time::Now;
use crate::stats::collector::Collector;
use crate::stats::counters::{Backend, Frontend, Listener, Origins, Server, Shard, Sizes};
use crate::stats::latency::{Laps, Latency, Window, summed_up};
use crate::stats::process::CoreStat;
use crate::stats::snapshot::{
    BackendFacts, CheckFacts, FrontendFacts, ListenerFacts, ProcessFacts, ServerFacts,
};
use crate::stats::status::{Admin, CheckResult, Health, ListenStatus};
use crate::stats::table::Unit;
use crate::stats::timers::{Batch, Lap};

const SECOND: u64 = 1_000_000_000;

/// One frontend with a bind, one backend with a checked, an unchecked backup and a disabled server, after some traffic.
pub(crate) fn snapshot() -> Snapshot {
    let origins = Origins::none(Sizes { frontends: 1, backends: 1, servers: 3, listeners: 1, rules: 0 });
    let shards: Vec<Shard> = (0..3).map(|_| Shard::default().next(&origins)).collect();
    let mut collector = Collector::new(shards.clone(), 2, Now(0));
    for (core, shard) in shards.iter().enumerate().take(2) {
        let (frontend, listener) = (&shard.frontends[FrontendId(0)], &shard.listeners[ListenerId(0)]);
        let (backend, server) = (&shard.backends[BackendId(0)], &shard.servers[ServerId(0)]);
        for _ in 0..=core {
            frontend.enter(Stat::SessionsCur);
            frontend.count(Stat::SessionsTotal);
            frontend.count(Stat::Connections);
            listener.enter(Stat::SessionsCur);
            listener.count(Stat::SessionsTotal);
            backend.enter(Stat::SessionsCur);
            backend.count(Stat::SessionsTotal);
            server.enter(Stat::SessionsCur);
            server.count(Stat::SessionsTotal);
            server.count(Stat::LoadBalanced);
            server.time(Stat::ConnectTime, 3_000);
            shard.core.count(CoreStat::ConnectionsTotal);
            shard.core.enter(CoreStat::Connections);
        }
        frontend.add(Stat::BytesIn, 1000);
        frontend.add(Stat::BytesOut, 5000);
        server.add(Stat::BytesIn, 1000);
        shard.core.add(CoreStat::IdleNs, SECOND / 2);
        shard.core.add(CoreStat::BytesOut, 6000);
    }
    shards[2].servers[ServerId(0)].count(Stat::ChecksFailed);
    collector.tick(Now(SECOND));
    let entries = vec![
        backend_entry(&collector),
        server_entry(&collector, 0, "web1", Some("10.0.0.1")),
        server_entry(&collector, 1, "web2", None),
        server_entry(&collector, 2, "web3", None),
        Entry {
            proxy: "public".to_owned(),
            name: "sock-1".to_owned(),
            iid: 2,
            sid: 1,
            http: false,
            facts: Facts::Listener(ListenerFacts {
                status: ListenStatus::Open,
                limit: 0,
                address: "127.0.0.1:8080".to_owned(),
                protocol: "tcpv4",
            }),
            sums: collector.sums::<Listener>(ListenerId(0)),
            latency: None,
        },
        Entry {
            proxy: "public".to_owned(),
            name: String::new(),
            iid: 2,
            sid: 0,
            http: false,
            facts: Facts::Frontend(FrontendFacts { status: ListenStatus::Open, limit: 2000, rate_limit: 0 }),
            sums: collector.sums::<Frontend>(FrontendId(0)),
            latency: None,
        },
    ];
    Snapshot::new(Now(3 * SECOND), process(), collector.process_sums(), entries)
}

fn process() -> ProcessFacts {
    ProcessFacts {
        name: "HAProxy".to_owned(),
        version: "0.1.0".to_owned(),
        release_date: "2026/01/01".to_owned(),
        threads: 2,
        pid: 1234,
        uptime: Duration::from_secs(2 * 86400 + 5 * 3600 + 8 * 60 + 31),
        start_time_s: 1_700_000_000,
        boot_time_ms: 12,
        fd_limit: 4096,
        maxconn: 2000,
        hard_maxconn: 2000,
        rate_limit: 0,
        maxpipes: 64,
        buffer_bytes: (4 << 20, 2 << 20),
        sandbox: "off".to_owned(),
        vips: vec![("web".to_owned(), "MASTER"), ("mail".to_owned(), "BACKUP")],
        node: "lb 1:a".to_owned(),
        description: String::new(),
        stopping: false,
        listeners: 1,
        maxconn_reached: 0,
        warnings: 0,
        tls_limit: 0,
        tls_rate_limit: 0,
        kernel_tls: true,
        certificates: (3, 2, 1),
        certificate_expiry_s: 0,
    }
}

fn backend_entry(collector: &Collector) -> Entry {
    Entry {
        proxy: "web".to_owned(),
        name: String::new(),
        iid: 3,
        sid: 0,
        http: false,
        facts: Facts::Backend(BackendFacts {
            up: true,
            weight: 11,
            user_weight: 11,
            active: 1,
            backup: 1,
            limit: None,
            last_change: Duration::from_secs(60),
            downtime: Duration::ZERO,
            algorithm: "roundrobin".to_owned(),
            cookie: None,
        }),
        sums: collector.sums::<Backend>(BackendId(0)),
        latency: None,
    }
}

/// A hundred connections, 1 ms to 100 ms.
fn latency() -> Rc<Laps> {
    let (mut latency, mut batch) = (Latency::default(), Batch::default());
    for ms in 1..=100 {
        batch.add(0, Lap::Connect, ms * 1000);
    }
    latency.take(&mut batch);
    latency.tick();
    Rc::new(summed_up(&mut latency.histograms(Window::default(), std::iter::once(0))))
}

/// `web1` is checked, `web2` is a backup without check, `web3` is disabled.
fn server_entry(collector: &Collector, id: u32, name: &str, checked_at: Option<&str>) -> Entry {
    let health = Health::Checked { up: true, stopping: false, level: 3, rise: 2, fall: 3 };
    let check = CheckFacts {
        result: CheckResult::Layer4Ok,
        last: "said \"hello, world\"\nand more".to_owned(),
        code: None,
        duration: Duration::from_millis(7),
    };
    Entry {
        proxy: "web".to_owned(),
        name: name.to_owned(),
        iid: 3,
        sid: id + 1,
        http: false,
        facts: Facts::Server(Box::new(ServerFacts {
            admin: if id == 2 { Admin::Maint } else { Admin::Ready },
            health: if checked_at.is_some() { health } else { Health::Unchecked },
            weight: 10,
            user_weight: 10,
            initial_weight: 10,
            backup: id == 1,
            limit: (id == 0).then_some(100),
            queue_limit: None,
            last_change: Duration::from_secs(60),
            downtime: Duration::from_secs(3),
            throttle_percent: None,
            tracked: None,
            agent: None,
            check: checked_at.is_some().then_some(check),
            ip: checked_at.unwrap_or("2001:db8::1").to_owned(),
            port: 80,
            fqdn: None,
            check_at: (None, None),
            agent_at: (None, None),
            cookie: None,
            disabled: false,
            tls: false,
            asked: (checked_at.is_some(), false),
        })),
        sums: collector.sums::<Server>(ServerId(id)),
        latency: (id == 0).then(latency),
    }
}

/// Compares with a file below the package, or rewrites it when `UPDATE_GOLDEN` is set.
pub(crate) fn assert_golden(path: &str, actual: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().expect("golden files have a directory")).expect("writable");
        std::fs::write(&file, actual).expect("writable");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == actual, "{path} differs; review `UPDATE_GOLDEN=1 cargo test`. Now:\n{actual}");
}

fn render(write: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    write(&mut out);
    out
}

#[test]
fn outputs_are_the_golden_ones() {
    let snapshot = snapshot();
    let everything = Filter { types: Some(15), ..Filter::ALL };
    assert_golden("tests/golden/stats/stat.csv", &render(|out| Form::Csv.stat(&snapshot, &everything, out)));
    assert_golden(
        "tests/golden/stats/stat.typed",
        &render(|out| Form::Typed.stat(&snapshot, &everything, out)),
    );
    assert_golden(
        "tests/golden/stats/stat.json",
        &render(|out| Form::Json.stat(&snapshot, &everything, out)),
    );
    assert_golden("tests/golden/stats/info.txt", &render(|out| info::info(&snapshot, false, out)));
    assert_golden("tests/golden/stats/info.typed", &render(|out| typed::info(&snapshot, false, out)));
    assert_golden("tests/golden/stats/info.json", &render(|out| json::info(&snapshot, out)));
    assert_golden("docs/STATS.md", &doc::stats_md());
}

#[test]
fn every_value_has_the_type_that_its_row_declares() {
    let snapshot = snapshot();
    for entry in &snapshot.entries {
        for row in TABLE {
            let fits = match entry.value(row.stat, snapshot.now) {
                Value::Empty => true,
                Value::Text(_) => row.unit == Unit::Text,
                Value::Signed(_) => row.unit == Unit::SignedSecs,
                Value::Number(_) => !matches!(row.unit, Unit::Text | Unit::SignedSecs),
            };
            assert!(fits, "{} of a {:?}", row.csv, entry.facts.object());
        }
    }
}

#[test]
fn names_of_columns_are_unique() {
    for (i, row) in TABLE.iter().enumerate() {
        assert!(TABLE[i + 1..].iter().all(|other| other.csv != row.csv), "{}", row.csv);
    }
}

/// Literally what HAProxy 3.5 prints, up to where our own columns begin.
const HAPROXY_HEADER: &str = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,\
status,weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,\
check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,req_rate_max,\
req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status,\
agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,agent_fall,agent_health,addr,\
cookie,mode,algo,conn_rate,conn_rate_max,conn_tot,intercepted,dcon,dses,wrew,connect,reuse,cache_lookups,cache_hits,srv_icur,\
src_ilim,qtime_max,ctime_max,rtime_max,ttime_max,eint,idle_conn_cur,safe_conn_cur,used_conn_cur,need_conn_est,uweight,\
agg_server_status,agg_server_check_status,agg_check_status,srid,sess_other,h1sess,h2sess,h3sess,req_other,h1req,h2req,h3req,\
proto,priv_idle_cur,reqbin,reqbout,resbin,resbout,cache_hint_hits,-,";

#[test]
fn csv_header_is_haproxys_and_every_line_has_as_many_fields() {
    let text = render(|out| Form::Csv.stat(&snapshot(), &Filter { types: Some(15), ..Filter::ALL }, out));
    assert!(text.starts_with(HAPROXY_HEADER), "{text}");
    let fields = text.lines().next().expect("a header").matches(',').count();
    assert_eq!(fields, TABLE.len() + 1);
    for line in text.lines() {
        assert_eq!(line.matches(',').count(), fields, "{line}");
        assert!(line.ends_with(',') && !line.contains('"'), "{line}");
    }
    assert_eq!(text.lines().count(), 7);
}

/// Keys of HAProxy 3.5 in order; positions never change.
const HAPROXY_INFO: &str = "Name Version Release_date Nbthread Nbproc Process_num Pid Uptime Uptime_sec Memmax_MB PoolAlloc_MB \
PoolUsed_MB PoolFailed Ulimit-n Maxsock Maxconn Hard_maxconn CurrConns CumConns CumReq MaxSslConns CurrSslConns CumSslConns \
Maxpipes PipesUsed PipesFree ConnRate ConnRateLimit MaxConnRate SessRate SessRateLimit MaxSessRate SslRate SslRateLimit \
MaxSslRate SslFrontendKeyRate SslFrontendMaxKeyRate SslFrontendSessionReuse_pct SslBackendKeyRate SslBackendMaxKeyRate \
SslCacheLookups SslCacheMisses CompressBpsIn CompressBpsOut CompressBpsRateLim ZlibMemUsage MaxZlibMemUsage Tasks Run_queue \
Idle_pct node description Stopping Jobs Unstoppable_Jobs Listeners ActivePeers ConnectedPeers DroppedLogs BusyPolling \
FailedResolutions TotalBytesOut TotalSplicedBytesOut BytesOutRate DebugCommandsIssued CumRecvLogs Build_info Memmax_bytes \
PoolAlloc_bytes PoolUsed_bytes Start_time_sec Tainted TotalWarnings MaxconnReached BootTime_ms Niced_tasks CurrStreams \
CumStreams BlockedTrafficWarnings PatternsAdded PatternsFreed NbThreadGroups";

#[test]
fn info_keys_are_haproxys_and_lines_can_be_split_at_the_colon() {
    let keys: Vec<String> = info::INFO.iter().map(|row| row.name.replace(' ', "_")).collect();
    // Ours come behind.
    assert!(keys.join(" ").starts_with(&format!("{HAPROXY_INFO} Ssl")), "{keys:?}");
    let mut snapshot = snapshot();
    for (name, expected) in [("a:b", "a-b"), ("", "-")] {
        snapshot.process.name = name.to_owned();
        snapshot.process.description = "text: with a colon\nand two lines".to_owned();
        let text = render(|out| info::info(&snapshot, false, out));
        assert!(text.starts_with(&format!("Name: {expected}\nVersion: 0.1.0\n")), "{text}");
        let head = text.split("Uptime_sec").next().expect("a first part");
        assert!(head.lines().all(|line| line.matches(':').count() == 1), "{head}");
        assert!(text.lines().all(|line| line.contains(": ")), "{text}");
        assert!(text.contains("\nUptime: 2d 5h08m31s\n") && text.contains("\nnode: lb-1-a\n"), "{text}");
        assert!(text.contains("\ndescription: text: with a colon and two lines\n"), "{text}");
    }
}

#[test]
fn filters_choose_lines_as_haproxy_does() {
    let snapshot = snapshot();
    let lines = |filter: Filter| {
        let names = filter.entries(&snapshot).map(|e| match e.facts.object() {
            Object::Frontend | Object::Backend => e.proxy.clone(),
            Object::Server | Object::Listener => e.name.clone(),
        });
        names.collect::<Vec<_>>().join(" ")
    };
    for (filter, expected) in [
        (Filter::ALL, "public web1 web2 web3 web"),
        (Filter { types: Some(15), ..Filter::ALL }, "public sock-1 web1 web2 web3 web"),
        (Filter { types: Some(6), ..Filter::ALL }, "web1 web2 web3 web"),
        (Filter { types: Some(0), ..Filter::ALL }, ""),
        (Filter { types: Some(4), sid: Some(2), ..Filter::ALL }, "web2"),
        (Filter { sid: Some(2), ..Filter::ALL }, "public web2 web"),
        (Filter { proxy: ProxyChoice::Iid(2), types: Some(15), ..Filter::ALL }, "public sock-1"),
        (Filter { proxy: ProxyChoice::Name("web".to_owned()), ..Filter::ALL }, "web1 web2 web3 web"),
        (Filter { proxy: ProxyChoice::Iid(99), ..Filter::ALL }, ""),
        (Filter { up: true, ..Filter::ALL }, "public web1 web2 web"),
        (Filter { no_maint: true, ..Filter::ALL }, "public web1 web2 web"),
    ] {
        let text = format!("{filter:?}");
        assert_eq!(lines(filter), expected, "{text}");
    }
}

#[test]
fn addresses_and_algorithms_are_hidden_from_level_user() {
    let snapshot = snapshot();
    let text = |legends| render(|out| Form::Csv.stat(&snapshot, &Filter { legends, ..Filter::ALL }, out));
    assert!(text(true).contains("10.0.0.1:80") && text(true).contains("roundrobin"));
    assert!(!text(false).contains("10.0.0.1:80") && !text(false).contains("roundrobin"));
}
