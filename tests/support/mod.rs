//! The script runner: reads a Markdown script, plays it, compares the transcript.
#![allow(dead_code, unreachable_pub, clippy::expect_used)] // each test file uses its part

use std::path::{Path, PathBuf};
use std::sync::Arc;
use vestibule::rehearsal::{Input, Rehearsal};
use vestibule::{Config, Instant, Limit, Limits};

/// A script: what it sets, what the peer does, what must come of it.
pub struct Script {
    pub path: PathBuf,
    pub config: Arc<Config>,
    pub overloaded: bool,
    pub steps: Vec<Input>,
    pub expected: String,
}

/// All scripts below `tests/scripts`, in the order of their paths.
pub fn scripts() -> Vec<Script> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    paths.into_iter().map(Script::read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("tests/scripts is there") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "md") {
            paths.push(path);
        }
    }
}

impl Script {
    pub fn read(path: PathBuf) -> Script {
        let text = std::fs::read_to_string(&path).expect("a readable script");
        let name = path.display().to_string();
        assert!(text.starts_with("# "), "{name}: a script begins with a title");
        let (mut limits, mut http2) = (Limits::DEFAULT, true);
        let (mut proxied, mut overloaded, mut limited) = (false, false, false);
        for line in block(&text, "config").unwrap_or_default().lines() {
            let (choice, chosen) = match line {
                "without http2" => (&mut http2, false),
                "with proxy header" => (&mut proxied, true),
                "overloaded" => (&mut overloaded, true),
                _ => (&mut limited, true),
            };
            *choice = chosen;
            if !std::mem::take(&mut limited) {
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: `limit = value`: {line}"));
            let limit =
                Limit::ALL.iter().find(|l| l.name() == key.trim()).unwrap_or_else(|| panic!("{name}: no limit {key}"));
            limits = limits.with(*limit, value.trim().parse().expect("a number")).expect("a value in range");
        }
        let steps = match (block(&text, "in"), block(&text, "hex")) {
            (Some(text), None) => steps(&text),
            (None, Some(text)) => hex_steps(&text),
            _ => panic!("{name}: one block, `in` or `hex`"),
        };
        let expected = block(&text, "out").unwrap_or_else(|| panic!("{name}: no `out` block"));
        let config = Config::new(limits);
        let config = if http2 { config } else { config.without_http2() };
        let config = if proxied { config.with_proxy_header() } else { config };
        Script { path, config: Arc::new(config), overloaded, steps, expected }
    }

    pub fn rehearsal(&self) -> Rehearsal {
        Rehearsal { overloaded: self.overloaded, ..Rehearsal::new(self.config.clone()) }
    }

    /// What it is about, a version of HTTP or what stands in front of it: the name of its folder.
    pub fn version(&self) -> &'static str {
        let is_in = |folder: &&str| self.path.components().any(|part| part.as_os_str() == *folder);
        ["h2", "proxy"].iter().find(|folder| is_in(folder)).unwrap_or(&"h1")
    }

    /// All bytes that the peer sends.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.steps.iter().filter_map(|s| if let Input::Bytes(b) = s { Some(&b[..]) } else { None });
        bytes.collect::<Vec<_>>().concat()
    }

    /// Writes the transcript into the script's `out` block.
    pub fn bless(&self, transcript: &str) {
        let text = std::fs::read_to_string(&self.path).expect("a readable script");
        let start = text.find("```out\n").expect("an out block") + 7;
        let end = start + text[start..].find("```").expect("its end");
        std::fs::write(&self.path, format!("{}{transcript}{}", &text[..start], &text[end..]))
            .expect("a writable script");
    }
}

/// The text of the fenced block with this info string.
pub fn block(text: &str, kind: &str) -> Option<String> {
    let open = format!("```{kind}\n");
    let start = text.find(&open)? + open.len();
    let end = start + text[start..].find("\n```").map_or_else(|| text[start..].find("```"), |i| Some(i + 1))?;
    Some(text[start..end].to_string())
}

/// The lines of an `in` block, as bytes and directives.
pub fn steps(text: &str) -> Vec<Input> {
    let (mut steps, mut bytes) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(directive) = line.strip_prefix('@') {
            if !bytes.is_empty() {
                steps.push(Input::Bytes(std::mem::take(&mut bytes)));
            }
            steps.push(step(directive));
            continue;
        }
        let (line, joined) = match line.strip_suffix('\\') {
            Some(rest) if !rest.ends_with('\\') => (rest, true),
            _ => (line, false),
        };
        unescape(line, &mut bytes);
        if !joined {
            bytes.extend_from_slice(b"\r\n");
        }
    }
    if !bytes.is_empty() {
        steps.push(Input::Bytes(bytes));
    }
    steps
}

/// What `@...` says.
fn step(directive: &str) -> Input {
    let number = |text: &str| text.trim().parse().expect("a number");
    match directive.trim().split_once(' ') {
        None if directive == "eof" => Input::End,
        None if directive == "drain" => Input::Drain,
        None if directive == "hold" => Input::Hold,
        Some(("take", n)) => Input::Take(number(n) as usize),
        Some(("answer", n)) => Input::Answer(number(n)),
        Some(("release", n)) => Input::Release(number(n)),
        Some(("at", time)) => Input::At(Instant::from_millis(number(time.strip_suffix("ms").expect("milliseconds")))),
        _ => panic!("no such directive: @{directive}"),
    }
}

/// What most HTTP/2 clients send first: the preface, SETTINGS without entries, the ACK of ours (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

/// The lines of a `hex` block, as bytes and directives: `00 0a ff` or `000aff`, `"text"`, `# comment`, `{300*61 62}` repeats,
/// `$5` is a stream's number in four bytes, inside a repetition the next one of the client's each time. `@preface` is
/// [`PREFACE`].
pub fn hex_steps(text: &str) -> Vec<Input> {
    let (mut steps, mut bytes, mut pending) = (Vec::new(), Vec::new(), String::new());
    for line in text.lines() {
        pending += uncommented(line.trim());
        pending.push(' ');
        if pending.matches('{').count() > pending.matches('}').count() {
            continue;
        }
        let complete = std::mem::take(&mut pending);
        match complete.strip_prefix('@').map(str::trim) {
            Some("preface") => bytes.extend_from_slice(PREFACE),
            Some(directive) => {
                if !bytes.is_empty() {
                    steps.push(Input::Bytes(std::mem::take(&mut bytes)));
                }
                steps.push(step(directive));
            }
            None => unhex(&complete, 0, &mut bytes),
        }
    }
    assert!(pending.is_empty(), "an open brace: {pending}");
    if !bytes.is_empty() {
        steps.push(Input::Bytes(bytes));
    }
    steps
}

/// The brace that closes the first one.
fn matching(text: &str) -> usize {
    let mut depth = 0;
    let end = text.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    });
    end.expect("a closing brace")
}

fn uncommented(line: &str) -> &str {
    let mut quoted = false;
    let end = line.find(|c| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    &line[..end.unwrap_or(line.len())]
}

/// `round`: how often the repetition around it has come.
fn unhex(text: &str, round: u32, bytes: &mut Vec<u8>) {
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '"' => {
                let end = 1 + rest[1..].find('"').expect("a closing quote");
                bytes.extend_from_slice(&rest.as_bytes()[1..end]);
                end + 1
            }
            '{' => {
                let inside = &rest[1..=matching(rest)];
                let (count, part) = inside.strip_suffix('}').and_then(|i| i.split_once('*')).expect("{count*bytes}");
                (0..count.trim().parse().expect("a count")).for_each(|round| unhex(part, round, bytes));
                inside.len() + 1
            }
            _ => {
                let end = rest.find([' ', '"', '{']).unwrap_or(rest.len());
                match rest[..end].strip_prefix('$') {
                    Some(stream) => {
                        let first: u32 = stream.parse().expect("a stream's number");
                        bytes.extend_from_slice(&(first + 2 * round).to_be_bytes());
                    }
                    None => bytes.extend((0..end).step_by(2).map(|at| {
                        let pair = rest[..end].get(at..at + 2);
                        let byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
                        byte.unwrap_or_else(|| panic!("pairs of hexadecimal digits: {rest}"))
                    })),
                }
                end
            }
        };
        rest = rest[end..].trim_start();
    }
}

fn unescape(text: &str, bytes: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let c = rest.chars().next().expect("something behind a backslash");
                rest = &rest[c.len_utf8()..];
                match c {
                    'n' => bytes.push(b'\n'),
                    'r' => bytes.push(b'\r'),
                    't' => bytes.push(b'\t'),
                    '0' => bytes.push(0),
                    'x' => {
                        bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
                        rest = &rest[2..];
                    }
                    '\\' | '{' | '@' => bytes.push(c as u8),
                    _ => panic!("no such escape: \\{c}"),
                }
            }
            '{' => {
                let end = closing(rest);
                let (count, part) = rest[..end].split_once('*').expect("{count*text}");
                let mut once = Vec::new();
                unescape(part, &mut once);
                bytes.extend_from_slice(&once.repeat(count.parse().expect("a count")));
                rest = &rest[end + 1..];
            }
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The brace that closes a repetition: not one behind a backslash.
fn closing(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '}' if !escaped => return i,
            _ => escaped = false,
        }
    }
    panic!("an open brace: {text}")
}
