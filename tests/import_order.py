"""The one place that says which room of the library may import which.

A room is a top-level module or folder of ``hypergrad``. It imports from its own line
and the lines above it, never from a line below; rooms of one line do not import each
other in a circle. A new room enters here first.
"""

ORDER = (
    ("backend",),
    ("space", "traced", "linear", "data", "status", "parts", "files", "arguments"),
    ("rules", "targets"),
    ("data_checks", "keras_checks", "cut_gradients", "problem_checks"),
    ("declarations", "binding", "bound", "clone"),
    ("tunable_space", "samples"),
    ("problem", "unroll", "result", "keras_functions"),
    ("description", "fingerprint"),
    ("influence",),
    ("from_model", "plots"),
    ("methods",),
    ("stacked",),
    ("locate", "averaged", "at_once", "estimate"),
    ("_hypergradient", "_evaluate", "_second_derivatives"),
    ("outer", "diagnostics", "callbacks"),
    ("_tuning",),
    ("_tune", "_search", "optimizers"),
    ("tuner",),
)

# The exceptions: (importer, imported) pairs that look down the list, from inside of a
# function: `Problem.from_model` and `Result.plot` hand over to the room that does it,
# `plots.landscape` has its runs made where it is given a problem.
INSIDE_A_FUNCTION = (
    ("problem", "from_model"),
    ("result", "plots"),
    ("plots", "diagnostics"),
)

FRAMEWORKS = ("jax", "jaxlib", "tensorflow", "torch")
BEHIND_THE_WALL = "backend"
# optax belongs to JAX; the one file that may import it, inside a function
OPTAX = "rules/from_optax.py"
