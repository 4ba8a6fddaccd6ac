//! Listening sockets: how a bind becomes one on each core, and accepting from it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::conn::{Conn, set_transparent};
use super::op::{Keep, Op, Yields};
use super::sys;
use crate::base::net::Addr;

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint<'a> {
    /// TCP. Port 0: the kernel chooses.
    Ip(SocketAddr),
    /// A UNIX stream socket by path; a dead socket file in its place is replaced.
    Unix(&'a Path),
    /// A UNIX stream socket by abstract name.
    Abstract(&'a str),
    /// A listening socket that the parent left open.
    Fd(RawFd),
}

/// How to listen.
#[derive(Clone, Copy, Default, Debug)]
pub struct ListenOptions<'a> {
    /// Length of the accept queue.
    pub backlog: u32,
    /// SO_BINDTODEVICE.
    pub interface: Option<&'a str>,
    /// IP_TRANSPARENT.
    pub transparent: bool,
    /// TCP_DEFER_ACCEPT.
    pub defer_accept: bool,
    /// TCP_FASTOPEN queue length; 0: off.
    pub tfo_queue: u32,
    /// TCP_MAXSEG.
    pub mss: Option<u16>,
    /// TCP_USER_TIMEOUT.
    pub tcp_user_timeout: Option<Duration>,
    /// IPV6_V6ONLY.
    pub v6only: bool,
    /// Route to the socket of the CPU that received the packet: the CPU of each socket of the group in the order in which
    /// they are opened. Set it on the first socket alone; empty: the kernel's hash decides.
    pub by_cpu: &'a [usize],
}

/// Opens a listening socket. TCP sockets are SO_REUSEPORT, so that each core has its own, and always IP_FREEBIND: a
/// standby node listens on an address that its peer holds. It may travel to the thread of its core.
pub fn listen(endpoint: Endpoint<'_>, options: ListenOptions<'_>) -> io::Result<OwnedFd> {
    match endpoint {
        Endpoint::Ip(addr) => listen_ip(addr, options),
        Endpoint::Unix(path) => {
            remove_dead_socket(path)?;
            listen_unix(&SockAddr::unix(path)?, options)
        }
        Endpoint::Abstract(name) => {
            let mut address = vec![0];
            address.extend_from_slice(name.as_bytes());
            listen_unix(&SockAddr::unix(std::ffi::OsStr::from_bytes(&address))?, options)
        }
        Endpoint::Fd(fd) => adopt(fd),
    }
}

fn listen_ip(addr: SocketAddr, options: ListenOptions<'_>) -> io::Result<OwnedFd> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    let fd = socket.as_raw_fd();
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(options.v6only)?;
        sys::setsockopt_int(fd, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1)?;
    } else {
        sys::setsockopt_int(fd, libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
    }
    if options.transparent {
        set_transparent(&socket, addr.ip())?;
    }
    if let Some(interface) = options.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(mss) = options.mss {
        socket.set_tcp_mss(u32::from(mss))?;
    }
    if let Some(timeout) = options.tcp_user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    if options.defer_accept {
        // Seconds until the kernel gives up waiting for data and hands the connection over anyway.
        sys::setsockopt_int(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)?;
    }
    if options.tfo_queue > 0 {
        let queue = i32::try_from(options.tfo_queue).unwrap_or(i32::MAX);
        sys::setsockopt_int(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)?;
    }
    socket.bind(&SockAddr::from(addr))?;
    if !options.by_cpu.is_empty() {
        sys::attach_reuseport_cpu(fd, options.by_cpu)?;
    }
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

fn listen_unix(addr: &SockAddr, options: ListenOptions<'_>) -> io::Result<OwnedFd> {
    let socket = Socket::new_raw(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(addr)?;
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

fn backlog(options: ListenOptions<'_>) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

/// A socket file that nobody listens on is a leftover of a process that died; one that answers belongs to somebody.
fn remove_dead_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
            Err(_) => std::fs::remove_file(path),
        },
        _ => Ok(()),
    }
}

/// Checks that an inherited descriptor is a listening socket, and makes it ours.
fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes no pointers here; F_DUPFD_CLOEXEC gives a fresh descriptor, or an error for a number that is
    // not open. The inherited number itself stays open, it belongs to the process as a whole.
    let copy = unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(copy)
    };
    let socket = Socket::from(copy);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket of ours for the same connection queue, for another core. Only UNIX and inherited sockets are shared so.
pub fn share(fd: &OwnedFd) -> io::Result<OwnedFd> {
    fd.try_clone()
}

/// The address that a socket is bound to: the port that the kernel chose for 0.
pub fn bound_addr(fd: &OwnedFd) -> Addr {
    match socket2::SockRef::from(fd).local_addr() {
        Ok(addr) => addr.as_socket().map_or(Addr::Unix, Addr::Ip),
        Err(_) => Addr::Unknown,
    }
}

/// Where a socket is bound, as a configuration names it: `127.0.0.1:80`, `unix@/run/x.sock`, `abns@name`.
pub fn bound_name(fd: &OwnedFd) -> Option<String> {
    let address = socket2::SockRef::from(fd).local_addr().ok()?;
    let ip = address.as_socket().map(|ip| ip.to_string());
    let path = || address.as_pathname().map(|path| format!("unix@{}", path.display()));
    let name =
        || address.as_abstract_namespace().map(|name| format!("abns@{}", String::from_utf8_lossy(name)));
    ip.or_else(path).or_else(name)
}

thread_local! {
    /// Addresses that sockets of this core listen on; a connection knows its own by its place, from 1 on.
    static OWN: RefCell<Vec<SocketAddr>> = const { RefCell::new(Vec::new()) };
}

/// The address of all connections that come from a listening socket, as its place in the list; `None`: each has another.
fn own_place(fd: &OwnedFd) -> Option<NonZeroU16> {
    let socket = socket2::SockRef::from(fd);
    let address = socket.local_addr().ok()?.as_socket().filter(|address| !address.ip().is_unspecified())?;
    // With it the kernel hands over what was meant for others.
    let (level, name) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    };
    if sys::getsockopt_int(fd.as_raw_fd(), level, name).ok()? != 0 {
        return None;
    }
    OWN.with_borrow_mut(|own| {
        let at = own.iter().position(|known| *known == address).unwrap_or_else(|| {
            own.push(address);
            own.len() - 1
        });
        NonZeroU16::new(u16::try_from(at + 1).ok()?)
    })
}

/// The address at a place.
pub(super) fn own_address(place: NonZeroU16) -> SocketAddr {
    OWN.with_borrow(|own| own[usize::from(place.get()) - 1])
}

/// A listening socket on its core.
#[derive(Debug)]
pub struct Listener {
    fd: Rc<OwnedFd>,
    op: Option<Op>,
    own: Option<NonZeroU16>,
}

impl Listener {
    /// Takes over a socket made by [`listen`].
    pub fn new(fd: OwnedFd) -> Self {
        let own = own_place(&fd);
        Listener { fd: Rc::new(fd), op: None, own }
    }

    /// The next connection. After an error it may be called again; EMFILE, ENFILE, ENOBUFS and ENOMEM last until
    /// something is freed, so the caller waits before it does.
    pub async fn accept(&mut self) -> io::Result<Conn> {
        let fd = poll_fn(|cx| {
            let raw = self.fd.as_raw_fd();
            let op = self.op.get_or_insert_with(|| arm(raw));
            op.poll_multi(cx).map(|(done, more)| {
                if !more {
                    self.op = None;
                }
                done.count()
            })
        })
        .await?;
        let fd = i32::try_from(fd).expect("descriptors are ints");
        // SAFETY: accept gave us this descriptor, nobody else knows it.
        Ok(Conn::from_fd(unsafe { OwnedFd::from_raw_fd(fd) }).at(self.own))
    }

    /// Stops accepting: [`accept`](Self::accept) hands out what was accepted already and then fails with ECANCELED.
    pub fn cancel(&mut self) {
        if let Some(op) = &self.op {
            op.cancel();
        }
    }

    /// Whether an accept operation is in flight or has connections to hand out.
    pub fn is_accepting(&self) -> bool {
        self.op.is_some()
    }

    /// A connection that waits in the kernel's accept queue, without waiting for one.
    pub fn accept_now(&self) -> Option<Conn> {
        sys::accept(self.fd.as_raw_fd()).ok().map(|fd| Conn::from_fd(fd).at(self.own))
    }

    /// Gives it other options, for connections that come from now on: all but those that only a new socket can have (`interface`,
    /// `transparent`, `v6only`). One core of a group sets `by_cpu` for all; `None`: it stays as it is.
    ///
    /// # Errors
    /// The kernel refuses one; those after it are as before.
    pub fn set_options(&self, options: ListenOptions<'_>, by_cpu: Option<&[usize]>) -> io::Result<()> {
        let (socket, fd) = (socket2::SockRef::from(&self.fd), self.fd.as_raw_fd());
        // listen(2) a second time changes the length of the queue.
        socket.listen(backlog(options))?;
        if !matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6) {
            return Ok(());
        }
        socket.set_tcp_mss(options.mss.map_or(0, u32::from))?;
        socket.set_tcp_user_timeout(Some(options.tcp_user_timeout.unwrap_or_default()))?;
        let is_deferred = i32::from(options.defer_accept);
        sys::setsockopt_int(fd, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, is_deferred)?;
        let queue = i32::try_from(options.tfo_queue).unwrap_or(i32::MAX);
        sys::setsockopt_int(fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)?;
        match by_cpu {
            None => Ok(()),
            Some([]) => sys::detach_reuseport(fd),
            Some(cpus) => sys::attach_reuseport_cpu(fd, cpus),
        }
    }

    /// The socket. Who only looks at it holds a weak reference, or it stays open.
    pub fn fd(&self) -> &Rc<OwnedFd> {
        &self.fd
    }
}

fn arm(fd: RawFd) -> Op {
    let entry = opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).build();
    // SAFETY: a multishot accept writes no address: it points at no memory.
    unsafe { Op::submit_multi(entry, Keep::Nothing, Yields::Descriptor) }
}
