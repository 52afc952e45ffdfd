"""What a RecModel is made of."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, GPT2Config, PreTrainedConfig

from hfrec.models.backbone import described

if TYPE_CHECKING:
    from hfrec.items.table import ItemTable

MEMORIES = ("transitions", "popularity", "factors", "words", "vectors")
"""What a model may count: pairs of items, single items, what whole histories share, pairs of texts and of vectors."""
MOST_PROMPT = 1024
"""Tokens of a prompt: each is read again with every history."""
MOST_LAYERS = 64
"""Layers of an encoder that a side network may read."""


@strict
class RecConfig(PreTrainedConfig):
    """Configuration of `RecModel`.

    Args:
        modalities: width F of each kind of content vector, `{"text": 384, "image": 1280}`; may be empty with ids.
        layers: of content vectors that are those of an encoder's layers, one after the other, how wide each is: a side
            network of `side_size` units reads them, see `SideNetwork`.
        hidden_size: model width D; `None` takes the backbone's.
        backbone: Hub id or folder of a pretrained decoder to start from, such as `HuggingFaceTB/SmolLM2-135M`. It is
            read once, by `for_items` here and in `RecModel`: a saved model has all that it needs of it, and what a
            saved configuration names here is where it came from.
        backbone_revision: of the decoder on the Hub: a branch, tag or commit; the commit, once it was read.
        backbone_config: any Hugging Face decoder; by default a GPT-2 of `num_layers` layers and `num_heads` heads.
        prompt: a text that the decoder reads before each history.
        prompt_ids: its words, as rows of the backbone's word table, which has these and no others.
        lora_rank: the decoder stays as it is and learns through a LoRA of this rank on its attention and MLP; at 0 all
            of it learns.
        load_in_4bit, load_in_8bit: hold the decoder in so many bits while its LoRA is trained. What is saved are plain
            numbers, those that the bits stand for.
        likeness: what a fresh model thinks of items: at 0 nothing, its projections are random; above it, that those are
            alike which an encoder has so, more decidedly the higher it is. At 1, where D is the encoder's width, scores
            begin at some ten times a cosine. Only with `hide_seen` does training leave it that.
        tower_size: units of a network of one hidden layer beside each projection of content vectors, for what a matrix
            cannot say, such as that titles in two scripts are of one item; 0 for none.
        word_size: width of a vector that is made of an item's words, beside those of encoders; 0 for none.
        use_item_ids: learn a vector for each item that training has events of.
        num_item_ids: size of that table; grown by training.
        item_id_dropout: share of the items whose id vector is hidden in a training step, so that an
            item known by content alone is a trained case.
        modality_dropout: the same for each of text, picture …
        use_times: the time since the event before is an input.
        event_types: names of event types that are an input; empty for none.
        max_history: newest events of a history that the model reads.
        dropout: of the inputs and of the default backbone.
        attention_dropout: of the default backbone's attention weights; `None` for `dropout`. At 0 attention is fused,
            and long histories are trained on in two thirds of the time.
        memories: what is counted and weighed beside the Transformer, of `transitions`, `popularity`, `factors`, `words`
            and `vectors`.
        memory_decay: what the item before the newest recalls, as a share of what the newest does, and so on.
        memory_window: newest items of a history that recall.
        num_factors: numbers that the memory `factors` keeps of an item.
        factor_decay: as `memory_decay`, for `factors`, which recall by all that the model reads of a history.
        memory_size: units of the network that reads the memories.
        new_item_trust: share, 0 … 1, of what the Transformer says that counts for items without a training event,
            beside what the memories say; 0 where these alone rank them better.
        memory_learned: the memories were weighed; until then scores are the Transformer's alone.
        popularity_discount: times ln(1 + training events) of an item taken off its score (post-hoc logit adjustment,
            Menon et al. 2021), so that items of few events stand higher; training chooses it on validation.
        new_item_boost: added to the score of each item without a training event; training chooses it on validation.
        encoders: the item encoder of each modality that may be loaded to read new items.
        active_adapters: adapters that were switched on when the model was saved.
        logit_scale: scores are `logit_scale · cos(state, item)`; 0 for plain dot products.
    """

    model_type = "hfrec"
    sub_configs: ClassVar[dict[str, Any]] = {"backbone_config": AutoConfig}

    modalities: dict[str, int] | None = None
    layers: dict[str, list[int]] | None = None
    side_size: int = 64
    hidden_size: int | None = None
    backbone: str | None = None
    backbone_revision: str | None = None
    backbone_config: dict | PreTrainedConfig | None = None
    prompt: str | None = None
    prompt_ids: list[int] | None = None
    lora_rank: int = 0
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    num_layers: int = 2
    num_heads: int = 2
    likeness: float = 0.0
    tower_size: int = 0
    word_size: int = 256
    use_item_ids: bool = True
    num_item_ids: int = 0
    item_id_dropout: float = 0.2
    modality_dropout: float = 0.1
    use_times: bool = True
    event_types: list[str] | None = None
    max_history: int = 50
    dropout: float = 0.2
    attention_dropout: float | None = None
    memories: list[str] | None = None
    memory_decay: float = 0.7
    memory_window: int = 10
    num_factors: int = 64
    factor_decay: float = 0.9
    memory_size: int = 16
    new_item_trust: float = 1.0
    memory_learned: bool = False
    popularity_discount: float = 0.0
    new_item_boost: float = 0.0
    logit_scale: float = 0.0
    initializer_range: float = 0.02
    encoders: dict[str, str] | None = None
    active_adapters: list[str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.modalities, self.layers = dict(self.modalities or {}), dict(self.layers or {})
        self.event_types = list(self.event_types or [])
        self.encoders, self.active_adapters = dict(self.encoders or {}), list(self.active_adapters or [])
        self.memories = list(MEMORIES if self.memories is None else self.memories)
        self.prompt_ids = list(self.prompt_ids or [])
        if self.backbone is not None and self.backbone_config is None:
            # A configuration may be a stranger's: what it names is never fetched for being named.
            raise ValueError(
                f"A decoder is read by `RecConfig.for_items(items, backbone={self.backbone!r}, …)`, its weights by "
                "`RecModel.for_items` with the same arguments; `RecConfig(backbone=…)` alone reads nothing."
            )
        if isinstance(self.backbone_config, dict):
            values = dict(self.backbone_config)
            self.backbone_config = AutoConfig.for_model(values.pop("model_type"), **values)
        elif self.backbone_config is None:
            width = self.hidden_size or 128
            self.backbone_config = GPT2Config(
                vocab_size=1,
                n_positions=self.max_history + 1,
                n_embd=width,
                n_layer=self.num_layers,
                n_head=self.num_heads,
                resid_pdrop=self.dropout,
                embd_pdrop=0.0,
                attn_pdrop=self.dropout if self.attention_dropout is None else self.attention_dropout,
                bos_token_id=None,
                eos_token_id=None,
                # The same function as the default `gelu_new`, in one pass over memory instead of eight.
                activation_function="gelu_pytorch_tanh",
                use_cache=False,
            )
        self.hidden_size = self.hidden_size or self.backbone_config.hidden_size
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """All fields; of the backbone's configuration those of its class, not what that makes of them for itself."""
        values = super().to_dict()
        if isinstance(self.backbone_config, PreTrainedConfig):
            kept = {one.name for one in fields(self.backbone_config)} | {"model_type", "transformers_version"}
            backbone = values["backbone_config"]
            values["backbone_config"] = {name: value for name, value in backbone.items() if name in kept}
        return values

    def validate_sizes(self) -> None:
        """Sizes that cannot work together are named here (called by `@strict`)."""
        width = getattr(self.backbone_config, "hidden_size", None)
        if width is not None and self.hidden_size is not None and width != self.hidden_size:
            raise ValueError(f"`hidden_size` must be the backbone's ({width}), got {self.hidden_size}.")
        heads = getattr(self.backbone_config, "n_head", None)
        if width is not None and heads is not None and (heads < 1 or width % heads):
            raise ValueError(f"`hidden_size` must be a multiple of `num_heads` ({heads}), got {width}.")
        for name in ("popularity_discount", "new_item_boost", "logit_scale"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not abs(value) < 1e6:
                raise ValueError(f"`{name}` must be a number of at most a million, got {value!r}.")
        if not 0 <= self.likeness < 1e3:
            raise ValueError(f"`likeness` must be at least 0 and below 1000, got {self.likeness}.")
        if self.tower_size < 0:
            raise ValueError(f"`tower_size` must be at least 0, got {self.tower_size}.")
        if self.max_history < 1:
            raise ValueError(f"`max_history` must be at least 1, got {self.max_history}.")
        positions = getattr(self.backbone_config, "max_position_embeddings", None)
        before = len(self.prompt_ids or ())
        if positions is not None and positions < before + self.max_history + 1:
            raise ValueError(
                f"`max_history` must be below the backbone's number of positions ({positions}), "
                f"got {self.max_history}: the start token takes one" + (f", the prompt {before}." if before else ".")
            )
        words = getattr(self.backbone_config, "vocab_size", None)
        if before > MOST_PROMPT or any(
            type(one) is not int or not 0 <= one < (words or 0) for one in self.prompt_ids or ()
        ):
            raise ValueError(
                f"`prompt_ids` must be at most {MOST_PROMPT:,} rows of the backbone's {words} words, got {before}: "
                f"{(self.prompt_ids or [])[:8]} …"
            )
        if type(self.lora_rank) is not int or self.lora_rank < 0:
            raise ValueError(f"`lora_rank` must be at least 0, got {self.lora_rank!r}.")
        for name in ("item_id_dropout", "modality_dropout", "dropout", "attention_dropout"):
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {rate}.")
        unknown = sorted(set(self.memories or ()) - set(MEMORIES))
        if unknown:
            raise ValueError(f"`memories` must be among {list(MEMORIES)}, got {unknown}.")
        for name in ("memory_decay", "factor_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be above 0 and at most 1, got {getattr(self, name)}.")
        if not 0 <= self.new_item_trust <= 1:
            raise ValueError(f"`new_item_trust` must be a share, 0 … 1, got {self.new_item_trust}.")
        for name in ("memory_window", "memory_size", "num_factors", "side_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name, widths in (self.layers or {}).items():
            width = (self.modalities or {}).get(name)
            are_widths = len(widths) <= MOST_LAYERS and all(type(one) is int and one > 0 for one in widths)
            if not are_widths or sum(widths) != width:
                raise ValueError(
                    f"`layers` must split the {name} vectors ({width} wide) into at most {MOST_LAYERS} parts, got "
                    f"{widths[:8]}."
                )
        if not self.modalities and not self.use_item_ids and not self.word_size:
            raise ValueError(
                "A model needs `modalities`, `use_item_ids` or a `word_size`: otherwise it knows nothing of an item."
            )

    @classmethod
    def for_items(cls, items: ItemTable, **settings: Any) -> RecConfig:
        """The configuration for a catalogue's vectors; `settings` are fields of this class.

        Raises:
            DataError: the `backbone` that they name is not there, or is no causal decoder.
        """
        return cls.for_sizes(items.sizes, layers=items.layers, **settings)

    @classmethod
    def for_sizes(cls, sizes: dict[str, int], **settings: Any) -> RecConfig:
        """As `for_items`, for content vectors of these widths, the `modalities`."""
        return cls(modalities=sizes, **described(settings))
