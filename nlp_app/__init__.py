"""What training and serving share: the model's config, tokenizer, module, checkpoint and Predictor.

`from nlp_app import Predictor` works, but importing nlp_app alone loads no torch: another runtime can use
nlp_app.config and nlp_app.tokenizer without it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_app.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Predictor":
        from nlp_app.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
