//! What is played, and what may come of it when memory is short.

use std::sync::Arc;

use vestibule::decode::coding::Coding;
use vestibule::{Config, Limits, Rule};

use super::failing::Mode;
use super::{readers, road, tls, wires};

/// Plays once, from a fresh connection to its end; what was sent to the peer is left in the vector, for which there is room.
pub type Stage = Box<dyn FnMut(&mut Vec<u8>) -> Seen>;

pub struct Scene {
    pub name: &'static str,
    /// Others allocate in it, too, where we cannot help it: each refusal looks for exceptions first.
    pub sparing: bool,
    /// Once, or also all from some point on: there, a way out that needs memory is a fault.
    pub modes: &'static [Mode],
    pub make: fn() -> Stage,
}

const fn scene(name: &'static str, make: fn() -> Stage) -> Scene {
    Scene { name, sparing: false, modes: &[Mode::Once, Mode::Onward], make }
}

const fn sparing(name: &'static str, make: fn() -> Stage) -> Scene {
    Scene { name, sparing: true, modes: &[Mode::Once, Mode::Onward], make }
}

/// Nearly every allocation is rustls's, and to look at each of them for each of them would take minutes.
const fn of_rustls(name: &'static str, make: fn() -> Stage) -> Scene {
    Scene { name, sparing: true, modes: &[Mode::Once], make }
}

pub const SCENES: &[Scene] = &[
    scene("h1", || on_the_road(plain(), wires::h1(), 700)),
    sparing("h1 codings", || on_the_road(plain(), wires::h1_codings(), 1_500)),
    sparing("h1 jobs", || on_the_road(plain(), wires::h1_jobs(), 1_500)),
    sparing("h1 coded responses", || on_the_road(coding(), wires::h1_coded_responses(), 1_500)),
    scene("h2 whole", || on_the_road(plain(), wires::h2(), 1 << 20)),
    scene("h2 in pieces", || on_the_road(plain(), wires::h2(), 97)),
    sparing("h2 codings", || on_the_road(plain(), wires::h2_codings(), 1_500)),
    sparing("h2 coded responses", || on_the_road(coding(), wires::h2_coded_responses(), 1_500)),
    of_rustls("tls 1.3", || tls::conversation(&rustls::version::TLS13, true)),
    of_rustls("tls 1.2", || tls::conversation(&rustls::version::TLS12, false)),
    scene("json", readers::json),
    scene("json in pieces", readers::json_in_pieces),
    scene("forms", readers::forms),
    scene("multipart", readers::multipart),
    scene("protobuf", readers::protobuf),
    scene("grpc", readers::grpc),
];

fn plain() -> Config {
    Config::new(Limits::DEFAULT)
}

fn coding() -> Config {
    Config::new(Limits::DEFAULT).with_stage_clock(|| 0).with_response_codings(&[Coding::Gzip, Coding::Deflate])
}

fn on_the_road(config: Config, wire: Vec<u8>, piece: usize) -> Stage {
    let config = Arc::new(config);
    Box::new(move |output| road::drive(&config, &wire, piece, output))
}

/// What the handlers and the peer saw.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    pub requests: u64,
    /// Bytes of bodies.
    pub content: u64,
    /// Bodies and trailers that came to their end.
    pub ends: u64,
    /// Responses that were said completely.
    pub answers: u64,
    /// A handler, or a caller of a reader, heard that there is no memory.
    pub told: u64,
    /// The connection ended for it.
    pub fault: bool,
    /// Some other rule that was said to be broken.
    pub blamed: Option<Rule>,
    /// The connection came to its end.
    pub closed: bool,
    /// What the peer got, in one number.
    pub sum: u64,
}

impl Seen {
    /// A rule was told.
    pub fn hears(&mut self, rule: Rule) {
        match rule {
            Rule::NoMemory | Rule::TlsNoMemory | Rule::DecoderPool => self.told += 1,
            rule => self.blamed = Some(rule),
        }
    }

    /// The peer is never blamed for our memory; and either all went as ever, or somebody was told.
    pub fn judge(&self, normal: &Seen, output: &[u8]) -> Result<(), &'static str> {
        let same = (self.requests, self.content, self.ends, self.answers, self.closed)
            == (normal.requests, normal.content, normal.ends, normal.answers, normal.closed);
        let said = road::says_no_memory(output);
        match () {
            () if self.blamed != normal.blamed => Err("the peer is blamed"),
            () if !self.closed => Err("it does not end"),
            () if self.fault && road::is_h2(output) && !road::says_goodbye(output) => {
                Err("no GOAWAY with INTERNAL_ERROR")
            }
            () if same || self.told > normal.told || said => Ok(()),
            () => Err("something is missing, and nobody was told"),
        }
    }
}
