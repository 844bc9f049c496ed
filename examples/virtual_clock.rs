//! No socket and no clock: a client that sends a byte a second, and a server whose time is a number.
//!
//! `cargo run --example virtual_clock` plays eleven virtual seconds in no time: the head has ten seconds to come in whole, however busy its
//! sender is (a "slow loris"), and is answered 408 then.

#![allow(clippy::print_stdout)]

use vestibule::{Config, Connection, Event, Inbox, Instant, Limits, Outbox, Pause};

static CONFIG: Config = Config::new(Limits::DEFAULT);

fn main() {
    let mut connection = Connection::new(&CONFIG, Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new([0; 4096]), Outbox::new([0; 4096]));
    let mut head = b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n".iter();
    let mut now = Instant::ZERO;
    loop {
        let mut turn = connection.turn(now, &mut inbox, &mut outbox).expect("these are its buffers");
        while let Some(event) = turn.next() {
            match event {
                Event::Request(mut request) => request.reply.text(200, "that was quick").expect("there is room"),
                Event::Fault(violation) => println!("{:>6} ms: {violation}", now.as_nanos() / 1_000_000),
                _ => {}
            }
        }
        let pause = turn.finish();
        let said = outbox.ready().len();
        print!("{}", String::from_utf8_lossy(outbox.ready()));
        outbox.wrote(said);
        if outbox.finished() {
            inbox.end(); // the client has read it all, and leaves
        }
        if pause == Pause::Closed {
            return;
        }
        // The next thing that happens: a byte a second, or the deadline, whichever comes first.
        let byte = Instant::from_millis(now.as_nanos() / 1_000_000 + 1000);
        match connection.deadline() {
            Some(deadline) if deadline.at <= byte => now = deadline.at,
            _ => {
                now = byte;
                inbox.fill(head.next().map_or(&[], std::slice::from_ref));
            }
        }
    }
}
