"""The limits of a client: its pauses grow, and differ from those of other clients."""

from roomkeys.client import ClientLimits


def test_pauses_grow_up_to_a_limit_and_differ_between_clients() -> None:
    clients = [ClientLimits().backoff() for _ in range(1000)]
    for backoff in clients:
        grown = [backoff.pause(failures) for failures in range(1, 10)]
        assert grown == sorted(grown)
        assert 0.2 <= grown[0] <= 0.6
        assert 4 <= grown[-1] <= 12
        assert backoff.pause(1) == grown[0], "two requests of one client would not be retried together"
    first = sorted(backoff.pause(1) for backoff in clients)
    assert first[-1] - first[0] > 0.3, (first[0], first[-1])
