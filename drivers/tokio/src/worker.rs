//! In: a worker's listeners and its mail. Out: its connections, each a task on the worker's own runtime.
//!
//! ```text
//! listener tasks --accept--+
//! mail task --arrivals-----+--> a task for each connection <--letters, by its door-- mail task
//! ```

use crate::connection::{Connection, Door};
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;
use vestibule_driver::{Arrival, Buffers, How, Key, Listener, Mail, Slots, Worker};

/// So many connections are accepted at a time from one listener, before those that are open have their turn.
const ACCEPTED: usize = 64;
/// A worker that may accept no more, or that waits for its end, looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the tasks of a worker share.
struct Room {
    worker: Rc<Worker>,
    doors: RefCell<Slots<Rc<Door>>>,
    buffers: Rc<RefCell<Buffers>>,
    /// Listeners that still accept.
    listening: Cell<usize>,
    /// A connection or a listener has ended.
    ended: Notify,
}

/// Serves until the worker's time is over and nothing is left.
pub(crate) fn run(mut worker: Worker) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    if worker.shared.probe().is_some() {
        let (waits, works) = (worker.clock(), worker.clock());
        works.works(|| 0);
        runtime.on_thread_park(move || waits.waits()).on_thread_unpark(move || works.works(|| 0));
    }
    let runtime = runtime.enable_io().enable_time().build()?;
    let listeners = std::mem::take(&mut worker.listeners);
    let buffers = Rc::new(RefCell::new(worker.shared.buffers()));
    let room = Rc::new(Room {
        worker: Rc::new(worker),
        doors: RefCell::default(),
        buffers,
        listening: Cell::new(listeners.len()),
        ended: Notify::new(),
    });
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, serve(room, listeners))
}

async fn serve(room: Rc<Room>, listeners: Vec<Arc<Listener>>) -> io::Result<()> {
    let (stop, stopped) = watch::channel(false);
    for listener in listeners {
        let watch = Watch::new(listener)?;
        tokio::task::spawn_local(accept(room.clone(), watch, stopped.clone()));
    }
    let mailed = Arc::new(Notify::new());
    let wake = mailed.clone();
    room.worker.mailbox.on_mail(move || wake.notify_one());
    let mut mail = Vec::new();
    loop {
        room.worker.mailbox.take(&mut mail);
        mail.drain(..).for_each(|mail| open_mail(&room, mail));
        let stops = room.worker.is_stopping();
        if stops {
            let _ = stop.send(true);
            let mut doors = room.doors.borrow_mut();
            let keys: Vec<_> = doors.keys().collect();
            for key in keys {
                if let Some(door) = doors.get_mut(key) {
                    door.wake();
                }
            }
            if doors.is_empty() && room.listening.get() == 0 {
                return Ok(());
            }
        }
        tokio::select! {
            () = mailed.notified() => {}
            () = room.ended.notified(), if stops => {}
            () = tokio::time::sleep(LOOK_AGAIN), if stops => {}
        }
    }
}

fn open_mail(room: &Rc<Room>, mail: Mail) {
    match mail {
        Mail::Arrival(arrival) => open(room, *arrival),
        Mail::Letter(key, letter) => {
            if let Some(door) = room.doors.borrow_mut().get_mut(key) {
                door.post(letter);
            }
        }
        Mail::Stop => {}
    }
}

/// Begins a connection that is counted already.
fn open(room: &Rc<Room>, arrival: Arrival) {
    let door = Rc::new(Door::default());
    let key = room.doors.borrow_mut().insert_with(|_| door.clone());
    let place = Place { room: room.clone(), key };
    let (lane, socket) = room.worker.lane(key, arrival);
    let Ok(stream) = TcpStream::from_std(socket.into()) else { return lane.over(How::Cut) };
    let mut connection = Connection::new(lane, stream, door, room.worker.clone(), room.buffers.clone());
    tokio::task::spawn_local(async move {
        let how = (&mut connection).await;
        connection.over(how);
        drop(place);
    });
}

/// A connection's place in its worker, given up with its task, however that ends.
struct Place {
    room: Rc<Room>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.doors.borrow_mut().remove(self.key);
        self.room.ended.notify_one();
    }
}

/// A listener as the runtime watches it. Tokio's own listener does not say when it is ready without accepting, and accepting is the shared
/// listener's business, with its cap and its counts; a stream of the same socket says just that, and is asked for nothing else.
struct Watch {
    listener: Arc<Listener>,
    readiness: TcpStream,
}

impl Watch {
    fn new(listener: Arc<Listener>) -> io::Result<Watch> {
        let readiness = TcpStream::from_std(listener.socket.try_clone()?.into())?;
        Ok(Watch { listener, readiness })
    }

    /// What waits in the queue, but no more than one go's worth. `last`: also what the runtime has not heard of.
    fn accept(&self, room: &Rc<Room>, last: bool) -> Taken {
        let take = || self.listener.accept(&room.worker.shared);
        for _ in 0..ACCEPTED {
            match if last { take() } else { self.readiness.try_io(Interest::READABLE, take) } {
                Ok(arrival) => {
                    open(room, arrival);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Taken::All,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Taken::Failed,
                },
            }
        }
        Taken::Some
    }
}

/// Accepts until the worker stops, and then what had been waiting in the queue: nobody there was refused so far.
async fn accept(room: Rc<Room>, watch: Watch, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = watch.readiness.readable() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        let last = room.worker.is_stopping();
        match watch.accept(&room, last) {
            Taken::Some => tokio::task::yield_now().await,
            _ if last => break,
            Taken::All => {}
            Taken::Failed => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    room.listening.set(room.listening.get().saturating_sub(1));
    room.ended.notify_one();
}

/// What was taken from a listener's queue.
enum Taken {
    All,
    Some,
    /// No more may be open, or the system has no room for one.
    Failed,
}
