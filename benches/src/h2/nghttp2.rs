//! In: a client's bytes. Out: nghttp2's answers, through its C interface, and what its decoder makes of header blocks.
//!
//! The only unsafe code here: a foreign library cannot be called without. The declarations are those of `nghttp2.h`, as
//! far as they are needed. What it allocates is counted with the rest.

#![allow(unsafe_code)]

use super::{Answer, BATCH, BUFFER, Ear, Kind, Parts, Server, TABLE, TEXT, WINDOW};
use crate::measure::{self, Work};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::ptr::{null, null_mut};
use std::rc::Rc;

/// What is smaller is gathered into one buffer, as a server does before it writes; what is larger is written from where
/// it lies.
const GATHERED: usize = 1_024;

pub(crate) struct Nghttp2 {
    session: *mut Session,
    /// What the callbacks see: a box, whose address the library has.
    seen: *mut Seen,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    ear: Rc<RefCell<Ear>>,
}

struct Seen {
    answer: Answer,
    /// How much of the download has been sent.
    at: usize,
}

impl Server for Nghttp2 {
    fn new(answer: Answer, ear: Rc<RefCell<Ear>>) -> Nghttp2 {
        let seen = Box::into_raw(Box::new(Seen { answer, at: 0 }));
        let settings = [(3, BATCH as u32), (4, WINDOW), (9, 1)].map(|(id, value)| Setting { id, value });
        let (mut callbacks, mut option, mut session) = (null_mut(), null_mut(), null_mut());
        // SAFETY: the pointers that the library writes are ours, and its result says whether it did; it copies
        // callbacks, options and settings; `seen` and `MEMORY` outlive the session.
        unsafe {
            done(nghttp2_session_callbacks_new(&mut callbacks));
            nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
            nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
            nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
            done(nghttp2_option_new(&mut option));
            // As nghttp2's own proxy has it: closed streams serve nothing but the old priorities.
            nghttp2_option_set_no_closed_streams(option, 1);
            done(nghttp2_session_server_new3(
                &mut session,
                callbacks,
                seen.cast(),
                option,
                (&raw const MEMORY).cast_mut(),
            ));
            nghttp2_option_del(option);
            nghttp2_session_callbacks_del(callbacks);
            done(nghttp2_submit_settings(session, 0, settings.as_ptr(), settings.len()));
            done(nghttp2_session_set_local_window_size(session, 0, 0, WINDOW as i32));
        }
        Nghttp2 { session, seen, inbox: vec![0; BUFFER], outbox: Vec::with_capacity(BUFFER), ear }
    }

    fn serve(&mut self, bytes: &mut Vec<u8>) {
        for part in bytes.chunks(BUFFER) {
            // As if it had been received: the others fill a buffer, too.
            let inbox = &mut self.inbox[..part.len()];
            inbox.copy_from_slice(part);
            // SAFETY: the session lives; the slice is read during the call.
            let taken = unsafe { nghttp2_session_mem_recv(self.session, inbox.as_ptr(), inbox.len()) };
            assert_eq!(usize::try_from(taken), Ok(part.len()), "good bytes");
        }
        loop {
            let mut said = null();
            // SAFETY: the session lives; what it says stays until it is called again.
            let part = unsafe {
                match usize::try_from(nghttp2_session_mem_send(self.session, &mut said)).expect("an open session") {
                    0 => break,
                    len => std::slice::from_raw_parts(said, len),
                }
            };
            if self.outbox.len() + part.len() > BUFFER || part.len() >= GATHERED {
                self.flush();
            }
            if part.len() >= GATHERED {
                self.ear.borrow_mut().hear(part);
            } else {
                self.outbox.extend_from_slice(part);
            }
        }
        self.flush();
    }
}

impl Nghttp2 {
    fn flush(&mut self) {
        self.ear.borrow_mut().hear(&self.outbox);
        self.outbox.clear();
    }
}

impl Drop for Nghttp2 {
    fn drop(&mut self) {
        // SAFETY: both were made in `new`; this is the last that is done with them.
        unsafe {
            nghttp2_session_del(self.session);
            drop(Box::from_raw(self.seen));
        }
    }
}

fn done(result: c_int) {
    assert_eq!(result, 0, "nghttp2 refuses");
}

extern "C" fn on_header(
    _: *mut Session,
    _: *const FrameHeader,
    name: *const u8,
    name_len: usize,
    value: *const u8,
    value_len: usize,
    _: u8,
    _: *mut c_void,
) -> c_int {
    black_box((name, name_len, value, value_len));
    0
}

extern "C" fn on_data(_: *mut Session, _: u8, _: i32, data: *const u8, len: usize, _: *mut c_void) -> c_int {
    black_box((data, len));
    0
}

extern "C" fn on_frame(session: *mut Session, frame: *const FrameHeader, user: *mut c_void) -> c_int {
    // SAFETY: every frame begins with its header; `user` is the `Seen` of this session, at which nobody else looks now.
    let (frame, seen) = unsafe { (&*frame, &mut *user.cast::<Seen>()) };
    if frame.kind > 1 || frame.flags & 1 == 0 {
        return 0;
    }
    let fields = [(":status", "200"), ("content-type", TEXT), ("content-length", seen.answer.length())];
    // Neither names nor values need be copied (6): they are static.
    let fields = fields.map(|(name, value)| NameValue {
        name: name.as_ptr(),
        value: value.as_ptr(),
        name_len: name.len(),
        value_len: value.len(),
        flags: 6,
    });
    let source = Source { source: null_mut(), read };
    seen.at = 0;
    // SAFETY: the session is the one that calls us; the fields' text is static, the arrays are copied.
    unsafe { nghttp2_submit_response(session, frame.stream, fields.as_ptr(), fields.len(), &source) }
}

/// More content: as much as there is room for.
extern "C" fn read(
    _: *mut Session,
    _: i32,
    into: *mut u8,
    room: usize,
    flags: *mut u32,
    _: *mut c_void,
    user: *mut c_void,
) -> isize {
    // SAFETY: as above; `into` has room for `room` bytes, and `flags` is a place of the library's.
    unsafe {
        let seen = &mut *user.cast::<Seen>();
        let content = match seen.answer {
            Answer::Hello => seen.answer.content(), // many streams at once, each of them takes it at once
            Answer::Download => &seen.answer.content()[seen.at..],
        };
        let n = content.len().min(room);
        std::ptr::copy_nonoverlapping(content.as_ptr(), into, n);
        seen.at += n;
        if n == content.len() {
            *flags = 1;
        }
        n as isize
    }
}

/// Header blocks, each decoded to its lines.
pub(crate) fn unpack(kind: Kind, parts: Parts, n: usize) -> Work {
    let mut inflater = Inflater::new();
    let mut first = String::new();
    inflater.decode(&parts.borrow()[0], |name, value| {
        let [name, value] = [name, value].map(String::from_utf8_lossy);
        first.push_str(&format!("{name}: {value}\r\n"));
    });
    assert_eq!(first, kind.text(0));
    Box::new(move || {
        for block in &parts.borrow()[1..=n] {
            inflater.decode(block, |name, value| {
                black_box((name, value));
            });
        }
    })
}

struct Inflater(*mut c_void);

impl Inflater {
    fn new() -> Inflater {
        let mut inflater = null_mut();
        // SAFETY: as for the session. The size is that of the settings: 4,096 is the default.
        unsafe { done(nghttp2_hd_inflate_new2(&mut inflater, (&raw const MEMORY).cast_mut())) };
        const { assert!(TABLE == 4_096) };
        Inflater(inflater)
    }

    fn decode(&mut self, mut block: &[u8], mut field: impl FnMut(&[u8], &[u8])) {
        loop {
            let (mut line, mut flags) = (NameValue::default(), 0);
            // SAFETY: the inflater lives, and the block during the call; a line that it emits stays until the next.
            unsafe {
                let taken = nghttp2_hd_inflate_hd2(self.0, &mut line, &mut flags, block.as_ptr(), block.len(), 1);
                block = &block[usize::try_from(taken).expect("a good block")..];
                if flags & 2 != 0 {
                    let name = std::slice::from_raw_parts(line.name, line.name_len);
                    field(name, std::slice::from_raw_parts(line.value, line.value_len));
                }
                if flags & 1 != 0 {
                    nghttp2_hd_inflate_end_headers(self.0);
                    return;
                }
            }
        }
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: made in `new`, not used again.
        unsafe { nghttp2_hd_inflate_del(self.0) }
    }
}

// ---- memory: the C library's, counted

/// The library keeps the address, and only reads.
static MEMORY: Memory =
    Memory { user: 0, malloc: counted_malloc, free: plain_free, calloc: counted_calloc, realloc: counted_realloc };

extern "C" fn counted_malloc(size: usize, _: *mut c_void) -> *mut c_void {
    measure::allocated();
    // SAFETY: this and the next three pass on what nghttp2 asks for, unchanged.
    unsafe { malloc(size) }
}

extern "C" fn plain_free(block: *mut c_void, _: *mut c_void) {
    unsafe { free(block) }
}

extern "C" fn counted_calloc(count: usize, size: usize, _: *mut c_void) -> *mut c_void {
    measure::allocated();
    unsafe { calloc(count, size) }
}

extern "C" fn counted_realloc(block: *mut c_void, size: usize, _: *mut c_void) -> *mut c_void {
    measure::allocated();
    unsafe { realloc(block, size) }
}

// ---- nghttp2.h

#[repr(C)]
struct Session {
    _opaque: [u8; 0],
}

/// `nghttp2_frame_hd`, with which every frame begins.
#[repr(C)]
struct FrameHeader {
    length: usize,
    stream: i32,
    kind: u8,
    flags: u8,
    reserved: u8,
}

#[repr(C)]
struct NameValue {
    name: *const u8,
    value: *const u8,
    name_len: usize,
    value_len: usize,
    flags: u8,
}

impl Default for NameValue {
    fn default() -> NameValue {
        NameValue { name: null(), value: null(), name_len: 0, value_len: 0, flags: 0 }
    }
}

#[repr(C)]
struct Setting {
    id: i32,
    value: u32,
}

type Read = extern "C" fn(*mut Session, i32, *mut u8, usize, *mut u32, *mut c_void, *mut c_void) -> isize;

/// `nghttp2_data_provider`.
#[repr(C)]
struct Source {
    source: *mut c_void,
    read: Read,
}

#[repr(C)]
struct Memory {
    /// A pointer, which nobody follows.
    user: usize,
    malloc: extern "C" fn(usize, *mut c_void) -> *mut c_void,
    free: extern "C" fn(*mut c_void, *mut c_void),
    calloc: extern "C" fn(usize, usize, *mut c_void) -> *mut c_void,
    realloc: extern "C" fn(*mut c_void, usize, *mut c_void) -> *mut c_void,
}

type OnHeader =
    extern "C" fn(*mut Session, *const FrameHeader, *const u8, usize, *const u8, usize, u8, *mut c_void) -> c_int;
type OnFrame = extern "C" fn(*mut Session, *const FrameHeader, *mut c_void) -> c_int;
type OnData = extern "C" fn(*mut Session, u8, i32, *const u8, usize, *mut c_void) -> c_int;

#[link(name = "nghttp2")]
unsafe extern "C" {
    fn nghttp2_session_callbacks_new(callbacks: *mut *mut c_void) -> c_int;
    fn nghttp2_session_callbacks_del(callbacks: *mut c_void);
    fn nghttp2_session_callbacks_set_on_header_callback(callbacks: *mut c_void, f: OnHeader);
    fn nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks: *mut c_void, f: OnFrame);
    fn nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks: *mut c_void, f: OnData);
    fn nghttp2_option_new(option: *mut *mut c_void) -> c_int;
    fn nghttp2_option_del(option: *mut c_void);
    fn nghttp2_option_set_no_closed_streams(option: *mut c_void, yes: c_int);
    fn nghttp2_session_server_new3(
        session: *mut *mut Session,
        callbacks: *const c_void,
        user: *mut c_void,
        option: *const c_void,
        memory: *mut Memory,
    ) -> c_int;
    fn nghttp2_session_del(session: *mut Session);
    fn nghttp2_session_mem_recv(session: *mut Session, bytes: *const u8, len: usize) -> isize;
    fn nghttp2_session_mem_send(session: *mut Session, bytes: *mut *const u8) -> isize;
    fn nghttp2_session_set_local_window_size(session: *mut Session, flags: u8, stream: i32, size: i32) -> c_int;
    fn nghttp2_submit_settings(session: *mut Session, flags: u8, settings: *const Setting, count: usize) -> c_int;
    fn nghttp2_submit_response(
        session: *mut Session,
        stream: i32,
        fields: *const NameValue,
        count: usize,
        source: *const Source,
    ) -> c_int;
    fn nghttp2_hd_inflate_new2(inflater: *mut *mut c_void, memory: *mut Memory) -> c_int;
    fn nghttp2_hd_inflate_del(inflater: *mut c_void);
    fn nghttp2_hd_inflate_hd2(
        inflater: *mut c_void,
        line: *mut NameValue,
        flags: *mut c_int,
        bytes: *const u8,
        len: usize,
        last: c_int,
    ) -> isize;
    fn nghttp2_hd_inflate_end_headers(inflater: *mut c_void) -> c_int;
}

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn free(block: *mut c_void);
    fn calloc(count: usize, size: usize) -> *mut c_void;
    fn realloc(block: *mut c_void, size: usize) -> *mut c_void;
}
