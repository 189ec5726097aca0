// The picture and what was found in it, on a canvas. Coordinates of answers are pixels of the upright original.
// the server's own, so that a picture that it draws looks the same
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#88ccee", "#aa4499", "#999933"];
export const colourOf = (classId) => COLOURS[classId % COLOURS.length];
const inkOn = (colour) => {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 110 ? "#000" : "#fff";
};
const LIMBS = [[15, 13], [13, 11], [16, 14], [14, 12], [11, 12], [5, 11], [6, 12], [5, 6], [5, 7], [6, 8], [7, 9], [8, 10], [1, 2], [0, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 6]];

export class Drawing {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.bitmap = null;
    this.size = null;
    this.shown = [];
    this.marked = null;
  }

  setPicture(bitmap, size = null) {
    this.bitmap = bitmap;
    this.size = size || (bitmap && { width: bitmap.width, height: bitmap.height });
    this.shown = [];
    this.marked = null;
    this.draw();
  }

  setBitmap(bitmap) {
    this.bitmap = bitmap;
    this.draw();
  }

  setSize(size) {
    this.size = size;
  }

  show(predictions, marked = null) {
    this.shown = predictions;
    this.marked = marked;
    this.draw();
  }

  draw() {
    const { canvas, size } = this;
    canvas.hidden = !size;
    if (!size) return;
    // as many pixels as the screen shows, at most twice the picture's
    const room = canvas.parentElement.clientWidth || size.width;
    const shownWidth = Math.min(room, (0.62 * window.innerHeight * size.width) / size.height);
    this.scale = Math.min((shownWidth * (window.devicePixelRatio || 1)) / size.width, 2);
    canvas.width = Math.max(1, Math.round(size.width * this.scale));
    canvas.height = Math.max(1, Math.round(size.height * this.scale));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    // of one pixel of a picture as wide as on a desk; on a phone lines and letters are a little smaller
    this.unit = (canvas.width / Math.max(1, shownWidth)) * Math.max(0.78, Math.min(1, shownWidth / 560));
    if (this.bitmap) context.drawImage(this.bitmap, 0, 0, canvas.width, canvas.height);
    else {
      context.fillStyle = "#8b95a533";
      context.fillRect(0, 0, canvas.width, canvas.height);
    }
    // the surest above the others, the marked one above all, names above every line
    const upwards = [...this.shown].reverse().sort((a, b) => (a === this.marked) - (b === this.marked));
    for (const prediction of upwards) this.#draw(context, prediction);
    for (const prediction of upwards) this.#tag(context, prediction);
  }

  #draw(context, prediction) {
    const isMarked = prediction === this.marked;
    const faded = this.marked && !isMarked;
    const colour = colourOf(prediction.class_id);
    context.save();
    context.globalAlpha = faded ? 0.35 : 1;
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = (isMarked ? 4 : 2.5) * this.unit;
    context.lineJoin = "round";
    const outline = prediction.polygon?.length ? prediction.polygon : prediction.corners;
    if (outline) {
      this.#path(context, outline);
      this.#stroke(context);
      context.globalAlpha *= isMarked ? 0.4 : 0.22;
      context.fill();
      context.globalAlpha = faded ? 0.35 : 1;
    }
    if (!prediction.corners) {
      const [x, y, width, height] = this.#box(prediction);
      if (isMarked) {
        context.globalAlpha = 0.16;
        context.fillRect(x, y, width, height);
        context.globalAlpha = 1;
      }
      if (outline) context.lineWidth = this.unit;
      context.beginPath();
      context.rect(x, y, width, height);
      this.#stroke(context);
    }
    if (prediction.keypoints) this.#skeleton(context, prediction.keypoints);
    context.restore();
  }

  // with a dark rim, to be seen on a ground of its own colour
  #stroke(context) {
    const { lineWidth, strokeStyle } = context;
    context.lineWidth = lineWidth + 2 * this.unit;
    context.strokeStyle = "#0006";
    context.stroke();
    context.lineWidth = lineWidth;
    context.strokeStyle = strokeStyle;
    context.stroke();
  }

  #path(context, points) {
    context.beginPath();
    for (const [x, y] of points) context.lineTo(x * this.scale, y * this.scale);
    context.closePath();
  }

  #box({ box }) {
    return [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1].map((value) => value * this.scale);
  }

  #skeleton(context, points) {
    const seen = (point) => point && (point.confidence ?? 1) > 0.3;
    context.lineWidth = 2 * this.unit;
    if (points.length === 17)
      for (const [from, to] of LIMBS)
        if (seen(points[from]) && seen(points[to])) {
          context.beginPath();
          context.moveTo(points[from].x * this.scale, points[from].y * this.scale);
          context.lineTo(points[to].x * this.scale, points[to].y * this.scale);
          this.#stroke(context);
        }
    for (const point of points.filter(seen)) {
      context.beginPath();
      context.arc(point.x * this.scale, point.y * this.scale, 3.5 * this.unit, 0, 7);
      context.fill();
      context.lineWidth = this.unit;
      context.strokeStyle = "#000";
      context.stroke();
    }
  }

  #tag(context, prediction) {
    const colour = colourOf(prediction.class_id);
    context.globalAlpha = this.marked && prediction !== this.marked ? 0.35 : 1;
    const text = `${prediction.label} ${prediction.confidence.toFixed(2)}`;
    const height = 20 * this.unit;
    context.font = `600 ${12.5 * this.unit}px system-ui, sans-serif`;
    const width = context.measureText(text).width + 12 * this.unit;
    const [left, top] = this.#box(prediction);
    const x = Math.max(0, Math.min(left, this.canvas.width - width));
    const y = top >= height ? top - height : Math.max(0, top);
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(x, y, width, height, 4 * this.unit);
    context.fill();
    context.fillStyle = inkOn(colour);
    context.textBaseline = "middle";
    context.fillText(text, x + 6 * this.unit, y + height / 2);
    context.globalAlpha = 1;
  }

  // The smallest shown prediction under a place on the screen, or null.
  at(clientX, clientY) {
    if (!this.size) return null;
    const bounds = this.canvas.getBoundingClientRect();
    const x = ((clientX - bounds.left) / bounds.width) * this.size.width;
    const y = ((clientY - bounds.top) / bounds.height) * this.size.height;
    const area = ({ box }) => (box.x2 - box.x1) * (box.y2 - box.y1);
    return this.shown.filter(({ box }) => x >= box.x1 && x <= box.x2 && y >= box.y1 && y <= box.y2)
      .sort((a, b) => area(a) - area(b))[0] || null;
  }
}
