//! A connected stream socket that we own: receive, send, wait for readiness, half-close, close.
//!
//! A receive waits for data without holding a buffer. Closing goes through the ring, after everything queued before it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::types::Fd;
use io_uring::{cqueue, opcode};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::bufs::{self, RecvBuf};
use super::op::{Done, Keep, Op, SendBuf, Yields};
use super::time::{now, sleep_until};
use super::{listen, ring, sys};
use crate::base::limits::BUF_BYTES;
use crate::base::net::Addr;

/// IORING_RECVSEND_POLL_FIRST: do not try at once, wait for readiness first.
const POLL_FIRST: u16 = 1;

/// Bytes up to which a send may be made by a system call of its own.
const SENT_AT_ONCE_MAX: usize = BUF_BYTES;

/// How often a half-closed connection is looked at that somebody waits for to end.
const HALF_CLOSED_LOOK: Duration = Duration::from_millis(100);

/// How a peer hung up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hangup {
    /// In order: it sends nothing more, and may read still.
    Closed,
    /// With a reset.
    Reset,
}

/// A connected stream socket of this core.
#[derive(Debug)]
pub struct Conn {
    fd: RawFd,
    /// The last receive left data in the socket (IORING_CQE_F_SOCK_NONEMPTY), or nothing was received yet: trying at
    /// once is likely to succeed. Otherwise waiting for readiness first saves a failing attempt.
    likely_ready: Cell<bool>,
    /// Its own address, where that is the one of the socket that it was accepted from.
    own: Option<NonZeroU16>,
}

// Every idle connection has one.
const _: () = assert!(size_of::<Conn>() == 8);

impl Conn {
    /// Takes over a connected, non-blocking socket.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Conn { fd: fd.into_raw_fd(), likely_ready: Cell::new(true), own: None }
    }

    /// The same with an own address that is known.
    pub(super) fn at(mut self, own: Option<NonZeroU16>) -> Self {
        self.own = own;
        self
    }

    /// Gives the socket away, to another core for example. No operation may be in flight.
    pub fn into_fd(self) -> OwnedFd {
        let conn = std::mem::ManuallyDrop::new(self);
        // SAFETY: the descriptor is ours, and `ManuallyDrop` keeps `drop` from closing it too.
        unsafe { OwnedFd::from_raw_fd(conn.fd) }
    }

    /// Receives what is there, up to one buffer. `None`: the peer has half-closed. Dropping the future may lose bytes
    /// that arrive at that moment: after that the connection is only good for closing. Where it has to stay usable, wait
    /// with [`readable`](Self::readable) first.
    pub fn recv(&self) -> Recv<'_> {
        Recv { conn: self, receiving: Receiving::default() }
    }

    /// Sends some of the bytes; gives them back, advanced by what was sent.
    pub fn send(&self, data: SendBuf) -> Send<'_> {
        Send { conn: self, state: SendState::Start(data), more: false }
    }

    /// As [`send`](Self::send) when more bytes follow at once: the kernel may wait for them (MSG_MORE).
    pub fn send_more(&self, data: SendBuf) -> Send<'_> {
        Send { conn: self, state: SendState::Start(data), more: true }
    }

    /// Sends everything.
    pub async fn send_all(&self, data: impl Into<SendBuf>) -> io::Result<()> {
        let mut data = data.into();
        while !data.remaining().is_empty() {
            let (sent, rest) = self.send(data).await;
            sent?;
            data = rest;
        }
        Ok(())
    }

    /// Waits until a receive would not block (also at the end of the stream and on an error).
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(libc::POLLIN | libc::POLLRDHUP).await.map(drop)
    }

    /// Waits until the connection is over in both directions: reset, or closed by both. Data and a half-close do not
    /// count.
    pub async fn closed(&self) -> io::Result<()> {
        // POLLHUP and POLLERR are always reported; io_uring adds POLLRDHUP to them, and says it again at once as long as it
        // holds. So the end of a connection that is half-closed is looked for now and then.
        let over = usize::from((libc::POLLHUP | libc::POLLERR | libc::POLLNVAL).cast_unsigned());
        while self.ready(0).await? & over == 0 {
            sleep_until(now() + HALF_CLOSED_LOOK).await;
        }
        Ok(())
    }

    /// Waits until the peer has closed its direction, or the connection is over.
    pub async fn half_closed(&self) -> io::Result<Hangup> {
        let reset = usize::from(libc::POLLERR.cast_unsigned());
        let events = self.ready(libc::POLLRDHUP).await?;
        Ok(if events & reset == 0 { Hangup::Closed } else { Hangup::Reset })
    }

    /// Waits until a send would not block.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(libc::POLLOUT).await.map(drop)
    }

    /// Waits for one of these events; what holds then.
    async fn ready(&self, events: i16) -> io::Result<usize> {
        let mut op = start_poll(self, events);
        let (done, _) = poll_fn(|cx| op.poll(cx)).await;
        done.count()
    }

    /// Copies first bytes without taking them (MSG_PEEK). Non-blocking.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        sys::recv(self.fd, buf, libc::MSG_PEEK)
    }

    /// Sends what the kernel takes at once. Nothing else may be on its way to the peer.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        sys::send(self.fd, bytes, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
    }

    /// Half-closes: the peer reads to the end of what was sent.
    pub fn shutdown_write(&self) -> io::Result<()> {
        sys::shutdown(self.fd, libc::SHUT_WR)
    }

    /// Ends both directions at once; operations in flight complete.
    pub fn shutdown(&self) -> io::Result<()> {
        sys::shutdown(self.fd, libc::SHUT_RDWR)
    }

    /// Makes the close a reset (RST): the peer learns that something went wrong. For errors only.
    pub fn reset_on_close(&self) {
        // A socket whose peer is gone already refuses; then there is nobody to tell.
        let _ = self.as_socket().set_linger(Some(Duration::ZERO));
    }

    /// The peer vanishes silently: nothing is sent when the socket closes (TCP_REPAIR, needs CAP_NET_ADMIN). Where that is not
    /// allowed a reset is sent that gets no further than to the first router: peers elsewhere hear nothing either.
    pub fn forget_peer(&self) {
        if sys::setsockopt_int(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1).is_err() {
            // One of them is of the other family and refused.
            let _ = sys::setsockopt_int(self.fd, libc::IPPROTO_IP, libc::IP_TTL, 1);
            let _ = sys::setsockopt_int(self.fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, 1);
            self.reset_on_close();
        }
    }

    /// The address of the other end, which may be gone.
    pub fn peer_addr(&self) -> Addr {
        // getpeername(2) knows nobody any more once a reset is here; SO_PEERNAME does.
        let gone = |_| sys::peer_name(self.fd).map_or(Addr::Unknown, to_addr);
        self.as_socket().peer_addr().map_or_else(gone, to_addr)
    }

    /// The address of this end.
    pub fn local_addr(&self) -> Addr {
        if let Some(place) = self.own {
            return Addr::Ip(listen::own_address(place));
        }
        self.as_socket().local_addr().map_or(Addr::Unknown, to_addr)
    }

    /// Who is at the other end of a UNIX socket: user id and process id at the time of its connect (SO_PEERCRED).
    pub fn peer_credentials(&self) -> Option<(u32, i32)> {
        sys::peer_credentials(self.fd)
    }

    /// Lets the kernel hold so many bytes for a peer that reads slowly (SO_SNDBUF); without the privilege it grants up to
    /// net.core.wmem_max.
    pub fn hold(&self, bytes: usize) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        // Refused, a long answer merely takes more turns.
        if sys::setsockopt_int(self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes).is_err() {
            let _ = sys::setsockopt_int(self.fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
        }
    }

    /// SO_ERROR: the reason why the connection failed, if it did.
    pub fn take_error(&self) -> Option<io::Error> {
        self.as_socket().take_error().ok().flatten()
    }

    /// Whether the connection is open and nothing waits to be received. For a connection without a receive in flight.
    pub fn is_silent(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = self.as_socket().recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
        matches!(peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// The socket's descriptor, for splice and for `show fd`.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd
    }

    fn as_socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        close_fd(self.fd);
    }
}

/// Closes through the ring: in order with what was queued before, and batched with the next turn.
pub(super) fn close_fd(fd: RawFd) {
    ring::with(|r| r.push_close(fd));
}

fn to_addr(addr: SockAddr) -> Addr {
    match addr.as_socket() {
        Some(ip) => Addr::Ip(ip),
        None if addr.is_unix() => Addr::Unix,
        None => Addr::Unknown,
    }
}

/// A receive that borrows no connection: it may stay armed while the connection moves about, and be looked at later.
/// Poll it with the same connection always.
#[derive(Debug, Default)]
pub struct Receiving {
    op: Option<Op>,
    /// The kernel found no buffer for it.
    starved: bool,
}

impl Receiving {
    /// Arms it, unless it is; nobody is woken when it completes before it is polled.
    pub fn arm(&mut self, conn: &Conn) {
        if self.op.is_none() && !self.starved {
            self.op = Some(start_recv(conn));
        }
    }

    /// Arms it, and lets its completion be listed under `token` instead of waking a task; see
    /// [`poll_listed`](super::poll_listed). Polling it again takes it off the list.
    pub fn list(&mut self, conn: &Conn, token: u32) {
        // Whoever found no buffer before finds out again when data is here, which is the time to look.
        self.starved = false;
        self.arm(conn);
        if let Some(op) = &self.op {
            op.list(token);
        }
    }

    /// Takes it back, if it is armed. True: it brought nothing, so the connection is as it was and may be given away.
    pub async fn disarm(&mut self) -> bool {
        let Some(mut op) = self.op.take() else { return !self.starved };
        op.cancel();
        let (done, _) = poll_fn(|cx| op.poll(cx)).await;
        if let Some(id) = cqueue::buffer_select(done.flags) {
            bufs::refuse(id);
        }
        matches!(done.count(), Err(e) if e.raw_os_error() == Some(libc::ECANCELED))
    }

    /// Whether it is armed and nothing came yet.
    pub fn is_waiting(&self) -> bool {
        self.op.as_ref().is_some_and(|op| !op.is_done())
    }

    /// Whether it may already have taken bytes off the connection.
    pub fn is_armed(&self) -> bool {
        self.op.is_some()
    }

    /// Ready with what arrived; arms it if it is not. See [`Conn::recv`].
    pub fn poll(&mut self, conn: &Conn, cx: &Context<'_>) -> Poll<io::Result<Option<RecvBuf>>> {
        loop {
            if self.starved {
                // Asking again without a buffer would only fail again, however often this is polled.
                if !bufs::available(cx.waker()) {
                    return Poll::Pending;
                }
                self.starved = false;
            }
            let op = self.op.get_or_insert_with(|| start_recv(conn));
            let Poll::Ready((done, _)) = op.poll(cx) else { return Poll::Pending };
            self.op = None;
            let buffer = cqueue::buffer_select(done.flags);
            match done.count() {
                Ok(n) => {
                    conn.likely_ready.set(cqueue::sock_nonempty(done.flags));
                    let received = buffer.map(|id| bufs::take(id, n));
                    return Poll::Ready(Ok(received.filter(|_| n > 0)));
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    conn.likely_ready.set(true);
                    bufs::ran_out();
                    self.starved = true;
                }
                Err(e) => {
                    if let Some(id) = buffer {
                        bufs::refuse(id);
                    }
                    return Poll::Ready(Err(e));
                }
            }
        }
    }
}

/// Asks for the readiness of a connection.
pub(super) fn start_poll(conn: &Conn, events: i16) -> Op {
    let poll = opcode::PollAdd::new(Fd(conn.fd), u32::from(events.cast_unsigned())).build();
    // SAFETY: a poll points at no memory.
    unsafe { Op::submit(poll, Keep::Nothing, Yields::Count) }
}

fn start_recv(conn: &Conn) -> Op {
    let len = u32::try_from(BUF_BYTES).expect("16 KiB");
    let ioprio = if conn.likely_ready.get() { 0 } else { POLL_FIRST };
    let entry = opcode::Recv::new(Fd(conn.fd), std::ptr::null_mut(), len)
        .buf_group(bufs::GROUP)
        .ioprio(ioprio)
        .build()
        .flags(Flags::BUFFER_SELECT);
    // SAFETY: the entry points at no memory, the kernel picks a buffer of the pool.
    unsafe { Op::submit(entry, Keep::Nothing, Yields::Count) }
}

/// The future of [`Conn::recv`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Recv<'a> {
    conn: &'a Conn,
    receiving: Receiving,
}

impl Future for Recv<'_> {
    type Output = io::Result<Option<RecvBuf>>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Recv { conn, receiving } = &mut *self;
        receiving.poll(conn, cx)
    }
}

/// A send that borrows no connection. [`start`](Sending::start) hands it to the kernel with the next turn; it goes on
/// whether it is polled or not, and wakes nobody who has not polled it.
#[derive(Debug, Default)]
pub struct Sending {
    op: Option<Op>,
}

impl Sending {
    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.op.is_none()
    }

    /// Starts to send bytes, which must not be empty. One at a time.
    pub fn start(&mut self, conn: &Conn, data: SendBuf) {
        assert!(self.op.is_none(), "one send at a time keeps the order");
        self.op = Some(start_send(conn, data, false));
    }

    /// Ready with the bytes that were sent, all of them, or with what stopped it and what is left. Ready at once when
    /// nothing is on its way.
    pub fn poll(&mut self, conn: &Conn, cx: &Context<'_>) -> Poll<(io::Result<()>, Option<SendBuf>)> {
        loop {
            let Some(op) = &mut self.op else { return Poll::Ready((Ok(()), None)) };
            let Poll::Ready((done, keep)) = op.poll(cx) else { return Poll::Pending };
            self.op = None;
            let Keep::Send(mut data) = keep else { unreachable!("a send keeps its bytes") };
            match done.count() {
                Ok(n) => data.advance(n),
                Err(e) => return Poll::Ready((Err(e), Some(data))),
            }
            if data.remaining().is_empty() {
                return Poll::Ready((Ok(()), Some(data)));
            }
            self.op = Some(start_send(conn, data, false));
        }
    }
}

fn start_send(conn: &Conn, data: SendBuf, more: bool) -> Op {
    let bytes = data.remaining();
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    // MSG_WAITALL: where the socket takes a part only, the kernel waits for room and sends the rest by itself.
    let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | if more { libc::MSG_MORE } else { 0 };
    if bytes.len() <= SENT_AT_ONCE_MAX && ring::with(|r| r.is_calm()) {
        // Its completion would wake the core once more before it may sleep. Where the
        // socket takes nothing, the ring waits for it.
        let sent = sys::send(conn.fd, bytes, (flags & !libc::MSG_WAITALL) | libc::MSG_DONTWAIT);
        if let Some(result) = sent.ok().filter(|n| *n > 0).and_then(|n| i32::try_from(n).ok()) {
            return Op::done(Done { result, flags: 0 }, Keep::Send(data));
        }
    }
    let entry = opcode::Send::new(Fd(conn.fd), bytes.as_ptr(), len).flags(flags).build();
    // SAFETY: the entry points into `data`: a pool buffer, the heap block of a Vec or a constant, none of which
    // moves when `data` does, and `data` is kept until the completion.
    unsafe { Op::submit(entry, Keep::Send(data), Yields::Count) }
}

enum SendState {
    Start(SendBuf),
    Running(Op),
    Finished,
}

/// The future of [`Conn::send`].
#[must_use = "futures do nothing unless polled"]
pub struct Send<'a> {
    conn: &'a Conn,
    state: SendState,
    more: bool,
}

impl Future for Send<'_> {
    type Output = (io::Result<usize>, SendBuf);

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let SendState::Start(_) = self.state {
            let SendState::Start(data) = std::mem::replace(&mut self.state, SendState::Finished) else {
                unreachable!("matched above")
            };
            let op = start_send(self.conn, data, self.more);
            self.state = SendState::Running(op);
        }
        let SendState::Running(op) = &mut self.state else { panic!("send polled after its completion") };
        let Poll::Ready((done, keep)) = op.poll(cx) else { return Poll::Pending };
        self.state = SendState::Finished;
        let Keep::Send(mut data) = keep else { unreachable!("a send keeps its bytes") };
        let sent = done.count();
        if let Ok(n) = sent {
            data.advance(n);
        }
        Poll::Ready((sent, data))
    }
}

/// Where to connect to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// TCP.
    Ip(SocketAddr),
    /// A UNIX stream socket by path.
    Unix(&'a Path),
    /// A UNIX stream socket by abstract name.
    Abstract(&'a str),
}

/// How to connect.
#[derive(Clone, Copy, Default, Debug)]
pub struct ConnectOptions {
    /// Local address; with port 0 the kernel chooses the port at connect time (IP_BIND_ADDRESS_NO_PORT).
    pub source: Option<SocketAddr>,
    /// IP_TRANSPARENT: the local address need not be ours.
    pub transparent: bool,
    /// TCP_USER_TIMEOUT.
    pub tcp_user_timeout: Option<Duration>,
}

/// Opens a connection. Wrap it in [`with_deadline`](super::with_deadline); dropping it gives up.
pub async fn connect(target: Target<'_>, options: ConnectOptions) -> io::Result<Conn> {
    let addr = match target {
        Target::Ip(ip) => SockAddr::from(ip),
        Target::Unix(path) => SockAddr::unix(path)?,
        Target::Abstract(name) => SockAddr::unix(format!("\0{name}"))?,
    };
    let socket = new_socket(&addr)?;
    if let Target::Ip(_) = target {
        socket.set_tcp_nodelay(true)?;
        prepare_source(&socket, options)?;
    }
    let conn = Conn::from_fd(socket.into());
    // A fresh connection has nothing to read yet unless the server speaks first: wait for readiness.
    conn.likely_ready.set(false);
    let addr = Box::new(addr);
    let entry = opcode::Connect::new(Fd(conn.fd), addr.as_ptr().cast(), addr.len()).build();
    // SAFETY: the entry points at the boxed address, which is kept until the completion.
    let mut op = unsafe { Op::submit(entry, Keep::Addr(addr), Yields::Count) };
    let (done, _) = poll_fn(|cx| op.poll(cx)).await;
    done.count().map(|_| conn)
}

fn new_socket(addr: &SockAddr) -> io::Result<Socket> {
    let domain = addr.domain();
    let protocol = (domain != Domain::UNIX).then_some(Protocol::TCP);
    let socket = Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), protocol)?;
    Ok(socket)
}

fn prepare_source(socket: &Socket, options: ConnectOptions) -> io::Result<()> {
    if let Some(timeout) = options.tcp_user_timeout {
        socket.set_tcp_user_timeout(Some(timeout))?;
    }
    let Some(source) = options.source else { return Ok(()) };
    if options.transparent {
        set_transparent(socket, source.ip())?;
    }
    if source.port() == 0 {
        // Without it bind() itself searches a port that is free towards everybody; with it connect() finds one that is
        // free towards this server (ip(7)).
        let (level, name) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
        sys::setsockopt_int(socket.as_raw_fd(), level, name, 1)?;
    } else {
        // A port of ours may still be in TIME_WAIT towards another server.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(source))
}

/// IP_TRANSPARENT or IPV6_TRANSPARENT.
pub(super) fn set_transparent(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    let (level, name) = match ip {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    };
    sys::setsockopt_int(socket.as_raw_fd(), level, name, 1)
}
