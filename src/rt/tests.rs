//! The runtime against real sockets: every operation, and every operation given up at any point.
#![allow(clippy::cast_possible_truncation, reason = "test patterns wrap on purpose")]

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::*;

/// Runs a future on a core of its own and returns its result.
fn on_core<T, F, Fut>(main: F) -> T
where
    T: std::marker::Send + 'static,
    F: FnOnce() -> Fut + std::marker::Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let cpu = machine::cpus().expect("affinity is readable")[0];
    let spec = CoreSpec { name: "test".into(), cpu, buffers: 64, narrow: false };
    let booted = boot(vec![spec]).expect("this machine can run a core").pop().expect("one core");
    let (tx, rx) = mpsc::channel();
    let mut cores = Cores::new();
    cores
        .start(booted, move || async move {
            let value = main().await;
            tx.send(value).expect("the test waits");
        })
        .expect("the thread starts");
    let value = rx.recv_timeout(Duration::from_secs(60)).expect("the core finishes in time");
    cores.join().expect("the core stops cleanly");
    value
}

fn local() -> std::net::SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn after(ms: u64) -> Option<crate::base::time::Now> {
    Some(now() + Duration::from_millis(ms))
}

/// An origin in a thread of its own that echoes every connection until its end.
fn echo_origin() -> std::net::SocketAddr {
    let listener = TcpListener::bind(local()).expect("a port is free");
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for conn in listener.incoming() {
            let Ok(mut conn) = conn else { return };
            std::thread::spawn(move || {
                let mut buf = [0; 4096];
                while let Ok(n) = conn.read(&mut buf) {
                    if n == 0 || conn.write_all(&buf[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

async fn recv_exactly(conn: &Conn, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let buf = conn.recv().await.expect("receive works").expect("not at the end yet");
        all.extend_from_slice(&buf);
    }
    all
}

#[test]
fn a_hangup_is_waited_for() {
    use std::os::fd::AsFd;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| super::wait_hangup(ours.as_fd()));
        drop(theirs);
        assert!(waits.join().expect("no panic").is_ok());
    });
}

#[test]
fn accepts_and_echoes_a_client() {
    let (tx, rx) = mpsc::channel();
    let client = std::thread::spawn(move || {
        let addr = rx.recv().expect("the core listens");
        let mut conn = TcpStream::connect(addr).expect("the core accepts");
        conn.write_all(b"hello").expect("written");
        let mut answer = [0; 5];
        conn.read_exact(&mut answer).expect("answered");
        answer
    });
    on_core(move || async move {
        let fd = listen(Endpoint::Ip(local()), ListenOptions { backlog: 16, ..Default::default() })
            .expect("listens");
        let crate::base::net::Addr::Ip(addr) = bound_addr(&fd) else { panic!("an IP address") };
        tx.send(addr).expect("the client waits");
        let mut listener = Listener::new(fd);
        let conn = listener.accept().await.expect("accepted");
        assert!(conn.peer_addr().port().is_some());
        assert_eq!(conn.local_addr(), crate::base::net::Addr::Ip(addr));
        assert_eq!(
            Conn::from_fd(conn.as_fd().try_clone_to_owned().expect("copied")).local_addr(),
            conn.local_addr()
        );
        let buf = conn.recv().await.expect("received").expect("bytes");
        conn.send_all(buf).await.expect("sent");
        assert!(conn.recv().await.expect("received").is_none(), "the client has closed");
    });
    assert_eq!(&client.join().expect("the client is happy"), b"hello");
}

#[test]
fn connects_and_moves_many_buffers_in_order() {
    let addr = echo_origin();
    on_core(move || async move {
        let conn = connect(Target::Ip(addr), ConnectOptions::default()).await.expect("connected");
        for round in 0..200_u32 {
            let bytes: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(round) >> 3) as u8).collect();
            conn.send_all(bytes.clone()).await.expect("sent");
            assert_eq!(recv_exactly(&conn, bytes.len()).await, bytes, "round {round}");
        }
        conn.shutdown_write().expect("half-closed");
        assert!(conn.recv().await.expect("received").is_none());
    });
}

#[test]
fn a_core_stops_with_tasks_that_wait_for_io_and_time() {
    let addr = echo_origin();
    on_core(move || async move {
        let conn = connect(Target::Ip(addr), ConnectOptions::default()).await.expect("connected");
        spawn(async move { drop(conn.recv().await) });
        spawn(sleep_until(now() + Duration::from_secs(3600)));
        let fd = listen(Endpoint::Ip(local()), ListenOptions::default()).expect("listens");
        spawn(async move { drop(Listener::new(fd).accept().await) });
        yield_now().await;
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    let gone = TcpListener::bind(local()).expect("a port is free").local_addr().expect("bound");
    let error =
        on_core(move || async move { connect(Target::Ip(gone), ConnectOptions::default()).await.map(drop) });
    assert_eq!(error.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_deadline_ends_a_receive_and_the_connection_stays_usable() {
    let addr = echo_origin();
    on_core(move || async move {
        let conn = connect(Target::Ip(addr), ConnectOptions::default()).await.expect("connected");
        for _ in 0..20 {
            let late = with_deadline(conn.recv(), after(2)).await;
            assert!(late.is_err(), "nothing was sent, so nothing comes");
        }
        conn.send_all(SendBuf::Static(b"still here")).await.expect("sent");
        assert_eq!(recv_exactly(&conn, 10).await, b"still here");
    });
}

/// Drops receives, sends, connects and accepts after a random number of polls while others carry data, and then checks
/// that buffers, slots and descriptors are all back.
#[test]
fn futures_may_be_dropped_at_any_point_under_load() {
    let addr = echo_origin();
    on_core(move || async move {
        let done = Rc::new(Cell::new(0));
        for worker in 0..16_u64 {
            let done = done.clone();
            spawn(async move {
                drop_at_random(addr, worker).await;
                done.set(done.get() + 1);
            });
        }
        let deadline = now() + Duration::from_secs(50);
        while done.get() < 16 {
            assert!(now() < deadline, "workers hang: {} of 16 are done", done.get());
            sleep_until(now() + Duration::from_millis(5)).await;
        }
        // A fresh exchange of more than all buffers together: nothing was lost.
        let conn = connect(Target::Ip(addr), ConnectOptions::default()).await.expect("connected");
        for _ in 0..200 {
            conn.send_all(vec![7; 4000]).await.expect("sent");
            assert_eq!(recv_exactly(&conn, 4000).await, vec![7; 4000]);
        }
    });
}

async fn drop_at_random(addr: std::net::SocketAddr, seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for _ in 0..150 {
        let connecting = connect(Target::Ip(addr), ConnectOptions::default());
        let Some(Ok(conn)) = poll_at_most(connecting, next(3)).await else { continue };
        for _ in 0..next(6) {
            let payload = vec![b'x'; 1 + usize::try_from(next(30_000)).expect("small")];
            // A send that is given up may have gone out or not; the connection is only good for more of the same.
            if poll_at_most(conn.send(payload.into()), next(3)).await.is_none() {
                continue;
            }
            let _ = poll_at_most(conn.recv(), next(3)).await;
            let _ = with_deadline(conn.readable(), after(next(2))).await;
        }
        drop(poll_at_most(conn.recv(), next(2)).await);
    }
}

/// Polls a future up to `polls` times more after its first, with a turn of the core between, then drops it.
async fn poll_at_most<F: Future>(future: F, polls: u64) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    for _ in 0..=polls {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(output) = polled {
            return Some(output);
        }
        yield_now().await;
        sleep_until(now()).await;
    }
    None
}

#[test]
fn more_receives_than_buffers_wait_and_none_is_lost() {
    let addr = echo_origin();
    on_core(move || async move {
        let mut conns = Vec::new();
        let mut held = Vec::new();
        // The core of this test has 64 buffers; 64 connections hold one each.
        for _ in 0..64 {
            let conn = connect(Target::Ip(addr), ConnectOptions::default()).await.expect("connected");
            conn.send_all(SendBuf::Static(b"ping")).await.expect("sent");
            held.push(conn.recv().await.expect("received").expect("bytes"));
            conns.push(conn);
        }
        let conn = &conns[0];
        conn.send_all(SendBuf::Static(b"pong")).await.expect("sent");
        // The echo takes as long as it takes.
        while limits::buffers_short() == 0 {
            assert!(with_deadline(conn.recv(), after(20)).await.is_err(), "there is no buffer for it");
        }
        assert!(limits::buffers_exhausted() > 0);
        held.truncate(60);
        assert_eq!(&*conn.recv().await.expect("received").expect("bytes"), b"pong");
    });
}

/// Sends a text of its own over each, and arms the receive of its echo.
async fn echoes_under_way(conns: &[Conn]) -> Vec<Receiving> {
    let mut receiving = Vec::new();
    for (n, conn) in conns.iter().enumerate() {
        conn.send_all(format!("echo {n}").into_bytes()).await.expect("sends");
        let mut one = Receiving::default();
        one.arm(conn);
        receiving.push(one);
    }
    receiving
}

async fn received(conns: &[Conn], receiving: Vec<Receiving>) -> Vec<RecvBuf> {
    let mut bufs = Vec::new();
    for (conn, mut one) in conns.iter().zip(receiving) {
        let buf = std::future::poll_fn(|cx| one.poll(conn, cx)).await.expect("receives");
        bufs.push(buf.expect("not the end"));
    }
    bufs
}

fn are_whole(bufs: &[RecvBuf]) -> bool {
    bufs.iter().enumerate().all(|(n, buf)| **buf == *format!("echo {n}").as_bytes())
}

#[test]
fn pages_of_a_burst_are_given_back_and_no_byte_with_them() {
    let addr = echo_origin();
    on_core(move || async move {
        let mut conns = Vec::new();
        for _ in 0..60 {
            conns.push(connect(Target::Ip(addr), ConnectOptions::default()).await.expect("connects"));
        }
        let receiving = echoes_under_way(&conns).await;
        let bufs = received(&conns, receiving).await;
        assert!(bufs::touched() >= 60);
        for _ in 0..2 {
            limits::give_back_buffers();
        }
        assert!(bufs::touched() >= 60 && are_whole(&bufs), "those with bytes stay");
        drop(bufs);
        limits::give_back_buffers();
        assert!(bufs::touched() <= 32, "{} are left", bufs::touched());
        // Bytes that the kernel has put there and nobody has seen yet.
        let completed = limits::activity().completed;
        let receiving = echoes_under_way(&conns).await;
        // As many sends as receives.
        while limits::activity().completed < completed + 120 {
            yield_now().await;
        }
        for _ in 0..2 {
            limits::give_back_buffers();
        }
        assert!(are_whole(&received(&conns, receiving).await));
    });
}

#[test]
fn a_connection_to_one_of_many_addresses_knows_which() {
    on_core(|| async {
        let any = "0.0.0.0:0".parse().expect("an address");
        let fd =
            listen(Endpoint::Ip(any), ListenOptions { backlog: 16, ..Default::default() }).expect("listens");
        let port = bound_addr(&fd).port().expect("a port");
        let mut listener = Listener::new(fd);
        for ip in [[127, 0, 0, 1], [127, 0, 0, 2]] {
            let to = std::net::SocketAddr::from((ip, port));
            let client = connect(Target::Ip(to), ConnectOptions::default()).await.expect("connected");
            let conn = listener.accept().await.expect("accepted");
            assert_eq!(conn.local_addr(), crate::base::net::Addr::Ip(to));
            drop(client);
        }
    });
}

#[test]
fn a_timer_that_has_time_wakes_nobody_and_fires_in_passing() {
    on_core(|| async {
        let start = now();
        let fired = Rc::new(Cell::new(false));
        let told = fired.clone();
        spawn(async move {
            sleep_between(start + Duration::from_millis(10), start + Duration::from_secs(3600)).await;
            told.set(true);
        });
        // Awake before its time, and at the same turn that another timer is the reason for.
        yield_now().await;
        assert!(!fired.get());
        sleep_until(start + Duration::from_millis(20)).await;
        yield_now().await;
        assert!(fired.get(), "the core was awake");
        // Alone it is waited for to the end, and not beyond.
        sleep_between(start + Duration::from_millis(25), start + Duration::from_millis(60)).await;
        assert!(now() >= start + Duration::from_millis(25));
        let mut timer = Timer::between(start, now() + Duration::from_millis(5));
        timer.reset_between(now() + Duration::from_millis(1), now() + Duration::from_millis(2));
        timer.reset(now() + Duration::from_millis(30));
        let until = now() + Duration::from_millis(30);
        std::future::poll_fn(|cx| timer.poll(cx)).await;
        assert!(now() >= until, "it has no time any more");
    });
}

#[test]
fn a_task_that_waits_for_something_to_happen_sees_all_that_does() {
    let addr = echo_origin();
    on_core(move || async move {
        let looks = Rc::new(Cell::new(0_u32));
        let told = looks.clone();
        spawn(async move {
            loop {
                stirred().await;
                told.set(told.get() + 1);
            }
        });
        let conn = connect(Target::Ip(addr), ConnectOptions::default()).await.expect("connected");
        for round in 0..50_u8 {
            let before = looks.get();
            conn.send_all(vec![round]).await.expect("sent");
            assert_eq!(recv_exactly(&conn, 1).await, [round]);
            // Its turn comes before the core may park.
            while looks.get() == before {
                yield_now().await;
            }
        }
    });
}

#[test]
fn word_that_is_left_is_found_and_mail_after_it_wakes() {
    let (tx, rx) = mpsc::channel();
    let cpu = machine::cpus().expect("affinity is readable")[0];
    let spec = CoreSpec { name: "test".into(), cpu, buffers: 64, narrow: false };
    let booted = boot(vec![spec]).expect("this machine can run a core").pop().expect("one core");
    let mailbox = booted.mailbox::<u64>();
    let sender = mailbox.sender();
    let mut cores = Cores::new();
    cores
        .start(booted, move || async move {
            let receiver = mailbox.receiver();
            loop {
                let message = receiver.recv().await;
                tx.send(message).expect("the test waits");
                if message == u64::MAX {
                    return;
                }
            }
        })
        .expect("the thread starts");
    let wait = Duration::from_secs(60);
    // The core is asleep, or about to be, at every point of these rounds.
    for round in 0..2000 {
        sender.leave(2 * round);
        sender.send(2 * round + 1);
        assert_eq!(rx.recv_timeout(wait), Ok(2 * round));
        assert_eq!(rx.recv_timeout(wait), Ok(2 * round + 1));
    }
    sender.send(u64::MAX);
    assert_eq!(rx.recv_timeout(wait), Ok(u64::MAX));
    cores.join().expect("the core stops cleanly");
}

#[test]
fn mail_wakes_a_parked_core() {
    static SUM: AtomicU64 = AtomicU64::new(0);
    let (tx, rx) = mpsc::channel();
    let cpu = machine::cpus().expect("affinity is readable")[0];
    let booted = boot(vec![CoreSpec { name: "mail".into(), cpu, buffers: 16, narrow: false }])
        .expect("boots")
        .pop()
        .expect("one");
    let mailbox = booted.mailbox::<Option<u64>>();
    let sender = mailbox.sender();
    let mut cores = Cores::new();
    cores
        .start(booted, move || async move {
            let receiver = mailbox.receiver();
            tx.send(()).expect("the test waits");
            while let Some(n) = receiver.recv().await {
                SUM.fetch_add(n, Ordering::Relaxed);
            }
        })
        .expect("starts");
    rx.recv().expect("the core runs");
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || (1..=1000).for_each(|n| sender.send(Some(n))))
        })
        .collect();
    senders.into_iter().for_each(|s| s.join().expect("sent"));
    sender.send(None);
    cores.join().expect("stops");
    assert_eq!(SUM.load(Ordering::Relaxed), 4 * 500_500);
}

#[test]
fn a_panicking_task_ends_alone() {
    let panics = on_core(|| async {
        spawn(async { panic!("on purpose") });
        sleep_until(now() + Duration::from_millis(5)).await;
        limits::panics()
    });
    assert_eq!(panics, 1);
}

#[test]
fn a_core_that_does_not_exist_is_one_clear_line() {
    let spec = CoreSpec { name: "x".into(), cpu: 4095, buffers: 16, narrow: false };
    let error = boot(vec![spec]).expect_err("no machine has it").to_string();
    assert!(error.contains("core 4095 does not exist"), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn splice_moves_bytes_between_sockets_unchanged() {
    let addr = echo_origin();
    let total = 3_000_000_usize;
    let sum = Arc::new(AtomicU64::new(0));
    let result = sum.clone();
    on_core(move || async move {
        splice::configure(4, 256 * 1024);
        let source = connect(Target::Ip(addr), ConnectOptions::default()).await.expect("connected");
        let source = Rc::new(source);
        let writer = source.clone();
        spawn(async move {
            let bytes: Vec<u8> = (0..total).map(|i| (i % 251) as u8).collect();
            writer.send_all(bytes).await.expect("sent");
            writer.shutdown_write().expect("half-closed");
        });
        let listener = TcpListener::bind(local()).expect("a port is free");
        let sink_addr = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut conn, _) = listener.accept().expect("accepted");
            let mut all = Vec::new();
            conn.read_to_end(&mut all).expect("read");
            let ok = all.iter().enumerate().all(|(i, b)| *b == (i % 251) as u8);
            sum.store(if ok { all.len() as u64 } else { 1 }, Ordering::SeqCst);
        });
        let sink = connect(Target::Ip(sink_addr), ConnectOptions::default()).await.expect("connected");
        let mut pipe = splice::Pipe::take().expect("the bound is 4");
        loop {
            match pipe.fill_from(&source, u64::MAX).expect("filled") {
                splice::Moved::End => break,
                splice::Moved::Blocked if pipe.filled() == 0 => source.readable().await.expect("polled"),
                _ => {}
            }
            while pipe.filled() > 0 {
                if pipe.drain_to(&sink, false).expect("drained") == splice::Moved::Blocked {
                    sink.writable().await.expect("polled");
                }
            }
        }
        drop(pipe);
        assert_eq!(splice::counts(), (1, 1, 0), "the empty pipe is kept");
    });
    let deadline = std::time::SystemTime::now() + Duration::from_secs(10);
    while result.load(Ordering::SeqCst) == 0 {
        assert!(std::time::SystemTime::now() < deadline, "the sink hangs");
        std::thread::yield_now();
    }
    assert_eq!(result.load(Ordering::SeqCst), total as u64);
}
