//! Secrets stay out of logs, metrics, `/status` and errors, also when things go wrong.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::hostile::{Fault, Upstream, noise};
use harness::server::Proxy;
use http::Method;
use tracing_subscriber::EnvFilter;

/// All that the proxies of this process log, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let begin = || {
        let log = Log::default();
        let writer = log.clone();
        let filter = EnvFilter::new("proxy=trace,access=info,reqwest=trace,hyper_util=debug");
        // Another test of this process may have begun to log; then there is nothing to read here.
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        subscriber.try_init().unwrap();
        log
    };
    LOG.get_or_init(begin).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_anywhere() {
    let log = log();
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[noise(1, 1000)]);
    upstream.require_bearer_for("robot", "upstream-s3cret");
    let proxy = Proxy::builder()
        .upstream("upstream", &upstream)
        .group("team-a")
        .edit(|d| d.credentials("upstream", "robot", "upstream-s3cret"))
        .start()
        .await;
    let client = proxy.client();
    let mut shown = vec![client.manifest("library/a", "1").await];
    // A presigned URL whose server fails, answers nonsense, or does not exist.
    for (path, fault) in
        [("/fails", Some(Fault::Status(500))), ("/drops", Some(Fault::Drop)), ("/none", None)]
    {
        upstream.behave();
        let signed = format!("{}{}?X-Amz-Signature=presigned-s3cret", upstream.url(), &path[1..]);
        upstream.on("/blobs/").fault(Fault::Redirect(signed));
        if let Some(fault) = fault {
            upstream.on(path).fault(fault);
        }
        shown.push(client.blob("library/a", image.layers[0]).await);
    }
    upstream.behave();
    // Credentials that are wrong, here and there.
    let scope = client.scope("library/a");
    let service = format!("{}jwt/auth", proxy.url());
    shown.push(client.user("alice", "client-s3cret").token(&service, &[&scope]).await);
    let basic = format!("Basic {}", STANDARD.encode("alice:client-s3cret"));
    shown.push(
        client
            .plain(Method::GET, &client.path("library/a/manifests/1"), &[("authorization", &basic)], "")
            .await,
    );
    let token = client.token(&service, &[&scope]).await.json()["token"].as_str().unwrap().to_owned();
    let forged = format!("Bearer {token}x");
    shown.push(
        client
            .plain(Method::GET, &client.path("library/a/manifests/1"), &[("authorization", &forged)], "")
            .await,
    );
    upstream.require_bearer_for("robot", "changed");
    upstream.revoke_tokens();
    shown.push(client.manifest("library/b", "1").await);
    let broken = format!("Basic {}", STANDARD.encode("alice client-s3cret"));
    shown.push(client.plain(Method::GET, "/jwt/auth", &[("authorization", &broken)], "").await);

    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(logged.contains("library/a"), "the log is not read, or says nothing");
    let errors = shown.iter().map(|answer| format!("{:?} {}", answer.headers, answer.text()));
    let texts = errors.chain([logged, proxy.admin("/metrics").await, proxy.admin("/status").await]);
    let encoded =
        ["robot:upstream-s3cret", "alice:client-s3cret", "alice client-s3cret", "alice:alice-password"];
    let mut secrets = encoded.map(|text| STANDARD.encode(text)).to_vec();
    secrets.extend(
        ["s3cret", "alice-password", "ci-password", "fake-token-", &token, "$2b$"].map(str::to_owned),
    );
    for text in texts {
        for secret in &secrets {
            let found = text.find(secret.as_str());
            let around = |at: usize| text[at.saturating_sub(200)..].chars().take(400).collect::<String>();
            assert!(found.is_none(), "{secret} is in: {}", around(found.unwrap_or_default()));
        }
    }
}
