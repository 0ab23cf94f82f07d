"""Muon for the matrices, AdamW for the rest, and a schedule; state that resumes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .precision import has_bf16
from .processes import share_gradients
from .quant import QLinear


@torch.no_grad()
def orthogonalise(update: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest orthogonal matrix (Muon), for a stack `[matrices, rows, columns]` with rows <= columns.

    In f32 where a CPU has no fast bf16: there it takes seconds.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update / update.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    x = x.bfloat16() if has_bf16() else x
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (https://kellerjordan.github.io/posts/muon/); matrices of one shape are done together."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault((min(p.shape), max(p.shape)), []).append(p)
            for params in by_shape.values():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    nesterov = p.grad.lerp(buffer, group["momentum"])
                    updates.append(nesterov if p.shape[0] <= p.shape[1] else nesterov.T)
                for p, update in zip(params, orthogonalise(torch.stack(updates)), strict=True):
                    update = update if p.shape[0] <= p.shape[1] else update.T
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


class Optimizer:
    """Muon (momentum, orthogonalised by Newton-Schulz) for hidden matrices; AdamW for embeddings, norms, biases and quantizer scales (for all if `matrix_lr` is None).

    Muon leaves matrices of 2 bits alone: the report's recipe for them is AdamW.
    """

    def __init__(self, modules: list[nn.Module], matrix_lr: float | None, other_lr: float) -> None:
        matrices, others = [], []
        for module in modules:
            coarse = {id(layer.weight) for layer in module.modules() if isinstance(layer, QLinear) and layer.bits in (2, 4)}
            for name, p in module.named_parameters():
                if not p.requires_grad:
                    continue
                is_matrix = matrix_lr is not None and p.ndim == 2 and min(p.shape) > 16 and "embedding" not in name and "register" not in name
                is_matrix = is_matrix and id(p) not in coarse
                (matrices if is_matrix else others).append(p)
        self.parts = []
        if matrices:
            self.parts.append(Muon(matrices, matrix_lr))
        self.parts.append(torch.optim.AdamW(others, lr=other_lr, betas=(0.9, 0.98), weight_decay=0.0))
        self.base = [group["lr"] for part in self.parts for group in part.param_groups]
        self.parameters = matrices + others

    def step(self, factor: float, clip: float = 1.0) -> None:
        share_gradients(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, clip)
        groups = [group for part in self.parts for group in part.param_groups]
        for group, base in zip(groups, self.base, strict=True):
            group["lr"] = base * factor
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def schedule(progress: float, warmup: float = 0.02, floor: float = 0.05) -> float:
    """Linear warm-up, flat, then a cosine fall over the last 60%; `progress` in 0..1."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    if progress < 0.4:
        return 1.0
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min((progress - 0.4) / 0.6, 1.0)))


class Ema:
    """Exponential moving average of the parameters; with `warm_up` what a model began with is soon forgotten, as it should be of random weights."""

    def __init__(self, module: nn.Module, decay: float, warm_up: bool = True) -> None:
        self.decay, self.warm_up = decay, warm_up
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warm_up else self.decay
        for k, v in module.state_dict().items():
            if v.dtype.is_floating_point:
                self.shadow[k].lerp_(v, 1 - decay)
            else:
                self.shadow[k].copy_(v)
