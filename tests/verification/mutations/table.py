"""The table of mutations: what is broken, in which run it matters, and which invariant it breaks."""

from tests.verification.mutations import key_mutants, large_rooms, ordering_mutants, scenarios, wires
from tests.verification.mutations.mutation import Mutation
from tests.verification.oracle.verdict import Invariant

PUBLISHER = "worker.pipeline.deliver:Publisher"
LOOP = "worker.pipeline.loop:Loop"

MUTATIONS = (
    Mutation(
        "a key is settled before it is confirmed",
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.yes},
        wires.keys_held_up,
        Invariant.HOLD,
    ),
    Mutation(
        "a key is settled before it is sent",
        {f"{LOOP}._deliver": ordering_mutants.settling_first},
        scenarios.a_day,
        Invariant.HOLD,
    ),
    Mutation(
        "a fence is only read",
        ordering_mutants.only_reading(),
        scenarios.a_zombie,
        Invariant.ONE_KEY,
    ),
    Mutation(
        "survivors are read before apply",
        {"worker.pipeline.writer:remaining_members": key_mutants.those_of_before},
        scenarios.a_day,
        Invariant.EXCLUSION,
    ),
    Mutation(
        "newcomers are read before apply",
        {"worker.pipeline.writer:remaining_members": key_mutants.those_of_before},
        scenarios.one_batch,
        Invariant.HOLD,
    ),
    Mutation(
        "somebody removed is sent the key",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.with_the_removed},
        scenarios.a_day,
        Invariant.EXCLUSION,
    ),
    Mutation(
        "recovery makes new bytes",
        {"worker.pipeline.recovery:load_rooms": key_mutants.minting_anew},
        scenarios.crash_after_delivering,
        Invariant.ONE_KEY,
    ),
    Mutation(
        "a version is used again",
        {"roomkeys.keys:KeyRecord.next_version": key_mutants.the_same_again},
        scenarios.a_day,
        Invariant.ONE_KEY,
    ),
    Mutation(
        "versions fall",
        {"roomkeys.keys:KeyRecord.next_version": key_mutants.falling},
        scenarios.a_day,
        Invariant.RISE,
    ),
    Mutation(
        "a page is lost",
        {"worker.pipeline.deliver:pages": key_mutants.all_but_the_second},
        scenarios.several_pages,
        Invariant.HOLD,
    ),
    Mutation(
        "recovery forgets joiners",
        {"worker.pipeline.recovery:_keep_joiners": ordering_mutants.without_joiners},
        scenarios.crash_after_applying,
        Invariant.REACH,
    ),
    Mutation(
        "recovery decides again",
        ordering_mutants.deciding_again(),
        scenarios.crash_after_applying,
        Invariant.REACH,
    ),
    Mutation(
        "a dead letter is not sent",
        {f"{PUBLISHER}._publish_dead_letters": ordering_mutants.nothing},
        scenarios.a_day,
        Invariant.LETTERS,
    ),
    Mutation(
        "a flush is the barrier",
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.flushing},
        wires.cut_before_the_barrier,
        Invariant.HOLD,
    ),
    Mutation(
        "a ping overtakes what it confirms",
        {
            "worker.broker.connection:Broker._round_trip": ordering_mutants.flushing,
            "worker.broker.client:SteadyClient._send_ping": ordering_mutants.pinging_as_nats_py,
            "worker.broker.client:SteadyClient.write": ordering_mutants.leaving_to_the_buffer,
            "worker.broker.client:SteadyClient.prove_wire_order": ordering_mutants.nothing,  # it would find this
        },
        wires.nothing_after_the_ping,
        Invariant.RESULTS,
    ),
    Mutation(
        "a result comes before its key",
        {f"{LOOP}._finish": ordering_mutants.announcing_first},
        scenarios.a_day,
        Invariant.EXCLUSION,
    ),
    Mutation(
        "nobody is told",
        {f"{PUBLISHER}.publish_notices": ordering_mutants.letters_only},
        scenarios.a_day,
        Invariant.ORDER,
    ),
    Mutation(
        "notices go backwards",
        {"worker.pipeline.deliver:in_stream_order": ordering_mutants.backwards},
        scenarios.one_batch,
        Invariant.ORDER,
    ),
    Mutation(
        "a fan-out is stamped twice",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.one_stamp_each},
        scenarios.several_pages,
        Invariant.SAME_BYTES,
    ),
    Mutation(
        "a key is told",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.telling_the_key},
        scenarios.a_day,
        Invariant.SIDE_DOOR,
    ),
    Mutation(
        "a big room's pass confirms nothing",
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.yes},
        wires.a_big_rooms_keys_held_up,
        Invariant.HOLD,
    ),
    Mutation(
        "a big room's newcomer is not handed the key on its way",
        {"worker.pipeline.large_rooms:LargeRooms.staged_keys": lambda _: lambda _self, _rooms: {}},
        large_rooms.a_newcomer_behind_the_pass,
        Invariant.HOLD,
    ),
    Mutation(
        "a big room's newcomer is sent the key before the notice",
        {"worker.pipeline.large_rooms:LargeRooms.exclude": lambda _: lambda _self, _room, _accounts: None},
        large_rooms.a_newcomer_before_the_pass,
        Invariant.ORDER,
    ),
    Mutation(
        "a big room settles before its pass is over",
        {"worker.pipeline.large_rooms:LargeRooms.pop_finished": ordering_mutants.unfinished_too},
        large_rooms.a_newcomer_behind_the_pass,
        Invariant.HOLD,
    ),
)
