//! In: a stream. Out: a client that says what it is told to, byte by byte if need be, and reads one answer at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// However slow the machine is, nothing here takes as long.
pub const LONG: Duration = Duration::from_secs(20);

/// A connection whose reads and writes end.
pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One answer in HTTP/1.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub content: Vec<u8>,
    /// The lines behind the last chunk.
    pub trailers: String,
}

impl Answer {
    /// The value of this field; names are in small letters here.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }

    pub fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

/// A client for HTTP/1.1.
#[derive(Debug)]
pub struct Client<S> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl<S> Client<S> {
    pub fn new(stream: S) -> Client<S> {
        Client { stream, buffer: Vec::new() }
    }
}

impl<S: Write> Client<S> {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request);
        self.answer()
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path))
    }
}

impl<S: Read> Client<S> {
    /// The next answer, or `None` if the server has closed before its first byte.
    pub fn try_answer(&mut self) -> Option<Answer> {
        if self.buffer.is_empty() && !self.more() {
            return None;
        }
        Some(self.answer())
    }

    /// One answer; an interim one counts. Its length says where it ends, its chunks, or the end of the stream.
    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// The same for an answer to this method: HEAD has no content.
    pub fn answer_to(&mut self, method: &str) -> Answer {
        let head = self.until(b"\r\n\r\n");
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{head:?}"));
        let mut answer = Answer { status, head, ..Answer::default() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return answer;
        }
        if let Some(n) = answer.field("content-length") {
            answer.content = self.take(n.parse().unwrap());
        } else if answer.field("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.until(b"\r\n");
                let n = usize::from_str_radix(size.trim_end(), 16).unwrap();
                if n == 0 {
                    break;
                }
                answer.content.extend(self.take(n));
                assert_eq!(self.take(2), b"\r\n");
            }
            loop {
                let line = self.until(b"\r\n");
                if line == "\r\n" {
                    break;
                }
                answer.trailers += &line;
            }
        } else {
            answer.content = self.rest();
        }
        answer
    }

    /// All that comes until the end, or until a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    /// False: the end.
    fn more(&mut self) -> bool {
        let mut piece = [0; 16_384];
        loop {
            match self.stream.read(&mut piece) {
                Ok(n) => {
                    self.buffer.extend_from_slice(&piece[..n]);
                    return n > 0;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    return false;
                }
            }
        }
    }

    fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let line = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8(line).unwrap();
            }
            assert!(self.more(), "ended behind {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n {
            assert!(self.more(), "ended {} bytes before its end", n - self.buffer.len());
        }
        let rest = self.buffer.split_off(n);
        std::mem::replace(&mut self.buffer, rest)
    }
}
