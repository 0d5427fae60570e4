"""The paper's experiments by name (Katharopoulos and Fleuret 2018, section 4 and appendix A), with its settings as defaults.

`python -m bench.training run NAME` does one, `python -m bench.training figures DIR` draws what was run.
"""
