//! Every way to lay the stages over threads answers the same conversation.

use crate::client::{Client, get, post};
use crate::h2;
use crate::probe;
use crate::server::{Layout, try_start, wait};
use crate::service::{Sum, pattern};
use crate::site::Site;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use std::time::Duration;
use vestibule_driver::probe::Stage;
use vestibule_driver::{BindError, Builder, Driver, HandOut, Topology};

/// What is done elsewhere; the last one is all of it.
pub(crate) const OFFLOADS: [&str; 6] =
    ["", "handshakes", "records", "decode", "process", "handshakes,records,decode,process"];

/// The same conversation for each way to offload. What the driver has not is passed over.
fn converse<D: Driver>(name: &str, lay: impl Fn(Builder<D>) -> Builder<D>) {
    for offload in OFFLOADS {
        let choose = |builder| lay(builder).offload(offload.parse().unwrap()).pool_threads(2).queue(64);
        let site = match Site::with::<D>(false, choose) {
            Ok(site) => site,
            Err(BindError::Unsupported(why)) => {
                println!("{} has no {name} with `{offload}`: {why}", D::NAME);
                continue;
            }
            Err(error) => panic!("{name} with `{offload}`: {error}"),
        };
        let what = format!("{name} with `{offload}`");
        let server = &site.server;
        http1(&mut server.client(), &what);
        http1(&mut site.http1(), &what);
        http2(&mut server.h2(), &what);
        http2(&mut site.http2(), &what);
        at_once(&site, &what);
        server.settle();
        assert_eq!(server.incidents(), [""; 0], "{what}");
        let summary = site.server.stop();
        assert_eq!((summary.connections, summary.cut), (16, 0), "{what}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coder = GzEncoder::new(Vec::new(), Compression::default());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn http1<S: Read + Write>(client: &mut Client<S>, what: &str) {
    assert_eq!(client.get("/hello").text(), "hello", "{what}");
    client.send("HEAD /bytes/5000 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer_to("HEAD").field("content-length"), Some("5000"), "{what}");
    let body = pattern(120_000);
    assert!(client.ask(post("/echo", &body)).content == body, "{what}");
    assert!(client.get("/bytes/250000").content == pattern(250_000), "{what}");
    assert_eq!(client.ask(post("/upload", &body)).text(), format!("120000 {:x}", Sum::of(&body).0), "{what}");
    let coded = gzip(&pattern(50_000));
    let head =
        format!("POST /job HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", coded.len());
    assert_eq!(client.ask([head.as_bytes(), &coded].concat()).text(), "50000 bytes", "{what}");
    let head = "POST /upload HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(client.ask(head).status, 100, "{what}");
    assert_eq!(client.ask("hello").status, 200, "{what}");
    let paths = ["/later/10", "/1", "/outlet/70000", "/2", "/dropped", "/3"];
    client.send(paths.map(get).concat());
    for path in paths {
        let answer = client.answer();
        match path {
            "/outlet/70000" => assert!(answer.content == pattern(70_000), "{what}"),
            "/dropped" => assert_eq!(answer.status, 500, "{what}"),
            _ => assert_eq!(answer.text(), path, "{what}"),
        }
    }
}

fn http2<S: Read + Write>(client: &mut h2::Client<S>, what: &str) {
    let paths = ["/later/10", "/1", "/outlet/70000", "/bytes/250000", "/dropped", "/3"];
    let all = paths.map(|path| client.request("GET", path));
    let echo = client.request("POST", "/echo");
    let body = pattern(120_000);
    client.content(echo, &body, true);
    let job = client.request("POST", "/job");
    client.content(job, &body, true);
    for (path, number) in paths.iter().zip(all) {
        let answer = client.answer(number);
        match *path {
            "/outlet/70000" => assert!(answer.content == pattern(70_000), "{what}"),
            "/bytes/250000" => assert!(answer.content == pattern(250_000), "{what}"),
            "/dropped" => assert_eq!(answer.status, 500, "{what}"),
            _ => assert_eq!(answer.content, path.as_bytes(), "{what}"),
        }
        assert!(answer.ended, "{what}: {path}");
    }
    assert!(client.answer(echo).content == body, "{what}");
    assert_eq!(client.answer(job).content, b"120000 bytes", "{what}");
}

/// A few at once, so that threads meet.
fn at_once(site: &Site, what: &str) {
    std::thread::scope(|scope| {
        for n in 0..12 {
            scope.spawn(move || {
                let path = format!("/at-once/{n}");
                match n % 2 {
                    0 => assert_eq!(site.http1().get(&path).text(), path, "{what}"),
                    _ => assert_eq!(site.http2().get(&path).content, path.as_bytes(), "{what}"),
                }
            });
        }
    });
}

pub fn single<D: Driver>(_: Layout<D>) {
    converse::<D>("single", |b| b.topology(Topology::Single));
}

pub fn workers<D: Driver>(_: Layout<D>) {
    converse::<D>("workers", |b| b.topology(Topology::Workers).workers(2));
}

pub fn workers_that_listen_for_themselves<D: Driver>(_: Layout<D>) {
    converse::<D>("workers and reuse_port", |b| b.topology(Topology::Workers).workers(3).reuse_port(true).pin(true));
}

pub fn acceptor_round_robin<D: Driver>(_: Layout<D>) {
    converse::<D>("acceptor, round robin", |b| b.topology(Topology::Acceptor).workers(2).hand_out(HandOut::RoundRobin));
}

pub fn acceptor_least_loaded<D: Driver>(_: Layout<D>) {
    converse::<D>("acceptor, least loaded", |b| {
        b.topology(Topology::Acceptor).workers(2).hand_out(HandOut::LeastLoaded)
    });
}

pub fn stages<D: Driver>(_: Layout<D>) {
    converse::<D>("stages", |b| b.topology(Topology::Stages));
}

pub fn threads<D: Driver>(_: Layout<D>) {
    converse::<D>("threads", |b| b.topology(Topology::Threads).threads(32));
}

/// With the probe on. What the driver has not is passed over.
pub fn each_times_its_stages_and_counts_its_answers<D: Driver>(_: Layout<D>) {
    for topology in Topology::ALL {
        for offload in OFFLOADS {
            let what = format!("{topology} with `{offload}`");
            let choose = |builder: Builder<D>| {
                let offload = offload.parse().unwrap();
                builder.topology(topology).offload(offload).workers(2).threads(8).pool_threads(2).queue(64).probe(true)
            };
            let server = match try_start::<D>(choose) {
                Ok(server) => server,
                Err(BindError::Unsupported(why)) => {
                    println!("{} has no {what}: {why}", D::NAME);
                    continue;
                }
                Err(error) => panic!("{what}: {error}"),
            };
            let responses = probe::answers_of_all_classes(&server);
            probe::wait_for(&server, responses, &what);
            for stage in [Stage::Accept, Stage::Read, Stage::Parse, Stage::Process, Stage::Write] {
                wait(&format!("{stage:?} of {what}"), || probe::snapshot(&server).stage(stage).time > Duration::ZERO);
            }
        }
    }
}
