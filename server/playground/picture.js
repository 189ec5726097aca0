// Where a picture comes from: file, clipboard, camera, sample or address.
const SENT_AS_IT_IS = ["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"];

// { blob, name, bitmap } of something the browser can show; upright as its EXIF says.
export async function fromBlob(blob, name = "picture.jpg") {
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    // it is sent all the same: the server says what is wrong with it
  }
  if (bitmap && !SENT_AS_IT_IS.includes(blob.type)) {
    blob = await encode(bitmap);
    name = "picture.jpg";
  }
  if (!SENT_AS_IT_IS.includes(blob.type)) blob = new Blob([blob], { type: "image/jpeg" });
  return { blob, name, bitmap };
}

function encode(source) {
  const canvas = document.createElement("canvas");
  canvas.width = source.videoWidth || source.width;
  canvas.height = source.videoHeight || source.height;
  canvas.getContext("2d").drawImage(source, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

export async function fromAddress(url) {
  if (!url.startsWith("data:")) return { url, name: url, bitmap: null };
  const image = new Image();
  image.src = url;
  await image.decode().catch(() => null);
  return { url, name: "a data: address", bitmap: image.naturalWidth ? await createImageBitmap(image) : null };
}

// A live picture in a dialog; resolves with a blob, or null when it was closed.
export async function photograph(dialog, video, note, shoot, cancel) {
  note.textContent = "Waiting for the camera …";
  dialog.showModal();
  let stream = null;
  let isOpen = true;
  const result = new Promise((resolve) => {
    const end = (value) => {
      isOpen = false;
      stream?.getTracks().forEach((track) => track.stop());
      video.srcObject = null;
      if (dialog.open) dialog.close();
      resolve(value);
    };
    shoot.onclick = async () => video.videoWidth && end(await encode(video));
    cancel.onclick = () => end(null);
    dialog.onclose = () => isOpen && end(null);
  });
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (isOpen) {
      video.srcObject = stream;
      await video.play();
      note.textContent = "";
    } else stream.getTracks().forEach((track) => track.stop());
  } catch {
    note.textContent = "The camera cannot be used here.";
  }
  return result;
}
