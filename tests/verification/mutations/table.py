"""The table of mutations: what is broken, in which scenario it matters, and which check must find it."""

from tests.verification.mutations import key_mutants, large_rooms, ordering_mutants, scenarios, set_aside, wires
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
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.confirm_at_once},
        wires.keys_lost,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a barrier ignores denials",
        {"worker.broker.permissions.denials:DeniedKeys.since": lambda _: lambda _self, _opened: frozenset()},
        wires.keys_denied,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a key is settled before it is sent",
        {f"{LOOP}._deliver": ordering_mutants.settle_first},
        scenarios.everyday_events,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "the fence is only read", ordering_mutants.fence_is_only_read(), scenarios.zombie, keys.one_key_per_version
    ),
    Mutation(
        "survivors are read before apply",
        {"worker.pipeline.writer:remaining_members": key_mutants.members_before},
        scenarios.everyday_events,
        exclusion.no_later_key_after_a_removal,
    ),
    Mutation(
        "joiners are read before apply",
        {"worker.pipeline.writer:remaining_members": key_mutants.members_before},
        scenarios.one_batch,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a removed account is sent the key",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.also_to_removed},
        scenarios.everyday_events,
        exclusion.no_later_key_after_a_removal,
    ),
    Mutation(
        "recovery makes new bytes",
        {"worker.pipeline.recovery:load_rooms": key_mutants.new_bytes},
        scenarios.crash_after_delivering,
        keys.one_key_per_version,
    ),
    Mutation(
        "a version is used again",
        {"roomkeys.keys:KeyRecord.next_version": key_mutants.same_version},
        scenarios.everyday_events,
        keys.one_key_per_version,
    ),
    Mutation(
        "versions fall",
        {"roomkeys.keys:KeyRecord.next_version": key_mutants.falling_versions},
        scenarios.everyday_events,
        keys.versions_rise,
    ),
    Mutation(
        "a page is lost",
        {"worker.pipeline.deliver:pages": key_mutants.without_second_page},
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
        ordering_mutants.recovery_decides_again(),
        scenarios.crash_after_applying,
        reach.last_version_reaches_the_members,
    ),
    Mutation(
        "no dead letter is sent",
        {"worker.pipeline.letters.publisher:LetterPublisher.publish": ordering_mutants.do_nothing},
        scenarios.everyday_events,
        dead_letters.dead_letters_match_the_events,
    ),
    Mutation(
        "a dead letter is not in the outbox",
        {"store.writes.apply:letters_of": lambda _: lambda *_: []},
        scenarios.refused_letter,
        dead_letters.dead_letters_match_the_events,
    ),
    Mutation(
        "a dead letter is deleted before it is taken",
        {"worker.pipeline.letters.sender:DeadLetters._send": ordering_mutants.delete_letters_first},
        scenarios.refused_letter,
        dead_letters.dead_letters_match_the_events,
    ),
    Mutation(
        "a flush replaces the barrier",
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.flush_as_barrier},
        wires.cut_before_the_barrier,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a ping overtakes what it should confirm",
        {
            "worker.broker.connection:Broker._round_trip": ordering_mutants.flush_as_barrier,
            "worker.broker.nats_client:SteadyClient._send_ping": ordering_mutants.ping_as_nats_py,
            "worker.broker.nats_client:SteadyClient.write": ordering_mutants.write_to_the_buffer,
            # At start this check would find the mutation.
            "worker.broker.nats_client:SteadyClient.prove_wire_order": ordering_mutants.do_nothing,
        },
        wires.nothing_after_the_ping,
        results.results_match_the_events,
    ),
    Mutation(
        "a result comes before its key",
        {f"{LOOP}._finish": ordering_mutants.announce_first},
        scenarios.everyday_events,
        exclusion.new_key_is_in_use_before_the_result,
    ),
    Mutation(
        "no notice is sent",
        {f"{PUBLISHER}.publish_notices": ordering_mutants.without_notices},
        scenarios.everyday_events,
        order.notices_match_the_events,
    ),
    Mutation(
        "notices are sent in reverse order",
        {"worker.pipeline.deliver:in_stream_order": ordering_mutants.reverse_order},
        scenarios.one_batch,
        order.messages_are_in_stream_order,
    ),
    Mutation(
        "a fan-out has two timestamps",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.one_timestamp_per_page},
        scenarios.several_pages,
        keys.one_payload_reaches_all,
    ),
    Mutation(
        "a key is published to its room",
        {f"{PUBLISHER}.fan_out_keys": key_mutants.publish_the_key},
        scenarios.everyday_events,
        key_leaks.no_message_has_a_key,
    ),
    Mutation(
        "a pass is not confirmed",
        {"worker.broker.connection:Broker._round_trip": ordering_mutants.confirm_at_once},
        wires.large_room_keys_lost,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a joiner of a large room is not sent the staged key",
        {"worker.pipeline.rollouts.large_rooms:LargeRooms.staged_keys": lambda _: lambda _self, _rooms: {}},
        large_rooms.joiner_behind_the_pass,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "a joiner of a large room is sent the key before the notice",
        {"worker.pipeline.rollouts.large_rooms:LargeRooms.exclude": lambda _: lambda _self, _room, _accounts: None},
        large_rooms.joiner_ahead_of_the_pass,
        order.notice_comes_before_the_first_key,
    ),
    Mutation(
        "a large room settles before its pass is over",
        {"worker.pipeline.rollouts.large_rooms:LargeRooms.pop_finished": ordering_mutants.unfinished_rollouts_too},
        large_rooms.joiner_behind_the_pass,
        hold_before_use.members_have_the_key_before_use,
    ),
    Mutation(
        "later events overtake the event of a set-aside room",
        set_aside.later_events_overtake(),
        set_aside.refused_event,
        order.messages_are_in_stream_order,
    ),
    Mutation(
        "only memory knows which events wait",
        {"worker.pipeline.writer:set_aside": set_aside.only_in_memory},
        set_aside.takeover_of_a_set_aside_room,
        results.results_match_the_events,
    ),
    Mutation(
        "the next owner does not read which events wait",
        {"worker.pipeline.loop:read_waiting": set_aside.forgotten},
        set_aside.takeover_of_a_set_aside_room,
        results.results_match_the_events,
    ),
    Mutation(
        "an event that has waited is not deleted",
        {"worker.pipeline.writer:apply": set_aside.never_deleted},
        set_aside.takeover_of_a_set_aside_room,
        order.every_version_has_an_event,
    ),
    Mutation(
        "an event is blamed for what the database refuses to every such event",
        {"worker.pipeline.writer:rehearse_twin": set_aside.no_rehearsal},
        set_aside.everything_refused,
        dead_letters.dead_letters_match_the_events,
    ),
)
