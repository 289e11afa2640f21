//! Three replicas of one instance as processes, on a real S3 server, before an upstream in this process.

use std::path::PathBuf;
use std::time::Duration;

use crate::documents::Documents;
use crate::hostile::Upstream;
use crate::proxy::ProxyProcess;
use crate::pull::Client;
use crate::s3::S3;
use crate::tool;
use crate::way::Way;
use futures_util::future::join_all;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

/// Replicas that share a bucket and a key.
pub struct Instance {
    /// What they were started with.
    pub documents: Documents,
    pub upstream: Upstream,
    pub s3: S3,
    pub replicas: Vec<Replica>,
}

/// One of them.
pub struct Replica {
    pub proxy: ProxyProcess,
    /// Where the others reach it.
    pub port: u16,
}

/// Documents of an instance of three.
pub struct Plan {
    pub upstream: Upstream,
    s3: S3,
    proxies: Vec<ProxyProcess>,
    pub documents: Documents,
    /// Of one replica each.
    arguments: Vec<(usize, String)>,
    apart: bool,
}

impl Plan {
    /// Three replicas with the group `team-a` on the upstream, not started yet.
    pub async fn new() -> Self {
        let (upstream, s3) = tokio::join!(Upstream::start(), S3::start());
        let _ = s3.bucket("blobs");
        let proxies: Vec<_> = (0..3).map(|_| ProxyProcess::new()).collect();
        let urls: Vec<_> = proxies.iter().map(ProxyProcess::url).collect();
        let mut documents = Documents::new(&urls[0]);
        documents.upstream("upstream", &upstream);
        documents.group("team-a", "upstream");
        documents.spec("DependencyProxy", "main")["additionalURLs"] = json!(urls[1..]);
        share(&mut documents, &s3);
        Self { upstream, s3, proxies, documents, arguments: Vec::new(), apart: false }
    }

    /// The bucket is reached by a way on which things can go wrong.
    pub async fn by_way(mut self) -> (Self, Way) {
        let endpoint = self.s3.endpoint();
        let way = Way::to(endpoint.trim_start_matches("http://")).await;
        self.documents.spec("DependencyProxy", "main")["storage"]["s3"]["endpoint"] = json!(way.url());
        (self, way)
    }

    /// One more argument of `serve` for one replica.
    #[must_use]
    pub fn arg(mut self, replica: usize, argument: &str) -> Self {
        self.arguments.push((replica, argument.to_owned()));
        self
    }

    /// All replicas have clocks that [`Instance::advance`] moves on, each that much ahead of the machine's, such as `300s`.
    #[must_use]
    pub fn clocks(mut self, offsets: [&str; 3]) -> Self {
        for (replica, offset) in offsets.iter().enumerate() {
            self = self.arg(replica, &format!("--clock-offset={offset}"));
        }
        self
    }

    /// The data folders of all replicas, which are not there yet.
    #[must_use]
    pub fn data(&self) -> Vec<PathBuf> {
        self.proxies.iter().map(ProxyProcess::data).collect()
    }

    /// They have one bucket, and know nothing of each other.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// Starts them.
    pub async fn start(self) -> Instance {
        let yaml = self.documents.yaml();
        let mut replicas = Vec::new();
        for (number, mut proxy) in self.proxies.into_iter().enumerate() {
            let port = tool::free_port();
            if !self.apart {
                proxy = proxy.arg(format!("--replica-address=127.0.0.1:{port}"));
            }
            for (_, argument) in self.arguments.iter().filter(|(replica, _)| *replica == number) {
                proxy = proxy.arg(argument);
            }
            let proxy = proxy.arg("--log=info,proxy=debug").arg("--linger-seconds=0").documents(&yaml);
            let proxy = proxy.start().await;
            replicas.push(Replica { proxy, port });
        }
        Instance { documents: self.documents, upstream: self.upstream, s3: self.s3, replicas }
    }
}

/// Makes the instance one that keeps its blobs in the bucket `blobs` of this server, with the keys that replicas share,
/// as the operator writes them.
fn share(documents: &mut Documents, s3: &S3) {
    let key = |letter: &str| letter.repeat(64);
    documents.secret("s3", json!({"accessKeyID": S3::ACCESS_KEY, "secretAccessKey": S3::SECRET_KEY}));
    documents.secret(
        "keys",
        json!({"instance": key("a"), "signing.1": key("b"), "current": "1", "replica": key("c")}),
    );
    documents.get("Secret", "keys")["type"] = json!("dependencyproxy.dev/keys");
    let spec = documents.spec("DependencyProxy", "main");
    spec["auth"]["keysSecretRef"] = json!({"name": "keys"});
    spec["storage"] = json!({"s3": {
        "bucket": "blobs", "region": S3::REGION, "endpoint": s3.endpoint(), "pathStyle": true,
        "credentialsSecretRef": {"name": "s3"},
    }});
}

impl Instance {
    /// Three replicas with the group `team-a` on the upstream.
    pub async fn start() -> Self {
        Plan::new().await.start().await
    }

    /// alice on one of the replicas, with connections of her own.
    pub fn client(&self, replica: usize) -> Client {
        let url = Url::parse(&self.replicas[replica].proxy.url()).unwrap();
        Client::new(url).user("alice", "alice-password").group("team-a")
    }

    /// One client on each replica.
    pub fn clients(&self) -> Vec<Client> {
        (0..self.replicas.len()).map(|replica| self.client(replica)).collect()
    }

    /// The sum of a metric over all replicas.
    pub async fn metric(&self, sample: &str) -> f64 {
        let mut sum = 0.0;
        for replica in &self.replicas {
            sum += replica.proxy.metric(sample).await;
        }
        sum
    }

    /// Moves all replicas' clocks on, which [`Plan::clocks`] gave them, and gives the time that each of them has then.
    pub async fn advance(&self, by: Duration) -> Vec<Timestamp> {
        join_all(self.replicas.iter().map(|replica| replica.advance(by))).await
    }

    /// Moves all clocks to where each replica looks for the others, and waits until all know each other.
    pub async fn acquainted(&self) {
        self.advance(Duration::from_secs(20)).await;
        let all = self.replicas.len() as f64;
        for replica in &self.replicas {
            replica.proxy.metric_until("replicas_known", |known| known == all).await;
        }
    }

    /// Waits until every download has been put away.
    pub async fn settled(&self) {
        for replica in &self.replicas {
            replica.proxy.metric_until("fills_in_flight", |fills| fills == 0.0).await;
        }
    }

    /// The keys below a prefix of the instance's own.
    pub fn s3_keys(&self, prefix: &str) -> Vec<String> {
        let keys = tool::files(&self.s3.bucket("blobs").join("dp.main/v1").join(prefix));
        keys.into_iter().map(|key| format!("{prefix}/{key}")).collect()
    }

    /// The file of a key.
    pub fn s3_file(&self, key: &str) -> PathBuf {
        self.s3.bucket("blobs").join("dp.main/v1").join(key)
    }

    /// All logs, for a test that fails.
    pub fn logs(&self) -> String {
        let logs = self.replicas.iter().enumerate();
        logs.map(|(number, replica)| format!("--- replica {number}\n{}", replica.proxy.log())).collect()
    }
}

impl Replica {
    /// What it says of itself.
    pub async fn status(&self) -> Value {
        self.admin().plain(Method::GET, "/status", &[], "").await.json()
    }

    /// Moves its clock on, and gives the time that it has now.
    pub async fn advance(&self, by: Duration) -> Timestamp {
        let by = format!("{}ms", by.as_millis());
        let answer = self.admin().plain(Method::POST, "/clock", &[], &by).await;
        let now = String::from_utf8_lossy(answer.bytes()).trim().parse();
        now.unwrap_or_else(|_| panic!("no time: {}", answer.text()))
    }

    fn admin(&self) -> Client {
        Client::new(Url::parse(self.proxy.admin_url()).unwrap())
    }
}
