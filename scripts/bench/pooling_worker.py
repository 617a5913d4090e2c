"""Folders that a release of sentence-transformers saves, with its vectors; `pooling.py` runs it by that interpreter.

    PYTHON scripts/bench/pooling_worker.py FOLDER

Models are tiny and drawn at random. FOLDER gets one folder for each form, and vectors.json.
"""

import json
import sys
from pathlib import Path

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer, models
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as token_models

WORDS = "a night of love and war in the garden Robot drama space river mountain".split()
TEXTS = ["robot love drama", "a night in the garden", "Space"]
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
FLAGS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}


def make_tokenizer() -> transformers.PreTrainedTokenizerFast:
    own = Tokenizer(token_models.BPE())
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    own.train_from_iterator(
        [" ".join(WORDS)],
        trainers.BpeTrainer(vocab_size=384, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, model_max_length=128, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def make_bases(folder: Path) -> dict[str, str]:
    """An encoder, a decoder and the encoder of T5, as transformers saves them."""
    tokenizer = make_tokenizer()
    n = len(tokenizer)
    made = {
        "bert": transformers.BertModel(transformers.BertConfig(vocab_size=n, max_position_embeddings=128, **SIZES)),
        "llama": transformers.LlamaModel(transformers.LlamaConfig(vocab_size=n, max_position_embeddings=128, **SIZES)),
        "t5": transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=n, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        ),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {name: str(folder / name) for name in made}


def make_forms(bases: dict[str, str]) -> dict[str, SentenceTransformer]:
    """Every pooling of an encoder and a decoder; further modules, prompts, lengths and cases of some."""
    forms = {}
    for base in ("bert", "llama"):
        for mode in MODES:
            forms[f"{base} {mode}"] = [models.Transformer(bases[base]), models.Pooling(32, pooling_mode=mode)]
        forms[f"{base} cls, max and mean"] = [models.Transformer(bases[base]), models.Pooling(32, **FLAGS)]
    for base, bias, activation in (("bert", True, torch.nn.Tanh()), ("t5", False, torch.nn.Identity())):
        dense = models.Dense(32, 16, bias=bias, activation_function=activation)
        forms[f"{base} mean, Dense, Normalize"] = [
            models.Transformer(bases[base]), models.Pooling(32, pooling_mode="mean"), dense, models.Normalize(),
        ]  # fmt: skip
    forms["bert cls, LayerNorm, Dense"] = [
        models.Transformer(bases["bert"]), models.Pooling(32, pooling_mode="cls"), models.LayerNorm(32),
        models.Dense(32, 8, activation_function=torch.nn.GELU()),
    ]  # fmt: skip
    forms["bert mean, cut at 5 tokens, lower case"] = [
        models.Transformer(bases["bert"], max_seq_length=5, do_lower_case=True),
        models.Pooling(32, pooling_mode="mean"),
    ]  # fmt: skip
    made = {name: SentenceTransformer(modules=modules) for name, modules in forms.items()}
    made["bert mean, prompt"] = SentenceTransformer(
        modules=[models.Transformer(bases["bert"]), models.Pooling(32, pooling_mode="mean")],
        prompts={"query": "a garden: ", "passage": "the war: "},
        default_prompt_name="query",
    )
    return made


def main(folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    record = {"versions": [sentence_transformers.__version__, transformers.__version__], "texts": TEXTS, "vectors": {}}
    for row, (name, model) in enumerate(make_forms(make_bases(folder / "bases")).items()):
        model.eval()
        model.save(str(folder / f"form{row}"))
        vectors = SentenceTransformer(str(folder / f"form{row}")).encode(TEXTS, show_progress_bar=False)
        record["vectors"][name] = [f"form{row}", vectors.tolist()]
    (folder / "vectors.json").write_text(json.dumps(record))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
