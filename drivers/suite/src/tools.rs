//! Clients that others have made. Those that are not installed are passed over, and it is said why.

use crate::server::{Layout, start};
use crate::service::{Sum, pattern};
use crate::site::{Site, TempFile, roomy};
use bytes::Bytes;
use http::Request;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use vestibule_driver::Driver;

/// Runs it, with something to read. `None`: it is not installed.
fn run(name: &str, arguments: &[&str], input: &[u8]) -> Option<Output> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Whatever the machine's own settings for clients are, this one goes to its server.
    for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        command.env_remove(variable);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("{name} is passed over: {error}");
            return None;
        }
    };
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
        // Who reads from a terminal ends with its input: `openssl s_client` before its answer has come.
        std::thread::sleep(Duration::from_millis(if input.is_empty() { 0 } else { 500 }));
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    Some(output)
}

fn text(output: &Output) -> String {
    let Output { status, stdout, stderr } = output;
    format!("{status}: {} {}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr))
}

pub fn curl_in_each_version_plain_and_over_tls<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let (plain, tls) = (site.server.http.port(), site.port());
    let (certificate, body) = (site.certificate_file(), TempFile::new("body", &pattern(700_000)));
    let (certificate, body) = (certificate.0.to_str().unwrap(), format!("@{}", body.0.to_str().unwrap()));
    let resolve = format!("localhost:{tls}:127.0.0.1");
    let common = [
        "-sS",
        "--max-time",
        "30",
        "--cacert",
        certificate,
        "--resolve",
        &resolve,
        "-w",
        " %{http_version} %{http_code}",
    ];
    let bases = [
        (format!("http://127.0.0.1:{plain}"), "--http1.1", "1.1"),
        (format!("http://127.0.0.1:{plain}"), "--http2-prior-knowledge", "2"),
        (format!("https://localhost:{tls}"), "--http1.1", "1.1"),
        (format!("https://localhost:{tls}"), "--http2", "2"),
    ];
    let uploaded = format!("700000 {:x}", Sum::of(&pattern(700_000)).0);
    for (base, version, number) in bases {
        let url = |path: &str| format!("{base}{path}");
        let curl = |more: &[&str]| run("curl", &[&common[..], &[version], more].concat(), b"");
        let Some(output) = curl(&[&url("/hello")]) else { return };
        assert_eq!(output.stdout, format!("hello {number} 200").into_bytes(), "{}", text(&output));
        let output = curl(&["--data-binary", &body, &url("/upload")]).unwrap();
        assert_eq!(output.stdout, format!("{uploaded} {number} 200").into_bytes(), "{}", text(&output));
        let output = curl(&["--data-binary", &body, &url("/echo")]).unwrap();
        assert!(output.stdout == [&pattern(700_000)[..], format!(" {number} 200").as_bytes()].concat(), "{version}");
        let output = curl(&[&url("/outlet/200000")]).unwrap();
        assert!(output.stdout.starts_with(&pattern(200_000)), "{version}");
        // (curl 7.88 cannot use a connection again whose version it knew before.)
        let (again, number_of) = (url("/hello"), if version == "--http2-prior-knowledge" { 1 } else { 3 });
        let output = curl(&vec![&again[..]; number_of]).unwrap();
        assert_eq!(output.stdout, format!("hello {number} 200").repeat(number_of).into_bytes(), "{}", text(&output));
        let output = curl(&["-I", &url("/bytes/1000")]).unwrap();
        assert!(text(&output).to_lowercase().contains("content-length: 1000\r\n"), "{}", text(&output));
    }
}

pub fn openssl_with_its_own_choices<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let (certificate, port) = (site.certificate_file(), format!("127.0.0.1:{}", site.port()));
    let file = certificate.0.to_str().unwrap();
    for more in [&["-tls1_3"][..], &["-alpn", "http/1.1"], &["-groups", "P-256"]] {
        let arguments = ["s_client", "-connect", &port, "-servername", "localhost", "-CAfile", file];
        let arguments = [&arguments[..], &["-verify_return_error", "-quiet", "-no_ign_eof"], more].concat();
        let Some(output) = run("openssl", &arguments, b"GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        else {
            return;
        };
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{}", text(&output));
    }
}

const PYTHON: &str = r#"
import http.client, ssl, sys
plain, tls, certificate = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=certificate)
for one in (http.client.HTTPConnection("127.0.0.1", plain, timeout=20),
            http.client.HTTPSConnection("localhost", tls, timeout=20, context=context)):
    for n in range(20):
        one.request("GET", "/%d" % n)
        answer = one.getresponse()
        assert (answer.status, answer.read()) == (200, b"/%d" % n)
    one.request("POST", "/echo", body=(b"x" * 1000 for _ in range(100)), encode_chunked=True,
                headers={"transfer-encoding": "chunked"})
    answer = one.getresponse()
    assert (answer.status, answer.read()) == (200, b"x" * 100000)
    one.request("HEAD", "/bytes/5000")
    answer = one.getresponse()
    assert (answer.getheader("content-length"), answer.read()) == ("5000", b"")
    one.request("GET", "/outlet/100000")
    assert len(one.getresponse().read()) == 100000
    one.close()
print("good")
"#;

pub fn python_keeps_its_connections<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let certificate = site.certificate_file();
    let ports = [site.server.http.port().to_string(), site.port().to_string()];
    let python = std::env::var("VESTIBULE_PYTHON").unwrap_or_else(|_| "python3".into());
    let arguments = ["-c", PYTHON, &ports[0], &ports[1], certificate.0.to_str().unwrap()];
    let Some(output) = run(&python, &arguments, b"") else { return };
    assert_eq!(output.stdout, b"good\n", "{}", text(&output));
}

/// Windows, pings and settings by somebody else's reading of RFC 9113.
pub fn the_client_of_the_h2_crate<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(roomy()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let addr = server.http;
    runtime.block_on(async move {
        let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        let driven = tokio::spawn(connection);
        let mut all = Vec::new();
        for n in 0..50 {
            let client = client.clone();
            all.push(tokio::spawn(one(client, n)));
        }
        for one in all {
            one.await.unwrap();
        }
        drop(client);
        driven.await.unwrap().unwrap();
    });
    server.settle();
    assert_eq!(server.incidents(), [""; 0]);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests), (1, 50));
}

async fn one(client: h2::client::SendRequest<Bytes>, n: usize) {
    let mut client = client.ready().await.unwrap();
    let path = ["/hello", "/bytes/200000", "/outlet/200000", "/later/10", "/echo"][n % 5];
    let is_echo = path == "/echo";
    let method = if is_echo { "POST" } else { "GET" };
    let request = Request::builder().method(method).uri(format!("http://localhost{path}")).body(()).unwrap();
    let (response, mut body) = client.send_request(request, !is_echo).unwrap();
    let sent = pattern(150_000);
    let sending = async {
        let mut rest = &sent[..];
        while is_echo && !rest.is_empty() {
            body.reserve_capacity(rest.len().min(16_384));
            let n = std::future::poll_fn(|context| body.poll_capacity(context)).await.unwrap().unwrap();
            let (piece, more) = rest.split_at(n.min(rest.len()));
            rest = more;
            body.send_data(Bytes::copy_from_slice(piece), rest.is_empty()).unwrap();
        }
    };
    let receiving = async {
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let (mut stream, mut content) = (response.into_body(), Vec::new());
        while let Some(piece) = stream.data().await {
            let piece = piece.unwrap();
            content.extend_from_slice(&piece);
            stream.flow_control().release_capacity(piece.len()).unwrap();
        }
        content
    };
    let ((), content) = tokio::join!(sending, receiving);
    let expected = match n % 5 {
        0 => b"hello".to_vec(),
        3 => b"/later/10".to_vec(),
        4 => sent,
        _ => pattern(200_000),
    };
    assert!(content == expected, "{path}: {} bytes", content.len());
}
