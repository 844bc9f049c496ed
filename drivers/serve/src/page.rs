//! In: what was asked and answered. Out: the page that shows it.

use crate::live::live;
use crate::serve::examples;
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use vestibule::{Head, Limits, Session, Violation};
use vestibule_driver::probe::Probe;

/// How many requests the page shows.
const SHOWN: usize = 50;
/// How much of a target is kept.
const TARGET_BYTES: usize = 200;

/// What the connections of the program share.
#[derive(Default)]
pub(crate) struct Site {
    /// Plain, and TLS.
    addrs: OnceLock<(SocketAddr, SocketAddr)>,
    pub(crate) limits: Limits,
    /// Bodies that are taken whole are gathered and decoded as jobs.
    pub(crate) by_job: bool,
    /// What the server measures, and how it is laid out.
    probe: OnceLock<(Arc<Probe>, String)>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: u64,
    violations: u64,
    last_violation: Option<(Instant, Violation)>,
    recent: VecDeque<Entry>,
}

/// One request of the list.
pub(crate) struct Entry {
    at: Instant,
    method: String,
    target: String,
    version: &'static str,
    tls: Option<String>,
    /// 0 until one was sent.
    pub(crate) status: u16,
    /// Of the request's body, decoded.
    pub(crate) body_bytes: u64,
    /// Of the response's content.
    pub(crate) sent_bytes: u64,
}

impl Entry {
    pub(crate) fn new(head: &Head<'_>, tls: Option<&Session<'_>>) -> Entry {
        let mut target = head.target.to_string();
        if target.len() > TARGET_BYTES {
            target.truncate(TARGET_BYTES); // targets are ASCII
            target.push('…');
        }
        Entry {
            at: Instant::now(),
            method: head.method.to_string(),
            target,
            version: head.version.name(),
            tls: tls.map(|tls| tls.version.to_string()),
            status: 0,
            body_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// Who looks at the list once a second must not fill it.
    fn is_about_the_page(&self) -> bool {
        let path = self.target.split_once('?').map_or(&*self.target, |target| target.0);
        matches!(path, "/metrics" | "/probe.json" | "/live.js")
    }
}

impl Site {
    pub(crate) fn new(limits: Limits, by_job: bool) -> Site {
        Site { limits, by_job, ..Site::default() }
    }

    /// The server measures what it does.
    pub(crate) fn measured_by(&self, probe: Arc<Probe>, about: String) {
        let _ = self.probe.set((probe, about));
    }

    /// What the server measures, if it does.
    pub(crate) fn probe(&self) -> Option<&Probe> {
        self.probe.get().map(|(probe, _)| &**probe)
    }

    /// The ports are open.
    pub(crate) fn open_at(&self, http: SocketAddr, https: SocketAddr) {
        let _ = self.addrs.set((http, https));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered, or came to another end.
    pub(crate) fn visited(&self, entry: Entry) {
        if entry.is_about_the_page() {
            return;
        }
        let mut seen = self.seen();
        seen.requests += 1;
        if seen.recent.len() == SHOWN {
            seen.recent.pop_back();
        }
        seen.recent.push_front(entry);
    }

    /// A peer broke a rule.
    pub(crate) fn violated(&self, violation: &Violation) {
        let mut seen = self.seen();
        seen.violations += 1;
        seen.last_violation = Some((Instant::now(), *violation));
    }

    /// The page of now.
    pub(crate) fn page(&self) -> String {
        let mut page = String::with_capacity(16 << 10);
        page.push_str(TOP);
        let (probe, about) = self.probe.get().map(|(probe, about)| (probe, about.as_str())).unzip();
        let found = probe.and_then(|probe| serde_json::from_str(&probe.json()).ok());
        live(&mut page, found.as_ref(), about.unwrap_or_default());
        page.push_str(MIDDLE);
        if let Some((http, https)) = self.addrs.get() {
            for line in examples(*http, *https) {
                escape(&mut page, &line);
                page.push('\n');
            }
        }
        page.push_str("</pre>\n");
        let seen = self.seen();
        let _ = writeln!(
            page,
            "<h2>The last {SHOWN} requests</h2>\n<p>{} answered so far; {} connections ended by a broken rule{}</p>",
            seen.requests,
            seen.violations,
            if seen.violations == 0 { "." } else { ", the last one:" }
        );
        if let Some((at, violation)) = &seen.last_violation {
            page.push_str("<p class=\"rule\">");
            let line =
                format!("{} s ago: {} {}: {violation}", at.elapsed().as_secs(), violation.status(), violation.name());
            escape(&mut page, &line);
            page.push_str("</p>\n");
        }
        page.push_str(TABLE);
        for entry in &seen.recent {
            row(&mut page, entry);
        }
        if seen.recent.is_empty() {
            page.push_str(
                "<tr><td colspan=\"8\">None yet. This one will be the first when you load the page again.</td></tr>\n",
            );
        }
        page.push_str(BOTTOM);
        page
    }
}

fn row(page: &mut String, entry: &Entry) {
    let class = if entry.status >= 400 { " class=\"bad\"" } else { "" };
    let _ = write!(page, "<tr{class}><td class=\"n\">{}<td>", entry.at.elapsed().as_secs());
    escape(page, &entry.method);
    page.push_str("<td class=\"t\">");
    escape(page, &entry.target);
    let _ = writeln!(
        page,
        "<td>{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}",
        entry.version,
        entry.tls.as_deref().unwrap_or("-"),
        entry.status,
        entry.body_bytes,
        entry.sent_bytes
    );
}

/// What a client says is text, and never markup.
pub(crate) fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            c => page.push(c),
        }
    }
}

const TOP: &str = r##"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vestibule</title>
<script src="/live.js" defer></script>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --bad: #c0392b; --mark: #e67e22; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; }
h2 { margin-top: 2.5rem; font-size: 1.2rem; }
ol { padding-left: 1.4rem; }
li { margin: .2rem 0; }
pre { background: var(--soft); padding: 1rem; border-radius: 6px; overflow-x: auto; }
pre, table, code { font-size: .85rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
td { font-family: ui-monospace, monospace; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.t { width: 100%; white-space: normal; overflow-wrap: anywhere; }
.bad td, .rule { color: var(--bad); }
.wide { overflow-x: auto; }
.verdict { border-left: 4px solid var(--mark); background: var(--soft); padding: .6rem 1rem; }
.hot td { background: #e67e2233; }
.hot td:first-child { font-weight: bold; }
#totals span, #responses span { margin-right: 1.2rem; white-space: nowrap; }
.share { min-width: 9.5rem; }
.share meter { width: 5rem; vertical-align: middle; }
.does { font-family: inherit; white-space: normal; min-width: 12rem; }
.pair { display: flex; align-items: flex-start; flex-wrap: wrap; gap: 1rem 2rem; margin-top: 1rem; }
.pair table { width: auto; flex: 1 1 18rem; }
.pair table[hidden] { display: none; }
.small { font-size: .85rem; }
@media (max-width: 44rem) {
  body { margin: 1rem auto; }
  .does { display: none; }
  #stages th, #stages td { padding: .25rem .35rem; }
  .share { min-width: 6.2rem; }
  .share meter { width: 2.6rem; }
}
</style>
<h1>vestibule</h1>
<p>The entrance hall of a backend: bytes and the time go in, decrypted, parsed and decoded requests come out.
This page came to you over its six stages, and back.</p>
"##;

const MIDDLE: &str = r##"<p>The routes: <code>/hello</code>, <code>/inspect</code>, <code>/echo</code>, <code>/bytes/N</code>,
and <a href="/upload"><code>/upload</code></a>, a form for files.</p>
<h2>What to try</h2>
<pre>
"##;

const TABLE: &str = "<div class=\"wide\"><table>\n<thead><tr><th class=\"n\">s ago<th>method<th>target<th>version<th>TLS<th class=\"n\">status\
<th class=\"n\">body bytes<th class=\"n\">sent bytes</thead>\n<tbody>\n";

const BOTTOM: &str = "</tbody></table></div>\n</html>\n";

/// The form of `GET /upload`.
pub(crate) const UPLOAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vestibule: upload</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }
label { display: block; margin: 1rem 0; }
</style>
<h1>Upload</h1>
<p>What is sent is read as it comes: each part is counted and summed, and nothing of it is kept. The answer is JSON.</p>
<form method="post" action="/upload" enctype="multipart/form-data">
<label>A note <input name="note"></label>
<label>Files <input type="file" name="file" multiple></label>
<button>Send</button>
</form>
<p><a href="/">Back</a></p>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_was_asked_as_text_and_only_the_last_fifty() {
        let site = Site::default();
        for n in 0..60 {
            site.visited(Entry {
                at: Instant::now(),
                method: "GET".into(),
                target: format!("/<script>alert({n})</script>"),
                version: "HTTP/1.1",
                tls: None,
                status: 404,
                body_bytes: 0,
                sent_bytes: n,
            });
        }
        let page = site.page();
        assert_eq!(page.matches("<script").count(), 1, "its own");
        assert_eq!(page.matches("&lt;script&gt;").count(), 50);
        assert!(page.contains("alert(59)") && !page.contains("alert(9)") && page.contains("60 answered so far"));
    }
}
