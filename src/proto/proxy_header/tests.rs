//! Tables for both versions, cuts, and the encoders against the parser.

use super::*;

fn complete(bytes: &[u8]) -> (ProxyHeader<'_>, usize) {
    parse(bytes).expect("a header").complete().expect("a whole header")
}

/// Every cut of a header is `Partial`, and bytes after it do not matter.
fn check_cuts(bytes: &[u8]) {
    for cut in 0..bytes.len() {
        assert_eq!(parse(&bytes[..cut]), Ok(Parsed::Partial), "cut at {cut} of {bytes:?}");
    }
    let mut longer = bytes.to_vec();
    longer.extend_from_slice(b"PROXY GET \0\r\n");
    assert_eq!(complete(&longer), complete(bytes));
}

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend_from_slice(&[0x20 | command, family]);
    bytes.extend_from_slice(&u16::try_from(payload.len()).expect("short").to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

const V4_PAIR: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x0f, 0xa0, 0x01, 0xbb];

#[test]
fn v1_headers_are_read() {
    let cases = [
        ("PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n", "192.0.2.1:4000", "192.0.2.2:443"),
        ("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "255.255.255.255:65535", "0.0.0.0:0"),
        ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", "[2001:db8::1]:1", "[::1]:65535"),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "[::ffff:192.0.2.1]:1", "[::1]:2"),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        ),
        ("PROXY UNKNOWN\r\n", "unknown", "unknown"),
        ("PROXY UNKNOWN ffff::1 anything \x01 at all\r\n", "unknown", "unknown"),
    ];
    for (text, source, destination) in cases {
        let (header, len) = complete(text.as_bytes());
        assert_eq!(len, text.len());
        assert_eq!((header.version, header.command), (Version::V1, Command::Proxy));
        assert_eq!(header.source.to_string(), source);
        assert_eq!(header.destination.to_string(), destination);
        check_cuts(text.as_bytes());
    }
}

#[test]
fn v1_is_refused_at_the_first_wrong_byte() {
    use ProxyHeaderError::*;
    let cases: &[(&str, ProxyHeaderError)] = &[
        ("G", Signature { at: 0 }),
        ("PROXX", Signature { at: 4 }),
        ("p", Signature { at: 0 }),
        ("PROXY  ", V1Protocol),
        ("PROXY TCP5", V1Protocol),
        ("PROXY UD", V1Protocol),
        ("PROXY UNKNOWX", V1Protocol),
        ("PROXY UNKNOWN4", V1Separator { at: 13 }),
        ("PROXY UNKNOWN\n", V1Separator { at: 13 }),
        ("PROXY UNKNOWN a\n", V1Separator { at: 15 }),
        ("PROXY UNKNOWN\rx", V1Separator { at: 14 }),
        ("PROXY TCP4\t", V1Separator { at: 10 }),
        ("PROXY TCP4  ", V1Address { at: 11 }),
        ("PROXY TCP4 a", V1Address { at: 11 }),
        ("PROXY TCP4 1.2.3 ", V1Address { at: 11 }),
        ("PROXY TCP4 1.2.3.256 ", V1Address { at: 11 }),
        ("PROXY TCP4 01.2.3.4 ", V1Address { at: 11 }),
        ("PROXY TCP4 1111111111111111", V1Address { at: 11 }),
        ("PROXY TCP4 :", V1Address { at: 11 }),
        ("PROXY TCP6 1.2.3.4 ", V1Address { at: 11 }),
        ("PROXY TCP6 ::1 :::1 ", V1Address { at: 15 }),
        ("PROXY TCP4 1.2.3.4\r", V1Separator { at: 18 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 x", V1Port { at: 27 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 65536", V1Port { at: 27 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 00", V1Port { at: 27 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 08", V1Port { at: 27 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 -", V1Port { at: 27 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 80 \r", V1Port { at: 30 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 80 443 ", V1Separator { at: 33 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 80 443\n", V1Separator { at: 33 }),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 80 443\r\r", V1Separator { at: 34 }),
    ];
    for (text, expected) in cases {
        let bytes = text.as_bytes();
        assert_eq!(parse(bytes), Err(*expected), "{text:?}");
        assert!(!expected.to_string().is_empty());
        // Addresses are judged when they end; everything else at its first wrong byte.
        assert_eq!(parse(&bytes[..bytes.len() - 1]), Ok(Parsed::Partial), "{text:?} without its last byte");
    }
}

#[test]
fn v1_without_crlf_ends_at_its_bound() {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(PROXY_V1_BYTES_MAX - 1, b'x');
    assert_eq!(parse(&line), Ok(Parsed::Partial));
    line.push(b'x');
    assert_eq!(parse(&line), Err(ProxyHeaderError::V1TooLong));
    line[PROXY_V1_BYTES_MAX - 2..].copy_from_slice(b"\r\n");
    assert_eq!(complete(&line).1, PROXY_V1_BYTES_MAX);
}

#[test]
fn v2_addresses_are_read() {
    let mut v6 = [0u8; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[32..].copy_from_slice(&[0, 80, 1, 187]);
    let cases: &[(u8, &[u8], &str, &str)] = &[
        (0x11, &V4_PAIR, "192.0.2.1:4000", "192.0.2.2:443"),
        (0x12, &V4_PAIR, "192.0.2.1:4000", "192.0.2.2:443"),
        (0x21, &v6, "[::1]:80", "[::2]:443"),
        (0x31, &[b'/'; 216], "unix", "unix"),
        (0x00, &[], "unknown", "unknown"),
    ];
    for (family, payload, source, destination) in cases {
        let bytes = v2(1, *family, payload);
        let (header, len) = complete(&bytes);
        assert_eq!(len, bytes.len());
        assert_eq!((header.version, header.command), (Version::V2, Command::Proxy));
        assert_eq!(header.source.to_string(), *source);
        assert_eq!(header.destination.to_string(), *destination);
        check_cuts(&bytes);
    }
}

#[test]
fn v2_local_keeps_the_real_address_whatever_follows() {
    for (family, payload) in
        [(0x00, &b""[..]), (0x11, &V4_PAIR), (0x11, &[1, 2]), (0xff, b"junk"), (0x00, &[4, 0, 9])]
    {
        let bytes = v2(0, family, payload);
        let (header, len) = complete(&bytes);
        assert_eq!(len, bytes.len());
        assert_eq!((header.command, header.source), (Command::Local, Addr::Unknown));
        check_cuts(&bytes);
    }
}

#[test]
fn v2_tlvs_are_read_in_place() {
    let mut payload = V4_PAIR.to_vec();
    payload
        .extend_from_slice(b"\x04\x00\x02\0\0\x01\x00\x02h2\x02\x00\x07a.local\x05\x00\x03xyz\x30\x00\x02ns");
    payload.extend_from_slice(b"\x20\x00\x0f\x01\x00\x00\x00\x01\x21\x00\x07TLSv1.3\xe0\x00\x00");
    let bytes = v2(1, 0x11, &payload);
    let (header, _) = complete(&bytes);
    assert_eq!(header.tlvs.alpn(), Some(&b"h2"[..]));
    assert_eq!(header.tlvs.authority(), Some(&b"a.local"[..]));
    assert_eq!(header.tlvs.unique_id(), Some(&b"xyz"[..]));
    assert_eq!(header.tlvs.netns(), Some(&b"ns"[..]));
    let ssl = header.tlvs.ssl().expect("an SSL TLV");
    assert!(ssl.is_ssl());
    assert_eq!((ssl.verify, ssl.version(), ssl.cipher()), (1, Some(&b"TLSv1.3"[..]), None));
    assert_eq!(header.tlvs.first(0xe0), Some(&b""[..]));
    assert_eq!(header.tlvs.into_iter().count(), 7);
    check_cuts(&bytes);
}

#[test]
fn v2_is_refused_by_reason() {
    use ProxyHeaderError::*;
    let with_tlvs = |tlvs: &[u8]| v2(1, 0x11, &[&V4_PAIR[..], tlvs].concat());
    let cases: Vec<(Vec<u8>, ProxyHeaderError)> = vec![
        (b"\r\n\r\n\0\r\nQUIX".to_vec(), Signature { at: 10 }),
        ([&V2_SIGNATURE[..], &[0x11]].concat(), V2VersionCommand { byte: 0x11 }),
        ([&V2_SIGNATURE[..], &[0x22]].concat(), V2VersionCommand { byte: 0x22 }),
        ([&V2_SIGNATURE[..], &[0x21, 0x41]].concat(), V2Family { byte: 0x41 }),
        ([&V2_SIGNATURE[..], &[0x21, 0x13]].concat(), V2Family { byte: 0x13 }),
        ([&V2_SIGNATURE[..], &[0x21, 0x10]].concat(), V2Family { byte: 0x10 }),
        ([&V2_SIGNATURE[..], &[0x21, 0x11, 0, 11]].concat(), V2AddressTooShort { seen: 11, needed: 12 }),
        ([&V2_SIGNATURE[..], &[0x21, 0x31, 0, 215]].concat(), V2AddressTooShort { seen: 215, needed: 216 }),
        ([&V2_SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(), V2TooLong { seen: 65551, limit: 4096 }),
        (with_tlvs(&[1]), TlvTruncated { at: 28 }),
        (with_tlvs(&[4, 0, 1, 0, 1, 0]), TlvTruncated { at: 32 }),
        (with_tlvs(&[1, 0, 2, b'h']), TlvTruncated { at: 28 }),
        (with_tlvs(&[3, 0, 3, 0, 0, 0]), TlvLength { kind: 3, seen: 3 }),
        (with_tlvs(&[0x20, 0, 4, 0, 0, 0, 0]), TlvLength { kind: 0x20, seen: 4 }),
        (with_tlvs(&[0x20, 0, 7, 0, 0, 0, 0, 0, 0x21, 0]), TlvTruncated { at: 36 }),
        (with_tlvs(&[&[5, 0, 129][..], &[0; 129]].concat()), TlvLength { kind: 5, seen: 129 }),
        (with_tlvs(&[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]), TlvRepeated { kind: 3 }),
    ];
    for (bytes, expected) in cases {
        assert_eq!(parse(&bytes), Err(expected), "{bytes:?}");
        assert_eq!(parse(&bytes[..bytes.len() - 1]), Ok(Parsed::Partial), "one byte less is not wrong yet");
    }
}

#[test]
fn every_flipped_bit_breaks_the_checksum() {
    let fields = V2Fields { crc32c: true, authority: Some(b"example.net"), ..V2Fields::default() };
    let mut out = [0; 128];
    let source = Addr::Ip("192.0.2.1:4000".parse().unwrap());
    let len = encode_v2(&source, &source, &fields, &mut out).unwrap();
    check_cuts(&out[..len]);
    // The addresses, and the authority's text.
    for at in (16..28).chain(len - 11..len) {
        for bit in 0..8 {
            out[at] ^= 1 << bit;
            assert!(
                matches!(parse(&out[..len]), Err(ProxyHeaderError::Crc32c { .. })),
                "byte {at} bit {bit}"
            );
            out[at] ^= 1 << bit;
        }
    }
    assert!(parse(&out[..len]).is_ok());
}

#[test]
fn a_wrong_checksum_is_refused_with_local_too() {
    let bytes = v2(0, 0, &[3, 0, 4, 1, 2, 3, 4]);
    assert!(matches!(parse(&bytes), Err(ProxyHeaderError::Crc32c { seen: 0x01020304, .. })));
}

#[test]
fn the_checksum_is_castagnolis() {
    // RFC 3720 B.4: 32 bytes of zeros.
    assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
}

fn addresses() -> Vec<(Addr, Addr)> {
    let ip = |text: &str| Addr::Ip(text.parse().unwrap());
    vec![
        (ip("192.0.2.1:4000"), ip("192.0.2.2:443")),
        (ip("[2001:db8::1]:1"), ip("[::1]:65535")),
        (ip("[::ffff:192.0.2.1]:9"), ip("192.0.2.2:443")),
        (ip("192.0.2.1:9"), ip("[2001:db8::1]:1")),
        (Addr::Unix, Addr::Unix),
        (Addr::Unix, ip("192.0.2.2:443")),
        (Addr::Unknown, Addr::Unknown),
    ]
}

#[test]
fn written_headers_are_read_back() {
    let id = [7; UNIQUE_ID_MAX];
    let ssl = V2Ssl {
        common_name: Some(b"client"),
        cipher: Some(b"TLS_AES_128_GCM_SHA256"),
        ..V2Ssl::over_tls(b"TLSv1.3")
    };
    let fields = V2Fields {
        alpn: Some(b"h2"),
        authority: Some(b"example.net"),
        unique_id: Some(&id),
        ssl: Some(ssl),
        crc32c: true,
    };
    let mut out = [0; 1024];
    for (source, destination) in addresses() {
        let is_ip = source.ip().is_some() && destination.ip().is_some();
        let len = encode_v1(&source, &destination, &mut out).unwrap();
        assert!(len <= PROXY_V1_BYTES_MAX);
        let (header, used) = complete(&out[..len]);
        assert_eq!(used, len);
        assert_eq!(header.source.ip().is_some(), is_ip);
        if is_ip {
            assert_eq!((header.source.ip(), header.source.port()), (source.ip(), source.port()));
            assert_eq!(
                (header.destination.ip(), header.destination.port()),
                (destination.ip(), destination.port())
            );
        }
        for fields in [&V2Fields::default(), &fields] {
            let len = encode_v2(&source, &destination, fields, &mut out).unwrap();
            let (header, used) = complete(&out[..len]);
            assert_eq!((used, header.command), (len, Command::Proxy));
            if is_ip {
                assert_eq!((header.source.ip(), header.source.port()), (source.ip(), source.port()));
            } else {
                assert_eq!(header.source == Addr::Unix, source == destination && source == Addr::Unix);
            }
            assert_eq!(header.tlvs.alpn(), fields.alpn);
            assert_eq!(header.tlvs.authority(), fields.authority);
            assert_eq!(header.tlvs.unique_id(), fields.unique_id);
            assert_eq!(
                header.tlvs.ssl().and_then(|s| s.common_name()),
                fields.ssl.and_then(|s| s.common_name)
            );
            assert_eq!(header.tlvs.first(kind::CRC32C).is_some(), fields.crc32c);
        }
    }
    let len = encode_v2_local(&mut out).unwrap();
    assert_eq!((complete(&out[..len]).0.command, len), (Command::Local, 16));
}

const UNIQUE_ID_MAX: usize = 128;

#[test]
fn a_small_buffer_is_an_error_at_any_size() {
    let fields = V2Fields { authority: Some(b"example.net"), crc32c: true, ..V2Fields::default() };
    for (source, destination) in addresses() {
        let mut out = [0; 512];
        let len_v1 = encode_v1(&source, &destination, &mut out).unwrap();
        let len_v2 = encode_v2(&source, &destination, &fields, &mut out).unwrap();
        assert!((0..len_v1).all(|n| encode_v1(&source, &destination, &mut out[..n]).is_err()));
        assert!((0..len_v2).all(|n| encode_v2(&source, &destination, &fields, &mut out[..n]).is_err()));
    }
    let too_long = [0; UNIQUE_ID_MAX + 1];
    let fields = V2Fields { unique_id: Some(&too_long), ..V2Fields::default() };
    assert_eq!(encode_v2(&Addr::Unknown, &Addr::Unknown, &fields, &mut [0; 512]), Err(OutOfSpace));
}
