"""The table of mutations: what is broken, in which scenario it matters, and which check must find it."""

from tests.verification.mutations import key_mutants, large_rooms, ordering_mutants, scenarios, wires
from tests.verification.mutations.mutation import Mutation
from tests.verification.oracle.checks import (
    dead_letters,
    exclusion,
    hold_before_use,
    key_leaks,
    keys,
    order,
    reach,
    results,
)

PUBLISHER = "worker.pipeline.deliver:Publisher"
LOOP = "worker.pipeline.loop:Loop"

MUTATIONS = (
    Mutation(
        "a key is settled before it is confirmed",
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.yes},
        wires.keys_held_up,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a key is settled before it is sent",
        {f"{LOOP}._deliver": ordering_mutants.settling_first},
        scenarios.a_day,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a fence is only read",
        ordering_mutants.only_reading(),
        scenarios.a_zombie,
        keys.one_key_per_version,
    ),
    Mutation(
        "survivors are read before apply",
        {"worker.pipeline.writer:remaining_members": key_mutants.those_of_before},
        scenarios.a_day,
        exclusion.no_later_key_after_a_removal,
    ),
    Mutation(
        "newcomers are read before apply",
        {"worker.pipeline.writer:remaining_members": key_mutants.those_of_before},
        scenarios.one_batch,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "somebody removed is sent the key",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.with_the_removed},
        scenarios.a_day,
        exclusion.no_later_key_after_a_removal,
    ),
    Mutation(
        "recovery makes new bytes",
        {"worker.pipeline.recovery:load_rooms": key_mutants.minting_anew},
        scenarios.crash_after_delivering,
        keys.one_key_per_version,
    ),
    Mutation(
        "a version is used again",
        {"roomkeys.keys:KeyRecord.next_version": key_mutants.the_same_again},
        scenarios.a_day,
        keys.one_key_per_version,
    ),
    Mutation(
        "versions fall",
        {"roomkeys.keys:KeyRecord.next_version": key_mutants.falling},
        scenarios.a_day,
        keys.versions_rise,
    ),
    Mutation(
        "a page is lost",
        {"worker.pipeline.deliver:pages": key_mutants.all_but_the_second},
        scenarios.several_pages,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "recovery forgets joiners",
        {"worker.pipeline.recovery:_keep_joiners": ordering_mutants.without_joiners},
        scenarios.crash_after_applying,
        reach.last_version_reaches_the_members,
    ),
    Mutation(
        "recovery decides again",
        ordering_mutants.deciding_again(),
        scenarios.crash_after_applying,
        reach.last_version_reaches_the_members,
    ),
    Mutation(
        "a dead letter is not sent",
        {f"{PUBLISHER}._publish_dead_letters": ordering_mutants.nothing},
        scenarios.a_day,
        dead_letters.dead_letters_match_the_events,
    ),
    Mutation(
        "a flush is the barrier",
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.flushing},
        wires.cut_before_the_barrier,
        hold_before_use.members_have_the_key_before_use,
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
        results.results_match_the_events,
    ),
    Mutation(
        "a result comes before its key",
        {f"{LOOP}._finish": ordering_mutants.announcing_first},
        scenarios.a_day,
        exclusion.new_key_is_in_use_before_the_result,
    ),
    Mutation(
        "nobody is told",
        {f"{PUBLISHER}.publish_notices": ordering_mutants.letters_only},
        scenarios.a_day,
        order.notices_match_the_events,
    ),
    Mutation(
        "notices go backwards",
        {"worker.pipeline.deliver:in_stream_order": ordering_mutants.backwards},
        scenarios.one_batch,
        order.messages_are_in_stream_order,
    ),
    Mutation(
        "a fan-out is stamped twice",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.one_stamp_each},
        scenarios.several_pages,
        keys.one_payload_reaches_all,
    ),
    Mutation(
        "a key is told",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.telling_the_key},
        scenarios.a_day,
        key_leaks.no_message_has_a_key,
    ),
    Mutation(
        "a big room's pass confirms nothing",
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.yes},
        wires.a_big_rooms_keys_held_up,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a big room's newcomer is not handed the key on its way",
        {"worker.pipeline.large_rooms:LargeRooms.staged_keys": lambda _: lambda _self, _rooms: {}},
        large_rooms.a_newcomer_behind_the_pass,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a big room's newcomer is sent the key before the notice",
        {"worker.pipeline.large_rooms:LargeRooms.exclude": lambda _: lambda _self, _room, _accounts: None},
        large_rooms.a_newcomer_before_the_pass,
        order.notice_comes_before_the_first_key,
    ),
    Mutation(
        "a big room settles before its pass is over",
        {"worker.pipeline.large_rooms:LargeRooms.pop_finished": ordering_mutants.unfinished_too},
        large_rooms.a_newcomer_behind_the_pass,
        hold_before_use.members_have_the_key_before_use,
    ),
)
