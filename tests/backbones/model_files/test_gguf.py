"""GGUF files: a model written in llama.cpp's layout comes back with the logits it had, and is unpacked once."""

import json
from pathlib import Path

import pytest
import torch

from llmrec.backbones.model_files.gguf import unpack_gguf
from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError

gguf = pytest.importorskip("gguf", reason="needs the package gguf (extra: gguf)")
SENTENCE = "The river flows from the mountains to the sea, and the people who live along it drink its water."
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write_gguf(folder: Path, file: Path, pre: str) -> None:
    """A Llama in llama.cpp's layout: other names, and the two halves that a head rotates interleaved."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, tokenizer = model.config, json.loads((folder / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        kind = name.removesuffix(".weight").rsplit(".", 1)[-1]
        if kind in heads:
            rows, columns = weight.shape
            weight = (
                weight.view(heads[kind], 2, rows // heads[kind] // 2, columns).transpose(1, 2).reshape(weight.shape)
            )
        writer.add_tensor(_gguf_name(name), weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    name = name.removesuffix(".weight")
    if name in outside:
        return f"{outside[name]}.weight"
    layer, inside = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[inside]}.weight"


def test_a_file_reads_as_the_model_it_was_written_from(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "tiny.gguf"
    write_gguf(tiny_llama, file, "smollm")
    read = TextBackbone.load(BackboneConfig(name=str(file), hub_id="owner/tiny"))
    original = TextBackbone.load(BackboneConfig(name=str(tiny_llama)))
    ids = torch.randint(3, original.model.config.vocab_size, (2, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    torch.testing.assert_close(read(ids, mask), original(ids, mask), atol=1e-5, rtol=0)
    assert read.hub_id == "owner/tiny"
    # Digits stand alone, and the spaces before them too.
    tokenizer = read.tokenizer
    assert [tokenizer.decode([token]) for token in tokenizer("a   12")["input_ids"]][-3:] == [" ", "1", "2"]
    assert "once" in capsys.readouterr().err
    (folder,) = (tmp_path / "cache" / "gguf").iterdir()
    assert unpack_gguf(file) == folder
    assert not capsys.readouterr().err


@pytest.mark.parametrize("share", [0.0001, 0.2, 0.9])
def test_a_file_that_was_cut_off_is_named_and_leaves_nothing(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "broken.gguf"
    write_gguf(tiny_llama, file, "smollm")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(BackboneError, match=r"broken\.gguf.*cannot read"):
        TextBackbone.load(BackboneConfig(name=str(file)))
    assert not list((tmp_path / "cache" / "gguf").iterdir())


def test_smollm2_reads_english(smollm2: Path) -> None:
    """Its weights are loaded right: a sentence is likely, its scrambled words are not, and it knows a capital."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(smollm2), AutoModelForCausalLM.from_pretrained(smollm2).eval()

    def loss(text: str) -> float:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return float(model(input_ids=ids, labels=ids).loss)

    words = SENTENCE.split()
    scrambled = " ".join(words[row] for row in torch.randperm(len(words), generator=torch.Generator().manual_seed(0)))
    assert loss(SENTENCE) < 3.5
    assert loss(scrambled) > loss(SENTENCE) + 2
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=3, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)


def test_smollm2_is_found_by_its_name(smollm2: Path) -> None:
    backbone = TextBackbone.load(BackboneConfig(name="packaged:SmolLM2-135M-Instruct"))
    assert backbone.path == str(smollm2)
    assert (backbone.hub_id, backbone.dim, backbone.pooling) == ("HuggingFaceTB/SmolLM2-135M-Instruct", 576, "last")
    together = backbone.encode(backbone.tokenize(["hats", "A long night of love and war in space (1999)"]))
    torch.testing.assert_close(together[:1], backbone.encode(backbone.tokenize(["hats"])), atol=1e-4, rtol=0)
