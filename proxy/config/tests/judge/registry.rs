//! VirtualRegistries that are refused.

use crate::{group, ours, told, upstream};

#[test]
fn registries_out_of_bounds_are_refused() {
    let registry = |upstreams: &str| {
        format!(
            "{}---\n{}---\n{}",
            upstream("url: https://a.example.com"),
            group("g", "path: b"),
            ours("VirtualRegistry", "v", &format!("groupRef: {{name: g}}\nupstreams: {upstreams}"))
        )
    };
    told(&registry("[]"), &["bad.yaml:19 VirtualRegistry b/v spec.upstreams: must have 1 to 5 entries"]);
    told(
        &registry("[{name: u}, {name: u, namespace: b}]"),
        &[
            "bad.yaml:19 VirtualRegistry b/v spec.upstreams[1].name: is in the list already; each may be there once",
        ],
    );
    let registries = (1..=6)
        .map(|n| {
            format!(
                "---\n{}",
                ours("VirtualRegistry", &format!("v{n}"), "groupRef: {name: g}\nupstreams: [{name: u}]")
            )
        })
        .collect::<String>();
    told(
        &format!("{}---\n{}{registries}", upstream("url: https://a.example.com"), group("g", "path: b")),
        &[
            "bad.yaml:53 VirtualRegistry b/v6 spec.groupRef: b has 5 virtual registries already, with those of its subgroups; take one out",
        ],
    );
}
