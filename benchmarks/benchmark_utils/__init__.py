"""What the problems and the methods of the comparison share.

benchopt demands the name of this folder. It is imported before Keras is, so that
backend and home of the data sets are settled here.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmark_utils.home import settle_keras_home  # noqa: E402

settle_keras_home()
