use proptest::prelude::*;

use super::*;

fn env() -> Env {
    Env {
        base: Default::default(),
        variable: Box::new(|name| (name == "WEB").then(|| "192.0.2.10".to_owned())),
        read: Box::new(|path| {
            let is_page = path.extension().is_some_and(|extension| extension == "http");
            Ok(if is_page { b"HTTP/1.0 503 Sorry\r\n\r\n".to_vec() } else { b"10.0.0.0/8\n".to_vec() })
        }),
        cpus: vec![0, 1],
        hostname: "lb".to_owned(),
    }
}

fn of(text: &str) -> Imported {
    import(&[("haproxy.cfg".to_owned(), text.to_owned())], &env())
}

/// The import of a text that must be fine, and load.
fn clean(text: &str) -> String {
    let imported = of(text);
    let (model, diagnostics) = crate::config::load("x.toml", &imported.toml, &env());
    let all: Vec<String> = imported.diagnostics(&diagnostics).iter().map(ToString::to_string).collect();
    assert!(model.is_some() && all.is_empty(), "{all:#?}\n{}", imported.toml);
    imported.toml
}

const TIMEOUTS: &str = "defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n";

#[test]
fn a_usual_file_becomes_what_a_person_would_write() {
    let text = "\
# the edge
global
    maxconn 2000   # enough
    stats socket /run/haproxy.sock mode 660 level admin

defaults
    mode http
    timeout connect 5000
    timeout client  30s
    timeout server  30s
    option http-server-close
    option forwardfor except 127.0.0.0/8
    default-server inter 3s rise 2 fall 3

frontend www
    bind *:80 name clear
    bind :8080
    # only for us
    acl local src 10.0.0.0/8
    acl local src 192.168.0.0/16
    use_backend img if { hdr_beg(host) -i img } || { path_beg /img /css }
    http-request deny deny_status 429 if { path_beg -i '/a b' } !local
    http-request set-header X-Proto \"it's http\"
    default_backend app

backend img
    server i1 \"${WEB}\":8000 weight 10

backend app
    balance uri depth 3
    cookie SRV insert indirect nocache maxidle 60
    redirect location /gone if { path /old }
    server s1 192.0.2.1:80 cookie s1 check maxconn 100
    server s2 192.0.2.2:80 cookie s2 check backup
";
    let expected = r#"# the edge
[global]
# enough
maxconn = 2000

[admin]
socket = [
  { path = "/run/haproxy.sock", mode = "660", level = "admin" },
]

[defaults]
mode = "http"
timeout.connect = 5000
timeout.client = "30s"
timeout.server = "30s"
http-server-close = true
forwardfor = { except = "127.0.0.0/8" }
default-server.inter = "3s"
default-server.rise = 2
default-server.fall = 3
# HAProxy repairs what two readers may take for different messages; without this it is refused
ambiguous-messages = "repair"

[frontend.www]
bind = [
  { address = "*:80", name = "clear" },
  ":8080",
]
# only for us
acl.local = ["src 10.0.0.0/8", "src 192.168.0.0/16"]
default-backend = "app"
rules = [
  { deny = { status = 429 }, if = "{ path_beg -i '/a b' } !local" },
  { set-header = { name = "X-Proto", value = "it's http" } },
  { use-backend = "img", if = "{ hdr_beg(host) -i img } || { path_beg /img /css }" },
]

[backend.img]
server.i1 = { address = "${WEB-}:8000", weight = 10 }

[backend.app]
balance = "uri depth 3"
cookie = { name = "SRV", mode = "insert", indirect = true, nocache = true, maxidle = "60s" }
rules = [
  { redirect = { location = "/gone" }, if = "{ path /old }" },
]
server.s1 = { address = "192.0.2.1:80", cookie = "s1", check = true, maxconn = 100 }
server.s2 = { address = "192.0.2.2:80", cookie = "s2", check = true, backup = true }
"#;
    assert_eq!(clean(text), expected);
}

#[test]
fn several_defaults_are_written_into_their_sections() {
    let text = "\
defaults tcp-ones
    timeout connect 1s
    timeout client 4s
    timeout server 1s
defaults web from tcp-ones
    mode http
    http-request del-header X-A
listen db
    bind :3306
    server d 192.0.2.1:3306
frontend f from web
    bind :80
    default_backend b
backend b from web
    timeout server 9s
    server s 192.0.2.1:80
backend late from tcp-ones
    server s 192.0.2.1:80
listen last from tcp-ones
    bind :81
    use_backend late if { src 192.0.2.7 }
    server s 192.0.2.1:80
";
    let toml = clean(text);
    assert!(
        toml.contains("[listen.db]\ntimeout.connect = \"1s\"\ntimeout.client = \"4s\"\ntimeout.server = \"1s\"\nmode = \"http\"\n"),
        "the last defaults hold for what names none: {toml}"
    );
    assert!(
        toml.contains("[backend.b]\ntimeout.connect = \"1s\"\ntimeout.server = \"9s\"\nmode = \"http\"\n"),
        "{toml}"
    );
    assert!(
        toml.contains("[backend.late]\ntimeout.connect = \"1s\"\ntimeout.server = \"1s\"\nserver"),
        "{toml}"
    );
    assert_eq!(toml.matches("del-header = \"X-A\"").count(), 3, "{toml}");
}

#[test]
fn words_of_old_and_sections_of_old() {
    let toml = clean(
        "defaults\n contimeout 5000\n clitimeout 50000\n srvtimeout 50000\n redispatch\nlisten web *:8080\n mode http\n rspidel ^Server:.*\n \
         server a 192.0.2.1\n server b 192.0.2.2:+1\n",
    );
    for line in [
        "timeout.connect = 5000",
        "redispatch = true",
        "bind = \"*:8080\"",
        "  { del-header = \"Server\" },",
        "address = \"192.0.2.1:8080\"",
        "address = \"192.0.2.2:8081\"",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
}

#[test]
fn blocks_and_variables_decide_at_once() {
    let toml = clean(&format!(
        "global\n setenv PORT 8081\n{TIMEOUTS}.if defined(NOPE)\nnonsense\n.else\nlisten a\n bind \":$PORT\"\n server s \"${{HOST-192.0.2.9}}\":80\n.endif\n"
    ));
    assert!(toml.contains("bind = \":8081\"") && toml.contains("\"${HOST-192.0.2.9}:80\""), "{toml}");
}

#[test]
fn what_is_wrong_is_said_at_its_line() {
    let cases: &[(&str, usize, &str)] = &[
        ("frontend", 1, "needs a name"),
        ("bind :80", 1, "before the first section"),
        ("[frontend.fe]", 1, "give it to that, -f takes"),
        ("listen a\n bnd :80", 2, "did you mean \"bind\"?"),
        ("listen a\n bind :80\n server s 192.0.2.1:80 chekc", 3, "did you mean \"check\"?"),
        ("listen a\n bind :80\n server s 192.0.2.1:80 maxconn x", 3, "\"x\" is no number"),
        ("backend a\n use_backend b if TRUE", 2, "use_backend cannot stand in a backend"),
        ("listen a\n bind 'x", 2, "not closed"),
        (".if 1\nlisten a\n bind :1", 1, "no .endif"),
        ("listen a\n mode http\n http-request deny when x", 3, "\"when\" is no option of deny"),
        ("listen a\n stick-table type ip size 1m peers", 2, "peers needs a value"),
        ("frontend f from nowhere", 1, "no defaults section \"nowhere\""),
        ("listen a\n bind :80\nlisten a\n bind :81", 3, "a listen \"a\" already, at line 1"),
        ("listen a\n mode http\n http-request set-var(txn.a) src(", 3, "not closed"),
        ("listen a\n acl x path_beg /\n use_backend b if x", 3, "unknown backend"),
        ("listen a\n bind :80\n server s 192.0.2.1:80 agent-inter", 3, ""),
        (".alert \"no way\"", 1, "no way"),
        ("no bind :80", 1, "takes no \"no\""),
    ];
    for (text, line, message) in cases {
        let imported = of(text);
        let (_, diagnostics) = crate::config::load("x.toml", &imported.toml, &env());
        let all = imported.diagnostics(&diagnostics);
        let found = all.iter().any(|d| {
            d.is_error() && d.line == *line && d.message.contains(message)
                || d.is_error()
                    && d.line == *line
                    && d.help.as_deref().is_some_and(|help| help.contains(message))
        });
        assert!(found, "{text}: {all:#?}");
    }
}

#[test]
fn the_report_has_four_states_and_an_exit_code() {
    let of_line = |line: &str| {
        of(&format!("{TIMEOUTS}listen a\n mode http\n bind :80\n server s 192.0.2.1:80\n {line}\n"))
    };
    for (line, state, code) in [
        ("balance leastconn", State::Exact, 0),
        ("option contstats", State::Ignored, 0),
        ("compression algo gzip", State::Approximate, 2),
        ("filter trace", State::Unsupported, 3),
        ("no option checkcache", State::Exact, 0),
    ] {
        let report = of_line(line).report;
        let note = report.notes().find(|note| note.directive == line).expect(line);
        assert_eq!((note.state, note.line, report.exit_code()), (state, 9, code), "{line}");
        assert_eq!(report.text().contains(line), state != State::Exact, "{line}");
    }
}

#[test]
fn binds_have_their_tls_in_a_table() {
    let imported = of(&format!(
        "global\n crt-base /etc/ssl\n ssl-default-bind-ciphers ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256\n \
         ssl-default-bind-options ssl-min-ver TLSv1.2 no-tlsv11\n{TIMEOUTS}listen a\n mode http\n bind :80\n \
         bind :443 ssl crt a.pem crt /b.pem alpn h2,http/1.1 strict-sni name tls no-tlsv12\n server s 192.0.2.1:80\n"
    ));
    assert_eq!(imported.report.exit_code(), 0, "{}", imported.report.text());
    let expected = "  { address = \":443\", name = \"tls\", tls = { cipher-suites = [\"ECDHE-RSA-AES128-GCM-SHA256\", \
                    \"TLS_AES_128_GCM_SHA256\", \"TLS_AES_256_GCM_SHA384\", \"TLS_CHACHA20_POLY1305_SHA256\"], certificates = \
                    [\"/etc/ssl/a.pem\", \"/b.pem\"], alpn = [\"h2\", \"http/1.1\"], strict-sni = true, min-version = \"TLSv1.3\" } },";
    assert!(imported.toml.contains(expected), "{}", imported.toml);
    assert!(imported.toml.contains("  \":80\",\n"), "{}", imported.toml);
}

/// The import of a text whose lists and stores are these files.
fn with_files(text: &str, files: &'static [(&'static str, &'static str)]) -> Imported {
    let found = move |path: &std::path::Path| {
        let found = files.iter().find(|(name, _)| path == std::path::Path::new(name));
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| "no such file".to_owned())
    };
    let env = Env { read: Box::new(found), ..env() };
    import(&[("haproxy.cfg".to_owned(), text.to_owned())], &env)
}

#[test]
fn lists_of_certificates_become_entries() {
    const LIST: &str = "# sites\n\
        a.pem\n\n\
        /b.pem [alpn h2 verify required ca-file clients.pem ssl-min-ver TLSv1.3] b.test *.b.test !old.b.test\n\
        @web/shop [ciphers ECDHE-RSA-AES128-GCM-SHA256 no-ca-names ca-file c.pem verify optional] shop.test\n\
        d.pem *\n";
    let text = format!(
        "global\n crt-base /etc/ssl\n ca-base /etc/ca\ncrt-store web\n crt-base /web\n key-base /keys\n load crt shop.pem key \
         shop.key alias shop\n load crt other.pem ocsp other.der\ncrt-store\n load crt plain.pem alias plain\n{TIMEOUTS}listen a\n \
         mode http\n bind :443 ssl crt-list sites.list alpn h2,http/1.1\n bind :444 ssl crt @web/other.pem crt @/plain \
         default-crt e.pem\n server s 192.0.2.1:80\n"
    );
    let imported = with_files(&text, &[("sites.list", LIST)]);
    assert_eq!(imported.report.exit_code(), 0, "{}", imported.report.text());
    let (model, diagnostics) = crate::config::load("x.toml", &imported.toml, &env());
    assert!(model.is_some(), "{diagnostics:#?}\n{}", imported.toml);
    for expected in [
        "{ certificate = \"/etc/ssl/a.pem\", list = \"sites.list\" }",
        "{ certificate = \"/b.pem\", alpn = [\"h2\"], verify = \"required\", ca-file = [\"/etc/ca/clients.pem\"], min-version = \
         \"TLSv1.3\", list = \"sites.list\", names = [\"b.test\", \"*.b.test\", \"!old.b.test\"] }",
        "{ certificate = \"/web/shop.pem\", key = \"/keys/shop.key\", cipher-suites = [\"ECDHE-RSA-AES128-GCM-SHA256\", \
         \"TLS_AES_128_GCM_SHA256\", \"TLS_AES_256_GCM_SHA384\", \"TLS_CHACHA20_POLY1305_SHA256\"], ca-verify-file = \
         [\"/etc/ca/c.pem\"], verify = \"optional\", list = \"sites.list\", names = [\"shop.test\"] }",
        "{ certificate = \"/etc/ssl/d.pem\", list = \"sites.list\", names = [\"*\"] }",
        "certificates = [{ certificate = \"/web/other.pem\", ocsp = \"/web/other.der\" }, \"/etc/ssl/plain.pem\", \
         \"/etc/ssl/e.pem\", { certificate = \"/etc/ssl/e.pem\", names = [\"*\"] }]",
    ] {
        assert!(imported.toml.contains(expected), "{expected}\n{}", imported.toml);
    }
}

#[test]
fn what_is_wrong_in_a_list_is_told_with_its_line() {
    let bind = |options: &str| {
        format!("{TIMEOUTS}listen a\n mode http\n bind :443 ssl {options}\n server s 192.0.2.1:80\n")
    };
    for (options, list, said) in [
        ("crt-list l", "a.pem\nb.pem [alpn h2\n", "l:2: the bracket is not closed"),
        (
            "crt-list l",
            "a.pem [verfy none]\n",
            "l:1: \"verfy\" is no option of a crt-list; did you mean \"verify\"?",
        ),
        ("crt-list l", "a.pem a b!c\n", "l:1: \"b!c\" is no host name"),
        ("crt-list l", "a.pem [allow-0rtt]\n", "l:1: allow-0rtt holds for a whole bind: write it there"),
        ("crt-list l", "@x/y\n", "there is no \"@x/y\" in a crt-store"),
        ("crt-list missing", "", "missing: no such file"),
        ("crt @x/y", "", "there is no \"@x/y\" in a crt-store"),
        (
            "crt a.pem ca-sign-file ca.pem",
            "",
            "certificates are not made while clients wait: make one for each name",
        ),
        (
            "crt a.pem generate-certificates",
            "",
            "certificates are not made while clients wait: make one for each name",
        ),
    ] {
        let files: &'static [(&str, &str)] = Box::leak(Box::new([("l", list)]));
        let imported = with_files(&bind(options), files);
        let report = imported.report.text();
        assert!(imported.report.exit_code() != 0 && report.contains(said), "{options}, {list}: {report}");
    }
}

#[test]
fn servers_have_their_tls_in_a_table() {
    let toml = clean(&format!(
        "global\n ca-base /etc/ca\n{TIMEOUTS} default-server verify required ca-file all.pem\nlisten a\n mode http\n bind :80\n \
         server s1 192.0.2.1:443 ssl sni str(app.internal) crt client.pem check\n server s2 127.0.0.2:443 ssl verify none alpn http/1.1\n \
         server s3 192.0.2.3:80\n"
    ));
    for line in [
        "server.s1 = { address = \"192.0.2.1:443\", check = true, tls = { verify = \"required\", ca-file = [\"/etc/ca/all.pem\"], sni = \
         \"app.internal\", certificate = \"client.pem\" } }",
        "server.s2 = { address = \"127.0.0.2:443\", tls = { ca-file = [\"/etc/ca/all.pem\"], verify = \"none\", alpn = [\"http/1.1\"] } }",
        "server.s3 = { address = \"192.0.2.3:80\" }",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
}

#[test]
fn what_global_says_of_servers_holds_for_those_with_tls() {
    let toml = clean(&format!(
        "global\n ssl-default-server-curves X25519:P-256\n ssl-default-server-options ssl-min-ver TLSv1.3\n{TIMEOUTS}listen a\n mode \
         http\n bind :80\n server s1 127.0.0.1:443 ssl verify none\n server s2 127.0.0.2:443 ssl verify none curves P-384\n server \
         s3 192.0.2.3:80\n"
    ));
    for line in [
        "server.s1 = { address = \"127.0.0.1:443\", tls = { curves = [\"X25519\", \"P-256\"], min-version = \"TLSv1.3\", verify = \
         \"none\" } }",
        "server.s3 = { address = \"192.0.2.3:80\" }",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    assert!(toml.contains("server.s2 = { address = \"127.0.0.2:443\", tls = { min-version = \"TLSv1.3\", verify = \"none\", curves = [\"P-384\"] } }"), "{toml}");
}

#[test]
fn logs_have_targets_formats_and_captures() {
    let toml = clean(
        "global\n log 127.0.0.1 local0 notice\n log /dev/log len 2048 format rfc5424 local1\ndefaults\n mode http\n log global\n option httplog\n \
         timeout connect 5s\n timeout client 30s\n timeout server 30s\nlisten a\n bind :80\n capture request header Host len 32\n \
         capture request header User-Agent len 200\n capture cookie ASP len 32\n option dontlognull\n server s 192.0.2.1:80\n",
    );
    for line in [
        "  { address = \"127.0.0.1:514\", facility = \"local0\", level = \"notice\" },",
        "  { address = \"/dev/log\", len = 2048, format = \"rfc5424\", facility = \"local1\" },",
        "log = true",
        "log-format = \"httplog\"",
        "capture.request-header = [\n  { name = \"Host\", len = 32 },\n  { name = \"User-Agent\", len = 200 },\n]",
        "capture.cookie = { name = \"ASP\", len = 32 }",
        "dontlognull = true",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
}

/// HAProxy adds the targets of a section to those of its defaults, and tells of connections where no format is.
#[test]
fn logs_add_up_and_have_a_line_without_a_format() {
    let sections = |defaults: &str, listen: &str| {
        format!(
            "global\n log 127.0.0.1 local0\ndefaults\n mode http\n{defaults}\n timeout connect 5s\n timeout client 30s\n \
             timeout server 30s\nlisten a\n bind :80\n{listen}\n server s 192.0.2.1:80\n"
        )
    };
    let toml =
        clean(&sections(" log global\n option httplog", " log 192.0.2.9 local1\n log 192.0.2.8 local2"));
    let sums = "log = [\n  \"global\",\n  { address = \"192.0.2.9:514\", facility = \"local1\" },\n  { address = \"192.0.2.8:514\"";
    assert!(toml.contains(sums) && !toml.contains("log = true"), "{toml}");
    let toml = clean(&sections(" log ::1 local0\n log 2001:db8::5:1514 local0\n option httplog", ""));
    assert!(toml.contains("\"[::1]:514\"") && toml.contains("\"[2001:db8::5]:1514\""), "{toml}");
    // Without a log of the process it is told of servers where their backends log.
    let text =
        sections(" log 192.0.2.9 local1 notice\n option httplog", "").replace(" log 127.0.0.1 local0\n", "");
    let toml = clean(&text);
    let list = "[global]\nlog = [\n  \"stderr\",\n  { address = \"192.0.2.9:514\", facility = \"local1\", level = \"notice\" },\n]";
    assert!(toml.contains(list), "{toml}");
    let nowhere = of(&sections(" log global", "").replace(" log 127.0.0.1 local0\n", ""));
    assert!(!nowhere.toml.contains("log"), "{}", nowhere.toml);
    assert!(nowhere.report.text().contains("global has no log"), "{}", nowhere.report.text());
    let bare = of(&sections(" log global", ""));
    assert!(
        bare.toml.contains("log-format = \"Connect from %ci:%cp to %fi:%fp (%f/HTTP)\""),
        "{}",
        bare.toml
    );
    assert!(bare.report.text().contains("option httplog or log-format says more"), "{}", bare.report.text());
    let wrong = of(&sections("", " log 192.0.2.9 local1 info err debug\n option httplog"));
    assert_eq!(wrong.report.exit_code(), 3, "{}", wrong.report.text());
    assert!(wrong.report.text().contains("and debug is none"), "{}", wrong.report.text());
}

#[test]
fn templates_resolvers_and_nameless_servers() {
    let imported = of(&format!(
        "resolvers dns\n nameserver a 192.0.2.53:53\n nameserver b 192.0.2.54:5353\n hold valid 10s\n{TIMEOUTS}listen a\n bind :80\n \
         server-template web 3 app.test:8080 check resolvers dns init-addr none resolve-prefer ipv4\n \
         server-template srv 2-4 _http._tcp.test resolve-opts allow-dup-ip,ignore-weight\nlisten b\n bind :81\n dispatch 192.0.2.1:81\n\
         listen c\n bind :82\n option transparent\n load-server-state-from-file none\n"
    ));
    assert_eq!(imported.report.exit_code(), 2, "{}", imported.report.text());
    let toml = clean_but_near(&imported);
    for line in [
        "nameserver = [\"192.0.2.53:53\", \"192.0.2.54:5353\"]",
        "server-template.web = { count = 3, address = \"app.test:8080\", check = true, resolve-prefer = \"ipv4\" }",
        "server-template.srv = { count = 3, first = 2, address = \"_http._tcp.test\", resolve-opts = [\"allow-dup-ip\", \"ignore-weight\"] }",
        "server.dispatch = { address = \"192.0.2.1:81\" }",
        "server.transparent = { address = \"0.0.0.0:0\" }",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    for (numbers, message) in [("x", "neither a count"), ("5-2", "no range")] {
        let report =
            of(&format!("{TIMEOUTS}listen a\n bind :80\n server-template w {numbers} a.test:1\n")).report;
        assert!(report.text().contains(message), "{}", report.text());
    }
}

/// The TOML of an import that is only approximate somewhere, and loads.
fn clean_but_near(imported: &Imported) -> &str {
    let (model, diagnostics) = crate::config::load("x.toml", &imported.toml, &env());
    assert!(model.is_some(), "{diagnostics:#?}\n{}", imported.toml);
    &imported.toml
}

#[test]
fn errors_have_pages_and_places() {
    let toml = clean(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n errorloc 503 /sorry\n errorfile 502 /a.http\n \
         errorloc303 502 /late\nlisten a\n bind :80\n http-error status 500 content-type text/plain string oh\n \
         http-error status 404 errorfile /404.http\n http-after-response set-header X-A b if { status 503 }\n declare capture request len 20\n \
         declare capture response len 9\n http-request capture req.hdr(x-a) id 0\n http-response capture res.hdr(x-a) id 0\n server s 192.0.2.1:80\n"
            .replace("/a.http", "/page.http")
            .as_str(),
    );
    for line in [
        "errorloc302.503 = \"/sorry\"",
        "errorloc303.502 = \"/late\"",
        "http-error = [\n  { status = 500, content-type = \"text/plain\", string = \"oh\" },\n]",
        "errorfile.404 = \"/404.http\"",
        "after-response-rules = [\n  { set-header = { name = \"X-A\", value = \"b\" }, if = \"{ status 503 }\" },\n]",
        "{ capture = { value = \"req.hdr(x-a)\", id = 0 } },",
        "{ capture = { value = \"res.hdr(x-a)\", id = 0 } },",
        "capture.request-header = [\n  { len = 20 },\n]",
        "capture.response-header = [\n  { len = 9 },\n]",
    ] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    assert!(!toml.contains("errorfile.502"), "the last of a status counts: {toml}");
}

#[test]
fn what_generators_write_for_tls_is_understood() {
    let imported = of(&format!(
        "global\n ssl-default-bind-curves X25519:prime256v1\n ssl-default-bind-options prefer-client-ciphers ssl-min-ver TLSv1.2 no-tls-tickets\n \
         ssl-default-server-curves X25519:prime256v1\n ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n \
         ssl-default-server-options ssl-min-ver TLSv1.2 no-tls-tickets\n ssl-dh-param-file /etc/dh\n ssl-server-verify none\n \
         tune.ssl.default-dh-param 2048\n{TIMEOUTS}listen a\n mode http\n bind :443 ssl crt a.pem\n server s 192.0.2.1:443 ssl\n \
         server t 192.0.2.2:443 ssl verify required ca-file /ca.pem\n"
    ));
    assert_eq!(imported.report.exit_code(), 0, "{}", imported.report.text());
    for (server, more) in [
        ("server.s = { address = \"192.0.2.1:443\"", "verify = \"none\" "),
        ("server.t = { address = \"192.0.2.2:443\"", "verify = \"required\", ca-file = [\"/ca.pem\"] "),
    ] {
        let line = imported.toml.lines().find(|line| line.starts_with(server)).unwrap_or_default();
        let rest = "tls = { curves = [\"X25519\", \"P-256\"], cipher-suites = [\"TLS_AES_128_GCM_SHA256\", ";
        assert!(line.contains(rest) && line.contains(more), "{more}\n{}", imported.toml);
    }
}

#[test]
fn passwords_stay_out_of_the_report() {
    let report = of("userlist u\n user a insecure-password hunter2\n").report;
    assert!(report.notes().all(|note| !note.directive.contains("hunter2")), "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever stands in the files: no panic, every message has a place, and what is written is TOML.
    #[test]
    fn nothing_panics(lines in prop::collection::vec(line(), 0..30)) {
        let text = lines.join("\n");
        let count = text.lines().count().max(1);
        let imported = of(&text);
        let (_, diagnostics) = crate::config::load("x.toml", &imported.toml, &env());
        for d in imported.diagnostics(&diagnostics) {
            prop_assert!(d.line <= count, "{d}");
            prop_assert!(!d.message.contains("TOML"), "{d}\n{}", imported.toml);
        }
        prop_assert!(crate::config::file::parse("x.toml", &imported.toml).0.is_some(), "{}", imported.toml);
    }
}

/// Lines of keywords with arguments that may or may not fit.
fn line() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> =
        [coverage::proxy(), coverage::global(), coverage::bind(), coverage::server()]
            .iter()
            .flat_map(|t| t.iter().map(|(k, ..)| *k))
            .collect();
    let other = prop::sample::select(vec![
        "global",
        "defaults",
        "frontend f",
        "backend b",
        "listen l :80",
        "userlist u",
        "user a password x",
        "http-errors e",
        ".if 1",
        ".else",
        ".endif",
        "if",
        "unless",
        "{ path_beg /a }",
        "!x",
        "name",
        "\"$A\"",
        "'a b",
        "a\\ b",
        "\\x41",
        "${X",
        "\"${X-1}\"",
        "%[src]",
        "192.0.2.1:80",
        "[::1]:80",
        ":80",
        "10s",
        "-1",
        "1",
        "#",
        "http-request",
        "deny",
        "return",
        "set-var(txn.a)",
        "expect",
        "!",
        "status",
        "\u{E000}",
        "é",
        "'''",
        "\t",
    ]);
    let word = prop_oneof![
        prop::sample::select(words).prop_map(str::to_owned),
        other.prop_map(str::to_owned),
        ".{0,6}"
    ];
    prop::collection::vec(word, 0..6).prop_map(|words| words.join(" "))
}

#[test]
fn the_page_about_compatibility_is_that_of_the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/HAPROXY_COMPATIBILITY.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, markdown()).expect("the page is writable");
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == markdown(), "run UPDATE_GOLDEN=1 cargo test import");
}
