"""The page: self-contained, and used in a real browser."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pages
import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


def write(path: Path, name: str, **fields) -> tuple[Path, object]:
  """Writes a page with random test images and KLs."""
  model, fields, variables = pages.create(name, **fields)
  generator, dims = np.random.default_rng(2), pages.latent_dims(model)
  extra = {"test/images": generator.random((3, *model.image_shape))}
  extra |= {f"test/latents/{index}": generator.normal(size=(3, size)) for index, size in enumerate(dims)}
  kl = [generator.random(size) for size in dims]
  return pages.write_page(path, model, fields, variables, extra, kl), model


def browse(path: Path, script: str):
  """Runs `script` as the body of an async function in the page and returns its result."""
  before = "<script>window.requestAnimationFrame = setTimeout;"  # there are no frames without a screen
  after = f"""<script>
const frame = () => new Promise((resolve) => setTimeout(resolve));
const click = async (id) => {{ document.getElementById(id).click(); await frame(); }};
const copy = () => explore.latents.map((group) => Array.from(group));
(async () => {{
{script}
}})().catch((error) => String(error)).then((found) => {{
  document.body.replaceChildren(Object.assign(document.createElement("pre"), {{ textContent: JSON.stringify(found) }}));
}});
</script></body>"""
  tried = path.with_name("tried.html")
  tried.write_text(path.read_text().replace("</body>", after).replace("<script>startPage", before + "startPage"))
  command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
  command += [f"--user-data-dir={path.parent / 'profile'}", tried.as_uri()]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120)
  return json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)[1]))


@in_a_browser
@pytest.mark.parametrize("name", ["conv_ladder", "draw", "ladder_vae", "vae"])
def test_pixels_on_the_screen_match_the_model(name, tmp_path):
  path, model = write(tmp_path / "page.html", name)
  latents = [group[0] for group in pages.draw_latents(model)]
  found = browse(
    path,
    f"""explore.show({json.dumps([group.tolist() for group in latents])}); await frame();
    const canvas = Array.from(document.querySelectorAll("#pictures canvas")).pop();
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return {{ pixels: Array.from(pixels), image: Array.from(explore.model.decode(explore.latents).pop().image) }};""",
  )
  variables = pages.half(pages.create(name)[2])
  expected = np.asarray(model.apply(variables, [group[None] for group in latents], method="decode"))[0]
  np.testing.assert_allclose(np.reshape(found["image"], model.image_shape), expected, atol=1e-3)
  pixels = np.reshape(found["pixels"], (*model.image_shape[:2], 4))
  assert np.abs(pixels[..., :3] / 255 - expected).max() < 0.5 / 255 + 1e-3
  assert (pixels[..., 3] == 255).all()


@in_a_browser
def test_steps_are_redrawn_held_and_set_to_zero(tmp_path):
  path, _ = write(tmp_path / "page.html", "draw")
  found = browse(
    path,
    """const states = [copy()], note = async (id) => { await click(id); states.push(copy()); };
    await note("sample");
    document.querySelectorAll("#tiles input")[1].click(); await frame();
    await click("hold"); await note("sample");
    await click("release"); await note("redraw"); await note("redraw-rest"); await note("zero");
    const slider = document.querySelector("#sliders input");
    slider.value = 1.5; slider.dispatchEvent(new Event("input")); await frame(); states.push(copy());
    await note("average");
    const seed = document.getElementById("seed");
    seed.value = 0; seed.dispatchEvent(new Event("change")); await frame(); states.push(copy());
    return { states, windows: document.querySelectorAll("#tiles svg:not([hidden])").length };""",
  )
  start, sampled, held, redrawn, rest, zero, slid, average, again = map(np.array, found["states"])  # [T, Z]

  def changed(one, other):
    return (one != other).any(-1).tolist()

  assert changed(start, sampled) == [True] * 4
  assert changed(sampled, held) == [True, False, True, True]
  assert changed(held, redrawn) == [False, True, False, False]
  assert changed(redrawn, rest) == [False, False, True, True]
  assert changed(rest, zero) == [False, True, False, False]
  assert (zero[1] == 0).all()
  assert np.sort(slid[1]).tolist() == [0, 0, 1.5]
  assert (average == 0).all()
  np.testing.assert_array_equal(again, start)
  assert found["windows"] == 4


@in_a_browser
def test_interpolation_keeps_held_layers(tmp_path):
  path, model = write(tmp_path / "page.html", "ladder_vae")
  found = browse(
    path,
    """const before = copy(), way = document.getElementById("way");
    await click("hold");  // the top layer
    document.querySelectorAll("#to input")[2].click();
    way.value = 0.5; way.dispatchEvent(new Event("input")); await frame();
    const source = document.getElementById("source").textContent;
    return { before, after: copy(), order: explore.model.order, source };""",
  )
  generator = np.random.default_rng(2)
  generator.random((3, *model.image_shape))
  means = [generator.normal(size=(3, size)).astype(np.float16) for size in pages.latent_dims(model)]
  assert found["order"] == [2, 1, 0]
  assert found["after"][2] == found["before"][2]
  for group in (0, 1):
    np.testing.assert_allclose(found["after"][group], means[group][[0, 2]].astype(float).mean(0), atol=1e-6)
  assert found["source"] == "50 % of the way from test image 1 to 3, 1 of 3 layers held"


@in_a_browser
@pytest.mark.parametrize(
  ("damage", "expected"),
  [
    (lambda page: re.sub(r'(id="numbers">)[^<]{40}', r"\1", page), "Cannot open the model"),
    (lambda page: re.sub(r'(id="payload">)[^<]{40}', r"\1", page), "Cannot open the model"),
    (lambda page: page.replace("function readPayload(", "function readPayload(...) {"), "the last five years"),
    (lambda page: page.replace("const table = halves()", "const table = new Float32Array(2 ** 60)"), "little memory"),
  ],
)
def test_errors_are_shown_in_the_page(damage, expected, tmp_path):
  path, _ = write(tmp_path / "page.html", "vae")
  path.write_text(damage(path.read_text()))
  shown = "return [document.getElementById('message').textContent, document.querySelector('main').hidden];"
  message, hidden = browse(path, shown)
  assert expected in message
  assert hidden


def test_page_is_self_contained_and_escapes_names(tmp_path):
  path, _ = write(tmp_path / "page.html", "draw")
  source = path.read_text()
  assert re.findall(r"https?://[^\"' ]*", source) == ["http://www.w3.org/2000/svg"]  # a namespace, never fetched
  assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", source)
  assert re.findall(r"@@\w+@@", source) == ["@@hint@@"]  # part of a name
  assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", source) == []
  assert "<title>A &lt;model&gt;</title>" in source
  assert source.count("</script>") == 4
  ids = re.findall(r' id="([\w-]+)"', source)
  assert len(ids) == len(set(ids))
  assert set(re.findall(r'byId\("([\w-]+)"\)', source)) <= set(ids)


def test_seeds_give_standard_normal_numbers(tmp_path):
  node = shutil.which("node") or pytest.skip("needs Node")
  program = f"""{pages.page.read_asset("random.js")}
  const draw = (seed, count) => Array.from({{ length: count }}, normals(seed));
  const seeds = Array.from({{ length: 4000 }}, (_, seed) => draw(seed, 2));
  console.log(JSON.stringify({{ many: draw(7, 40000), seeds }}));"""
  done = subprocess.run([node, "-e", program], capture_output=True, text=True, timeout=60, check=True)
  numbers = {name: np.array(values) for name, values in json.loads(done.stdout).items()}
  for z in (numbers["many"], numbers["seeds"].ravel()):  # within a seed, and across seeds
    error = 5 / np.sqrt(len(z))
    assert abs(z.mean()) < error
    assert abs((z**2).mean() - 1) < error * np.sqrt(2)
    assert abs((z**4).mean() - 3) < error * np.sqrt(96)
    assert abs((z[1:] * z[:-1]).mean()) < error
    assert abs((np.square(z[1:]) * np.square(z[:-1])).mean() - 1) < error * np.sqrt(8)
