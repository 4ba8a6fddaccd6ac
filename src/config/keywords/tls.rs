//! The rows of TLS.

use super::Kind::*;
use super::{Keyword, KeywordMode, Scope, Scopes};

const GLOBAL: Scopes = Scopes::of(&[Scope::Global]);
const BIND_TLS: Scopes = Scopes::of(&[Scope::BindTls]);
const BIND_NAMES: Scopes = Scopes::of(&[Scope::BindTls, Scope::BindCertificate]);
const BIND_CERTIFICATE: Scopes = Scopes::of(&[Scope::BindCertificate]);
const BOTH_TLS: Scopes = Scopes::of(&[Scope::BindTls, Scope::BindCertificate, Scope::ServerTls]);
const SERVER_TLS: Scopes = Scopes::of(&[Scope::ServerTls]);
const SERVER: Scopes = Scopes::of(&[Scope::Server, Scope::ServerTemplate, Scope::DefaultServer]);

keywords! {
    /// Keywords of TLS.
    KEYWORDS, mode Any;

    "maxsslconn" in GLOBAL, Integer(0, u32::MAX as i64), default "no limit but `maxconn`", haproxy "maxsslconn";
    "TLS connections of clients over all cores. Beyond it new connections to TLS binds wait in the accept queues of the kernel.";
    "maxsslconn = 10000"
    "maxsslrate" in GLOBAL, Integer(0, u32::MAX as i64), default "no limit", haproxy "maxsslrate";
    "New TLS connections of clients in each second over all cores: handshakes cost more CPU time than anything else. Those beyond it wait in the accept queues of the kernel for the next second.";
    "maxsslrate = 5000"

    "certificates" in BIND_TLS, TextsOrTables(Scope::BindCertificate), default "", haproxy "crt, crt-list";
    "Files and directories in PEM form. A file holds a certificate, its chain and its key in any order; the key may also stand beside it in a file with `.key` appended or in place of the extension. Of a directory every file is taken but `.key`, `.ocsp`, `.issuer` and hidden ones. Clients get the certificate of the name they ask for, and of several types for one name (RSA, ECDSA, Ed25519) the best that they can check; the first of all serves names that there is none for. Relative paths are relative to the directory of the configuration file.";
    "certificates = [\"site.pem\", \"/etc/shardgate/certs\"]"
    "certificate" in BIND_CERTIFICATE, Text, default "", haproxy "crt";
    "The file or directory, as an entry that is a string would have it.";
    "certificate = \"site.pem\""
    "key" in BIND_CERTIFICATE, Text, default "in the file, or beside it", haproxy "";
    "The file with its private key, where that stands neither in the file of the certificate nor beside it.";
    "certificate = \"site.pem\"\nkey = \"/etc/ssl/private/site.key\""
    "ocsp" in BIND_CERTIFICATE, Text, default "beside it, as `.ocsp`", haproxy "";
    "The file with the OCSP response that is stapled.";
    "certificate = \"site.pem\"\nocsp = \"/var/lib/ocsp/site.der\""
    "list" in BIND_CERTIFICATE, Text, default "its path", haproxy "";
    "The name of the list that `show ssl crt-list`, `add ssl crt-list` and `del ssl crt-list` find it in. Entries that come from a crt-list of HAProxy have the path of that file here.";
    "certificate = \"site.pem\"\nlist = \"/etc/haproxy/sites.list\""
    "names" in BIND_CERTIFICATE, Texts, default "the names in the certificate", haproxy "crt-list";
    "Names that it is shown for; `*` stands for one label. `*` alone makes it what is shown where nothing else is, instead of the first of all. With `!` in front: names that it is not shown for although a wildcard covers them.";
    "names = [\"site.test\", \"*.site.test\", \"!old.site.test\"]"
    "strict-sni" in BIND_TLS, Flag, default "false", haproxy "strict-sni";
    "Refuse clients that ask for a name without a certificate, or for none.";
    "certificates = \"site.pem\"\nstrict-sni = true"
    "tls-ticket-keys" in BIND_TLS, Text, default "made at the start, another one every six hours", haproxy "tls-ticket-keys";
    "A file with keys of session tickets, so that machines that share it continue each other's sessions: 48 or 80 random bytes in base64 a line (`openssl rand -base64 80`), of which the last three count. New tickets are sealed with the last but one. It is read again by a reload: add a line on every machine, reload, and let a reload with the next line make it the one that seals.";
    "certificates = \"site.pem\"\ntls-ticket-keys = \"tickets.keys\""
    "no-tls-tickets" in BIND_TLS, Flag, default "false", haproxy "no-tls-tickets";
    "Give no session tickets: clients resume sessions of `session-cache` alone.";
    "certificates = \"site.pem\"\nno-tls-tickets = true"
    "session-cache" in BIND_TLS, Integer(0, 10_000_000), default "256", haproxy "tune.ssl.cachesize";
    "Sessions that each core keeps for clients that resume by number instead of by ticket; about 1 kB each. 0: none.";
    "certificates = \"site.pem\"\nsession-cache = 20000"
    "ocsp-update" in BIND_TLS, Flag, default "false", haproxy "ocsp-update";
    "Fetch the OCSP response of each certificate from the responder of its authority and staple it, once an hour at the latest and before it ends. The file must hold the issuer's certificate behind the own one. A response that stands beside the certificate (`.ocsp`) is stapled until a fresh one is here; one that is not signed by the issuer, or says that the certificate is revoked, is not stapled but told in the log.";
    "certificates = \"site.pem\"\nocsp-update = true"
    "tls-keylog" in BIND_TLS, Text, default "none", haproxy "tune.ssl.keylog";
    "A file to which the secrets of all connections of this bind are appended, in the format of SSLKEYLOGFILE, so that Wireshark and the like can decrypt a capture. For debugging alone.";
    "certificates = \"site.pem\"\ntls-keylog = \"secrets.log\""
    "alpn" in BIND_NAMES, Texts, default "`[\"h2\", \"http/1.1\"]` in HTTP mode, none in TCP mode", haproxy "alpn";
    "Protocols that are offered, best first.";
    "certificates = \"site.pem\"\nalpn = [\"http/1.1\"]"
    "min-version" in BOTH_TLS, OneOf(&["TLSv1.2", "TLSv1.3"]), default "\"TLSv1.2\"", haproxy "ssl-min-ver";
    "Lowest version of TLS.";
    "min-version = \"TLSv1.3\""
    "max-version" in BOTH_TLS, OneOf(&["TLSv1.2", "TLSv1.3"]), default "\"TLSv1.3\"", haproxy "ssl-max-ver";
    "Highest version of TLS.";
    "max-version = \"TLSv1.2\""
    "cipher-policy" in BOTH_TLS, OneOf(&["modern", "intermediate", "modern-2026", "intermediate-2026"]), default "\"intermediate\"", haproxy "";
    "Versions and suites by the name of a policy. `modern`: TLS 1.3 alone. `intermediate`: TLS 1.2 too, with forward secrecy and authenticated encryption. A name with a year stays what it was in that year; without one it is the newest.";
    "cipher-policy = \"modern\""
    "cipher-suites" in BOTH_TLS, Texts, default "all of TLS 1.3 and those of TLS 1.2 with forward secrecy and authenticated encryption", haproxy "ciphers, ciphersuites";
    "Cipher suites by OpenSSL's names, best first.";
    "cipher-suites = [\"TLS_AES_128_GCM_SHA256\", \"ECDHE-ECDSA-AES128-GCM-SHA256\"]"
    "curves" in BOTH_TLS, Texts, default "`[\"X25519MLKEM768\", \"X25519\", \"P-256\", \"P-384\"]`", haproxy "curves";
    "Groups of the key exchange, best first.";
    "curves = [\"X25519\", \"P-256\"]"
    "verify" in BIND_NAMES, OneOf(&["none", "optional", "required"]), default "\"none\"", haproxy "verify";
    "Whether clients are asked for a certificate: not at all, they may have none, or without one there is no connection. One that is shown and not signed by an authority of `ca-file`, expired, made for another use or revoked ends the handshake.";
    "certificates = \"site.pem\"\nverify = \"optional\"\nca-file = \"clients.pem\""
    "ca-file" in BIND_NAMES, Texts, default "", haproxy "ca-file";
    "Authorities that sign certificates of clients: PEM files, or directories of them.";
    "certificates = \"site.pem\"\nverify = \"required\"\nca-file = \"clients.pem\""
    "ca-verify-file" in BIND_NAMES, Texts, default "", haproxy "ca-verify-file";
    "Authorities that sign certificates of clients as those of `ca-file` do, but that clients are not told of: the list that they get stays short.";
    "certificates = \"site.pem\"\nverify = \"required\"\nca-file = \"root.pem\"\nca-verify-file = \"intermediates.pem\""
    "crt-ignore-err" in BIND_NAMES, SomeOf(&["all", "expired", "not-yet-valid", "revoked", "unknown-issuer"]), default "[]", haproxy "crt-ignore-err";
    "Let clients through although this is wrong with their certificate itself (for those above it there is `ca-ignore-err`); rules read what it is from `ssl_c_verify`, by OpenSSL's numbers: 7 not signed by the authority that it names, 9 not yet valid, 10 expired, 18 signed by itself, 19 signed by an authority that is not known, 20 unknown issuer, 23 revoked. With `unknown-issuer` anybody can put anything into a certificate: nothing in it means anything unless `ssl_c_verify` is 0.";
    "certificates = \"site.pem\"\nverify = \"optional\"\nca-file = \"clients.pem\"\ncrt-ignore-err = [\"expired\"]"
    "ca-ignore-err" in BIND_NAMES, SomeOf(&["all", "expired", "not-yet-valid", "revoked", "unknown-issuer"]), default "[]", haproxy "ca-ignore-err";
    "The same for the certificates above it in the chain that the client sends; an unknown issuer of theirs is one of these. Rules read it from `ssl_c_ca_err`, and from `ssl_c_ca_err_depth` how far above the client's it stands, 1 being its issuer.";
    "certificates = \"site.pem\"\nverify = \"optional\"\nca-file = \"clients.pem\"\nca-ignore-err = [\"expired\"]"
    "crl-file" in BIND_NAMES, Texts, default "revocation is not looked at", haproxy "crl-file";
    "Lists of revoked certificates (CRL) in PEM form. With one, a certificate whose authority has no list here counts as good.";
    "certificates = \"site.pem\"\nverify = \"required\"\nca-file = \"clients.pem\"\ncrl-file = \"revoked.pem\""

    "tls" in SERVER, FlagOrTable(Scope::ServerTls), default "false", haproxy "ssl";
    "Speak TLS with the server (see [tls](#tls)); true: with the certificates that the system trusts.";
    "tls = { sni = \"app.internal\", ca-file = \"internal-ca.pem\" }"
    "verify" in SERVER_TLS, OneOf(&["none", "required"]), default "\"required\"", haproxy "verify";
    "Whether the server's certificate is verified. Without it whoever answers is believed.";
    "verify = \"none\""
    "ca-file" in SERVER_TLS, Texts, default "the authorities that the system trusts", haproxy "ca-file";
    "Authorities that sign the server's certificate: PEM files, or directories of them.";
    "ca-file = \"internal-ca.pem\""
    "sni" in SERVER_TLS, Text, default "the server's host name, if it has one", haproxy "sni";
    "The name that the server is asked for: a name, or an expression such as `ssl_fc_sni` or `var(txn.sni)` that says it for each connection (in HTTP mode one that needs no request: keep what it is made of with `set-var`). The certificate must have it unless `verifyhost` says another. Connections whose name an expression says serve one client alone. Where it says nothing the server is asked for its own host name.";
    "sni = \"app.internal\""
    "verifyhost" in SERVER_TLS, Text, default "`sni`, then the server's address", haproxy "verifyhost";
    "The name, or IP address, that the server's certificate must have.";
    "verifyhost = \"app.internal\""
    "certificate" in SERVER_TLS, Text, default "none", haproxy "crt";
    "A PEM file with the certificate and the key that are shown to the server.";
    "certificate = \"client.pem\""
    "alpn" in SERVER_TLS, Texts, default "what `proto` says in HTTP mode, none in TCP mode", haproxy "alpn";
    "Protocols that are offered to the server.";
    "alpn = [\"http/1.1\"]"
    "no-ssl-reuse" in SERVER_TLS, Flag, default "false", haproxy "no-ssl-reuse";
    "Begin every connection with a full handshake instead of resuming a session of the server. Each core remembers sessions of each server by itself.";
    "no-ssl-reuse = true"
}

keywords! {
    /// Keywords of TLS in HTTP mode.
    HTTP_KEYWORDS, mode Http;

    "allow-0rtt" in BIND_TLS, Flag, default "false", haproxy "allow-0rtt";
    "Answer requests that come with the first bytes of a resumed TLS 1.3 connection, a round trip earlier. Whoever saw them on the wire could send them again: each session is good for one connection to this process, what goes to servers says `Early-Data: 1` until the client has finished its handshake, so that they may answer 425 (RFC 8470), and requests that could change something (any method but GET, HEAD, OPTIONS and TRACE, and upgrades) get 425 here, upon which clients ask again. Sessions of such a bind are kept in memory instead of in tickets, 20000 for the process. Not where clients are asked for certificates.";
    "certificates = \"site.pem\"\nallow-0rtt = true"
}
