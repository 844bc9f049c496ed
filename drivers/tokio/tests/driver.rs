//! The driver: synchronous services over real sockets, however the stages lie over threads.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vestibule::{Content, Event, Expect, Id, Misuse, Reply};
use vestibule_tokio::{BindError, Builder, Handle, Offload, Post, Server, Service, Summary, Topology, What};

/// `/hello`, `/echo` (streamed), `/later` (answered by another thread), `/panic`, `/silence` (no answer at all).
struct Routes {
    post: Post,
    echoes: BTreeMap<Id, (Vec<u8>, bool)>,
}

impl Routes {
    fn echo(&mut self, reply: &mut Reply<'_>, more: &[u8], last: bool) -> Result<(), Misuse> {
        let Some((rest, ended)) = self.echoes.get_mut(&reply.id()) else { return Ok(()) };
        rest.extend_from_slice(more);
        *ended |= last;
        let n = reply.write(rest)?;
        rest.drain(..n);
        if rest.is_empty() && *ended {
            reply.finish()?;
            self.echoes.remove(&reply.id());
        }
        Ok(())
    }
}

impl Service for Routes {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(mut request) => match request.head.path() {
                "/hello" => request.reply.text(200, "hello"),
                "/echo" => {
                    request.reply.expect(Expect::Stream).respond(200, &[], Content::Streamed)?;
                    self.echoes.insert(request.reply.id(), Default::default());
                    self.echo(&mut request.reply, b"", !request.has_body)
                }
                "/later" => {
                    let later = self.post.later(request.reply.id());
                    std::thread::spawn(move || later.respond(200, &[], vec![b'l'; 200_000]));
                    Ok(())
                }
                "/panic" => panic!("as asked"),
                "/silence" => Ok(()),
                _ => request.reply.text(404, "not here"),
            },
            Event::Body(mut body) => self.echo(&mut body.reply, body.bytes, body.last),
            Event::Writable(mut reply) => self.echo(&mut reply, b"", false),
            _ => Ok(()),
        }
    }
}

struct Running {
    addrs: Vec<SocketAddr>,
    handle: Handle,
    thread: JoinHandle<Summary>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn start(choices: impl FnOnce(Builder) -> Builder) -> Running {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hook = told.clone();
        let any: vestibule_tokio::listen::Address = "127.0.0.1:0".parse().expect("an address");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let tls = vestibule_tokio::tls::from_pem(chain.as_bytes(), key.as_bytes()).expect("a configuration");
        let builder = Server::builder()
            .http(any.clone())
            .https(any, vestibule_tokio::tls::TlsConfig::new(tls))
            .workers(2)
            .pool_threads(2)
            .shutdown_grace(Duration::from_secs(5))
            .on_fault(move |incident| {
                let kind = match &incident.what {
                    What::Panic => "panic".to_owned(),
                    What::Unanswered => "unanswered".to_owned(),
                    what => format!("{what:?}"),
                };
                hook.lock().expect("no panic").push(kind);
            })
            .service_with_post(|_, post| Routes { post: post.clone(), echoes: BTreeMap::new() });
        let server = choices(builder).bind().expect("a port");
        let (addrs, handle) = (server.local_addrs(), server.handle());
        Running { addrs, handle, thread: std::thread::spawn(move || server.run()), told }
    }

    fn stop(self) -> (Summary, Vec<String>) {
        self.handle.shutdown();
        let summary = self.thread.join().expect("no panic");
        (summary, std::mem::take(&mut *self.told.lock().expect("no panic")))
    }
}

/// Says everything, then hears everything.
fn say(addr: SocketAddr, wire: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).expect("open");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let mut writer = stream.try_clone().expect("a socket");
    let wire = wire.to_vec();
    let says = std::thread::spawn(move || writer.write_all(&wire));
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("the server ends it");
    let _ = says.join().expect("no panic");
    String::from_utf8_lossy(&heard).into_owned()
}

fn get(path: &str, close: bool) -> String {
    let close = if close { "connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n{close}\r\n")
}

/// All that there is, on one server: HTTP/1.1, HTTP/2, TLS, answers from elsewhere, a panic.
fn exercise(choices: impl FnOnce(Builder) -> Builder) {
    let running = Running::start(choices);
    let plain = running.addrs[0];
    let body = "e".repeat(300_000);
    let echo = format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let wire = [get("/hello", false), echo, get("/later", false), get("/hello", true)].concat();
    let heard = say(plain, wire.as_bytes());
    assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 4);
    assert!(heard.contains(&"l".repeat(200_000)) && heard.ends_with("hello"));
    assert!(heard.matches('e').count() > 300_000, "the echo is whole");
    assert!(say(plain, get("/panic", false).as_bytes()).starts_with("HTTP/1.1 500 "));
    assert!(say(plain, get("/silence", true).as_bytes()).starts_with("HTTP/1.1 500 "));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (sender, connection) =
            h2::client::handshake(tokio::net::TcpStream::connect(plain).await.expect("open")).await.expect("greeted");
        let driven = tokio::spawn(connection);
        let mut answers = tokio::task::JoinSet::new();
        for i in 0..40 {
            let mut sender = sender.clone().ready().await.expect("open");
            let path = if i % 2 == 0 { "/hello" } else { "/later" };
            let request = http::Request::get(format!("http://a{path}")).body(()).expect("a request");
            let response = sender.send_request(request, true).expect("open").0;
            answers.spawn(async move {
                let mut body = response.await.expect("an answer").into_body();
                let mut n = 0;
                while let Some(part) = body.data().await {
                    let part = part.expect("complete");
                    body.flow_control().release_capacity(part.len()).expect("open");
                    n += part.len();
                }
                n
            });
        }
        let mut lengths = answers.join_all().await;
        lengths.sort_unstable();
        assert_eq!((lengths[0], lengths[19], lengths[20], lengths[39]), (5, 5, 200_000, 200_000));
        drop(sender);
        let _ = driven.await.expect("no panic");
    });
    tls(running.addrs[1]);
    let (summary, told) = running.stop();
    assert_eq!(told, ["panic", "unanswered"], "{summary}");
    assert_eq!((summary.connections, summary.requests, summary.panics), (5, 47, 1), "{summary}");
    assert_eq!((summary.faults, summary.cut), (0, 0), "{summary}");
}

/// A request over TLS, by rustls's client.
fn tls(addr: SocketAddr) {
    use rustls::pki_types::ServerName;
    use vestibule_tokio::tls::rustls;
    let builder = rustls::ClientConfig::builder_with_provider(vestibule_tokio::tls::provider());
    let config = builder
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = TcpStream::connect(addr).expect("open");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let mut tls = rustls::Stream::new(&mut client, &mut stream);
    tls.write_all(get("/hello", true).as_bytes()).expect("open");
    let mut heard = String::new();
    tls.read_to_string(&mut heard).expect("the server ends it");
    assert!(heard.starts_with("HTTP/1.1 200 OK") && heard.ends_with("hello"), "{heard}");
}

/// Takes the server as it is: who it is, is not what is tested.
#[derive(Debug)]
struct Anybody;

use vestibule_tokio::tls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use vestibule_tokio::tls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use vestibule_tokio::tls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vestibule_tokio::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn one_thread_does_everything() {
    exercise(|builder| builder.topology(Topology::Single));
}

#[test]
fn workers_share_a_listener_or_have_their_own() {
    exercise(|builder| builder.topology(Topology::Workers));
    exercise(|builder| builder.topology(Topology::Workers).reuse_port(true));
}

#[test]
fn a_thread_accepts_for_the_others_or_each_stage_has_its_own() {
    exercise(|builder| builder.topology(Topology::Stages));
    exercise(|builder| builder.topology(Topology::Acceptor));
}

#[test]
fn what_is_offloaded_comes_back_by_mail() {
    for names in ["handshakes", "records", "process", "handshakes,process"] {
        let offload: Offload = names.parse().expect("names");
        exercise(|builder| builder.offload(offload));
    }
}

#[test]
fn a_topology_that_only_std_has_is_refused() {
    let service = |_: Event<'_>| -> Result<(), Misuse> { Ok(()) };
    let any = "127.0.0.1:0".parse().expect("an address");
    let bound = Server::builder().http(any).topology(Topology::Threads).service(move |_| service).bind();
    assert!(matches!(bound, Err(BindError::Unsupported(_))));
}

#[test]
fn a_shutdown_answers_what_is_under_way_and_leaves_who_is_idle() {
    let running = Running::start(|builder| builder);
    let mut idle = TcpStream::connect(running.addrs[0]).expect("open");
    let mut busy = TcpStream::connect(running.addrs[0]).expect("open");
    for stream in [&idle, &busy] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    }
    busy.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab").expect("open");
    let mut first = [0; 4_096];
    let n = busy.read(&mut first).expect("open");
    assert!(first[..n].starts_with(b"HTTP/1.1 200 OK"));
    running.handle.shutdown();
    let mut heard = String::new();
    assert_eq!(idle.read_to_string(&mut heard).expect("open"), 0);
    busy.write_all(b"cd").expect("open");
    busy.read_to_string(&mut heard).expect("the server ends it");
    assert!(heard.contains("cd") && heard.ends_with("0\r\n\r\n"), "{heard}");
    drop(busy);
    let (summary, told) = running.stop();
    assert_eq!((summary.connections, summary.cut, told.len()), (2, 0, 0), "{summary}");
}

#[test]
fn a_worker_is_replaced_and_nobody_is_refused() {
    let running = Running::start(|builder| builder);
    for round in 0..20 {
        running.handle.replace_worker(round % 2);
        assert!(say(running.addrs[0], get("/hello", true).as_bytes()).ends_with("hello"));
    }
    let (summary, told) = running.stop();
    assert_eq!((summary.connections, summary.requests, summary.cut, told.len()), (20, 20, 0, 0), "{summary}");
}
