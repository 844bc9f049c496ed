//! Forms of both kinds in memory: an upload as it comes, and a small form.

use crate::measure::{Case, Group, Work};
use futures_util::stream;
use hyper::body::Bytes;
use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use vestibule::Limits;
use vestibule::decode::form::{Form, pairs};
use vestibule::decode::media::MediaType;
use vestibule::decode::multipart::{self, Multipart};

const FILE: usize = 1 << 20;
const PIECE: usize = 16 << 10;
const BOUNDARY: &str = "----WebKitFormBoundaryZ3x9QkAbCdEfGh12";

pub(crate) fn groups() -> Vec<Group> {
    vec![
        upload("multipart, a file of 1 MiB of noise in pieces of 16 KiB", noise()),
        upload("multipart, a file of 1 MiB of text lines in pieces of 16 KiB", lines()),
        small(),
    ]
}

/// What is compressed or encrypted looks like this. xorshift64*.
fn noise() -> Vec<u8> {
    let mut state = 0x7665_7374_6962_756cu64;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    (0..FILE / 8).flat_map(|_| next()).collect()
}

/// 40 bytes a line with its CRLF, as on Windows.
fn lines() -> Vec<u8> {
    (0..).flat_map(|i| format!("{i:08}, some text that fills the line\r\n").into_bytes()).take(FILE).collect()
}

fn upload(name: &'static str, content: Vec<u8>) -> Group {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\
Content-Type: application/octet-stream\r\n\r\n"
    );
    let body = [head.as_bytes(), &content, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat();
    let [a, b, c] = [(); 3].map(|()| body.clone());
    Group {
        name,
        count: 256,
        batch: 1,
        bytes: Some(FILE),
        cases: vec![
            Case::new("vestibule", move |n| vestibule(&a, n)).without_allocations(),
            Case::new("memchr::memmem alone, the end of the part only", move |n| memmem(&b, n)),
            Case::new("multer", move |n| multer(&c, n)),
        ],
    }
}

fn vestibule(body: &[u8], n: usize) -> Work {
    let body = body.to_vec();
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    Box::new(move || {
        for _ in 0..n {
            let media = MediaType::parse(content_type.as_bytes()).expect("it is one");
            let mut reader = Multipart::new(&media, [0; 1_024]).expect("it has a boundary");
            let mut bytes = 0;
            for mut piece in black_box(&body[..]).chunks(PIECE) {
                while let Some(item) = reader.next(&mut piece, &Limits::DEFAULT).expect("it is good") {
                    match item {
                        multipart::Item::Data(data) => bytes += black_box(data).len(),
                        item => _ = black_box(item),
                    }
                }
            }
            reader.finish().expect("it is whole");
            assert_eq!(bytes, FILE);
        }
    })
}

/// The floor: a search for the delimiter, with what a piece may end in looked at again with the next.
fn memmem(body: &[u8], n: usize) -> Work {
    let body = body.to_vec();
    let delimiter = format!("\r\n--{BOUNDARY}");
    Box::new(move || {
        let finder = memchr::memmem::Finder::new(&delimiter);
        for _ in 0..n {
            let body = black_box(&body[..]);
            let (mut found, mut at) = (None, 0);
            while found.is_none() && at < body.len() {
                let from = at.saturating_sub(delimiter.len() - 1);
                let end = (at + PIECE).min(body.len());
                found = finder.find(&body[from..end]).map(|place| from + place);
                at = end;
            }
            assert!(black_box(found).is_some_and(|place| place > FILE));
        }
    })
}

fn multer(body: &[u8], n: usize) -> Work {
    let body = Bytes::copy_from_slice(body);
    Box::new(move || {
        for _ in 0..n {
            let pieces = (0..body.len()).step_by(PIECE);
            let pieces = pieces.map(|at| Ok::<_, Infallible>(body.slice(at..(at + PIECE).min(body.len()))));
            let mut reader = multer::Multipart::new(stream::iter(pieces), BOUNDARY);
            let bytes = ready(async {
                let mut bytes = 0;
                while let Some(mut field) = reader.next_field().await.expect("it is good") {
                    while let Some(data) = field.chunk().await.expect("it is good") {
                        bytes += black_box(data).len();
                    }
                }
                bytes
            });
            assert_eq!(bytes, FILE);
        }
    })
}

/// Nothing here waits for anybody.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

fn small() -> Group {
    let pair = "name=J%C3%BCrgen+M%C3%BCller&address=10%2C+Some+Street&text=without+much+that+is+escaped&";
    let form = pair.repeat(1_024 / pair.len() + 1).into_bytes();
    let bytes = form.len();
    let [a, b, c] = [(); 3].map(|()| form.clone());
    Group {
        name: "urlencoded, 1 KiB: names and values, decoded",
        count: 20_480,
        batch: 1,
        bytes: Some(bytes),
        cases: vec![
            Case::new("vestibule, whole", move |n| whole(&a, n)).without_allocations(),
            Case::new("vestibule, as it comes", move |n| streamed(&b, n)).without_allocations(),
            Case::new("form_urlencoded", move |n| by_the_standard(&c, n)),
        ],
    }
}

fn whole(form: &[u8], n: usize) -> Work {
    let form = form.to_vec();
    Box::new(move || {
        let mut buf = [0; 256];
        for _ in 0..n {
            for pair in pairs(black_box(&form)) {
                let (name, value) = pair.expect("it is good");
                black_box(name.copy_to(&mut buf));
                black_box(value.copy_to(&mut buf));
            }
        }
    })
}

fn streamed(text: &[u8], n: usize) -> Work {
    let text = text.to_vec();
    Box::new(move || {
        for _ in 0..n {
            let mut reader = Form::new([0; 256]);
            let mut piece = black_box(&text[..]);
            while let Some(item) = reader.next(&mut piece, &Limits::DEFAULT).expect("it is good") {
                black_box(item);
            }
            while let Some(item) = reader.finish().expect("it is whole") {
                black_box(item);
            }
        }
    })
}

fn by_the_standard(form: &[u8], n: usize) -> Work {
    let form = form.to_vec();
    Box::new(move || {
        for _ in 0..n {
            for pair in form_urlencoded::parse(black_box(&form)) {
                black_box(pair);
            }
        }
    })
}
