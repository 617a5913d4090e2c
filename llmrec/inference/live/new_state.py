"""States that live users start with: empty, or with the counts in a bundle."""

from __future__ import annotations

from llmrec.config.drift import MAX_HISTORY, DriftConfig
from llmrec.drift.fitted import FittedDrift
from llmrec.drift.head import DriftHead
from llmrec.drift.stream import ReplayStream
from llmrec.errors import BundleError
from llmrec.inference.live.online_state import OnlineState
from llmrec.inference.served_catalog import ServedCatalog

# A bundle without a drift head has live users too; a head that counts popularity, which no score uses, keeps them.
NO_HEAD = DriftConfig(terms=("environment",))


def make_state(catalog: ServedCatalog) -> OnlineState:
    """Make a state without users or counts over the items of a catalog.

    Args:
        catalog: Items and the drift head.

    Returns:
        The state.
    """
    config, drift = catalog.bundle.config, get_serving_drift(catalog)
    ties = config.split.ties if config.split.names[0] == "by_time" else config.split.leave_one_out_ties
    settings = NO_HEAD if catalog.drift is None or config.drift is None else config.drift
    stream: ReplayStream = drift.build_serving_stream(settings, ties, len(catalog))
    return OnlineState(drift.head, stream, most=get_history_limit(catalog))


def restore_bundle_counts(state: OnlineState, catalog: ServedCatalog) -> bool:
    """Restore the counts in a bundle, if it has any.

    Args:
        state: State to change.
        catalog: Catalog of the bundle.

    Returns:
        True if the bundle has counts.

    Raises:
        BundleError: If the counts are of other items or settings.
    """
    if catalog.drift is None or catalog.drift.counts is None:
        return False
    try:
        state.restore_counts(catalog.drift.counts)
    except (LookupError, TypeError, ValueError) as error:
        raise BundleError(f"{catalog.folder}: its counts cannot be read ({error}); save the bundle again") from error
    return True


def get_serving_drift(catalog: ServedCatalog) -> FittedDrift:
    """Return the drift head of a catalog, or one that only counts popularity.

    Args:
        catalog: Catalog of the bundle.

    Returns:
        The drift head with its settings.
    """
    if catalog.drift is not None:
        return catalog.drift
    return FittedDrift(DriftHead(NO_HEAD).requires_grad_(requires_grad=False), NO_HEAD.transition_half_lives_days[0])


def get_history_limit(catalog: ServedCatalog) -> int:
    """Return how many last events histories hold: as many as the drift head or the model reads.

    Args:
        catalog: Catalog of the bundle.

    Returns:
        Number of events.
    """
    return max(MAX_HISTORY, catalog.bundle.config.model.max_history)
