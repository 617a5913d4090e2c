"""What is known against the packages of scripts/constraints.txt, by pip-audit, which asks PyPI.

    .venv/bin/python scripts/advisories.py

Ends with status 1 where something is. Packages that could not be looked up, as where PyPI cannot be asked, are counted
and no reason to fail: nothing is known of them then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINS = Path(__file__).with_name("constraints.txt")
SECONDS = 300


def main() -> None:
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINS), "--no-deps", "--disable-pip"]
    options = ["--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=SECONDS, check=False)
        found = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError) as error:
        print(f"pip-audit: no answer ({type(error).__name__}), so that nothing is known of the pinned packages")
        return
    told, bad = lines(found)
    print("\n".join(told))
    sys.exit(bad)


def lines(found: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """What to say of pip-audit's `dependencies`, and whether something is known against one of them."""
    known = [package for package in found if "skip_reason" not in package]
    told = [
        f"pip-audit: {package['name']} {package['version']}: {one['id']}, mended in {', '.join(one['fix_versions'])}"
        for package in known
        for one in package["vulns"]
    ]
    unknown = len(found) - len(known)
    why = "; the others could not be looked up, so that nothing is known of them" if unknown else ""
    count = f"pip-audit: {len(known)} of {len(found)} pinned packages looked up, {len(told)} advisories{why}"
    return [*told, count], bool(told)


if __name__ == "__main__":
    main()
