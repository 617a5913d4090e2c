"""Figures of drift in a log or of a user."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrec.drift.interest_metrics import Numbers
from llmrec.drift.profile import DriftProfile, InterestByPeriod, InterestDecay, InterestStates, MixtureShares
from llmrec.drift.terms import PARTS
from llmrec.evaluation.metric_rows import MetricRow
from llmrec.utils.text import format_duration, truncate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from llmrec.drift.user_profile import UserDriftProfile

# Paul Tol's muted colors, which are color-blind-safe
_MUTED = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#882255", "#44AA99", "#AA4499")
_OTHERS, _BLUE, _ORANGE = "#DDDDDD", "#0072B2", "#D55E00"
_STYLES = "-", "--", "-.", ":"
_MAX_LIFT = 8.0  # end of the color scale; the other end is its inverse
_PLOTTED_STATES = 8


def plot_drift_profile(profile: DriftProfile) -> dict[str, Figure]:
    """Plot the figures that the profile has data for.

    Args:
        profile: Drift of a log: always shares; with a chain also interest, moves, change and decay.

    Returns:
        Figures by file name.
    """
    figures = {"drift_shares.png": plot_mixture_shares(profile.shares)}
    states, periods, decay = profile.states, profile.periods, profile.decay
    if states is not None:
        figures["drift_moves.png"] = plot_transition_matrix(states)
    if states is not None and periods is not None and len(periods.start) > 1:
        figures["drift_interest.png"] = plot_interest_over_time(states, periods)
        figures["drift_change.png"] = plot_interest_change(periods)
    if decay is not None and len(decay.lag_days) > 1:
        figures["drift_decay.png"] = plot_interest_decay(decay)
    return figures


def write_user_figures(user: UserDriftProfile, folder: Path) -> list[Path]:
    """Write shares.png and, with a chain, interest.png.

    Args:
        user: Drift of one user.
        folder: Folder of the files; created if missing.

    Returns:
        Paths of the files, sorted by name.
    """
    figures = {"shares.png": plot_mixture_shares(user.shares)}
    if user.interest is not None:
        figures["interest.png"] = plot_user_interest(user)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=150)
    return [folder / name for name in sorted(figures)]


def plot_weekly_ndcg(weekly: Sequence[MetricRow]) -> Figure:
    """Plot a metric by week after the cutoff, with 95% intervals and one line for each model.

    Args:
        weekly: One row for each model and week; its slice is the number of the week. At least one row.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axis = _make_figure(9.0, 4.4)
    looks = zip((_ORANGE, _BLUE, *_MUTED[2:]), ("o", "s", "^", "D", "v", "P"), strict=False)
    models = list(dict.fromkeys(row.model for row in weekly))
    for model, (color, marker), shift in zip(models, looks, np.linspace(-0.12, 0.12, len(models)), strict=False):
        rows = [row for row in weekly if row.model == model]
        weeks = np.array([int(row.slice) for row in rows]) + shift
        axis.plot(weeks, [row.value for row in rows], color=color, marker=marker, markersize=5, label=model.name)
        lows = [row.value if row.low is None else row.low for row in rows]
        highs = [row.value if row.high is None else row.high for row in rows]
        axis.vlines(weeks, lows, highs, color=color, linewidth=1.2, alpha=0.7)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("week after the cutoff")
    axis.set_ylabel(f"{weekly[0].metric.replace('ndcg', 'NDCG')}, 95% interval")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, fontsize=9)
    return figure


def plot_interest_over_time(states: InterestStates, periods: InterestByPeriod) -> Figure:
    """Plot the interest of all users as stacked areas.

    Args:
        states: Interest states with their titles; those whose share changed most get an area of their own, the others
            share one.
        periods: Interest by period, (P, K).
    """
    figure, axis = _make_figure(10.5, 4.8)
    interest = np.array(periods.interest)  # (P, K)
    dates = np.array(periods.start, dtype="datetime64[M]").astype("datetime64[D]")
    _draw_areas(axis, dates, interest, states.titles, weight=interest.max(0) - interest.min(0) + interest.mean(0))
    axis.set_title("What people were interested in", loc="left")
    axis.set_ylabel(f"share of the events of {_format_period(periods.months)}")
    return figure


def plot_user_interest(user: UserDriftProfile) -> Figure:
    """Plot one user's interest as stacked areas, with a mark for each event.

    Args:
        user: Drift of one user, with a chain.

    Returns:
        Figure.

    Raises:
        ValueError: If the drift head has no chain.
    """
    figure, axis = _make_figure(10.5, 4.8)
    if user.interest is None:
        raise ValueError("no chain, no interest by state")
    course = np.array(user.interest.course)  # (G, K)
    dates = np.array(user.interest.moments).astype("datetime64[s]")
    _draw_areas(axis, dates, course, user.interest.titles, weight=course.mean(0) + course[-1])
    events = np.array(user.event_times).astype("datetime64[s]")
    events = events[events >= dates[0] - np.timedelta64(1, "s")]
    axis.plot(events, np.full(len(events), 1.02), "|", color="black", markersize=6, clip_on=False)
    axis.set_title(f"Interest of user {user.user} until {user.at[:10]}; a mark for each event", loc="left", pad=12)
    axis.set_ylabel("chance of the state")
    return figure


def plot_transition_matrix(states: InterestStates) -> Figure:
    """Plot the chain's moves as a heat map of lifts, from each state (row) to each other.

    Args:
        states: Interest states with their titles and lifts, (K, K).
    """
    from matplotlib.colors import LogNorm

    n_states = len(states.titles)
    figure, axis = _make_figure(5.2 + 0.18 * n_states, 1.2 + 0.17 * n_states)
    table = np.array(states.lift)
    shown = np.ma.masked_where(np.eye(n_states, dtype=bool), table.clip(1 / _MAX_LIFT, _MAX_LIFT))
    image = axis.imshow(shown, cmap="PuOr_r", norm=LogNorm(1 / _MAX_LIFT, _MAX_LIFT), aspect="equal")
    axis.set_facecolor("0.75")
    names = [f"{wrap_title(title[:1])}  {row + 1}" for row, title in enumerate(states.titles)]
    axis.set_yticks(range(n_states), names, fontsize=8)
    axis.set_xticks(range(n_states), [str(row + 1) for row in range(n_states)], fontsize=6.5)
    axis.set_xlabel("to")
    axis.set_ylabel("from")
    axis.grid(visible=False)
    axis.set_title("Where interest moves on to", loc="left")
    bar = figure.colorbar(image, ax=axis, shrink=0.8, ticks=[1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8])
    bar.ax.set_yticklabels(["1/8 or less", "1/4", "1/2", "as from\nelsewhere", "2x", "4x", "8x or more"])
    bar.ax.minorticks_off()
    return figure


def plot_interest_change(periods: InterestByPeriod) -> Figure:
    """Plot the divergence of each period's interests from those of the previous one.

    Args:
        periods: Divergence by period in bits, with the mean and the 95th percentile of shuffled events.
    """
    figure, axis = _make_figure(9.0, 4.0)
    places = np.arange(len(periods.divergence))
    axis.bar(places, periods.divergence, width=0.8, color=_BLUE, label="the log")
    low, high = np.array(periods.by_chance), np.array(periods.by_chance_high)
    axis.step(np.append(places, places[-1] + 1) - 0.5, np.append(low, low[-1]), where="post", color=_ORANGE,
              label="events shuffled among periods: mean")  # fmt: skip
    axis.step(np.append(places, places[-1] + 1) - 0.5, np.append(high, high[-1]), where="post", color=_ORANGE,
              linestyle=":", label="95th percentile")  # fmt: skip
    step = max(1, -(-len(places) // 12))
    axis.set_xticks(places[::step], periods.start[1::step], rotation=30, ha="right")
    axis.set_ylabel("Jensen-Shannon divergence, bits")
    axis.set_title(f"How far interests lie from those of {_format_period(periods.months)} before", loc="left")
    axis.margins(x=0.01)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def plot_interest_decay(decay: InterestDecay) -> Figure:
    """Plot by lag how similar a user's events are in states, beyond those of other users.

    Args:
        decay: Excess similarity by lag in days, and its half-life.
    """
    figure, axis = _make_figure(7.0, 4.2)
    axis.plot(decay.lag_days, decay.excess, "o-", color=_BLUE)
    axis.axhline(0, color="0.4", linewidth=0.8)
    if decay.half_life_days is not None:
        half = decay.excess[0] / 2
        axis.plot([0, decay.half_life_days, decay.half_life_days], [half, half, 0], ":", color=_ORANGE)
        axis.annotate(f"halved after {format_duration(decay.half_life_days)}", (decay.half_life_days, half),
                      xytext=(8, 8), textcoords="offset points", color=_ORANGE)  # fmt: skip
    _format_days_axis(axis, [day for day in (0, 1, 7, 30, 90, 365, 1460, 3650) if day <= max(decay.lag_days) * 1.1])
    axis.set_xlabel("days between two events of a user")
    axis.set_ylabel("similarity beyond other people's")
    axis.set_title("How long interest lasts", loc="left")
    return figure


def plot_mixture_shares(shares: MixtureShares) -> Figure:
    """Plot the shares of the mixture's parts by days since the user's last event.

    Args:
        shares: Shares of each part by gap in days.
    """
    figure, axis = _make_figure(7.6, 4.4)
    parts = [part for part in PARTS if part.name in shares.parts]
    for part, style in zip(parts, cycle(_STYLES), strict=False):
        values = shares.parts[part.name]
        if max(values) > 0:
            axis.plot(shares.gap_days, values, style, color=part.color, linewidth=2, label=part.caption)
    _format_days_axis(axis, [0, 1, 7, 30, 90, 365])
    axis.set_ylim(0, 1)
    axis.set_xlabel("days since the user's last event")
    axis.set_ylabel("share of the mixture")
    axis.set_title(
        f"What is left to each part after {shares.n_events} events over {format_duration(shares.span_days)}", loc="left"
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_areas(axis: Axes, dates: Any, interest: Numbers, titles: Sequence[Sequence[str]], *, weight: Numbers) -> None:
    """Draw interest (P, K): the states of the largest weight (K,) get a named area each, in their order."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    named = sorted(np.argsort(-weight, kind="stable")[:_PLOTTED_STATES].tolist())
    rest = interest.sum(1) - interest[:, named].sum(1)
    heights = [*interest[:, named].T, rest] if interest.shape[1] > len(named) else [*interest[:, named].T]
    labels = [wrap_title(titles[state]) for state in named]
    labels += [f"{interest.shape[1] - len(named)} other states"][: len(heights) - len(named)]
    colors = [*_MUTED[: len(named)], _OTHERS][: len(heights)]
    areas = axis.stackplot(dates, heights, colors=colors, edgecolor="white", linewidth=0.3)
    axis.set_ylim(0, 1)
    axis.margins(x=0)
    axis.legend(areas[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False,
                fontsize=8, labelspacing=0.9)  # fmt: skip
    locator: Any = AutoDateLocator(maxticks=9)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def wrap_title(titles: Sequence[str], width: int = 42) -> str:
    """Put the first two titles on a line each.

    Args:
        titles: Titles of items, the most typical one first.
        width: Characters per line; longer titles are cut.

    Returns:
        Up to two lines.
    """
    return "\n".join(truncate(title, width) for title in titles[:2])


def _format_period(months: int) -> str:
    return {1: "the month", 3: "the quarter", 12: "the year"}[months]


def _format_days_axis(axis: Axes, days: Sequence[float]) -> None:
    """Scale the axis by log(1 + days)."""
    axis.set_xscale("function", functions=(np.log1p, np.expm1))
    axis.set_xticks(days, [f"{day:g}" for day in days])
    axis.set_xlim(left=0)


def _make_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    return figure, axis
