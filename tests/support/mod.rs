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
        let mut limits = Limits::DEFAULT;
        for line in block(&text, "config").unwrap_or_default().lines() {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: `limit = value`: {line}"));
            let limit =
                Limit::ALL.iter().find(|l| l.name() == key.trim()).unwrap_or_else(|| panic!("{name}: no limit {key}"));
            limits = limits.with(*limit, value.trim().parse().expect("a number")).expect("a value in range");
        }
        let steps = steps(&block(&text, "in").unwrap_or_else(|| panic!("{name}: no `in` block")));
        let expected = block(&text, "out").unwrap_or_else(|| panic!("{name}: no `out` block"));
        Script { path, config: Arc::new(Config::new(limits)), steps, expected }
    }

    pub fn rehearsal(&self) -> Rehearsal {
        Rehearsal::new(self.config.clone())
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
            steps.push(match directive.split_once(' ') {
                None if directive == "eof" => Input::End,
                None if directive == "drain" => Input::Drain,
                None if directive == "hold" => Input::Hold,
                Some(("take", n)) => Input::Take(n.parse().expect("a number")),
                Some(("at", time)) => {
                    let millis = time.strip_suffix("ms").expect("milliseconds").trim();
                    Input::At(Instant::from_millis(millis.parse().expect("a number")))
                }
                _ => panic!("no such directive: @{directive}"),
            });
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
