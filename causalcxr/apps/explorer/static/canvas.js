// Painting images on a canvas: windowed grey values, a difference in two colours, the mark below.

function bytes(image, colour) {
  const data = new ImageData(image.width, image.height);
  for (let k = 0; k < image.values.length; k += 1) {
    const [r, g, b] = colour(image.values[k]);
    data.data.set([r, g, b, 255], 4 * k);
  }
  return data;
}

export function windowed(image, level, width) {
  const low = level - width / 2;
  return bytes(image, (v) => {
    const grey = Math.max(0, Math.min(255, Math.round((255 * (v - low)) / width)));
    return [grey, grey, grey];
  });
}

// Brighter pixels of the twin are warm, darker ones are cool.
export function difference(factual, twin, gain) {
  const values = factual.values.map((v, k) => gain * (twin.values[k] - v));
  return bytes({ ...factual, values }, (v) => {
    const s = Math.min(1, Math.abs(v));
    return v > 0 ? [255 * s, 150 * s, 40 * s] : [60 * s, 150 * s, 255 * s];
  });
}

export function blended(factual, twin, share) {
  return { ...factual, values: factual.values.map((v, k) => v + share * (twin.values[k] - v)) };
}

// Paint an image over the width of the canvas, and a text, if any, on a strip below.
export function paint(canvas, pixels, smooth, words) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const tall = Math.round((width * pixels.height) / pixels.width);
  const size = Math.max(9 * ratio, Math.min(14 * ratio, width / 21));
  const strip = Math.round(2 * size);
  canvas.width = width;
  canvas.height = tall + strip;
  const source = new OffscreenCanvas(pixels.width, pixels.height);
  source.getContext("2d").putImageData(pixels, 0, 0);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = smooth;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(source, 0, 0, width, tall);
  pen.fillStyle = "#000";
  pen.fillRect(0, tall, width, strip);
  if (!words) return;
  pen.fillStyle = "#ffd24a";
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(words, width / 2, tall + strip / 2, width - 8);
}
