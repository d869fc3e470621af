"""Settings that would do nothing, or something else than they say, are told before anything is trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
import yaml

from close.adapters import fit_adapter
from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import DataError, MismatchError, OutputExistsError, RecipeError
from close.runs.recipe import Recipe, load_recipe
from close.training.checks import check_work
from close.training.train import train
from close.vectors.table import EmbeddingTable


def questions(count: int = 12) -> list[dict]:
    """Rows of which two are about one image, each with an answer of its own."""
    return [
        {"id": str(i), "source": text, "context": f"what is {i}?", "target": f"it is {i}", "group": f"g{i // 2}"}
        for i, text in enumerate(tiny.sentences(count))
    ]


def table(rows, encoder, place, fingerprint=None):
    """The texts of rows, as if by an encoder of other weights."""
    texts = [text for row in rows for text in ([row["source"]] if isinstance(row["source"], str) else row["source"])]
    own = load_encoder(str(encoder))
    return EmbeddingTable.from_numpy(
        own.text_features(texts).numpy(),
        place,
        encoder=str(encoder),
        fingerprint=fingerprint or own.fingerprint,
        modality="text",
        texts=texts,
    )


def test_others_of_an_image_do_not_answer_its_questions(recipe, tmp_path):
    data = tiny.write_jsonl(tmp_path / "q.jsonl", questions())
    with pytest.raises(RecipeError, match="'vqa' asks something of each row that only its own target answers"):
        train(recipe(task="vqa", captions="multiple", data={"train": str(data)}), tmp_path / "run")


@pytest.mark.parametrize(
    ("own", "told"), [(10, "leaves out 10 of 22 rows"), (0, None), (12, "needs rows that share a 'group'")]
)
def test_rows_alone_in_their_group_are_told(recipe, tmp_path, caplog, own, told):
    """A row of two sources is one caption that has no other, too."""
    grouped = questions(12) if own < 12 else []
    rows = [*grouped, *({"source": [f"one {i}", f"two {i}"], "group": f"own{i}"} for i in range(own))]
    made = recipe(
        {"max_steps": 1}, data={"train": str(tiny.write_jsonl(tmp_path / "c.jsonl", rows))}, captions="multiple"
    )
    files = [RowFile(part.train) for part in made.parts()]
    if grouped:
        check_work(made, files)
        assert told in caplog.text if told else "leaves out" not in caplog.text
    else:
        with pytest.raises(DataError, match=told):
            check_work(made, files)


def test_each_task_of_a_list_says_its_own_captions(recipe, captions):
    parts = [{"task": "caption", "train": str(captions)}, {"task": "vqa", "train": str(captions)}]
    with pytest.raises(ValueError, match="each says its own 'captions: multiple'"):
        recipe(task=parts, data={}, captions="multiple")


def test_what_is_watched_is_what_is_learnt(recipe, captions, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("close.training.train.MixedDataset", lambda parts, *rest: seen.append(parts) or parts[0])
    from close.training import train as module

    built = module.TextDataset
    made = []
    monkeypatch.setattr(module, "TextDataset", lambda *a, **k: made.append(built(*a, **k)) or made[-1])
    both = {"train": str(captions), "val": str(captions)}
    train(recipe({"max_steps": 1}, data=both, captions="multiple"), tmp_path / "run")
    assert len(made) == 2
    assert len(made[0]) == len(made[1]) != 48


def test_one_task_has_its_weight_too(recipe, captions, tmp_path):
    part = {"task": "caption", "train": str(captions), "weight": 0.5}
    run = train(recipe({"epochs": 2, "batch_size": 8}, task=[part], data={}), tmp_path / "run")
    assert json.loads((run / "run.json").read_text())["steps"] == 6  # of 24 rows, not of 48


def test_rows_of_another_task_are_told(recipe, tmp_path, caplog):
    rows = [row | {"task": "vqa"} for row in questions()]
    data = tiny.write_jsonl(tmp_path / "q.jsonl", rows)
    train(recipe({"max_steps": 1}, data={"train": str(data)}), tmp_path / "run")
    assert "12 of 12 rows say that they are for task 'vqa', and are read for 'caption'" in caplog.text


def test_tables_of_other_weights_do_not_mix(recipe, tiny_encoder, tmp_path):
    rows = tiny.caption_rows(12)
    data = tiny.write_jsonl(tmp_path / "c.jsonl", rows)
    places = [table(rows, tiny_encoder, tmp_path / n, f).path for n, f in (("a", None), ("b", "0" * 32))]
    parts = [{"task": "caption", "train": str(data), "embeddings": str(place)} for place in places]
    with pytest.raises(MismatchError, match="00000000"):
        train(recipe(task=parts, data={}), tmp_path / "run")


def test_an_adapter_learns_from_the_training_rows(recipe, tiny_encoder, tmp_path):
    rows = tiny.caption_rows(24)
    more = table(rows, tiny_encoder, tmp_path / "t")
    data = tiny.write_jsonl(tmp_path / "c.jsonl", rows[:8])
    given = {"train": str(data), "embeddings": str(more.path)}
    run = train(recipe({"max_steps": 1}, data=given, adapter="memory"), tmp_path / "run")
    assert json.loads((run / "config.json").read_text())["adapter"]["memory"]["size"] == 8
    parts = [{"task": "caption", "train": str(data)}, {"task": "caption", "train": str(data)}]
    with pytest.raises(RecipeError, match="learns from the training text, and that is 2 files: say which"):
        train(recipe(task=parts, data={}, adapter="memory"), tmp_path / "two")


def test_a_memory_reads_the_columns_that_training_reads(recipe, tmp_path):
    lines = ["said,number", *(f"{text},{place}" for place, text in enumerate(tiny.sentences(12)))]
    data = tmp_path / "c.csv"
    data.write_text("\n".join(lines))
    values = {"data": {"train": str(data), "columns": {"caption": "said"}}}
    retrieve = {"memory": str(data), "k": 2, "into": "captions"}
    run = train(recipe({"max_steps": 1}, **values, retrieve=retrieve), tmp_path / "run")
    kept = json.loads((run / "config.json").read_text())["retrieve"]["memory"]
    assert kept["columns"] == {"caption": "said"}
    assert kept["texts_in_it"] == 12


def test_columns_of_what_is_no_table_are_told(recipe, captions, tmp_path, caplog):
    train(recipe({"max_steps": 1}, data={"train": str(captions), "columns": {"caption": "x"}}), tmp_path / "run")
    assert "columns are of tables" in caplog.text


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"metric_rows": 5}, "metric_rows counts where metric_for_best names a score"),
        ({"metric_beams": 2, "metric_for_best": "loss"}, "metric_beams counts where metric_for_best names a score"),
        ({"sortish_sampler": True}, "sortish_sampler does nothing here: batches hold targets of like length"),
        ({"do_eval": True}, "do_eval does nothing here: close train trains, and looks at data.val"),
        ({"generation_config": "mine"}, "generation_config does nothing here: how texts are searched is said where"),
        ({"generation_num_beams": 2}, "'training.metric_beams' here"),
        ({"resume_from_checkpoint": "x"}, "'--resume' here"),
        ({"average_tokens_across_devices": False}, "the loss is over the tokens of all processes"),
        ({"use_liger_kernel": True}, "Liger has no kernels for this model"),
        ({"remove_unused_columns": True}, "a batch holds what the model takes"),
    ],
    ids=str,
)
def test_keys_that_do_nothing(recipe, training, told):
    with pytest.raises(ValueError, match=told):
        recipe(training)


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"optim": "adamw_bnb_8bit"}, "bitsandbytes"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 0.1}}, "lr_end"),
        ({"eval_on_start": True}, "eval_on_start looks at data.val, and there is none"),
        ({"dataloader_persistent_workers": True}, "dataloader_num_workers is 0"),
        ({"accelerator_config": "nowhere.json"}, "nowhere.json"),
        ({"dataloader_drop_last": True, "batch_size": 400}, "no whole batch of 400, and there are"),
    ],
    ids=str,
)
def test_a_finished_run_stays_where_options_are_wrong(recipe, tmp_path, training, told):
    run = train(recipe({"max_steps": 1}), tmp_path / "run")
    with pytest.raises(RecipeError, match=told):
        train(recipe(training), run, overwrite=True)
    assert (run / "model.safetensors").is_file()


def test_files_of_training_lie_beside_the_recipe(captions, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/acc.json").write_text('{"split_batches": false}')
    wanted = {"data": {"train": str(captions)}, "training": {"accelerator_config": "acc.json"}}
    (tmp_path / "own/r.yaml").write_text(yaml.safe_dump(wanted))
    monkeypatch.chdir(tmp_path)
    assert load_recipe(tmp_path / "own/r.yaml").training.accelerator_config == str(tmp_path / "own/acc.json")


def test_images_without_text_are_told(recipe, pictures, tmp_path, caplog):
    shown = [{"id": f"{i}", "image": str(path)} for i, path in enumerate(sorted(pictures.iterdir())[:4])]
    data = {"train": str(tiny.write_jsonl(tmp_path / "none.jsonl", shown))}
    with pytest.raises(DataError, match="4 of 4 rows have nothing to learn to say"):
        train(recipe({"max_steps": 1}, data=data, train_on="image"), tmp_path / "run")
    some = [row | ({"source": "a dog"} if i % 2 else {}) for i, row in enumerate(shown)]
    data = {"train": str(tiny.write_jsonl(tmp_path / "some.jsonl", some))}
    train(recipe({"max_steps": 1}, data=data, train_on="image"), tmp_path / "run")
    assert "2 of 4 rows have nothing to learn to say (a 'target', or a 'source'), and are left out" in caplog.text


def test_texts_of_another_language_than_the_models_are_told(recipe, tmp_path, caplog):
    rows = [{"source": f"опухоль лёгкого {i}"} for i in range(12)]
    data = {"train": str(tiny.write_jsonl(tmp_path / "other.jsonl", rows))}
    train(recipe({"max_steps": 1}, data=data), tmp_path / "run")
    assert "100 % of the tokens to be learnt are unknown to language_model '" in caplog.text
    caplog.clear()
    train(recipe({"max_steps": 1}, data=data, language_model="mini"), tmp_path / "mini")
    assert "it knows a world of coloured shapes alone, and so does encoder: mini" in caplog.text
    caplog.clear()
    train(recipe({"max_steps": 1}), tmp_path / "own")
    assert "unknown to language_model" not in caplog.text


def test_more_vectors_than_a_prefix_takes(recipe, tmp_path):
    rows = [{"source": [f"a dog {i}" for i in range(1030)], "target": "dogs"}]
    data = {"train": str(tiny.write_jsonl(tmp_path / "many.jsonl", rows))}
    with pytest.raises(DataError, match=r"many\.jsonl: a row has 1,030 vectors, and at most 1,024 go into a prefix"):
        train(recipe(data=data, several="set", prefix={"kind": "fusion"}), tmp_path / "run")


def test_steps_that_are_given_are_taken(recipe, captions, tmp_path):
    kept = []
    from transformers import TrainerCallback

    class Look(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            kept.append(state.global_step)

    values = {"data": {"train": str(captions), "val": str(captions)}}
    train(recipe({"save_steps": 2, "eval_steps": 2}, **values), tmp_path / "run", callbacks=[Look()])
    assert kept == [2, 4, 6]


class StoppedError(Exception):
    """In the middle of a run."""


def stopped(made: Recipe, run, at: int = 4):
    """A run that was stopped behind a step."""
    from transformers import TrainerCallback

    class Stopper(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == at:
                raise StoppedError

    with pytest.raises(StoppedError):
        train(made, run, callbacks=[Stopper()])


def test_a_run_does_not_go_on_from_the_model_alone(recipe, tmp_path):
    made = recipe({"save_strategy": "steps", "save_steps": 2, "save_only_model": True})
    stopped(made, tmp_path / "run")
    with pytest.raises(DataError, match="holds the model alone"):
        train(made, tmp_path / "run", resume=True)


def test_rows_that_are_watched_stay_the_same(recipe, captions, tmp_path):
    watched = tiny.write_jsonl(tmp_path / "val.jsonl", tiny.caption_rows(8))
    made = recipe({"save_steps": 2}, data={"train": str(captions), "val": str(watched)})
    stopped(made, tmp_path / "run")
    tiny.write_jsonl(watched, tiny.caption_rows(8, seed=3))
    with pytest.raises(OutputExistsError, match=r"val\.jsonl has changed since the run began"):
        train(made, tmp_path / "run", resume=True)


def test_a_run_is_replaced_or_goes_on(recipe, tmp_path):
    with pytest.raises(RecipeError, match="give one of them"):
        train(recipe(), tmp_path / "run", resume=True, overwrite=True)


def test_what_an_adapter_does_not_learn_from(recipe, tmp_path):
    np.save(tmp_path / "V.npy", np.eye(16, dtype=np.float32))
    place = str(tmp_path / "V.npy")
    for spec, told in (
        ({"gaussian": {"cosine": 0.4, "fit": {"text": place}}}, "'gaussian': it learns from nothing; leave text out"),
        ({"shared": {"fit": {"text": place, "groups": place, "image": place}}}, "leave image out of its fit"),
        ({"memory": {"disk": True, "seed": 4}}, "seed is of the sample"),
    ):
        with pytest.raises(ValueError, match=told):
            recipe(adapter=spec)


def test_a_saved_adapter_that_moves_texts_alone_is_not_trained_on_images(recipe, tmp_path):
    np.save(tmp_path / "V.npy", np.eye(16, dtype=np.float32))
    fit_adapter(["mean_shift"], tmp_path / "shift", text=tmp_path / "V.npy", image=tmp_path / "V.npy")
    recipe(adapter={"load": str(tmp_path / "shift")})
    with pytest.raises(ValueError, match="'mean_shift' moves texts alone"):
        recipe(adapter={"load": str(tmp_path / "shift")}, train_on="image")


def test_noise_by_std_is_not_on_the_scale_of_raw_vectors(recipe, tmp_path):
    retrieve = {"k": 2, "raw": True, "noisy": True}
    with pytest.raises(RecipeError, match="std would not be on the scale of raw ones"):
        train(recipe(adapter={"gaussian": {"std": 0.1}}, retrieve=retrieve), tmp_path / "run")


def test_nothing_is_left_out_of_what_is_not_searched(recipe):
    with pytest.raises(ValueError, match="leave leave_out out"):
        recipe(retrieve={"into": "words", "leave_out": "groups"})


def test_looking_changes_nothing(recipe, captions, tmp_path):
    """Validation draws nothing from what training draws from: dropout is the same, seen or not."""

    def weights(name, training, data):
        steps = {"max_steps": 5, "save_strategy": "no"}
        run = train(recipe(steps | training, data={"train": str(captions), **data}), tmp_path / name)
        return (run / "model.safetensors").read_bytes()

    watched = {"val": str(captions)}
    own = weights("own", {}, {})
    assert weights("watched", {}, watched) == own
    assert weights("each-step", {"eval_steps": 1, "eval_on_start": True}, watched) == own
    assert weights("kept", {"save_strategy": "steps", "save_steps": 1, "logging_steps": 2}, {}) == own


def test_texts_that_are_cut_are_told_and_may_be_longer(recipe, zoo, tmp_path, caplog):
    rows = [row | {"source": f"{row['source']} and " * 12} for row in tiny.caption_rows(12)]
    data = {"train": str(tiny.write_jsonl(tmp_path / "long.jsonl", rows))}
    short = train(recipe({"max_steps": 1}, data=data), tmp_path / "short")
    assert (
        "12 of 12 targets that were looked at are longer than 32 tokens, and are cut there; say how long" in caplog.text
    )
    caplog.clear()
    long = train(recipe({"max_steps": 1}, data=data, max_new_tokens=400), tmp_path / "long")
    assert "are cut" not in caplog.text
    for run, most in ((short, 32), (long, 400)):
        assert json.loads((run / "generation_config.json").read_text())["max_new_tokens"] == most
    caplog.clear()
    capitals = [row | {"source": "A DOG " * 20} for row in rows]  # no piece of the tokenizer's, in capitals
    data = {"train": str(tiny.write_jsonl(tmp_path / "capitals.jsonl", capitals))}
    pieces = {"language_model": str(zoo("t5_pieces_dir")), "max_new_tokens": 60}
    for lowercase in (True, False):
        train(recipe({"max_steps": 1}, data=data, lowercase=lowercase, **pieces), tmp_path / f"{lowercase}")
        assert ("are cut" in caplog.text) is not lowercase
    asked = [row | {"context": "what is it " * 300, "target": "a dog"} for row in rows]
    data = {"train": str(tiny.write_jsonl(tmp_path / "asked.jsonl", asked))}
    train(recipe({"max_steps": 1}, data=data, task="vqa"), tmp_path / "asked")
    assert "12 of 12 contexts that were looked at are longer than" in caplog.text


def test_noise_on_words_that_are_not_there(recipe, captions, tmp_path, zoo):
    """An encoder-decoder reads the prefix alone where rows have no context; a decoder-only model reads a line break at least."""
    noisy = {"neftune_noise_alpha": 5, "max_steps": 1, "save_strategy": "no"}
    with pytest.raises(RecipeError, match="has none \\(no contexts\\): leave it out"):
        train(recipe(noisy), tmp_path / "run")
    first = train(recipe({"max_steps": 1}), tmp_path / "first")
    own = {"data": {"train": str(captions)}, "training": noisy}
    with pytest.raises(RecipeError, match="has none \\(no contexts\\): leave it out"):
        train(Recipe.model_validate(own | {"init_from": str(first)}), tmp_path / "run")
    data = tiny.write_jsonl(tmp_path / "q.jsonl", questions())
    with pytest.raises(RecipeError, match="tune is none: leave it out"):
        train(recipe(noisy, task="vqa", tune="none", data={"train": str(data)}), tmp_path / "run")
    train(recipe(noisy, task="vqa", data={"train": str(data)}), tmp_path / "asked")
    train(recipe(noisy, language_model=str(zoo("gpt2_dir"))), tmp_path / "gpt2")
    train(recipe(noisy, retrieve={"into": "words"}), tmp_path / "words")


def test_targets_keep_their_case_where_that_is_asked_for(recipe, tmp_path, monkeypatch):
    seen = []
    from close.training import train as module

    built = module.TextDataset
    monkeypatch.setattr(module, "TextDataset", lambda *a, **k: seen.append(built(*a, **k)) or seen[-1])
    rows = [{"source": text, "target": f"Berlin: {text}"} for text in tiny.sentences(12)]
    data = {"data": {"train": str(tiny.write_jsonl(tmp_path / "c.jsonl", rows))}}
    for lowercase in (False, True):
        run = train(recipe({"max_steps": 1}, lowercase=lowercase, **data), tmp_path / str(lowercase))
        assert seen[-1][0]["target"].startswith("berlin" if lowercase else "Berlin")
        assert yaml.safe_load((run / "recipe.yaml").read_text())["lowercase"] is lowercase
    questions_of = tiny.write_jsonl(tmp_path / "q.jsonl", questions())
    with pytest.raises(RecipeError, match="lowercase: false is for texts, and task 'vqa' learns its answers"):
        train(recipe(task="vqa", lowercase=False, data={"train": str(questions_of)}), tmp_path / "run")
