//! The same haproxy.cfg in HAProxy and here: requests to both, and what comes back and what the origin received must be alike.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use crate::harness::http::{Message, Wire, ok};
use crate::harness::peers::Peer;
use crate::harness::{Origin, connect};

/// What can be seen of one exchange, with what may differ taken out: names of headers in lower case, in the order of their names, and no body
/// of a proxy's own.
fn seen(response: &Message) -> Vec<String> {
    let status = response.status();
    let mut lines = vec![status.to_string()];
    // HAProxy leaves nocache out where a response has neither a validator nor an age.
    let skipped = ["content-length", "cache-control", "content-type", "connection"];
    let is_own = response.header("x-origin").is_none();
    lines.extend(head_lines(&response.head, if is_own { &skipped } else { &skipped[..2] }));
    if !is_own {
        let text = response.text();
        lines.push(text.lines().next().unwrap_or_default().to_owned());
        lines.extend(head_lines(&text, &[]));
    }
    lines
}

fn head_lines(head: &str, skipped: &[&str]) -> Vec<String> {
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    // White space around the commas of a list means nothing (RFC 9110, 5.6.1).
    let tidy = |value: &str| value.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    let lower = headers.map(|(name, value)| (name.to_ascii_lowercase(), tidy(value)));
    let mut lines: Vec<(String, String)> =
        lower.filter(|(name, _)| !skipped.contains(&name.as_str())).collect();
    // Stable: several of one name keep their order.
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

/// Origins that answer with the request they received.
pub(crate) fn mirror(name: &'static str) -> Origin {
    Origin::http(move |request| {
        let answer = ok(&request.head);
        answer
            .replace(
                "\r\n\r\n",
                &format!("\r\nX-Origin: {name}\r\nServer: secret/1\r\nSet-Cookie: app=1; Path=/\r\n\r\n"),
            )
            .replacen(&request.head.replace("\r\n\r\n", ""), &request.head, 1)
    })
}

/// Something that is meant to be different in answers of the proxies themselves.
pub(crate) struct Difference {
    /// How the requests begin for which it is.
    pub(crate) request: &'static str,
    /// How the line begins in HAProxy; empty: there is none.
    pub(crate) theirs: &'static str,
    /// How it begins here; empty: there is none.
    pub(crate) ours: &'static str,
}

/// Sends each request to both, on connections of their own, and compares.
pub(crate) fn compare(sections: &str, requests: &[String]) {
    let (theirs, ours) = (Peer::haproxy(sections), Peer::in_haproxys_place(sections));
    let different = differences([theirs.address, ours.address], requests, &[]);
    assert!(
        different.is_empty(),
        "{} of {} differ\n{}",
        different.len(),
        requests.len(),
        different.join("\n")
    );
}

/// The exchanges that are not the same, with HAProxy and here, but for what is known.
pub(crate) fn differences(both: [SocketAddr; 2], requests: &[String], known: &[Difference]) -> Vec<String> {
    let mut different = Vec::new();
    for request in requests {
        let method = request.split(' ').next().unwrap_or_default().to_owned();
        let [mut a, mut b] = both.map(|address| {
            let mut wire = Wire::new(connect(address));
            // A peer that closes at once may do it before it is written to.
            let response =
                wire.try_send(request.replace("@ADDRESS@", "a")).and_then(|()| wire.try_response(&method));
            response.map_or_else(|e| vec![ended(&e)], |response| seen(&response))
        });
        let is_own = !b.iter().any(|line| line.starts_with("x-origin"));
        for d in known.iter().filter(|d| is_own && request.starts_with(d.request)) {
            let has = |lines: &[String], start: &str| {
                start.is_empty() || lines.iter().any(|line| line.starts_with(start))
            };
            if has(&a, d.theirs) && has(&b, d.ours) {
                a.retain(|line| d.theirs.is_empty() || !line.starts_with(d.theirs));
                b.retain(|line| d.ours.is_empty() || !line.starts_with(d.ours));
            }
        }
        if a != b {
            different.push(format!("{request}\nHAProxy: {a:#?}\nhere: {b:#?}"));
        }
    }
    different
}

/// How an exchange ended without an answer. How much of a request was read before decides whether it is a reset.
fn ended(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionReset | UnexpectedEof => "closed".to_owned(),
        kind => kind.to_string(),
    }
}

/// Every combination of these request lines and header sets.
pub(crate) fn requests(lines: &[&str], headers: &[&str]) -> Vec<String> {
    let both = lines.iter().flat_map(|line| headers.iter().map(move |header| (line, header)));
    both.map(|(line, header)| {
        let host = if header.contains("Host:") { "" } else { "Host: www.example.com\r\n" };
        format!("{line} HTTP/1.1\r\n{host}{header}\r\n")
    })
    .collect()
}

#[test]
fn routing_is_the_same() {
    let (a, b, c) = (mirror("a"), mirror("b"), mirror("c"));
    let sections = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n option forwardfor if-none\n\
         frontend f\n bind @ADDRESS@\n\
         acl static path_beg -i /img /css\n acl static path_end .png .jpg\n acl api hdr_beg(host) -i api.\n acl post method POST\n\
         acl deep path_reg ^/v[0-9]+/(a|b)$\n acl many hdr_cnt(x-many) gt 1\n acl two url_param(q) -m str one two\n acl sub path_sub admin\n\
         acl dir path_dir etc\n acl ck cook(user) -m found\n acl long path_len gt 30\n acl dom hdr_dom(host) -i example.com\n\
         http-request allow if {{ path_beg /x/ }}\n http-request deny if sub !api\n http-request deny deny_status 429 if {{ hdr(x-limit) -m int gt 5 }}\n http-request return status 200 content-type text/plain string \"hello %%\" if {{ path /hello }}\n\
         use_backend two if static or deep\n use_backend three if api post || two !many\n use_backend two if dir ck\n use_backend three if long\n use_backend %[req.hdr(x-to),lower] if {{ req.hdr(x-to) -m found }}\n\
         default_backend one\n\
         backend one\n http-request set-header x-be %[be_name]-%[fe_name]\n server a {}\n\
         backend two\n http-request set-header x-be %[be_name]\n server b {}\n\
         backend three\n http-request set-header x-be %[be_name]\n server c {}\n",
        a.address, b.address, c.address
    );
    let lines = [
        "GET /",
        "GET /img/x",
        "GET /IMG/x",
        "POST /a",
        "GET /a.png",
        "GET /v1/a",
        "GET /v1/c",
        "GET /v12/b?x",
        "GET /?q=one",
        "GET /?q=two&r=1",
        "GET /?r=1&q=three",
        "GET /admin",
        "GET /x/etc/y",
        "GET /etcetera",
        "HEAD /css/",
        "GET /hello",
        "GET /hello?x=1",
        "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "OPTIONS *",
        "DELETE /?q=one",
        "GET /a%20b/../img/",
        "GET //img/x",
    ];
    let headers = [
        "",
        "Host: API.example.com\r\n",
        "Cookie: a=1; user=2\r\n",
        "X-Many: a, b\r\n",
        "X-Many: a\r\nX-Many: b\r\n",
        "X-Limit: 6\r\n",
        "X-Limit: x\r\n",
        "X-To: TWO\r\n",
        "X-To: nowhere\r\n",
        "X-Forwarded-For: 9.9.9.9\r\n",
        "Host: www.example.com:8080\r\n",
    ];
    compare(&sections, &requests(&lines, &headers));
}

#[test]
fn rewriting_is_the_same() {
    let a = mirror("a");
    let sections = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         frontend f\n bind @ADDRESS@\n option forwardfor except 10.0.0.0/8 header X-Client\n\
         http-request set-var(txn.host) req.hdr(host),lower\n http-request set-var(req.n) req.hdr_cnt(x-a)\n\
         http-request set-header X-Host %[var(txn.host),field(1,:)]\n http-request add-header X-Add \"a b\"\n http-request del-header X-Del\n http-request del-header x-pre -m beg\n\
         http-request replace-header X-A (.*)foo(.*) \\2bar\\1\n http-request replace-value X-L ^b(.*)$ <\\1>\n http-request replace-path ^/old/(.*)$ /new/\\1\n\
         http-request set-path /idx%[path] if {{ path / }}\n http-request set-query %[query,regsub(a,b,g)] if {{ query -m found }}\n\n\
         http-request replace-uri ^/u/([^?]*)(.*)$ /w/\\1\\2\n http-request replace-pathq ^/deep/(.*)$ /flat?\\1\n\
         http-request set-var-fmt(txn.fmt) \"<%[method] %[path]>\"\n http-request set-header X-Fmt %[var(txn.fmt)]\n\
         http-request set-pathq /both?x=%[path] if {{ path /new/x/y }}\n\
         http-request set-header X-Conv %[req.hdr(x-c),upper,base64]-%[path,crc32]-%[url_param(p),url_dec]-%[path,length]-%[req.hdr(x-c),djb2]-%[path,sdbm]-%[str(a),concat(x,txn.host,y)]\n\
         http-request set-header X-Math %[req.hdr_cnt(x-a),add(3),mul(2)]-%[int(17),mod(5)]-%[path,word(2,/)]-%[req.hdr(x-a,-1)]-%[req.fhdr(x-l)]\n\
         http-request set-header X-Ip %[src]-%[src,ipmask(8)]-%[method]-%[req.ver]-%[url]-%[base]-%[pathq]\n\
         http-request set-header X-Cook %[req.cook(a)]-%[req.cook_cnt(a)]-%[req.cook_val(n)]\n http-request set-header X-Bool %[path,length,even]-%[int(3),odd]-%[int(0),bool]\n\
         http-request set-header X-Json '%[req.hdr(x-j),json_query($.a.b)]'\n http-request set-header X-Hex %[req.hdr(x-c),hex]-%[req.hdr(x-c),sha1,hex]\n\
         http-request set-method PATCH if {{ method PUT }}\n\
         http-response set-header X-Be %[res.hdr(x-origin)]-%[status]\n http-response del-header Server\n http-response set-status 203 if {{ var(txn.host) -m beg upper }}\n\
         http-response add-header X-Vary 1 if {{ res.hdr(x-origin) a }}\n http-response replace-header Set-Cookie (.*)Path=/(.*) \\1Path=/app\\2\n\
         default_backend b\nbackend b\n server a {}\n",
        a.address
    );
    let lines = [
        "GET /",
        "GET /?a=1&p=a%20b+c",
        "GET /old/x/y?aa",
        "PUT /x",
        "GET /u/1?2",
        "GET http://other.org/old/abs?p=1",
        "DELETE /deep/er/path",
    ];
    let headers = [
        "",
        "X-A: xfooy\r\nX-A: 2\r\nX-Del: 1\r\nX-Pre-1: 1\r\nX-PRE: 2\r\n",
        "X-L: a, bc,d ,be\r\nX-C: some Text\r\n",
        "Cookie: a=1; n=42; a=2\r\n",
        "X-J: {\"a\":{\"b\":\"c\"}}\r\n",
        "X-C: \r\nX-Empty:\r\n",
        "Host: UPPER.org:81\r\nX-Client: me\r\n",
    ];
    compare(&sections, &requests(&lines, &headers));
}

/// Where texts end, values are missing, and numbers are at their limits.
const EXPRESSIONS: &[&str] = &[
    // Text that cannot stand in a head as it is.
    "bin(610d0a58093a207f62c3a9)",
    "url_param(q),url_dec",
    "url_param(q),url_dec,sha1,hex",
    // What is not there, is empty, or is something else.
    "req.hdr(x-n),hex2i",
    "req.hdr(x-n),hex2i,length",
    "req.hdr(x-n),word(3,-),length",
    "req.hdr(x-n),word(-2,-),length",
    "req.hdr(x-n),field(3,-),length",
    "req.hdr_val(x-i),length",
    "urlp_val(q)",
    "req.cook_val(n)",
    "req.cook(c),length",
    "req.cook(),length",
    "req.cook_cnt()",
    "req.cook_cnt(c)",
    "req.hdr_names(-),field(1,-)",
    "str(YR==),b64dec",
    "str(YR),ub64dec",
    "req.hdr(x-n),b64dec,hex",
    "req.hdr_ip(x-n)",
    "req.hdr(x-n),map_ip(@MAP@,none)",
    "int(-1),map_ip(@MAP@,none)",
    "int(4295032831),ipmask(32)",
    "req.hdr(x-n),ipmask(16)",
    // Hashes and digests of whatever it is.
    "req.hdr(x-n),xxh32(3)",
    "req.hdr(x-n),xxh64",
    "req.hdr(x-n),crc32c",
    "req.hdr(x-n),wt6(1)",
    "req.hdr(x-n),hmac(sha256,a2V5),hex",
    "req.hdr(x-n),be2dec(:,2)",
    "req.hdr(x-n),be2hex(.,2,1)",
    "base32",
    "url32",
    // Numbers at their ends.
    "int(9223372036854775807),add(1)",
    "int(-9223372036854775808),sub(1)",
    "int(-9223372036854775808),neg",
    "req.hdr_val(x-i),mul(3)",
    "req.hdr_val(x-i),div(0)",
    "req.hdr_val(x-i),mod(0)",
    "req.hdr_val(x-i),mod(-3)",
    "int(1700000000),utime(%Y-%m-%d)",
];

#[test]
fn values_of_expressions_are_the_same() {
    let a = mirror("a");
    let mut sections =
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
                        frontend f\n bind @ADDRESS@\n"
            .to_owned();
    let mut map = tempfile::NamedTempFile::new().expect("a temporary file");
    map.write_all(b"10.0.0.0/8 ten\n::/1 six\n").expect("a file of our own");
    for (at, expression) in EXPRESSIONS.iter().enumerate() {
        let expression = expression.replace("@MAP@", &map.path().display().to_string());
        writeln!(sections, " http-request set-header x-value-{at} \"<%[{expression}]>\"").expect("a string");
    }
    write!(sections, " default_backend b\nbackend b\n server a {}\n", a.address).expect("a string");
    let lines = ["GET /", "GET /p?q=", "GET /p?q=a%0d%0aSet-Cookie:%20a%3d1&n=1", "GET /p?q=12&q=3"];
    let headers = [
        "",
        "X-N: \r\nX-I: \r\nCookie: n=; c; d=1\r\n",
        "X-N: a-b\r\nX-I: 12\r\nCookie: n=12x; c=\"q\"; =x\r\n",
        "X-N: +f\r\nX-I: -7\r\nCookie: c\r\n",
        "X-N: ffffffffffffffffff\r\n",
        "X-N: YWJjZA==\r\nX-N: 10.1.2.3\r\n",
        "X-N: 2001:db8::5\r\n",
    ];
    compare(&sections, &requests(&lines, &headers));
}

#[test]
fn redirects_are_the_same() {
    let a = mirror("a");
    let sections = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\nfrontend f\n bind @ADDRESS@\n\
         http-request redirect location /moved?from=%[path] code 301 if {{ path_beg /l }}\n http-request redirect prefix https://x.org if {{ path_beg /p }}\n\
         http-request redirect location %[url_param(to)] ignore-empty if {{ path_beg /to }}\n\
         http-request redirect prefix /app drop-query append-slash code 303 if {{ path_beg /q }}\n http-request redirect scheme https code 308 if {{ path_beg /s }}\n\
         http-request redirect location / set-cookie SEEN=1 code 307 if {{ path_beg /c }}\n http-request redirect location / clear-cookie USER= if {{ path_beg /d }}\n\
         redirect location /late if {{ path_beg /late }}\n default_backend b\nbackend b\n server a {}\n",
        a.address
    );
    let lines = [
        "GET /l/x?y=1",
        "GET /p/x?y=1",
        "GET /q?z",
        "GET /q/",
        "POST /s?1",
        "HEAD /s",
        "GET /c",
        "GET /d",
        "GET /late",
        "GET /to?to=/x",
        "GET /to",
        "GET /other",
        "GET http://y.org/s/t",
    ];
    compare(&sections, &requests(&lines, &["", "Host: z.org:8080\r\n"]));
}

#[test]
fn answers_that_are_no_servers_are_the_same() {
    let (a, closing) = (mirror("a"), Origin::new(|stream, _| drop(stream)));
    let sections = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n errorloc 503 /late\n errorloc 502 /early\n\
         frontend f\n bind @ADDRESS@\n errorloc303 502 http://other.org/?a=b\n \
         http-error status 403 content-type text/plain string \"no\\n\" hdr X-E e\n http-after-response set-header X-After %[status]\n \
         http-after-response add-header X-Two 2 if {{ status 503 }} || {{ status 302 }}\n http-request deny deny_status 429 if {{ path /429 }}\n \
         http-request deny if {{ path /403 }}\n http-request redirect location /x if {{ path /r }}\n \
         http-request return status 200 content-type text/plain string ok hdr X-R 1 hdr X-None %[url_param(none)] if {{ path /return }}\n \
         http-request auth realm staff if {{ path /auth }}\n use_backend down if {{ path /down }}\n http-request deny deny_status 404 if {{ path /nothing }}\n errorfile 404 /dev/null\n  use_backend gone if {{ path /gone }}\n \
         use_backend direct if {{ path_beg /direct }}\n default_backend b\n\
         backend b\n server a {0}\nbackend down\n http-after-response set-status 418 reason teapot if {{ status 503 }}\nbackend gone\n \
         server g {1}\nbackend direct\n http-after-response set-header X-Be %[be_name]\n dispatch {0}\n",
        a.address, closing.address
    );
    let paths = ["/", "/429", "/403", "/r", "/return", "/auth", "/down", "/nothing", "/gone", "/direct/x"];
    let lines: Vec<String> =
        ["GET", "HEAD"].iter().flat_map(|method| paths.map(|path| format!("{method} {path}"))).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    compare(&sections, &requests(&lines, &[""]));
}

#[test]
fn hashing_chooses_the_same_servers() {
    let origins = ["a", "b", "c"].map(mirror);
    let servers: String = origins
        .iter()
        .enumerate()
        .map(|(i, o)| format!(" server s{i} {} weight {}\n", o.address, i + 1))
        .collect();
    for (balance, hash) in [
        ("uri", ""),
        ("uri depth 2", "hash-type consistent"),
        ("uri whole len 12", ""),
        ("url_param id", "hash-type map-based djb2"),
        ("hdr(X-Key)", "hash-type consistent wt6 avalanche"),
        ("hdr(X-Key)", "hash-type map-based crc32"),
        ("hash req.hdr(x-key)", ""),
    ] {
        let sections = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\nlisten f\n bind @ADDRESS@\n balance {balance}\n {hash}\n{servers}"
        );
        let lines: Vec<String> = (0..12).map(|i| format!("GET /{}/{i}/x?id={}", i % 5, i * 7)).collect();
        let headers: Vec<String> = (0..3).map(|i| format!("X-Key: key-{i}\r\n")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        compare(&sections, &requests(&lines, &headers));
    }
}
