//! `serve` without documents: a laptop's proxy, and how to use it.

use std::process::Command;

use harness::process::Process;
use harness::pull::Client;
use harness::tool;
use http::{Method, StatusCode};
use url::Url;

/// Starts `serve` in a folder of its own, on a port of this test; its standard output, and the process.
async fn serve(folder: &std::path::Path, port: u16) -> (Vec<String>, Process) {
    let log = folder.join("log");
    // Only what people see: the log has its own stream.
    let command = format!(
        "exec {} serve --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{} 2>errors",
        tool::own("dependency-proxy").display(),
        tool::free_port()
    );
    std::fs::remove_file(&log).ok();
    let mut process = Process::start(Command::new("sh").args(["-c", &command]).current_dir(folder), &log);
    process.prints("  docker pull ").await;
    (process.log().lines().map(str::to_owned).collect(), process)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_prints_how_to_sign_in_and_pull_and_the_token_works() {
    let folder = tempfile::tempdir().unwrap();
    let port = tool::free_port();
    let host = format!("127.0.0.1:{port}");
    let (lines, process) = serve(folder.path(), port).await;
    let token = lines[2].strip_prefix("Token, shown once: ").unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(token.starts_with("dp_") && token.len() >= 40, "{token}");
    let metrics = lines[0].split_whitespace().nth(3).unwrap();
    assert_eq!(
        lines,
        [
            format!("Serving http://{host}   metrics {metrics}   cache ./data"),
            "Group default -> Docker Hub, anonymous".to_owned(),
            format!("Token, shown once: {token}"),
            format!("  echo {token} | docker login {host} -u default --password-stdin"),
            format!("  docker pull {host}/default/dependency_proxy/containers/alpine"),
        ]
    );
    assert!(metrics.starts_with("http://127.0.0.1:") && metrics.ends_with("/metrics"));

    let login = async || {
        let url = Url::parse(&format!("http://{host}")).unwrap();
        Client::new(url).user("default", token).send(Method::GET, "", &[]).await.status
    };
    assert_eq!(login().await, StatusCode::OK);
    drop(process);

    let (lines, _process) = serve(folder.path(), port).await;
    assert!(lines.iter().all(|line| !line.contains(token)), "it was shown once: {lines:#?}");
    assert!(
        lines[2].contains("as shown at the first start; delete ./data/default.yaml for a new one"),
        "{lines:#?}"
    );
    assert_eq!(login().await, StatusCode::OK, "it still works");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_with_the_token_has_only_its_hash_and_only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (lines, _process) = serve(folder.path(), tool::free_port()).await;
    let token = lines[2].strip_prefix("Token, shown once: ").unwrap();
    let file = folder.path().join("data/default.yaml");
    assert!(!std::fs::read_to_string(&file).unwrap().contains(token));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for errors in ["errors", "log"].map(|name| std::fs::read_to_string(folder.path().join(name)).unwrap()) {
        let shown = errors.lines().filter(|line| line.contains(token)).count();
        assert!(shown == 0 || errors.contains("Token, shown once"), "the log has it: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let output = crate::ground::run(&[
        "serve",
        "--listen",
        &address,
        "--admin-listen",
        "127.0.0.1:0",
        "--data-dir",
        data,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}
