use super::*;
use crate::accept::tlv::crc32c;

/// Whole, byte by byte and at every two-way split: always the same. `Need` is never more than what is missing.
fn read(bytes: &[u8]) -> Result<Found, Violation> {
    let whole = feed(bytes, &[bytes.len()]);
    let ends: Vec<usize> = (1..=bytes.len()).collect();
    assert_eq!(feed(bytes, &ends), whole, "byte by byte, {}", bytes.escape_ascii());
    for cut in 1..bytes.len() {
        assert_eq!(feed(bytes, &[cut, bytes.len()]), whole, "cut behind byte {cut}, {}", bytes.escape_ascii());
    }
    if let Some(Ok(found)) = whole {
        for end in 0..found.len as usize {
            let said = Receiver::new().step(&bytes[..end], &Limits::DEFAULT);
            assert!(matches!(said, Ok(Item::Need { want }) if end + want <= found.len as usize), "{said:?} at {end}");
        }
    }
    whole.expect("an end")
}

fn feed(bytes: &[u8], ends: &[usize]) -> Option<Result<Found, Violation>> {
    let mut receiver = Receiver::new();
    for &end in ends {
        match receiver.step(&bytes[..end], &Limits::DEFAULT) {
            Ok(Item::Need { want }) => assert!(want > 0),
            Ok(Item::Header(found)) => return Some(Ok(found)),
            Err(violation) => return Some(Err(violation)),
        }
    }
    None
}

fn broken(bytes: &[u8]) -> (Rule, u64) {
    let violation = read(bytes).expect_err("it is no header");
    (violation.rule, violation.at)
}

fn ends(source: &str, destination: &str) -> Option<Endpoints> {
    let address = |text: &str| text.parse().expect("an address");
    Some(Endpoints { source: address(source), destination: address(destination) })
}

fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

/// TCP over IPv4 with these TLVs behind the addresses.
fn with(tlvs: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&IPV4[..], tlvs].concat())
}

#[test]
fn a_line_says_who_is_at_both_ends() {
    for (line, expected) in [
        ("TCP4 192.0.2.1 198.51.100.7 56324 443", ends("192.0.2.1:56324", "198.51.100.7:443")),
        ("TCP4 255.255.255.255 0.0.0.0 65535 0", ends("255.255.255.255:65535", "0.0.0.0:0")),
        ("TCP6 2001:db8::1 2001:DB8::2 1 2", ends("[2001:db8::1]:1", "[2001:db8::2]:2")),
        ("TCP6 ::ffff:192.0.2.1 :: 1 2", ends("[::ffff:192.0.2.1]:1", "[::]:2")),
        ("UNKNOWN", None),
        ("UNKNOWN ", None),
        ("UNKNOWN \0 anything \x7f goes", None),
    ] {
        let bytes = format!("PROXY {line}\r\nGET");
        let found = read(bytes.as_bytes()).expect("a header");
        assert_eq!((found.endpoints, found.version, found.len as usize), (expected, 1, line.len() + 8), "{line}");
        assert!(found.of(bytes.as_bytes()).tlvs().next().is_none() && found.of(bytes.as_bytes()).unix().is_none());
    }
}

#[test]
fn a_line_has_one_spelling() {
    let line = |rule| (rule, 6);
    for (text, expected) in [
        ("TCP4 192.0.2.1 198.51.100.7 56324", line(Rule::ProxyLine)),
        ("TCP4 192.0.2.1 198.51.100.7 56324 443 ", line(Rule::ProxyLine)),
        ("TCP4 192.0.2.1 198.51.100.7 56324 443 1", line(Rule::ProxyLine)),
        ("TCP5 192.0.2.1 198.51.100.7 56324 443", line(Rule::ProxyLine)),
        ("tcp4 192.0.2.1 198.51.100.7 56324 443", line(Rule::ProxyLine)),
        ("UNKNOWNX", line(Rule::ProxyLine)),
        ("", line(Rule::ProxyLine)),
        ("TCP4  192.0.2.1 198.51.100.7 56324 443", line(Rule::ProxyLine)),
        ("TCP4  192.0.2.1 198.51.100.7 443", line(Rule::ProxyAddress)),
        ("TCP4 192.0.2.01 198.51.100.7 56324 443", line(Rule::ProxyAddress)),
        ("TCP4 192.0.2.256 198.51.100.7 56324 443", line(Rule::ProxyAddress)),
        ("TCP4 192.0.2 198.51.100.7 56324 443", line(Rule::ProxyAddress)),
        ("TCP4 ::1 ::2 56324 443", line(Rule::ProxyAddress)),
        ("TCP6 192.0.2.1 198.51.100.7 56324 443", line(Rule::ProxyAddress)),
        ("TCP6 ::1::2 ::2 56324 443", line(Rule::ProxyAddress)),
        ("TCP6 fe80::1%eth0 ::2 56324 443", line(Rule::ProxyAddress)),
        ("TCP4 192.0.2.1 198.51.100.7 056324 443", line(Rule::ProxyAddress)),
        ("TCP4 192.0.2.1 198.51.100.7 65536 443", line(Rule::ProxyAddress)),
        ("TCP4 192.0.2.1 198.51.100.7 +1 443", line(Rule::ProxyAddress)),
        ("TCP4 192.0.2.1 198.51.100.7 -1 443", line(Rule::ProxyAddress)),
        ("TCP4 192.0.2.1 198.51.100.7 00 443", line(Rule::ProxyAddress)),
        ("TCP4 \u{663}.0.2.1 198.51.100.7 1 443", line(Rule::ProxyAddress)),
        ("UNKNOWN a\rb", (Rule::ProxyLine, 16)),
        ("UNKNOWN a\nb", (Rule::ProxyLine, 15)),
        ("UNKNOWN a\r\r", (Rule::ProxyLine, 16)),
    ] {
        assert_eq!(broken(format!("PROXY {text}\r\n").as_bytes()), expected, "{text}");
    }
}

#[test]
fn a_line_ends_within_107_bytes() {
    let of = |n: usize| [b"PROXY UNKNOWN ", &vec![b'x'; n][..], b"\r\nGET"].concat();
    assert_eq!(read(&of(107 - 16)).expect("a header").len, 107);
    assert_eq!(broken(&of(108 - 16)), (Rule::ProxyLineTooLong, 107));
    assert_eq!(broken(&of(1_000)), (Rule::ProxyLineTooLong, 107));
}

#[test]
fn what_begins_otherwise_is_refused_at_its_first_other_byte() {
    for (text, at) in [
        (&b"GET / HTTP/1.1\r\n"[..], 0),
        (b"\x16\x03\x01\x02\x00", 0),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 2),
        (b"POST / HTTP/1.1\r\n", 1),
        (b"PROXY\tTCP4", 5),
        (b"proxy TCP4", 0),
        (b"\r\nGET", 2),
        (b"\r\n\r\n\0\r\nQUIT\r", 11),
        (b"\n", 0),
    ] {
        assert_eq!(broken(text), (Rule::ProxySignature, at), "{}", text.escape_ascii());
    }
}

#[test]
fn a_binary_header_says_who_is_at_both_ends() {
    let bytes = [with(b""), b"GET".to_vec()].concat();
    let found = read(&bytes).expect("a header");
    assert_eq!(found.endpoints, ends("192.0.2.1:56324", "198.51.100.7:443"));
    assert_eq!((found.version, found.command, found.len), (2, Command::Proxy, 28));

    let (source, destination) = ("2001:db8::1".parse::<Ipv6Addr>(), "2001:db8::2".parse::<Ipv6Addr>());
    let octets = [source, destination].map(|a| a.expect("an address").octets()).concat();
    let found = read(&binary(0x21, 0x21, &[&octets[..], &[0, 1, 0, 2]].concat())).expect("a header");
    assert_eq!(found.endpoints, ends("[2001:db8::1]:1", "[2001:db8::2]:2"));

    let mut block = [0; 216];
    block[..5].copy_from_slice(b"/a/b\0");
    block[108..113].copy_from_slice(b"\0name");
    let bytes = binary(0x21, 0x31, &block);
    let found = read(&bytes).expect("a header");
    assert_eq!(found.endpoints, None);
    assert_eq!(found.of(&bytes).unix(), Some((&b"/a/b"[..], &b"\0name"[..])));
}

#[test]
fn a_proxy_that_speaks_for_itself_or_does_not_know_may_say_anything_behind_that() {
    for bytes in [
        binary(0x20, 0x00, b""),
        binary(0x20, 0xff, b"\x01\xff\xff"),
        binary(0x20, 0x11, b"short"),
        binary(0x21, 0x00, b""),
        binary(0x21, 0x00, b"\x03\0\x04\0\0\0\0"),
        binary(0x21, 0x12, &IPV4),
        binary(0x21, 0x10, b"?"),
    ] {
        let found = read(&bytes).expect("a header");
        assert_eq!((found.endpoints, found.len as usize), (None, bytes.len()));
        assert_eq!(found.of(&bytes).tlvs().count(), 0);
    }
}

#[test]
fn a_binary_header_is_judged_byte_by_byte() {
    for (bytes, expected) in [
        (binary(0x11, 0x11, &IPV4), (Rule::ProxyVersion, 12)),
        (binary(0x22, 0x11, &IPV4), (Rule::ProxyVersion, 12)),
        (binary(0x21, 0x41, &IPV4), (Rule::ProxyFamily, 13)),
        (binary(0x21, 0x13, &IPV4), (Rule::ProxyFamily, 13)),
        (binary(0x21, 0x11, &IPV4[..11]), (Rule::ProxyLength, 14)),
        (binary(0x21, 0x21, &[0; 35]), (Rule::ProxyLength, 14)),
        (binary(0x21, 0x31, &[0; 215]), (Rule::ProxyLength, 14)),
        (binary(0x20, 0x00, &[0; 2_033]), (Rule::ProxyTooLong, 14)),
        (with(b"\x01"), (Rule::ProxyTlv, 28)),
        (with(b"\x04\0\0\x01\0\x02h"), (Rule::ProxyTlv, 31)),
        (with(&tlv(2, b"\xff")), (Rule::ProxyTlv, 28)),
        (with(&tlv(5, &[0; 129])), (Rule::ProxyTlv, 28)),
        (with(&tlv(3, &[0; 3])), (Rule::ProxyTlv, 28)),
        (with(&tlv(0x20, &[1, 0, 0, 0])), (Rule::ProxyTlv, 28)),
        (with(&tlv(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9])), (Rule::ProxyTlv, 28)),
        (with(&tlv(3, &[0; 4])), (Rule::ProxyChecksum, 31)),
    ] {
        assert_eq!(broken(&bytes), expected, "{}", bytes.escape_ascii());
    }
    assert_eq!(read(&binary(0x20, 0x00, &[0; 2_032])).map(|found| found.len), Ok(2_048), "as long as the limit");
}

#[test]
fn values_are_found_by_their_types_and_others_are_passed_over() {
    let tls = [&[7, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3"), &tlv(0x22, b"example.com"), &tlv(0x23, b"AES")].concat();
    let tlvs = [tlv(1, b"h2"), tlv(0xe0, b"own"), tlv(2, b"example.com"), tlv(4, b"\0\0"), tlv(5, &[9; 128])].concat();
    let bytes = with(&[tlvs, tlv(0x20, &tls), tlv(0x30, b"blue")].concat());
    let header = read(&bytes).expect("a header").of(&bytes);
    assert_eq!((header.alpn(), header.authority()), (Some(&b"h2"[..]), Some("example.com")));
    assert_eq!((header.unique_id(), header.namespace()), (Some(&[9; 128][..]), Some(&b"blue"[..])));
    assert_eq!(header.tlvs().get(0xe0), Some(&b"own"[..]));
    assert_eq!(header.tlvs().count(), 7);
    let tls = header.tls().expect("it says so");
    assert!(tls.has_certificate() && tls.is_verified());
    assert_eq!((tls.version(), tls.common_name()), (Some("TLSv1.3"), Some("example.com")));
    assert_eq!((tls.cipher(), tls.key(), tls.signature()), (Some("AES"), None, None));

    let unverified = with(&tlv(0x20, &[3, 0, 0, 0, 1]));
    let tls = read(&unverified).expect("a header").of(&unverified).tls();
    assert!(tls.is_some_and(|tls| tls.has_certificate() && !tls.is_verified()));
    let plain = with(&tlv(0x20, &[0, 0, 0, 0, 0]));
    assert!(read(&plain).expect("a header").of(&plain).tls().is_none(), "the client did not use TLS");
}

#[test]
fn a_checksum_holds_for_every_bit_of_the_header() {
    let mut bytes = with(&[tlv(1, b"h2"), tlv(3, &[0; 4]), tlv(2, b"a")].concat());
    let sum = !crc32c(u32::MAX, &bytes);
    bytes[36..40].copy_from_slice(&sum.to_be_bytes());
    assert!(read(&bytes).is_ok());
    for bit in 16 * 8..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Some(Ok(found)) = feed(&damaged, &[damaged.len()]) {
            assert_eq!(found.of(&damaged).tlvs().get(3), None, "bit {bit}: it may be no checksum any more");
            assert!(bit / 8 >= 28, "bit {bit} of the addresses");
        }
    }
    let twice = with(&[tlv(3, &[0; 4]), tlv(3, &[0; 4])].concat());
    assert_eq!(broken(&twice), (Rule::ProxyTlv, 35));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged_alike_however_they_are_cut(
        kind in 0..3,
        rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..64),
    ) {
        let bytes = match kind {
            0 => rest,
            1 => [b"PROXY TCP4 ", &rest[..], b"\r\n"].concat(),
            _ => [&SIGNATURE[..], &rest[..]].concat(),
        };
        let ends: Vec<usize> = (1..=bytes.len()).collect();
        let whole = feed(&bytes, &[bytes.len()]);
        proptest::prop_assert_eq!(feed(&bytes, &ends), whole);
    }

    #[test]
    fn what_a_sender_writes_is_read(
        ports: (u16, u16), v4: ([u8; 4], [u8; 4]), v6: ([u8; 16], [u8; 16]), six: bool,
    ) {
        let (source, destination) = match six {
            true => (IpAddr::from(v6.0), IpAddr::from(v6.1)),
            false => (IpAddr::from(v4.0), IpAddr::from(v4.1)),
        };
        let expected = Some(Endpoints {
            source: SocketAddr::new(source, ports.0),
            destination: SocketAddr::new(destination, ports.1),
        });
        let name = if six { "TCP6" } else { "TCP4" };
        let line = format!("PROXY {name} {source} {destination} {} {}\r\n", ports.0, ports.1);
        proptest::prop_assert_eq!(read(line.as_bytes()).map(|found| found.endpoints), Ok(expected));
        let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        let block = if six { [&v6.0[..], &v6.1, &ports].concat() } else { [&v4.0[..], &v4.1, &ports].concat() };
        let bytes = binary(0x21, if six { 0x21 } else { 0x11 }, &block);
        proptest::prop_assert_eq!(read(&bytes).map(|found| found.endpoints), Ok(expected));
    }
}
