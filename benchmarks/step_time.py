"""What a training step of a population should take on an accelerator, and what binds it: a model of three numbers.

    python benchmarks/step_time.py --parameters 2410 --batch 64
    python benchmarks/step_time.py --parameters 203530 --batch 128 --activations 4e5 --device h100 --precision bf16

A step of Adam takes the longest of three times. *Launches*: the kernels of a step start one after the other, whatever
is in them. *Bytes*: each member's parameters, gradients and two moments are read and written, and its activations are.
*Operations*: six for every parameter and row of the batch. What a device does in a second comes from
benchmarks/RESULTS.md for the H200 it was measured on; for an H100 it is predicted from that, with the ratio of the two
chips' data sheets, and marked so.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple


class Device(NamedTuple):
    """What a device does in a second."""

    name: str
    step: float  # seconds of a step in which nothing but starts of kernels takes time (digits network, a dozen kernels)
    bandwidth: float  # bytes that a step's kernels move, by what 4,096 networks were measured to take
    operations: dict[str, float]  # of products, by precision
    memory: float  # bytes


# measured: 44 us a step where few train; 107 KB in 70 ns where many do, 55% of a copy's 2.77 TB/s
H200 = Device(
    "H200, measured", 44e-6, 107e3 / 70e-9, {"exact": 49.8e12, "default": 341e12, "bf16": 558e12}, 139 * 2**30
)
# the same processor with slower memory: 3.35 TB/s on the data sheet where the H200 has 4.8
H100 = Device("H100, predicted", H200.step, H200.bandwidth * 3.35 / 4.8, H200.operations, 79 * 2**30)
DEVICES = {"h100": H100, "h200": H200}


class Network(NamedTuple):
    """What a member is."""

    parameters: int
    batch: int
    activations: float  # bytes read and written for the activations of a step

    @property
    def bytes(self) -> float:
        """Moved by a step of Adam: parameters, gradient and two moments, read and written."""
        return 32.0 * self.parameters + self.activations

    @property
    def operations(self) -> float:
        """Of a step: forward, and twice as many backward."""
        return 6.0 * self.parameters * self.batch

    @property
    def memory(self) -> float:
        """That a member needs on the device: its state, its gradient, its activations."""
        return 16.0 * self.parameters + self.activations


class Time(NamedTuple):
    """Seconds of a step of all members."""

    launches: float
    bytes: float
    operations: float

    @property
    def seconds(self) -> float:
        """What the step takes."""
        return max(self)

    @property
    def bound(self) -> str:
        """What takes longest."""
        return max(self._fields, key=lambda name: getattr(self, name))


def step_time(device: Device, network: Network, members: int, precision: str = "default") -> Time:
    """The three times of a step.

    >>> few, many = (step_time(H200, Network(2410, 64, 30e3), n) for n in (256, 4096))
    >>> few.bound, many.bound, round(1e6 * many.seconds)
    ('launches', 'bytes', 287)
    """
    work = members * network.operations / device.operations[precision]
    return Time(device.step, members * network.bytes / device.bandwidth, work)


def busy_chunk(device: Device, network: Network, precision: str = "default") -> int:
    """Members from which on a device is busy: with fewer a step takes no less time.

    >>> busy_chunk(H200, Network(2410, 64, 30e3))
    628
    """
    alone = step_time(device, network, 1, precision)
    return max(int(device.step / max(alone.bytes, alone.operations)), 1)


def largest_chunk(device: Device, network: Network) -> int:
    """Members that fit into the memory side by side."""
    return int(device.memory / network.memory)


def main() -> None:
    """Print the times for some numbers of members."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--activations", type=float, default=30e3, help="bytes a member and step")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 64, 256, 1024, 4096, 65536])
    parser.add_argument("--device", choices=list(DEVICES), default="h100")
    parser.add_argument("--precision", choices=list(H200.operations), default="default")
    options = parser.parse_args()
    device, network = DEVICES[options.device], Network(options.parameters, options.batch, options.activations)
    print(f"{device.name}: busy from {busy_chunk(device, network, options.precision):,} members on, ", end="")
    print(f"{largest_chunk(device, network):,} fit into its memory")
    print("| members | us a step | bound by | us a member |\n|---|---|---|---|")
    for n in options.members:
        time = step_time(device, network, n, options.precision)
        print(f"| {n:,} | {1e6 * time.seconds:,.0f} | {time.bound} | {1e6 * time.seconds / n:.3g} |")


if __name__ == "__main__":
    main()
