"""Closed answer sets against brute force."""

import itertools

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from close.errors import RecipeError
from close.mini import LANGUAGE_MODEL_DIR
from close.model.answers import LabelTree, label_scores
from close.model.configuration import CloseConfig
from close.model.modeling import CloseModel

LABELS = ("entailment", "neutral", "contradiction", "red circle", "red", "red square")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(LANGUAGE_MODEL_DIR)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(LANGUAGE_MODEL_DIR, d_model=32, d_ff=32, d_kv=8, initializer_factor=1.0)
    return CloseModel(CloseConfig(embed_dim=16, language_model=config)).eval()


@pytest.fixture(scope="module")
def embeds():
    return torch.nn.functional.normalize(torch.randn(7, 16, generator=torch.Generator().manual_seed(1)), dim=-1)


def brute_force(model, tokenizer, embed, label, context):
    """Token by token, with its own softmax."""
    ids = tokenizer(text_target=[label], return_tensors="pt")["input_ids"]
    total = 0.0
    given = torch.tensor([[model.config.language_model.decoder_start_token_id]])
    for token in ids[0].tolist():
        with torch.no_grad():
            logits = model(embed[None], "image", decoder_input_ids=given, **context).logits[0, -1].double()
        total += float(logits[token] - torch.logsumexp(logits, 0))
        given = torch.cat([given, torch.tensor([[token]])], dim=1)
    return total, ids.shape[1]


def test_label_scores_equal_brute_force(model, tokenizer, embeds):
    context = tokenizer(
        ["is there a red circle", "a star", "x", "a", "a b", "on the left", "water"], padding=True, return_tensors="pt"
    )
    context = {"context_ids": context["input_ids"], "context_mask": context["attention_mask"]}
    scores = label_scores(model, tokenizer, embeds, LABELS, batch_size=5, context=context)
    normalised = label_scores(model, tokenizer, embeds, LABELS, normalise=True, context=context)
    for row, column in itertools.product(range(len(embeds)), range(len(LABELS))):
        own = {key: value[row : row + 1] for key, value in context.items()}
        kept = int(own["context_mask"].sum())
        own = {key: value[:, :kept] for key, value in own.items()}
        expected, length = brute_force(model, tokenizer, embeds[row], LABELS[column], own)
        assert scores[row, column] == pytest.approx(expected, abs=1e-4)
        assert normalised[row, column] == pytest.approx(expected / length, abs=1e-4)


@pytest.mark.parametrize(
    "settings", [{"num_beams": 1}, {"num_beams": 4}, {"do_sample": True, "num_beams": 1, "temperature": 5.0}]
)
def test_tree_never_leaves_the_set(model, tokenizer, settings):
    torch.manual_seed(3)
    many = torch.nn.functional.normalize(torch.randn(60, 16), dim=-1)
    tree = LabelTree(tokenizer, LABELS)
    out = model.generate(many, prefix_allowed_tokens_fn=tree, max_new_tokens=tree.longest, **settings)
    texts = tokenizer.batch_decode(out, skip_special_tokens=True)
    assert set(texts) <= set(LABELS)
    assert len(set(texts)) > 1


def test_beams_over_the_whole_tree_find_the_likeliest_label(model, tokenizer, embeds):
    tree = LabelTree(tokenizer, LABELS)
    out = model.generate(
        embeds, prefix_allowed_tokens_fn=tree, max_new_tokens=tree.longest, num_beams=len(LABELS), length_penalty=0.0
    )
    best = label_scores(model, tokenizer, embeds, LABELS).argmax(1)
    assert tokenizer.batch_decode(out, skip_special_tokens=True) == [LABELS[i] for i in best]


def test_labels_that_can_not_be_told_apart_are_refused(tokenizer):
    with pytest.raises(RecipeError, match="same tokens"):
        LabelTree(tokenizer, ["qqqq", "zzzz"])
    with pytest.raises(RecipeError, match="at least one"):
        LabelTree(tokenizer, [])
