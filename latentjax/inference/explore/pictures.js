// Pictures: a canvas with one pixel per image pixel, overlaid with the frame of a window.

const SVG = "http://www.w3.org/2000/svg";

// Creates an element with attributes and children.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Returns {node, show(image, window)} for images [H, W, C] in [0, 1].
function createPicture([height, width, channels], label) {
  const canvas = element("canvas", { width, height });
  const frame = document.createElementNS(SVG, "svg"), rectangle = document.createElementNS(SVG, "rect");
  frame.setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`);
  frame.setAttribute("aria-hidden", "true");
  frame.append(rectangle);
  const node = element("div", { class: "picture", style: `aspect-ratio: ${width} / ${height}` }, canvas, frame);
  if (label) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  } else canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);

  function show(image, window) {
    for (let pixel = 0; pixel < height * width; pixel++) {
      for (let colour = 0; colour < 3; colour++) {
        pixels.data[4 * pixel + colour] = Math.round(255 * image[pixel * channels + Math.min(colour, channels - 1)]);
      }
      pixels.data[4 * pixel + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
    frame.toggleAttribute("hidden", !window);
    if (window) outline(window);
  }

  // Spans the centers of the outermost filters; the line is one standard deviation wide, within visible limits.
  function outline({ x, y, stride, size, variance }) {
    const far = 4 * Math.max(width, height), reach = Math.min(0.5 * (size - 1) * stride, far);
    const near = (value) => Math.max(-far, Math.min(value, far));
    const side = Math.max(2 * reach, 0.01); // SVG does not draw rectangles of size 0
    const line = Math.max(width / 56, Math.min(Math.sqrt(variance), 2));
    const places = { x: near(x) - reach, y: near(y) - reach, width: side, height: side, "stroke-width": line };
    for (const [name, value] of Object.entries(places)) rectangle.setAttribute(name, value);
  }

  return { node, show };
}
