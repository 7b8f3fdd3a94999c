"""Baseline for NSMC: logistic regression over character n-grams, in about a minute.

    PENNA_DATA=... python benchmarks/nsmc_tfidf.py [--valid]

TF-IDF of character 1- to 4-grams (sublinear counts), fitted on the 150,000 training reviews. Prints the accuracy on
all 50,000 test reviews, and on those that do not occur verbatim in the training reviews. With ``--valid``, a twentieth
of the training reviews is held out and measured instead, for choosing settings.
"""

import argparse
import time

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from penna.config.sections import DataConfig
from penna.data.examples.prepare import read_evaluation_items, read_validation_items
from penna.tasks.classify import ClassifyFormat

VALID_FRACTION = 0.05  # as in the recipes nsmc-*


def read(name: str, *, valid: bool = False) -> tuple[list[str], np.ndarray]:
    """Texts and labels of a file, or of the validation part that recipes split off."""
    data = DataConfig(path=[f"$PENNA_DATA/nsmc/{name}.tsv.gz"], text_column="document", valid_fraction=VALID_FRACTION)
    form = ClassifyFormat(256, "tail")
    items = (read_validation_items(data, form, None) if valid else read_evaluation_items(data, form)).items
    return [item.text for item in items], np.array([item.label for item in items])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--valid", action="store_true", help="evaluate on held-out training reviews")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    texts, labels = read("train")
    if arguments.valid:
        tested, true = read("train", valid=True)
        held_out = set(tested)  # equal reviews are all in the same part
        kept = np.array([text not in held_out for text in texts])
        texts, labels = [text for text, keep in zip(texts, kept, strict=True) if keep], labels[kept]
    else:
        tested, true = read("test")
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), min_df=3, sublinear_tf=True, dtype=np.float32)
    features = vectorizer.fit_transform(texts)
    model = LogisticRegression(C=4.0, solver="liblinear").fit(features, labels)
    right = model.predict(vectorizer.transform(tested)) == true
    known = set(texts)
    new = np.array([text not in known for text in tested])
    print(f"{features.shape[1]:,} n-grams, {len(texts):,} reviews, {time.perf_counter() - begun:.0f} s")
    print(f"accuracy {right.mean():.4f} on {len(right):,} reviews")
    print(f"accuracy {right[new].mean():.4f} on the {new.sum():,} that do not occur in training ({(~new).sum():,} do)")


if __name__ == "__main__":
    main()
