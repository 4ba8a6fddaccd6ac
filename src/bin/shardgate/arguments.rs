//! What the command line may say.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use shardgate::control::vip::{bird, watch};
use shardgate::control::{self, ctl};

/// A load balancer for HTTP and TCP, one thread per core.
#[derive(Parser)]
#[command(version, about)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run until SIGTERM (finishes what runs) or a second SIGINT (now)
    Run {
        #[command(flatten)]
        source: Source,
        /// Take the listening sockets over from the process behind this admin socket; it finishes what runs, and leaves
        #[arg(long, value_name = "SOCKET")]
        takeover: Option<PathBuf>,
    },
    /// Start three origin servers with a proxy in front of them, and say what to try
    Demo,
    /// Say everything that is wrong with a configuration file
    Check {
        #[command(flatten)]
        source: Source,
    },
    /// Write HAProxy's configuration as TOML, and say of each directive how well it is kept
    ///
    /// Exits with 0 if all is exact or harmless, 2 if something is approximate, 3 if something is not supported.
    Import {
        /// HAProxy's configuration files, or directories with *.cfg
        #[arg(required = true, value_name = "HAPROXY_CFG")]
        files: Vec<PathBuf>,
        /// Where to write the TOML; standard output without it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Say what a configuration file would change in a running process: exit code 0 nothing, 2 something
    Plan {
        #[command(flatten)]
        source: Source,
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// Make a running process read its configuration again; nothing changes if anything is wrong with it
    Reload {
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
        /// Go back by itself unless `shardgate confirm` comes within this time (2m)
        #[arg(long, value_name = "TIME")]
        confirm: Option<String>,
        /// Go back as soon as this holds: 'http_5xx > 1% or p99 > 2x'
        #[arg(long, value_name = "CONDITION", requires = "confirm")]
        abort_if: Option<String>,
    },
    /// Keep the configuration that `reload --confirm` has put on trial
    Confirm {
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// Run an earlier configuration again
    Rollback {
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
        /// Its generation (`show configurations`); without it the configuration before
        generation: Option<u32>,
    },
    /// Say what a configuration does with a request, rule by rule, and why
    ///
    /// Nothing is sent to a server. The request goes the way that one of a client would go, up to the choice of a server.
    Explain {
        #[command(flatten)]
        source: Explained,
        /// Which [node.NAME] of the configuration is this machine; without it the host name says
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// 'GET https://host/path', or 'tcp 203.0.113.7:5000 -> :443'
        request: String,
        /// Header of the request, 'name: value'; several times for several
        #[arg(short = 'H', long = "header", value_name = "LINE")]
        headers: Vec<String>,
        /// Address of the client
        #[arg(long, value_name = "IP")]
        src: Option<IpAddr>,
        /// Name that the client asks for in its TLS handshake; the host of the URL without it
        #[arg(long, value_name = "NAME")]
        sni: Option<String>,
        /// File with the certificate that the client shows, and its key
        #[arg(long, value_name = "PEM")]
        client_cert: Option<PathBuf>,
        /// File with the body of the request, or with the first bytes of a TCP connection
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
        /// Frontend that it comes to; else port and scheme say
        #[arg(long, value_name = "NAME")]
        frontend: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch a running process in the terminal: rates, queues, latencies, loads; drain and enable servers
    Top {
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// Put the requests of an access log to a configuration, and say which of them it would treat differently
    ///
    /// Reads `log-format = "json"`, and HAProxy's httplog and tcplog. Nothing is sent anywhere. Exits with 0 if all are treated
    /// as the log says, 2 if some are not.
    Replay {
        /// The log; `-`: standard input
        log: PathBuf,
        #[command(flatten)]
        source: Source,
        /// Which captured request header of httplog is Host
        #[arg(long, value_name = "N", default_value_t = 1)]
        host_capture: usize,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at this machine with a configuration in mind, and say what to change
    ///
    /// Exits with 0 if there is nothing to change, 2 if something should be changed, 1 if something that is configured does not work.
    Doctor {
        #[command(flatten)]
        source: Source,
        /// Change what can be changed: sysctls, interrupts of network cards
        #[arg(long)]
        apply: bool,
        /// Where --apply keeps sysctls for later starts
        #[arg(long, value_name = "FILE", default_value = control::doctor::DEFAULT_FILE)]
        sysctl_file: PathBuf,
        /// Admin socket of a process that may run already
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// Bring packets for other hosts' addresses to transparent binds and servers with source = "client"
    Transparent {
        #[command(subcommand)]
        action: Transparent,
    },
    /// Answer connections through the gateway of the interface that they came by
    Gateways {
        #[command(subcommand)]
        action: Gateways,
    },
    /// Service addresses of several nodes: keepalived moves them, or BIRD announces them
    Vip {
        #[command(subcommand)]
        action: Vip,
    },
    /// Write manual pages and shell completions: what the package is made of
    #[command(hide = true)]
    Assets {
        /// Where to write them
        directory: PathBuf,
    },
    /// Send commands to the admin socket of a running process and print its answers
    Ctl {
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
        /// Commands, each one argument: 'show stat'; none: a dialogue in a terminal, else they are read from standard input, one a line
        commands: Vec<String>,
    },
}

#[derive(Subcommand)]
pub(super) enum Gateways {
    /// Print the policy routes as snippets for systemd-networkd
    Networkd {
        #[command(flatten)]
        source: Source,
    },
    /// Set them now, until the machine starts again
    Install {
        #[command(flatten)]
        source: Source,
    },
    /// Take them back
    Remove,
}

#[derive(Subcommand)]
pub(super) enum Vip {
    /// Print keepalived's configuration for this node
    Keepalived {
        #[command(flatten)]
        source: Source,
        /// Where `watch` writes what keepalived is to know
        #[arg(long, default_value = watch::DIRECTORY)]
        directory: PathBuf,
    },
    /// Print BIRD's configuration
    Bird {
        #[command(flatten)]
        source: Source,
    },
    /// Tell keepalived and BIRD at once when this node serves and when it does not; runs until it is stopped
    Watch {
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
        /// BIRD's control socket
        #[arg(long, value_name = "SOCKET", default_value = bird::BIRD_SOCKET)]
        bird: PathBuf,
        /// Where files for keepalived are written
        #[arg(long, default_value = watch::DIRECTORY)]
        directory: PathBuf,
    },
    /// Have BIRD withdraw all addresses
    Withdraw {
        /// BIRD's control socket
        #[arg(long, value_name = "SOCKET", default_value = bird::BIRD_SOCKET)]
        bird: PathBuf,
    },
    /// keepalived's track script: exit code 0 if the process answers
    Check {
        /// The address
        name: String,
        /// Only if this node is to have it: it is not drained and its backends have servers
        #[arg(long)]
        serves: bool,
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
        /// Where a watcher works: while it does, keepalived knows already
        #[arg(long, value_name = "DIRECTORY")]
        watched: Option<PathBuf>,
    },
    /// keepalived's notify hook: what it says goes to the process
    Notify {
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
        /// INSTANCE
        kind: String,
        /// The address
        name: String,
        /// MASTER, BACKUP, FAULT or STOP
        role: String,
        /// Its priority, which keepalived says too
        priority: Option<String>,
    },
}

#[derive(Subcommand)]
pub(super) enum Transparent {
    /// Tell the kernel (nftables and a policy route), in place of what was there
    Install {
        #[command(flatten)]
        source: Source,
    },
    /// Take it back
    Remove,
    /// Print what `install` would do, as a script
    Show {
        #[command(flatten)]
        source: Source,
    },
}

/// Where the configuration is, and for whom.
#[derive(clap::Args)]
pub(super) struct Source {
    #[command(flatten)]
    pub(super) files: Files,
    /// Which [node.NAME] of the configuration is this machine; without it the host name says
    #[arg(long, value_name = "NAME")]
    pub(super) node: Option<String>,
}

/// Where the configuration is that explains.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Explained {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// HAProxy's configuration file, or a directory with *.cfg; several are read as one
    #[arg(short = 'f', long = "haproxy", value_name = "HAPROXY_CFG")]
    pub(super) haproxy: Vec<PathBuf>,
    /// Admin socket of a running process: what it runs explains, with its servers as they are now
    #[arg(short, long, value_name = "SOCKET")]
    pub(super) socket: Option<PathBuf>,
}

/// Where the configuration is.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Files {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// HAProxy's configuration file, or a directory with *.cfg; several are read as one
    #[arg(short = 'f', long = "haproxy", value_name = "HAPROXY_CFG")]
    pub(super) haproxy: Vec<PathBuf>,
}
