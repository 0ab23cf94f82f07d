"""The tokenizer of the bundled model: 1024 byte-level BPE entries.

Any text can be encoded: 256 entries are the bytes, and `NUM_MERGES` more are what BPE learns from ordinary English. The rest are the
whole words of the model's world, leading space included, found by frequency in captions and questions about every noun. Such a
word needs no merges that build it up (`ignore_merges`, as in Llama 3), whose halfway pieces would fill the vocabulary: plain BPE of
the same size makes one token of only half the nouns.

    python -m ocelli_training.tokenizer --out ../assets/nano/tokenizer.json
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from .colours import COLOURS
from .language import caption, noun_phrase, questions
from .nouns import NOUNS
from .parsing import NUMBERS
from .scenes import sample_scene
from .blank import blank_library
from .truth import PLACES

VOCAB_SIZE = 1024
NUM_MERGES = 96  # for text about anything else
# Their ids are their positions: the Rust side and the checkpoints count on it.
SPECIAL_TOKENS = ("<pad>", "<bos>", "<turn_start>", "<turn_end>", "<image_start>", "<image_end>", "<image>")

ROLES = ("user", "assistant", "system")  # they begin each turn of the chat template

# Ordinary English: what people say around a picture, and the commonest words of any text.
ORDINARY = """Describe the picture. Describe the image in detail. Describe this scene in a few words, please. What is in this picture? What
do you see? Please tell me what is in the image. Is it the one that you can see there? Write a short caption for this photo. Which one is
it? Who is this and why? You are a helpful assistant. The user asked the assistant a question about the picture, and the assistant
answered with one sentence. Name everything that is shown. Count the animals, the food and the vehicles. Which of these things is the
biggest, the smallest, the nearest, or the furthest from the middle? What is next to it, behind it, in front of it, under it or over it?
I would like to know how many people there are and what they are doing. There was nothing more that could be said of it, but the children
were happy to see their friends again. It has been raining for most of the day, and we have not yet been outside. She will come home when
she has finished her work. Some of the other houses along this street are older than ours; none of them is very large. They had never
thought that such a thing might be possible. If you have any questions, please let me know. Can you show me where the station is? He took
his time, then went on with the story of the man who lived by the sea. All their things were put into boxes before the end of the
month. This is only a drawing, and no photograph. Answer yes or no. Think first, then answer. What should I look at next? Thank you for
helping me with that. Hello, and welcome. Nothing here is being written for the first time, so use your own words where you can. What
colour would it be in the light of the morning? The answer is that nobody knows."""


def corpus(scenes: int, seed: int = 0) -> Iterator[str]:
    """Captions, questions and answers of `scenes` scenes, after every noun, colour, number and place in its phrases."""
    library = blank_library()
    for _ in range(max(1, scenes // 400)):
        for noun in NOUNS:
            yield f"There is {noun_phrase(noun)} and {noun_phrase(noun, 2)}. The {noun.word}, the {noun.word}."
        for word in (*COLOURS, *NUMBERS, *PLACES):
            yield f"{word.capitalize()}. The {word} one, {word}."
    rng = np.random.default_rng(seed)
    for _ in range(scenes):
        scene = sample_scene(rng, library, "ordinary")
        yield caption(scene, rng)
        for question, answer, _ in questions(scene, rng, 4):
            yield question
            yield answer


def train(scenes: int = 20_000, seed: int = 0) -> Tokenizer:
    """The tokenizer; the same arguments give the same one."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

    def by_frequency(texts: Iterable[str]) -> list[str]:
        found = Counter(word for text in texts for word, _ in split.pre_tokenize_str(text))
        return [word for word, _ in sorted(found.items(), key=lambda item: (-item[1], item[0])) if len(word) > 1]

    words = [*ROLES, *by_frequency(corpus(scenes, seed)), *by_frequency([ORDINARY])]

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL_TOKENS) + 256 + NUM_MERGES,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learned.train_from_iterator([ORDINARY], trainer)
    model = json.loads(learned.to_str())["model"]

    vocab: dict[str, int] = model["vocab"]
    for word in words:
        if len(vocab) == VOCAB_SIZE:
            break
        vocab.setdefault(word, len(vocab))
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def report(tokenizer: Tokenizer, scenes: int = 2000, seed: int = 1) -> str:
    """How short captions are, and which words of the world are more than one token."""
    library, rng = blank_library(), np.random.default_rng(seed)
    lengths = [len(tokenizer.encode(caption(sample_scene(rng, library, "ordinary"), rng)).ids) for _ in range(scenes)]
    words = sorted({word for noun in NOUNS for word in noun.word.split()})
    plurals = sorted({word for noun in NOUNS for word in noun.plural.split()} - set(words))

    def split(items: list[str]) -> list[str]:
        return [word for word in items if len(tokenizer.encode(" " + word).ids) > 1]

    split_words, split_plurals = split(words), split(plurals)
    return "\n".join(
        (
            f"entries: {tokenizer.get_vocab_size()}",
            f"tokens per caption: mean {np.mean(lengths):.1f}, longest {max(lengths)}",
            f"words of singular nouns that are one token: {len(words) - len(split_words)} of {len(words)}",
            f"words of plurals that are one token: {len(plurals) - len(split_plurals)} of {len(plurals)}",
            f"tokens of a word that is split, mean: {np.mean([len(tokenizer.encode(' ' + w).ids) for w in split_words] or [0]):.2f}",
            "split: " + ", ".join("|".join(tokenizer.encode(" " + word).tokens) for word in split_words).replace("Ġ", ""),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the tokenizer.json to write")
    parser.add_argument("--scenes", type=int, default=20_000, help="scenes to learn from")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tokenizer = train(options.scenes, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(options.out))
    print(report(tokenizer))


if __name__ == "__main__":
    main()
