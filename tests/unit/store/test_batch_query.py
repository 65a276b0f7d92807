"""The clauses that find memberships: many rooms share one, within a bound."""

from store.reads.batch_query import _LOOKUPS_PER_CLAUSE, membership_clauses


def test_rooms_with_few_accounts_share_clauses() -> None:
    asked = {f"r{number}": {f"a{number}", "everywhere"} for number in range(256)}
    clauses = membership_clauses(asked)
    assert len(clauses) <= 20, f"{len(clauses)} clauses"
    assert [room_id for clause in clauses for room_id in clause["roomId"]["$in"]] == list(asked)


def test_each_clause_has_all_accounts_of_its_rooms() -> None:
    asked = {f"r{number}": {f"a{number}", f"b{number % 7}"} for number in range(100)}
    for clause in membership_clauses(asked):
        wanted = set[str]().union(*(asked[room_id] for room_id in clause["roomId"]["$in"]))
        assert set(clause["u.account"]["$in"]) == wanted


def test_clauses_of_rooms_with_many_accounts_are_bounded() -> None:
    asked = {f"r{number}": {f"a{number}.{account}" for account in range(400)} for number in range(5)}
    clauses = membership_clauses(asked)
    looks = [len(clause["roomId"]["$in"]) * len(clause["u.account"]["$in"]) for clause in clauses]
    assert max(looks) <= _LOOKUPS_PER_CLAUSE, looks


def test_room_beyond_the_bound_has_a_separate_clause() -> None:
    asked = {"r1": {"a"}, "r2": {f"a{account}" for account in range(5_000)}, "r3": {"b"}}
    assert [clause["roomId"]["$in"] for clause in membership_clauses(asked)] == [["r1"], ["r2"], ["r3"]]


def test_rooms_without_accounts_have_no_clause() -> None:
    assert membership_clauses({}) == []
    assert membership_clauses({"r1": set()}) == []
