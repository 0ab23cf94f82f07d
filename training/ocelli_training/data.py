"""Batches for training, drawn afresh by worker processes: seeds never repeat, so no scene is seen twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from .processes import rank
from .scenes import Library, Scene, crop, sample_scene


class Samples(IterableDataset):
    """Endless samples of `make(rng)`; each worker, each process and each run (`seed`) has a random stream of its own."""

    def __init__(self, make: Callable[[np.random.Generator], dict], seed: int) -> None:
        self.make, self.seed, self.rank = make, seed, rank()

    def __iter__(self) -> Iterator[dict]:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, info.id if info else 0, self.rank])
        while True:
            yield self.make(rng)


def loader(make, batch_size: int, seed: int, workers: int, collate=None) -> Iterator:
    data = Samples(make, seed)
    options = {"prefetch_factor": 4, "persistent_workers": True} if workers else {}
    return iter(DataLoader(data, batch_size=batch_size, num_workers=workers, collate_fn=collate, **options))


def pixels(image: np.ndarray) -> torch.Tensor:
    """`[side, side, 3]` u8 -> `[3, side, side]` in -1..1, as preprocessor_config.json says (mean 0.5, std 0.5)."""
    return torch.from_numpy(image).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


def zoomed_scene(rng: np.random.Generator, library: Library) -> Scene:
    """What a 224 window might see of a larger scene: a random square of an ordinary one that shows at least one object."""
    for _ in range(8):
        scene = sample_scene(rng, library, "ordinary", augment=True)
        size = float(rng.uniform(0.3, 0.9))
        x0, y0 = (float(v) for v in rng.uniform(0, 1 - size, 2))
        part = crop(scene, x0, y0, size)
        if part.objects:
            return part
    return scene
