//! What the operator counts. All names begin with `dependency_proxy_operator_`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Handles of all metrics; a clone counts into the same ones.
#[derive(Clone)]
pub struct Metrics {
    pub reconciles: Family<Reconcile, Counter>,
    pub reconcile_duration: Family<Kind, Histogram, Durations>,
    pub judge_duration: Histogram,
    pub push_duration: Histogram,
    pub leader: Gauge,
    pub objects: Family<Objects, Gauge>,
    pub rendered_bytes: Family<Proxy, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reconcile {
    pub kind: &'static str,
    /// ok, retry or error.
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    pub kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Objects {
    pub kind: &'static str,
    pub ready: &'static str,
}

/// `namespace/name` of a DependencyProxy. Not `instance`: Prometheus has that for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Proxy {
    pub proxy: String,
}

/// Makes histograms from a millisecond to half a minute.
#[derive(Clone, Copy)]
pub struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0])
    }
}

impl Metrics {
    /// Registers all metrics.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            reconcile_duration: Family::new_with_constructor(Durations),
            judge_duration: Durations.new_metric(),
            push_duration: Durations.new_metric(),
            leader: Gauge::default(),
            objects: Family::default(),
            rendered_bytes: Family::default(),
        };
        let all = registry.sub_registry_with_prefix("dependency_proxy_operator");
        all.register("reconciles", "Objects that were looked at", metrics.reconciles.clone());
        all.register_with_unit(
            "reconcile_duration",
            "Time that looking at an object took",
            Unit::Seconds,
            metrics.reconcile_duration.clone(),
        );
        all.register_with_unit(
            "judge_duration",
            "Time from a change to the documents that it makes",
            Unit::Seconds,
            metrics.judge_duration.clone(),
        );
        all.register_with_unit(
            "push_duration",
            "Time from documents to the last ready pod that has them",
            Unit::Seconds,
            metrics.push_duration.clone(),
        );
        all.register("leader", "1 while this operator leads", metrics.leader.clone());
        all.register("objects", "Objects by whether they are ready", metrics.objects.clone());
        all.register_with_unit(
            "rendered",
            "Compressed documents of an instance; the bound is 1048576",
            Unit::Bytes,
            metrics.rendered_bytes.clone(),
        );
        all.register(
            "build",
            "The operator's version",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        metrics
    }
}
