//! In: a port. Out: requests and their answers over plain blocking sockets, one at a time.

use crate::identity::Identity;
use crate::serve::HELLO;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client speaks.
#[derive(Copy, Clone)]
pub(crate) enum Speaks {
    Http1,
    H2c,
    Tls,
}

/// An open connection.
pub(crate) trait Open: Read + Write {}
impl<S: Read + Write> Open for S {}

/// Opens connections.
pub(crate) struct Client {
    tls: Arc<ClientConfig>,
}

impl Client {
    pub(crate) fn new(identity: &Identity) -> Result<Client, Box<dyn Error>> {
        Ok(Client { tls: identity.client()? })
    }

    /// A connection on which `GET /` has been answered once, and nothing is under way.
    pub(crate) fn idle(&self, port: u16, speaks: Speaks) -> Result<Box<dyn Open>, Box<dyn Error>> {
        let mut socket = connect(port)?;
        match speaks {
            Speaks::Http1 => {
                get(&mut socket)?;
                Ok(Box::new(socket))
            }
            Speaks::H2c => {
                get_h2(&mut socket)?;
                Ok(Box::new(socket))
            }
            Speaks::Tls => {
                let connection = ClientConnection::new(self.tls.clone(), ServerName::try_from("localhost")?)?;
                let mut stream = StreamOwned::new(connection, socket);
                get(&mut stream)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// A plain connection.
pub(crate) fn connect(port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// One request, and its answer: 200 with the greeting.
pub(crate) fn get(stream: &mut impl Open) -> Result<(), Box<dyn Error>> {
    exchange(stream, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", HELLO)
}

/// Content, and its length as the answer.
pub(crate) fn post(stream: &mut impl Open, length: usize) -> Result<(), Box<dyn Error>> {
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    exchange(stream, &[head.as_bytes(), &vec![b'x'; length]].concat(), &length.to_string())
}

fn exchange(stream: &mut impl Open, request: &[u8], content: &str) -> Result<(), Box<dyn Error>> {
    stream.write_all(request)?;
    let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let n = stream.read(&mut part)?;
        answer.extend_from_slice(part.get(..n).unwrap_or_default());
        let text = String::from_utf8_lossy(&answer);
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200 ") && body == content => return Ok(()),
            Some((_, body)) if body.len() < content.len() && n > 0 => {}
            None if n > 0 => {}
            _ => return Err(format!("not the answer: {text:?}").into()),
        }
    }
}

/// The same in HTTP/2: until the frame that ends the stream (RFC 9113 §4.1).
fn get_h2(stream: &mut impl Open) -> Result<(), Box<dyn Error>> {
    let block = b"\x82\x84\x86\x01\x09localhost"; // GET, /, http, :authority: localhost
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(block);
    stream.write_all(&bytes)?;
    let mut content = Vec::new();
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        let [a, b, c, kind, flags, _, _, _, id] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        match (kind, id) {
            (0, 1) => content.extend_from_slice(&payload),
            (4, _) if flags & 1 == 0 => stream.write_all(b"\0\0\0\x04\x01\0\0\0\0")?,
            (3 | 7, _) => return Err(format!("a frame of kind {kind}: {payload:?}").into()),
            _ => {}
        }
        if kind < 2 && id == 1 && flags & 1 == 1 {
            return if content == HELLO.as_bytes() { Ok(()) } else { Err(format!("not it: {content:?}").into()) };
        }
    }
}
