"""Items of histories by their last position and count."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrec.data.histories import Histories, Queries
from llmrec.data.interactions import Interactions
from llmrec.data.repeats import count_repeats, list_seen

Past = st.lists(st.integers(0, 5), max_size=12)


def queries_for(histories: list[list[int]]) -> Queries:
    lengths = [len(history) for history in histories]
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    item = np.array([row for history in histories for row in history], dtype=np.int64)
    past, user = Histories(item, np.arange(len(item)), offset, np.arange(len(item))), np.arange(len(lengths))
    return Queries(past, user, user, np.zeros_like(user), offset[:-1], offset[1:])


@given(st.lists(Past, max_size=4), st.integers(1, 6))
def test_pairs_are_those_of_a_plain_loop_however_much_is_kept(pasts: list[list[int]], most: int) -> None:
    expected = []
    for row, past in enumerate(pasts):
        back = past[::-1]
        recent = Counter(back[:most])
        expected += [(row, item, min(back.index(item) + 1, most), max(recent[item], 1)) for item in sorted(set(past))]
    assert list(zip(*map(np.ndarray.tolist, list_seen(queries_for(pasts), most)), strict=True)) == expected

    older = [(row, item) for row, past in enumerate(pasts) for item in past]
    pairs = np.array(older, dtype=np.int64).reshape(-1, 2).T
    cut = list_seen(queries_for([past[-most:] for past in pasts]), most, older=(pairs[0], pairs[1]))
    assert list(zip(*map(np.ndarray.tolist, cut), strict=True)) == expected


def test_an_event_is_a_repeat_from_the_second_of_a_user_on() -> None:
    events = Interactions(np.array([0, 0, 1, 0, 1]), np.array([2, 2, 2, 1, 2]), np.arange(5))
    counts, repeats = count_repeats(events, 4)
    assert (counts.tolist(), repeats.tolist()) == ([0, 1, 4, 0], [0, 0, 2, 0])
