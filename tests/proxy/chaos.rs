//! Many clients, many blobs, and an upstream that does something wrong most of the time: whatever ends cleanly is right.

use std::time::Duration;

use futures_util::future::join_all;
use harness::hostile::{Fault, Upstream, noise};
use harness::server::Proxy;
use oci::Digest;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The fault of one request; `wrong` says whether bytes may be other ones.
fn fault(dice: &mut Dice, wrong: bool) -> Fault {
    match dice.roll(if wrong { 10 } else { 7 }) {
        0..=2 => Fault::Cut(dice.roll(200_000)),
        3 => Fault::Chunked,
        4 => Fault::IgnoreRange,
        5 => Fault::Drop,
        6 => Fault::Delay(Duration::from_millis(dice.roll(30))),
        7 => Fault::WrongByte,
        8 => Fault::ContentLength(-10),
        _ => Fault::ContentLength(10),
    }
}

async fn chaos(seed: u64, wrong: bool) {
    let mut dice = Dice(seed);
    let upstream = Upstream::start().await;
    let blobs = (0..12).map(|n| {
        let bytes = noise(seed + n, usize::try_from(dice.roll(300_000)).unwrap() + 1);
        (upstream.blob("library/a", bytes.clone()), bytes)
    });
    let blobs = blobs.collect::<Vec<(Digest, Vec<u8>)>>();
    for _ in 0..60 {
        upstream.on("/blobs/").times(1).fault(fault(&mut dice, wrong));
    }
    let proxy = Proxy::of(&upstream).await;
    let client = proxy.client();
    for _ in 0..6 {
        let pulls = (0..24).map(|_| {
            let (digest, bytes) = &blobs[usize::try_from(dice.roll(12)).unwrap()];
            let ranged = !wrong && dice.roll(3) == 0;
            let start = usize::try_from(dice.roll(bytes.len() as u64)).unwrap();
            let client = &client;
            async move {
                if ranged {
                    let part = client.range("library/a", digest, &format!("bytes={start}-")).await;
                    let right = if part.status == 206 { &bytes[start..] } else { &bytes[..] };
                    let clean = part.status.is_success() && !part.broken;
                    assert!(!clean || part.body == right, "a wrong part ended cleanly");
                } else {
                    let whole = client.blob("library/a", digest).await;
                    let clean = whole.status == 200 && !whole.broken;
                    assert!(!clean || whole.body == bytes, "{} wrong bytes ended cleanly", whole.body.len());
                }
            }
        });
        join_all(pulls).await;
    }
    // All is well again, and nothing wrong was kept.
    upstream.behave();
    for (digest, bytes) in &blobs {
        assert!(client.blob("library/a", digest).await.bytes() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_transfers_never_put_a_wrong_blob_together() {
    join_all((1..=4).map(|seed| chaos(seed, false))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_never_end_cleanly_whatever_else_goes_wrong() {
    join_all((5..=8).map(|seed| chaos(seed, true))).await;
}
