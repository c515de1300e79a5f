"""One library on one case, in a process of its own; prints JSON as its last line."""

import argparse
import dataclasses
import importlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from case import TIMED, Case  # noqa: E402


def judged(peer) -> dict:
    loss, slopes = peer.hypergradient()
    return {"loss": loss, "slopes": slopes, "epsilon_inside": peer.epsilon_inside}


def timed(peer, repeats: int) -> dict:
    """Seconds (median), and bytes above what plain training takes."""
    peer.train()
    peer.train()
    before = peak_bytes()
    seconds = [_seconds(peer.hypergradient) for _ in range(repeats + 1)]
    plain = [_seconds(peer.train) for _ in range(repeats)]
    return {
        "first": seconds[0],
        "seconds": statistics.median(seconds[1:]),
        "plain": statistics.median(plain),
        "bytes": peak_bytes() - before,
    }


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("Peak memory is read from /proc/self/status, which has none here.")


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("--dead", action="store_true")
    parser.add_argument("--time", type=int, help="T of the case that is timed")
    parser.add_argument("--size", default="large", choices=list(TIMED))
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    try:
        module = importlib.import_module(given.peer)
    except ModuleNotFoundError as error:
        print(json.dumps({"skipped": f"{error.name} is not installed"}))
        return
    if module.Peer.torch:
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        if given.time:
            case = dataclasses.replace(TIMED[given.size], steps=given.time)
            found = timed(module.Peer(case), given.repeats)
        else:
            found = judged(module.Peer(Case(dead=given.dead)))
    except Exception as error:  # whatever a peer raises is its result
        found = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
