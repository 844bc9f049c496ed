//! In: what other threads have for a worker: connections, answers, results. Out: all of it at once, after one wake-up.

use crate::lane::Letter;
use crate::port::Arrival;
use crate::slots::Key;
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Something for a worker.
#[derive(Debug)]
pub enum Mail {
    /// A connection that was accepted elsewhere.
    Arrival(Box<Arrival>),
    /// Something for one connection: [`Lane::receive`](crate::Lane::receive), if it is still there.
    Letter(Key, Letter),
    /// The server stops, or this worker is to end: look at [`Worker::is_stopping`](crate::Worker::is_stopping).
    Stop,
}

#[derive(Default)]
struct Waiting {
    mail: Vec<Mail>,
    /// Nobody takes it any more.
    closed: bool,
}

type Wake = Box<dyn Fn() + Send + Sync>;

/// Where a worker finds its mail. What lies in it is bounded by what the worker's connections have under way.
#[derive(Default)]
pub struct Mailbox {
    mail: Mutex<Waiting>,
    wake: OnceLock<Wake>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("waiting", &self.lock().mail.len()).finish_non_exhaustive()
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How its worker is woken where it waits. To be set once, before the worker waits for the first time; if there is mail already, it is called at once.
    pub fn on_mail(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
        if !self.is_empty() {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Puts something in. Only the first of what lies there wakes the worker.
    pub fn post(&self, mail: Mail) {
        let first = {
            let mut waiting = self.lock();
            if waiting.closed {
                drop(waiting);
                return drop(mail); // which may post something itself
            }
            waiting.mail.push(mail);
            waiting.mail.len() == 1
        };
        if first {
            self.wake();
        }
    }

    /// Takes all that is there, in the order in which it came. `into` is empty, and its storage is used for what comes next.
    pub fn take(&self, into: &mut Vec<Mail>) {
        std::mem::swap(&mut self.lock().mail, into);
    }

    /// Nothing waits in it.
    pub fn is_empty(&self) -> bool {
        self.lock().mail.is_empty()
    }

    /// Its worker has ended: here is what still lay in it. What comes later is dropped; connections among it are closed.
    pub fn close(&self) -> Vec<Mail> {
        let mut waiting = self.lock();
        waiting.closed = true;
        std::mem::take(&mut waiting.mail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn nothing_is_kept_for_a_worker_that_has_ended() {
        let mailbox = Mailbox::default();
        mailbox.post(Mail::Stop);
        assert_eq!(mailbox.close().len(), 1);
        mailbox.post(Mail::Stop);
        assert!(mailbox.is_empty());
    }

    #[test]
    fn many_letters_are_one_wake_up() {
        let (mailbox, woken) = (Mailbox::default(), Arc::new(AtomicUsize::new(0)));
        mailbox.post(Mail::Stop);
        let count = woken.clone();
        mailbox.on_mail(move || _ = count.fetch_add(1, Ordering::Relaxed));
        for _ in 0..1000 {
            mailbox.post(Mail::Stop);
        }
        let mut mail = Vec::new();
        mailbox.take(&mut mail);
        assert_eq!((mail.len(), woken.load(Ordering::Relaxed)), (1001, 1));
        mail.clear();
        mailbox.post(Mail::Stop);
        assert_eq!(woken.load(Ordering::Relaxed), 2);
    }
}
