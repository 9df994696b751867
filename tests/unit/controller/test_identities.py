import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.identities import assign
from meshapi.errors import HopliteError
from meshapi.identity import FIRST, LAST, WorkloadIdentity

names = st.sampled_from("abcdef")
identities = st.builds(WorkloadIdentity, st.just("t"), names, names)


@given(st.lists(st.lists(identities)))
def test_numbers_are_unique_stable_and_never_reused(batches):
    known: dict[WorkloadIdentity, int] = {}
    for batch in batches:
        fresh = assign(known, batch)
        assert not fresh.keys() & known.keys()
        assert set(batch) <= fresh.keys() | known.keys()
        assert all(number > max(known.values(), default=FIRST - 1) for number in fresh.values())
        known |= fresh
    assert sorted(known.values()) == list(range(FIRST, FIRST + len(known)))


def test_a_full_number_space_is_refused():
    known = {WorkloadIdentity("t", "a", "a"): LAST}
    assert assign(known, known) == {}
    with pytest.raises(HopliteError, match="given out"):
        assign(known, [WorkloadIdentity("t", "a", "b")])
