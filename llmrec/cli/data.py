"""The command audit.

What is heavy is imported inside.
"""

from __future__ import annotations

import json

from llmrec.config.data import DataConfig
from llmrec.config.split import SplitConfig


def audit(data: DataConfig, split: SplitConfig | None = None, as_json: bool = False) -> None:
    """Print what is wrong, or merely surprising, with a log.

    Args:
        data: the log.
        split: how its time split is cut.
        as_json: print JSON; --json for short.
    """
    from llmrec.data.audit import audit_log as audit_log
    from llmrec.data.loading import load_log
    from llmrec.data.splits import make_split
    from llmrec.reports.audit_text import format_audit

    log = load_log(data)
    part, _ = make_split("by_time", log.interactions, log.n_users, log.n_items, split or SplitConfig())
    found = audit_log(log, part)
    print(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else "\n".join(format_audit(found)))
