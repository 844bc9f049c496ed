//! In: a JSON text, whole. Out: that it is one by RFC 8259 and inside the limits, or the rule it breaks and where.
//!
//! The grammar is that of `grammar`, in one piece; what is added are duplicate keys: the keys of an object are looked at
//! once more when it ends, see `keys`.

use super::grammar::{Event, Machine, Piece};
use super::keys::Keys;
use crate::base::{Limits, Violation};

pub(super) fn run(text: &[u8], limits: &Limits, mut keys: Keys<'_>) -> Result<(), Violation> {
    let mut machine = Machine::new(usize::MAX);
    machine.wanted = false;
    let mut piece = Piece::new(text, true, limits, &mut []);
    // Keys of the innermost open object: the first is number `base`.
    let mut base = 0;
    loop {
        match machine.step(&mut piece) {
            Event::More => return Ok(()),
            Event::Fault => return piece.fault.map_or(Ok(()), Err),
            Event::ObjectStart => {
                // Where the keys of the object around begin is kept in the stack of keys, below those of the new one.
                keys.push(base, machine.start() as usize)?;
                base = keys.len();
                machine.keys = 0;
            }
            Event::ObjectEnd => {
                keys.end_object(base, text)?;
                base = keys.pop();
                machine.keys = keys.len().saturating_sub(base);
            }
            Event::Key => {
                let start = (machine.start() as usize).saturating_add(1);
                keys.push(start, start)?;
            }
            _ => {}
        }
    }
}
