"""A device that queues work, played by the CPU: what a GPU's host would wait for is counted.

Its tensors say that they are on cuda:0, and compute on the CPU. Its time is the number of ops that
were queued. An event is passed once the host has waited for it, or for a later one. Whatever reads
such a tensor on the host waits, and so does a copy to the device that is not asynchronous; tensors
on two devices raise, as they do on a GPU.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from isample import _C
from isample.support.devices import ops_run_on
from tests.launches import launches_of

CUDA = torch.device("cuda", 0)
RealGenerator = torch.Generator
# of aten, whose result is a number or has a size that depends on numbers
READS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "is_nonzero",
}
COPIES = {"copy_", "_to_copy"}


class Device:
    """What is queued, and what the host has waited for."""

    def __init__(self) -> None:
        self.queued = self.passed = 0  # ops
        self.waits: list[str] = []
        self.pageable = 0  # copies to it of memory that is not pinned, which a driver makes itself
        self.launches: Counter[str] = Counter()  # of kernels and copies, by op

    def wait(self, why: str) -> None:
        if self.passed < self.queued:
            self.waits.append(why)
        self.passed = self.queued

    def launch(self, name: str, count: int) -> None:
        if count:
            self.launches[name] += count

    def copy(self) -> None:
        """From the host or to it."""
        self.queued += 1
        self.launch("copy", 1)

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """One op on tensors of the device."""
        name = func.overloadpacket.__name__
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name not in COPIES and any(not isinstance(x, Queued) and x.dim() for x in leaves):
            raise RuntimeError(f"{func}: expected all tensors on one device, got cpu and cuda")
        self.queued += 1
        self.launch(func.name(), launches_of(func, args))
        masks = name in ("index", "index_put_") and any(
            x.dtype in (torch.bool, torch.uint8) for x in tree_leaves(args[1])
        )
        if name in READS or masks:
            self.wait(str(func))
        return tree_map(queued, func(*tree_map(inner, args), **tree_map(inner, kwargs)))


DEVICE = Device()


class Queued(torch.Tensor):
    """A tensor of the device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Queued:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device="cpu"
        )
        made.held = held
        return made

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return DEVICE.run(func, args, kwargs or {})


def inner(value: Any) -> Any:
    return value.held if isinstance(value, Queued) else value


def queued(value: Any) -> Any:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, Queued)
    return Queued(value) if plain else value


def make_queued(model: torch.nn.Module) -> torch.nn.Module:
    """``model`` with its parameters on the device."""
    for layer in model.modules():
        for name, parameter in layer._parameters.items():
            if parameter is not None:
                layer._parameters[name] = torch.nn.Parameter(Queued(parameter.detach()))
    return model


def is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class Placing(TorchFunctionMode):
    """Puts on the device what is asked for there, and counts copies that wait."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "is_pinned":
            return getattr(args[0], "pinned", False)
        if name in ("cpu", "numpy", "tolist") and isinstance(args[0], Queued):
            DEVICE.wait(name)
            return getattr(inner(args[0].detach()), name)()
        if name == "cuda":
            return self._to(args[0], CUDA, args[1:], kwargs)
        if name == "to" and isinstance(args[0], torch.Tensor):
            device = kwargs.pop("device", None)
            if device is None and len(args) > 1 and isinstance(args[1], str | torch.device):
                device, args = args[1], (args[0], *args[2:])
            elif len(args) > 1 and isinstance(args[1], torch.Tensor):
                device, args = args[1].device, (args[0], args[1].dtype, *args[2:])
            if device is not None:
                return self._to(args[0], torch.device(device), args[1:], kwargs)
        if name == "copy_":
            to, source = args[0], args[1]
            if isinstance(to, Queued) != isinstance(source, Queued):
                host = source if isinstance(to, Queued) else to
                late = kwargs.get("non_blocking", False) and getattr(host, "pinned", False)
                if host.dim() or host is to:
                    DEVICE.copy()
                    if not late:
                        DEVICE.wait("copy_")
                inner(to).copy_(inner(source))
                return to
        pins = kwargs.pop("pin_memory", False)
        on_device = is_cuda(kwargs.get("device"))
        if on_device:
            kwargs["device"] = "cpu"
            if name in ("tensor", "as_tensor", "asarray"):
                DEVICE.wait(name)
        result = func(*args, **kwargs)
        if pins:
            result.pinned = True
        return tree_map(queued, result) if on_device else result

    def _to(self, tensor, device, args, kwargs):
        if (device.type == "cuda") == isinstance(tensor, Queued):
            rest = {k: v for k, v in kwargs.items() if k in ("dtype", "copy", "non_blocking")}
            return (
                tensor.to(*args, **rest) if args or rest.get("copy") or "dtype" in rest else tensor
            )
        late = kwargs.get("non_blocking", False)
        DEVICE.copy()
        if device.type == "cpu" or not late:
            DEVICE.wait("to")
        DEVICE.pageable += device.type == "cuda" and not getattr(tensor, "pinned", False)
        dtypes = [a for a in (*args, kwargs.get("dtype")) if isinstance(a, torch.dtype)]
        moved = inner(tensor.detach()).to(*dtypes[:1], copy=True)
        return Queued(moved) if device.type == "cuda" else moved


class Event:
    """Whose time is that of the device."""

    def __init__(self, enable_timing: bool = False):
        self.at: int | None = None

    def record(self, stream: Any = None) -> None:
        assert stream is not None, "a stream of the tensor's own device, not the current one"
        self.at = DEVICE.queued

    def query(self) -> bool:
        return self.at is not None and self.at <= DEVICE.passed

    def synchronize(self) -> None:
        if not self.query():
            DEVICE.waits.append("event")
            DEVICE.passed = self.at

    def elapsed_time(self, other: Event) -> float:
        assert self.query() and other.query(), "the work must be done before its time is read"
        return float(other.at - self.at)


class Generator(RealGenerator):
    def __new__(cls, device: Any = "cpu"):
        return super().__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu"):
        self._on = CUDA if is_cuda(device) else torch.device("cpu")

    device = property(lambda self: self._on)


class Stream:
    """All work is in one queue: the order is that in which it was queued."""

    def __init__(self, device: Any = None):
        self.device = CUDA

    def wait_stream(self, other: Any) -> None:
        pass


def check_rng_state(state: torch.Tensor, device: Any = None) -> None:
    """As torch does, whose own check reads it."""
    assert not isinstance(state, Queued), "a generator's state must be on the CPU"


@contextlib.contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    yield


@contextlib.contextmanager
def queueing(monkeypatch: Any) -> Iterator[Device]:
    """Within it there is such a device."""
    DEVICE.__init__()
    ops_run_on.cache_clear()
    built = {**_C.build_info(), "cuda_architectures": "9.0"}
    monkeypatch.setattr(_C, "build_info", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on_stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device=None: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", check_rng_state)
    monkeypatch.setattr(Queued, "record_stream", lambda self, stream: None, raising=False)
    try:
        with Placing():
            yield DEVICE
    finally:
        ops_run_on.cache_clear()
