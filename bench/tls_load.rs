//! Loads of TLS: handshakes, full ones or resumed ones, and connections that stay open. Threads that block: what is measured is the proxy's CPU
//! time, and a handshake costs this side as much as that one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme, StreamOwned,
};

use super::watch::Watch;
use super::{Options, Tally, report};

/// Handshakes at a time: enough that the proxy is never without one.
const THREADS: usize = 8;

/// What is done with a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A full handshake, one request, the end.
    Full,
    /// The same with a session that is resumed.
    Resumed,
    /// They stay open.
    Idle,
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Runs it and prints the record.
pub(crate) fn run(mode: Mode, options: &Options) -> io::Result<()> {
    if mode == Mode::Idle { idle(options) } else { handshakes(mode, options) }
}

fn idle(options: &Options) -> io::Result<()> {
    let watch = Watch::new(&options.watch);
    let config = config(Mode::Full);
    // What the first connections of a process need is not theirs.
    let mut open = vec![connect(options, &config)?];
    thread::sleep(Duration::from_millis(200));
    let rss_before = watch.rss_kib()?;
    let mut tally = Tally::new()?;
    while open.len() <= options.connections {
        let started = Instant::now();
        open.push(connect(options, &config)?);
        tally.done(started);
    }
    thread::sleep(Duration::from_secs_f64(options.warmup));
    let before = watch.read()?;
    thread::sleep(Duration::from_secs_f64(options.seconds));
    let used = watch.read()?.since(&before);
    report(&tally, options.seconds, &used, watch.rss_kib()?, Some(rss_before));
    Ok(())
}

fn handshakes(mode: Mode, options: &Options) -> io::Result<()> {
    let (stop, done, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut tally = Tally::new()?;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let config = config(mode);
                let mut first = true;
                while !stop.load(Ordering::Relaxed) {
                    let connected = connect(options, &config);
                    let wanted =
                        if mode == Mode::Resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
                    let is_good =
                        connected.is_ok_and(|tls| first || tls.conn.handshake_kind() == Some(wanted));
                    // Nothing can be resumed yet.
                    first = false;
                    if is_good { &done } else { &failed }.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let result = (|| {
            thread::sleep(Duration::from_secs_f64(options.warmup));
            let watch = Watch::new(&options.watch);
            let (before, already) = (watch.read()?, done.load(Ordering::Relaxed));
            let start = Instant::now();
            thread::sleep(Duration::from_secs_f64(options.seconds));
            let used = watch.read()?.since(&before);
            tally.units = done.load(Ordering::Relaxed) - already;
            tally.errors = failed.load(Ordering::Relaxed);
            report(&tally, start.elapsed().as_secs_f64(), &used, watch.rss_kib()?, None);
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn connect(options: &Options, config: &Arc<ClientConfig>) -> io::Result<Tls> {
    let target: SocketAddr = options.target;
    let socket = TcpStream::connect(target)?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("bench.test").map_err(io::Error::other)?;
    let client = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(client, socket);
    write!(tls, "GET {} HTTP/1.1\r\nHost: bench.test\r\n\r\n", options.path)?;
    tls.flush()?;
    read_response(&mut tls)?;
    Ok(tls)
}

/// Reads a response with a Content-Length.
fn read_response(tls: &mut Tls) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = tls.read(&mut chunk)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..n]);
        let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let len =
            text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if bytes.len() >= head + len.unwrap_or(0) {
            return Ok(());
        }
    }
}

fn config(mode: Mode) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("all versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = builder.with_no_client_auth();
    if mode != Mode::Resumed {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

/// The certificate is made for the run; that it is good is not what is measured.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
