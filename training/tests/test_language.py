"""Captions, questions, and reading them back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ocelli_training.blank import blank_library
from ocelli_training.chat import IGNORE, NOTHING, NOUN_WEIGHT, PAD, PLACE_WEIGHT, Chat, Sequence, Turn, collate
from ocelli_training.fetching import ABSENT, Things
from ocelli_training.language import QUESTION_KINDS, caption, detailed_caption, noun_phrase, questions
from ocelli_training.nouns import MAN_MADE, NOUN_INDEX, NOUNS
from ocelli_training.parsing import parse_caption
from ocelli_training.scenes import KINDS, sample_scene
from ocelli_training.train_language import EARLY_SHARE, HALF_UNKNOWN, SURE, out_of_turn, turns_of, unsure
from ocelli_training.truth import groups, place, relation

TOKENIZER = Path(__file__).resolve().parents[2] / "assets" / "nano" / "tokenizer.json"


@pytest.fixture(scope="module")
def spoken():
    """Scenes of all nouns with a caption each."""
    rng = np.random.default_rng(0)
    library = blank_library()
    made = [sample_scene(rng, library, kind) for kind in KINDS for _ in range(1500)]
    return [(scene, caption(scene, rng)) for scene in made]


def test_the_nouns_are_all_there():
    assert len(NOUNS) == 264
    assert MAN_MADE <= NOUN_INDEX.keys()


def test_captions_are_read_back_as_they_were_meant(spoken):
    for scene, text in spoken:
        read = parse_caption(text)
        by_noun = {group.noun.word: group for group in groups(scene)}
        assert read.objects == Counter(NOUNS[thing.noun].word for thing in scene.objects), text
        assert read.background_colours in ((), scene.background.colours), text
        assert read.pattern in (None, scene.background.pattern), text
        for noun, word in read.colours.items():
            assert by_noun[noun].colour == word, text
        for first, word, second in read.relations:
            assert relation(by_noun[first].single, by_noun[second].single) == word, text
        for noun, word in read.places:
            assert place(by_noun[noun].single) == word, text


def test_a_detailed_caption_says_all_that_is_clear_and_nothing_else(spoken):
    for scene, _ in spoken:
        text = detailed_caption(scene)
        read, found = parse_caption(text), groups(scene)
        assert read.objects == Counter(NOUNS[thing.noun].word for thing in scene.objects), text
        assert read.colours == {group.noun.word: group.colour for group in found if group.colour}, text
        assert read.places == [(g.noun.word, place(g.single)) for g in found if g.single and place(g.single)], text
        by_noun = {group.noun.word: group.single for group in found}
        assert all(relation(by_noun[first], by_noun[second]) == word for first, word, second in read.relations), text


def test_captions_mostly_say_what_there_is_to_say(spoken):
    read = [parse_caption(text) for _, text in spoken]
    assert np.mean([bool(claims.background_colours) for claims in read]) > 0.9
    assert np.mean([claims.pattern is not None for claims in read]) > 0.85
    assert np.mean([bool(claims.relations or claims.places) for claims in read]) > 0.3


def test_captions_of_training_say_only_the_clearest_directions(spoken):
    rng, seldom, often = np.random.default_rng(1), 0, 0
    for scene, text in spoken[:1500]:
        by_noun = {group.noun.word: group.single for group in groups(scene)}
        turns = turns_of(scene, rng)
        for turn in turns:
            if turn.prompt.startswith("Describe"):
                for first, word, second in parse_caption(turn.answer).relations:
                    assert relation(by_noun[first], by_noun[second], SURE) == word, turn.answer
        seldom += bool(parse_caption(turns[0].answer).relations)
        often += bool(parse_caption(text).relations)
    assert 0.5 * often < seldom < 0.95 * often


def test_a_caption_says_a_direction_of_the_two_things_that_it_names_first(spoken):
    told = [(list(read.objects), read.relations) for read in (parse_caption(text) for _, text in spoken) if read.relations]
    assert len(told) > 300
    for named, relations in told:
        assert [(first, second) for first, _, second in relations] == [tuple(named[:2])]


def test_training_asks_more_often_about_two_nouns_of_which_one_is_not_there(spoken):
    def unknown(half_unknown: float) -> float:
        rng = np.random.default_rng(2)
        several = [scene for scene, _ in spoken[:1500] if sum(group.single is not None for group in groups(scene)) > 1]
        asked = [questions(scene, rng, 1, {"relation": 1.0}, half_unknown) for scene in several]
        return np.mean([answer.startswith("There") for made in asked for _, answer, _ in made])

    assert unknown(0.12) < 0.3, "pairs without a clear direction are drawn again, so that more than 0.12 are of this kind"
    assert unknown(HALF_UNKNOWN) > 1.4 * unknown(0.12)


def test_captions_begin_large_and_end_with_a_stop(spoken):
    for _, text in spoken:
        assert text[0].isupper() and text.endswith(".") and "  " not in text and " ." not in text
        assert not any(f" a {vowel}" in text for vowel in "aeio"), text


@pytest.mark.parametrize(
    ("noun", "count", "colour", "phrase"),
    [
        ("apple", 1, None, "an apple"), ("apple", 1, "red", "a red apple"), ("knife", 2, "grey", "two grey knives"),
        ("scissors", 1, None, "a pair of scissors"), ("grapes", 2, "purple", "two bunches of purple grapes"),
        ("sheep", 3, None, "three sheep"), ("unicorn", 1, None, "a unicorn"), ("hourglass", 1, None, "an hourglass"),
        ("umbrella", 1, "orange", "an orange umbrella"), ("popcorn", 1, None, "some popcorn"),
    ],
)  # fmt: skip
def test_phrases_are_good_english(noun, count, colour, phrase):
    assert noun_phrase(NOUNS[NOUN_INDEX[noun]], count, colour) == phrase
    assert parse_caption(phrase).objects == {noun: count}


@pytest.mark.parametrize("text", ["", "...", "the the of of background", "🦊 <turn_end> two", "a a a red red on the", "Two pairs of"])
def test_nonsense_claims_nothing_and_does_not_raise(text):
    assert parse_caption(text).objects == Counter()


def test_example_captions_are_understood():
    read = parse_caption("Two cats and a pizza on a striped green and white background.")
    assert read.objects == {"cat": 2, "pizza": 1}
    assert (read.background_colours, read.pattern) == (("green", "white"), "striped")
    assert parse_caption("A red apple to the left of a dog on a blue background.").relations == [("apple", "to the left of", "dog")]
    assert parse_caption("A fox at the bottom right of a plain yellow background.").places == [("fox", "bottom right")]
    assert parse_caption("A hot dog above a teddy bear.").objects == {"hot dog": 1, "teddy bear": 1}


@pytest.fixture(scope="module")
def asked(spoken):
    rng = np.random.default_rng(1)
    return [(scene, questions(scene, rng, 6)) for scene, _ in spoken]


def test_every_kind_of_question_is_asked(asked):
    kinds = Counter(kind for _, found in asked for _, _, kind in found)
    assert kinds.keys() == QUESTION_KINDS.keys()
    assert min(kinds.values()) > 0.02 * kinds.total()


def test_yes_and_no_are_balanced_and_true(asked):
    answers = Counter()
    for scene, found in asked:
        present = {NOUNS[thing.noun].word for thing in scene.objects}
        for question, answer, kind in found:
            if kind == "exists":
                answers[answer] += 1
                noun = set(parse_caption(question.removeprefix("Is there ").removeprefix("Are there any ")).objects)
                assert (answer == "Yes.") == bool(noun & present), (question, answer)
    assert 0.45 < answers["Yes."] / answers.total() < 0.55


def test_answers_are_true(asked):
    for scene, found in asked:
        by_noun = {group.noun.word: group for group in groups(scene)}
        for question, answer, kind in found:
            if kind == "list":
                assert parse_caption(answer).objects == {word: len(group.members) for word, group in by_noun.items()}
            elif answer.startswith("There "):
                (noun,) = parse_caption(answer).objects
                assert noun not in by_noun, (question, answer)
            elif kind == "relation":
                first, second = parse_caption(question.replace("relative to", "and")).objects or (None, None)
                word = relation(by_noun[first].single, by_noun[second].single) if first else None
                assert word is None or answer == f"{word.removesuffix(' of').capitalize()}."


def test_questions_about_one_scene_differ(asked):
    for _, found in asked:
        assert len({question for question, _, _ in found}) == len(found)


def test_the_chat_finds_the_nouns_that_a_text_names():
    chat = Chat(TOKENIZER)
    ids = chat.encode("Two hot dogs and a dog on a plain red background.")
    found = {chat.decode(ids[first : last + 1]).strip(): NOUNS[noun].word for first, last, noun in chat.named(ids)}
    assert found == {"hot dogs": "hot dog", "dog": "dog"}


def test_a_sequence_knows_what_its_nouns_name_and_what_comes_next(spoken):
    scene = next(scene for scene, *_ in spoken if len(groups(scene)) == 2)
    chat, things = Chat(TOKENIZER), Things.of(scene, 3)
    first, second = (group.noun for group in groups(scene))
    missing = next(noun for noun in NOUNS if noun not in (first, second) and noun.plural != noun.word)
    sequence = Sequence.of(chat, [9], [Turn(f"Where is the {second.word}?", f"A {first.word} and a red {second.word}.")], things)
    assert [row for row in sequence.named if row != NOTHING] == [1, 0, 1]
    # The first is the end of the question's turn, which the answer's first word follows; a noun's last token tells the word after it, "above" perhaps.
    following = [(chat.decode([token]).strip(), row) for token, row in zip(sequence.ids, sequence.next_named, strict=True) if row != NOTHING]
    assert [row for _, row in following] == [0] * 2 + [1] * 4
    tokens = [token for token, _ in following]
    assert tokens[1] == "A" and first.word.endswith(tokens[2]) and tokens[3:] == ["and", "a", "red"]
    absent = Sequence.of(chat, [9], [Turn(f"Is there a {missing.word}?", "No.")], things)
    assert [row for row in absent.named if row != NOTHING] == [ABSENT]


def test_of_an_answer_the_nouns_and_what_follows_them_count_more(spoken):
    scene = next(scene for scene, *_ in spoken if len(groups(scene)) == 2)
    chat, (first, second) = Chat(TOKENIZER), (group.noun.word for group in groups(scene))
    sequence = Sequence.of(chat, [9], [Turn(f"Where is the {first}?", f"A {first} above a {second}.")], Things.of(scene, 3))
    weight_of = [(chat.decode([label]).strip(), weight) for label, weight in zip(sequence.labels, sequence.weights, strict=True) if weight]
    begins = [chat.decode(chat.encode(f" {noun}")[:1]).strip() for noun in (first, second)]
    # With "a" as well: a colour in place of a noun weighs as much.
    assert [word for word, weight in weight_of if weight == NOUN_WEIGHT] == ["A", begins[0], "a", begins[1], "."]
    assert dict(weight_of)["above"] == PLACE_WEIGHT, "a direction that follows a noun keeps its own weight"


def test_a_sequence_knows_which_nouns_an_answer_compares(spoken):
    scene = next(scene for scene, *_ in spoken if len(groups(scene)) == 2)
    chat, things = Chat(TOKENIZER), Things.of(scene, 3)
    first, second = (group.noun.word for group in groups(scene))

    def compared(question: str, answer: str) -> list[tuple[str, str, str]]:
        """Of each token of the answer, and the one before it: the text of the two nouns, as far as they are known, and of the token."""
        sequence = Sequence.of(chat, [9], [Turn(question, answer)], things)
        said = [""] + [chat.decode([token]).strip() for token in sequence.ids]
        pointers = zip(sequence.first_compared, sequence.second_compared, said[1:], strict=True)
        return [(said[a + 1], said[b + 1], token) for a, b, token in pointers if a != NOTHING or b != NOTHING]

    end_of = {noun: chat.decode(chat.encode(f" {noun}")[-1:]).strip() for noun in (first, second)}
    asked = compared(f"Where is the {second} relative to the {first}?", "Above.")
    assert {(a, b) for a, b, _ in asked} == {(end_of[second], end_of[first])}
    assert [token for *_, token in asked][1:3] == ["Above", "."]
    beside = compared(f"What is above the {first}?", f"A {second}.")
    assert {(a, b) for a, b, _ in beside} == {(end_of[first], "")}
    caption = compared("Describe the picture.", f"A {first} above a {second}.")
    assert [(a, token) for a, _, token in caption] == [(end_of[first], token) for token in (end_of[first], "above", "a")]


def test_a_sequence_knows_which_nouns_are_said_again(spoken):
    scene = next(scene for scene, *_ in spoken if len(groups(scene)) == 2)
    chat, (first, second) = Chat(TOKENIZER), (group.noun.word for group in groups(scene))
    sequence = Sequence.of(chat, [9], [Turn("Describe the picture.", f"A {first} and a {second}. The {second} is on the left.")], Things.of(scene, 3))
    again = [(sequence.ids[at], chat.decode([token]).strip()) for at, token in zip(sequence.repeated, sequence.ids, strict=True) if at != NOTHING]
    assert {token for token, _ in again} == {chat.encode(f" {second}")[0]}
    assert [word for _, word in again][1:] == [".", "The"], "from the end of its first mention on"


def test_turns_that_find_no_room_are_left_out():
    chat, turns = Chat(TOKENIZER), [Turn(f"How many {word} are there?", "Two.") for word in ("cats", "dogs", "bears", "crabs")]
    whole = Sequence.of(chat, [9], turns)
    short = Sequence.of(chat, [9], turns, length=len(whole.ids) - 1)
    assert short.ids == Sequence.of(chat, [9], turns[:3]).ids
    batch = collate([short], len(whole.ids))
    assert batch["ids"].shape == (1, len(whole.ids)) and batch["ids"][0, -1] == PAD


def test_of_two_things_equally_far_to_the_left_either_is_named_first(spoken):
    scene = next(scene for scene, *_ in spoken if len(groups(scene)) == 2 and len(scene.objects) == 2)
    rng, (first, second) = np.random.default_rng(0), scene.objects
    for gap, orders in ((0.05, 2), (0.5, 1)):
        apart = replace(scene, objects=(replace(first, cx=0.4), replace(second, cx=0.4 + gap)))
        unclear = [unsure(apart, rng) for _ in range(50)]
        assert len({tuple(group.noun.word for group in groups(scene)) for scene in unclear}) == orders
        assert {(thing.cx, thing.cy) for scene in unclear for thing in scene.objects} == {(thing.cx, thing.cy) for thing in apart.objects}


def test_often_one_noun_is_named_before_its_turn_and_what_comes_after_it_keeps_its_order(spoken):
    rng, early = np.random.default_rng(0), 0
    several = [scene for scene, *_ in spoken[:600] if len(groups(scene)) > 1]
    for scene in several:
        told, moved = out_of_turn(scene, rng)
        before, after = ([group.noun.index for group in groups(it)] for it in (scene, told))
        early += bool(moved)
        assert (before == after) == (not moved) and len(moved) <= 1
        assert [noun for noun in before if noun not in moved] == [noun for noun in after if noun not in moved]
        assert all(after.index(noun) < before.index(noun) for noun in moved)
    assert early / len(several) == pytest.approx(EARLY_SHARE, abs=0.07)
    alone = next(scene for scene, *_ in spoken if len(groups(scene)) == 1)
    assert all(out_of_turn(alone, rng) == (alone, frozenset()) for _ in range(10))


def test_a_scene_of_several_nouns_is_described_in_several_orders(spoken):
    rng, early, orders = np.random.default_rng(0), 0, []
    for scene in [scene for scene, *_ in spoken if len(groups(scene)) > 1][:200]:
        told = [turn for turn in turns_of(scene, rng, 3) if turn.prompt == "Describe the picture."]
        assert len(told) == 3
        early += sum(bool(turn.early) for turn in told)
        orders.append(len({tuple(parse_caption(turn.answer).named) for turn in told}))
    assert early / 600 == pytest.approx(EARLY_SHARE, abs=0.07)
    assert set(orders) == {1, 2, 3}
    alone = next(scene for scene, *_ in spoken if len(groups(scene)) == 1)
    assert [turn.prompt for turn in turns_of(alone, rng, 3)].count("Describe the picture.") == 1


def test_to_name_a_noun_before_its_turn_is_not_learned_but_what_follows_is(spoken):
    scene = next(scene for scene, *_ in spoken if len(groups(scene)) == 3)
    chat, (first, second, third) = Chat(TOKENIZER), (group.noun for group in groups(scene))
    def not_learned(answer: str) -> list[str]:
        sequence = Sequence.of(chat, [9], [Turn("Describe the picture.", answer, frozenset({second.index}))], Things.of(scene, 3))
        unguided = [row == NOTHING for row in sequence.next_named]
        answers = zip(sequence.labels, sequence.weights, unguided, strict=True)
        silent = [(chat.decode([label]).strip(), unguided) for label, weight, unguided in answers if label != IGNORE and not weight]
        assert all(unguided for _, unguided in silent), "nor are the heads told to look for it"
        return [word for word, _ in silent]

    begin = chat.decode(chat.encode(f" {second.word}")[:1]).strip()
    rest = f"a {first.word} and a {third.word}. The {second.word} is on the left."
    assert not_learned(f"Two red {second.word}, {rest}") == ["Two", "red", begin]
    assert not_learned(f"A {first.word}, a red {second.word} and a {third.word}.") == ["a", "red", begin]
    assert not_learned(f"A {first.word} and a {third.word}.") == []
    assert not_learned(f"A {second.word}.") == [], "alone it is in its turn"
