"""Several samples in one vectorised program, where the device is faster so."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hypergrad import backend
from hypergrad.averaged import Averaged, first_failure, mean_metrics, of_samples
from hypergrad.locate import all_finite, gradient_status
from hypergrad.methods import AbstractMethod, Swept, Tape
from hypergrad.methods.work import Work
from hypergrad.problem import Problem
from hypergrad.stacked import can_be_stacked, row, spread, stacked
from hypergrad.status import Status


class Together(NamedTuple):
    """A run of all samples. ``losses``: E of each one; ``metrics``: likewise."""

    problem: Problem
    tape: Tape
    losses: np.ndarray
    metrics: list


@dataclasses.dataclass(frozen=True)
class AtOnce(AbstractMethod):
    """A method over all samples of a problem, in one vectorised program.

    The same numbers as `Averaged`, one after the other, to rounding. Where a sample
    does not end well, all are run again that way, which says what happened to each.

    Args:
        method: `AbstractMethod` with ``samples_at_once``.

    Cost: of memory N times that of the method; of time N times on a CPU, where batched
    products are slower than single ones, and less on an accelerator that one sample
    leaves idle.

    Valid when: the method is.

    References: see `Averaged`.
    """

    method: AbstractMethod

    def check(self, problem: Problem) -> None:
        self.method.check(problem)

    @property
    def exact(self) -> bool:
        return self.method.exact

    def runs(self, problem: Problem) -> float:
        return problem.average * self.method.runs(problem)

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        return self.method.work(stacked(problem), spread(problem, values))

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        self.method.prepare(stacked(problem), spread(problem, values))

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        whole = stacked(problem)
        tape = self.method.run(whole, spread(problem, values), sweep_follows)
        losses, metrics = tape.metrics["loss"], tape.metrics["metrics"]
        if not (np.isfinite(losses).all() and all_finite(whole, tape.final)):
            return Averaged(self.method).run(problem, values, sweep_follows)
        return tape._replace(
            values=values,
            loss=losses.mean(),
            metrics=mean_metrics(metrics),
            final=row(tape.final, 0),
            train_losses=tape.train_losses / problem.average,
            checkpoints=None,
            records={},
            extra=Together(whole, tape, losses, metrics),
        )

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        if not isinstance(tape.extra, Together):
            return Averaged(self.method).sweep(problem, tape)
        found = self.method.sweep(tape.extra.problem, tape.extra.tape)
        gradients = found.gradient
        statuses = [
            gradient_status({name: g[i] for name, g in gradients.items()})
            if found.status.ok
            else found.status
            for i in range(problem.average)
        ]
        info = {
            "loss": tape.extra.losses,
            "metrics": tape.extra.metrics,
            "status": statuses,
            "gradient": gradients,
            "info": [found.info] * problem.average,
        }
        return Swept(
            {name: value.mean(axis=0) for name, value in gradients.items()},
            first_failure(statuses),
            {"samples": info, "runs": self.runs(problem)},
        )


def over_samples(problem: Problem, method: AbstractMethod) -> AbstractMethod:
    """The method for all samples of a problem: itself where there is one.

    On an accelerator they are one program; on a CPU, whose batched products are slower
    than single ones, they run one after the other.
    """
    if problem.average == 1:
        return method
    together = method.samples_at_once and backend.vectorises_runs()
    return (AtOnce if together and can_be_stacked(problem) else Averaged)(method)


def samples_of(tape: Tape) -> dict[str, dict]:
    """What is known of each sample after a run; {} where there is one."""
    if isinstance(tape.extra, Together):
        _, _, losses, metrics = tape.extra
        status = [Status()] * len(losses)
        return {"samples": {"loss": losses, "metrics": metrics, "status": status}}
    return of_samples(tape)
