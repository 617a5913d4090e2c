"""What `llmrec forget` tells of its work. Users are counted and not named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InLog:
    """n_users, n_events: left out; n_left: events of others. n_trained, n_chosen_by: events that weights were trained
    on, and that they were chosen by.
    """

    n_users: int
    n_events: int
    n_left: int
    n_trained: int
    n_chosen_by: int


@dataclass(frozen=True)
class Forgotten:
    """n_new: items that nobody else touched in training. recounted: whether the bundle holds counts. n_stored_events:
    None without a store. learned: files of weights that stay; retrain: how to make them anew. n_searched: files whose
    every byte was searched, None for ids too short for that; traces: how often an id was found, in which of them.
    """

    log: InLog
    n_new: int
    recounted: bool
    n_states: int
    n_stored_events: int | None
    n_cached_files: int
    learned: tuple[str, ...]
    retrain: str
    n_searched: int | None
    traces: dict[str, int]

    def lines(self) -> list[str]:
        """For people."""
        log = self.log
        lines = [
            f"log: {log.n_events:,} events of {log.n_users:,} user(s) left out, {log.n_left:,} of others stay",
            "bundle: what people did was counted anew" if self.recounted else "bundle: it holds no counts",
        ]
        if self.n_new:
            lines.append(f"bundle: {self.n_new:,} item(s) that nobody else touched in training are new again")
        if self.n_states:
            lines.append(f"states: taken out of {self.n_states:,} file(s), counts to the rounding of sums")
        if self.n_stored_events is not None:
            lines.append(f"store: {self.n_stored_events:,} events deleted, with the snapshots that knew of them")
        lines.append(
            f"caches: {self.n_cached_files:,} file(s) made of histories deleted; the rest is of item texts alone"
        )
        return [*lines, *self._what_stays(), *self._what_was_found()]

    def _what_stays(self) -> list[str]:
        log, lines = self.log, list[str]()
        if log.n_trained or log.n_chosen_by:
            lines += [
                f"stays: what {', '.join(self.learned)} learned. {log.n_trained:,} of the events were in what it was "
                f"trained on, {log.n_chosen_by:,} in what it was chosen by. To be rid of that too, train anew:",
                f"  {self.retrain}",
            ]
        else:
            lines.append(f"stays: what {', '.join(self.learned)} learned, which none of the events was in")
        return [
            *lines,
            "stays: reports, whose figures are everyone's; checkpoints of runs; copies on the hub, in backups",
        ]

    def _what_was_found(self) -> list[str]:
        if self.n_searched is None:
            return ["not searched for byte by byte: ids this short are found in any file by chance"]
        lines = [f"TRACE: {place} holds an id {count:,} time(s)" for place, count in self.traces.items()]
        return [*lines, f"searched {self.n_searched:,} files, every byte: {'FOUND' if lines else 'no trace of an id'}"]
