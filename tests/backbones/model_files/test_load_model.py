"""A checkpoint whose parts do not fit, or that is none, is named at load; halves and text parts are read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from llmrec.backbones.text_backbone import TextBackbone
from llmrec.config.backbone import BackboneConfig
from llmrec.errors import BackboneError

TEXTS = ["robot love drama", "a night in the garden"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def load(folder: Path, **changes: object) -> TextBackbone:
    return TextBackbone.load(BackboneConfig(name=str(folder), **changes))


def rename(base: Path, folder: Path, change: object) -> Path:
    """The checkpoint with other names of its weights; None drops one."""
    shutil.copytree(base, folder)
    weights = load_file(folder / "model.safetensors")
    named = {change(name): weight for name, weight in weights.items()}
    named.pop(None, None)
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def save(folder: Path, model: object, tokenizer_of: Path) -> Path:
    model.save_pretrained(folder)
    tf.AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model.", "encoder.bert."])
def test_weights_under_other_names_are_missing(tiny_bert: Path, tmp_path: Path, prefix: str) -> None:
    folder = rename(tiny_bert, tmp_path / "out", lambda name: prefix + name)
    with pytest.raises(BackboneError, match=rf"weights of BertModel are not in the file.*begin with '{prefix}'"):
        load(folder)


def test_single_missing_weights_are_named_and_a_pooler_s_are_not(tiny_bert: Path, tmp_path: Path) -> None:
    lacks = "encoder.layer.1.output.dense.weight"
    folder = rename(tiny_bert, tmp_path / "one", lambda name: None if name == lacks else name)
    with pytest.raises(BackboneError, match=rf"1 of the \d+ weights of BertModel are not in the file: {lacks}"):
        load(folder)
    without = rename(tiny_bert, tmp_path / "none", lambda name: None if name.startswith("pooler.") else name)
    torch.testing.assert_close(*(one.encode(one.tokenize(TEXTS)) for one in (load(without), load(tiny_bert))))


def test_fewer_layers_and_missing_biases_in_the_config(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(tiny_llama, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        BackboneError, match=r"the file has .*q_proj\.bias, and LlamaModel as its config.json describes"
    ):
        load(folder)
    settings = json.loads((tiny_llama / "config.json").read_text()) | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(settings))
    shutil.copyfile(tiny_llama / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(BackboneError, match=r"weights of LlamaModel are not in the file: layers\.2"):
        load(folder)


@pytest.mark.parametrize("kind", ["add_tokens", "special", "pad"])
def test_more_tokens_than_rows(tiny_bert: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "out"
    shutil.copytree(tiny_bert, folder)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    if kind == "add_tokens":
        tokenizer.add_tokens(["synthwave"])
    else:
        tokenizer.add_special_tokens(
            {"pad_token": "synthwave"} if kind == "pad" else {"additional_special_tokens": ["synthwave"]}
        )
    tokenizer.save_pretrained(folder)
    n = len(tokenizer)
    with pytest.raises(BackboneError, match=rf"has {n} tokens and its embedding {n - 1} rows, none for 'synthwave'"):
        load(folder)


def test_tokens_of_images_may_lack_rows(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(tiny_llama, folder)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder, extra_special_tokens={"image_token": "<image_soft_token>"})
    tokenizer.save_pretrained(folder)
    backbone = load(folder)
    assert len(backbone.tokenizer) == len(backbone.model.get_input_embeddings().weight) + 1
    with pytest.raises(BackboneError, match="<image_soft_token>"):
        backbone.tokenize(["a night", "of <image_soft_token>"])


T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 2}


@pytest.mark.parametrize("kind", ["T5", "MT5", "UMT5"])
@pytest.mark.parametrize("half", ["Model", "EncoderModel", "ForConditionalGeneration"])
def test_the_encoder_of_t5_is_read(tiny_llama: Path, tmp_path: Path, kind: str, half: str) -> None:
    torch.manual_seed(0)
    model = getattr(tf, kind + half)(getattr(tf, f"{kind}Config")(vocab_size=384, **T5)).eval()
    backbone = load(save(tmp_path / "out", model, tiny_llama))
    assert not backbone.causal
    ids, mask = backbone.tokenize(TEXTS).get_batch([0, 1], torch.device("cpu"))
    encoder = model.get_encoder()
    with torch.no_grad():
        states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    right = torch.nn.functional.normalize((states * mask[..., None]).sum(1), dim=-1)
    torch.testing.assert_close(backbone.encode(backbone.tokenize(TEXTS)), right, atol=1e-5, rtol=0)


def test_the_encoder_of_other_halves_is_read_where_the_decoder_needs_its_own_text(
    tiny_llama: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = tf.M2M100Config(
        vocab_size=384, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, pad_token_id=2,
    )  # fmt: skip
    backbone = load(save(tmp_path / "out", tf.M2M100Model(config), tiny_llama))
    assert type(backbone.model).__name__ == "M2M100Encoder"


def gemma3_of_images() -> tf.PreTrainedModel:
    text = {"vocab_size": 384, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16, **SIZES}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    config = tf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return tf.Gemma3ForConditionalGeneration(config).eval()


def test_the_text_part_of_a_model_of_images_is_read(tiny_llama: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = gemma3_of_images()
    backbone = load(save(tmp_path / "out", model, tiny_llama))
    assert type(backbone.model).__name__ == "Gemma3TextModel"
    ids, mask = backbone.tokenize(TEXTS[:1]).get_batch([0], torch.device("cpu"))
    with torch.no_grad():
        state = model.model.language_model(input_ids=ids, attention_mask=mask).last_hidden_state[0, -1]
    right = torch.nn.functional.normalize(state, dim=0)
    torch.testing.assert_close(backbone.encode(backbone.tokenize(TEXTS[:1]))[0], right, atol=1e-5, rtol=0)


def test_a_model_without_text_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    config = tf.ViTConfig(image_size=28, patch_size=14, **SIZES)
    with pytest.raises(BackboneError, match="ViTModel"):
        load(save(tmp_path / "out", tf.ViTModel(config), tiny_bert))


def test_an_adapter_pickles_and_other_formats_have_their_own_remedies(tiny_bert: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(tf.AutoModel.from_pretrained(tiny_bert), LoraConfig(r=2, target_modules=["query"]))
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(BackboneError, match=rf"a PEFT adapter of {tiny_bert}.*merge_and_unload"):
        load(tmp_path / "adapter")
    formats = {
        "pytorch_model.bin": "pickled.*save it again",
        "pytorch_model-00001-of-00002.bin": "pickled.*save it again",
        "consolidated.00.pth": "pickled.*convert it by the script of its publisher",
        "openvino_model.bin": "format of OpenVINO",
        "rust_model.ot": "format of Rust",  # codespell:ignore ot
        "tf_model.h5": "format of TensorFlow",
        "flax_model.msgpack": "format of Flax",
        "model.gguf": "format of GGUF.*Give the file itself",
    }
    for name, message in formats.items():
        folder = tmp_path / name
        shutil.copytree(tiny_bert, folder)
        (folder / "model.safetensors").rename(folder / name)
        with pytest.raises(BackboneError, match=message):
            load(folder)


def copy_without(base: Path, folder: Path, beginning: str) -> Path:
    shutil.copytree(base, folder, ignore=lambda _, names: [name for name in names if name.startswith(beginning)])
    return folder


def test_parts_that_are_not_there_are_named(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"has no tokenizer\. Save it there"):
        load(copy_without(tiny_bert, tmp_path / "mute", "tokenizer"))
    with pytest.raises(BackboneError, match=r"has no config\.json\. Copy it as a whole"):
        load(copy_without(tiny_bert, tmp_path / "bare", "config"))
    shutil.copytree(tiny_bert, tmp_path / "run" / "checkpoint-10")
    with pytest.raises(BackboneError, match=r"has no config\.json\. Give its folder checkpoint-10"):
        load(tmp_path / "run")
    with pytest.raises(BackboneError, match="a file, not a folder"):
        load(tiny_bert / "model.safetensors")


def test_weights_that_are_none_are_named(tiny_bert: Path, tmp_path: Path) -> None:
    pointer, cut = tmp_path / "pointer", tmp_path / "cut"
    for folder in (pointer, cut):
        shutil.copytree(tiny_bert, folder)
    (pointer / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(BackboneError, match="a pointer of Git LFS, not the weights"):
        load(pointer)
    (cut / "model.safetensors").write_bytes((tiny_bert / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(BackboneError, match=r"cannot be loaded: .*Copy it again as a whole"):
        load(cut)


def test_a_config_of_other_sizes_or_fewer_layers(
    tiny_bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = json.loads((tiny_bert / "config.json").read_text())
    folder = tmp_path / "out"
    shutil.copytree(tiny_bert, folder)
    (folder / "config.json").write_text(json.dumps(settings | {"intermediate_size": 48}))
    with pytest.raises(BackboneError, match=r"have other sizes in the file than config.json states, such as encoder"):
        load(folder)
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 1}))
    load(folder)
    assert "config.json describes fewer layers than the file has; encoder.layer.1." in caplog.text


def test_quantized_weights_are_named(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(tiny_bert, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BackboneError, match=r"quantized by gptq, which cannot be read here: .*that it was made from"):
        load(folder)


def test_code_of_a_repository_and_weights_that_are_not_numbers_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    shutil.copytree(tiny_bert, remote)
    settings = json.loads((remote / "config.json").read_text())
    settings |= {"model_type": "homemade", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (remote / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BackboneError, match="runs code of its repository"):
        load(remote)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bert, broken)
    weights = load_file(broken / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] *= torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match="not finite"):
        load(broken)
