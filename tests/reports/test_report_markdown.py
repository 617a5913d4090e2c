"""CPU minutes of a model are those of the phases that made it."""

from llmrec.evaluation.model_rows import FROZEN, ModelRow
from llmrec.evaluation.run_metadata import RunMetadata
from llmrec.reports.report_markdown import compute_cpu_minutes


def phase(name: str, of: str | None, cpu: float) -> dict[str, object]:
    return {"phase": name, "of": of, "wall": 2 * cpu, "cpu": cpu, "peak_mib": 1}


def test_cpu_minutes_are_those_of_making_a_model() -> None:
    run = RunMetadata(
        phases=[
            phase("fit", FROZEN.name, 90),
            phase("read", FROZEN.name, 30),
            phase("evaluate", FROZEN.name, 500),
            phase("fit/validate", None, 60),
            phase("read", None, 60),
            phase("adapt", "llmrec (LoRA)", 120),
            phase("baselines", "item_knn", 12),
        ]
    )
    assert compute_cpu_minutes(run, FROZEN) == 3  # with the catalog's reading
    assert compute_cpu_minutes(run, ModelRow("llmrec", "lora")) == 4.5  # begins with the frozen fit
    assert compute_cpu_minutes(run, ModelRow("baseline", "item_knn")) == 0.2
    assert compute_cpu_minutes(run, ModelRow("baseline", "popularity")) == 0
