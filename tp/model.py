"""Model shapes: the sizes of a transformer that decide what tensor parallelism computes and sends."""

from dataclasses import dataclass
from typing import Final, Literal

from pydantic import with_config

from tp import catalogue
from tp.schema import STRICT, Name

# A slip of the pen beyond it; pipelines are cut at every layer.
MOST_LAYERS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(STRICT)
class ModelShape:
    """The sizes of a decoder-only transformer."""

    name: Name
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_width: int
    gated: bool
    """Whether the FFN multiplies by a gate (SwiGLU): three matrices instead of two."""
    num_layers: int
    vocab_size: int
    tied_embeddings: bool
    """Whether the output layer shares the embedding's weights."""
    norm: Literal["rms", "layer"]
    position: Literal["rope", "learned"]
    max_positions: int
    """Length of the learned position table, or the longest context it was trained on."""
    bias: Literal["none", "qkv", "all"]
    """Which linear layers carry a bias."""
    source: str

    def __post_init__(self) -> None:
        sizes = ("hidden", "num_heads", "num_kv_heads", "head_dim", "ffn_width", "num_layers", "vocab_size")
        for field in (*sizes, "max_positions"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.num_layers > MOST_LAYERS:
            raise ValueError(f"num_layers is {self.num_layers}; no model has more than {MOST_LAYERS}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")

    @property
    def attention_width(self) -> int:
        """Width of all heads together, a*d; the hidden size in most models."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key (or all value) heads together."""
        return self.num_kv_heads * self.head_dim

    @property
    def has_qkv_bias(self) -> bool:
        return self.bias != "none"

    @property
    def has_out_bias(self) -> bool:
        return self.bias == "all"

    @property
    def has_ffn_bias(self) -> bool:
        return self.bias == "all"

    @property
    def num_parameters(self) -> int:
        """Every weight and bias of the model, embeddings and norms included."""
        norm = self.hidden * (2 if self.norm == "layer" else 1)
        qkv_width = self.attention_width + 2 * self.kv_width
        attention = self.hidden * (qkv_width + self.attention_width)
        ffn = (3 if self.gated else 2) * self.hidden * self.ffn_width
        biases = (qkv_width if self.has_qkv_bias else 0) + (
            2 * self.hidden + self.ffn_width * (2 if self.gated else 1) if self.bias == "all" else 0
        )
        layer = attention + ffn + biases + 2 * norm
        positions = self.max_positions * self.hidden if self.position == "learned" else 0
        embeddings = self.vocab_size * self.hidden * (1 if self.tied_embeddings else 2) + positions
        return self.num_layers * layer + embeddings + norm


def load_model(name: str) -> ModelShape:
    """The model `name` of the catalogue, or described by the TOML file of that path."""
    return catalogue.load(name, ModelShape, kind="models", flag="--model")
