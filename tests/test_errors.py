"""What a message says of a missing package works where llmrec was installed from."""

from importlib.metadata import Distribution
from pathlib import Path

import pytest

import llmrec.errors
from llmrec.errors import missing_extra

ROOT = Path(__file__).resolve().parents[1]
ORIGINS = {
    "": "'llmrec[serve]'",
    '{"url": "file:///a/llmrec-1.whl", "archive_info": {}}': "'llmrec[serve] @ file:///a/llmrec-1.whl'",
    '{"url": "https://h/o/llmrec", "vcs_info": {"vcs": "git", "commit_id": "abc"}}':
        "'llmrec[serve] @ git+https://h/o/llmrec@abc'",
}  # fmt: skip


def test_a_clone_is_installed_again_with_the_extra() -> None:
    assert missing_extra("serve") == f"Run pip install -e '{ROOT}[serve]'"


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_installed_package_gets_the_extra_from_its_origin(
    origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "llmrec" / "errors.py"
    monkeypatch.setattr(llmrec.errors, "__file__", str(installed))
    folder = tmp_path / "site-packages" / "llmrec-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: llmrec\nVersion: 1\n")
    if origin:
        (folder / "direct_url.json").write_text(origin)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Distribution.at(folder))
    assert missing_extra("serve") == f"Run pip install {ORIGINS[origin]}"
