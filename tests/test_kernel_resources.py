"""The check of what nvcc made of the kernels, on made-up reports: it finds each kind of fault."""

import pytest

from bench.kernels.cuda import resources
from bench.kernels.cuda.resources import ARCHITECTURES, Kernel, bounds_of, kernels_of

PTX = """
.version 9.0
.target {architecture}
.address_size 64
.extern .shared .align 16 .b8 memory[];
{entries}
"""
ENTRY = """
.visible .entry {name}(
    .param .align 8 .b8 {name}_param_0[56],
    .param .u32 {name}_param_1
)
{bounds}
{{
    .reg .pred %p<2>;
}}
"""
REPORT = """
ptxas info    : 65536 bytes gmem, 8 bytes cmem[4]
ptxas info    : Compiling entry function '{name}' for '{architecture}'
ptxas info    : Function properties for {name}
    64 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers{shared}, 440 bytes cmem[0]
ptxas info    : Compile time = 202.080 ms
"""


def ptx(architecture="sm_90", **bounds):
    entries = "".join(ENTRY.format(name=name, bounds=text) for name, text in bounds.items())
    return PTX.format(architecture=architecture, entries=entries)


def report(name, registers, architecture="sm_90", shared=""):
    return REPORT.format(
        name=name,
        registers=registers,
        architecture=architecture,
        shared=shared,
    )


def faults(log, *assembly):
    return [fault for kernel in kernels_of(log, list(assembly)) for fault in kernel.faults]


def test_a_sound_report_is_read():
    log = report("one", 64, shared=", 128 bytes smem") + report("two", 255)
    found = kernels_of(
        log, [ptx(one=".maxntid 1024, 1, 1", two=".maxntid 16, 16, 1\n.minnctapersm 2")]
    )
    assert found == [
        Kernel("one", "sm_90", 1024, 64, 128, 0),
        Kernel("two", "sm_90", 256, 255, 0, 0),
    ]
    assert not [fault for kernel in found for fault in kernel.faults]


@pytest.mark.parametrize(
    ("threads", "registers", "fits"),
    [
        (1024, 64, True),
        (1024, 65, False),  # a warp gets 72 x 32
        (512, 128, True),
        (512, 129, False),
        (896, 72, True),  # 28 warps of 2304
        (896, 73, False),  # 28 of 2560
        (897, 72, False),  # 29 of 2304: a last warp takes as much as a whole one
        (256, 255, True),
        (1, 255, True),
    ],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_block_must_find_its_registers(threads, registers, fits, architecture):
    bounds = ptx(architecture, kernel=f".maxntid {threads}, 1, 1")
    found = faults(report("kernel", registers, architecture), bounds)
    assert bool(found) != fits
    for fault in found:
        assert architecture in fault and f"{threads} threads" in fault and "65536" in fault


@pytest.mark.parametrize("header", ["", ".minnctapersm 3"])
def test_a_kernel_must_have_launch_bounds(header):
    (fault,) = faults(report("kernel", 16), ptx(kernel=header))
    assert "kernel on sm_90 has no __launch_bounds__" in fault


def test_bounds_of_another_architecture_or_kernel_do_not_count():
    other = ptx("sm_80", kernel=".maxntid 64, 1, 1")
    assert "__launch_bounds__" in faults(report("kernel", 16), other)[0]
    beside = ptx("sm_90", kernel_2=".maxntid 64, 1, 1", kernel="")
    assert "kernel on sm_90 has no" in faults(report("kernel", 16), beside)[0]
    assert bounds_of(beside) == {("kernel_2", "sm_90"): 64, ("kernel", "sm_90"): None}


@pytest.mark.parametrize("kind", ["stores", "loads"])
def test_spilled_registers_are_a_fault(kind):
    bounds = [ptx(name, kernel=".maxntid 64, 1, 1") for name in ("sm_90", "sm_120")]

    def found(architecture, spilled):
        log = report("kernel", 64, architecture)
        return faults(
            log.replace(f"0 bytes spill {kind}", f"{spilled} bytes spill {kind}"), *bounds
        )

    assert found("sm_90", 4) == ["kernel on sm_90 spills 4 bytes"]
    assert not found("sm_120", 64)
    assert found("sm_120", 68)


def test_spills_of_a_function_that_a_kernel_calls_count():
    called = report("kernel", 64).replace(
        "ptxas info    : Used",
        "ptxas info    : Function properties for helper\n"
        "    8 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used",
    )
    assert faults(called, ptx(kernel=".maxntid 64, 1, 1")) == ["kernel on sm_90 spills 20 bytes"]


def test_a_report_in_another_form_is_refused():
    with pytest.raises(ValueError, match="form of its own"):
        kernels_of(report("kernel", 64).replace("Used 64 registers", "64 used"), [])
    with pytest.raises(ValueError, match="name its target"):
        bounds_of("not PTX")


def test_warnings_are_told_once():
    one, other = "a.cu(3): warning #177-D: unused", "Warning: b"
    log = [one, "fine", one, other, "warnings.warn(UserWarning)"]
    assert resources.warnings_of("\n".join(log)) == [one, other]


def test_loads_of_16_bytes_are_counted_by_kernel_and_architecture():
    code = """
    code for sm_80
        Function : one
    /*0010*/ LDG.E.128.CONSTANT R4, [R2] ; LDG.E.64 R8, [R2] ;
    /*0020*/ LDG.E.EF.128 R4, [R2] ; LDG.E R8, [R2] ; LDS.128 R8, [R2] ;
        Function : two
    code for sm_90
        Function : one
    /*0010*/ LDG.E.128 R4, desc[UR4][R2.64] ;
    """
    counts = {("one", "sm_80"): 2, ("two", "sm_80"): 0, ("one", "sm_90"): 1}
    assert resources.wide_loads(code) == counts


def test_the_table_shows_the_registers_on_each_architecture():
    kernels = [
        Kernel("one", "sm_100", 1024, 61, 0, 0),
        Kernel("one", "sm_80", 1024, 64, 16, 0),
    ]
    head, line = resources.table(kernels).splitlines()
    assert head.endswith("sm_80 sm_100")
    assert line.split() == ["one", "1024", "16", "64", "61"]
