"""The fast readers of events: msgspec structs made from the pydantic models.

A struct accepts at most what its model accepts, and reads the same values: so it is safe to ask the struct first. It
knows more than the model, namely the metric names of outcomes and the few values that names take: so reading one costs
neither a search nor a new string. It learns them from records that the model accepted, up to a bound.
"""

import json
import math
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from pydantic import StringConstraints

from contracts.events import MODELS, Event, EventTime, Kind, Number, Outcome
from contracts.times import format_time

__all__ = ["FastReader", "Struct"]

Struct = Any  # a struct made at run time: fields of the model in snake_case, and `metric_0`, `metric_1`, ...
Enveloped = dict[str, Any]  # of a JSON object: its texts, whole numbers, booleans and nulls, and events as structs

_MOST_VALUES: Final = 256  # of one name; beyond, any text is read (0.03 µs slower a field)
_MOST_METRICS: Final = 64  # names learned beside the contracts'; an outcome with others is read by its model

_NAMES: Final = (
    "event",
    "flag_key",
    "experiment_key",
    "variation",
    "assignment_unit",
    "model_route",
    "prompt_version",
    "retrieval_profile",
    "guardrail",
)

# A value that no producer sends; should one, its model accepts it too. Literals need at least one.
_NOT_LEARNED_YET: Final = "\0"


class FastReader:
    """Reads one kind of event. `decode(value)` returns a struct, or raises anything for what the model must judge.

    `decode_around(value)` does so for a JSON object around an event: it returns the object with the struct in it.
    """

    decode: Callable[[bytes], Struct]
    decode_around: Callable[[bytes], Enveloped]

    def __init__(self, kind: Kind, metrics: Iterable[str] = ()) -> None:
        """Know these metric names from the start (of outcomes alone), but for those that JSON must escape."""
        self._model = MODELS[kind]
        self.metrics: tuple[str, ...] = tuple(sorted(filter(_plain, set(metrics)))) if kind == "outcome" else ()
        self._most_metrics = len(self.metrics) + _MOST_METRICS
        self._values: dict[str, set[str]] = {
            name: {_NOT_LEARNED_YET} for name in _NAMES if name in self._model.model_fields
        }
        self._make()

    def learn(self, event: Event) -> None:
        """Learn the names that the event holds, as far as they are new and the bounds allow."""
        changed = False
        for name, values in self._values.items():
            value = getattr(event, name)
            if value is not None and value not in values and len(values) <= _MOST_VALUES:
                values.add(value)
                changed = True
        if isinstance(event, Outcome):
            new = sorted(filter(_plain, set(event.metrics).difference(self.metrics)))
            if new and len(self.metrics) + len(new) <= self._most_metrics:
                self.metrics = (*self.metrics, *new)
                changed = True
        if changed:
            self._make()

    def settle(self, read: Struct | Event, value: bytes) -> Struct:
        """Return, with the names known now, what was read earlier, or judged by its model as the value of an event.

        An event that still only its model can read becomes a struct with `others`, the metrics that have no field.
        """
        if type(read) is self._struct:
            return read
        if isinstance(read, msgspec.Struct):  # names are only ever added, and it holds none of those
            return self._struct(**msgspec.structs.asdict(read))
        try:
            return self.decode(value)
        except Exception:  # noqa: BLE001 -- what the reader raises only says that the model was needed
            return self._from_model(read)

    def _from_model(self, event: Event) -> Struct:
        fields = {name: getattr(event, name) for name in type(event).model_fields}
        if event.timestamp is not None:
            fields["timestamp"] = format_time(event.timestamp, "microseconds")
        found = event.metrics if isinstance(event, Outcome) else {}
        fields |= {f"metric_{i}": found[name] for i, name in enumerate(self.metrics) if name in found}
        return self.wide(**fields, others={name: found[name] for name in found if name not in self.metrics})

    def _make(self) -> None:
        fields: list[tuple[Any, ...]] = [self._field(name) for name in self._model.model_fields]
        fields += [(f"metric_{i}", bool | float, math.nan) for i in range(len(self.metrics))]
        wire = {name: str(info.alias) for name, info in self._model.model_fields.items()}
        wire |= {f"metric_{i}": name for i, name in enumerate(self.metrics)}
        # Structs hold nothing that could refer back to them, so the garbage collector need not look (0.1 µs an event).
        self._struct = msgspec.defstruct(
            self._model.__name__, fields, rename=wire, kw_only=True, forbid_unknown_fields=True, gc=False
        )
        self.wide = msgspec.defstruct(
            f"Wide{self._model.__name__}",
            [("others", dict[str, float])],
            bases=(self._struct,),
            rename={"others": ""},  # the one name that no metric has
            kw_only=True,
            gc=False,
        )
        self.decode = msgspec.json.Decoder(self._struct).decode
        around: Any = dict[str, Union[str, int, bool, self._struct, None]]  # type: ignore[name-defined]  # noqa: UP007
        self.decode_around = msgspec.json.Decoder(around).decode

    def _field(self, name: str) -> tuple[Any, ...]:
        info = self._model.model_fields[name]
        hint = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        kind = _fast(hint)
        values = self._values.get(name, set())
        if 0 < len(values) <= _MOST_VALUES:
            kind = Literal[tuple(sorted(values))]
            kind = kind | None if not info.is_required() else kind
        return (name, kind) if info.is_required() else (name, kind, None)


def _plain(name: str) -> bool:
    """Return whether JSON has the name without escapes, as a struct needs it; only the model reads others."""
    return json.dumps(name, ensure_ascii=False) == f'"{name}"'


def _fast(hint: Any) -> Any:  # noqa: ANN401 -- types are values here
    """Translate the type of a model's field; raises TypeError for what has no translation of equal meaning."""
    origin, arguments = get_origin(hint), get_args(hint)
    fast: Any
    if hint == EventTime:
        fast = str  # parsed by the column, see contracts.times
    elif hint == Number:
        fast = bool | float
    elif origin is Annotated:
        fast = Annotated[_fast(arguments[0]), _lengths(*arguments[1:])]
    elif origin in (Union, UnionType):
        fast = Union[tuple(map(_fast, arguments))]  # noqa: UP007 -- of as many as there are
    elif origin is dict:
        fast = dict[_fast(arguments[0]), _fast(arguments[1])]  # type: ignore[misc]
    elif origin is tuple and arguments[1:] == (...,):
        fast = list[_fast(arguments[0])]  # type: ignore[misc]
    elif origin is Literal or hint in (str, bool, NoneType):
        fast = hint
    else:
        raise TypeError(f"no struct field reads {hint} as its model does")
    return fast


def _lengths(*constraints: object) -> msgspec.Meta:
    match constraints:
        case (StringConstraints(min_length=least, max_length=most) as lengths,) if lengths == StringConstraints(
            min_length=least, max_length=most
        ):
            return msgspec.Meta(min_length=least, max_length=most)
    raise TypeError(f"no struct field checks {constraints} as its model does")
