"""Every strategy measured on real steps with the tiny BERT, and a plan beside the run that followed."""

from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.backbones.adaptation import apply_strategy
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.privacy import PrivacyConfig
from llmrec.errors import ConfigError, DataError
from llmrec.planning.advisor import ResourceLimits
from llmrec.planning.cost import NOTHING, Cost, LinearCost
from llmrec.planning.measure import CUDA_BYTES, StrategyMeasurement, measure, sample_texts
from llmrec.planning.plan import MachineSpec, make_plan, read_plan, write_plan
from llmrec.planning.plan_vs_actual import compare_with_run
from llmrec.planning.predict import predict_phases, sum_phases
from llmrec.planning.strategies import WAYS, PlannedStrategy, config_for_strategy
from llmrec.planning.timed_steps import StageCost
from llmrec.planning.workload import LoopCounts, Workload
from llmrec.reports.plan_text import format_plan, format_plan_comparison
from llmrec.reports.report_files import read_report

HERE = MachineSpec(0, 10.0, ResourceLimits())


@pytest.mark.parametrize("way", WAYS)
def test_a_strategy_is_measured_by_what_its_run_does(config: FinetuneConfig, way: PlannedStrategy) -> None:
    measured = measure(config, way, 1, gpus=2)
    assert measured.fit.step.cpu > 0
    assert measured.fit.step.flops > 0
    assert measured.read.cpu > 0  # no cache holds it
    assert (measured.adapt is None) == (way == "frozen")
    assert (measured.lower != NOTHING) == (way in ("last_k", "lora"))  # which begin above one layer
    assert len(measured.sasrec) == (way == "frozen")
    backbone = TextBackbone.load(config_for_strategy(config, way).backbone)
    trained = apply_strategy(backbone, config_for_strategy(config, way).backbone).trainable
    layers = measured.fit.trains
    assert measured.trains == layers + trained
    footprint = (measured.adapt or measured.fit).footprint
    assert (footprint.gradients, footprint.optimizer) == (2 * 4 * measured.trains, 2 * 4 * measured.trains)
    assert footprint.activations > 0
    assert measured.gpu_bytes > CUDA_BYTES + footprint.total
    if measured.adapt is not None:
        assert measured.renew.flops > 0
        assert measured.adapt.step.flops > measured.fit.step.flops  # it reads texts as well


def test_checkpointing_keeps_one_batch_of_texts_at_a_time(config: FinetuneConfig) -> None:
    config = replace(
        config,
        adapt=replace(config.adapt, trainable_items_per_step=200),
        model=replace(config.model, use_item_ids=False),
    )
    kept = []
    for again in (False, True):
        backbone = replace(
            config.backbone, max_tokens=64, prompt="{text} " + "red hat " * 30, gradient_checkpointing=again
        )
        adapt = measure(replace(config, backbone=backbone), "full", 1, gpus=1).adapt
        assert adapt is not None
        kept.append(adapt.footprint.activations)
    assert 0 < kept[1] < kept[0]


def test_a_run_is_the_sum_of_its_parts() -> None:
    def stage(seconds: float) -> StageCost:
        return StageCost(Cost(cpu=seconds), Cost(cpu=0.5), 1, None)  # type: ignore[arg-type]

    def line(each: float) -> LinearCost:
        return LinearCost(NOTHING, Cost(cpu=each))

    parts = [Cost(cpu=value, wall=value) for value in (7.0, 100.0, 60.0, 40.0)]
    measured = StrategyMeasurement(
        "lora", *parts, stage(1), stage(3), (), line(0.1), line(0.4), line(0.2), line(0.3), 0.0, 0, False
    )
    work = Workload("by_time", 2, LoopCounts(10, 1, 0, 4), LoopCounts(10, 2, 3, 1), LoopCounts(12, 1, 0, 4), (), 20, 30)
    by_name: dict[str, float] = {}
    for phase in predict_phases([work], measured):
        by_name[phase.name] = by_name.get(phase.name, 0.0) + phase.total.cpu
    # Two seeds: four epochs of ten steps, each measured (20 queries) and kept; calibrated once; then the refit.
    fit = 2 * (4 * (10 + 20 * 0.1 + 0.5) + 20 * 0.2) + 2 * 4 * (12 + 0.5)
    # The layers below those that train are run once, when texts are read; adaptation starts from the fit's measurement,
    # is measured and calibrated twice, each time with a reading; three readings between, one last.
    check = 20 * 0.4 + 20 * 0.2
    adapt = 2 * (40 + 20 * 0.2 + 10 * 3 + 2 * (check + 40 + 0.5) + 3 * 40)
    expected = {"load": 7 * 3, "read": 7 + 60 + 40, "fit": fit, "adapt": adapt, "rank": 2 * 2 * 30 * 0.3}
    assert by_name == pytest.approx(expected)
    shared = sum_phases(predict_phases([work], measured, share=4))
    fixed = 7 * 4 + 60 + 2 * (4 * (10 + 0.5) + 4 * 12.5 + 10 * 3 + 2 * 0.5)  # loading, lower layers, steps, keeping
    assert shared.cpu == pytest.approx(fixed + (sum(expected.values()) - fixed) / 4)


def test_a_sample_stands_for_the_catalog(config: FinetuneConfig) -> None:
    tokens = TextBackbone.load(config.backbone).tokenize(["red hat"] * 3000 + ["old green shoe " * 8] * 3000)
    rows, scale = sample_texts(tokens)
    assert len(rows) < 6000
    assert float(tokens.lengths[rows].sum()) * scale == pytest.approx(float(tokens.lengths.sum()))
    assert float(tokens.lengths[rows].mean()) == pytest.approx(float(tokens.lengths.mean()), rel=0.05)


def test_a_plan_is_told_kept_and_compared_with_its_run(config: FinetuneConfig, tmp_path: Path) -> None:
    from llmrec.jobs.finetune import run_finetune

    config = replace(config, backbone=replace(config.backbone, strategy="last_k"))
    plan = make_plan(config, HERE, ways=("frozen", "last_k", "distill"), n_steps=1, alone=False)
    told = "\n".join(format_plan(plan))
    assert "recommended: frozen" in told
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    frozen, last_k, distill = (option.to_option(HERE).hours for option in plan.options)
    assert frozen < min(last_k, distill)
    assert any(phase.name == "teacher" for phase in plan.options[2].phases)

    run_finetune(config)
    report = read_report(config.output / "report.json")
    compared = {line.what: line for line in compare_with_run(plan, report, "report.json")}
    phases = {"read", "fit", "adapt", "rank", "sum of these", "baselines on ids", "everything else"}
    assert compared.keys() == phases | {"peak memory"}
    loaded = sum(one.total.cpu for one in plan.options[1].phases if one.name in ("load", "read"))
    assert compared["read"].predicted == pytest.approx(loaded)
    fit, history = (
        compared["fit"],
        report.part("by_time").settings["llmrec (frozen backbone)"]["seeds"]["0"]["valid_ndcg"],
    )
    (phase,) = (one for one in plan.options[1].phases if one.name == "fit")
    assert phase.times == 6
    assert fit.predicted == pytest.approx((phase.fixed + phase.each * len(history)).cpu)
    recorded = {(one["phase"], one["of"]): one for one in report.run.phases}
    assert fit.measured == recorded["fit", "llmrec (frozen backbone)"]["cpu"]
    assert compared["peak memory"].measured == recorded["evaluate", "llmrec (last layers)"]["peak_mib"] / 1024
    assert compared["everything else"].predicted is None
    assert "sum of these" in "\n".join(format_plan_comparison(list(compared.values())))


def test_on_gpus_it_is_called_an_estimate(config: FinetuneConfig) -> None:
    plan = make_plan(config, MachineSpec(2, 5.0, ResourceLimits(gib=0.1)), ways=("frozen",), n_steps=1, alone=False)
    told = "\n".join(format_plan(plan))
    assert "ESTIMATE for 2 GPU(s)" in told
    assert "no strategy is within the limits" in told
    assert "memory: frozen needs least" in told
    (option,) = plan.options
    assert option.to_option(plan.machine).gib > CUDA_BYTES / 2**30


def test_a_strategy_that_cannot_be_is_told_with_its_reason(config: FinetuneConfig) -> None:
    config = replace(config, backbone=replace(config.backbone, last_k=7))
    plan = make_plan(config, HERE, ways=("last_k",), n_steps=1, alone=False)
    assert plan.choice.way is None
    assert "last_k=7: this backbone has 2 layers" in "\n".join(format_plan(plan))


def test_what_cannot_be_planned_or_compared_is_refused(config: FinetuneConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        make_plan(config, HERE, ways=("frozen",), n_steps=0)
    with pytest.raises(ConfigError, match="limits above 0"):
        make_plan(config, MachineSpec(0, 10.0, ResourceLimits(hours=-1)), ways=("frozen",))
    with pytest.raises(ConfigError, match="Plan without privacy"):
        make_plan(replace(config, privacy=PrivacyConfig()), HERE)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(DataError, match="not a plan"):
        read_plan(tmp_path / "plan.json")
