//! The binary: parse the arguments, run.

use std::process::ExitCode;

use clap::Parser;

/// The largest piece of memory that the allocator keeps when it is freed.
const KEPT_WHEN_FREED: usize = 2 * 1024 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    keep_freed_memory();
    let arguments = proxy::args::Arguments::parse();
    Box::pin(proxy::command::run(arguments)).await
}

/// glibc gives pieces of more than 128 KiB back to the system, until one has been freed that was larger: from then on
/// it keeps what is smaller than that, and twice as much at the end of its heap (mallopt(3)). Bodies come in pieces of
/// up to 400 KiB, and mapping and zeroing fresh memory for each was a quarter of the processor time of a cold blob.
fn keep_freed_memory() {
    drop(std::hint::black_box(vec![0_u8; KEPT_WHEN_FREED]));
}
