"""`python -m benchmarks.leaving_out`: whether the tokens that an explanation names are those that the label needs.

Each token of each text is left out, and the fall of what sets the label apart is compared with its contribution.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from nlp_app import Predictor
from nlp_app.checkpoint import Checkpoint
from nlp_app.encoding import encode
from nlp_app.errors import run_command
from nlp_app.explain import direction_of
from nlp_app.explanation import Explanation
from nlp_app.scoring import score
from nlp_app.tables import read_texts


def main() -> int:
    """Compare as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaving_out", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--data", type=Path, required=True, help="file of texts")
    options = parser.parse_args()
    predictor = Predictor.load(options.checkpoint)
    texts = list(read_texts(options.data, ["text"]))
    first, two, ranks = zip(*agreements(predictor, texts), strict=True)
    print(f"{len(first):,} texts of two tokens or more; the largest contribution is of the token whose absence lowers")
    print(f"the label most in {np.mean(first):.1%}, one of the two such tokens in {np.mean(two):.1%};")
    print(f"rank correlation, mean over the texts: {np.nanmean(ranks):.3f}")
    for explain in (False, True):
        before = time.process_time()
        predictor.predict(texts, explain=explain)
        seconds = (time.process_time() - before) / len(texts)
        print(f"{'explained' if explain else 'predicted'} in {1000 * seconds:.2f} ms of processor time a text")
    return 0


def agreements(predictor: Predictor, texts: Sequence[str]) -> list[tuple[bool, bool, float]]:
    """Of each text of two tokens or more: most missed, one of the two most missed, the rank correlation."""
    found: list[tuple[bool, bool, float]] = []
    for text, prediction in zip(texts, predictor.predict(texts, explain=True), strict=True):
        assert prediction.explanation is not None
        contributions = [token.contribution for token in prediction.explanation.tokens]
        if len(contributions) > 1:
            falls = falls_without(predictor, text, prediction.explanation)
            rank = sum(fall > falls[int(np.argmax(contributions))] for fall in falls)
            found.append((rank < 1, rank < 2, float(spearmanr(contributions, falls).statistic)))
    return found


def falls_without(predictor: Predictor, text: str, explanation: Explanation) -> list[float]:
    """By how much what is explained falls where each token is left out."""
    checkpoint = predictor.checkpoint
    assert isinstance(checkpoint, Checkpoint)
    direction = direction_of(checkpoint.config.labels.index(explanation.label), checkpoint.config)
    texts = [text, *(text[: token.start] + text[token.end :] for token in explanation.tokens)]
    encoded = encode(texts, tokenizer=checkpoint.tokenizer, config=checkpoint.config)
    whole, *without = (score(checkpoint.module, encoded) @ direction).tolist()
    return [whole - value for value in without]


if __name__ == "__main__":
    run_command(main)
