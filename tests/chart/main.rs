//! What installs the operator and watches it: the chart, kustomize, alerts, the dashboard. No cluster is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod ground;
mod monitoring;
mod same;
mod templates;
mod values;
