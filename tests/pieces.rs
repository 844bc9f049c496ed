//! Whatever reads a body in pieces is used in one way: `next` until there is nothing more to tell, then the next piece, at
//! the end `finish`. Here one loop drives all of them.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, missing_docs)]

use vestibule::decode::coding::Coding;
use vestibule::decode::form::Form;
use vestibule::decode::grpc::{Gather, Messages};
use vestibule::decode::json::Tokenizer;
use vestibule::decode::media::MediaType;
use vestibule::decode::multipart::Multipart;
use vestibule::decode::protobuf::Reader;
use vestibule::decode::text::Text;
use vestibule::{Limits, Rule, Violation};

/// What they have in common. An item is told as what it is called: parts are as long as the pieces are.
trait Pieces {
    fn next(&mut self, piece: &mut &[u8]) -> Result<Option<String>, Violation>;
    fn finish(&mut self) -> Result<Option<String>, Violation>;
    fn offset(&self) -> u64;
}

macro_rules! pieces {
    ($($reader:ty: ($($limits:expr)?), $finish:expr;)*) => {$(
        impl Pieces for $reader {
            fn next(&mut self, piece: &mut &[u8]) -> Result<Option<String>, Violation> {
                self.next(piece $(, $limits)?).map(|item| item.map(called))
            }

            fn finish(&mut self) -> Result<Option<String>, Violation> {
                $finish(self.finish())
            }

            fn offset(&self) -> u64 {
                self.offset()
            }
        }
    )*};
}

pieces! {
    Tokenizer: (&Limits::DEFAULT), |end: Result<Option<_>, _>| end.map(|item| item.map(called));
    Form<[u8; 64]>: (&Limits::DEFAULT), |end: Result<Option<_>, _>| end.map(|item| item.map(called));
    Multipart<[u8; 256]>: (&Limits::DEFAULT), |end: Result<(), _>| end.map(|()| None);
    Text: (), |end: Result<(), _>| end.map(|()| None);
    Reader: (), |end: Result<(), _>| end.map(|()| None);
    Messages: (), |end: Result<(), _>| end.map(|()| None);
    Gather: (), |end: Result<(), _>| end.map(|()| None);
}

fn called(item: impl std::fmt::Debug) -> String {
    let told = format!("{item:?}");
    told.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().into()
}

/// The one loop. What is told twice in a row may be a part of what was cut.
fn read(reader: &mut dyn Pieces, pieces: &[&[u8]]) -> (Vec<String>, Result<(), Violation>) {
    let (mut told, mut came, mut pieces) = (Vec::new(), 0, pieces.iter());
    let mut piece = pieces.next().copied();
    came += piece.map_or(0, <[u8]>::len);
    let outcome = loop {
        let item = match &mut piece {
            Some(piece) => reader.next(piece),
            None => reader.finish(),
        };
        match item {
            Ok(Some(item)) => told.push(item),
            Ok(None) if piece.is_none() => break Ok(()),
            Ok(None) => {
                assert_eq!((piece, reader.offset()), (Some(&b""[..]), came as u64), "all of it is read");
                assert_eq!(reader.next(&mut &b""[..]), Ok(None), "nothing comes of nothing");
                piece = pieces.next().copied();
                came += piece.map_or(0, <[u8]>::len);
            }
            Err(violation) => break Err(violation),
        }
    };
    assert_eq!(reader.finish(), outcome.map(|()| None), "it stays as it is");
    if outcome.is_err() {
        assert_eq!(reader.next(&mut &b"x"[..]), outcome.map(|()| None));
    }
    told.dedup();
    (told, outcome)
}

/// A reader, a body that it takes, and the rule that the body breaks without its last byte, if it breaks one.
type Row = (fn() -> Box<dyn Pieces>, &'static [u8], Option<Rule>);

fn rows() -> [Row; 8] {
    fn multipart() -> Box<dyn Pieces> {
        let media = MediaType::parse(b"multipart/form-data; boundary=b").unwrap();
        Box::new(Multipart::new(&media, [0; 256]).unwrap())
    }
    let part = b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nsome text\r\n--b--";
    let framed = b"\0\0\0\0\x05hello\0\0\0\0\x02hi";
    [
        (|| Box::new(Tokenizer::default()), br#"{"a": [1, "text", null]}"#, Some(Rule::JsonTruncated)),
        (|| Box::new(Tokenizer::default()), b"1.25", None),
        (|| Box::new(Form::new([0; 64])), b"a=some+text&b=%C3%A9", Some(Rule::FormEscape)),
        (multipart, part, Some(Rule::MultipartTruncated)),
        (|| Box::new(Text::new()), "some text, é".as_bytes(), Some(Rule::Utf8)),
        (|| Box::new(Reader::new(&Limits::DEFAULT)), b"\x08\x96\x01\x12\x02hi\x10\x01", Some(Rule::ProtobufTruncated)),
        (|| Box::new(Messages::new(&Limits::DEFAULT)), framed, Some(Rule::GrpcTruncated)),
        (|| Box::new(Gather::new(Coding::Identity, &Limits::DEFAULT)), framed, Some(Rule::GrpcTruncated)),
    ]
}

#[test]
fn one_loop_drives_them_all_however_the_body_is_cut() {
    for (reader, body, truncated) in rows() {
        let whole = read(&mut *reader(), &[body]);
        assert_eq!(whole.1, Ok(()), "{}", body.escape_ascii());
        assert!(!whole.0.is_empty());
        for cut in 0..=body.len() {
            let (front, back) = body.split_at(cut);
            assert_eq!(read(&mut *reader(), &[front, back]), whole, "{} cut at {cut}", body.escape_ascii());
            assert_eq!(read(&mut *reader(), &[b"", front, b"", back, b""]), whole);
        }
        let bytes: Vec<_> = body.chunks(1).collect();
        assert_eq!(read(&mut *reader(), &bytes), whole);
        let short = &body[..body.len() - 1];
        let outcome = read(&mut *reader(), &[short]);
        let expected = truncated.map_or(Ok(()), |rule| Err(Violation::new(rule, short.len() as u64)));
        assert_eq!(outcome.1, expected, "{} without its last byte", body.escape_ascii());
        assert_eq!(read(&mut *reader(), &bytes[..short.len()]), outcome);
    }
}
