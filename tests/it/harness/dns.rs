//! A DNS server over UDP that knows what it is told (RFC 1035), until it is dropped. Answers hold for no time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const A: u16 = 1;
const SRV: u16 = 33;

/// What a name has.
#[derive(Clone)]
pub(crate) enum Record {
    A(Ipv4Addr),
    /// Priority, port and target.
    Srv(u16, u16, &'static str),
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    zone: Mutex<BTreeMap<String, Vec<Record>>>,
}

pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Dns {
    pub(crate) fn new() -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a local address");
        let address = socket.local_addr().expect("bound above");
        let shared = Arc::new(Shared::default());
        let mine = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut buf = [0; 512];
            while let Ok((n, peer)) = socket.recv_from(&mut buf) {
                if mine.stop.load(Ordering::Acquire) {
                    return;
                }
                if let Some(answer) = mine.answer(&buf[..n]) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Dns { address, shared, thread: Some(thread) }
    }

    /// What a name has from now on.
    pub(crate) fn set(&self, name: &str, records: &[Record]) {
        let mut zone = self.shared.zone.lock().expect("no test panics while it holds this");
        zone.insert(name.to_owned(), records.to_vec());
    }
}

impl Shared {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = name_at(question, 12)?;
        let kind = u16::from_be_bytes([*question.get(end)?, *question.get(end + 1)?]);
        let zone = self.zone.lock().expect("no test panics while it holds this");
        let records = zone.get(name.trim_end_matches('.'));
        let found: Vec<Vec<u8>> =
            records.into_iter().flatten().filter_map(|record| record.data(kind)).collect();
        let code = if records.is_some() { 0 } else { 3 };
        let mut out = question.get(..2)?.to_vec();
        // A recursive answer to one question.
        out.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(found.len()).ok()?, 0, 0, 0, 0]);
        out.extend(&question[12..end + 4]);
        for data in found {
            // The name of the question, class IN, no time to live.
            out.extend([0xc0, 12]);
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 0]);
            out.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
            out.extend(data);
        }
        Some(out)
    }
}

impl Record {
    /// What follows the length, if it is of this type.
    fn data(&self, kind: u16) -> Option<Vec<u8>> {
        match self {
            Record::A(ip) if kind == A => Some(ip.octets().to_vec()),
            Record::Srv(priority, port, target) if kind == SRV => {
                let mut out = [priority.to_be_bytes(), [0, 1], port.to_be_bytes()].concat();
                for label in target.split('.') {
                    out.push(u8::try_from(label.len()).ok()?);
                    out.extend(label.as_bytes());
                }
                out.push(0);
                Some(out)
            }
            _ => None,
        }
    }
}

/// The name at an offset, in lower case, and where it ends.
fn name_at(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            return Some((name, at));
        }
        name.push_str(&String::from_utf8_lossy(message.get(at..at + len)?).to_ascii_lowercase());
        name.push('.');
        at += len;
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the thread.
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            let _ = socket.send_to(&[0], self.address);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
