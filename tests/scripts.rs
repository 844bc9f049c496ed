//! Every script under `tests/scripts`, whole, byte by byte and at every two-way split.

mod support;

use support::{PREFACE, Script, hex_steps, scripts};
use vestibule::Instant;
use vestibule::rehearsal::{Input, Pieces, Rehearsal};

/// Every two-way split of a script this long would take too long; then a few hundred are tried.
const MOST_CUTS: usize = 700;

fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let step = len.div_ceil(MOST_CUTS).max(1);
    let ends = len.saturating_sub(40)..len;
    (1..len).step_by(step).chain(ends)
}

/// `VESTIBULE_BLESS` is `1` for all scripts, or a part of the paths of those that are meant.
fn is_to_be_blessed(script: &Script) -> bool {
    let path = script.path.to_string_lossy();
    std::env::var("VESTIBULE_BLESS").is_ok_and(|part| part == "1" || path.contains(&part))
}

fn check(script: &Script) -> Result<(), String> {
    let whole = script.rehearsal().play(&script.steps);
    if is_to_be_blessed(script) {
        if script.expected != whole {
            script.bless(&whole);
        }
    } else if script.expected.starts_with('~') || script.expected != whole {
        return Err(format!("expected:\n{}\ngot:\n{whole}", script.expected));
    }
    let play = |pieces, outbox_bytes| Rehearsal { pieces, outbox_bytes, ..script.rehearsal() }.play(&script.steps);
    let len = script.bytes().len();
    for n in [1, 2, 3, 7, 64, 1000] {
        same(&whole, &play(Pieces::Each(n), 16_384), || format!("{n} bytes at a time"))?;
    }
    for cut in cuts(len) {
        same(&whole, &play(Pieces::Cut(cut), 16_384), || format!("cut behind byte {cut}"))?;
    }
    for inbox_bytes in [64, 300].into_iter().filter(|_| script.version() == "h2") {
        let small = Rehearsal { inbox_bytes, ..script.rehearsal() }.play(&script.steps);
        same(&whole, &small, || format!("in an inbox of {inbox_bytes} bytes"))?;
    }
    Ok(())
}

fn same(whole: &str, other: &str, how: impl Fn() -> String) -> Result<(), String> {
    if whole == other {
        Ok(())
    } else {
        Err(format!("{} it is another story.\nwhole:\n{whole}\nthen:\n{other}", how()))
    }
}

#[test]
fn every_script_gives_its_transcript_however_it_is_cut() {
    let scripts = scripts();
    let failed: Vec<String> =
        scripts.iter().filter_map(|s| check(s).err().map(|e| format!("--- {}\n{e}", s.path.display()))).collect();
    assert!(failed.is_empty(), "{} of {} scripts failed\n{}", failed.len(), scripts.len(), failed.join("\n"));
}

#[test]
fn hex_blocks_are_read_as_they_are_meant() {
    let text = "@preface  # as most begin\n00 0aFF \"a # b\" # \"\n\n@at 10ms\n{2*00 $3 {2*\"x\"}}61\n{2* # over lines\n  62\n}\n\
                @hold\n@take 5\n@answer 1\n@release 3\n@drain\n@eof\n";
    let expected = [
        Input::Bytes([PREFACE, b"\0\x0a\xffa # b"].concat()),
        Input::At(Instant::from_millis(10)),
        Input::Bytes(b"\0\0\0\0\x03xx\0\0\0\0\x05xxabb".to_vec()),
        Input::Hold,
        Input::Take(5),
        Input::Answer(1),
        Input::Release(3),
        Input::Drain,
        Input::End,
    ];
    assert_eq!(hex_steps(text), expected);
}

/// Writes the input of every script as a seed, below the folder that `VESTIBULE_SEEDS` names.
#[test]
fn export_seeds() {
    let Some(folder) = std::env::var_os("VESTIBULE_SEEDS") else { return };
    let folder = std::path::Path::new(&folder);
    for (i, script) in scripts().iter().enumerate() {
        for target in [script.version(), "chunking"] {
            let folder = folder.join(target);
            std::fs::create_dir_all(&folder).expect("a folder for seeds");
            std::fs::write(folder.join(format!("script-{i}")), script.bytes()).expect("a seed");
        }
    }
}
