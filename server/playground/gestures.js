// What is done with a pointer over the picture, by dropping and pasting, and with the keyboard.
const at = (id) => document.getElementById(id);

export function listen({ drawing, results, useFile, ask, cancel }) {
  at("canvas").onpointermove = (event) => {
    const found = drawing.at(event.clientX, event.clientY);
    if (found !== drawing.marked) results.mark(found);
    const tip = at("tip");
    tip.hidden = !found;
    if (found) {
      tip.textContent = `${found.label} ${found.confidence.toFixed(3)}`;
      const bounds = at("drop").getBoundingClientRect();
      tip.style.left = `${Math.min(event.clientX - bounds.left + 12, bounds.width - 130)}px`;
      tip.style.top = `${event.clientY - bounds.top + 14}px`;
    }
  };
  at("canvas").onpointerleave = () => {
    at("tip").hidden = true;
    if (drawing.marked) results.mark(null);
  };

  addEventListener("dragover", (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || at("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    useFile(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) useFile(file);
  });
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") return void ask();
    if (event.key === "Escape") return cancel();
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const letter = event.key.toLowerCase();
    if (letter === "o") at("file").click();
    if (letter === "m") {
      event.preventDefault();
      at("model").focus();
    }
  });
}
