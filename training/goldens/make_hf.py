"""Makes tests/golden/hf: tiny models as they lie on the Hugging Face hub, and what transformers computes on them.

    pip install torch 'transformers==5.23.0' 'tokenizers==0.23.3' pillow safetensors numpy
    python training/goldens/make_hf.py --out tests/golden/hf

Weights are random; tokenizers are trained on the sentences below. What is expected is computed on the files that were written, read back
by transformers, in f32 with eager attention; image processors are those that use Pillow.

Files on the hub were written by many versions of transformers, so the folders differ in spelling:
 - config.json of `idefics3`, `llava`, `llama_sharded`, `qwen2` and `dinov2` is in the words of transformers 4 (`torch_dtype`, `rope_theta`,
   `rope_scaling`); what is the default in `llava`'s text and vision configuration and in `idefics3`'s vision configuration is left out
   there, as many files of the hub do. The others are as 5.23 writes them.
 - `llava` has the older names of tensors, `vision_tower.vision_model.*`; `llava_qwen2` has those of 5.23, `vision_tower.*`.
 - The chat template is in chat_template.jinja, in chat_template.json (`idefics3`, `llava`), or in tokenizer_config.json (`llama_sharded`, `qwen2`).
 - preprocessor_config.json of `clip` has whole numbers as sizes and no `image_processor_type`.
"""

import argparse
import json
import math
import pathlib
import shutil

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import load_file as load_torch_file
from safetensors.torch import save_file as save_torch_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig

SENTENCES = [
    "The picture shows a small red house beside the river, with two trees and a wooden bridge.",
    "What is in this picture? There are 12 people and 3 dogs in the street.",
    "Describe the image in one sentence, please. The sky is blue and the sun is low.",
    "How many windows does the house have? It has seven windows and one green door.",
    "Das Bild zeigt eine Straße mit Häusern; über dem Fluß fliegen Vögel.",
    "The sign says: open from 9 to 17. A woman reads a book under the old lamp.",
    "Read the text on the sign and tell me where the train goes. It goes to the sea.",
]

# Pictures by name: width, height. `strip` is the one with the fewest tiles.
PICTURES = {"wide": (96, 40), "tall": (36, 90), "small": (20, 17), "strip": (96, 20)}

SMALL_TEXT = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
SMALL_VISION = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4, patch_size=4)
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
ROW_COL = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
NEW_TOKENS = 24

# Chat templates of the hub's repositories (SmolVLM, Idefics3-8B-Llama3, llava-1.5-7b-hf, llava-interleave-qwen-0.5b-hf,
# Meta-Llama-3-8B-Instruct, Qwen2-0.5B-Instruct, Qwen3-0.6B).
SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
IDEFICS3_TEMPLATE = SMOLVLM_TEMPLATE.replace("<|im_start|>", "<|begin_of_text|>")
LLAVA_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}"
    "{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LLAVA_QWEN2_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\\n' + content['text'] }}{% endfor %}"
    "{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ '\\n' + content['text'] }}{% endgeneration %}{% endfor %}{% endif %}{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Our own, in the form that Llama 3 was taught.
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}"
    "{{ message.content | trim }}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
QWEN2_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN3_TEMPLATE = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""

LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_WORDS = LLAMA3_WORDS.replace(r"\p{N}{1,3}", r"\p{N}")


# ---------------------------------------------------------------------------------------------------------------- pictures


def pictures(out):
    """Smooth colours, a disc and a bar with hard edges."""
    out.mkdir(parents=True, exist_ok=True)
    result = {}
    for name, (width, height) in PICTURES.items():
        y, x = np.mgrid[0:height, 0:width]
        waves = 128 + 127 * np.sin(x / 5) * np.cos(y / 4)
        picture = np.stack([x * 255 / (width - 1), y * 255 / (height - 1), waves], axis=-1)
        radius = min(width, height) / 3
        picture[(x - width * 0.6) ** 2 + (y - height * 0.45) ** 2 < radius**2] = (250, 20, 40)
        picture[height // 2 : height // 2 + 3, : width // 3] = (10, 240, 90)
        result[name] = Image.fromarray(picture.astype(np.uint8))
        result[name].save(out / f"{name}.png", optimize=True)
    return result


# ---------------------------------------------------------------------------------------------------------------- tokenizers


def byte_level(words, first=(), last=(), bos=None, normalizer=None):
    """Byte-level BPE with 40 merges; `words` is what cuts a text before it. Tokens of `first` have the first ids, those of `last` the last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = words
    trainer = trainers.BpeTrainer(
        vocab_size=len(first) + 256 + 40, special_tokens=list(first), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    # Two line ends are one token, as in the models: the prompt of a picture in tiles has them, from the last row and from what follows.
    tokenizer.train_from_iterator([text for sentence in SENTENCES for text in (sentence, "\n\n")], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in last])
    post = processors.ByteLevel(trim_offsets=bos is not None)
    if bos is not None:
        template = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
        post = processors.Sequence([post, template])
    tokenizer.post_processor = post
    return tokenizer


def split_words(pattern):
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def smollm_tokenizer(last):
    words = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return byte_level(words, first=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], last=last)


def llama3_tokenizer(last):
    return byte_level(split_words(LLAMA3_WORDS), last=["<|begin_of_text|>", "<|end_of_text|>", *last], bos="<|begin_of_text|>")


def qwen_tokenizer(last=()):
    return byte_level(split_words(QWEN_WORDS), last=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *last], normalizer=normalizers.NFC())


def llama2_tokenizer(last):
    """BPE over characters, with bytes for characters that it does not know; a text begins with a space."""
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=len(first) + 65, special_tokens=first, show_progress=False)
    trained.train_from_iterator([sentence for sentence in SENTENCES if sentence.isascii()], trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ["<unk>", "<s>", "</s>", *last]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tokenizer(folder, tokenizer, named, template, template_in, tokenizer_class, processor_class=None, **more):
    """tokenizer.json and its companions as transformers 4 wrote them. `named`: bos_token, eos_token, pad_token, unk_token."""
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")
    fields = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    added = {
        str(i): {field: getattr(token, field) for field in fields} for i, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    others = [token["content"] for token in added.values() if token["special"] and token["content"] not in named.values()]
    config = {
        **more, "added_tokens_decoder": added, "additional_special_tokens": others, **named, "clean_up_tokenization_spaces": False,
        "extra_special_tokens": {}, "model_max_length": 2048, "tokenizer_class": tokenizer_class,
    }
    if processor_class is not None:
        config["processor_class"] = processor_class
    if template_in == "tokenizer_config.json":
        config["chat_template"] = template
    elif template_in == "chat_template.json":
        write_json(folder / template_in, {"chat_template": template})
    else:
        (folder / template_in).write_text(template, encoding="utf-8")
    write_json(folder / "tokenizer_config.json", config)
    whole = {key: {field: added[str(tokenizer.token_to_id(token))][field] for field in fields[:-1]} for key, token in named.items() if token}
    write_json(folder / "special_tokens_map.json", {"additional_special_tokens": others, **whole} if others else whole)


# ---------------------------------------------------------------------------------------------------------------- checkpoints


def randomize(model, generator):
    """Random values of a size at which every tensor matters."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name and name.endswith("weight"):
            value = 1.0 + 0.3 * noise
        elif parameter.dim() <= 1:
            value = 0.3 * noise
        elif "embed" in name and "patch" not in name or "token" in name or "lm_head" in name:
            value = 0.5 * noise
        else:
            value = noise / parameter[0].numel() ** 0.5
            # Decoders: layers outweigh the embedding, or a tied head would repeat the last token for ever.
            value *= 4.0 if "o_proj" in name or "down_proj" in name else 1.0
        parameter.data.copy_(value)
    return model.eval()


def words_of_transformers_4(config):
    """The keys of a config.json that 5.23 spells otherwise."""
    config = dict(config)
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    if "rope_parameters" in config:
        rope = dict(config.pop("rope_parameters"))
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    if "transformers_version" in config:
        config["transformers_version"] = "4.46.0"
    # In 5.23 these follow from others; transformers 4 did not write them.
    for key in ("layer_types", "_pad_token_id"):
        config.pop(key, None)
    if "head_dim" in config and config["head_dim"] * config["num_attention_heads"] == config["hidden_size"]:
        del config["head_dim"]
    if config.get("model_type") == "idefics3_vision":
        config["model_type"] = "idefics3"
    for part in ("text_config", "vision_config"):
        if part in config:
            config[part] = words_of_transformers_4(config[part])
    return config


def write_model(folder, model, dtype, generation=None, old_words=False, **more):
    """Writes config.json, generation_config.json and the weights, rounded to `dtype`."""
    if generation is not None:
        model.generation_config = GenerationConfig(**generation)
    model.to(dtype).save_pretrained(folder, **more)
    if old_words:
        path = folder / "config.json"
        write_json(path, words_of_transformers_4(json.loads(path.read_text())))


def leave_out_defaults(part, defaults):
    """What many files of the hub have of a part's configuration."""
    defaults = words_of_transformers_4(defaults.to_dict())
    if part["num_attention_heads"] == part.get("num_key_value_heads"):
        defaults["num_key_value_heads"] = part["num_key_value_heads"]
    return {key: value for key, value in part.items() if key == "model_type" or key not in defaults or defaults[key] != value}


def read_model(folder, model_class):
    model, info = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def edit_json(path, edit):
    value = json.loads(path.read_text())
    edit(value)
    write_json(path, value)


# ---------------------------------------------------------------------------------------------------------------- what is expected


def save_expected(folder, tensors, description):
    tensors = {name: np.ascontiguousarray(value.detach().numpy() if torch.is_tensor(value) else value) for name, value in tensors.items()}
    save_file(tensors, folder / "expected.safetensors")
    lines = []
    for key, value in description.items():
        if key == "chat":
            cases = ",\n".join("    " + json.dumps(case, ensure_ascii=False) for case in value)
            lines.append(f'  "chat": [\n{cases}\n  ]')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    (folder / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def views(processor, picture, **more):
    """What the model gets for a picture: [views, 3, h, w] in f32."""
    values = np.asarray(processor(images=[picture], return_tensors="np", **more)["pixel_values"], dtype=np.float32)
    return values.reshape(-1, *values.shape[-3:])


def as_bytes(processor, values):
    mean, std = (np.array(x, dtype=np.float64).reshape(3, 1, 1) for x in (processor.image_mean, processor.image_std))
    exact = (values * std + mean) * 255
    rounded = np.round(exact)
    assert np.abs(exact - rounded).max() < 0.01 and rounded.min() >= 0 and rounded.max() <= 255
    return rounded.astype(np.uint8)


def picture_tensors(processor, images, splits):
    tensors = {}
    for name, picture in images.items():
        tensors[f"pixel_values.{name}"] = as_bytes(processor, views(processor, picture))
        if splits:
            tensors[f"pixel_values_single.{name}"] = as_bytes(processor, views(processor, picture, do_image_splitting=False))
    return tensors


class HiddenStates:
    """Records what enters the first of some layers and what leaves each, in one call of the model."""

    def __init__(self, layers):
        self.states = []
        self.hooks = [layers[0].register_forward_pre_hook(lambda _, args: self.add(args[0]))]
        self.hooks += [layer.register_forward_hook(lambda _, args, output: self.add(output)) for layer in layers]

    def add(self, value):
        self.states.append(value if torch.is_tensor(value) else value[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def trace(model, inputs, tokenizer):
    """The trace of a prompt and by how much the best token leads at the closest step of its greedy continuation; None unless that is clear
    and the continuation is plain text of several tokens."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    output = model(**inputs, use_cache=True)
    logits, tokens, smallest = output.logits[0], [], math.inf
    while True:
        (best, second), (token, _) = (values.tolist() for values in output.logits[0, -1].topk(2))
        smallest = min(smallest, best - second)
        if smallest < 0.05 or token >= len(tokenizer) or token in special:
            return None
        tokens.append(token)
        if len(tokens) == NEW_TOKENS:
            break
        output = model(input_ids=torch.tensor([[token]]), past_key_values=output.past_key_values, use_cache=True)
    if len(set(tokens)) < 6:
        return None
    return {"trace.token_ids": inputs["input_ids"][0], "trace.logits": logits, "trace.greedy_tokens": torch.tensor(tokens)}, smallest


def search(make_model, inputs, tokenizer, dtype, seed):
    """Random weights with which the continuation does not hang on rounding."""
    for attempt in range(900):
        model = randomize(make_model(), torch.Generator().manual_seed(seed + attempt))
        # Parameters alone: the frequencies of rotary positions are not rounded.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype).to(torch.float32)
        if trace(model, inputs, tokenizer) is not None:
            return model
    raise RuntimeError("no seed gives a continuation with a clear margin")


# ---------------------------------------------------------------------------------------------------------------- chats


def vision_chats(trace_picture):
    question = [{"image": trace_picture}, {"text": "What is in this picture?"}]
    return [
        [{"role": "user", "parts": question}],
        [{"role": "user", "parts": [{"image": "tall"}, {"text": " Was zeigt das Bild – 42 Äpfel\nund 7 Vögel? 🌊 "}]}],
        [
            {"role": "user", "parts": [{"image": "small"}, {"text": "How many windows does the house have?"}]},
            {"role": "assistant", "parts": [{"text": " It has 7 windows."}]},
            {"role": "user", "parts": [{"text": "And here, "}, {"image": trace_picture}, {"text": " naïve 東京 café?"}]},
        ],
        [{"role": "user", "parts": [{"text": "  Tell me where the train goes; it's 12345 km.\n"}]}],
    ]


TEXT_CHATS = [
    [{"role": "user", "parts": [{"text": "  Tell me where the train goes; it's 12345 km.\n"}]}],
    [
        {"role": "system", "parts": [{"text": "Answer in one sentence."}]},
        {"role": "user", "parts": [{"text": "What is the sea? 🌊 – naïve 東京 café"}]},
        {"role": "assistant", "parts": [{"text": "<think>\nIt is large.\n</think>\n\n The sea is blue. "}]},
        {"role": "user", "parts": [{"text": " Und die Häuser\nüber dem Fluß: 3.14? "}]},
    ],
    [
        {"role": "user", "parts": [{"text": "How many dogs?"}]},
        {"role": "assistant", "parts": [{"text": "3 dogs."}]},
        {"role": "user", "parts": [{"text": "Are there 12 people?"}]},
    ],
]


def with_pictures(messages, images):
    def part(p):
        return {"type": "image", "image": images[p["image"]]} if "image" in p else {"type": "text", "text": p["text"]}

    return [{"role": message["role"], "content": [part(p) for p in message["parts"]]} for message in messages]


def vision_prompt(processor, messages, images):
    return dict(
        processor.apply_chat_template(
            with_pictures(messages, images), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    )


def vision_case(processor, messages, images):
    rendered = processor.apply_chat_template(with_pictures(messages, images), add_generation_prompt=True, tokenize=False)
    ids = vision_prompt(processor, messages, images)["input_ids"][0].tolist()
    return {"messages": messages, "rendered": rendered, "token_ids": ids}


def text_case(tokenizer, messages):
    plain = [{"role": message["role"], "content": message["parts"][0]["text"]} for message in messages]
    rendered = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=False)
    return {"messages": messages, "rendered": rendered, "token_ids": ids}


# ---------------------------------------------------------------------------------------------------------------- families


def vision_language_model(
    folder, images, model_class, make_model, processor, dtype, seed, vision, trace_picture, old_words, generation, finish=None
):
    """`vision(model, inputs)` gives the tensors of the trace that come before the decoder."""
    messages = vision_chats(trace_picture)
    inputs = vision_prompt(processor, messages[0], images)
    write_model(folder, search(make_model, inputs, processor.tokenizer, dtype, seed), dtype, generation, old_words)
    if finish is not None:
        finish(folder)
    model = read_model(folder, model_class)
    tensors, margin = trace(model, inputs, processor.tokenizer)
    pixel_values = inputs["pixel_values"].flatten(0, -4)
    tensors |= {"trace.pixel_values": pixel_values} | vision(model, inputs)
    splits = getattr(processor.image_processor, "do_image_splitting", False)
    description = {
        "transformers": transformers.__version__,
        "image_processor_backend": "pil",
        "trace_picture": trace_picture,
        "smallest_greedy_margin": round(margin, 4),
        "chat": [vision_case(processor, chat, images) for chat in messages],
    }
    save_expected(folder, picture_tensors(processor.image_processor, images, splits) | tensors, description)


def idefics_vision(model, inputs):
    encoder = model.model.vision_model
    with HiddenStates(encoder.encoder.layers) as hidden, HiddenStates([encoder.post_layernorm]) as last:
        tokens = model.get_image_features(inputs["pixel_values"], inputs["pixel_attention_mask"]).pooler_output
    return {
        "trace.vision_hidden_states": torch.stack(hidden.states),
        "trace.vision_last_hidden_state": last.states[-1],
        "trace.image_tokens": torch.cat(list(tokens)).flatten(0, -2),
    }


def llava_vision(model, inputs):
    layer, strategy = model.config.vision_feature_layer, model.config.vision_feature_select_strategy
    with HiddenStates(model.model.vision_tower.encoder.layers) as hidden:
        tokens = torch.cat(model.get_image_features(inputs["pixel_values"]).pooler_output)
    used = hidden.states[: len(hidden.states) + layer + 1]
    selected = used[-1][:, 1:] if strategy == "default" else used[-1]
    assert torch.equal(model.model.multi_modal_projector(selected).flatten(0, -2), tokens)
    return {
        "trace.vision_hidden_states": torch.stack(used),
        "trace.vision_last_hidden_state": selected,
        "trace.image_tokens": tokens,
    }


def idefics_family(folder, images, model_class, config_class, image_processor_class, tokenizer, named, template, template_in, tied, seed):
    folder.mkdir(parents=True)
    name = image_processor_class.__name__.removesuffix("ImageProcessorPil")
    write_tokenizer(
        folder, tokenizer, named, template, template_in, "GPT2Tokenizer" if tied else "PreTrainedTokenizerFast", f"{name}Processor",
        **({"add_prefix_space": False} if tied else {}),
    )
    image_processor_class(size={"longest_edge": 64}, max_image_size={"longest_edge": 16}).save_pretrained(folder)
    edit_json(folder / "preprocessor_config.json", lambda value: value.update(processor_class=f"{name}Processor"))
    write_json(folder / "processor_config.json", {"image_seq_len": 4, "processor_class": f"{name}Processor"})
    # SmolVLMProcessor writes the same prompt for pictures, and asks for packages that only videos need.
    processor = Idefics3Processor(
        image_processor_class.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder), image_seq_len=4, chat_template=template
    )
    ids = {key: tokenizer.token_to_id(token) for key, token in named.items()}
    end = tokenizer.token_to_id("<end_of_utterance>")
    text = LlamaConfig(
        **SMALL_TEXT, num_key_value_heads=2, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=2048, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0 if tied else 500000.0}, tie_word_embeddings=tied,
        bos_token_id=ids["bos_token"], eos_token_id=end, pad_token_id=ids["pad_token"],
    )
    config = config_class(
        text_config=text.to_dict(), vision_config=dict(SMALL_VISION, num_hidden_layers=2, image_size=16), scale_factor=2,
        image_token_id=tokenizer.token_to_id("<image>"), tie_word_embeddings=tied, pad_token_id=ids["pad_token"],
    )
    config._attn_implementation = "eager"
    generation = dict(bos_token_id=ids["bos_token"], eos_token_id=end, pad_token_id=ids["pad_token"])

    def short_vision(folder):
        defaults = Idefics3VisionConfig()
        edit_json(folder / "config.json", lambda value: value.update(vision_config=leave_out_defaults(value["vision_config"], defaults)))

    vision_language_model(
        folder, images, model_class, lambda: model_class(config), processor, torch.bfloat16, seed, idefics_vision, "strip", not tied, generation,
        None if tied else short_vision,
    )


def smolvlm(folder, images):
    last = ["<global-img>", *ROW_COL, "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    named = {"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>"}
    idefics_family(
        folder, images, SmolVLMForConditionalGeneration, SmolVLMConfig, SmolVLMImageProcessorPil, smollm_tokenizer(last), named,
        SMOLVLM_TEMPLATE, "chat_template.jinja", True, 1000,
    )


def idefics3(folder, images):
    last = ["<global-img>", *ROW_COL, "<|pad|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    named = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
    idefics_family(
        folder, images, Idefics3ForConditionalGeneration, Idefics3Config, Idefics3ImageProcessorPil, llama3_tokenizer(last), named,
        IDEFICS3_TEMPLATE, "chat_template.json", False, 2000,
    )


def llava_family(folder, images, tokenizer, template, image_processor, text, vision, extra, old_words, generation, dtype, seed, finish=None):
    image_processor.save_pretrained(folder)
    edit_json(folder / "preprocessor_config.json", lambda value: value.update(processor_class="LlavaProcessor"))
    parameters = {
        "num_additional_image_tokens": extra["num_additional_image_tokens"], "patch_size": 4,
        "vision_feature_select_strategy": extra["vision_feature_select_strategy"],
    }
    write_json(folder / "processor_config.json", {"image_token": "<image>", **parameters, "processor_class": "LlavaProcessor"})
    processor = LlavaProcessor(
        type(image_processor).from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder), chat_template=template, **parameters
    )
    config = LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=tokenizer.token_to_id("<image>"), image_seq_length=64,
        vision_feature_layer=extra["vision_feature_layer"], vision_feature_select_strategy=extra["vision_feature_select_strategy"],
        tie_word_embeddings=text.tie_word_embeddings,
    )
    config._attn_implementation = "eager"
    vision_language_model(
        folder, images, LlavaForConditionalGeneration, lambda: LlavaForConditionalGeneration(config), processor, dtype, seed, llava_vision,
        "small", old_words, generation, finish,
    )


def llava(folder, images):
    folder.mkdir(parents=True)
    tokenizer = llama2_tokenizer(["<image>", "<pad>"])
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write_tokenizer(
        folder, tokenizer, named, LLAVA_TEMPLATE, "chat_template.json", "LlamaTokenizer", "LlavaProcessor",
        add_bos_token=True, add_eos_token=False, legacy=False,
    )
    # Rows beyond the tokenizer's, as in the hub's 32064 for 32002 tokens.
    text = LlamaConfig(**SMALL_TEXT, vocab_size=math.ceil(tokenizer.get_vocab_size() / 8 + 1) * 8, rms_norm_eps=1e-5, max_position_embeddings=4096)
    vision = CLIPVisionConfig(**SMALL_VISION, num_hidden_layers=3, image_size=32, projection_dim=24)

    def finish(folder):
        """The older names of tensors; only what is not the default, as in llava-1.5-7b-hf."""
        weights = load_torch_file(folder / "model.safetensors")
        weights = {
            name.replace("vision_tower.", "vision_tower.vision_model.") if name.startswith("vision_tower.") else name: value
            for name, value in weights.items()
        }
        save_torch_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

        def edit(config):
            config["text_config"] = leave_out_defaults(config["text_config"], LlamaConfig())
            config["vision_config"] = leave_out_defaults(config["vision_config"], CLIPVisionConfig())
            for key in ("image_seq_length", "multimodal_projector_bias"):
                del config[key]
            config |= {"ignore_index": -100, "pad_token_id": tokenizer.token_to_id("<pad>"), "vocab_size": text.vocab_size}

        edit_json(folder / "config.json", edit)

    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    extra = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    generation = dict(bos_token_id=1, eos_token_id=2, pad_token_id=tokenizer.token_to_id("<pad>"))
    llava_family(folder, images, tokenizer, LLAVA_TEMPLATE, image_processor, text, vision, extra, True, generation, torch.float16, 3000, finish)


def llava_qwen2(folder, images):
    folder.mkdir(parents=True)
    tokenizer = qwen_tokenizer(["<image>"])
    named = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
    write_tokenizer(
        folder, tokenizer, named, LLAVA_QWEN2_TEMPLATE, "chat_template.jinja", "Qwen2Tokenizer", "LlavaProcessor",
        add_prefix_space=False, errors="replace", split_special_tokens=False,
    )
    end = tokenizer.token_to_id("<|im_end|>")
    text = Qwen2Config(
        **SMALL_TEXT, num_key_value_heads=2, vocab_size=tokenizer.get_vocab_size(), tie_word_embeddings=True, max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, eos_token_id=end, bos_token_id=tokenizer.token_to_id("<|endoftext|>"),
    )
    vision = SiglipVisionConfig(**SMALL_VISION, num_hidden_layers=2, image_size=32, vision_use_head=False)
    extra = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 0}
    generation = dict(eos_token_id=[end, tokenizer.token_to_id("<|endoftext|>")], pad_token_id=tokenizer.token_to_id("<|endoftext|>"))
    image_processor = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    llava_family(folder, images, tokenizer, LLAVA_QWEN2_TEMPLATE, image_processor, text, vision, extra, False, generation, torch.bfloat16, 4000)


def decoder(
    folder, model_class, make_config, tokenizer, named, template, template_in, tokenizer_class, dtype, seed, generation, old_words, **more
):
    folder.mkdir(parents=True)
    prefix_space = {"add_prefix_space": False} if "Qwen" in tokenizer_class else {}
    write_tokenizer(folder, tokenizer, named, template, template_in, tokenizer_class, **prefix_space)
    loaded = PreTrainedTokenizerFast.from_pretrained(folder)
    config = make_config()
    config._attn_implementation = "eager"
    special = set(tokenizer.get_added_tokens_decoder())
    usable = [i for i in range(tokenizer.get_vocab_size()) if i not in special]
    picks = torch.randint(len(usable), (40,), generator=torch.Generator().manual_seed(seed))
    inputs = {"input_ids": torch.tensor([[usable[i] for i in picks]])}
    write_model(folder, search(lambda: model_class(config), inputs, loaded, dtype, seed), dtype, generation, old_words, **more)
    model = read_model(folder, model_class)
    tensors, margin = trace(model, inputs, loaded)
    description = {
        "transformers": transformers.__version__,
        "smallest_greedy_margin": round(margin, 4),
        "chat": [text_case(loaded, chat) for chat in TEXT_CHATS],
    }
    save_expected(folder, tensors, description)


def llamas(out):
    tokenizer = llama3_tokenizer(["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"])
    begin, end, eot = (tokenizer.token_to_id(f"<|{name}|>") for name in ("begin_of_text", "end_of_text", "eot_id"))
    named = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    sizes = dict(
        **SMALL_TEXT, num_key_value_heads=2, vocab_size=tokenizer.get_vocab_size(), rms_norm_eps=1e-5, bos_token_id=begin, eos_token_id=[end, eot],
    )
    # Of the four wavelengths one is kept, one is between, two are stretched.
    rope = {
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    generation = dict(bos_token_id=begin, eos_token_id=[end, eot], do_sample=True, temperature=0.6, top_p=0.9)
    decoder(
        out / "llama", LlamaForCausalLM, lambda: LlamaConfig(**sizes, rope_parameters=rope, max_position_embeddings=256, tie_word_embeddings=True),
        tokenizer, named, LLAMA_TEMPLATE, "chat_template.jinja", "PreTrainedTokenizerFast", torch.float32, 5000, generation, False,
    )
    decoder(
        out / "llama_sharded", LlamaForCausalLM, lambda: LlamaConfig(**sizes, attention_bias=True, mlp_bias=True, max_position_embeddings=256),
        tokenizer, named, LLAMA_TEMPLATE, "tokenizer_config.json", "PreTrainedTokenizerFast", torch.bfloat16, 6000, generation, True,
        max_shard_size="30KB",
    )


def qwens(out):
    named = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    tokenizer = qwen_tokenizer()
    text_end, end = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    sizes = dict(
        **SMALL_TEXT, num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True, rope_parameters=rope, bos_token_id=text_end,
        eos_token_id=end,
    )
    generation = dict(
        bos_token_id=text_end, pad_token_id=text_end, eos_token_id=[end, text_end], do_sample=True, repetition_penalty=1.1, temperature=0.7,
        top_p=0.8, top_k=20,
    )
    # Rows beyond the tokenizer's, as in the hub's 151936 for 151646 tokens.
    rows = math.ceil(tokenizer.get_vocab_size() / 16 + 0.5) * 16
    decoder(
        out / "qwen2", Qwen2ForCausalLM, lambda: Qwen2Config(**sizes, vocab_size=rows), tokenizer, named, QWEN2_TEMPLATE, "tokenizer_config.json",
        "Qwen2Tokenizer", torch.bfloat16, 7000, generation, True,
    )
    tokenizer = qwen_tokenizer(["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"])
    # These are tokens of their own, but not special: they stay in the text.
    marks = json.loads(tokenizer.to_str())
    for token in marks["added_tokens"]:
        token["special"] = token["content"].startswith("<|")
    tokenizer = Tokenizer.from_str(json.dumps(marks))
    decoder(
        out / "qwen3", Qwen3ForCausalLM, lambda: Qwen3Config(**sizes, vocab_size=tokenizer.get_vocab_size(), head_dim=16), tokenizer, named,
        QWEN3_TEMPLATE, "chat_template.jinja", "Qwen2Tokenizer", torch.bfloat16, 8000, generation | {"repetition_penalty": 1.0}, False,
    )


def encoder(folder, images, model, processor, seed, layers, encode, dtype=torch.float32, old_words=False, finish=None):
    """`encode(model, pixel_values)` gives (last hidden state, pooled)."""
    folder.mkdir(parents=True)
    processor.save_pretrained(folder)
    write_model(folder, randomize(model, torch.Generator().manual_seed(seed)), dtype, old_words=old_words)
    if finish is not None:
        finish(folder)
    processor = type(processor).from_pretrained(folder)
    model = read_model(folder, type(model))
    pixel_values = torch.from_numpy(views(processor, images["small"]))
    with HiddenStates(layers(model)) as hidden:
        last, pooled = encode(model, pixel_values)
    tensors = picture_tensors(processor, images, False) | {
        "trace.pixel_values": pixel_values,
        "trace.vision_hidden_states": torch.stack(hidden.states),
        "trace.vision_last_hidden_state": last,
        "trace.pooled": pooled,
    }
    save_expected(folder, tensors, {"transformers": transformers.__version__, "image_processor_backend": "pil", "trace_picture": "small"})


def encoders(out, images):
    vision = dict(SMALL_VISION, num_hidden_layers=2, image_size=24)
    text = dict(
        hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=1, vocab_size=16, max_position_embeddings=8,
        bos_token_id=14, eos_token_id=15,
    )
    clip_processor = lambda: CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})

    def encode_clip(model, pixel_values):
        output = model.vision_model(pixel_values)
        return output.last_hidden_state, model.visual_projection(output.pooler_output)

    def old_processor(folder):
        """preprocessor_config.json of openai/clip-vit-base-patch32."""
        write_json(folder / "preprocessor_config.json", {
            "crop_size": 24, "do_center_crop": True, "do_normalize": True, "do_resize": True, "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "resample": 3, "size": 24,
        })

    clip = CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    clip._attn_implementation = "eager"
    encoder(
        out / "clip", images, CLIPModel(clip), clip_processor(), 9000, lambda model: model.vision_model.encoder.layers,
        encode_clip, finish=old_processor,
    )

    def encode_projected(model, pixel_values):
        output = model(pixel_values)
        return output.last_hidden_state, output.image_embeds

    config = CLIPVisionConfig(**vision, projection_dim=20, hidden_act="gelu")
    encoder(
        out / "clip_vision", images, CLIPVisionModelWithProjection(config), clip_processor(), 9100,
        lambda model: model.vision_model.encoder.layers, encode_projected, torch.float16,
    )

    def encode_pooled(model, pixel_values):
        output = model(pixel_values)
        return output.last_hidden_state, output.pooler_output

    siglip = SiglipConfig(text_config=text, vision_config=vision)
    encoder(
        out / "siglip", images, SiglipModel(siglip), SiglipImageProcessorPil(size={"height": 24, "width": 24}), 9200,
        lambda model: model.vision_model.encoder.layers, lambda model, pixel_values: encode_pooled(model.vision_model, pixel_values),
    )
    # Positions for 9 x 9 patches and pictures of 6 x 6, as 518 and 224 are on the hub; the other way round for the giant.
    bit = lambda size: BitImageProcessorPil(size={"shortest_edge": size + 4}, crop_size={"height": size, "width": size})
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, patch_size=4)
    layers = lambda model: model.encoder.layer
    encoder(out / "dinov2", images, Dinov2Model(Dinov2Config(**sizes, image_size=36)), bit(24), 9300, layers, encode_pooled, old_words=True)
    registers = Dinov2WithRegistersConfig(**sizes, image_size=36, num_register_tokens=4)
    encoder(out / "dinov2_registers", images, Dinov2WithRegistersModel(registers), bit(24), 9400, layers, encode_pooled)
    giant = Dinov2Config(**sizes, image_size=20, use_swiglu_ffn=True)
    encoder(out / "dinov2_giant", images, Dinov2Model(giant), bit(28), 9500, layers, encode_pooled)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for folder in out.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    images = pictures(out / "pictures")
    with torch.no_grad():
        smolvlm(out / "smolvlm", images)
        idefics3(out / "idefics3", images)
        llava(out / "llava", images)
        llava_qwen2(out / "llava_qwen2", images)
        llamas(out)
        qwens(out)
        encoders(out, images)
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        size = sum(path.stat().st_size for path in folder.iterdir())
        assert size < 400_000, f"{folder.name}: {size} bytes"
        print(f"{folder.name:20} {size / 1000:6.0f} kB")


if __name__ == "__main__":
    main()
