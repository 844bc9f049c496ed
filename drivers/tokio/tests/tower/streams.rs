//! HTTP/2 over memory: exchanges beside each other, and what one does to the others.

use crate::connection::{Out, full, options, site};
use crate::h2_client::{ask, connect, exchange, get, post, read, send};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::duplex;
use tower::service_fn;
use vestibule_tokio::tower::{Body, ConnectionError, Finished, Peer, Upgrade, serve_connection};

/// A client on one end, the service on the other, for as long as `talk` lasts.
async fn talk<S, F, T>(service: S, talk: impl AsyncFnOnce(h2::client::SendRequest<Bytes>) -> T) -> T
where
    S: FnMut(Request<Body>) -> F + Send + 'static,
    F: Future<Output = Result<Response<Out>, Infallible>> + Send + 'static,
{
    let (client, server) = duplex(16_384);
    let connection = serve_connection(server, &options(), Peer::default(), service_fn(service));
    let served = tokio::spawn(connection);
    let outcome = talk(connect(client).await).await;
    let finished: Result<Finished, ConnectionError> = served.await.expect("no panic");
    assert_eq!(finished.expect("no trouble").fault, None);
    outcome
}

#[tokio::test]
async fn many_exchanges_go_on_beside_each_other() {
    talk(site, async |sender| {
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..60usize {
            let sender = sender.clone();
            tasks.spawn(async move {
                let body = vec![b'a' + (i % 26) as u8; 1_000 * i];
                let answer = exchange(&sender, post("/echo", body.clone())).await.expect("an answer");
                assert_eq!((answer.status, answer.body == body), (200, true), "{i}");
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.expect("no panic");
        }
        let answer = exchange(&sender, get("/none")).await.expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        let head = Request::head("http://a.example/large").body(Bytes::new()).expect("a request");
        let answer = exchange(&sender, head).await.expect("an answer");
        assert_eq!((answer.get("content-length"), answer.body.len()), (Some("300000"), 0));
        assert_eq!(exchange(&sender, get("/large")).await.expect("an answer").body.len(), 300_000);
    })
    .await;
}

#[tokio::test]
async fn a_panic_ends_its_stream_alone() {
    talk(site, async |sender| {
        let (slow, mut upload) = ask(&sender, post("/echo", "abc").map(|_| ()), false).await;
        assert_eq!(exchange(&sender, get("/panic")).await.expect("an answer").status, 500);
        for path in ["/panic-late", "/broken"] {
            let error = exchange(&sender, get(path)).await.expect_err("cut off");
            assert!(error.is_reset(), "{path}: {error}");
        }
        send(&mut upload, "abc".into(), true).await.expect("open");
        let mut body = slow.await.expect("an answer").into_body();
        assert_eq!(read(&mut body).await.expect("complete"), b"abc");
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_stop_the_others() {
    let (release, hold) = tokio::sync::oneshot::channel::<()>();
    let hold = Arc::new(Mutex::new(Some(hold)));
    let service = move |request: Request<Body>| {
        let hold = if request.uri().path() == "/count" { hold.lock().expect("no panic").take() } else { None };
        async move {
            if let Some(hold) = hold {
                hold.await.expect("told");
            }
            site(request).await
        }
    };
    talk(service, async |sender| {
        let upload = tokio::spawn({
            let sender = sender.clone();
            async move { exchange(&sender, post("/count", vec![b'x'; 1_000_000])).await }
        });
        for i in 0..99 {
            let body = vec![b'o'; 3_000 + i];
            assert_eq!(exchange(&sender, post("/echo", body.clone())).await.expect("an answer").body, body);
        }
        assert!(!upload.is_finished());
        release.send(()).expect("it waits");
        assert_eq!(upload.await.expect("no panic").expect("an answer").text(), "1000000 bytes");
    })
    .await;
}

#[tokio::test]
async fn a_reset_drops_the_future_of_its_stream() {
    struct Alive(Arc<AtomicUsize>, Option<tokio::sync::oneshot::Sender<()>>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            let _ = self.1.take().map(|gone| gone.send(()));
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let (gone, left) = tokio::sync::oneshot::channel();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let service = {
        let dropped = dropped.clone();
        move |request: Request<Body>| {
            let waits = request.uri().path() == "/wait";
            let alive = waits.then(|| Alive(dropped.clone(), gone.lock().expect("no panic").take()));
            async move {
                let _alive = alive;
                if waits {
                    return std::future::pending().await;
                }
                Ok(full("here"))
            }
        }
    };
    talk(service, async |sender| {
        let (response, mut stream) = ask(&sender, get("/wait").map(|_| ()), true).await;
        assert_eq!(exchange(&sender, get("/")).await.expect("an answer").text(), "here");
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        stream.send_reset(h2::Reason::CANCEL);
        left.await.expect("it was dropped");
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert!(response.await.is_err());
    })
    .await;
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let service = |request: Request<Body>| async move {
        assert_eq!(request.uri(), "http://a.example/sum");
        let whole = request.into_body().collect().await.expect("complete");
        let sum = whole.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
        assert_eq!(sum.expect("trailers"), "7");
        site(Request::get("/trailers").body(Body::empty()).expect("a request")).await
    };
    talk(service, async |sender| {
        let request = Request::post("http://a.example/sum").body(()).expect("a request");
        let (response, mut stream) = ask(&sender, request, false).await;
        stream.send_data("seven".into(), false).expect("open");
        let trailers = http::HeaderMap::from_iter([("x-sum".parse().expect("a name"), "7".parse().expect("a value"))]);
        stream.send_trailers(trailers).expect("open");
        let mut body = response.await.expect("an answer").into_body();
        assert_eq!(read(&mut body).await.expect("complete"), b"body");
        assert_eq!(body.trailers().await.expect("complete").expect("trailers")["x-sum"], "42");
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_of_one_stream_is_held_back_and_ends_on_both_sides() {
    let service = |mut request: Request<Body>| async move {
        assert_eq!(request.method(), Method::CONNECT);
        let upgrade = Upgrade::of(&mut request).expect("it may be upgraded");
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(upgrade.await.expect("upgraded"));
            tokio::io::copy(&mut reader, &mut writer).await.expect("open");
            tokio::io::AsyncWriteExt::shutdown(&mut writer).await.expect("open");
        });
        Ok(full(""))
    };
    talk(service, async |sender| {
        let request = Request::connect("b.example:80").body(()).expect("a request");
        let (response, mut stream) = ask(&sender, request, false).await;
        let mut body = response.await.expect("an answer").into_body();
        // Nothing is read for a while: 64 KiB each way and what the windows hold.
        let says = async { send(&mut stream, vec![b't'; 1_000_000].into(), true).await };
        let hears = async {
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
            read(&mut body).await
        };
        let (said, heard) = tokio::join!(says, hears);
        said.expect("open");
        assert_eq!(heard.expect("complete").len(), 1_000_000);
    })
    .await;
}
