//! Every script under `tests/scripts`, whole, byte by byte and at every two-way split.

mod support;

use support::{Script, scripts};
use vestibule::rehearsal::{Pieces, Rehearsal};

/// Every two-way split of a script this long would take too long; then a few hundred are tried.
const MOST_CUTS: usize = 700;

fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let step = len.div_ceil(MOST_CUTS).max(1);
    let ends = len.saturating_sub(40)..len;
    (1..len).step_by(step).chain(ends)
}

fn check(script: &Script) -> Result<(), String> {
    let whole = script.rehearsal().play(&script.steps);
    if std::env::var_os("VESTIBULE_BLESS").is_some() {
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

/// Writes the input of every script as a seed, below the folder that `VESTIBULE_SEEDS` names.
#[test]
fn export_seeds() {
    let Some(folder) = std::env::var_os("VESTIBULE_SEEDS") else { return };
    for target in ["h1", "chunking"] {
        let folder = std::path::Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder).expect("a folder for seeds");
        for (i, script) in scripts().iter().enumerate() {
            std::fs::write(folder.join(format!("script-{i}")), script.bytes()).expect("a seed");
        }
    }
}
