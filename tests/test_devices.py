"""What an isample says that cannot run where its tensors are: what to install, or to move."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample import _C
from isample.control.rates import make_rates
from isample.engine.steps import Steps
from isample.support.clocks import DeviceClock, StepClock
from isample.support.devices import check_device
from isample.support.processes import Processes
from tests.queueing_device import DEVICE, Queued, make_queued, queueing

CPU_ONLY = not _C.build_info()["cuda_architectures"]
COMPOSED = ("_check_table", "_check_prefix_sums")
"""Of other ops, which refuse."""
OPS = sorted(
    name
    for name in torch._C._dispatch_get_all_op_names()
    if name.startswith("isample::")
    and torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")
    and name.removeprefix("isample::") not in COMPOSED
)


@pytest.mark.skipif(not CPU_ONLY, reason="of a build without CUDA")
@pytest.mark.parametrize("name", OPS)
def test_each_op_of_a_build_without_cuda_refuses_cuda(name):
    """By whatever arguments: the refusal looks at none."""
    name, _, overload = name.removeprefix("isample::").partition(".")
    op = getattr(getattr(torch.ops.isample, name), overload or "default")
    vector = torch.ones(2)
    given = {
        "Tensor": vector,
        "int": 1,
        "float": 0.5,
        "bool": True,
        "List[float]": [0.5],
        "List[Tensor]": [vector],
    }
    arguments = [a for a in op._schema.arguments if not a.has_default_value()]
    places = [given.get(str(a.type)) for a in arguments if not a.kwarg_only]
    named = {a.name: given.get(str(a.type)) for a in arguments if a.kwarg_only}
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    with pytest.raises(NotImplementedError) as caught:
        op.redispatch(keys, *places, **named)
    told = str(caught.value).splitlines()[0]
    assert told.startswith(f"isample::{name}")
    assert "got tensors on CUDA, and this isample was built without: " in told
    assert "ISAMPLE_CUDA=1" in told and "move the tensors to the CPU" in told


def test_all_other_ops_for_cuda_are_made_of_these():
    assert len(OPS) >= 19
    for name in COMPOSED:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"isample::{name}", "CUDA")


@pytest.mark.parametrize(
    ("architectures", "runs", "not_on"),
    [
        ("8.0;9.0;10.0+PTX", [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)], [(7, 5)]),
        ("8.6", [(8, 6), (8, 9)], [(8, 0), (9, 0)]),
        ("9.0a", [(9, 0)], [(9, 1), (10, 0)]),
        ("8.0 12.0", [(8, 0), (12, 0), (12, 1)], [(9, 0), (10, 3)]),
        ("9.0+PTX", [(9, 0), (10, 3), (12, 0)], [(8, 9)]),
        ("Hopper", [(9, 0), (8, 0)], []),  # not known here: the launch tells
        ("", [], [(8, 0)]),
    ],
)
def test_which_gpus_have_code(architectures, runs, not_on):
    assert all(_C.has_code(architectures, *device) for device in runs)
    assert not any(_C.has_code(architectures, *device) for device in not_on)


@pytest.mark.parametrize(
    ("architectures", "device", "overlaps"),
    [
        ("8.0;9.0;10.0+PTX", (9, 0), True),
        ("8.0;9.0;10.0+PTX", (12, 0), True),
        ("8.0;9.0;10.0+PTX", (8, 6), False),
        ("8.0+PTX", (9, 0), False),  # its wait was compiled away
        ("8.0+PTX;10.0", (9, 0), False),
        ("Hopper", (9, 0), False),
    ],
)
def test_launches_overlap_where_their_wait_was_compiled(architectures, device, overlaps):
    assert _C.has_code(architectures, *device)
    assert _C.has_code(architectures, *device, least=9) == overlaps


@pytest.mark.parametrize(
    ("architectures", "capability", "remedy"),
    [
        ("", (9, 0), "install the CUDA toolkit and build isample again with ISAMPLE_CUDA=1"),
        ("9.0", (8, 0), "build isample again with TORCH_CUDA_ARCH_LIST=8.0"),
        ("8.0;9.0", (12, 0), "build isample again with TORCH_CUDA_ARCH_LIST=12.0"),
        ("8.0;9.0+PTX", (7, 5), "compute capability 8.0 or higher, or on the CPU"),
    ],
)
def test_an_engine_says_so_before_its_first_step(monkeypatch, architectures, capability, remedy):
    with queueing(monkeypatch):
        built = {**_C.build_info(), "cuda_architectures": architectures}
        monkeypatch.setattr(_C, "build_info", lambda: built)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        model = make_queued(nn.Linear(3, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for make in (isample.Engine, lambda optimizer: isample.Trainer(model, optimizer)):
            with pytest.raises(RuntimeError, match=re.escape(remedy)) as caught:
                make(optimizer)
            assert "optimizer's parameters" in str(caught.value)
            assert "cuda:0" in str(caught.value)
        trained_without_ops(model, optimizer)


def trained_without_ops(model, optimizer):
    """A control that never scores leaves a step to torch where no op would run."""
    trainer = isample.Trainer(model, optimizer, control="never", batch_size=4)
    inputs = Queued(torch.randn(16, 3))
    loader = DataLoader(TensorDataset(inputs, Queued(torch.arange(16) % 2)), 4, shuffle=True)
    DEVICE.launches.clear()
    losses = [report.loss for report in trainer.iterate(loader, epochs=2)]
    assert len(losses) == 8 and all(0 < loss < 5 for loss in losses)
    assert not [name for name in DEVICE.launches if name.startswith("isample::")]


@pytest.mark.parametrize(("count", "clock"), [(1, DeviceClock), (2, StepClock)])
def test_several_processes_go_by_the_host_s_clock(monkeypatch, count, clock):
    """Whose controllers must hear alike. No event is recorded that nobody would read."""
    processes = Processes()
    processes.count = count
    with queueing(monkeypatch):
        optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
        device = torch.device("cuda", 0)
        steps = Steps(optimizer, make_rates(None, optimizer), processes, device)
        assert type(steps.clock) is clock


def test_a_device_that_has_code_is_taken(monkeypatch):
    with queueing(monkeypatch):
        check_device("model", torch.device("cuda", 0))
        check_device("model", torch.device("cpu"))


@pytest.mark.parametrize("known", [False, True])
def test_a_model_in_parts_on_two_devices_trains(monkeypatch, known):
    """Scores and weights go to where they are needed; the stand-in raises where two devices
    meet."""
    with queueing(monkeypatch):
        torch.manual_seed(0)
        trunk, head = make_queued(nn.Linear(3, 4)), nn.Linear(4, 2)
        parameters = [*trunk.parameters(), *head.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        how = {"loss": "cross_entropy"} if known else {"head": head}
        engine = isample.Engine(optimizer, control="always", **how)
        data = TensorDataset(torch.randn(40, 3), torch.randint(2, (40,)))
        loader = engine.loader(DataLoader(data, batch_size=4, shuffle=True))
        for _ in range(2):
            for inputs, targets in loader:
                logits = head(trunk(inputs.to("cuda")).to("cpu"))
                loss = engine.loss(logits, targets) if known else F.cross_entropy(logits, targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        assert engine.report.active
        memory = engine.dealer.source.memory
        assert memory.score.device.type == "cuda" and bool((memory.score >= 0).all())
