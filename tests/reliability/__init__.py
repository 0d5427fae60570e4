"""Runs that are broken off, killed and resumed at random: what is right, and how often it is not.

``python -m tests.reliability`` prints a table; ``tests/test_reliability.py`` is its short form.
"""
