"""The low-rank adapter beside a packed decoder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ocelli_training import recovery
from ocelli_training.checkpoint import save
from ocelli_training.export import PARTS, load_checkpoint, quantize_model, write_model
from ocelli_training.model import Decoder, Ocelli, TextConfig
from ocelli_training.restore import restore
from safetensors.numpy import load_file
from torch import Tensor

RANK = 3
TOKENIZER = Path(__file__).resolve().parents[2] / "assets/nano/tokenizer.json"


def fill(decoder: Decoder) -> None:
    """An adapter that has learned something."""
    for matrix in recovery.by_tamms_names(decoder).values():
        torch.nn.init.normal_(matrix, std=0.05)


@torch.no_grad()
def states_of(decoder: Decoder) -> Tensor:
    embeddings = torch.randn(1, 7, decoder.config.hidden_size, generator=torch.Generator().manual_seed(1))
    return decoder(embeddings, torch.arange(7)[None], None)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return Ocelli().decoder.eval()


def test_a_new_adapter_adds_nothing(decoder):
    before = states_of(decoder)
    recovery.add(decoder, RANK)
    torch.testing.assert_close(states_of(decoder), before)


def test_an_adapter_that_is_merged_says_what_one_beside_the_weights_says(decoder):
    before = states_of(decoder)
    recovery.add(decoder, RANK)
    fill(decoder)
    kept = states_of(decoder)
    recovery.merge(decoder)
    assert not recovery.by_tamms_names(decoder)
    torch.testing.assert_close(states_of(decoder), kept, atol=1e-4, rtol=1e-4)
    assert (kept - before).abs().max() > 0.1


def test_queries_keys_and_values_have_a_pair_each_by_the_names_of_tamm(decoder):
    recovery.add(decoder, RANK)
    shapes = {name: tuple(matrix.shape) for name, matrix in recovery.by_tamms_names(decoder).items()}
    config = TextConfig()
    width = config.hidden_size // config.num_attention_heads
    layer = "layers.segment_0.layer_0.attention.qkv_transform.adapters.recovery"
    heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
    for part, count in enumerate(heads):
        assert shapes[f"{layer}.lora_{part}.a_transpose"] == (config.hidden_size, RANK)
        assert shapes[f"{layer}.lora_{part}.b_transpose"] == (RANK, count * width)
    assert shapes["layers.segment_1.layer_0.attention.q_transform.adapters.recovery.b_transpose"] == (RANK, config.hidden_size)
    assert shapes["layers.segment_0.layer_4.feed_forward.output_transform.adapters.recovery.a_transpose"] == (config.intermediate_size, RANK)
    assert not any("embedding" in name for name in shapes)


def test_an_adapter_survives_its_checkpoint_and_the_model_directory(tmp_path):
    torch.manual_seed(0)
    model = Ocelli()
    quantize_model(model, PARTS)
    recovery.add(model.decoder, RANK)
    fill(model.decoder)
    save(tmp_path, model, None, None, 0, 0.0, parts=PARTS)
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    write_model(loaded, tmp_path / "model", PARTS)
    assert not any("low_rank" in name for name in load_file(tmp_path / "model" / "model.safetensors"))
    restored = recovery.by_tamms_names(restore(tmp_path / "model").decoder)
    for name, matrix in recovery.by_tamms_names(model.decoder).items():
        torch.testing.assert_close(restored[name], matrix, atol=1e-4, rtol=1e-3)
    write_model(Ocelli(), tmp_path / "model", PARTS)
    assert not (tmp_path / "model" / recovery.FILE).exists(), "an adapter of another model is left"


def test_training_an_adapter_leaves_the_packed_weights_as_they_are(cache, tmp_path):
    torch.manual_seed(0)
    model = Ocelli()
    quantize_model(model, PARTS)
    save(tmp_path / "qat", model, None, None, 0, 0.0, parts=PARTS)
    command = f"{sys.executable} -m ocelli_training.train_joint --sprites {cache} --tokenizer {TOKENIZER} --nouns 12 --init {tmp_path}/qat/checkpoint.pt"
    command += f" --run {tmp_path}/recovery --quantize --recovery-rank {RANK} --shares rapid=1 --workers 0 --minutes 0.05"
    subprocess.run(command.split(), check=True, capture_output=True)
    raw = torch.load(tmp_path / "recovery" / "checkpoint.pt", weights_only=True)["raw"]
    before = model.state_dict()
    changed = {name for name, value in raw.items() if name not in before or not torch.equal(value, before[name])}
    assert changed and all(recovery.is_part(name) for name in changed), sorted(changed)[:3]
    assert any(value.abs().max() > 0 for name, value in raw.items() if ".low_rank.b." in name), "nothing was learned"


def test_export_writes_an_adapter_beside_the_weights_or_into_them(tmp_path):
    torch.manual_seed(0)
    model = Ocelli()
    quantize_model(model, PARTS)
    save(tmp_path, model, None, None, 0, 0.0, parts=PARTS)
    recovery.add(model.decoder, RANK)
    fill(model.decoder)
    save(tmp_path / "recovery", model, None, None, 0, 0.0, parts=PARTS)
    runs = {"qat": (tmp_path, []), "beside": (tmp_path / "recovery", []), "into": (tmp_path / "recovery", ["--merge"])}
    for name, (run, more) in runs.items():
        command = [sys.executable, "-m", "ocelli_training.export", "--checkpoint", run / "checkpoint.pt", "--out", tmp_path / name, *more]
        subprocess.run(command, check=True, capture_output=True)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in runs}
    assert [(tmp_path / name / recovery.FILE).exists() for name in runs] == [False, True, False]
    assert weights["qat"] == weights["beside"] != weights["into"]
