"""The model card: rendered from the bundle's record, never guessed."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

FIELD = re.compile(r"\{(\w+)\}")


def render_card(record: dict[str, Any]) -> str:
    """README.md of a bundle whose llmrec.json is `record`."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # Markdown
    environment.filters["thousands"] = lambda number: f"{number:,}"
    template = environment.from_string(files("llmrec.hub").joinpath("card.md.jinja").read_text(encoding="utf-8"))
    fields = list(dict.fromkeys(FIELD.findall(record["catalog"]["template"])))
    example = dict.fromkeys(fields, "...")
    config = record["config"]
    own = config.get("leave_one_out_seeds") if config["split"]["names"][0] == "leave_one_out" else None
    seed = (own or config["seeds"])[0]
    return template.render(
        **record, seed=seed, example_history='["item id", "another id"]', example_item=json.dumps(example)
    )
