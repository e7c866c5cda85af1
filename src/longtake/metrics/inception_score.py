"""Inception score: are clips recognisable, each by itself, and different from each other?"""

import numpy as np
from numpy.typing import NDArray


def inception_score(probabilities: NDArray[np.floating], num_parts: int = 1) -> tuple[float, float]:
    """Return mean and standard deviation over parts of exp(mean KL(p(class | clip) || p(class))).

    `probabilities` is (clips, classes), rows adding to 1; the score lies between 1 (all clips look alike, or like
    nothing) and the number of classes (every clip certain, all classes equally often), and cannot exceed the clips of a
    part. Clips are dealt to the parts in turn, so shuffle what has an order (Salimans et al., arXiv 1606.03498).
    """
    assert probabilities.ndim == 2 and 1 <= num_parts <= len(probabilities), (probabilities.shape, num_parts)
    scores = [_score(probabilities[part::num_parts].astype(np.float64)) for part in range(num_parts)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(probabilities: NDArray[np.float64]) -> float:
    marginal = np.broadcast_to(probabilities.mean(axis=0), probabilities.shape)
    # A class of probability 0 adds nothing: p log p goes to 0.
    present = probabilities > 0
    divergence = (probabilities[present] * np.log(probabilities[present] / marginal[present])).sum()
    return float(np.exp(divergence / len(probabilities)))
