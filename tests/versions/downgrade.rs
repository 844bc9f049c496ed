//! Any request that HTTP/2 accepts is exactly one request of HTTP/1.1 (P-18, SEM-07): written out as its handler saw it, it is read
//! again by the strict machine and by httparse, the same to the byte, and nothing is left over or swallowed.

use proptest::prelude::*;
use vestibule::{Event, Head, Limit, Limits};

use super::ask::{chunked, content};
use super::cases;
use super::client::Client;
use super::frames::{Dice, Line};
use super::road::{Handler, Road, patient, with};

/// A request as its handler saw it, whatever it looked like on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
struct Taken {
    method: Vec<u8>,
    target: Vec<u8>,
    authority: Vec<u8>,
    fields: Vec<Line>,
    has_body: bool,
    body: Vec<u8>,
    trailers: Vec<Line>,
    complete: bool,
}

fn lines(fields: vestibule::Fields<'_>) -> Vec<Line> {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

impl Taken {
    fn of(head: Head<'_>, has_body: bool) -> Taken {
        Taken {
            method: head.method.into(),
            target: head.target.into(),
            authority: head.authority.into(),
            fields: lines(head.fields),
            has_body,
            complete: !has_body,
            ..Taken::default()
        }
    }

    /// Without what says how long the body is.
    fn unframed(mut self) -> Taken {
        self.fields.retain(|f| f.0 != b"content-length" && f.0 != b"transfer-encoding");
        self.has_body = !self.body.is_empty() || !self.trailers.is_empty();
        self
    }

    /// Its framing is none of its lines, or another one than they say: a body of chunks.
    fn needs_chunks(&self) -> bool {
        let declares = self.fields.iter().any(|f| f.0 == b"content-length");
        self.has_body && (!declares || !self.trailers.is_empty())
    }

    /// As HTTP/1.1 would have sent it: the lines as they are, and framing if they have none.
    fn head(&self) -> Vec<u8> {
        let mut head = [&self.method[..], b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        for (name, value) in self.fields.iter().filter(|f| !(self.needs_chunks() && f.0 == b"content-length")) {
            head.extend([&name[..], b": ", value, b"\r\n"].concat());
        }
        if self.needs_chunks() {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    fn h1(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.head();
        if self.needs_chunks() {
            bytes.extend(chunked(&self.body, &self.trailers, dice));
        } else {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// Takes everything, answers everything.
#[derive(Debug, Default)]
struct Taker {
    taken: Vec<Taken>,
    faults: usize,
}

impl Handler for Taker {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(mut request) => {
                self.taken.push(Taken::of(request.head, request.has_body));
                request.reply.set_tag(self.taken.len() as u64 - 1);
                if !request.has_body {
                    request.reply.text(404, "").expect("room");
                }
            }
            Event::Body(mut body) => {
                let taken = &mut self.taken[body.tag as usize];
                taken.body.extend_from_slice(body.bytes);
                if body.last {
                    taken.complete = true;
                    body.reply.text(404, "").expect("room");
                }
            }
            Event::Trailers(mut trailers) => {
                let taken = &mut self.taken[trailers.tag as usize];
                (taken.trailers, taken.complete) = (lines(trailers.fields), true);
                trailers.reply.text(404, "").expect("room");
            }
            Event::Fault(_) => self.faults += 1,
            _ => {}
        }
    }
}

/// HTTP/1.1 has one line more where the framing is said, and nothing else that HTTP/2 does not count.
fn roomy() -> Limits {
    let lines = patient().get(Limit::FieldLines);
    with(patient(), Limit::FieldLines, lines + 1)
}

fn check(taken: &Taken, seed: u64) {
    for (name, value) in taken.fields.iter().chain(&taken.trailers) {
        assert!(!name.is_empty() && !name.contains(&b':'), "a pseudo-field among the fields");
        assert!(!name.iter().chain(value).any(|b| matches!(b, b'\r' | b'\n' | b'\0')));
    }
    let mut dice = Dice::new(seed);
    let bytes = taken.h1(&mut dice);
    let head = taken.head();
    // httparse, a reader of its own.
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut slots);
    assert_eq!(request.parse(&bytes), Ok(httparse::Status::Complete(head.len())), "{}", head.escape_ascii());
    assert_eq!(request.method.map(str::as_bytes), Some(&taken.method[..]));
    assert_eq!(request.path.map(str::as_bytes), Some(&taken.target[..]));
    let framing = |name: &str| matches!(name, "content-length" | "transfer-encoding");
    let read: Vec<Line> = request.headers.iter().map(|h| (h.name.as_bytes().to_vec(), h.value.to_vec())).collect();
    let unframed = |lines: &[Line]| -> Vec<Line> {
        lines.iter().filter(|l| !framing(std::str::from_utf8(&l.0).expect("a token"))).cloned().collect()
    };
    assert_eq!(unframed(&read), unframed(&taken.fields), "httparse reads other fields");
    // The strict machine, with another request behind it.
    let after = b"GET /after HTTP/1.1\r\nhost: after\r\n\r\n";
    let mut road = Road::new(roomy(), 0, 9_000, Taker::default());
    let is_connect = taken.method == b"CONNECT";
    let all = if is_connect { bytes.clone() } else { [&bytes[..], after].concat() };
    let _ = road.h1(&all, &mut dice);
    let handler = road.handler;
    assert_eq!(handler.faults, 0, "HTTP/1.1 refuses {}", bytes[..bytes.len().min(2_000)].escape_ascii());
    assert_eq!(handler.taken.len(), if is_connect { 1 } else { 2 }, "{}", bytes.escape_ascii());
    assert!(handler.taken[0].complete, "HTTP/1.1 waits for more");
    assert_eq!(handler.taken[0].clone().unframed(), taken.clone().unframed(), "another request");
    assert!(road.inbox.is_empty(), "something is left over");
    assert!(is_connect || handler.taken[1].target == b"/after", "the next request is another one");
}

// ---- odd requests ----

/// Mostly what it should be, sometimes anything.
fn odd(good: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let tricky: Vec<&[u8]> = vec![
        b"",
        b" ",
        b"/ HTTP/1.1\r\nx: y",
        b"/\r\n\r\nGET /b HTTP/1.1\r\n",
        b"GET /x",
        b"a\r\nx: y",
        b"a\rb",
        b"a\nb",
        b"a\0b",
        b"\t",
        b"a ",
        b" a",
        b"chunked",
        b"*",
        b"//",
        b"/#",
        b"/?",
        b"/\x80",
        b"http://b/",
        b"a,b",
        b"a@b",
        b"a:b:c",
        b"a/b",
        b"[::1]",
        b"0",
        b"1",
        b"5",
        b"trailers",
        b"100-continue",
        b"close",
        b"\xe4\xf6\xff",
    ];
    let byte = prop_oneof![6 => 0x21..0x7fu8, 2 => any::<u8>(), 1 => Just(b' ')];
    prop_oneof![
        16 => good.prop_map(String::into_bytes),
        1 => prop::sample::select(tricky).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(byte, 0..12),
        1 => (good.prop_map(String::into_bytes), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut text, at, b)| {
            text.insert(at.index(text.len() + 1), b);
            text
        }),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"host",
        b"cookie",
        b"content-length",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"te",
        b"upgrade",
        b"expect",
        b"content_length",
        b"transfer_encoding",
        b"trailer",
        b"content-encoding",
        b"keep-alive",
        b"proxy-connection",
        b"http2-settings",
        b":path",
        b":authority",
        b":method",
        b":status",
        b":protocol",
        b":",
        b"x:",
        b"x y",
        b"X-Upper",
        b"x\r\ny",
    ];
    let known = prop::sample::select(known).prop_map(<[u8]>::to_vec);
    prop_oneof![6 => odd("[a-z!#$%&'*+.^_`|~0-9-]{1,12}"), 1 => known]
}

fn field() -> impl Strategy<Value = Line> {
    let cookie = odd("[a-z]{1,2}=[a-z; ]{0,4}[a-z]").prop_map(|value| (b"cookie".to_vec(), value));
    let length = odd("[0-9]{1,2}").prop_map(|value| (b"content-length".to_vec(), value));
    let good = ("x[a-z!#$%&'*+.^_`|~0-9-]{0,8}", "[!-~]([ -~\\t]{0,20}[!-~])?");
    prop_oneof![
        8 => good.prop_map(|(name, value)| (name.into_bytes(), value.into_bytes())),
        3 => (name(), odd("[!-~]([ -~\\t]{0,20}[!-~])?")),
        1 => cookie,
        1 => length,
    ]
}

#[derive(Clone, Debug)]
struct Odd {
    start: Vec<Line>,
    fields: Vec<Line>,
    body: Option<Vec<u8>>,
    /// The length of the body is said, rightly.
    length: bool,
    trailers: Vec<Line>,
}

fn request() -> impl Strategy<Value = Odd> {
    let pseudo = |name: &'static str| move |value: Vec<u8>| (name.as_bytes().to_vec(), value);
    let start = (
        odd("GET|POST|HEAD|OPTIONS|[A-Z!#$%&'*+.^_`|~-]{1,8}").prop_map(pseudo(":method")),
        odd("http|https|HTTPS").prop_map(pseudo(":scheme")),
        odd("[a-z0-9.-]{1,10}(:[0-9]{0,4})?").prop_map(pseudo(":authority")),
        odd("/[a-zA-Z0-9._~!$&'()*+,;=:@%/?\"<>^`{|}-]{0,20}|/{1,3}[a-z]{0,3}").prop_map(pseudo(":path")),
    );
    let start = start.prop_map(|(a, b, c, d)| vec![a, b, c, d]);
    let connect = odd("[a-z.]{1,8}:[0-9]{1,4}")
        .prop_map(|authority| vec![(b":method".to_vec(), b"CONNECT".to_vec()), (b":authority".to_vec(), authority)]);
    let shape = (0..100u8, any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let start = (prop_oneof![12 => start, 1 => connect], shape).prop_map(|(mut start, (how, a, b))| {
        let (a, b) = (a.index(start.len()), b.index(start.len()));
        match how {
            0..40 => start.swap(a, b),
            40..46 => drop(start.remove(a)),
            46..49 => start.push(start[a].clone()),
            _ => {}
        }
        start
    });
    let body = prop_oneof![
        3 => Just(None),
        3 => (0..40usize).prop_map(|n| Some(content(1, n))),
        1 => Just(Some(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: b\r\n\r\n".to_vec())),
        1 => (0..9_000usize).prop_map(|n| Some(content(2, n))),
    ];
    let fields = prop_oneof![20 => prop::collection::vec(field(), 0..5), 1 => prop::collection::vec(field(), 90..105)];
    let trailers = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(field(), 1..3)];
    (start, fields, body, any::<bool>(), trailers).prop_map(|(start, mut fields, body, length, trailers)| {
        if fields.len() > 50 {
            fields.iter_mut().for_each(|f| *f = (b"x".to_vec(), b"y".to_vec()));
        }
        Odd { start, fields, body, length, trailers }
    })
}

impl Odd {
    fn lines(&self) -> Vec<Line> {
        let mut lines = [&self.start[..], &self.fields].concat();
        let length = self.body.as_ref().filter(|_| self.length).map(|body| body.len().to_string().into_bytes());
        lines.extend(length.map(|length| (b"content-length".to_vec(), length)));
        lines
    }
}

/// All of them on one connection, so that what the tables hold is used again. Says how many were taken.
fn downgrade(requests: &[Odd], seed: u64) -> usize {
    let mut road = Road::new(patient(), 0, 9_000, Taker::default());
    let mut client = Client::new(seed, 65_535);
    for odd in requests {
        client.request(&odd.lines(), odd.body.clone(), &odd.trailers);
        road.h2(&mut client);
    }
    assert_eq!(road.handler.faults, 0, "what is wrong with a request is no fault of the connection's");
    let complete = road.handler.taken.iter().filter(|taken| taken.complete);
    complete.inspect(|taken| check(taken, seed)).count()
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn what_http_2_accepts_is_one_request_of_http_1(
        requests in prop::collection::vec(request(), 1..6),
        seed in any::<u64>(),
    ) {
        downgrade(&requests, seed);
    }
}

/// The strategy is worth something: much of it is accepted, much is not.
#[test]
fn odd_requests_are_neither_all_good_nor_all_bad() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut tree = || request().new_tree(&mut runner).expect("a request").current();
    let requests: Vec<Odd> = (0..400).map(|_| tree()).collect();
    let taken = requests.chunks(5).map(|some| downgrade(some, 3)).sum::<usize>();
    assert!((80..320).contains(&taken), "{taken} of 400 are accepted");
}
