#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[test]
fn the_committed_definitions_are_those_of_the_types() {
    let committed = include_str!("../../deploy/crds.yaml");
    assert!(
        committed == crds::definitions().unwrap(),
        "run: cargo run -p dependency-proxy-crds --bin crdgen > deploy/crds.yaml"
    );
}
