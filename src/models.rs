//! placeholder
use crate::parse::Exchange; use crate::{Misuse, Content, Limits}; use crate::read::OutboxMut; use crate::turn::*;
#[derive(Debug)] pub(crate) struct Streams; #[derive(Debug)] pub(crate) struct Receiver;
#[derive(Debug)] pub(crate) struct Stream { pub(crate) shared: Exchange }
type F<'f> = &'f [(&'f str, &'f str)];
impl Streams { pub(crate) fn get(&mut self, _id: u64) -> Option<&mut Stream> { None } }
impl Receiver { pub(crate) fn arena(&self) -> &[u8] { &[] } }
pub(crate) fn step(_: &mut Turn<'_>) -> Step { Step::Pause(Pause::Closed) }
impl Stream {
 pub(crate) fn respond(&mut self, _: &mut OutboxMut<'_>, _: &Limits, _: u16, _: F<'_>, _: Content<'_>) -> Result<usize, Misuse> { Ok(0) }
 pub(crate) fn write(&mut self, _: &mut OutboxMut<'_>, _: &[u8]) -> Result<usize, Misuse> { Ok(0) }
 pub(crate) fn finish(&mut self, _: &mut OutboxMut<'_>) -> Result<(), Misuse> { Ok(()) }
 pub(crate) fn trailers(&mut self, _: &mut OutboxMut<'_>, _: &Limits, _: F<'_>) -> Result<(), Misuse> { Ok(()) }
 pub(crate) fn inform(&mut self, _: &mut OutboxMut<'_>, _: &Limits, _: u16, _: F<'_>) -> Result<(), Misuse> { Ok(()) }
 pub(crate) fn upgrade(&mut self, _: &mut OutboxMut<'_>, _: &Limits, _: &str, _: F<'_>) -> Result<(), Misuse> { Ok(()) }
 pub(crate) fn placed(&mut self, _: usize) -> Result<bool, Misuse> { Ok(true) }
}
