"""The violations of today, law by law. The list only shrinks, and goes when it is empty."""

KNOWN = {
    "size": {
        "bench/common/pretrained.py has lines over 100 characters",
        "bench/kernels/cpu.cpp has lines over 100 characters",
        "bench/kernels/cuda/bench.cu has lines over 100 characters",
        "bench/kernels/cuda/check_build.py has lines over 100 characters",
        "bench/overhead.py has lines over 100 characters",
        "isample/sources/sampler.py has over 300 lines",
        "isample/training/loop.py has lines over 100 characters",
        "isample/training/trainer.py has lines over 100 characters",
        "isample/training/trainer.py has over 300 lines",
        "tests/test_engine_state.py has lines over 100 characters",
    },
}
