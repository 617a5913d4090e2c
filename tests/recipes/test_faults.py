"""Killed at any moment, and again and again, a resumed run ends as one that was left alone: with the same bundle, to
the bit, and the same figures. So does a second run of the same seed.

Kills are SIGKILLs of real processes of the recipe. Where one struck is read off the run's own log; a kill that was
meant for a phase and missed it is made up for by another one. `-m exhaustive` kills 50 times.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

from llmrec.config.data import DataConfig
from llmrec.utils.atomic_files import sha256_file
from tests.recipes import forked

if sys.platform != "linux":
    pytest.skip("the kernel's timers are Linux's", allow_module_level=True)

Recipe = Literal["lora", "frozen"]
Group = Literal["cache write", "step", "checkpoint", "evaluation", "elsewhere"]
Start = Callable[[Path, "dict[str, Any] | None"], int]
# What is killed, one after the other, each time in a run that goes on from the kill before: a group, and phases of it
# that come after those of the groups before. One way is chosen.
AFTER_TRAINING: list[tuple[Group, str]] = [
    ("evaluation", "evaluate"),
    ("elsewhere", "drift profile report figures bundle load explain"),
]
CHAINS: dict[Recipe, list[list[tuple[Group, str]]]] = {
    "lora": [
        [("cache write", "read/encode/write"), ("step", "fit"), ("checkpoint", "adapt/checkpoint"), *AFTER_TRAINING],
        [("cache write", "read/encode/write"), ("checkpoint", "fit/checkpoint"), ("step", "adapt"), *AFTER_TRAINING],
    ],
    "frozen": [
        [("cache write", "read/encode/write"), ("checkpoint", "fit/checkpoint"), ("step", "fit"), *AFTER_TRAINING],
        [("cache write", "read/encode/write"), ("evaluation", "fit/validate"), ("checkpoint", "fit/checkpoint"),
         ("step", "fit"), *AFTER_TRAINING],
    ],
}  # fmt: skip
ATTEMPTS = 6


def settings(recipe: Recipe, data: DataConfig, backbone: Path) -> dict[str, Any]:
    """`lora` writes a checkpoint after each step; `frozen` where it validates, and fits anew with validation's data."""
    train = {"epochs": 3, "batch_targets": 64, "learning_rate": 5e-3}
    content: dict[str, Any] = {
        "data": {"source": data.source},
        "output": "run",
        "resume": True,
        "backbone": {"name": str(backbone), "hub_id": "owner/tiny", "strategy": recipe, "lora": {"rank": 2}},
        "model": {"dim": 8, "n_layers": 1, "max_history": 6},
        "train": train | {"refit": recipe == "frozen"},
        "checkpoints": {"save_every_minutes": 0 if recipe == "lora" else None},
        "sasrec": {"model": {"dim": 8, "n_layers": 1, "max_history": 6}, "train": train},
        "evaluation": {
            "baselines": ["popularity", "sasrec"] if recipe == "frozen" else ["popularity"],
            "bootstrap_samples": 20,
            "n_explained_users": 3,
        },
    }
    if recipe == "lora":
        content["adapt"] = train | {"epochs": 2, "trainable_items_per_step": 16, "backbone_learning_rate": 1e-2}
        terms = ["interest", "environment", "transitions", "gate"]  # the chain's fit takes longer than all the rest
        content["drift"] = {"terms": terms, "refresh_days": [7], "transition_half_lives_days": [30], "ablations": False}
    return content


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """start(folder, kill) runs the recipe there, and returns its status."""
    environment = os.environ | {"PYTHONPATH": str(forked.RECIPE.parents[1])}
    with subprocess.Popen(
        [sys.executable, forked.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        stdin, stdout = server.stdin, server.stdout
        assert stdin is not None
        assert stdout is not None

        def run(folder: Path, kill: dict[str, Any] | None = None) -> int:
            request = {"folder": str(folder), "arguments": ["--config", "settings.yaml"], "kill": kill}
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            return int(stdout.readline())

        yield run
        stdin.close()


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, planted_log: Callable[..., DataConfig], tiny_bert: Path
) -> Callable[[Recipe], Path]:
    """place(recipe) is a new folder to run it in; each has a cache of its own."""
    data = planted_log(tmp_path_factory.mktemp("data") / "log")

    def make(recipe: Recipe) -> Path:
        folder = tmp_path_factory.mktemp(recipe)
        (folder / "settings.yaml").write_text(json.dumps(settings(recipe, data, tiny_bert)))  # JSON is YAML
        return folder

    return make


@pytest.fixture(scope="module")
def whole(start: Start, place: Callable[[Recipe], Path]) -> Callable[[Recipe], Path]:
    """whole(recipe) is the folder of a run that was left alone."""
    done: dict[Recipe, Path] = {}

    def run(recipe: Recipe) -> Path:
        if recipe not in done:
            done[recipe] = place(recipe)
            status = start(done[recipe], None)
            assert status == 0, (done[recipe] / "output.txt").read_text()[-3000:]
        return done[recipe]

    return run


def outcome(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Digests of the bundle's files, and the report without its times and the state of the source tree."""
    bundle = {path.name: sha256_file(path) for path in (folder / "run" / "bundle").iterdir()}
    report = json.loads((folder / "run" / "report.json").read_text())
    del report["run"]["minutes"], report["run"]["phases"], report["run"]["commit"]
    return bundle, report


def phases(folder: Path, since: int = 0) -> list[dict[str, Any]]:
    """What the log tells of phases, from a byte on; a line that a kill cut off is none."""
    found = []
    log = folder / "run" / "log.jsonl"
    for line in log.read_bytes()[since:].splitlines() if log.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [told for told in found if "phase" in told]


class MissedError(Exception):
    """A run was over, or struck elsewhere too often."""


class Aim(NamedTuple):
    """The `nth` time that a phase begins in a process, and how long it takes from then."""

    phase: str
    nth: int
    seconds: float


def aims_of(reference: Path) -> dict[str, list[Aim]]:
    """Of each phase: of what a run that goes on does not do again, the first time; of evaluations, every time."""
    aims = defaultdict[str, list[Aim]](list)
    for told in phases(reference):
        if "seconds" in told and (told["phase"] == "evaluate" or told["phase"] not in aims):
            aims[told["phase"]].append(Aim(told["phase"], len(aims[told["phase"]]) + 1, told["seconds"]))
    return aims


def struck_in(folder: Path, since: int) -> Group:
    """The phase that a killed process was in: the last one that began and did not end."""
    within: list[str] = []
    for told in phases(folder, since):
        if "seconds" in told:
            within.pop()
        else:
            within.append(told["phase"])
    match within[-1].split("/") if within else []:
        case ["read", "encode", "write"]:
            return "cache write"
        case ["fit" | "adapt"]:
            return "step"
        case [_, "checkpoint"]:
            return "checkpoint"
        case ["evaluate"] | [_, "validate"]:
            return "evaluation"
    return "elsewhere"


def kill(start: Start, folder: Path, group: Group, aim: Aim, rng: np.random.Generator) -> list[Group]:
    """Kill runs in `folder` until one was struck in `group`; where each of them was struck."""
    struck: list[Group] = []
    for attempt in range(ATTEMPTS):
        log = folder / "run" / "log.jsonl"
        since = log.stat().st_size if log.exists() else 0
        seconds = float(rng.uniform(0, aim.seconds)) / 2**attempt
        status = start(folder, {"phase": aim.phase, "nth": aim.nth, "seconds": seconds})
        if status == 0:  # over before it was struck
            break
        assert status == -signal.SIGKILL, (folder / "output.txt").read_text()[-3000:]
        struck.append(struck_in(folder, since))
        if struck[-1] == group:
            return struck
        if group == "cache write":
            for path in (folder / "cache").rglob("*.safetensors"):  # what was not to be there yet
                path.unlink()
    raise MissedError(f"{aim}: {struck}")


def killed(start: Start, reference: Path, folder: Path, recipe: Recipe, rng: np.random.Generator) -> Counter[Group]:
    """Along one of the chains; where it was struck."""
    struck, aims = Counter[Group](), aims_of(reference)
    for group, names in CHAINS[recipe][int(rng.integers(len(CHAINS[recipe])))]:
        choices = [aim for name in names.split() for aim in aims[name]]
        if group == "evaluation":  # of many, some are over at once
            lengths = np.array([aim.seconds for aim in choices]) + 1e-3
            aim = choices[int(rng.choice(len(choices), p=lengths / lengths.sum()))]
        else:
            aim = choices[int(rng.integers(len(choices)))]
        struck.update(kill(start, folder, group, aim, rng))
    return struck


def killed_and_resumed(
    start: Start, reference: Path, place: Callable[[Recipe], Path], recipe: Recipe, seed: int
) -> Counter[Group]:
    """Where it was killed; at its end the run is what the reference is."""
    rng = np.random.default_rng(seed)
    for _ in range(ATTEMPTS):
        folder = place(recipe)
        try:
            struck = killed(start, reference, folder, recipe, rng)
            break
        except MissedError as missed:  # it does not count
            print(f"anew: {missed}", flush=True)
    else:
        raise AssertionError("most kills miss: the machine's pace has changed since the reference ran")
    status = start(folder, None)
    assert status == 0, (folder / "output.txt").read_text()[-3000:]
    assert outcome(folder) == outcome(reference)
    record = json.loads((folder / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert not list((folder / "run").rglob("*partial*"))
    return struck


def test_two_runs_of_one_seed_are_equal_to_the_bit(
    start: Start, place: Callable[[Recipe], Path], whole: Callable[[Recipe], Path]
) -> None:
    again = place("lora")
    assert start(again, None) == 0
    assert outcome(again) == outcome(whole("lora"))


def test_a_run_that_is_killed_five_times_ends_as_one_that_was_not(
    start: Start, place: Callable[[Recipe], Path], whole: Callable[[Recipe], Path]
) -> None:
    struck = killed_and_resumed(start, whole("lora"), place, "lora", seed=0)
    assert struck.total() >= 5
    assert set(struck) == {"cache write", "step", "checkpoint", "evaluation", "elsewhere"}


@pytest.mark.exhaustive
def test_fifty_kills(start: Start, place: Callable[[Recipe], Path], whole: Callable[[Recipe], Path]) -> None:
    struck = Counter[Group]()
    for seed in range(10):
        recipe: Recipe = "frozen" if seed % 2 else "lora"
        struck += killed_and_resumed(start, whole(recipe), place, recipe, seed)
        print(f"{struck.total()} kills, {seed + 1} runs survived: {dict(struck)}", flush=True)
    assert struck.total() >= 50
    assert min(struck.values()) >= 10
