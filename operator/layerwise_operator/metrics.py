"""The operator's own metrics; names and labels are an interface for dashboards and alerts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics of one operator process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "layerwise_operator_reconcile_duration_seconds",
            "Time of one pass over one deployment.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.errors = Counter(
            "layerwise_operator_reconcile_errors_total",
            "Passes that ended early, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.plans = Counter(
            "layerwise_operator_plans_total",
            "Plans stored.",
            registry=self.registry,
        )
        self.calls = Counter(
            "layerwise_operator_api_calls_total",
            "Calls to the Kubernetes API, by verb, resource and answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        # Finding a counter by its labels costs more than counting.
        self._call_counters: dict[tuple[str, str, str], Counter] = {}
        self.watch_events = Counter(
            "layerwise_operator_watch_events_total",
            "Watch events taken in, by resource.",
            ["resource"],
            registry=self.registry,
        )
        self.missed_events = Counter(
            "layerwise_operator_missed_events_total",
            "Changes that a list found and no watch had told, by resource.",
            ["resource"],
            registry=self.registry,
        )
        self.watch_faults = Counter(
            "layerwise_operator_watch_faults_total",
            "Watches that broke and were begun anew, by resource and fault.",
            ["resource", "fault"],
            registry=self.registry,
        )
        self.watch_age = Gauge(
            "layerwise_operator_last_watch_event_age_seconds",
            "Seconds since the last watch event of any resource.",
            registry=self.registry,
        )
        self.resync_age = Gauge(
            "layerwise_operator_last_resync_age_seconds",
            "Seconds since all resources were last listed.",
            registry=self.registry,
        )
        self.deployments = Gauge(
            "layerwise_operator_deployments",
            "LayerwiseDeployments, by phase.",
            ["phase"],
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "layerwise_operator_queue_depth",
            "Deployments that wait for a pass.",
            registry=self.registry,
        )

    def count_call(self, verb: str, resource: str, code: str) -> None:
        """Count one call to the API."""
        labels = verb, resource, code
        if labels not in self._call_counters:
            self._call_counters[labels] = self.calls.labels(*labels)
        self._call_counters[labels].inc()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
