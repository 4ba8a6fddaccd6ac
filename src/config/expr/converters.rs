//! The table of converters: name, arguments, types, help, and how it is compiled. Parsing, checks and docs/EXPRESSIONS.md come
//! from it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::expr::ExprError;
use crate::config::expr::args::Args;
use crate::config::expr::stick::STICK_CONVERTERS;
use crate::policy::balance::HashFunction;
use crate::policy::converter::{
    Codec, Comparison, Converter, DateFormat, Digest, Hash, HmacKey, JsonInput, JsonQuery, JwtAlgorithm,
    JwtPart, JwtVerify, Languages, MapResult, Math, Pieces, Regsub, jwt_algorithm,
};
use crate::policy::pattern::{Method, compile_regex};
use crate::policy::sample::{Kind, Literal};

/// One row.
pub struct ConverterInfo {
    /// Its name.
    pub name: &'static str,
    /// Arguments, as documentation writes them.
    pub args: &'static str,
    /// What it reads its input as.
    pub input: Kind,
    /// The type of its results.
    pub output: Kind,
    /// One line for operators.
    pub help: &'static str,
    pub(super) build: fn(&mut Args<'_, '_>) -> Result<Converter, ExprError>,
}

/// All rows.
pub(super) fn all() -> impl Iterator<Item = &'static ConverterInfo> {
    CONVERTERS.iter().chain(STICK_CONVERTERS)
}

/// The converter of a name. `map_beg_int` and its kin are all the row `map`.
pub(super) fn find(name: &str) -> Option<&'static ConverterInfo> {
    let row = if map_parts(name).is_some() { "map" } else { name };
    all().find(|c| c.name == row)
}

/// All names, for "did you mean".
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    const MAPS: &[&str] =
        &["map_str", "map_beg", "map_end", "map_sub", "map_reg", "map_ip", "map_dom", "map_int"];
    all().map(|c| c.name).chain(MAPS.iter().copied())
}

pub(super) const fn row(
    name: &'static str,
    args: &'static str,
    types: (Kind, Kind),
    help: &'static str,
    build: fn(&mut Args<'_, '_>) -> Result<Converter, ExprError>,
) -> ConverterInfo {
    ConverterInfo { name, args, input: types.0, output: types.1, help, build }
}

use Kind::{Any, Bin, Bool, Int, Ip, Str};

/// All converters, by group.
const CONVERTERS: &[ConverterInfo] = &[
    // Text.
    row("lower", "", (Str, Str), "In lower case (ASCII).", |_| Ok(Converter::Lower)),
    row("upper", "", (Str, Str), "In upper case (ASCII).", |_| Ok(Converter::Upper)),
    row("length", "", (Str, Int), "Number of bytes.", |_| Ok(Converter::Length)),
    row("bytes", "OFFSET[,LENGTH]", (Bin, Bin), "LENGTH bytes from OFFSET on, or all from there.", |a| {
        let offset = a.size("the offset")?;
        Ok(Converter::Bytes(offset, a.optional_size("the length")?))
    }),
    row(
        "field",
        "INDEX,DELIMITERS[,COUNT]",
        (Str, Str),
        "COUNT fields (1; 0: all) from INDEX on, which counts from 1 or, from the end, from -1.",
        |a| pieces(a, true),
    ),
    row("word", "INDEX,DELIMITERS[,COUNT]", (Str, Str), "As field, but empty fields do not count.", |a| {
        pieces(a, false)
    }),
    row("ltrim", "CHARS", (Str, Str), "Without any of CHARS at its beginning.", |a| {
        Ok(Converter::TrimStart(a.nonempty("the characters to drop")?))
    }),
    row("rtrim", "CHARS", (Str, Str), "Without any of CHARS at its end.", |a| {
        Ok(Converter::TrimEnd(a.nonempty("the characters to drop")?))
    }),
    row("cut_crlf", "", (Str, Str), "Up to the first CR or LF.", |_| Ok(Converter::CutLine)),
    row("host_only", "", (Str, Str), "The host of HOST[:PORT], in lower case.", |_| Ok(Converter::HostOnly)),
    row("port_only", "", (Str, Int), "The port of HOST[:PORT]; 0 if there is none.", |_| {
        Ok(Converter::PortOnly)
    }),
    row(
        "regsub",
        "REGEX,REPLACEMENT[,FLAGS]",
        (Str, Str),
        "With the first match of REGEX replaced; \\1 is its first group; flags: g (all matches), i (ignore case).",
        regsub,
    ),
    row(
        "concat",
        "[BEFORE][,VARIABLE[,AFTER]]",
        (Str, Str),
        "With BEFORE, the variable and AFTER appended.",
        |a| {
            let before = a.bytes_or_empty();
            let variable = a.optional_variable()?;
            Ok(Converter::Concat(before, variable, a.bytes_or_empty()))
        },
    ),
    row(
        "add_item",
        "DELIMITER[,VARIABLE[,SUFFIX]]",
        (Str, Str),
        "With the variable and SUFFIX appended, after DELIMITER where something stands before and after it.",
        |a| {
            let delimiter = a.bytes_or_empty();
            let variable = a.optional_variable()?;
            let suffix = a.bytes_or_empty();
            if variable.is_none() && suffix.is_empty() {
                return Err(a.error("`add_item` needs a variable or a suffix"));
            }
            Ok(Converter::AddItem(delimiter, variable, suffix))
        },
    ),
    row("strcmp", "VARIABLE", (Str, Int), "0 if it equals the variable, else -1 or 1 as it sorts.", |a| {
        Ok(Converter::StrCmp(a.variable()?))
    }),
    row("secure_memcmp", "VARIABLE", (Bin, Bool), "Whether it equals the variable, in constant time.", |a| {
        Ok(Converter::SecureCompare(a.variable()?))
    }),
    row("iif", "TRUE,FALSE", (Bool, Str), "The first text if it is true, else the second.", |a| {
        let yes = a.bytes_or_empty();
        Ok(Converter::If(yes, a.bytes_or_empty()))
    }),
    // Maps.
    row(
        "map",
        "FILE[,DEFAULT]",
        (Any, Str),
        "The value of the line of a map file that it matches, or DEFAULT. Also map_METHOD and map_METHOD_TYPE: methods str, beg, end, \
         sub, dir, dom, reg, regm (values may use \\1), int, ip; types str, int, ip.",
        map,
    ),
    // Encodings.
    row("base64", "", (Bin, Str), "Encoded in base64.", |_| Ok(Converter::Codec(Codec::Base64))),
    row("b64dec", "", (Str, Bin), "Decoded from base64.", |_| Ok(Converter::Codec(Codec::Base64Decode))),
    row("ub64enc", "", (Bin, Str), "Encoded in base64url, without padding.", |_| {
        Ok(Converter::Codec(Codec::Base64Url))
    }),
    row("ub64dec", "", (Str, Bin), "Decoded from base64url.", |_| {
        Ok(Converter::Codec(Codec::Base64UrlDecode))
    }),
    row("hex", "", (Bin, Str), "As hexadecimal digits.", |_| Ok(Converter::Codec(Codec::Hex))),
    row(
        "hex2i",
        "",
        (Str, Int),
        "The integer that hexadecimal digits write; no value if there is anything else.",
        |_| Ok(Converter::HexToInt),
    ),
    row(
        "be2hex",
        "[SEPARATOR][,SIZE[,TRUNCATE]]",
        (Bin, Str),
        "As hexadecimal digits in groups of SIZE bytes.",
        |a| {
            let (separator, size, truncate) = groups(a, usize::MAX)?;
            Ok(Converter::GroupedHex(separator, size, truncate))
        },
    ),
    row(
        "be2dec",
        "SEPARATOR,SIZE[,TRUNCATE]",
        (Bin, Str),
        "As decimal numbers of SIZE bytes (1 to 8) each.",
        |a| {
            let (separator, size, truncate) = groups(a, 8)?;
            Ok(Converter::GroupedDecimal(separator, size, truncate))
        },
    ),
    row("htonl", "", (Int, Bin), "Its lower 32 bits in network order.", |_| Ok(Converter::NetworkOrder)),
    row("url_enc", "[TYPE]", (Str, Str), "Percent-encoded, for a query.", |a| {
        match a.optional_string()?.as_deref() {
            None | Some("query") => Ok(Converter::Codec(Codec::UrlEncode)),
            Some(other) => Err(a.error(format!("unknown encoding `{other}`: there is only query"))),
        }
    }),
    row(
        "url_dec",
        "[FORM]",
        (Str, Str),
        "Percent-decoded; with FORM 1 a + is a space everywhere, not only after ?.",
        |a| Ok(Converter::Codec(Codec::UrlDecode(a.switch("the argument")?))),
    ),
    row(
        "json",
        "[INPUT]",
        (Str, Str),
        "Escaped for a JSON string; INPUT is ascii, utf8 or utf8s (skips errors).",
        |a| {
            let input = match a.optional_string()?.as_deref() {
                None | Some("ascii") => JsonInput::Ascii,
                Some("utf8" | "utf8p") => JsonInput::Utf8,
                Some("utf8s" | "utf8ps") => JsonInput::Utf8Skip,
                Some(other) => {
                    return Err(a.error(format!("unknown input `{other}`: write ascii, utf8 or utf8s")));
                }
            };
            Ok(Converter::Codec(Codec::Json(input)))
        },
    ),
    // Digests and hashes.
    row("md5", "", (Bin, Bin), "MD5 digest. Not for security.", |_| Ok(Converter::Digest(Digest::Md5))),
    row("sha1", "", (Bin, Bin), "SHA-1 digest. Not for security.", |_| Ok(Converter::Digest(Digest::Sha1))),
    row("sha2", "[BITS]", (Bin, Bin), "SHA-2 digest of 224, 256 (unless given), 384 or 512 bits.", |a| {
        Ok(Converter::Digest(match a.optional_int("the number of bits")?.unwrap_or(256) {
            224 => Digest::Sha224,
            256 => Digest::Sha256,
            384 => Digest::Sha384,
            512 => Digest::Sha512,
            _ => return Err(a.error("SHA-2 has 224, 256, 384 or 512 bits")),
        }))
    }),
    row(
        "digest",
        "ALGORITHM",
        (Bin, Bin),
        "Digest by the name of the algorithm: md5, sha1, sha224, sha256, sha384, sha512.",
        |a| Ok(Converter::Digest(digest(a)?)),
    ),
    row(
        "hmac",
        "ALGORITHM,KEY",
        (Bin, Bin),
        "Message authentication code (RFC 2104); KEY is in base64, written here or in a variable.",
        |a| {
            let digest = digest(a)?;
            let key = a.string("a key in base64")?;
            if let Some(id) = a.named_variable(&key)? {
                return Ok(Converter::Hmac(digest, HmacKey::Variable(id)));
            }
            let bytes = STANDARD.decode(&key).map_err(|_| a.error("the key is not base64"))?;
            Ok(Converter::Hmac(digest, HmacKey::Bytes(bytes.into())))
        },
    ),
    row("crc32", "[AVALANCHE]", (Bin, Int), "CRC-32 as of Ethernet and gzip.", |a| {
        hash(a, HashFunction::Crc32)
    }),
    row("crc32c", "[AVALANCHE]", (Bin, Int), "CRC-32C.", |a| {
        Ok(Converter::Hash(Hash::Crc32c(a.switch("the avalanche")?)))
    }),
    row("djb2", "[AVALANCHE]", (Bin, Int), "DJB2 hash, as hash-type has it.", |a| {
        hash(a, HashFunction::Djb2)
    }),
    row("sdbm", "[AVALANCHE]", (Bin, Int), "SDBM hash, as hash-type has it.", |a| {
        hash(a, HashFunction::Sdbm)
    }),
    row("wt6", "[AVALANCHE]", (Bin, Int), "WT6 hash, as hash-type has it.", |a| hash(a, HashFunction::Wt6)),
    row("xxh32", "[SEED]", (Bin, Int), "xxHash of 32 bits.", |a| {
        let seed = u32::try_from(a.optional_int("the seed")?.unwrap_or(0));
        Ok(Converter::Hash(Hash::Xxh32(seed.map_err(|_| a.error("the seed has 32 bits"))?)))
    }),
    row("xxh64", "[SEED]", (Bin, Int), "xxHash of 64 bits, as a signed integer.", |a| {
        Ok(Converter::Hash(Hash::Xxh64(a.optional_int("the seed")?.unwrap_or(0).cast_unsigned())))
    }),
    row("xxh3", "[SEED]", (Bin, Int), "XXH3 of 64 bits, as a signed integer.", |a| {
        Ok(Converter::Hash(Hash::Xxh3(a.optional_int("the seed")?.unwrap_or(0).cast_unsigned())))
    }),
    // Integers.
    row("add", "VALUE", (Int, Int), "Plus a number or a variable.", |a| math(a, Math::Add)),
    row("sub", "VALUE", (Int, Int), "Minus a number or a variable.", |a| math(a, Math::Sub)),
    row("mul", "VALUE", (Int, Int), "Times a number or a variable.", |a| math(a, Math::Mul)),
    row(
        "div",
        "VALUE",
        (Int, Int),
        "Divided by a number or a variable; by 0 gives the largest integer.",
        |a| math(a, Math::Div),
    ),
    row("mod", "VALUE", (Int, Int), "The remainder of a division; by 0 gives 0.", |a| math(a, Math::Mod)),
    row("and", "VALUE", (Int, Int), "Bitwise and.", |a| math(a, Math::And)),
    row("or", "VALUE", (Int, Int), "Bitwise or.", |a| math(a, Math::Or)),
    row("xor", "VALUE", (Int, Int), "Bitwise exclusive or.", |a| math(a, Math::Xor)),
    row("neg", "", (Int, Int), "With the other sign.", |_| Ok(Converter::Neg)),
    row("cpl", "", (Int, Int), "With all bits flipped.", |_| Ok(Converter::Complement)),
    row("bool", "", (Int, Bool), "Whether it is not 0.", |_| Ok(Converter::Compare(Comparison::NonZero))),
    row("not", "", (Int, Bool), "Whether it is 0.", |_| Ok(Converter::Compare(Comparison::Zero))),
    row("even", "", (Int, Bool), "Whether it is even.", |_| Ok(Converter::Compare(Comparison::Even))),
    row("odd", "", (Int, Bool), "Whether it is odd.", |_| Ok(Converter::Compare(Comparison::Odd))),
    // Time.
    row(
        "http_date",
        "[OFFSET[,UNIT]]",
        (Int, Str),
        "A date as HTTP headers have it; UNIT is s, ms or us.",
        |a| {
            let offset = a.optional_int("the offset")?.unwrap_or(0);
            Ok(Converter::Date(Box::new(DateFormat::http(offset, a.time_unit()?))))
        },
    ),
    row(
        "ltime",
        "FORMAT[,OFFSET]",
        (Int, Str),
        "Seconds since 1970 as a date in the time of this machine, in a format of strftime.",
        |a| {
            let format = a.string("a format")?;
            let wrong = a.error("");
            let offset = a.optional_int("the offset")?.unwrap_or(0);
            let date =
                DateFormat::local(&format, offset).map_err(|message| ExprError { message, ..wrong })?;
            Ok(Converter::Date(Box::new(date)))
        },
    ),
    row(
        "utime",
        "FORMAT[,OFFSET]",
        (Int, Str),
        "Seconds since 1970 as a date in UTC, in a format of strftime.",
        |a| {
            let format = a.string("a format")?;
            let wrong = a.error("");
            let offset = a.optional_int("the offset")?.unwrap_or(0);
            let date = DateFormat::new(&format, offset).map_err(|message| ExprError { message, ..wrong })?;
            Ok(Converter::Date(Box::new(date)))
        },
    ),
    // Structured text.
    row(
        "json_query",
        "PATH[,int]",
        (Str, Any),
        "The value at a path of a JSON text: $.a.b, $.a[0], $['a b'].",
        |a| {
            let path = a.string("a path")?;
            Ok(Converter::Json(Box::new(json_query(a, &path)?)))
        },
    ),
    row(
        "jwt_header_query",
        "[PATH[,int]]",
        (Str, Any),
        "The value at a path of the header of a JSON Web Token, or all of it.",
        |a| jwt_query(a, JwtPart::Header),
    ),
    row(
        "jwt_payload_query",
        "[PATH[,int]]",
        (Str, Any),
        "The value at a path of the payload of a JSON Web Token, or all of it.",
        |a| jwt_query(a, JwtPart::Payload),
    ),
    row(
        "jwt_verify",
        "ALGORITHM,KEY",
        (Str, Int),
        "1 if the signature of a JSON Web Token is right, 0 if not, below 0 if it cannot be told; ALGORITHM is HS256 to PS512 or a \
         variable, KEY a secret (HS*, written here or in a variable) or the path of a public key in PEM.",
        jwt_verify,
    ),
    row(
        "language",
        "LANGUAGES[,DEFAULT]",
        (Str, Str),
        "The one of LANGUAGES (a;b;c) that an Accept-Language header prefers, or DEFAULT.",
        |a| {
            let list = a.string("the languages")?;
            let known = list.split(';').map(|l| l.trim().as_bytes().into()).collect();
            Ok(Converter::Language(Box::new(Languages { known, default: a.bytes() })))
        },
    ),
    // Addresses.
    row(
        "ipmask",
        "MASK4[,MASK6]",
        (Ip, Ip),
        "Its network. IPv6 addresses have a result only with MASK6.",
        |a| {
            let text = a.string("a mask for IPv4")?;
            let v4 = a.mask(&text, 32)?;
            let v6 = match a.optional_string()? {
                Some(text) => Some(a.mask(&text, 128)?),
                None => None,
            };
            Ok(Converter::IpMask(v4, v6))
        },
    ),
];

fn digest(a: &mut Args<'_, '_>) -> Result<Digest, ExprError> {
    let name = a.string("the name of a digest")?;
    Digest::named(&name).ok_or_else(|| {
        a.error(format!("unknown digest `{name}`: there are md5, sha1, sha224, sha256, sha384 and sha512"))
    })
}

fn jwt_query(a: &mut Args<'_, '_>, part: JwtPart) -> Result<Converter, ExprError> {
    let Some(path) = a.optional_string()? else { return Ok(Converter::JwtQuery(part, None)) };
    Ok(Converter::JwtQuery(part, Some(Box::new(json_query(a, &path)?))))
}

fn json_query(a: &mut Args<'_, '_>, path: &str) -> Result<JsonQuery, ExprError> {
    let wrong = a.error("");
    let int = match a.optional_string()?.as_deref() {
        None => false,
        Some("int") => true,
        Some(_) => return Err(a.error("the type is int or left out")),
    };
    JsonQuery::new(path, int).map_err(|message| ExprError { message, ..wrong })
}

fn jwt_verify(a: &mut Args<'_, '_>) -> Result<Converter, ExprError> {
    let name = a.string("an algorithm")?;
    let algorithm = match a.named_variable(&name)? {
        Some(id) => JwtAlgorithm::Variable(id),
        None => JwtAlgorithm::Fixed(jwt_algorithm(&name).ok_or_else(|| {
            a.error(format!(
                "unknown algorithm `{name}`: there are HS, RS and PS with 256, 384 and 512, ES256 and ES384"
            ))
        })?),
    };
    let key = a.string("a secret or the path of a public key")?;
    if let Some(id) = a.named_variable(&key)? {
        return Ok(Converter::JwtVerify(Box::new(JwtVerify::with_variable(algorithm, id))));
    }
    let is_secret = match algorithm {
        JwtAlgorithm::Fixed(_) => name.starts_with("HS"),
        // HAProxy's way: a path begins with a slash, or with a dot.
        JwtAlgorithm::Variable(_) => !key.starts_with(['/', '.']),
    };
    if is_secret {
        return Ok(Converter::JwtVerify(Box::new(JwtVerify::with_secret(algorithm, key.as_bytes()))));
    }
    let pem = a.scope.resolver.load(&key).map_err(|e| a.error(format!("cannot read `{key}`: {e}")))?;
    let verify = JwtVerify::with_pem(algorithm, &pem).map_err(|e| a.error(format!("`{key}`: {e}")))?;
    Ok(Converter::JwtVerify(Box::new(verify)))
}

fn pieces(a: &mut Args<'_, '_>, empty_count: bool) -> Result<Converter, ExprError> {
    let index = a.int("an index")?;
    if index == 0 {
        return Err(a.error("the index counts from 1 or, from the end, from -1"));
    }
    let delimiters = a.nonempty("the delimiters")?;
    let count = a.optional_size("the count")?.unwrap_or(1);
    Ok(Converter::Pieces(Box::new(Pieces { index, delimiters, count, empty_count })))
}

fn regsub(a: &mut Args<'_, '_>) -> Result<Converter, ExprError> {
    let pattern = a.string("a regular expression")?;
    let regex_error = a.error("");
    let replacement = a.bytes_or_empty();
    let flags = a.optional_string()?.unwrap_or_default();
    if let Some(flag) = flags.chars().find(|c| !matches!(c, 'g' | 'i')) {
        return Err(a.error(format!("unknown flag `{flag}`: there are g and i")));
    }
    let regex = compile_regex(&pattern, flags.contains('i'))
        .map_err(|message| ExprError { message, ..regex_error })?;
    Ok(Converter::Regsub(Box::new(Regsub { regex, replacement, all: flags.contains('g') })))
}

fn groups(a: &mut Args<'_, '_>, size_max: usize) -> Result<(Box<[u8]>, usize, bool), ExprError> {
    let separator = a.bytes_or_empty();
    let size = match a.optional_size("the size")? {
        Some(size) => size,
        None if size_max == usize::MAX => 1,
        None => return Err(a.error(format!("`{}` needs the size of a group", a.name))),
    };
    if size == 0 || size > size_max {
        return Err(a.error("the size of a group is out of range"));
    }
    Ok((separator, size, a.switch("the last argument")?))
}

fn hash(a: &mut Args<'_, '_>, function: HashFunction) -> Result<Converter, ExprError> {
    Ok(Converter::Hash(Hash::Balance(function, a.switch("the avalanche")?)))
}

fn math(a: &mut Args<'_, '_>, math: Math) -> Result<Converter, ExprError> {
    Ok(Converter::Math(math, a.operand()?))
}

/// Method and result of `map`, `map_METHOD` and `map_METHOD_TYPE`.
fn map_parts(name: &str) -> Option<(Method, MapResult)> {
    let rest = match name.strip_prefix("map")? {
        "" => return Some((Method::Str, MapResult::Str)),
        rest => rest.strip_prefix('_')?,
    };
    if rest == "regm" {
        return Some((Method::Reg, MapResult::Expanded));
    }
    let (method, result) = rest.split_once('_').unwrap_or((rest, "str"));
    let (_, method) = Method::NAMED
        .iter()
        .find(|(n, m)| *n == method && m.takes_patterns() && !matches!(m, Method::Len | Method::Bin))?;
    let result = match result {
        "str" => MapResult::Str,
        "int" => MapResult::Int,
        "ip" => MapResult::Ip,
        _ => return None,
    };
    Some((*method, result))
}

fn map(a: &mut Args<'_, '_>) -> Result<Converter, ExprError> {
    let (method, result) = map_parts(a.name).ok_or_else(|| a.error("unknown kind of map"))?;
    let file = a.pattern_file(true)?;
    for (key, value) in file.lines().iter() {
        let value = String::from_utf8_lossy(value.as_deref().unwrap_or_default());
        if parse_result(&value, result).is_none() {
            let key = String::from_utf8_lossy(key);
            let message =
                format!("{}: the value `{value}` of `{key}` is no {}", file.name, result.kind().name());
            return Err(a.error(message));
        }
    }
    let patterns = file.compile(method, false).map_err(|e| {
        let key = file.lines().get(e.entry).map(|(p, _)| String::from_utf8_lossy(p).into_owned());
        a.error(format!("{}: `{}`: {}", file.name, key.unwrap_or_default(), e.message))
    })?;
    let default = match a.bytes() {
        None => None,
        Some(text) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let value = parse_result(&text, result);
            Some(
                value
                    .ok_or_else(|| a.error(format!("the default `{text}` is no {}", result.kind().name())))?,
            )
        }
    };
    let input = match method {
        Method::Int => Kind::Int,
        Method::Ip => Kind::Ip,
        _ => Kind::Str,
    };
    Ok(Converter::Map { patterns, input, result, default })
}

fn parse_result(text: &str, result: MapResult) -> Option<Literal> {
    Some(match result {
        MapResult::Int => Literal::Int(text.parse().ok()?),
        MapResult::Ip => Literal::Ip(text.parse().ok()?),
        MapResult::Str | MapResult::Expanded => Literal::Str(text.as_bytes().into()),
    })
}
