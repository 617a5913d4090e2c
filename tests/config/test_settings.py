"""Every setting has a help text; types and defaults are shown as YAML has them."""

import pytest

from llmrec.cli.jobs import JOBS, load_config_class
from llmrec.cli.main import main
from llmrec.config.jobs.finetune import FinetuneConfig
from llmrec.config.jobs.push import PushConfig
from llmrec.config.settings import list_names, list_settings

KINDS = [*map(load_config_class, JOBS), PushConfig]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_setting_has_a_help_text(kind: type) -> None:
    settings = list_settings(kind)
    assert [setting.name for setting in settings] == list_names(kind)
    assert not [setting.name for setting in settings if not setting.help]
    assert not [setting.name for setting in settings if not setting.help.endswith(".")]


def test_types_and_defaults() -> None:
    found = {setting.name: (setting.type, setting.default) for setting in list_settings(FinetuneConfig)}
    assert found["data.source"] == ("text | null", "null")
    assert found["train.negatives"][1] == "full"
    assert found["evaluation.cutoffs"][1] == "[10, 20]"
    assert found["adapt"] == ("section", "as below")
    assert found["drift"] == ("section | null", "null")
    assert found["model.time_bias"] == ("true | false", "true")


def test_the_command_lists_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    main(["settings", "train", "backbone.lora"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "backbone.lora (section, default: as below)"
    assert lines[1] == "    Adapters of the strategy lora."
    assert all(line.startswith((" ", "backbone.lora")) for line in lines)
    main(["settings", "train"])
    assert "quickstart" in capsys.readouterr().out.splitlines()[-1]
    for wrong, told in ((["train", "trian"], "no such setting of train"), (["trian"], "no such command")):
        with pytest.raises(SystemExit) as stopped:
            main(["settings", *wrong])
        assert stopped.value.code == 2
        assert told in capsys.readouterr().err
