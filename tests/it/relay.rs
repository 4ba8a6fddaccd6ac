//! Bytes: every one arrives, in order, unchanged, in every way of moving them; and they are counted while they move.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::harness::bytes::{self, Pace};
use crate::harness::gate::relay;
use crate::harness::peers::{Peer, output};
use crate::harness::{Origin, Shardgate, connect, eventually, program, until};

const MB: u64 = 1_000_000;

/// A relay that moves bytes in one particular way.
fn relay_with(splice: &str, server: &Origin) -> Shardgate {
    Shardgate::with(&relay(server.address, "")).defaults(&format!("splice = \"{splice}\"")).start()
}

/// The origin sends `total` bytes and closes; the client reads.
fn download(splice: &str, total: u64, pace: Pace) {
    let origin = Origin::new(move |mut stream, _| {
        let _ = bytes::send(&mut stream, total);
    });
    let gate = relay_with(splice, &origin);
    let mut client = gate.connect("fe");
    bytes::receive(&mut client, total, pace).expect("every byte, in order");
    assert_eq!(client.read(&mut [0; 1]).expect("the end, not a reset"), 0);
    drop(client);
    gate.wait_stat("fe/FRONTEND", "bout", &total.to_string());
    assert_eq!(gate.count("be/s1", "bout"), total);
    assert_eq!(gate.count("be/BACKEND", "bin"), 0);
    gate.finish();
}

/// The client sends `total` bytes and closes its side; the origin reads and says how much it was.
fn upload(splice: &str, total: u64, pace: Pace) {
    let origin = Origin::new(move |mut stream, shared| {
        let result = bytes::receive(&mut stream, total, pace).and_then(|()| stream.read(&mut [0; 1]));
        shared.note(format!("{result:?}").as_bytes());
    });
    let gate = relay_with(splice, &origin);
    let mut client = gate.connect("fe");
    bytes::send(&mut client, total).expect("the proxy takes it");
    client.shutdown(Shutdown::Write).expect("still connected");
    assert_eq!(String::from_utf8_lossy(&origin.wait_for_notes(1)[0]), "Ok(0)");
    drop(client);
    gate.wait_stat("fe/FRONTEND", "bin", &total.to_string());
    assert_eq!(gate.count("be/s1", "bin"), total);
    gate.finish();
}

#[test]
fn download_copied() {
    download("never", 100 * MB, Pace::Fast);
}

#[test]
fn download_spliced() {
    download("always", 100 * MB, Pace::Fast);
}

#[test]
fn download_auto() {
    download("auto", 100 * MB, Pace::Fast);
}

#[test]
fn download_to_a_slow_reader_copied() {
    download("never", 12 * MB, Pace::Slow);
}

#[test]
fn download_to_a_slow_reader_spliced() {
    download("always", 12 * MB, Pace::Slow);
}

#[test]
fn download_to_a_slow_reader_auto() {
    download("auto", 12 * MB, Pace::Slow);
}

#[test]
fn upload_copied() {
    upload("never", 100 * MB, Pace::Fast);
}

#[test]
fn upload_spliced() {
    upload("always", 100 * MB, Pace::Fast);
}

#[test]
fn upload_auto() {
    upload("auto", 100 * MB, Pace::Fast);
}

#[test]
fn upload_to_a_slow_reader_in_every_way() {
    for splice in ["never", "always", "auto"] {
        upload(splice, 8 * MB, Pace::Slow);
    }
}

#[test]
fn both_directions_at_once_in_every_way() {
    const TOTAL: u64 = 30 * MB;
    for splice in ["never", "always", "auto"] {
        let origin = Origin::new(|stream, shared| {
            let result = both_ways(stream, TOTAL, Pace::Fast);
            shared.note(format!("{result:?}").as_bytes());
        });
        let gate = relay_with(splice, &origin);
        both_ways(gate.connect("fe"), TOTAL, Pace::Slow).expect("every byte both ways");
        assert_eq!(String::from_utf8_lossy(&origin.wait_for_notes(1)[0]), "Ok(())");
        gate.finish();
    }
}

/// Sends and receives `total` bytes at the same time.
fn both_ways(stream: TcpStream, total: u64, pace: Pace) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let sender = std::thread::spawn(move || bytes::send(&mut writer, total));
    bytes::receive(&mut &stream, total, pace)?;
    sender.join().expect("it returns its error")
}

#[test]
fn many_small_messages_of_many_clients_stay_apart() {
    let origin = Origin::echo();
    let gate = Shardgate::relay(origin.address);
    let address = gate.address("fe");
    let clients: Vec<_> = (0..40_u64)
        .map(|number| {
            std::thread::spawn(move || {
                let mut stream = connect(address);
                for round in 0..50 {
                    let size = 1 + usize::try_from((number * 131 + round * 977) % 3000).expect("small");
                    let message = bytes::window(number * 7919 + round, size);
                    stream.write_all(message).expect("the proxy takes it");
                    let mut back = vec![0; size];
                    stream.read_exact(&mut back).expect("the echo");
                    assert_eq!(back, message, "client {number} got what another one sent");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("no client failed");
    }
    gate.wait_stat("be/s1", "stot", "40");
    gate.finish();
}

#[test]
fn a_reader_that_stops_costs_no_memory_and_loses_nothing() {
    const TOTAL: u64 = 60 * MB;
    for splice in ["never", "always", "auto"] {
        let origin = Origin::new(|mut stream, _| {
            let _ = bytes::send(&mut stream, TOTAL);
        });
        let gate = relay_with(splice, &origin);
        let before = gate.rss_kib();
        let mut client = gate.connect("fe");
        // The origin is blocked once the count of relayed bytes stands still over many looks.
        let mut last = (0, 0);
        until("the relay to be blocked", || {
            let now = gate.count("fe/FRONTEND", "bout");
            last = if now == last.0 && now > 0 { (now, last.1 + 1) } else { (now, 0) };
            last.1 > 20
        });
        assert!(last.0 < TOTAL, "{splice}: the kernel's buffers took all, the test shows nothing");
        let grown = gate.rss_kib().saturating_sub(before);
        assert!(grown < 8 * 1024, "{splice}: {grown} KiB more for one blocked session");
        bytes::receive(&mut client, TOTAL, Pace::Fast).expect("every byte, in order");
        drop(client);
        gate.finish();
    }
}

#[test]
fn bytes_are_counted_while_the_connection_stays_open() {
    for splice in ["never", "always", "auto"] {
        let origin = Origin::echo();
        let gate = relay_with(splice, &origin);
        let mut client = gate.connect("fe");
        for round in 1..=3_u64 {
            client.write_all(bytes::window(0, 1000)).expect("the proxy takes it");
            bytes::receive(&mut client, 1000, Pace::Fast).expect("the echo");
            let expected = (round * 1000).to_string();
            for row in ["fe/FRONTEND", "be/BACKEND", "be/s1"] {
                gate.wait_stat(row, "bin", &expected);
                gate.wait_stat(row, "bout", &expected);
            }
        }
        assert_eq!(gate.count("fe/FRONTEND", "scur"), 1);
        assert_eq!(gate.count("be/s1", "scur"), 1);
        assert_eq!(gate.info("CurrConns"), "1");
        drop(client);
        gate.finish();
    }
}

#[test]
fn curl_talks_http_to_nginx_through_it() {
    let nginx = Peer::nginx(
        "http { access_log off; client_body_temp_path @DIR@/b; proxy_temp_path @DIR@/p; fastcgi_temp_path @DIR@/f;\n\
         uwsgi_temp_path @DIR@/u; scgi_temp_path @DIR@/s;\n server { listen @ADDRESS@; return 200 'hello from nginx'; } }",
    );
    let gate = Shardgate::relay(nginx.address);
    let url = format!("http://{}/", gate.address("fe"));
    let answer =
        output(std::process::Command::new(program("curl")).args(["-sS", "--max-time", "20", &url, &url]));
    assert_eq!(answer, "hello from nginxhello from nginx");
    gate.wait_stat("be/s1", "stot", "1");
    gate.finish();
}

#[test]
fn redis_cli_talks_to_redis_through_it() {
    let redis = Peer::redis();
    let gate = Shardgate::relay(redis.address);
    let address = gate.address("fe");
    let cli = |args: &[&str]| {
        output(
            std::process::Command::new(program("redis-cli"))
                .args(["-h", "127.0.0.1", "-p", &address.port().to_string()])
                .args(args),
        )
    };
    assert_eq!(cli(&["set", "key", "value"]).trim(), "OK");
    assert_eq!(cli(&["get", "key"]).trim(), "value");
    let big = "x".repeat(100_000);
    assert_eq!(cli(&["set", "big", &big]).trim(), "OK");
    assert_eq!(cli(&["strlen", "big"]).trim(), "100000");
    gate.finish();
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let origin = Origin::named("220 ready\r\n");
    let gate = Shardgate::relay(origin.address);
    let mut client = gate.connect("fe");
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).expect("the greeting without a byte of ours");
    assert_eq!(&greeting, b"220 ready\r\n");
    drop(client);
    eventually("the origin to see the end", || (origin.open() == 0).then_some(()));
    gate.finish();
}
