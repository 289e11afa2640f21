//! `push-image http://HOST:PORT REPOSITORY TAG`: pushes a new image for two platforms and prints its digest.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a helper of tests/demo.sh; its digest is its answer"
)]

use harness::image::Image;
use harness::repository::Repository;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().expect(what);
    let (registry, repository, tag) = (next("a registry's URL"), next("a repository"), next("a tag"));
    let digest = Repository::new(&registry, &repository, None).push(&Image::oci(), &tag).await;
    println!("{digest}");
}
