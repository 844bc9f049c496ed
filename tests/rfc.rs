//! In: `tests/rfc/*.toml`, which say for each normative sentence of an RFC what becomes of it here. Out: proof that the tests
//! they name exist, that no sentence is forgotten, and `docs/COMPLIANCE.md`, which is generated from them.
//!
//! `VESTIBULE_BLESS=1 cargo test --test rfc` rewrites the document.

#![allow(clippy::unwrap_used, missing_docs)]

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accounting {
    rfc: u32,
    title: String,
    requirement: Vec<Requirement>,
}

/// Sentences with one level that meet the same fate.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    section: String,
    level: String,
    /// `section#n`: the n-th normative sentence of that section.
    ids: Vec<String>,
    /// The rule in our own words.
    rule: String,
    /// Scripts, from `tests/`, or `file::function`, from the root.
    #[serde(default)]
    tests: Vec<String>,
    /// Whom it binds, where that is no server.
    applies: Option<String>,
    /// Where and why we differ.
    exception: Option<String>,
}

#[derive(Deserialize)]
struct Sentence {
    rfc: u32,
    section: String,
    level: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn accountings() -> Vec<Accounting> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(root().join("tests/rfc")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| toml::from_str(&read(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

/// What is wrong with the name of a test, if something is.
fn fault_of(test: &str, texts: &mut BTreeMap<String, Option<String>>) -> Option<String> {
    let mut text = |file: &str| {
        texts.entry(file.to_string()).or_insert_with(|| std::fs::read_to_string(root().join(file)).ok()).clone()
    };
    let Some((file, function)) = test.split_once("::") else {
        let exists = test.starts_with("scripts/") && root().join("tests").join(test).is_file();
        return (!exists).then(|| format!("{test}: no such script"));
    };
    match text(file) {
        None => Some(format!("{test}: no such file")),
        // A case of the drivers' suite has a type parameter.
        Some(text) if [format!("fn {function}("), format!("fn {function}<")].iter().any(|f| text.contains(f)) => None,
        Some(_) => Some(format!("{test}: no such function")),
    }
}

#[test]
fn every_listed_test_exists() {
    let mut texts = BTreeMap::new();
    let mut faults = Vec::new();
    for accounting in accountings() {
        for requirement in &accounting.requirement {
            faults.extend(requirement.tests.iter().filter_map(|test| fault_of(test, &mut texts)));
        }
    }
    faults.sort();
    faults.dedup();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_entry_says_what_becomes_of_it() {
    for Accounting { rfc, requirement, .. } in accountings() {
        for entry in &requirement {
            let name = format!("RFC {rfc} {:?}", entry.ids);
            assert!(!entry.ids.is_empty() && !entry.rule.is_empty(), "{name}");
            for id in &entry.ids {
                let number = id.strip_prefix(&entry.section).and_then(|rest| rest.strip_prefix('#'));
                assert!(
                    number.is_some_and(|n| n.parse::<u32>().is_ok()),
                    "{name}: {id} is not of section {}",
                    entry.section
                );
            }
            let bound = entry.applies.is_none();
            assert!(
                !bound || !entry.tests.is_empty() || entry.exception.is_some(),
                "{name}: neither tests, applies nor exception"
            );
            assert!(
                bound || (entry.tests.is_empty() && entry.exception.is_none()),
                "{name}: binds others, so nothing is due here"
            );
            let others = ["client", "proxy", "user", "registry"];
            let known = entry.applies.as_deref().is_none_or(|whom| others.contains(&whom));
            assert!(known, "{name}: applies = {:?}", entry.applies);
        }
    }
}

#[test]
fn every_sentence_is_accounted_for_once() {
    let path = root().join("../shared/rfc/requirements.json");
    if !path.is_file() {
        eprintln!("the list of normative sentences is absent: what is accounted for cannot be compared with it");
        return;
    }
    let sentences: Vec<Sentence> = serde_json::from_str(&read(&path)).unwrap();
    let mut faults = Vec::new();
    for Accounting { rfc, requirement, .. } in accountings() {
        let mut of_section = BTreeMap::<&str, u32>::new();
        let mut open = BTreeMap::<String, &Sentence>::new();
        for sentence in sentences.iter().filter(|s| s.rfc == rfc) {
            let n = of_section.entry(&sentence.section).or_default();
            *n += 1;
            open.insert(format!("{}#{n}", sentence.section), sentence);
        }
        assert!(!open.is_empty(), "RFC {rfc} is not in the list");
        for entry in &requirement {
            for id in &entry.ids {
                match open.remove(id) {
                    None => faults.push(format!("RFC {rfc} {id}: accounted for twice, or no such sentence")),
                    Some(s) if s.level != entry.level => {
                        faults.push(format!("RFC {rfc} {id}: is {}, not {}", s.level, entry.level));
                    }
                    Some(_) => {}
                }
            }
        }
        faults.extend(open.iter().map(|(id, s)| format!("RFC {rfc} {id} is not accounted for: {}", s.text)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn link(test: &str) -> String {
    match test.split_once("::") {
        Some((file, function)) => format!("[{function}](../{file})"),
        None => {
            let name = test.trim_start_matches("scripts/").trim_end_matches(".md");
            format!("[{name}](../tests/{test})")
        }
    }
}

fn document(accountings: &[Accounting]) -> String {
    let mut out = String::from(
        "# What the RFCs ask, and what becomes of it\n\n\
         Generated from `tests/rfc/*.toml` by `VESTIBULE_BLESS=1 cargo test --test rfc`; not to be edited. The rules are in our own\n\
         words. A number like 2.2#3 is the third normative sentence of section 2.2.\n",
    );
    for Accounting { rfc, title, requirement } in accountings {
        let count =
            |f: &dyn Fn(&Requirement) -> bool| requirement.iter().filter(|r| f(r)).map(|r| r.ids.len()).sum::<usize>();
        let _ = write!(
            out,
            "\n## RFC {rfc}: {title}\n\n{} sentences: {} kept and tested, {} with an exception, {} that bind others than a server.\n",
            count(&|_| true),
            count(&|r| r.applies.is_none() && r.exception.is_none()),
            count(&|r| r.exception.is_some()),
            count(&|r| r.applies.is_some()),
        );
        out.push_str("\n### Where we differ\n\n");
        for entry in requirement.iter().filter(|r| r.exception.is_some()) {
            let _ = writeln!(out, "- {}: {}", entry.ids.join(", "), entry.exception.as_deref().unwrap_or_default());
        }
        out.push_str("\n### What binds a server\n\n| sentence | level | rule | tests |\n| --- | --- | --- | --- |\n");
        for entry in requirement.iter().filter(|r| r.applies.is_none()) {
            let mut tests: Vec<String> = entry.tests.iter().map(|t| link(t)).collect();
            if entry.exception.is_some() {
                tests.insert(0, "see above".to_string());
            }
            let _ =
                writeln!(out, "| {} | {} | {} | {} |", entry.ids.join(", "), entry.level, entry.rule, tests.join(", "));
        }
        out.push_str("\n### What binds others\n\n| sentence | level | rule | whom |\n| --- | --- | --- | --- |\n");
        for entry in requirement.iter().filter(|r| r.applies.is_some()) {
            let whom = entry.applies.as_deref().unwrap_or_default();
            let _ = writeln!(out, "| {} | {} | {} | {whom} |", entry.ids.join(", "), entry.level, entry.rule);
        }
    }
    out
}

#[test]
fn the_compliance_document_is_up_to_date() {
    let path = root().join("docs/COMPLIANCE.md");
    let wanted = document(&accountings());
    if std::env::var_os("VESTIBULE_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/COMPLIANCE.md is not what the accounting says; VESTIBULE_BLESS=1 rewrites it");
}
