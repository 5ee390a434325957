"""Hypergradients by higher and TorchOpt: run by hypergrad.py --peer with a Python that has them.

    python hypergrad_peers.py TASK.npz SECONDS

Prints one JSON object: for every library found, time over one torch training of the same network on the same batches,
seconds of that training, and the gradient with respect to the learning rate. One thread: for networks of this size
more of them are slower.
"""

import importlib.util
import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F


class Net(torch.nn.Module):
    def __init__(self, arrays):
        super().__init__()
        for name in "abcd":
            setattr(self, name, torch.nn.Parameter(torch.tensor(arrays[name])))

    def forward(self, x):
        return torch.tanh(x @ self.a + self.b) @ self.c + self.d


def numbers():
    return torch.tensor(0.05, requires_grad=True), torch.tensor(0.9, requires_grad=True)


def training(task):
    net = Net(task)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for rows in task["rows"]:
        optimiser.zero_grad()
        F.cross_entropy(net(task["x"][rows]), task["y"][rows]).backward()
        optimiser.step()
    with torch.no_grad():
        return F.cross_entropy(net(task["xv"]), task["yv"])


def by_higher(task):
    import higher

    lr, momentum = numbers()
    net = Net(task)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    override = {"lr": [lr], "momentum": [momentum]}
    with higher.innerloop_ctx(net, optimiser, override=override) as (model, inner):
        for rows in task["rows"]:
            inner.step(F.cross_entropy(model(task["x"][rows]), task["y"][rows]))
        return torch.autograd.grad(F.cross_entropy(model(task["xv"]), task["yv"]), (lr, momentum))


def by_torchopt(task):
    import torchopt

    lr, _ = numbers()  # its momentum is a Python number: one hyperparameter instead of two
    net = Net(task)
    optimiser = torchopt.MetaSGD(net, lr=lr, momentum=0.9)
    for rows in task["rows"]:
        optimiser.step(F.cross_entropy(net(task["x"][rows]), task["y"][rows]))
    return torch.autograd.grad(F.cross_entropy(net(task["xv"]), task["yv"]), (lr,))


def best(call, seconds):
    call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        out = call()
        times.append(time.perf_counter() - start)
    return min(times), out


def main():
    torch.set_num_threads(1)
    path, seconds = sys.argv[1], float(sys.argv[2]) / 2
    with np.load(path) as file:
        arrays = {name: torch.tensor(file[name]) for name in file.files}
    task = arrays | {"y": arrays["y"].long(), "yv": arrays["yv"].long(), "rows": arrays["rows"].long()}
    plain, _ = best(lambda: training(task), seconds)
    found = {}
    for name, run in (("higher", by_higher), ("torchopt", by_torchopt)):
        if importlib.util.find_spec(name) is None:
            continue
        seconds_of_it, grads = best(lambda run=run: run(task), seconds)
        found[name] = {"ratio": seconds_of_it / plain, "training": plain, "lr": float(grads[0])}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
