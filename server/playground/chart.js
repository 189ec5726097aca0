// Small drawings: the bar of stages, and a line of the last minute.
import { element } from "./results.js";

const STAGES = ["fetch", "decode", "queue", "infer", "post", "draw", "other", "network"];

// `other` is what the server did besides; where a model had to be loaded first, that is nearly all of it.
export function timing(milliseconds, elapsed, other = "other") {
  const known = STAGES.reduce((sum, name) => sum + (milliseconds[name] || 0), 0);
  const parts = {
    ...milliseconds,
    other: Math.max(0, milliseconds.total - known),
    network: Math.max(0, elapsed - milliseconds.total),
  };
  const bar = document.getElementById("bar");
  const legend = document.getElementById("legend");
  const sum = STAGES.reduce((total, name) => total + (parts[name] || 0), 0) || 1;
  const shown = STAGES.filter((name) => parts[name] > 0.0005);
  bar.replaceChildren(...shown.map((name) => {
    const part = element("i", `stage-${name}`);
    part.style.flexGrow = String(parts[name] / sum);
    return part;
  }));
  const lines = shown.map((name) => [name, format(parts[name]), name === "other" ? other : name]);
  bar.setAttribute("aria-label", `${lines.map(([, text, title]) => `${title} ${text}`).join(", ")}; in all ${format(elapsed)}`);
  legend.replaceChildren(...[...lines, ["in-all", format(elapsed), "in all"]].map(([name, text, title]) => {
    const line = element("li", `stage-${name}`, `${title} `);
    line.append(element("span", "num", text));
    return line;
  }));
  document.getElementById("timing").hidden = false;
}

const format = (value) => (value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`);

const SVG = "http://www.w3.org/2000/svg";
export function sparkline(past, width = 60) {
  const values = [...Array(Math.max(0, width - past.length)).fill(0), ...past];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  const top = Math.max(1, ...values);
  const points = values.map((value, index) => `${index + 0.5},${(19 - (value / top) * 17).toFixed(1)}`);
  const area = document.createElementNS(SVG, "polygon");
  area.setAttribute("points", `0.5,20 ${points.join(" ")} ${width - 0.5},20`);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.append(area, line);
  return svg;
}
