// The answer in words: texts, a table of predictions with its filters. Everything from outside is text, never markup.
import { colourOf } from "./drawing.js";

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}

export class Results {
  constructor(drawing) {
    this.drawing = drawing;
    this.all = [];
    this.hidden = new Set();
    this.slider = document.getElementById("confidence");
    this.rows = document.getElementById("rows");
    this.slider.addEventListener("input", () => this.refresh());
    this.rows.addEventListener("keydown", (event) => this.#walk(event));
  }

  clear() {
    this.all = [];
    for (const id of ["texts", "labels", "rows"]) document.getElementById(id).replaceChildren();
    for (const id of ["found", "timing"]) document.getElementById(id).hidden = true;
    document.getElementById("summary").textContent = "";
  }

  show(answer) {
    this.clear();
    this.hidden.clear();
    this.#texts(answer);
    this.all = answer.predictions || [];
    document.getElementById("found").hidden = !answer.predictions;
    this.drawing.setSize(answer.image);
    if (answer.predictions) this.refresh();
    else this.drawing.show([]);
  }

  #texts(answer) {
    const box = document.getElementById("texts");
    const pairs = answer.answers || answer.captions
      || (answer.answer !== undefined || answer.caption !== undefined ? [answer] : []);
    for (const pair of pairs) {
      const card = element("div", "said");
      if (pair.prompt) card.append(element("p", "dim", pair.prompt));
      card.append(element("p", "big", (pair.answer ?? pair.caption) || "(nothing)"));
      box.append(card);
    }
    for (const { label, class_id: classId, confidence } of answer.top || []) {
      const line = element("div", "likely");
      line.append(element("span", "", label), element("span", "num", `${(confidence * 100).toFixed(1)} %`));
      const bar = element("div", "meter");
      const fill = bar.appendChild(element("i"));
      fill.style.width = `${confidence * 100}%`;
      fill.style.background = colourOf(classId);
      line.append(bar);
      box.append(line);
    }
    if (pairs.length) document.getElementById("summary").textContent = pairs.length > 1 ? `${pairs.length} answers` : "";
  }

  refresh() {
    const least = Number(this.slider.value);
    document.getElementById("confidence-value").textContent = least.toFixed(2);
    const sure = this.all.filter(({ confidence }) => confidence >= least);
    const shown = sure.filter(({ label }) => !this.hidden.has(label));
    this.#chips(sure);
    this.rows.replaceChildren(...shown.map((prediction) => this.#row(prediction)));
    this.shown = shown;
    const text = shown.length === 1 ? "1 found" : `${shown.length} found`;
    document.getElementById("summary").textContent = text;
    const count = {};
    for (const { label } of shown) count[label] = (count[label] || 0) + 1;
    const names = Object.entries(count).map(([label, number]) => `${number} ${label}`).join(", ");
    this.drawing.canvas.setAttribute("aria-label", `Picture with ${text}${names ? `: ${names}` : ""}. The table lists them.`);
    this.drawing.show(shown);
  }

  #chips(sure) {
    const box = document.getElementById("labels");
    const counts = new Map();
    for (const { label, class_id: classId } of this.all) counts.set(label, { classId, number: 0 });
    for (const { label } of sure) counts.get(label).number += 1;
    const focused = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(...[...counts].sort().map(([label, { classId, number }]) => {
      const chip = element("button", "chip", `${label} `);
      chip.type = "button";
      chip.setAttribute("aria-pressed", String(!this.hidden.has(label)));
      chip.append(element("span", "num", String(number)));
      chip.style.setProperty("--colour", colourOf(classId));
      chip.onclick = () => {
        if (!this.hidden.delete(label)) this.hidden.add(label);
        this.refresh();
      };
      return chip;
    }));
    box.children[focused]?.focus();
  }

  #row(prediction) {
    const row = element("tr");
    row.tabIndex = 0;
    const { box, confidence, label } = prediction;
    const name = element("td", "label", label);
    name.style.setProperty("--colour", colourOf(prediction.class_id));
    const place = [box.x1, box.y1, box.x2, box.y2].map(Math.round);
    row.append(name, element("td", "num", confidence.toFixed(2)),
      element("td", "num dim", `${place[0]}, ${place[1]} – ${place[2]}, ${place[3]}`));
    row.onmouseenter = row.onfocus = () => this.mark(prediction);
    row.onmouseleave = row.onblur = () => this.mark(null);
    return row;
  }

  mark(prediction) {
    this.drawing.show(this.shown || [], prediction);
    [...this.rows.children].forEach((row, index) => row.classList.toggle("marked", this.shown[index] === prediction));
  }

  #walk(event) {
    const row = event.target.closest("tr");
    const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling }[event.key];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }
}
