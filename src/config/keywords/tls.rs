//! The rows of TLS.

use super::Kind::*;
use super::{Keyword, KeywordMode, Scope, Scopes};

const BIND_TLS: Scopes = Scopes::of(&[Scope::BindTls]);
const BOTH_TLS: Scopes = Scopes::of(&[Scope::BindTls, Scope::ServerTls]);
const SERVER_TLS: Scopes = Scopes::of(&[Scope::ServerTls]);
const SERVER: Scopes = Scopes::of(&[Scope::Server, Scope::DefaultServer]);

keywords! {
    /// Keywords of TLS.
    KEYWORDS, mode Any;

    "certificates" in BIND_TLS, Texts, default "", haproxy "crt";
    "Files and directories in PEM form. A file holds a certificate, its chain and its key in any order; the key may also stand beside it in a file with `.key` appended or in place of the extension. Of a directory every file is taken but `.key`, `.ocsp`, `.issuer` and hidden ones. Clients get the certificate of the name they ask for, and of several types for one name (RSA, ECDSA, Ed25519) the best that they can check; the first of all serves names that there is none for. Relative paths are relative to the directory of the configuration file.";
    "certificates = [\"site.pem\", \"/etc/shardgate/certs\"]"
    "strict-sni" in BIND_TLS, Flag, default "false", haproxy "strict-sni";
    "Refuse clients that ask for a name without a certificate, or for none.";
    "certificates = \"site.pem\"\nstrict-sni = true"
    "alpn" in BIND_TLS, Texts, default "`[\"h2\", \"http/1.1\"]` in HTTP mode, none in TCP mode", haproxy "alpn";
    "Protocols that are offered, best first.";
    "certificates = \"site.pem\"\nalpn = [\"http/1.1\"]"
    "min-version" in BOTH_TLS, OneOf(&["TLSv1.2", "TLSv1.3"]), default "\"TLSv1.2\"", haproxy "ssl-min-ver";
    "Lowest version of TLS.";
    "min-version = \"TLSv1.3\""
    "max-version" in BOTH_TLS, OneOf(&["TLSv1.2", "TLSv1.3"]), default "\"TLSv1.3\"", haproxy "ssl-max-ver";
    "Highest version of TLS.";
    "max-version = \"TLSv1.2\""
    "cipher-suites" in BOTH_TLS, Texts, default "all of TLS 1.3 and those of TLS 1.2 with forward secrecy and authenticated encryption", haproxy "ciphers, ciphersuites";
    "Cipher suites by OpenSSL's names, best first.";
    "cipher-suites = [\"TLS_AES_128_GCM_SHA256\", \"ECDHE-ECDSA-AES128-GCM-SHA256\"]"
    "curves" in BOTH_TLS, Texts, default "`[\"X25519MLKEM768\", \"X25519\", \"P-256\", \"P-384\"]`", haproxy "curves";
    "Groups of the key exchange, best first.";
    "curves = [\"X25519\", \"P-256\"]"
    "verify" in BIND_TLS, OneOf(&["none", "optional", "required"]), default "\"none\"", haproxy "verify";
    "Whether clients are asked for a certificate: not at all, they may have none, or without one there is no connection. One that is shown and not signed by an authority of `ca-file`, expired, made for another use or revoked ends the handshake.";
    "certificates = \"site.pem\"\nverify = \"optional\"\nca-file = \"clients.pem\""
    "ca-file" in BIND_TLS, Texts, default "", haproxy "ca-file";
    "Authorities that sign certificates of clients: PEM files, or directories of them.";
    "certificates = \"site.pem\"\nverify = \"required\"\nca-file = \"clients.pem\""
    "crl-file" in BIND_TLS, Texts, default "revocation is not looked at", haproxy "crl-file";
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
    "The name that the server is asked for. Its certificate must have it unless `verifyhost` says another.";
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
}
