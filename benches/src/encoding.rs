//! Responses that are coded on their way: a JSON text of 10 KB by gzip, by the road and by flate2 alone.

use crate::measure::{Case, Group, Work};
use std::io::Write;
use vestibule::decode::coding::{Coding, Encoder, Flow};
use vestibule::{Config, Connection, Content, Event, Inbox, Instant, Limits, Outbox};

const REQUEST: &[u8] = b"GET /users HTTP/1.1\r\nhost: localhost\r\naccept-encoding: gzip, deflate, br, zstd\r\n\r\n";

pub(crate) fn groups() -> Vec<Group> {
    let json = json();
    let [a, b, c, d] = [(); 4].map(|()| json.clone());
    vec![Group {
        name: "responses coded: 10 KB of JSON by gzip",
        count: 512,
        batch: 1,
        bytes: Some(json.len()),
        cases: vec![
            Case::new("vestibule, the road", move |n| road(&a, &[Coding::Gzip], n)).without_allocations(),
            Case::new("vestibule, the encoder alone", move |n| encoder(&b, n)).without_allocations(),
            Case::new("flate2 alone, level 6", move |n| flate2_alone(&c, n)),
            Case::new("vestibule, the road, not coded", move |n| road(&d, &[], n)).without_allocations(),
        ],
    }]
}

fn json() -> Vec<u8> {
    let mut text = String::from("[");
    for i in 0.. {
        if text.len() > 10_000 {
            break;
        }
        let (a, b) = (i * 7_919 % 1_000, i * 104_729 % 10_000);
        text += &format!("{{\"id\":{i},\"name\":\"user {a}\",\"balance\":{b}.{a},\"active\":{}}},", i % 3 == 0);
    }
    text.pop();
    (text + "]").into_bytes()
}

/// From the request to the coded answer in the outbox.
fn road(json: &[u8], codings: &'static [Coding], n: usize) -> Work {
    let config = Box::leak(Box::new(Config::new(Limits::DEFAULT).with_response_codings(codings)));
    let json = json.to_vec();
    let mut connection = Connection::new(&*config, Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 16_384]), Outbox::new(vec![0; 16_384]));
    let mut one = move || {
        inbox.fill(REQUEST);
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
        while let Some(event) = turn.next() {
            if let Event::Request(mut request) = event {
                let fields = [("content-type", "application/json")];
                assert_eq!(request.reply.respond(200, &fields, Content::Whole(&json)), Ok(json.len()));
            }
        }
        let _ = turn.finish();
        let sent = outbox.ready().len();
        outbox.wrote(sent);
        assert!(sent > 100);
    };
    one(); // what is made once
    Box::new(move || (0..n).for_each(|_| one()))
}

fn encoder(json: &[u8], n: usize) -> Work {
    let (json, mut room) = (json.to_vec(), vec![0; 16_384]);
    let mut encoder = Encoder::new(Coding::Gzip).unwrap();
    Box::new(move || {
        for _ in 0..n {
            encoder.reset(Coding::Gzip).unwrap();
            assert!(encoder.step(&json, Flow::Finish, &mut room).unwrap().done);
        }
    })
}

/// flate2 as it is mostly used: an encoder for each answer, with a miniz_oxide behind it, too.
fn flate2_alone(json: &[u8], n: usize) -> Work {
    let json = json.to_vec();
    Box::new(move || {
        for _ in 0..n {
            let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(16_384), flate2::Compression::new(6));
            encoder.write_all(&json).unwrap();
            assert!(encoder.finish().unwrap().len() > 100);
        }
    })
}
