"""A process of its own that speaks to the hub by the unmodified client, which reads HF_ENDPOINT when it is imported.

Each line that comes in is a JSON list of a function's name, its arguments and its keywords; each line that goes out is
what came of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HISTORIES = [[], ["i1"], ["i3", "i2", "i9", "i3"]]


class Visitor:
    """The parent's end."""

    def __init__(self, url: str, home: Path, token: str) -> None:
        settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
        settings |= {"HF_HUB_OFFLINE": "0", "LLMREC_CACHE": str(home / "llmrec")}
        command = [sys.executable, str(Path(__file__))]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | settings)

    def __call__(self, name: str, *arguments: object, **keywords: object) -> Any:
        """Raises what is raised there, if it is one of llmrec's own errors."""
        from llmrec import errors

        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, arguments, keywords], default=str) + "\n")
        self.process.stdin.flush()
        found = json.loads(self.process.stdout.readline())
        if "error" in found:
            raise getattr(errors, found["error"], RuntimeError)(found["message"])
        return found["result"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def push(folder: str, repo_id: str, backbone: str | None = None, **options: Any) -> str:
    from llmrec import Recommender

    return Recommender.from_pretrained(folder, backbone=backbone).push_to_hub(repo_id, **options)


def push_encoder(folder: str, repo_id: str) -> str:
    """As anybody pushes a model."""
    from huggingface_hub import HfApi

    HfApi().create_repo(repo_id, exist_ok=True)
    return str(HfApi().upload_folder(repo_id=repo_id, folder_path=folder).oid)


def upload(path: str, name: str, repo_id: str) -> None:
    from huggingface_hub import HfApi

    HfApi().upload_file(path_or_fileobj=path, path_in_repo=name, repo_id=repo_id)


def tag(repo_id: str, name: str) -> None:
    from huggingface_hub import HfApi

    HfApi().create_tag(repo_id, tag=name)


def answers(name: str, text: str | None = None, **options: Any) -> dict[str, Any]:
    """All scores of three histories, and that of a text; everything as Python floats, which JSON keeps to the bit."""
    from llmrec import Recommender

    recommender = Recommender.from_pretrained(name, **options)
    found = {"folder": str(recommender.catalog.folder), "n_items": len(recommender.catalog)}
    found["scores"] = [recommender.score(history, recommender.catalog.ids.to_pylist()) for history in HISTORIES]
    return found if text is None else found | {"text": recommender.score(["i1"], [{"text": text}])}


def download(repo_id: str, folder: str, revision: str | None = None) -> None:
    from llmrec.hub.remote import download_bundle

    download_bundle(repo_id, Path(folder), revision=revision)


def drift(name: str) -> dict[str, list[float]]:
    """Every weight of the bundle's drift head."""
    from llmrec.hub.bundle import load_bundle
    from llmrec.hub.remote import resolve_bundle

    found = load_bundle(resolve_bundle(name)).drift
    assert found is not None
    return {name: weight.flatten().tolist() for name, weight in found.head.state_dict().items()}


def adapter_alone(name: str, texts: list[str]) -> list[list[float]]:
    """What PEFT and transformers make of a repository by themselves: the last hidden states' mean."""
    import torch
    from peft import AutoPeftModelForFeatureExtraction
    from transformers import AutoTokenizer

    model: Any = AutoPeftModelForFeatureExtraction.from_pretrained(name).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(model.peft_config["default"].base_model_name_or_path)
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state * batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize(hidden.sum(1) / batch["attention_mask"].sum(1, keepdim=True), dim=-1)
    listed: list[list[float]] = vectors.tolist()
    return listed


def validate(card: str) -> None:
    from huggingface_hub import ModelCard

    ModelCard.load(card).validate()


def run_card(name: str) -> str:
    """What the card's own example prints."""
    import contextlib
    import io
    import re

    from huggingface_hub import ModelCard

    (code,) = re.findall(r"```python\n(.*?)```", str(ModelCard.load(name)), flags=re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {})
    return printed.getvalue()


def shell(*arguments: str) -> str:
    """What the `llmrec` command prints."""
    import contextlib
    import io

    from llmrec.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(list(arguments))
    return printed.getvalue()


def recipe(path: str, *arguments: str) -> str:
    """What a recipe prints."""
    import contextlib
    import io
    import runpy

    sys.argv = [path, *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(path, run_name="__main__")
    return printed.getvalue()


def serve() -> None:
    answers_to, sys.stdout = sys.stdout, sys.stderr  # libraries print
    for line in sys.stdin:
        name, arguments, keywords = json.loads(line)
        try:
            reply: dict[str, Any] = {"result": globals()[name](*arguments, **keywords)}
        except (Exception, SystemExit) as error:
            reply = {"error": type(error).__name__, "message": f"{error}"}
        answers_to.write(json.dumps(reply) + "\n")
        answers_to.flush()


if __name__ == "__main__":
    serve()
