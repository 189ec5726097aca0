// The pools as they are now: one card per model, told once a second by the server.
import { watch, Refusal } from "./api.js";
import { sparkline } from "./chart.js";
import { element } from "./results.js";

const HISTORY = 60;

export class Live {
  constructor(onModels, onDenied) {
    this.onModels = onModels;
    this.onDenied = onDenied;
    this.history = new Map();
    this.before = new Map();
    this.latency = new Map(); // of the last second in which there was an answer
    this.abort = null;
  }

  // Reads until the page is left; asks anew when the stream ends.
  async run() {
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    let wait = 500;
    while (!abort.signal.aborted) {
      try {
        await watch((snapshot) => {
          wait = 500;
          this.#show(snapshot);
        }, abort.signal);
      } catch (error) {
        if (abort.signal.aborted) return;
        if (error instanceof Refusal && error.status === 401) {
          this.#status("needs a key", "bad");
          this.onDenied();
          return;
        }
        if (error instanceof Refusal && error.status) wait = Math.max(wait, 5000);
      }
      this.#status("reconnecting", "warn");
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(wait * 2, 10000);
    }
  }

  #status(text, kind) {
    const pill = document.getElementById("connection");
    if (pill.textContent !== text) pill.textContent = text;
    pill.className = `pill ${kind}`;
  }

  #show(snapshot) {
    this.#status(snapshot.stopping ? "stopping" : "live", snapshot.stopping ? "warn" : "good");
    const { models } = snapshot;
    const rate = models.reduce((sum, model) => sum + model.per_second, 0);
    document.getElementById("pools-summary").textContent =
      `${rate.toFixed(1)} answers/s · ${snapshot.requests_in_flight} in flight · up ${span(snapshot.uptime)}`;
    document.getElementById("pools").replaceChildren(...models.map((model) => this.#card(model)));
    if (!models.length) document.getElementById("pools").append(element("p", "placeholder", "No model is loaded. The first question loads one."));
    this.#news(models);
    this.onModels(models);
  }

  #news(models) {
    const news = [];
    for (const { model_id: id, state, restarts } of models) {
      const before = this.before.get(id);
      if (before && before.state !== state) news.push(`${id} is ${state}`);
      if (before && restarts > before.restarts) news.push(`a worker of ${id} ended and is started again`);
      this.before.set(id, { state, restarts });
    }
    if (news.length) document.getElementById("pool-news").textContent = news.join(". ");
  }

  #card(model) {
    const past = [...(this.history.get(model.model_id) || []), model.per_second].slice(-HISTORY);
    this.history.set(model.model_id, past);
    const card = element("article", "pool");
    card.dataset.model = model.model_id;
    const head = card.appendChild(element("div", "head"));
    head.append(element("h3", "", model.model_id), element("span", `pill ${kindOf(model.state)}`, words(model.state)));
    const progress = model.progress;
    if (progress?.stage) card.append(...progressLine(progress));
    if (model.error && model.state !== "ready") card.append(element("p", "trouble", model.error.message));
    card.append(sparkline(past));
    const facts = card.appendChild(element("dl", "facts"));
    if (model.latency_ms !== null) this.latency.set(model.model_id, model.latency_ms);
    const last = this.latency.get(model.model_id);
    const latency = last === undefined ? "–" : `${last.toFixed(0)} ms`;
    for (const [name, value] of [["answers/s", model.per_second.toFixed(1)], ["latency", latency], ["queue", model.queue_length], ["restarts", model.restarts]]) {
      const pair = element("div", `fact-${name.replace("/", "-")}`);
      pair.append(element("dt", "", name), element("dd", "num", String(value)));
      facts.append(pair);
    }
    const replicas = card.appendChild(element("ul", "replicas"));
    for (const replica of model.replicas) {
      const item = replicas.appendChild(element("li", `replica ${replica.state}`));
      item.append(element("b", "", `#${replica.index}`), element("span", "", replica.state), element("span", "dim", `${replica.device} · ${replica.batches} ${replica.batches === 1 ? "batch" : "batches"}`));
    }
    return card;
  }
}

export function percent(progress) {
  const { done_bytes: done, total_bytes: total } = progress || {};
  return total ? Math.floor((100 * done) / total) : null;
}

function progressLine(progress) {
  const value = percent(progress);
  const bar = element("progress");
  bar.max = 100;
  if (value !== null) bar.value = value;
  const stage = words(progress.stage);
  bar.setAttribute("aria-label", stage);
  return [element("p", "dim", value === null ? `${stage} …` : `${stage} ${value} %`), bar];
}

export const words = (name) => name.replaceAll("_", " ");
const kindOf = (state) => ({ ready: "good", loading: "warn", draining: "warn", failed: "bad", crash_looping: "bad" })[state] || "";
const span = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`);
