"""Precision, threads and drawing for every test, settled before hypergrad is imported.

``HYPERGRAD_TEST_FLOATX`` chooses the session: ``float64`` (default) runs every test but
those marked ``float32``; ``float32`` runs only those.
"""

import gc
import os
from collections.abc import Callable, Iterator

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

# Compiling is most of what the tests of tiny models do: XLA need not optimize them, and
# its older emitters take a third of the time. `XLA_FLAGS= make test` compiles as users
# do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers share the cores and the models are tiny: one thread each. (JAX
    # spends the time compiling; fewer threads gain nothing there.)
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import keras
import pytest

FLOATX = os.environ.get("HYPERGRAD_TEST_FLOATX", "float64")
if FLOATX not in ("float32", "float64"):
    raise ValueError(
        "HYPERGRAD_TEST_FLOATX must be 'float32' or 'float64'. "
        f"Received: {FLOATX!r}. Leave it unset for float64."
    )
keras.config.set_floatx(FLOATX)

import hypergrad.backend  # noqa: E402, F401 - makes float64 real before a test builds


def pytest_report_header() -> str:
    return f"keras {keras.__version__} on {keras.backend.backend()}, floatx {FLOATX}"


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leaves the tests of the other precision out."""
    here, elsewhere = [], []
    for item in items:
        is_float32 = item.get_closest_marker("float32") is not None
        (here if is_float32 == (FLOATX == "float32") else elsewhere).append(item)
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = here


@pytest.fixture
def floatx() -> str:
    """The precision of this session."""
    return FLOATX


@pytest.fixture
def record_property(record_property: Callable) -> Callable[[str, float], None]:
    """pytest's own; a NumPy scalar would not travel between its processes."""
    return lambda name, value: record_property(name, float(value))


@pytest.fixture(autouse=True)
def _explicit_seed() -> None:
    """The same initial weights whatever test ran before in this process."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _programs_freed() -> Iterator[None]:
    """Frees what a module compiled: a process may hold so many mappings of memory."""
    yield
    gc.collect()
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
