"""Model card of a bundle, rendered from its record."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from llmrec.backbones.model_files.resolve import is_hub_id
from llmrec.data.readers.hub import HUB, parse_hub_place

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class RepoRef:
    """Repository on the Hub."""

    repo_id: str
    """OWNER/NAME."""
    revision: str | None = None
    """Branch, tag or commit; None for the default branch."""

    def __str__(self) -> str:
        """Format as arguments of Recommender.from_pretrained."""
        return json.dumps(self.repo_id) + (f", revision={json.dumps(self.revision)}" if self.revision else "")


def render_card(record: dict[str, Any], item_ids: Sequence[str], *, address: RepoRef | None = None) -> str:
    """Render the README.md of a bundle.

    Args:
        record: Content of llmrec.json.
        item_ids: Some item ids of the catalog, for the example.
        address: Repository on the Hub; None for a folder.

    Returns:
        Markdown.
    """
    from jinja2 import Environment, StrictUndefined

    # Markdown needs no escaping here; software that shows it must make it safe, as the Hub does.
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # nosec B701
    environment.filters["thousands"] = lambda number: f"{number:,}"
    template = environment.from_string(files("llmrec.hub").joinpath("card.md.jinja").read_text(encoding="utf-8"))
    fields = list(dict.fromkeys(FIELD.findall(record["catalog"]["template"])))
    config = record["config"]
    mask_seen = config["evaluation"]["mask_seen"]
    own = config.get("leave_one_out_seeds") if config["split"]["names"][0] == "leave_one_out" else None
    return template.render(
        **record,
        metadata=_build_metadata(record, address).to_yaml(),
        public=record["base"] is not None and is_hub_id(record["base"]["hub_id"]),
        recommends_seen=config["data"]["repeats"] == "keep" if mask_seen is None else not mask_seen,
        seed=(own or config["seeds"])[0],
        place=str(address or json.dumps("path/to/this/folder")),
        example_history=json.dumps(list(item_ids), ensure_ascii=False),
        example_item=json.dumps(dict.fromkeys(fields, "...")),
    )


def _build_metadata(record: dict[str, Any], address: RepoRef | None) -> ModelCardData:
    """Build the front matter that the Hub indexes; license and language are unknown and left out."""
    from huggingface_hub import ModelCardData

    config, base, source = record["config"], record["base"], record["config"]["data"]["source"] or ""
    strategy, facts = config["backbone"]["strategy"], dict[str, Any]()
    tags = {"lora": ["lora", "peft"], "peft": ["peft"]}.get(strategy, [])
    if base is not None and is_hub_id(base["hub_id"]):
        facts["base_model_relation"] = "adapter" if tags else "finetune"
    results = _build_results(record)
    return ModelCardData(
        library_name="llmrec",
        base_model=base["hub_id"] if facts else None,
        datasets=[parse_hub_place(source).name] if source.startswith(HUB) else None,
        tags=["recommendation", "recommender-system", *tags],
        model_name=address.repo_id if address else f"llmrec on {record['facts']['source']}",
        eval_results=results or None,
        **facts,
    )


def _build_results(record: dict[str, Any]) -> list[EvalResult]:
    """List the headline's metrics over all queries of the first split."""
    from huggingface_hub import EvalResult

    evaluation, split, source = record["evaluation"], record["config"]["split"]["names"][0], record["facts"]["source"]
    return [
        EvalResult(
            task_type="recommendation",
            dataset_type=parse_hub_place(source).name,
            dataset_name=source,
            dataset_config=split,
            dataset_split="test",
            metric_type=row["metric"],
            metric_value=float(row["value"]),
        )
        for row in evaluation["rows"]
        if (row["model"], row["split"], row["slice"]) == (evaluation["headlines"][split], split, "overall")
    ]
