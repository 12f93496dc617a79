// Choosing a rectangle of a picture, by pointer or by keys.
const dialog = document.getElementById("cropper");
const canvas = document.getElementById("canvas");
const pen = canvas.getContext("2d");
const LONG_SIDE = 1200;
let picture, box, start, done;

function draw() {
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  pen.fillStyle = "rgb(0 0 0 / .55)";
  pen.beginPath();
  pen.rect(0, 0, canvas.width, canvas.height);
  pen.rect(box.x, box.y, box.w, box.h);
  pen.fill("evenodd");
  pen.strokeStyle = "#fff";
  pen.lineWidth = 2;
  pen.strokeRect(box.x, box.y, box.w, box.h);
}

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

function place(event) {
  const frame = canvas.getBoundingClientRect();
  return {
    x: clamp((event.clientX - frame.left) / frame.width, 0, 1) * canvas.width,
    y: clamp((event.clientY - frame.top) / frame.height, 0, 1) * canvas.height,
  };
}

function stretch(event) {
  const end = place(event);
  box = { x: Math.min(start.x, end.x), y: Math.min(start.y, end.y), w: Math.abs(end.x - start.x), h: Math.abs(end.y - start.y) };
  draw();
}

canvas.addEventListener("pointerdown", (event) => {
  start = place(event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => { if (start) stretch(event); });
canvas.addEventListener("pointerup", (event) => {
  if (start) stretch(event);
  start = undefined;
});

canvas.addEventListener("keydown", (event) => {
  const step = canvas.width / 40;
  const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  if (!move) return;
  event.preventDefault();
  if (event.shiftKey) {
    box.w = clamp(box.w + move[0], step, canvas.width - box.x);
    box.h = clamp(box.h + move[1], step, canvas.height - box.y);
  } else {
    box.x = clamp(box.x + move[0], 0, canvas.width - box.w);
    box.y = clamp(box.y + move[1], 0, canvas.height - box.h);
  }
  draw();
});

function cut(rectangle) {
  const out = document.createElement("canvas");
  const scale = picture.width / canvas.width;
  out.width = Math.max(1, Math.round(rectangle.w * scale));
  out.height = Math.max(1, Math.round(rectangle.h * scale));
  out.getContext("2d").drawImage(picture, rectangle.x * scale, rectangle.y * scale, rectangle.w * scale, rectangle.h * scale,
    0, 0, out.width, out.height);
  return new Promise((resolve) => out.toBlob(resolve, "image/png"));
}

async function finish(how) {
  const result = how === "use" && box.w > 4 && box.h > 4 ? await cut(box) : how;
  dialog.close();
  done?.(result);
  done = undefined;
}
document.getElementById("crop-use").addEventListener("click", () => finish("use"));
document.getElementById("crop-whole").addEventListener("click", () => finish("whole"));
document.getElementById("crop-cancel").addEventListener("click", () => finish("cancel"));
dialog.addEventListener("cancel", () => finish("cancel"));

// Ask for a part of a picture (a Blob): resolves with a Blob of it, "whole" or "cancel".
export async function crop(blob) {
  picture = await createImageBitmap(blob);
  const scale = Math.min(1, LONG_SIDE / Math.max(picture.width, picture.height));
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  box = { x: canvas.width / 6, y: canvas.height / 6, w: canvas.width * 2 / 3, h: canvas.height * 2 / 3 };
  draw();
  dialog.showModal();
  canvas.focus();
  return new Promise((resolve) => { done = resolve; });
}
