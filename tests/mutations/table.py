"""The table of mutations: what is broken, in which run it matters, and which invariant it breaks."""

from tests.judge.verdict import Invariant
from tests.mutations import big_rooms, days, wires, wrong_keys, wrong_turns
from tests.mutations.mutation import Mutation

COURIER = "worker.pipeline.deliver:Courier"
LOOP = "worker.pipeline.loop:Loop"

MUTATIONS = (
    Mutation(
        "a key is settled before it is confirmed",
        {f"{LOOP}._confirm": wrong_turns.nothing},
        wires.keys_held_up,
        Invariant.HOLD,
    ),
    Mutation(
        "a key is settled before it is sent",
        {f"{LOOP}._deliver": wrong_turns.settling_first},
        days.a_day,
        Invariant.HOLD,
    ),
    Mutation(
        "a fence is only read",
        wrong_turns.only_reading(),
        days.a_zombie,
        Invariant.ONE_KEY,
    ),
    Mutation(
        "survivors are read before apply",
        {"worker.pipeline.writer:survivors_after": wrong_keys.those_of_before},
        days.a_day,
        Invariant.EXCLUSION,
    ),
    Mutation(
        "newcomers are read before apply",
        {"worker.pipeline.writer:survivors_after": wrong_keys.those_of_before},
        days.one_batch,
        Invariant.HOLD,
    ),
    Mutation(
        "somebody removed is sent the key",
        {f"{COURIER}.fan_out": wrong_keys.with_the_removed},
        days.a_day,
        Invariant.EXCLUSION,
    ),
    Mutation(
        "recovery makes new bytes",
        {"worker.pipeline.recovery:load_rooms": wrong_keys.minting_anew},
        days.crash_after_delivering,
        Invariant.ONE_KEY,
    ),
    Mutation(
        "a version is used again",
        {"roomkeys.keys:KeyRecord.next_version": wrong_keys.the_same_again},
        days.a_day,
        Invariant.ONE_KEY,
    ),
    Mutation(
        "versions fall",
        {"roomkeys.keys:KeyRecord.next_version": wrong_keys.falling},
        days.a_day,
        Invariant.RISE,
    ),
    Mutation(
        "a page is lost",
        {"worker.pipeline.deliver:pages": wrong_keys.all_but_the_second},
        days.several_pages,
        Invariant.HOLD,
    ),
    Mutation(
        "recovery forgets joiners",
        {"worker.pipeline.recovery:_for_members": wrong_turns.without_joiners},
        days.crash_after_applying,
        Invariant.REACH,
    ),
    Mutation("recovery decides again", wrong_turns.deciding_again(), days.crash_after_applying, Invariant.REACH),
    Mutation(
        "a dead letter is not sent",
        {f"{COURIER}._dead_letters": wrong_turns.nothing},
        days.a_day,
        Invariant.LETTERS,
    ),
    Mutation(
        "a flush is the barrier",
        {"worker.broker.connection:Broker.confirm": wrong_turns.flushing},
        wires.cut_before_the_barrier,
        Invariant.HOLD,
    ),
    Mutation(
        "a ping overtakes what it confirms",
        {
            "worker.broker.connection:Broker.confirm": wrong_turns.flushing,
            "worker.broker.client:SteadyClient._send_ping": wrong_turns.pinging_as_nats_py,
            "worker.broker.client:SteadyClient.write": wrong_turns.leaving_to_the_buffer,
        },
        wires.nothing_after_the_ping,
        Invariant.RESULTS,
    ),
    Mutation(
        "a result comes before its key",
        {f"{LOOP}._complete": wrong_turns.announcing_first},
        days.a_day,
        Invariant.EXCLUSION,
    ),
    Mutation("nobody is told", {f"{COURIER}.tell": wrong_turns.letters_only}, days.a_day, Invariant.ORDER),
    Mutation(
        "notices go backwards",
        {"worker.pipeline.deliver:in_stream_order": wrong_turns.backwards},
        days.one_batch,
        Invariant.ORDER,
    ),
    Mutation(
        "a fan-out is stamped twice",
        {f"{COURIER}.fan_out": wrong_keys.one_stamp_each},
        days.several_pages,
        Invariant.SAME_BYTES,
    ),
    Mutation("a key is told", {f"{COURIER}.fan_out": wrong_keys.telling_the_key}, days.a_day, Invariant.SIDE_DOOR),
    Mutation(
        "a big room's pass confirms nothing",
        {"worker.broker.connection:Broker.confirm": wrong_turns.yes},
        wires.a_big_rooms_keys_held_up,
        Invariant.HOLD,
    ),
    Mutation(
        "a big room's newcomer is not handed the key on its way",
        {"worker.pipeline.large_rooms:Drainers.staged": lambda _: lambda _self, _rooms: {}},
        big_rooms.a_newcomer_behind_the_pass,
        Invariant.HOLD,
    ),
    Mutation(
        "a big room's newcomer is sent the key before the notice",
        {"worker.pipeline.large_rooms:Drainers.leave_out": lambda _: lambda _self, _room, _accounts: None},
        big_rooms.a_newcomer_before_the_pass,
        Invariant.ORDER,
    ),
    Mutation(
        "a big room settles before its pass is over",
        {"worker.pipeline.large_rooms:Drainers.take_finished": wrong_turns.unfinished_too},
        big_rooms.a_newcomer_behind_the_pass,
        Invariant.HOLD,
    ),
)
