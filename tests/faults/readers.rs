//! Readers of content, driven by themselves.

use vestibule::decode::coding::Coding;
use vestibule::decode::form;
use vestibule::decode::grpc::{self, Gather};
use vestibule::decode::json::{self, Tokenizer};
use vestibule::decode::media::MediaType;
use vestibule::decode::multipart::Multipart;
use vestibule::decode::protobuf;
use vestibule::{Limits, Violation};

use super::failing::armed;
use super::scenes::{Seen, Stage};
use super::wires;

/// A reader that says how much it found.
fn reading(mut read: impl FnMut(&Limits) -> Result<u64, Violation> + 'static) -> Stage {
    let limits = Limits::DEFAULT;
    Box::new(move |output| {
        output.clear();
        let mut seen = Seen { requests: 1, closed: true, ..Seen::default() };
        match armed(|| read(&limits)) {
            Ok(n) => (seen.content, seen.ends) = (n, 1),
            Err(violation) => seen.hears(violation.rule),
        }
        seen
    })
}

pub fn json() -> Stage {
    let text = wires::object(900);
    reading(move |limits| json::check(text.as_bytes(), limits).map(|()| 1))
}

pub fn json_in_pieces() -> Stage {
    let text = wires::object(500);
    reading(move |limits| {
        let (mut tokens, mut n) = (Tokenizer::new([0; 1_024]), 0);
        for mut piece in text.as_bytes().chunks(100) {
            while tokens.next(&mut piece, limits)?.is_some() {
                n += 1;
            }
        }
        while tokens.finish()?.is_some() {
            n += 1;
        }
        Ok(n)
    })
}

pub fn forms() -> Stage {
    let text: String = (0..300).map(|i| format!("name{i}=value+%C3%A9{i}&")).collect();
    reading(move |limits| {
        let (mut reader, mut n) = (form::Form::new([0; 256]), 0);
        for mut piece in text.as_bytes().chunks(100) {
            while reader.next(&mut piece, limits)?.is_some() {
                n += 1;
            }
        }
        while reader.finish()?.is_some() {
            n += 1;
        }
        Ok(n)
    })
}

pub fn multipart() -> Stage {
    let part = "--b\r\nContent-Disposition: form-data; name=\"a%22b\"; filename=\"f\"\r\nContent-Type: text/plain\r\n\r\nsome text\r\n";
    let text = part.repeat(20) + "--b--\r\n";
    reading(move |limits| {
        let kind = MediaType::parse(b"multipart/form-data; boundary=b")?;
        let (mut reader, mut n) = (Multipart::new(&kind, [0; 512])?, 0);
        for mut piece in text.as_bytes().chunks(100) {
            while reader.next(&mut piece, limits)?.is_some() {
                n += 1;
            }
        }
        reader.finish().map(|()| n)
    })
}

pub fn protobuf() -> Stage {
    let message = [&[8, 150, 1][..], &[18, 4], b"text", &[24, 1]].concat().repeat(50);
    reading(move |limits| {
        let (mut fields, mut n) = (protobuf::fields(&message, limits), 0);
        while fields.next().transpose()?.is_some() {
            n += 1;
        }
        Ok(n)
    })
}

/// Messages that lie in many pieces, as they are and compressed.
pub fn grpc() -> Stage {
    let mut wire = Vec::new();
    grpc::append(&mut wire, &wires::noise(20_000));
    let gzip = wires::gzip(&wires::noise(5_000).repeat(3));
    wire.push(1);
    wire.extend((gzip.len() as u32).to_be_bytes());
    wire.extend(&gzip);
    reading(move |limits| {
        let (mut gather, mut n) = (Gather::new(Coding::Gzip, limits), 0);
        for mut piece in wire.chunks(1_000) {
            while let Some(message) = gather.next(&mut piece)? {
                n += message.len() as u64;
            }
        }
        gather.finish().map(|()| n)
    })
}
