"""Errors that say what becomes of a trial."""


class FailedTrialError(Exception):
    """Raise it in ``build`` or ``fit``: the trial is failed, and not tried again."""


class FatalError(Exception):
    """Raise it in ``build`` or ``fit``: the search ends with it.

    Any other exception fails its trial only, and the search goes on.
    """


class FatalTypeError(FatalError, TypeError):
    """What every trial would fail with: a function that returns the wrong thing."""


class FatalValueError(FatalError, ValueError):
    """What every trial would fail with: a wrong argument."""


class NothingWorked(FatalError, RuntimeError):
    """As many trials as are allowed failed one after the other."""
