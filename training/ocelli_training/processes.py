"""Training in several processes, one a core (`torchrun --nproc-per-node N`): each draws and differentiates pictures of its own, and all take the
same step from the mean of their gradients.

Started without `torchrun`, there is one process and nothing here does anything.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn


def join() -> int:
    """Joins the other processes, and returns the number of this one. All begin from the same random numbers, so that they make the same weights."""
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")
        torch.manual_seed(0)
    return rank()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


@torch.no_grad()
def share_gradients(parameters: list[nn.Parameter]) -> None:
    """Gives every process the mean of the gradients; where a parameter had none in some process, that counts as zero there."""
    if not dist.is_initialized():
        return
    has = torch.tensor([float(p.grad is not None) for p in parameters])
    dist.all_reduce(has)
    shared = [p for p, count in zip(parameters, has.tolist(), strict=True) if count]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in shared])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, grad in zip(shared, flat.split([p.numel() for p in shared]), strict=True):
        p.grad = grad.view_as(p).clone()


def agreed(value: float) -> float:
    """The value that the first process has: the clock, so that all stop at one step."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return shared.item()
