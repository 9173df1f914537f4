"""Every error that Perennial raises on purpose.

    PerennialError
    ├── ConfigError          the configuration or the command line is wrong       exit 2
    ├── InputUnusableError   the stream cannot be read, or every row is bad        exit 3
    ├── LostPlaceError       an actor that was started again is asked to go on before it was told where
    ├── UnknownVersionError  a version that does not exist, or is not kept any more
    ├── NotFollowedError     production has moved, and a replica does not answer with it yet
    ├── DamagedVersionError  a version on storage is torn, or not what was written
    └── LearningError        a role failed beyond what retries may mend            exit 1

A message says what happened, the value seen, the limit, and what to do. Each class takes one message only, so that
it survives being pickled between processes.
"""


class PerennialError(Exception):
    """The root; `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(PerennialError):
    """A key, a value or an argument that cannot be used."""

    exit_code = 2


class InputUnusableError(PerennialError):
    """The stream is missing, empty, unreadable or bad in every row."""

    exit_code = 3


class LostPlaceError(PerennialError):
    """A role that Ray has started again does not know of what went before: it has to be told where to go on from.

    A call that was on its way while the role was down finds it alive and empty; without this it would be answered from nothing.
    """


class UnknownVersionError(PerennialError):
    """There is no such version to move an alias to."""


class NotFollowedError(PerennialError):
    """The alias has moved, but a replica has not followed in time."""


class DamagedVersionError(PerennialError):
    """A version on storage cannot be gone on from: a file is missing, cut off or changed."""


class LearningError(PerennialError):
    """The loop cannot go on: a role kept failing, or no contribution could be accepted."""
