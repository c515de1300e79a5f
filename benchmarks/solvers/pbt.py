import numpy as np

import hypergrad as hg
from benchmark_utils.runs import Runs
from benchmark_utils.solver import AbstractSolver, Refused

INTERVALS = 4
KNOTS = 12  # divisible by 1..4: whatever part of a run is made, an interval is whole
REPLACED = 0.25  # of the population, after each interval
RESAMPLED = 0.25  # probability that a number is drawn anew instead of perturbed


class Solver(AbstractSolver):
    """Population-based training: members are schedules that are constant in 4 pieces.

    After each quarter of the run the worst quarter of the population takes weights and
    numbers of a random one of the best, and perturbs the numbers by factors of 0.8 or
    1.2 (of 1 − v on a reverse logarithmic scale). Weights are taken over by replaying
    the history of the other from the start, which gives the same numbers; only the new
    quarter is charged. As many members as runs, the defaults among them.

    References: Jaderberg et al. 2017, arXiv:1711.09846, section 4.1 (truncation
    selection, perturb and resample).
    """

    name = "pbt"

    def prepare(self, problem: hg.Problem) -> float:
        longer = self._longer()
        seconds = 0.0
        for k in range(1, INTERVALS + 1):
            part = _part(longer, k)
            seconds += self.task.compiled(
                f"{self.name} {k}", lambda part=part: hg.evaluate(part)
            )
        return seconds

    def accounts(self) -> Runs:
        return Runs(self._longer(), self.budget, kind=self.name)

    def search(self, runs: Runs) -> None:
        random = np.random.default_rng(self.seed)
        space = self.task.problem(self.seed).space
        first = {name: float_.start() for name, float_ in space.items()}
        size = int(self.budget)
        others = [_drawn(space, random) for _ in range(size - 1)]
        members = [[values] for values in (first, *others)]  # histories
        for k in range(1, INTERVALS + 1):
            part = None if k == INTERVALS else _part(runs.problem, k)
            losses = [runs(_schedule(m), 1 / INTERVALS, part) for m in members]
            members = _next(members, losses, space, random)

    def _longer(self) -> hg.Problem:
        space = {}
        for name, declared in self.task.space.items():
            if isinstance(declared, hg.Schedule) or name.startswith("data."):
                raise Refused(f"{name} cannot be constant in {INTERVALS} pieces.")
            space[name] = hg.Schedule(declared, knots=KNOTS, interpolation="constant")
        try:
            return self.task.variant(self.name, space, self.seed)
        except ValueError as error:
            raise Refused(str(error)) from error


def _part(problem: hg.Problem, intervals: int) -> hg.Problem:
    return problem.replace(num_steps=problem.num_steps * intervals // INTERVALS)


def _schedule(history: list) -> dict[str, np.ndarray]:
    """Knots that hold each value of a history for an equal part of the steps."""
    repeats = KNOTS // len(history)
    return {n: np.repeat([v[n] for v in history], repeats, axis=0) for n in history[0]}


def _drawn(space, random: np.random.Generator) -> dict[str, np.ndarray]:
    return {name: f.sample(random.random(f.shape)) for name, f in space.items()}


def _next(members, losses, space, random: np.random.Generator) -> list:
    """Histories with one more interval: the worst follow the best, perturbed."""
    order = np.argsort(losses, kind="stable")
    number = int(REPLACED * len(members))
    longer = [[*history, history[-1]] for history in members]
    for loser, winner in zip(order[::-1][:number], random.permutation(order[:number])):
        history = members[winner]
        longer[loser] = [*history, _explored(history[-1], space, random)]
    return longer


def _explored(values, space, random: np.random.Generator) -> dict[str, np.ndarray]:
    new = {}
    for name, float_ in space.items():
        if random.random() < RESAMPLED:
            new[name] = float_.sample(random.random(float_.shape))
            continue
        factor = random.choice([0.8, 1.2], size=float_.shape)
        value = values[name]
        if float_.sampling == "reverse_log":
            moved = 1.0 - (1.0 - value) * factor
        else:
            moved = value * factor
        zero = np.asarray(value) == 0.0  # the 0 of no penalty, below a log range
        inside = np.clip(moved, float_.min_value, float_.max_value)
        new[name] = np.where(zero & (moved == 0.0), value, inside)
    return new
