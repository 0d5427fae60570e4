"""The engine: a public face, and behind it who deals, settles and holds the tickets."""

from isample.engine.engine import Engine
from isample.engine.parts import Sampling

__all__ = ["Engine", "Sampling"]
