"""REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740): the estimator, and the log-probabilities that it needs.

    maximised     E[r(y)] - weight * KL(policy || reference), y the whole answer
    the reward    R_i = r(y_i) - weight * (log policy(y_i) - log reference(y_i)), taken as a number
    the baseline  of answer i: the mean reward of the other answers to its prompt
    the gradient  mean over i of (R_i - baseline_i) * grad log policy(y_i)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .chat import Chat, Sequence, collate
from .model import Decoder
from .sampling import answer_log_probs
from .train_language import answer_logits


def leave_one_out(rewards: Tensor) -> Tensor:
    """`[prompts, answers]`: each reward less the mean of the other answers' to its prompt."""
    count = rewards.shape[-1]
    return (rewards - rewards.mean(-1, keepdim=True)) * (count / (count - 1))


def rloo_loss(log_probs: Tensor, reference: Tensor, rewards: Tensor, kl_weight: float) -> Tensor:
    """The loss whose gradient is the estimate; all `[prompts, answers]`, log-probabilities of whole answers."""
    with torch.no_grad():
        advantages = leave_one_out(rewards - kl_weight * (log_probs - reference))
    return -(advantages * log_probs).mean()


def kl_estimate(log_probs: Tensor, reference: Tensor) -> Tensor:
    """The k3 estimate of the KL from each sampled token: unbiased and never negative, for showing."""
    difference = reference - log_probs
    return difference.exp() - 1 - difference


def token_log_probs(
    decoder: Decoder, chat: Chat, views: list[int], image_tokens: Tensor, questions: list[list[str]], replies: list[list[int]], count: int
) -> Tensor:
    """`[prompts * answers, longest]`: log-probabilities of the tokens of `replies`, 0 after their ends.

    `image_tokens` `[scenes, tokens, H]`; `questions` of each scene; `count` replies to each. All answers about a picture share its tokens.
    """
    left = iter(replies)
    sequences = []
    for prompts in questions:
        sequence = Sequence.of_picture(chat, views)
        for prompt in prompts:
            question = chat.question(prompt)
            for _ in range(count):
                reply = next(left)
                sequence.add_turn(question, reply, [1.0] * len(reply))
        sequences.append(sequence)
    batch = collate(sequences)
    log_probs = answer_log_probs(answer_logits(decoder, batch, image_tokens)[0])
    tokens = torch.tensor([token for reply in replies for token in reply])
    chosen = log_probs.gather(1, tokens[:, None])[:, 0]
    return torch.nn.utils.rnn.pad_sequence(chosen.split([len(reply) for reply in replies]), batch_first=True)
