//! Values inside strings: durations, sizes, addresses, CPU lists, hex, `${ENV}`. Pure text -> value; positions and
//! collecting of errors are `section.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::limits::DURATION_MAX;
use crate::model::{BindAddress, Cidr, ServerAddress, Source};

/// Why a value is not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// A problem that explains itself.
    pub fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), help: None }
    }
    /// A problem with advice.
    pub fn with_help(message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem { message: message.into(), help: Some(help.into()) }
    }
}

/// `"5s"`, `"500ms"`, `"1m"`, `"2h"`, `"1d"`; without a unit milliseconds, as in HAProxy. The resolution is one
/// millisecond: less is refused instead of rounded to something else than written.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    const FORM: &str = "a duration is a number with us, ms, s, m, h or d, for example \"500ms\" or \"5s\"";
    let (number, unit) = number_and_unit(text);
    let wrong = || Problem::with_help(format!("\"{text}\" is not a duration"), FORM);
    let count: u64 = number.parse().map_err(|_| wrong())?;
    let micros: u64 = match unit {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(wrong()),
    };
    let total = count.checked_mul(micros).map(Duration::from_micros);
    match total {
        Some(d) if d.subsec_nanos() % 1_000_000 != 0 => Err(Problem::with_help(
            format!("\"{text}\" is finer than a millisecond"),
            "timers have a resolution of one millisecond",
        )),
        Some(d) if d <= DURATION_MAX => Ok(d),
        _ => Err(Problem::new(format!("\"{text}\" is longer than {} days", DURATION_MAX.as_secs() / 86_400))),
    }
}

/// A duration as the operator would write it.
pub fn show_duration(d: Duration) -> String {
    let ms = d.as_millis();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms >= unit && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
}

/// `"16k"`, `"1m"`, `"1g"`; without a unit bytes. Powers of 1024.
pub fn size(text: &str) -> Result<u64, Problem> {
    let (number, unit) = number_and_unit(text);
    let shift = match unit {
        "" => Some(0),
        "k" | "K" => Some(10),
        "m" | "M" => Some(20),
        "g" | "G" => Some(30),
        _ => None,
    };
    let value = shift.and_then(|shift| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    value.ok_or_else(|| {
        Problem::with_help(
            format!("\"{text}\" is not a size"),
            "a size is a number with k, m or g, for example \"16k\"",
        )
    })
}

fn number_and_unit(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len()))
}

/// What a `bind` address may say: a comma list of `*:80`, `:80`, `[::]:80`, `127.0.0.1:1000-1010`, `unix@/path`, `/path`,
/// `abns@name`, `fd@3`.
pub fn bind_addresses(text: &str) -> Result<Vec<BindAddress>, Problem> {
    let mut all = Vec::new();
    for item in text.split(',').map(str::trim) {
        if let Some(local) = local_address(item)? {
            all.push(match local {
                Local::Unix(path) => BindAddress::Unix(path),
                Local::Abstract(name) => BindAddress::Abstract(name),
                Local::Fd(fd) => BindAddress::Fd(fd),
            });
            continue;
        }
        let (host, ports) = host_and_port(item).ok_or_else(|| bind_form(item))?;
        let address = bind_host(item, host)?;
        let (low, high) = ports_of(ports).ok_or_else(|| bind_port(item, ports))?;
        if low == 0 && high != 0 {
            return Err(Problem::new(format!("\"{item}\": a range cannot start at port 0")));
        }
        all.extend((low..=high).map(|port| BindAddress::Ip(SocketAddr::new(address, port))));
    }
    Ok(all)
}

fn bind_form(item: &str) -> Problem {
    Problem::with_help(
        format!("\"{item}\" is not an address to listen on"),
        "write \"*:80\", \"[::]:80\", \"192.0.2.1:80\", \"*:1000-1010\", \"unix@/path\", \"abns@name\" or \"fd@3\"",
    )
}

fn bind_port(item: &str, ports: &str) -> Problem {
    if let Some((low, high)) = ports.split_once('-')
        && let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>())
        && low > high
    {
        return Problem::with_help(
            format!("\"{item}\": the port range is the wrong way round"),
            format!("write {high}-{low}"),
        );
    }
    Problem::new(format!("\"{item}\": \"{ports}\" is not a port from 0 to 65535 or a range of them"))
}

fn bind_host(item: &str, host: &str) -> Result<IpAddr, Problem> {
    match host {
        "" | "*" | "ipv4@" | "ipv4@*" => return Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        "ipv6@" | "ipv6@*" => return Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => {}
    }
    ip(host).ok_or_else(|| {
        Problem::with_help(
            format!("\"{item}\": \"{host}\" is not an IP address"),
            "binds take IP addresses, not names: which address a name has may change, the socket would not",
        )
    })
}

/// Where a server is: `192.0.2.1:80`, `[2001:db8::1]:80`, `web1.example.com:80`, `unix@/path`, `/path`, `abns@name`.
pub fn server_address(text: &str) -> Result<ServerAddress, Problem> {
    match local_address(text)? {
        Some(Local::Unix(path)) => return Ok(ServerAddress::Unix(path)),
        Some(Local::Abstract(name)) => return Ok(ServerAddress::Abstract(name)),
        Some(Local::Fd(_)) => return Err(Problem::new("a server cannot be an inherited socket (fd@)")),
        None => {}
    }
    if text.starts_with('_') && !text.contains(':') && is_host_name(text) {
        // A service: its SRV record has the port.
        return Ok(ServerAddress::Name { host: text.to_owned(), port: 0 });
    }
    let Some((host, port)) = host_and_port(text) else {
        return Err(Problem::with_help(
            format!("\"{text}\" has no port"),
            format!("write the port of the server: \"{text}:80\""),
        ));
    };
    let is_any = ip(host).is_some_and(|address| address.is_unspecified());
    // Where the client wanted to go, as HAProxy does it: its port, too, if there is none here.
    let number = port.parse::<u16>().ok().filter(|port| *port != 0 || is_any);
    let port = number
        .ok_or_else(|| Problem::new(format!("\"{text}\": \"{port}\" is not a port from 1 to 65535")))?;
    if let Some(address) = ip(host) {
        return Ok(ServerAddress::Ip(SocketAddr::new(address, port)));
    }
    if is_host_name(host) {
        return Ok(ServerAddress::Name { host: host.to_owned(), port });
    }
    Err(Problem::with_help(
        format!("\"{text}\": \"{host}\" is neither an IP address nor a host name"),
        "write \"192.0.2.1:80\", \"[2001:db8::1]:80\", \"name.example.com:80\", \"unix@/path\" or \"abns@name\"",
    ))
}

/// One `nameserver`: `192.0.2.53` or `127.0.0.1:8600`.
pub fn name_server(text: &str) -> Result<SocketAddr, Problem> {
    const PORT: u16 = 53;
    let with_port = || text.parse().ok();
    let found = ip(text).map(|address| SocketAddr::new(address, PORT)).or_else(with_port);
    found.ok_or_else(|| {
        let help = "write \"192.0.2.53\", \"127.0.0.1:8600\" or \"[2001:db8::53]:53\"";
        Problem::with_help(format!("\"{text}\" is not the address of a DNS server"), help)
    })
}

/// One `source`: `192.0.2.1` or `192.0.2.1:1024-65000`.
pub fn source(text: &str) -> Result<Source, Problem> {
    if let Some(address) = ip(text) {
        return Ok(Source { address, ports: None });
    }
    let parts = host_and_port(text).and_then(|(host, ports)| Some((ip(host)?, ports)));
    let Some((address, ports)) = parts else {
        return Err(Problem::with_help(
            format!("\"{text}\" is not a source address"),
            "write \"client\", or an IP address, with a port range if ports are to be allocated: \"192.0.2.1:1024-65000\"",
        ));
    };
    match ports_of(ports) {
        Some((low, high)) if low > 0 => Ok(Source { address, ports: Some((low, high)) }),
        _ => Err(Problem::with_help(
            format!("\"{text}\": \"{ports}\" is not a range of ports"),
            "write the range as low-high, from 1 to 65535: \"192.0.2.1:1024-65000\"",
        )),
    }
}

/// A network, or a single address. Host bits are cleared, as HAProxy does.
pub fn cidr(text: &str) -> Result<Cidr, Problem> {
    let wrong =
        || Problem::with_help(format!("\"{text}\" is not a network"), "write 192.0.2.0/24 or 2001:db8::/32");
    let (address, prefix) = match text.split_once('/') {
        None => (text, None),
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
    };
    let address = ip(address).ok_or_else(wrong)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.unwrap_or(bits);
    if prefix > bits {
        return Err(wrong());
    }
    let cleared = match address {
        IpAddr::V4(a) => {
            IpAddr::V4((a.to_bits() & u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0)).into())
        }
        IpAddr::V6(a) => {
            IpAddr::V6((a.to_bits() & u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0)).into())
        }
    };
    Ok(Cidr { address: cleared, prefix })
}

enum Local {
    Unix(PathBuf),
    Abstract(String),
    Fd(i32),
}

/// Longest path of a UNIX socket: `sun_path` has 108 bytes, one of them for the final NUL (unix(7)).
const UNIX_PATH_BYTES_MAX: usize = 107;

/// `unix@`, `/path`, `abns@` and `fd@`; `None` if it is none of them.
fn local_address(text: &str) -> Result<Option<Local>, Problem> {
    let path = text.strip_prefix("unix@").or(text.starts_with('/').then_some(text));
    if let Some(path) = path {
        if !path.starts_with('/') {
            return Err(Problem::new(format!("\"{text}\": the path of a UNIX socket starts with /")));
        }
        return fits(text, path).map(|()| Some(Local::Unix(path.into())));
    }
    if let Some(name) = text.strip_prefix("abns@") {
        if name.is_empty() {
            return Err(Problem::new("\"abns@\": the name is missing"));
        }
        return fits(text, name).map(|()| Some(Local::Abstract(name.to_owned())));
    }
    if let Some(number) = text.strip_prefix("fd@") {
        let fd = number.parse::<i32>().ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(|| {
            Problem::with_help(
                format!("\"{text}\": \"{number}\" is not the number of an open socket"),
                "systemd hands its sockets over from number 3 on: \"fd@3\"",
            )
        })?;
        return Ok(Some(Local::Fd(fd)));
    }
    Ok(None)
}

/// Whether the kernel takes this path as that of a UNIX socket; `text`: as it is written.
pub fn fits(text: &str, path: &str) -> Result<(), Problem> {
    if path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        return Err(Problem::new(format!(
            "\"{text}\": the kernel takes at most {UNIX_PATH_BYTES_MAX} bytes as the name of a UNIX socket"
        )));
    }
    Ok(())
}

/// Splits at the last colon, so that `:::80` is port 80 of `::` as in HAProxy. A bare IPv6 address has no port.
fn host_and_port(text: &str) -> Option<(&str, &str)> {
    if text.ends_with(']') || (text.parse::<Ipv6Addr>().is_ok() && !text.starts_with(":::")) {
        return None;
    }
    text.rsplit_once(':')
}

fn ip(text: &str) -> Option<IpAddr> {
    let text = text.strip_prefix("ipv4@").or(text.strip_prefix("ipv6@")).unwrap_or(text);
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    text.parse().ok()
}

fn ports_of(text: &str) -> Option<(u16, u16)> {
    match text.split_once('-') {
        None => text.parse().ok().map(|port| (port, port)),
        Some((low, high)) => {
            let (low, high) = (low.parse::<u16>().ok()?, high.parse::<u16>().ok()?);
            (low <= high).then_some((low, high))
        }
    }
}

/// RFC 1123 section 2.1, with underscores as DNS has them in practice.
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // All digits and dots is a mistyped IPv4 address, not a name.
    text.len() <= 253 && text.split('.').all(label) && text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// The names HAProxy accepts for sections and servers.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let wrong = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.:".contains(*c));
    match wrong {
        _ if name.is_empty() => Err(Problem::new("a name cannot be empty")),
        Some(c) => Err(Problem::with_help(
            format!("the name \"{name}\" contains {c:?}"),
            "names consist of letters, digits, \"-\", \"_\", \".\" and \":\"",
        )),
        None => Ok(()),
    }
}

/// A CPU list as the kernel writes it: `0-3,8`.
pub fn cpu_list(text: &str) -> Result<Vec<usize>, Problem> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        let range = match part.split_once('-') {
            None => part.parse::<u16>().ok().map(|cpu| cpu..=cpu),
            Some((low, high)) => {
                low.parse::<u16>().ok().zip(high.parse::<u16>().ok()).map(|(low, high)| low..=high)
            }
        };
        let range = range.filter(|range| !range.is_empty()).ok_or_else(|| {
            Problem::with_help(
                format!("\"{part}\" is not a CPU or a range of CPUs"),
                "write \"0-3\" or \"0,2,4-7\"",
            )
        })?;
        cpus.extend(range.map(usize::from));
    }
    Ok(cpus)
}

/// Bytes written in hexadecimal, white space between bytes allowed.
pub fn hex(text: &str) -> Result<Vec<u8>, Problem> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let nibble = |b: &u8| char::from(*b).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let nibbles: Option<Vec<u8>> = digits.iter().map(nibble).collect();
    match nibbles {
        Some(nibbles) if nibbles.len().is_multiple_of(2) => {
            Ok(nibbles.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => Err(Problem::with_help(
            format!("\"{text}\" is not a sequence of bytes in hexadecimal"),
            "write two digits a byte: \"50 49 4e 47\"",
        )),
    }
}

/// A string after expansion, and where its parts come from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// (offset in `text`, offset in the original) where they begin to differ by another amount, ascending.
    moves: Vec<(usize, usize)>,
}

impl Expanded {
    /// Where byte `at` of the expanded text stands in the original; inside a variable's value, where the variable stands.
    pub fn original_offset(&self, at: usize) -> usize {
        match self.moves.iter().enumerate().rev().find(|(_, (to, _))| *to <= at) {
            None => at,
            // An even index of `moves` is a variable itself, an odd one is what follows it.
            Some((index, (_, from))) if index.is_multiple_of(2) => *from,
            Some((_, (to, from))) => from + (at - to),
        }
    }
}

/// Replaces `${NAME}` and `${NAME-default}`; `$${` is a literal `${`. An error comes with its offset.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, (usize, Problem)> {
    let mut out = Expanded::default();
    let mut at = 0;
    while let Some(found) = text[at..].find("${").map(|i| at + i) {
        if text[at..found].ends_with('$') {
            out.text.push_str(&text[at..found - 1]);
            // The escape is treated like a variable whose value is `${`.
            out.moves.push((out.text.len(), found - 1));
            out.text.push_str("${");
            at = found + 2;
            out.moves.push((out.text.len(), at));
            continue;
        }
        out.text.push_str(&text[at..found]);
        let Some(end) = text[found..].find('}').map(|i| found + i) else {
            return Err((found, Problem::new("\"${\" without \"}\"")));
        };
        let inside = &text[found + 2..end];
        let (name, default) = match inside.split_once('-') {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let wrong_name = name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if wrong_name {
            return Err((
                found,
                Problem::new(format!("\"{name}\" is not the name of an environment variable")),
            ));
        }
        let value = lookup(name).or(default.map(str::to_owned)).ok_or_else(|| {
            let help = format!("set it, or give a default: ${{{name}-default}}");
            (found, Problem::with_help(format!("the environment variable {name} is not set"), help))
        })?;
        out.moves.push((out.text.len(), found));
        out.text.push_str(&value);
        at = end + 1;
        out.moves.push((out.text.len(), at));
    }
    out.text.push_str(&text[at..]);
    Ok(out)
}

#[cfg(test)]
mod tests;
