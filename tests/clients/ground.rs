//! A proxy in front of two registries, and a deploy token that may pull.

use harness::client::{Login, Output};
use harness::image::Image;
use harness::proxy::ProxyProcess;
use harness::registry::Registry;

/// The second registry has the images; the first of the virtual registry's upstreams has none.
pub(crate) struct Ground {
    pub(crate) proxy: ProxyProcess,
    pub(crate) registry: Registry,
    _empty: Registry,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let (empty, registry) = tokio::join!(Registry::start(), Registry::start());
        let proxy = ProxyProcess::new();
        let documents = documents(&proxy.url(), &empty.url(), &registry.url());
        Self { proxy: proxy.documents(&documents).start().await, registry, _empty: empty }
    }

    /// The deploy token of group team-a.
    pub(crate) fn login() -> Login {
        Login::new("ci", "a-deploy-token-for-tests")
    }

    /// The same user with another password.
    pub(crate) fn wrong_login() -> Login {
        Login::new("ci", "not-that-token")
    }

    /// The name of a repository, without a tag, in the group's prefix.
    pub(crate) fn in_group(&self, repository: &str) -> String {
        format!("{}/team-a/dependency_proxy/containers/{repository}", self.proxy.host())
    }

    /// The name of a repository, without a tag, in the virtual registry.
    pub(crate) fn in_virtual_registry(&self, repository: &str) -> String {
        format!("{}/virtual_registries/container/team-a.hub/{repository}", self.proxy.host())
    }

    /// Pushes `image` and pulls it three times by `pull`, which gets its full name and must download all of it, in
    /// the group and then, from another repository, in the virtual registry.
    pub(crate) async fn journey(&mut self, build: fn() -> Image, pull: impl AsyncFn(&str, &Image) -> Output) {
        let prefixes = [
            ("grouped/app", Self::in_group as fn(&Self, &str) -> String),
            ("virtual/app", Self::in_virtual_registry),
        ];
        for (repository, name_of) in prefixes {
            let image = build();
            // A tag of its own: the virtual registry does not ask again about a tag within its validity.
            let tag = &image.digest().hex()[..12];
            self.registry.repository(repository).push(&image, tag).await;
            let name = format!("{}:{tag}", name_of(self, repository));

            pull(&name, &image).await.succeeds();
            let blobs = format!("/{repository}/blobs/");
            let fetched = self.registry.gets(&blobs).await;
            assert!(fetched > 0, "the first pull of {name} came from upstream");

            // An image that was pulled once is there, whatever the client asked for besides.
            self.registry.stop();
            pull(&name, &image).await.succeeds();
            self.registry.restart().await;

            pull(&name, &image).await.succeeds();
            assert_eq!(
                self.registry.gets(&blobs).await,
                fetched,
                "the third pull of {name} came from the cache"
            );
        }
    }
}

fn documents(proxy: &str, empty: &str, registry: &str) -> String {
    let Login { user, password } = Ground::login();
    format!(
        r#"
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxy
metadata: {{name: main, namespace: dependency-proxy}}
spec:
  externalURL: {proxy}
  storage: {{ephemeral: {{}}}}
  upstreamNetworks: {{allowedCIDRs: [127.0.0.0/8]}}
  allowedGroups: {{from: All}}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: RegistryUpstream
metadata: {{name: empty, namespace: team-a}}
spec: {{url: "{empty}", insecure: true}}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: RegistryUpstream
metadata: {{name: local, namespace: team-a}}
spec: {{url: "{registry}", insecure: true}}
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: DependencyProxyGroup
metadata: {{name: team-a, namespace: team-a}}
spec:
  proxyRef: {{name: main, namespace: dependency-proxy}}
  path: team-a
  upstreamRef: {{name: local}}
  deployTokens: [{{name: ci, secretRef: {{name: ci-token}}, scopes: [read_registry, write_registry]}}]
---
apiVersion: dependencyproxy.dev/v1alpha1
kind: VirtualRegistry
metadata: {{name: hub, namespace: team-a}}
spec: {{groupRef: {{name: team-a}}, upstreams: [{{name: empty}}, {{name: local}}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: ci-token, namespace: team-a}}
type: kubernetes.io/basic-auth
stringData: {{username: {user}, password: {password}}}
"#
    )
}
