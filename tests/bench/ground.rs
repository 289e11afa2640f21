//! The proxy that is measured, in front of one upstream.

use std::time::Duration;

use harness::documents::Documents;
use harness::proxy::ProxyProcess;
use harness::pull::Client;
use serde_json::json;
use url::Url;

use crate::connection::Target;

/// The repository that all figures are about.
pub(crate) const REPOSITORY: &str = "library/app";

/// `dependency-proxy serve` with the group `team-a` and the virtual registry `dp.hub`, both on one upstream.
pub(crate) struct Ours {
    pub(crate) process: ProxyProcess,
}

impl Ours {
    /// `upstream` as `host:port`, over plain HTTP.
    pub(crate) async fn before(upstream: &str) -> Self {
        let process = ProxyProcess::new();
        let mut documents = Documents::new(&process.url());
        let spec = json!({"url": format!("http://{upstream}"), "insecure": true});
        documents.add("RegistryUpstream", "upstream", spec);
        documents.group("team-a", "upstream");
        documents.registry("hub", "team-a", &["upstream"]);
        Self { process: process.documents(&documents.yaml()).start().await }
    }

    /// alice, who pulls through the group.
    pub(crate) fn group(&self) -> Client {
        self.client().group("team-a")
    }

    /// alice, who pulls through the virtual registry.
    pub(crate) fn registry(&self) -> Client {
        self.client().registry("dp.hub")
    }

    fn client(&self) -> Client {
        Client::new(Url::parse(&self.process.url()).unwrap()).user("alice", "alice-password")
    }

    /// `manifests/...` or `blobs/...` of the repository, with a token that opens it.
    pub(crate) async fn target(&self, client: &Client, rest: &str) -> Target {
        let realm = format!("{}/jwt/auth", self.process.url());
        let answer = client.token(&realm, &[&client.scope(REPOSITORY)]).await.json();
        let token = answer["token"].as_str().expect("a token").to_owned();
        let path = client.path(&format!("{REPOSITORY}/{rest}"));
        Target { token: Some(token), ..Target::new(&self.process.host(), path) }
    }
}

/// The same of a registry that asks nobody who he is.
pub(crate) fn open_target(host: &str, rest: &str) -> Target {
    Target::new(host, format!("/v2/{REPOSITORY}/{rest}"))
}

/// What a process has used of the processors so far. Unlike time by the clock it tells little of who else is at work.
pub(crate) fn processor_time(pid: Option<u32>) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.expect("it runs"))).expect("it is there");
    // proc_pid_stat(5): behind the name in parentheses, utime and stime are the 12th and 13th field, in ticks of 10 ms.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
