use super::*;
use crate::proto::h2::frame::write;
use crate::proto::h2::hpack::write_field;
use crate::proto::h2::sending::{OUT_BYTES_MAX, Received};

const LIMITS: Limits = Limits { streams_max: 4, window: 65_535, window_max: 65_535, fields_max: 4096 };

/// `GET /` or `POST /` over http.
fn head(method: u8, more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = vec![0x80 | method, 0x86, 0x84];
    more.iter().for_each(|(name, value)| write_field(None, name, value, &mut block));
    block
}

const GET: u8 = 2;
const POST: u8 = 3;

struct Client {
    connection: Connection,
    keys: Vec<Key>,
}

impl Client {
    fn new() -> Client {
        Client::within(LIMITS)
    }

    fn within(limits: Limits) -> Client {
        let mut client = Client { connection: Connection::new(limits), keys: Vec::new() };
        client.bytes(H2_PREFACE);
        client.frame(kind::SETTINGS, 0, 0, &[]);
        client.frame(kind::SETTINGS, FLAG_FIRST, 0, &[]);
        client.said();
        client
    }

    fn bytes(&mut self, mut bytes: &[u8]) {
        loop {
            let (used, request) = self.connection.receive(bytes, &mut |_| None);
            self.connection.check_invariants();
            bytes = &bytes[used..];
            match request {
                Some(request) => self.keys.push(request.key),
                None => break,
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        write(kind, flags, stream, payload, &mut bytes);
        self.bytes(&bytes);
    }

    fn request(&mut self, stream: u32, method: u8, ends: bool) -> Key {
        let flags = END_HEADERS | u8::from(ends);
        self.frame(kind::HEADERS, flags, stream, &head(method, &[]));
        *self.keys.last().expect("a request")
    }

    /// What we said since it was asked last: types, streams and payloads.
    fn said(&mut self) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        let out = std::mem::take(self.connection.out());
        let mut left = out.as_slice();
        while let Some(head) = FrameHead::read(left) {
            let end = HEAD_BYTES + head.len as usize;
            frames.push((head.kind, head.flags, head.stream, left[HEAD_BYTES..end].to_vec()));
            left = &left[end..];
        }
        self.connection.grant();
        frames
    }

    fn data_said(&mut self) -> Vec<(u32, usize, bool)> {
        let said = self.said().into_iter().filter(|(kind, ..)| *kind == kind::DATA);
        said.map(|(_, flags, stream, data)| (stream, data.len(), flags & FLAG_FIRST != 0)).collect()
    }
}

#[test]
fn a_request_is_told_however_its_bytes_are_cut() {
    let mut bytes = H2_PREFACE.to_vec();
    write(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9], &mut bytes);
    let block = head(POST, &[(b"x-a", b"1"), (b"x-b", b"2")]);
    write(kind::HEADERS, 0, 1, &block[..7], &mut bytes);
    write(kind::CONTINUATION, 0, 1, &block[7..9], &mut bytes);
    write(kind::CONTINUATION, END_HEADERS, 1, &block[9..], &mut bytes);
    write(kind::DATA, PADDED, 1, b"\x02abc\0\0", &mut bytes);
    write(kind::DATA, FLAG_FIRST, 1, b"def", &mut bytes);
    for cut in 1..bytes.len() {
        let mut connection = Connection::new(LIMITS);
        let (mut waiting, mut requests) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            waiting.extend_from_slice(piece);
            loop {
                let (used, request) = connection.receive(&waiting, &mut |_| None);
                waiting.drain(..used);
                connection.check_invariants();
                match request {
                    Some(request) => requests.push(request),
                    None => break,
                }
            }
        }
        assert_eq!(requests.len(), 1, "pieces of {cut}");
        let Request { key, fields } = &requests[0];
        assert_eq!(fields.iter().last(), Some((&b"x-b"[..], &b"2"[..])));
        let mut body = Vec::new();
        while let Ok(Received::Data(data)) = connection.take(*key) {
            body.extend(data);
        }
        assert_eq!(body, b"abcdef", "pieces of {cut}");
        assert!(matches!(connection.take(*key), Ok(Received::End(None))));
        connection.check_invariants();
    }
}

#[test]
fn room_is_given_back_once_the_data_is_gone() {
    let mut client = Client::new();
    let key = client.request(1, POST, false);
    let piece = vec![b'x'; 16_000];
    for _ in 0..3 {
        client.frame(kind::DATA, 0, 1, &piece);
    }
    assert!(client.said().is_empty());
    let taken = client.connection.take(key);
    assert!(matches!(taken, Ok(Received::Data(data)) if data.len() == 48_000));
    client.connection.check_invariants();
    client.connection.release(key);
    let more = 48_000u32.to_be_bytes().to_vec();
    let update = |stream| (kind::WINDOW_UPDATE, 0, stream, more.clone());
    assert_eq!(client.said(), [update(0), update(1)]);
    // Beyond the window of the stream, or of the connection.
    (0..4).for_each(|_| client.frame(kind::DATA, 0, 1, &piece));
    client.frame(kind::DATA, 0, 1, &piece);
    assert!(client.connection.is_failed());
}

#[test]
fn windows_grow_with_what_moves() {
    let mut client = Client::within(Limits { window_max: 1_000_000, ..LIMITS });
    let key = client.request(1, POST, false);
    let mut told = vec![];
    for _ in 0..60 {
        client.frame(kind::DATA, 0, 1, &[0; 10_000]);
        // Nothing grows for bytes that stay with us.
        let said = client.said();
        assert!(said.is_empty(), "{said:?}");
        assert!(client.connection.take(key).is_ok());
        client.connection.release(key);
        client.connection.check_invariants();
        let said = client.said();
        for (kind, _, _, payload) in &said {
            if *kind == kind::SETTINGS {
                told.push(u32::from_be_bytes(*payload.last_chunk().expect("a setting")));
                client.frame(kind::SETTINGS, FLAG_FIRST, 0, &[]);
            }
        }
    }
    assert_eq!(told, [262_140, 1_000_000], "and no further");
    // Half of it at least may come at once, on one stream.
    (0..30).for_each(|_| client.frame(kind::DATA, 0, 1, &[0; 16_384]));
    client.connection.check_invariants();
    assert!(!client.connection.is_failed());
}

/// How long a body takes over a path, in sixteenths of a round trip: as TCP's slow start has it (RFC 5681 3.1, RFC 6928), and
/// held by windows too if there are `limits`. What arrives moves on at once.
fn upload(bytes: u32, limits: Option<Limits>) -> u32 {
    const ONE_WAY: u32 = 8;
    let mut client = limits.map(Client::within);
    let key = client.as_mut().map(|client| client.request(1, POST, false));
    let (mut stream_room, mut room, mut first) = (65_535_i64, 65_535_i64, 65_535_i64);
    let (mut congestion, mut flying, mut left) = (14_600, 0, bytes);
    let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
    for now in 0..10_000 {
        while there.front().is_some_and(|(due, _)| *due == now)
            && let Some((_, n)) = there.pop_front()
        {
            let mut said = vec![];
            if let (Some(client), Some(key)) = (&mut client, key) {
                for at in (0..n).step_by(16_384) {
                    client.frame(kind::DATA, 0, 1, &vec![0; 16_384.min(n - at) as usize]);
                    assert!(client.connection.take(key).is_ok());
                    client.connection.release(key);
                }
                said = client.said();
            }
            back.push_back((now + ONE_WAY, n, said));
        }
        while back.front().is_some_and(|(due, ..)| *due == now)
            && let Some((_, n, said)) = back.pop_front()
        {
            (congestion, flying) = (congestion + n, flying - n);
            for (kind, flags, stream, payload) in said {
                let value = payload.last_chunk().map_or(0, |value| i64::from(u32::from_be_bytes(*value)));
                match (kind, stream) {
                    (kind::WINDOW_UPDATE, 0) => room += value,
                    (kind::WINDOW_UPDATE, _) => stream_room += value,
                    (kind::SETTINGS, _) if flags == 0 => {
                        (stream_room, first) = (stream_room + value - first, value);
                        // Its way is as long as that of data; nothing depends on when it is heard.
                        client.iter_mut().for_each(|client| client.frame(kind::SETTINGS, FLAG_FIRST, 0, &[]));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        if left == 0 && flying == 0 {
            return now;
        }
        let mut n = left.min(congestion - flying);
        if client.is_some() {
            n = n.min(u32::try_from(room.min(stream_room)).unwrap_or(0));
        }
        if n > 0 {
            (room, stream_room) = (room - i64::from(n), stream_room - i64::from(n));
            (left, flying) = (left - n, flying + n);
            there.push_back((now + ONE_WAY, n));
        }
    }
    panic!("it stands still");
}

#[test]
fn windows_never_hold_an_upload_that_moves() {
    let limits = Limits { window_max: 4 << 20, ..LIMITS };
    for bytes in [10_000, 100_000, 1_000_000, 10_000_000] {
        assert_eq!(upload(bytes, Some(limits)), upload(bytes, None), "{bytes} bytes");
    }
}

#[test]
fn what_a_stream_held_goes_back_with_it() {
    let mut client = Client::new();
    let key = client.request(1, POST, false);
    client.frame(kind::DATA, 0, 1, &[0; 16_000]);
    assert!(client.connection.take(key).is_ok());
    client.frame(kind::DATA, 0, 1, &[0; 16_384]);
    client.frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    client.connection.check_invariants();
    assert_eq!(client.connection.reset_of(key), Some(Reset::Remote(Code::CANCEL)));
    client.connection.forget(key);
    client.connection.check_invariants();
    // A frame that was cut when its stream was given up.
    let key = client.request(3, POST, false);
    let mut bytes = Vec::new();
    write(kind::DATA, FLAG_FIRST, 3, &[0; 1000], &mut bytes);
    client.bytes(&bytes[..500]);
    client.connection.forget(key);
    client.bytes(&bytes[500..]);
    let said = client.said();
    assert!(said.contains(&(kind::RST_STREAM, 0, 3, vec![0, 0, 0, 8])), "{said:?}");
    assert_eq!(client.connection.held(), 0);
    client.request(5, GET, true);
}

#[test]
fn a_response_takes_the_windows_that_there_are() {
    let mut client = Client::new();
    client.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 5]);
    let key = client.request(1, GET, true);
    client.said();
    client.connection.send_head(key, 200, false, |_| {}).expect("a stream");
    assert_eq!(client.connection.send_data(key, b"hello world", true), Ok(5));
    assert_eq!(client.connection.send_data(key, b" world", true), Ok(0));
    assert_eq!(client.data_said(), [(1, 5, false)]);
    client.frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 6]);
    assert_eq!(client.connection.send_data(key, b" world", true), Ok(6));
    assert_eq!(client.data_said(), [(1, 6, true)]);
    assert!(client.connection.is_sent(key));
    client.connection.forget(key);
    assert!(client.said().is_empty(), "both sides had said everything");
}

#[test]
fn streams_take_turns_at_what_they_share() {
    let mut client = Client::new();
    client.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0x7f, 0xff, 0xff]);
    client.frame(kind::WINDOW_UPDATE, 0, 0, &0x1000_0000u32.to_be_bytes());
    let keys: Vec<Key> = [1, 3, 5].map(|id| client.request(id, GET, true)).to_vec();
    let mut left = [1_000_000usize; 3];
    let body = vec![b'x'; 1_000_000];
    client.said();
    for key in &keys {
        client.connection.send_head(*key, 200, false, |_| {}).expect("a stream");
    }
    for (key, left) in keys.iter().zip(&mut left) {
        *left -= client.connection.send_data(*key, &body[..*left], true).expect("a stream");
    }
    assert_eq!((left[1], left[2]), (1_000_000, 1_000_000), "the first fills what may gather");
    let mut rounds = 0;
    while left.iter().any(|left| *left > 0) {
        assert!(client.connection.out().len() <= OUT_BYTES_MAX + PAYLOAD_BYTES_MAX + 100);
        client.said();
        for (key, left) in keys.iter().zip(&mut left) {
            if *left > 0 {
                *left -= client.connection.send_data(*key, &body[..*left], true).expect("a stream");
            }
        }
        let (most, least) = (left.iter().max().expect("three"), left.iter().min().expect("three"));
        assert!(most - least <= 3 * OUT_BYTES_MAX, "{left:?}");
        rounds += 1;
        assert!(rounds < 1000, "{left:?}");
    }
    keys.iter().for_each(|key| client.connection.forget(*key));
    assert_eq!(client.connection.held(), 0);
}

#[test]
fn a_stream_that_leaves_passes_its_turn_on() {
    let mut client = Client::new();
    let keys = [1, 3].map(|id| client.request(id, GET, true));
    for key in keys {
        client.connection.send_head(key, 200, false, |_| {}).expect("a stream");
    }
    assert_eq!(client.connection.send_data(keys[0], &[0; 70_000], true), Ok(65_535));
    // The window of the connection is used up: the second waits in the line.
    assert_eq!(client.connection.send_data(keys[1], b"x", true), Ok(0));
    client.said();
    client.connection.forget(keys[0]);
    client.frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]);
    assert_eq!(client.connection.send_data(keys[1], b"x", true), Ok(1));
}

#[test]
fn heads_larger_than_a_frame_are_cut() {
    let mut client = Client::new();
    let key = client.request(1, GET, true);
    let long = vec![b'v'; 40_000];
    client.connection.send_head(key, 200, true, |out| write_field(None, b"x", &long, out)).expect("a stream");
    let said: Vec<_> =
        client.said().into_iter().map(|(kind, flags, _, data)| (kind, flags, data.len())).collect();
    assert_eq!(
        said,
        [
            (kind::HEADERS, FLAG_FIRST, 16_384),
            (kind::CONTINUATION, 0, 16_384),
            (kind::CONTINUATION, END_HEADERS, 40_008 - 2 * 16_384)
        ]
    );
}

#[test]
fn those_on_their_way_are_served_before_the_last_number_is_said() {
    let mut client = Client::new();
    client.request(1, GET, true);
    client.connection.leave();
    client.connection.leave();
    let goodbye = client.said();
    assert_eq!(goodbye[0], (kind::GOAWAY, 0, 0, vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    assert_eq!((goodbye[1].0, goodbye.len()), (kind::PING, 2));
    client.request(3, GET, true);
    client.frame(kind::PING, FLAG_FIRST, 0, &goodbye[1].3);
    assert_eq!(client.said(), [(kind::GOAWAY, 0, 0, vec![0, 0, 0, 3, 0, 0, 0, 0])]);
    // What comes behind it is left alone.
    client.frame(kind::HEADERS, END_HEADERS | FLAG_FIRST, 5, &head(GET, &[]));
    assert_eq!((client.keys.len(), client.said().len()), (2, 0));
}

#[test]
fn a_client_that_resets_fast_opens_no_more_than_twice_the_limit() {
    let mut client = Client::new();
    for id in 0..20u32 {
        client.frame(kind::HEADERS, END_HEADERS | FLAG_FIRST, 2 * id + 1, &head(GET, &[]));
        client.frame(kind::RST_STREAM, 0, 2 * id + 1, &[0, 0, 0, 8]);
    }
    assert_eq!(client.keys.len(), 8, "their owners are not done");
    let refused = client.said();
    assert!(refused.iter().all(|frame| frame.0 == kind::RST_STREAM && frame.3 == [0, 0, 0, 7]));
    assert_eq!((refused.len(), client.connection.glitches()), (12, 12));
}

#[test]
fn frames_for_streams_that_are_over() {
    let mut client = Client::new();
    let key = client.request(1, POST, false);
    client.connection.send_head(key, 200, true, |_| {}).expect("a stream");
    client.connection.forget(key);
    assert_eq!(client.said().last(), Some(&(kind::RST_STREAM, 0, 1, vec![0, 0, 0, 0])));
    // It was reset: what was on its way is ignored, and takes no room for long.
    (0..3).for_each(|_| client.frame(kind::DATA, 0, 1, &[0; 12_000]));
    client.frame(kind::HEADERS, END_HEADERS | FLAG_FIRST, 1, &head(GET, &[])[3..]);
    assert_eq!(client.said().len(), 1, "the room of the connection is given back");
    // It ended on both sides: that is an error of the connection.
    let key = client.request(3, GET, true);
    client.connection.send_head(key, 200, true, |_| {}).expect("a stream");
    client.connection.forget(key);
    client.frame(kind::DATA, 0, 3, b"x");
    assert_eq!(client.said().last().map(|frame| frame.3[7]), Some(5));
}
