"""Limits of the application; environment variables with the prefix ``FATHOM_`` override them."""

from __future__ import annotations

from typing import Final

MAX_CONTENT_LENGTH: Final = 64 * 1024
"""Bytes of a request's body; ``/api/v1/gguf`` alone takes more."""

MAX_FORM_MEMORY_SIZE: Final = 64 * 1024
MAX_FORM_PARTS: Final = 100

TRUSTED_HOSTS: Final = None
"""Names that the service answers to, for links that cannot be forged; None = any."""

COMPRESS_STREAMS: Final = False
"""A part of a static file that a range asks for is sent as it is."""

SEND_FILE_MAX_AGE_DEFAULT: Final = 365 * 24 * 3600
"""Seconds: static files have their content's hash in the path."""

HUB_ENDPOINT: Final = None
"""Address of the Hub; None = the environment's ``HF_ENDPOINT``, else https://huggingface.co."""

HUB_CACHE: Final = None
"""Folder of what is kept of the Hub; None = ``fathom`` in the user's folder for caches."""

HUB_CACHE_BYTES: Final = 256 * 1024 * 1024
"""Bytes that are kept at most; 0 = nothing. A model takes a few thousand."""

OLLAMA_REGISTRY: Final = None
"""Address of the registry that names of Ollama's library are looked up in, such as https://registry.ollama.ai; None =
none is asked, and only the names that are at hand are known."""

HUB_FRESH_SECONDS: Final = 300
"""How long a list of a repository's files is believed."""

HUB_LOOKUP_SECONDS: Final = 20
"""For one model on the Hub, all requests together."""

HUB_LOOKUPS_AT_ONCE: Final = 8
"""Models that one process looks up at the same time."""
