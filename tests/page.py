"""The page at `/` in a tab of a real browser: what people do there, and what goes wrong in it."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SAMPLES = Path(__file__).parents[1] / "models" / "demo" / "samples"
TIMEOUT = 60.0
"""Seconds that anything may take where two runs of tests share two cores."""
_WATCHING = """
addEventListener("securitypolicyviolation", e => console.error("CSP", e.violatedDirective, e.blockedURI));
const plain = window.fetch;
window.fetch = async (...request) => {
  const response = await plain(...request);
  const isAnswer = request[0].includes("/inference") && response.headers.get("content-type").includes("json");
  if (isAnswer) response.clone().json().then(body => { window.answer = body; });
  return response;
};
"""
"""Of the page itself nothing is changed; what the server answers is kept for the test."""
_PIXELS = """([x, y, reach]) => {
  const c = document.getElementById("canvas");
  const size = [2 * reach + 1, 2 * reach + 1];
  const shown = c.getContext("2d").getImageData(Math.round(x * c.width) - reach, Math.round(y * c.height) - reach, ...size);
  return [...shown.data];
}"""
_FILE = """([text, type]) => {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], "carried.jpg", { type }));
  return carried;
}"""


class Page:
    """A tab. What `playwright` has for one can be called on it too."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(TIMEOUT * 1000)
        self.url = url
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.choosers: list[Any] = []
        """Dialogs to choose a file. Listened to from the start: told later, the browser may open one unseen."""
        self.tab.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("filechooser", lambda chooser: self.choosers.append(chooser))
        self.tab.add_init_script(_WATCHING)

    def __enter__(self) -> Self:
        self.tab.goto(self.url + "/")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.context.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tab, name)

    @property
    def num_inferences(self) -> int:
        """Requests for an answer so far."""
        return sum("/inference" in url for url in self.asked)

    def until(self, condition: str) -> None:
        """Until the expression is true. The browser's own waiting would evaluate text, which the policy forbids."""
        deadline = time.monotonic() + TIMEOUT
        while not self.tab.evaluate(condition):
            assert time.monotonic() < deadline, condition
            self.tab.wait_for_timeout(50)

    def chooser(self) -> Any:
        """The dialog to choose a file, once it is open."""
        deadline = time.monotonic() + TIMEOUT
        while not self.choosers:
            assert time.monotonic() < deadline, "no dialog to choose a file"
            self.tab.wait_for_timeout(20)
        return self.choosers.pop()

    def choose(self, model_id: str) -> None:
        """Of the models, once they are there."""
        self.until("document.getElementById('model').options.length > 5")
        self.tab.select_option("#model", model_id)

    def give(self, picture: Path | dict[str, Any] = SAMPLES / "sample.jpg") -> dict[str, Any]:
        """Pick a file; the answer's JSON once it is shown."""
        self.tab.evaluate("window.answer = null")
        self.tab.set_input_files("#file", picture)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for one that is shown."""
        self.until("window.answer && !document.getElementById('timing').hidden")
        body: dict[str, Any] = self.tab.evaluate("window.answer")
        return body

    def carry(self, picture: Path) -> Any:
        """What a drag or a clipboard holds."""
        return self.tab.evaluate_handle(
            _FILE, [base64.b64encode(picture.read_bytes()).decode("ascii"), "image/jpeg"]
        )

    def slide(self, least: float) -> None:
        """Move the confidence slider."""
        move = f"e => {{ e.value = {least}; e.dispatchEvent(new Event('input')) }}"
        self.tab.locator("#confidence").evaluate(move)

    def pixel(self, answer: dict[str, Any], x: float, y: float) -> list[int]:
        """RGB shown at a place of the picture."""
        return self.pixels(answer, x, y, 0)[0]

    def pixels(self, answer: dict[str, Any], x: float, y: float, reach: int) -> list[list[int]]:
        """RGB of all that are shown at most `reach` pixels of the canvas away."""
        size = answer["image"]
        flat = self.tab.evaluate(_PIXELS, [x / size["width"], y / size["height"], reach])
        return [flat[start : start + 3] for start in range(0, len(flat), 4)]
