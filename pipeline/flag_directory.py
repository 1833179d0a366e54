"""The directory of flag files: read at start, and again when a file changes."""

import logging
from pathlib import Path

from contracts.errors import ContractError, SettingsError
from contracts.flags import ContractBook, read_contracts

__all__ = ["FlagDirectory"]

log = logging.getLogger(__name__)


class FlagDirectory:
    """Watches a directory for `*.yaml` and `*.yml` files.

    A change that breaks the contract keeps the version in force and is said once.
    """

    def __init__(self, directory: Path) -> None:
        """Read nothing yet."""
        self._directory = directory
        self._seen: dict[str, str] = {}

    def read(self) -> ContractBook:
        """Return the contracts; raises ContractError for a file that breaks it, SettingsError where there are none."""
        self._seen = self._texts()
        if not self._seen:
            raise SettingsError(f"EVIDENCE_FLAGS={self._directory}: no flag file (*.yaml) is there; add one")
        return read_contracts(self._seen)

    def changed(self) -> ContractBook | None:
        """Return the contracts if a file changed since the last look and all are right, else None."""
        try:
            texts = self._texts()
            if texts == self._seen:
                return None
            self._seen = texts
            book = read_contracts(texts)
        except (ContractError, SettingsError) as error:
            log.error("%s; the contracts read before stay in force", error)  # noqa: TRY400 - the error is one line
            return None
        log.info("contracts read again from %s: %d flags", self._directory, len(texts))
        return book

    def _texts(self) -> dict[str, str]:
        texts = {}
        try:
            for path in sorted(self._directory.iterdir()):
                if path.suffix in {".yaml", ".yml"} and not path.name.startswith("."):
                    texts[str(path)] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ContractError(str(path), 0, "file", "not UTF-8; save it as UTF-8") from error
        except FileNotFoundError as error:
            raise SettingsError(
                f"EVIDENCE_FLAGS={self._directory}: there is no such directory; make it and add a flag file"
            ) from error
        except OSError as error:
            raise SettingsError(
                f"EVIDENCE_FLAGS={self._directory}: {error.strerror}; give this user the right"
            ) from error
        return texts
