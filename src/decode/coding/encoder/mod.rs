//! In: content, in any pieces. Out: the same content coded, as much at a time as the caller has room for.

#[cfg(feature = "br-encoder")]
mod brotli;
mod deflate;
#[cfg(feature = "zstd-encoder")]
mod zstd;

use super::Coding;
use super::deflate::Adler32;
use super::gzip;
#[cfg(any(feature = "br-encoder", feature = "zstd-encoder"))]
use crate::base::memory::Held;

/// What is to become of the content that was given so far.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Flow {
    /// More follows: the encoder may keep it, to code it better.
    More,
    /// All of it goes out, so that the peer can decode it. Costs some bytes each time.
    Flush,
    /// It is complete.
    Finish,
}

/// What one step did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Coded {
    /// Bytes taken from the front of the input.
    pub consumed: usize,
    /// Bytes written to the front of the output.
    pub produced: usize,
    /// What the flow asks for is done. Else: come back with the rest of the input and more room.
    pub done: bool,
}

/// Why nothing can be coded. Never the peer's fault.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EncodeFault {
    /// This build cannot put that coding on: [`Coding::is_encodable`].
    Unsupported,
    /// There is no memory for it.
    NoMemory,
    /// The encoder gave up, or content came behind [`Flow::Finish`]. What was given so far is no complete stream.
    Broken,
}

impl core::fmt::Display for EncodeFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            EncodeFault::Unsupported => "this build cannot encode that coding",
            EncodeFault::NoMemory => "no memory for an encoder",
            EncodeFault::Broken => "the coded stream cannot go on",
        })
    }
}

impl core::error::Error for EncodeFault {}

/// What codes.
enum Engine {
    /// Identity.
    Copy,
    Deflate(deflate::Engine),
    #[cfg(feature = "zstd-encoder")]
    Zstd(Held<zstd::Engine>),
    #[cfg(feature = "br-encoder")]
    Brotli(Held<brotli::Engine>),
}

/// What frames the coded data, and which part of it is next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Part {
    /// The header, from this byte on.
    Header(usize),
    Data,
    /// The checksum and what else ends the stream, from this byte on.
    Trailer(usize),
    Done,
}

enum Sum {
    None,
    Crc(crc32fast::Hasher),
    Adler(Adler32),
}

/// A gzip member without name and time; the operating system is unknown (RFC 1952 §2.3).
const GZIP_HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A window of 32 KiB, the default level (RFC 1950 §2.2).
const ZLIB_HEADER: &[u8] = &[0x78, 0x9c];

/// The encoder of one content at a time, and then of the next one: the other way round than [`Decoder`](super::Decoder).
///
/// The caller pulls: a step takes some input and writes at most what there is room for.
///
/// ```text
///   ┌─ step(rest of the input, flow, room) ◀─┐
///   └─ take what was produced ───────────────┘ until `done`
/// ```
///
/// Cut the input as you like and give as much room as you like: the coded bytes are the same. Only [`Flow::Flush`] changes them.
///
/// | coding | by | heap, about | of one content after the other |
/// |---|---|---|---|
/// | `gzip`, `deflate` | miniz_oxide | 310 KiB | the same memory, nothing allocated |
/// | `zstd` | ruzstd, with a matcher of our own | 300 KiB and as much for the time of a block | the same, but for that |
/// | `br` | brotli, window of 64 KiB | 2 MiB | allocated anew |
///
/// ```
/// use vestibule::decode::coding::{Coding, Encoder, Flow};
/// let mut encoder = Encoder::new(Coding::Gzip)?;
/// let mut coded = [0; 64];
/// let step = encoder.step(b"hello hello hello", Flow::Finish, &mut coded)?;
/// assert!(step.done && step.consumed == 17 && coded.starts_with(&[0x1f, 0x8b]));
/// # Ok::<(), vestibule::decode::coding::EncodeFault>(())
/// ```
pub struct Encoder {
    coding: Coding,
    level: u8,
    part: Part,
    sum: Sum,
    engine: Engine,
    plain: u64,
    coded: u64,
    failed: bool,
}

impl core::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Encoder")
            .field("coding", &self.coding)
            .field("plain", &self.plain)
            .field("coded", &self.coded)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// What is chosen where nobody chooses: fast enough for every response.
    pub const LEVEL: u8 = 6;

    /// An encoder for one content, at [`Encoder::LEVEL`]. [`Coding::Identity`] copies.
    ///
    /// # Errors
    /// [`EncodeFault::Unsupported`], [`EncodeFault::NoMemory`].
    pub fn new(coding: Coding) -> Result<Encoder, EncodeFault> {
        Encoder::with_level(coding, Encoder::LEVEL)
    }

    /// The same at a level from 1, the fastest, to 9, the smallest; others count as the next of these. `zstd` has one level only.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn with_level(coding: Coding, level: u8) -> Result<Encoder, EncodeFault> {
        let level = level.clamp(1, 9);
        let engine = Engine::new(coding, level)?;
        let (part, sum) = start(coding);
        Ok(Encoder { coding, level, part, sum, engine, plain: 0, coded: 0, failed: false })
    }

    /// Another content, in the same memory where the coding allows that.
    ///
    /// # Errors
    /// As [`Encoder::new`]; it then is of no use until a reset succeeds.
    pub fn reset(&mut self, coding: Coding) -> Result<(), EncodeFault> {
        (self.part, self.sum) = start(coding);
        self.coding = coding;
        (self.plain, self.coded) = (0, 0);
        self.failed = true;
        match (&mut self.engine, coding) {
            (Engine::Copy, Coding::Identity) => {}
            (Engine::Deflate(engine), Coding::Gzip | Coding::Deflate) => engine.reset(),
            #[cfg(feature = "zstd-encoder")]
            (Engine::Zstd(engine), Coding::Zstd) => engine.reset(),
            (engine, _) => {
                *engine = Engine::Copy; // free before something else is taken
                *engine = Engine::new(coding, self.level)?;
            }
        }
        self.failed = false;
        Ok(())
    }

    /// The coding that it puts on.
    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Content taken so far.
    pub const fn plain_bytes(&self) -> u64 {
        self.plain
    }

    /// Coded bytes given so far.
    pub const fn coded_bytes(&self) -> u64 {
        self.coded
    }

    /// What it holds on the heap.
    pub fn retained_bytes(&self) -> usize {
        match &self.engine {
            Engine::Copy => 0,
            Engine::Deflate(engine) => engine.retained_bytes(),
            #[cfg(feature = "zstd-encoder")]
            Engine::Zstd(engine) => size_of::<zstd::Engine>() + engine.retained_bytes(),
            #[cfg(feature = "br-encoder")]
            Engine::Brotli(engine) => size_of::<brotli::Engine>() + engine.retained_bytes(),
        }
    }

    /// What an encoder of this coding holds at most at [`Encoder::LEVEL`], what it takes for a moment only included.
    pub const fn bound_bytes(coding: Coding) -> usize {
        match coding {
            Coding::Identity => 0,
            Coding::Gzip | Coding::Deflate => deflate::BOUND,
            #[cfg(feature = "zstd-encoder")]
            Coding::Zstd => zstd::BOUND,
            #[cfg(feature = "br-encoder")]
            Coding::Brotli => brotli::BOUND,
            #[allow(unreachable_patterns)] // each of the two may be there or not
            _ => 0,
        }
    }

    /// Takes content and writes coded bytes. Does something unless there is no room, or nothing to do.
    ///
    /// # Errors
    /// [`EncodeFault::Broken`], and from then on always.
    pub fn step(&mut self, input: &[u8], flow: Flow, output: &mut [u8]) -> Result<Coded, EncodeFault> {
        self.failed |= self.part == Part::Done && !input.is_empty();
        if self.failed {
            return Err(EncodeFault::Broken);
        }
        let mut step = Coded { consumed: 0, produced: 0, done: false };
        loop {
            let room = output.get_mut(step.produced..).unwrap_or_default();
            match self.part {
                Part::Header(from) => {
                    let header = self.header();
                    let n = put(room, header.get(from..).unwrap_or_default());
                    step.produced += n;
                    self.part = if from + n == header.len() { Part::Data } else { Part::Header(from + n) };
                    if n == 0 && self.part != Part::Data {
                        break;
                    }
                }
                Part::Data => {
                    let rest = input.get(step.consumed..).unwrap_or_default();
                    let coded = self.engine.step(rest, flow, room).inspect_err(|_| self.failed = true)?;
                    self.sum.update(rest.get(..coded.consumed).unwrap_or_default());
                    self.plain = self.plain.saturating_add(coded.consumed as u64);
                    step.consumed += coded.consumed;
                    step.produced += coded.produced;
                    if !coded.done || flow != Flow::Finish {
                        step.done = coded.done;
                        break;
                    }
                    self.part = Part::Trailer(0);
                }
                Part::Trailer(from) => {
                    let (end, length) = self.trailer();
                    let rest = end.get(from..length).unwrap_or_default();
                    let n = put(room, rest);
                    step.produced += n;
                    if n < rest.len() {
                        self.part = Part::Trailer(from + n);
                        break;
                    }
                    self.part = Part::Done;
                }
                Part::Done => {
                    step.done = true;
                    break;
                }
            }
        }
        self.coded = self.coded.saturating_add(step.produced as u64);
        Ok(step)
    }

    fn header(&self) -> &'static [u8] {
        match self.coding {
            Coding::Gzip => GZIP_HEADER,
            Coding::Deflate => ZLIB_HEADER,
            Coding::Identity | Coding::Brotli | Coding::Zstd => &[],
        }
    }

    /// What ends the stream, and how many bytes of that count.
    fn trailer(&self) -> ([u8; 8], usize) {
        match &self.sum {
            Sum::None => ([0; 8], 0),
            Sum::Crc(crc) => (gzip::trailer(crc.clone().finalize(), self.plain), 8),
            Sum::Adler(adler) => {
                let [a, b, c, d] = adler.trailer();
                ([a, b, c, d, 0, 0, 0, 0], 4)
            }
        }
    }
}

impl Engine {
    fn new(coding: Coding, level: u8) -> Result<Engine, EncodeFault> {
        match coding {
            Coding::Identity => Ok(Engine::Copy),
            Coding::Gzip | Coding::Deflate => Ok(Engine::Deflate(deflate::Engine::new(level)?)),
            #[cfg(feature = "zstd-encoder")]
            Coding::Zstd => Held::new(zstd::Engine::new()?).map(Engine::Zstd).map_err(|_| EncodeFault::NoMemory),
            #[cfg(feature = "br-encoder")]
            Coding::Brotli => {
                Held::new(brotli::Engine::new(level)).map(Engine::Brotli).map_err(|_| EncodeFault::NoMemory)
            }
            #[allow(unreachable_patterns)] // each of the two may be there or not
            _ => Err(EncodeFault::Unsupported),
        }
    }

    fn step(&mut self, input: &[u8], flow: Flow, output: &mut [u8]) -> Result<Coded, EncodeFault> {
        match self {
            Engine::Copy => {
                let n = put(output, input);
                Ok(Coded { consumed: n, produced: n, done: n == input.len() })
            }
            Engine::Deflate(engine) => engine.step(input, flow, output),
            #[cfg(feature = "zstd-encoder")]
            Engine::Zstd(engine) => engine.step(input, flow, output),
            #[cfg(feature = "br-encoder")]
            Engine::Brotli(engine) => engine.step(input, flow, output),
        }
    }
}

impl Sum {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Sum::None => {}
            Sum::Crc(crc) => crc.update(bytes),
            Sum::Adler(adler) => adler.update(bytes),
        }
    }
}

fn start(coding: Coding) -> (Part, Sum) {
    let sum = match coding {
        Coding::Gzip => Sum::Crc(crc32fast::Hasher::new()),
        Coding::Deflate => Sum::Adler(Adler32::new()),
        Coding::Identity | Coding::Brotli | Coding::Zstd => Sum::None,
    };
    (Part::Header(0), sum)
}

/// Copies as much as there is room for.
fn put(room: &mut [u8], bytes: &[u8]) -> usize {
    let n = room.len().min(bytes.len());
    if let (Some(to), Some(from)) = (room.get_mut(..n), bytes.get(..n)) {
        to.copy_from_slice(from);
    }
    n
}
