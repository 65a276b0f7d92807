"""The limits that bound the worker's memory, transactions and waiting. (docs/design.md, invariants 7 and 8)

They are not settings: operators have no reason to change them. `worker.app.run` passes them to everything that it
builds, so that tests and fault injection can run the same code with small numbers.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit, by what it bounds. Each docstring says what happens at the limit."""

    # Batches
    batch_accounts: int = 5_000
    """Maximum number of accounts per transaction. A batch ends before it has more; a larger event is sliced."""
    inbox_events: int = 1_024
    """Maximum number of events in a partition's inbox. A full one blocks the feed, or is detached from it."""
    inbox_bytes: int = 8 * 1024 * 1024
    """Maximum number of bytes of events in a partition's inbox."""
    conflicts_before_halving: int = 3
    """Write conflicts in a row after which the next batch has half as many events."""
    failures_before_set_aside: int = 2
    """How often in a row an event must fail alone before its room is set aside."""
    conflict_s: float = 1.0
    """For how many seconds an event alone must meet write conflicts before its room is set aside."""
    set_aside_events: int = 1_024
    """Maximum number of events of set-aside rooms in a partition. Beyond it the partition waits for these rooms."""
    set_aside_bytes: int = 8 * 1024 * 1024
    """Maximum number of bytes of these events."""
    set_aside_pause_s: float = 1.0
    """Seconds until a set-aside room is tried again. The pause doubles with each failure, up to 30 s."""
    tries_before_dead_letter: int = 6
    """How often in a row an event must fail between two control transactions before it becomes a dead letter."""

    # Fan-out
    large_room_members: int = 50_000
    """Members above which a room is large: its keys go out beside the loop."""
    inline_recipients: int = 200_000
    """Maximum number of recipients per batch that the loop itself serves; further rooms count as large."""
    page_accounts: int = 16_384
    """Accounts in one page of members."""
    first_page_accounts: int = 2_048
    """Accounts in the first page; each next page is twice as large, so that sending begins early."""
    window_accounts: int = 16_384
    """Recipients of a large room between two barriers: bounds how long the messages of other rooms wait."""
    concurrent_passes: int = 4
    """Maximum number of passes over large rooms at once in a replica. Each holds two pages of accounts."""

    # Results and the outbox
    results_per_barrier: int = 256
    """Outbox entries whose results share one barrier."""
    deferred_results: int = 20_000
    """Maximum number of results that wait for large rooms to settle. Beyond it no batch begins."""
    owed_joiners: int = 200_000
    """Maximum number of joiners per partition who wait for a key that the broker denies. Beyond it no batch begins."""
    denied_retry_s: float = 30.0
    """Longest pause in seconds before a key or a dead letter that the broker refused is sent again."""
    outbox_page: int = 32
    """Outbox entries, or dead letters of up to 6 MiB, read at once."""

    # Partitions
    lease_ms: int = 5_000
    """Milliseconds of silence after which other replicas may take a replica's partitions."""
    heartbeat_s: float = 0.5
    """Seconds between two heartbeats of a replica. With each, it checks who owns the partitions."""
    follow_s: float = 5.0
    """Seconds between two moves of an idle partition's cursor to the feed's position."""
    tidy_s: float = 1.0
    """Seconds without events after which a partition deletes its finished outbox entries."""

    erase_s: float = 20.0
    """Most seconds between two looks for replaced keys that have expired, which are erased."""
    erase_rooms: int = 500
    """Maximum number of rooms whose expired keys are erased together."""
    erase_pass_rooms: int = 5_000
    """Rooms that each look also goes through one by one, for keys that an earlier version has left."""
    verify_site_s: float = 30.0
    """Seconds between two looks at whether the events stream still belongs to the site's database."""
    ensure_s: float = 60.0
    """Seconds between two checks of a replica that every collection and index still exists."""

    # The broker
    confirm_s: float = 10.0
    """Seconds after which a barrier without an answer, or a write without progress, fails."""
    write_buffer_bytes: int = 8 * 1024 * 1024
    """Bytes that the NATS client buffers before a publish waits."""
    pull_messages: int = 512
    """Messages of the stream per pull request. At most two requests are open."""
    pull_bytes: int = 8 * 1024 * 1024
    """Bytes of messages per pull request, or twice the server's `max_payload` if that is more."""

    # The key service
    requests_in_flight: int = 16_384
    """Maximum number of requests that wait for their replies. Further ones are answered `overloaded`."""
    request_bytes: int = 64 * 1024 * 1024
    """Maximum number of bytes of the requests that wait."""
    pairs_per_read: int = 10_000
    """Pairs of account and room that one read looks up."""
    versions_per_read: int = 1_000
    """Different versions in one read. MongoDB looks for each among the replaced keys of every room in the read."""
    listings_per_read: int = 100
    """Accounts whose rooms one read lists."""
    rooms_per_listing: int = 2_000
    """Rooms of an account that one page of `keys.sync` reads."""
    read_s: float = 3.0
    """Seconds that MongoDB may take for a read."""
    reply_s: float = 4.0
    """Seconds after which a request is answered `database_unavailable`."""
    requests_per_s: float = 20.0
    """Requests per second that an account may make continuously."""
    requests_burst: int = 100
    """Requests that an account may make at once after a pause."""
    refusals_per_s: float = 1.0
    """Requests beyond its rate limit for which an account gets a refusal, per second. Further ones are dropped."""
    refusals_burst: int = 5
    """How many of these refusals an account may get at once."""
    discoveries_per_s: float = 20.0
    """Requests to discover the service (`$SRV`) that are answered per second, of all clients together."""
    discoveries_burst: int = 100
    """How many of these requests are answered at once."""
    service_nice: int = 10
    """By how much the key service lowers its priority beside the event worker: a flood of requests takes CPU time."""
    stop_s: float = 5.0
    """Seconds that unanswered requests may still take when the service stops."""

    # The end
    shutdown_s: float = 6.5
    """Seconds that all steps of a shutdown may take together; a step that takes longer is given up."""
    exit_after_s: float = 0.4
    """Seconds after that until the process exits, whatever its threads do."""
    kill_after_s: float = 0.7
    """Seconds after `shutdown_s` until the supervisor kills a half that still runs."""
    restart_s: float = 0.5
    """Seconds of pause before the supervisor restarts a half that has ended. Each next pause is twice as long."""
    longest_restart_s: float = 30.0
    """The longest such pause. A half that ran for longer than that is restarted after a short one again."""

    # Health and metrics
    http_connections: int = 64
    """Open HTTP connections per address. When there are more, the oldest is closed."""
    http_s: float = 5.0
    """Seconds that a client may take to send its request, and again to read the answer."""
    http_request_bytes: int = 16 * 1024
    """Maximum number of bytes of an HTTP request: its first line and its headers."""
