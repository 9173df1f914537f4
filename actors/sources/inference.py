"""The schema that the first rows of a stream show."""

from collections.abc import Iterable
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import ConfigError, InputUnusableError
from actors.learning.encoding import plain
from actors.learning.schema import Column, ColumnKind, LabelType, Schema
from actors.learning.task import TaskConfig, TaskKind
from actors.sources.config import StreamConfig

# What Arrow casts to a number. The words are numbers here too, so that a NaN is refused in its row and does not turn
# the column to text.
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
NOT_FINITE = r"^[+-]?(?i:nan(\([a-z0-9_]*\))?|inf|infinity)$"
INTEGER = r"^-?[0-9]{1,18}$"
BOOLEAN = r"^(?i:true|false)$"

_TOLERATED_FRACTION = 0.05  # of unparseable values in a column that is still called numeric
_FEW_VALUES = 100  # a categorical column has at most so many different values in the sample, and at most one for two rows
_CERTAINLY_FEW = 10
_SENTENCE_WORDS = 4.0  # a column of longer values that hardly repeat is text
_REPEATED_FRACTION = 0.2
_NAME_WORDS = 1.5  # a column of shorter values, some of which repeat, holds names: of users, of items
_NAME_FRACTION = 0.9  # at most so many of them are different


def infer_schema(sample: pa.Table, config: StreamConfig, task: TaskConfig) -> Schema:
    """Raises ConfigError where the label or a configured column is not in `sample` or cannot be used."""
    names = sample.column_names
    if config.label not in names:
        raise ConfigError(
            f"stream.label is {config.label!r}, which is no column of the stream{_nearest(config.label, names)}; "
            f"its columns are {_listed(names)}; set stream.label to the one to learn"
        )
    features = [name for name in names if name != config.label]
    if not features:
        raise InputUnusableError(f"the stream has no column beside its label {config.label!r}; at least one feature is needed")
    columns = config.given_columns()
    if columns is None:
        columns = tuple(_infer_column(name, plain(sample.column(name))) for name in features)
    else:
        given = [column.name for column in columns]
        for name in given:
            if name not in names:
                raise ConfigError(
                    f"stream.columns.{name} is no column of the stream{_nearest(name, features)}; its columns are "
                    f"{_listed(names)}"
                )
        unnamed = [name for name in features if name not in given]
        if unnamed:
            raise ConfigError(
                f"stream.columns does not say of what kind {_listed(unnamed)} is: add a kind for every feature column of the "
                "stream, "
                "or take the column out of the data"
            )
    return Schema(columns, config.label, _label_type(plain(sample.column(config.label)), config, task))


def strings(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def numbers(kind: pa.DataType) -> bool:
    """Whether it is a type of numbers, or of what counts as numbers: booleans and times."""
    test = pa.types
    is_number = test.is_integer(kind) or test.is_floating(kind) or test.is_decimal(kind)
    return bool(is_number or test.is_boolean(kind) or test.is_temporal(kind))


def _infer_column(name: str, array: pa.Array) -> Column:
    kind = array.type
    if pa.types.is_fixed_size_list(kind):
        return Column(name, ColumnKind.VECTOR, kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.unique(pc.list_value_length(array.drop_null())).to_pylist()
        if len(lengths) != 1 or not lengths[0]:
            raise ConfigError(
                f"column {name!r} has lists of {_listed(map(str, sorted(lengths)))} values; a vector has one length: name it "
                "in "
                "stream.columns, as vector[8], or take the column out of the data"
            )
        return Column(name, ColumnKind.VECTOR, lengths[0])
    if strings(array.type):
        return Column(name, _infer_strings(array.cast(pa.string())))
    if numbers(kind) or pa.types.is_null(kind):
        return Column(name, ColumnKind.NUMERIC)
    raise ConfigError(
        f"column {name!r} has the type {kind}, which cannot be learned from; convert it to numbers, text or lists of numbers, "
        "or take the column out of the data"
    )


def _infer_strings(cells: pa.Array) -> ColumnKind:
    cells = filled(cells)
    if _matching(cells, f"{NUMBER}|{NOT_FINITE}") >= (1 - _TOLERATED_FRACTION) * len(cells):
        return ColumnKind.NUMERIC
    distinct = pc.count_distinct(cells).as_py()
    words = pc.mean(pc.count_substring_regex(cells, r"\S+")).as_py()
    if words >= _SENTENCE_WORDS and distinct > _REPEATED_FRACTION * len(cells):
        return ColumnKind.TEXT
    if words < _NAME_WORDS and distinct <= _NAME_FRACTION * len(cells):
        return ColumnKind.CATEGORICAL
    is_few = distinct <= max(_CERTAINLY_FEW, min(_FEW_VALUES, len(cells) // 2))
    return ColumnKind.CATEGORICAL if is_few else ColumnKind.TEXT


def _label_type(array: pa.Array, config: StreamConfig, task: TaskConfig) -> LabelType:
    if task.kind is TaskKind.REGRESSION:
        cells = filled(array.cast(pa.string())) if strings(array.type) else array
        in_text = strings(array.type) and _matching(cells, NUMBER) > 0.5 * len(cells)
        is_numeric = in_text or numbers(array.type) or pa.types.is_null(array.type)
        if not is_numeric and len(cells):
            raise ConfigError(
                f"task.kind is regression, but the label {config.label!r} holds {cells[0].as_py()!r}, not numbers; "
                "set task.kind: classification, or stream.label to a column of numbers"
            )
        return LabelType.FLOAT
    if config.label_type != "auto":
        return config.label_type
    if task.classes != "auto" and task.classes:
        return _type_of_classes(task.classes)
    kind = array.type
    if strings(array.type):
        return _type_of_strings(filled(array.cast(pa.string())))
    if pa.types.is_boolean(kind):
        return LabelType.BOOLEAN
    if pa.types.is_integer(kind):
        return LabelType.INTEGER
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return LabelType.FLOAT
    if pa.types.is_nested(kind):
        raise ConfigError(f"the label {config.label!r} has the type {kind}; a class is a number, a boolean or a string")
    return LabelType.STRING


def _type_of_strings(cells: pa.Array) -> LabelType:
    cells = cells.filter(pc.invert(pc.match_substring_regex(cells, NOT_FINITE)))
    for label_type, pattern in ((LabelType.INTEGER, INTEGER), (LabelType.FLOAT, NUMBER), (LabelType.BOOLEAN, BOOLEAN)):
        if len(cells) and _matching(cells, pattern) == len(cells):
            return label_type
    return LabelType.STRING


def _type_of_classes(classes: list[str | int | float | bool]) -> LabelType:
    kinds = {type(value) for value in classes}
    if kinds == {bool}:
        return LabelType.BOOLEAN
    if kinds == {int}:
        return LabelType.INTEGER
    return LabelType.FLOAT if kinds <= {int, float} else LabelType.STRING


def filled(cells: pa.Array) -> pa.Array:
    """The cells that are not missing, without the blanks around them."""
    cells = pc.utf8_trim_whitespace(cells.drop_null())
    return cells.filter(pc.not_equal(cells, ""))


def _matching(cells: pa.Array, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(cells, pattern)).as_py() or 0)


def _nearest(name: str, names: Iterable[str]) -> str:
    """Case is ignored, so that `Class` is near `class`."""
    by_lower = {other.lower(): other for other in names}
    near = get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
