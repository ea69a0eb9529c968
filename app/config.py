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
