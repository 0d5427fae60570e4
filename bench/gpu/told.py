"""A pytest plugin, `-p bench.gpu.told`: each failure's text at once, not at the end, which a run
whose time is up does not reach."""

from __future__ import annotations


class Told:
    def pytest_runtest_logreport(self, report) -> None:
        self._tell(report)

    def pytest_collectreport(self, report) -> None:
        self._tell(report)

    def _tell(self, report) -> None:
        if report.failed:
            print(f"\nFAILED {report.nodeid}\n{report.longreprtext}", flush=True)


def pytest_configure(config) -> None:
    if not hasattr(config, "workerinput"):  # what xdist's workers see, their controller sees too
        config.pluginmanager.register(Told())
