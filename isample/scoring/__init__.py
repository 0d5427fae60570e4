from isample.scoring.forward import Scoring, ScoringPass

__all__ = ["Scoring", "ScoringPass"]
