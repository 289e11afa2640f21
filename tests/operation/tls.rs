//! TLS on the port for clients.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::hostile::{Ca, Upstream};
use harness::proxy::ProxyProcess;
use reqwest::{Certificate, Client, StatusCode, Version};
use tempfile::TempDir;

use crate::ground::documents;

/// A proxy with a certificate of a CA, and the folder of its files.
async fn proxy(ca: &Ca, upstream: &Upstream) -> (ProxyProcess, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    write(ca, folder.path());
    let proxy = ProxyProcess::new();
    let documents = documents(&url(&proxy), upstream).yaml();
    let proxy = proxy.documents(&documents).arg("--tls-certificate").arg(folder.path().join("tls.crt"));
    (proxy.arg("--tls-key").arg(folder.path().join("tls.key")).start().await, folder)
}

fn write(ca: &Ca, folder: &Path) {
    let (certificate, key) = ca.issue();
    replace(folder, "tls.crt", &certificate.pem());
    replace(folder, "tls.key", &key.serialize_pem());
}

/// In one step, so that no half of a file is read.
fn replace(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

fn url(proxy: &ProxyProcess) -> String {
    format!("https://{}", proxy.host())
}

/// A client that trusts these and makes a connection for each request.
fn client(trusted: &[&Ca]) -> Client {
    let mut builder = Client::builder().no_proxy().pool_max_idle_per_host(0);
    for ca in trusted {
        builder = builder.add_root_certificate(Certificate::from_pem(ca.pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_pulls_over_tls_and_is_sent_to_https_for_its_token() {
    let upstream = Upstream::start().await;
    let image = upstream.image("library/a", "1", &[]);
    let ca = Ca::generate();
    let (proxy, _folder) = proxy(&ca, &upstream).await;
    let client = client(&[&ca]);
    let asked = client.get(format!("{}/v2/", url(&proxy))).send().await.unwrap();
    assert_eq!((asked.status(), asked.version()), (StatusCode::UNAUTHORIZED, Version::HTTP_11));
    let challenge = asked.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains(&format!("realm=\"{}/jwt/auth\"", url(&proxy))), "{challenge}");
    let path = "v2/team-a/dependency_proxy/containers/library/a/manifests/1";
    let pulled = client.get(format!("{}/{path}", url(&proxy))).basic_auth("alice", Some("alice-password"));
    assert_eq!(pulled.send().await.unwrap().bytes().await.unwrap(), image.manifest);
    assert!(proxy.metric("tls_certificate_expiry_timestamp_seconds").await > 1_700_000_000.0);
    assert!(proxy.log().contains(&format!("Serving {}", url(&proxy))), "{}", proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_without_a_failed_request_and_a_bad_one_is_not() {
    let upstream = Upstream::start().await;
    let (old, new) = (Ca::generate(), Ca::generate());
    let (proxy, folder) = proxy(&old, &upstream).await;
    let ping = format!("{}/v2/", url(&proxy));
    let stop = Arc::new(AtomicBool::new(false));
    let pulls = tokio::spawn({
        let (client, ping, stop) = (client(&[&old, &new]), ping.clone(), stop.clone());
        async move {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                client.get(&ping).send().await.unwrap();
                answered += 1;
            }
            answered
        }
    });
    let renewed = client(&[&new]);
    assert!(renewed.get(&ping).send().await.is_err(), "the old certificate is served");
    write(&new, folder.path());
    proxy.metric_until("tls_reload_success", |good| good == 1.0).await;
    let mut tries = 0;
    while renewed.get(&ping).send().await.is_err() {
        tries += 1;
        assert!(tries < 500, "{}", proxy.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (_, key_of_another) = old.issue();
    for bad in ["no PEM", key_of_another.serialize_pem().as_str()] {
        replace(folder.path(), "tls.key", bad);
        proxy.metric_until("tls_reload_success", |good| good == 0.0).await;
        renewed.get(&ping).send().await.unwrap();
        assert!(proxy.log().contains("the last good one is"), "{}", proxy.log());
        write(&new, folder.path());
        proxy.metric_until("tls_reload_success", |good| good == 1.0).await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(pulls.await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_begins_no_handshake_holds_up_nobody() {
    let upstream = Upstream::start().await;
    let ca = Ca::generate();
    let (proxy, _folder) = proxy(&ca, &upstream).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(proxy.host()).await.unwrap());
    }
    let answer = client(&[&ca]).get(format!("{}/v2/", url(&proxy))).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}
