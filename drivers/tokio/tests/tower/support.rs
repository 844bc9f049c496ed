//! What the tests share: a client that says raw bytes, over memory or sockets.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

/// Says everything, ends its side or not, hears everything.
pub(crate) async fn converse<IO: AsyncRead + AsyncWrite>(io: IO, wire: &[u8], half_close: bool) -> String {
    let (mut reader, mut writer) = split(io);
    let says = async {
        let _ = writer.write_all(wire).await; // the server may have heard enough
        if half_close {
            let _ = writer.shutdown().await;
        }
    };
    let mut heard = Vec::new();
    let hears = reader.read_to_end(&mut heard);
    let ((), all) = tokio::join!(says, hears);
    all.expect("the server ends it");
    String::from_utf8_lossy(&heard).into_owned()
}

/// A response, read by the rules of its head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The responses in what a server said to these methods, interim ones included.
pub(crate) fn answers(heard: &[u8], methods: &[&str]) -> Vec<Answer> {
    let (mut rest, mut all, mut methods) = (heard, Vec::new(), methods.iter());
    let mut method = methods.next();
    while !rest.is_empty() {
        let end = find(rest, b"\r\n\r\n").unwrap_or_else(|| panic!("a head: {:?}", String::from_utf8_lossy(rest)));
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let status: u16 = lines.next().expect("a status line")[9..12].parse().expect("a status");
        let mut fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').expect("a field"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        fields.sort();
        let mut answer = Answer { status, fields, body: Vec::new() };
        let silent = status < 200 || matches!(status, 204 | 304) || method == Some(&"HEAD");
        if status == 101 {
            (answer.body, rest) = (rest.to_vec(), &[]);
        } else if answer.get("transfer-encoding") == Some("chunked") && !silent {
            (answer.body, rest) = dechunk(rest);
        } else if !silent {
            let n = answer.get("content-length").map_or(rest.len(), |n| n.parse().expect("a length"));
            answer.body = rest[..n.min(rest.len())].to_vec();
            rest = &rest[n.min(rest.len())..];
        }
        if status >= 200 {
            method = methods.next();
        }
        all.push(answer);
    }
    all
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut body = Vec::new();
    loop {
        let Some(line) = find(rest, b"\r\n") else { return (body, &[]) };
        let n = usize::from_str_radix(std::str::from_utf8(&rest[..line]).expect("text"), 16).expect("a size");
        rest = &rest[line + 2..];
        if n == 0 {
            let end = if rest.starts_with(b"\r\n") { 2 } else { find(rest, b"\r\n\r\n").expect("trailers") + 4 };
            return (body, &rest[end..]);
        }
        body.extend_from_slice(&rest[..n.min(rest.len())]);
        rest = &rest[(n + 2).min(rest.len())..];
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// A request with a declared length.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a.example\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) const LAST: &[u8] = b"GET /last HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";

/// Numbers that are the same in every run.
pub(crate) struct Seed(pub(crate) u64);

impl Seed {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}
