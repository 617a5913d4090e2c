"""What is recommended fits, and where nothing does that is said with what to change."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from llmrec.planning.advisor import Facts, Option, ResourceLimits, choose_strategy
from llmrec.planning.strategies import WAYS

SMALL, LARGE = Facts(100_000, 9_000, False), Facts(5_000_000, 40_000, False)
OPTIONS = [
    Option(way, hours, gib, "fit") for way, hours, gib in zip(WAYS, (1, 2, 3, 4, 5), (1, 2, 3, 4, 2), strict=True)
]

amounts = st.floats(0.01, 100)
limits = st.builds(ResourceLimits, st.none() | amounts, st.none() | amounts)
facts = st.builds(Facts, st.integers(1, 10**9), st.integers(1, 10**7), st.booleans())


@st.composite
def some_options(draw: st.DrawFn) -> list[Option]:
    ways = draw(st.lists(st.sampled_from(WAYS), min_size=1, unique=True))
    return [
        Option(way, draw(amounts), draw(amounts), "fit", draw(st.sampled_from(["", "shares layers"]))) for way in ways
    ]


@given(options=some_options(), limits=limits, facts=facts)
def test_what_is_recommended_fits(options: list[Option], limits: ResourceLimits, facts: Facts) -> None:
    choice = choose_strategy(options, limits, facts)
    fitting = [option.way for option in options if not limits.missing_resources(option)]
    assert (choice.way in fitting) if fitting else (choice.way is None)
    assert choice.reasons


@given(options=some_options(), limits=limits, facts=facts)
def test_more_room_never_takes_the_choice_away(options: list[Option], limits: ResourceLimits, facts: Facts) -> None:
    if choose_strategy(options, limits, facts).way is not None:
        assert choose_strategy(options, replace(limits, hours=None), facts).way is not None
        assert choose_strategy(options, replace(limits, gib=None), facts).way is not None


def test_frozen_where_nothing_was_better_and_a_decoder_s_adapter() -> None:
    small = choose_strategy(OPTIONS, ResourceLimits(), SMALL)
    assert small.way == "frozen"
    assert "were no better than frozen" in small.reasons[0]
    assert choose_strategy(OPTIONS, ResourceLimits(), LARGE).way == "last_k"
    assert any("negatives 2048" in reason for reason in choose_strategy(OPTIONS, ResourceLimits(), LARGE).reasons)
    decoder = choose_strategy(OPTIONS, ResourceLimits(), replace(SMALL, causal=True))
    assert decoder.way == "lora"
    assert choose_strategy(OPTIONS, ResourceLimits(gib=2.7), replace(SMALL, causal=True)).way == "last_k"
    assert any(
        "lora" in reason and "over a limit" in reason
        for reason in choose_strategy(OPTIONS, ResourceLimits(gib=2.7), replace(SMALL, causal=True)).reasons
    )


def test_where_nothing_fits_it_says_what_is_missing() -> None:
    nothing = choose_strategy(OPTIONS, ResourceLimits(gib=0.5, hours=0.5), SMALL)
    assert nothing.way is None
    told = "\n".join(nothing.reasons)
    assert "frozen needs least, 1.00 GiB, but 1.3 times that is above 0.50" in told
    assert "frozen is fastest, 1.00 hours of 0.50, most of it fit" in told
    one = choose_strategy([Option("frozen", 9, 1), Option("full", 1, 9)], ResourceLimits(gib=2, hours=2), SMALL)
    assert "none in both. Raise one limit" in one.reasons[-1]
    refused = choose_strategy([Option("last_k", refused="it shares its layers")], ResourceLimits(), SMALL)
    assert refused.reasons == ("last_k: it shares its layers",)
