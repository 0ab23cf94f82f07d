"""Several processes that train one model take the same step, from the mean of their gradients."""

import os
import socket

import torch
import torch.multiprocessing as mp
from torch import nn

from ocelli_training.optim import Optimizer
from ocelli_training.processes import agreed, join, rank, share_gradients


def in_process(number: int, port: int, results) -> None:
    os.environ.update(RANK=str(number), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    join()
    layer = nn.Linear(2, 1, bias=False)
    unused = nn.Parameter(torch.ones(1))
    only_first = nn.Parameter(torch.ones(1))
    start = layer.weight.detach().clone()
    loss = layer(torch.full((1, 2), 1.0 + number)).sum() + (only_first.sum() if number == 0 else 0.0)
    loss.backward()
    share_gradients([layer.weight, unused, only_first])
    gradients = (layer.weight.grad.tolist(), unused.grad, only_first.grad.item())
    Optimizer([layer], None, 0.1).step(1.0)
    results[number] = (rank(), start.tolist(), gradients, layer.weight.tolist(), agreed(10.0 + number))


def test_two_processes_take_the_mean_of_their_gradients_and_stay_alike() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(in_process, (port, results), nprocs=2)
        first, second = results[0], results[1]
    assert (first[0], second[0]) == (0, 1)
    assert first[1] == second[1], "both begin with the same weights"
    gradients = ([[1.5, 1.5]], None, 0.5)  # of inputs 1 and 2; of a parameter that only the first process used
    assert first[2] == second[2] == gradients
    assert first[3] == second[3] != first[1]
    assert (first[4], second[4]) == (10.0, 10.0), "the clock of the first"


def test_one_process_needs_no_other() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    share_gradients([weight])
    assert rank() == 0 and agreed(3.0) == 3.0 and weight.grad.tolist() == [1.0, 2.0]
