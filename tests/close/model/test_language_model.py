"""Language models that can't be loaded are told of at once: before texts are embedded, and without asking the hub twice."""

from __future__ import annotations

import json
import shutil
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import tiny
import torch
from transformers import (
    PegasusConfig,
    PegasusForConditionalGeneration,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
)

from close.errors import CloseError, MissingError, RecipeError, WeightsError
from close.io import pretrained
from close.model.language_models.loading import check_language_model, load_language_model

SIZES = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}


def test_what_can_be_loaded_passes(tiny_t5):
    for reference in ("mini", str(tiny_t5)):
        check_language_model(reference)
        load_language_model(reference)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: (d / "config.json").unlink(), "can't be loaded"),
        (lambda d: (d / "config.json").write_text("{"), "can't be loaded"),
        (lambda d: (d / "config.json").write_text('{"model_type": "bert"}'), "'bert' is no language model that writes"),
        (lambda d: (d / "config.json").write_text('{"model_type": "clip"}'), "'clip' is no language model that writes"),
        (lambda d: (d / "config.json").write_text('{"model_type": 3}'), "can't be loaded"),
        (lambda d: _cut(d / "model.safetensors"), "the weights are damaged"),
    ],
)
def test_what_cannot_be_loaded_is_told(tiny_t5, tmp_path, damage, words):
    folder = tmp_path / "t5"
    shutil.copytree(tiny_t5, folder)
    damage(folder)
    with pytest.raises(WeightsError, match=words):
        check_language_model(str(folder))


def _cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def test_a_directory_that_is_not_there(tmp_path):
    for reference in (str(tmp_path / "gone"), "./gone", "a/b/c"):
        with pytest.raises(MissingError, match="no such directory"):
            check_language_model(reference)


@pytest.fixture
def hub(monkeypatch):
    """A hub that drops every connection, and the requests that reached it."""
    from huggingface_hub import constants

    asked = []

    class Dropping(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.close_connection = True

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dropping)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    pretrained.why_unreachable.cache_clear()
    yield asked
    pretrained.why_unreachable.cache_clear()
    server.shutdown()
    server.server_close()


def test_a_hub_that_is_away_is_asked_once(hub, recipe, tmp_path, monkeypatch):
    from close.training.train import train

    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"'nobody/nothing' can't be loaded .* the hub can't be reached"):
        train(recipe(language_model="nobody/nothing"), tmp_path / "run")
    assert [path for path in hub if "nobody" in path] == ["/nobody/nothing/resolve/main/config.json"]
    assert not (tmp_path / "cache").exists()  # no text was embedded


@pytest.mark.parametrize("name", ["gemma3n_text", "gemma3n", "gemma4_text", "gemma4"])
def test_a_model_that_wants_more_than_embeddings(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    with pytest.raises(WeightsError, match=f"'{name}' reads token ids in each of its layers"):
        check_language_model(str(tmp_path))


def test_a_model_with_towers_of_its_own(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    with pytest.raises(WeightsError, match=r"'gemma3' has towers .* take a text-only model \('gemma3_text' is one\)"):
        check_language_model(str(tmp_path))


@pytest.mark.parametrize("name", ["mamba", "ctrl", "openai-gpt", "xlnet", "bert-generation"])
def test_a_model_that_cannot_write_on_from_embeddings(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    with pytest.raises(WeightsError, match=f"'{name}' can't continue a text from embeddings"):
        check_language_model(str(tmp_path))


def test_a_model_that_reads_padding(tmp_path):
    """RecurrentGemma's state takes in what a mask leaves out."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "lru_width": 32, "num_attention_heads": 4, "vocab_size": 100}
    model = RecurrentGemmaForCausalLM(RecurrentGemmaConfig(num_hidden_layers=3, attention_window_size=16, **small))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="'recurrent_gemma' reads padding: a row's log-probabilities differ by"):
        load_language_model(str(tmp_path))


def test_a_model_that_reads_embeddings_otherwise_than_ids(tmp_path):
    """Pegasus' encoder scales what comes as ids alone."""
    torch.manual_seed(0)
    small = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in SIZES.items()}
    config = PegasusConfig(vocab_size=40, d_model=16, max_position_embeddings=64, scale_embedding=True, **small)
    model = PegasusForConditionalGeneration(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="'pegasus' reads embeddings otherwise than the ids they are of"):
        load_language_model(str(tmp_path))


def test_a_model_that_can_not_be_run_is_told(tmp_path):
    from transformers import GPTJConfig, GPTJForCausalLM

    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 50}  # and rotary_dim 64, of heads of 8
    GPTJForCausalLM(GPTJConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"language model .* can't be loaded .*: The size of tensor a"):
        load_language_model(str(tmp_path))


def test_a_tokenizer_of_another_model(zoo, tmp_path):
    few = tiny.gpt2_dir(tmp_path / "few", vocab_size=300)
    with pytest.raises(WeightsError, match="the tokenizer knows 353 tokens, the model 300; it is another model's"):
        check_language_model(str(few))
    many = tiny.gpt2_dir(tmp_path / "many", vocab_size=3000)
    with pytest.raises(WeightsError, match="the tokenizer knows 353 tokens, the model 3000"):
        check_language_model(str(many))


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no user') }}", "{% for", "hello", "{{ messages[0].content * 2 }}"]
)
def test_a_chat_template_that_cannot_be_used(recipe, zoo, tmp_path, template):
    from close.training.train import train

    folder = shutil.copytree(zoo("qwen3_dir"), tmp_path / "qwen")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(WeightsError, match="its chat template can't be used") as told:
        train(recipe(language_model=str(folder)), tmp_path / "run")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("length", [32, 64, 1000])
def test_a_prefix_that_fills_the_context(recipe, zoo, tmp_path, length):
    from close.training.train import train

    made = recipe(language_model=str(zoo("gpt2_dir")), prefix={"kind": "linear", "length": length})
    with pytest.raises(RecipeError, match=f"64 places, which is too few for a prefix of {length} tokens"):
        train(made, tmp_path / "run")


def test_an_encoder_is_no_language_model(tmp_path):
    with pytest.raises(CloseError, match="one that writes text is needed"):
        check_language_model(str(tiny.open_clip_dir(tmp_path / "encoder")))
