//! The rows of TLS in the table of sample fetches.

use crate::config::expr::ExprError;
use crate::config::expr::args::Args;
use crate::config::expr::fetches::Needs::Connection;
use crate::config::expr::fetches::{FetchInfo, plain};
use crate::policy::sample::Kind::{Bin, Bool, Int, Str};
use crate::policy::sample::{DnPart, Fetch, TlsFetch as T};

type Built = Result<Fetch, ExprError>;

fn dn(args: &mut Args<'_, '_>) -> Result<DnPart, ExprError> {
    let entry = args.optional_string()?;
    let occurrence = args.optional_int("which value")?;
    let format = args.optional_string()?;
    if !matches!(occurrence, None | Some(0 | 1)) {
        return Err(args.error("only the first value of an attribute is read: write 1 or leave it out"));
    }
    match (entry, format.as_deref()) {
        (None, None) => Ok(DnPart::Whole),
        (None, Some(format)) if format.eq_ignore_ascii_case("rfc2253") => Ok(DnPart::Rfc2253),
        (Some(entry), None) => Ok(DnPart::Attribute(entry.into())),
        _ => Err(args.error("the format is rfc2253, and stands without an attribute: (,0,rfc2253)")),
    }
}

fn is_iso(args: &mut Args<'_, '_>) -> Result<bool, ExprError> {
    match args.optional_string()?.as_deref() {
        None => Ok(false),
        Some("iso") => Ok(true),
        Some(_) => Err(args.error("the only format is iso")),
    }
}

/// The same of the certificate that the client was shown.
fn shown(fetch: T) -> Built {
    Ok(Fetch::Tls(T::Shown(Box::new(fetch))))
}

const DN: &str = "[ATTRIBUTE[,1]] or ,0,rfc2253";

/// TLS.
pub(super) const TLS_FETCHES: &[FetchInfo] = &[
    plain("ssl_fc_protocol", Str, Connection, "Version of TLS with the client: TLSv1.2 or TLSv1.3.", |_| Ok(Fetch::Tls(T::Protocol))),
    plain("ssl_fc_cipher", Str, Connection, "Cipher suite with the client, by OpenSSL's name.", |_| Ok(Fetch::Tls(T::Cipher))),
    plain("ssl_fc_curve", Str, Connection, "Group of the key exchange with the client.", |_| Ok(Fetch::Tls(T::Curve))),
    plain("ssl_fc_sni", Str, Connection, "Host name that the client asked for in its TLS handshake.", |_| Ok(Fetch::Tls(T::Sni))).derived(),
    plain("ssl_fc_alpn", Str, Connection, "Protocol that ALPN chose with the client.", |_| Ok(Fetch::Tls(T::Alpn))),
    plain("ssl_fc_is_resumed", Bool, Connection, "Whether the client resumed a TLS session.", |_| Ok(Fetch::Tls(T::IsResumed))),
    plain("ssl_fc_has_early", Bool, Connection, "Whether the request came before the end of the TLS handshake, which may not be over yet: it may be the replay of an older one.", |_| Ok(Fetch::Tls(T::HasEarly))),
    plain("ssl_fc_has_crt", Bool, Connection, "Whether the client showed a certificate.", |_| Ok(Fetch::Tls(T::HasCertificate))),
    plain("ssl_c_used", Bool, Connection, "Whether the client showed a certificate.", |_| Ok(Fetch::Tls(T::HasCertificate))),
    plain("ssl_c_verify", Int, Connection, "0: what the client showed was verified, or it showed nothing. With `crt-ignore-err` and `ca-ignore-err` what is wrong with it, by OpenSSL's number; of several the gravest.", |_| Ok(Fetch::Tls(T::Verify))),
    plain("ssl_c_err", Int, Connection, "What is wrong with the client's own certificate, as `ssl_c_verify` says it.", |_| Ok(Fetch::Tls(T::OwnError))),
    plain("ssl_c_ca_err", Int, Connection, "What is wrong with the certificates above the client's (see `ca-ignore-err`).", |_| Ok(Fetch::Tls(T::AuthorityError))),
    plain("ssl_c_ca_err_depth", Int, Connection, "Which of those has what `ssl_c_ca_err` says: 1 is the one that signed the client's, 0: none.", |_| Ok(Fetch::Tls(T::AuthorityErrorDepth))),
    plain("ssl_fc_err", Int, Connection, "0: a connection that carries requests has no error. See `fc_err` for handshakes that failed.", |_| Ok(Fetch::Tls(T::NoError))),
    plain("ssl_c_s_dn", Str, Connection, "Subject of the client's certificate, as `/C=FR/CN=name`; with an attribute, as (cn), its value alone; with (,0,rfc2253) as `CN=name,C=FR`.", |a| -> Built { Ok(Fetch::Tls(T::Subject(dn(a)?))) }).args(DN),
    plain("ssl_c_i_dn", Str, Connection, "Issuer of the client's certificate; see `ssl_c_s_dn`.", |a| -> Built { Ok(Fetch::Tls(T::Issuer(dn(a)?))) }).args(DN),
    plain("ssl_c_notbefore", Str, Connection, "Since when the client's certificate is valid, as YYMMDDhhmmssZ; with (iso) as YYYY-MM-DDThh:mm:ssZ.", |a| -> Built { Ok(Fetch::Tls(T::NotBefore(is_iso(a)?))) }).args("[iso]"),
    plain("ssl_c_notafter", Str, Connection, "Until when the client's certificate is valid; see `ssl_c_notbefore`.", |a| -> Built { Ok(Fetch::Tls(T::NotAfter(is_iso(a)?))) }).args("[iso]"),
    plain("ssl_c_serial", Bin, Connection, "Serial number of the client's certificate.", |_| Ok(Fetch::Tls(T::Serial))),
    plain("ssl_c_version", Int, Connection, "Version of the client's certificate.", |_| Ok(Fetch::Tls(T::Version))),
    plain("ssl_c_sig_alg", Str, Connection, "How the client's certificate is signed.", |_| Ok(Fetch::Tls(T::SignatureAlgorithm))),
    plain("ssl_c_key_alg", Str, Connection, "Type of the key of the client's certificate.", |_| Ok(Fetch::Tls(T::KeyAlgorithm))),
    plain("ssl_c_der", Bin, Connection, "The client's certificate.", |_| Ok(Fetch::Tls(T::Der))),
    plain("ssl_c_chain_der", Bin, Connection, "All certificates that the client sent.", |_| Ok(Fetch::Tls(T::ChainDer))),
    plain("ssl_c_sha1", Bin, Connection, "SHA-1 of the client's certificate.", |_| Ok(Fetch::Tls(T::Sha1))),
    plain("ssl_c_sha256", Bin, Connection, "SHA-256 of the client's certificate.", |_| Ok(Fetch::Tls(T::Sha256))),
    plain("ssl_f_s_dn", Str, Connection, "Subject of the certificate that the client was shown; see `ssl_c_s_dn`.", |a| shown(T::Subject(dn(a)?))).args(DN),
    plain("ssl_f_i_dn", Str, Connection, "Issuer of the certificate that the client was shown; see `ssl_c_s_dn`.", |a| shown(T::Issuer(dn(a)?))).args(DN),
    plain("ssl_f_notbefore", Str, Connection, "Since when the certificate that the client was shown is valid; see `ssl_c_notbefore`.", |a| shown(T::NotBefore(is_iso(a)?))).args("[iso]"),
    plain("ssl_f_notafter", Str, Connection, "Until when the certificate that the client was shown is valid; see `ssl_c_notbefore`.", |a| shown(T::NotAfter(is_iso(a)?))).args("[iso]"),
    plain("ssl_f_serial", Bin, Connection, "Serial number of the certificate that the client was shown.", |_| shown(T::Serial)),
    plain("ssl_f_version", Int, Connection, "Version of the certificate that the client was shown.", |_| shown(T::Version)),
    plain("ssl_f_sig_alg", Str, Connection, "How the certificate that the client was shown is signed.", |_| shown(T::SignatureAlgorithm)),
    plain("ssl_f_key_alg", Str, Connection, "Type of the key of the certificate that the client was shown.", |_| shown(T::KeyAlgorithm)),
    plain("ssl_f_der", Bin, Connection, "The certificate that the client was shown.", |_| shown(T::Der)),
    plain("ssl_f_sha1", Bin, Connection, "SHA-1 of the certificate that the client was shown.", |_| shown(T::Sha1)),
];
