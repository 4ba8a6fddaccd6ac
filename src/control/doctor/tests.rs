//! The checks over facts that no machine needs to have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::control::load;

const CONFIG: &str = "[global]\ncores = [0]\nmaxconn = 1000\n[defaults]\ntimeout = { client = 1, connect = 1, server = 1 }\n\
                      [backend.app.server.s]\naddress = \"192.0.2.1:1\"\n\
                      [frontend.web]\nbind = \"127.0.0.1:80\"\ndefault-backend = \"app\"\n";

fn model(text: &str) -> Model {
    let (model, diagnostics) = load::from_text("test", text).expect("the machine can be looked at");
    model.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

/// A machine with nothing to complain about.
fn good() -> Facts {
    let sysctls = [
        ("kernel.io_uring_disabled", "0"),
        ("net.core.somaxconn", "65535"),
        ("net.ipv4.ip_local_port_range", "10240 65535"),
        ("net.ipv4.ip_local_reserved_ports", ""),
        ("net.ipv4.tcp_tw_reuse", "1"),
        ("fs.pipe-user-pages-soft", "0"),
    ];
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Facts {
        kernel: (6, 12),
        ring: Some(Ok(Vec::new())),
        open_files: 1 << 20,
        locked_memory: u64::MAX,
        sysctls: sysctls.map(own).into_iter().collect::<BTreeMap<_, _>>(),
        interfaces: vec!["eth0".to_owned()],
        local: vec!["127.0.0.1".parse().expect("a literal")],
        cpus: vec![0, 1],
        clock: Some(true),
        now: 1_000_000_000,
        ..Facts::default()
    }
}

/// What changes a good machine, and a part of the one line that is to come of it; empty: none.
type Case = (&'static str, fn(&mut Facts), Level, &'static str);

fn check(config: &str, cases: &[Case]) {
    let model = model(config);
    for (what, change, level, expected) in cases {
        let mut facts = good();
        change(&mut facts);
        let found = examine(&model, &facts);
        let worse: Vec<&Finding> = found.iter().filter(|finding| finding.level != Level::Fine).collect();
        if expected.is_empty() {
            assert!(worse.is_empty(), "{what}: {worse:?}");
            continue;
        }
        assert!(
            worse.iter().any(|finding| finding.level == *level && finding.text.contains(expected)),
            "{what}: no {level:?} with {expected:?} in\n{}",
            report(&found)
        );
    }
}

fn set(facts: &mut Facts, key: &str, value: &str) {
    facts.sysctls.insert(key.to_owned(), value.to_owned());
}

fn nic(facts: &mut Facts, queues: usize, cpus: &[&[usize]]) {
    let interrupts = cpus.iter().zip(30..).map(|(cpus, number)| Interrupt {
        number,
        name: format!("eth0-rx-{}", number - 30),
        cpus: cpus.to_vec(),
        path: PathBuf::from(format!("/proc/irq/{number}/smp_affinity_list")),
    });
    let interrupts = interrupts.collect();
    facts.nics = vec![Nic { name: "eth0".to_owned(), queues, interrupts, ..Nic::default() }];
}

fn certificate(facts: &mut Facts, from_days: i64, to_days: i64) {
    let at = |days: i64| facts.now + days * 86_400;
    let (not_before, not_after) = (at(from_days), at(to_days));
    facts.certificates = vec![CertificateFact { path: "site.pem".into(), not_before, not_after }];
}

#[test]
fn what_is_wrong_with_a_machine_is_said() {
    use Level::{Broken, Change, Fine};
    check(
        CONFIG,
        &[
            ("nothing", |_| (), Fine, ""),
            ("old kernel", |f| f.kernel = (5, 10), Broken, "kernel 5.10 is too old"),
            ("no ring", |f| f.ring = Some(Err("forbidden".to_owned())), Broken, "forbidden"),
            ("operation", |f| f.ring = Some(Ok(vec!["accept"])), Broken, "lacks accept"),
            ("few files", |f| f.open_files = 1024, Change, "maxconn = 1000 needs"),
            ("memory", |f| f.locked_memory = 65_536, Broken, "LimitMEMLOCK=infinity"),
            ("sandbox", |f| f.sandbox = Some("off".to_owned()), Change, "sandbox = true in [global]"),
            (
                "no landlock",
                |f| f.sandbox = Some("seccomp".to_owned()),
                Change,
                "this kernel has no Landlock",
            ),
            ("good sandbox", |f| f.sandbox = Some("seccomp+landlock+capabilities".to_owned()), Fine, ""),
            ("clock", |f| f.clock = Some(false), Change, "nothing keeps it right"),
            ("unknown clock", |f| f.clock = None, Fine, ""),
            ("queue", |f| set(f, "net.core.somaxconn", "128"), Change, "net.core.somaxconn is 128"),
            (
                "uring",
                |f| set(f, "kernel.io_uring_disabled", "1"),
                Change,
                "io_uring_disabled is 1, should be 0",
            ),
            ("ports", |f| set(f, "net.ipv4.ip_local_port_range", "32768 60999"), Change, "50000 wide"),
            (
                "few ports",
                |f| set(f, "net.ipv4.ip_local_port_range", "1024 1999"),
                Change,
                "there are 976 local",
            ),
            (
                "pages",
                |f| set(f, "fs.pipe-user-pages-soft", "16384"),
                Change,
                "pipe-user-pages-soft is 16384",
            ),
            ("forward", |f| set(f, "net.ipv4.ip_forward", "1"), Change, "past every rule"),
            ("no such cpu", |f| f.cpus = vec![1], Broken, "[0] of `cores` are not online"),
            ("isolated", |f| f.isolated = vec![1], Change, "isolates CPUs [1]"),
            ("isolated well", |f| f.isolated = vec![0], Fine, ""),
            (
                "irq",
                |f| nic(f, 1, &[&[0, 1]]),
                Change,
                "interrupt 30 (eth0-rx-0) of eth0 goes to CPUs [0, 1]",
            ),
            ("irq well", |f| nic(f, 2, &[&[0], &[0]]), Fine, ""),
            ("expired", |f| certificate(f, -90, -2), Broken, "site.pem expired 2 days ago"),
            ("soon", |f| certificate(f, -90, 5), Change, "expires in 5 days"),
            ("early", |f| certificate(f, 1, 90), Broken, "not valid yet"),
            ("valid", |f| certificate(f, -1, 90), Fine, ""),
            ("key", |f| f.certificate_errors = vec!["x.pem: bad".to_owned()], Broken, "x.pem: bad"),
            (
                "address",
                |f| f.local.clear(),
                Change,
                "127.0.0.1 is no address of this machine and of no [vip.NAME]",
            ),
            ("gateway", |f| f.gateways_missing = vec!["eth1".to_owned()], Broken, "no policy route for eth1"),
            ("name", |f| f.names = vec![("db".to_owned(), Err("no".to_owned()))], Broken, "db: no"),
            (
                "busy poll",
                |f| set(f, "net.core.busy_read", "50"),
                Change,
                "net.core.busy_read is 50, should be 0",
            ),
            ("strict", |f| f.strict = vec!["eth0".to_owned()], Fine, ""),
        ],
    );
}

#[test]
fn network_cards_are_held_against_the_data_cores() {
    use Level::{Change, Fine};
    let config = CONFIG.replace("cores = [0]", "cores = [0, 1]");
    let card = |facts: &mut Facts, queues: usize, change: fn(&mut Nic)| {
        let interrupts: [&[usize]; 2] = [&[0], &[1]];
        nic(facts, queues, &interrupts[..queues]);
        change(&mut facts.nics[0]);
    };
    // What is wrong with the card, and the command that --apply would do.
    type Case = (&'static str, usize, fn(&mut Nic), Level, &'static str, &'static str);
    let cases: [Case; 9] = [
        ("well", 2, |_| (), Fine, "", ""),
        ("could have more", 1, |n| n.queues_max = Some(8), Change, "`ethtool -L eth0 combined 2`", ""),
        ("cannot", 1, |n| n.rps = vec![("/rps".into(), vec![])], Change, "without RPS", "echo '3' > /rps"),
        ("spread", 1, |n| n.rps = vec![("/rps".into(), vec![0, 1])], Fine, "", ""),
        (
            "spread badly",
            1,
            |n| n.rps = vec![("/rps".into(), vec![2])],
            Change,
            "CPUs [2]",
            "echo '3' > /rps",
        ),
        ("in vain", 2, |n| n.rps = vec![("/rps".into(), vec![0])], Change, "RPS costs", "echo '0' > /rps"),
        ("a burst", 2, |n| (n.received, n.missed) = (1_000_000, 100), Fine, "", ""),
        (
            "small ring",
            2,
            |n| (n.received, n.missed, n.ring) = (1_000_000, 101, Some((256, 4096))),
            Change,
            "eth0 lost 101 of 1000000 packets for lack of receive descriptors; raise its ring: `ethtool -G eth0 rx 4096`",
            "",
        ),
        (
            "large ring",
            2,
            |n| (n.received, n.missed, n.ring) = (1_000_000, 101, Some((4096, 4096))),
            Change,
            "as large as it can be",
            "",
        ),
    ];
    let model = model(&config);
    for (what, queues, change, level, expected, fix) in cases {
        let mut facts = good();
        card(&mut facts, queues, change);
        let found = examine(&model, &facts);
        let worst = found.iter().max_by_key(|finding| finding.level).expect("there are findings");
        assert_eq!(worst.level, level, "{what}: {found:?}");
        assert!(worst.text.contains(expected), "{what}: {found:?}");
        assert_eq!(worst.fix.as_ref().map(ToString::to_string).unwrap_or_default(), fix, "{what}");
    }
    let flows: fn(&mut Facts) = |f| {
        nic(f, 2, &[&[0], &[1]]);
        set(f, "net.core.rps_sock_flow_entries", "32768");
    };
    let flows_of_few: fn(&mut Facts) = |f| {
        nic(f, 1, &[&[0]]);
        set(f, "net.core.rps_sock_flow_entries", "32768");
    };
    check(
        &config,
        &[
            ("RFS", flows, Change, "rps_sock_flow_entries is 32768 (RFS)"),
            ("RFS of few", flows_of_few, Fine, ""),
        ],
    );
}

#[test]
fn a_strict_filter_of_return_paths_is_named_where_it_drops_packets() {
    use Level::{Change, Fine};
    let config = format!("{CONFIG}[gateway.eth0]\naddresses = \"192.0.2.254\"\n");
    let strict: fn(&mut Facts) = |f| f.strict = vec!["eth0".to_owned(), "eth1".to_owned()];
    let other: fn(&mut Facts) = |f| f.strict = vec!["eth1".to_owned()];
    check(
        &config,
        &[("strict", strict, Change, "rp_filter of eth0 is strict"), ("another", other, Fine, "")],
    );
    let found = examine(&model(&config), &Facts { strict: vec!["eth0".to_owned()], ..good() });
    let fix = found.iter().find_map(|finding| finding.fix.as_ref()).expect("it can be applied");
    assert_eq!(fix.to_string(), "sysctl -w 'net.ipv4.conf.all.rp_filter=2'");
}

#[test]
fn names_must_have_addresses_that_can_be_reached_and_enough_of_them() {
    use Level::{Broken, Change, Fine};
    let named =
        |servers: &str| CONFIG.replace("[backend.app.server.s]\naddress = \"192.0.2.1:1\"\n", servers);
    let two =
        named("[backend.app]\nserver.s1 = { address = \"db:1\" }\nserver.s2 = { address = \"db:1\" }\n");
    let distinct = two.replace("db:1\"", "db:1\", resolve-opts = [\"prevent-dup-ip\"]");
    let other_port = two.replacen("db:1", "db:2", 1);
    // The addresses of the name, with a dash for those that no route leads to.
    let cases: [(&str, &[&str], Level, &str); 8] = [
        (&two, &["192.0.2.1", "192.0.2.2"], Fine, ""),
        (&two, &["192.0.2.1"], Change, "app: db has fewer addresses than servers: s2 have one"),
        (&two, &["192.0.2.1", "-2001:db8::1"], Change, "s2 have one that another server has"),
        (
            &two,
            &["-2001:db8::1"],
            Broken,
            "db has IPv6 addresses alone (2001:db8::1) and this machine has no route",
        ),
        (&two, &["-192.0.2.1"], Broken, "or give the name another address"),
        (&two, &["2001:db8::1", "2001:db8::2"], Fine, ""),
        (&distinct, &["192.0.2.1"], Fine, ""),
        (&other_port, &["192.0.2.1"], Fine, ""),
    ];
    for (config, addresses, level, expected) in cases {
        let way = |text: &&str| {
            let ip = text.trim_start_matches('-').parse().expect("a literal");
            Way { ip, port: None, routed: !text.starts_with('-') }
        };
        let names = vec![("db".to_owned(), Ok(addresses.iter().map(way).collect()))];
        let found = examine(&model(config), &Facts { names, ..good() });
        let worst = found.iter().max_by_key(|finding| finding.level).expect("there are findings");
        assert_eq!(worst.level, level, "{addresses:?}: {found:?}");
        assert!(worst.text.contains(expected), "{addresses:?}: {found:?}");
    }
    let waits = Facts {
        names: vec![("db".to_owned(), Ok(vec![Way { ip: [192, 0, 2, 1].into(), port: None, routed: true }]))],
        ..good()
    };
    let said = report(&examine(&model(&distinct), &waits));
    assert!(said.contains("1 of 2 servers of app wait for db to have more addresses"), "{said}");
}

#[test]
fn servers_that_are_one_are_named() {
    use Level::{Change, Fine};
    let both = |first: &str, second: &str| {
        CONFIG.replace(
            "[backend.app.server.s]\naddress = \"192.0.2.1:1\"\n",
            &format!("[backend.app]\nserver.s1 = {{ {first} }}\nserver.s2 = {{ {second} }}\n"),
        )
    };
    let same = "address = \"192.0.2.1:1\"";
    for (second, level, expected) in [
        (same.to_owned(), Change, "app/s2 is where s1 is: it is checked twice"),
        (format!("{same}, backup = true"), Fine, ""),
        (format!("{same}, disabled = true"), Fine, ""),
        ("address = \"192.0.2.1:2\"".to_owned(), Fine, ""),
    ] {
        check(&both(same, &second), &[("a second server", |_| (), level, expected)]);
    }
}

#[test]
fn ports_and_addresses_are_held_against_the_servers() {
    use Level::{Broken, Change, Fine};
    let config = CONFIG.replace(
        "\"192.0.2.1:1\"",
        "\"192.0.2.1:1\"\nsource = [\"10.0.0.1:20000-20099\", \"10.0.0.2:20000-20099\"]\nmaxconn = 200",
    );
    let local: fn(&mut Facts) = |f| {
        f.local.extend(["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<std::net::IpAddr>().expect("literal")));
        set(f, "net.ipv4.ip_local_reserved_ports", "20000-20099");
    };
    check(
        &config,
        &[
            ("good", local, Fine, ""),
            ("addresses", |_| (), Broken, "source 10.0.0.2 is no address of this machine"),
            (
                "kernel's range",
                |_| (),
                Change,
                "ports 20000-20099 of `bind` and `source` lie in the kernel's range",
            ),
        ],
    );
    let more = config.replace("maxconn = 200", "maxconn = 201");
    check(
        &more,
        &[("too few", local, Change, "app/s may get 201 connections (maxconn) and there are 200 local")],
    );
}

#[test]
fn fixes_and_exit_codes_follow_from_findings() {
    let model = model(CONFIG);
    let mut facts = good();
    assert_eq!(exit_code(&examine(&model, &facts)), 0);
    set(&mut facts, "net.core.somaxconn", "128");
    nic(&mut facts, 2, &[&[1], &[0]]);
    let found = examine(&model, &facts);
    let fixes: Vec<String> =
        found.iter().filter_map(|f| f.fix.as_ref()).map(std::string::ToString::to_string).collect();
    assert_eq!(
        fixes,
        ["sysctl -w 'net.core.somaxconn=65535'", "echo '0' > /proc/irq/30/smp_affinity_list"],
        "{found:?}"
    );
    assert_eq!(exit_code(&found), 2);
    facts.irqbalance = true;
    let found = examine(&model, &facts);
    assert!(found.iter().filter(|f| f.area == Area::Cores).all(|f| f.fix.is_none()), "{found:?}");
    facts.kernel = (4, 19);
    assert_eq!(exit_code(&examine(&model, &facts)), 1);
}

/// Compares with a file of the repository, or writes it if `UPDATE_GOLDEN` is set.
fn golden(path: &str, update: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let wanted = update(&before);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, wanted).expect("the file is writable");
    } else {
        assert!(wanted == before, "{} is old; run with UPDATE_GOLDEN=1", path.display());
    }
}

#[test]
fn the_sysctl_file_and_its_documentation_are_those_of_the_table() {
    golden("appliance/sysctl.d/60-shardgate.conf", |_| sysctl_file());
    golden("docs/tuning.md", |page| {
        let (head, rest) = page.split_once("<!-- sysctls -->\n").expect("the page has the mark");
        let (_, tail) = rest.split_once("<!-- end -->\n").expect("the page has the end mark");
        format!("{head}<!-- sysctls -->\n{}<!-- end -->\n{tail}", tuning_table())
    });
}

#[test]
fn transparent_mode_needs_its_rules() {
    use Level::{Broken, Fine};
    let config = CONFIG
        .replace("bind = \"127.0.0.1:80\"", "bind = [{ address = \"0.0.0.0:80\", transparent = true }]");
    let good: fn(&mut Facts) = |f| {
        let listing = "comment \"connections that have a socket\" comment \"web 0.0.0.0:80 ip\"";
        f.transparent = (listing.to_owned(), (true, false));
    };
    check(
        &config,
        &[
            ("installed", good, Fine, ""),
            (
                "nothing",
                |_| (),
                Broken,
                "nftables has no rule for connections that have a socket, web 0.0.0.0:80 ip",
            ),
        ],
    );
    let rules: fn(&mut Facts) = |f| {
        f.transparent.0 =
            "comment \"connections that have a socket\" comment \"web 0.0.0.0:80 ip\"".to_owned();
    };
    check(&config, &[("no route", rules, Broken, "the policy route of mark 0x5347 is missing")]);
}

#[test]
fn bird_must_agree_with_the_addresses() {
    use Level::{Broken, Fine};
    let config = format!(
        "{CONFIG}\n[bgp]\nlocal-as = 64512\nneighbors = \"10.0.0.1 64500\"\n\
         [vip.web]\naddresses = \"192.0.2.9/32\"\nannounce = \"bgp\"\n"
    );
    let good: fn(&mut Facts) = |f| {
        f.bird_wanted = Some(Ok("x".to_owned()));
        f.bird_conf = Some("x".to_owned());
        f.bird = true;
    };
    let other: fn(&mut Facts) = |f| {
        f.bird_wanted = Some(Ok("x".to_owned()));
        f.bird_conf = Some("y".to_owned());
        f.bird = true;
    };
    let stopped: fn(&mut Facts) = |f| f.bird_wanted = Some(Ok("x".to_owned()));
    check(
        &config,
        &[
            ("good", good, Fine, ""),
            ("other", other, Broken, "is not what this configuration says"),
            ("stopped", stopped, Broken, "bird does not run"),
        ],
    );
}

#[test]
fn keepalived_must_agree_with_the_addresses() {
    use Level::{Broken, Fine};
    let config = format!(
        "{}\n[vip.web]\naddresses = \"192.0.2.9/24\"\ninterface = \"eth0\"\nvirtual-router-id = 1\n",
        CONFIG.replace("127.0.0.1:80", "192.0.2.9:80")
    );
    let good: fn(&mut Facts) = |f| {
        f.keepalived_wanted = Some(Ok("x".to_owned()));
        f.keepalived_conf = Some("x".to_owned());
        f.keepalived = true;
    };
    check(&config, &[("good", good, Fine, "")]);
    type Part = (fn(&mut Facts), &'static str);
    let cases: [Part; 4] = [
        (|f| f.keepalived_conf = Some("y".to_owned()), "is not what this configuration says"),
        (|f| f.keepalived_conf = None, "has no configuration"),
        (|f| f.keepalived = false, "keepalived does not run"),
        (|f| f.interfaces.clear(), "vip web: there is no interface eth0"),
    ];
    let model = model(&config);
    for (change, expected) in cases {
        let mut facts = self::good();
        good(&mut facts);
        change(&mut facts);
        let found = examine(&model, &facts);
        assert!(
            found.iter().any(|f| f.level == Broken && f.text.contains(expected)),
            "{expected}: {found:?}"
        );
    }
}

#[test]
fn the_configurations_of_the_pages_load() {
    for page in ["TRANSPARENT.md", "PAIR.md", "tuning.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
        let text = std::fs::read_to_string(path).expect("the page is there");
        let blocks: Vec<&str> =
            text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(!blocks.is_empty(), "{page}");
        blocks.iter().for_each(|block| drop(model(block)));
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("appliance/etc/shardgate.toml");
    assert!(model(&std::fs::read_to_string(installed).expect("it is there")).global.sandbox);
}
