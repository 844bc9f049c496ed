//! In: calls of `helloworld.Greeter`. Out: greetings.
//!
//! ```text
//! rpc SayHello (HelloRequest) returns (HelloReply);
//! rpc SayHelloToAll (stream HelloRequest) returns (HelloReply);
//! rpc SayHelloOften (HelloRequest) returns (stream HelloReply);
//! ```
//!
//! A request with `x-greeting` is greeted with that word. Nobody is called "nobody", and "Sleepyhead" takes 300 ms.

use prost::Message;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use vestibule::decode::coding::Coding;
use vestibule::decode::grpc::{self, Code, Gather};
use vestibule::decode::protobuf;
use vestibule::{Content, Event, Id, Limit, LimitError, Limits, Misuse, Reply, Request, Violation};
use vestibule_std::Service;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HelloRequest {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) times: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HelloReply {
    #[prost(string, tag = "1")]
    pub(crate) message: String,
}

/// A stream of messages is one body, and may be a long one. A message is 4 MiB at most, as everywhere in gRPC.
pub(crate) fn limits() -> Result<Limits, LimitError> {
    Limits::DEFAULT.with(Limit::BodyBytes, 64 << 20)
}

#[derive(Copy, Clone, PartialEq)]
enum Method {
    One,
    All,
    Often,
}

/// Why a call fails: a code, and a text for people.
struct Status(Code, String);

impl From<Violation> for Status {
    fn from(violation: Violation) -> Status {
        Status(Code::of(&violation), violation.to_string())
    }
}

/// A call that is under way.
struct Call {
    method: Method,
    greeting: String,
    until: Option<Instant>,
    incoming: Gather,
    names: usize,
    last: HelloRequest,
    /// The reply, and how often it is still to be sent.
    reply: HelloReply,
    times: u32,
    /// Messages that go out together, and how far they are.
    framed: Vec<u8>,
    done: usize,
}

/// Messages up to this size share a frame.
const TOGETHER: usize = 16 << 10;

impl Call {
    fn new(request: &Request<'_>) -> Result<Call, Status> {
        let fields = request.head.fields;
        let method = match request.head.path() {
            "/helloworld.Greeter/SayHello" => Method::One,
            "/helloworld.Greeter/SayHelloToAll" => Method::All,
            "/helloworld.Greeter/SayHelloOften" => Method::Often,
            path => return Err(Status(Code::Unimplemented, format!("there is no {path}"))),
        };
        let coding = fields.get("grpc-encoding").map_or(Ok(Coding::Identity), grpc::encoding)?;
        let timeout = fields.get("grpc-timeout").map(grpc::timeout).transpose()?;
        Ok(Call {
            method,
            greeting: fields.text("x-greeting").unwrap_or("Hello").into(),
            until: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            incoming: Gather::new(coding, &limits().unwrap_or_default()),
            names: 0,
            last: HelloRequest::default(),
            reply: HelloReply::default(),
            times: 0,
            framed: Vec::new(),
            done: 0,
        })
    }

    /// Some of the request's content; each message of it.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while let Some(message) = self.incoming.next(&mut bytes)? {
            self.last = protobuf::decode(message, &Limits::DEFAULT)?;
            self.names += 1;
            if self.names > 1 && self.method != Method::All {
                return Err(Status(Code::Unimplemented, "one message was expected".into()));
            }
        }
        Ok(())
    }

    /// The request is complete: what is the reply, and how often?
    fn conclude(&mut self) -> Result<(), Status> {
        self.incoming.finish()?;
        let HelloRequest { name, times } = &self.last;
        if name == "Sleepyhead" {
            std::thread::sleep(Duration::from_millis(300));
        }
        if self.until.is_some_and(|until| until < Instant::now()) {
            return Err(Status(Code::DeadlineExceeded, "too late".into()));
        }
        let (who, times) = match self.method {
            _ if name == "nobody" => return Err(Status(Code::NotFound, "100 % of us know n\u{f6}body".into())),
            Method::All => (format!("all {} of you", self.names), 1),
            _ if self.names == 0 => return Err(Status(Code::Internal, "there is no message".into())),
            Method::One => (name.clone(), 1),
            Method::Often => (name.clone(), *times),
        };
        self.reply.message = format!("{}, {who}!", self.greeting);
        self.times = times;
        Ok(())
    }

    /// Sends as much as there is room for; true when all is sent.
    fn send(&mut self, reply: &mut Reply<'_>) -> Result<bool, Misuse> {
        loop {
            self.done += reply.grpc_write(&self.framed[self.done..])?;
            if self.done < self.framed.len() {
                return Ok(false); // `Writable` follows
            }
            if self.times == 0 {
                return reply.grpc_end(Code::Ok, "").map(|()| true);
            }
            self.framed.clear();
            self.done = 0;
            while self.times > 0 && self.framed.len() < TOGETHER {
                grpc::append_message(&mut self.framed, &self.reply);
                self.times -= 1;
            }
        }
    }
}

/// The calls of one connection.
#[derive(Default)]
pub(crate) struct Greeter {
    calls: HashMap<Id, Call>,
}

impl Greeter {
    fn begin(&mut self, mut request: Request<'_>) -> Result<(), Misuse> {
        if request.head.method != "POST" {
            request.reply.discard();
            let fields = [("allow", "POST")];
            return request.reply.respond(405, &fields, Content::Whole(b"")).map(|_| ());
        }
        if request.head.fields.get("content-type").and_then(grpc::format) != Some(b"proto") {
            request.reply.discard();
            return request.reply.text(415, "This is for application/grpc+proto.\n");
        }
        match Call::new(&request) {
            Ok(call) if request.has_body => {
                self.calls.insert(request.reply.id(), call);
                Ok(())
            }
            Ok(_) => fail(&mut request.reply, Status(Code::Internal, "there is no message".into())),
            Err(status) => fail(&mut request.reply, status),
        }
    }

    fn content(&mut self, bytes: &[u8], last: bool, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        let Some(call) = self.calls.get_mut(&reply.id()) else { return Ok(()) };
        match call.take(bytes).and_then(|()| if last { call.conclude() } else { Ok(()) }) {
            Ok(()) if last => {
                reply.grpc_begin(grpc::CONTENT_TYPE)?;
                self.send(reply)
            }
            Ok(()) => Ok(()),
            Err(status) => {
                self.calls.remove(&reply.id());
                fail(reply, status)
            }
        }
    }

    fn send(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        let Some(call) = self.calls.get_mut(&reply.id()) else { return Ok(()) };
        if call.send(reply)? {
            self.calls.remove(&reply.id());
        }
        Ok(())
    }
}

fn fail(reply: &mut Reply<'_>, Status(code, text): Status) -> Result<(), Misuse> {
    reply.discard();
    reply.grpc_refuse(code, &text)
}

impl Service for Greeter {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(request) => self.begin(request),
            Event::Body(mut body) => self.content(body.bytes, body.last, &mut body.reply),
            Event::Trailers(mut trailers) => self.content(b"", true, &mut trailers.reply),
            Event::Writable(mut reply) => self.send(&mut reply),
            Event::Aborted { id, .. } => {
                self.calls.remove(&id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
