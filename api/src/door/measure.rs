//! The process's metrics, in Prometheus' text form.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Starts recording; once per process, repeating it does nothing.
pub fn start() -> Option<&'static PrometheusHandle> {
    let handle = RECORDER.get_or_init(|| {
        const SECONDS: [f64; 12] =
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).ok()?;
        builder.install_recorder().ok()
    });
    handle.as_ref()
}

/// All metrics of this process.
pub fn text() -> String {
    start().map(PrometheusHandle::render).unwrap_or_default()
}
