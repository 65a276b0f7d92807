"""The metrics of both halves on one page."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from worker.process.merging import merged


class Process:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter("events", "Events.", ["status"], registry=self.registry)
        self.up = Gauge("up", "Up.", registry=self.registry)
        self.seconds = Histogram("seconds", "Time.", buckets=(1, 2), registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)


def samples(text: bytes) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#")]
    assert len({name for name, _ in lines}) == len(lines), "no sample stands twice"
    return {name: float(value) for name, value in lines if "_created" not in name}


def test_one_process_is_as_it_was() -> None:
    one = Process()
    one.events.labels("ok").inc()
    assert merged([one.text()]) == one.text()


def test_counters_and_histograms_are_added_and_a_gauge_is_the_first_ones() -> None:
    one, other = Process(), Process()
    one.events.labels("ok").inc(2)
    other.events.labels("ok").inc(3)
    other.events.labels('a "b" c').inc()
    one.up.set(1)
    for process, seconds in ((one, 0.5), (one, 1.5), (other, 5)):
        process.seconds.observe(seconds)
    text = merged([one.text(), other.text()])
    assert samples(text) == {
        'events_total{status="ok"}': 5.0,
        'events_total{status="a \\"b\\" c"}': 1.0,
        "up": 1.0,
        'seconds_bucket{le="1.0"}': 1.0,
        'seconds_bucket{le="2.0"}': 2.0,
        'seconds_bucket{le="+Inf"}': 3.0,
        "seconds_count": 3.0,
        "seconds_sum": 7.0,
    }
    assert text.count(b"# TYPE events_total counter") == 1


def test_a_process_that_does_not_answer_leaves_the_others() -> None:
    assert merged([]) == b""
