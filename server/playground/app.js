// The page: what was chosen, asking, and what the rest shows of it.
import { Refusal, fetched, infer, key, models, request, setKey } from "./api.js";
import { timing } from "./chart.js";
import { asCurl, asPython } from "./code.js";
import { Drawing } from "./drawing.js";
import { listen } from "./gestures.js";
import { Live, percent, words } from "./live.js";
import { fromAddress, fromBlob, photograph } from "./picture.js";
import { Results, element } from "./results.js";

const at = (id) => document.getElementById(id);
const TASKS = { detect: "Detect", segment: "Segment", pose: "Pose", obb: "Oriented boxes", classify: "Classify", vqa: "Answer questions", caption: "Describe" };
const FIRST_QUESTIONS = "how many shapes are there?\nwhat colour is the circle?";
const WORTH_WAITING = ["model_loading", "queue_full", "overloaded", "rate_limited", "decoder_unavailable"];
const PATIENCE = 600000;

const drawing = new Drawing(at("canvas"));
const results = new Results(drawing);
const known = new Map(); // by name, what GET /models said, kept fresh by events
let picture = null;
let asking = null; // AbortController
let parts = null;
let language = asCurl;

// Models

async function readModels() {
  try {
    const listed = await models();
    known.clear();
    for (const model of listed) known.set(model.model_id, model);
    fillModels();
  } catch (error) {
    if (error.status === 401) askForKey();
    else showError(error);
  }
}

function fillModels() {
  const select = at("model");
  const chosen = select.value || [...known.values()].find(({ state }) => state === "ready")?.model_id;
  select.replaceChildren();
  for (const [task, title] of [...Object.entries(TASKS), ["", "Other"]]) {
    const group = element("optgroup");
    group.label = title;
    for (const { model_id: id, task: its } of known.values())
      if ((its in TASKS ? its : "") === task) {
        const option = group.appendChild(element("option", "", id));
        option.value = id;
      }
    if (group.children.length) select.append(group);
  }
  if (known.has(chosen)) select.value = chosen;
  relabel();
  chooseModel();
}

// Options are changed in place: a list that is open stays open.
function relabel() {
  for (const option of at("model").options) {
    const { state, progress } = known.get(option.value);
    const done = percent(progress);
    const text = state === "ready" ? `● ${option.value}` : state === "unloaded" ? `○ ${option.value}`
      : `${"failed crash_looping".includes(state) ? "✕" : "◐"} ${option.value} (${words(state)}${done === null ? "" : ` ${done} %`})`;
    if (option.textContent !== text) option.textContent = text;
  }
}

function onPools(live) {
  const seen = new Set(live.map(({ model_id: id }) => id));
  for (const model of live) known.set(model.model_id, { ...known.get(model.model_id), ...model });
  for (const model of known.values())
    if (!seen.has(model.model_id)) Object.assign(model, { state: "unloaded", progress: null, error: null });
  if (at("model").options.length !== known.size) return;
  relabel();
  noteModel();
  if (asking) showBusy();
}

const current = () => known.get(at("model").value);
const isText = (model) => model?.task === "vqa" || model?.task === "caption";

function chooseModel() {
  const model = current();
  at("questions").hidden = !isText(model);
  if (model?.task === "vqa" && !at("prompts").value) at("prompts").value = FIRST_QUESTIONS;
  if (model?.task === "caption" && at("prompts").value === FIRST_QUESTIONS) at("prompts").value = "";
  noteModel();
  at("ask").disabled = !picture || !model;
}

function noteModel() {
  const model = current();
  const done = percent(model?.progress);
  const text = !model ? "" : model.error && model.state !== "ready" ? model.error.message
    : model.state === "unloaded" ? "Not loaded yet: the first question loads it, which may take a while."
      : model.state === "loading" ? `Loading${model.progress?.stage ? `: ${words(model.progress.stage)}` : ""}${done === null ? "" : ` ${done} %`}. A question waits for it.`
        : model.description || "";
  if (at("model-note").textContent !== text) at("model-note").textContent = text;
}

// Picture

async function usePicture(coming) {
  asking?.abort();
  picture = await coming;
  results.clear();
  at("error").hidden = true;
  drawing.setPicture(picture.bitmap);
  at("drop").classList.toggle("empty", !picture.bitmap);
  at("invite").hidden = Boolean(picture.bitmap);
  at(picture.bitmap || picture.url ? "sources" : "invite").append(at("samples"));
  at("canvas").setAttribute("aria-label", `Picture ${picture.name}`);
  if (picture.url && !picture.bitmap) {
    at("invite").querySelector("p").textContent = picture.url;
    at("invite").querySelector(".dim").textContent = "The server fetches it.";
  }
  chooseModel();
  if (!isText(current())) await ask();
}

async function useSample(name) {
  const response = await fetch(`playground/${name}`);
  await usePicture(fromBlob(await response.blob(), name));
}

const useFile = (file) => file && usePicture(fromBlob(file, file.name || "picture.jpg"));

async function useCamera() {
  const isHandheld = matchMedia("(pointer: coarse)").matches;
  if (isHandheld || !navigator.mediaDevices?.getUserMedia) return at("camera-file").click();
  const blob = await photograph(at("camera-dialog"), at("video"), at("camera-note"), at("shoot"), at("camera-cancel"));
  if (blob) await usePicture(fromBlob(blob, "photo.jpg"));
}

// Asking

async function ask() {
  const model = current();
  if (!picture || !model) return;
  asking?.abort();
  const mine = (asking = new AbortController());
  const prompts = at("prompts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  parts = request({ model: model.model_id, task: model.task, prompts, picture });
  showCode();
  at("error").hidden = true;
  at("waiting").hidden = !at("timing").hidden; // an answer stays until the next one
  at("waiting").classList.add("asked");
  showBusy();
  try {
    const other = model.state === "ready" ? "other" : "loading";
    const { answer, elapsed } = await untilAnswered(parts, mine.signal);
    if (mine !== asking) return;
    at("invite").hidden = true;
    at("drop").classList.remove("empty");
    at("waiting").hidden = true;
    results.show(answer);
    timing(answer.timings_ms, elapsed, other);
    if (picture.url && !picture.bitmap) await showFetched(picture, answer.image, mine.signal);
  } catch (error) {
    if (mine !== asking || mine.signal.aborted) return;
    results.clear();
    drawing.show([]);
    showError(error);
  } finally {
    if (mine === asking) {
      asking = null;
      at("busy").hidden = true;
    }
  }
}

// Without it the frame stays empty, which is no reason to take the answer away.
async function showFetched(its, size, signal) {
  its.bitmap = await fetched(parts, size, signal).catch(() => null);
  if (its === picture) drawing.setBitmap(its.bitmap);
}

async function untilAnswered(sent, signal) {
  const until = performance.now() + PATIENCE;
  for (;;) {
    try {
      return await infer(sent, signal);
    } catch (error) {
      if (!WORTH_WAITING.includes(error.code) || performance.now() > until) throw error;
      await pause(error, signal);
    }
  }
}

// As long as the server asks for, in seconds that can be seen.
async function pause(error, signal) {
  for (let left = Math.max(1, Math.ceil(error.retryAfter)); left > 0; left -= 1) {
    showBusy(`${error.message} Asking again in ${left} s.`);
    await new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, 1000);
      signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
    });
  }
  showBusy();
}

let busyReason = "";
function showBusy(reason) {
  if (reason !== undefined || !asking) busyReason = reason || "";
  const model = current();
  const done = percent(model?.progress);
  const text = busyReason || (model?.state === "ready" ? "Asking …"
    : `Loading ${model?.model_id}${model?.progress?.stage ? `: ${words(model.progress.stage)}` : ""}${done === null ? "" : ` ${done} %`} …`);
  if (at("busy-text").textContent !== text) at("busy-text").textContent = text;
  at("busy").hidden = false;
}

function cancel() {
  asking?.abort();
  asking = null;
  at("busy").hidden = true;
  at("waiting").classList.remove("asked");
}

function showError(error) {
  if (error.status === 401) askForKey();
  at("waiting").hidden = true;
  at("error-code").textContent = error instanceof Refusal ? error.code : "page";
  at("error-text").textContent = error.message;
  at("error-id").textContent = error.requestId ? `Request ${error.requestId}` : "";
  at("error").hidden = false;
}

function showCode() {
  if (parts) at("code-text").textContent = language(parts);
}

// Key

function askForKey() {
  at("key-open").hidden = false;
  if (!at("key-dialog").open) at("key-dialog").showModal();
  at("key").focus();
}

function useKey() {
  setKey(at("key").value.trim());
  at("key").value = "";
  at("error").hidden = true;
  readModels();
  live.run();
}

const live = new Live(onPools, askForKey);

// What people do

at("pick").onclick = () => at("file").click();
at("invite").onclick = (event) => event.target.closest("button") || at("file").click();
at("photograph").onclick = useCamera;
for (const id of ["file", "camera-file"])
  at(id).onchange = (event) => {
    useFile(event.target.files[0]);
    event.target.value = "";
  };
at("samples").onclick = (event) => {
  const button = event.target.closest("button");
  if (button) useSample(button.dataset.sample).catch(showError);
};
at("url-form").onsubmit = (event) => {
  event.preventDefault();
  const url = at("url").value.trim();
  if (url) usePicture(fromAddress(url)).catch(showError);
};
at("model").onchange = () => {
  chooseModel();
  if (!isText(current())) ask();
};
at("ask-form").onsubmit = (event) => {
  event.preventDefault();
  ask();
};
at("again").onclick = ask;
at("cancel").onclick = cancel;
at("key-open").onclick = askForKey;
at("key-cancel").onclick = () => at("key-dialog").close();
at("key-form").onsubmit = useKey;
for (const [id, form] of [["code-curl", asCurl], ["code-python", asPython]])
  at(id).onclick = () => {
    language = form;
    at("code-curl").setAttribute("aria-pressed", String(form === asCurl));
    at("code-python").setAttribute("aria-pressed", String(form === asPython));
    showCode();
  };
at("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText(at("code-text").textContent);
    at("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(at("code-text"));
    at("copy").textContent = "Press Ctrl C";
  }
  setTimeout(() => (at("copy").textContent = "Copy"), 2000);
};

listen({ drawing, results, useFile, ask, cancel });
addEventListener("resize", () => drawing.draw());
addEventListener("error", (event) => showError(event.error || new Error(event.message)));

at("key-open").hidden = !key();
readModels();
live.run();
