"""The page at `/` in a real browser, against a real server: what people do there, and what they see."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.palette import colour_of
from tests.page import SAMPLES, Page
from tests.server.keys import CLIENT, write_keys
from tests.serving import RunningServer, running_server
from tests.test_pictures_of_all_tasks import OWN, mask_of, scene_of

pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from bench.browser import headless_browser

    try:
        opened = headless_browser()
        browser = opened.__enter__()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    yield browser
    opened.__exit__(None, None, None)


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Address of another host's pictures."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SAMPLES))) as host:
        serving = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield f"http://127.0.0.1:{host.server_port}"
        host.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def server(browser: Any, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    broken = tmp_path_factory.mktemp("playground") / "broken.pt"
    broken.write_bytes(b"no weights")
    weights = Path(__file__).parent / "weights"
    tables = {name: {"weights": str(weights / f"{name}.pt"), "task": name} for name in OWN}
    environment = {
        "ENGINE_MODELS": json.dumps(
            {**tables, "broken": {"weights": str(broken), "task": "detect", "family": "yolo"}}
        ),
        "ENGINE_LOAD_AT_START": "shapes-detect,shapes-vqa",
        "ENGINE_RUNTIME": "torch",
        "ENGINE_REPLICAS": "1",
        "ENGINE_MAX_LOADED_MODELS": "7",
        "ENGINE_IMAGE_URL_PORTS": origin.rpartition(":")[2],
    }
    with running_server(environment=environment, module="tests.loopback_server") as server:
        yield server


@pytest.fixture
def page(browser: Any, server: RunningServer) -> Iterator[Page]:
    with Page(browser, server.url) as page:
        page.wait_for_selector("article.pool")
        yield page
        assert all(url.startswith((server.url, "data:", "blob:")) for url in page.asked), "no other host"
    assert page.wrong == []


def sure(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """What is shown of it at first."""
    return [each for each in answer["predictions"] if each["confidence"] >= 0.25]


def is_near(page: Page, answer: dict[str, Any], place: Any, class_id: int, reach: int = 4) -> bool:
    """Whether the class's colour is drawn near a place in the picture."""
    off = np.abs(np.array(page.pixels(answer, *place, reach)) - colour_of(class_id)).max(1)
    return bool(off.min() < 30)


def test_boxes_stand_where_the_answer_says(page: Page) -> None:
    answer = page.give()
    shown = sure(answer)
    assert len(shown) >= 4 and page.locator("#rows tr").count() == len(shown)
    for each in shown:
        box = each["box"]
        middle_x, middle_y = (box["x1"] + box["x2"]) / 2, (box["y1"] + box["y2"]) / 2
        for edge in ((box["x1"], middle_y), (box["x2"], middle_y), (middle_x, box["y2"])):
            assert is_near(page, answer, edge, each["class_id"], 1)
    far = page.pixel(answer, 5, 475)
    page.slide(1)
    assert page.pixel(answer, 5, 475) == far, "the rest is the picture"
    assert not is_near(page, answer, (shown[0]["box"]["x1"], 475), shown[0]["class_id"], 1)


def test_masks_keypoints_turned_boxes_and_classes_are_drawn(page: Page) -> None:
    for task in OWN:
        page.choose(task)
        answer = page.give({"name": f"{task}.png", "mimeType": "image/png", "buffer": scene_of(task)})
        if task == "classify":
            shares = page.locator(".likely .num").all_inner_texts()
            assert shares == [f"{each['confidence'] * 100:.1f} %" for each in answer["top"]]
            continue
        shown = sure(answer)
        assert shown
        if task == "obb":
            corners = [(corner, each["class_id"]) for each in shown for corner in each["corners"]]
            seen = [is_near(page, answer, corner, class_id) for corner, class_id in corners]
            assert sum(seen) >= 0.7 * len(seen), "names cover some, others lie beyond the edge"
        elif task == "pose":
            points = [
                (p, each["class_id"]) for each in shown for p in each["keypoints"] if p["confidence"] > 0.3
            ]
            seen = [
                is_near(page, answer, (point["x"], point["y"]), class_id, 2) for point, class_id in points
            ]
            assert len(seen) >= 3 and sum(seen) >= 0.7 * len(seen), "names cover some"
        else:
            masks = [mask_of(each, (answer["image"]["height"], answer["image"]["width"])) for each in shown]
            alone = np.argwhere(masks[0] & (np.sum(masks, axis=0) == 1))
            y, x = (int(value) for value in alone[len(alone) // 2])
            over = np.array(page.pixel(answer, x + 0.5, y + 0.5))
            page.slide(1)
            plain = np.array(page.pixel(answer, x + 0.5, y + 0.5))
            expected = 0.78 * plain + 0.22 * np.array(colour_of(shown[0]["class_id"]))
            assert np.abs(over - expected).max() < 12
            page.slide(0.25)


def test_a_picture_comes_by_drop_by_paste_and_as_a_sample(page: Page) -> None:
    carried = page.carry(SAMPLES / "sample.jpg")
    page.dispatch_event("#drop", "dragover", {"dataTransfer": carried})
    assert "over" in page.get_attribute("#drop", "class")
    page.dispatch_event("#drop", "drop", {"dataTransfer": carried})
    assert len(page.answer()["predictions"]) >= 4 and "over" not in page.get_attribute("#drop", "class")

    page.evaluate("window.answer = null")
    page.carry(SAMPLES / "portrait.jpg").evaluate(
        "held => dispatchEvent(new ClipboardEvent('paste', { clipboardData: held }))"
    )
    image = page.answer()["image"]
    assert image["height"] > image["width"]

    page.evaluate("window.answer = null")
    page.click("[data-sample='crowded.jpg']")
    assert len(page.answer()["predictions"]) >= 5
    assert page.num_inferences == 3


def test_a_picture_of_another_host_is_fetched_by_the_server_and_shown(page: Page, origin: str) -> None:
    page.fill("#url", f"{origin}/sample.jpg")
    page.keyboard.press("Enter")
    answer = page.answer()
    assert answer["timings_ms"]["fetch"] > 0 and "fetch" in page.inner_text("#legend")
    page.slide(1)
    page.until("document.getElementById('canvas').getContext('2d').getImageData(2, 2, 1, 1).data[3] === 255")
    shown = page.pixel(answer, 220, 320)
    page.give(SAMPLES / "sample.jpg")
    page.slide(1)
    assert np.abs(np.array(page.pixel(answer, 220, 320)) - shown).max() < 12
    assert all(not url.startswith(origin) for url in page.asked)


def test_slider_and_labels_filter_without_asking_again(page: Page) -> None:
    answer = page.give(SAMPLES / "crowded.jpg")
    assert page.num_inferences == 1
    for least in (0.05, 0.5, 0.95):
        page.slide(least)
        count = sum(prediction["confidence"] >= least for prediction in answer["predictions"])
        assert page.locator("#rows tr").count() == count
        assert page.inner_text("#summary") == f"{count} found"
    page.slide(0.5)
    crosses = page.locator("#rows td.label", has_text="cross").count()
    before = page.locator("#rows tr").count()
    page.click(".chip:has-text('cross')")
    assert crosses and page.locator("#rows tr").count() == before - crosses
    assert page.get_attribute(".chip:has-text('cross')", "aria-pressed") == "false"
    assert page.num_inferences == 1


def test_hovering_marks_the_row_and_names_what_is_there(page: Page) -> None:
    box = page.give()["predictions"][0]["box"]
    bounds = page.locator("#canvas").bounding_box()
    scale = bounds["width"] / 640
    page.mouse.move(
        bounds["x"] + (box["x1"] + box["x2"]) / 2 * scale, bounds["y"] + (box["y1"] + box["y2"]) / 2 * scale
    )
    page.wait_for_selector("#rows tr.marked")
    assert page.is_visible("#tip")


def test_several_questions_about_one_picture_are_one_request(page: Page) -> None:
    page.choose("shapes-vqa")
    page.click("[data-sample='sample.jpg']")
    page.fill("#prompts", "how many shapes are there?\nis there a circle?")
    page.click("#ask:enabled")
    page.wait_for_selector(".said")
    assert page.num_inferences == 1
    assert page.locator(".said .dim").all_inner_texts() == [
        "how many shapes are there?",
        "is there a circle?",
    ]
    assert page.locator(".said .big").all_inner_texts()[0] == "5"
    assert "infer" in page.get_attribute("#bar", "aria-label")
    page.click("summary")
    assert "prompts=" in page.inner_text("#code-text") and page.inner_text("#code-text").startswith("curl ")
    page.click("#code-python")
    compile(page.inner_text("#code-text"), "example", "exec")


def test_a_model_that_cannot_load_says_why_and_can_be_asked_again(page: Page) -> None:
    page.choose("broken")
    page.until("document.getElementById('model-note').textContent.includes('first question loads it')")
    page.click("[data-sample='sample.jpg']")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error-code") == "weights_invalid"
    assert page.inner_text("#error-text").startswith("The weights of broken are damaged")
    page.wait_for_selector("[data-model='broken'] .trouble")
    page.click("#again")
    page.wait_for_selector("#error:not([hidden])")
    assert page.num_inferences == 2
    # the browser's own line about the status
    page.wrong[:] = [text for text in page.wrong if "503" not in text]


def test_the_live_view_sees_a_worker_killed_and_come_back(page: Page, server: RunningServer) -> None:
    card = "article[data-model='shapes-detect']"
    before = int(page.inner_text(f"{card} .fact-restarts dd"))
    model = server.get("/models/shapes-detect")
    for replica in model["replicas"]:
        os.kill(replica["pid"], signal.SIGKILL)
    wanted = before + len(model["replicas"])
    page.until(f'Number(document.querySelector("{card} .fact-restarts dd").textContent) === {wanted}')
    page.until(f"document.querySelector(\"{card} .pill\").textContent === 'ready'")
    page.wait_for_selector(f"{card} .replica.ready")
    assert "shapes-detect" in page.text_content("#pool-news")
    assert page.give()["predictions"]
    pids = {replica["pid"] for replica in server.get("/models/shapes-detect")["replicas"]}
    assert not pids & {replica["pid"] for replica in model["replicas"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    browser: Any, server: RunningServer, scheme: str
) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with Page(browser, server.url, **phone, color_scheme=scheme, device_scale_factor=2) as page:
        page.wait_for_selector("article.pool")
        page.choose("shapes-detect")
        page.give()
        page.click("summary")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        controls = "#pick #photograph #url #model #ask #confidence .chip .samples #code-python .pool"
        for control in controls.split():
            bounds = page.locator(control).first.bounding_box()
            assert bounds["x"] >= 0 and bounds["x"] + bounds["width"] <= 390, control
        for part in ("body", ".card", "#ask", "#model"):
            colours = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
            ink, ground = (
                sum(map(float, text[text.index("(") + 1 : -1].split(",")[:3]))
                for text in page.locator(part).first.evaluate(colours)
            )
            assert part == "#ask" or (ink > ground) == (scheme == "dark"), part
            assert abs(ink - ground) > 250, part
    assert page.wrong == []


def test_a_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("Tab")
    page.until("document.activeElement.className === 'skip'")
    page.keyboard.press("O")
    page.chooser().set_files(SAMPLES / "sample.jpg")
    page.wait_for_selector("#rows tr")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", seen[-1]
        if seen[-1] == "TR":
            break
    assert {"pick", "photograph", "url", "model", "ask", "confidence", "TR"} <= set(seen)
    page.keyboard.press("ArrowDown")
    second = page.locator("#rows tr").nth(1)
    assert second.evaluate("e => e === document.activeElement && e.className === 'marked'")
    page.keyboard.press("m")
    assert page.evaluate("document.activeElement.id") == "model"
    page.choose("shapes-vqa")
    page.focus("#prompts")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".said")


def test_it_works_below_a_path_of_a_proxy(browser: Any, server: RunningServer) -> None:
    page = Page(browser, server.url + "/engine")
    page.route("**/*", lambda route: route.continue_(url=route.request.url.replace("/engine/", "/")))
    with page:
        page.wait_for_selector("article.pool")
        page.choose("shapes-detect")
        page.click("[data-sample='sample.jpg']")
        assert page.answer()["predictions"]
        page.click("summary")
        assert f"{server.url}/engine/inference?" in page.inner_text("#code-text")
    assert page.wrong == []
    assert all(url.startswith((f"{server.url}/engine/", "data:", "blob:")) for url in page.asked)


def test_with_keys_the_page_asks_for_one_and_keeps_it_in_its_tab(browser: Any, tmp_path: Path) -> None:
    environment = {"ENGINE_KEYS_FILE": str(write_keys(tmp_path)), "ENGINE_LOAD_AT_START": ""}
    with running_server(environment=environment, wait=False) as server, Page(browser, server.url) as page:
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key", CLIENT)
        page.keyboard.press("Enter")
        page.choose("shapes-detect")
        page.until("document.getElementById('connection').textContent === 'live'")
        assert page.evaluate("localStorage.length") == 0 and page.evaluate("document.cookie") == ""
        assert not any(CLIENT in url for url in page.asked) and CLIENT not in page.content()
        assert {text for text in page.wrong if "401" not in text} == set()
        # a viewer still watches: the server must leave without waiting for it
        assert server.stop() == 0
