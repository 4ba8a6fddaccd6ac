//! Configurations that are right, and what they mean.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::policy::rule::TcpAction;

const TIMEOUTS: &str = "[defaults]\ntimeout = { client = \"30s\", connect = \"5s\", server = \"20s\" }\n";

fn with_timeouts(text: &str) -> Model {
    clean(&format!("{TIMEOUTS}{text}"))
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

const APP: &str = "[frontend.web]\nbind = \"127.0.0.1:80\"\ndefault-backend = \"app\"\n";

#[test]
fn defaults_are_haproxys() {
    let model =
        with_timeouts(&format!("{APP}[backend.app.server.s1]\naddress = \"127.0.0.1:1\"\ncheck = true\n"));
    let backend = &model.backends[BackendId(0)];
    assert_eq!((backend.retries, backend.redispatch, backend.allbackups), (3, 0, false));
    assert_eq!(backend.balance.algorithm, Algorithm::RoundRobin);
    assert_eq!(backend.timeout_connect, Some(secs(5)));
    assert_eq!(backend.timeout_queue, Some(secs(5)), "timeout queue is timeout connect unless set");
    assert_eq!(backend.timeout_server_fin, Some(secs(20)));
    assert_eq!(backend.timeout_tunnel, None);
    let server = &model.servers[ServerId(0)];
    assert_eq!((server.weight, server.maxconn, server.maxqueue), (1, None, None));
    let check = server.check.as_ref().expect("checked");
    assert_eq!((check.rise, check.fall, check.inter), (2, 3, secs(2)));
    assert_eq!((check.fastinter, check.downinter, check.timeout), (secs(2), secs(2), secs(2)));
    assert_eq!((&check.kind, check.send_proxy), (&CheckKind::Connect, false));
    let frontend = &model.frontends[FrontendId(0)];
    assert_eq!((frontend.timeout_client_fin, frontend.maxconn), (Some(secs(30)), None));
    assert_eq!((frontend.splice, frontend.log.is_some()), (Splice::Auto, false));
    let global = &model.global;
    assert_eq!((&global.cores, global.control_core), (&vec![0, 1, 2, 3], 3));
    assert_eq!((global.node.as_str(), global.compat_name.as_str()), ("host1", "HAProxy"));
    assert_eq!((&global.log, global.maxconn, global.hard_stop_after), (&LogTarget::Stderr, None, None));
}

#[test]
fn sections_and_servers_keep_the_order_of_the_file() {
    let model = with_timeouts(
        "[backend.z.server.b]\naddress = \"127.0.0.1:1\"\n\
         [listen.m]\nbind = \"127.0.0.1:80\"\nserver.x = { address = \"127.0.0.1:2\" }\n\
         [frontend.a]\nbind = \"127.0.0.1:81\"\ndefault-backend = \"z\"\n\
         [backend.z.server.a]\naddress = \"127.0.0.1:3\"\n",
    );
    let names: Vec<&str> = model.backends.values().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["z", "m"]);
    let names: Vec<&str> = model.frontends.values().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["m", "a"]);
    let names: Vec<&str> = model.servers.values().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "x"]);
    let iids: Vec<u32> =
        model.frontends.values().map(|f| f.iid).chain(model.backends.values().map(|b| b.iid)).collect();
    assert_eq!(iids, [2, 3, 1, 2], "numbered in the order of the file, both halves of a listen alike");
    assert_eq!(
        model.frontends[FrontendId(0)].default_backend,
        Some(BackendId(1)),
        "a listen goes to its own servers"
    );
}

#[test]
fn explicit_ids_are_kept_and_the_others_go_around_them() {
    let model = with_timeouts(
        "[frontend.a]\nbind = [\"127.0.0.1:80\", { address = \"127.0.0.1:81\", id = 1, name = \"lan\" }]\ndefault-backend = \"b\"\n\
         [backend.b]\nid = 1\n\
         server.x = { address = \"127.0.0.1:1\" }\nserver.y = { address = \"127.0.0.1:2\", id = 1 }\n",
    );
    assert_eq!((model.frontends[FrontendId(0)].iid, model.backends[BackendId(0)].iid), (2, 1));
    let sids: Vec<u32> = model.servers.values().map(|s| s.sid).collect();
    assert_eq!(sids, [2, 1]);
    let binds: Vec<(u32, &str)> = model.binds.values().map(|b| (b.sid, b.name.as_str())).collect();
    assert_eq!(binds, [(2, "sock-2"), (1, "lan")]);
}

#[test]
fn a_server_inherits_from_default_server_and_that_from_defaults() {
    let model = clean(
        "[defaults]\ntimeout = { client = \"30s\", connect = \"5s\", server = \"20s\", check = \"1s\" }\n\
         default-server = { check = true, inter = \"9s\", weight = 7, send-proxy-v2 = true }\n\
         [frontend.web]\nbind = \"127.0.0.1:80\"\ndefault-backend = \"app\"\n\
         [backend.app]\ndefault-server = { inter = \"4s\" }\n\
         server.a = { address = \"127.0.0.1:1\" }\n\
         server.b = { address = \"127.0.0.1:2\", weight = 0, check = false, send-proxy = true }\n",
    );
    let (a, b) = (&model.servers[ServerId(0)], &model.servers[ServerId(1)]);
    assert_eq!((a.weight, b.weight), (7, 0));
    let check = a.check.as_ref().expect("inherited");
    assert_eq!((check.inter, check.timeout, check.send_proxy), (secs(4), secs(1), true));
    assert!(b.check.is_none());
    assert!(matches!(a.send_proxy, Some(SendProxy::V2 { crc32c: false, .. })));
    assert_eq!(b.send_proxy, Some(SendProxy::V1), "the server's own word wins");
}

#[test]
fn checks_take_the_way_of_the_traffic_unless_told_otherwise() {
    for (keys, send_proxy, port) in [
        ("send-proxy-v2 = true", true, None),
        ("send-proxy-v2 = true\nport = 1", true, Some(1)),
        ("send-proxy-v2 = true\nport = 2\ncheck-send-proxy = true", true, Some(2)),
        ("send-proxy-v2 = true\nport = 2\ncheck-send-proxy = false", false, Some(2)),
        ("send-proxy-v2 = true\ncheck-send-proxy = false", false, None),
        ("port = 1", false, Some(1)),
    ] {
        let model = with_timeouts(&format!(
            "{APP}[backend.app.server.s]\naddress = \"127.0.0.1:1\"\ncheck = true\n{keys}\n"
        ));
        let check = model.servers[ServerId(0)].check.clone().expect("checked");
        assert_eq!((check.send_proxy, check.port), (send_proxy, port), "{keys}");
    }
}

#[test]
fn checks_speak_tls_where_the_traffic_does() {
    for (keys, name) in [
        ("tls = true", Some("127.0.0.1")),
        ("tls = { sni = \"a.test\" }", Some("a.test")),
        ("tls = { sni = \"a.test\" }\ncheck-sni = \"b.test\"", Some("b.test")),
        ("tls = true\ncheck-tls = false", None),
        ("tls = true\nport = 1", Some("127.0.0.1")),
        ("tls = true\nsend-proxy = true\ncheck-send-proxy = true\nport = 2", None),
        ("tls = true\naddr = \"127.0.0.2\"", None),
        (
            "tls = true\nsend-proxy = true\ncheck-send-proxy = true\nport = 2\ncheck-tls = true",
            Some("127.0.0.1"),
        ),
        ("", None),
        ("check-tls = false", None),
    ] {
        let model = with_timeouts(&format!(
            "{APP}[backend.app.server.s]\naddress = \"127.0.0.1:1\"\ncheck = true\n{keys}\n"
        ));
        let tls = model.servers[ServerId(0)].check.as_ref().expect("checked").tls.as_deref();
        assert_eq!(tls.map(|tls| tls.sni.as_deref().expect("filled in")), name, "{keys}");
        assert!(tls.is_none_or(|tls| tls.parameters.alpn.is_empty()));
    }
}

#[test]
fn balance_and_hash_type_have_haproxys_words() {
    let map = |function, avalanche| HashType { method: HashMethod::MapBased, function, avalanche };
    let ring = |function, avalanche| HashType { method: HashMethod::Consistent, function, avalanche };
    for (text, algorithm, hash_type) in [
        ("balance = \"leastconn\"", Algorithm::LeastConn, map(HashFunction::Sdbm, false)),
        ("balance = \"first\"", Algorithm::First, map(HashFunction::Sdbm, false)),
        ("balance = \"random\"", Algorithm::Random { draws: 2 }, map(HashFunction::Sdbm, false)),
        ("balance = \"random(5)\"", Algorithm::Random { draws: 5 }, map(HashFunction::Sdbm, false)),
        (
            "balance = \"source\"\nhash-type = \"consistent\"",
            Algorithm::Source,
            ring(HashFunction::Sdbm, true),
        ),
        (
            "balance = \"source\"\nhash-type = \"consistent djb2\"",
            Algorithm::Source,
            ring(HashFunction::Djb2, false),
        ),
        (
            "balance = \"hash src\"\nhash-type = \"map-based wt6 avalanche\"",
            Algorithm::Hash,
            map(HashFunction::Wt6, true),
        ),
    ] {
        let model = with_timeouts(&format!(
            "{APP}[backend.app]\n{text}\nserver.s = {{ address = \"127.0.0.1:1\" }}\n"
        ));
        let backend = &model.backends[BackendId(0)];
        assert_eq!((backend.balance.algorithm, backend.balance.hash_type), (algorithm, hash_type), "{text}");
        assert_eq!(backend.hash_key.is_some(), algorithm == Algorithm::Hash, "{text}");
    }
}

#[test]
fn binds_have_their_keywords_and_networks_are_disjoint() {
    let model = with_timeouts(
        "[frontend.web]\ndefault-backend = \"app\"\nbind = [{ address = \"[::]:80,[::]:81\", v6only = true, tfo = true, \
         mss = 1400, tcp-ut = \"3s\", accept = \"balanced\", maxconn = 9, interface = \"eth0\", \
         accept-proxy = [\"10.1.0.0/16\", \"fd00::/8\", \"10.0.0.0/8\", \"10.0.0.0/8\"] }]\n\
         [backend.app.server.s]\naddress = \"127.0.0.1:1\"\n",
    );
    assert_eq!(model.binds.len(), 2);
    let bind = &model.binds[crate::base::id::ListenerId(1)];
    assert_eq!(bind.address, BindAddress::Ip("[::]:81".parse().expect("valid")));
    assert_eq!(
        (bind.v6only, bind.tfo_queue, bind.mss, bind.accept),
        (true, 256, Some(1400), Accept::Balanced)
    );
    assert_eq!((bind.maxconn, bind.tcp_user_timeout), (Some(9), Some(secs(3))));
    let networks = bind.accept_proxy.clone().expect("given");
    let shown: Vec<(IpAddr, u8)> = networks.iter().map(|n| (n.address, n.prefix)).collect();
    assert_eq!(shown, [("10.0.0.0".parse().expect("valid"), 8), ("fd00::".parse().expect("valid"), 8)]);
}

#[test]
fn rules_name_backends_and_variables() {
    let model = with_timeouts(
        "[frontend.web]\nbind = \"127.0.0.1:${PORT}\"\ndefault-backend = \"${BACKEND}\"\ninspect-delay = \"5s\"\n\
         connection-rules = [{ silent-drop = true, unless = \"{ src 10.0.0.0/8 }\" }, { accept = true }]\n\
         rules = [\n  { set-var = { name = \"sess.a\", value = \"src\" } },\n  { use-backend = \"app\", if = \"{ dst_port 80 }\" },\n  { reject = true },\n]\n\
         [backend.app.server.s]\naddress = \"127.0.0.1:1\"\n",
    );
    let frontend = &model.frontends[FrontendId(0)];
    assert_eq!(
        model.binds.values().next().map(|b| b.address.clone()),
        Some(BindAddress::Ip("127.0.0.1:8080".parse().expect("valid")))
    );
    assert_eq!((frontend.default_backend, frontend.inspect_delay), (Some(BackendId(0)), secs(5)));
    assert!(matches!(frontend.connection_rules[0].action, TcpAction::SilentDrop));
    assert!(
        frontend.connection_rules[0].condition.is_some() && frontend.connection_rules[1].condition.is_none()
    );
    assert!(matches!(frontend.content_rules[0].action, TcpAction::SetVar { .. }));
    assert!(matches!(frontend.content_rules[1].action, TcpAction::UseBackend(BackendId(0))));
    assert_eq!(frontend.content_rules[1].origin, "t.toml:10:3");
    assert_eq!(model.variables.len(), 1);
}

#[test]
fn check_scripts_are_bytes() {
    let model = with_timeouts(&format!(
        "{APP}[backend.app]\ntcp-check = [{{ send = \"PING\\r\\n\" }}, {{ expect-binary = \"2b 4f\" }}, {{ not-expect-regex = \"^-\" }}]\n\
         server.s = {{ address = \"127.0.0.1:1\", check = true }}\n"
    ));
    let check = model.servers[ServerId(0)].check.clone().expect("checked");
    let expected = vec![
        CheckStep::Send(b"PING\r\n".to_vec()),
        CheckStep::ExpectString(b"+O".to_vec()),
        CheckStep::RejectRegex("^-".into()),
    ];
    assert_eq!(check.kind, CheckKind::Script(expected));
}

#[test]
fn cores_are_a_list_a_range_or_a_number() {
    for (text, cores, control) in [
        ("cores = 2", vec![0, 1], 2),
        ("cores = [2, 0]", vec![2, 0], 1),
        ("cores = \"1-3\"", vec![1, 2, 3], 0),
        ("cores = \"0-3\"\ncontrol-core = 1", vec![0, 1, 2, 3], 1),
    ] {
        let app = "[backend.app.server.s]\naddress = \"127.0.0.1:1\"\n";
        let model = with_timeouts(&format!("[global]\n{text}\n{APP}{app}"));
        assert_eq!((model.global.cores, model.global.control_core), (cores, control), "{text}");
    }
}

#[test]
fn admin_sockets_are_for_their_owner_unless_told_otherwise() {
    let app = "[backend.app.server.s]\naddress = \"127.0.0.1:1\"\n";
    let model = with_timeouts(&format!("[admin]\nsocket = \"/run/a\"\n{APP}{app}"));
    assert_eq!(
        model.global.admin,
        [AdminSocket { at: AdminEndpoint::Unix("/run/a".into()), mode: 0o600, level: AdminLevel::Admin }]
    );
    let model = with_timeouts(&format!(
        "[admin]\nsocket = [{{ path = \"/run/a\", mode = \"660\" }}, {{ path = \"/run/b\", mode = 0o666, level = \"user\" }}]\n{APP}{app}"
    ));
    let expected = [
        AdminSocket { at: AdminEndpoint::Unix("/run/a".into()), mode: 0o660, level: AdminLevel::Operator },
        AdminSocket { at: AdminEndpoint::Unix("/run/b".into()), mode: 0o666, level: AdminLevel::User },
    ];
    assert_eq!(model.global.admin, expected);
}

#[test]
fn a_large_configuration_keeps_its_ids_apart() {
    let mut text = TIMEOUTS.to_owned();
    for n in 0..2000 {
        text += &format!(
            "[listen.l{n}]\nbind = \"127.0.0.1:{}\"\nserver.s = {{ address = \"127.0.0.1:9\" }}\n",
            n + 1000
        );
    }
    let model = clean(&text);
    assert_eq!(
        (model.frontends.len(), model.backends.len(), model.servers.len(), model.binds.len()),
        (2000, 2000, 2000, 2000)
    );
    for (id, server) in model.servers.iter() {
        assert!(model.backends[server.backend].servers.contains(id));
        assert_eq!(model.frontends[FrontendId(server.backend.0)].default_backend, Some(server.backend));
    }
}

#[test]
fn zero_means_no_timeout_and_no_limit() {
    let model = clean(
        "[defaults]\ntimeout = { client = 0, connect = 5000, server = \"20s\", server-fin = 0 }\n\
         [frontend.web]\nmaxconn = 0\nbind = \"127.0.0.1:80\"\ndefault-backend = \"app\"\n\
         [backend.app.server.s]\naddress = \"127.0.0.1:1\"\nmaxconn = 0\n",
    );
    let (frontend, backend) = (&model.frontends[FrontendId(0)], &model.backends[BackendId(0)]);
    assert_eq!((frontend.timeout_client, frontend.timeout_client_fin, frontend.maxconn), (None, None, None));
    assert_eq!((backend.timeout_connect, backend.timeout_server_fin), (Some(secs(5)), None));
    assert_eq!(model.servers[ServerId(0)].maxconn, None);
}
