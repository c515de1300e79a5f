"""A Gaussian process of E, and where it expects to find a lower one."""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr
from threadpoolctl import ThreadpoolController

LENGTH, LENGTH_SPREAD = 1.5, 0.8
"""Prior of length scales: median in decades, standard deviation of the logarithm."""

NOISE, NOISE_SPREAD = 1e-3, 2.0
"""Prior of the variance of the noise, as a part of that of E; the same way."""

LOG_BOUNDS = {"length": (-3.0, 3.5), "signal": (-4.0, 3.0), "noise": (-13.8, 0.0)}

JITTER = 1e-8


class Surrogate(NamedTuple):
    """A fitted process: ``mean + k(·, x) weights``.

    ``x`` (n, d) in decades; ``weights`` (n,); ``factor`` (n, n): lower Cholesky factor
    of the covariance; ``lengths`` (d,); ``signal``, ``noise``: variances; ``mean`` and
    ``scale`` of what was standardised.
    """

    x: np.ndarray
    weights: np.ndarray
    factor: np.ndarray
    lengths: np.ndarray
    signal: float
    noise: float
    mean: float
    scale: float

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the noise-free function, shapes (m,)."""
        cross = self.signal * np.exp(-0.5 * _squares(points, self.x, self.lengths))
        half = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = np.maximum(self.signal - np.sum(half**2, axis=0), 1e-12)
        mean = cross @ self.weights
        return self.mean + self.scale * mean, self.scale * np.sqrt(variance)


def fit(x: np.ndarray, y: np.ndarray) -> Surrogate:
    """The most probable process, squared exponential, a length scale a coordinate.

    ``k(a, b) = s exp(−½ Σ_j ((a_j − b_j)/ℓ_j)²) + n [a is b]``, with s, n and ℓ where
    the likelihood of ``y`` times log-normal priors is largest (L-BFGS, from two
    starts; Rasmussen & Williams 2006, section 5.4).

    Args:
        x: array (n, d), in decades.
        y: array (n,), finite.

    Cost: O(n³) for each of about 50 evaluations; 10 ms for n = 64.
    """
    mean, scale = float(np.mean(y)), float(np.std(y)) or 1.0
    z = (y - mean) / scale
    d = x.shape[1]
    center = np.array([*[math.log(LENGTH)] * d, 0.0, math.log(NOISE)])
    spread = np.array([*[LENGTH_SPREAD] * d, 1.0, NOISE_SPREAD])
    bounds = [LOG_BOUNDS["length"]] * d + [LOG_BOUNDS["signal"], LOG_BOUNDS["noise"]]
    squares = (x[:, None, :] - x[None, :, :]) ** 2

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        prior = (theta - center) / spread
        value, slope = _misfit(theta, squares, z)
        return value + 0.5 * float(prior @ prior), slope + prior / spread

    rough = center.copy()
    rough[-1] = math.log(0.1)
    tries = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
        for start in (center, rough)
    ]
    theta = min(tries, key=lambda found: float(found.fun)).x
    signal, noise = (float(v) for v in np.exp(theta[d:]))
    return _process(x, z, np.exp(theta[:d]), signal, noise, mean, scale)


def rescaled(fitted: Surrogate, y: np.ndarray, factor: float) -> Surrogate:
    """The process with all length scales multiplied, of the same ``y``.

    References: Wang & de Freitas 2014, arXiv:1406.7758, for shorter ones.
    """
    z = (y - fitted.mean) / fitted.scale
    lengths = factor * fitted.lengths
    return _process(
        fitted.x, z, lengths, fitted.signal, fitted.noise, fitted.mean, fitted.scale
    )


def _process(
    x: np.ndarray,
    z: np.ndarray,
    lengths: np.ndarray,
    signal: float,
    noise: float,
    mean: float,
    scale: float,
) -> Surrogate:
    k = signal * np.exp(-0.5 * _squares(x, x, lengths))
    factor = np.linalg.cholesky(k + (noise + JITTER) * np.eye(len(x)))
    weights = cho_solve((factor, True), z)
    return Surrogate(x, weights, factor, lengths, signal, noise, mean, scale)


def _misfit(
    theta: np.ndarray, squares: np.ndarray, z: np.ndarray
) -> tuple[float, np.ndarray]:
    """−log likelihood but for a constant; its derivatives by log ℓ, log s, log n."""
    d = squares.shape[-1]
    scaled = squares / np.exp(2.0 * theta[:d])
    signal, noise = np.exp(theta[d:])
    k = signal * np.exp(-0.5 * np.sum(scaled, axis=-1))
    factor = np.linalg.cholesky(k + (noise + JITTER) * np.eye(len(z)))
    inverse = cho_solve((factor, True), np.eye(len(z)), check_finite=False)
    weights = inverse @ z
    value = 0.5 * float(z @ weights) + float(np.sum(np.log(np.diag(factor))))
    # ½ tr((K⁻¹ − w wᵀ) dK)
    pull = inverse - np.outer(weights, weights)
    by_k = pull * k
    by_lengths = 0.5 * np.einsum("ij,ijd->d", by_k, scaled)
    return value, np.array(
        [*by_lengths, 0.5 * np.sum(by_k), 0.5 * noise * np.trace(pull)]
    )


def expected_improvement(
    surrogate: Surrogate, points: np.ndarray, least: float
) -> np.ndarray:
    """``E[max(least − f, 0)]`` at points (m, d).

    References: Jones et al. 1998, "Efficient global optimization".
    """
    mean, std = surrogate.predict(points)
    z = (least - mean) / std
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    return std * (z * ndtr(z) + density)


def one_thread():
    """A context in which BLAS has one thread.

    More are slower at these sizes, a hundred times where other programs are busy.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _squares(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Squared distances in length scales, (len(a), len(b))."""
    a, b = a / lengths, b / lengths
    both = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None, :]
    return np.maximum(both - 2.0 * a @ b.T, 0.0)
