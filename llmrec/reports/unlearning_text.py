"""Text of the result of unlearning."""

from __future__ import annotations

from llmrec.unlearning.removal import ForgetResult


def format_forget_result(result: ForgetResult) -> list[str]:
    """Format what was removed, what stays and what a search found, one line each.

    Args:
        result: Result of removing users.

    Returns:
        Lines for the terminal.
    """
    log = result.log
    lines = [
        f"log: {log.n_events:,} events of {log.n_users:,} user(s) left out, {log.n_left:,} of others stay",
        "bundle: what people did was counted again" if result.recounted else "bundle: it holds no counts",
    ]
    if result.n_new:
        lines.append(f"bundle: {result.n_new:,} item(s) that no other user has events of in training are new again")
    if result.n_states:
        lines.append(f"states: taken out of {result.n_states:,} file(s), counts to the rounding of sums")
    if result.n_stored_events is not None:
        lines.append(f"store: {result.n_stored_events:,} events deleted, with the snapshots that knew of them")
    lines.append(
        f"caches: {result.n_cached_files:,} file(s) made of histories deleted; the rest is of item texts alone"
    )
    return [*lines, *_format_remaining(result), *_format_matches(result)]


def _format_remaining(result: ForgetResult) -> list[str]:
    log, lines = result.log, list[str]()
    if log.n_trained or log.n_chosen_by:
        lines += [
            f"stays: what {', '.join(result.learned)} learned. {log.n_trained:,} of the events were in what it was "
            f"trained on, {log.n_chosen_by:,} in what it was chosen by. To be rid of that too, train again:",
            f"  {result.retrain}",
        ]
    else:
        lines.append(f"stays: what {', '.join(result.learned)} learned, which none of the events was in")
    return [
        *lines,
        "stays: reports, whose figures are everyone's; checkpoints of runs; copies on the hub, in backups",
    ]


def _format_matches(result: ForgetResult) -> list[str]:
    if result.n_searched is None:
        return ["not searched for byte by byte: ids this short are found in any file by chance"]
    lines = [f"TRACE: {place} holds an id {count:,} time(s)" for place, count in result.traces.items()]
    return [*lines, f"searched {result.n_searched:,} files, every byte: {'FOUND' if lines else 'no trace of an id'}"]
