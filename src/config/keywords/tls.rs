//! The rows of TLS.

use super::Kind::*;
use super::{Keyword, KeywordMode, Scope, Scopes};

const BIND_TLS: Scopes = Scopes::of(&[Scope::BindTls]);

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
    "min-version" in BIND_TLS, OneOf(&["TLSv1.2", "TLSv1.3"]), default "\"TLSv1.2\"", haproxy "ssl-min-ver";
    "Lowest version of TLS.";
    "certificates = \"site.pem\"\nmin-version = \"TLSv1.3\""
    "max-version" in BIND_TLS, OneOf(&["TLSv1.2", "TLSv1.3"]), default "\"TLSv1.3\"", haproxy "ssl-max-ver";
    "Highest version of TLS.";
    "certificates = \"site.pem\"\nmax-version = \"TLSv1.2\""
    "cipher-suites" in BIND_TLS, Texts, default "all of TLS 1.3 and those of TLS 1.2 with forward secrecy and authenticated encryption", haproxy "ciphers, ciphersuites";
    "Cipher suites by OpenSSL's names, best first.";
    "certificates = \"site.pem\"\ncipher-suites = [\"TLS_AES_128_GCM_SHA256\", \"ECDHE-ECDSA-AES128-GCM-SHA256\"]"
    "curves" in BIND_TLS, Texts, default "`[\"X25519MLKEM768\", \"X25519\", \"P-256\", \"P-384\"]`", haproxy "curves";
    "Groups of the key exchange, best first.";
    "certificates = \"site.pem\"\ncurves = [\"X25519\", \"P-256\"]"
}
