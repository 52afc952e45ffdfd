"""A pretrained causal decoder, here or on the Hub, that a fresh RecModel starts from: safetensors, no code, no pickle.

It is read once, when a model is made to be trained. What a saved model needs of it is saved with the model: all weights
that are used, and of the word table the rows of its prompt.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging

from hfrec.data.files import array_header, read_json
from hfrec.data.hub import hub_errors
from hfrec.data.read import expand_path
from hfrec.data.schema import DataError
from hfrec.models.quantization import bits_of, quantization, with_plain_weights

CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"
_FILES = {"config": ["config.json"], "words": ["*.json", "*.txt", "*.model"], "weights": ["model*.safetensors*"]}
# What is of the file that was read, of words that are not kept, or of how text is written.
_NOT_TAKEN = {
    "architectures", "dtype", "_name_or_path", "transformers_version", "vocab_size", "pad_token_id", "bos_token_id",
    "eos_token_id", "use_cache", "output_hidden_states", "output_attentions", "return_dict", "id2label", "label2id",
}  # fmt: skip
_EXACT, _ROUNDED = 1e-3, 0.05
"""A state may move by this share of itself, in float32 and where weights are held in 4 or 8 bits."""
_NEEDS_BACKBONE = ("backbone_revision", "prompt", "load_in_4bit", "load_in_8bit", "lora_rank")


def described(settings: dict[str, Any]) -> dict[str, Any]:
    """`settings`, fields of `RecConfig`, with what a `backbone` that they name says of itself: its configuration and
    the words of the `prompt`.

    Raises:
        DataError: the decoder is not there, or is none.
        ValueError: settings that only a pretrained decoder has, without one; a decoder that is described, too.
    """
    name = settings.get("backbone")
    if name is None:
        given = [one for one in _NEEDS_BACKBONE if settings.get(one)]
        if given:
            raise ValueError(
                f"`{given[0]}` needs a pretrained decoder, named by `backbone`; got {settings[given[0]]!r}."
            )
        return settings
    if settings.get("backbone_config") is not None:
        raise ValueError(
            f"Either a decoder is named, by `backbone`, or described, by `backbone_config`; {name!r} is both."
        )
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        quantization(**settings)
    decoder = Decoder.find(name, settings.get("backbone_revision"))
    words, places = decoder.words_of(settings.get("prompt"))
    config = decoder.config()
    config.vocab_size = max(len(words), 1)
    return settings | {
        "backbone": decoder.label,
        "backbone_revision": decoder.revision,
        "backbone_config": config,
        "prompt_ids": places,
    }


@dataclass(frozen=True)
class Decoder:
    """A decoder's files, fetched as they are needed.

    Attributes:
        name: a folder, or a Hub id.
        folder: where the files are on this machine.
        revision: the commit on the Hub, `None` for a folder.
    """

    name: str
    folder: Path
    revision: str | None = None

    @classmethod
    def find(cls, name: str, revision: str | None = None) -> Decoder:
        """The decoder `name`, a folder or a Hub id, of which the configuration is fetched.

        Raises:
            DataError: it is not there.
        """
        folder = expand_path(name)
        if folder.is_dir():
            return cls(name, folder)
        folder = cls(name, folder, revision)._fetched("config")
        return cls(name, folder, folder.name)

    @property
    def label(self) -> str:
        """The name that says nothing of this machine: a folder's last part, else `name`."""
        return self.folder.resolve().name if self.revision is None else self.name

    def config(self) -> PreTrainedConfig:
        """The decoder's configuration: the fields of its class, and nothing else that stands in the file.

        Raises:
            DataError: it is no causal decoder of transformers, or was quantised.
        """
        path = self.folder / CONFIG_FILE
        if not path.is_file():
            raise DataError(f"The decoder {self.name!r} must have a {CONFIG_FILE}; {self.folder} has none.")
        given = read_json(path)
        kind = given.get("model_type")
        of_texts = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if isinstance(kind, str) else False
        if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not given.get("is_decoder"):
            of_texts = False
        if not of_texts or given.get("is_encoder_decoder"):
            raise DataError(
                f"`backbone` must be a causal decoder that transformers knows, such as a Llama, a Qwen or a GPT-2; "
                f"{self.name!r} is of the type {kind!r:.80}."
            )
        if given.get("quantization_config"):
            raise DataError(
                f"The weights of {self.name!r} were quantised. Name what they were made of, and set `load_in_4bit`."
            )
        with self._named_errors():
            whole = AutoConfig.from_pretrained(str(self.folder), trust_remote_code=False, local_files_only=True)
        if whole.get_text_config(decoder=True) is not whole or not isinstance(getattr(whole, "hidden_size", None), int):
            raise DataError(
                f"`backbone` must be a decoder of texts alone; {self.name!r} ({kind}) reads more than texts."
            )
        taken = {one.name for one in fields(type(whole))} - _NOT_TAKEN
        values = {key: value for key, value in whole.to_dict().items() if key in taken}
        words = {name: None for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        return type(whole)(**values, **words, vocab_size=whole.vocab_size, use_cache=False)

    def words_of(self, prompt: str | None) -> tuple[list[int], list[int]]:
        """The words of `prompt` among the decoder's, each once; and for each of its tokens the place of its word.

        What the tokenizer puts before any text, such as `<s>`, is put before this one.

        Raises:
            DataError: the decoder has no tokenizer that can be read.
        """
        if not prompt:
            return [], []
        from transformers import AutoTokenizer

        folder = self._fetched("words")
        with self._named_errors("tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
            ids = tokenizer(prompt)["input_ids"]
        words = sorted(set(ids))
        return words, [words.index(one) for one in ids]

    def load(self, config: Any) -> tuple[PreTrainedModel, float]:
        """The decoder with its weights, and how large its words are: the root of their mean square.

        Of its word table it keeps the words of the prompt.

        Args:
            config: a `RecConfig` that was made for this decoder.

        Raises:
            DataError: a file of weights is missing, cut short or no safetensors; they are of another model; it turns
                out to be no causal decoder.
        """
        whole = copy.deepcopy(config.backbone_config)
        whole.vocab_size = self.config().vocab_size
        settings: dict[str, Any] = {"config": whole, "dtype": torch.float32, "output_loading_info": True}
        if config.load_in_4bit or config.load_in_8bit:
            settings |= quantization(load_in_4bit=config.load_in_4bit, load_in_8bit=config.load_in_8bit)
        folder = self._fetched("weights")
        self._check_weights(folder)
        with self._named_errors(), _silent():
            model, report = AutoModel.from_pretrained(
                str(folder), trust_remote_code=False, use_safetensors=True, local_files_only=True, **settings
            )
        if missing := sorted(report["missing_keys"]):
            # They would be noise.
            raise DataError(f"The decoder {self.name!r} lacks {len(missing)} of its weights, such as `{missing[0]}`.")
        with_plain_weights(model)
        with self._named_errors():
            size = _keep_words(model, self.words_of(config.prompt)[0])
            _check_causal(model, size)
        return model.eval(), size

    def _fetched(self, what: str) -> Path:
        """The folder, with those of `_FILES` in it."""
        if self.folder.is_dir() and self.revision is None:
            return self.folder
        from huggingface_hub import snapshot_download

        with hub_errors(self.name, self.revision):
            # Below the root of a repository are the same weights for other programs.
            found = snapshot_download(
                self.name, revision=self.revision, allow_patterns=_FILES[what], ignore_patterns=["*/*"]
            )
        return Path(found)

    def _check_weights(self, folder: Path) -> None:
        if (folder / "adapter_config.json").exists():
            raise DataError(f"{self.name!r} is an adapter. Merge it into its base and name the folder of the result.")
        index = folder / INDEX_FILE
        shards = [WEIGHTS_FILE]
        if index.exists():
            named = read_json(index).get("weight_map")
            if not isinstance(named, dict) or not all(type(one) is str and "/" not in one for one in named.values()):
                raise DataError(f"The file {index} must hold `weight_map`, the file of each weight.")
            shards = sorted(set(named.values()))
        for shard in shards:
            if not (folder / shard).exists():
                pickled = sorted(path.name for path in folder.glob("*.bin"))
                beside = f"; pickled ones, {pickled[0]}, are never read" if pickled else ""
                raise DataError(
                    f"The decoder {self.name!r} must have its weights as safetensors; {folder} has no {shard}{beside}. "
                    "Save it whole, with `save_pretrained`."
                )
            array_header(folder / shard)

    @contextmanager
    def _named_errors(self, part: str = "decoder") -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            # Some hundred classes meet what they do not expect in as many ways; the first line says which.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(f"The {part} of {self.name!r} cannot be used: {reason}") from error


def _keep_words(model: PreTrainedModel, words: list[int]) -> float:
    """Cut the word table of `model` down to `words`, or to one row that nothing reads; how large all words are."""
    table = model.get_input_embeddings()
    if not isinstance(table, nn.Embedding) or table.weight.shape[1] != model.config.hidden_size:
        raise ValueError("it must take vectors of its own width in place of words.")
    if words and words[-1] >= table.num_embeddings:
        raise ValueError(f"its tokenizer has more words than its {table.num_embeddings:,} vectors.")
    with torch.no_grad():
        some = torch.linspace(0, table.num_embeddings - 1, min(table.num_embeddings, 4096)).long()
        # By the table itself: some scale what they look up.
        size = table(some.to(table.weight.device)).float().pow(2).mean().sqrt().item()
        table.weight = nn.Parameter(table.weight[words or [0]].clone(), requires_grad=False)
    table.num_embeddings, table.padding_idx = len(table.weight), None
    model.config.vocab_size = table.num_embeddings
    model.config.name_or_path = ""
    return size


@torch.no_grad()
def _check_causal(model: PreTrainedModel, size: float) -> None:
    """After two events a decoder must be in the same state, whether padding stands before them or an event follows."""
    model.eval()
    device = model.get_input_embeddings().weight.device
    events = torch.randn(3, model.config.hidden_size, generator=torch.Generator().manual_seed(0)) * size
    first, second, third = events.to(device)
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]], device=device)
    states = model(
        inputs_embeds=torch.stack([torch.stack([third, first, second]), torch.stack([first, second, third])]),
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        use_cache=False,
    ).last_hidden_state.float()
    apart = (states[0, 2] - states[1, 1]).norm() / states[1, 1].norm()
    if not apart < (_ROUNDED if bits_of(model) else _EXACT):
        raise ValueError(
            f"its state after an event must not depend on what is padding or comes later, it moves by {apart:.1%}."
        )


@contextmanager
def _silent() -> Iterator[None]:
    """Without the report that the head of a language model is not read: it is not missed."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
