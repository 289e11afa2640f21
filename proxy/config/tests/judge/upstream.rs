//! RegistryUpstreams that are refused.

use crate::{told, upstream};

#[test]
fn upstreams_out_of_bounds_are_refused() {
    for (spec, problem) in [
        (
            "url: ftp://a.example.com",
            "5 RegistryUpstream b/u spec.url: must be an http or https URL with a host, such as https://registry.example.com",
        ),
        (
            "url: http://a.example.com",
            "5 RegistryUpstream b/u spec.url: is plain http; use https, or allow it with insecure: true",
        ),
        (
            "url: https://u:hunter2@a.example.com",
            "5 RegistryUpstream b/u spec.url: must have no user name or password; put them into a Secret and name it in credentialsSecretRef",
        ),
        (
            "url: https://a.example.com/?x=1",
            "5 RegistryUpstream b/u spec.url: must have no query and no fragment; take them out",
        ),
        (
            "url: https://a.example.com\ncacheValidityHours: -1",
            "6 RegistryUpstream b/u spec.cacheValidityHours: must be 0 to 8760",
        ),
        (
            "url: https://a.example.com\nrecheckBudgetMilliseconds: 60001",
            "6 RegistryUpstream b/u spec.recheckBudgetMilliseconds: must be 0 to 60000",
        ),
        (
            "url: https://a.example.com\nrateLimit:\n  reservePulls: 1\n  maxConcurrentRequests: 0",
            "8 RegistryUpstream b/u spec.rateLimit.maxConcurrentRequests: must be 1 to 1000",
        ),
        (
            "url: https://a.example.com\nrateLimit: {maxChecksPerMinute: 0}",
            "6 RegistryUpstream b/u spec.rateLimit.maxChecksPerMinute: must be 1 to 1000000",
        ),
        (
            "url: https://a.example.com\ntokenHosts:\n- auth.example.com\n- https://auth.example.com",
            "8 RegistryUpstream b/u spec.tokenHosts[1]: must be a host name in lower case, without scheme and port",
        ),
        (
            "url: https://a.example.com\nrules:\n- {name: a, action: Deny, repository: x}\n- {name: a, action: Allow, repository: y}",
            "8 RegistryUpstream b/u spec.rules[1].name: is in the list already; each may be there once",
        ),
        (
            "url: https://a.example.com\nrules: [{name: a, action: Deny, repository: ''}]",
            "6 RegistryUpstream b/u spec.rules[0].repository: must have 1 to 255 characters",
        ),
        (
            "url: https://a.example.com\nallowedGroups: {from: Selector}",
            "6 RegistryUpstream b/u spec.allowedGroups.selector: is required with from: Selector; add it",
        ),
        (
            "url: https://a.example.com\nallowedGroups: {selector: {}}",
            "6 RegistryUpstream b/u spec.allowedGroups.selector: belongs to from: Selector; set that, or take the selector out",
        ),
    ] {
        told(&upstream(spec), &[&format!("bad.yaml:{problem}")]);
    }
    let rules =
        (0..21).map(|n| format!("\n- {{name: r{n}, action: Deny, repository: x}}")).collect::<String>();
    told(
        &upstream(&format!("url: https://a.example.com\nrules:{rules}")),
        &["bad.yaml:6 RegistryUpstream b/u spec.rules: must have 0 to 20 entries"],
    );
}
