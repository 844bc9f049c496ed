//! With the feature `tracing`: a span for each connection, one for each request in it, and an event for each answer.

#![cfg(feature = "tracing")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event as Said, Metadata, Subscriber};
use vestibule::{Event, Misuse};
use vestibule_std::Server;

/// Writes down what happens, each line within its spans.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    spans: HashMap<u64, String>,
    inside: HashMap<std::thread::ThreadId, Vec<u64>>,
    open: usize,
    lines: Vec<String>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !matches!(field.name(), "peer" | "at") {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("vestibule") || metadata.target() == "service"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut it = self.0.lock().unwrap();
        let mut fields = Fields(span.metadata().name().into());
        span.record(&mut fields);
        let above = span
            .parent()
            .and_then(|id| it.spans.get(&id.into_u64()))
            .map_or(String::new(), |above| format!("{above} > "));
        let number = it.spans.len() as u64 + 1;
        it.spans.insert(number, above + &fields.0);
        it.open += 1;
        Id::from_u64(number)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Said<'_>) {
        let mut it = self.0.lock().unwrap();
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let inside = it.inside.get(&std::thread::current().id()).and_then(|spans| spans.last()).copied();
        let span = inside.and_then(|id| it.spans.get(&id)).cloned().unwrap_or_default();
        it.lines.push(format!("{span} >{}", fields.0));
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().inside.entry(std::thread::current().id()).or_default().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().inside.entry(std::thread::current().id()).or_default().pop();
    }

    fn try_close(&self, _: Id) -> bool {
        self.0.lock().unwrap().open -= 1;
        true
    }
}

#[test]
fn a_connection_has_a_span_and_each_request_one_within_it() {
    let collector = Collector::default();
    tracing::subscriber::set_global_default(collector.clone()).unwrap(); // workers are threads of their own
    let server = Server::builder().http("127.0.0.1:0".parse().unwrap()).workers(1).on_fault(|_| {});
    let server = server.service(|_| {
        |event: Event<'_>| -> Result<(), Misuse> {
            if let Event::Request(mut request) = event {
                tracing::info!(target: "service", "thinks");
                request.reply.text(200, "ok")?;
            }
            Ok(())
        }
    });
    let server = server.bind().unwrap();
    let (addr, handle) = (server.local_addrs()[0], server.handle());
    let thread = std::thread::spawn(move || server.run());
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\nnonsense\n\n").unwrap();
    stream.read_to_string(&mut String::new()).unwrap();
    drop(stream);
    handle.shutdown();
    thread.join().unwrap();
    let it = collector.0.lock().unwrap();
    let within = |id: u64, target: &str, said: &str| {
        format!(
            "connection tls=false > request id={id} method=\"GET\" target=\"{target}\" version=\"HTTP/1.1\" > message={said}"
        )
    };
    let expected = [
        within(1, "/a", "thinks"),
        within(1, "/a", "answered"),
        within(2, "/b", "thinks"),
        within(2, "/b", "answered"),
        "connection tls=false > message=fault rule=\"BareLf\"".into(),
    ];
    assert_eq!(it.lines, expected);
    assert_eq!(it.open, 0, "every span has been closed");
}
