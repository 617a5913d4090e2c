"""Small files of a checkpoint in a folder."""

from pathlib import Path

import pytest

from llmrec.backbones.model_files.checkpoint_files import open_checkpoint
from llmrec.errors import BackboneError


def test_the_files_of_a_folder_and_of_its_modules_are_listed(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    (tmp_path / "modules.json").write_text("[]")
    files = open_checkpoint(str(tmp_path), None)
    assert files.names == {"1_Pooling/config.json", "modules.json"}
    assert files.complete
    assert files.read_json("modules.json") == []
    assert files.read_settings("1_Pooling/config.json") == {"pooling_mode": "cls"}
    assert (files.read_json("config.json"), files.read_settings("config.json")) == (None, {})


@pytest.mark.parametrize(("content", "problem"), [("{", "not valid JSON"), ("[]", "holds no JSON object")])
def test_settings_that_are_none_are_named(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BackboneError, match=rf"{tmp_path}/config\.json: {problem}.*Copy the file again"):
        open_checkpoint(str(tmp_path), None).read_settings("config.json")
