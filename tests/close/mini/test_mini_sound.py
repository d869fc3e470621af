"""The mini sound world: exact truth, the same bytes every time, and an encoder that hears what is there."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from close.data.shards import open_rows
from close.encoders import load_encoder
from close.encoders.sounds import open_sound
from close.errors import RecipeError
from close.io.versions import SOUND_WORLD_FILE
from close.mini import WORLDS, Claim, attribute_accuracy, export
from close.mini.sound.mel import mel
from close.mini.sound.scene import LOUDNESSES, PITCHES, RHYTHMS, Event, SoundScene
from close.mini.sound.synthesis import RATE, SECONDS, samples
from close.mini.world import sound_world

SOUND = WORLDS["sound"]


def scene(**changes) -> SoundScene:
    event = {"voice": "flute", "pitch": "high", "rhythm": "long", "loudness": "loud", "slot": 0}
    event |= {"start": 0.1, "length": 0.9, "hertz": 560.0, "level": 0.4}
    return SoundScene("s", (Event(**event | changes),), "quiet", 1.0, 7)


def test_the_world_is_what_its_version_says() -> None:
    said = json.loads(SOUND_WORLD_FILE.read_text(encoding="utf-8"))
    found = sound_world()
    changed = [name for name in found | said["sha256"] if found.get(name) != said["sha256"].get(name)]
    assert not changed, (
        f"the sound world has changed in {changed}: give it a new version in {SOUND_WORLD_FILE}, with {found}"
    )


def test_captions_of_a_scene_are_true_of_it_and_of_hardly_any_other() -> None:
    pool = list(SOUND.scenes("test", 200))
    texts, facts = [SOUND.captions(one, 1)[0] for one in pool], [SOUND.facts(one) for one in pool]
    assert json.loads(json.dumps(facts)) == facts
    own, other = attribute_accuracy(texts, facts), attribute_accuracy(texts, [*facts[1:], facts[0]])
    assert (own.accuracy, own.hallucination) == (100, 0)
    assert other.accuracy < 35
    assert 20 < own.recall < 60
    assert set(own.by_kind) == set(SOUND.grammar.kinds)


def test_claims_of_order_and_time_are_read_and_checked() -> None:
    said = SOUND.grammar.claims("a loud deep double bell at the end, then a flute while it rains")
    assert said == {
        *(Claim("thing", "present", "bell"), Claim("loudness", "loud", "bell"), Claim("pitch", "deep", "bell")),
        *(Claim("rhythm", "double", "bell"), Claim("time", "end", "bell")),
        *(Claim("thing", "present", "flute"), Claim("order", "bell", "flute"), Claim("background", "rain")),
    }
    thing = {"pitch": "deep", "rhythm": "double", "loudness": "loud"}
    things = [{"voice": "flute", "cell": 0, **thing}, {"voice": "bell", "cell": 2, **thing}]
    facts = {"world": "sound", "background": "rain", "things": things}
    false = {claim for claim in said if not SOUND.grammar.is_true(claim, facts)}
    assert false == {Claim("order", "bell", "flute")}


@pytest.mark.parametrize("pitch", PITCHES)
def test_a_pitch_is_where_it_is_said_to_be(pitch: str) -> None:
    sound = samples(scene(pitch=pitch, hertz=PITCHES[pitch]))
    spectrum = np.abs(np.fft.rfft(sound))
    assert np.fft.rfftfreq(len(sound), 1 / RATE)[spectrum.argmax()] == pytest.approx(PITCHES[pitch], abs=2)


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_a_rhythm_has_its_strokes_and_a_loudness_its_level(rhythm: str) -> None:
    for loudness, level in LOUDNESSES.items():
        sound = np.abs(samples(scene(rhythm=rhythm, loudness=loudness, level=level)))
        loud = np.convolve(sound, np.ones(80) / 80, "same") > level / 4
        assert (np.diff(loud.astype(int)) == 1).sum() == RHYTHMS[rhythm]


def test_a_mel_spectrogram_shows_when_and_how_high() -> None:
    pictures = {
        (pitch, slot): mel(samples(scene(hertz=PITCHES[pitch], start=0.1 + slot)))
        for pitch in PITCHES
        for slot in (0, 2)
    }
    brightest = {key: np.unravel_index(picture.argmax(), picture.shape) for key, picture in pictures.items()}
    rows = [brightest[pitch, 0][0] for pitch in PITCHES]
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) == len(rows)
    assert all((brightest[pitch, 0][1] < 22) and (brightest[pitch, 2][1] > 40) for pitch in PITCHES)


def test_files_are_the_sounds_and_rows_name_them(tmp_path) -> None:
    counts = export(tmp_path / "a", "test", 3, world="sound")
    assert counts == {"sounds": 3, "captions": 15, "eval": 3}
    rows = open_rows(tmp_path / "a" / "eval.jsonl")
    for row, one in zip(rows, SOUND.scenes("test", 3), strict=True):
        assert row.image.read_bytes() == SOUND.file(one)
        rate, numbers = wavfile.read(io.BytesIO(SOUND.file(one)))
        assert (rate, len(numbers)) == (RATE, int(RATE * SECONDS))
        assert np.abs(open_sound(row.image, RATE) - samples(one)).max() < 1e-4
        assert row.meta["facts"] == SOUND.facts(one)
    with pytest.raises(RecipeError, match="expected one of plain"):
        export(tmp_path / "b", world="sound", style="report")
    with pytest.raises(RecipeError, match="expected one of drawn, sound"):
        export(tmp_path / "b", world="smell")


def test_the_encoder_pairs_sounds_with_their_captions(tmp_path) -> None:
    """On scenes that it never heard, through files; a real CLIP's cosines are .31 and .16."""
    encoder = load_encoder("mini-sound", device="cpu", precision="fp32")
    pool = list(SOUND.scenes("test", 100, seed=5))
    texts = encoder.encode_text([SOUND.captions(one, 1)[0] for one in pool])
    sounds = encoder.encode_image([SOUND.file(one) for one in pool])
    cross = texts @ sounds.T
    paired, unpaired = cross.diagonal().mean(), cross[~torch.eye(100, dtype=torch.bool)].mean()
    assert 0.25 < paired < 0.45
    assert 0.05 < unpaired < 0.25
    assert (cross.argmax(1) == torch.arange(100)).float().mean() > 0.4
    views = torch.from_numpy(np.stack([SOUND.view(one) for one in pool[:5]])).permute(0, 3, 1, 2)
    seen = encoder.model.encode_image(views.float() / 127.5 - 1, normalize=True)
    assert torch.allclose(sounds[:5], seen, atol=2e-2)  # 16 bits of the file lie between
    long = np.concatenate([samples(pool[0]), samples(pool[1])])
    mean = torch.nn.functional.normalize(sounds[:2].mean(0), dim=0)
    assert torch.allclose(encoder.encode_image([long])[0], mean, atol=2e-2)
