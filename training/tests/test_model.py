"""The PyTorch model: shapes, the register windows, the pooled-first adapter, the shared keys and values, packing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ocelli_training.chat import IGNORE, IMAGE, Sequence, Turn, collate, splice
from ocelli_training.checkpoint import save
from ocelli_training.export import PARTS, load_float, pack_codes, quantize_model, write_model
from ocelli_training.model import Decoder, Ocelli, RwVitDet, TextConfig, VisionConfig, attend, gelu
from ocelli_training.quant import QLinear, fake_quantize_activations, least_squares_factor
from ocelli_training.restore import restore

SMALL = VisionConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, patch_size=4, window_size=4,
    num_register_tokens=2, global_layers=(2,), position_embedding_size=(4, 4), conv_stem=((2, 8, 1), (2, 16, 0)),
)


def test_windows_do_not_see_each_other_before_a_global_layer():
    torch.manual_seed(0)
    model = RwVitDet(SMALL).eval()
    captured = []
    model.layers[2].register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    pixels = torch.randn(1, 3, 32, 32)
    changed = pixels.clone()
    changed[..., 20:, 20:] += 1.0  # the last window only
    model(pixels), model(changed)
    before, after = (tokens[:, 2:].reshape(8, 8, -1) for tokens in captured)
    assert torch.equal(before[:4], after[:4])
    assert not torch.allclose(before[4:, 4:], after[4:, 4:])


def test_uneven_windows_equal_even_ones_where_the_window_divides_the_grid():
    torch.manual_seed(0)
    model = RwVitDet(SMALL).eval()
    x, r = torch.randn(1, 8, 8, 16), torch.randn(1, 4, 2, 16)
    windows = [(y, y + 4, c, c + 4) for y in (0, 4) for c in (0, 4)]
    out, registers = model.uneven_windows(model.layers[0], x, r, windows)
    tokens = model.layers[0](torch.cat([r[:, 3], x[:, 4:, 4:].flatten(1, 2)], dim=1))
    torch.testing.assert_close(out[:, 4:, 4:].flatten(1, 2), tokens[:, 2:])
    torch.testing.assert_close(registers[:, 3], tokens[:, :2])


def test_pooling_first_equals_convolution_then_pooling():
    torch.manual_seed(0)
    model = Ocelli()
    features = torch.randn(2, 24, 24, model.config.vision.hidden_size)
    adapter = model.adapter
    x = adapter.proj(adapter.layer(features.flatten(1, 2))).unflatten(1, (24, 24)).permute(0, 3, 1, 2)
    weight = adapter.conv.weight.reshape(-1, 3, 3, x.shape[1]).permute(0, 3, 1, 2)
    direct = F.avg_pool2d(F.conv2d(x, weight, adapter.conv.bias, padding=1), 2, 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(adapter.pool(features, 12), direct, rtol=1e-4, atol=1e-5)


def test_reuse_layers_read_the_keys_of_the_last_regular_layer():
    torch.manual_seed(0)
    decoder = Ocelli().decoder.eval()
    kvs = []
    for segment in decoder.layers.values():
        for layer in segment.values():
            layer.attention.register_forward_hook(lambda _, __, out: kvs.append(out[1]))
    decoder(torch.randn(1, 5, decoder.config.hidden_size), torch.arange(5)[None], None)
    assert all(kv[0] is kvs[4][0] for kv in kvs[5:])
    assert kvs[3][0] is not kvs[4][0]


def test_branches_of_a_sequence_give_what_each_turn_alone_gives():
    class Words:
        user, assistant, weights = [7], [8], {30: 4.0}
        prefix, question, answer = (
            lambda self, views: [1, 2, 7, 4, *[IMAGE] * views[0], 5], lambda self, t: [int(t), 3, 2, 8], lambda self, t: [int(t), 3])

    torch.manual_seed(0)
    decoder = Ocelli().decoder.eval()
    picture = torch.randn(1, 9, decoder.config.hidden_size)

    def states(turns):
        batch = collate([Sequence.of(Words(), [9], turns)])
        x = splice(decoder.embedding.lookup(batch["ids"]), batch["ids"], picture)
        return decoder(x, batch["positions"], batch["mask"])[0][batch["labels"][0] != IGNORE]

    both = states([Turn("20", "30"), Turn("21", "31")])
    torch.testing.assert_close(both[2:], states([Turn("21", "31")]), rtol=1e-4, atol=1e-5)
    weights = Sequence.of(Words(), [9], [Turn("20", "30")]).weights
    assert weights[-4:] == [0.0, 4.0, 1.0, 0.0], "the word that was marked counts four times, the end of the turn once"


@pytest.mark.parametrize("bits", [2, 4])
def test_least_squares_scale_is_no_worse_than_scaling_by_the_largest_value(bits):
    torch.manual_seed(0)
    layer = QLinear(64, 32)
    grouped = torch.randn(32, 1, 64)
    layer.weight.data = grouped.reshape(32, 64)
    assert (least_squares_factor(grouped, bits) <= 1.5).all()
    layer.enable_quantization(bits, None)
    fitted = (layer.effective_weight() - layer.weight).square().mean()
    layer.scale_factor.data.fill_(1.0)
    assert fitted < (layer.effective_weight() - layer.weight).square().mean()


def test_packing_puts_weights_64_apart_into_one_byte():
    codes = np.zeros((1, 256), dtype=np.int64)
    codes[0, [5, 69, 133, 197]] = [1, 2, 3, 1]
    packed = pack_codes(codes, 2)
    assert packed.shape == (1, 64)
    assert packed[0, 5] == 1 | 2 << 2 | 3 << 4 | 1 << 6
    assert packed.sum() == packed[0, 5]
    assert pack_codes(np.full((1, 3), -1), 8)[0, :4].tolist() == [255, 255, 255, 0]


def test_activations_of_a_zero_row_stay_zero_and_extremes_are_exact():
    x = torch.tensor([[0.0, 0.0], [1.0, -127.0]])
    torch.testing.assert_close(fake_quantize_activations(x, None), x)


def test_a_written_model_is_restored_as_its_quantized_values(tmp_path):
    torch.manual_seed(0)
    model = Ocelli()
    write_model(model, tmp_path, PARTS)
    restored = restore(tmp_path)
    for name, layer in model.named_modules():
        if isinstance(layer, QLinear):
            torch.testing.assert_close(restored.get_submodule(name).weight, layer.effective_weight(), rtol=1e-5, atol=1e-6)


def test_the_control_of_a_quantized_model_has_its_encoder_and_the_teachers_decoder_at_32_bits(tmp_path):
    torch.manual_seed(0)
    teacher, student = Ocelli(), Ocelli()
    save(tmp_path / "teacher", teacher, None, None, 0, 0.0)
    quantize_model(student, PARTS)
    save(tmp_path / "student", student, None, None, 0, 0.0, parts=PARTS)
    control = load_float(tmp_path / "student" / "checkpoint.pt", tmp_path / "teacher" / "checkpoint.pt")
    assert torch.equal(control.vision.layers[0].mlp.fc1.effective_weight(), student.vision.layers[0].mlp.fc1.weight)
    assert torch.equal(control.decoder.layers["segment_0"]["layer_0"].attention.output_transform.effective_weight(),
                       teacher.decoder.layers["segment_0"]["layer_0"].attention.output_transform.weight)
    assert not any(name.endswith("scale_factor") for name in control.state_dict())
    assert torch.equal(control.decoder.embedding.effective_weight(), teacher.decoder.embedding.weight)


def test_keys_and_values_learn_while_the_cache_is_rounded():
    torch.manual_seed(0)
    decoder = Decoder(TextConfig(vocab_size=8, hidden_size=32, intermediate_size=32, num_attention_heads=1, num_key_value_heads=1))
    decoder.quantize_kv = True
    decoder(torch.randn(1, 5, 32), torch.arange(5)[None], None).square().sum().backward()
    fused = decoder.layers["segment_0"]["layer_0"].attention.qkv_transform["fused_linear"].weight.grad
    query, key, value = fused.split(32)
    assert all(part.abs().max() > 0 for part in (query, key, value))


def test_gelu_is_that_of_pytorch_by_the_tanh_formula():
    x = torch.linspace(-12, 12, 4001, requires_grad=True)
    expected = torch.autograd.grad(F.gelu(x, approximate="tanh").sum(), x)[0]
    assert torch.allclose(gelu(x), F.gelu(x, approximate="tanh"), atol=2e-6)
    assert torch.allclose(torch.autograd.grad(gelu(x).sum(), x)[0], expected, atol=2e-6)


def test_attention_is_that_of_pytorch():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 7, 32)
    mask = torch.ones(7, 7, dtype=torch.bool).tril()
    torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
    torch.testing.assert_close(attend(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, is_causal=True))


def test_bf16_products_change_no_output_much():
    torch.manual_seed(0)
    vision, pixels = RwVitDet(SMALL), torch.rand(2, 3, 32, 32)
    exact, _ = vision(pixels)
    with torch.autocast("cpu", torch.bfloat16):  # slow where `has_bf16` is false, but the same
        rounded, _ = vision(pixels)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.02  # bf16 has 8 bits: 0.4% a product
