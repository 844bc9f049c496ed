//! In: an exchange that somebody else answers. Out: the answer, by mail, wherever it is made.

use crate::lane::Letter;
use crate::mailbox::{Mail, Mailbox};
use crate::slots::Key;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use vestibule::{Content, Id, Misuse, Reply};

/// The address of a connection, good from any thread and beyond the connection's end.
#[derive(Clone)]
pub struct Post {
    mailbox: Arc<Mailbox>,
    key: Key,
    awaited: Arc<Mutex<Vec<Id>>>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Post {
    pub(crate) fn new(mailbox: Arc<Mailbox>, key: Key) -> Post {
        Post { mailbox, key, awaited: Arc::default() }
    }

    fn awaited(&self) -> MutexGuard<'_, Vec<Id>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_awaited(&self, id: Id) -> bool {
        self.awaited().contains(&id)
    }

    pub(crate) fn forget(&self, id: Id) {
        self.awaited().retain(|&other| other != id);
    }

    pub(crate) fn send(&self, letter: Letter) {
        self.mailbox.post(Mail::Letter(self.key, letter));
    }

    /// Promises an answer. To be said while the service has an event of that exchange; the handle may then go to another
    /// thread. Other exchanges of the connection go on meanwhile, in HTTP/1.1 those behind it wait.
    ///
    /// ```
    /// # use vestibule::*; use vestibule_driver::Post;
    /// fn serve(event: Event<'_>, post: &Post) -> Result<(), Misuse> {
    ///     if let Event::Request(request) = event {
    ///         let later = post.later(request.reply.id());
    ///         std::thread::spawn(move || later.respond(200, &[("content-type", "text/plain")], b"at last".to_vec()));
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn later(&self, id: Id) -> Later {
        let mut awaited = self.awaited();
        if !awaited.contains(&id) {
            awaited.push(id);
        }
        Later { post: self.clone(), id, said: false }
    }
}

/// An answer that was promised. Dropped without one, it is a 500.
#[derive(Debug)]
pub struct Later {
    post: Post,
    id: Id,
    said: bool,
}

type Fields = Vec<(String, String)>;

fn owned(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

impl Later {
    /// Which exchange it answers.
    pub fn id(&self) -> Id {
        self.id
    }

    fn send(&self, part: Part) {
        self.post.send(Letter::answer(self.id, part));
    }

    /// The whole answer. If the peer has gone meanwhile, it is dropped.
    pub fn respond(mut self, status: u16, fields: &[(&str, &str)], content: Vec<u8>) {
        self.said = true;
        self.send(Part::Whole(status, owned(fields), content));
    }

    /// Who was to answer has panicked: 500, and a line in the log.
    pub(crate) fn panicked(self) {
        self.post.send(Letter::panic());
    }

    /// Begins an answer whose content comes by and by.
    pub fn stream(mut self, status: u16, fields: &[(&str, &str)]) -> Outlet {
        self.said = true;
        let credit = Arc::new(Credit::default());
        self.send(Part::Begin(status, owned(fields), Taker(credit.clone())));
        Outlet { post: self.post.clone(), id: self.id, credit, over: false }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if !self.said {
            self.send(Part::Whole(500, Vec::new(), Vec::new()));
        }
    }
}

/// The content of an answer that is under way. Dropped before [`Outlet::finish`], the answer is cut off, so that nobody takes it for whole.
#[derive(Debug)]
pub struct Outlet {
    post: Post,
    id: Id,
    credit: Arc<Credit>,
    over: bool,
}

/// The peer took the exchange back, or is gone.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the exchange is over")
    }
}

impl std::error::Error for Gone {}

/// So many bytes may be on their way from an outlet to its connection's outbox.
const UNDER_WAY: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Credit {
    /// Bytes under way; and whether nobody takes them any more.
    state: Mutex<(usize, bool)>,
    change: Condvar,
}

impl Credit {
    fn lock(&self) -> MutexGuard<'_, (usize, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self, n: usize) {
        let mut state = self.lock();
        state.0 = state.0.saturating_sub(n);
        drop(state);
        self.change.notify_all();
    }

    fn gone(&self) {
        self.lock().1 = true;
        self.change.notify_all();
    }
}

impl Outlet {
    /// Sends a part, and waits first while 64 KiB are under way: a slow reader holds up who writes to it.
    ///
    /// # Errors
    /// [`Gone`]: nobody wants it any more.
    pub fn write(&mut self, part: Vec<u8>) -> Result<(), Gone> {
        let mut state = self.credit.lock();
        while !state.1 && state.0 > 0 && state.0 + part.len() > UNDER_WAY {
            state = self.credit.change.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.send(state, part).map_err(|_| Gone)
    }

    /// Sends a part unless too much is under way: `Ok(Some(part))` gives it back then.
    ///
    /// # Errors
    /// [`Gone`]: nobody wants it any more.
    pub fn try_write(&mut self, part: Vec<u8>) -> Result<Option<Vec<u8>>, Gone> {
        let state = self.credit.lock();
        if !state.1 && state.0 > 0 && state.0 + part.len() > UNDER_WAY {
            return Ok(Some(part));
        }
        self.send(state, part).map(|()| None)
    }

    fn send(&self, mut state: MutexGuard<'_, (usize, bool)>, part: Vec<u8>) -> Result<(), Gone> {
        if state.1 {
            return Err(Gone);
        }
        state.0 += part.len();
        drop(state);
        self.post.send(Letter::answer(self.id, Part::More(part)));
        Ok(())
    }

    /// The content is complete.
    pub fn finish(mut self) {
        self.over = true;
        self.post.send(Letter::answer(self.id, Part::End));
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if !self.over {
            self.post.send(Letter::answer(self.id, Part::Cut));
        }
    }
}

/// A piece of an answer, under way.
#[derive(Debug)]
pub(crate) enum Part {
    Whole(u16, Fields, Vec<u8>),
    Begin(u16, Fields, Taker),
    More(Vec<u8>),
    End,
    Cut,
}

/// An answer that came by mail and is not yet with the machine as a whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) id: Id,
    parts: VecDeque<Part>,
    /// So much of the first part is written.
    written: usize,
    begun: bool,
    taker: Option<Taker>,
}

/// Who takes what an outlet sends. Once it is dropped nobody does any more, whether it got to its connection or was lost on the way there.
#[derive(Debug)]
pub(crate) struct Taker(Arc<Credit>);

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.gone();
    }
}

impl Answer {
    pub(crate) fn new(id: Id) -> Answer {
        Answer { id, parts: VecDeque::new(), written: 0, begun: false, taker: None }
    }

    pub(crate) fn push(&mut self, part: Part) {
        self.parts.push_back(part);
    }

    /// Gives the machine what it takes. `Ok(true)`: the answer is complete; `false`: more may come, or there is no room.
    pub(crate) fn go_on(&mut self, mut reply: Reply<'_>) -> Result<bool, Misuse> {
        while let Some(part) = self.parts.front() {
            match part {
                Part::Whole(status, fields, content) => {
                    let taken = match self.begun {
                        true => reply.write(content.get(self.written..).unwrap_or_default())?,
                        false => match begin(&mut reply, *status, fields, Content::Whole(content)) {
                            Err(Misuse::NoRoom) => return Ok(false),
                            taken => taken?,
                        },
                    };
                    self.begun = true;
                    self.written += taken;
                    return Ok(self.written >= content.len());
                }
                Part::Begin(status, fields, _) => {
                    match begin(&mut reply, *status, fields, Content::Streamed) {
                        Err(Misuse::NoRoom) => return Ok(false),
                        taken => taken?,
                    };
                    if let Some(Part::Begin(_, _, taker)) = self.parts.pop_front() {
                        self.taker = Some(taker);
                    }
                }
                Part::More(bytes) => {
                    let n = reply.write(bytes.get(self.written..).unwrap_or_default())?;
                    self.written += n;
                    if let Some(Taker(credit)) = &self.taker {
                        credit.taken(n);
                    }
                    if self.written < bytes.len() {
                        return Ok(false);
                    }
                    self.written = 0;
                    self.parts.pop_front();
                }
                Part::End => match reply.finish() {
                    Err(Misuse::NoRoom) => return Ok(false),
                    said => return said.map(|()| true),
                },
                Part::Cut => {
                    reply.abort();
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn begin(reply: &mut Reply<'_>, status: u16, fields: &Fields, content: Content<'_>) -> Result<usize, Misuse> {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    reply.respond(status, &fields, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vestibule::{Config, Connection, Event, Inbox, Instant, Limits, Outbox};

    fn an_id() -> Id {
        let config = Config::new(Limits::DEFAULT);
        let mut connection = Connection::new(&config, Instant::ZERO);
        let (mut inbox, mut outbox) = (Inbox::new([0; 256]), Outbox::new([0; 2048]));
        inbox.fill(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).expect("its buffers");
        match turn.next() {
            Some(Event::Request(request)) => request.reply.id(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nobody_waits_to_write_to_a_connection_that_is_gone() {
        let mailbox = Arc::new(Mailbox::default());
        let id = an_id();
        let outlet = |mailbox: &Arc<Mailbox>| Post::new(mailbox.clone(), Key::from_bits(7)).later(id).stream(200, &[]);
        let mut lost = outlet(&mailbox);
        assert_eq!(lost.write(vec![0; UNDER_WAY]), Ok(()));
        let mut mail = Vec::new();
        mailbox.take(&mut mail);
        drop(mail); // there is no such connection any more
        assert_eq!(lost.write(vec![0; UNDER_WAY]), Err(Gone));
        mailbox.close();
        assert_eq!(outlet(&mailbox).write(vec![0; 1]), Err(Gone), "its worker has ended");
    }
}
