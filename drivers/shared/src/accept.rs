//! In: the results of accept calls, and the time. Out: whether to call again, wait for the socket, pause, or give up (DRV-01).
//!
//! ```text
//!              Ok                                  ECONNABORTED, EINTR, EPROTO, ..: the next one may be fine
//!   accept ----+--> Accepted                       +--> Again
//!              Err --+-- EAGAIN ---------------> Empty: wait until the socket is readable
//!                    +-- EMFILE, ENFILE -------> once more with the reserve descriptor given up, then Pause
//!                    +-- ENOMEM, ENOBUFS, others --> Pause: 5 ms, doubled each time, at most 1 s
//!                    +-- EBADF, EINVAL, .. ----> Dead: this socket does not listen
//! ```
//!
//! Nothing here calls accept, sleeps or knows a clock: [`Acceptor::accept`] is handed a closure, so that a blocking
//! thread, an event loop, a ring and a model all follow the same rules. One acceptor for each thread that accepts.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vestibule::Instant;

/// What a failed accept call says about the next one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Nothing is in the queue.
    Empty,
    /// One connection died in the queue, or a signal came: nothing about the next one.
    Passing,
    /// No descriptor is free: closing one would help.
    Descriptors,
    /// No memory for sockets, or an error that nobody foresaw: only time helps.
    Exhausted,
    /// This is no listening socket, or one that has been shut down: it never will work again.
    Dead,
}

impl Judgement {
    /// Judges an error of accept(2).
    ///
    /// Linux hands the pending network errors of a new connection to accept's caller; its manual wants them treated as those of that
    /// connection alone.
    #[cfg(unix)]
    pub fn of(error: &io::Error) -> Judgement {
        use rustix::io::Errno;
        // Of those that the manual names, ENONET is Linux's alone.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if error.raw_os_error() == Some(Errno::NONET.raw_os_error()) {
            return Judgement::Passing;
        }
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Judgement::Empty,
            Some(Errno::MFILE | Errno::NFILE) => Judgement::Descriptors,
            Some(
                Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::PERM
                | Errno::CONNRESET
                | Errno::TIMEDOUT
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH,
            ) => Judgement::Passing,
            Some(Errno::BADF | Errno::NOTSOCK | Errno::INVAL) => Judgement::Dead,
            _ => Judgement::of_kind(error.kind()),
        }
    }

    /// Judges an error of accept.
    #[cfg(not(unix))]
    pub fn of(error: &io::Error) -> Judgement {
        Judgement::of_kind(error.kind())
    }

    fn of_kind(kind: ErrorKind) -> Judgement {
        match kind {
            ErrorKind::WouldBlock => Judgement::Empty,
            ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => Judgement::Passing,
            ErrorKind::InvalidInput => Judgement::Dead,
            _ => Judgement::Exhausted,
        }
    }
}

/// How long to wait after failures: 5 ms, doubled each time, at most 1 s.
#[derive(Copy, Clone, Default, Debug)]
pub struct Backoff {
    wait: Duration,
}

impl Backoff {
    /// The first pause.
    pub const FIRST: Duration = Duration::from_millis(5);
    /// The longest.
    pub const MOST: Duration = Duration::from_secs(1);

    /// It worked again: the next failure begins anew.
    pub fn worked(&mut self) {
        self.wait = Duration::ZERO;
    }

    /// It failed: how long to wait.
    pub fn failed(&mut self) -> Duration {
        self.wait = self.wait.saturating_mul(2).clamp(Self::FIRST, Self::MOST);
        self.wait
    }
}

/// At most one line in five seconds, for all who share it.
#[derive(Default, Debug)]
pub struct Quiet {
    /// When the next line may come, in nanoseconds of the machine's time.
    next: AtomicU64,
}

impl Quiet {
    /// How long it is quiet after a line.
    pub const SILENCE: Duration = Duration::from_secs(5);

    /// Whether a line may be written now; if so, none may for a while.
    pub fn due(&self, now: Instant) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let later = now.after(Self::SILENCE).as_nanos();
        now.as_nanos() >= next && self.next.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// One descriptor held back. When there is no other, it is given up: then one connection can be taken out of the queue and closed, so
/// that its peer knows at once rather than after a timeout.
#[derive(Default, Debug)]
pub struct Reserve {
    held: Option<File>,
}

impl Reserve {
    /// A reserve that is held, if a descriptor is free.
    pub fn new() -> Reserve {
        let mut reserve = Reserve::default();
        reserve.take();
        reserve
    }

    /// Takes the descriptor again. False: none is free.
    pub fn take(&mut self) -> bool {
        if self.held.is_none() {
            self.held = File::open(if cfg!(windows) { "NUL" } else { "/dev/null" }).ok();
        }
        self.held.is_some()
    }

    /// Gives the descriptor up.
    pub fn give_up(&mut self) {
        self.held = None;
    }
}

/// What an acceptor is to do next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Accept<S> {
    /// A connection.
    Accepted(S),
    /// Call again.
    Again,
    /// The queue is empty: wait until the socket is readable.
    Empty,
    /// Do not ask before this time, and do not wait for the socket either: it is readable all the time.
    Pause(Instant),
    /// This socket will never give a connection again.
    Dead,
}

/// A line for the log: accepting fails.
#[derive(Debug)]
pub struct Trouble {
    /// What the system said last.
    pub error: io::Error,
    /// How many calls of this acceptor failed so, since it last had a line.
    pub failures: u64,
    /// How many connections it closed with the reserve descriptor, since then.
    pub shed: u64,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trouble { error, failures, shed } = self;
        write!(f, "cannot accept: {error} (failures {failures}, connections closed {shed})")
    }
}

/// The rules of accepting, for one thread.
///
/// ```
/// use std::io::{Error, ErrorKind};
/// use vestibule::Instant;
/// use vestibule_driver::accept::{Accept, Acceptor};
///
/// let mut acceptor = Acceptor::default();
/// let (accept, _) = acceptor.accept(Instant::ZERO, || Err::<(), _>(ErrorKind::ConnectionAborted.into()));
/// assert_eq!(accept, Accept::Again);
/// let (accept, line) = acceptor.accept(Instant::ZERO, || Err::<(), _>(ErrorKind::OutOfMemory.into()));
/// assert_eq!(accept, Accept::Pause(Instant::from_millis(5)));
/// assert!(line.is_some_and(|line| line.failures == 1));
/// ```
#[derive(Debug)]
pub struct Acceptor {
    backoff: Backoff,
    /// No call before this.
    until: Option<Instant>,
    /// Descriptors were exhausted at the last call: the next one gives up the reserve.
    exhausted: bool,
    /// Passing errors in a row.
    passing: u32,
    failures: u64,
    shed: u64,
    reserve: Reserve,
    quiet: Arc<Quiet>,
}

impl Default for Acceptor {
    fn default() -> Acceptor {
        Acceptor::new(Arc::default())
    }
}

impl Acceptor {
    /// So many passing errors in a row are none: a filter that forbids the call itself says EPERM for ever.
    const PASSING: u32 = 16;

    /// With a reserve descriptor of its own. Its lines are as rare as `quiet` wants.
    pub fn new(quiet: Arc<Quiet>) -> Acceptor {
        Acceptor {
            backoff: Backoff::default(),
            until: None,
            exhausted: false,
            passing: 0,
            failures: 0,
            shed: 0,
            reserve: Reserve::new(),
            quiet,
        }
    }

    /// Until when it pauses.
    pub fn paused(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|&until| now < until)
    }

    /// Asks `accept` for one connection, unless it is to pause; `accept` is called twice at most, and only once while descriptors
    /// remain exhausted. Sometimes there is a line for the log.
    pub fn accept<S>(
        &mut self,
        now: Instant,
        mut accept: impl FnMut() -> io::Result<S>,
    ) -> (Accept<S>, Option<Trouble>) {
        if let Some(until) = self.paused(now) {
            return (Accept::Pause(until), None);
        }
        self.until = None;
        if !self.exhausted {
            match self.judge(now, accept()) {
                (Accept::Again, None) if self.exhausted => {} // with the reserve, at once
                done => return done,
            }
        }
        self.reserve.give_up();
        let result = accept();
        // Can it be taken again although the connection is there? Then descriptors are free, and the connection is served.
        let free = self.reserve.take();
        match result {
            Ok(connection) if !free => {
                drop(connection);
                self.reserve.take();
                self.shed = self.shed.saturating_add(1);
                self.pause(now, too_many())
            }
            Err(error) if Judgement::of(&error) == Judgement::Descriptors => self.pause(now, error),
            result => {
                self.exhausted = false;
                self.judge(now, result)
            }
        }
    }

    /// The same for a driver whose accepts are not calls, but come as completions: what to do after this result. `Again` after
    /// an error of exhausted descriptors means: call [`Acceptor::accept`] with a plain, non-blocking accept call.
    pub fn judge<S>(&mut self, now: Instant, result: io::Result<S>) -> (Accept<S>, Option<Trouble>) {
        let error = match result {
            Ok(connection) => {
                self.backoff.worked();
                self.passing = 0;
                return (Accept::Accepted(connection), None);
            }
            Err(error) => error,
        };
        match Judgement::of(&error) {
            Judgement::Empty => {
                self.passing = 0;
                (Accept::Empty, None)
            }
            Judgement::Passing if self.passing < Self::PASSING => {
                self.passing += 1;
                (Accept::Again, None)
            }
            Judgement::Dead => (Accept::Dead, None),
            Judgement::Descriptors if !self.exhausted => {
                self.exhausted = true;
                self.failures = self.failures.saturating_add(1);
                (Accept::Again, None)
            }
            Judgement::Passing | Judgement::Descriptors | Judgement::Exhausted => self.pause(now, error),
        }
    }

    fn pause<S>(&mut self, now: Instant, error: io::Error) -> (Accept<S>, Option<Trouble>) {
        let until = now.after(self.backoff.failed());
        self.until = Some(until);
        self.failures = self.failures.saturating_add(1);
        let line = self.quiet.due(now).then(|| Trouble {
            error,
            failures: std::mem::take(&mut self.failures),
            shed: std::mem::take(&mut self.shed),
        });
        (Accept::Pause(until), line)
    }
}

/// The error that made us give up the reserve.
#[cfg(unix)]
fn too_many() -> io::Error {
    rustix::io::Errno::MFILE.into()
}

#[cfg(not(unix))]
fn too_many() -> io::Error {
    ErrorKind::Other.into()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::collections::VecDeque;

    const SECOND: u64 = 1_000_000_000;

    fn fails(errno: Errno) -> io::Result<u32> {
        Err(errno.into())
    }

    #[test]
    fn ten_thousand_exhaustions_cost_few_calls_and_few_lines_and_then_it_recovers() {
        let mut acceptor = Acceptor::default();
        let (mut now, mut calls, mut lines) = (Instant::ZERO, VecDeque::new(), Vec::new());
        let (mut left, mut accepted) = (10_000, None);
        while accepted.is_none() {
            let (accept, line) = acceptor.accept(now, || {
                calls.push_back(now.as_nanos());
                let busy = left > 0;
                left -= i32::from(busy);
                if busy { fails(Errno::MFILE) } else { Ok(7) }
            });
            // A call right now and nine more within a second.
            while calls.front().is_some_and(|&then| now.as_nanos() - then >= SECOND) {
                calls.pop_front();
            }
            assert!(calls.len() <= 10, "{} calls within a second, {now:?}", calls.len());
            if line.is_some() {
                lines.push(now.as_nanos());
            }
            match accept {
                Accept::Pause(until) => now = until,
                Accept::Accepted(connection) => accepted = Some(connection),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((accepted, left), (Some(7), 0));
        assert!(lines.windows(2).all(|pair| pair[1] - pair[0] >= 5 * SECOND), "a line in five seconds at most");
        assert!(lines.len() > 1_000, "and it goes on saying so");
        let (accept, line) = acceptor.accept(now, || Ok(8));
        assert_eq!((accept, line.is_none()), (Accept::Accepted(8), true), "as if nothing had been");
        let until = now.after(Backoff::FIRST);
        assert_eq!(acceptor.accept(now, || fails(Errno::NOMEM)).0, Accept::Pause(until), "and patience begins anew");
    }

    #[test]
    fn a_driver_that_asks_too_often_makes_no_calls() {
        let mut acceptor = Acceptor::default();
        assert!(matches!(acceptor.accept(Instant::ZERO, || fails(Errno::NOBUFS)).0, Accept::Pause(_)));
        let early = Instant::from_nanos(4_999_999);
        let (accept, line) = acceptor.accept(early, || -> io::Result<u32> { panic!("it pauses") });
        assert_eq!((accept, line.is_none()), (Accept::Pause(Instant::from_millis(5)), true));
        assert_eq!(acceptor.accept(Instant::from_millis(5), || Ok(1)).0, Accept::Accepted(1));
    }

    #[test]
    fn a_descriptor_that_is_free_again_at_the_second_call_serves_the_connection() {
        let mut acceptor = Acceptor::default();
        let mut results = VecDeque::from([fails(Errno::MFILE), Ok(1), Ok(2)]);
        let mut next = || results.pop_front().unwrap_or(fails(Errno::AGAIN));
        // This process has descriptors: the reserve can be had again, so the connection is not closed.
        assert_eq!(acceptor.accept(Instant::ZERO, &mut next).0, Accept::Accepted(1));
        assert_eq!(acceptor.accept(Instant::ZERO, &mut next).0, Accept::Accepted(2));
        assert_eq!(acceptor.accept(Instant::ZERO, &mut next).0, Accept::Empty);
    }

    #[test]
    fn errors_of_one_connection_say_nothing_about_the_next_unless_they_never_end() {
        let passing = [
            Errno::CONNABORTED,
            Errno::INTR,
            Errno::PROTO,
            Errno::PERM,
            Errno::NETDOWN,
            Errno::HOSTUNREACH,
            Errno::OPNOTSUPP,
            Errno::TIMEDOUT,
        ];
        for errno in passing {
            let mut acceptor = Acceptor::default();
            for _ in 0..Acceptor::PASSING {
                assert_eq!(acceptor.accept(Instant::ZERO, || fails(errno)).0, Accept::Again, "{errno:?}");
            }
            assert!(matches!(acceptor.accept(Instant::ZERO, || fails(errno)).0, Accept::Pause(_)), "{errno:?}");
            assert_eq!(acceptor.accept(Instant::from_millis(5), || Ok(1)).0, Accept::Accepted(1));
            assert_eq!(acceptor.accept(Instant::from_millis(5), || fails(errno)).0, Accept::Again, "counted anew");
        }
    }

    #[test]
    fn what_is_no_listening_socket_is_dead() {
        for errno in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert_eq!(Acceptor::default().accept(Instant::ZERO, || fails(errno)).0, Accept::Dead, "{errno:?}");
        }
    }

    #[test]
    fn those_who_share_a_quiet_share_its_lines() {
        let quiet = Arc::new(Quiet::default());
        let mut acceptors: Vec<_> = (0..8).map(|_| Acceptor::new(quiet.clone())).collect();
        let mut lines = 0;
        for second in 0..20 {
            for acceptor in &mut acceptors {
                let now = Instant::from_millis(second * 1_000);
                lines += i32::from(acceptor.accept(now, || fails(Errno::NFILE)).1.is_some());
            }
        }
        assert_eq!(lines, 4);
    }

    #[test]
    fn a_completion_without_descriptors_asks_for_a_call_with_the_reserve() {
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.judge(Instant::ZERO, fails(Errno::MFILE)).0, Accept::Again);
        let mut calls = 0;
        let (accept, _) = acceptor.accept(Instant::ZERO, || {
            calls += 1;
            fails(Errno::MFILE)
        });
        assert_eq!((accept, calls), (Accept::Pause(Instant::from_millis(5)), 1));
    }
}
