"""What scripts/check --matrix runs: llmrec on other Pythons, with the oldest and the newest packages that it allows and
that are built for that Python, and its built wheel by itself.

    .venv/bin/python scripts/matrix.py [--python 3.10 3.13] [--resolution lowest-direct] [--torch] [--no-wheel]

For each Python that is found here, and each resolution, uv resolves the dependencies, installs them into a temporary
environment and runs tests there. torch stays at the version of scripts/constraints.txt, because every other one has a
size of gigabytes. Where no build of it for the CPU is at hand (PIP_FIND_LINKS), the environment has neither torch nor
what cannot be imported without it, and the tests are those of what needs none; --torch brings the large one anyway.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
RESOLUTIONS = ("lowest-direct", "highest")
HEAVY = re.compile(r"(torch|triton|accelerate|peft|nvidia-[\w-]+|cuda-[\w-]+)(==| @)")
TOOLS = ("pytest>=8.2", "hypothesis>=6.100")
HOSTILE = ("audit", "columns_of_any_type", "bytes_that_were_damaged")
LIGHT_TESTS = (
    "tests/data", "tests/config", "tests/utils/test_exit_status.py", "tests/test_imports.py",
    *(f"tests/hostile/test_logs.py::test_{name}" for name in HOSTILE),
    "--ignore=tests/data/test_batches.py",
    "--deselect=tests/test_imports.py::test_public_names_lead_somewhere[Recommender]",
)  # fmt: skip
WHOLE_TESTS = (
    *LIGHT_TESTS[:-2],
    "tests/backbones/test_adaptation.py",
    "tests/hub/test_bundle.py",
    "tests/cli/test_main.py",
)
RUN = (  # the quickstart's recipe, on a part of its work
    "--backbone.strategy=frozen --train.epochs=1 --train.patience=1 --drift=null --evaluation.max_queries=500 "
    "--evaluation.max_valid_queries=500 --evaluation.baselines=[popularity] --evaluation.bootstrap_samples=50 "
    "--evaluation.n_explained_users=0 --output=run"
).split()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--python", nargs="*", default=PYTHONS, help="versions to try; those that are not here are told"
    )
    parser.add_argument("--resolution", nargs="*", default=RESOLUTIONS, choices=RESOLUTIONS)
    parser.add_argument("--torch", action="store_true", help="bring torch where only its large build is to be had")
    parser.add_argument("--no-wheel", action="store_true", help="leave out the built wheel")
    asked = parser.parse_args()
    told: dict[str, str] = {}
    for version in asked.python:
        python = found(version)
        for resolution in asked.resolution if python else ():
            told[f"Python {version}, {resolution}"] = try_one(str(python), version, resolution, asked.torch)
        if python is None:
            told[f"Python {version}"] = "not on this machine"
    if not asked.no_wheel:
        told["the built wheel, from outside the source tree"] = try_wheel()
    print("\n" + "\n".join(f"{name}: {result}" for name, result in told.items()))
    sys.exit(any("FAILED" in result for result in told.values()))


def found(version: str) -> str | None:
    """An interpreter of that version which really starts: on the PATH, of pyenv, or of uv."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    candidates = [shutil.which(f"python{version}"), *map(str, reversed(pyenv))]
    candidates.append(run("uv", "python", "find", version, "--no-python-downloads", quiet=True)[1].strip())
    told = "import sys; print('%d.%d' % sys.version_info[:2])"
    return next((one for one in candidates if one and run(one, "-c", told, quiet=True)[1].strip() == version), None)


def try_one(python: str, version: str, resolution: str, with_torch: bool) -> str:
    """How the tests went with one resolution on one Python."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmrec-matrix-") as scratch:
        pins, venv = Path(scratch) / "pins.txt", Path(scratch) / "venv"
        torch_only = Path(scratch) / "torch.txt"
        torch_only.write_text(pinned("torch") + "\n")
        options = ["--python", python, "--resolution", resolution, "-c", str(torch_only), "-o", str(pins)]
        options += ["--only-binary", ":all:"]  # the oldest that is built for this Python
        status, out = run("uv", "pip", "compile", "pyproject.toml", "--no-header", "--no-annotate", "--quiet", *options)
        if status:
            return f"FAILED to resolve: {last(out)}"
        whole = with_torch or "+cpu" in next(
            line for line in pins.read_text().splitlines() if line.startswith("torch==")
        )
        kept = [line for line in pins.read_text().splitlines() if whole or not HEAVY.match(line)]
        pins.write_text("\n".join([*kept, *TOOLS]) + "\n")
        status, out = make(python, venv, "-r", str(pins))
        if status:
            return f"FAILED to install: {last(out)}"
        tests = [*(WHOLE_TESTS if whole else LIGHT_TESTS), "-q", "-p", "no:cacheprovider", "-m", "not slow"]
        status, out = run(str(venv / "bin" / "python"), "-m", "pytest", *tests)
        what = f"{len(kept)} packages{'' if whole else ', without torch, accelerate and peft'}, {last(out)}"
        return f"{'FAILED: ' if status else ''}{what} ({time.monotonic() - began:.0f} s)"


def try_wheel() -> str:
    """Build the wheel, install it with the quickstart's extra into nothing, and run the recipe from an empty folder."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llmrec-wheel-") as scratch:
        away, venv = Path(scratch) / "away", Path(scratch) / "venv"
        status, out = run("uv", "build", "--wheel", "--quiet", "--out-dir", scratch)
        if status:
            return f"FAILED to build: {last(out)}"
        (wheel,) = Path(scratch).glob("*.whl")
        status, out = make(sys.executable, venv, f"{wheel}[quickstart]", "-c", "scripts/constraints.txt")
        if status:
            return f"FAILED to install: {last(out)}"
        away.mkdir()
        for name in ("finetune.py", "finetune/quickstart.yaml"):  # recipes are files to copy and change
            shutil.copy(ROOT / "recipes" / name, away)
        python, config = str(venv / "bin" / "python"), ["finetune.py", "--config", "quickstart.yaml", *RUN]
        asked = [str(venv / "bin" / "llmrec"), "recommend", "run/bundle", "--user", "1", "--k", "3"]
        for command in ([python, "-c", "import llmrec; print(llmrec.__file__)"], [python, *config], asked):
            status, out = run(*command, at=away)
            if status or (command[1] == "-c" and str(venv) not in out):
                return f"FAILED: {' '.join(command[1:3])}: {last(out)}"
        return f"{wheel.name}, {len(out.splitlines()) - 1} recommendations ({time.monotonic() - began:.0f} s)"


def make(python: str, venv: Path, *what: str) -> tuple[int, str]:
    status, out = run("uv", "venv", "--quiet", "--python", python, str(venv))
    if status:
        return status, out
    return run("uv", "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), *what)


def pinned(name: str) -> str:
    return next(
        line for line in (ROOT / "scripts" / "constraints.txt").read_text().splitlines() if line.startswith(name)
    )


def run(*command: str, at: Path = ROOT, quiet: bool = False) -> tuple[int, str]:
    """Exit status and output, which is shown unless it is quiet. uv is this interpreter's, with pip's settings."""
    if not quiet:
        print("+", " ".join(command), flush=True)
    given = {"UV_FIND_LINKS": "PIP_FIND_LINKS", "SSL_CERT_FILE": "PIP_CERT", "UV_DEFAULT_INDEX": "PIP_INDEX_URL"}
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {ours: os.environ[theirs] for ours, theirs in given.items() if theirs in os.environ}
    environment |= {"PYTHONPATH": str(ROOT)} if at == ROOT else {}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    full = [sys.executable, "-m", *command] if command[0] == "uv" else [*command]
    try:
        done = subprocess.run(full, cwd=at, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        return 127, str(error)
    out = done.stdout if quiet else done.stdout + done.stderr
    if done.returncode and not quiet:
        print(out[-4000:], flush=True)
    return done.returncode, out


def last(out: str) -> str:
    return next((line for line in reversed(out.strip().splitlines()) if line.strip()), "nothing was said")


if __name__ == "__main__":
    main()
