"""The gate: shares of the mixture's parts by the features of the history."""

from __future__ import annotations

from llmrec.drift.terms.protocol import DriftTerm

NAME = "gate"
# Features of a history: 1, log1p days since the last event, log1p events, same moment, log1p days from the first to the
# last event, and log1p days since the end of the training data, since an older model deserves a smaller share.
N_CONTEXT = 6


class GateTerm(DriftTerm):
    """Without it the shares are the same for every history."""

    optional = False
