//! Several replicas on one bucket behave as one cache, also when one of them, the bucket or the upstream fails.

mod faults;
mod ground;
mod sharing;
mod store;

const MIB: usize = 1024 * 1024;
