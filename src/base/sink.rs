//! In: bytes of a response. Out: nothing; whoever holds the room keeps them. So that the sending machines know no buffer.

/// Room to write into.
pub(crate) trait Sink {
    /// Bytes that can be appended now.
    fn room(&self) -> usize;

    /// Appends bytes for which there is room.
    fn append(&mut self, bytes: &[u8]);

    /// Appends all the parts, with what is kept for last words if need be; or nothing, and says so.
    fn put_last(&mut self, parts: &[&[u8]]) -> bool;

    /// What was appended is a response's head with this status, of 100 to 599. Every version says so of every head, and nobody else.
    fn said(&mut self, status: u16);

    /// Appends all the parts, or nothing and says so.
    fn put(&mut self, parts: &[&[u8]]) -> bool {
        let fits = parts.iter().map(|p| p.len()).sum::<usize>() <= self.room();
        if fits {
            parts.iter().for_each(|part| self.append(part));
        }
        fits
    }
}
