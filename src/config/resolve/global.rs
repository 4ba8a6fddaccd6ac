//! `[global]` and `[admin]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::file::{Data, Value};
use crate::config::keywords::Scope;
use crate::config::section::{Section, texts_of};
use crate::config::units::{self, Problem};
use crate::model::http::H2Settings;
use crate::model::{AdminEndpoint, AdminLevel, AdminSocket, Global, LogTarget};

/// `tune.buffers-max`: 256 MiB of receive buffers a core if all are in use at once.
const BUFFERS_MAX_DEFAULT: u32 = 16_384;

/// `tune.pipesize`: the size that measured cheapest for bulk flows.
const PIPE_BYTES_DEFAULT: u32 = 512 * 1024;

/// `maxpipes`: with the default size 512 MiB of pipe buffers if all are full at once.
const PIPES_MAX_DEFAULT: u32 = 1024;

/// Owner only: what an admin socket does is up to whoever may open it.
const SOCKET_MODE_DEFAULT: u32 = 0o600;

pub(super) fn global(
    section: &Section<'_>,
    admin: &Section<'_>,
    cpus: &[usize],
    hostname: &str,
    log: LogTarget,
) -> Global {
    let cores = cores(section, cpus);
    let control_core = control_core(section, &cores, cpus);
    let core_count = u32::try_from(cores.len()).unwrap_or(u32::MAX).max(1);
    Global {
        maxconn: section.count("maxconn"),
        tls_connections_max: section.limit("maxsslconn"),
        rate_max: section.limit("maxconnrate"),
        tls_rate_max: section.limit("maxsslrate"),
        hard_stop_after: section.duration("hard-stop-after"),
        node: section.string("node").unwrap_or_else(|| hostname.to_owned()),
        nameservers: nameservers(section),
        description: section.string("description").unwrap_or_default(),
        admin: admin_sockets(admin),
        log,
        compat_name: section.string("stats.compat-name").unwrap_or_else(|| "HAProxy".to_owned()),
        state_file: state_file(section),
        spread_checks: section.count("spread-checks").unwrap_or(0),
        buffers_max: section.count("tune.buffers-max").unwrap_or(BUFFERS_MAX_DEFAULT),
        pipe_bytes: section
            .size("tune.pipesize")
            .and_then(|size| u32::try_from(size).ok())
            .unwrap_or(PIPE_BYTES_DEFAULT),
        pipes_max: section.count("maxpipes").unwrap_or(PIPES_MAX_DEFAULT) / core_count,
        sandbox: section.flag("sandbox").unwrap_or(false),
        h2: h2(section),
        cores,
        control_core,
    }
}

fn nameservers(section: &Section<'_>) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for (at, text) in section.texts("nameserver") {
        match units::name_server(&text.text) {
            Ok(address) => all.push(address),
            Err(problem) => section.context.problem(at, problem),
        }
    }
    all
}

fn state_file(section: &Section<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(section.string("state-file")?);
    if !path.is_absolute() {
        section.error(
            "state-file",
            format!("the path of a state file starts with /, and {path:?} does not"),
            None,
        );
    }
    Some(path)
}

fn h2(section: &Section<'_>) -> H2Settings {
    let default = H2Settings::default();
    let bytes = |key: &str| section.size(key).and_then(|size| u32::try_from(size).ok());
    H2Settings {
        streams_max: section.count("tune.h2.fe.max-concurrent-streams").unwrap_or(default.streams_max),
        window: bytes("tune.h2.fe.initial-window-size").unwrap_or(default.window),
        rxbuf: bytes("tune.h2.fe.rxbuf").unwrap_or(default.rxbuf),
        total_max: section.limit("tune.h2.fe.max-total-streams"),
        resets_max: section.count("tune.h2.fe.max-resets").unwrap_or(default.resets_max),
        glitches_max: section.count("tune.h2.fe.glitches-threshold").unwrap_or(default.glitches_max),
        server_window: bytes("tune.h2.be.initial-window-size").unwrap_or(default.server_window),
        server_rxbuf: bytes("tune.h2.be.rxbuf"),
    }
}

fn cores(section: &Section<'_>, cpus: &[usize]) -> Vec<usize> {
    let Some(value) = section.value("cores") else { return cpus.to_vec() };
    let allowed = || format!("this process may use the CPUs {cpus:?}");
    let wanted = match &value.data {
        Data::Integer(count) => {
            let count = usize::try_from(*count).ok().filter(|count| (1..=cpus.len()).contains(count));
            if count.is_none() {
                let message = format!("cores as a number is from 1 to {}: how many CPUs to take", cpus.len());
                let help = format!("{}; a list or a string names CPUs: cores = \"0-1\"", allowed());
                section.error("cores", message, Some(help));
            }
            return cpus[..count.unwrap_or(cpus.len())].to_vec();
        }
        Data::Array(items) => items.iter().filter_map(|item| cpu_number(section, item)).collect(),
        _ => section.parsed("cores", units::cpu_list).unwrap_or_default(),
    };
    let mut cores = Vec::new();
    let mut missing = Vec::new();
    for cpu in wanted {
        if !cpus.contains(&cpu) {
            missing.push(cpu);
        } else if cores.contains(&cpu) {
            section.error("cores", format!("CPU {cpu} stands twice in cores"), None);
        } else {
            cores.push(cpu);
        }
    }
    if !missing.is_empty() {
        let message = format!("cores names CPUs that do not exist or are not allowed: {missing:?}");
        section.error("cores", message, Some(allowed()));
    } else if cores.is_empty() {
        section.error("cores", "cores names no CPU that can be used", Some(allowed()));
    }
    cores
}

fn cpu_number(section: &Section<'_>, item: &Value) -> Option<usize> {
    let number = match item.data {
        Data::Integer(number) => usize::try_from(number).ok(),
        _ => None,
    };
    if number.is_none() {
        let help = Some("write cores = [0, 2] or cores = \"0-3\"".to_owned());
        section.context.error(item.span.start, "cores lists CPU numbers", help);
    }
    number
}

fn control_core(section: &Section<'_>, cores: &[usize], cpus: &[usize]) -> usize {
    if let Some(cpu) = section.integer("control-core").and_then(|cpu| usize::try_from(cpu).ok()) {
        if !cpus.contains(&cpu) {
            let help = format!("this process may use the CPUs {cpus:?}");
            section.error("control-core", format!("CPU {cpu} does not exist or is not allowed"), Some(help));
        }
        return cpu;
    }
    cpus.iter().find(|cpu| !cores.contains(cpu)).or(cores.last()).copied().unwrap_or(0)
}

fn admin_sockets(admin: &Section<'_>) -> Vec<AdminSocket> {
    let Some(value) = admin.value("socket") else { return Vec::new() };
    let mut sockets: Vec<(usize, AdminSocket)> = texts_of(admin.context, value)
        .into_iter()
        .map(|(at, text)| {
            let endpoint = AdminEndpoint::Unix(PathBuf::from(text.text));
            (at, AdminSocket { at: endpoint, mode: SOCKET_MODE_DEFAULT, level: AdminLevel::Admin })
        })
        .collect();
    for table in admin.tables("socket", Scope::AdminSocket) {
        let path = table.string("path").map(|path| AdminEndpoint::Unix(path.into()));
        let tcp = table.parsed("address", admin_address);
        let key = if path.is_some() { "path" } else { "address" };
        let at = match (path, tcp) {
            (Some(at), None) | (None, Some(at)) => at,
            (Some(_), Some(_)) => {
                table.context.error(table.at, "this admin socket has a path and an address", None);
                continue;
            }
            (None, None) if table.value("address").is_some() => continue,
            (None, None) => {
                let help = Some("add path = \"/run/...\"".to_owned());
                table.context.error(table.at, "this admin socket has no path", help);
                continue;
            }
        };
        let level = match table.string("level").as_deref() {
            Some("user") => AdminLevel::User,
            Some("admin") => AdminLevel::Admin,
            _ => AdminLevel::Operator,
        };
        let socket = AdminSocket { at, mode: file_mode(&table), level };
        sockets.push((table.value_at(key), socket));
    }
    for (index, (at, socket)) in sockets.iter().enumerate() {
        if let AdminEndpoint::Unix(path) = &socket.at
            && !path.is_absolute()
        {
            let message = format!("the path of an admin socket starts with /, and {path:?} does not");
            admin.context.error(*at, message, None);
        }
        if sockets[..index].iter().any(|(_, other)| other.at == socket.at) {
            admin.context.error(*at, format!("two admin sockets are at {}", socket.at), None);
        }
    }
    sockets.into_iter().map(|(_, socket)| socket).collect()
}

/// An inherited socket, or an address of this machine's loopback network. Others could read along and give orders: there is no
/// TLS here.
fn admin_address(text: &str) -> Result<AdminEndpoint, Problem> {
    if let Some(number) = text.strip_prefix("fd@") {
        let fd = number.parse().ok().filter(|fd| *fd >= 0);
        return fd
            .map(AdminEndpoint::Fd)
            .ok_or_else(|| Problem::new(format!("\"{text}\" is no inherited socket: write fd@3")));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(AdminEndpoint::Tcp(address)),
        Ok(address) => Err(Problem::with_help(
            format!("an admin socket must not listen on {address}: whoever reaches it could give orders"),
            "write an address of the loopback network, \"127.0.0.1:9999\", and reach it through an SSH tunnel",
        )),
        Err(_) => Err(Problem::with_help(
            format!("\"{text}\" is no address with a port"),
            "write \"127.0.0.1:9999\" or \"[::1]:9999\"",
        )),
    }
}

fn file_mode(table: &Section<'_>) -> u32 {
    let Some(value) = table.value("mode") else { return SOCKET_MODE_DEFAULT };
    let mode = match value.data {
        Data::Integer(number) => u32::try_from(number).ok(),
        _ => table.string("mode").and_then(|text| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok()),
    };
    if let Some(mode) = mode.filter(|mode| *mode <= 0o777) {
        return mode;
    }
    let help = "write the octal digits as a string, \"660\", or as an octal number, 0o660".to_owned();
    table.error("mode", "this is no file mode", Some(help));
    SOCKET_MODE_DEFAULT
}
