"""The shipped folder, loaded and asked as anybody would, and as the engine does."""

import io
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.demo.make_samples import SAMPLES
from models.demo.questions import KINDS, ask_each_kind
from models.demo.train_vqa import FOLDER
from models.demo.vqa_architecture import INPUT_SIZE, WORDS
from models.demo.vqa_dataset import TEST_SEEDS, squash, vqa_scene

pytestmark = pytest.mark.skipif(
    not FOLDER.exists(), reason="shapes-vqa has not been trained yet: python -m models.demo.train_vqa"
)

_CARD = FOLDER.with_suffix(".md")
_NUM_SCENES = 40
#: Below what the card tells, since so few questions vary by some percent.
_TOLERANCE = 0.07

_ASK = """
import json, sys, warnings
import torch
from PIL import Image
from transformers import BlipForQuestionAnswering, BlipProcessor
torch.set_num_threads(1)
network = BlipForQuestionAnswering.from_pretrained(sys.argv[1]).eval()
processor = BlipProcessor.from_pretrained(sys.argv[1])
answers = []
for path, texts in json.load(sys.stdin):
    picture = Image.open(path).convert("RGB")
    for text in texts:
        inputs = processor(images=picture, text=text, return_tensors="pt")
        tokens = network.generate(**inputs, max_new_tokens=24)
        answers.append(processor.decode(tokens[0], skip_special_tokens=True))
print(json.dumps({"answers": answers, "dtype": str(network.dtype)}))
"""


def ask_library(asked: list[tuple[str, list[str]]]) -> dict[str, Any]:
    """Ask with the library alone, in a process of its own that has no hub to go to."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(FOLDER)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"}, input=json.dumps(asked), capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured_accuracy() -> float:
    line = next(
        line for line in _CARD.read_text("utf-8").splitlines() if line.startswith("| held-out accuracy |")
    )
    return float(line.split("**")[1])


def test_the_folder_is_laid_out_as_on_the_hub_and_small_enough_to_ship() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= names
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000


def test_the_weights_are_stored_in_half_precision() -> None:
    content = (FOLDER / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}


def test_the_vocabulary_is_the_codes() -> None:
    stored = json.loads((FOLDER / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert stored == {word: index for index, word in enumerate(WORDS)}


def test_nothing_in_the_folder_names_a_path() -> None:
    for path in FOLDER.iterdir():
        content = path.read_bytes()
        assert b"/tmp" not in content and b"/home" not in content and b"_name_or_path" not in content, (
            path.name
        )


def test_the_card_describes_the_shipped_folder() -> None:
    card = _CARD.read_text("utf-8")
    assert f"{sum(path.stat().st_size for path in FOLDER.iterdir()):,} bytes" in card
    assert all(f"\n| {kind} |" in card for kind in KINDS)


Asked = tuple[str, list[str]]
_ABOUT_THE_SAMPLE: Asked = (
    str(SAMPLES / "sample.jpg"),
    ["what is in the picture?", "how many shapes are there?"],
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    """Held-out scenes as files, with a question of each kind."""
    folder, asked = tmp_path_factory.mktemp("scenes"), []
    for seed in range(TEST_SEEDS, TEST_SEEDS + 3):
        scene = vqa_scene(seed, enlargement=3)
        (folder / f"{seed}.jpg").write_bytes(scene.jpeg())
        asked.append((str(folder / f"{seed}.jpg"), [each.text for each in ask_each_kind(scene, seed)]))
    return asked


@pytest.fixture(scope="module")
def found(scenes: list[Asked]) -> dict[str, Any]:
    """What the library says of the sample, then of the scenes: it is imported once for both."""
    return ask_library([_ABOUT_THE_SAMPLE, *scenes])


@pytest.mark.timeout(300)  # a process that imports the libraries
def test_the_library_alone_answers_about_a_shipped_sample_without_a_network(found: dict[str, Any]) -> None:
    truth = json.loads((SAMPLES / "sample.json").read_text("utf-8"))["objects"]
    assert found["dtype"] == "torch.float32"
    assert found["answers"][1] == str(len(truth))
    assert any(f"{thing['colour']} {thing['shape']}" in found["answers"][0] for thing in truth)


@pytest.fixture(scope="module")
def model() -> Any:
    from models.blip import load

    config = {"model_id": "shapes-vqa", "source": "file", "weights": str(FOLDER), "max_batch_size": 8}
    return load({**config, "num_threads": 1}, "cpu", lambda step: None)


class Row:
    def __init__(self, pixels: Any, prompt: str, **more: str) -> None:
        self.pixels, self.params = pixels, {"prompt": prompt, "max_new_tokens": 24, **more}


def test_the_engine_answers_held_out_scenes_as_well_as_the_card_tells(model: Any) -> None:
    assert model.slot_shape == (INPUT_SIZE, INPUT_SIZE, 3)
    num_right = num_asked = 0
    for seed in range(TEST_SEEDS, TEST_SEEDS + _NUM_SCENES):
        scene = vqa_scene(seed)
        questions = [each for each in ask_each_kind(scene, seed, times=2) if each.kind != "caption"]
        pixels = squash(scene)
        rows = [Row(pixels, question.text, image_key=str(seed)) for question in questions]  # seen once
        fragments = model.infer(rows).fragments
        for question, fragment in zip(questions, fragments, strict=True):
            num_right += json.loads(fragment)["answer"] == question.answer
            num_asked += 1
    assert num_asked > 5 * _NUM_SCENES
    assert num_right / num_asked >= measured_accuracy() - _TOLERANCE


@pytest.mark.timeout(300)  # a process that imports the libraries
def test_the_engine_and_the_library_give_the_same_answers(
    model: Any, scenes: list[Asked], found: dict[str, Any]
) -> None:
    expected = []
    for seed, (_, texts) in enumerate(scenes, TEST_SEEDS):
        pixels = np.asarray(squash(vqa_scene(seed, enlargement=3)))
        expected += [json.loads(model.infer([Row(pixels, text)]).fragments[0])["answer"] for text in texts]
    assert found["answers"][len(_ABOUT_THE_SAMPLE[1]) :] == expected


def test_an_unknown_word_does_no_harm(model: Any) -> None:
    with Image.open(io.BytesIO(vqa_scene(TEST_SEEDS).jpeg())) as picture:
        pixels = np.asarray(picture.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BICUBIC))
    (fragment,) = model.infer([Row(pixels, "Pray, how many gizmos are there?")]).fragments
    assert json.loads(fragment)["answer"]
