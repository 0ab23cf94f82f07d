"""Makes the goldens of the decoder, tests/golden/afm_*, with Apple's reference implementation.

    pip install tamm==0.2.0 torch safetensors numpy
    python training/goldens/make_afm.py --out tests/golden

Each case is a directory that `ocelli trace` reads as it is: config.json in tamm's words, model.safetensors under tamm's names,
perhaps adapter.safetensors, inputs.safetensors, and expected.safetensors with what tamm computes from them in float32.
Weights are random, of a size at which every tensor matters. Inputs are searched for which no greedy choice and no rounding of
a quantized key or value is close to a tie, so that rounding in float32 does not decide.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file
from tamm._adapters_v1.model_adapters.lora import LoRAModelAdapter
from tamm.ao.arch_optimizers import KVQuantArchOptimizer
from tamm.ao.layers import FakeQuantize
from tamm.generation.token_generators.utils import process_logit
from tamm.layers.rope import compute_rope_coefficients
from tamm.layers.transformer.kv_cache import VanillaKVCache
from tamm.models.afm_text import AFMTextV7

NUM_GREEDY = 16
ROPE_POSITIONS = [0, 1, 17, 700, 4095, 65535]
SAMPLING = {
    "t0.7": dict(temperature=0.7),
    "t1.3_k7": dict(temperature=1.3, top_k=7),
    "t0.9_p0.8": dict(temperature=0.9, top_p=0.8),
    "t1.0_k12_p0.6": dict(temperature=1.0, top_k=12, top_p=0.6),
}
CASES = {
    "afm_reuse": dict(
        model=dict(vocab_size=40, hidden_dim=16, num_layers=5, num_kv_reuse_layers=2, num_heads=4, num_kv_heads=2,
                   hidden_dim_scale_factor=2.0),
        chunks=[5, 1, 7]),
    "afm_noreuse": dict(
        model=dict(vocab_size=36, hidden_dim=12, num_layers=2, num_kv_reuse_layers=0, num_heads=2, num_kv_heads=None,
                   hidden_dim_scale_factor=2.875),  # 34.5, which rounds to the even 34
        chunks=[10, 1]),
    "afm_kvq_lora": dict(
        model=dict(vocab_size=32, hidden_dim=16, num_layers=4, num_kv_reuse_layers=1, num_heads=4, num_kv_heads=1,
                   hidden_dim_scale_factor=2.0),
        chunks=[12], kv_quant=True, lora=dict(rank=3, alpha=1.5)),
}


def build(case, lora):
    options = {}
    if lora:
        options = dict(adapters={"base_adapter": LoRAModelAdapter(**lora)}, active_adapter="base_adapter")
    if case.get("kv_quant"):
        options["arch_optimizers"] = {"kv_quant": KVQuantArchOptimizer(freeze_qparams=True)}
    config = AFMTextV7.Config(output_hidden_states=True, sdpa_implementation="basic", **case["model"], **options)
    return config.create_module().eval()


def randomize(model, rng):
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        values = rng.standard_normal(shape)
        if name.split(".")[-2].endswith("norm"):
            values = 1 + 0.3 * values
        elif name == "embedding.weight":
            values *= 0.6
        elif ".adapters." in name:
            values /= math.sqrt(shape[0])
        else:
            values *= 1.3 / math.sqrt(shape[-1])
        parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def set_kv_ranges(model, token_ids):
    """Ranges a little inside those of some tokens, so that values are clamped."""
    quantizers = [module for module in model.modules() if isinstance(module, FakeQuantize)]
    for quantizer in quantizers:
        quantizer.is_fake_quant_enabled, quantizer.is_observer_enabled = False, True
        quantizer.activation_post_process.momentum = 0.0
    model(token_ids)
    for quantizer in quantizers:
        quantizer.is_fake_quant_enabled, quantizer.is_observer_enabled = True, False
        quantizer.activation_post_process.range.mul_(0.8)


def prefill(case, model, token_ids):
    m = case["model"]
    kv_dim = m["hidden_dim"] // m["num_heads"] * (m["num_kv_heads"] or m["num_heads"])
    cache = VanillaKVCache(num_layers=m["num_layers"] - m["num_kv_reuse_layers"], batch_size=1,
                           length=token_ids.shape[1] + NUM_GREEDY, hidden_dim=kv_dim, dtype=torch.float32)
    cache.keys_and_values.zero_()
    done = 0
    for chunk in case["chunks"]:
        logits = model(token_ids[:, done:done + chunk], kv_cache=cache.up_to_index(done + chunk)).logits
        done += chunk
    return cache, logits[0, -1]


def greedy(model, cache, logits, done):
    tokens, rows = [], [logits]
    for step in range(NUM_GREEDY):
        tokens.append(int(rows[-1].argmax()))
        if step + 1 < NUM_GREEDY:
            out = model(torch.tensor([tokens[-1:]]), kv_cache=cache.up_to_index(done + step + 1))
            rows.append(out.logits[0, -1])
    return np.array(tokens), torch.stack(rows)


def find_inputs(case, model, rng):
    """Token ids far from ties: margin of greedy choices over the largest logit, distance to a rounding boundary in steps."""
    distance = [math.inf]

    def watch(module, args):
        scale, _ = module.activation_post_process.calculate_qparams()
        steps = args[0] / scale
        steps = steps[(steps > -128) & (steps < 127)]
        distance[0] = min(distance[0], float((steps - steps.floor() - 0.5).abs().min()))

    hooks = [module.register_forward_pre_hook(watch) for module in model.modules() if isinstance(module, FakeQuantize)]
    num_tokens = sum(case["chunks"])
    for _ in range(1000):
        ids = rng.integers(1, case["model"]["vocab_size"], num_tokens)
        ids[3] = 0  # the padding id is an ordinary row of the embedding
        token_ids = torch.from_numpy(ids)[None]
        distance[0] = math.inf
        cache, logits = prefill(case, model, token_ids)
        tokens, rows = greedy(model, cache, logits, num_tokens)
        best = rows.topk(2).values
        margin = float((best[:, 0] - best[:, 1]).min() / rows.abs().max())
        if margin > 2e-3 and distance[0] > 3e-4 and len(set(tokens)) >= 5:
            for hook in hooks:
                hook.remove()
            return token_ids
    raise SystemExit("no inputs away from ties: change the seed")


@torch.no_grad()
def make(name, case, out):
    rng = np.random.default_rng(sum(name.encode()))
    lora = case.get("lora")
    model = build(case, lora)
    randomize(model, rng)
    num_tokens = sum(case["chunks"])
    if case.get("kv_quant"):
        set_kv_ranges(model, torch.from_numpy(rng.integers(1, case["model"]["vocab_size"], (1, num_tokens))))
    token_ids = find_inputs(case, model, rng)

    full = model(token_ids)
    expected = {
        "logits": full.logits[0],
        "hidden_states": torch.cat([full.embeddings, *full.hidden_states]),
        "last_hidden_state": full.last_hidden_state[0],
    }
    embeddings = full.embeddings.clone()
    image = slice(num_tokens // 4, num_tokens // 2)  # vectors that no token has
    noise = rng.standard_normal(tuple(embeddings[0, image].shape)) * 0.6
    embeddings[0, image] = torch.from_numpy(noise.astype(np.float32))
    expected["embeddings_in.logits"] = model(embeddings, mode="skip_embedding_layer").logits[0]
    segment_ids = torch.ones(1, num_tokens, dtype=torch.int64)
    segment_ids[0, num_tokens // 3:] = 2
    expected["packed.logits"] = model(token_ids, segment_ids=segment_ids).logits[0]

    cache, logits = prefill(case, model, token_ids)
    keys_and_values = cache.keys_and_values[:, :, :num_tokens, 0].clone()
    expected["cache.keys"], expected["cache.values"] = keys_and_values[:, 0], keys_and_values[:, 1]
    expected["chunked.last_logits"] = logits
    for label, options in SAMPLING.items():
        expected[f"sampling.{label}"] = process_logit(logits[None].clone(), **options)[1][0]
    expected["greedy.tokens"], expected["greedy.logits"] = greedy(model, cache, logits, num_tokens)
    m = case["model"]
    rope = compute_rope_coefficients(positions=torch.tensor([ROPE_POSITIONS]), dim=m["hidden_dim"] // m["num_heads"],
                                     theta=500000.0)
    expected["rope.cos"], expected["rope.sin"] = rope[:, 0, :, 0, 0], rope[:, 0, :, 1, 0]

    weights, adapter = {}, {}
    for key, tensor in model.state_dict().items():
        if ".adapters." in key:
            adapter[key] = tensor
        elif key != "output_transform.weight" and not key.endswith("num_samples"):
            weights[key.replace(".wrapped", "")] = tensor
    if lora:
        base = build(case, None)
        base.load_state_dict(weights, strict=False)
        expected["without_adapter.logits"] = base(token_ids).logits[0]

    target = out / name
    target.mkdir(parents=True, exist_ok=True)
    inputs = {"token_ids": token_ids[0], "embeddings_in": embeddings[0], "packed.segment_ids": segment_ids[0],
              "chunks": np.array(case["chunks"]), "rope.positions": np.array(ROPE_POSITIONS)}
    for file, tensors in [("model", weights), ("adapter", adapter), ("inputs", inputs), ("expected", expected)]:
        if tensors:
            arrays = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
            save_file(arrays, target / f"{file}.safetensors")
    config = {"family": "afm_text_v7", "reference": "tamm 0.2.0", "kv_quant": bool(case.get("kv_quant")), "lora": lora,
              "rope_theta": 500000.0, **m}
    (target / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    print(name, sum(file.stat().st_size for file in target.iterdir()), "bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    for name, case in CASES.items():
        make(name, case, out)
