"""The paper's experiments by name, with its settings (Katharopoulos and Fleuret 2018, section 4 and
appendix A).

`python -m bench.training run NAME` does one, `python -m bench.training figures DIR` draws what was
run.
"""
