//! The built program in front of a registry in this process.

use std::process::{Command, Output};

use harness::documents::Documents;
use harness::hostile::Upstream;
use harness::proxy::ProxyProcess;
use harness::pull::Client;
use harness::tool;
pub(crate) use harness::tool::files;
use http::Method;
use url::Url;

/// A proxy that is not started yet: this upstream under the name `upstream`, and the group `team-a` on it.
pub(crate) fn prepared(upstream: &Upstream, edit: impl FnOnce(&mut Documents)) -> ProxyProcess {
    let proxy = ProxyProcess::new();
    let mut documents = documents(&proxy.url(), upstream);
    edit(&mut documents);
    proxy.documents(&documents.yaml())
}

/// The same, started.
pub(crate) async fn proxy_of(upstream: &Upstream, edit: impl FnOnce(&mut Documents)) -> ProxyProcess {
    prepared(upstream, edit).start().await
}

/// The documents of [`prepared`].
pub(crate) fn documents(external_url: &str, upstream: &Upstream) -> Documents {
    let mut documents = Documents::new(external_url);
    documents.upstream("upstream", upstream);
    documents.group("team-a", "upstream");
    documents
}

/// alice, a Guest, pulling from `team-a`.
pub(crate) fn client(proxy: &ProxyProcess) -> Client {
    Client::new(Url::parse(&proxy.url()).unwrap()).user("alice", "alice-password").group("team-a")
}

/// A request to the second port: status and text.
pub(crate) async fn admin(proxy: &ProxyProcess, method: Method, path: &str, body: &str) -> (u16, String) {
    let second = Client::new(Url::parse(proxy.admin_url()).unwrap());
    let answer = second.plain(method, path, &[], body).await;
    (answer.status.as_u16(), answer.text())
}

/// Waits until every download has been put away: clients have their bytes a moment before.
pub(crate) async fn settled(proxy: &ProxyProcess) {
    proxy.metric_until("fills_in_flight", |fills| fills == 0.0).await;
}

/// Runs a command of the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(tool::own("dependency-proxy")).args(arguments).output().unwrap()
}

/// What a command printed to standard output.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
