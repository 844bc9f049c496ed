//! In: requests. Out: the answers that a test has prepared, by path, given in any of the ways that a handler has.

use std::collections::BTreeMap;

use vestibule::{Content, Event, Id, Misuse, Reply, Turn};

pub type Lines = Vec<(String, String)>;

/// How an answer is given.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum How {
    Whole,
    Sized,
    Streamed,
    /// The same, and a trailer section.
    Trailed,
    Text,
    Json,
    /// Declared is one byte more than is written.
    Short,
    /// All is written, then it is given up.
    Aborted,
    /// All is written, and the end is never said.
    Held,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Lines,
    pub content: Vec<u8>,
    pub how: How,
}

impl Answer {
    pub fn new(how: How, content: impl AsRef<[u8]>) -> Answer {
        let fields = vec![("content-type".to_owned(), "text/plain".to_owned())];
        Answer { status: 200, fields, content: content.as_ref().to_vec(), how }
    }

    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.fields.retain(|f| f.0 != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn status(mut self, status: u16) -> Answer {
        self.status = status;
        self
    }

    /// What the client is to have in the end.
    pub fn plain(&self) -> Vec<u8> {
        match self.how {
            How::Json => serde_json::to_vec(std::str::from_utf8(&self.content).unwrap()).unwrap(),
            _ => self.content.clone(),
        }
    }
}

/// An answer under way.
#[derive(Debug)]
struct Open {
    id: Id,
    path: String,
    at: usize,
    begun: bool,
}

/// Answers by path, written in pieces of at most that size.
#[derive(Debug)]
pub struct App {
    pub answers: BTreeMap<String, Answer>,
    pub piece: usize,
    open: Vec<Open>,
    pub aborted: Vec<Id>,
    pub writable: usize,
    /// Answers that are complete as far as their handlers know.
    pub given: usize,
}

impl App {
    pub fn new(answers: &[(&str, Answer)]) -> App {
        let answers = answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect();
        App { answers, piece: usize::MAX, open: Vec::new(), aborted: Vec::new(), writable: 0, given: 0 }
    }

    pub fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(request) => {
                let (id, path) = (request.reply.id(), request.head.path().to_owned());
                self.open.push(Open { id, path, at: 0, begun: false });
                self.go_on(request.reply);
            }
            Event::Writable(reply) => {
                self.writable += 1;
                self.go_on(reply);
            }
            Event::Body(_) | Event::Trailers(_) | Event::Fault(_) => {}
            Event::Aborted { id, .. } => {
                self.aborted.push(id);
                self.open.retain(|open| open.id != id);
            }
            event => panic!("{event:?}"),
        }
    }

    /// Heads and trailers that there was no room for are said later, outside of events.
    pub fn outside(&mut self, turn: &mut Turn<'_>) {
        let all = self.open.iter().filter(|open| {
            let answer = &self.answers[&open.path];
            !open.begun || (open.at == answer.content.len() && answer.how == How::Trailed)
        });
        let all: Vec<Id> = all.map(|open| open.id).collect();
        for id in all {
            if let Some(reply) = turn.reply(id) {
                self.go_on(reply);
            }
        }
    }

    fn go_on(&mut self, mut reply: Reply<'_>) {
        let Some(place) = self.open.iter().position(|open| open.id == reply.id()) else { return };
        let open = &mut self.open[place];
        let answer = &self.answers.get(&open.path).unwrap_or_else(|| panic!("no answer for {}", open.path));
        if !give(answer, self.piece, open, &mut reply) {
            return;
        }
        match answer.how {
            How::Held => return,
            How::Aborted => reply.abort(),
            _ => {
                self.given += 1;
                assert_eq!(reply.write(b"more"), Err(Misuse::Gone), "behind the end nothing is taken");
                assert_eq!(reply.finish(), Err(Misuse::Gone));
            }
        }
        self.open.remove(place);
    }
}

/// Gives as much as is taken. True: that was all.
fn give(answer: &Answer, piece: usize, open: &mut Open, reply: &mut Reply<'_>) -> bool {
    let fields: Vec<(&str, &str)> = answer.fields.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    let content = &answer.content[..];
    if !open.begun {
        let text = || std::str::from_utf8(content).unwrap();
        let length = content.len() as u64;
        let said = match answer.how {
            How::Text => reply.text(answer.status, text()).map(|()| content.len()),
            How::Json => reply.json(answer.status, &text()).map(|()| content.len()),
            How::Whole => reply.respond(answer.status, &fields, Content::Whole(content)),
            How::Sized => reply.respond(answer.status, &fields, Content::Sized(length)),
            How::Short => reply.respond(answer.status, &fields, Content::Sized(length + 1)),
            _ => reply.respond(answer.status, &fields, Content::Streamed),
        };
        match said {
            Err(Misuse::NoRoom) => return false,
            said => open.at = said.unwrap(),
        }
        open.begun = true;
    }
    while open.at < content.len() {
        let part = &content[open.at..content.len().min(open.at.saturating_add(piece))];
        let n = reply.write(part).unwrap();
        open.at += n;
        if n < part.len() {
            return false;
        }
    }
    match answer.how {
        How::Sized | How::Streamed => reply.finish().unwrap(),
        How::Short => {
            assert_eq!(reply.write(b"xy"), Err(Misuse::TooMuchContent));
            assert_eq!(reply.trailers(&[("a", "b")]), Err(Misuse::NoTrailers));
            reply.finish().unwrap();
        }
        How::Trailed => match reply.trailers(&[("x-sum", "abc"), ("x-more", "")]) {
            Err(Misuse::NoRoom) => return false,
            said => said.unwrap(),
        },
        _ => {}
    }
    true
}
