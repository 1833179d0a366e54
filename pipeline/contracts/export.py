"""`evidence contracts export`: the contracts in the standards that other tools read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from contracts.asyncapi import Channel, Cluster, asyncapi
from contracts.errors import SettingsError
from contracts.events import Kind
from contracts.flags import ContractBook
from contracts.schemas import bundle, schemas
from pipeline.preflight import Topic
from pipeline.settings import Settings
from pipeline.topics import dead_letters_of, planned
from pipeline.version import VERSION
from sinks.odcs import Freshness, odcs

__all__ = ["Standard", "documents", "written"]

Standard = Literal["jsonschema", "asyncapi", "odcs"]

_KINDS: Final[tuple[Kind, ...]] = ("exposure", "outcome", "guardrail")  # in the order of Settings.topics
_JSON: Final = ".json"
_YAML: Final = frozenset({".yaml", ".yml"})


class _Dumper(yaml.SafeDumper):
    """A dumper that writes what stands twice out twice."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - the parent's signature
        return True


def documents(
    standard: Standard, settings: Settings, book: ContractBook | None, partitions: int
) -> dict[str, Mapping[str, Any]]:
    """Return the documents of a standard by file name; the first says all where only one can be written.

    `book` limits events to its contracts; None leaves them open. The same input gives the same documents.
    """
    match standard:
        case "jsonschema":
            parts = {f"{name}.schema.json": schema for name, schema in schemas(book).items()}
            return {"event.schema.json": bundle(book), **parts}
        case "asyncapi":
            cluster = _cluster(settings, book or ContractBook(), partitions)
            return {"asyncapi.yaml": asyncapi(cluster, book, VERSION)}
        case "odcs":
            freshness = Freshness(settings.close_interval, settings.allowed_lateness, settings.out_of_orderness)
            return {"evidence.odcs.yaml": odcs(settings.lake.as_posix(), freshness, book or (), VERSION)}


def written(made: Mapping[str, Mapping[str, Any]], output: Path | None) -> tuple[str, list[Path]]:
    """Write documents to a file or a directory; return what is to be printed instead, and what was written.

    A path that ends in .json, .yaml or .yml is a file, and holds the first document; any other is a directory, which is
    made, and holds all. SettingsError where it cannot be written.
    """
    first, document = next(iter(made.items()))
    if output is None:
        return text(document, Path(first).suffix), []
    if output.suffix in {_JSON, *_YAML} and not output.is_dir():
        texts = {output: text(document, output.suffix)}
    else:
        texts = {output / name: text(each, Path(name).suffix) for name, each in made.items()}
    try:
        for path, content in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--output {output}: {error.strerror}; name a place that can be written") from None
    return "", list(texts)


def text(document: Mapping[str, Any], suffix: str) -> str:
    """Return a document as JSON or YAML, by the suffix of its file."""
    if suffix in _YAML:
        return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _cluster(settings: Settings, book: ContractBook, partitions: int) -> Cluster:
    sources = dict(zip(_KINDS, planned(settings, book, partitions), strict=True))
    security = settings.security
    certificate = "X509" if security.cert is not None else None
    return Cluster(
        brokers=settings.bootstrap_servers.split(","),
        encrypted=security.encrypted,
        scheme=security.mechanism if security.authenticated else certificate,
        group=settings.group,
        sources={kind: _channel(topic) for kind, topic in sources.items()},
        dead_letters={kind: _channel(dead_letters_of(topic)) for kind, topic in sources.items()},
        reroutes=settings.reroute,
    )


def _channel(topic: Topic) -> Channel:
    return Channel(topic.name, topic.partitions, topic.configs)
