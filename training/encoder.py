"""A sentence encoder as a teacher: embeddings of the texts, and a logistic regression on them.

The regression is sure of the texts that it was fitted to. So each training text is scored by one that was fitted to the
other four fifths, and the validation texts by one of all training texts.
"""

import hashlib
import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nlp_app.errors import ConfigError
from training.prepare import Prepared

FOLDS = 5
PENALTY = 0.1
"""Times half the squared weights, beside the summed loss, for embeddings of length 1 (docs/decisions.md)."""
ITERATIONS = 100
HUB_S = 10
"""Until its first answer."""
TEXTS_AT_ONCE = 512
"""Between two looks at whether the user asked to stop."""


@dataclass(frozen=True, kw_only=True)
class EncoderTeacher:
    """A sentence-transformers folder, or the name of one on the hub."""

    name: Path
    device: torch.device

    @property
    def digest(self) -> str:
        """SHA-256 of the folder's files; of the hub's the name is all there is."""
        if not self.name.is_dir():
            return self.name.as_posix()
        digest = hashlib.sha256()
        for path in sorted(path for path in self.name.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(self.name)}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def answer(self, prepared: Prepared, check: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """As Teacher.answer.

        Raises:
            ConfigError: sentence-transformers is not installed, or finds no encoder.
        """
        encoder, (train, validation) = load_encoder(self.name, self.device), prepared.examples
        seen = embed(encoder, train.texts, check)
        targets = one_hot(prepared.train.targets, prepared.config.num_classes)
        several = prepared.config.multi_label
        head = fit_head(seen, targets, several=several)
        return cross_fitted(seen, targets, several=several), with_bias(embed(encoder, validation.texts, check)) @ head


def load_encoder(name: Path, device: torch.device) -> Any:
    """A SentenceTransformer; none of its weights is read from a pickle.

    Raises:
        ConfigError: sentence-transformers is not installed, or finds no encoder.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what other packages may drop one day
            library = importlib.import_module("sentence_transformers")
            importlib.import_module("transformers.utils.logging").disable_progress_bar()
    except ImportError:
        need = "which needs sentence-transformers: pip install 'nlp_app[teacher]'"
        raise ConfigError(f"--teacher {name} is no checkpoint or file, so it is a sentence encoder, {need}") from None
    try:
        return library.SentenceTransformer(
            name.as_posix(),
            device=str(device),
            model_kwargs={"use_safetensors": True},
            trust_remote_code=False,
            local_files_only=not name.is_dir() and not hub_answers(),
        )
    except Exception as error:  # whatever the library makes of a folder that is none, or of a network that is not there
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise ConfigError(
            f"--teacher {name} cannot be used ({reason}): name a checkpoint, a .jsonl file of scores, "
            "or a sentence-transformers folder"
        ) from None


def hub_answers() -> bool:
    """Whether the hub can be reached; else what was downloaded before is looked at, without a minute of retries."""
    session = importlib.import_module("huggingface_hub").get_session()
    address = importlib.import_module("huggingface_hub.constants").ENDPOINT
    try:
        session.head(address, timeout=HUB_S)
    except Exception:  # whatever its client makes of a network that is not there, or must not be used
        return False
    return True


def embed(encoder: Any, texts: Sequence[str], check: Callable[[], None]) -> Tensor:
    """(N, E) float32 on the CPU, each of length 1."""
    found = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        check()
        chunk = list(texts[start : start + TEXTS_AT_ONCE])
        found.append(torch.as_tensor(encoder.encode(chunk, show_progress_bar=False)).float())
    return F.normalize(torch.cat(found), dim=1)


def one_hot(targets: Tensor, classes: int) -> Tensor:
    """(N,) int64, or (N, C) of 0 and 1, to (N, C) float32."""
    return targets if targets.ndim == 2 else F.one_hot(targets, classes).float()


def cross_fitted(embedded: Tensor, targets: Tensor, *, several: bool) -> Tensor:
    """(N, C): the logits of each text by a head that was fitted without its fold; always the same folds."""
    fold = torch.randperm(len(embedded), generator=torch.Generator().manual_seed(0)) % FOLDS
    logits = torch.empty_like(targets)
    for number in range(FOLDS):
        out = fold == number
        logits[out] = with_bias(embedded[out]) @ fit_head(embedded[~out], targets[~out], several=several)
    return logits


def fit_head(embedded: Tensor, targets: Tensor, *, several: bool) -> Tensor:
    """The weights of a logistic regression, (E + 1, C), its bias last.

    Args:
        embedded: (N, E).
        targets: (N, C) of 0 and 1.
        several: whether each label has a sigmoid of its own, or all together a softmax.
    """
    weight = torch.zeros(embedded.shape[1] + 1, targets.shape[1], requires_grad=True)
    x = with_bias(embedded)
    lost = F.binary_cross_entropy_with_logits if several else F.cross_entropy
    optimizer = torch.optim.LBFGS([weight], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (lost(x @ weight, targets, reduction="sum") + PENALTY / 2 * (weight[:-1] ** 2).sum()) / len(x)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach()


def with_bias(embedded: Tensor) -> Tensor:
    """(N, E) -> (N, E + 1), the last column 1."""
    return F.pad(embedded, (0, 1), value=1.0)
