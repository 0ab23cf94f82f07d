"""The estimator of RLOO against exact sums, and sampling against decoding without a cache."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from ocelli_training.chat import IMAGE, TURN_END, Chat, splice
from ocelli_training.export import PARTS, quantize_model
from ocelli_training.generate import answer
from ocelli_training.model import Ocelli, OcelliConfig, TextConfig
from ocelli_training.rloo import kl_estimate, leave_one_out, rloo_loss, token_log_probs
from ocelli_training.sampling import answer_log_probs, sample

TOKENIZER = Path(__file__).resolve().parents[2] / "assets" / "nano" / "tokenizer.json"
WORDS = 3
PAIRS = list(product(range(WORDS), repeat=2))  # all texts of the toy language: two tokens of three
KL_WEIGHT = 0.3


class Toy:
    """A language of two tokens: logits of the first, and of the second after each first."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.first = torch.randn(WORDS, generator=generator, dtype=torch.float64, requires_grad=True)
        self.second = torch.randn(WORDS, WORDS, generator=generator, dtype=torch.float64, requires_grad=True)

    def log_probs(self) -> torch.Tensor:
        """Of all texts, in the order of `PAIRS`."""
        return (self.first.log_softmax(0)[:, None] + self.second.log_softmax(1)).flatten()

    def gradient(self, value: torch.Tensor) -> torch.Tensor:
        return torch.cat([part.flatten() for part in torch.autograd.grad(value, [self.first, self.second])])


@pytest.fixture
def toy():
    rewards = torch.tensor([0.0, 1.0, 0.3, 0.9, 0.2, 0.5, 0.1, 0.7, 0.4], dtype=torch.float64)
    return Toy(0), Toy(1).log_probs().detach(), rewards


def exact_gradient(policy: Toy, reference: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """Of the expected reward less the weighted KL, summed over all texts."""
    log_probs = policy.log_probs()
    return policy.gradient((log_probs.exp() * (rewards - KL_WEIGHT * (log_probs - reference))).sum())


@pytest.mark.parametrize("count", [2, 3])
def test_the_expected_gradient_is_that_of_reward_less_kl(toy, count):
    policy, reference, rewards = toy
    log_probs = policy.log_probs()
    loss = 0.0
    for draw in product(range(len(PAIRS)), repeat=count):  # every set of answers, as often as it would be drawn
        chosen = torch.tensor(draw)
        probability = log_probs[chosen].sum().exp().detach()
        loss = loss + probability * rloo_loss(log_probs[chosen][None], reference[chosen][None], rewards[chosen][None], KL_WEIGHT)
    torch.testing.assert_close(-policy.gradient(loss), exact_gradient(policy, reference, rewards), rtol=1e-9, atol=1e-12)


def test_drawn_answers_come_near_the_exact_gradient(toy):
    policy, reference, rewards = toy
    torch.manual_seed(0)
    log_probs = policy.log_probs()
    chosen = torch.multinomial(log_probs.detach().exp(), 200_000, replacement=True).reshape(-1, 4)
    estimate = -policy.gradient(rloo_loss(log_probs[chosen], reference[chosen], rewards[chosen], KL_WEIGHT))
    torch.testing.assert_close(estimate, exact_gradient(policy, reference, rewards), rtol=0, atol=5e-3)


def test_the_baseline_leaves_the_mean_gradient_and_takes_variance(toy):
    policy, _, rewards = toy
    log_probs = policy.log_probs()
    probabilities = log_probs.detach().exp()
    plain, based = [], []
    scores = [policy.gradient(policy.log_probs()[text]) for text in range(len(PAIRS))]
    pairs = list(product(range(len(PAIRS)), repeat=2))
    for i, j in pairs:
        advantages = leave_one_out(rewards[[i, j]])
        plain.append((rewards[i] * scores[i] + rewards[j] * scores[j]) / 2)
        based.append((advantages[0] * scores[i] + advantages[1] * scores[j]) / 2)
    weights = torch.stack([probabilities[i] * probabilities[j] for i, j in pairs])[:, None]
    means = [(weights * torch.stack(kind)).sum(0) for kind in (plain, based)]
    torch.testing.assert_close(means[0], means[1], rtol=1e-9, atol=1e-12)
    spreads = [(weights * (torch.stack(kind) - mean).square()).sum() for kind, mean in zip((plain, based), means, strict=True)]
    assert spreads[1] < spreads[0]


def test_equal_rewards_teach_nothing():
    assert leave_one_out(torch.full((3, 4), 0.7)).abs().max() < 1e-6


def test_the_shown_kl_is_right_on_average_and_never_negative(toy):
    policy, reference, _ = toy
    log_probs = policy.log_probs().detach()
    estimates = kl_estimate(log_probs, reference)
    assert (estimates >= 0).all()
    torch.testing.assert_close((log_probs.exp() * estimates).sum(), (log_probs.exp() * (log_probs - reference)).sum())


@pytest.fixture(scope="module")
def chat():
    return Chat(TOKENIZER)


def small_model(quantized: bool = False) -> Ocelli:
    torch.manual_seed(0)
    text = TextConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, num_hidden_layers=3, num_kv_reuse_layers=1)
    model = Ocelli(OcelliConfig(text=text))
    if quantized:
        quantize_model(model, PARTS)
        model.decoder.quantize_kv = True
    return model.eval()


QUESTIONS = [["Describe the picture.", "How many objects are there?"], ["Is there a cat?", "Where is the dog?"]]


def prompts_of(chat: Chat, views: list[int]) -> list[list[int]]:
    return [chat.prefix(views) + chat.question(prompt) for prompts in QUESTIONS for prompt in prompts]


@pytest.mark.parametrize("quantized", [False, True])
def test_sampling_with_a_cache_says_what_decoding_without_one_says(chat, quantized):
    model = small_model(quantized)
    images = torch.randn(2, 9, 64)
    replies = sample(model.decoder, prompts_of(chat, [9]), images.repeat_interleave(2, 0), 1, 12, greedy=True)
    expected = [
        answer(model, chat, images[scene][None], prompt, 12) for scene, prompts in enumerate(QUESTIONS) for prompt in prompts
    ]
    assert [chat.decode(reply) for reply in replies] == expected


def test_answers_end_or_are_cut_and_hold_no_other_special_token(chat):
    model = small_model()
    likely = torch.zeros(1024).index_fill(0, torch.arange(IMAGE + 1), 5.0)
    model.decoder.logits = lambda hidden: model.decoder.embedding(hidden) + likely
    replies = sample(model.decoder, prompts_of(chat, [9]), torch.randn(4, 9, 64), 50, 8, torch.Generator().manual_seed(0))
    assert len(replies) == 4 * 50
    assert {len(reply) for reply in replies} >= {1, 8}
    for reply in replies:
        assert all(token > IMAGE for token in reply[:-1])
        assert reply[-1] == TURN_END or len(reply) == 8


def test_tokens_are_drawn_as_often_as_they_are_likely(chat):
    model = small_model()
    prompt, image = prompts_of(chat, [9])[0], torch.randn(1, 9, 64)
    replies = sample(model.decoder, [prompt], image, 5000, 1, torch.Generator().manual_seed(0))
    drawn = torch.bincount(torch.tensor(replies)[:, 0], minlength=1024) / len(replies)
    ids = torch.tensor([prompt])
    with torch.no_grad():
        states = model.decoder(splice(model.decoder.embedding.lookup(ids), ids, image), torch.arange(len(prompt))[None], None)
        expected = answer_log_probs(model.decoder.logits(states[0, -1])).exp()
    assert (drawn - expected).abs().max() < 0.012


def test_answers_that_share_a_picture_are_as_likely_as_each_alone(chat):
    model, images = small_model(), torch.randn(2, 9, 64)
    replies = sample(model.decoder, prompts_of(chat, [9]), images.repeat_interleave(2, 0), 3, 6, torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = token_log_probs(model.decoder, chat, [9], images, QUESTIONS, replies, 3)
        for index, reply in enumerate(replies):
            prompt = QUESTIONS[index // 6][index // 3 % 2]
            alone = token_log_probs(model.decoder, chat, [9], images[index // 6][None], [[prompt]], [reply], 1)[0]
            torch.testing.assert_close(together[index, : len(reply)], alone, rtol=1e-4, atol=1e-4)
            assert (together[index, len(reply) :] == 0).all()
