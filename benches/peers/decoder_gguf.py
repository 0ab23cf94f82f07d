"""Writes a GGUF of the sizes of the on-device decoder, with random weights: `decoder_gguf.py KIND OUT`, KIND tq2_0, iq2_xxs or q4_0.

The architecture is qwen3, the nearest that llama.cpp has: it makes keys and values in every layer, where the on-device model reuses them in the
last 21 of 56. The embedding, which is the output layer, is q4_0 in all kinds.
"""

import sys

import gguf
import numpy as np

LAYERS, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 56, 2048, 6656, 16, 2, 128, 153600

# Bytes of a block, weights of a block, where the f16 scale lies, a scale that keeps activations of order one.
KINDS = {
    "tq2_0": (66, 256, 64, 0.02, gguf.GGMLQuantizationType.TQ2_0),
    "iq2_xxs": (66, 256, 0, 0.002, gguf.GGMLQuantizationType.IQ2_XXS),
    "q4_0": (18, 32, 0, 0.004, gguf.GGMLQuantizationType.Q4_0),
}


def main() -> None:
    kind, out = sys.argv[1:3]
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(out, "qwen3")
    writer.add_name(f"afm-3b sizes, {kind}")
    writer.add_block_count(LAYERS)
    writer.add_context_length(8192)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("no_vocab")

    def matrix(name: str, rows: int, columns: int, kind: str = kind) -> None:
        block_bytes, block_weights, scale_at, scale, dtype = KINDS[kind]
        blocks = np.frombuffer(random.bytes(rows * columns // block_weights * block_bytes), np.uint8)
        blocks = blocks.reshape(-1, block_bytes).copy()
        if kind == "tq2_0":
            blocks[:, :64] &= 0x55  # codes 0 and 1 of three
        blocks[:, scale_at : scale_at + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
        writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=dtype)

    def ones(name: str, size: int) -> None:
        writer.add_tensor(name, np.ones(size, np.float32))

    matrix("token_embd.weight", VOCAB, HIDDEN, "q4_0")
    ones("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        ones(block + "attn_norm.weight", HIDDEN)
        ones(block + "ffn_norm.weight", HIDDEN)
        ones(block + "attn_q_norm.weight", HEAD_DIM)
        ones(block + "attn_k_norm.weight", HEAD_DIM)
        matrix(block + "attn_q.weight", HEADS * HEAD_DIM, HIDDEN)
        matrix(block + "attn_k.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(block + "attn_v.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        matrix(block + "attn_output.weight", HIDDEN, HEADS * HEAD_DIM)
        matrix(block + "ffn_gate.weight", INTERMEDIATE, HIDDEN)
        matrix(block + "ffn_up.weight", INTERMEDIATE, HIDDEN)
        matrix(block + "ffn_down.weight", HIDDEN, INTERMEDIATE)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
