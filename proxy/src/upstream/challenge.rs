//! `WWW-Authenticate` of an upstream, and whether its token service may see the credentials.

use config::Upstream;
use http::{HeaderMap, header};
use url::Url;

/// What upstream asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Bearer(Realm),
    Basic,
}

/// A token service. The scope that upstream wants is left out, as the Docker engine does: it concerns the repository that
/// was asked for, while a challenge is kept for all of them, and some ask for the right to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Realm {
    pub url: Url,
    pub service: Option<String>,
}

/// How far a realm is trusted (CVE-2026-33540, CVE-2026-48978).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// On the upstream's own site, or listed in `tokenHosts`: it may see the credentials.
    Own,
    /// Elsewhere: asked without credentials.
    Foreign,
    /// Not asked at all: over plain http though upstream itself is not.
    Refused,
}

impl Challenge {
    /// The first challenge that we can answer; `None` where there is none.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        values.filter_map(Self::parse).next()
    }

    fn parse(text: &str) -> Option<Self> {
        let challenges = http_auth::parse_challenges(text).ok()?;
        challenges.into_iter().find_map(|challenge| {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let url = Url::parse(&parameter("realm")?).ok()?;
                Some(Self::Bearer(Realm { url, service: parameter("service") }))
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                Some(Self::Basic)
            } else {
                None
            }
        })
    }
}

impl Realm {
    pub(super) fn trust(&self, upstream: &Upstream) -> Trust {
        let secure = self.url.scheme() == "https";
        let plain = self.url.scheme() == "http" && allows_plain_http(upstream);
        let (Some(host), true) = (self.url.host_str(), secure || plain) else {
            return Trust::Refused;
        };
        if !self.url.username().is_empty() || self.url.password().is_some() {
            return Trust::Refused;
        }
        let own = upstream.url.host_str().is_some_and(|own| same_site(own, host));
        let listed = upstream.token_hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host));
        if own || listed { Trust::Own } else { Trust::Foreign }
    }
}

/// Whether what upstream points to may be plain http. `insecure` alone does not say so: passwords of an upstream that is
/// asked over https stay on https.
pub(super) fn allows_plain_http(upstream: &Upstream) -> bool {
    upstream.insecure && upstream.url.scheme() == "http"
}

/// Whether two hosts belong to the same registrable domain; addresses and bare names only to themselves.
fn same_site(one: &str, other: &str) -> bool {
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    let site = |host: &str| {
        let is_name = host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains(':');
        is_name.then(|| psl::domain_str(host).map(str::to_ascii_lowercase)).flatten()
    };
    matches!((site(one), site(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::upstream::testing::upstream_at;
    use proptest::prelude::*;

    #[test]
    fn a_bearer_challenge_is_read() {
        let text = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#;
        let Some(Challenge::Bearer(realm)) = Challenge::parse(text) else { panic!("no bearer challenge") };
        assert_eq!(realm.url.as_str(), "https://auth.docker.io/token");
        assert_eq!(realm.service.as_deref(), Some("registry.docker.io"));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse(r#"Negotiate"#), None);
        assert_eq!(Challenge::parse(r#"Bearer realm="not a url""#), None);
    }

    #[test]
    fn sites_are_registrable_domains() {
        assert!(same_site("registry-1.docker.io", "auth.docker.io"));
        assert!(same_site("registry.gitlab.com", "gitlab.com"));
        assert!(same_site("127.0.0.1", "127.0.0.1"));
        assert!(!same_site("127.0.0.1", "10.0.0.1"));
        assert!(!same_site("a.co.uk", "b.co.uk"));
        assert!(!same_site("a.github.io", "b.github.io"));
        assert!(!same_site("docker.io", "docker.io.evil.example"));
        assert!(!same_site("registry", "auth"));
        assert!(!same_site("::1", "::2"));
    }

    #[test]
    fn a_realm_is_plain_http_only_where_upstream_is() {
        let trust = |upstream: &str, insecure: bool, realm: &str| {
            let mut upstream = upstream_at(upstream);
            upstream.insecure = insecure;
            Realm { url: Url::parse(realm).unwrap(), service: None }.trust(&upstream)
        };
        let (https, http) = ("https://hub.example.com", "http://hub.example.com");
        assert_eq!(trust(https, true, "https://auth.example.com/token"), Trust::Own);
        assert_eq!(trust(https, true, "http://auth.example.com/token"), Trust::Refused);
        assert_eq!(trust(https, false, "http://auth.example.com/token"), Trust::Refused);
        assert_eq!(trust(http, true, "http://auth.example.com/token"), Trust::Own);
        assert_eq!(trust(http, true, "http://auth.evil.test/token"), Trust::Foreign);
        assert_eq!(trust(http, false, "http://auth.example.com/token"), Trust::Refused);
        assert_eq!(trust(https, true, "https://a:b@auth.example.com/token"), Trust::Refused);
    }

    #[test]
    fn a_listed_token_host_is_trusted_over_https() {
        let upstream = Upstream {
            token_hosts: vec!["auth.other.test".to_owned()],
            ..upstream_at("https://hub.example.com")
        };
        let trust = |realm: &str| Realm { url: Url::parse(realm).unwrap(), service: None }.trust(&upstream);
        assert_eq!(trust("https://auth.other.test/token"), Trust::Own);
        assert_eq!(trust("https://another.test/token"), Trust::Foreign);
        assert_eq!(trust("http://auth.other.test/token"), Trust::Refused);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(text in "\\PC{0,200}") {
            let _ = Challenge::parse(&text);
        }

        #[test]
        fn a_realm_is_never_taken_for_another_host(host in "[a-z]{1,8}[.][a-z]{2,8}[.]example") {
            let evil = format!("{host}.evil.test");
            prop_assert!(!same_site("registry.vendor.example", &evil));
        }
    }
}
