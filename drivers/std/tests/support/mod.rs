//! Servers of the suite on this driver, and one response at a time from a raw stream.

#![allow(dead_code, unreachable_pub)]

use std::io::Read;
use vestibule_std::{Builder, Std};
pub use vestibule_suite::Running;
pub use vestibule_suite::client::{connect, get};

pub fn start(choose: impl FnOnce(Builder) -> Builder) -> Running {
    vestibule_suite::start::<Std>(|builder| builder, choose)
}

/// One response: its head and its content.
pub fn response(stream: &mut impl Read) -> (String, Vec<u8>) {
    let head = until(stream, b"\r\n\r\n");
    let field = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let mut body = Vec::new();
    if let Some(n) = field("content-length:") {
        body.resize(n.parse().unwrap(), 0);
        stream.read_exact(&mut body).unwrap();
    } else if field("transfer-encoding:") == Some("chunked") {
        loop {
            let size = until(stream, b"\r\n");
            let n = usize::from_str_radix(size.trim_end(), 16).unwrap();
            let start = body.len();
            body.resize(start + n, 0);
            stream.read_exact(&mut body[start..]).unwrap();
            until(stream, b"\r\n");
            if n == 0 {
                break;
            }
        }
    }
    (head, body)
}

fn until(stream: &mut impl Read, end: &[u8]) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "ended behind {:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}
