//! Who is taken into a download in progress.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use config::ObjectId;
use oci::{Algorithm, Digest, Name};
use prometheus_client::registry::Registry;

use super::Fills;
use crate::cache::Asker;
use crate::cache::claims::Claims;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::store::{Holder, testing};
use crate::upstream::Upstreams;

fn holder(group: &str) -> Holder {
    let group = ObjectId { namespace: "default".to_owned(), name: group.to_owned() };
    Holder { origin: "origin".to_owned(), group, repository: Name::parse("library/a").unwrap() }
}

/// Between the lookup, by which a request has to show no right, and this moment a stranger's download can have begun.
/// On the one thread of this test no download moves before the test ends.
#[tokio::test]
async fn who_has_shown_no_right_is_not_taken_into_a_strangers_download() {
    let folder = tempfile::tempdir().unwrap();
    let (config, metrics) = (testing::config(), Metrics::new(&mut Registry::default()));
    let client =
        Upstreams::new(metrics.clone(), Clock::system()).client(&config.groups["team-a"].upstream, &config);
    let store = Arc::new(testing::in_folder(&config, folder.path(), &metrics));
    let fills = Fills::new(store.clone(), Claims::new(store, None), metrics);
    let key = (Digest::of(Algorithm::Sha256, b"blob"), "origin".to_owned());
    let asker = |group: &str| Asker { holder: holder(group), client: client.clone() };
    let join = |group: &str, shown| fills.join(key.clone(), asker(group), shown, None);

    let begun = join("first", false).unwrap();
    assert!(join("stranger", false).is_none());
    assert!(!begun.waits(&holder("stranger")), "it would get a right in the end");

    let joined = join("stranger", true).unwrap();
    assert!(Arc::ptr_eq(&begun, &joined), "one download for both");
    assert!(begun.waits(&holder("stranger")));
    assert!(join("stranger", false).is_some(), "whoever waits has shown it before");
}
