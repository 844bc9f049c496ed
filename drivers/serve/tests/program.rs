//! The real binary, driven by real clients: curl, Python's http.client and httpx, Node's https and http2, nghttp, h2load,
//! `openssl s_client`. A client that is not on this machine is named and left out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_vestibule");

/// The program, serving on free ports. It is stopped by its id, whatever happens.
struct Serving {
    child: Child,
    greeting: String,
    http: String,
    https: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn start(more: &[&str]) -> Serving {
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (mut greeting, mut http, mut https) = (String::new(), String::new(), String::new());
        while !greeting.ends_with("Ctrl-C stops.\n") {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "ended behind {greeting}");
            let url = line.split_whitespace().next().unwrap_or("").trim_end_matches('/');
            if let (Some(addr), "") = (url.strip_prefix("http://"), http.as_str()) {
                http = addr.into();
            } else if let (Some(addr), "") = (url.strip_prefix("https://"), https.as_str()) {
                https = addr.into();
            }
            greeting += &line;
        }
        child.stdout = Some(out.into_inner());
        Serving { child, greeting, http, https }
    }

    /// SIGTERM: its exit code, its last words, what it logged, and how long that took.
    fn terminate(mut self) -> (Option<i32>, String, String, Duration) {
        let begun = Instant::now();
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let (mut out, mut log) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), out, log, begun.elapsed())
    }

    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes())
    }
}

fn there_is(program: &str) -> bool {
    let found = Command::new(program).arg(if program == "openssl" { "version" } else { "--version" }).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("{program} is absent: its part is left out");
    }
    found
}

/// curl's flags for the versions that it can speak here, and how each one is called.
fn versions() -> Vec<(&'static str, &'static str, &'static str)> {
    let known =
        Command::new("curl").arg("--version").output().is_ok_and(|o| o.stdout.windows(5).any(|w| w == b"HTTP2"));
    let mut all = vec![("--http1.1", "HTTP/1.1", "http/1.1")];
    if known {
        all.push(("--http2", "HTTP/2", "h2"));
    } else {
        println!("curl without HTTP/2: that part is left out");
    }
    all
}

fn run(program: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn curl(args: &[&str], input: &[u8]) -> String {
    let mut all = vec!["-sk", "--max-time", "20"];
    all.extend_from_slice(args);
    let output = run("curl", &all, input);
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn it_greets_with_true_addresses_and_ends_on_sigterm() {
    let server = Serving::start(&[]);
    assert!(server.greeting.contains(&format!("curl http://{}/hello\n", server.http)), "{}", server.greeting);
    assert!(server.greeting.contains(&format!("curl -k https://{}/hello\n", server.https)), "{}", server.greeting);
    let known = format!("curl --http2-prior-knowledge http://{}/hello\n", server.http);
    assert!(server.greeting.contains(&known), "{}", server.greeting);
    assert!(server.greeting.contains(&format!("curl -k --http2 https://{}/", server.https)), "{}", server.greeting);
    assert!(server.get("/hello").ends_with("content-length: 13\r\nconnection: close\r\n\r\nHello, world!"));
    let mut idle = TcpStream::connect(&server.http).unwrap();
    idle.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 200]).unwrap() > 0);
    let (code, last_words, log, took) = server.terminate();
    assert_eq!(
        (code, last_words.as_str(), log.as_str()),
        (Some(0), "connections 2, requests 2, faults 0, resets 0, panics 0, cut off 0\n", "")
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn curl_compressed_gets_the_same_answers_coded_in_both_versions_on_both_ports() {
    if !there_is("curl") {
        return;
    }
    let long = (0..400).map(|i| format!("line {i} of a text\n")).collect::<String>();
    let path = file("long.txt", long.as_bytes());
    let data = format!("@{}", path.display());
    let server = Serving::start(&[]);
    let plain = Serving::start(&["--no-compress"]);
    let (head, echo) = (["-D", "/dev/stderr"], ["-H", "content-type: text/plain", "--data-binary", &data]);
    let long_path = format!("/inspect?{}", "a=b&".repeat(300));
    for (scheme, flag) in
        [("http", "--http1.1"), ("http", "--http2-prior-knowledge"), ("https", "--http1.1"), ("https", "--http2")]
    {
        if flag != "--http1.1" && versions().len() < 2 {
            continue;
        }
        for (path, args, coded) in [
            ("/", &[][..], true),
            (&long_path[..], &[][..], true),
            ("/echo", &echo[..], true),
            ("/bytes/5000", &[][..], false),
            ("/hello", &[][..], false),
        ] {
            let ask = |server: &Serving, compressed: bool| {
                let addr = if scheme == "http" { &server.http } else { &server.https };
                let url = format!("{scheme}://{addr}{path}");
                let accept = if compressed { &["--compressed"][..] } else { &[][..] };
                let all = [&["-sk", "--max-time", "20", flag, &url][..], &head[..], args, accept].concat();
                let output = run("curl", &all, b"");
                assert!(output.status.success(), "{flag} {url}: {}", String::from_utf8_lossy(&output.stderr));
                (String::from_utf8_lossy(&output.stderr).to_lowercase(), output.stdout)
            };
            let (fields, got) = ask(&server, true);
            assert_eq!(fields.contains("\ncontent-encoding: "), coded, "{flag} {scheme} {path}: {fields}");
            assert_eq!(fields.contains("\nvary: accept-encoding"), coded, "{fields}");
            let (fields, same) = ask(&server, false);
            assert!(!fields.contains("content-encoding"), "who does not ask for it gets none");
            if path == "/echo" {
                assert!(got == long.as_bytes() && same == got);
            }
            assert!(!got.is_empty() && got.iter().zip(&same).take(15).all(|(a, b)| a == b));
            let (fields, _) = ask(&plain, true);
            assert!(!fields.contains("content-encoding") && !fields.contains("vary"), "{fields}");
        }
    }
    let _ = std::fs::remove_file(path);
}

#[test]
fn gzip_json_over_tls_leaves_as_a_value() {
    if !there_is("curl") {
        return;
    }
    let server = Serving::start(&[]);
    let value = json!({"name": "vestibule", "list": [1, 2.5, null, true], "deep": {"ä": "ö"}});
    let body = value.to_string();
    let coded = gzip(body.as_bytes());
    let path = file("body.json.gz", &coded);
    let url = format!("https://{}/inspect?a=1", server.https);
    let data = format!("@{}", path.display());
    let json_type = ["-H", "content-type: application/json"];
    let gzip_coding = ["-H", "content-encoding: gzip"];
    for (flag, version, alpn) in versions() {
        let url = [flag, url.as_str()];
        let answer = curl(&[&url[..], &json_type[..], &gzip_coding[..], &["--data-binary", &data]].concat(), b"");
        let told: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(told["body"]["json"], value);
        assert_eq!(told["body"]["coded_bytes"], coded.len());
        assert_eq!(told["body"]["decoded_bytes"], body.len());
        assert_eq!(
            (&told["version"], &told["method"], &told["target"], &told["authority"]),
            (&json!(version), &json!("POST"), &json!("/inspect?a=1"), &json!(server.https))
        );
        assert_eq!(told["stream"], if version == "HTTP/2" { json!(1) } else { Value::Null });
        assert_eq!((&told["connection"]["requests"], &told["connection"]["open"]), (&json!(1), &json!(0)));
        assert_eq!((&told["tls"]["version"], &told["tls"]["alpn"]), (&json!("TLSv1.3"), &json!(alpn)));
        assert!(told["tls"]["cipher"].as_str().unwrap().starts_with("TLS13_"));
        assert!(told["fields"].as_array().unwrap().contains(&json!("content-encoding: gzip")));

        let bad = [&url[..], &json_type[..], &["-w", "%{http_code}", "-d", "{\"a\": 1, \"a\": 2}"]].concat();
        let answer = curl(&bad, b"");
        let told: Value = serde_json::from_str(answer.strip_suffix("400").unwrap()).unwrap();
        let rule = json!({"rule": "JsonDuplicateKey", "text": "a JSON object holds a key twice", "section": "RFC 8259 §4", "at": 10, "limit": null});
        assert_eq!(told["body"]["violation"], rule);

        let named = format!("https://localhost:{}/inspect", server.https.rsplit(':').next().unwrap());
        let told: Value = serde_json::from_str(&curl(&[flag, "-4", &named], b"")).unwrap();
        assert_eq!(
            (&told["tls"]["sni"], &told["method"], &told["body"]),
            (&json!("localhost"), &json!("GET"), &json!({"coded_bytes": 0, "decoded_bytes": 0}))
        );
    }
    let _ = std::fs::remove_file(path);

    let chunked = ["--http1.1", &url, "-H", "transfer-encoding: chunked", "-d", "[1]"];
    let told: Value = serde_json::from_str(&curl(&[&chunked[..], &json_type[..]].concat(), b"")).unwrap();
    assert_eq!((&told["body"]["coded_bytes"], &told["body"]["json"]), (&json!(3), &json!([1])));
}

/// Who sends and does not read is held up, and fills no memory.
#[test]
fn an_echo_goes_no_faster_than_it_is_read() {
    let server = Serving::start(&[]);
    let mut stream = TcpStream::connect(&server.http).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    let sent = (0..2_000).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 1_000, "{sent} chunks of 64 KiB were taken"); // as much as the kernel's buffers hold
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())) else { return };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let kilobytes: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kilobytes < 20_000, "{peak}");
}

#[test]
fn echo_gives_back_what_was_decoded() {
    if !there_is("curl") {
        return;
    }
    let server = Serving::start(&[]);
    let url = format!("https://{}/echo", server.https);
    let text = "there and back ".repeat(3);
    // Larger than the limits of other routes, than every buffer, and than every window.
    let large: String = (0..700_000).map(|i| format!("{i:07} ")).collect();
    for (flag, version, _) in versions() {
        let url = [flag, url.as_str()];
        let gzip_coding = ["-H", "content-encoding: gzip", "--data-binary", "@-"];
        let answer = curl(
            &[&url[..], &["-i", "-H", "content-type: text/x-test"], &gzip_coding[..]].concat(),
            &gzip(text.as_bytes()),
        );
        let status = answer.lines().next().unwrap().trim_end();
        assert!(status.starts_with(version) && status.contains(" 200"), "{answer}");
        assert!(answer.contains("\r\ncontent-type: text/x-test\r\ncontent-length: 45\r\n"), "{answer}");
        assert!(answer.ends_with(&text));
        let answer = curl(&[&url[..], &["-H", "expect:", "--data-binary", "@-"]].concat(), large.as_bytes());
        assert!(answer == large, "{version}: {} bytes", answer.len());
        let answer = curl(&[&url[..], &["-H", "expect:"], &gzip_coding[..]].concat(), &gzip(large.as_bytes()));
        assert!(answer == large, "{version}: {} bytes", answer.len());
    }
}

fn sha256(bytes: &[u8]) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of any size leave the same little memory behind.
#[test]
fn uploads_are_summed_as_they_come() {
    if !there_is("curl") {
        return;
    }
    let server = Serving::start(&[]);
    // Lines that begin like a boundary, and bytes of every kind.
    let large: Vec<u8> = (0..2_500_000u64)
        .flat_map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0a0d_2d2d_0a0d_2d2d).to_be_bytes())
        .collect();
    let path = file("upload.bin", &large);
    let form = format!("file=@{};filename=a \"b\".bin;type=x/y", path.display());
    let expected = json!([
        {"name": "note", "filename": null, "content_type": null, "bytes": 3, "sha256": sha256(b"h\xc3\xad"), "text": "hí"},
        {"name": "file", "filename": "a \"b\".bin", "content_type": "x/y", "bytes": large.len(), "sha256": sha256(&large)},
    ]);
    for (flag, ..) in versions() {
        let plain = if flag == "--http2" { "--http2-prior-knowledge" } else { flag };
        for url in [format!("http://{}/upload", server.http), format!("https://{}/upload", server.https)] {
            let flag = if url.starts_with("https") { flag } else { plain };
            let answer = curl(&[flag, &url, "-F", "note=hí", "-F", &form], b"");
            let told: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(told["parts"], expected, "{flag} {url}");
            assert!(told["bytes"].as_u64().unwrap() > large.len() as u64);
        }
        let url = format!("https://{}/upload", server.https);
        let kind = ["-H", "content-type: multipart/form-data; boundary=b0"];
        let body = [&b"--b0\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\n"[..], &large, b"\r\n--b0--"]
            .concat();
        let coded = ["-H", "content-encoding: gzip", "--data-binary", "@-"];
        let answer = curl(&[&[flag, url.as_str()], &kind[..], &coded[..]].concat(), &gzip(&body));
        let told: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&told["bytes"], &told["parts"][0]["sha256"]), (&json!(body.len()), &json!(sha256(&large))));

        // Refused at its first bytes; that is said when the rest was written.
        let plain = ["--data-binary", "@-", "-w", "%{http_code}"];
        let answer =
            curl(&[&[flag, url.as_str()], &kind[..], &plain[..]].concat(), &[&b"x"[..], &large[..8 << 20]].concat());
        let told: Value = serde_json::from_str(answer.strip_suffix("400").unwrap()).unwrap();
        assert_eq!((&told["violation"]["rule"], &told["violation"]["at"]), (&json!("MultipartPreamble"), &json!(0)));
        let answer = curl(&[flag, &url, "-i", "-d", "a=b"], b"");
        assert!(answer.contains(" 415") && answer.contains("\r\naccept: multipart/form-data\r\n"), "{answer}");
    }
    let _ = std::fs::remove_file(path);
    let cut = server.send(
        b"POST /upload HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=b\r\n\
transfer-encoding: chunked\r\n\r\n3\r\n--b\r\n1\r\n-\r\n0\r\nx-a: 1\r\n\r\n",
    );
    assert!(cut.starts_with("HTTP/1.1 400 ") && cut.contains("MultipartTruncated"), "{cut}");
    let page = server.get("/upload");
    assert!(page.contains("enctype=\"multipart/form-data\"") && page.contains("content-security-policy: "), "{page}");
    let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())) else { return };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let kilobytes: u64 = peak.strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kilobytes < 20_000, "{peak}");
}

#[test]
fn forms_and_queries_are_told_as_pairs() {
    let server = Serving::start(&[]);
    let told = |bytes: &[u8]| -> Value {
        let answer = server.send(bytes);
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let form = told(
        b"POST /inspect?tag=a&tag=%C3%BC+b HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 11\r\n\
content-type: application/x-www-form-urlencoded; charset=UTF-8\r\n\r\nn=1&m=%20&n",
    );
    assert_eq!(form["query"], json!([["tag", "a"], ["tag", "ü b"]]));
    assert_eq!(form["body"]["form"], json!([["n", "1"], ["m", " "], ["n", ""]]));
    assert_eq!(
        (&form["body"]["media_type"], &form["body"]["charset"]),
        (&json!("application/x-www-form-urlencoded"), &json!("UTF-8"))
    );
    let bad = told(b"GET /inspect?a=%zz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_eq!(bad["query"]["violation"]["rule"], "FormEscape");
}

#[test]
fn protobuf_and_grpc_are_told_without_a_schema() {
    let server = Serving::start(&[]);
    // A string, an integer, and a message that holds the float -1.5.
    let message = b"\x0a\x0cAda Lovelace\x10\x96\x01\x1a\x05\x0d\0\0\xc0\xbf";
    let fields = json!([
        {"field": 1, "type": "bytes", "value": "Ada Lovelace"},
        {"field": 2, "type": "varint", "value": 150},
        {"field": 3, "type": "bytes", "value": [{"field": 1, "type": "fixed32", "value": 0xbfc0_0000_u32}]},
    ]);
    let coded = gzip(message);
    let framed = |flag: u8, message: &[u8]| [&[flag, 0, 0, 0, message.len() as u8][..], message].concat();
    let content = [framed(0, message), framed(1, &coded)].concat();
    let messages = json!([
        {"compressed": false, "bytes": message.len(), "protobuf": fields},
        {"compressed": true, "bytes": coded.len(), "decoded_bytes": message.len(), "protobuf": fields},
    ]);
    let ask = |fields: &str, body: &[u8]| -> (String, Value) {
        let head = format!(
            "POST /inspect HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n{fields}\r\n",
            body.len()
        );
        let answer = server.send(&[head.as_bytes(), body].concat());
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().into(), serde_json::from_str::<Value>(text).unwrap()["body"].take())
    };
    let (ok, bad) = ("HTTP/1.1 200 OK", "HTTP/1.1 400 Bad Request");
    for kind in ["application/protobuf", "application/x-protobuf", "application/vnd.example.v1+proto"] {
        let (status, told) = ask(&format!("content-type: {kind}\r\n"), message);
        assert_eq!((&*status, &told["media_type"], &told["protobuf"]), (ok, &json!(kind), &fields));
    }
    let (status, told) = ask("content-type: application/x-protobuf\r\n", &message[..5]);
    assert_eq!((&*status, &told["violation"]["rule"]), (bad, &json!("ProtobufLength")));
    assert_eq!((&told["violation"]["at"], &told["protobuf"]), (&json!(1), &Value::Null));
    let kind = "content-type: application/grpc+proto\r\n";
    let (status, told) = ask(&format!("{kind}grpc-encoding: gzip\r\n"), &content);
    assert_eq!((&*status, &told["grpc"]), (ok, &messages));
    let (status, told) = ask(kind, &content);
    assert_eq!((&*status, &told["violation"]["rule"]), (bad, &json!("GrpcUnnamedEncoding")));
    assert_eq!((&told["violation"]["at"], &told["grpc"]), (&json!(message.len() + 5), &json!([messages[0]])));
    if !there_is("curl") {
        return;
    }
    let url = format!("https://{}/inspect", server.https);
    for (flag, ..) in versions() {
        let kind = ["-H", "content-type: application/grpc", "-H", "grpc-encoding: gzip", "-H", "te: trailers"];
        let answer = curl(&[&[flag, &url][..], &kind, &["--data-binary", "@-"]].concat(), &content);
        assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["body"]["grpc"], messages, "{flag}");
    }
}

#[test]
fn what_is_refused_has_its_status_and_one_line() {
    let server = Serving::start(&[]);
    let status = |bytes: &[u8]| server.send(bytes).lines().next().unwrap_or("").to_string();
    assert_eq!(
        status(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-encoding: zip\r\ncontent-length: 1\r\n\r\nx"),
        "HTTP/1.1 415 Unsupported Media Type"
    );
    assert_eq!(
        status(b"POST /inspect HTTP/1.1\r\nhost: a\r\ncontent-length: 1048577\r\n\r\nx"),
        "HTTP/1.1 413 Content Too Large"
    );
    assert_eq!(
        status(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741825\r\n\r\nx"),
        "HTTP/1.1 413 Content Too Large"
    );
    let echo = server.send(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 268435457\r\n\r\nx");
    assert!(echo.starts_with("HTTP/1.1 413 ") && echo.contains("268435456 bytes at most"), "{echo}");
    assert_eq!(
        status(b"POST /inspect HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"),
        "HTTP/1.1 400 Bad Request"
    );
    assert_eq!(status(b"GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    let nowhere = server.get("/<script>");
    assert!(nowhere.starts_with("HTTP/1.1 404 Not Found\r\n") && nowhere.contains("/bytes/N"), "{nowhere}");
    assert!(
        server
            .get("/echo")
            .contains("405 Method Not Allowed\r\ncontent-type: text/plain; charset=utf-8\r\nallow: POST\r\n")
    );
    assert!(server.get("/bytes/1099511627777").starts_with("HTTP/1.1 404 "));
    let page = server.get("/");
    assert!(page.contains("5 connections ended by a broken rule"), "{page}");
    assert!(page.contains("HTTP/1.1 and HTTP/2"));
    assert!(
        page.contains("/&lt;script&gt;") && page.matches("<script").count() == 1,
        "what was asked is shown as text"
    );
    let head = server.send(b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let head = server.send(b"HEAD /bytes/1099511627776 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(head.contains("content-length: 1099511627776\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let (_, _, log, _) = server.terminate();
    let lines: Vec<_> = log.lines().map(|line| line.split_once(": ").unwrap().1).collect();
    assert_eq!(lines.len(), 5, "{log}");
    assert!(lines[0].starts_with("415 CodingUnknown: the content coding is not known here (RFC 9110 §8.4)"), "{log}");
    assert!(lines[2].ends_with("body_bytes is 1073741824"), "{log}");
}

#[test]
fn a_million_bytes_come_plain_and_over_tls() {
    let server = Serving::start(&[]);
    let answer = server.get("/bytes/1000000");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(body.len(), 1_000_000);
    assert!(body.as_bytes().chunks(32).all(|c| b"abcdefghijklmnopqrstuvwxyz012345".starts_with(c)));
    if there_is("curl") {
        for (flag, ..) in versions() {
            assert!(curl(&[flag, &format!("https://{}/bytes/1000000", server.https)], b"") == body);
        }
    }
}

#[test]
fn python_node_and_openssl_are_served() {
    let server = Serving::start(&[]);
    if there_is("python3") {
        let script = "
import http.client, ssl, sys, gzip
context = ssl._create_unverified_context()
c = http.client.HTTPSConnection(sys.argv[1], context=context, timeout=10)
for n in range(20):
    c.request('GET', '/hello')
    r = c.getresponse()
    assert r.status == 200 and r.read() == b'Hello, world!'
c.request('POST', '/echo', gzip.compress(b'from python'), {'content-encoding': 'gzip', 'content-type': 'text/plain'})
r = c.getresponse()
assert r.getheader('content-type') == 'text/plain'
print(r.read().decode())
";
        let output = run("python3", &["-c", script, &server.https], b"");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "from python\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    if there_is("node") {
        let script = "
const https = require('https');
const [host, port] = process.argv[1].split(':');
const agent = new https.Agent({ keepAlive: true, rejectUnauthorized: false });
const ask = (left) => {
  const body = JSON.stringify({ left });
  const request = https.request({ host, port, path: '/inspect', method: 'POST', agent, headers: { 'content-type': 'application/json', 'content-length': body.length } }, (r) => {
    let text = '';
    r.on('data', (d) => text += d);
    r.on('end', () => {
      if (JSON.parse(text).body.json.left !== left) throw new Error(text);
      if (left > 0) ask(left - 1); else { console.log('from node'); agent.destroy(); }
    });
  });
  request.end(body);
};
ask(20);
";
        let output = run("node", &["-e", script, &server.https], b"");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "from node\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    if there_is("openssl") {
        let request = b"GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let output = run(
            "openssl",
            &[
                "s_client",
                "-connect",
                &server.https,
                "-quiet",
                "-servername",
                "localhost",
                "-alpn",
                "http/1.1",
                "-ign_eof",
            ],
            request,
        );
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.ends_with("\r\n\r\nHello, world!"), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// HTTP/2 on the plain port, to those who know, and on the TLS port, to those who ask.
#[test]
fn clients_of_http2_are_served() {
    let server = Serving::start(&[]);
    let plain = format!("http://{}", server.http);
    let secure = format!("https://{}", server.https);
    if there_is("curl") && versions().len() > 1 {
        for (flag, origin) in [("--http2-prior-knowledge", &plain), ("--http2", &secure)] {
            let answer = curl(&[flag, "-w", " %{http_version} %{http_code}", &format!("{origin}/hello")], b"");
            assert_eq!(answer, "Hello, world! 2 200");
            let all: Vec<String> = (0..50).map(|n| format!("{origin}/bytes/{}", n * 4_000)).collect();
            let mut args = vec![flag, "-Z", "--parallel-immediate", "-w", "%{http_version} %{size_download}\n"];
            for url in &all {
                args.extend(["-o", "/dev/null", url]);
            }
            let mut lines: Vec<String> = curl(&args, b"").lines().map(String::from).collect();
            let mut expected: Vec<String> = (0..50).map(|n| format!("2 {}", n * 4_000)).collect();
            lines.sort();
            expected.sort();
            assert_eq!(lines, expected);
        }
        let answer = curl(&["--http2", &format!("{plain}/inspect")], b"");
        let told: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(told["version"], "HTTP/1.1", "an upgrade to h2c is not taken (RFC 9113 §3.1)");
    }
    for origin in [&plain, &secure] {
        if there_is("nghttp") {
            let urls = ["/hello", "/bytes/300000", "/", "/inspect"].map(|path| format!("{origin}{path}"));
            let args: Vec<&str> = ["-n", "-s", "-t", "10"].into_iter().chain(urls.iter().map(String::as_str)).collect();
            let output = run("nghttp", &args, b"");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.lines().filter(|l| l.contains(" 200 ")).count() == 4, "{said}");
        }
        if there_is("h2load") {
            for (path, n) in [("/hello", "5000"), ("/bytes/100000", "500")] {
                let url = format!("{origin}{path}");
                let output = run("h2load", &["-n", n, "-c", "5", "-m", "20", &url], b"");
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let all = format!("{n} total, {n} started, {n} done, {n} succeeded, 0 failed, 0 errored, 0 timeout");
                assert!(said.contains(&all), "{said}");
            }
        }
    }
    let (code, last_words, log, took) = server.terminate();
    assert_eq!((code, log.as_str()), (Some(0), ""), "{last_words}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn httpx_and_nodes_http2_are_served() {
    let server = Serving::start(&[]);
    let secure = format!("https://{}", server.https);
    let has_httpx = || {
        let found = run("python3", &["-c", "import httpx, h2"], b"").status.success();
        if !found {
            println!("httpx with HTTP/2 is absent: its part is left out");
        }
        found
    };
    if there_is("python3") && has_httpx() {
        let script = "
import asyncio, httpx, sys, gzip
async def main():
    async with httpx.AsyncClient(http2=True, verify=False, timeout=10) as c:
        async def one(n):
            text = str(n) * (n * 100)
            r = await c.post(sys.argv[1] + '/echo', content=gzip.compress(text.encode()), headers={'content-encoding': 'gzip'})
            assert r.http_version == 'HTTP/2' and r.text == text, r
            r = await c.post(sys.argv[1] + '/inspect', json={'n': n})
            assert r.json()['body']['json'] == {'n': n}, r.text
        await asyncio.gather(*[one(n) for n in range(1, 60)])
        print('from httpx')
asyncio.run(main())
";
        let output = run("python3", &["-c", script, &secure], b"");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, "from httpx\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
    if there_is("node") {
        let script = "
const http2 = require('http2');
const session = http2.connect(process.argv[1], { rejectUnauthorized: false });
let left = 60;
for (let n = 0; n < 60; n++) {
  const stream = session.request({ ':method': 'POST', ':path': '/echo', 'content-type': 'text/plain' });
  const sent = String(n).repeat(2000);
  let text = '';
  stream.on('response', (h) => { if (h[':status'] !== 200) throw new Error(h[':status']); });
  stream.setEncoding('utf8');
  stream.on('data', (d) => text += d);
  stream.on('end', () => {
    if (text !== sent) throw new Error('not what was sent');
    if (--left === 0) { console.log('from node'); session.close(); }
  });
  stream.end(sent);
}
";
        let output = run("node", &["-e", script, &secure], b"");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said, "from node\n", "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_taken_port_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for flag in ["--http", "--https"] {
        let other = if flag == "--http" { "--https" } else { "--http" };
        let output = run(PROGRAM, &["serve", flag, &addr, other, "127.0.0.1:0"], b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.starts_with(&format!("vestibule: {flag} {addr}: ")) && said.lines().count() == 1, "{said}");
    }
    for (words, code, said) in [
        (&["serve", "--nonsense"][..], 2, "serve takes no `--nonsense`"),
        (&["serve", "--topology", "star"], 2, "--topology star: there is no topology `star`"),
        (&["serve", "--topology", "single", "--workers", "3"], 2, "--workers needs --topology workers or acceptor"),
        (&["serve", "--driver", "mill"], 2, "--driver mill: there is no such driver, but std, tokio, uring"),
    ] {
        let output = run(PROGRAM, words, b"");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert!(text.starts_with(&format!("vestibule: {said}")), "{text}");
    }
    let output = run(PROGRAM, &["--help"], b"");
    assert!(output.status.success() && output.stdout.starts_with(b"vestibule: "));
}

#[test]
fn a_file_is_replayed_whole_or_in_pieces() {
    let bytes = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HT";
    let path = file("replay", bytes);
    let path = path.to_str().unwrap();
    let whole = run(PROGRAM, &["replay", path], b"");
    let expected = "request 1 POST /echo HTTP/1.1 with a body\n  host: a\n  content-length: 5\nbody 1 \"hello\" last\nsend\n  \
HTTP/1.1 200 OK\\r\\n\n  content-length: 5\\r\\n\n  \\r\\n\n  hello\nthen input\n";
    assert_eq!(String::from_utf8_lossy(&whole.stdout), expected);
    for n in ["1", "7"] {
        let split = run(PROGRAM, &["replay", path, "--split", n], b"");
        assert_eq!(String::from_utf8_lossy(&split.stdout), expected, "{n} at a time");
    }
    let piped = run(PROGRAM, &["replay", "-"], bytes);
    assert_eq!(String::from_utf8_lossy(&piped.stdout), expected);
    let record = b"\x16\x03\x01\x00\x02\x05\x00";
    let tls = run(PROGRAM, &["replay", "-"], record);
    assert!(String::from_utf8_lossy(&tls.stdout).contains("fault Tls"), "{tls:?}");
    let plain = run(PROGRAM, &["replay", "-", "--tls-off"], record);
    let plain = String::from_utf8_lossy(&plain.stdout).into_owned();
    assert!(plain.contains("HTTP/1.1 400 Bad Request") && !plain.contains("fault Tls"), "{plain}");
    let missing = run(PROGRAM, &["replay", "/nonexistent"], b"");
    assert_eq!(missing.status.code(), Some(1));
    let _ = std::fs::remove_file(path);
}

#[test]
fn every_layout_of_threads_answers_and_says_where_its_time_goes() {
    for (words, threads, pools) in [
        (&["--topology", "single"][..], &["worker 0"][..], &[][..]),
        (&["--workers", "2", "--pin", "--reuseport", "--backlog", "64"], &["worker 0", "worker 1"], &[]),
        (&["--topology", "acceptor", "--workers", "1", "--hand-out", "round-robin"], &["worker 0", "accept 0"], &[]),
        (&["--topology", "threads", "--threads", "4", "--connections", "100"], &["worker 0"], &["connections"]),
        (
            &["--workers", "1", "--offload", "handshakes,decode,process", "--pool-threads", "1", "--queue", "50"],
            &["worker 0", "crypto 0", "decode 0", "process 0"],
            &["crypto", "decode", "process"],
        ),
        (&["--workers", "1", "--offload", "records", "--pool-threads", "1"], &["worker 0", "crypto 0"], &["crypto"]),
        (&["--topology", "stages"], &["worker 0", "accept 0"], &["crypto", "decode"]),
    ] {
        let server = Serving::start(words);
        for _ in 0..3 {
            assert!(server.get("/hello").ends_with("Hello, world!"), "{words:?}");
        }
        let body = server.send(b"POST /inspect HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[1]");
        assert!(body.contains("\"json\""), "{words:?}: {body}");
        if there_is("curl") {
            assert_eq!(curl(&[&format!("https://{}/hello", server.https)], b""), "Hello, world!", "{words:?}");
        }
        let probe = server.get("/probe.json");
        let (head, text) = probe.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: application/json") && head.contains("cache-control: no-store"), "{head}");
        let told: Value = serde_json::from_str(text).unwrap();
        let names = |key: &str| -> Vec<String> {
            let all = told[key].as_array().unwrap().iter();
            all.map(|one| one["name"].as_str().unwrap().to_string()).collect()
        };
        for name in threads {
            assert!(names("threads").iter().any(|other| other == name), "{words:?}: {told}");
        }
        for name in pools {
            assert!(names("pools").iter().any(|other| other == name), "{words:?}: {told}");
        }
        assert!(told["requests"]["total"].as_u64().unwrap() >= 5, "{words:?}: {told}");
        assert_eq!(names("stages")[..3], ["accept", "read", "decrypt"]);
        let (code, _, log, _) = server.terminate();
        assert_eq!((code, log.as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn prometheus_and_the_page_are_told_the_same() {
    let server = Serving::start(&[]);
    assert!(server.get("/hello").ends_with("Hello, world!"));
    assert!(server.send(b"GET / HTTP/1.1\n\n").starts_with("HTTP/1.1 400 "));
    let answer = server.get("/metrics");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(text.contains("\nvestibule_faults_total{rule=\"BareLf\"} 1\n"), "{text}");
    assert!(text.contains("\nvestibule_requests_total{version=\"HTTP/1\"} 2\n"), "this one, too: {text}");
    assert!(text.contains("\nvestibule_connections_accepted_total 3\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("vestibule_") && value.parse::<f64>().is_ok(), "{line}");
    }
    // The answer to who asks is counted a moment after it was made, and perhaps a moment after it has come.
    let begun = Instant::now();
    while !server.get("/metrics").contains("\nvestibule_responses_total{class=\"4xx\"} 1\n") {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", server.get("/metrics"));
    }
    let page = server.get("/");
    assert!(
        page.contains("4xx <b data-class=\"4xx\">") && page.contains("/s of <b data-total=\"4xx\">1</b>"),
        "{page}"
    );
    assert!(page.contains("<tr data-stage=\"accept\"") && page.contains("Bottleneck: <b"), "{page}");
    assert!(page.contains("driver std, topology workers"), "{page}");
    assert!(page.contains("script-src 'self'; connect-src 'self'") && page.contains("<script src=\"/live.js\" defer>"));
    assert!(page.contains("/hello") && !page.contains("<td class=\"t\">/metrics"), "who looks is not in the list");
    assert!(server.get("/live.js").contains("content-type: text/javascript"));
    let off = Serving::start(&["--no-probe"]);
    assert!(off.get("/metrics").starts_with("HTTP/1.1 404 ") && off.get("/probe.json").starts_with("HTTP/1.1 404 "));
    assert!(off.get("/").contains("the probe is off"));
}

#[test]
fn every_driver_answers_with_the_same_page_or_says_why_it_cannot() {
    for driver in ["std", "tokio", "uring"] {
        let output = run(
            PROGRAM,
            &["serve", "--driver", driver, "--http", "127.0.0.1:0", "--topology", "threads", "--https", "0.0.0.1:1"],
            b"",
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        if driver == "uring" && !said.contains("a thread for each connection") {
            println!("no io_uring here: {said}");
            continue;
        }
        let why = if driver == "std" { "--https 0.0.0.1:1: " } else { "std driver" };
        assert!(said.contains(why), "{said}");
        let server = Serving::start(&["--driver", driver, "--workers", "1"]);
        assert!(server.get("/hello").ends_with("Hello, world!"), "{driver}");
        if there_is("curl") {
            let url = format!("https://{}/bytes/300000", server.https);
            assert_eq!(curl(&[&url], b"").len(), 300_000, "{driver}");
        }
        let probe = server.get("/probe.json");
        let told: Value = serde_json::from_str(probe.split_once("\r\n\r\n").unwrap().1).unwrap();
        let good = &told["responses"][1];
        assert!(good["class"] == "2xx" && good["total"].as_f64().unwrap() >= 1.0, "{driver}: {told}");
        let stage = |name: &str, key: &str| {
            let stages = told["stages"].as_array().unwrap();
            stages.iter().find(|stage| stage["name"] == name).unwrap()[key].as_f64().unwrap()
        };
        for name in ["accept", "read", "parse", "process", "write"] {
            assert!(stage(name, "count") >= 2.0, "{driver} {name}: {told}");
        }
        for name in ["read", "write"] {
            assert!(stage(name, "seconds") > 0.0, "{driver} {name}: {told}");
        }
        assert!(stage("decrypt", "bytes") > 0.0 || !there_is("curl"), "{driver}: {told}");
        assert_eq!(told["threads"][0]["name"], "worker 0", "{driver}");
        assert!(server.get("/").contains(&format!("driver {driver}, topology workers")));
        let (code, _, log, _) = server.terminate();
        assert_eq!((code, log.as_str()), (Some(0), ""), "{driver}");
    }
}
