// The page: user input changes latents (in units of the prior), and the model turns latents into pictures.

const FIRST = 8; // sliders shown at once
const REACH = 4; // of a slider, on both sides of 0
const DRAWING_TIME = 2500; // milliseconds for all steps

let explore = null; // {model, latents, show(latents)}, also for use in the browser's console

function startPage() {
  const message = byId("message");
  try {
    explore = createPage(readPayload(byId("payload").textContent, byId("numbers").textContent));
    message.hidden = true;
    document.querySelector("main").hidden = false;
  } catch (error) {
    message.textContent = error instanceof RangeError
      ? "Too little memory for the model. Close other pages, or open this one on another device."
      : `Cannot open the model in this page (${error.message}). Write it again with latentjax explore.`;
  }
}

function byId(id) {
  return document.getElementById(id);
}

function createPage(payload) {
  const { latent_dims: dims, kl, image_shape: shape, arrays, group_names: names } = payload;
  const model = createModel(payload, pixelMean(payload));
  const { order } = model, last = order.length - 1;
  const latents = dims.map((size) => new Float32Array(size)), held = new Set();
  const again = normals(2 ** 32 - 1); // noise for Redraw, independent of the seed
  let selected = 0, source = "", showsAll = false, timer = null, waiting = false, stages = [];

  // Pictures.
  const several = last > 0, words = payload.words;
  const now = createPicture(shape, "The picture so far"), whole = createPicture(shape, "The picture");
  const caption = element("figcaption");
  byId("pictures").append(...(several
    ? [element("figure", {}, now.node, caption), element("figure", {}, whole.node, element("figcaption", {}, "Finished"))]
    : [element("figure", {}, whole.node)]));
  const tiles = order.map((group, place) => {
    const picture = createPicture(shape), mark = element("small", { class: "mark" });
    const bar = element("span", { class: "bar", style: `--share: ${kl ? total(kl[group]) / largest() : 0}` });
    const input = element("input", { type: "radio", name: "group", value: place, "aria-label": describe(group) });
    input.addEventListener("change", () => select(place));
    byId("tiles").append(element("label", {}, input, picture.node, mark, bar, element("span", {}, names[group])));
    return { picture, mark, input };
  });

  function total(values) {
    return values.reduce((sum, value) => sum + value, 0);
  }

  function largest() {
    return Math.max(...kl.map(total), 1e-6);
  }

  function describe(group) {
    return `${words.one} ${names[group]}${kl ? `, KL ${total(kl[group]).toFixed(1)} nats` : ""}`;
  }

  // Redraws everything after a change of the latents, at most once per frame.
  function update() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(draw);
  }

  function draw() {
    waiting = false;
    stages = model.decode(latents);
    stages.forEach(({ image, window }, place) => tiles[place].picture.show(image, window));
    whole.show(stages[last].image, null);
    showSelected();
    byId("source").textContent = source;
    for (const slider of sliders) slider.follow();
  }

  function showSelected() {
    const group = order[selected], { image, window } = stages[selected];
    now.show(image, window);
    caption.textContent = payload.captions[selected];
    tiles.forEach(({ input, mark }, place) => {
      input.checked = place === selected;
      const isHeld = held.has(order[place]), isZero = latents[order[place]].every((value) => value === 0);
      mark.textContent = [isHeld ? "held" : "", isZero ? "zero" : ""].filter(Boolean).join(", ");
    });
    byId("hold").setAttribute("aria-pressed", held.has(group));
    byId("redraw-rest").disabled = selected === last;
    byId("release").hidden = held.size === 0;
  }

  // Sliders of the selected group's latents, by decreasing KL.
  let sliders = [];

  function select(place) {
    selected = place;
    const group = order[place], size = dims[group];
    const ranked = Array.from({ length: size }, (_, unit) => unit);
    if (kl) ranked.sort((a, b) => kl[group][b] - kl[group][a]);
    const shown = showsAll ? ranked : ranked.slice(0, FIRST);
    sliders = shown.map((unit) => createSlider(group, unit));
    byId("sliders").replaceChildren(...sliders.map(({ node }) => node));
    byId("sliders-title").textContent = several ? `Latents of ${words.one} ${names[group]}` : "Latents";
    byId("all").hidden = size <= FIRST;
    byId("all").textContent = showsAll ? `Show ${FIRST}` : `Show all ${size}`;
    const nats = (units) => total(units.map((unit) => kl[group][unit])).toFixed(1);
    byId("order").textContent = kl
      ? `Ordered by KL over test images: ${nats(shown)} of ${nats(ranked)} nats shown.`
      : "In the model's order; ordering by KL requires test images.";
    update();
  }

  function createSlider(group, unit) {
    const nats = kl ? kl[group][unit] : 0, said = kl ? ` · ${nats.toFixed(1)} nats` : "";
    const range = { type: "range", min: -REACH, max: REACH, step: 0.1, "aria-label": `Latent ${unit + 1}${said}` };
    const input = element("input", range), output = element("output");
    const bar = element("span", { class: "bar", style: `--share: ${kl ? nats / Math.max(...kl[group], 1e-6) : 0}` });
    const node = element("label", {}, element("span", {}, `${unit + 1}`, element("small", {}, said), bar), input, output);
    input.addEventListener("input", () => {
      latents[group][unit] = Number(input.value);
      changed();
    });
    const follow = () => {
      const value = latents[group][unit];
      input.value = value;
      output.textContent = (Math.abs(value) < 0.05 ? "0.0" : value.toFixed(1)).replace("-", "−");
    };
    return { node, follow };
  }

  // Changes of latents: of all groups that are not held, or of single groups.
  function replaceAll(of, name) {
    for (const group of order) {
      const values = of(group);
      if (!held.has(group)) latents[group].set(values);
    }
    source = held.size ? `${name}, ${held.size} of ${order.length} ${words.several} held` : name;
    update();
  }

  function replaceGroups(groups, of) {
    for (const group of groups) latents[group].set(of(group));
    changed();
  }

  function changed() {
    if (!source.endsWith("changed")) source += ", changed";
    update();
  }

  const noise = (next) => (group) => Float32Array.from({ length: dims[group] }, next);
  const nothing = (group) => new Float32Array(dims[group]);

  function sample(seed) {
    byId("seed").value = seed;
    replaceAll(noise(normals(seed)), `Sample of seed ${seed}`);
  }

  const seed = () => Math.min(Math.max(Math.floor(Number(byId("seed").value)) || 0, 0), 2 ** 32 - 1);
  byId("sample").addEventListener("click", () => sample((seed() + 1) % 2 ** 32));
  byId("seed").addEventListener("change", () => sample(seed()));
  byId("average").addEventListener("click", () => replaceAll(nothing, "Mean of the prior"));
  byId("redraw").addEventListener("click", () => replaceGroups([order[selected]], noise(again)));
  byId("zero").addEventListener("click", () => replaceGroups([order[selected]], nothing));
  byId("redraw-rest").textContent = words.redraw_rest;
  byId("redraw-rest").addEventListener("click", () =>
    replaceGroups(order.slice(selected + 1).filter((group) => !held.has(group)), noise(again)));
  byId("hold").addEventListener("click", () => {
    const group = order[selected];
    if (!held.delete(group)) held.add(group);
    showSelected();
  });
  byId("release").addEventListener("click", () => {
    held.clear();
    showSelected();
    byId("hold").focus();
  });
  byId("all").addEventListener("click", () => {
    showsAll = !showsAll;
    select(selected);
  });

  // Playback, step by step.
  function stop() {
    clearInterval(timer);
    timer = null;
    byId("play").textContent = "Play";
  }

  byId("play").addEventListener("click", () => {
    if (timer !== null) return stop();
    select(0);
    byId("play").textContent = "Stop";
    timer = setInterval(() => {
      if (selected < last) select(selected + 1);
      if (selected === last) stop();
    }, Math.max(60, DRAWING_TIME / order.length));
  });

  // Interpolation between two test images, linear in the posterior means of all groups.
  const images = arrays["test/images"], count = images ? images.shape[0] : 0;
  const ends = { from: 0, to: 1 };

  function createEnds(id) {
    for (let index = 0; index < count; index++) {
      const picture = createPicture(shape), size = images.values.length / count;
      picture.show(images.values.subarray(index * size, (index + 1) * size), null);
      const label = `Test image ${index + 1}`;
      const input = element("input", { type: "radio", name: id, value: index, "aria-label": label });
      input.checked = index === ends[id];
      input.addEventListener("change", () => {
        ends[id] = index;
        walk();
      });
      byId(id).append(element("label", { title: label }, input, picture.node));
    }
  }

  function walk() {
    const way = Number(byId("way").value), percent = `${Math.round(100 * way)} %`;
    byId("way-value").textContent = percent;
    const means = (group, index) => {
      const { values } = arrays[`test/latents/${group}`];
      return values.subarray(index * dims[group], (index + 1) * dims[group]);
    };
    const between = (group) => {
      const to = means(group, ends.to);
      return means(group, ends.from).map((value, unit) => (1 - way) * value + way * to[unit]);
    };
    const [from, to] = [ends.from + 1, ends.to + 1];
    replaceAll(between, `${percent} of the way from test image ${from} to ${to}`);
  }

  if (count > 1) {
    createEnds("from");
    createEnds("to");
    byId("way").addEventListener("input", walk);
  } else byId("path").hidden = true;

  for (const id of ["groups", "actions", "play"]) byId(id).hidden = !several;
  byId("tiles").style.setProperty("--columns", order.length <= 12 ? order.length : 16);
  document.body.classList.toggle("several", several);
  select(0);
  sample(0);
  const show = (given) => replaceAll((group) => given[group], "Given latents");
  return { model, latents, show };
}
