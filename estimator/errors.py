"""Every refusal of the core, as one tree.

    FathomError (ValueError)
    ├── ModelError          what the model is cannot be read, or is not known
    │   └── IncompleteHeaderError   the bytes end before the header does
    ├── SettingsError       how it is run cannot be, or llama.cpp would refuse it
    └── DeviceError         no such device, or its figures make no sense

``code`` is stable and for programs; the message is for people: it names the field, the value and what would work.
"""

from __future__ import annotations


class FathomError(ValueError):
    """A refusal that a user can act on.

    Args:
        code: stable kebab-case identifier, e.g. ``"unknown-architecture"``.
        message: one sentence for a person.
        field: the input it is about, by the caller's own name for it (``"cache_type_v"``), if one.
        allowed: what would work, if it can be listed or said in a few words.
    """

    def __init__(
        self, code: str, message: str, *, field: str | None = None, allowed: str | tuple[str, ...] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.allowed = allowed


class ModelError(FathomError):
    """The model cannot be read or is not known."""


class IncompleteHeaderError(ModelError):
    """The bytes end before the GGUF header does: ask again with more.

    ``need`` is the length, in bytes from the start of the file, that the reader wants to see next.
    """

    def __init__(self, have: int, need: int) -> None:
        super().__init__(
            "header-incomplete",
            f"the GGUF header is longer than the {have:,} bytes given; read at least the first {need:,} bytes",
        )
        self.have = have
        self.need = need


class SettingsError(FathomError):
    """The settings are out of range, or llama.cpp refuses them for this model."""


class DeviceError(FathomError):
    """The device is not known, or its figures make no sense."""
