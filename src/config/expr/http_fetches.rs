//! The rows of HTTP in the table of sample fetches; see `fetches`.

use crate::config::expr::ExprError;
use crate::config::expr::args::Args;
use crate::config::expr::fetches::Needs::{Nothing, Request, Response};
use crate::config::expr::fetches::{FetchInfo, plain};
use crate::policy::sample::Kind::{Bin, Bool, Int, Ip, Str};
use crate::policy::sample::{
    Fetch, HEADER_OCCURRENCES_BACK_MAX, HeaderFetch, HeaderName, HttpFetch, ReadAs, Side,
};

/// All of them: the line of the request, its headers, its body, credentials, the response.
pub(super) const HTTP_FETCHES: &[FetchInfo] = &[
    plain("method", Str, Request, "The method.", |_| http(HttpFetch::Method)),
    plain("path", Str, Request, "The path, up to the question mark.", |_| http(HttpFetch::Path)).derived(),
    plain("pathq", Str, Request, "The path with the query.", |_| http(HttpFetch::PathQuery)),
    plain("query", Str, Request, "What follows the question mark; nothing without one.", |_| {
        http(HttpFetch::Query)
    }),
    plain("url", Str, Request, "The request target as received.", |_| http(HttpFetch::Url)).derived(),
    plain("url_ip", Ip, Request, "The address in an absolute request target.", |_| http(HttpFetch::UrlIp)),
    plain("url_port", Int, Request, "The port of an absolute request target.", |_| http(HttpFetch::UrlPort)),
    plain("base", Str, Request, "Host header and path.", |_| http(HttpFetch::Base { query: false })).derived(),
    plain("baseq", Str, Request, "Host header and path with the query.", |_| http(HttpFetch::Base { query: true })),
    plain("base32", Int, Request, "A hash of base: base,sdbm(1).", |_| http(HttpFetch::Hash32 { query: false })),
    plain("url32", Int, Request, "A hash of baseq.", |_| http(HttpFetch::Hash32 { query: true })),
    plain("url_param", Str, Request, "A parameter of the query, or any; the query begins after DELIMITER (?).", |a| {
        url_param(a, ReadAs::Text)
    })
    .args("[NAME[,DELIMITER]]")
    .aliases(&["urlp"])
    .derived(),
    plain("urlp_val", Int, Request, "The same as an integer.", |a| url_param(a, ReadAs::Int))
        .args("[NAME[,DELIMITER]]"),
    plain("req.ver", Str, Request, "The version: 1.0, 1.1 or 2.0.", |_| http(HttpFetch::Version(Side::Request)))
        .aliases(&["req_ver"]),
    plain("http_first_req", Bool, Request, "Whether the request is the first of its connection.", |_| {
        http(HttpFetch::FirstRequest)
    }),
    // Headers of the request.
    plain(
        "req.hdr",
        Str,
        Request,
        "A header's value, split at commas: all for conditions, else the last; OCCURRENCE counts from 1 or, from the end, from -1.",
        |a| header(a, Side::Request, false, ReadAs::Text),
    )
    .args("[NAME[,OCCURRENCE]]")
    .aliases(&["hdr"])
    .derived(),
    plain("req.fhdr", Str, Request, "The same with whole lines, not split.", |a| {
        header(a, Side::Request, true, ReadAs::Text)
    })
    .args("[NAME[,OCCURRENCE]]")
    .aliases(&["fhdr"]),
    plain("req.hdr_ip", Ip, Request, "A header's value as an address; a port is dropped.", |a| {
        header(a, Side::Request, false, ReadAs::Ip)
    })
    .args("[NAME[,OCCURRENCE]]")
    .aliases(&["hdr_ip"]),
    plain("req.hdr_val", Int, Request, "A header's value as an integer.", |a| {
        header(a, Side::Request, false, ReadAs::Int)
    })
    .args("[NAME[,OCCURRENCE]]")
    .aliases(&["hdr_val"]),
    plain("req.hdr_cnt", Int, Request, "How many values a header has.", |a| header_count(a, Side::Request, false))
        .args("[NAME]")
        .aliases(&["hdr_cnt"]),
    plain("req.fhdr_cnt", Int, Request, "How many lines a header has.", |a| header_count(a, Side::Request, true))
        .args("[NAME]")
        .aliases(&["fhdr_cnt"]),
    plain("req.hdr_names", Str, Request, "The names of all headers in lower case, with DELIMITER (a comma) between them.", |a| {
        header_names(a, Side::Request)
    })
    .args("[DELIMITER]"),
    plain("req.hdrs", Str, Request, "All header lines and the empty line.", |_| http(HttpFetch::Headers(Side::Request))),
    plain("req.cook", Str, Request, "A cookie: all of a name for conditions, else the last.", |a| {
        cookie(a, Side::Request, ReadAs::Text)
    })
    .args("[NAME]")
    .aliases(&["cook"])
    .derived(),
    plain("req.cook_val", Int, Request, "A cookie as an integer.", |a| cookie(a, Side::Request, ReadAs::Int))
        .args("[NAME]")
        .aliases(&["cook_val"]),
    plain("req.cook_cnt", Int, Request, "How many cookies of a name there are.", |a| {
        http(HttpFetch::CookieCount(Side::Request, name(a)))
    })
    .args("[NAME]")
    .aliases(&["cook_cnt"]),
    // The body.
    plain("req.body", Bin, Request, "What is here of the body; see wait-for-body.", |_| http(HttpFetch::Body)),
    plain("req.body_len", Int, Request, "Bytes of it.", |_| http(HttpFetch::BodyLength)),
    plain("req.body_size", Int, Request, "Bytes that Content-Length announces, or those here.", |_| {
        http(HttpFetch::BodySize)
    }),
    plain("req.body_param", Str, Request, "A parameter of a body that is a form, or any.", |a| {
        http(HttpFetch::BodyParam(name(a)))
    })
    .args("[NAME]"),
    // Credentials.
    plain("http_auth", Bool, Request, "Whether the credentials are those of a user of the list.", |a| {
        http(HttpFetch::Auth(a.userlist()?))
    })
    .args("USERLIST"),
    plain("http_auth_group", Str, Request, "The groups of that user; conditions see each of them.", |a| {
        http(HttpFetch::AuthGroup(a.userlist()?))
    })
    .args("USERLIST"),
    plain("http_auth_type", Str, Request, "The scheme of the Authorization header.", |_| http(HttpFetch::AuthType)),
    plain("http_auth_user", Str, Request, "The user of Basic credentials, not verified.", |_| http(HttpFetch::AuthUser)),
    plain("http_auth_pass", Str, Request, "The password of Basic credentials, not verified.", |_| {
        http(HttpFetch::AuthPass)
    }),
    plain("http_auth_bearer", Str, Request, "The token of Bearer credentials, not verified.", |a| {
        let header = a.header_name()?.unwrap_or_else(|| HeaderName::new(b"authorization"));
        http(HttpFetch::AuthBearer(header))
    })
    .args("[HEADER]"),
    // The response.
    plain("status", Int, Response, "The status code.", |_| http(HttpFetch::Status)),
    plain("txn.status", Int, Nothing, "The status that the client gets or got: known once there is a response.", |_| {
        http(HttpFetch::Status)
    }),
    plain("res.ver", Str, Response, "The version.", |_| http(HttpFetch::Version(Side::Response)))
        .aliases(&["resp_ver"]),
    plain("res.hdr", Str, Response, "As req.hdr, of the response.", |a| {
        header(a, Side::Response, false, ReadAs::Text)
    })
    .args("[NAME[,OCCURRENCE]]")
    .aliases(&["shdr"])
    .derived(),
    plain("res.fhdr", Str, Response, "As req.fhdr, of the response.", |a| {
        header(a, Side::Response, true, ReadAs::Text)
    })
    .args("[NAME[,OCCURRENCE]]"),
    plain("res.hdr_ip", Ip, Response, "As req.hdr_ip, of the response.", |a| {
        header(a, Side::Response, false, ReadAs::Ip)
    })
    .args("[NAME[,OCCURRENCE]]")
    .aliases(&["shdr_ip"]),
    plain("res.hdr_val", Int, Response, "As req.hdr_val, of the response.", |a| {
        header(a, Side::Response, false, ReadAs::Int)
    })
    .args("[NAME[,OCCURRENCE]]")
    .aliases(&["shdr_val"]),
    plain("res.hdr_cnt", Int, Response, "As req.hdr_cnt, of the response.", |a| {
        header_count(a, Side::Response, false)
    })
    .args("[NAME]")
    .aliases(&["shdr_cnt"]),
    plain("res.fhdr_cnt", Int, Response, "As req.fhdr_cnt, of the response.", |a| {
        header_count(a, Side::Response, true)
    })
    .args("[NAME]"),
    plain("res.hdr_names", Str, Response, "As req.hdr_names, of the response.", |a| header_names(a, Side::Response))
        .args("[DELIMITER]"),
    plain("res.hdrs", Str, Response, "As req.hdrs, of the response.", |_| http(HttpFetch::Headers(Side::Response))),
    plain("res.cook", Str, Response, "A cookie that the response sets.", |a| cookie(a, Side::Response, ReadAs::Text))
        .args("[NAME]")
        .aliases(&["scook"])
        .derived(),
    plain("res.cook_val", Int, Response, "The same as an integer.", |a| cookie(a, Side::Response, ReadAs::Int))
        .args("[NAME]")
        .aliases(&["scook_val"]),
    plain("res.cook_cnt", Int, Response, "How many cookies of a name the response sets.", |a| {
        http(HttpFetch::CookieCount(Side::Response, name(a)))
    })
    .args("[NAME]")
    .aliases(&["scook_cnt"]),
];

fn http(fetch: HttpFetch) -> Result<Fetch, ExprError> {
    Ok(Fetch::Http(fetch))
}

/// A name that may be left out.
fn name(a: &mut Args<'_, '_>) -> Option<Box<[u8]>> {
    a.bytes().filter(|name| !name.is_empty())
}

fn url_param(a: &mut Args<'_, '_>, read: ReadAs) -> Result<Fetch, ExprError> {
    let name = name(a);
    let delimiter = match a.bytes().as_deref() {
        None | Some([]) => b'?',
        Some([one]) => *one,
        Some(_) => return Err(a.error("the delimiter is one character")),
    };
    http(HttpFetch::UrlParam(name, delimiter, read))
}

fn header(a: &mut Args<'_, '_>, side: Side, lines: bool, read: ReadAs) -> Result<Fetch, ExprError> {
    let name = a.header_name()?;
    let occurrence = match a.optional_int("the occurrence")? {
        None => None,
        Some(n) => {
            let back = n.checked_neg().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            let n = i32::try_from(n).ok().filter(|_| back <= HEADER_OCCURRENCES_BACK_MAX);
            Some(n.ok_or_else(|| {
                a.error(format!("the occurrence is at least -{HEADER_OCCURRENCES_BACK_MAX} and below 2^31"))
            })?)
        }
    };
    http(HttpFetch::Header(HeaderFetch { side, name, lines, occurrence, read }))
}

fn header_count(a: &mut Args<'_, '_>, side: Side, lines: bool) -> Result<Fetch, ExprError> {
    let name = a.header_name()?;
    http(HttpFetch::HeaderCount(HeaderFetch { side, name, lines, occurrence: None, read: ReadAs::Text }))
}

fn header_names(a: &mut Args<'_, '_>, side: Side) -> Result<Fetch, ExprError> {
    let delimiter = a.bytes().and_then(|d| d.first().copied()).unwrap_or(b',');
    http(HttpFetch::HeaderNames(side, delimiter))
}

fn cookie(a: &mut Args<'_, '_>, side: Side, read: ReadAs) -> Result<Fetch, ExprError> {
    http(HttpFetch::Cookie(side, name(a), read))
}
