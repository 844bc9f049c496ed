//! gRPC: framing in any pieces, messages gathered and decompressed, and the responses of the helpers.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, missing_docs)]

use proptest::prelude::*;
use std::sync::Arc;
use vestibule::decode::coding::Coding;
use vestibule::decode::grpc::{self, Code, Gather, Item, Messages};
use vestibule::{Config, Connection, Event, Inbox, Instant, Limit, Limits, Misuse, Outbox, Reply, Rule, Violation};

fn with(limit: Limit, value: u64) -> Limits {
    Limits::DEFAULT.with(limit, value).unwrap()
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

type Read = (Vec<(bool, u32, Vec<u8>, bool)>, Result<(), Violation>);

/// Messages with their parts joined, and whether their end came.
fn unframe<'p>(pieces: impl IntoIterator<Item = &'p [u8]>, limits: &Limits) -> Read {
    let (mut messages, mut read) = (Messages::new(limits), Vec::new());
    for mut piece in pieces {
        loop {
            match messages.next(&mut piece) {
                Ok(Some(Item::Start { compressed, len })) => read.push((compressed, len, Vec::new(), false)),
                Ok(Some(Item::Part(part))) => {
                    assert!(!part.is_empty());
                    read.last_mut().unwrap().2.extend_from_slice(part);
                }
                Ok(Some(Item::End)) => read.last_mut().unwrap().3 = true,
                Ok(None) => break,
                Err(v) => {
                    assert_eq!(messages.next(&mut piece), Err(v), "it stays that way");
                    assert_eq!(messages.finish(), Err(v));
                    return (read, Err(v));
                }
            }
        }
        assert!(piece.is_empty());
    }
    (read, messages.finish())
}

fn gather<'p>(
    coding: Coding,
    pieces: impl IntoIterator<Item = &'p [u8]>,
    limits: &Limits,
) -> (Vec<Vec<u8>>, Result<(), Violation>) {
    let (mut gather, mut read) = (Gather::new(coding, limits), Vec::new());
    for mut piece in pieces {
        loop {
            match gather.next(&mut piece) {
                Ok(Some(message)) => read.push(message.to_vec()),
                Ok(None) => break,
                Err(v) => {
                    assert_eq!(gather.next(&mut piece), Err(v), "it stays that way");
                    assert_eq!(gather.finish(), Err(v));
                    return (read, Err(v));
                }
            }
        }
    }
    (read, gather.finish())
}

/// All two-way cuts, a byte at a time, and whole: the same.
fn everywhere<T: PartialEq + std::fmt::Debug>(bytes: &[u8], read: impl Fn(Vec<&[u8]>) -> T) -> T {
    let whole = read(vec![bytes]);
    assert_eq!(whole, read(bytes.chunks(1).collect()), "a byte at a time");
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(whole, read(vec![a, b]), "cut at {at}");
    }
    whole
}

#[test]
fn every_truncation_of_two_messages_is_known_as_one() {
    let bytes = [framed(0, b"hello"), framed(1, b"")].concat();
    for len in 0..=bytes.len() {
        let (read, outcome) = everywhere(&bytes[..len], |pieces| unframe(pieces, &Limits::DEFAULT));
        match len {
            0 | 10 | 15 => assert_eq!(outcome, Ok(())),
            _ => assert_eq!(outcome, Err(Violation::new(Rule::GrpcTruncated, len as u64))),
        }
        assert_eq!(read.iter().filter(|m| m.3).count(), usize::from(len >= 10) + usize::from(len == 15));
    }
}

#[test]
fn every_flag_but_two_is_refused_where_it_stands() {
    for flag in 0..=255 {
        let bytes = [framed(0, b"a"), framed(flag, b"b")].concat();
        let outcome = everywhere(&bytes, |pieces| unframe(pieces, &Limits::DEFAULT)).1;
        let expected = if flag < 2 { Ok(()) } else { Err(Violation::new(Rule::GrpcFlag, 6)) };
        assert_eq!(outcome, expected);
    }
}

// PB-03: at the length, before a byte of the message.
#[test]
fn a_message_over_the_limit_is_refused_at_its_length() {
    let limits = with(Limit::ProtobufMessageBytes, 20);
    for (len, passes) in [(19, true), (20, true), (21, false)] {
        let bytes = [framed(0, b"ab"), framed(0, &vec![7; len])].concat();
        let outcome = everywhere(&bytes, |pieces| unframe(pieces, &limits)).1;
        let too_large = Violation { rule: Rule::GrpcTooLarge, at: 8, value: 20 };
        assert_eq!(outcome, if passes { Ok(()) } else { Err(too_large) });
        assert_eq!(everywhere(&bytes, |pieces| gather(Coding::Identity, pieces, &limits)).1, outcome);
    }
    let outcome = unframe([&b"\0\xff\xff\xff\xff"[..]], &Limits::DEFAULT).1.unwrap_err();
    assert_eq!((outcome.rule, outcome.at), (Rule::GrpcTooLarge, 1));
    assert_eq!(Code::of(&outcome), Code::ResourceExhausted);
}

#[test]
fn compressed_messages_among_others() {
    let long = b"a message that is long enough to be worth it. ".repeat(20);
    for (coding, coded) in [(Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Coding::Deflate, zlib)] {
        let bytes =
            [framed(1, &coded(&long)), framed(0, b"plain"), framed(1, &coded(b"")), framed(1, &coded(b"x"))].concat();
        let (read, outcome) = everywhere(&bytes, |pieces| gather(coding, pieces, &Limits::DEFAULT));
        assert_eq!(outcome, Ok(()));
        assert_eq!(read, [&long[..], b"plain", b"", b"x"]);
    }
}

#[test]
fn compression_that_nobody_named_and_compression_that_is_broken() {
    let v =
        everywhere(&[framed(0, b"ab"), framed(1, b"c")].concat(), |c| gather(Coding::Identity, c, &Limits::DEFAULT));
    assert_eq!(v, (vec![b"ab".to_vec()], Err(Violation::new(Rule::GrpcUnnamedEncoding, 7))));
    let coded = gzip(b"some text");
    let broken = |message: &[u8]| {
        let bytes = [framed(0, b"ab"), framed(1, message)].concat();
        let v = everywhere(&bytes, |pieces| gather(Coding::Gzip, pieces, &Limits::DEFAULT)).1.unwrap_err();
        assert_eq!(Code::of(&v), Code::Internal);
        (v.rule, v.at)
    };
    assert_eq!(broken(b""), (Rule::CodedTruncated, 12));
    assert_eq!(broken(b"PK"), (Rule::GzipHeader, 12));
    assert_eq!(broken(&coded[..coded.len() - 1]), (Rule::CodedTruncated, 12 + coded.len() as u64 - 1));
    assert_eq!(broken(&[&coded[..], b"x"].concat()), (Rule::GzipMembers, 12 + coded.len() as u64));
    for bit in 0..coded.len() * 8 {
        let mut flipped = coded.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (read, outcome) = gather(Coding::Gzip, [&framed(1, &flipped)[..]], &Limits::DEFAULT);
        // The time, the system and one flag bit mean nothing to the text.
        assert!(outcome.is_err() || read == [b"some text"], "bit {bit}");
    }
}

// ENC-01
#[test]
fn bombs_end_at_the_caps() {
    for (limits, plain, rule, at) in [
        (with(Limit::ProtobufMessageBytes, 2_000), 2_001, Some(Rule::GrpcTooLarge), 2_000),
        (with(Limit::ProtobufMessageBytes, 2_000), 2_000, None, 0),
        (with(Limit::DecodedBytes, 2_000), 2_001, Some(Rule::DecodedTooLarge), 2_000),
        (Limits::DEFAULT, 10 << 20, Some(Rule::DecodedRatio), 0),
    ] {
        let bytes = framed(1, &gzip(&vec![0; plain]));
        let whole = gather(Coding::Gzip, [&bytes[..]], &limits);
        assert_eq!(whole, gather(Coding::Gzip, bytes.chunks(1), &limits));
        match rule {
            None => assert_eq!(whole, (vec![vec![0; plain]], Ok(()))),
            Some(rule) => {
                let v = whole.1.unwrap_err();
                assert!(v.rule == rule && (at == 0 || v.at == at), "{v}");
                assert_eq!(Code::of(&v), Code::ResourceExhausted);
            }
        }
    }
}

// MEM: a declared length reserves nothing, and one buffer serves all messages.
#[test]
fn memory_follows_what_came() {
    let mut gather = Gather::new(Coding::Gzip, &Limits::DEFAULT);
    assert_eq!(gather.retained_bytes(), 0);
    assert_eq!(gather.next(&mut &b"\0\0\x3f\xff\xffabc"[..]), Ok(None));
    assert!(gather.retained_bytes() <= 8_192, "{}", gather.retained_bytes());
    gather.reset(Coding::Gzip);
    let bytes = [framed(0, &[1; 100_000]), framed(1, &gzip(&[2; 50_000]))].concat();
    for round in 0..5 {
        let mut lens = Vec::new();
        for mut piece in bytes.chunks(1_000) {
            while let Some(message) = gather.next(&mut piece).unwrap() {
                lens.push(message.len());
            }
        }
        gather.finish().unwrap();
        assert_eq!(lens, [100_000, 50_000]);
        assert!(gather.retained_bytes() <= 150_000 + 48 * 1_024, "round {round}: {}", gather.retained_bytes());
        gather.reset(Coding::Gzip);
    }
    // What lies in the piece whole is lent from there.
    let message = framed(0, b"lent");
    let mut fresh = Gather::new(Coding::Identity, &Limits::DEFAULT);
    assert_eq!(fresh.next(&mut &message[..]).unwrap().unwrap().as_ptr(), message[5..].as_ptr());
    assert_eq!(fresh.retained_bytes(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_framed_is_unframed(
        messages in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..6),
        piece in 1usize..400,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(|(coded, m)| match coded {
            true => framed(1, &gzip(m)),
            false => framed(0, m),
        }).collect();
        let (read, outcome) = gather(Coding::Gzip, bytes.chunks(piece), &Limits::DEFAULT);
        prop_assert_eq!(outcome, Ok(()));
        prop_assert_eq!(read, messages.into_iter().map(|m| m.1).collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_at_all(bytes in proptest::collection::vec(prop_oneof![0..3u8, any::<u8>()], 0..40)) {
        let limits = with(Limit::ProtobufMessageBytes, 300);
        let whole = everywhere(&bytes, |pieces| unframe(pieces, &limits)).1;
        let gathered = everywhere(&bytes, |pieces| gather(Coding::Gzip, pieces, &limits)).1;
        prop_assert!(whole.is_ok() || gathered.is_err());
    }
}

#[test]
fn fields_of_a_request() {
    for (value, coding) in [("identity", Coding::Identity), ("gzip", Coding::Gzip), ("deflate", Coding::Deflate)] {
        assert_eq!(grpc::encoding(value.as_bytes()), Ok(coding));
        assert!(grpc::ACCEPT_ENCODING.split(", ").any(|name| name == value));
    }
    for value in ["", "snappy", "br", "GZIP", "gzip, gzip"] {
        let v = grpc::encoding(value.as_bytes()).unwrap_err();
        assert_eq!((v.rule, Code::of(&v)), (Rule::GrpcEncoding, Code::Unimplemented), "{value:?}");
    }
    for (value, at) in [("", 0), ("S", 0), ("1", 1), ("123456789S", 8), ("1s", 1), ("1SS", 2), ("-1S", 0), ("1 S", 1)] {
        assert_eq!(grpc::timeout(value.as_bytes()), Err(Violation::new(Rule::GrpcTimeout, at)), "{value:?}");
    }
    for (value, nanos) in [("0n", 0), ("7u", 7_000), ("00000002S", 2_000_000_000), ("3M", 180_000_000_000)] {
        assert_eq!(grpc::timeout(value.as_bytes()).unwrap().as_nanos(), nanos);
    }
    for value in
        ["application/grpc;charset=utf-8", "Application/gRPC", "application/grpc+proto", "application/grpc+x ;a"]
    {
        assert!(grpc::format(value.as_bytes()).is_some(), "{value}");
    }
    for value in ["", "application/grpc+", "application/grpcx", "text/plain", "application/grpc-web+proto"] {
        assert_eq!(grpc::format(value.as_bytes()), None, "{value}");
    }
}

/// What a service sends for one request: `answer` is called at the request and whenever there is room, with what it
/// returned last, until it returns `None`.
fn sent(
    outbox_bytes: usize,
    mut answer: impl FnMut(&mut Reply<'_>, usize) -> Result<Option<usize>, Misuse>,
) -> Vec<u8> {
    let config = Arc::new(Config::new(Limits::DEFAULT));
    let mut connection = Connection::new(config.clone(), Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 4_096]), Outbox::new(vec![0; outbox_bytes]));
    inbox.fill(b"GET /a.B/C HTTP/1.1\r\nhost: a\r\n\r\n");
    let (mut output, mut done) = (Vec::new(), Some(0));
    for _ in 0..1_000 {
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
        while let Some(event) = turn.next() {
            if let (Event::Request(vestibule::Request { mut reply, .. }) | Event::Writable(mut reply), Some(at)) =
                (event, done)
            {
                done = answer(&mut reply, at).unwrap();
            }
        }
        let _ = turn.finish();
        output.extend_from_slice(outbox.ready());
        let ready = outbox.ready().len();
        outbox.wrote(ready);
        if done.is_none() && ready == 0 {
            return output;
        }
    }
    panic!("it does not come to an end: {} bytes", output.len());
}

/// The head as text, and what follows it.
fn split(output: &[u8]) -> (&str, &[u8]) {
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    (std::str::from_utf8(&output[..end]).unwrap(), &output[end..])
}

/// Takes the chunks off; what follows them.
fn unchunk(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut content = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return (content, rest);
        }
        content.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

#[test]
fn a_response_has_a_head_messages_and_a_status_behind_them() {
    let output = sent(4_096, |reply, _| {
        reply.grpc_begin("application/grpc+proto")?;
        assert_eq!(reply.grpc_message(b"hi", 0), Ok(7));
        assert_eq!(reply.grpc_message(b"", 0), Ok(5));
        reply.grpc_end(Code::NotFound, "no \u{fc}")?;
        Ok(None)
    });
    let (head, rest) = split(&output);
    assert!(head.contains("200 OK") && head.contains("content-type: application/grpc+proto"), "{head}");
    let expected = b"7\r\n\0\0\0\0\x02hi\r\n5\r\n\0\0\0\0\0\r\n0\r\ngrpc-status: 5\r\ngrpc-message: no %C3%BC\r\n\r\n";
    assert_eq!(rest, expected);
}

#[test]
fn a_refusal_is_a_head_alone() {
    let output = sent(4_096, |reply, _| reply.grpc_refuse(Code::Unimplemented, "").map(|()| None));
    let (head, rest) = split(&output);
    assert!(head.contains("grpc-status: 12\r\n") && head.contains("grpc-accept-encoding: identity, gzip, deflate\r\n"));
    assert!(head.contains("content-length: 0\r\n") && !head.contains("grpc-message") && rest.is_empty(), "{head}");
    let output = sent(4_096, |reply, _| reply.grpc_refuse(Code::Internal, &"\u{fc}".repeat(1_000)).map(|()| None));
    let message = split(&output).0.lines().find_map(|line| line.strip_prefix("grpc-message: ")).unwrap();
    assert_eq!(message, "%C3%BC".repeat(42), "cut, and not inside a character");
}

/// Whatever the outbox holds, messages leave room for the trailers behind them.
#[test]
fn messages_of_any_length_come_through_small_outboxes() {
    let least = Config::new(Limits::DEFAULT).least_outbox_bytes();
    for room in [least, least + 1, 2_000, 3_000, 20_000] {
        for len in [0, 1, 100, 447, 448, 449, 1_000, 1_019, 1_024, 1_025, 5_000, 70_000] {
            let message: Vec<u8> = (0..len).map(|n| b'a' + (n % 26) as u8).collect();
            let mut begun = false;
            let output = sent(room, |reply, mut done| {
                if !begun {
                    reply.grpc_begin(grpc::CONTENT_TYPE)?;
                    begun = true;
                }
                done = reply.grpc_message(&message, done)?;
                if done < len + 5 {
                    return Ok(Some(done));
                }
                reply.grpc_end(Code::Unknown, &"%".repeat(100))?;
                Ok(None)
            });
            let (content, rest) = unchunk(split(&output).1);
            assert!(content == framed(0, &message), "{len} bytes through {room}");
            assert!(rest.starts_with(b"grpc-status: 2\r\ngrpc-message: %25%25") && rest.ends_with(b"\r\n\r\n"));
        }
    }
}

#[cfg(feature = "prost")]
#[test]
fn a_typed_message_is_encoded_straight_into_the_outbox() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Hello {
        #[prost(string, tag = "1")]
        name: String,
    }
    for len in [0, 2, 120, 2_000] {
        let hello = Hello { name: "x".repeat(len) };
        let output = sent(4_096, |reply, _| reply.protobuf(200, &hello).map(|()| None));
        let (head, body) = split(&output);
        assert!(head.contains("content-type: application/protobuf\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert_eq!(<Hello as prost::Message>::decode(body), Ok(hello));
    }
    let long = Hello { name: "x".repeat(4_096) };
    sent(4_096, |reply, _| {
        assert_eq!(reply.protobuf(200, &long), Err(Misuse::NoRoom));
        reply.text(500, "")?;
        Ok(None)
    });
}
