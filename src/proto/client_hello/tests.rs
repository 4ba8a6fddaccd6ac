//! Hellos built by hand: fields, cuts, records, and every wrong length.

use super::*;

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &u16::try_from(body.len()).expect("short").to_be_bytes(), body].concat()
}

fn server_name_extension(name: &[u8]) -> Vec<u8> {
    let len = u16::try_from(name.len()).expect("short");
    extension(0, &[&(len + 3).to_be_bytes()[..], &[0], &len.to_be_bytes(), name].concat())
}

fn handshake(extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[9; 32]);
    body.extend_from_slice(&[4, 1, 2, 3, 4]);
    body.extend_from_slice(&[0, 4, 0x13, 0x01, 0x13, 0x02]);
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).expect("short").to_be_bytes());
    body.extend_from_slice(&extensions);
    let len = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[1], &len[1..], &body].concat()
}

fn records(handshake: &[u8], size: usize) -> Vec<u8> {
    let record = |chunk: &[u8]| {
        [&[22, 3, 1][..], &u16::try_from(chunk.len()).expect("short").to_be_bytes(), chunk].concat()
    };
    handshake.chunks(size).flat_map(record).collect()
}

fn typical() -> Vec<u8> {
    handshake(&[
        extension(0x0a0a, &[]),
        server_name_extension(b"www.Example.net"),
        extension(16, b"\x00\x0c\x02h2\x08http/1.1"),
        extension(43, &[6, 0x2a, 0x2a, 3, 4, 3, 3]),
        extension(51, &[0; 1200]),
    ])
}

fn check_typical(bytes: &[u8], expected_len: usize) {
    let mut scratch = Vec::new();
    let (hello, len) = parse(bytes, &mut scratch).expect("a hello").complete().expect("a whole hello");
    assert_eq!(len, expected_len);
    assert_eq!(hello.sni, Some("www.Example.net"));
    assert_eq!(hello.alpn().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    assert_eq!(hello.supported_version_max, Some(0x0304));
    assert_eq!((hello.legacy_version, hello.version_max(), hello.ssl_ver()), (0x0303, 0x0304, 196_612));
    assert_eq!(hello.session_id, [1, 2, 3, 4]);
    assert_eq!(hello.cipher_suites, [0x13, 0x01, 0x13, 0x02]);
}

#[test]
fn a_hello_is_read_however_it_is_cut_into_records() {
    let message = typical();
    for size in [1, 2, 3, 4, 5, 100, message.len() - 1, message.len()] {
        let mut bytes = records(&message, size);
        let len = bytes.len();
        check_typical(&bytes, len);
        bytes.extend_from_slice(b"more");
        check_typical(&bytes, len);
    }
    // A record that goes on with another handshake message.
    let joined = [&message[..], &[11, 0, 0, 1, 0]].concat();
    check_typical(&records(&joined, joined.len()), message.len() + 5);
    let split = [&message[..], &[11, 0, 0, 1, 0]].concat();
    check_typical(&records(&split, message.len() - 7), message.len() + 10);
}

#[test]
fn any_cut_is_partial() {
    let message = typical();
    for size in [1, 7, 500, message.len()] {
        let bytes = records(&message, size);
        let mut scratch = Vec::new();
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut], &mut scratch), Ok(Parsed::Partial), "cut at {cut}");
        }
    }
}

#[test]
fn old_hellos_have_no_extensions() {
    let mut message = handshake(&[]);
    message.truncate(message.len() - 2);
    message[3] -= 2;
    message[5] = 1;
    let bytes = records(&message, message.len());
    let mut scratch = Vec::new();
    let (hello, _) = parse(&bytes, &mut scratch).unwrap().complete().unwrap();
    assert_eq!((hello.sni, hello.alpn().count(), hello.supported_version_max), (None, 0, None));
    assert_eq!(hello.ssl_ver(), 196_609);
    assert!(scratch.is_empty(), "one record is read in place");
}

#[test]
fn what_is_not_tls_is_refused_early() {
    use ClientHelloError::*;
    let cases: &[(&[u8], ClientHelloError)] = &[
        (b"G", NotHandshake { byte: b'G' }),
        (&[21], NotHandshake { byte: 21 }),
        (&[0x80, 0x2e, 1], Sslv2),
        (&[0x80, 0x2e, 2], NotHandshake { byte: 0x80 }),
        (&[22, 2], RecordVersion { major: 2 }),
        (&[22, 3, 1, 0, 0], RecordLength { seen: 0 }),
        (&[22, 3, 1, 0x40, 1], RecordLength { seen: 0x4001 }),
        (&[22, 3, 1, 0, 9, 2], NotClientHello { kind: 2 }),
        (&[22, 3, 1, 0, 9, 1, 1, 0, 0], TooLong { seen: 65540, limit: INSPECT_BYTES_MAX }),
        (&[22, 3, 1, 0, 1, 1, 23], NotHandshake { byte: 23 }),
        (&[22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 0], RecordLength { seen: 0 }),
    ];
    for (bytes, expected) in cases {
        assert_eq!(parse(bytes, &mut Vec::new()), Err(*expected), "{bytes:?}");
        assert_eq!(parse(&bytes[..bytes.len() - 1], &mut Vec::new()), Ok(Parsed::Partial), "{bytes:?}");
        assert!(!expected.to_string().is_empty());
    }
}

fn error_of(message: &[u8]) -> ClientHelloError {
    let bytes = records(message, message.len());
    let mut scratch = Vec::new();
    parse(&bytes, &mut scratch).map(|p| format!("{p:?}")).expect_err("the hello is wrong")
}

#[test]
fn wrong_extensions_are_refused_by_reason() {
    use ClientHelloError::*;
    let name = server_name_extension(b"a");
    let cases: Vec<(Vec<Vec<u8>>, ClientHelloError)> = vec![
        (vec![name.clone(), name], ExtensionRepeated { kind: 0 }),
        (vec![server_name_extension(b"")], ServerName),
        (vec![server_name_extension(b"a b")], ServerName),
        (vec![server_name_extension(b"a\0b")], ServerName),
        (vec![server_name_extension("ä".as_bytes())], ServerName),
        (vec![server_name_extension(&[b'a'; 256])], ServerName),
        (vec![extension(0, b"\x00\x08\x00\x00\x01a\x00\x00\x01b")], ServerName),
        (vec![extension(0, &[])], Truncated { field: "server name" }),
        (vec![extension(0, &[0, 0])], Truncated { field: "server name" }),
        (vec![extension(0, b"\x00\x04\x00\x00\x01a!")], Truncated { field: "server name" }),
        (vec![extension(0, b"\x00\x04\x00\x00\x02a")], Truncated { field: "server name" }),
        (vec![extension(16, b"\x00\x03\x02h2\x00")], Truncated { field: "ALPN" }),
        (vec![extension(16, b"\x00\x04\x02h2\x00")], Truncated { field: "ALPN" }),
        (vec![extension(16, b"\x00\x03\x03h2")], Truncated { field: "ALPN" }),
        (vec![extension(43, &[3, 3, 4, 3])], Truncated { field: "supported versions" }),
        (vec![extension(43, &[0])], Truncated { field: "supported versions" }),
        (vec![vec![0]], Truncated { field: "extension type" }),
        (vec![vec![0, 9, 0, 1]], Truncated { field: "extension" }),
    ];
    for (extensions, expected) in cases {
        assert_eq!(error_of(&handshake(&extensions)), expected, "{extensions:?}");
    }
}

#[test]
fn a_message_of_any_shorter_length_is_refused() {
    // The message says that it is whole but misses its end: every field must notice.
    let message = typical();
    for len in 4..message.len() {
        let mut cut = message[..len].to_vec();
        let length = u32::try_from(len - 4).expect("short").to_be_bytes();
        cut[1..4].copy_from_slice(&length[1..]);
        // Right after the compression methods a hello may end.
        if len == 4 + 2 + 32 + 5 + 6 + 2 {
            continue;
        }
        assert!(matches!(error_of(&cut), ClientHelloError::Truncated { .. }), "{len}");
    }
    let mut longer = message;
    longer.push(0);
    let length = u32::try_from(longer.len() - 4).expect("short").to_be_bytes();
    longer[1..4].copy_from_slice(&length[1..]);
    assert_eq!(error_of(&longer), ClientHelloError::TrailingBytes { count: 1 });
}
