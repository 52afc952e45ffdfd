"""A run's checkpoints and its end go to the Hub, in the background, each a recommender that loads by name."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.trainer_utils import HubStrategy

from hfrec.data.hub import hub_errors
from hfrec.data.repository import push_folder

_API, _COPY = HfApi(), ".pushing-"

logger = logging.getLogger(__name__)


class HubPushes:
    """What `RecTrainer` does for `push_to_hub=True`, under the settings `hub_*` of `transformers.TrainingArguments`.

    Every save is pushed whole, catalogue included, in one commit; what has not changed is not sent again. With
    `hub_strategy` `checkpoint` or `all_checkpoints` the training state goes along, into a folder of its own.
    """

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in transformers; what the Hub refuses is said before the first step."""
        for copy in Path(self.args.output_dir).glob(f"{_COPY}*") if self.args.should_save else ():
            shutil.rmtree(copy, ignore_errors=True)  # of a run that was killed
        name = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        with hub_errors(name, token=token or self.args.hub_token, writes=True):
            super().init_hf_repo(token, private)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save the model and push `output_dir`: model, catalogue, card and results, in one commit.

        Returns:
            huggingface_hub's `CommitInfo`, or unless `blocking` the future of one; `None` on all processes but the
            first.

        Raises:
            DataError: the Hub refuses or cannot be reached.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model()
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        pushing = self._background(self.args.output_dir, commit_message, token, revision)
        return pushing.result() if blocking else pushing

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        if self._pushes and not self._pushes[-1].done() and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        # Training goes on and changes what is pushed: it is pushed from a copy.
        copy = Path(tempfile.mkdtemp(prefix=_COPY, dir=self.args.output_dir))
        self.accelerator.unwrap_model(self.model).save_pretrained(copy / "model")
        pushes = [self._background(copy / "model", message)]
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            last = self.args.hub_strategy == HubStrategy.CHECKPOINT
            place = "last-checkpoint" if last else Path(checkpoint_folder).name
            shutil.copytree(checkpoint_folder, copy / "state", copy_function=_link_or_copy)
            pushes.append(self._background(copy / "state", f"{message}, checkpoint", path_in_repo=place))
        pushes[-1].add_done_callback(lambda _: shutil.rmtree(copy, ignore_errors=True))
        self._pushes.extend(pushes)

    def _finish_current_push(self) -> None:
        """Wait for what is under way. What failed is said: the run itself is whole, and the next push brings it all."""
        for push in self._pushes:
            if (error := push.exception()) is not None:
                logger.warning("A checkpoint was not pushed: %s", error)
        self._pushes.clear()

    @property
    def _pushes(self) -> list[Future[Any]]:
        return self.__dict__.setdefault("_pushes_under_way", [])

    def _background(
        self,
        folder: str | Path,
        message: str | None,
        token: str | None = None,
        revision: str | None = None,
        **where: Any,
    ) -> Future[Any]:
        """One after the other, as each commit needs the one before."""
        return _API.run_as_future(
            push_folder,
            folder,
            self.hub_model_id,
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
            commit_message=message,
            **where,
        )


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
