//! In: a seed. Out: a program: what a client asks on one connection, what the handler does with it, and so what
//! must come back.

use std::io::Write;

use crate::pipe::Dice;
use vestibule::{Limit, Limits};

/// What the handler does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// Takes the body whole and sends it back.
    EchoWhole,
    /// The same, with its coding taken off elsewhere.
    EchoByJob,
    /// Takes so many bytes whole, which are too few.
    TooMuch(u32),
    /// Answers at once; what comes goes back as it comes.
    EchoStream,
    /// The same, but gives back only what went out again.
    EchoManual,
    /// Takes the body, gives it back late and in parts, answers with all of it.
    Manual,
    /// The same, but gives nothing back before it is told to.
    Hold,
    /// Does not want the body; a text.
    Discard,
    /// A text.
    Text,
    /// A text, and a value, each in one call.
    Short,
    Json,
    /// So many bytes whose number is said.
    Sized(usize),
    /// So many bytes whose number is not said.
    Streamed(usize),
    /// All at once.
    Whole(usize),
    /// Gives the exchange up, behind so many bytes of content, or before its head.
    Abort(Option<usize>),
    /// Nothing.
    Never,
    /// A tunnel that sends back what comes.
    Tunnel,
}

/// When the client gives an exchange up.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Reset {
    /// So many bytes of its body were given to the client's machine.
    Sent(usize),
    /// So many bytes of the answer's content came.
    Got(usize),
    /// So many rounds after its head.
    Rounds(u64),
}

/// One request, and its answer.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub fields: Vec<(String, Vec<u8>)>,
    /// The length of the body; `None`: the head ends the request.
    pub body: Option<usize>,
    /// Says the body's length.
    pub length: bool,
    /// Sends the body gzip-coded.
    pub coded: bool,
    /// Sends no body before it was told that it is wanted.
    pub expects: bool,
    /// The body's pieces have about this size.
    pub piece: usize,
    pub trailers: Vec<(String, String)>,
    pub protocol: Option<&'static str>,
    /// Rounds before it is asked.
    pub start: u64,
    pub reset: Option<Reset>,
    /// Rounds that the reader now and then waits, with what it has read not given back.
    pub lazy: u64,
    /// The reader does not begin before it is told to.
    pub stops: bool,

    pub how: How,
    /// Answers before the request is complete.
    pub eager: bool,
    /// Turns between the request's end and the answer, which is given outside of events then.
    pub delay: u64,
    pub informs: usize,
    /// The connection is to end behind the answer.
    pub closes: bool,
    pub status: u16,
    pub answer_fields: Vec<(String, String)>,
    pub answer_trailers: Vec<(String, String)>,
}

impl Ask {
    /// `GET`, answered with a text.
    pub fn get(how: How) -> Ask {
        Ask {
            method: "GET",
            path: "/".into(),
            fields: Vec::new(),
            body: None,
            length: false,
            coded: false,
            expects: false,
            piece: 10_000,
            trailers: Vec::new(),
            protocol: None,
            start: 0,
            reset: None,
            lazy: 0,
            stops: false,
            how,
            eager: false,
            delay: 0,
            informs: 0,
            closes: false,
            status: 200,
            answer_fields: Vec::new(),
            answer_trailers: Vec::new(),
        }
    }

    pub fn post(how: How, body: usize) -> Ask {
        Ask { method: "POST", body: Some(body), ..Ask::get(how) }
    }

    /// The handler's own content, or what it sends back.
    pub fn content(&self, at: usize) -> Vec<u8> {
        match self.how {
            How::Sized(n) | How::Streamed(n) | How::Whole(n) => pattern(at + 1000, n),
            How::Text | How::Discard => text(at).into_bytes(),
            How::Abort(n) => pattern(at + 1000, n.unwrap_or(0)),
            How::Short => text(at).into_bytes(),
            How::Json => format!("[{at},{at}]").into_bytes(),
            How::Never | How::TooMuch(_) => Vec::new(),
            _ => pattern(at, self.body.unwrap_or(0)),
        }
    }

    /// The body as it is sent.
    pub fn sent(&self, at: usize) -> Vec<u8> {
        let body = pattern(at, self.body.unwrap_or(0));
        if !self.coded {
            return body;
        }
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        coder.write_all(&body).and_then(|()| coder.finish()).expect("into memory")
    }

    /// The handler takes the body, and answers behind it: the client is told to go on exactly once.
    pub fn waits_for_body(&self) -> bool {
        let whole = matches!(self.how, How::EchoWhole | How::EchoByJob | How::Manual | How::Hold);
        self.body.is_some() && (whole || (!self.eager && matches!(self.how, How::Text | How::Short | How::Json)))
    }

    /// The handler answers with a head that says the length, `None` if it does not say it.
    pub fn declares(&self, at: usize) -> Option<usize> {
        match self.how {
            How::EchoStream | How::EchoManual | How::Streamed(_) | How::Abort(_) | How::Tunnel => None,
            _ => Some(self.content(at).len()),
        }
    }
}

pub fn text(at: usize) -> String {
    format!("answer number {at}")
}

/// Bytes of which every one depends on its place, and that no coding makes much shorter.
pub fn pattern(seed: usize, n: usize) -> Vec<u8> {
    (0..n).map(|i| ((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed * 7919) >> 48) as u8).collect()
}

/// How a connection ends.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Ending {
    /// The server drains when all is done.
    Drain,
    /// The server drains in this round, whatever is under way.
    DrainAt(u64),
    /// The client goes when all is done.
    Client,
}

/// A program.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub asks: Vec<Ask>,
    pub limits: Limits,
    pub inbox: usize,
    /// Beyond the least.
    pub outbox: usize,
    /// What lies between the two at most, in each direction.
    pub up: usize,
    pub down: usize,
    pub stream_window: u32,
    pub connection_window: u32,
    pub frame: u32,
    pub table: u32,
    pub streams: usize,
    pub push: bool,
    /// The client changes its mind about its streams' windows in this round.
    pub change: Option<(u64, u32)>,
    pub pings: usize,
    /// The driver reads as much as it is told to before it takes the next turn.
    pub patient: bool,
    pub ending: Ending,
}

impl Plan {
    /// Generous in everything.
    pub fn plain(asks: Vec<Ask>) -> Plan {
        Plan {
            seed: 1,
            asks,
            limits: Limits::DEFAULT,
            inbox: 20_000,
            outbox: 20_000,
            up: 50_000,
            down: 50_000,
            stream_window: 65_535,
            connection_window: 1 << 20,
            frame: 16_384,
            table: 4096,
            streams: 100,
            push: false,
            change: None,
            pings: 0,
            patient: false,
            ending: Ending::Drain,
        }
    }

    pub fn random(seed: u64) -> Plan {
        let mut dice = Dice::new(seed);
        let d = &mut dice;
        let inbox = d.pick(&[0, 64, 300, 1000, 5000, 17_000, 70_000]);
        let pipe = d.pick(&[100, 1000, 5000, 20_000, 70_000, 70_000]);
        let stream_window = d.pick(&[1, 100, 1000, 20_000, 65_535, 65_535, 65_535, 300_000, 2_000_000]);
        let change = d.one_in(4).then(|| (d.below(300) as u64, d.pick(&[1000, 65_535, 500_000, 3_000_000])));
        // This client does not say what it owes when it has made a window smaller.
        let change = change.filter(|c| c.1 >= stream_window);
        let least = match stream_window {
            1 => 100,
            _ if stream_window < 1000 || inbox < 300 || pipe < 1000 => 6000,
            _ => 300_000,
        };
        let outbox = d.pick(&[0, 10, 500, 3000, 20_000, 70_000]);
        let asks: Vec<Ask> = (0..1 + d.below(20)).map(|_| ask(d, least, outbox, stream_window)).collect();
        let streams = d.pick(&[1, 2, 5, 100, 100, 100]);
        let limits = limit(Limits::DEFAULT, Limit::GatherBytes, 8 << 20);
        let limits = limit(limits, Limit::ConcurrentStreams, streams as u64);
        let limits = limit(limits, Limit::StreamWindowBytes, d.pick(&[65_536, 65_536, 65_535, 250_000]));
        let limits = limit(limits, Limit::ConnectionWindowBytes, d.pick(&[1 << 20, 300_000, 65_536]));
        // Content behind our resets is charged, and so are small pieces that a handler does not take yet.
        let limits = limit(limits, Limit::GlitchBurst, Limit::GlitchBurst.range().1);
        let limits = limit(limits, Limit::SmallFrameBytes, Limit::SmallFrameBytes.range().1);
        // Each exchange that the handler asks for in vain costs two units of its turn.
        let limits = if d.one_in(3) { limit(limits, Limit::TurnUnits, 45 + d.below(20) as u64) } else { limits };
        Plan {
            seed,
            asks,
            limits,
            inbox,
            outbox,
            up: 1 << 26, // its client does not read while an acknowledgement of its own waits, we do not while our outbox is full
            down: pipe,
            stream_window,
            connection_window: d.pick(&[65_535, 65_535, 100_000, 1 << 20, 1 << 24]),
            frame: d.pick(&[16_384, 16_384, 16_385, 50_000, (1 << 24) - 1]),
            table: d.pick(&[0, 60, 1000, 4096, 4096, 100_000]),
            streams,
            push: d.one_in(2),
            change,
            pings: d.below(3),
            patient: d.one_in(3),
            ending: match d.below(4) {
                0 => Ending::Client,
                1 => Ending::DrainAt(d.below(400) as u64),
                _ => Ending::Drain,
            },
        }
    }
}

pub fn limit(limits: Limits, limit: Limit, value: u64) -> Limits {
    limits.with(limit, value).unwrap_or_else(|e| panic!("{e}"))
}

fn size(d: &mut Dice, most: usize) -> usize {
    let n = match d.below(10) {
        0 => 0,
        1 => 1,
        2..4 => d.below(100),
        4..7 => d.below(5000),
        7..9 => d.below(70_000),
        _ => d.below(300_000),
    };
    if n > most { d.below(most) } else { n }
}

fn word(d: &mut Dice, most: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-_.~!*'();:@&=+$,/?%#[]|{}<>\\^`ABCXYZ";
    let plain = d.one_in(2);
    (0..d.below(most + 1)).map(|_| char::from(LETTERS[d.below(if plain { 26 } else { LETTERS.len() })])).collect()
}

fn fields(d: &mut Dice) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    let (count, most) = d.pick(&[(0, 0), (3, 30), (10, 60), (70, 100), (2, 5000), (2, 12_000)]);
    for n in 0..d.below(count + 1) {
        // Some names often, so that the table earns its keep; some values twice under one name.
        let name = d.pick(&["accept", "user-agent", "x-a", "x-b", "authorization", "cache-control"]);
        let name = if d.one_in(2) { format!("x-{}-{n}", d.below(1000)) } else { name.into() };
        let value = if d.one_in(3) { "the same".into() } else { word(d, most) };
        fields.push((name, value.into_bytes()));
    }
    for n in 0..if d.one_in(4) { d.below(20) } else { 0 } {
        let value = word(d, 20).replace([';', ','], "");
        fields.push(("cookie".into(), format!("c{n}={value}").into_bytes()));
    }
    if d.one_in(6) {
        fields.push(("priority".into(), d.pick(&["u=0", "u=7, i", "i", "u=1, i=?0", "x"]).into()));
    }
    if d.one_in(6) {
        fields.push(("x-bytes".into(), vec![b'a', 0xe9, 0x80, 0xff, b'\t', b'z']));
    }
    fields
}

fn short_fields(d: &mut Dice, most: usize) -> Vec<(String, String)> {
    (0..d.below(5)).map(|n| (d.pick(&["x-s", "x-t", "x-u"]).to_string() + &"n".repeat(n % 2), word(d, most))).collect()
}

/// CONNECT, plain or extended: taken at once, late, or not at all.
fn tunnel(d: &mut Dice, most: usize, outbox: usize) -> Ask {
    let how = d.pick(&[How::Tunnel, How::Tunnel, How::Tunnel, How::Text, How::Never, How::Abort(None)]);
    let reset = (how == How::Never || d.one_in(6)).then(|| Reset::Rounds(d.below(200) as u64));
    Ask {
        method: "CONNECT",
        path: "/chat?room=1".into(),
        protocol: d.pick(&[None, Some("websocket"), Some("x")]),
        fields: fields(d),
        piece: d.pick(&[300, 10_000, 100_000]),
        start: d.below(200) as u64,
        reset,
        lazy: if d.one_in(3) { 1 + d.below(40) as u64 } else { 0 },
        delay: if d.one_in(2) { 1 + d.below(60) as u64 } else { 0 },
        status: if how == How::Text { 403 } else { 200 },
        answer_fields: short_fields(d, (outbox / 8).clamp(30, 3000)),
        ..Ask::post(how, size(d, most))
    }
}

fn ask(d: &mut Dice, most: usize, outbox: usize, window: u32) -> Ask {
    let method = d.pick(&["GET", "GET", "HEAD", "POST", "POST", "POST", "PUT", "DELETE", "M-SEARCH"]);
    let body = (!matches!(method, "GET" | "HEAD") && !d.one_in(8)).then(|| size(d, most));
    let how = match d.below(20) {
        0..3 => How::EchoWhole,
        3..5 => How::EchoStream,
        5 => How::EchoManual,
        6 => How::Manual,
        7 => How::Discard,
        8..10 => How::Text,
        10 => How::Sized(size(d, most)),
        11 => How::Streamed(size(d, most)),
        12 => How::Whole(size(d, most)),
        13 if method != "HEAD" => How::Abort(d.one_in(2).then(|| d.below(most.min(70_000)))),
        14 => How::Never,
        15 => How::Short,
        16 if window > 1000 => How::Json, // a value that a window will never take is refused for ever
        17 if body.is_some_and(|n| n > 0) => How::TooMuch(d.below(body.unwrap_or(0)) as u32),
        18 => How::EchoByJob,
        _ => How::EchoWhole,
    };
    let reset = (how == How::Never || d.one_in(8)).then(|| match d.below(3) {
        0 if body.is_some() && how != How::Never => Reset::Sent(d.below(body.unwrap_or(0) + 1)),
        1 if how != How::Never => Reset::Got(d.below(most.min(20_000))),
        _ => Reset::Rounds(d.below(200) as u64),
    });
    if d.one_in(15) {
        return tunnel(d, most, outbox);
    }
    let bare = d.one_in(12);
    let how = if bare { How::Whole(0) } else { how };
    let query = if d.one_in(2) { format!("?q={}", d.below(1000)) } else { String::new() };
    let long = if d.one_in(10) { 3000 } else { 20 };
    let longest = (outbox / 8).clamp(30, 8000);
    Ask {
        method,
        path: format!("/{}{query}", "p".repeat(d.below(long))),
        fields: fields(d),
        body,
        length: d.one_in(2),
        coded: body.is_some() && d.one_in(4),
        expects: body.is_some() && d.one_in(8),
        piece: d.pick(&[300, 1000, 10_000, 16_384, 100_000]),
        trailers: if body.is_some() && d.one_in(3) { short_fields(d, 100) } else { Vec::new() },
        protocol: None,
        start: if d.one_in(2) { 0 } else { d.below(300) as u64 },
        reset,
        lazy: if d.one_in(3) { 1 + d.below(40) as u64 } else { 0 },
        stops: false,
        eager: d.one_in(3),
        delay: if d.one_in(4) { 1 + d.below(30) as u64 } else { 0 },
        informs: if d.one_in(6) { 1 + d.below(3) } else { 0 },
        closes: d.one_in(60),
        status: if bare { d.pick(&[204, 304]) } else { d.pick(&[200, 200, 200, 201, 404, 500, 299]) },
        answer_fields: if d.one_in(2) { short_fields(d, longest) } else { Vec::new() },
        answer_trailers: if d.one_in(2) { short_fields(d, 60) } else { Vec::new() },
        how,
    }
}
