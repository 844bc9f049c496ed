//! In: what may be a PROXY header, and what follows it. Out: nothing, or a panic when it depends on how the bytes were cut, when what is read is not what was
//! written, or when a connection behind it is another one than without.

use super::choices;
use crate::accept::proxy::{Command, Found, Item, Receiver};
use crate::rehearsal::{Input, Pieces, Rehearsal};
use crate::{Config, Limits, Violation};
use std::sync::Arc;

/// One choice: the length of the pieces.
pub fn proxy(data: &[u8]) {
    let ([piece], bytes) = choices(data);
    if bytes.is_empty() {
        return;
    }
    let whole = judge(bytes, bytes.len());
    assert_eq!(judge(bytes, 1), whole, "byte by byte it is another header");
    assert_eq!(judge(bytes, usize::from(piece) + 2), whole, "in pieces it is another header");
    let rehearsal = Rehearsal::new(Arc::new(Config::new(Limits::DEFAULT).with_proxy_header()));
    let steps = [Input::Bytes(bytes.to_vec()), Input::End];
    let story = rehearsal.play(&steps);
    let cut = Rehearsal { pieces: Pieces::Each(usize::from(piece) + 1), ..rehearsal };
    match whole {
        Some(Ok(found)) => {
            behind(bytes, found, &story);
            if !bytes[found.len as usize..].starts_with(b"PRI ") {
                assert_eq!(cut.play(&steps), story); // for HTTP/2 see `chunking`
            }
        }
        Some(Err(violation)) => assert!(story.starts_with(&format!("fault {} at {}", violation.name(), violation.at))),
        None => assert!(story.starts_with("fault ProxyTruncated")),
    }
    if !matches!(whole, Some(Ok(_))) {
        assert!(!story.contains("send\n"), "an answer to nobody knows whom");
        assert_eq!(cut.play(&steps), story);
    }
}

fn judge(bytes: &[u8], piece: usize) -> Option<Result<Found, Violation>> {
    let (mut receiver, mut end) = (Receiver::new(), 0);
    while end < bytes.len() {
        end = bytes.len().min(end + piece);
        match receiver.step(&bytes[..end], &Limits::DEFAULT) {
            Ok(Item::Need { want }) => assert!(want > 0),
            Ok(Item::Header(found)) => return Some(Ok(found)),
            Err(violation) => return Some(Err(violation)),
        }
    }
    None
}

/// A header that was taken.
fn behind(bytes: &[u8], found: Found, story: &str) {
    let (front, rest) = bytes.split_at(found.len as usize);
    let header = found.of(bytes);
    let tlvs: usize = header.tlvs().map(|(_, value)| 3 + value.len()).sum();
    assert!(found.len <= 2_048 && tlvs <= front.len());
    let readable = (header.authority(), header.alpn(), header.unique_id(), header.namespace(), header.unix());
    assert!(found.version == 2 || readable == (None, None, None, None, None));
    if let Some(tls) = header.tls() {
        let _ = (tls.version(), tls.common_name(), tls.cipher(), tls.key(), tls.signature(), tls.is_verified());
    }
    if let Some(ends) = found.endpoints {
        assert_eq!(found.command, Command::Proxy);
        let family = if ends.source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (ends.source, ends.destination);
        let line = format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
        let Some(Ok(again)) = judge(line.as_bytes(), line.len()) else { panic!("{line} is not read") };
        assert_eq!(again.endpoints, found.endpoints);
    }
    // What follows is told as if nothing had stood in front of it.
    let steps = [Input::Bytes(rest.to_vec()), Input::End];
    let without = Rehearsal::default().play(&steps);
    let own = story.lines().skip(1 + header.tlvs().count()).fold(String::new(), |text, line| text + line + "\n");
    assert_eq!(own, without);
}
