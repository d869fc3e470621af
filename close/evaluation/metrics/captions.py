"""Caption scores as papers print them: BLEU-1..4, ROUGE-L, CIDEr-D, METEOR, SPICE.

The scorers are pycocoevalcap's own, fed with Penn Treebank tokens. Those come from the reference tokenizer, which is
Java, or from `close.evaluation.metrics.ptb`; the result names the one that was used. METEOR and SPICE are Java programs.
Papineni et al. (2002), Lin (2004), Vedantam et al. (2015), Denkowski and Lavie (2014), Anderson et al. (2016).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from close.errors import CloseError, DataError, MissingError
from close.evaluation.bootstrap import Array, Measure, Scores, intervals, mean_measure
from close.evaluation.metrics import ptb
from close.registry import unknown_name

__all__ = ["METRICS", "CaptionScores", "caption_scores", "java_tokens", "python_tokens"]

METRICS = ("bleu", "rouge_l", "cider", "meteor", "spice")
KEYS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "meteor", "spice")
Tokens = dict[str, list[str]]


class CaptionScores(Scores):
    """Scores on the scale of 0–100 (CIDEr can pass 100), ready for JSON.

    Keys: `bleu_1` … `bleu_4`, `rouge_l`, `cider`, `meteor`, `spice` (None where not computed), `n` (images scored),
    `tokenizer` ("java" or "python"), `ci` (name to [low, high], 95 %), `missing` (references without a prediction),
    `notes` (name to the reason why it was not computed).
    """

    @property
    def per_image(self) -> dict[str, Array]:
        """Name to (N,) scores of the single images."""
        return {name: m.per_example for name, m in self.measures.items()}


def caption_scores(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: str = "auto",
    metrics: Iterable[str] = METRICS,
    samples: int = 1000,
    seed: int = 0,
) -> CaptionScores:
    """Score one caption per image against its references.

    Args:
        predictions: image id to caption.
        references: image id to captions; images without a prediction are left out and counted in `missing`.
        tokenizer: "java", "python", or "auto": Java where it is installed. Starting Java costs half a second.
        metrics: some of `METRICS`; the first three need no Java.
        samples: bootstrap resamples for the intervals; 0 for none.
        seed: of the bootstrap.

    Raises:
        DataError: a prediction has no references, an image has none, or there is nothing to score.
        MissingError: `tokenizer="java"`, and there is no `java` on the PATH.
        UnknownNameError: no such metric or tokenizer.
    """
    metrics = list(metrics)
    for name in metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    used = _chosen(tokenizer)
    ids = _checked(predictions, references)
    tokenize = java_tokens if used == "java" else python_tokens
    gts = tokenize({i: list(references[i]) for i in ids})
    res = tokenize({i: [predictions[i]] for i in ids})
    measures, notes = _measures(gts, res, metrics)
    values: dict[str, Any] = {key: measures[key].value if key in measures else None for key in KEYS}
    values |= {"n": len(ids), "tokenizer": used, "ci": intervals(measures, samples=samples, seed=seed)}
    return CaptionScores(values | {"missing": len(references) - len(ids), "notes": notes}, ids, measures)


def _chosen(tokenizer: str) -> str:
    if tokenizer not in ("auto", "java", "python"):
        raise unknown_name("tokenizer", tokenizer, ("auto", "java", "python"))
    java = shutil.which("java") is not None
    if tokenizer == "java" and not java:
        raise MissingError("the reference tokenizer needs `java` on the PATH; install it, or use the python tokenizer")
    return ("java" if java else "python") if tokenizer == "auto" else tokenizer


def _checked(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> list[str]:
    """The ids to score, in the order of the references."""
    for key in predictions:
        if not references.get(key):
            raise DataError(f"prediction {key!r} has no reference captions")
    for key, value in predictions.items():
        if not isinstance(value, str):
            raise DataError(f"prediction {key!r} is {value!r}; expected a caption")
    if not predictions:
        raise DataError("there are no predictions to score")
    return [key for key in references if key in predictions]


def _measures(gts: Tokens, res: Tokens, metrics: Sequence[str]) -> tuple[dict[str, Measure], dict[str, str]]:
    measures: dict[str, Measure] = {}
    notes: dict[str, str] = {}
    for name in metrics:
        try:
            measures |= {"bleu": _bleu, "rouge_l": _rouge, "cider": _cider, "meteor": _meteor, "spice": _spice}[name](
                gts, res
            )
        except MissingError as error:
            notes[name] = str(error)
    return {key: measures[key] for key in KEYS if key in measures}, notes


def python_tokens(captions: Mapping[str, list[str]]) -> Tokens:
    """Id to tokenized captions, words parted by spaces, by `close.evaluation.metrics.ptb`."""
    lines = iter(ptb.tokenize(c for group in captions.values() for c in group))
    return {key: [" ".join(next(lines)) for _ in group] for key, group in captions.items()}


def java_tokens(captions: Mapping[str, list[str]]) -> Tokens:
    """Id to tokenized captions, words parted by spaces, by the reference.

    The program and options of pycocoevalcap's `PTBTokenizer`, without the file that it writes into site-packages.

    Raises:
        MissingError: no `java` on the PATH. CloseError: the program failed.
    """
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

    text = [" ".join(c.splitlines()) for group in captions.values() for c in group]
    program = ["-cp", str(_package("tokenizer") / STANFORD_CORENLP_3_4_1_JAR), "edu.stanford.nlp.process.PTBTokenizer"]
    output = _java([*program, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"], "\n".join(text))
    lines = output.split("\n")
    if len(lines) < len(text):
        raise CloseError(f"the Java tokenizer returned {len(lines)} lines for {len(text)} captions")
    kept = iter([" ".join(w for w in line.rstrip().split(" ") if w not in PUNCTUATIONS) for line in lines])
    return {key: [next(kept) for _ in group] for key, group in captions.items()}


def _package(name: str) -> Path:
    spec = find_spec(f"pycocoevalcap.{name}")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError("pycocoevalcap is not installed; `pip install pycocoevalcap`")
    return Path(next(iter(spec.submodule_search_locations)))


def _java(arguments: Sequence[str], text: str) -> str:
    """Run a Java program on `text` and return what it prints."""
    if shutil.which("java") is None:
        raise MissingError("needs `java` on the PATH")
    done = subprocess.run(["java", "-Dfile.encoding=UTF-8", *arguments], input=text.encode(), capture_output=True)
    if done.returncode:
        raise CloseError(f"java ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode()


def _bleu(gts: Tokens, res: Tokens) -> dict[str, Measure]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for key, refs in gts.items():
        scorer += (res[key][0], refs)
    _, per_image = scorer.compute_score(option="closest", verbose=0)
    statistics = np.array(
        [
            [*c["correct"], *c["guess"], c["testlen"], scorer._single_reflen(c["reflen"], "closest", c["testlen"])]
            for c in scorer.ctest
        ],
        dtype=np.float64,
    )
    return {
        f"bleu_{n}": Measure(100 * np.array(per_image[n - 1]), statistics, partial(_corpus_bleu, n=n))
        for n in range(1, 5)
    }


def _corpus_bleu(sums: Array, n: int) -> Array:
    """Corpus BLEU-n from summed (correct 1..4, guesses 1..4, length, reference length), guarded as pycocoevalcap does."""
    small, tiny = 1e-9, 1e-15
    precision = np.prod([(sums[..., k] + tiny) / (sums[..., 4 + k] + small) for k in range(n)], axis=0) ** (1 / n)
    ratio = (sums[..., 8] + tiny) / (sums[..., 9] + small)
    return np.asarray(100 * precision * np.exp(np.minimum(0, 1 - 1 / ratio)))


def _rouge(gts: Tokens, res: Tokens) -> dict[str, Measure]:
    from pycocoevalcap.rouge.rouge import Rouge

    return {"rouge_l": mean_measure(100 * Rouge().compute_score(gts, res)[1])}


def _cider(gts: Tokens, res: Tokens) -> dict[str, Measure]:
    from pycocoevalcap.cider.cider import Cider

    return {"cider": mean_measure(100 * Cider().compute_score(gts, res)[1])}


def _meteor(gts: Tokens, res: Tokens) -> dict[str, Measure]:
    from pycocoevalcap.meteor.meteor import METEOR_JAR

    lines = [" ||| ".join(["SCORE", *refs, res[key][0].replace("|||", "")]) for key, refs in gts.items()]
    options = ["-Xmx2G", "-jar", str(_package("meteor") / METEOR_JAR), "-", "-", "-stdio", "-l", "en", "-norm"]
    output = _java(options, "\n".join(lines) + "\n")
    statistics = np.array([line.split() for line in output.splitlines()], dtype=np.float64)
    if len(statistics) != len(gts):
        raise CloseError(f"METEOR returned {len(statistics)} lines for {len(gts)} captions")
    # The program counts no chunk for a caption that equals its reference.
    equal = (statistics[:, 20] == 1) & (statistics[:, 21:23] == statistics[:, 0:2]).all(axis=1)
    statistics[equal, 20] = 0
    return {"meteor": Measure(_corpus_meteor(statistics), statistics, _corpus_meteor)}


def _corpus_meteor(sums: Array) -> Array:
    """METEOR 1.5 (English, ranking weights) from summed statistics (..., 23).

    Columns: length of test and reference, function words of both; for each matcher (exact, stem, synonym, paraphrase)
    the matched content words of test and reference, then function words; chunks; matched words of test and reference.
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    weights = np.array([1.0, 0.6, 0.8, 0.6])
    matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    found = delta * matches[..., 0:2] + (1 - delta) * matches[..., 2:4]
    length, function = sums[..., 0:2], sums[..., 2:4]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (weights[:, None] * found).sum(-2) / (delta * (length - function) + (1 - delta) * function)
        precision, recall = share[..., 0], share[..., 1]
        mean = 1 / ((1 - alpha) / precision + alpha / recall)
        fragmentation = sums[..., 20] / (sums[..., 21] + sums[..., 22]) * 2
        score = mean * (1 - gamma * fragmentation**beta)
    return np.asarray(100 * np.nan_to_num(score))


def _spice(gts: Tokens, res: Tokens) -> dict[str, Measure]:
    from pycocoevalcap.spice.get_stanford_models import JAR
    from pycocoevalcap.spice.spice import Spice

    if shutil.which("java") is None:
        raise MissingError("needs `java` on the PATH")
    if not (_package("spice") / "lib" / f"{JAR}-models.jar").exists():
        raise MissingError(
            "needs the Stanford models: python -c 'from pycocoevalcap.spice.get_stanford_models import *;"
            " get_stanford_models()' (about 400 MB)"
        )
    try:
        per_image = Spice().compute_score(gts, res)[1]
    except subprocess.CalledProcessError as error:
        raise MissingError(f"the SPICE program failed (exit {error.returncode}); it was made for Java 8") from error
    order = {key: i for i, key in enumerate(sorted(gts))}
    return {"spice": mean_measure([100 * per_image[order[key]]["All"]["f"] for key in gts])}
