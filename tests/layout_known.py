KNOWN = {
    "size": {
        "isample/sources/sampler.py has over 300 lines",
        "isample/training/trainer.py has over 300 lines",
        "bench/common/pretrained.py has lines over 100 characters",
    }
}
