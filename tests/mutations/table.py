"""The table of mutations: what is broken, in which run it matters, and which invariant it breaks."""

from tests.judge.verdict import Invariant
from tests.mutations import breaks, town
from tests.mutations.mutation import Mutation

COURIER = "worker.courier:Courier"
LOOP = "worker.loop:Loop"

MUTATIONS = (
    Mutation(
        "a key is settled before it is confirmed",
        {f"{LOOP}._confirm": breaks.nothing},
        town.keys_held_up,
        Invariant.HOLD,
    ),
    Mutation(
        "a key is settled before it is sent",
        {f"{LOOP}._deliver": breaks.settling_first},
        town.a_day,
        Invariant.HOLD,
    ),
    Mutation(
        "a fence is only read",
        breaks.only_reading(),
        town.a_zombie,
        Invariant.ONE_KEY,
    ),
    Mutation("survivors are read before apply", breaks.reading_before(), town.a_day, Invariant.EXCLUSION),
    Mutation("newcomers are read before apply", breaks.reading_before(), town.one_batch, Invariant.HOLD),
    Mutation(
        "somebody removed is sent the key",
        {f"{COURIER}.fan_out": breaks.with_the_removed},
        town.a_day,
        Invariant.EXCLUSION,
    ),
    Mutation(
        "recovery makes new bytes",
        {"worker.recovery:load_rooms": breaks.minting_anew},
        town.crash_after_delivering,
        Invariant.ONE_KEY,
    ),
    Mutation(
        "a version is used again",
        {"roomkeys.keys:KeyRecord.next_version": breaks.the_same_again},
        town.a_day,
        Invariant.ONE_KEY,
    ),
    Mutation(
        "versions fall",
        {"roomkeys.keys:KeyRecord.next_version": breaks.falling},
        town.a_day,
        Invariant.RISE,
    ),
    Mutation(
        "a page is lost", {"worker.courier:pages": breaks.all_but_the_second}, town.several_pages, Invariant.HOLD
    ),
    Mutation(
        "recovery forgets joiners",
        {"worker.recovery:_for_members": breaks.without_joiners},
        town.crash_after_applying,
        Invariant.REACH,
    ),
    Mutation("recovery decides again", breaks.deciding_again(), town.crash_after_applying, Invariant.REACH),
    Mutation(
        "a dead letter is not sent", {f"{COURIER}._dead_letters": breaks.nothing}, town.a_day, Invariant.LETTERS
    ),
    Mutation(
        "a flush is the barrier",
        {"worker.broker:Broker.confirm": breaks.flushing},
        town.cut_before_the_barrier,
        Invariant.HOLD,
    ),
    Mutation(
        "a ping overtakes what it confirms",
        {
            "worker.broker:Broker.confirm": breaks.flushing,
            "worker.client:SteadyClient._send_ping": breaks.pinging_as_nats_py,
        },
        town.nothing_after_the_ping,
        Invariant.RESULTS,
    ),
    Mutation(
        "a result comes before its key",
        {f"{LOOP}._complete": breaks.announcing_first},
        town.a_day,
        Invariant.EXCLUSION,
    ),
    Mutation("nobody is told", {f"{COURIER}.tell": breaks.letters_only}, town.a_day, Invariant.ORDER),
    Mutation(
        "notices go backwards",
        {"worker.courier:in_stream_order": breaks.backwards},
        town.one_batch,
        Invariant.ORDER,
    ),
    Mutation(
        "a fan-out is stamped twice",
        {f"{COURIER}.fan_out": breaks.one_stamp_each},
        town.several_pages,
        Invariant.SAME_BYTES,
    ),
    Mutation("a key is told", {f"{COURIER}.fan_out": breaks.telling_the_key}, town.a_day, Invariant.SIDE_DOOR),
    Mutation(
        "a big room's newcomer is not handed the key on its way",
        {"worker.drainers:Drainers.staged": lambda _: lambda _self, _rooms: {}},
        town.a_newcomer_behind_the_pass,
        Invariant.HOLD,
    ),
    Mutation(
        "a big room's newcomer is sent the key before the notice",
        {"worker.drainers:Drainers.leave_out": lambda _: lambda _self, _room, _accounts: None},
        town.a_newcomer_before_the_pass,
        Invariant.ORDER,
    ),
    Mutation(
        "a big room settles before its pass is over",
        {"worker.drainers:Drainers.take_finished": breaks.unfinished_too},
        town.a_newcomer_behind_the_pass,
        Invariant.HOLD,
    ),
)
