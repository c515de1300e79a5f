"""What the demo compares. Fixed before the first comparison was run; not tuned since.

Space, grid and budget are the same numbers for every method; the ranges are hypergrad's
documented defaults for these names, written out.
"""

import hypergrad as hg

SPACE = {
    "optimizer.learning_rate": hg.Float(1e-5, 1.0, sampling="log"),
    "optimizer.beta_1": hg.Float(0.0, 0.9999, sampling="reverse_log"),
    "optimizer.beta_2": hg.Float(0.0, 0.99999, sampling="reverse_log"),
}
BUDGET = 40  # runs: plain trainings of STEPS steps; hypergradients are charged in them
GRID = "the largest of equal sides that BUDGET holds: 4 x 3 x 3 points, and the start"
STEPS = 100  # T, the length of one training
BATCH_SIZE = 64
SEEDS = (0, 1, 2)  # split of the data, initial weights, batch order and search
SPLIT = (0.6, 0.2, 0.2)  # training, validation, test
HIDDEN = 64
