//! In: what was asked, what the handler saw of it, what the client saw of its answer. Out: a panic, unless all of
//! it agrees.

use std::collections::BTreeMap;

use crate::client::Answer;
use crate::plan::{Ask, How, Plan, pattern};
use crate::server::App;
use vestibule::{Fields, Request};

/// The handler sees the request as it was asked.
pub fn check_request(at: usize, ask: &Ask, request: &Request<'_>) {
    let head = request.head;
    assert_eq!(head.version, vestibule::Version::Http2, "request {at}");
    assert_eq!(head.method, ask.method, "request {at}");
    assert_eq!(head.authority, "a.example:8080", "request {at}");
    assert!(request.tls.is_none());
    assert_eq!(head.protocol, ask.protocol, "request {at}");
    if ask.method == "CONNECT" && ask.protocol.is_none() {
        assert_eq!(head.target, "a.example:8080", "request {at}");
        return;
    }
    assert_eq!(head.path(), ask.path.split('?').next().unwrap_or_default(), "request {at}");
    assert_eq!(head.query(), ask.path.split_once('?').map(|p| p.1), "request {at}");
    assert_eq!(request.has_body, ask.body.is_some() && ask.method != "CONNECT", "request {at}");
    let mut fields: Vec<(String, Vec<u8>)> = ask.fields.iter().filter(|f| f.0 != "cookie").cloned().collect();
    let crumbs: Vec<&[u8]> = ask.fields.iter().filter(|f| f.0 == "cookie").map(|f| &f.1[..]).collect();
    if !crumbs.is_empty() {
        fields.push(("cookie".into(), crumbs.join(&b"; "[..]))); // RFC 9113 §8.2.3
    }
    fields.push(("x-ask".into(), at.to_string().into_bytes()));
    if ask.length {
        fields.push(("content-length".into(), ask.sent(at).len().to_string().into_bytes()));
    }
    if ask.coded {
        fields.push(("content-encoding".into(), b"gzip".to_vec()));
    }
    if ask.expects {
        fields.push(("expect".into(), b"100-continue".to_vec()));
    }
    same_fields(at, &fields, head.fields, &["host"]);
}

/// The same lines, those of one name in the same order. `more`: names that may stand there as well.
pub fn same_fields(at: usize, expected: &[(String, Vec<u8>)], got: Fields<'_>, more: &[&str]) {
    let sorted = |mut lines: Vec<(String, Vec<u8>)>| {
        lines.sort_by(|a, b| a.0.cmp(&b.0)); // stable
        lines
    };
    let got = got.iter().filter(|f| !more.contains(&f.0)).map(|f| (f.0.to_string(), f.1.to_vec())).collect();
    assert_eq!(sorted(got), sorted(expected.to_vec()), "the fields of request {at}");
}

/// What the handler saw of every request is what was asked: all of it if the request is complete, else its beginning.
pub fn check_bodies(plan: &Plan, app: &App) {
    for (&at, x) in &app.exchanges {
        let ask = &plan.asks[at];
        let sent = pattern(at, ask.body.unwrap_or(0));
        let is_read = ask.how != How::Discard && (ask.method != "CONNECT" || ask.how == How::Tunnel);
        if x.request_done && is_read {
            assert!(x.body == sent, "request {at}: {} of {} bytes came, or others", x.body.len(), sent.len());
            assert_eq!(x.trailers, !ask.trailers.is_empty(), "request {at}");
        } else {
            assert!(sent.starts_with(&x.body), "request {at}: other bytes than those that were sent");
        }
    }
}

/// The answer is the one that its request must get, all of it or a beginning.
pub fn check(at: usize, ask: &Ask, answer: &Answer, complete: bool) {
    if answer.status == 0 {
        assert!(!complete, "request {at}: no answer");
        return;
    }
    let too_much = matches!(ask.how, How::TooMuch(_));
    assert_eq!(answer.status, if too_much { 413 } else { ask.status }, "request {at}");
    assert_eq!(answer.informs, if too_much { 0 } else { ask.informs }, "request {at}: informational responses");
    let most = usize::from(ask.expects);
    let least = if ask.waits_for_body() { most } else { 0 };
    assert!((least..=most).contains(&answer.wanted), "request {at}: {} times 100 (Continue)", answer.wanted);
    let mut got = answer.fields.clone();
    if ask.status == 304 {
        got.remove("content-length"); // it may say what a 200 would have said (RFC 9110 §8.6)
    }
    assert_eq!(got, fields_of(at, ask), "the fields of answer {at}");
    let content = if ask.method == "HEAD" { Vec::new() } else { ask.content(at) };
    if !complete {
        assert!(content.starts_with(&answer.body), "request {at}: other content than the handler's");
        return;
    }
    assert!(answer.body == content, "request {at}: {} of {} bytes came, or others", answer.body.len(), content.len());
    let mut trailers: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    if matches!(ask.how, How::Streamed(_) | How::EchoStream | How::EchoManual) && ask.method != "HEAD" {
        for (name, value) in &ask.answer_trailers {
            trailers.entry(name.clone()).or_default().push(value.clone().into_bytes());
        }
    }
    assert_eq!(answer.trailers, trailers, "the trailers of answer {at}");
}

/// What stands in the head of the answer.
fn fields_of(at: usize, ask: &Ask) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut fields: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let mut add = |name: &str, value: &str| fields.entry(name.into()).or_default().push(value.into());
    match ask.how {
        How::Short => add("content-type", "text/plain; charset=utf-8"),
        How::Json => add("content-type", "application/json"),
        How::TooMuch(_) => {}
        _ => ask.answer_fields.iter().for_each(|(name, value)| add(name, value)),
    }
    if let Some(n) = ask.declares(at)
        && !matches!(ask.status, 204 | 304)
    {
        add("content-length", &n.to_string());
    }
    fields
}
