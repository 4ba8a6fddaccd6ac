//! Values of fetches and converters. Examples of HAProxy's manual are among them.

use std::time::Duration;

use super::{World, expr, show, value};
use crate::policy::pattern::PatternTable;
use crate::policy::sample::testing::TestFacts;
use crate::policy::sample::{Scratch, ServerLevels, Value, VariableId};

fn check(facts: &TestFacts, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(value(text, facts).as_deref(), Some(*expected), "{text}");
    }
}

fn check_missing(facts: &TestFacts, cases: &[&str]) {
    for text in cases {
        assert_eq!(value(text, facts), None, "{text}");
    }
}

#[test]
fn fetches_of_the_connection() {
    let mut facts = TestFacts::new("192.0.2.7:1234", "127.0.0.1:443");
    facts.conn.rcvd_proxy = true;
    facts.conn.pp_authority = Some(b"example.com".to_vec());
    facts.time = Duration::from_millis(1_500_000_000_123);
    facts.random = u64::MAX;
    check(
        &facts,
        &[
            ("src", "192.0.2.7"),
            ("src_port", "1234"),
            ("src_is_local", "false"),
            ("dst", "127.0.0.1"),
            ("dst_port", "443"),
            ("dst_is_local", "true"),
            ("fc_rcvd_proxy", "true"),
            ("fc_pp_authority", "example.com"),
            ("fe_id", "2"),
            ("fe_name", "fe-test"),
            ("fe_defbe", "be-default"),
            ("so_id", "7"),
            ("so_name", "bind-a"),
            ("always_true", "true"),
            ("bool(0)", "false"),
            ("int(-5)", "-5"),
            ("str(a b)", "a b"),
            ("str()", ""),
            ("bin(00fF)", "00ff"),
            ("ipv6(::1)", "::1"),
            ("env(SITE)", "paris"),
            ("hostname", "lb1"),
            ("date", "1500000000"),
            ("txn.id32", "300"),
            ("pid", "71"),
            ("date(-1)", "1499999999"),
            ("date(5,ms)", "1500000000128"),
            ("rand(10)", "9"),
            ("rand", "4294967295"),
            ("var(txn.none,fallback)", "fallback"),
        ],
    );
    check_missing(&facts, &["fc_pp_unique_id", "be_name", "srv_id", "env(NONE)", "var(txn.v)"]);
    assert_eq!(value("src", &TestFacts::default()), None);
}

#[test]
fn levels() {
    let server = |usable, sessions, queued, maxconn, maxqueue| ServerLevels {
        up: true,
        usable,
        sessions,
        queued,
        maxconn,
        maxqueue,
    };
    let mut facts = TestFacts::default();
    facts.live.servers = vec![
        server(true, 3, 1, Some(10), Some(5)),
        server(true, 9, 0, Some(8), Some(5)),
        server(false, 0, 0, None, None),
    ];
    facts.live.queued = 4;
    facts.live.sessions = 12;
    check(
        &facts,
        &[
            ("nbsrv(web)", "2"),
            ("be_conn(web)", "12"),
            ("fe_conn", "12"),
            ("fe_conn(fe)", "12"),
            ("be_conn_free(web)", "7"),
            ("connslots(web)", "16"),
            ("queue(web)", "5"),
            ("avg_queue(web)", "3"),
            ("srv_conn(web/a)", "3"),
            ("srv_conn_free(web/b)", "0"),
            ("srv_queue(web/a)", "1"),
            ("srv_is_up(web/a)", "true"),
        ],
    );
    facts.live.servers[0].maxqueue = None;
    check(&facts, &[("connslots(web)", "-1"), ("be_conn_free(web)", "7")]);
    facts.live.servers.clear();
    check(&facts, &[("avg_queue(web)", "8"), ("nbsrv(web)", "0")]);
}

#[test]
fn text_converters() {
    let mut facts = TestFacts::default();
    facts.variables.set(VariableId(0), Value::Str(b"var"));
    facts.variables.set(VariableId(1), Value::Int(7));
    check(
        &facts,
        &[
            ("str(AbC),lower", "abc"),
            ("str(AbC),upper", "ABC"),
            ("str(AbC),length", "3"),
            ("str(abcdef),bytes(2)", "63646566"),
            ("str(abcdef),bytes(2,2)", "6364"),
            ("str(abcdef),bytes(9)", ""),
            ("str(f1_f2_f3__f5),field(5,_)", "f5"),
            ("str(f1_f2_f3__f5),field(4,_)", ""),
            ("str(f1_f2_f3__f5),field(2,_,0)", "f2_f3__f5"),
            ("str(f1_f2_f3__f5),field(2,_,2)", "f2_f3"),
            ("str(f1_f2_f3__f5),field(-2,_,3)", "f2_f3_"),
            ("str(f1_f2_f3__f5),field(-3,_,0)", "f1_f2_f3"),
            ("str(f1_f2_f3__f5),field(1,_,99)", "f1_f2_f3__f5"),
            ("str(f1_f2_f3__f5),word(4,_)", "f5"),
            ("str(f1_f2_f3__f5),word(2,_,0)", "f2_f3__f5"),
            ("str(f1_f2_f3__f5),word(3,_,2)", "f3__f5"),
            ("str(f1_f2_f3__f5),word(-2,_,3)", "f1_f2_f3"),
            ("str(f1_f2_f3__f5),word(-3,_,0)", "f1_f2"),
            ("str(/f1/f2/f3/f4),word(1,/)", "f1"),
            ("str(a.b:c),field(3,.:)", "c"),
            ("str(),field(1,/)", ""),
            ("str(xxabxx),ltrim(x)", "abxx"),
            ("str(xxabxx),rtrim(x)", "xxab"),
            ("str(xx),rtrim(x)", ""),
            ("bin(61620d0a63),cut_crlf", "ab"),
            ("str(Host.EX:80),host_only", "host.ex"),
            ("str(Host.EX:80),port_only", "80"),
            ("str(Host.EX),port_only", "0"),
            ("str([::1]:81),host_only", "[::1]"),
            ("str([::1]:81),port_only", "81"),
            ("str(a),concat(<,txn.v,>)", "a<var>"),
            ("str(a),concat(-)", "a-"),
            ("str(a),concat(,sess.w)", "a7"),
            ("str(a),concat('(',txn.none,')')", "a()"),
            ("str(a),add_item(\",\",txn.v)", "a,var"),
            ("str(),add_item(\",\",txn.v)", "var"),
            ("str(a),add_item(\",\",txn.none)", "a"),
            ("str(a),add_item(\",\",,(s\\))", "a,(s)"),
            ("str(var),strcmp(txn.v)", "0"),
            ("str(va),strcmp(txn.v)", "-1"),
            ("str(vb),strcmp(txn.v)", "1"),
            ("str(var),secure_memcmp(txn.v)", "true"),
            ("str(vax),secure_memcmp(txn.v)", "false"),
            ("bool(1),iif(https,http)", "https"),
            ("int(0),iif(https,http)", "http"),
            ("str(___),word(1,_)", ""),
        ],
    );
    check_missing(
        &facts,
        &[
            "str(f1_f2),field(3,_)",
            "str(f1_f2),field(-3,_)",
            "str(zz),hex2i",
            "str(+f),hex2i",
            "str(a),strcmp(txn.none)",
            "str(x),secure_memcmp(sess.w)",
        ],
    );
}

#[test]
fn substitution() {
    let facts = TestFacts::default();
    check(
        &facts,
        &[
            ("str(/////a///b/c/xzxyz/),regsub('/+','/','g')", "/a/b/c/xzxyz/"),
            ("str(foo12 bar),regsub(\"(foo|bar)([0-9]+)?\",\"<\\2\\1>\")", "<12foo> bar"),
            ("str(foo12 bar),regsub(\"(foo|bar)([0-9]+)?\",\"<\\2\\1>\",g)", "<12foo> <bar>"),
            ("str(AAA),regsub(a,b,i)", "bAA"),
            ("str(AAA),regsub(a,b,gi)", "bbb"),
            ("str(abc),regsub(x*,-,g)", "-a-b-c-"),
            ("str(abc),regsub(b,)", "ac"),
            ("str(abc),regsub(^b,x)", "abc"),
            ("str(aab),regsub(\\ba,x,g)", "xab"),
        ],
    );
}

#[test]
fn encodings() {
    let facts = TestFacts::new("192.0.2.7:1", "127.0.0.1:1");
    check(
        &facts,
        &[
            ("str(hi?>),base64", "aGk/Pg=="),
            ("str(hi?>),ub64enc", "aGk_Pg"),
            ("str(aGk/Pg==),b64dec", "68693f3e"),
            ("str(aGk_Pg),ub64dec", "68693f3e"),
            ("str(aGk_Pg==),ub64dec", "68693f3e"),
            ("str(a b/~),url_enc", "a%20b%2F~"),
            ("str(a%20b+c?d+e),url_dec", "a b+c?d e"),
            ("str(a+b),url_dec(1)", "a b"),
            ("int(1),hex", "0000000000000001"),
            ("src,hex", "C0000207"),
            ("str(ff),hex2i", "255"),
            ("str(fffffffffffffffff0),hex2i", "-16"),
            ("int(16909060),htonl", "01020304"),
            ("bin(01020304050607),be2dec(:,2)", "258:772:1286:7"),
            ("bin(01020304050607),be2dec(-,2,1)", "258-772-1286"),
            ("bin(7f000001),be2dec(.,1)", "127.0.0.1"),
            ("bin(01020304050607),be2hex", "01020304050607"),
            ("bin(01020304050607),be2hex(:,2)", "0102:0304:0506:07"),
            ("bin(0102030405060708),be2hex(,3,1)", "010203040506"),
            ("str('a\"b\\/c'),json", "a\\\"b\\\\\\/c"),
            ("bin(0a7fe282ac),json(utf8)", "\\n\\u007f\\u20ac"),
            ("bin(f09f9880),json(utf8)", "\\ud83d\\ude00"),
            ("bin(61ff62),json(utf8s)", "ab"),
            ("bin(61ff),json", "a\\u00ff"),
        ],
    );
    check_missing(&facts, &["str(a%2),url_dec", "str(!!),b64dec", "bin(61ff),json(utf8)"]);
}

#[test]
fn digests_and_hashes() {
    let facts = TestFacts::default();
    check(
        &facts,
        &[
            ("str(abc),md5", "900150983cd24fb0d6963f7d28e17f72"),
            ("str(abc),sha1,hex", "A9993E364706816ABA3E25717850C26C9CD0D89D"),
            ("str(abc),sha2", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            ("str(abc),sha2(224),length", "28"),
            ("str(abc),sha2(512),length", "64"),
            ("str(abc),crc32", "891568578"),
            ("str(abc),crc32(1)", "930845320"),
            ("str(123456789),crc32c", "3808858755"),
            ("str(abc),djb2", "193485963"),
            ("str(abc),sdbm", "807794786"),
            ("str(abc),wt6", "2483038440"),
            ("str(abc),wt6(1)", "266135527"),
            ("str(abc),xxh32", "852579327"),
            ("str(abc),xxh64", "4952883123889572249"),
        ],
    );
}

#[test]
fn dates_json_and_languages() {
    let facts = TestFacts::default();
    check(
        &facts,
        &[
            ("int(1500000000),http_date", "Fri, 14 Jul 2017 02:40:00 GMT"),
            ("int(1500000000),http_date(60)", "Fri, 14 Jul 2017 02:41:00 GMT"),
            ("int(1500000000123),http_date(0,ms)", "Fri, 14 Jul 2017 02:40:00 GMT"),
            ("int(1500000000),utime(%Y%m%d%H%M%S)", "20170714024000"),
            ("int(1500000000),utime(%Y-%m-%d,-86400)", "2017-07-13"),
            (r#"str('{"integer":4}'),json_query('$.integer','int'),add(1)"#, "5"),
            (r#"str('{"my.key":"myvalue"}'),json_query('$.my\.key')"#, "myvalue"),
            (r#"str('{"my.key":"v"}'),json_query("$['my.key']")"#, "v"),
            (r#"str('{"b":false}'),json_query($.b)"#, "false"),
            (r#"str('{"a":[1,{"c":"x"}]}'),json_query($.a[1].c)"#, "x"),
            (r#"str('{"a":[1,2]}'),json_query($.a)"#, "[1,2]"),
            (r#"str('{"a":1.5}'),json_query($.a)"#, "1.5"),
            (r#"str('{"a":"12"}'),json_query($.a,int)"#, "12"),
            ("str('es,fr;q=0.5'),language(fr;es;en)", "es"),
            ("str('es;q=0.4,fr;q=0.5'),language(fr;es;en)", "fr"),
            ("str('fr-CH, en;q=0.9'),language(fr;en)", "fr"),
            ("str('fr-CH, en;q=0.9'),language(fr-CH;fr)", "fr-CH"),
            ("str('de, fr;q=0'),language(fr;en,en)", "en"),
        ],
    );
    check_missing(
        &facts,
        &[
            "str('{'),json_query($.a)",
            r#"str('{"a":1}'),json_query($.b)"#,
            r#"str('{"a":"x"}'),json_query($.a,int)"#,
            "str(de),language(fr;en)",
            "int(9223372036854775807),http_date",
        ],
    );
}

#[test]
fn arithmetic_saturates() {
    let mut facts = TestFacts::new("192.0.2.77:1", "[2001:db8::1]:1");
    facts.variables.set(VariableId(1), Value::Int(7));
    check(
        &facts,
        &[
            ("int(5),add(3)", "8"),
            ("int(9223372036854775807),add(1)", "9223372036854775807"),
            ("int(5),add(sess.w)", "12"),
            ("int(5),sub(-1)", "6"),
            ("int(-9223372036854775808),mul(2)", "-9223372036854775808"),
            ("int(7),div(2)", "3"),
            ("int(7),div(0)", "9223372036854775807"),
            ("int(-9223372036854775808),div(-1)", "9223372036854775807"),
            ("int(7),mod(0)", "0"),
            ("int(-9223372036854775808),mod(-1)", "0"),
            ("int(12),and(10)", "8"),
            ("int(12),or(3)", "15"),
            ("int(12),xor(10)", "6"),
            ("int(1),neg", "-1"),
            ("int(-9223372036854775808),neg", "9223372036854775807"),
            ("int(0),cpl", "-1"),
            ("int(2),bool", "true"),
            ("int(2),not", "false"),
            ("int(2),even", "true"),
            ("int(-1),odd", "true"),
            ("str(12x),add(1)", "13"),
            ("src,ipmask(24)", "192.0.2.0"),
            ("src,ipmask(255.255.0.0)", "192.0.0.0"),
            ("dst,ipmask(24,32)", "2001:db8::"),
            ("dst,ipmask(24,ffff:ffff::)", "2001:db8::"),
            ("src,ipmask(0)", "0.0.0.0"),
            ("src,ipmask(32)", "192.0.2.77"),
        ],
    );
    check_missing(&facts, &["int(5),add(txn.none)", "dst,ipmask(24)", "str(),add(1)"]);
}

#[test]
fn maps() {
    let files = [
        ("str.map", "# comment\n  /a  one two  \n/b two\r\n\n/A upper\n"),
        ("beg.map", "/ root\n/api api\n/api/v2 v2\n"),
        ("end.map", ".png image\n.tar.gz archive\n.gz gzip\n"),
        ("ip.map", "10.0.0.0/8 1\n10.1.0.0/16 2\n2001:db8::/32 3\n"),
        ("int.map", "1:9 low\n10: high\n"),
        ("re.map", "^/u/([a-z]+)/(\\d+) user=\\1,id=\\2\n"),
    ];
    let world = World {
        patterns: PatternTable::default(),
        files: files.iter().map(|(n, t)| (*n, (*t).to_owned())).collect(),
    };
    let facts = TestFacts::new("10.1.2.3:5", "[2001:db8::9]:80");
    let cases: &[(&str, Option<&str>)] = &[
        ("str(/a),map(str.map)", Some("one two")),
        ("str(/b),map_str(str.map)", Some("two")),
        ("str(/c),map(str.map)", None),
        ("str(/c),map(str.map,none)", Some("none")),
        ("str(/api/v2/x),map_beg(beg.map)", Some("v2")),
        ("str(/api/v1/x),map_beg(beg.map)", Some("api")),
        ("str(/x),map_beg(beg.map)", Some("root")),
        ("str(x.tar.gz),map_end(end.map)", Some("archive")),
        ("str(x.gz),map_end(end.map)", Some("gzip")),
        ("src,map_ip_int(ip.map)", Some("2")),
        ("dst,map_ip_int(ip.map),add(1)", Some("4")),
        ("str(10.9.9.9),map_ip(ip.map)", Some("1")),
        ("src_port,map_int(int.map)", Some("low")),
        ("dst_port,map_int(int.map)", Some("high")),
        ("int(0),map_int(int.map,-)", Some("-")),
        ("str(/u/joe/12/x),map_regm(re.map)", Some("user=joe,id=12")),
        ("str(/u/joe/12/x),map_reg(re.map)", Some("user=\\1,id=\\2")),
    ];
    let mut scratch = Scratch::default();
    for (text, expected) in cases {
        let expr = expr(text, &world).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(show(expr.eval(&facts, &mut scratch).value).as_deref(), *expected, "{text}");
    }
    // A map that is replaced gives its new values to expressions that exist already.
    let existing = expr("str(/a),map(str.map)", &world).expect("compiles");
    let file = world.patterns.get("str.map", true).expect("loaded");
    file.replace(vec![(b"/a".to_vec(), Some(b"new".to_vec()))]).expect("valid");
    assert_eq!(show(existing.eval(&facts, &mut scratch).value).as_deref(), Some("new"));
    assert_eq!(world.patterns.files().len(), files.len(), "each file is loaded once");
}

#[test]
fn first_bytes() {
    let mut facts = TestFacts { bytes: b"\0\x05hello world".to_vec(), ..TestFacts::default() };
    check(
        &facts,
        &[
            ("req.len", "13"),
            ("req.payload(2,5)", "68656c6c6f"),
            ("req.payload(11,0)", "6c64"),
            ("payload_lv(0,2)", "68656c6c6f"),
            ("req.payload_lv(0,2,8)", "776f726c64"),
            ("req.payload_lv(0,2,+1)", "656c6c6f20"),
            ("req.payload_lv(1,1,-2)", "00 05 68 65 6c".replace(' ', "").as_str()),
        ],
    );
    check_missing(
        &facts,
        &[
            "req.payload(2,50)",
            "req.payload(20,0)",
            "req.payload_lv(0,1)",
            "req.payload_lv(12,2)",
            "wait_end",
        ],
    );
    facts.complete = true;
    check(&facts, &[("wait_end", "true")]);
}
