"""Settings of PEFT's methods are checked before anything is loaded."""

import pytest

from llmrec.config.backbone import BackboneConfig
from llmrec.config.peft import METHODS, AdapterSettings
from llmrec.errors import ConfigError

WRONG = {
    "no type": {"r": 4},
    "type='prefix_tuning' is not offered: it changes the attention": {"type": "prefix_tuning"},
    "type='AdaLoRA' is not offered: it prunes ranks": {"type": "AdaLoRA"},
    "Give one of lora, dora": {"type": "nothing"},
    "peft.corda_config: not a setting of lora": {"type": "lora", "corda_config": "x"},
    "peft.lora_alpha: not a setting of ia3": {"type": "ia3", "lora_alpha": 8},
    "peft.r=0: give a number from 1": {"type": "loha", "r": 0},
    "peft.last_k=0": {"type": "vera", "last_k": 0},
    "peft.feedforward_modules='dense'": {"type": "ia3", "feedforward_modules": "dense"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_settings_are_named(message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        BackboneConfig(strategy="peft", peft=WRONG[message])


def test_the_strategy_needs_settings() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.peft: no type"):
        BackboneConfig(strategy="peft")


@pytest.mark.parametrize("kind", METHODS)
def test_types_are_found_in_any_case(kind: str) -> None:
    assert AdapterSettings.from_peft({"type": kind.upper()}).method is METHODS[kind]
