//! The ledger against a model in which every single byte has a place: random programs of a hundred streams that are streamed,
//! coded, paused, gathered, jobbed, handed out and reset. After every step: what was granted is what is open, held and owed.

use super::*;
use std::vec::Vec;

const CONNECTION: u32 = 1 << 20;
const STREAM: u32 = 65_536;
const POOL: u64 = 1 << 20;

/// Where a byte is, in the model.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Place {
    Lent,
    Kept,
    Handed,
}

#[derive(Default)]
struct Model {
    /// Runs of bytes with their places, for each stream.
    bytes: Vec<(Place, u32)>,
    granted: u64,
    arrived: u64,
    gathered: u64,
}

impl Model {
    fn at(&self, place: Place) -> u32 {
        self.bytes.iter().filter(|b| b.0 == place).map(|b| b.1).sum()
    }

    fn take(&mut self, place: Place, mut n: u32) {
        for run in self.bytes.iter_mut().filter(|b| b.0 == place) {
            let part = n.min(run.1);
            run.1 -= part;
            n -= part;
        }
        assert_eq!(n, 0, "more was moved than there was");
        self.bytes.retain(|b| b.1 > 0);
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as u32) % n.max(1)
    }
}

struct World {
    ledger: Ledger,
    streams: Vec<(Account, Model)>,
    connection_granted: u64,
    connection_arrived: u64,
    dice: Dice,
}

impl World {
    fn new(seed: u64) -> World {
        let fresh = || (Account::new(STREAM), Model { granted: u64::from(STREAM), ..Model::default() });
        World {
            ledger: Ledger::new(CONNECTION),
            streams: (0..100).map(|_| fresh()).collect(),
            connection_granted: u64::from(CONNECTION),
            connection_arrived: 0,
            dice: Dice(seed | 1),
        }
    }

    fn step(&mut self) {
        let at = self.dice.below(100) as usize;
        let what = self.dice.below(12);
        let (account, model) = &mut self.streams[at];
        let ledger = &mut self.ledger;
        match what {
            // DATA comes, sometimes more than may.
            0..4 => {
                let n = self.dice.below(20_000);
                let outcome = ledger.arrive(account, n);
                let (stream, all) = (model.granted - model.arrived, self.connection_granted - self.connection_arrived);
                match outcome {
                    Ok(()) => {
                        assert!(u64::from(n) <= stream && u64::from(n) <= all);
                        model.arrived += u64::from(n);
                        self.connection_arrived += u64::from(n);
                        model.bytes.push((Place::Lent, n));
                    }
                    Err(Exceeded::Connection) => assert!(u64::from(n) > all),
                    Err(Exceeded::Stream) => assert!(u64::from(n) > stream),
                }
            }
            4 => {
                let n = self.dice.below(model.at(Place::Lent) + 1);
                ledger.keep(account, n);
                model.take(Place::Lent, n);
                model.bytes.push((Place::Kept, n));
            }
            5 => {
                let n = self.dice.below(model.at(Place::Kept) + 1);
                ledger.lend_kept(account, n);
                model.take(Place::Kept, n);
                model.bytes.push((Place::Lent, n));
            }
            6 => {
                let n = self.dice.below(model.at(Place::Lent) + 1);
                ledger.hand(account, n);
                model.take(Place::Lent, n);
                model.bytes.push((Place::Handed, n));
            }
            7 => {
                let left = self.dice.below(model.at(Place::Handed) + 1);
                ledger.release(account, left);
                let n = model.at(Place::Handed) - left;
                model.take(Place::Handed, n);
            }
            // A gathered body: the lent bytes are copied into the pool, and free.
            8 => {
                let n = model.at(Place::Lent);
                if ledger.gather(u64::from(n), POOL) {
                    model.gathered += u64::from(n);
                    ledger.free(account, n);
                    model.take(Place::Lent, n);
                }
            }
            9 => {
                let n = model.at(Place::Lent);
                ledger.free(account, n);
                model.take(Place::Lent, n);
            }
            // A reset, or the end: another stream takes its place.
            10 if self.dice.below(4) == 0 => {
                ledger.reset(account);
                ledger.ungather(model.gathered);
                *account = Account::new(STREAM);
                *model = Model { granted: u64::from(STREAM), ..Model::default() };
            }
            _ => {
                let manual = self.dice.below(2) == 0;
                let due = if manual { ledger.grant_to_manual(account) } else { account.grant(CONNECTION) };
                model.granted += u64::from(due);
                self.connection_granted += u64::from(ledger.grant());
            }
        }
    }

    fn check(&self) {
        let (mut held, mut gathered, mut shared) = (0, 0, 0);
        for (account, model) in &self.streams {
            assert!(account.is_balanced());
            assert_eq!(u64::from(account.open()), model.granted - model.arrived);
            assert_eq!(account.lent, model.at(Place::Lent));
            assert_eq!(account.kept(), model.at(Place::Kept));
            assert_eq!(account.handed(), model.at(Place::Handed));
            assert!(account.size() <= CONNECTION, "a window grows to the connection's at most");
            held += account.lent + account.kept;
            gathered += model.gathered;
            shared += account.shared;
        }
        assert_eq!(self.ledger.shared(), shared);
        assert!(shared <= CONNECTION / 2, "half of it is left, whatever handlers hold back");
        let connection = self.ledger.connection();
        assert!(connection.is_balanced());
        assert_eq!(connection.held(), held, "the connection holds what its streams lend and keep");
        assert_eq!(u64::from(connection.open()), self.connection_granted - self.connection_arrived);
        assert_eq!(self.ledger.gathered(), gathered);
        assert!(gathered <= POOL);
    }
}

#[test]
fn every_byte_has_one_holder_in_random_programs_of_a_hundred_streams() {
    for seed in 0..30 {
        let mut world = World::new(seed * 7919 + 1);
        for _ in 0..3000 {
            world.step();
            world.check();
        }
        // Whatever happened: when all streams are gone, everything is due to the peer again.
        for (account, model) in &mut world.streams {
            world.ledger.reset(account);
            world.ledger.ungather(model.gathered);
        }
        world.ledger.grant();
        assert_eq!(world.ledger.shared(), 0);
        let connection = world.ledger.connection();
        assert_eq!(connection.open() + connection.owed(), CONNECTION);
        assert_eq!(world.ledger.gathered(), 0);
    }
}

#[test]
fn grants_do_not_depend_on_how_the_bytes_were_cut() {
    let total = |piece: u32| {
        let (mut ledger, mut account) = (Ledger::new(CONNECTION), Account::new(STREAM));
        let (mut stream, mut connection) = (0, 0);
        for _ in 0..60_000 / piece {
            ledger.arrive(&mut account, piece).expect("inside both windows");
            ledger.free(&mut account, piece);
            stream += account.grant(CONNECTION);
            connection += ledger.grant();
        }
        (stream, connection)
    };
    for piece in [1, 10, 100, 1000, 12_000, 30_000, 60_000] {
        assert_eq!(total(piece), (98_304, 49_152), "{piece} bytes at a time");
    }
}

#[test]
fn a_window_doubles_with_each_window_that_was_consumed_until_it_is_the_connections() {
    let (mut ledger, mut account) = (Ledger::new(CONNECTION), Account::new(STREAM));
    let mut sizes = std::vec![account.size()];
    for _ in 0..6 {
        let n = account.open();
        ledger.arrive(&mut account, n).expect("the window itself");
        ledger.free(&mut account, n);
        account.grant(CONNECTION);
        ledger.grant();
        sizes.push(account.size());
    }
    assert_eq!(sizes, [65_536, 131_072, 262_144, 524_288, 1_048_576, 1_048_576, 1_048_576]);
}
