"""The file of the journal: its tables, how it is opened, and its transactions, each with the totals that it changes."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from actors.errors import ConfigError, LearningError, PerennialError

LAYOUT = 1  # the file's `user_version`; 0 until its tables are there

_BUSY_S = 10.0  # how long another process may hold the file
_WAL_BYTES = 64 << 20  # what is left of the write-ahead log after it has been emptied

_TABLES = (
    """CREATE TABLE served (
        number INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        features TEXT NOT NULL,
        answer TEXT NOT NULL,
        propensity REAL,
        version INTEGER NOT NULL,
        served_at REAL NOT NULL,
        shadow_answer TEXT,
        shadow_propensity REAL,
        shadow_version INTEGER
    )""",
    "CREATE INDEX served_by_time ON served (served_at)",
    """CREATE TABLE labels (
        number INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        label TEXT,
        score REAL,
        received_at REAL NOT NULL
    )""",
    "CREATE INDEX labels_by_time ON labels (received_at)",
    """CREATE TABLE rows (
        offset INTEGER PRIMARY KEY,
        features TEXT NOT NULL,
        label TEXT,
        score REAL,
        answer TEXT,
        propensity REAL,
        version INTEGER,
        request_id TEXT,
        served_at REAL,
        received_at REAL NOT NULL,
        shadow_answer TEXT,
        shadow_propensity REAL,
        shadow_version INTEGER
    )""",
    "CREATE UNIQUE INDEX rows_by_request ON rows (request_id) WHERE request_id IS NOT NULL",
    "CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    f"PRAGMA user_version = {LAYOUT}",
)
_OPENING_REFUSED = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_NOTADB")
_REMEDIES = {
    "SQLITE_FULL": "make room on its disk",
    "SQLITE_CANTOPEN": "make the file and its folder readable and writable",
    "SQLITE_READONLY": "make the file and its folder writable",
    "SQLITE_BUSY": "another process holds it: end that one",
    "SQLITE_NOTADB": "it is no journal: move it away, or name another path",
    "SQLITE_CORRUPT": "it is damaged: move it away with its -wal and -shm files, and a new one is begun",
}


class JournalFile:
    """May be used from any thread, by one at a time; `totals`, those of the last transaction, at any time.

    Raises ConfigError where `path` cannot be a journal, LearningError where it cannot be read or written any more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.totals: Counter[str] = Counter()
        self._data_version = -1  # changes when another process writes
        self._is_durable: bool | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the journal {path} cannot be made: {error}; make its folder writable") from error
        with self.translated("opened"):
            self.connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._check_layout()
                self._found = os.stat(path)
                self._prepare()
            except BaseException:
                self.connection.close()
                raise

    def close(self) -> None:
        with self.translated("closed"):
            self.connection.close()

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[Counter[str]]:
        """The totals, to be changed in place; what is done meanwhile is kept as a whole or not at all."""
        with self.translated("written"):
            self._check_presence()
            if durable is not self._is_durable:
                self.connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._is_durable = durable
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                before = self._current_totals()
                totals = Counter(before)
                yield totals
                changed = [(name, value) for name, value in totals.items() if value != before[name]]
                self.connection.executemany("INSERT OR REPLACE INTO totals (name, value) VALUES (?, ?)", changed)
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self.connection.rollback()
                raise
        self.totals = totals

    @contextmanager
    def translated(self, done: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise refusal(self.path, done, error) from error

    def _prepare(self) -> None:
        mode = self.connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ConfigError(
                f"the journal {self.path} cannot have a write-ahead log (its mode stays {mode!r}), as on some network "
                "filesystems; put it on a local disk"
            )
        self.connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        with self.transaction(durable=True):
            if not self._check_layout():
                for statement in _TABLES:
                    self.connection.execute(statement)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _check_layout(self) -> bool:
        """False where the file is empty."""
        layout = self.connection.execute("PRAGMA user_version").fetchone()[0]
        is_empty = not self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if layout != (0 if is_empty else LAYOUT):
            raise ConfigError(
                f"{self.path} is no journal of this release (layout {layout}, this one writes {LAYOUT}); move it away, or go "
                "on with the release that wrote it"
            )
        return not is_empty

    def _current_totals(self) -> Counter[str]:
        """Those of the last transaction, unless another process has written since, such as one that is being replaced."""
        version = self.connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            return self.totals
        if not self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'totals'").fetchone():
            return Counter()
        self.totals = Counter(dict(self.connection.execute("SELECT name, value FROM totals")))
        self._data_version = version
        return self.totals

    def _check_presence(self) -> None:
        """SQLite would go on writing to a file that has been taken away, where nobody will find it."""
        try:
            is_there = os.path.samestat(self._found, os.stat(self.path))
        except OSError:
            is_there = False
        if not is_there:
            raise LearningError(f"the journal {self.path} has been taken away; put it back and start again")


def refusal(path: Path, done: str, error: sqlite3.Error) -> PerennialError:
    """What SQLite refused, in words: ConfigError where another path is needed, LearningError otherwise."""
    code = "_".join(getattr(error, "sqlite_errorname", "SQLITE_ERROR").split("_")[:2])  # without its detail, as of IOERR_FSYNC
    remedy = _REMEDIES.get(code, "look at its disk and at what else uses it")
    kind = ConfigError if done == "opened" and code in _OPENING_REFUSED else LearningError
    return kind(f"the journal {path} cannot be {done}: {error} ({code}); {remedy}")
