"""Recipe: how a module is trained."""

from dataclasses import dataclass, field

from training.losses import Loss


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a module is trained; the same recipe and data give the same weights on one machine."""

    epochs: int
    """At most."""
    batch_size: int
    learning_rate: float
    weight_decay: float
    token_dropout: float
    """Share of the tokens that become UNK in training: no word is relied on, and UNK gets a meaning."""
    average_decay: float
    """Of the running mean of the weights, which is what is evaluated and kept."""
    seed: int
    patience: int
    """In evaluations; the schedule `plateau` halves the rate after half of it."""
    loss: Loss = field(default_factory=Loss)
    sampling: str = "none"
    """How often an epoch takes the texts of each class."""
    embedding_rate: float = 1.0
    """Of the learning rate, at which the embedding is trained."""
    max_steps: int | None = None
    """Of the selection, at most; the schedule does not know of it."""
    schedule: str = "constant"
    evaluate_every: int | None = None
    """Steps between two evaluations; None for one an epoch."""
    freeze: tuple[str, ...] = ()
    """Children of the module whose parameters stay as they are."""
    micro_batch_size: int | None = None
    """Texts of a batch that are in memory at once; None for all of them."""
    sharding: str = "exact"
    gradient_checkpointing: str = "none"
    """none, blocks, or auto: from the first time on that memory runs out."""
    precision: str = "float32"
    """float32, or bf16 where torch.autocast thinks it safe; weights are float32 in any case."""
    compile: bool = False

    @property
    def at_once(self) -> int:
        """Texts of a full batch that are in memory at once."""
        return min(self.micro_batch_size or self.batch_size, self.batch_size)
