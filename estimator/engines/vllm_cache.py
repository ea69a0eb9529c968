"""How vLLM lays out its cache: pages of tokens, groups of layers that share block numbers, one pool for all (0.33.0).

Source: vllm/v1/core/kv_cache_planning.py and vllm/v1/kv_cache_interface.py. Not modelled: layouts with the block as
outermost dimension (``VLLM_KV_CACHE_LAYOUT``), context parallelism, checkpoints within a prefill that FlashInfer
exports of gated delta nets. Chunks of llama 4 count as a window: one block too many for each group of layers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from estimator.engines.layout import counts, layout, shown
from estimator.engines.packing import F16
from estimator.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from estimator.engines.base import Job
    from estimator.engines.layout import Cached
    from estimator.engines.packing import CacheType

F32_STATES: Final = frozenset({"qwen35", "qwen35moe", "nemotron_h", "nemotron_h_moe", "kimi-linear"})
"""Architectures whose recurrent state is f32 unless told otherwise: by their configs, Nemotron-H's and KDA's defaults
(model_executor/models/config.py:817-832 and 955-972, layers/mamba/mamba_utils.py:132-149). Others keep it in the
type that the model is computed in."""

FP8_DS_MLA: Final = 656
"""Bytes of a row of 512 + 64: 8 bits with four scales of 4 B, and the rotated part at 16 (mla_attention.py:1386)."""

EXPANDED: Final = frozenset({"minicpm3"})
"""Architectures with latents of which vLLM caches K and V of every head, V padded to K (models/minicpm3.py:126-165)."""

BOUNDARY: Final = 2
"""First and last layers that turboquant and ultraquant leave at 16 bits, unless some layers are recurrent
(quantization/turboquant/config.py:178-213)."""

IN_FLIGHT: Final = 2
"""Batches at once with asynchronous scheduling, the default: windows hold their tokens (config/vllm.py:588-608)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Layers whose pages are alike, on each device.

    Args:
        label: for people.
        attention: ``full``, ``window`` or ``state``.
        n_layer: layers.
        token: bytes that one token adds to one layer; 0 for states.
        block: tokens of a page.
        page: bytes of a page; of a state all of it.
        window: tokens of the window.
        is_latent: a page of it cannot be padded.
        explain: what a token adds, in the model's numbers.
    """

    label: str
    attention: Literal["full", "window", "state"]
    n_layer: int
    token: int
    block: int
    page: int
    window: int
    is_latent: bool
    explain: str


@dataclass(frozen=True, slots=True)
class Group:
    """Layers of one kind: ``n_group`` block tables, each for as many layers as any group has."""

    kind: Kind
    n_group: int

    def blocks(self, n_ctx: int, chunk: int, states: int) -> int:
        """Blocks that one request of so many tokens takes in all of its tables.

        Args:
            n_ctx: tokens of the request.
            chunk: tokens of a batch.
            states: copies of a recurrent state.
        """
        kind = self.kind
        if kind.attention == "state":
            return self.n_group * states
        if kind.attention == "full":
            return self.n_group * -(-n_ctx // kind.block)
        tokens = min(kind.window - 1 + IN_FLIGHT * chunk, n_ctx)
        return self.n_group * (-(-tokens // kind.block) + 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """The pool: bytes of a block on each device, in whichever group it is, and the groups.

    ``padding``: layers that are counted though the model lacks them, so that all groups are alike.
    """

    bytes_per_block: int
    groups: tuple[Group, ...]
    padding: int = 0


def plan(job: Job, n_devices: int, block: int) -> Plan:
    """The pool of a job whose layers are shared by tensor parallelism.

    Raises:
        SettingsError: vLLM refuses it, or it is not modelled.
    """
    kinds = _aligned(_merged(_kinds(job, n_devices, block)), block)
    if not kinds:
        return Plan(0, ())
    first = kinds[0]
    same = {(kind.attention, kind.window) for kind in kinds}
    if len(same) == 1 and (first.attention != "state" or len({kind.page for kind in kinds}) == 1):
        # one group of all layers, whatever their pages (kv_cache_planning.py:310-346)
        explain = " and ".join(f"{kind.explain} ({kind.n_layer})" for kind in kinds)
        label = ", ".join(dict.fromkeys(kind.label for kind in kinds))
        whole = replace(first, n_layer=sum(kind.n_layer for kind in kinds), label=label, explain=explain)
        return Plan(sum(kind.n_layer * kind.page for kind in kinds), (Group(whole, 1),))
    return _grouped(_unified(job, kinds))


def _kinds(job: Job, n_devices: int, block: int) -> Iterator[Kind]:
    """The kinds of layers, attention before states."""
    layers = counts(job.model)
    if job.model.architecture in EXPANDED:
        layers = Counter({_expanded(cached): n_layer for cached, n_layer in layers.items()})
    has_states = any(cached.is_recurrent for cached in layers)
    for cached, n_layer in layers.items():
        if cached.attention == "none":
            continue
        wide = _boundary(job, cached) if not has_states else 0
        for stored, count in ((job.type_k, n_layer - wide), (None, wide)):
            if count:
                yield _attention(cached, count, stored, n_devices, block)
        if cached.n_indexer:
            yield _indexer(cached, n_layer, block)
    for cached, n_layer in layers.items():
        if cached.is_recurrent:
            yield _state(job, cached, n_layer, n_devices)


def _expanded(cached: Cached) -> Cached:
    """Whole heads in place of a latent."""
    width = cached.n_expanded_k
    return replace(cached, attention="full", n_head_kv=cached.n_head, n_embd_head_k=width, n_embd_head_v=width)


def _merged(kinds: Iterable[Kind]) -> tuple[Kind, ...]:
    """Kinds that differ in nothing that is stored are one."""
    found: dict[tuple[object, ...], Kind] = {}
    for kind in kinds:
        key = (kind.attention, kind.token, kind.page, kind.window, kind.is_latent)
        known = found.get(key)
        found[key] = replace(known, n_layer=known.n_layer + kind.n_layer) if known else kind
    return tuple(found.values())


def _attention(cached: Cached, n_layer: int, stored: CacheType | None, n_devices: int, block: int) -> Kind:
    """Layers that attend; ``stored`` None is at 16 bits."""
    heads = cached.heads_of(n_devices)
    if cached.attention == "latent":
        row = _latent_bytes(cached, stored)
        explain = f"{row:,} B for {shown(cached)}"
    else:
        k, v = (stored.k, stored.v) if stored else (F16, F16)
        row = k.row_bytes(cached.n_embd_head_k) + v.row_bytes(cached.n_embd_head_v)
        explain = f"{heads} heads x {row:,} B ({shown(cached)})"
    name = stored.id if stored else "16-bit"
    window = f" with a window of {cached.window:,}" if cached.window else ""
    label = f"attention{window} in {name}"
    attention: Literal["full", "window"] = "window" if cached.window else "full"
    token = heads * row
    is_latent = cached.attention == "latent"
    return Kind(label, attention, n_layer, token, block, block * token, cached.window, is_latent, explain)


def _latent_bytes(cached: Cached, stored: CacheType | None) -> int:
    """Bytes of a latent and its rotated part; with an indexer fp8 is the packed form (flashmla_sparse.py:153)."""
    if stored is None:
        return F16.row_bytes(cached.n_embd_head_k)
    if not cached.n_indexer or stored.k == F16:
        return stored.k.row_bytes(cached.n_embd_head_k)
    if (cached.n_latent, cached.n_rot) != (512, 64):
        message = (
            f"cache_type_k {stored.id} packs latents of 512 + 64 elements; this model has {shown(cached)}: use auto"
        )
        raise SettingsError("cache-type-of-other-latents", message, field="cache_type_k", allowed=("auto",))
    return FP8_DS_MLA


def _indexer(cached: Cached, n_layer: int, block: int) -> Kind:
    """Keys of an indexer: 8 bits and a scale of 4 B for each 128 (models/deepseek_v2.py:732)."""
    token = cached.n_indexer + cached.n_indexer // 128 * 4
    explain = f"{token:,} B for a key of {cached.n_indexer}"
    return Kind("indexer", "full", n_layer, token, block, block * token, 0, True, explain)


def _state(job: Job, cached: Cached, n_layer: int, n_devices: int) -> Kind:
    """Recurrent layers: one page is the state of one sequence, shared by the devices."""
    size = _state_bytes(job)
    page = -(-(cached.n_conv * 2 + cached.n_state * size) // n_devices)
    explain = f"{cached.n_conv:,} x 2 B + {cached.n_state:,} x {size} B"
    explain += f", over {n_devices} devices" if n_devices > 1 else ""
    return Kind("recurrent state", "state", n_layer, 0, 0, page, 0, False, explain)


def _state_bytes(job: Job) -> int:
    asked = job.options["mamba_ssm_cache_dtype"]
    if asked == "auto":
        return 4 if job.model.architecture in F32_STATES else 2
    return 4 if asked == "float32" else 2


def _boundary(job: Job, cached: Cached) -> int:
    """Layers of a kind among the first and last ones that stay at 16 bits."""
    if not job.type_k.id.startswith(("turboquant", "ultraquant")):
        return 0
    model = job.model
    n = min(BOUNDARY, model.n_layer // 2)
    ends = {*range(n), *range(model.n_layer - n, model.n_layer)}
    every = layout(model)
    return sum(every[il] == cached for il in ends)


def _aligned(kinds: tuple[Kind, ...], block: int) -> tuple[Kind, ...]:
    """Beside recurrent layers a page of attention has so many tokens that it is no smaller than a state.

    The state is padded to the same (platforms/interface.py:1078-1135).
    """
    states = [kind for kind in kinds if kind.attention == "state"]
    attention = next((kind for kind in kinds if kind.attention != "state"), None)
    if not states or attention is None:
        return kinds
    least = max(block, 128) if attention.is_latent else block
    most = max(state.page for state in states)
    tokens = max(least * -(-most // (least * attention.token)), block)
    page = tokens * attention.token
    return tuple(
        replace(kind, page=page) if kind.attention == "state" else replace(kind, block=tokens, page=tokens * kind.token)
        for kind in kinds
    )


def _unified(job: Job, kinds: Sequence[Kind]) -> list[Kind]:
    """All pages made as large as the largest: more tokens where that divides, else padding (planning.py:346-410)."""
    most = max(kind.page for kind in kinds)
    unified = []
    for kind in kinds:
        if kind.attention != "state" and most % kind.page == 0:
            unified.append(replace(kind, block=kind.block * (most // kind.page), page=most))
        elif kind.is_latent:
            raise SettingsError(
                "pages-do-not-unify",
                f"vLLM cannot make the pages of {kind.label} as large as the others of {job.model.name}: use auto",
                field="cache_type_k",
                allowed=("auto",),
            )
        else:
            unified.append(replace(kind, page=most))
    return unified


def _grouped(kinds: Sequence[Kind]) -> Plan:
    """Groups of as many layers each, padded with layers that are not there (planning.py:416-556)."""
    least, most = min(kind.n_layer for kind in kinds), max(kind.n_layer for kind in kinds)
    size = most if most < 1.5 * least else least
    groups = tuple(Group(kind, -(-kind.n_layer // size)) for kind in kinds)
    padding = sum(group.n_group * size - group.kind.n_layer for group in groups)
    return Plan(size * kinds[0].page, groups, padding)
